//! Rows that are stored with their epoch and delivered as a whole, once the epoch is committed: how a table comes about that is no
//! folder of files.
//!
//! [`RowSink`] keeps the rows of a lane and writes them at the barrier, as Arrow IPC, beside the checkpoints; the tokens name what
//! it wrote. [`RowPublisher`] reads them back and hands them to the table's [`Target`], which is all that a new connector has to
//! implement. Memory is bounded: what grows is written early, and what is delivered is read piece by piece.
//!
//! Guarantee: if a target sets its mark together with the rows, both or neither, each row is there once. Whoever publishes first keeps
//! all older owners out ([`Target::open`]), then looks at the mark, and delivers only what the mark does not have. An outage
//! of the target's system delays the epochs and does not end the job.

pub(super) mod changes;
#[cfg(test)]
pub(crate) mod memory;
mod publisher;
mod staged;
#[cfg(test)]
pub(crate) mod suite;

pub(super) use publisher::RowPublisher;

use super::options::TableSpec;
use super::{Carry, Rejected, Sink, SinkContext, Staging, Token, expect_columns, slice_bytes};
use crate::error::{Error, Result};
use crate::operator::hidden;
use arrow::array::{Array, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::Int8Type;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use staged::{Folder, Name};
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Rows beyond this are written before the barrier.
const SPILL_BYTES: usize = 8 << 20;
/// As many are shaped at a time: when a window fires or a source ends, all that was held comes at once.
const MOST_ROWS: usize = 8192;

/// What makes an epoch of a table one of its kind, whatever became of the process that staged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub epoch: u64,
    /// Who staged it.
    pub owner: String,
}

/// As targets keep it: `42/owner`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.owner)
    }
}

impl Mark {
    pub fn parse(text: &str) -> Option<Mark> {
        let (epoch, owner) = text.split_once('/')?;
        Some(Mark {
            epoch: epoch.parse().ok()?,
            owner: owner.to_string(),
        })
    }
}

/// Some rows of an epoch, in the order in which their lane wrote them.
pub(super) struct Share {
    pub lane: usize,
    pub rows: Vec<RecordBatch>,
}

pub(super) type Shares<'a> = BoxStream<'a, Result<Share>>;

/// What is stored of a batch of the table's rows.
pub(super) struct Shaped {
    pub stored: RecordBatch,
    pub rejected: Rejected,
}

/// Where the rows of a table go. An error of the kind `Retry` has the publisher wait, [`open`](Target::open) anew, and look at the mark again.
pub(super) trait Target: Send + Sync {
    /// What is stored of rows; on a lane, before their epoch. What could never be delivered has to be rejected here: later it is too late.
    /// `kinds` says what each row does, where rows can do anything else than add themselves.
    fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped>;

    /// Leaves away what later rows make needless, of stored rows that one lane wrote one after another.
    fn reduce(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        Ok(rows)
    }

    /// Keeps every other owner from delivering, from here on; harmless where it is done.
    fn open(&self) -> BoxFuture<'_, Result<()>>;

    /// The mark of the last epoch that was delivered; None where there is none (any more). Only after `open`.
    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>>>;

    /// Where there is no mark: whether rows of that epoch are there. Nothing of it is older than `since_ms`.
    fn holds<'a>(&'a self, mark: &'a Mark, since_ms: i64) -> BoxFuture<'a, Result<bool>>;

    /// Shows all rows and sets the mark, or does neither.
    fn deliver<'a>(&'a self, mark: &'a Mark, rows: Shares<'a>) -> BoxFuture<'a, Result<()>>;
}

/// One table on one lane.
pub(super) struct RowSink {
    table: TableSpec,
    target: Arc<dyn Target>,
    folder: Folder,
    context: SinkContext,
    /// As they will be stored.
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// How many of the table's rows became those.
    taken: u64,
    /// What was written since the last barrier.
    spilled: Vec<JoinHandle<Result<(Name, u64, u64)>>>,
    written: u64,
}

impl RowSink {
    pub fn open(
        table: &TableSpec,
        target: Arc<dyn Target>,
        context: &SinkContext,
    ) -> Result<RowSink> {
        Ok(RowSink {
            folder: Folder::of(table, context)?,
            table: table.clone(),
            target,
            context: context.clone(),
            rows: Vec::new(),
            bytes: 0,
            taken: 0,
            spilled: Vec::new(),
            written: 0,
        })
    }

    fn take(&mut self, batch: RecordBatch, carried: bool) -> Result<Rejected> {
        let name = self.table.name.clone();
        let place = |error: Error| error.at(format!("table '{name}'"));
        let (rows, kinds) = split_kinds(batch).map_err(place)?;
        expect_columns(&self.table, &rows, carried)?;
        let mut all_rejected = Rejected::new();
        for first in (0..rows.num_rows()).step_by(MOST_ROWS) {
            let count = MOST_ROWS.min(rows.num_rows() - first);
            let kinds = kinds.as_ref().map(|kinds| kinds.slice(first, count));
            let shaped = self.target.shape(rows.slice(first, count), kinds.as_ref());
            let Shaped { stored, rejected } = shaped.map_err(place)?;
            let refused: usize = rejected.iter().map(|(rows, _)| rows.num_rows()).sum();
            self.taken += (count - refused) as u64;
            if stored.num_rows() > 0 {
                self.bytes += slice_bytes(&stored);
                self.rows.push(stored);
            }
            if self.bytes >= SPILL_BYTES {
                self.spill()?;
            }
            all_rejected.extend(rejected);
        }
        Ok(all_rejected)
    }

    /// Sends what is here to the folder; waits while too much is under way.
    fn spill(&mut self) -> Result<()> {
        let taken = std::mem::take(&mut self.taken);
        if taken == 0 {
            return Ok(());
        }
        let rows = self.target.reduce(std::mem::take(&mut self.rows))?;
        let SinkContext {
            owner,
            lane,
            uploads,
            runtime,
            ..
        } = &self.context;
        let name = Name {
            owner: owner.clone(),
            lane: *lane,
            // Rows that leave nothing to deliver are in no blob, but they count.
            number: (!rows.is_empty()).then(|| uploads.next_number()),
        };
        let room = uploads.reserve(std::mem::take(&mut self.bytes));
        let folder = self.folder.clone();
        self.spilled.push(runtime.spawn(async move {
            let bytes = folder.write(&name, rows).await?;
            drop(room);
            Ok((name, taken, bytes))
        }));
        Ok(())
    }
}

impl Sink for RowSink {
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected> {
        self.written += batch.num_rows() as u64;
        self.take(batch, false)
    }

    fn restore(&mut self, carried: RecordBatch) -> Result<()> {
        match self.take(carried, true)?.first() {
            None => Ok(()),
            Some((_, why)) => Err(Error::job(format!(
                "table '{}': a row that the checkpoint carries cannot be delivered: {why}; stop the job with its old text first, then \
                 start it with the new one",
                self.table.name
            ))),
        }
    }

    fn stage(&mut self, epoch: u64, _close: bool) -> Result<Staging> {
        self.spill()?;
        let tokens = std::mem::take(&mut self.spilled)
            .into_iter()
            .map(|spilled| {
                let ended = |error| Error::retry("an upload was broken off").caused_by(error);
                async move {
                    let (name, rows, bytes) = spilled.await.map_err(ended)??;
                    Ok(Token {
                        name: name.in_epoch(epoch),
                        rows,
                        bytes,
                    })
                }
                .boxed()
            })
            .collect();
        Ok(Staging {
            tokens,
            carry: Carry::default(),
            written: std::mem::take(&mut self.written),
        })
    }

    fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) -> Result<()> {
        self.spill()
    }
}

/// The table's own columns, and what each row does where a hidden column says it.
fn split_kinds(mut batch: RecordBatch) -> Result<(RecordBatch, Option<Int8Array>)> {
    let Ok(index) = batch.schema_ref().index_of(hidden::KIND) else {
        return Ok((batch, None));
    };
    let kinds = batch.remove_column(index);
    match kinds.as_primitive_opt::<Int8Type>() {
        Some(kinds) if kinds.null_count() == 0 => Ok((batch, Some(kinds.clone()))),
        _ => Err(Error::bug(format!(
            "the column '{}' is a {}, or has NULLs",
            hidden::KIND,
            kinds.data_type()
        ))),
    }
}
