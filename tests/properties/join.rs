//! Interval joins against two models: Flink's way row by row, late rows included; and, for rows in time, the plain join of
//! everything with everything.

use crate::engine::{After, Draw, Engine, Row, Source, column, draws, schema, sorted, treatments};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Sign;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tributary::plan::{IntervalJoin, JoinKind, Op};
use tributary::time::{EventTime, Progress};

const ROUNDS: usize = 6;
const BOUND: i64 = 6;

/// What a join is asked for in a test.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: JoinKind,
    lower: i64,
    upper: i64,
    /// Milliseconds for one step of time: small ones try the exact bounds, large ones many buckets.
    unit: i64,
    /// Whether equal values are asked not to meet.
    filter: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let kind = prop::sample::select(vec![
        JoinKind::Inner,
        JoinKind::Left,
        JoinKind::Right,
        JoinKind::Full,
    ]);
    let unit = prop::sample::select(vec![1i64, 700, 5_000]);
    (kind, -10i64..10, 0i64..15, unit, any::<bool>()).prop_map(
        |(kind, lower, span, unit, filter)| Asked {
            kind,
            lower: lower * unit,
            upper: (lower + span) * unit,
            unit,
            filter,
        },
    )
}

impl Asked {
    fn outer(&self) -> [bool; 2] {
        match self.kind {
            JoinKind::Inner => [false, false],
            JoinKind::Left => [true, false],
            JoinKind::Right => [false, true],
            JoinKind::Full => [true, true],
        }
    }

    fn engine(&self) -> Engine {
        let visible: Vec<Field> = schema().fields()[..4]
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let out: SchemaRef = Arc::new(Schema::new([visible.clone(), visible].concat()));
        let differ = || {
            let (left, right) = (Column::new("value", 2), Column::new("value", 6));
            binary(Arc::new(left), Sign::NotEq, Arc::new(right), &out).unwrap()
        };
        let spec = IntervalJoin {
            kind: self.kind,
            left_keys: vec![column("key")],
            right_keys: vec![column("key")],
            left_time: column("time"),
            right_time: column("time"),
            lower_ms: self.lower,
            upper_ms: self.upper,
            filter: self.filter.then(differ),
        };
        Engine::new(Op::IntervalJoin(spec), out, vec![schema(), schema()], 1)
    }

    fn matches(&self, left: &Row, right: &Row) -> bool {
        let differ = left.value.is_some() && right.value.is_some() && left.value != right.value;
        left.key.is_some()
            && left.key == right.key
            && (self.lower..=self.upper).contains(&(left.time - right.time))
            && (differ || !self.filter)
    }
}

fn line(left: Option<&Row>, right: Option<&Row>) -> String {
    let show = |value: Option<String>| value.unwrap_or("-".to_string());
    let side = |row: Option<&Row>| {
        [
            show(row.and_then(|row| row.key).map(|key| format!("key {key}"))),
            show(row.map(|row| row.time.to_string())),
            show(row.and_then(|row| row.value).map(|value| value.to_string())),
            show(row.map(|row| row.id.to_string())),
        ]
        .join(" | ")
    };
    format!("{} | {}", side(left), side(right))
}

fn oriented(input: usize, own: &Row, other: Option<&Row>) -> String {
    if input == 0 {
        line(Some(own), other)
    } else {
        line(other, Some(own))
    }
}

/// Flink's way, one row at a time, with lists instead of an index.
struct Model {
    asked: Asked,
    kept: [Vec<(Row, bool)>; 2],
    progress: [Progress; 2],
    watermark: i64,
    out: Vec<String>,
}

impl Model {
    fn new(asked: Asked) -> Self {
        Model {
            asked,
            kept: [Vec::new(), Vec::new()],
            progress: [Progress::START; 2],
            watermark: i64::MIN,
            out: Vec::new(),
        }
    }

    /// Until when, inclusive, a row can be matched by one of the other input.
    fn expiry(&self, input: usize, row: &Row) -> i64 {
        if input == 0 {
            row.time - self.asked.lower
        } else {
            row.time + self.asked.upper
        }
    }

    fn row(&mut self, input: usize, row: &Row) {
        let other = self.progress[1 - input];
        let joint = if other.idle {
            row.watermark
        } else {
            row.watermark.min(other.watermark.0)
        };
        let watermark = joint.max(self.watermark);
        let mut others = std::mem::take(&mut self.kept[1 - input]);
        let mut met = false;
        for (other, matched) in &mut others {
            let (left, right) = if input == 0 {
                (row, &*other)
            } else {
                (&*other, row)
            };
            if watermark <= self.expiry(1 - input, other) && self.asked.matches(left, right) {
                self.out.push(line(Some(left), Some(right)));
                *matched = true;
                met = true;
            }
        }
        self.kept[1 - input] = others;
        if row.key.is_some() && watermark < self.expiry(input, row) {
            self.kept[input].push((row.clone(), met));
        } else if !met && self.asked.outer()[input] {
            self.out.push(oriented(input, row, None));
        }
    }

    fn watermark(&mut self, progress: [Progress; 2]) {
        self.progress = progress;
        self.watermark = self.watermark.max(Progress::combine(&progress).watermark.0);
        for input in 0..2 {
            for (row, matched) in std::mem::take(&mut self.kept[input]) {
                if self.watermark <= self.expiry(input, &row) {
                    self.kept[input].push((row, matched));
                } else if !matched && self.asked.outer()[input] {
                    self.out.push(oriented(input, &row, None));
                }
            }
        }
    }
}

/// The join of all rows, as a batch would have it.
fn join_at_once(asked: &Asked, left: &[Row], right: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    for l in left {
        for r in right.iter().filter(|r| asked.matches(l, r)) {
            out.push(line(Some(l), Some(r)));
        }
    }
    let [left_outer, right_outer] = asked.outer();
    for l in left
        .iter()
        .filter(|l| left_outer && !right.iter().any(|r| asked.matches(l, r)))
    {
        out.push(line(Some(l), None));
    }
    for r in right
        .iter()
        .filter(|r| right_outer && !left.iter().any(|l| asked.matches(l, r)))
    {
        out.push(line(None, Some(r)));
    }
    out
}

/// Each row of an outer side is there, and padded once at most.
fn check_outer_rows(engine: &Engine, asked: &Asked, rows: &[Vec<Row>; 2]) {
    for input in (0..2).filter(|input| asked.outer()[*input]) {
        let mut seen: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
        for batch in &engine.out_batches {
            let ids = batch.column(3 + 4 * input).as_primitive::<Int64Type>();
            let others = batch.column(3 + 4 * (1 - input));
            for row in (0..batch.num_rows()).filter(|row| ids.is_valid(*row)) {
                let (times, padded) = seen.entry(ids.value(row)).or_default();
                *times += 1;
                *padded += usize::from(others.is_null(row));
            }
        }
        for row in &rows[input] {
            let (times, padded) = seen.get(&row.id).copied().unwrap_or_default();
            assert!(times >= 1, "row {} is lost", row.id);
            assert!(
                padded == 0 || times == 1,
                "row {} is padded and more",
                row.id
            );
        }
    }
}

fn two_inputs(max_back: i64) -> impl Strategy<Value = Vec<[Vec<Draw>; 2]>> {
    let round = (draws(max_back, 16), draws(max_back, 16)).prop_map(|(left, right)| [left, right]);
    prop::collection::vec(round, ROUNDS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_join_gives_what_flink_gives_row_by_row(
        asked in asked(),
        rounds in two_inputs(25),
        idle in prop::collection::vec(any::<[bool; 2]>(), ROUNDS),
        treatments in treatments(ROUNDS),
    ) {
        let mut engine = asked.engine();
        let mut model = Model::new(asked);
        let mut sources = [0, 1_000].map(|first| Source::new(BOUND, asked.unit, first));
        let mut rows = [Vec::new(), Vec::new()];
        for ((round, treatment), idle) in rounds.iter().zip(&treatments).zip(&idle) {
            for input in 0..2 {
                let new = sources[input].rows(&round[input]);
                engine.send(input, &new, treatment.batch);
                new.iter().for_each(|row| model.row(input, row));
                rows[input].extend(new);
            }
            let progress = [0, 1].map(|input| Progress {
                watermark: EventTime(sources[input].watermark),
                idle: idle[input] && round[input].is_empty(),
            });
            engine.watermark(&progress);
            model.watermark(progress);
            prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out.clone()));
            engine.after(&treatment.after);
            if let After::Restart { .. } = treatment.after {
                model.watermark = Progress::combine(&progress).watermark.0;
            }
        }
        engine.end();
        model.watermark([Progress::at(EventTime::END); 2]);
        check_outer_rows(&engine, &asked, &rows);
        prop_assert_eq!(sorted(engine.out), sorted(model.out));
    }

    #[test]
    fn rows_in_time_join_as_a_batch_would_join_them(
        asked in asked(),
        rounds in two_inputs(BOUND),
        treatments in treatments(ROUNDS),
        right_first in prop::collection::vec(any::<bool>(), ROUNDS),
    ) {
        let mut engine = asked.engine();
        let mut sources = [0, 1_000].map(|first| Source::new(BOUND, asked.unit, first));
        let mut rows = [Vec::new(), Vec::new()];
        for ((round, treatment), right_first) in rounds.iter().zip(&treatments).zip(&right_first) {
            let announced = engine.announced.watermark.0;
            let before = engine.out_batches.len();
            for input in if *right_first { [1, 0] } else { [0, 1] } {
                let new = sources[input].rows(&round[input]);
                engine.send(input, &new, treatment.batch);
                rows[input].extend(new);
            }
            engine.watermark(&[0, 1].map(|input| Progress::at(EventTime(sources[input].watermark))));
            // Whichever of the two times goes on as event time, no row is late behind the join.
            for batch in &engine.out_batches[before..] {
                for time in [1, 5].map(|at| batch.column(at).as_primitive::<Int64Type>()) {
                    prop_assert!(time.iter().flatten().all(|time| time > announced));
                }
            }
            engine.after(&treatment.after);
        }
        engine.end();
        let expected = join_at_once(&asked, &rows[0], &rows[1]);
        prop_assert_eq!(sorted(engine.out), sorted(expected));
    }
}

/// Some rows are far ahead of their neighbours, so that the batches that brought them are soon mostly dead, and what lives is moved:
/// it must be found all the same, and the dead must not stay in memory.
#[test]
fn rows_that_outlive_their_batches_are_moved_and_found() {
    let asked = Asked {
        kind: JoinKind::Full,
        lower: -1_000,
        upper: 1_000,
        unit: 1,
        filter: false,
    };
    let mut engine = asked.engine();
    let mut model = Model::new(asked);
    let mut bytes = Vec::new();
    for round in 0..300i64 {
        let watermark = round * 1_000 - 2_000;
        let row = |input: i64, i: i64| Row {
            key: Some((i % 50) as u8),
            time: round * 1_000 + i + if i % 50 == 7 { 100_000 } else { 0 },
            value: None,
            id: (2 * round + input) * 1_000 + i,
            watermark,
        };
        for (input, rows) in [(0, 300), (1, 20)] {
            let rows: Vec<Row> = (0..rows).map(|i| row(input, i)).collect();
            engine.send(input as usize, &rows, 100);
            rows.iter().for_each(|row| model.row(input as usize, row));
        }
        engine.watermark(&[Progress::at(EventTime(watermark)); 2]);
        model.watermark([Progress::at(EventTime(watermark)); 2]);
        assert_eq!(engine.out.len(), model.out.len(), "round {round}");
        bytes.push(engine.state_bytes());
        engine.after(if round % 100 == 99 {
            &After::Snapshot
        } else {
            &After::Nothing
        });
    }
    engine.end();
    model.watermark([Progress::at(EventTime::END); 2]);
    assert_eq!(sorted(engine.out), sorted(model.out));
    // Without the move, 30,000 rows would lie in memory from round 100 on; 1,500 of them live.
    let (early, late) = (bytes[30], bytes[100..].iter().max().unwrap());
    assert!(*late < early * 3, "{early} bytes grew to {late}");
}
