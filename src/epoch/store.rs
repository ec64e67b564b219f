//! The folder of a job's checkpoints.
//!
//! ```text
//! epochs/00000000000000000007.json   one small object for each epoch, created once and never changed or deleted
//! state/<epoch>-<owner>/...          blobs, deleted when the latest two epochs do not name them
//! latest                             a hint: an epoch that exists; later ones may
//! ```
//!
//! Invariant: who creates `epochs/<n>.json` owns epoch n, for ever. That is why these objects are kept: a process that was frozen for a
//! week could otherwise create an old number again.

use super::blob::{Segment, checksum};
use super::{Checkpoint, VERSION};
use crate::error::{Error, Kind, Result};
use crate::store::{Located, is_missing};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How often a commit is tried again when its answer was lost and its object is not there. The store below waits out real outages.
const ATTEMPTS: usize = 5;
/// Epochs looked at in one listing: what S3 gives at once.
const PAGE: usize = 1000;
/// The other way out for whoever has lost a checkpoint. A new checkpoint folder alone would write everything a second time.
pub(crate) const BEGIN_ANEW: &str = "begin anew with another checkpoint folder and another lake (both, or every row is there twice)";

/// Keeps the epochs of one job in one folder.
#[derive(Debug, Clone)]
pub struct EpochStore {
    at: Located,
    job: String,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    version: u32,
    epoch: u64,
}

impl EpochStore {
    pub fn new(at: Located, job: impl Into<String>) -> Self {
        EpochStore {
            at,
            job: job.into(),
        }
    }

    pub fn job(&self) -> &str {
        &self.job
    }

    /// Where it lies, for messages.
    pub fn url(&self) -> &str {
        &self.at.url
    }

    /// The epoch with the highest number.
    pub async fn latest(&self) -> Result<Option<Checkpoint>> {
        let hint = self.hint().await?;
        if let Some(found) = self.read(self.highest(hint).await?).await? {
            return Ok(Some(found));
        }
        if hint == 0 {
            return Ok(None);
        }
        // The hint names an epoch that is not there: look at everything.
        let Some(found) = self.read(self.highest(0).await?).await? else {
            return Err(Error::job(format!(
                "{}: `latest` names epoch {hint}, and there is no epoch in `epochs/`: beginning anew would write into the tables what they \
                 have already. Bring `epochs/` back, or {BEGIN_ANEW}",
                self.at.url
            )));
        };
        Ok(Some(found))
    }

    /// One epoch, if it was committed.
    pub async fn read(&self, epoch: u64) -> Result<Option<Checkpoint>> {
        let path = self.epoch_path(epoch);
        let Some(bytes) = self.get(&path).await? else {
            return Ok(None);
        };
        let checkpoint: Checkpoint = self.parse(&path, &bytes)?;
        if checkpoint.job != self.job {
            return Err(Error::job(format!(
                "{}: this checkpoint folder belongs to job {:?}, not to {:?}: give each job a folder of its own with SET \
                 'execution.checkpointing.dir'",
                self.at.url, checkpoint.job, self.job
            )));
        }
        Ok(Some(checkpoint))
    }

    /// Creates an epoch. When the answer is lost, or the number is taken, the object itself says whose it is: this owner's, and all is well,
    /// or another's, and this owner is fenced.
    pub async fn commit(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.epoch_path(checkpoint.epoch);
        let json = serde_json::to_vec(checkpoint).map_err(|error| {
            Error::bug("a checkpoint could not be written as JSON").caused_by(error)
        })?;
        let payload = PutPayload::from(json);
        let mut attempts = 0;
        loop {
            let put = self
                .at
                .store
                .put_opts(&path, payload.clone(), PutMode::Create.into())
                .await;
            let Err(error) = put else { break };
            let error = self.at.explain(&path, error);
            attempts += 1;
            if error.kind() != Kind::Retry {
                return Err(error);
            }
            match self.read(checkpoint.epoch).await {
                Ok(Some(found)) if found.owner.id == checkpoint.owner.id => break,
                Ok(Some(found)) => return Err(fenced(&found)),
                Ok(None) | Err(_) if attempts < ATTEMPTS => {}
                Ok(None) => return Err(error),
                Err(unread) => return Err(unread),
            }
        }
        self.put_hint(checkpoint.epoch).await;
        Ok(())
    }

    /// Fails when another owner has committed an epoch behind this one. Looking at the next number is enough, since nobody skips one.
    pub async fn check_not_fenced(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.check_owner(checkpoint.epoch, &checkpoint.owner.id)
            .await
    }

    /// The same for the owner with this id, who has committed this epoch.
    pub async fn check_owner(&self, epoch: u64, owner: &str) -> Result<()> {
        match self.read(epoch + 1).await? {
            Some(next) if next.owner.id != owner => Err(fenced(&next)),
            _ => Ok(()),
        }
    }

    /// The folder of an owner's blobs for an epoch.
    pub(super) fn blob_folder(epoch: u64, owner: &str) -> String {
        format!("state/{epoch:020}-{owner}")
    }

    /// Writes a blob, durably; `name` is its path below the checkpoint folder.
    pub async fn put_blob(&self, name: &str, bytes: Bytes) -> Result<()> {
        let path = self.at.child(name);
        let mut attempts = 0;
        loop {
            let Err(error) = self.at.store.put(&path, bytes.clone().into()).await else {
                return Ok(());
            };
            attempts += 1;
            let error = self.at.explain(&path, error);
            if attempts == ATTEMPTS || error.kind() != Kind::Retry {
                return Err(error);
            }
        }
    }

    /// Reads a whole blob.
    pub async fn get_blob(&self, name: &str) -> Result<Bytes> {
        let path = self.at.child(name);
        self.get(&path).await?.ok_or_else(|| self.lost(&path))
    }

    /// Reads a segment of a blob, and its place for messages.
    pub(super) async fn get_segment(&self, segment: &Segment) -> Result<(String, Bytes)> {
        let path = self.at.child(&segment.blob);
        let range = segment.offset..segment.offset + segment.bytes;
        let place = format!(
            "{}: {}, bytes {} to {}",
            self.at.url, segment.blob, range.start, range.end
        );
        let damaged = |what: &str| {
            Error::job(format!(
                "{place}: {what}, and the latest epoch needs them: bring the whole blob back, or {BEGIN_ANEW}"
            ))
        };
        let mut attempts = 0;
        let bytes = loop {
            match self.at.store.get_range(&path, range.clone()).await {
                Ok(bytes) => break bytes,
                Err(error) if is_missing(&error) => return Err(self.lost(&path)),
                Err(error) => {
                    attempts += 1;
                    let error = self.at.explain(&path, error);
                    if attempts < ATTEMPTS && error.kind() == Kind::Retry {
                        continue;
                    }
                    // A store that is asked for what lies behind the end says so as if it were away.
                    return match self.at.store.head(&path).await {
                        Ok(blob) if blob.size < range.end => {
                            Err(damaged("these bytes are not all there"))
                        }
                        _ => Err(error),
                    };
                }
            }
        };
        if bytes.len() as u64 != segment.bytes {
            return Err(damaged("these bytes are not all there"));
        }
        if segment
            .xxh3
            .as_ref()
            .is_some_and(|known| *known != checksum(&bytes))
        {
            return Err(damaged(
                "these bytes are not those that were written (their checksum is another)",
            ));
        }
        Ok((place, bytes))
    }

    /// Deletes the blobs of epochs up to `keep` that neither it nor the epoch before names. Blobs of later epochs are left alone: they are
    /// being written, perhaps by another owner.
    pub async fn expire(&self, keep: &Checkpoint) -> Result<()> {
        let before = self.read(keep.epoch.saturating_sub(1)).await?;
        let named: BTreeSet<Path> = [Some(keep), before.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|checkpoint| checkpoint.blobs())
            .map(|blob| self.at.child(blob))
            .collect();
        let folder = self.at.child("state");
        let objects: Vec<_> = self
            .at
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| self.at.explain(&folder, error))?;
        let garbage: Vec<_> = objects
            .into_iter()
            .map(|object| object.location)
            .filter(|path| {
                blob_epoch(&folder, path).is_some_and(|epoch| epoch <= keep.epoch)
                    && !named.contains(path)
            })
            .map(Ok)
            .collect();
        let mut deleted = self.at.store.delete_stream(stream::iter(garbage).boxed());
        while let Some(one) = deleted.next().await {
            match one {
                Err(error) if !is_missing(&error) => return Err(self.at.explain(&folder, error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn epoch_path(&self, epoch: u64) -> Path {
        self.at.child(&format!("epochs/{epoch:020}.json"))
    }

    /// An epoch that exists, or 0. Whatever is wrong with the hint, the job can do without it.
    async fn hint(&self) -> Result<u64> {
        let path = self.at.child("latest");
        let bytes = self.get(&path).await?;
        let hint = bytes.and_then(|bytes| serde_json::from_slice::<Hint>(&bytes).ok());
        Ok(hint
            .filter(|hint| hint.version == VERSION)
            .map_or(0, |hint| hint.epoch))
    }

    async fn put_hint(&self, epoch: u64) {
        let path = self.at.child("latest");
        let json = serde_json::to_vec(&Hint {
            version: VERSION,
            epoch,
        })
        .unwrap_or_default();
        if let Err(error) = self.at.store.put(&path, json.into()).await {
            tracing::debug!(url = self.at.url, %error, "the hint to the latest epoch was not written");
        }
    }

    /// The highest epoch, given one that exists (or 0). Looks at one page of names at a time: first ever further ahead, until nothing lies
    /// there, then between what was seen and that point. So it takes a few listings, however many epochs there are.
    async fn highest(&self, known: u64) -> Result<u64> {
        let mut best = known;
        let mut ahead = known;
        let end = loop {
            let page = self.page_behind(ahead).await?;
            match page.highest {
                None => break ahead,
                Some(highest) if page.complete => return Ok(highest),
                Some(highest) => best = highest,
            }
            ahead = best.saturating_mul(2);
        };
        let mut end = end;
        while best < end {
            let middle = best + (end - best) / 2;
            let page = self.page_behind(middle).await?;
            match page.highest {
                None => end = middle,
                Some(highest) if page.complete => return Ok(highest),
                Some(highest) => best = highest,
            }
        }
        Ok(best)
    }

    /// Some of the epochs with higher numbers: the first ones on S3, any on a file system.
    async fn page_behind(&self, epoch: u64) -> Result<Page> {
        let folder = self.at.child("epochs");
        let mut names = self
            .at
            .store
            .list_with_offset(Some(&folder), &self.epoch_path(epoch));
        let mut page = Page {
            highest: None,
            complete: true,
        };
        let mut seen = 0;
        while let Some(object) = names.next().await {
            let object = object.map_err(|error| self.at.explain(&folder, error))?;
            let name = object
                .location
                .filename()
                .and_then(|name| name.strip_suffix(".json"));
            let number = name
                .filter(|name| name.len() == 20)
                .and_then(|name| name.parse::<u64>().ok());
            page.highest = page.highest.max(number);
            seen += usize::from(number.is_some());
            if seen == PAGE {
                page.complete = false;
                break;
            }
        }
        Ok(page)
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let mut attempts = 0;
        loop {
            let got = match self.at.store.get(path).await {
                Ok(got) => got.bytes().await,
                Err(error) => Err(error),
            };
            match got {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => {
                    attempts += 1;
                    let error = self.at.explain(path, error);
                    if attempts == ATTEMPTS || error.kind() != Kind::Retry {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn parse(&self, path: &Path, bytes: &[u8]) -> Result<Checkpoint> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unreadable = |error| {
            Error::job(format!(
                "{} is damaged and cannot be read as a checkpoint: bring it back as it was, or {BEGIN_ANEW}",
                self.at.place_of(path)
            ))
            .caused_by(error)
        };
        let Versioned { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version != VERSION {
            return Err(Error::job(format!(
                "{} has format version {version}, and this Tributary knows {VERSION}: run the version that wrote it",
                self.at.place_of(path)
            )));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    fn lost(&self, path: &Path) -> Error {
        Error::job(format!(
            "{} is missing, and the latest epoch needs it: bring it back, or {BEGIN_ANEW}",
            self.at.place_of(path)
        ))
    }
}

struct Page {
    highest: Option<u64>,
    /// There are no others.
    complete: bool,
}

impl Checkpoint {
    /// Every blob that this epoch needs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &str> {
        let state = self.state.iter().map(|state| state.blob.as_str());
        let carried = self
            .sinks
            .values()
            .flat_map(|sink| &sink.carried)
            .map(|carried| carried.blob.as_str());
        state.chain(carried)
    }
}

/// The epoch in `state/<epoch>-<owner>/...`.
fn blob_epoch(folder: &Path, path: &Path) -> Option<u64> {
    let mut parts = path.prefix_match(folder)?;
    let name = parts.next()?;
    name.as_ref().split_once('-')?.0.parse().ok()
}

/// What the loser of an epoch is told.
pub(super) fn fenced(winner: &Checkpoint) -> Error {
    Error::fenced(format!(
        "job {:?} is run by another process ({}), which committed epoch {}: this one stops, and publishes nothing more",
        winner.job, winner.owner, winner.epoch
    ))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
