use super::*;
use crate::plan::{OverCall, Running};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Schema;
use datafusion::physical_expr::expressions::Column;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("time", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &input()).unwrap())
}

fn over(frame: Frame, functions: &[Running], timed: bool) -> Over {
    let mut fields: Vec<Field> = input()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    let mut calls = Vec::new();
    for (at, function) in functions.iter().enumerate() {
        let of = match function {
            Running::Collect => crate::sql::functions::multiset(DataType::Int64),
            _ => DataType::Int64,
        };
        fields.push(Field::new(format!("r{at}"), of, true));
        calls.push(OverCall {
            function: *function,
            argument: Some(column("value")),
            name: format!("r{at}"),
        });
    }
    let spec = OverAggregate {
        keys: vec![column("key")],
        time: timed.then(|| column("time")),
        frame,
        calls,
    };
    Over::new(&spec, Arc::new(Schema::new(fields)), &[input()]).unwrap()
}

fn batch(rows: &[(String, i64, i64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
    ];
    RecordBatch::try_new(input(), columns).unwrap()
}

fn send(over: &mut Over, rows: &[(String, i64, i64)]) -> Output {
    let mut out = Output::default();
    over.on_batch(0, batch(rows), &mut out).unwrap();
    out
}

fn reach(over: &mut Over, at: i64) -> usize {
    let mut out = Output::default();
    over.on_watermark(&[Progress::at(EventTime(at))], &mut out)
        .unwrap();
    out.batches.iter().map(RecordBatch::num_rows).sum()
}

fn row(key: usize, time: i64) -> (String, i64, i64) {
    (format!("key {key}"), time, 1)
}

#[test]
fn shelves_that_rest_are_not_saved_again() {
    for frame in [Frame::AllRows, Frame::Rows(2)] {
        let mut over = over(frame, &[Running::Sum, Running::Max], false);
        let many: Vec<_> = (0..40_000).map(|key| row(key, 0)).collect();
        send(&mut over, &many);
        let first = over.snapshot().unwrap();
        assert!(first.iter().all(|part| part.rows.is_some()));
        let numbers: std::collections::BTreeSet<_> =
            first.iter().filter_map(|part| part.id).collect();
        assert!(first.iter().all(|part| part.id.is_some()), "all are large");
        assert_eq!(numbers.len(), first.len(), "no number twice");
        send(&mut over, &[row(7, 0)]);
        let second = over.snapshot().unwrap();
        let again: Vec<_> = second.iter().filter(|part| part.rows.is_some()).collect();
        assert_eq!(again.len(), first.len() / 64, "the shelf of one key");
        assert!(again.iter().all(|part| part.id > numbers.last().copied()));
        // What the first snapshot said under the numbers that the second names is there, and all of it together is the state.
        let mut restored = self::over(frame, &[Running::Sum, Running::Max], false);
        for part in &second {
            let rows = match &part.rows {
                Some(rows) => rows.clone(),
                None => {
                    let saved = first.iter().find(|other| other.id == part.id).unwrap();
                    saved.rows.clone().unwrap()
                }
            };
            restored.restore(part.name, rows).unwrap();
        }
        let next = |over: &mut Over| send(over, &[row(7, 0), row(8, 0)]).batches;
        assert_eq!(next(&mut restored), next(&mut over));
    }
}

#[test]
fn a_key_whose_range_is_over_is_forgotten() {
    let mut over = over(Frame::Range(100), &[Running::Count], true);
    send(&mut over, &[row(1, 10), row(2, 500)]);
    assert_eq!(reach(&mut over, 20), 1);
    let held = over.state_bytes();
    assert_eq!(reach(&mut over, 210), 0);
    assert!(over.state_bytes() >= held, "{held}");
    assert_eq!(reach(&mut over, 400), 0);
    assert!(over.state_bytes() < held, "{held}");
    assert_eq!(reach(&mut over, 500), 1);
}

#[test]
fn a_key_whose_rows_were_all_late_is_forgotten() {
    let mut over = over(Frame::Range(100), &[Running::Count], true);
    reach(&mut over, 1_000);
    let empty = over.state_bytes();
    assert_eq!(send(&mut over, &[row(1, 10)]).late.len(), 1);
    reach(&mut over, 1_200);
    assert_eq!(over.state_bytes(), empty);
    assert!(over.snapshot().unwrap().is_empty());
    // A row of the same key that is in time is not late for what was forgotten.
    assert!(send(&mut over, &[row(1, 1_150)]).late.is_empty());
    assert_eq!(reach(&mut over, 1_300), 1);
}

#[test]
fn rows_that_wait_are_packed_anew() {
    let mut over = over(Frame::AllRows, &[Running::Count], true);
    let rows: Vec<_> = (0..1_000)
        .map(|at| row(at, if at == 500 { 1_000_000 } else { at as i64 }))
        .collect();
    send(&mut over, &rows);
    let all = over.waiting.size();
    assert_eq!(reach(&mut over, 2_000), 999);
    assert_eq!(over.waiting.len(), 1);
    assert!(over.waiting.size() < all / 4, "{}", over.waiting.size());
    assert_eq!(reach(&mut over, 1_000_000), 1);
}

#[test]
fn state_of_another_query_is_refused() {
    let mut sums = over(Frame::Rows(1), &[Running::Sum], true);
    send(&mut sums, &[row(1, 10), row(1, 50)]);
    reach(&mut sums, 20);
    let parts = sums.snapshot().unwrap();
    assert_eq!(
        parts.iter().map(|part| part.name).collect::<Vec<_>>(),
        ["keys", "frames", "waiting"]
    );
    let restored = |other: &mut Over, name: &str| {
        let part = parts.iter().find(|part| part.name == name).unwrap();
        other.restore(name, part.rows.clone().unwrap())
    };
    for name in ["keys", "frames"] {
        let mut bags = over(Frame::AllRows, &[Running::Collect], true);
        assert!(restored(&mut bags, name).is_err(), "{name}");
    }
    let mut by_arrival = over(Frame::Rows(1), &[Running::Sum], false);
    assert!(restored(&mut by_arrival, "waiting").is_err());
    let mut same = over(Frame::Rows(1), &[Running::Sum], true);
    for part in &parts {
        restored(&mut same, part.name).unwrap();
    }
    assert_eq!(reach(&mut same, 50), 1);
}
