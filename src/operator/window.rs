//! GROUP BY a tumbling window: one table of groups for every open window.
//!
//! Guarantee: a row counts in its window unless the window had fired by the watermark in force just before the row;
//! then it is handed back as late. A window fires once, when the watermark reaches its last millisecond, in the order of
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

/// The name of its state: keys, the end of the window, then the columns of every aggregate's state.
const PART: &str = "groups";

/// So many groups make a window worth parts of its own in the state, which are not written again while their groups rest.
const LARGE: usize = 256;

/// Aggregates rows by key in tumbling windows.
pub struct TumbleWindows {
    size_ms: i64,
    offset_ms: i64,
    time: Arc<dyn PhysicalExpr>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Compiled>,
    encoder: KeyEncoder,
    /// The columns of [`PART`].
    state: Vec<Field>,
    schema: SchemaRef,
    watermark_column: Option<usize>,
    /// By the end of the window.
    windows: BTreeMap<i64, Groups>,
    /// How many parts were saved by themselves, for their numbers.
    saves: u64,
    current: Progress,
}

/// The rows of a batch by window.
struct Assignment {
    /// For each window, its end and its rows; None for "all rows of the batch".
    windows: Vec<(i64, Option<Vec<u32>>)>,
    /// The same for windows that had fired.
    late: Vec<(i64, Vec<u32>)>,
    /// Rows without event time.
    timeless: Vec<u32>,
}

impl TumbleWindows {
    pub fn new(spec: &WindowAggregate, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let Window::Tumble { size_ms, offset_ms } = spec.window;
        let [input] = inputs else {
            return Err(Error::bug(format!(
                "a window has one input, not {}",
                inputs.len()
            )));
        };
        if size_ms <= 0 {
            return Err(Error::job(format!(
                "a window of {size_ms} ms: its size must be positive"
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
        for (at, held) in aggregates.iter().flat_map(|a| &a.state).enumerate() {
            columns.push(state::column(format!("state_{at}"), held));
        }
        Ok(TumbleWindows {
            size_ms,
            offset_ms,
            time: spec.time.clone(),
            keys: spec.keys.clone(),
            aggregates,
            state: columns,
            encoder: KeyEncoder::for_exprs(&spec.keys, input)?,
            schema,
            watermark_column: hidden::watermark(input),
            windows: BTreeMap::new(),
            saves: 0,
            current: Progress::START,
        })
    }

    /// Finds the window of every row. The rows of a batch mostly share a window or two, so the last one is
    /// tried first, and the division is made only for a row outside it.
    fn assign(&self, times: &Int64Array, watermarks: Option<&Int64Array>) -> Assignment {
        let announced = self.current.watermark.0;
        let mut rows_of: Vec<(i64, Vec<u32>)> = Vec::new();
        let mut place_of: HashMap<i64, usize> = HashMap::new();
        let mut late = Vec::new();
        let mut timeless = Vec::new();
        let mut last = 0;
        for row in 0..times.len() {
            if times.is_null(row) {
                timeless.push(row as u32);
                continue;
            }
            let time = times.value(row);
            let same = rows_of
                .get(last)
                .is_some_and(|(end, _)| self.contains(*end, time));
            let end = if same {
                rows_of[last].0
            } else {
                self.end_of(time)
            };
            let watermark = watermarks.map_or(announced, |own| own.value(row).max(announced));
            if end - 1 <= watermark {
                late.push((end, row as u32));
                continue;
            }
            if !same {
                last = *place_of.entry(end).or_insert_with(|| {
                    rows_of.push((end, Vec::new()));
                    rows_of.len() - 1
                });
            }
            rows_of[last].1.push(row as u32);
        }
        let whole = |rows: Vec<u32>| (rows.len() < times.len()).then_some(rows);
        let windows = rows_of
            .into_iter()
            .map(|(end, rows)| (end, whole(rows)))
            .collect();
        Assignment {
            windows,
            late: by_window(late),
            timeless,
        }
    }

    fn end_of(&self, time: i64) -> i64 {
        let into = time.saturating_sub(self.offset_ms).rem_euclid(self.size_ms);
        time.saturating_sub(into).saturating_add(self.size_ms)
    }

    fn contains(&self, end: i64, time: i64) -> bool {
        time < end && time >= end.saturating_sub(self.size_ms)
    }

    fn feeds(&self, batch: &RecordBatch) -> Result<Vec<Feed>> {
        self.aggregates
            .iter()
            .map(|aggregate| aggregate.feed(batch))
            .collect()
    }

    fn window(&mut self, end: i64) -> Result<&mut Groups> {
        let aggregates = &self.aggregates;
        let encoder = &self.encoder;
        match self.windows.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let functions = aggregates.iter().map(|compiled| &compiled.function);
                Ok(entry.insert(Groups::new(encoder, functions)?))
            }
        }
    }

    fn fire(&self, end: i64, groups: Groups) -> Result<RecordBatch> {
        let rows = groups.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let moments = [end.saturating_sub(self.size_ms), end, end - 1];
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
            let start = EventTime(end.saturating_sub(self.size_ms));
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

    /// The state of one window as a table.
    fn table(
        &self,
        end: i64,
        keys: Vec<ArrayRef>,
        states: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch> {
        let mut columns = keys;
        columns.push(Arc::new(Int64Array::from_value(end, rows)));
        columns.extend(states);
        state::rows_of(&self.state, columns)
    }
}

impl Operator for TumbleWindows {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let times = evaluate_millis(&self.time, &batch)?;
        let watermarks = row_watermarks(&batch, self.watermark_column)?;
        let mut assignment = self.assign(&times, watermarks.as_ref());
        self.hand_back(&batch, &mut assignment, out)?;
        if assignment.windows.is_empty() {
            return Ok(());
        }
        let keys = evaluate_all(&self.keys, &batch)?;
        let keys = self.encoder.encode(&keys, batch.num_rows())?;
        let feeds = self.feeds(&batch)?;
        for (end, rows) in assignment.windows {
            let groups = self.window(end)?;
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
        while let Some((end, _)) = self.windows.first_key_value()
            && *end - 1 <= self.current.watermark.0
            && let Some((end, groups)) = self.windows.pop_first()
        {
            out.batches.push(self.fire(end, groups)?);
        }
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut windows = std::mem::take(&mut self.windows);
        let key_columns = self.keys.len();
        let part = |id, rows| StatePart {
            name: PART,
            id,
            rows,
            key_columns,
        };
        let mut parts = Snapshot::new();
        let mut small = Vec::new();
        for (end, groups) in &mut windows {
            let large = groups.len() >= LARGE;
            if large && groups.pages.iter().all(Option::is_some) {
                parts.extend(groups.pages.iter().map(|page| part(*page, None)));
                continue;
            }
            let rows = groups.len();
            let states = groups.state()?;
            let keys = groups.keys(&self.encoder)?;
            let table = self.table(*end, keys, states, rows)?;
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
        self.windows = windows;
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
        let Some(ends) = rows.column(keys).as_primitive_opt::<Int64Type>() else {
            return Err(unknown_part("a window", part));
        };
        let encoded = self
            .encoder
            .encode(&rows.columns()[..keys], rows.num_rows())?;
        let by_end = by_window(
            ends.values()
                .iter()
                .zip(0u32..)
                .map(|(end, row)| (*end, row))
                .collect(),
        );
        for (end, selected) in by_end {
            let selected = UInt32Array::from(selected);
            let states: Vec<_> = rows.columns()[keys + 1..]
                .iter()
                .map(|column| Ok(take(column, &selected, None)?))
                .collect::<Result<_>>()?;
            let widths: Vec<_> = self
                .aggregates
                .iter()
                .map(|compiled| compiled.state.len())
                .collect();
            self.window(end)?
                .merge(&encoded, selected.values(), &states, &widths)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.windows.values().map(Groups::size).sum()
    }
}

/// Rows by the end of their window, in the order of windows, the rows of a window in the order in which they came.
fn by_window(mut rows: Vec<(i64, u32)>) -> Vec<(i64, Vec<u32>)> {
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
mod tests {
    use super::*;
    use crate::plan::Aggregate;
    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::Schema;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::functions_aggregate::count::count_udaf;
    use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
    use datafusion::functions_aggregate::stddev::stddev_udaf;
    use datafusion::functions_aggregate::sum::sum_udaf;
    use datafusion::logical_expr::{AggregateUDF, Operator as Sign};
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::{Column, binary, lit};

    type Row = (&'static str, Option<i64>, f64);

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("time", DataType::Int64, true),
            Field::new("value", DataType::Float64, true),
        ]))
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let keys = StringArray::from_iter_values(rows.iter().map(|row| row.0));
        let times: Int64Array = rows.iter().map(|row| row.1).collect();
        let values = Float64Array::from_iter_values(rows.iter().map(|row| row.2));
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times), Arc::new(values)];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    fn column(name: &str) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new_with_schema(name, &schema()).unwrap())
    }

    fn aggregate(function: Arc<AggregateUDF>, above: Option<f64>) -> Aggregate {
        let filter =
            above.map(|above| binary(column("value"), Sign::Gt, lit(above), &schema()).unwrap());
        let function = AggregateExprBuilder::new(function, vec![column("value")])
            .schema(schema())
            .alias("aggregate")
            .build()
            .unwrap();
        Aggregate {
            function: Arc::new(function),
            filter,
        }
    }

    fn windows(aggregates: Vec<Aggregate>) -> TumbleWindows {
        let moment = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        let mut fields: Vec<_> = ["start", "end", "time"]
            .map(|name| Field::new(name, moment.clone(), false))
            .to_vec();
        fields.push(Field::new("key", DataType::Utf8, true));
        for (at, aggregate) in aggregates.iter().enumerate() {
            let data_type = aggregate.function.field().data_type().clone();
            fields.push(Field::new(format!("a{at}"), data_type, true));
        }
        let spec = WindowAggregate {
            window: Window::Tumble {
                size_ms: 1_000,
                offset_ms: 0,
            },
            time: column("time"),
            keys: vec![column("key")],
            aggregates,
        };
        TumbleWindows::new(&spec, Arc::new(Schema::new(fields)), &[schema()]).unwrap()
    }

    fn send(windows: &mut TumbleWindows, rows: &[Row]) -> Output {
        let mut out = Output::default();
        windows.on_batch(0, batch(rows), &mut out).unwrap();
        out
    }

    fn reach(windows: &mut TumbleWindows, at: EventTime) -> Vec<RecordBatch> {
        let mut out = Output::default();
        windows.on_watermark(&[Progress::at(at)], &mut out).unwrap();
        out.batches
    }

    #[test]
    fn windows_fire_in_their_order_and_groups_in_the_order_of_keys() {
        let mut windows = windows(vec![
            aggregate(count_udaf(), None),
            aggregate(count_udaf(), Some(5.0)),
            aggregate(sum_udaf(), Some(5.0)),
        ]);
        let rows = [
            ("b", Some(1_500), 2.0),
            ("b", Some(10), 7.0),
            ("a", Some(999), 1.0),
            ("b", Some(0), 8.0),
        ];
        send(&mut windows, &rows);
        assert!(reach(&mut windows, EventTime(998)).is_empty());
        assert_eq!(reach(&mut windows, EventTime(999)).len(), 1);
        send(&mut windows, &[("c", Some(2_000), 6.0)]);
        let fired = reach(&mut windows, EventTime::END);
        let shown = pretty_format_batches(&fired).unwrap().to_string();
        let expected = "\
+---------------------+---------------------+-------------------------+-----+----+----+-----+
| start               | end                 | time                    | key | a0 | a1 | a2  |
+---------------------+---------------------+-------------------------+-----+----+----+-----+
| 1970-01-01T00:00:01 | 1970-01-01T00:00:02 | 1970-01-01T00:00:01.999 | b   | 1  | 0  |     |
| 1970-01-01T00:00:02 | 1970-01-01T00:00:03 | 1970-01-01T00:00:02.999 | c   | 1  | 1  | 6.0 |
+---------------------+---------------------+-------------------------+-----+----+----+-----+";
        assert_eq!(shown, expected);
    }

    #[test]
    fn late_rows_are_handed_back_with_the_reason() {
        let mut windows = windows(vec![aggregate(count_udaf(), None)]);
        reach(&mut windows, EventTime(1_999));
        let rows = [
            ("a", Some(1_999), 1.0),
            ("a", Some(2_000), 2.0),
            ("a", None, 3.0),
            ("a", Some(5), 4.0),
            ("a", Some(1_000), 5.0),
        ];
        let late = send(&mut windows, &rows).late;
        let (kept, why): (Vec<_>, Vec<_>) = late.into_iter().unzip();
        assert_eq!(
            kept,
            [
                batch(&rows[3..4]),
                batch(&[rows[0], rows[4]]),
                batch(&rows[2..3])
            ]
        );
        assert_eq!(
            why[1],
            "the window from 1970-01-01 00:00:01.000 to 1970-01-01 00:00:02.000 had fired already"
        );
        assert_eq!(why[2], "the event time is NULL, so there is no window");
        let fired = reach(&mut windows, EventTime::END);
        assert_eq!(fired[0].column(4).as_ref(), &Int64Array::from(vec![1]));
    }

    #[test]
    fn a_checkpoint_changes_nothing_whatever_the_aggregate() {
        let aggregates = || {
            let functions = [
                stddev_udaf(),
                first_value_udaf(),
                last_value_udaf(),
                sum_udaf(),
            ];
            Vec::from(functions.map(|function| aggregate(function, None)))
        };
        let run = |checkpoint: bool, restart: bool| {
            let mut running = windows(aggregates());
            for part in 0..4 {
                let at = part * 300;
                send(
                    &mut running,
                    &[("a", Some(at), at as f64), ("b", Some(at + 50), 0.25)],
                );
                if checkpoint {
                    // The second one finds the state as the first one left it.
                    let first = running.snapshot().unwrap();
                    let second = running.snapshot().unwrap();
                    assert_eq!(first[0].rows, second[0].rows);
                    assert!(running.state_bytes() > 0);
                    if restart {
                        running = windows(aggregates());
                        running
                            .restore(second[0].name, second[0].rows.clone().unwrap())
                            .unwrap();
                    }
                }
            }
            reach(&mut running, EventTime::END)
        };
        assert_eq!(run(true, false), run(false, false));
        assert_eq!(run(true, true), run(false, false));
    }

    #[test]
    fn a_large_window_that_rests_is_not_saved_again() {
        let mut windows = windows(vec![aggregate(count_udaf(), None)]);
        let key = |key: usize| -> &'static str { key.to_string().leak() };
        let rows: Vec<Row> = (0..LARGE).map(|at| (key(at), Some(5), 1.0)).collect();
        send(&mut windows, &rows);
        send(&mut windows, &[("a", Some(1_500), 1.0)]);
        let said = |windows: &mut TumbleWindows| {
            let parts = windows.snapshot().unwrap().into_iter();
            let said = parts.map(|part| (part.id, part.rows.map(|rows| rows.num_rows())));
            said.collect::<Vec<_>>()
        };
        let small = (None, Some(1));
        assert_eq!(said(&mut windows), [(Some(1), Some(LARGE)), small]);
        assert_eq!(said(&mut windows), [(Some(1), None), small]);
        send(&mut windows, &[("a", Some(6), 1.0)]);
        assert_eq!(said(&mut windows), [(Some(2), Some(LARGE + 1)), small]);
        // Of a window of two pages only the one that was touched.
        let rows: Vec<Row> = (0..PAGE).map(|at| (key(at), Some(7), 1.0)).collect();
        send(&mut windows, &rows);
        let (first, second) = ((Some(3), Some(PAGE)), (Some(4), Some(1)));
        assert_eq!(said(&mut windows), [first, second, small]);
        send(&mut windows, &[(key(0), Some(8), 1.0)]);
        let second = (Some(4), None);
        assert_eq!(said(&mut windows), [(Some(5), Some(PAGE)), second, small]);
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let mut windows = windows(vec![aggregate(count_udaf(), None)]);
        let out = send(
            &mut windows,
            &[("a", Some(i64::MAX), 1.0), ("a", Some(i64::MIN), 1.0)],
        );
        let lost: usize = out.late.iter().map(|(rows, _)| rows.num_rows()).sum();
        let fired = reach(&mut windows, EventTime::END);
        assert_eq!(fired.len() + lost, 2);
    }
}
