//! State that comes back must be what the operator itself would have kept.
//!
//! The engine gives a node only state of a node that did the same (see `plan::meaning`); this is asked once more here, because the
//! accumulators take whatever columns they are given for their own, and panic when they are others.

use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// State for an operator that has no such part: the checkpoint belongs to another job.
pub(super) fn unknown_part(operator: &str, part: &str) -> Error {
    Error::job(format!(
        "the checkpoint holds state '{part}', which {operator} does not have: {WAYS_OUT}"
    ))
}

/// State as rows with these columns. The types are those that the columns have: an accumulator may name what is inside a list otherwise
/// than it announces.
pub(super) fn rows_of(wanted: &[Field], columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let rows = columns.first().map_or(0, |column| column.len());
    rows_of_len(wanted, columns, rows)
}

/// The same where there may be no column to tell how many rows there are.
pub(super) fn rows_of_len(
    wanted: &[Field],
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let fields = wanted.iter().zip(&columns);
    let fields =
        fields.map(|(field, column)| field.clone().with_data_type(column.data_type().clone()));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::new(schema),
        columns,
        &options,
    )?)
}

/// Refuses rows that do not have these columns, by name and type.
pub(super) fn expect_columns(part: &str, rows: &RecordBatch, wanted: &[Field]) -> Result<()> {
    let schema = rows.schema();
    let same = schema.fields().len() == wanted.len()
        && schema.fields().iter().zip(wanted).all(|(found, wanted)| {
            found.name() == wanted.name() && found.data_type().equals_datatype(wanted.data_type())
        });
    if same {
        return Ok(());
    }
    Err(Error::job(format!(
        "the checkpoint holds state '{part}' with the columns {}, and the query needs {}: {WAYS_OUT}",
        shown(schema.fields().iter().map(AsRef::as_ref)),
        shown(wanted.iter()),
    )))
}

const WAYS_OUT: &str = "the query was changed since. Take the change back, or run the old job file with --bounded first, which closes \
     every window, or start afresh with another 'execution.checkpointing.dir' and another lake";

fn shown<'a>(fields: impl Iterator<Item = &'a Field>) -> String {
    let column = |field: &Field| format!("{} {}", field.name(), field.data_type());
    fields.map(column).collect::<Vec<_>>().join(", ")
}

/// A column of state by its name and type; whether it is NULL does not matter.
pub(super) fn column(name: impl Into<String>, data_type: &DataType) -> Field {
    Field::new(name, data_type.clone(), true)
}
