//! Faults on demand: a store whose nth call fails.

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the failing call did its work before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It failed before the store was asked.
    Lost,
    /// The store did it, and the answer was lost on the way.
    Done,
}

/// Passes every call on, and lets one (or several in a row) fail as a broken connection does.
#[derive(Debug)]
pub struct Flaky<S: ?Sized> {
    inner: Arc<S>,
    calls: Arc<AtomicUsize>,
    first: usize,
    failures: usize,
    effect: Effect,
}

impl<S: ?Sized> Flaky<S> {
    /// Calls `first` to `first + failures - 1` fail, counted from 0.
    pub fn new(inner: Arc<S>, first: usize, failures: usize, effect: Effect) -> Self {
        Flaky {
            inner,
            calls: Arc::default(),
            first,
            failures,
            effect,
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn fails(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        (self.first..self.first.saturating_add(self.failures)).contains(&call)
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.fails() {
            return work.await;
        }
        if self.effect == Effect::Done {
            work.await?;
        }
        Err(broken())
    }
}

impl<S: ?Sized> Clone for Flaky<S> {
    fn clone(&self) -> Self {
        Flaky {
            inner: Arc::clone(&self.inner),
            calls: Arc::clone(&self.calls),
            ..*self
        }
    }
}

fn broken() -> Error {
    Error::Generic {
        store: "flaky",
        source: "connection reset by a test".into(),
    }
}

impl<S: std::fmt::Display + ?Sized> std::fmt::Display for Flaky<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "flaky {}", self.inner)
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Flaky<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(self.inner.put_multipart_opts(location, opts))
            .await
    }

    /// Where the answer is lost, it is lost half way: the body breaks off.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        if !self.fails() {
            return self.inner.get_opts(location, options).await;
        }
        if self.effect == Effect::Lost || head {
            return Err(broken());
        }
        let result = self.inner.get_opts(location, options).await?;
        let (meta, range, attributes) = (
            result.meta.clone(),
            result.range.clone(),
            result.attributes.clone(),
        );
        let bytes = result.bytes().await?;
        let first = bytes.slice(..bytes.len() / 2);
        let body = stream::iter([Ok(first), Err(broken())]).boxed();
        Ok(GetResult {
            payload: object_store::GetResultPayload::Stream(body),
            meta,
            range,
            attributes,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    this.call(async {
                        this.inner
                            .delete_stream(one)
                            .next()
                            .await
                            .unwrap_or(Ok(location))
                    })
                    .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let list = self.inner.list(prefix);
        if self.fails() {
            list.take(1).chain(stream::iter([Err(broken())])).boxed()
        } else {
            list
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let list = self.inner.list_with_offset(prefix, offset);
        if self.fails() {
            list.take(1).chain(stream::iter([Err(broken())])).boxed()
        } else {
            list
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.call(self.inner.rename_opts(from, to, options)).await
    }
}

#[async_trait]
impl<S: MultipartStore + ?Sized> MultipartStore for Flaky<S> {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.call(self.inner.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.call(self.inner.put_part(path, id, part_idx, data))
            .await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = self.inner.complete_multipart(path, id, parts);
        self.call(completed).await.map_err(|error| match error {
            // The memory store has no kind for an upload that is gone; S3 answers 404.
            Error::Generic { source, .. }
                if source.to_string().contains("MultipartUpload not found") =>
            {
                Error::NotFound {
                    path: path.to_string(),
                    source,
                }
            }
            other => other,
        })
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.call(self.inner.abort_multipart(path, id)).await
    }
}
