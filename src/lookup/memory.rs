//! A table in memory that a test feeds, to look rows up in.
//!
//! It has the rows of the records that were put in so far. With a PRIMARY KEY a later record replaces one with the same key.

use super::Lookup;
use super::index::KeyIndex;
use crate::decode::{self, Decoder};
use crate::error::{Error, Result};
use crate::operator::keys::{KeyEncoder, KeyNumbers};
use crate::operator::lookup::Found;
use crate::plan::LookupJoin;
use crate::source::memory::MemoryTable;
use crate::sql::{ColumnKind, Options, Table};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// Looks rows up among a test's records.
pub struct MemoryLookup {
    name: String,
    table: MemoryTable,
    decoder: Box<dyn Decoder>,
    /// Which of the decoded columns are read, which are the keys, and which the primary key.
    read: Vec<usize>,
    keys: Vec<usize>,
    primary: Vec<usize>,
}

impl MemoryLookup {
    pub fn new(join: &LookupJoin, table: MemoryTable) -> Result<MemoryLookup> {
        let declared = &join.table;
        let mut fields = Vec::new();
        let mut required = Vec::new();
        for column in &declared.columns {
            if let ColumnKind::Physical {
                data_type,
                not_null,
            } = &column.kind
            {
                fields.push(Field::new(&column.name, data_type.clone(), !not_null));
                required.push(*not_null);
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let place = |name: &str| schema.index_of(name).map_err(Error::from);
        let read = join.read.fields().iter();
        let keys = join.keys.iter().map(|key| join.read.field(key.column));
        let decoder = match declared.options.get("format") {
            Some(_) => decode::open(declared, Arc::clone(&schema), &required)?,
            // What stands for a table of another connector has no format of its own.
            None => {
                let json = Options::of([("connector", "memory"), ("format", "json")]);
                let columns = schema.fields().iter();
                let columns =
                    columns.map(|field| (field.name().as_str(), field.data_type().clone()));
                let table = Table::of(&declared.name, columns, json);
                decode::open(&table, Arc::clone(&schema), &required)?
            }
        };
        Ok(MemoryLookup {
            name: declared.name.clone(),
            table,
            decoder,
            read: read
                .map(|field| place(field.name()))
                .collect::<Result<_>>()?,
            keys: keys
                .map(|field| place(field.name()))
                .collect::<Result<_>>()?,
            primary: declared
                .primary_key
                .iter()
                .map(|name| place(name))
                .collect::<Result<_>>()?,
        })
    }

    /// What the table holds at this moment.
    fn rows(&mut self) -> Result<RecordBatch> {
        let decoded = self.decoder.decode(&self.table.all())?;
        if let Some(bad) = decoded.bad.first() {
            return Err(Error::data(format!(
                "table '{}': record {} cannot be looked up: {}",
                self.name, bad.record, bad.error
            )));
        }
        let rows = decoded.batch;
        if self.primary.is_empty() {
            return Ok(rows);
        }
        let columns: Vec<ArrayRef> = columns(&rows, &self.primary);
        let types: Vec<_> = columns.iter().map(|key| key.data_type().clone()).collect();
        let encoder = KeyEncoder::new(&types)?;
        let encoded = encoder.encode(&columns, rows.num_rows())?;
        let mut numbers = KeyNumbers::new(&encoder);
        let mut last = Vec::new();
        for row in 0..rows.num_rows() {
            let number = numbers.number(&encoded, row);
            match last.get_mut(number) {
                Some(last) => *last = row as u32,
                None => last.push(row as u32),
            }
        }
        Ok(take_record_batch(&rows, &UInt32Array::from(last))?)
    }
}

fn columns(rows: &RecordBatch, places: &[usize]) -> Vec<ArrayRef> {
    let column = |place: &usize| Arc::clone(rows.column(*place));
    places.iter().map(column).collect()
}

impl Lookup for MemoryLookup {
    fn find(&mut self, keys: &RecordBatch) -> Result<Found> {
        let rows = self.rows()?;
        let numbers = KeyIndex::of(keys)?.numbers(&columns(&rows, &self.keys), rows.num_rows())?;
        let matched = numbers.iter().enumerate();
        let matched = matched.filter_map(|(row, key)| Some((row as u32, (*key)?)));
        let (chosen, keys): (Vec<u32>, Vec<u32>) = matched.unzip();
        let chosen = take_record_batch(&rows.project(&self.read)?, &UInt32Array::from(chosen))?;
        Ok(Found {
            rows: chosen,
            keys,
            unreadable: Vec::new(),
        })
    }
}
