//! Who compacts a lake, and how far the run has come: what is left when the process dies.
//!
//! ```text
//! _tributary/compact/journal/00000000000000000007.json   an entry: created once; the one with the highest number counts
//! _tributary/compacted/<run>/plan.json                   what the run does, once all is merged
//! ```
//!
//! Invariant: only who created the highest entry goes on. The highest entry is never deleted, so a process that was frozen finds, whatever
//! number it creates, that there is a higher one.

use crate::clock::Clock;
use crate::epoch::Owner;
use crate::error::{Error, Result};
use crate::store::{Located, is_missing};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of both formats, which docs/checkpoint-format.md describes. A reader refuses one that it does not know.
pub const VERSION: u32 = 1;

const ENTRIES: &str = "_tributary/compact/journal";
/// How often an entry is looked for that somebody else replaces meanwhile.
const ATTEMPTS: usize = 5;

/// How far a run has come. Each is entered when all before it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Large files are being written aside; nothing else is touched.
    Merging,
    /// They are written and checked, and the plan is.
    Ready,
    /// The catalog leads to the files aside.
    Moved,
    /// In the tables' folders, too, the large files are in the place of the small ones.
    Replaced,
    /// The catalog leads to the tables' folders again.
    Returned,
    /// What was aside is removed.
    Done,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Merging => "merging",
            Phase::Ready => "ready",
            Phase::Moved => "moved",
            Phase::Replaced => "replaced",
            Phase::Returned => "returned",
            Phase::Done => "done",
        })
    }
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub version: u32,
    pub owner: Owner,
    /// The id of the run: that of the process which began it.
    pub run: String,
    pub phase: Phase,
    /// When the phase was entered, in milliseconds since 1970. Who takes a run over keeps it.
    pub since_ms: i64,
}

/// The right to go on with a run.
pub struct Journal<'a> {
    at: &'a Located,
    clock: &'a dyn Clock,
    number: u64,
    entry: Entry,
}

impl<'a> Journal<'a> {
    /// The entry that counts.
    pub async fn last(at: &Located) -> Result<Option<(u64, Entry)>> {
        let folder = at.child(ENTRIES);
        for _ in 0..ATTEMPTS {
            let listed: Vec<_> = at
                .store
                .list(Some(&folder))
                .try_collect()
                .await
                .map_err(|error| at.explain(&folder, error))?;
            let numbers = listed.iter().filter_map(|object| number(&object.location));
            let Some(number) = numbers.max() else {
                return Ok(None);
            };
            // Between the two its owner may have gone on and deleted it.
            if let Some(entry) = read(at, &path(at, number)).await? {
                return Ok(Some((number, entry)));
            }
        }
        Err(Error::retry(format!(
            "{}: the entries of {folder} vanish while they are read",
            at.url
        )))
    }

    /// Takes over what a dead owner left, or begins a run. An error of the kind `Fenced` names who is at it.
    pub async fn claim(
        at: &'a Located,
        me: &Owner,
        clock: &'a dyn Clock,
        takeover: bool,
    ) -> Result<Journal<'a>> {
        let mut claim = Entry {
            version: VERSION,
            owner: me.clone(),
            run: me.id.clone(),
            phase: Phase::Merging,
            since_ms: clock.now_ms(),
        };
        let last = Self::last(at).await?;
        let number = last.as_ref().map_or(1, |(number, _)| number + 1);
        if let Some((_, last)) = last
            && last.phase != Phase::Done
        {
            let gone = takeover || last.owner.id == me.id || last.owner.is_provably_dead(me);
            if !gone {
                return Err(busy(at, &last));
            }
            claim.run = last.run;
            claim.phase = last.phase;
            claim.since_ms = last.since_ms;
        }
        let mut journal = Journal {
            at,
            clock,
            number: number - 1,
            entry: claim.clone(),
        };
        journal.append(claim).await?;
        Ok(journal)
    }

    /// What a process has claimed, if it is the last that did.
    pub async fn of(
        at: &'a Located,
        me: &Owner,
        clock: &'a dyn Clock,
    ) -> Result<Option<Journal<'a>>> {
        let last = Self::last(at).await?;
        let mine = last.filter(|(_, entry)| entry.owner.id == me.id);
        Ok(mine.map(|(number, entry)| Journal {
            at,
            clock,
            number,
            entry,
        }))
    }

    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The folder of the files that this run writes aside, below the lake.
    pub fn aside(&self) -> String {
        format!("_tributary/compacted/{}", self.entry.run)
    }

    /// Whether nobody has taken the run over meanwhile; an error of the kind `Fenced` names who has.
    pub async fn still_own(&self) -> Result<()> {
        match Self::last(self.at).await? {
            Some((number, entry)) if number > self.number => Err(busy(self.at, &entry)),
            _ => Ok(()),
        }
    }

    /// Enters the next phase.
    pub async fn enter(&mut self, phase: Phase) -> Result<()> {
        let entry = Entry {
            phase,
            since_ms: self.clock.now_ms(),
            ..self.entry.clone()
        };
        self.append(entry).await
    }

    async fn append(&mut self, entry: Entry) -> Result<()> {
        let number = self.number + 1;
        let path = path(self.at, number);
        let json = to_json(&entry)?;
        let put = self
            .at
            .store
            .put_opts(&path, json.into(), PutMode::Create.into())
            .await;
        if let Err(error) = put {
            // The answer may be lost, and the entry there; or somebody was faster.
            let error = self.at.explain(&path, error);
            match read::<Entry>(self.at, &path).await? {
                Some(there) if there == entry => {}
                Some(there) => return Err(busy(self.at, &there)),
                None => return Err(error),
            }
        }
        // Numbers below the highest are deleted, so one that could be created may be an old one.
        if let Some((highest, theirs)) = Self::last(self.at).await?
            && highest > number
        {
            self.remove(&path).await;
            return Err(busy(self.at, &theirs));
        }
        for old in 1..=KEPT {
            if let Some(old) = number.checked_sub(old).filter(|old| *old > 0) {
                self.remove(&self::path(self.at, old)).await;
            }
        }
        self.number = number;
        self.entry = entry;
        Ok(())
    }

    /// An entry that stays is passed over, since there are higher ones.
    async fn remove(&self, path: &Path) {
        if let Err(error) = self.at.store.delete(path).await
            && !is_missing(&error)
        {
            tracing::debug!(%path, %error, "an old entry of the journal was not removed");
        }
    }
}

/// How many entries back are removed: the one before, and one that a crash may have left.
const KEPT: u64 = 2;

/// Writes a small object that is read back with [`read`].
pub(super) async fn write(at: &Located, path: &Path, value: &impl Serialize) -> Result<()> {
    let put = at.store.put(path, to_json(value)?.into()).await;
    put.map(drop).map_err(|error| at.explain(path, error))
}

/// Reads a small object, if it is there.
pub(super) async fn read<T: DeserializeOwned>(at: &Located, path: &Path) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes: Bytes = match at.store.get(path).await {
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(at.explain(path, error)),
        Ok(got) => got.bytes().await.map_err(|error| at.explain(path, error))?,
    };
    let unreadable =
        |error| Error::data(format!("{} cannot be read", at.place_of(path))).caused_by(error);
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if version != VERSION {
        return Err(Error::job(format!(
            "{} has format version {version}, and this Tributary knows {VERSION}: run the version that wrote it",
            at.place_of(path)
        )));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::bug("a journal could not be written as JSON").caused_by(error))
}

fn path(at: &Located, number: u64) -> Path {
    at.child(&format!("{ENTRIES}/{number:020}.json"))
}

fn number(path: &Path) -> Option<u64> {
    let name = path.filename()?.strip_suffix(".json")?;
    name.parse().ok().filter(|_| name.len() == 20)
}

fn busy(at: &Located, entry: &Entry) -> Error {
    let since = chrono::DateTime::from_timestamp_millis(entry.since_ms).unwrap_or_default();
    Error::fenced(format!(
        "{}: {} is compacting this lake ({} since {} UTC): wait until it has ended. If that process is gone for good, start with --takeover, which \
         goes on where it was",
        at.url,
        entry.owner,
        entry.phase,
        since.format("%Y-%m-%d %H:%M:%S")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::compact::plan::Plan;
    use crate::sink::merged::Merged;
    use serde_json::Value;

    #[test]
    fn the_first_version_is_still_read_and_written() {
        fn check<T: Serialize + DeserializeOwned>(all: &Value, part: &str) {
            let read: T = serde_json::from_value(all[part].clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), all[part], "{part}");
        }
        let kept = include_str!("../../../tests/fixtures/compaction-v1.json");
        let all: Value = serde_json::from_str(kept).unwrap();
        check::<Entry>(&all, "entry");
        check::<Plan>(&all, "plan");
        check::<Merged>(&all, "merged");
    }

    #[tokio::test]
    async fn another_version_is_refused() {
        let at = crate::store::open("memory://journal/lake").unwrap();
        let path = path(&at, 1);
        let json = r#"{"version": 2, "unheard": "of"}"#;
        at.store.put(&path, json.into()).await.unwrap();
        let error = Journal::last(&at).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("version 2"), "{error}");
    }
}
