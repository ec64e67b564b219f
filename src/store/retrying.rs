//! Patience with a server that is away.
//!
//! Every call is repeated until it is answered, with growing pauses, and an outage is spoken of twice: when it begins and when it is over.
//! A refusal that no waiting can mend is passed on at once, with what to do about it. A repeated creation may find its own first attempt:
//! who creates must look whose object is there.

use super::cloud::Cloud;
use super::fault::{self, Fault, Refusal};
use crate::clock::{Sleeper, sleeper};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartId, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a server may take for an answer, and how slowly it may take or give bytes, before it counts as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND: usize = 256 * 1024;
/// As many as S3 deletes with one request; the others take fewer, by themselves.
const DELETE_AT_ONCE: usize = 1000;

/// Says what a user should know about an outage.
pub type Voice = Arc<dyn Fn(&str) + Send + Sync>;

/// Repeats the calls of a store until they are answered.
pub struct Retrying<S> {
    inner: Arc<S>,
    cloud: &'static Cloud,
    bucket: String,
    sleep: Sleeper,
    voice: Voice,
    away: Arc<AtomicBool>,
}

impl<S: ObjectStore + MultipartStore> Retrying<S> {
    pub fn new(inner: S, cloud: &'static Cloud, bucket: &str) -> Self {
        Self::with(
            inner,
            cloud,
            bucket,
            sleeper(),
            Arc::new(|text| tracing::warn!("{text}")),
        )
    }

    /// The same with a sleeper and a voice of the caller's.
    pub fn with(
        inner: S,
        cloud: &'static Cloud,
        bucket: &str,
        sleep: Sleeper,
        voice: Voice,
    ) -> Self {
        Retrying {
            inner: Arc::new(inner),
            cloud,
            bucket: bucket.to_owned(),
            sleep,
            voice,
            away: Arc::default(),
        }
    }

    /// Does one thing until it is done; `bytes` is how many it moves.
    async fn until_done<T, F>(&self, bytes: usize, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let done = self.until_answered(bytes, attempt).await?;
        self.is_back();
        Ok(done)
    }

    /// The same, but an answer does not end an outage: its body is still to come.
    async fn until_answered<T, F>(&self, bytes: usize, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let patience = ANSWER_WITHIN + Duration::from_secs((bytes / BYTES_PER_SECOND) as u64);
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::time::timeout(patience, attempt()).await;
            match answer.unwrap_or_else(|_| Err(self.no_answer(patience))) {
                Ok(value) => return Ok(value),
                Err(error) => self.wait_after(error, &mut pause).await?,
            }
        }
    }

    /// Waits after a transient error; any other one comes back.
    async fn wait_after(&self, error: Error, pause: &mut Duration) -> Result<()> {
        let error = fault::without_signature(error);
        match fault::fault(&error) {
            Fault::Answer => {
                self.is_back();
                Err(error)
            }
            Fault::Permanent => Err(self.refused(error)),
            Fault::Transient => {
                if !self.away.swap(true, Ordering::SeqCst) {
                    (self.voice)(&format!(
                        "{self} does not answer; trying again until it does: {error}"
                    ));
                }
                (self.sleep)(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                *pause = (*pause * 2).min(LONGEST_PAUSE);
                Ok(())
            }
        }
    }

    fn is_back(&self) {
        if self.away.load(Ordering::SeqCst) && self.away.swap(false, Ordering::SeqCst) {
            (self.voice)(&format!("{self} answers again"));
        }
    }

    /// Puts what to do in front of a refusal.
    fn refused(&self, source: Error) -> Error {
        let advice = (self.cloud.advice)(&self.bucket, &source);
        Error::Generic {
            store: self.cloud.name,
            source: Box::new(Refusal { advice, source }),
        }
    }

    fn no_answer(&self, within: Duration) -> Error {
        Error::Generic {
            store: self.cloud.name,
            source: format!("no answer in {} s", within.as_secs()).into(),
        }
    }

    /// Deletes some objects and says for each what came of it. Deleting what is gone is no failure, as S3 has it, so repeating is harmless.
    async fn delete_all(&self, mut paths: BTreeSet<Path>) -> Vec<Result<Path>> {
        let mut results = Vec::with_capacity(paths.len());
        let mut pause = FIRST_PAUSE;
        while !paths.is_empty() {
            let batch: Vec<_> = paths.iter().cloned().map(Ok).collect();
            let mut answers = self.inner.delete_stream(stream::iter(batch).boxed());
            let mut trouble = None;
            loop {
                match tokio::time::timeout(ANSWER_WITHIN, answers.next()).await {
                    Ok(None) => break,
                    Ok(Some(Ok(path))) => {
                        paths.remove(&path);
                        results.push(Ok(path));
                    }
                    Ok(Some(Err(error))) => match gone(&error).and_then(|path| paths.take(&path)) {
                        Some(path) => results.push(Ok(path)),
                        None => trouble = Some(error),
                    },
                    Err(_) => {
                        trouble = Some(self.no_answer(ANSWER_WITHIN));
                        break;
                    }
                }
            }
            drop(answers);
            match trouble {
                None => break,
                Some(error) => {
                    if let Err(error) = self.wait_after(error, &mut pause).await {
                        results.push(Err(error));
                        return results;
                    }
                }
            }
        }
        self.is_back();
        results
    }
}

/// Lists again from the last object seen whenever a list breaks off; where a list cannot begin there, from the beginning, without what was
/// given already.
fn resume_list<S: ObjectStore + MultipartStore>(
    this: Retrying<S>,
    prefix: Option<Path>,
    offset: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    struct Listing<S> {
        this: Retrying<S>,
        prefix: Option<Path>,
        offset: Option<Path>,
        last: Option<Path>,
        given: HashSet<Path>,
        rest: Option<BoxStream<'static, Result<ObjectMeta>>>,
        pause: Duration,
    }
    let start = Listing {
        this,
        prefix,
        last: offset.clone(),
        offset,
        given: HashSet::new(),
        rest: None,
        pause: FIRST_PAUSE,
    };
    stream::try_unfold(start, |mut listing| async move {
        loop {
            let store = &listing.this.inner;
            let lists_behind = listing.this.cloud.lists_behind;
            let rest = listing.rest.get_or_insert_with(|| match &listing.last {
                Some(last) if lists_behind => store.list_with_offset(listing.prefix.as_ref(), last),
                _ => store.list(listing.prefix.as_ref()),
            });
            let next = tokio::time::timeout(ANSWER_WITHIN, rest.next()).await;
            let no_answer = |_| Some(Err(listing.this.no_answer(ANSWER_WITHIN)));
            match next.unwrap_or_else(no_answer) {
                None => {
                    listing.this.is_back();
                    return Ok(None);
                }
                Some(Ok(object)) => {
                    listing.pause = FIRST_PAUSE;
                    let before = |offset: &Path| object.location <= *offset;
                    if !lists_behind
                        && (listing.offset.as_ref().is_some_and(before)
                            || !listing.given.insert(object.location.clone()))
                    {
                        continue;
                    }
                    listing.last = Some(object.location.clone());
                    return Ok(Some((object, listing)));
                }
                Some(Err(error)) => {
                    listing.rest = None;
                    let Listing { this, pause, .. } = &mut listing;
                    this.wait_after(error, pause).await?;
                }
            }
        }
    })
    .boxed()
}

/// Asks for the rest of an object whenever its body breaks off.
fn resume_get<S: ObjectStore + MultipartStore>(
    this: Retrying<S>,
    location: Path,
    mut options: GetOptions,
    result: GetResult,
) -> GetResult {
    struct Body<S> {
        this: Retrying<S>,
        location: Path,
        options: GetOptions,
        at: u64,
        end: u64,
        rest: BoxStream<'static, Result<bytes::Bytes>>,
        pause: Duration,
    }
    let (meta, range, attributes) = (
        result.meta.clone(),
        result.range.clone(),
        result.attributes.clone(),
    );
    // The rest must be of the same object, should it be overwritten meanwhile.
    options.if_match = meta.e_tag.clone();
    options.version = meta.version.clone();
    let start = Body {
        this,
        location,
        options,
        at: range.start,
        end: range.end,
        rest: result.into_stream(),
        pause: FIRST_PAUSE,
    };
    let body = stream::try_unfold(start, |mut body| async move {
        loop {
            let next = tokio::time::timeout(ANSWER_WITHIN, body.rest.next()).await;
            let no_answer = |_| Some(Err(body.this.no_answer(ANSWER_WITHIN)));
            match next.unwrap_or_else(no_answer) {
                Some(Ok(bytes)) => {
                    body.pause = FIRST_PAUSE;
                    body.at += bytes.len() as u64;
                    return Ok(Some((bytes, body)));
                }
                None => {
                    body.this.is_back();
                    return Ok(None);
                }
                // Everything had come, and only the end of the connection broke.
                Some(Err(_)) if body.at >= body.end => return Ok(None),
                Some(Err(error)) => {
                    body.this.wait_after(error, &mut body.pause).await?;
                    let mut options = body.options.clone();
                    options.range = Some(GetRange::Bounded(body.at..body.end));
                    let attempt = || body.this.inner.get_opts(&body.location, options.clone());
                    body.rest = body.this.until_answered(0, attempt).await?.into_stream();
                }
            }
        }
    });
    GetResult {
        payload: GetResultPayload::Stream(body.boxed()),
        meta,
        range,
        attributes,
    }
}

/// The object that was to be deleted and is not there.
fn gone(error: &Error) -> Option<Path> {
    match error {
        Error::NotFound { path, .. } if fault::is_missing(error) => Path::parse(path).ok(),
        _ => None,
    }
}

/// Not every cloud has a word of its own for a creation that came too late.
fn created_before<T>(create: bool, done: Result<T>) -> Result<T> {
    match done {
        Err(Error::Precondition { path, source }) if create => {
            Err(Error::AlreadyExists { path, source })
        }
        done => done,
    }
}

impl<S> Clone for Retrying<S> {
    fn clone(&self) -> Self {
        Retrying {
            inner: Arc::clone(&self.inner),
            cloud: self.cloud,
            bucket: self.bucket.clone(),
            sleep: Arc::clone(&self.sleep),
            voice: Arc::clone(&self.voice),
            away: Arc::clone(&self.away),
        }
    }
}

impl<S> std::fmt::Display for Retrying<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.cloud.scheme, self.bucket)
    }
}

impl<S> std::fmt::Debug for Retrying<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Retrying({self})")
    }
}

#[async_trait]
impl<S: ObjectStore + MultipartStore> ObjectStore for Retrying<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let attempt = || self.inner.put_opts(location, payload.clone(), opts.clone());
        let done = self.until_done(payload.content_length(), attempt).await;
        created_before(opts.mode == PutMode::Create, done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let id = self
            .until_done(0, || self.inner.create_multipart(location))
            .await?;
        Ok(Box::new(Upload {
            store: self.clone(),
            location: location.clone(),
            id,
            parts: Arc::default(),
            next: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self
            .until_answered(0, || self.inner.get_opts(location, options.clone()))
            .await?;
        if options.head {
            self.is_back();
        }
        Ok(resume_get(self.clone(), location.clone(), options, result))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .try_chunks(DELETE_AT_ONCE)
            .then(move |chunk| {
                let this = this.clone();
                async move {
                    match chunk {
                        Ok(paths) => {
                            stream::iter(this.delete_all(paths.into_iter().collect()).await)
                        }
                        Err(error) => stream::iter(vec![Err(error.1)]),
                    }
                }
            })
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        resume_list(self.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        resume_list(self.clone(), prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.until_done(0, || self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = options.mode == CopyMode::Create;
        let mut asked = options;
        if self.cloud.swaps_copies {
            asked.mode = match create {
                true => CopyMode::Overwrite,
                false => CopyMode::Create,
            };
        }
        let attempt = || self.inner.copy_opts(from, to, asked.clone());
        created_before(create, self.until_done(0, attempt).await)
    }
}

/// An upload in parts, each of which is repeated under its own number.
#[derive(Debug)]
struct Upload<S> {
    store: Retrying<S>,
    location: Path,
    id: MultipartId,
    parts: Arc<Mutex<Vec<Option<PartId>>>>,
    next: usize,
}

#[async_trait]
impl<S: ObjectStore + MultipartStore> MultipartUpload for Upload<S> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let index = self.next;
        self.next += 1;
        let (store, location, id) = (self.store.clone(), self.location.clone(), self.id.clone());
        let parts = Arc::clone(&self.parts);
        Box::pin(async move {
            let attempt = || store.inner.put_part(&location, &id, index, data.clone());
            let part = store.until_done(data.content_length(), attempt).await?;
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            if parts.len() <= index {
                parts.resize(index + 1, None);
            }
            parts[index] = Some(part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts: Option<Vec<_>> = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            if parts.len() == self.next {
                parts.iter().cloned().collect()
            } else {
                None
            }
        };
        let parts = parts.ok_or_else(|| Error::Generic {
            store: self.store.cloud.name,
            source: format!(
                "the upload of {} was completed before its parts",
                self.location
            )
            .into(),
        })?;
        let attempt = || {
            self.store
                .inner
                .complete_multipart(&self.location, &self.id, parts.clone())
        };
        match self.store.until_done(0, attempt).await {
            // An upload that is gone was completed by an attempt whose answer was lost.
            Err(gone) if fault::is_finished_upload(&gone) => {
                match self.store.head(&self.location).await {
                    Ok(meta) => Ok(PutResult {
                        e_tag: meta.e_tag,
                        version: meta.version,
                    }),
                    Err(_) => Err(gone),
                }
            }
            completed => completed,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.store
            .until_done(0, || {
                self.store.inner.abort_multipart(&self.location, &self.id)
            })
            .await
    }
}
