//! The operator alone, row by row.

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

fn windows(aggregates: Vec<Aggregate>) -> Windows {
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
    Windows::new(&spec, Arc::new(Schema::new(fields)), &[schema()]).unwrap()
}

fn send(windows: &mut Windows, rows: &[Row]) -> Output {
    let mut out = Output::default();
    windows.on_batch(0, batch(rows), &mut out).unwrap();
    out
}

fn reach(windows: &mut Windows, at: EventTime) -> Vec<RecordBatch> {
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
    let said = |windows: &mut Windows| {
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
