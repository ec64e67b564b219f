//! Exactly once: the protocol of epochs.
//!
//! An epoch is committed by creating one small object whose name is its number, which can be created once, by one
//! owner. It names everything that the epoch covers: positions, watermarks, state, and the staged tokens that may
//! now be shown. Guarantee: whatever a reader can see belongs to a committed epoch, and everything that a committed epoch
//! names becomes visible, although processes die between any two steps, or freeze and come back.

mod blob;
mod claim;
mod coordinator;
mod ledger;
mod owner;
#[cfg(test)]
mod protocol;
mod recover;
mod steps;
mod store;

pub(crate) use blob::{read_rows, write_rows};
pub use claim::{Claim, Claimed, Mode};
pub use coordinator::{Barrier, Committed, Coordinator, NodeState};
pub use recover::{LoadedState, Recovered, carried_rows, recover};
#[cfg(test)]
pub(crate) use steps::DieAt;
pub use steps::{Hook, KillAt, NoHook, Point, Step};
pub(crate) use store::BEGIN_ANEW;
pub use store::EpochStore;

use crate::catalog::owed::Owed;
use crate::plan::Meaning;
use crate::sink::Token;
use crate::source::Position;
use crate::time::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format of [`Checkpoint`], which docs/checkpoint-format.md describes. A reader refuses one that it does not know.
pub const VERSION: u32 = 1;

/// What an epoch commits: `epochs/<number>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub version: u32,
    pub job: String,
    pub epoch: u64,
    pub owner: Owner,
    /// When it was committed, in milliseconds since 1970: the heartbeat.
    pub committed_at_ms: i64,
    /// The interval between commits, from which others judge whether the heart still beats.
    pub interval_ms: u64,
    /// Set when the owner stopped in good order: nobody has to wait for its heartbeat to go stale.
    pub released: bool,
    /// By the name of the table that is read.
    pub sources: BTreeMap<String, SourceState>,
    /// How far each node of the plan had come, by its name.
    pub progress: BTreeMap<String, Progress>,
    /// What the nodes that remember something do, by their names. Checkpoints from before this was kept do not say; there names have
    /// to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<BTreeMap<String, Meaning>>,
    /// Where the state of the operators lies.
    pub state: Vec<StateRef>,
    /// By the name of the table that is written.
    pub sinks: BTreeMap<String, SinkState>,
    pub ledger: Ledger,
    /// What the catalog has not been told of all that was published, this epoch's tokens included.
    #[serde(default, skip_serializing_if = "Owed::is_empty")]
    pub catalog: Owed,
}

/// Who committed an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Drawn at the start of a process; never used twice.
    pub id: String,
    pub host: String,
    /// Changes with each boot of the machine, and from one pid namespace (a container) to another; empty where the system does not tell.
    pub boot_id: String,
    pub pid: u32,
    /// The process's start time as the system tells it, so that a pid that was used again is not mistaken for the owner.
    pub started: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    pub splits: Vec<SplitState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitState {
    pub topic: String,
    pub partition: i32,
    pub position: Position,
    pub progress: Progress,
}

/// Rows of an operator's state: a segment of a blob, which is Arrow IPC by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRef {
    /// The node's name in the plan.
    pub node: String,
    pub part: String,
    pub key_columns: usize,
    /// Path below the checkpoint folder.
    pub blob: String,
    /// Where the segment begins in the blob.
    pub offset: u64,
    pub bytes: u64,
    /// A checksum of the segment: XXH3 with 64 bits, as 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkState {
    /// What this epoch shows.
    pub tokens: Vec<Token>,
    /// The rows of files that are still open.
    pub carried: Vec<CarriedRef>,
}

/// Rows of one open file, or a part of them: a segment of a blob, as in [`StateRef`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRef {
    pub lane: usize,
    pub file: u64,
    pub blob: String,
    pub offset: u64,
    pub rows: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
}

/// The books of the whole life of the job. Every epoch they must balance, see [`Ledger::check`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub sources: BTreeMap<String, SourceBook>,
    pub operators: BTreeMap<String, OperatorBook>,
    pub sinks: BTreeMap<String, SinkBook>,
    /// Dead letters by their source, then by the word of their reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub letters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// records = decoded + null + malformed + ignored, all records of a source; then
/// rows = accepted + refused, the rows that they decoded to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBook {
    pub records: u64,
    pub decoded: u64,
    pub null: u64,
    pub malformed: u64,
    pub ignored: u64,
    /// Rows in the decoded records (a JSON array is several).
    pub rows: u64,
    /// Rows that went on.
    pub accepted: u64,
    /// Rows whose event time is NULL or too far in the future: dead letters.
    pub refused: u64,
}

/// in = used + filtered + late + refused, for one operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorBook {
    pub rows_in: u64,
    pub used: u64,
    pub filtered: u64,
    pub late: u64,
    /// Rows for which a lookup found something that cannot be read: dead letters.
    #[serde(default, skip_serializing_if = "none")]
    pub refused: u64,
}

fn none(count: &u64) -> bool {
    *count == 0
}

/// written = published + carried + rejected, over the whole life of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkBook {
    pub written: u64,
    pub published: u64,
    pub files: u64,
    pub bytes: u64,
    /// Rows in files that are still open.
    pub carried: u64,
    pub rejected: u64,
}
