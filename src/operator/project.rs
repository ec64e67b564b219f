//! Stateless steps: new columns out of a batch's, and fewer rows.

use crate::error::Result;
use crate::operator::expr::{batch_of, evaluate_all, evaluate_predicate};
use crate::operator::state::unknown_part;
use crate::operator::{Operator, Output, Snapshot};
use crate::time::Progress;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Computes every column of its output by an expression.
pub struct Project {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

/// Keeps the rows for which a predicate is true, and counts the others.
pub struct Filter {
    predicate: Arc<dyn PhysicalExpr>,
}

impl Project {
    pub fn new(exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Self {
        Project { exprs, schema }
    }
}

impl Filter {
    pub fn new(predicate: Arc<dyn PhysicalExpr>) -> Self {
        Filter { predicate }
    }
}

impl Operator for Project {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let columns = evaluate_all(&self.exprs, &batch)?;
        out.used += batch.num_rows() as u64;
        out.batches
            .push(batch_of(&self.schema, columns, batch.num_rows())?);
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], _out: &mut Output) -> Result<Progress> {
        Ok(Progress::combine(progress))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::new())
    }

    fn restore(&mut self, part: &str, _rows: RecordBatch) -> Result<()> {
        Err(unknown_part("a projection", part))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}

impl Operator for Filter {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let keep = evaluate_predicate(&self.predicate, &batch)?;
        let kept = keep.true_count();
        out.used += kept as u64;
        out.filtered += (batch.num_rows() - kept) as u64;
        if kept == batch.num_rows() {
            out.batches.push(batch);
        } else if kept > 0 {
            out.batches.push(filter_record_batch(&batch, &keep)?);
        }
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], _out: &mut Output) -> Result<Progress> {
        Ok(Progress::combine(progress))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::new())
    }

    fn restore(&mut self, part: &str, _rows: RecordBatch) -> Result<()> {
        Err(unknown_part("a filter", part))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::{Column, lit};

    fn flags(values: Vec<Option<bool>>) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("flag", DataType::Boolean, true)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(BooleanArray::from(values))]).unwrap()
    }

    fn filter(predicate: Arc<dyn PhysicalExpr>, batch: RecordBatch) -> Output {
        let mut out = Output::default();
        Filter::new(predicate).on_batch(0, batch, &mut out).unwrap();
        out
    }

    #[test]
    fn a_constant_is_repeated_for_every_row() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("seven", DataType::Int32, false),
            Field::new("flag", DataType::Boolean, true),
        ]));
        let mut project = Project::new(vec![lit(7i32), Arc::new(Column::new("flag", 0))], schema);
        let mut out = Output::default();
        project
            .on_batch(0, flags(vec![Some(true), None]), &mut out)
            .unwrap();
        assert_eq!(
            out.batches[0].column(0).as_ref(),
            &Int32Array::from(vec![7, 7])
        );
        assert_eq!(out.batches[0].num_columns(), 2);
    }

    #[test]
    fn null_is_not_true_and_dropped_rows_are_counted() {
        let column = Arc::new(Column::new("flag", 0));
        let out = filter(
            column,
            flags(vec![Some(true), None, Some(false), Some(true)]),
        );
        assert_eq!((out.filtered, out.batches[0].num_rows()), (2, 2));
    }

    #[test]
    fn all_and_nothing() {
        let out = filter(lit(true), flags(vec![None, None]));
        assert_eq!((out.filtered, out.batches[0].num_rows()), (0, 2));
        let out = filter(lit(false), flags(vec![None, None]));
        assert_eq!((out.filtered, out.batches.len()), (2, 0));
    }
}
