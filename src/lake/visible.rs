//! A store without what is hidden: nothing whose name, or a folder's name above it, begins with `_` or `.`.
//!
//! Spark, Flink, Hive and Athena agree on this, so a folder of a lake may hold markers and unfinished files of any of
//! them; DataFusion knows nothing of it.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;

/// Reads from another store. What it lists below `root` is visible; `root` itself may have any name. It writes nothing.
#[derive(Debug)]
pub struct Visible {
    pub inner: Arc<dyn ObjectStore>,
    pub root: Path,
}

/// Whether a reader of the folder `root` sees this.
pub fn is_visible(root: &Path, path: &Path) -> bool {
    path.prefix_match(root)
        .is_some_and(|mut parts| parts.all(|part| !part.as_ref().starts_with(['_', '.'])))
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as its readers see it", self.inner)
    }
}

fn read_only() -> Error {
    Error::NotSupported {
        source: "a query does not write".into(),
    }
}

#[async_trait]
impl ObjectStore for Visible {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(read_only()) }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = self.root.clone();
        let visible =
            move |object: &ObjectMeta| std::future::ready(is_visible(&root, &object.location));
        self.inner.list(prefix).try_filter(visible).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed
            .common_prefixes
            .retain(|folder| is_visible(&self.root, folder));
        listed
            .objects
            .retain(|object| is_visible(&self.root, &object.location));
        Ok(listed)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}
