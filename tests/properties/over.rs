//! Aggregates OVER rows against a model that takes row by row, as Flink does, and computes every frame anew.

use crate::engine::{Engine, Row, Source, column, draws, key_text, schema, sorted, treatments};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tributary::operator::hidden;
use tributary::plan::{Frame, Op, OverAggregate, OverCall, Running};
use tributary::time::{EventTime, Progress};

const ROUNDS: usize = 5;
const BOUND: i64 = 6;

const CALLS: [Running; 7] = [
    Running::Count,
    Running::Sum,
    Running::Min,
    Running::Max,
    Running::First,
    Running::Last,
    Running::CountDistinct,
];

fn node(frame: Frame, keyed: bool, timed: bool) -> (Op, SchemaRef) {
    let visible = hidden::visible(&schema());
    let mut fields: Vec<_> = schema().fields()[..visible].to_vec();
    let calls = CALLS.iter().enumerate().map(|(at, function)| {
        let name = format!("r{at}");
        fields.push(Arc::new(Field::new(&name, DataType::Int64, true)));
        OverCall {
            function: *function,
            argument: Some(column("value")),
            name,
        }
    });
    let over = OverAggregate {
        calls: calls.collect(),
        keys: if keyed { vec![column("key")] } else { vec![] },
        time: timed.then(|| column("time")),
        frame,
    };
    (Op::Over(over), Arc::new(Schema::new(fields)))
}

struct Model {
    frame: Frame,
    keyed: bool,
    watermark: i64,
    /// In the order of arrival.
    waiting: Vec<Row>,
    /// What came out, by key.
    fired: BTreeMap<Option<u8>, Vec<Row>>,
    out: Vec<String>,
    late: Vec<String>,
}

impl Model {
    fn new(frame: Frame, keyed: bool) -> Model {
        Model {
            frame,
            keyed,
            watermark: i64::MIN,
            waiting: Vec::new(),
            fired: BTreeMap::new(),
            out: Vec::new(),
            late: Vec::new(),
        }
    }

    fn key(&self, row: &Row) -> Option<u8> {
        row.key.filter(|_| self.keyed)
    }

    /// A row by event time.
    fn row(&mut self, row: &Row) {
        self.advance(row.watermark);
        let key = self.key(row);
        let fired = self.fired.get(&key).into_iter().flatten();
        let last = fired.map(|row| row.time).max();
        let passed = self.frame.has_passed(row.time, row.watermark);
        let late = match self.frame {
            Frame::AllRows | Frame::AllRange => row.time <= row.watermark,
            Frame::Rows(_) | Frame::Range(_) => last.is_some_and(|last| row.time <= last) || passed,
        };
        match late {
            true => self.late.push(row.id.to_string()),
            false => self.waiting.push(row.clone()),
        }
    }

    fn advance(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let waiting = std::mem::take(&mut self.waiting);
        let (mut due, rest): (Vec<Row>, Vec<Row>) =
            waiting.into_iter().partition(|row| row.time <= watermark);
        self.waiting = rest;
        due.sort_by_key(|row| row.time);
        for moment in due.chunk_by(|a, b| a.time == b.time) {
            for row in moment {
                let key = self.key(row);
                self.fired.entry(key).or_default().push(row.clone());
                if !self.frame.is_range() {
                    self.emit(row);
                }
            }
            let together = self.frame.is_range();
            for row in moment.iter().filter(|_| together) {
                self.emit(row);
            }
        }
    }

    /// A row by arrival.
    fn arrives(&mut self, row: &Row) {
        let key = self.key(row);
        self.fired.entry(key).or_default().push(row.clone());
        self.emit(row);
    }

    fn emit(&mut self, row: &Row) {
        let fired = &self.fired[&self.key(row)];
        let in_frame: Vec<&Row> = match self.frame {
            Frame::AllRows | Frame::AllRange => fired.iter().collect(),
            Frame::Rows(before) => {
                let from = fired.len().saturating_sub(before as usize + 1);
                fired[from..].iter().collect()
            }
            Frame::Range(millis) => {
                let in_range = |other: &&Row| other.time >= row.time - millis;
                fired.iter().filter(in_range).collect()
            }
        };
        let known: Vec<i64> = in_frame.iter().filter_map(|row| row.value).collect();
        let mut distinct = known.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let show = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        let sum = (!known.is_empty()).then(|| known.iter().sum());
        let parts = [
            row.key.map_or("-".to_owned(), |_| key_text(row.key)),
            row.time.to_string(),
            show(row.value),
            row.id.to_string(),
            known.len().to_string(),
            show(sum),
            show(known.iter().min().copied()),
            show(known.iter().max().copied()),
            show(known.first().copied()),
            show(known.last().copied()),
            distinct.len().to_string(),
        ];
        self.out.push(parts.join(" | "));
    }
}

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(Frame::AllRows),
        Just(Frame::AllRange),
        (0u64..4).prop_map(Frame::Rows),
        (0i64..12).prop_map(Frame::Range),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn by_event_time_it_gives_what_flink_gives(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
        frame in frames(),
        keyed in any::<bool>(),
    ) {
        let (op, out) = node(frame, keyed, true);
        let mut engine = Engine::new(op, out, vec![schema()], 1);
        let mut model = Model::new(frame, keyed);
        let mut source = Source::new(BOUND, 1, 0);
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            engine.send(0, &rows, treatment.batch);
            rows.iter().for_each(|row| model.row(row));
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            model.advance(source.watermark);
            prop_assert_eq!(engine.announced.watermark, EventTime(source.watermark));
            prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out.clone()));
            engine.after(&treatment.after);
        }
        engine.last_watermark();
        model.advance(i64::MAX);
        prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out));
        prop_assert_eq!(sorted(engine.late.clone()), sorted(model.late));
    }

    #[test]
    fn by_arrival_each_row_comes_out_at_once(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
        frame in prop_oneof![Just(Frame::AllRows), (0u64..4).prop_map(Frame::Rows)],
        keyed in any::<bool>(),
    ) {
        let (op, out) = node(frame, keyed, false);
        let mut engine = Engine::new(op, out, vec![schema()], 1);
        let mut model = Model::new(frame, keyed);
        let mut source = Source::new(BOUND, 1, 0);
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            engine.send(0, &rows, treatment.batch);
            rows.iter().for_each(|row| model.arrives(row));
            prop_assert_eq!(sorted(engine.out.clone()), sorted(model.out.clone()));
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            engine.after(&treatment.after);
        }
        prop_assert!(engine.late.is_empty());
    }
}

/// The rows and the answers are those of a run of Flink 2.2: SUM and FIRST_VALUE by ROWS 1 PRECEDING.
#[test]
fn the_model_itself_is_held_to_flinks_numbers() {
    let mut model = Model::new(Frame::Rows(1), true);
    let mut newest = i64::MIN;
    for (id, (key, value, time)) in [
        (0, Some(1), 1),
        (1, Some(5), 2),
        (0, None, 1),
        (0, Some(4), 3),
        (0, Some(2), 7),
        (1, Some(3), 4),
        (0, Some(9), 4),
        (0, Some(8), 2),
        (0, Some(7), 12),
    ]
    .into_iter()
    .enumerate()
    {
        let row = Row {
            key: Some(key),
            time,
            value,
            id: id as i64,
            watermark: newest,
        };
        model.row(&row);
        newest = newest.max(time - 2);
    }
    model.advance(i64::MAX);
    let brief: Vec<String> = model
        .out
        .iter()
        .map(|line| {
            let parts: Vec<&str> = line.split(" | ").collect();
            [parts[0], parts[2], parts[5], parts[8]].join(" ")
        })
        .collect();
    assert_eq!(
        brief,
        [
            "key 0 1 1 1",
            "key 0 - 1 1",
            "key 1 5 5 5",
            "key 0 4 4 4",
            "key 1 3 8 5",
            "key 0 9 13 4",
            "key 0 2 11 9",
            "key 0 7 9 2",
        ]
    );
    assert_eq!(model.late, ["7"]);
}
