//! Expressions over a batch, as whole columns.

use crate::error::{Error, Result};
use crate::operator::hidden;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// One expression's column; a constant is repeated for every row.
pub(super) fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?)
}

pub(super) fn evaluate_all(
    exprs: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| evaluate(expr, batch)).collect()
}

/// A predicate's column. NULL is left as it is: the kernels that filter take it for false.
pub(super) fn evaluate_predicate(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<BooleanArray> {
    Ok(as_boolean_array(&evaluate(expr, batch)?)?.clone())
}

/// An expression for a moment of event time, as milliseconds since 1970.
pub(super) fn evaluate_millis(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<Int64Array> {
    let column = evaluate(expr, batch)?;
    match column.data_type() {
        DataType::Int64 => Ok(column.as_primitive::<Int64Type>().clone()),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(column
            .as_primitive::<TimestampMillisecondType>()
            .reinterpret_cast::<Int64Type>()),
        other => Err(Error::bug(format!(
            "the event time {expr} is planned as {other}, not in milliseconds"
        ))),
    }
}

/// The hidden watermark column, where the rows have one.
pub(super) fn row_watermarks(batch: &RecordBatch, at: Option<usize>) -> Result<Option<Int64Array>> {
    let Some(at) = at else { return Ok(None) };
    match batch.column(at).as_primitive_opt::<Int64Type>() {
        Some(column) => Ok(Some(column.clone())),
        None => Err(Error::bug(format!(
            "the hidden column {} is not BIGINT but {}",
            hidden::WATERMARK,
            batch.column(at).data_type()
        ))),
    }
}

/// A batch of the given schema. Expressions may disagree with the plan about the names and the nullability inside nested
/// types, which changes no value; a different type is an error.
pub(super) fn batch_of(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() && alike(column.data_type(), field.data_type()) {
            *column = cast(column, field.data_type())?;
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &options,
    )?)
}

/// Whether two types hold the same values, whatever their inner fields are called.
fn alike(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => {
            alike(a.data_type(), b.data_type())
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| alike(a.data_type(), b.data_type()))
        }
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => a == b,
        (a, b) => a == b,
    }
}

/// The columns of a batch that a job sees.
pub(super) fn visible(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns()[..schema.fields().len()].to_vec();
    batch_of(schema, columns, batch.num_rows())
}

/// The schema without its hidden columns.
pub(super) fn visible_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields()[..hidden::visible(schema)].to_vec(),
    ))
}
