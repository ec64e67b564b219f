//! What a running job tells about itself: health, metrics, and one page to look at.
//!
//! The engine fills a [`Status`] and never waits for a reader of it; the server only reads. Guarantee: nothing here changes
//! the job, and whatever text a job or its data brings is escaped.

mod metrics;
mod page;
mod server;

pub use server::{Server, serve};

use crate::catalog::report::Report;
use crate::epoch::Ledger;
use serde::Serialize;
use std::sync::{Arc, PoisonError, RwLock};

/// The numbers of one moment. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    pub job: String,
    pub state: State,
    /// What the state is about: whom it waits for, why it failed.
    pub message: String,
    /// Since when it is in this state.
    pub since_ms: i64,
    /// The epoch that was committed last.
    pub epoch: u64,
    pub committed_at_ms: Option<i64>,
    /// From the barrier of that epoch until it was published.
    pub commit_ms: Option<u64>,
    /// Bytes in the queues of readers and in open files, and what they may be together with the state.
    pub buffered_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Memory of the whole process, code included, where the system tells.
    pub resident_bytes: Option<u64>,
    pub splits: Vec<SplitStatus>,
    pub operators: Vec<OperatorStatus>,
    pub dead_letters: Vec<DeadLetterCount>,
    pub ledger: Ledger,
    pub catalog: Report,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Starting,
    /// Another instance owns the job, or a server is away.
    Waiting,
    Running,
    Finished,
    Failed,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct SplitStatus {
    /// The table that it is read for.
    pub source: String,
    pub topic: String,
    pub partition: i32,
    /// Where the next record is.
    pub offset: i64,
    pub watermark_ms: Option<i64>,
    /// Records that are still to be read, where that is known.
    pub lag: Option<u64>,
    pub idle: bool,
    pub finished: bool,
    /// It waits for splits that are behind it in event time.
    pub paused: bool,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct OperatorStatus {
    /// Its name in the plan, as in the ledger.
    pub node: String,
    pub watermark_ms: Option<i64>,
    pub state_bytes: u64,
}

/// How many dead letters there were since the job first started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeadLetterCount {
    pub source: String,
    pub reason: String,
    pub count: u64,
}

/// The status as the engine and the server share it.
#[derive(Debug, Clone, Default)]
pub struct SharedStatus(Arc<RwLock<Status>>);

impl SharedStatus {
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn get(&self) -> Status {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
