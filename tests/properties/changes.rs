//! Results that change against models that compute them anew: what is taken back and put in its place adds up to what holds.

use crate::engine::{
    Engine, Row, Source, aggregate, batch, column, draws, key_text, lines, schema, sorted,
    treatments,
};
use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Sign;
use datafusion::physical_expr::expressions::{binary, cast, lit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tributary::operator::changes::{self, Kind};
use tributary::operator::hidden;
use tributary::plan::{Gives, GroupAggregate, Op, OrderBy, Rank};
use tributary::time::{EventTime, Progress};

const ROUNDS: usize = 5;

fn group(keyed: bool) -> (Op, SchemaRef) {
    let double = cast(column("value"), &schema(), DataType::Float64).unwrap();
    let positive = || Some(binary(column("value"), Sign::Gt, lit(0i64), &schema()).unwrap());
    let aggregates = vec![
        aggregate(count_udaf(), lit(1i64), false, None),
        aggregate(sum_udaf(), column("value"), false, positive()),
        aggregate(avg_udaf(), double, false, None),
        aggregate(min_udaf(), column("value"), false, None),
        aggregate(count_udaf(), column("value"), true, None),
        aggregate(count_udaf(), column("value"), true, positive()),
        aggregate(count_udaf(), column("key"), true, None),
    ];
    let mut fields = Vec::new();
    if keyed {
        fields.push(Field::new("key", DataType::Utf8, true));
    }
    for (at, aggregate) in aggregates.iter().enumerate() {
        let data_type = aggregate.function.field().data_type().clone();
        fields.push(Field::new(format!("a{at}"), data_type, true));
    }
    fields.push(changes::field());
    let keys = if keyed { vec![column("key")] } else { vec![] };
    let op = Op::Group(GroupAggregate { keys, aggregates });
    (op, Arc::new(Schema::new(fields)))
}

fn different<T: Ord>(values: impl Iterator<Item = T>) -> String {
    values.collect::<BTreeSet<_>>().len().to_string()
}

/// What aggregates say of all rows.
fn group_model(rows: &[Row], keyed: bool) -> Vec<String> {
    let mut by_key: BTreeMap<Option<u8>, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_key
            .entry(row.key.filter(|_| keyed))
            .or_default()
            .push(row);
    }
    let show = |value: Option<String>| value.unwrap_or("-".to_string());
    let line = |(key, rows): (Option<u8>, Vec<&Row>)| {
        let known: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
        let positive: Vec<i64> = known.iter().copied().filter(|value| *value > 0).collect();
        let mean = known.iter().sum::<i64>() as f64 / known.len() as f64;
        let mut parts = Vec::new();
        if keyed {
            parts.push(show(key.map(|key| key_text(Some(key)))));
        }
        parts.extend([
            rows.len().to_string(),
            show((!positive.is_empty()).then(|| positive.iter().sum::<i64>().to_string())),
            show((!known.is_empty()).then(|| format!("{mean:?}"))),
            show(known.iter().min().map(i64::to_string)),
            different(known.iter()),
            different(positive.iter()),
            different(rows.iter().filter_map(|row| row.key)),
        ]);
        parts.join(" | ")
    };
    sorted(by_key.into_iter().map(line).collect())
}

/// The rows that hold after all changes. A row that is taken back must have been there.
fn held(batches: &[RecordBatch]) -> Vec<String> {
    let mut held: Vec<String> = Vec::new();
    for batch in batches {
        let (kinds, rows) = changes::split(batch).unwrap();
        for (line, kind) in lines(&rows).into_iter().zip(kinds.unwrap()) {
            match kind.adds() {
                true => held.push(line),
                false => {
                    let at = held.iter().position(|other| *other == line);
                    held.swap_remove(at.unwrap_or_else(|| panic!("never given: {line}")));
                }
            }
        }
    }
    sorted(held)
}

fn by(name: &str, descending: bool) -> OrderBy {
    OrderBy {
        expr: column(name),
        options: SortOptions {
            descending,
            nulls_first: !descending,
        },
    }
}

/// The columns that a job sees of the rows, the number, and the kind.
fn rank_schema(number: bool, kind: bool) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema().fields()[..4].to_vec();
    if number {
        fields.push(Arc::new(Field::new("number", DataType::Int64, false)));
    }
    if kind {
        fields.push(Arc::new(changes::field()));
    }
    Arc::new(Schema::new(fields))
}

fn rank(limit: usize, number: bool, input_changes: bool, gives: Gives) -> Op {
    let (name, descending) = match gives {
        Gives::AtTime(_) => ("time", false),
        _ => ("value", true),
    };
    Op::Rank(Rank {
        partition: vec![column("key")],
        order: vec![by(name, descending)],
        limit: Some(limit),
        number,
        newest_first: false,
        input_changes,
        gives,
    })
}

fn shown(row: &Row, number: Option<usize>) -> String {
    let show = |value: Option<String>| value.unwrap_or("-".to_string());
    let mut parts = vec![
        show(row.key.map(|key| key_text(Some(key)))),
        row.time.to_string(),
        show(row.value.map(|value| value.to_string())),
        row.id.to_string(),
    ];
    parts.extend(number.map(|number| number.to_string()));
    parts.join(" | ")
}

/// The first rows of each key by value, the greatest first; `tie` decides between equal ones.
fn rank_model<T: Ord>(
    rows: &[Row],
    limit: usize,
    number: bool,
    tie: impl Fn(&Row) -> T,
) -> Vec<String> {
    let mut by_key: BTreeMap<Option<u8>, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_key.entry(row.key).or_default().push(row);
    }
    let mut first = Vec::new();
    for mut rows in by_key.into_values() {
        rows.sort_by_key(|row| (std::cmp::Reverse(row.value), tie(row)));
        let numbered = rows.into_iter().take(limit).zip(1..);
        first.extend(numbered.map(|(row, at)| shown(row, number.then_some(at))));
    }
    sorted(first)
}

fn changing_schema() -> SchemaRef {
    let rows = schema();
    let fields = rows.fields()[..4].iter().cloned();
    let fields = fields.chain([Arc::new(changes::field())]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn changing_batch(changes: &[(Row, Kind)]) -> RecordBatch {
    let rows: Vec<Row> = changes.iter().map(|(row, _)| row.clone()).collect();
    let mut columns: Vec<ArrayRef> = batch(&rows).columns()[..4].to_vec();
    let kinds = changes.iter().map(|(_, kind)| *kind as i8);
    columns.push(Arc::new(Int8Array::from_iter_values(kinds)));
    RecordBatch::try_new(changing_schema(), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_changes_of_a_group_add_up_to_its_rows(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
        keyed in any::<bool>(),
    ) {
        let (op, out) = group(keyed);
        let mut engine = Engine::new(op, out, vec![schema()], 1);
        let mut source = Source::new(6, 1, 0);
        let mut all = Vec::new();
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            engine.send(0, &rows, treatment.batch);
            all.extend(rows);
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            prop_assert_eq!(held(&engine.out_batches), group_model(&all, keyed));
            engine.after(&treatment.after);
        }
    }

    #[test]
    fn the_first_rows_are_those_of_all_that_came(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
        limit in 1usize..4,
        number in any::<bool>(),
    ) {
        let op = rank(limit, number, false, Gives::Changes);
        let mut engine = Engine::new(op, rank_schema(number, true), vec![schema()], 1);
        let mut source = Source::new(6, 1, 0);
        let mut all = Vec::new();
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            engine.send(0, &rows, treatment.batch);
            all.extend(rows);
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            // Equal ones stand as they came.
            let model = rank_model(&all, limit, number, |row| row.id);
            prop_assert_eq!(held(&engine.out_batches), model);
            engine.after(&treatment.after);
        }
    }

    #[test]
    fn rows_that_are_taken_back_make_room(
        rounds in prop::collection::vec(draws(14, 20), ROUNDS),
        gone in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..12), ROUNDS),
        treatments in treatments(ROUNDS),
        limit in 1usize..4,
        number in any::<bool>(),
    ) {
        let op = rank(limit, number, true, Gives::Changes);
        let mut engine = Engine::new(op, rank_schema(number, true), vec![changing_schema()], 1);
        let mut source = Source::new(6, 1, 0);
        let mut all: Vec<Row> = Vec::new();
        for ((round, gone), treatment) in rounds.iter().zip(&gone).zip(&treatments) {
            let mut changes = Vec::new();
            for row in source.rows(round) {
                // Rows with equal values are rows of their own.
                let row = Row { id: row.id / 2, time: 0, ..row };
                changes.push((row.clone(), Kind::Insert));
                all.push(row);
            }
            for index in gone.iter().take(all.len()) {
                let at = index.index(all.len());
                changes.push((all.swap_remove(at), Kind::Delete));
            }
            for changes in changes.chunks(treatment.batch) {
                engine.send_batch(0, changing_batch(changes));
            }
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            let model = rank_model(&all, limit, number, |row| row.id);
            prop_assert_eq!(held(&engine.out_batches), model);
            engine.after(&treatment.after);
        }
    }

    #[test]
    fn the_first_row_of_a_key_comes_once_and_for_good(
        rounds in prop::collection::vec(draws(14, 30), ROUNDS),
        treatments in treatments(ROUNDS),
    ) {
        let op = rank(1, false, false, Gives::AtTime(column("time")));
        let mut engine = Engine::new(op, rank_schema(false, false), vec![schema()], 1);
        let mut source = Source::new(6, 1, 0);
        let mut first: BTreeMap<Option<u8>, Row> = BTreeMap::new();
        let mut late = Vec::new();
        for (round, treatment) in rounds.iter().zip(&treatments) {
            let rows = source.rows(round);
            engine.send(0, &rows, treatment.batch);
            for row in rows {
                if row.time < row.watermark {
                    late.push(row.id.to_string());
                    continue;
                }
                let held = first.entry(row.key).or_insert_with(|| row.clone());
                // Whatever has come out already is earlier than the watermark.
                if row.time < held.time {
                    *held = row;
                }
            }
            engine.watermark(&[Progress::at(EventTime(source.watermark))]);
            let due = first.values().filter(|row| row.time <= source.watermark);
            let due = sorted(due.map(|row| shown(row, None)).collect());
            prop_assert_eq!(sorted(engine.out.clone()), due);
            engine.after(&treatment.after);
        }
        prop_assert_eq!(sorted(engine.late.clone()), sorted(late));
    }
}

#[test]
fn the_hidden_columns_are_what_the_tests_take_them_for() {
    assert_eq!(hidden::visible(&schema()), 4);
    assert_eq!(hidden::visible(&changing_schema()), 4);
}
