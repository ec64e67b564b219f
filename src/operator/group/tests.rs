//! What the values of DISTINCT cost. That they are counted right is held by the properties of results that change.

use super::*;
use crate::operator::StatePart;
use crate::operator::pages::PAGE;
use crate::plan::Aggregate;
use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{Int64Type, Schema};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &input()).unwrap())
}

/// COUNT(DISTINCT value) GROUP BY key.
fn group() -> GroupAggregate {
    let function = AggregateExprBuilder::new(count_udaf(), vec![column("value")])
        .schema(input())
        .alias("n")
        .with_distinct(true)
        .build()
        .unwrap();
    let spec = plan::GroupAggregate {
        keys: vec![column("key")],
        aggregates: vec![Aggregate {
            function: Arc::new(function),
            filter: None,
        }],
    };
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        changes::field(),
    ]);
    GroupAggregate::new(&spec, Arc::new(schema), &[input()]).unwrap()
}

/// Sends values of one key, and tells how many it has had.
fn count(group: &mut GroupAggregate, values: impl IntoIterator<Item = i64>) -> i64 {
    let values = Int64Array::from_iter_values(values);
    let keys = StringArray::from_iter_values(values.values().iter().map(|_| "a"));
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values)];
    let batch = RecordBatch::try_new(input(), columns).unwrap();
    let mut out = Output::default();
    group.on_batch(0, batch, &mut out).unwrap();
    let results = out.batches.last().unwrap().column(1).clone();
    let results = results.as_primitive::<Int64Type>();
    results.value(results.len() - 1)
}

#[test]
fn a_value_that_is_known_costs_a_checkpoint_nothing() {
    let mut group = group();
    let many = 3 * PAGE as i64;
    assert_eq!(count(&mut group, 0..many), many);
    let first = group.snapshot().unwrap();
    assert_eq!(count(&mut group, [7, many, 7, many]), many + 1);
    let second = group.snapshot().unwrap();
    let written = second.iter().filter_map(|part| part.rows.as_ref());
    let written: Vec<usize> = written.map(RecordBatch::num_rows).collect();
    assert_eq!(written, [1, 1], "the key, and the new value");

    // What the first snapshot said under the numbers that the second names is there, and all of it together is the state.
    let mut restored = self::group();
    for part in &second {
        let same = |other: &&StatePart| (other.name, other.id) == (part.name, part.id);
        let saved = || first.iter().find(same).unwrap().rows.clone().unwrap();
        let rows = part.rows.clone().unwrap_or_else(saved);
        restored.restore(part.name, rows).unwrap();
    }
    assert_eq!(count(&mut restored, [many + 5, 0, many]), many + 2);
}

#[test]
fn values_of_a_query_without_distinct_are_refused() {
    let mut distinct = group();
    count(&mut distinct, [1]);
    let parts = distinct.snapshot().unwrap();
    let values = parts.iter().find(|part| part.name == "values").unwrap();
    let spec = plan::GroupAggregate {
        keys: vec![column("key")],
        aggregates: vec![],
    };
    let schema = Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        changes::field(),
    ]);
    let mut other = GroupAggregate::new(&spec, Arc::new(schema), &[input()]).unwrap();
    let error = other.restore(values.name, values.rows.clone().unwrap());
    assert!(error.unwrap_err().to_string().contains("value_0"));
}
