//! What a table holds in the end, after all that was written into it: rows that results took back again are not there any more.

use super::compare::canonical;
use crate::decode::dead_letters::rows_as_json;
use crate::error::{Error, Result};
use crate::operator::changes::{self, Kind};
use crate::plan::{Graph, Op};
use arrow::record_batch::RecordBatch;
use serde_json::Value;
use std::collections::BTreeMap;

/// The rows of one table, while they are written.
pub struct Held {
    table: String,
    primary_key: Vec<String>,
    rows: Vec<String>,
    /// Of a table with a primary key that takes changes: the row of each key.
    by_key: BTreeMap<String, String>,
    /// Of one without: how often each row is there.
    counts: BTreeMap<String, i64>,
}

impl Held {
    pub fn of(graph: &Graph, table: &str) -> Held {
        let primary_key = graph.nodes.iter().find_map(|node| match &node.op {
            Op::Sink(sink) if sink.table.name == table => Some(sink.table.primary_key.clone()),
            _ => None,
        });
        Held {
            table: table.to_owned(),
            primary_key: primary_key.unwrap_or_default(),
            rows: Vec::new(),
            by_key: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    pub fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let (kinds, batch) = changes::split(batch)?;
        for (at, row) in rows_as_json(&batch)?.into_iter().enumerate() {
            let row = canonical(&String::from_utf8_lossy(&row))?;
            match kinds.as_ref().map(|kinds| kinds[at]) {
                None => self.rows.push(row),
                Some(kind) => self.change(row, kind)?,
            }
        }
        Ok(())
    }

    fn change(&mut self, row: String, kind: Kind) -> Result<()> {
        if self.primary_key.is_empty() {
            *self.counts.entry(row).or_default() += if kind.adds() { 1 } else { -1 };
            return Ok(());
        }
        let fields: Value = serde_json::from_str(&row)
            .map_err(|error| Error::bug("a row is no JSON").caused_by(error))?;
        let values = self.primary_key.iter().map(|name| fields[name].to_string());
        let key = values.collect::<Vec<_>>().join(",");
        match kind.adds() {
            true => self.by_key.insert(key, row),
            false => self.by_key.remove(&key),
        };
        Ok(())
    }

    /// The rows that are there.
    pub fn finish(self) -> Result<Vec<String>> {
        let mut rows = self.rows;
        rows.extend(self.by_key.into_values());
        for (row, count) in self.counts {
            let count = usize::try_from(count).map_err(|_| {
                Error::data(format!(
                    "table '{}': a row was taken back more often than it was given: {row}",
                    self.table
                ))
            })?;
            rows.extend(std::iter::repeat_n(row, count));
        }
        Ok(rows)
    }
}
