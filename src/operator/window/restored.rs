//! State that comes back: of the same aggregates whatever their types, and of others, which must be refused and not be taken for its own.

use super::*;
use crate::error::Kind;
use crate::plan::Aggregate;
use arrow::array::{Date32Array, Decimal128Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{Schema, TimeUnit};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;

/// A column of each type that a job can aggregate, with a NULL in it.
fn columns() -> Vec<ArrayRef> {
    use DataType::{Boolean, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, Utf8};
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(2), Some(1)]));
    let types = [Boolean, Int8, Int16, Int32, Int64, Float32, Float64, Utf8];
    let units = [
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ];
    let types = types
        .into_iter()
        .chain(units.map(|unit| Timestamp(unit, None)));
    let mut columns: Vec<_> = types.map(|to| cast(&numbers, &to).unwrap()).collect();
    let decimals = Decimal128Array::from(vec![Some(150), None, Some(-1), Some(150)]);
    columns.push(Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()));
    columns.push(Arc::new(Date32Array::from(vec![
        Some(1),
        None,
        Some(2),
        Some(1),
    ])));
    columns
}

struct Trial {
    schema: SchemaRef,
    batch: RecordBatch,
    output: SchemaRef,
    spec: WindowAggregate,
}

impl Trial {
    /// Windows with one aggregate of this column, by a text; None where there is no such aggregate.
    fn of(function: Arc<AggregateUDF>, distinct: bool, values: &ArrayRef) -> Option<Trial> {
        let keys = StringArray::from(vec!["a", "b", "a", "b"]);
        let times = Int64Array::from(vec![1, 2, 3, 1_001]);
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("time", DataType::Int64, true),
            Field::new("value", values.data_type().clone(), true),
        ]));
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times), values.clone()];
        let column = |name: &str| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new_with_schema(name, &schema).unwrap())
        };
        let function = AggregateExprBuilder::new(function, vec![column("value")])
            .schema(schema.clone())
            .alias("aggregate")
            .with_distinct(distinct)
            .build()
            .ok()?;
        let averaged = matches!(
            values.data_type(),
            DataType::Float64 | DataType::Decimal128(_, _)
        );
        if function.fun().name() == "avg" && !averaged {
            // A planner casts these first.
            return None;
        }
        let moment = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut output = ["start", "end", "at"]
            .map(|name| Field::new(name, moment.clone(), false))
            .to_vec();
        output.push(Field::new("key", DataType::Utf8, true));
        output.push(Field::new(
            "aggregate",
            function.field().data_type().clone(),
            true,
        ));
        let spec = WindowAggregate {
            window: Window::Tumble {
                size_ms: 1_000,
                offset_ms: 0,
            },
            time: column("time"),
            keys: vec![column("key")],
            aggregates: vec![Aggregate {
                function: Arc::new(function),
                filter: None,
            }],
        };
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        Some(Trial {
            schema,
            batch,
            output: Arc::new(Schema::new(output)),
            spec,
        })
    }

    fn windows(&self) -> Windows {
        Windows::new(
            &self.spec,
            self.output.clone(),
            std::slice::from_ref(&self.schema),
        )
        .unwrap()
    }

    fn state(&self) -> (&'static str, RecordBatch) {
        let mut windows = self.windows();
        windows
            .on_batch(0, self.batch.clone(), &mut Output::default())
            .unwrap();
        let part = windows.snapshot().unwrap().remove(0);
        (part.name, part.rows.unwrap())
    }
}

fn functions() -> [(Arc<AggregateUDF>, bool); 6] {
    [
        (count_udaf(), false),
        (count_udaf(), true),
        (min_udaf(), false),
        (max_udaf(), false),
        (sum_udaf(), false),
        (avg_udaf(), false),
    ]
}

#[test]
fn every_aggregate_takes_its_own_state_back() {
    let mut tried = 0;
    for values in columns() {
        for (function, distinct) in functions() {
            let what = format!("{}({})", function.name(), values.data_type());
            let Some(trial) = Trial::of(function, distinct, &values) else {
                continue;
            };
            let (name, rows) = trial.state();
            let mut windows = trial.windows();
            windows
                .restore(name, rows.clone())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(windows.snapshot().unwrap()[0].rows, Some(rows), "{what}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

/// One column of state each, so that nothing but its type tells them apart; the accumulators would panic.
#[test]
fn state_of_another_type_is_refused() {
    let of = |function, distinct, to: DataType| {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        Trial::of(function, distinct, &cast(&numbers, &to).unwrap()).unwrap()
    };
    let trials = [
        of(sum_udaf(), false, DataType::Int64),
        of(sum_udaf(), false, DataType::Float64),
        of(min_udaf(), false, DataType::Utf8),
        of(count_udaf(), true, DataType::Int32),
        of(count_udaf(), true, DataType::Utf8),
    ];
    for (kept, before) in trials.iter().enumerate() {
        for (wanted, now) in trials
            .iter()
            .enumerate()
            .filter(|(wanted, _)| *wanted != kept)
        {
            let (name, rows) = before.state();
            let refused = now.windows().restore(name, rows).unwrap_err();
            assert_eq!(refused.kind(), Kind::Job, "{kept} {wanted}");
            let text = refused.to_string();
            assert!(
                text.contains("state_0") && text.contains("--bounded"),
                "{text}"
            );
        }
    }
    let (_, rows) = trials[0].state();
    assert_eq!(
        trials[0]
            .windows()
            .restore("left", rows)
            .unwrap_err()
            .kind(),
        Kind::Job
    );
}
