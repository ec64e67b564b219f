//! The connector `mongodb` as a table that is written.
//!
//! Rows become documents on their lanes (`document`), are stored with the epoch (`rows`), and are written once it is committed, in
//! batches (`batch`). A standalone server has no transactions, so rows and mark cannot be set together. They need not be: writing an
//! epoch again, wholly or in part, changes nothing. Only then is the mark set, in a document of the collection `_tributary`, which also
//! names the owner that delivers now.
//!
//! **New rows** (no primary key) have an `_id` made of table, epoch, owner, lane and ordinal. It is the same whoever inserts the row, and
//! MongoDB takes it once.
//!
//! **Upserts** (with a primary key) carry a version that grows with every row that is delivered: its epoch, and its place in the epoch.
//! A document is changed only by the same version or a higher one, which the server decides as it writes. So what comes twice, late, or
//! from a process that was frozen while another went on, changes nothing: the highest version of a key stays.
//!
//! **Deletions** remove the very thing that holds the version, and behind one an old upsert would find nothing in its way. So with
//! `exactly-once` a deletion leaves a tombstone: `_id`, `_version` and `_deleted`, the time, by which the server removes it after an
//! hour. It is one more upsert, and all that is said above holds for it: also a frozen process, if it wakes within the hour,
//! brings no row back. With `at-least-once` rows are removed for good at once. A repeated epoch does the same things in the same order and ends the
//! same. What remains is a process that was frozen between its look at the owner and its command, and wakes behind
//! the deletion of one of its keys: its old row stays until the key changes again.
//!
//! **Epochs that begin anew**, because a job starts with an empty checkpoint folder, would have lower versions than what is there.
//! So the mark also says behind which number epochs are counted, and a mark with a higher epoch than the one to deliver moves that number.

mod batch;
mod document;
mod fault;
mod line;
mod options;
mod target;
#[cfg(test)]
mod tests;

use super::rows::{RowPublisher, RowSink};
use super::{Publisher, Sink, SinkContext, TableSpec};
use crate::error::Result;
use document::Encoder;
use options::Settings;
use std::sync::Arc;
use target::MongoTarget;

/// Refuses a table that could not be written.
pub(super) fn check(table: &TableSpec) -> Result<()> {
    Settings::of(table, "job")?;
    Encoder::of(table).map(drop)
}

pub(super) fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let target = Arc::new(MongoTarget::of(table, context)?);
    Ok(Box::new(RowSink::open(table, target, context)?))
}

pub(super) fn publisher(table: &TableSpec, context: &SinkContext) -> Result<Arc<dyn Publisher>> {
    let target = Arc::new(MongoTarget::of(table, context)?);
    Ok(Arc::new(RowPublisher::new(table, target, context)?))
}
