//! GROUP BY a window: one table of groups for every slice of time, of which windows are made.
//!
//! A tumbling window is one slice. Windows that overlap share theirs: a row is counted in one slice, and when a window fires, its slices are
//! merged.
//!
//! Guarantee: a row counts in each of its windows that had not fired by the watermark in force just before the row; where all had, it is
//! handed back as late. A window fires once, if it has rows, when the watermark reaches its last millisecond, in the order of
//! window ends, with its groups in the order of their keys. So neither the cuts between batches nor the arrival of rows within the
//! watermark's bound changes a result.

pub(super) mod feed;
pub(super) mod groups;

use crate::error::{Error, Result};
use crate::operator::expr::{batch_of, evaluate_all, evaluate_millis, row_watermarks};
use crate::operator::keys::KeyEncoder;
use crate::operator::state::{self, unknown_part};
use crate::operator::{Operator, Output, Snapshot, StatePart, hidden};
use crate::plan::{Window, WindowAggregate};
use crate::time::{EventTime, Progress};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use feed::{Compiled, Feed};
use groups::{Groups, PAGE};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The name of its state: keys, the end of the slice, where windows overlap the end of the first window that its rows count in, then the columns of every aggregate's state.
const PART: &str = "groups";

/// So many groups make a slice worth parts of its own in the state, which are not written again while their groups rest.
const LARGE: usize = 256;

/// Aggregates rows by key in windows.
pub struct Windows {
    window: Window,
    time: Arc<dyn PhysicalExpr>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Compiled>,
    encoder: KeyEncoder,
    /// The columns of [`PART`].
    state: Vec<Field>,
    schema: SchemaRef,
    watermark_column: Option<usize>,
    slices: BTreeMap<Slice, Groups>,
    /// The end of the last window that may have fired. Of windows that overlap, those before it must not fire again from slices that are
    /// still needed.
    fired: i64,
    /// Whether it was told how far its input had come, or has seen a row: an operator that starts again is told first, and what had fired
    /// by then has fired.
    begun: bool,
    /// How many parts were saved by themselves, for their numbers.
    saves: u64,
    current: Progress,
}

/// Rows that count in the same windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Slice {
    end: i64,
    /// The end of the first window that they count in: the slice's own, unless that had fired when they came.
    first: i64,
}

/// The rows of a batch by slice.
struct Assignment {
    /// For each slice its rows; None for "all rows of the batch".
    slices: Vec<(Slice, Option<Vec<u32>>)>,
    /// For the ends of slices whose windows had all fired, their rows.
    late: Vec<(i64, Vec<u32>)>,
    /// Rows without event time.
    timeless: Vec<u32>,
}

impl Windows {
    pub fn new(spec: &WindowAggregate, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let [input] = inputs else {
            return Err(Error::bug(format!(
                "a window has one input, not {}",
                inputs.len()
            )));
        };
        let slice_ms = spec.window.slice_ms();
        if slice_ms <= 0 {
            return Err(Error::job(format!(
                "a window of {slice_ms} ms: its size must be positive"
            )));
        }
        let aggregates: Vec<_> = spec
            .aggregates
            .iter()
            .map(Compiled::new)
            .collect::<Result<_>>()?;
        let mut columns = Vec::new();
        for (at, key) in spec.keys.iter().enumerate() {
            columns.push(state::column(format!("key_{at}"), &key.data_type(input)?));
        }
        columns.push(state::column("window_end", &DataType::Int64));
        if overlap(spec.window) {
            columns.push(state::column("first_end", &DataType::Int64));
        }
        for (at, held) in aggregates.iter().flat_map(|a| &a.state).enumerate() {
            columns.push(state::column(format!("state_{at}"), held));
        }
        Ok(Windows {
            window: spec.window,
            time: spec.time.clone(),
            keys: spec.keys.clone(),
            aggregates,
            state: columns,
            encoder: KeyEncoder::for_exprs(&spec.keys, input)?,
            schema,
            watermark_column: hidden::watermark(input),
            slices: BTreeMap::new(),
            fired: i64::MIN,
            begun: false,
            saves: 0,
            current: Progress::START,
        })
    }

    /// Finds the slice of every row. The rows of a batch mostly share a slice or two, so the last one is
    /// tried first, and the division is made only for a row outside it.
    fn assign(&self, times: &Int64Array, watermarks: Option<&Int64Array>) -> Assignment {
        let announced = self.current.watermark.0;
        let mut rows_of: Vec<(Slice, Vec<u32>)> = Vec::new();
        let mut place_of: HashMap<Slice, usize> = HashMap::new();
        let mut late = Vec::new();
        let mut timeless = Vec::new();
        let mut last = 0;
        for row in 0..times.len() {
            if times.is_null(row) {
                timeless.push(row as u32);
                continue;
            }
            let time = times.value(row);
            let near = rows_of.get(last).map(|(slice, _)| slice.end);
            let end = near.filter(|end| self.contains(*end, time));
            let end = end.unwrap_or_else(|| self.end_of(time));
            let watermark = watermarks.map_or(announced, |own| own.value(row).max(announced));
            let first = match end - 1 > watermark {
                true => end,
                false if self.window.last_end(end) - 1 > watermark => {
                    self.end_of(watermark.saturating_add(1))
                }
                false => {
                    late.push((end, row as u32));
                    continue;
                }
            };
            let slice = Slice { end, first };
            if rows_of.get(last).is_none_or(|(last, _)| *last != slice) {
                last = *place_of.entry(slice).or_insert_with(|| {
                    rows_of.push((slice, Vec::new()));
                    rows_of.len() - 1
                });
            }
            rows_of[last].1.push(row as u32);
        }
        let whole = |rows: Vec<u32>| (rows.len() < times.len()).then_some(rows);
        let slices = rows_of
            .into_iter()
            .map(|(slice, rows)| (slice, whole(rows)))
            .collect();
        Assignment {
            slices,
            late: grouped(late),
            timeless,
        }
    }

    /// The end of the slice that holds a moment.
    fn end_of(&self, time: i64) -> i64 {
        let slice_ms = self.window.slice_ms();
        let into = time.saturating_sub(self.window.offset_ms());
        time.saturating_sub(into.rem_euclid(slice_ms))
            .saturating_add(slice_ms)
    }

    fn contains(&self, end: i64, time: i64) -> bool {
        time < end && time >= end.saturating_sub(self.window.slice_ms())
    }

    fn feeds(&self, batch: &RecordBatch) -> Result<Vec<Feed>> {
        self.aggregates
            .iter()
            .map(|aggregate| aggregate.feed(batch))
            .collect()
    }

    fn slice(&mut self, slice: Slice) -> Result<&mut Groups> {
        let aggregates = &self.aggregates;
        let encoder = &self.encoder;
        match self.slices.entry(slice) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let functions = aggregates.iter().map(|compiled| &compiled.function);
                Ok(entry.insert(Groups::new(encoder, functions)?))
            }
        }
    }

    /// The first window that has rows and has not fired.
    fn next_end(&self) -> Option<i64> {
        if !overlap(self.window) {
            // A slice is a window, and is gone when that has fired.
            return self.slices.first_key_value().map(|(slice, _)| slice.end);
        }
        // A slice stays no longer than its last window, so each has a window that has not fired.
        let next = self
            .slices
            .keys()
            .map(|slice| match self.fired < slice.first {
                true => slice.first,
                false => self.end_of(self.fired),
            });
        next.min()
    }

    /// The groups of a window. Slices that no later window needs are used up.
    fn groups_of(&mut self, end: i64) -> Result<Groups> {
        let alone = Slice { end, first: end };
        if !overlap(self.window)
            && let Some(groups) = self.slices.remove(&alone)
        {
            return Ok(groups);
        }
        let functions = self.aggregates.iter().map(|compiled| &compiled.function);
        let mut merged = Groups::new(&self.encoder, functions)?;
        let widths = self.widths();
        let start = self.window.start_of(end);
        let inside = |slice: &Slice| slice.end > start && slice.end <= end && slice.first <= end;
        for (_, groups) in self.slices.iter_mut().filter(|(slice, _)| inside(slice)) {
            let rows: Vec<u32> = (0..groups.len() as u32).collect();
            let states = groups.state()?;
            let keys = groups.keys(&self.encoder)?;
            let keys = self.encoder.encode(&keys, rows.len())?;
            merged.merge(&keys, &rows, &states, &widths)?;
        }
        let window = self.window;
        self.slices
            .retain(|slice, _| window.last_end(slice.end) > end);
        Ok(merged)
    }

    /// How many columns of state each aggregate has.
    fn widths(&self) -> Vec<usize> {
        let widths = self.aggregates.iter();
        widths.map(|compiled| compiled.state.len()).collect()
    }

    fn fire(&self, end: i64, groups: Groups) -> Result<RecordBatch> {
        let rows = groups.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let moments = [self.window.start_of(end), end, end - 1];
        for (moment, field) in moments.into_iter().zip(self.schema.fields()) {
            columns.push(moment_column(moment, rows, field));
        }
        columns.extend(groups.finish(&self.encoder)?);
        batch_of(&self.schema, columns, rows)
    }

    fn hand_back(
        &self,
        batch: &RecordBatch,
        assignment: &mut Assignment,
        out: &mut Output,
    ) -> Result<()> {
        for (end, rows) in assignment.late.drain(..) {
            let end = self.window.last_end(end);
            let start = EventTime(self.window.start_of(end));
            let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
            let end = EventTime(end);
            out.late.push((
                rows,
                format!("the window from {start} to {end} had fired already"),
            ));
        }
        if !assignment.timeless.is_empty() {
            let rows = UInt32Array::from(std::mem::take(&mut assignment.timeless));
            let rows = take_record_batch(batch, &rows)?;
            out.late.push((
                rows,
                "the event time is NULL, so there is no window".to_string(),
            ));
        }
        Ok(())
    }

    /// The state of one slice as a table.
    fn table(
        &self,
        slice: Slice,
        keys: Vec<ArrayRef>,
        states: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch> {
        let mut columns = keys;
        columns.push(Arc::new(Int64Array::from_value(slice.end, rows)));
        if overlap(self.window) {
            columns.push(Arc::new(Int64Array::from_value(slice.first, rows)));
        }
        columns.extend(states);
        state::rows_of(&self.state, columns)
    }
}

impl Operator for Windows {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let times = evaluate_millis(&self.time, &batch)?;
        let watermarks = row_watermarks(&batch, self.watermark_column)?;
        self.begun = true;
        let mut assignment = self.assign(&times, watermarks.as_ref());
        self.hand_back(&batch, &mut assignment, out)?;
        if assignment.slices.is_empty() {
            return Ok(());
        }
        let keys = evaluate_all(&self.keys, &batch)?;
        let keys = self.encoder.encode(&keys, batch.num_rows())?;
        let feeds = self.feeds(&batch)?;
        for (slice, rows) in assignment.slices {
            let groups = self.slice(slice)?;
            match rows {
                None => {
                    out.used += batch.num_rows() as u64;
                    groups.update(&keys, None, &feeds)?;
                }
                Some(rows) => {
                    out.used += rows.len() as u64;
                    let rows = UInt32Array::from(rows);
                    let feeds: Vec<_> = feeds
                        .iter()
                        .map(|feed| feed.take(&rows))
                        .collect::<Result<_>>()?;
                    groups.update(&keys, Some(rows.values()), &feeds)?;
                }
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        self.current.advance_to(Progress::combine(progress));
        let watermark = self.current.watermark.0;
        if !std::mem::replace(&mut self.begun, true) && overlap(self.window) {
            self.fired = watermark.saturating_add(1);
            return Ok(self.current);
        }
        while let Some(end) = self.next_end()
            && end - 1 <= watermark
        {
            let groups = self.groups_of(end)?;
            self.fired = end;
            if groups.len() > 0 {
                out.batches.push(self.fire(end, groups)?);
            }
        }
        self.fired = self.fired.max(watermark.saturating_add(1));
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut slices = std::mem::take(&mut self.slices);
        let key_columns = self.keys.len();
        let part = |id, rows| StatePart {
            name: PART,
            id,
            rows,
            key_columns,
        };
        let mut parts = Snapshot::new();
        let mut small = Vec::new();
        for (slice, groups) in &mut slices {
            let large = groups.len() >= LARGE;
            if large && groups.pages.iter().all(Option::is_some) {
                parts.extend(groups.pages.iter().map(|page| part(*page, None)));
                continue;
            }
            let rows = groups.len();
            let states = groups.state()?;
            let keys = groups.keys(&self.encoder)?;
            let table = self.table(*slice, keys, states, rows)?;
            if !large {
                small.push(table);
                continue;
            }
            for (page, first) in groups.pages.iter_mut().zip((0..rows).step_by(PAGE)) {
                let changed = page.is_none().then(|| {
                    self.saves += 1;
                    *page = Some(self.saves);
                    table.slice(first, PAGE.min(rows - first))
                });
                parts.push(part(*page, changed));
            }
        }
        self.slices = slices;
        if let Some(first) = small.first() {
            let rows = concat_batches(&first.schema(), &small)?;
            parts.push(part(None, Some(rows)));
        }
        Ok(parts)
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        if part != PART {
            return Err(unknown_part("a window", part));
        }
        state::expect_columns(part, &rows, &self.state)?;
        let keys = self.keys.len();
        let moments = if overlap(self.window) { 2 } else { 1 };
        let (ends, firsts) = (rows.column(keys), rows.column(keys + moments - 1));
        let (ends, firsts) = (
            ends.as_primitive::<Int64Type>(),
            firsts.as_primitive::<Int64Type>(),
        );
        let encoded = self
            .encoder
            .encode(&rows.columns()[..keys], rows.num_rows())?;
        let slices = ends.values().iter().zip(firsts.values());
        let slices = slices.map(|(end, first)| Slice {
            end: *end,
            first: *first,
        });
        for (slice, selected) in grouped(slices.zip(0u32..).collect()) {
            let selected = UInt32Array::from(selected);
            let states: Vec<_> = rows.columns()[keys + moments..]
                .iter()
                .map(|column| Ok(take(column, &selected, None)?))
                .collect::<Result<_>>()?;
            let widths = self.widths();
            self.slice(slice)?
                .merge(&encoded, selected.values(), &states, &widths)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.slices.values().map(Groups::size).sum()
    }
}

/// Whether a slice belongs to several windows.
fn overlap(window: Window) -> bool {
    !matches!(window, Window::Tumble { .. })
}

/// Rows by what stands with them, in its order; rows with the same in the order in which they came.
fn grouped<T: Ord + Copy>(mut rows: Vec<(T, u32)>) -> Vec<(T, Vec<u32>)> {
    rows.sort_unstable();
    let same = rows.chunk_by(|a, b| a.0 == b.0);
    same.map(|rows| (rows[0].0, rows.iter().map(|row| row.1).collect()))
        .collect()
}

fn moment_column(moment: i64, rows: usize, field: &FieldRef) -> ArrayRef {
    let zone = match field.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Arc::new(TimestampMillisecondArray::from_value(moment, rows).with_timezone_opt(zone))
}

#[cfg(test)]
mod restored;

#[cfg(test)]
mod tests;
