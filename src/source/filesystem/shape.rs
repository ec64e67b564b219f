//! The columns of a table of files: some are in the files, those that it is partitioned by are in their paths.

use super::files::partition_value;
use super::fit::STRICT;
use crate::catalog::hive::NULL_PARTITION;
use crate::error::{Error, Result};
use crate::plan::Scan;
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use arrow::compute::cast_with_options;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// What is read of a table.
#[derive(Debug, Clone)]
pub struct Shape {
    pub schema: SchemaRef,
    pub partitioned_by: Arc<[String]>,
    /// Stands in a path for NULL.
    default_partition: Arc<str>,
}

impl Shape {
    pub fn of(scan: &Scan) -> Shape {
        let default = scan.table.options.get("partition.default-name");
        Shape {
            schema: Arc::clone(&scan.decoded),
            partitioned_by: scan.table.partitioned_by.clone().into(),
            default_partition: default.unwrap_or(NULL_PARTITION).into(),
        }
    }

    pub fn is_in_path(&self, column: &str) -> bool {
        self.partitioned_by.iter().any(|name| name == column)
    }

    /// The columns that are in the files.
    pub fn in_files(&self) -> SchemaRef {
        let fields = self.schema.fields().iter();
        let fields = fields.filter(|field| !self.is_in_path(field.name()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    /// Adds what the path says to the columns that were in the file.
    pub fn complete(&self, batch: &RecordBatch, path: &str) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut in_file = batch.columns().iter();
        let columns = self.schema.fields().iter().map(|field| {
            if self.is_in_path(field.name()) {
                return self.in_path(field, path, rows);
            }
            let column = in_file.next().cloned();
            column.ok_or_else(|| Error::bug("a file gave too few columns"))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// The value that the path has for a column, for all rows.
    pub fn in_path(&self, field: &FieldRef, path: &str, rows: usize) -> Result<ArrayRef> {
        let name = field.name();
        let value = partition_value(path, name).ok_or_else(|| {
            Error::data(format!(
                "its path has no '{name}=...', by which the table is partitioned"
            ))
        })?;
        let null = value == *self.default_partition || value == NULL_PARTITION;
        if null && !field.is_nullable() {
            let what = format!("its path says that '{name}' is NULL, but the column is NOT NULL");
            return Err(Error::data(what));
        }
        let one: ArrayRef = Arc::new(StringArray::from(vec![(!null).then_some(value)]));
        let one = of_text(&one, field)?;
        Ok(arrow::compute::take(
            &one,
            &UInt32Array::from(vec![0; rows]),
            None,
        )?)
    }
}

/// A text of a path in the type that the table declares.
fn of_text(text: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    cast_with_options(text, field.data_type(), &STRICT).map_err(|error| {
        Error::data(format!(
            "what its path says of column '{}' is no {}",
            field.name(),
            field.data_type()
        ))
        .caused_by(error)
    })
}
