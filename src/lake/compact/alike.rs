//! Which files can become one without a change to any column.

use super::rows::Input;
use crate::error::Result;
use crate::sink::{ParquetFormat, TableSpec};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use std::sync::Arc;

/// The files that look as the sink would write them, in the columns of all of them together, and how to write those. A column that a file does not
/// have is NULL in it, as it is for rows that are older than the column. None where there are no two such files.
pub fn alike(table: &TableSpec, inputs: Vec<Input>) -> Result<Option<(Vec<Input>, ParquetFormat)>> {
    let mut ours = Vec::new();
    for input in inputs {
        if is_ours(table, &input)? {
            ours.push(input);
        }
    }
    // The newest of those with the most columns has them in the table's order.
    let Some(widest) = ours
        .iter()
        .max_by_key(|input| columns(input).fields().len())
    else {
        return Ok(None);
    };
    let mut fields: Vec<FieldRef> = columns(widest).fields().to_vec();
    let mut fitting = Vec::new();
    for input in ours {
        let theirs = columns(&input).fields();
        let clash = theirs.iter().any(|field| {
            let same = fields.iter().find(|known| known.name() == field.name());
            same.is_some_and(|known| known.data_type() != field.data_type())
        });
        if !clash {
            for field in theirs {
                if !fields.iter().any(|known| known.name() == field.name()) {
                    fields.push(Arc::clone(field));
                }
            }
            fitting.push(input);
        }
    }
    if fitting.len() < 2 {
        return Ok(None);
    }
    Ok(Some((
        fitting,
        format(table, Arc::new(Schema::new(fields)))?,
    )))
}

/// How files with these columns are written.
fn format(table: &TableSpec, schema: SchemaRef) -> Result<ParquetFormat> {
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let table = TableSpec {
        schema,
        ..table.clone()
    };
    ParquetFormat::of(&table, &columns)
}

fn columns(input: &Input) -> &SchemaRef {
    input.metadata.schema()
}

/// Whether a file, written again, has every column as it has it now. (That a column may be NULL is no difference to its readers.)
fn is_ours(table: &TableSpec, input: &Input) -> Result<bool> {
    let Ok(again) = format(table, Arc::clone(columns(input)))?.parquet_schema() else {
        return Ok(false);
    };
    let now = input.metadata.parquet_schema();
    let same = |(a, b)| is_same(a, b);
    Ok(leaves(now) == leaves(&again) && now.columns().iter().zip(again.columns()).all(same))
}

fn leaves(schema: &SchemaDescriptor) -> usize {
    schema.num_columns()
}

fn is_same(a: &Arc<ColumnDescriptor>, b: &Arc<ColumnDescriptor>) -> bool {
    // Older writers have only the older of the two ways to say what a value means.
    let meaning = match (a.logical_type_ref(), b.logical_type_ref()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.path() == b.path()
        && a.physical_type() == b.physical_type()
        && a.converted_type() == b.converted_type()
        && a.type_length() == b.type_length()
        && a.type_precision() == b.type_precision()
        && a.type_scale() == b.type_scale()
        && meaning
}
