//! Aggregates OVER the rows before a row.
//!
//! By processing time a row comes out as it arrives, with the results over the rows that arrived before it. By event time it waits until
//! the watermark has reached it, and rows come out in the order of their event time. Guarantee: neither the cuts between batches nor the
//! arrival of rows within the watermark's bound changes a result. A row is late where rows have come out that should have come behind
//! it: rows of all keys (the watermark has passed it) where the frame begins with the first row, rows of its own key where the
//! frame slides. That is Flink's rule; and where the frame is a range, the watermark has not passed the row by more than that, since keys
//! are forgotten by and by.

mod held;
mod keyed;
mod values;
mod waiting;

use crate::error::{Error, Result};
use crate::operator::expr::{
    batch_of, evaluate_all, evaluate_millis, row_watermarks, visible, visible_schema,
};
use crate::operator::keys::{EncodedKeys, KeyEncoder};
use crate::operator::state::{self, unknown_part};
use crate::operator::{Operator, Output, Snapshot, StatePart, hidden};
use crate::plan::{Frame, OverAggregate};
use crate::time::{EventTime, Progress};
use arrow::array::{Array, AsArray, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use held::Call;
use keyed::{Keyed, NEVER};
use std::sync::Arc;
use waiting::Waiting;

/// The part of the state with the rows that wait: keys, the input's columns, the event time, the watermark at which it was taken in.
const WAITING: &str = "waiting";

/// About so many rows come out in one batch.
const ROWS: usize = 8192;

/// Adds columns to rows: aggregates over the rows before them.
pub struct Over {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Option<Arc<dyn PhysicalExpr>>,
    frame: Frame,
    calls: Vec<Call>,
    keyed: Keyed,
    waiting: Waiting,
    /// The columns of [`WAITING`].
    waiting_state: Vec<Field>,
    /// Without the hidden columns.
    input: SchemaRef,
    schema: SchemaRef,
    watermark_column: Option<usize>,
    /// The watermark at which keys were forgotten last.
    swept: i64,
    current: Progress,
}

impl Over {
    pub fn new(spec: &OverAggregate, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let [input] = inputs else {
            return Err(Error::bug(format!(
                "an OVER has one input, not {}",
                inputs.len()
            )));
        };
        let slides = spec.frame.slides();
        let calls = spec.calls.iter().map(|call| Call::new(call, slides, input));
        let calls = calls.collect::<Result<Vec<_>>>()?;
        let types = spec.keys.iter().map(|key| key.data_type(input));
        let types: Vec<DataType> = types.collect::<datafusion::common::Result<_>>()?;
        let mut waiting_state: Vec<Field> = types
            .iter()
            .enumerate()
            .map(|(at, data_type)| state::column(format!("key_{at}"), data_type))
            .collect();
        let visible = visible_schema(input);
        for (at, field) in visible.fields().iter().enumerate() {
            waiting_state.push(state::column(format!("column_{at}"), field.data_type()));
        }
        waiting_state.push(state::column("time", &DataType::Int64));
        waiting_state.push(state::column("taken_at", &DataType::Int64));
        Ok(Over {
            keyed: Keyed::new(&calls, KeyEncoder::new(&types)?, spec.frame, &types),
            calls,
            keys: spec.keys.clone(),
            time: spec.time.clone(),
            frame: spec.frame,
            waiting: Waiting::new(visible.clone()),
            waiting_state,
            input: visible,
            schema,
            watermark_column: hidden::watermark(input),
            swept: NEVER,
            current: Progress::START,
        })
    }

    fn encode(&self, batch: &RecordBatch) -> Result<EncodedKeys> {
        let keys = evaluate_all(&self.keys, batch)?;
        self.keyed.encoder.encode(&keys, batch.num_rows())
    }

    /// The rows with their results. `times` are their event times, in order; none by processing time.
    fn results(&mut self, batch: RecordBatch, times: Option<&[i64]>) -> Result<RecordBatch> {
        let keys = self.encode(&batch)?;
        let frame = self.frame;
        let calls = &self.calls;
        let readers = calls.iter().map(|call| call.reader(&batch));
        let readers = readers.collect::<Result<Vec<_>>>()?;
        let mut results: Vec<_> = calls.iter().map(Call::results).collect();
        // Where rows of one moment have one result, all of them are counted before the first of them gets it.
        let together = frame.is_range() && times.is_some();
        let time_of = |row: usize| times.map_or(NEVER, |times| times[row]);
        let mut row = 0;
        while row < batch.num_rows() {
            let mut end = row + 1;
            while together && end < batch.num_rows() && time_of(end) == time_of(row) {
                end += 1;
            }
            for row in row..end {
                let values = readers.iter().map(|reader| reader.read(row)).collect();
                let key = self.keyed.touch(calls, &keys, row);
                key.add(calls, frame, time_of(row), values);
                key.waiting.remove(&time_of(row));
            }
            for row in row..end {
                let key = self.keyed.touch(calls, &keys, row);
                for ((call, held), results) in calls.iter().zip(&key.held).zip(&mut results) {
                    call.give(held, results);
                }
            }
            row = end;
        }
        let mut columns = batch.columns().to_vec();
        for results in results {
            columns.push(results.finish()?);
        }
        batch_of(&self.schema, columns, batch.num_rows())
    }

    /// Rows by event time: those that are late are handed back, the others wait.
    fn take_in(
        &mut self,
        time: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
        out: &mut Output,
    ) -> Result<()> {
        let times = evaluate_millis(time, batch)?;
        let watermarks = row_watermarks(batch, self.watermark_column)?;
        let announced = self.current.watermark.0;
        // Where the frame begins with the first row, the watermark alone says what is late.
        let keys = match self.frame.slides() {
            true => Some(self.encode(batch)?),
            false => None,
        };
        let (mut kept, mut kept_times, mut taken_at) = (Vec::new(), Vec::new(), Vec::new());
        let (mut late, mut timeless) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            if times.is_null(row) {
                timeless.push(row as u32);
                continue;
            }
            let time = times.value(row);
            let watermark = watermarks
                .as_ref()
                .map_or(announced, |own| own.value(row).max(announced));
            let is_late = match &keys {
                None => time <= watermark,
                Some(keys) => {
                    let key = self.keyed.look(&self.calls, keys, row);
                    time <= key.floor(watermark) || self.frame.has_passed(time, watermark)
                }
            };
            if is_late && watermark != NEVER {
                late.push(row as u32);
                continue;
            }
            if let Some(keys) = &keys {
                let key = self.keyed.look(&self.calls, keys, row);
                let first = key.waiting.entry(time).or_insert(watermark);
                *first = watermark.min(*first);
            }
            kept.push(row as u32);
            kept_times.push(time);
            taken_at.push(watermark);
        }
        for (rows, why) in [
            (late, "rows behind it in event time had come out already"),
            (
                timeless,
                "the event time is NULL, so the row has no place in the order",
            ),
        ] {
            if !rows.is_empty() {
                let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
                out.late.push((rows, why.to_owned()));
            }
        }
        out.used += kept.len() as u64;
        if kept.is_empty() {
            return Ok(());
        }
        let rows = visible(batch, &self.input)?;
        let rows = match kept.len() == rows.num_rows() {
            true => rows,
            false => take_record_batch(&rows, &UInt32Array::from(kept))?,
        };
        self.waiting.add(rows, &kept_times, taken_at);
        Ok(())
    }
}

impl Operator for Over {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        if let Some(time) = self.time.clone() {
            return self.take_in(&time, &batch, out);
        }
        out.used += batch.num_rows() as u64;
        if batch.num_rows() > 0 {
            let rows = visible(&batch, &self.input)?;
            out.batches.push(self.results(rows, None)?);
        }
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        self.current.advance_to(Progress::combine(progress));
        let watermark = self.current.watermark.0;
        while let Some(due) = self.waiting.take(watermark, ROWS)? {
            out.batches.push(self.results(due.rows, Some(&due.times))?);
        }
        if let Frame::Range(millis) = self.frame
            && watermark.saturating_sub(millis) > self.swept
            && self.current.watermark != EventTime::END
        {
            self.swept = watermark;
            self.keyed.forget(watermark);
        }
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = self.keyed.snapshot(&self.calls)?;
        if self.waiting.len() > 0 {
            let (rows, times, taken_at) = self.waiting.all()?;
            let mut columns = evaluate_all(&self.keys, &rows)?;
            columns.extend(rows.columns().iter().cloned());
            columns.push(Arc::new(times));
            columns.push(Arc::new(taken_at));
            parts.push(StatePart {
                name: WAITING,
                id: None,
                rows: Some(state::rows_of(&self.waiting_state, columns)?),
                key_columns: self.keys.len(),
            });
        }
        Ok(parts)
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        if self.keyed.restore(&self.calls, part, &rows)? {
            return Ok(());
        }
        if part != WAITING || self.time.is_none() {
            return Err(unknown_part("an OVER", part));
        }
        state::expect_columns(part, &rows, &self.waiting_state)?;
        let count = rows.num_rows();
        let (keys, rest) = rows.columns().split_at(self.keys.len());
        let (columns, times) = rest.split_at(self.input.fields().len());
        let [times, taken_at] = [0, 1].map(|at| times[at].as_primitive::<Int64Type>().clone());
        if self.frame.slides() {
            let keys = self.keyed.encoder.encode(keys, count)?;
            for row in 0..count {
                let key = self.keyed.look(&self.calls, &keys, row);
                let first = key.waiting.entry(times.value(row)).or_insert(i64::MAX);
                *first = taken_at.value(row).min(*first);
            }
        }
        let rows = batch_of(&self.input, columns.to_vec(), count)?;
        let all = |column: &Int64Array| column.values().to_vec();
        self.waiting.add(rows, &all(&times), all(&taken_at));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.keyed.size() + self.waiting.size()
    }
}

#[cfg(test)]
#[path = "over/tests.rs"]
mod tests;
