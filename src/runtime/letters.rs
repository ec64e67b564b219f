//! Rows that could not be used, on their way to the dead-letter table.

use super::splits::{SplitNames, SplitView};
use crate::decode::Reason;
use crate::decode::dead_letters::{DeadLetter, DeadLetters, Origin, rows_as_json};
use crate::error::{Error, Result};
use crate::operator::hidden;
use crate::source::Records;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which table takes whose letters.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The table that every job has.
    pub usual: String,
    /// By the table that is read: another table of the job, where the source names one.
    pub own: BTreeMap<String, String>,
    /// The columns of those tables, by their names.
    pub schemas: BTreeMap<String, SchemaRef>,
}

/// The letters of one lane since they were last taken, and how many there were for each source and reason.
pub struct Letters {
    addresses: Arc<Addresses>,
    waiting: BTreeMap<String, DeadLetters>,
    counts: BTreeMap<(String, Reason), u64>,
}

impl Letters {
    pub fn new(addresses: Arc<Addresses>) -> Self {
        Letters {
            addresses,
            waiting: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    fn push(&mut self, letter: &DeadLetter) {
        let own = self.addresses.own.get(&letter.source);
        let table = own.unwrap_or(&self.addresses.usual).clone();
        self.push_to(table, letter);
    }

    fn push_to(&mut self, table: String, letter: &DeadLetter) {
        let key = (letter.source.clone(), letter.reason);
        *self.counts.entry(key).or_default() += 1;
        self.waiting.entry(table).or_default().push(letter);
    }

    /// A record that is refused whole; it keeps its bytes.
    pub fn record(
        &mut self,
        reason: Reason,
        error: String,
        table: &str,
        split: &SplitView,
        records: &Records,
        record: usize,
    ) {
        let timestamp = records.timestamps[record];
        self.push(&DeadLetter {
            reason,
            error,
            source: table.to_string(),
            topic: split.split.topic.to_string(),
            partition: split.split.partition,
            offset: records.offsets[record],
            timestamp: (timestamp >= 0).then_some(timestamp),
            key: records.key(record).map(<[u8]>::to_vec),
            value: records.value(record).map(<[u8]>::to_vec),
        });
    }

    /// A row that has no bytes of its own; its value is kept as JSON.
    pub fn row(
        &mut self,
        reason: Reason,
        error: String,
        table: &str,
        split: &SplitView,
        offset: i64,
        value: Option<Vec<u8>>,
    ) {
        self.push(&DeadLetter {
            reason,
            error,
            source: table.to_string(),
            topic: split.split.topic.to_string(),
            partition: split.split.partition,
            offset,
            timestamp: None,
            key: None,
            value,
        });
    }

    /// Rows that an operator could not take. Their hidden columns say where they came from, if they came straight from
    /// a source; of others it is known at best which split this lane reads (`origin`), or they are named by the operator alone.
    pub fn left_out(
        &mut self,
        reason: Reason,
        (operator, why): (&str, &str),
        rows: &RecordBatch,
        splits: &SplitNames,
        origin: Option<Origin>,
    ) -> Result<()> {
        let ordinals = rows
            .column_by_name(hidden::SPLIT)
            .map(|c| c.as_primitive::<Int32Type>());
        let offsets = rows
            .column_by_name(hidden::OFFSET)
            .map(|c| c.as_primitive::<Int64Type>());
        for (row, value) in rows_as_json(rows)?.into_iter().enumerate() {
            let own = ordinals.and_then(|ordinals| splits.origin(ordinals.value(row)));
            let origin = own.or_else(|| origin.clone()).unwrap_or_else(|| Origin {
                source: operator.to_string(),
                topic: String::new(),
                partition: -1,
            });
            self.push(&DeadLetter {
                reason,
                error: format!("{operator}: {why}"),
                source: origin.source,
                topic: origin.topic,
                partition: origin.partition,
                offset: offsets.map_or(-1, |offsets| offsets.value(row)),
                timestamp: None,
                key: None,
                value: Some(value),
            });
        }
        Ok(())
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Rows that a table cannot hold. `origin` is where they come from, if no operator with state stands between; which
    /// record each was is not known so far behind it.
    pub fn rejected(
        &mut self,
        table: &str,
        why: &str,
        rows: &RecordBatch,
        origin: Option<Origin>,
    ) -> Result<()> {
        let origin = origin.unwrap_or_else(|| Origin {
            source: table.to_string(),
            topic: String::new(),
            partition: -1,
        });
        for value in rows_as_json(rows)? {
            self.push(&sink_letter(table, why, &origin, value));
        }
        Ok(())
    }

    /// Letters that the table of their source cannot hold go to the usual one. That takes every letter: it has one folder for each day.
    pub fn returned(&mut self, table: &str, why: &str, rows: &RecordBatch) -> Result<()> {
        if table == self.addresses.usual {
            return Err(Error::bug(format!(
                "the table of dead letters refused a letter: {why}"
            )));
        }
        let origin = Origin {
            source: table.to_string(),
            topic: String::new(),
            partition: -1,
        };
        for value in rows_as_json(rows)? {
            let letter = sink_letter(table, why, &origin, value);
            self.push_to(self.addresses.usual.clone(), &letter);
        }
        Ok(())
    }

    /// Everything so far, as rows of the tables that take them, for one day.
    pub fn take(&mut self, day: &str) -> Result<Vec<(String, RecordBatch)>> {
        let mut taken = Vec::new();
        for (table, mut letters) in std::mem::take(&mut self.waiting) {
            let rows = letters.finish(day)?;
            let rows = match self.addresses.schemas.get(&table) {
                Some(schema) => chosen(&rows, schema, &table)?,
                None => rows,
            };
            taken.push((table, rows));
        }
        Ok(taken)
    }

    pub fn take_counts(&mut self) -> BTreeMap<(String, Reason), u64> {
        std::mem::take(&mut self.counts)
    }
}

fn sink_letter(table: &str, why: &str, origin: &Origin, value: Vec<u8>) -> DeadLetter {
    let Origin {
        source,
        topic,
        partition,
    } = origin.clone();
    DeadLetter {
        reason: Reason::Sink,
        error: format!("table '{table}': {why}"),
        source,
        topic,
        partition,
        offset: -1,
        timestamp: None,
        key: None,
        value: Some(value),
    }
}

/// The columns of letters that a table of the job has, in its types.
fn chosen(letters: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = letters.column_by_name(field.name()).ok_or_else(|| {
            Error::bug(format!(
                "dead letters have no column '{}' for '{table}'",
                field.name()
            ))
        })?;
        Ok(cast(column, field.data_type())?)
    });
    Ok(RecordBatch::try_new(
        Arc::clone(schema),
        columns.collect::<Result<Vec<_>>>()?,
    )?)
}

impl SplitNames {
    /// Where the rows of a split come from.
    pub fn origin(&self, ordinal: i32) -> Option<Origin> {
        let (table, split) = self.0.get(usize::try_from(ordinal).ok()?)?;
        Some(Origin {
            source: table.to_string(),
            topic: split.topic.to_string(),
            partition: split.partition,
        })
    }
}

/// How many different records the rows came from; rows of one record stand together.
pub fn distinct_runs(origin: &[u32]) -> u64 {
    let runs = origin.windows(2).filter(|pair| pair[0] != pair[1]).count();
    (runs + usize::from(!origin.is_empty())) as u64
}
