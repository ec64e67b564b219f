//! How fast each part of the way works on one thread: `cargo bench --profile release --bench parts [-- NAME]`. The numbers are for
//! comparing a change with what was before it, which Criterion does by itself; benches/decode.rs and benches/parquet.rs look closer at two
//! of the parts.

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::functions_aggregate::{
    average::avg_udaf, count::count_udaf, min_max::max_udaf, min_max::min_udaf,
};
use datafusion::logical_expr::{AggregateUDF, Operator as Sign};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tributary::clock::SystemClock;
use tributary::decode;
use tributary::epoch::{Barrier, Claim, Coordinator, EpochStore, Mode, NoHook, NodeState, Owner};
use tributary::operator::{self, Operator, Output, hidden, keys};
use tributary::plan::{Aggregate, IntervalJoin, JoinKind, Node, Op, Window, WindowAggregate};
use tributary::sink::memory::MemoryTables;
use tributary::sink::{self, RecordLimits, SinkContext, TableSpec, Uploads};
use tributary::source::Records;
use tributary::sql::{Options, Table};
use tributary::store::Located;
use tributary::time::{EventTime, Progress};

/// Rows of one measurement.
const ROWS: i64 = 250_000;
const BATCH: i64 = 8_192;
const KEYS: i64 = 10_000;
const BOUND_MS: i64 = 2_000;

criterion_group! {
    name = parts;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = decoding, exchange, filter, window, join, parquet, checkpoint
}
criterion_main!(parts);

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

/// An operator that counts, and finds the least, the greatest and the mean, of every key in windows of so many minutes.
fn windows(minutes: i64) -> Box<dyn Operator> {
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
            size_ms: minutes * 60_000,
            offset_ms: 0,
        },
        time: column("time"),
        keys: vec![column("key")],
        aggregates,
    };
    build(Op::Window(spec), Arc::new(Schema::new(fields)), &[schema()])
}

/// Sends rows of input 0 through an operator, with a watermark behind each batch; gives how many came out.
fn through(operator: &mut Box<dyn Operator>, input: &[RecordBatch]) -> usize {
    let mut out = Output::default();
    for (at, batch) in (1..).zip(input) {
        operator
            .on_batch(0, batch.clone(), &mut out)
            .expect("sound rows");
        let watermark = EventTime(at * BATCH - BOUND_MS);
        operator
            .on_watermark(&[Progress::at(watermark)], &mut out)
            .expect("sound rows");
    }
    operator
        .on_watermark(&[Progress::at(EventTime::END)], &mut out)
        .expect("sound rows");
    out.batches.iter().map(RecordBatch::num_rows).sum()
}

fn window(criterion: &mut Criterion) {
    let input = rows(ROWS, 1, 0);
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(ROWS as u64));
    for minutes in [1, 10] {
        group.bench_function(
            format!("TUMBLE of {minutes} min, 7 aggregates"),
            |bencher| {
                bencher.iter_batched(
                    || windows(minutes),
                    |mut window| through(&mut window, &input),
                    BatchSize::PerIteration,
                );
            },
        );
    }
}

fn join(criterion: &mut Criterion) {
    // One row on the right for ten on the left, over the same time.
    let (left, right) = (rows(ROWS, 1, 0), rows(ROWS / 10, 10, 7));
    let mut group = criterion.benchmark_group("interval join of 10 s");
    group.throughput(Throughput::Elements((ROWS + ROWS / 10) as u64));
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Full] {
        group.bench_function(format!("{kind:?}"), |bencher| {
            bencher.iter_batched(
                || interval_join(kind),
                |mut join| joined(&mut join, &left, &right),
                BatchSize::PerIteration,
            );
        });
    }
}

fn interval_join(kind: JoinKind) -> Box<dyn Operator> {
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
    build(Op::IntervalJoin(spec), out_schema, &[schema(), schema()])
}

fn joined(join: &mut Box<dyn Operator>, left: &[RecordBatch], right: &[RecordBatch]) -> usize {
    let mut right = right.iter();
    let mut out = Output::default();
    for (at, batch) in (1..).zip(left) {
        join.on_batch(0, batch.clone(), &mut out)
            .expect("sound rows");
        if at % 10 == 1
            && let Some(batch) = right.next()
        {
            join.on_batch(1, batch.clone(), &mut out)
                .expect("sound rows");
        }
        let watermark = Progress::at(EventTime(at / 10 * 10 * BATCH - BOUND_MS));
        join.on_watermark(&[watermark; 2], &mut out)
            .expect("sound rows");
    }
    join.on_watermark(&[Progress::at(EventTime::END); 2], &mut out)
        .expect("sound rows");
    out.batches.iter().map(RecordBatch::num_rows).sum()
}

fn exchange(criterion: &mut Criterion) {
    let input = rows(ROWS, 1, 0);
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("to 2 lanes by a text", |bencher| {
        bencher.iter(|| {
            let share = |batch: &RecordBatch| {
                keys::partition(batch.clone(), &[column("key")], 2).expect("sound keys")
            };
            input.iter().map(share).collect::<Vec<_>>()
        });
    });
}

fn filter(criterion: &mut Criterion) {
    let predicate = binary(column("rate"), Sign::Gt, lit(180i32), &schema()).expect("two numbers");
    let mut filter = build(Op::Filter { predicate }, schema(), &[schema()]);
    let input = rows(ROWS, 1, 0);
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("a tenth passes", |bencher| {
        bencher.iter(|| through(&mut filter, &input));
    });
}

/// JSON of four columns, as the engine gets it.
fn decoding(criterion: &mut Criterion) {
    let mut records = Records::default();
    for i in 0..ROWS {
        let (patient, rate, level) = (i * 7919 % KEYS, i % 200, i as f64 / 7.0);
        let record = format!(
            "{{\"key\": \"patient-{patient:06}\", \"time\": {i}, \"rate\": {rate}, \"level\": {level}}}"
        );
        records.push(i, i, None, Some(record.as_bytes()));
    }
    let columns = || schema().fields()[..4].to_vec();
    let named = columns();
    let named = named
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone()));
    let table = Table::of("readings", named, Options::of([("format", "json")]));
    let fields = columns()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect::<Vec<_>>();
    let mut decoder = decode::open(&table, Arc::new(Schema::new(fields)), &[false; 4])
        .expect("the options are right");
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("JSON", |bencher| {
        bencher.iter(|| decoder.decode(&records).expect("no option asks to fail"));
    });
}

/// The whole sink, rows kept for the checkpoint and uploads to memory included.
fn parquet(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a thread");
    let input: Vec<RecordBatch> = rows(ROWS, 1, 0)
        .iter()
        .map(|batch| batch.project(&[0, 1, 2, 3, 4]).expect("five columns"))
        .collect();
    let options = [
        ("connector", "filesystem"),
        ("format", "parquet"),
        ("path", "lake/readings"),
    ];
    let table = TableSpec {
        name: "readings".to_string(),
        schema: input[0].schema(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        metadata: BTreeMap::default(),
        options: Options::of(options),
    };
    let write = || {
        let store = Arc::new(InMemory::new());
        let context = SinkContext {
            job: "bench".to_string(),
            owner: "bench".to_string(),
            lane: 0,
            stores: Arc::new(move |url| Ok((store.clone(), Path::from(url)))),
            runtime: runtime.handle().clone(),
            clock: Arc::new(SystemClock),
            checkpoints: "checkpoints".to_string(),
            uploads: Uploads::with_limit(64 << 20),
            limits: RecordLimits::default(),
            memory: MemoryTables::default(),
            registries: tributary::registry::none(),
        };
        let mut sink = sink::open(&table, &context).expect("sound options");
        for batch in &input {
            sink.write(batch.clone()).expect("sound rows");
        }
        let staging = sink.stage(1, true).expect("sound rows");
        let tokens = futures::future::try_join_all(staging.tokens);
        runtime
            .block_on(tokens)
            .expect("a store in memory takes everything")
    };
    let mut group = criterion.benchmark_group("Parquet");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("the whole sink", |bencher| bencher.iter(write));
}

/// An epoch with a large open window in it: all of it is new, or one group of it.
fn checkpoint(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a thread");
    let me = Owner::this_process();
    let store = || {
        let at = Located {
            store: Arc::new(InMemory::new()),
            path: Path::from("checkpoints"),
            url: "memory:///checkpoints".to_string(),
        };
        EpochStore::new(at, "bench")
    };
    let coordinator = |store: EpochStore| {
        let claim = Claim {
            store: &store,
            me: &me,
            interval: Duration::from_secs(1),
            mode: Mode::Normal,
            clock: &SystemClock,
            sleep: &tributary::clock::sleeper(),
            notify: &|_| {},
        };
        let claimed = runtime.block_on(claim.run()).expect("nobody else is there");
        let (clock, hook) = (Arc::new(SystemClock), Arc::new(NoHook));
        Coordinator::new(store, &claimed, BTreeMap::new(), clock, hook)
    };
    let input = rows(100_000, 1, 0);
    let open = || {
        let mut window = windows(10);
        for batch in &input {
            let mut out = Output::default();
            window
                .on_batch(0, batch.clone(), &mut out)
                .expect("sound rows");
        }
        window
    };
    let commit = |coordinator: &mut Coordinator, window: &mut Box<dyn Operator>| {
        let states = window.snapshot().expect("a snapshot").into_iter();
        let state = |part| NodeState {
            node: "window".to_string(),
            lane: 0,
            part,
        };
        let barrier = Barrier {
            epoch: coordinator.next_epoch(),
            states: states.map(state).collect(),
            ..Barrier::default()
        };
        let committed = runtime.block_on(coordinator.commit(barrier));
        committed.expect("a store in memory takes everything")
    };
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("all groups of a window", |bencher| {
        bencher.iter_batched(
            || (coordinator(store()), open()),
            |(mut coordinator, mut window)| commit(&mut coordinator, &mut window),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a window that rests", |bencher| {
        let (mut coordinator, mut window) = (coordinator(store()), open());
        commit(&mut coordinator, &mut window);
        bencher.iter(|| commit(&mut coordinator, &mut window));
    });
}
