//! UNION ALL: rows of several inputs in one stream.
//!
//! The union is as far as its slowest input. A row's own watermark (the hidden column) knows only its own source, so it is held
//! back to what the other inputs have reached: behind the union, no row is judged late for being later than its own source alone.

use crate::error::Result;
use crate::operator::expr::{batch_of, row_watermarks};
use crate::operator::state::unknown_part;
use crate::operator::{Operator, Output, Snapshot, hidden};
use crate::time::Progress;
use arrow::array::Int64Array;
use arrow::compute::unary;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// Passes rows on under one schema.
pub struct Union {
    schema: SchemaRef,
    inputs: Vec<Progress>,
    current: Progress,
}

impl Union {
    pub fn new(inputs: usize, schema: SchemaRef) -> Self {
        Union {
            schema,
            inputs: vec![Progress::START; inputs],
            current: Progress::START,
        }
    }

    /// The furthest that a row of this input may claim to be; None when no other input holds it back.
    fn limit(&self, input: usize) -> Option<i64> {
        let others = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != input);
        let active = others.filter(|(_, progress)| !progress.idle);
        active.map(|(_, progress)| progress.watermark.0).min()
    }
}

impl Operator for Union {
    fn on_batch(&mut self, input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let mut columns = batch.columns().to_vec();
        columns.truncate(self.schema.fields().len());
        if let Some(at) = hidden::watermark(&self.schema)
            && let Some(limit) = self.limit(input)
            && let Some(watermarks) = row_watermarks(&batch, Some(at))?
        {
            let limit = limit.max(self.current.watermark.0);
            let clamped: Int64Array = unary::<_, _, Int64Type>(&watermarks, |own| own.min(limit));
            columns[at] = Arc::new(clamped);
        }
        out.used += batch.num_rows() as u64;
        out.batches
            .push(batch_of(&self.schema, columns, batch.num_rows())?);
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], _out: &mut Output) -> Result<Progress> {
        self.inputs.copy_from_slice(progress);
        self.current.advance_to(Progress::combine(progress));
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::new())
    }

    fn restore(&mut self, part: &str, _rows: RecordBatch) -> Result<()> {
        Err(unknown_part("a union", part))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EventTime;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::{DataType, Field, Schema};

    fn schema() -> SchemaRef {
        let mut fields = vec![Arc::new(Field::new("v", DataType::Int32, false))];
        fields.extend(hidden::fields());
        Arc::new(Schema::new(fields))
    }

    fn batch(watermarks: &[i64]) -> RecordBatch {
        let rows = watermarks.len();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1; rows])),
            Arc::new(Int32Array::from(vec![0; rows])),
            Arc::new(Int64Array::from(vec![0; rows])),
            Arc::new(Int64Array::from(watermarks.to_vec())),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    fn watermarks(union: &mut Union, input: usize, rows: &[i64]) -> Vec<i64> {
        let mut out = Output::default();
        union.on_batch(input, batch(rows), &mut out).unwrap();
        out.batches[0]
            .column(3)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    }

    #[test]
    fn a_row_claims_no_more_than_the_other_inputs_have_reached() {
        let mut union = Union::new(2, schema());
        assert_eq!(watermarks(&mut union, 0, &[5]), [i64::MIN]);
        let at = |ms| Progress::at(EventTime(ms));
        let mut out = Output::default();
        assert_eq!(
            union.on_watermark(&[at(100), at(50)], &mut out).unwrap(),
            at(50)
        );
        assert_eq!(watermarks(&mut union, 0, &[40, 60, 100]), [40, 50, 50]);
        assert_eq!(watermarks(&mut union, 1, &[40, 60, 120]), [40, 60, 100]);
    }

    #[test]
    fn idle_inputs_hold_nobody_back() {
        let mut union = Union::new(2, schema());
        let idle = Progress {
            watermark: EventTime(10),
            idle: true,
        };
        let mut out = Output::default();
        let all = union
            .on_watermark(&[Progress::at(EventTime(100)), idle], &mut out)
            .unwrap();
        assert_eq!(all, Progress::at(EventTime(100)));
        assert_eq!(watermarks(&mut union, 0, &[120]), [120]);
        // An input that was idle and comes back far behind does not take back what was announced.
        let all = union.on_watermark(
            &[Progress::at(EventTime(100)), Progress::at(EventTime(10))],
            &mut out,
        );
        assert_eq!(all.unwrap(), Progress::at(EventTime(100)));
    }
}
