//! Windows against a model that keeps every value in each window that it belongs to.

use crate::engine::{
    Draw, Engine, Row, Source, aggregate, column, draws, schema, sorted, treatments,
};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Sign;
use datafusion::physical_expr::expressions::{binary, cast, lit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tributary::plan::{Op, Window, WindowAggregate};
use tributary::time::{EventTime, Progress};

const ROUNDS: usize = 5;
const BOUND: i64 = 6;

fn node(window: Window, keyed: bool) -> (Op, SchemaRef) {
    let double = cast(column("value"), &schema(), DataType::Float64).unwrap();
    let positive = || Some(binary(column("value"), Sign::Gt, lit(0i64), &schema()).unwrap());
    let aggregates = vec![
        aggregate(count_udaf(), lit(1i64), false, None),
        aggregate(count_udaf(), column("value"), false, positive()),
        aggregate(sum_udaf(), column("value"), false, positive()),
        aggregate(avg_udaf(), double, false, None),
        aggregate(min_udaf(), column("value"), false, None),
        aggregate(max_udaf(), column("value"), false, None),
        aggregate(count_udaf(), column("value"), true, None),
    ];
    let moment = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut fields: Vec<_> = ["window_start", "window_end", "window_time"]
        .map(|name| Field::new(name, moment.clone(), false))
        .to_vec();
    if keyed {
        fields.push(Field::new("key", DataType::Utf8, true));
    }
    for (at, aggregate) in aggregates.iter().enumerate() {
        fields.push(Field::new(
            format!("a{at}"),
            aggregate.function.field().data_type().clone(),
            true,
        ));
    }
    let spec = WindowAggregate {
        window,
        time: column("time"),
        keys: if keyed { vec![column("key")] } else { vec![] },
        aggregates,
    };
    (Op::Window(spec), Arc::new(Schema::new(fields)))
}

/// Row by row, as Flink works: what fires, and the ids of late rows.
struct Model {
    window: Window,
    keyed: bool,
    /// By end, start and key.
    open: BTreeMap<(i64, i64, Option<u8>), Vec<Option<i64>>>,
    watermark: Option<i64>,
    out: Vec<String>,
    late: Vec<String>,
}

impl Model {
    fn new(window: Window, keyed: bool) -> Self {
        Model {
            window,
            keyed,
            open: BTreeMap::new(),
            watermark: None,
            out: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The start and the end of each window that holds a moment.
    fn windows_of(&self, time: i64) -> Vec<(i64, i64)> {
        let floor = |step: i64, offset: i64| time - (time - offset).rem_euclid(step);
        match self.window {
            Window::Tumble { size_ms, offset_ms } => {
                let start = floor(size_ms, offset_ms);
                vec![(start, start + size_ms)]
            }
            Window::Hop {
                slide_ms,
                size_ms,
                offset_ms,
            } => {
                let last = floor(slide_ms, offset_ms);
                let starts = (0..).map(|back| last - back * slide_ms);
                let starts = starts.take_while(|start| start + size_ms > time);
                starts.map(|start| (start, start + size_ms)).collect()
            }
            Window::Cumulate {
                step_ms,
                size_ms,
                offset_ms,
            } => {
                let start = floor(size_ms, offset_ms);
                let ends = (1..=size_ms / step_ms).map(|step| start + step * step_ms);
                let ends = ends.filter(|end| *end > time);
                ends.map(|end| (start, end)).collect()
            }
        }
    }

    fn row(&mut self, row: &Row) {
        let passed = self.watermark.unwrap_or(i64::MIN).max(row.watermark);
        let mut windows = self.windows_of(row.time);
        windows.retain(|(_, end)| end - 1 > passed);
        if windows.is_empty() {
            self.late.push(row.id.to_string());
        }
        let key = row.key.filter(|_| self.keyed);
        for (start, end) in windows {
            self.open
                .entry((end, start, key))
                .or_default()
                .push(row.value);
        }
    }

    fn watermark(&mut self, watermark: i64) {
        self.watermark = Some(watermark);
        while let Some(entry) = self.open.first_entry()
            && entry.key().0 - 1 <= watermark
        {
            let ((end, start, key), values) = entry.remove_entry();
            self.out.push(self.line(start, end, key, &values));
        }
    }

    fn line(&self, start: i64, end: i64, key: Option<u8>, values: &[Option<i64>]) -> String {
        let show = |value: Option<String>| value.unwrap_or("-".to_string());
        let moment = |at: i64| {
            let at = chrono::DateTime::from_timestamp_millis(at)
                .unwrap()
                .naive_utc();
            at.format("%Y-%m-%dT%H:%M:%S%.f").to_string()
        };
        let known: Vec<i64> = values.iter().flatten().copied().collect();
        let positive: Vec<i64> = known.iter().copied().filter(|value| *value > 0).collect();
        let average = known.iter().sum::<i64>() as f64 / known.len() as f64;
        let mut parts = vec![moment(start), moment(end), moment(end - 1)];
        if self.keyed {
            parts.push(show(key.map(|key| format!("key {key}"))));
        }
        parts.extend([
            values.len().to_string(),
            positive.len().to_string(),
            show((!positive.is_empty()).then(|| positive.iter().sum::<i64>().to_string())),
            show((!known.is_empty()).then(|| format!("{average:?}"))),
            show(known.iter().min().map(i64::to_string)),
            show(known.iter().max().map(i64::to_string)),
            known.iter().collect::<BTreeSet<_>>().len().to_string(),
        ]);
        parts.join(" | ")
    }
}

fn engine(window: Window, keyed: bool) -> Engine {
    let (op, out) = node(window, keyed);
    Engine::new(op, out, vec![schema()], 1)
}

/// Windows of every kind; the slices of those that overlap are `step_ms` long.
fn windows() -> impl Strategy<Value = Window> {
    let lengths = (0..3, 1i64..6, 1i64..4, 0i64..5);
    lengths.prop_map(|(kind, step_ms, times, offset_ms)| {
        let size_ms = step_ms * times;
        match kind {
            0 => Window::Tumble { size_ms, offset_ms },
            1 => Window::Hop {
                slide_ms: step_ms,
                size_ms,
                offset_ms,
            },
            _ => Window::Cumulate {
                step_ms,
                size_ms,
                offset_ms,
            },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_window_counts_what_flink_counts(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
        window in windows(),
        keyed in any::<bool>(),
    ) {
        let mut engine = engine(window, keyed);
        let mut model = Model::new(window, keyed);
        let mut source = Source::new(BOUND, 1, 0);
        let mut rows_in = 0;
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            rows_in += rows.len();
            engine.send(0, &rows, treatment.batch);
            rows.iter().for_each(|row| model.row(row));
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            model.watermark(source.watermark);
            prop_assert_eq!(engine.announced.watermark, EventTime(source.watermark));
            prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out.clone()));
            engine.after(&treatment.after);
        }
        engine.end();
        model.watermark(i64::MAX);
        prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out));
        prop_assert_eq!(sorted(engine.late.clone()), sorted(model.late));
        let counted = 3 + usize::from(keyed);
        let used: i64 = engine
            .out_batches
            .iter()
            .map(|batch| batch.column(counted).as_primitive::<Int64Type>().values().iter().sum::<i64>())
            .sum();
        if matches!(window, Window::Tumble { .. }) {
            prop_assert_eq!(rows_in, used as usize + engine.late.len());
        }
    }

    #[test]
    fn arrival_within_the_bound_changes_nothing(
        rounds in prop::collection::vec(draws(1, 30), ROUNDS),
        delays in prop::collection::vec(0i64..BOUND, ROUNDS * 30),
        batches in (1usize..20, 1usize..20),
        size in 1i64..12,
    ) {
        let all: Vec<Draw> = rounds.concat();
        let in_order = Source::new(BOUND, 1, 0).rows(&all);
        // A row may be delayed by less than the bound and still be in time.
        let mut shuffled: Vec<_> = in_order.iter().zip(&delays).collect();
        shuffled.sort_by_key(|(row, delay)| row.time + **delay);
        let mut newest = i64::MIN;
        let shuffled: Vec<Row> = shuffled
            .into_iter()
            .map(|(row, _)| {
                let watermark = newest;
                newest = newest.max(row.time - BOUND);
                Row { watermark, ..row.clone() }
            })
            .collect();
        let run = |rows: &[Row], batch: usize| {
            let mut engine = engine(Window::Tumble { size_ms: size, offset_ms: 0 }, true);
            for part in rows.chunks(rows.len() / 3 + 1) {
                engine.send(0, part, batch);
                let last = part.iter().map(|row| row.watermark.max(row.time - BOUND)).max();
                engine.watermark(&[Progress::at(EventTime(last.unwrap_or(i64::MIN)))]);
            }
            engine.end();
            engine
        };
        let (a, b) = (run(&in_order, batches.0), run(&shuffled, batches.1));
        prop_assert!(a.late.is_empty() && b.late.is_empty());
        // The very same rows in the very same order.
        prop_assert_eq!(a.out, b.out);
    }
}

#[test]
fn the_model_itself_is_held_to_known_numbers() {
    let (size_ms, offset_ms) = (10, 0);
    let mut model = Model::new(Window::Tumble { size_ms, offset_ms }, true);
    let row = |time, value, watermark| Row {
        key: Some(1),
        time,
        value,
        id: time,
        watermark,
    };
    model.row(&row(3, Some(2), i64::MIN));
    model.row(&row(9, None, 1));
    model.row(&row(5, Some(1), 9));
    model.watermark(9);
    assert_eq!(
        model.out,
        [
            "1970-01-01T00:00:00 | 1970-01-01T00:00:00.010 | 1970-01-01T00:00:00.009 | key 1 | 2 | 1 | 2 | 2.0 | 2 | 2 | 1"
        ]
    );
    assert_eq!(model.late, ["5"]);
}
