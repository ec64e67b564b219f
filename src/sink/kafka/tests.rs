//! Kafka tables against a real broker, named in `TRIBUTARY_TEST_KAFKA`: librdkafka's mock cluster keeps no transactions.

use super::super::rows::suite::{self, Place};
use super::super::rows::{Mark, Share, Target};
use super::super::testing::{Row, World};
use super::super::{Publisher, Sink, SinkContext, Token};
use super::target::KafkaTarget;
use crate::clock::SystemClock;
use crate::error::{Error, Kind, Result};
use crate::operator::changes;
use crate::source::embedded::Embedded;
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::{StreamExt, stream};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A topic of its own at the broker, and a table that writes it.
pub(super) struct Bench {
    pub world: World,
    servers: String,
    pub topic: String,
    partitions: i32,
}

/// A record as a reader of committed transactions sees it.
#[derive(Debug)]
pub struct Seen {
    partition: i32,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, String)>,
    pub timestamp: i64,
}

impl Bench {
    /// `None` where no broker was named.
    pub fn new(name: &str, options: &[(&str, &str)]) -> Option<Bench> {
        Self::with(name, 4, &[], options)
    }

    pub fn with(
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
        options: &[(&str, &str)],
    ) -> Option<Bench> {
        let Ok(servers) = std::env::var("TRIBUTARY_TEST_KAFKA") else {
            eprintln!("left out: {name} needs a Kafka broker in TRIBUTARY_TEST_KAFKA");
            return None;
        };
        let topic = format!("sink-{name}-{}", uuid::Uuid::new_v4());
        let bench = Bench {
            world: world(&servers, &topic, options),
            servers,
            topic,
            partitions,
        };
        let mut topic = NewTopic::new(&bench.topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let admin = bench.admin();
        let options = AdminOptions::new();
        let made = bench.world.wait(admin.create_topics([&topic], &options));
        made.unwrap().remove(0).unwrap();
        Some(bench)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    pub fn context(&self, owner: &str) -> SinkContext {
        // The identity is made of the job's name: a job for each test.
        SinkContext {
            job: self.topic.clone(),
            // The broker's time is not the test's to say.
            clock: Arc::new(SystemClock),
            ..self.world.context(owner)
        }
    }

    fn target_of(&self, owner: &str) -> Arc<KafkaTarget> {
        Arc::new(KafkaTarget::of(&self.world.table, &self.context(owner)).unwrap())
    }

    /// A process from its start: whatever it learns reaches its sinks.
    pub fn process(&self, owner: &str) -> (Box<dyn Sink>, Arc<dyn Publisher>) {
        let context = self.context(owner);
        let publisher = super::publisher(&self.world.table, &context).unwrap();
        self.world.wait(publisher.open()).unwrap();
        (super::open(&self.world.table, &context).unwrap(), publisher)
    }

    /// Rows, of a table with a column for the time of their records.
    pub fn timed(&mut self, times: &[i64]) -> RecordBatch {
        let rows: Vec<Row> = times.iter().map(|_| (1, "a", "x")).collect();
        let mut columns = self.world.rows(&rows).columns().to_vec();
        let at = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let mut fields = self.world.table.schema.fields().to_vec();
        fields.push(Arc::new(Field::new("at", at, true)));
        let schema = Arc::new(Schema::new(fields));
        self.world.table.schema = Arc::clone(&schema);
        self.world.table.metadata = [("at".to_string(), "timestamp".to_string())].into();
        let times = arrow::array::TimestampMillisecondArray::from(times.to_vec());
        columns.push(Arc::new(times.with_timezone("UTC")));
        RecordBatch::try_new(schema, columns).unwrap()
    }

    pub fn tokens(&self, sink: &mut dyn Sink, epoch: u64) -> Vec<Token> {
        let mut staging = sink.stage(epoch, false).unwrap();
        self.world.tokens(&mut staging).unwrap()
    }

    /// Writes rows as one epoch of a new process.
    fn write(&self, rows: RecordBatch) {
        let (mut sink, publisher) = self.process("o1");
        assert!(sink.write(rows).unwrap().is_empty());
        let tokens = self.tokens(&mut *sink, 1);
        self.world.wait(publisher.publish(&tokens)).unwrap();
    }

    pub fn records(&self) -> Vec<Seen> {
        let mut config = self.config();
        config
            .set("group.id", "sink-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        // Not as far as is committed, but as far as there is anything: a commit is told to the partitions a moment behind its answer.
        let all: BaseConsumer = config
            .clone()
            .set("isolation.level", "read_uncommitted")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let mut ends = Vec::new();
        for partition in 0..self.partitions {
            let marks = all.fetch_watermarks(&self.topic, partition, PATIENCE);
            let (low, high) = marks.unwrap();
            list.add_partition_offset(&self.topic, partition, Offset::Offset(low))
                .unwrap();
            ends.push((partition, high));
        }
        consumer.assign(&list).unwrap();
        let mut seen = Vec::new();
        let at_end = |consumer: &BaseConsumer| {
            let position = consumer.position().unwrap();
            ends.iter().all(|(partition, end)| {
                let at = position.find_partition(&self.topic, *partition).unwrap();
                *end == 0 || matches!(at.offset(), Offset::Offset(offset) if offset >= *end)
            })
        };
        while !at_end(&consumer) {
            let Some(record) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let record = record.unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
            let headers = record.headers().map_or(Vec::new(), |headers| {
                headers
                    .iter()
                    .map(|header| {
                        let value = text(header.value.unwrap_or_default());
                        (header.key.to_string(), value)
                    })
                    .collect()
            });
            seen.push(Seen {
                partition: record.partition(),
                key: record.key().map(text),
                value: record.payload().map(text),
                headers,
                timestamp: record.timestamp().to_millis().unwrap_or(-1),
            });
        }
        seen
    }
}

fn world(servers: &str, topic: &str, options: &[(&str, &str)]) -> World {
    let mut world = World::in_memory("kafka", "");
    world.set("topic", topic);
    world.set("properties.bootstrap.servers", servers);
    world.set("format", "json");
    for (key, value) in options {
        world.set(key, value);
    }
    world
}

impl Place for Bench {
    fn world(&self) -> &World {
        &self.world
    }

    fn target(&self, owner: &str) -> Arc<dyn Target> {
        self.target_of(owner)
    }

    fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self
            .records()
            .iter()
            .map(|record| {
                let row = record.value.as_deref().unwrap();
                let row: serde_json::Value = serde_json::from_str(row).unwrap();
                let text = |name: &str| row[name].as_str().unwrap().to_string();
                format!("{},{},{}", row["id"], text("name"), text("dt"))
            })
            .collect();
        shown.sort();
        shown
    }

    fn forget_mark(&self) {
        let group = format!("tributary-{}-t", self.topic);
        let admin = self.admin();
        let options = AdminOptions::new();
        // A topic without transactions has no group.
        let _ = self
            .world
            .wait(admin.delete_groups(&[group.as_str()], &options));
    }

    fn is_exact(&self) -> bool {
        self.world.table.options.get("sink.delivery-guarantee") != Some("at-least-once")
    }
}

fn is_there() -> bool {
    std::env::var("TRIBUTARY_TEST_KAFKA").is_ok()
}

#[test]
fn a_topic_passes_what_every_target_must() {
    if !is_there() {
        return;
    }
    for guarantee in ["exactly-once", "at-least-once"] {
        let options = [("sink.delivery-guarantee", guarantee)];
        suite::passes(&|| Box::new(Bench::new("suite", &options).unwrap()));
    }
}

#[test]
fn a_broken_transaction_is_seen_by_nobody_and_repeated_whole() {
    let Some(bench) = Bench::new("broken", &[]) else {
        return;
    };
    let row: [Row; 1] = [(1, "a", "x")];
    let target = bench.target_of("o1");
    let shaped = |target: &KafkaTarget| {
        let shaped = target.shape(bench.world.rows(&row), None).unwrap();
        Share {
            lane: 0,
            rows: vec![shaped.stored],
        }
    };
    let mark = Mark {
        epoch: 1,
        owner: "o1".into(),
    };
    let world = &bench.world;
    // A broker that has just begun needs a moment for its groups.
    let open = |target: &KafkaTarget| {
        while let Err(error) = world.wait(target.open()) {
            assert_eq!(error.kind(), Kind::Retry, "{error}");
        }
    };
    open(&target);
    let torn: Vec<Result<Share>> = vec![Ok(shaped(&target)), Err(Error::retry("torn"))];
    let torn = target.deliver(&mark, stream::iter(torn).boxed());
    assert!(world.wait(torn).is_err());
    open(&target);
    assert_eq!(world.wait(target.mark()).unwrap(), None);
    assert!(!world.wait(target.holds(&mark, 0)).unwrap());
    assert!(bench.records().is_empty());
    let whole: Vec<Result<Share>> = vec![Ok(shaped(&target))];
    let whole = target.deliver(&mark, stream::iter(whole).boxed());
    world.wait(whole).unwrap();
    assert_eq!(world.wait(target.mark()).unwrap(), Some(mark.clone()));
    assert!(world.wait(target.holds(&mark, 0)).unwrap());
    assert_eq!(bench.records().len(), 1);
    // Another process reads the mark.
    let next = bench.target_of("o2");
    open(&next);
    assert_eq!(world.wait(next.mark()).unwrap(), Some(mark));
}

/// Left open, it would keep readers waiting until its time-out, which is longer than any test may take.
#[test]
fn an_error_that_ends_the_process_ends_its_transaction() {
    let options = [("properties.transaction.timeout.ms", "900000")];
    let Some(bench) = Bench::with("ended", 1, &[], &options) else {
        return;
    };
    let world = &bench.world;
    let target = bench.target_of("o1");
    while let Err(error) = world.wait(target.open()) {
        assert_eq!(error.kind(), Kind::Retry, "{error}");
    }
    let shaped = target.shape(world.rows(&[(1, "a", "x")]), None).unwrap();
    let share: Result<Share> = Ok(Share {
        lane: 0,
        rows: vec![shaped.stored],
    });
    let mut config = bench.config();
    config
        .set("group.id", "sink-reader")
        .set("isolation.level", "read_uncommitted");
    let any: BaseConsumer = config.create().unwrap();
    let torn = async {
        // Not before the broker has the record.
        let ends = || any.fetch_watermarks(&bench.topic, 0, PATIENCE);
        while !matches!(ends(), Ok((_, end)) if end > 0) {}
        Err::<Share, Error>(Error::job("torn"))
    };
    let rows = stream::iter([share]).chain(stream::once(torn)).boxed();
    let mark = Mark {
        epoch: 1,
        owner: "o1".into(),
    };
    let error = world.wait(target.deliver(&mark, rows)).unwrap_err();
    assert_eq!(error.kind(), Kind::Job, "{error}");
    // A reader of committed transactions comes to the end of the topic.
    assert!(bench.records().is_empty());
}

/// The numbers are Java's: the hash of a key, modulo four.
#[test]
fn keys_go_where_java_would_send_them() {
    let options = [("key.format", "raw"), ("key.fields", "name")];
    let Some(bench) = Bench::new("keys", &options) else {
        return;
    };
    let keys = [
        ("21", 0),
        ("foobar", 2),
        ("a-little-bit-long-string", 0),
        ("a-little-bit-longer-string", 3),
    ];
    let rows: Vec<Row> = keys.iter().map(|(key, _)| (1, *key, "x")).collect();
    bench.write(bench.world.rows(&rows));
    let records = bench.records();
    for (key, partition) in keys {
        let found = records.iter().find(|r| r.key.as_deref() == Some(key));
        assert_eq!(found.unwrap().partition, partition, "{key}");
    }
    let headers = &records[0].headers;
    let job = format!("tributary-{}-t", bench.topic);
    assert_eq!(
        *headers,
        [
            ("tributary.job".to_string(), job),
            ("tributary.epoch".to_string(), "1/o1".to_string())
        ]
    );
    // It is looked for once, and costs as much as a short record.
    let marked = records.iter().filter(|record| !record.headers.is_empty());
    assert_eq!(marked.count(), 1);
}

#[test]
fn partitioners_spread_records() {
    let rows: Vec<Row> = (0..8).map(|id| (id, "a", "x")).collect();
    for (partitioner, expected) in [
        ("fixed", vec![2; 8]),
        ("round-robin", vec![0, 0, 1, 1, 2, 2, 3, 3]),
    ] {
        let Some(bench) = Bench::new(partitioner, &[("sink.partitioner", partitioner)]) else {
            return;
        };
        let context = bench.context("o1").on_lane(6);
        let publisher = super::publisher(&bench.world.table, &context).unwrap();
        let mut sink = super::open(&bench.world.table, &context).unwrap();
        bench.world.wait(publisher.open()).unwrap();
        sink.write(bench.world.rows(&rows)).unwrap();
        let tokens = bench.tokens(&mut *sink, 1);
        bench.world.wait(publisher.publish(&tokens)).unwrap();
        let records = bench.records();
        let mut partitions: Vec<i32> = records.iter().map(|r| r.partition).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, expected, "{partitioner}");
    }
}

#[test]
fn times_of_rows_are_times_of_records() {
    let Some(mut bench) = Bench::new("times", &[]) else {
        return;
    };
    let rows = bench.timed(&[1_709_294_400_123]);
    bench.write(rows);
    let records = bench.records();
    assert_eq!(records[0].timestamp, 1_709_294_400_123);
    assert_eq!(
        records[0].value.as_deref(),
        Some(r#"{"id":1,"name":"a","dt":"x"}"#)
    );
}

#[test]
fn upserts_leave_the_last_row_and_tombstones() {
    let options = [("connector", "upsert-kafka"), ("key.format", "raw")];
    let Some(mut bench) = Bench::new("upserts", &options) else {
        return;
    };
    bench.world.table.primary_key = vec!["name".into()];
    let rows = bench
        .world
        .rows(&[(1, "a", "x"), (2, "b", "x"), (3, "a", "x"), (4, "b", "x")]);
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(changes::field()));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int8Array::from(vec![0, 0, 2, 3])));
    bench.write(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap());
    let mut seen: Vec<_> = bench
        .records()
        .into_iter()
        .map(|record| (record.key.unwrap(), record.value))
        .collect();
    seen.sort();
    let last = r#"{"id":3,"name":"a","dt":"x"}"#.to_string();
    assert_eq!(
        seen,
        [("a".to_string(), Some(last)), ("b".to_string(), None)]
    );
}

#[test]
fn a_topic_that_cannot_be_is_named_at_the_start() {
    let Some(mut bench) = Bench::new("missing", &[]) else {
        return;
    };
    bench.world.set("topic", "no such topic!");
    let publisher = super::publisher(&bench.world.table, &bench.context("o1")).unwrap();
    let error = bench.world.wait(publisher.open()).unwrap_err();
    assert_eq!(error.kind(), Kind::Job, "{error}");
    for part in ["no such topic!", &bench.servers] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn without_transactions_the_mock_cluster_takes_rows_too() {
    let cluster = Embedded::start(&["t"], 1).unwrap();
    let options = [("sink.delivery-guarantee", "at-least-once")];
    let world = world(&cluster.bootstrap_servers(), "t", &options);
    let context = world.context("o1");
    let publisher = super::publisher(&world.table, &context).unwrap();
    world.wait(publisher.open()).unwrap();
    let mut sink = super::open(&world.table, &context).unwrap();
    sink.write(world.rows(&[(1, "a", "x"), (2, "b", "y")]))
        .unwrap();
    let mut staging = sink.stage(1, false).unwrap();
    let tokens = world.tokens(&mut staging).unwrap();
    world.wait(publisher.publish(&tokens)).unwrap();
    world.wait(publisher.publish(&tokens)).unwrap();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "r");
    let consumer: BaseConsumer = config.create().unwrap();
    let (_, end) = consumer.fetch_watermarks("t", 0, PATIENCE).unwrap();
    assert_eq!(end, 2);
}

#[test]
fn options_are_judged_before_anything_runs() {
    for (key, value, expected) in [
        ("sink.delivery-guarantee", "twice", "exactly-once"),
        ("sink.partitioner", "com.x.Mine", "round-robin"),
        (
            "properties.transactional.id",
            "x",
            "transactional-id-prefix",
        ),
        ("properties.nonsense", "x", "'properties.nonsense'"),
        ("format", "avro", "json, csv, raw and avro-confluent"),
    ] {
        let world = world("127.0.0.1:1", "t", &[(key, value)]);
        let error = super::super::check(&world.table).unwrap_err();
        assert_eq!(error.kind(), Kind::Job);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
