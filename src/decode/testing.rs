//! What the tests of the formats share: a table, records, and the rows that came out as JSON.

use super::dead_letters::rows_as_json;
use super::{Decoded, Decoder};
use crate::source::Records;
use crate::sql::{Options, Table};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use std::sync::Arc;

pub fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

pub fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, data_type)| field(name, data_type.clone()))
            .collect::<Vec<_>>(),
    ))
}

/// A table with these columns and options.
pub fn table(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> Table {
    let columns = columns.iter().cloned();
    Table::of("t", columns, Options::of(options.iter().copied()))
}

/// A decoder for all columns of a table, none of them NOT NULL.
pub fn decoder(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> Box<dyn Decoder> {
    super::open(
        &table(columns, options),
        schema(columns),
        &vec![false; columns.len()],
    )
    .unwrap()
}

pub fn records<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Records {
    let mut records = Records::default();
    for (offset, value) in values.into_iter().enumerate() {
        records.push(offset as i64, -1, None, Some(value.as_ref()));
    }
    records
}

/// The rows as JSON, one line each.
pub fn lines(decoded: &Decoded) -> Vec<String> {
    assert_eq!(decoded.origin.len(), decoded.batch.num_rows());
    let lines = rows_as_json(&decoded.batch).unwrap();
    lines
        .into_iter()
        .map(|line| String::from_utf8(line).unwrap())
        .collect()
}

/// Decodes one value into one column named `v`: what it became, as JSON, or the error.
pub fn one(data_type: DataType, options: &[(&str, &str)], value: &str) -> Result<String, String> {
    let decoded = decoder(&[("v", data_type)], options)
        .decode(&records([value]))
        .unwrap();
    match decoded.bad.first() {
        Some(bad) => Err(bad.error.clone()),
        None => Ok(lines(&decoded).concat()),
    }
}
