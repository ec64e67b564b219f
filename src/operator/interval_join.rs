//! A join of two inputs whose event times are near each other.
//!
//! Both inputs are kept as long as a row of the other may still match them. Every new row is judged by the
//! watermark in force just before it: it meets the kept rows that had not expired by then, and is kept itself only while it can
//! still meet others. Guarantee: rows that are not late give the same pairs, and the same padded rows, however they are cut
//! into batches and however the two inputs take turns; a row of an outer side comes out padded once, when it matched nothing and
//! nothing can match it any more. No row is refused for being late; one that can meet nobody leaves no trace in the state.

mod side;

use crate::error::{Error, Result};
use crate::operator::expr::{
    batch_of, evaluate_all, evaluate_millis, evaluate_predicate, row_watermarks, visible,
    visible_schema,
};
use crate::operator::keys::{KeyEncoder, null_keys};
use crate::operator::state::{self, unknown_part};
use crate::operator::{Operator, Output, Snapshot, StatePart, hidden};
use crate::plan::{IntervalJoin, JoinKind};
use crate::time::{EventTime, Progress};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, new_null_array,
};
use arrow::compute::{filter_record_batch, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use side::{Arrivals, Side};
use std::sync::Arc;

/// The names of its state, by input: keys, the input's columns, the event time, and whether the row has matched.
const PARTS: [&str; 2] = ["left", "right"];

/// How many pairs are put together into one batch.
const PAIRS: usize = 8192;

/// Joins two inputs by key and by nearness in time.
pub struct IntervalJoinOperator {
    inputs: [Input; 2],
    kept: [Side; 2],
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    progress: [Progress; 2],
    current: Progress,
}

/// What is asked of the rows of one input.
struct Input {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    encoder: KeyEncoder,
    time: Arc<dyn PhysicalExpr>,
    /// Without the hidden columns.
    schema: SchemaRef,
    watermark_column: Option<usize>,
    /// The columns of its part of the state.
    state: Vec<Field>,
    /// Whether a row without a match comes out padded.
    outer: bool,
    /// A row can be matched by rows of the other input up to so much later than itself.
    forward_ms: i64,
}

/// New rows of one input and the kept rows of the other that they may match.
#[derive(Default)]
struct Candidates {
    new_rows: Vec<u32>,
    found: Vec<u64>,
}

impl IntervalJoinOperator {
    pub fn new(spec: &IntervalJoin, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let [left, right] = inputs else {
            return Err(Error::bug(format!(
                "a join has two inputs, not {}",
                inputs.len()
            )));
        };
        let (left_outer, right_outer) = match spec.kind {
            JoinKind::Inner => (false, false),
            JoinKind::Left => (true, false),
            JoinKind::Right => (false, true),
            JoinKind::Full => (true, true),
        };
        let left = Input {
            keys: spec.left_keys.clone(),
            encoder: KeyEncoder::for_exprs(&spec.left_keys, left)?,
            time: spec.left_time.clone(),
            schema: visible_schema(left),
            watermark_column: hidden::watermark(left),
            state: state_columns(&spec.left_keys, left)?,
            outer: left_outer,
            forward_ms: spec.lower_ms.saturating_neg(),
        };
        let right = Input {
            keys: spec.right_keys.clone(),
            encoder: KeyEncoder::for_exprs(&spec.right_keys, right)?,
            time: spec.right_time.clone(),
            schema: visible_schema(right),
            watermark_column: hidden::watermark(right),
            state: state_columns(&spec.right_keys, right)?,
            outer: right_outer,
            forward_ms: spec.upper_ms,
        };
        check_key_types(spec, &inputs[0], &inputs[1])?;
        let span = left.forward_ms.saturating_add(right.forward_ms);
        Ok(IntervalJoinOperator {
            kept: [Side::new(left.outer, span), Side::new(right.outer, span)],
            inputs: [left, right],
            filter: spec.filter.clone(),
            schema,
            progress: [Progress::START; 2],
            current: Progress::START,
        })
    }

    /// The watermark in force for a row: as far as its own source and the other input have come, and never
    /// before what this operator was told. Rows that say nothing themselves go by the operator.
    fn in_force(&self, input: usize, own: Option<i64>) -> i64 {
        let Some(own) = own else {
            return self.current.watermark.0;
        };
        let other = self.progress[1 - input];
        let joint = if other.idle {
            own
        } else {
            own.min(other.watermark.0)
        };
        joint.max(self.current.watermark.0)
    }

    /// Emits the pairs that pass the filter, and marks their rows as matched.
    fn emit_pairs(
        &mut self,
        input: usize,
        batch: &RecordBatch,
        candidates: &mut Candidates,
        matched: &mut [bool],
        out: &mut Output,
    ) -> Result<()> {
        let Candidates { new_rows, found } = std::mem::take(candidates);
        for (new_rows, found) in new_rows.chunks(PAIRS).zip(found.chunks(PAIRS)) {
            let indices = UInt32Array::from(new_rows.to_vec());
            let new = batch
                .columns()
                .iter()
                .map(|column| take(column, &indices, None));
            let new = new.collect::<Result<Vec<_>, _>>()?;
            let old = self.kept[1 - input].columns(found.iter().copied())?;
            let pairs = self.output(input, new, old, new_rows.len())?;
            let passed = match &self.filter {
                Some(filter) => Some(evaluate_predicate(filter, &pairs)?),
                None => None,
            };
            let passes = |pair| {
                passed
                    .as_ref()
                    .is_none_or(|passed| passed.is_valid(pair) && passed.value(pair))
            };
            for (pair, (new_row, found)) in new_rows.iter().zip(found).enumerate() {
                if passes(pair) {
                    matched[*new_row as usize] = true;
                    self.kept[1 - input].mark_matched(*found);
                }
            }
            let pairs = match passed {
                Some(passed) if passed.true_count() < pairs.num_rows() => {
                    filter_record_batch(&pairs, &passed)?
                }
                _ => pairs,
            };
            if pairs.num_rows() > 0 {
                out.batches.push(pairs);
            }
        }
        Ok(())
    }

    /// Columns of one input, and of the other, as rows of the output.
    fn output(
        &self,
        input: usize,
        own: Vec<ArrayRef>,
        other: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch> {
        let (mut columns, right) = if input == 0 {
            (own, other)
        } else {
            (other, own)
        };
        columns.extend(right);
        batch_of(&self.schema, columns, rows)
    }

    /// Rows of one input without a match, with NULL for the other's columns.
    fn pad(&self, input: usize, own: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let other = self.inputs[1 - input].schema.fields().iter();
        let nulls = other
            .map(|field| new_null_array(field.data_type(), rows))
            .collect();
        self.output(input, own, nulls, rows)
    }

    /// The time of the latest rows of an input that nothing can match any more.
    fn expired_until(&self, input: usize) -> i64 {
        let forward = self.inputs[input].forward_ms;
        match self.current.watermark {
            EventTime::END => i64::MAX,
            EventTime(at) => at.saturating_sub(forward).saturating_sub(1),
        }
    }

    /// Pads what expired without a match, and forgets what expired.
    fn expire(&mut self, input: usize, out: &mut Output) -> Result<()> {
        let limit = self.expired_until(input);
        let unmatched = self.kept[input].expired_unmatched(limit);
        for ids in unmatched.chunks(PAIRS) {
            let columns = self.kept[input].columns(ids.iter().copied())?;
            out.batches.push(self.pad(input, columns, ids.len())?);
        }
        self.kept[input].forget_until(limit, &self.inputs[input].encoder)
    }
}

impl Operator for IntervalJoinOperator {
    fn on_batch(&mut self, input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let this = &self.inputs[input];
        let times = evaluate_millis(&this.time, &batch)?;
        let watermarks = row_watermarks(&batch, this.watermark_column)?;
        let key_columns = evaluate_all(&this.keys, &batch)?;
        let nulls = null_keys(&key_columns);
        let keys = this.encoder.encode(&key_columns, batch.num_rows())?;
        let batch = visible(&batch, &this.schema)?;
        let (forward, back) = (this.forward_ms, self.inputs[1 - input].forward_ms);
        let outer = this.outer;

        let mut candidates = Candidates::default();
        let mut matched = vec![false; batch.num_rows()];
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            if times.is_null(row) || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                keep.push(false);
                continue;
            }
            let time = times.value(row);
            let watermark = self.in_force(input, watermarks.as_ref().map(|own| own.value(row)));
            // The earlier of two bounds: too far away in time, and expired when this row came.
            let from = time.max(watermark).saturating_sub(back);
            let to = time.saturating_add(forward);
            let Candidates { new_rows, found } = &mut candidates;
            self.kept[1 - input].find(keys.hashes[row], keys.rows.bytes(row), from, to, found);
            new_rows.resize(found.len(), row as u32);
            keep.push(watermark < to);
            if candidates.found.len() >= PAIRS {
                self.emit_pairs(input, &batch, &mut candidates, &mut matched, out)?;
            }
        }
        self.emit_pairs(input, &batch, &mut candidates, &mut matched, out)?;

        let alone = |row: &u32| !keep[*row as usize] && !matched[*row as usize];
        let alone: Vec<u32> = match outer {
            true => (0..batch.num_rows() as u32).filter(alone).collect(),
            false => Vec::new(),
        };
        if !alone.is_empty() {
            let rows = take_record_batch(&batch, &UInt32Array::from(alone))?;
            out.batches
                .push(self.pad(input, rows.columns().to_vec(), rows.num_rows())?);
        }
        out.used += keep.len() as u64;
        let arrivals = Arrivals {
            batch,
            keys,
            times: &times,
            matched: &matched,
            keep: &keep,
        };
        self.kept[input].add(arrivals, &self.inputs[input].encoder)
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        let [left, right] = progress else {
            return Err(Error::bug(format!(
                "a join has two inputs, not {}",
                progress.len()
            )));
        };
        self.progress = [*left, *right];
        self.current.advance_to(Progress::combine(progress));
        self.expire(0, out)?;
        self.expire(1, out)?;
        // What is still kept can come out this much older than the watermark. A padded row can be the oldest
        // that is still kept, exactly as old as that; for it to be in time behind this operator, 1 ms more is left.
        let [left, right] = &self.inputs;
        let padding = i64::from(left.outer || right.outer);
        let delay = left
            .forward_ms
            .max(right.forward_ms)
            .saturating_add(padding);
        Ok(Progress {
            watermark: self.current.watermark.plus(delay.saturating_neg()),
            idle: self.current.idle,
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Snapshot::new();
        // While one input was idle the other may have driven this join ahead of it. A start from this snapshot knows only where
        // the inputs are, and would take what expired by then as alive.
        let inputs = self.progress.iter().map(|input| input.watermark).min();
        let ahead = inputs.is_some_and(|inputs| inputs < self.current.watermark);
        for (input, name) in PARTS.into_iter().enumerate() {
            let limit = self.expired_until(input);
            let this = &self.inputs[input];
            for (id, kept) in self.kept[input].contents(limit, ahead, &this.encoder)? {
                let rows = kept.map(|kept| {
                    let mut columns = kept.keys;
                    columns.extend(kept.batch.columns().iter().cloned());
                    columns.push(Arc::new(Int64Array::from(kept.times)));
                    columns.push(Arc::new(BooleanArray::from(kept.matched)));
                    state::rows_of(&this.state, columns)
                });
                parts.push(StatePart {
                    name,
                    id: Some(id),
                    rows: rows.transpose()?,
                    key_columns: this.keys.len(),
                });
            }
        }
        Ok(parts)
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        let unknown = || unknown_part("an interval join", part);
        let input = PARTS
            .iter()
            .position(|name| *name == part)
            .ok_or_else(unknown)?;
        let this = &self.inputs[input];
        let (keys, own) = (this.keys.len(), this.schema.fields().len());
        state::expect_columns(part, &rows, &this.state)?;
        let times = rows
            .column(keys + own)
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(unknown)?;
        let matched = rows
            .column(keys + own + 1)
            .as_boolean_opt()
            .ok_or_else(unknown)?;
        let encoded = this
            .encoder
            .encode(&rows.columns()[..keys], rows.num_rows())?;
        let columns = rows.columns()[keys..keys + own].to_vec();
        let batch = batch_of(&this.schema, columns, rows.num_rows())?;
        let matched: Vec<bool> = matched.values().iter().collect();
        let keep = vec![true; rows.num_rows()];
        let arrivals = Arrivals {
            batch,
            keys: encoded,
            times,
            matched: &matched,
            keep: &keep,
        };
        self.kept[input].add(arrivals, &this.encoder)
    }

    fn state_bytes(&self) -> usize {
        self.kept.iter().map(Side::size).sum()
    }
}

/// What is kept of an input's rows: keys, the input's columns, the event time, and whether the row has matched.
fn state_columns(keys: &[Arc<dyn PhysicalExpr>], input: &Schema) -> Result<Vec<Field>> {
    let mut columns = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        columns.push(state::column(format!("key_{at}"), &key.data_type(input)?));
    }
    let visible = &input.fields()[..hidden::visible(input)];
    columns.extend(
        visible
            .iter()
            .map(|field| state::column(field.name(), field.data_type())),
    );
    columns.push(state::column("time", &DataType::Int64));
    columns.push(state::column("matched", &DataType::Boolean));
    Ok(columns)
}

/// Keys of different types never have equal bytes, so nothing would ever match.
fn check_key_types(spec: &IntervalJoin, left: &Schema, right: &Schema) -> Result<()> {
    if spec.left_keys.len() != spec.right_keys.len() {
        return Err(Error::bug(
            "a join has more keys on one side than on the other",
        ));
    }
    for (a, b) in spec.left_keys.iter().zip(&spec.right_keys) {
        let types = (a.data_type(left)?, b.data_type(right)?);
        if !types.0.equals_datatype(&types.1) {
            return Err(Error::job(format!(
                "{a} is {} and {b} is {}: cast one of them, so that keys of one type are compared",
                types.0, types.1
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
