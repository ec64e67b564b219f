//! The connectors `kafka` and `upsert-kafka` as tables that are written.
//!
//! Rows become records on their lanes (`records`), are stored with the epoch (`rows`), and are produced once it is committed. With
//! `exactly-once` that is one transaction, which also commits the epoch's mark as the metadata of an offset, in a consumer group of the
//! table's own on partition 0 of its topic. Whoever starts fences older producers first, then reads the mark. A mark that
//! has expired with its group is made up for by the headers of the records themselves.
//!
//! Guarantee: a reader of committed transactions sees each row once. With `at-least-once` there are no transactions, and rows
//! can come again after a crash or an outage.

#[cfg(test)]
mod avro_tests;
mod fault;
#[cfg(test)]
mod limit_tests;
mod line;
mod options;
mod records;
mod schemas;
mod tail;
mod target;
#[cfg(test)]
mod tests;

use super::rows::{RowPublisher, RowSink};
use super::{Publisher, Sink, SinkContext, TableSpec};
use crate::error::Result;
use options::Settings;
use records::Encoder;
use std::sync::Arc;
use target::KafkaTarget;

/// Refuses a table that could not be written.
pub(super) fn check(table: &TableSpec) -> Result<()> {
    Settings::of(table, "job")?;
    Encoder::of(table).map(drop)
}

pub(super) fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let target = KafkaTarget::of(table, context)?;
    Ok(Box::new(RowSink::open(table, Arc::new(target), context)?))
}

pub(super) fn publisher(table: &TableSpec, context: &SinkContext) -> Result<Arc<dyn Publisher>> {
    let target = KafkaTarget::of(table, context)?;
    Ok(Arc::new(RowPublisher::new(
        table,
        Arc::new(target),
        context,
    )?))
}
