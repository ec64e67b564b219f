//! The connector `tributary-json-file`: a document that several tables fill, rewritten whole.
//!
//! Each table has a heading of the document, with the last row of each of its keys. What is exact is not the document but the table's
//! *part* of it, beside the checkpoints: one object for each epoch that was delivered, made once and never changed, with the mark in
//! its name. The highest epoch counts. A new part is the one before with the rows of the epoch, so whoever makes it makes the same. The
//! document is then put together of the newest parts of all tables that name its path, and replaces the old one in one step.
//!
//! Guarantee: a reader sees an old document or a new one, never half of one, and each row counts once. A process that dies between part and
//! document leaves the document to the next start, which puts it together before anything else. A process that was frozen can write an old
//! document once more, but no old part over a new one: it looks for newer parts behind its write, and mends the document.

mod document;
mod parts;
mod target;
#[cfg(test)]
mod tests;

use super::rows::{RowPublisher, RowSink};
use super::{Publisher, Sink, SinkContext, TableSpec};
use crate::error::Result;
use crate::sql::connectors::json_file::{HEADING, PATH};
use crate::store;
use std::collections::BTreeMap;
use std::sync::Arc;
use target::{JsonFileTarget, Layout};

/// Refuses a table that could not be written.
pub(super) fn check(table: &TableSpec) -> Result<()> {
    Layout::of(table).map(drop)
}

/// Refuses tables that would hide each other in one document.
pub(super) fn check_together(tables: &[TableSpec]) -> Result<()> {
    let mut seen: BTreeMap<String, Vec<(&TableSpec, Layout)>> = BTreeMap::new();
    for table in tables {
        if table.get("connector") != Some("tributary-json-file") {
            continue;
        }
        let layout = Layout::of(table)?;
        let others = seen.entry(store::place(&layout.path)).or_default();
        for (other, known) in others.iter() {
            if known.heading == layout.heading {
                return Err(table.refuse(
                    HEADING,
                    format!(
                        "the table '{}' has the heading '{}' of the same document: give each table another one",
                        other.name, layout.heading
                    ),
                ));
            }
            // What belongs to a document is known by its path as it is written.
            if known.path != layout.path {
                return Err(table.refuse(
                    PATH,
                    format!(
                        "the table '{}' names the same document '{}': write the path alike",
                        other.name, known.path
                    ),
                ));
            }
        }
        others.push((table, layout));
    }
    Ok(())
}

pub(super) fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let target = Arc::new(JsonFileTarget::of(table, context)?);
    Ok(Box::new(RowSink::open(table, target, context)?))
}

pub(super) fn publisher(table: &TableSpec, context: &SinkContext) -> Result<Arc<dyn Publisher>> {
    let target = Arc::new(JsonFileTarget::of(table, context)?);
    Ok(Arc::new(RowPublisher::new(table, target, context)?))
}
