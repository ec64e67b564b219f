//! How fast one lane works: `cargo bench --bench operators`. Prints rows per second; asserts only counts.

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::{
    average::avg_udaf, count::count_udaf, min_max::max_udaf, min_max::min_udaf,
};
use datafusion::logical_expr::{AggregateUDF, Operator as Sign};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use std::sync::Arc;
use std::time::Instant;
use tributary::operator::{self, Operator, Output, hidden, keys};
use tributary::plan::{Aggregate, IntervalJoin, JoinKind, Node, Op, Window, WindowAggregate};
use tributary::time::{EventTime, Progress};

const ROWS: i64 = 1_000_000;
const BATCH: i64 = 8_192;
const KEYS: i64 = 10_000;
const BOUND_MS: i64 = 2_000;

fn main() {
    for minutes in [1, 10] {
        tumble(minutes * 60_000);
    }
    join(JoinKind::Inner);
    join(JoinKind::Left);
    join(JoinKind::Full);
    exchange();
    filter();
}

fn schema() -> SchemaRef {
    let mut fields = vec![
        Arc::new(Field::new("key", DataType::Utf8, true)),
        Arc::new(Field::new("time", DataType::Int64, false)),
        Arc::new(Field::new("rate", DataType::Int32, true)),
        Arc::new(Field::new("level", DataType::Float64, true)),
        Arc::new(Field::new("id", DataType::Utf8, false)),
    ];
    fields.extend(hidden::fields());
    Arc::new(Schema::new(fields))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    let (index, _) = schema()
        .column_with_name(name)
        .expect("the schema above has it");
    Arc::new(Column::new(name, index))
}

/// Rows `step` milliseconds apart, slightly out of order, in batches.
fn rows(count: i64, step: i64, seed: i64) -> Vec<RecordBatch> {
    let batch = |first: i64| {
        let rows = first..(first + BATCH).min(count);
        let mixed =
            |i: i64| (i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64) >> 20 & 0xffff_ffff;
        let time = |i: i64| i * step - mixed(i) % 1_000;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(
                rows.clone()
                    .map(|i| format!("patient-{:06}", mixed(i) % KEYS)),
            )),
            Arc::new(Int64Array::from_iter_values(rows.clone().map(time))),
            Arc::new(Int32Array::from_iter_values(
                rows.clone().map(|i| mixed(i) as i32 % 200),
            )),
            Arc::new(Float64Array::from_iter_values(
                rows.clone().map(|i| mixed(i) as f64 / 1e6),
            )),
            Arc::new(StringArray::from_iter_values(
                rows.clone().map(|i| format!("row-{i:020}")),
            )),
            Arc::new(Int32Array::from_iter_values(rows.clone().map(|_| 0))),
            Arc::new(Int64Array::from_iter_values(rows.clone())),
            Arc::new(Int64Array::from_iter_values(
                rows.map(|i| i * step - BOUND_MS),
            )),
        ];
        RecordBatch::try_new(schema(), columns).expect("columns as in the schema")
    };
    (0..count).step_by(BATCH as usize).map(batch).collect()
}

fn build(op: Op, schema: SchemaRef, inputs: &[SchemaRef]) -> Box<dyn Operator> {
    let node = Node {
        inputs: vec![],
        op,
        schema,
        name: "bench".into(),
        place: "bench".into(),
    };
    operator::build(&node, inputs)
        .expect("a sound plan")
        .expect("an operator")
}

fn tumble(size_ms: i64) {
    let aggregate = |function: Arc<AggregateUDF>, argument, filter| {
        let function = AggregateExprBuilder::new(function, vec![argument])
            .schema(schema())
            .alias("a")
            .build()
            .expect("a sound aggregate");
        Aggregate {
            function: Arc::new(function),
            filter,
        }
    };
    let high = binary(column("rate"), Sign::Gt, lit(180i32), &schema()).expect("two numbers");
    let aggregates = vec![
        aggregate(count_udaf(), lit(1i64), None),
        aggregate(count_udaf(), lit(1i64), Some(high)),
        aggregate(min_udaf(), column("rate"), None),
        aggregate(max_udaf(), column("rate"), None),
        aggregate(avg_udaf(), column("level"), None),
        aggregate(min_udaf(), column("level"), None),
        aggregate(max_udaf(), column("level"), None),
    ];
    let moment = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut fields = ["start", "end", "time"]
        .map(|name| Field::new(name, moment.clone(), false))
        .to_vec();
    fields.push(Field::new("key", DataType::Utf8, true));
    fields.extend(
        aggregates
            .iter()
            .map(|aggregate| aggregate.function.field().as_ref().clone()),
    );
    let spec = WindowAggregate {
        window: Window::Tumble {
            size_ms,
            offset_ms: 0,
        },
        time: column("time"),
        keys: vec![column("key")],
        aggregates,
    };
    let mut window = build(Op::Window(spec), Arc::new(Schema::new(fields)), &[schema()]);
    let input = rows(ROWS, 1, 0);
    let started = Instant::now();
    let mut out = Output::default();
    for (at, batch) in (1..).zip(&input) {
        window
            .on_batch(0, batch.clone(), &mut out)
            .expect("sound rows");
        let watermark = EventTime(at * BATCH - BOUND_MS);
        window
            .on_watermark(&[Progress::at(watermark)], &mut out)
            .expect("sound rows");
    }
    let state = window.state_bytes();
    let snapshot = Instant::now();
    window.snapshot().expect("a snapshot");
    let snapshot = snapshot.elapsed();
    window
        .on_watermark(&[Progress::at(EventTime::END)], &mut out)
        .expect("sound rows");
    let name = format!("tumble {} min, 7 aggregates", size_ms / 60_000);
    report(&name, ROWS, started, &out);
    println!("    state {} kB, last snapshot {snapshot:?}", state / 1_000);
    assert!(out.late.is_empty());
}

fn join(kind: JoinKind) {
    let visible: Vec<Field> = schema().fields()[..5]
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let out_schema = Arc::new(Schema::new([visible.clone(), visible].concat()));
    let spec = IntervalJoin {
        kind,
        left_keys: vec![column("key")],
        right_keys: vec![column("key")],
        left_time: column("time"),
        right_time: column("time"),
        lower_ms: -10_000,
        upper_ms: 0,
        filter: None,
    };
    let mut join = build(Op::IntervalJoin(spec), out_schema, &[schema(), schema()]);
    // One row on the right for ten on the left, over the same time.
    let left = rows(ROWS, 1, 0);
    let right = rows(ROWS / 10, 10, 7);
    let mut right_batches = right.iter();
    let started = Instant::now();
    let mut out = Output::default();
    for (at, batch) in (1..).zip(&left) {
        join.on_batch(0, batch.clone(), &mut out)
            .expect("sound rows");
        if at % 10 == 1
            && let Some(batch) = right_batches.next()
        {
            join.on_batch(1, batch.clone(), &mut out)
                .expect("sound rows");
        }
        let watermark = Progress::at(EventTime(at / 10 * 10 * BATCH - BOUND_MS));
        join.on_watermark(&[watermark; 2], &mut out)
            .expect("sound rows");
    }
    let state = join.state_bytes();
    let snapshot = Instant::now();
    join.snapshot().expect("a snapshot");
    let snapshot = snapshot.elapsed();
    join.on_watermark(&[Progress::at(EventTime::END); 2], &mut out)
        .expect("sound rows");
    report(
        &format!("interval join {kind:?}, 10 s"),
        ROWS + ROWS / 10,
        started,
        &out,
    );
    println!("    state {} kB, last snapshot {snapshot:?}", state / 1_000);
}

fn exchange() {
    let input = rows(ROWS, 1, 0);
    let started = Instant::now();
    let mut out = Output::default();
    for batch in &input {
        let shares = keys::partition(batch.clone(), &[column("key")], 2).expect("sound keys");
        out.batches.extend(shares.into_iter().flatten());
    }
    report("exchange to 2 lanes", ROWS, started, &out);
}

fn filter() {
    let predicate = binary(column("rate"), Sign::Gt, lit(180i32), &schema()).expect("two numbers");
    let mut filter = build(Op::Filter { predicate }, schema(), &[schema()]);
    let input = rows(ROWS, 1, 0);
    let started = Instant::now();
    let mut out = Output::default();
    for batch in &input {
        filter
            .on_batch(0, batch.clone(), &mut out)
            .expect("sound rows");
    }
    report("filter, 5 % pass", ROWS, started, &out);
}

fn report(name: &str, rows: i64, started: Instant, out: &Output) {
    let seconds = started.elapsed().as_secs_f64();
    let emitted: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
    println!(
        "{name:30} {:6.2} M rows/s   {rows} in, {emitted} out, {seconds:.3} s",
        rows as f64 / seconds / 1e6
    );
}
