//! Event time of one split: which rows may enter, and how far each row finds the source.
//!
//! Used by the engine at a scan, once for each split and batch. Guarantee: the watermark in force before a row is
//! the one that Flink would have at that row with a watermark for every event, wherever the batches begin and end; and a row
//! that is refused moves nothing.

use crate::error::Result;
use crate::operator::expr::evaluate_millis;
use crate::time::EventTime;
use arrow::array::{Array, BooleanArray, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// The two expressions of a WATERMARK clause, over the decoded and metadata columns.
pub struct WatermarkStage {
    rowtime: Arc<dyn PhysicalExpr>,
    value: Arc<dyn PhysicalExpr>,
    max_future_ms: i64,
}

/// How far one split has come by its own rows alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitWatermark(pub EventTime);

/// What became of the rows of one batch.
#[derive(Debug)]
pub struct Assigned {
    /// False for a row that must not go on: it has no event time, or one too far in the future.
    pub keep: BooleanArray,
    pub null_rows: Vec<u32>,
    pub future_rows: Vec<u32>,
    /// For every row of the batch, kept or not: the source's watermark just before it.
    pub watermark_before: Int64Array,
    /// The split's watermark after the batch.
    pub watermark: EventTime,
}

impl WatermarkStage {
    pub fn new(
        rowtime: Arc<dyn PhysicalExpr>,
        value: Arc<dyn PhysicalExpr>,
        max_future_ms: i64,
    ) -> Self {
        WatermarkStage {
            rowtime,
            value,
            max_future_ms,
        }
    }

    /// Judges the rows of a batch in their order, and moves the split's watermark. `others` is the smallest
    /// watermark among the source's other splits that are not idle ([`EventTime::END`] when there is none);
    /// `source` is the watermark that the source as a whole has announced, which never goes back.
    pub fn assign(
        &self,
        split: &mut SplitWatermark,
        batch: &RecordBatch,
        others: EventTime,
        source: EventTime,
        now_ms: i64,
    ) -> Result<Assigned> {
        let rowtime = evaluate_millis(&self.rowtime, batch)?;
        let value = evaluate_millis(&self.value, batch)?;
        let latest = now_ms.saturating_add(self.max_future_ms);
        let mut null_rows = Vec::new();
        let mut future_rows = Vec::new();
        let mut before = Vec::with_capacity(batch.num_rows());
        let mut running = split.0.0;
        for row in 0..batch.num_rows() {
            before.push(source.0.max(others.0.min(running)));
            if rowtime.is_null(row) {
                null_rows.push(row as u32);
            } else if rowtime.value(row) > latest {
                future_rows.push(row as u32);
            } else if value.is_valid(row) {
                running = running.max(value.value(row));
            }
        }
        split.0 = EventTime(running);
        Ok(Assigned {
            keep: keep_all_but(batch.num_rows(), &null_rows, &future_rows),
            null_rows,
            future_rows,
            watermark_before: before.into(),
            watermark: split.0,
        })
    }
}

fn keep_all_but(rows: usize, null_rows: &[u32], future_rows: &[u32]) -> BooleanArray {
    if null_rows.is_empty() && future_rows.is_empty() {
        return BooleanArray::new(BooleanBuffer::new_set(rows), None);
    }
    let mut keep = vec![true; rows];
    for row in null_rows.iter().chain(future_rows) {
        keep[*row as usize] = false;
    }
    keep.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::Column;

    const NOW: i64 = 1_000;

    fn stage() -> WatermarkStage {
        WatermarkStage::new(
            Arc::new(Column::new("ts", 0)),
            Arc::new(Column::new("wm", 1)),
            100,
        )
    }

    fn batch(rows: &[(Option<i64>, Option<i64>)]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("ts", DataType::Int64, true),
            Field::new("wm", DataType::Int64, true),
        ]);
        let ts: Int64Array = rows.iter().map(|row| row.0).collect();
        let wm: Int64Array = rows.iter().map(|row| row.1).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ts), Arc::new(wm)]).unwrap()
    }

    fn simple(times: &[i64]) -> RecordBatch {
        batch(
            &times
                .iter()
                .map(|at| (Some(*at), Some(at - 10)))
                .collect::<Vec<_>>(),
        )
    }

    fn before(assigned: &Assigned) -> Vec<i64> {
        assigned.watermark_before.values().to_vec()
    }

    #[test]
    fn each_row_sees_the_maximum_of_the_rows_before_it() {
        let mut split = SplitWatermark(EventTime::NONE);
        let rows = simple(&[100, 90, 200, 150]);
        let assigned = stage()
            .assign(&mut split, &rows, EventTime::END, EventTime::NONE, NOW)
            .unwrap();
        assert_eq!(before(&assigned), [i64::MIN, 90, 90, 190]);
        assert_eq!(
            (split.0, assigned.watermark),
            (EventTime(190), EventTime(190))
        );
        assert_eq!(assigned.keep.true_count(), 4);
    }

    #[test]
    fn other_splits_hold_back_and_the_source_never_goes_back() {
        let mut split = SplitWatermark(EventTime(5));
        let rows = simple(&[100, 200, 300]);
        let assigned = stage()
            .assign(&mut split, &rows, EventTime(120), EventTime(50), NOW)
            .unwrap();
        assert_eq!(before(&assigned), [50, 90, 120]);
        assert_eq!(split.0, EventTime(290));
    }

    #[test]
    fn refused_rows_and_null_watermarks_move_nothing() {
        let mut split = SplitWatermark(EventTime(0));
        let rows = batch(&[
            (None, Some(500)),
            (Some(1_101), Some(1_091)),
            (Some(1_100), Some(40)),
            (Some(60), None),
            (Some(30), Some(20)),
        ]);
        let assigned = stage()
            .assign(&mut split, &rows, EventTime::END, EventTime::NONE, NOW)
            .unwrap();
        assert_eq!(assigned.null_rows, [0]);
        assert_eq!(assigned.future_rows, [1]);
        assert_eq!(
            assigned.keep,
            BooleanArray::from(vec![false, false, true, true, true])
        );
        assert_eq!(before(&assigned), [0, 0, 0, 40, 40]);
        assert_eq!(split.0, EventTime(40));
    }

    #[test]
    fn where_batches_begin_makes_no_difference() {
        let times = [100, 90, 250, 120, 300, 310, 305];
        let mut whole = SplitWatermark(EventTime::NONE);
        let at_once = stage()
            .assign(
                &mut whole,
                &simple(&times),
                EventTime(260),
                EventTime(70),
                NOW,
            )
            .unwrap();
        for cut in 0..=times.len() {
            let mut split = SplitWatermark(EventTime::NONE);
            let mut seen = Vec::new();
            for part in [&times[..cut], &times[cut..]] {
                let rows = simple(part);
                let assigned = stage()
                    .assign(&mut split, &rows, EventTime(260), EventTime(70), NOW)
                    .unwrap();
                seen.extend(before(&assigned));
            }
            assert_eq!((seen, split), (before(&at_once), whole));
        }
    }
}
