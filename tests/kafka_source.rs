//! The Kafka source against a real broker, named in `TRIBUTARY_TEST_KAFKA`; what librdkafka's mock cluster cannot show:
//! look-ups by time, transactions, deleted records, new partitions, committed offsets.

use arrow::datatypes::Schema;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;
use tributary::clock::{Clock, ManualClock, SystemClock};
use tributary::plan::Scan;
use tributary::source::memory::MemoryTables;
use tributary::source::{self, Poll, Position, Reader, Source, SourceContext, Split, Waker};
use tributary::sql::{OptionValue, Options, Place, Table};

const PATIENCE: Duration = Duration::from_secs(30);
const WAITS: usize = 300;

/// A broker, a topic of its own, and what a source needs around it.
struct Bench {
    servers: String,
    topic: String,
    runtime: tokio::runtime::Runtime,
    clock: ManualClock,
    started_ms: i64,
    waker: Waker,
}

impl Bench {
    /// `None` where no broker was named.
    fn new(name: &str, partitions: i32) -> Option<Bench> {
        let Ok(servers) = std::env::var("TRIBUTARY_TEST_KAFKA") else {
            eprintln!("left out: {name} needs a Kafka broker in TRIBUTARY_TEST_KAFKA");
            return None;
        };
        let bench = Bench {
            servers,
            topic: format!("{name}-{}", uuid::Uuid::new_v4()),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            clock: ManualClock::at(0),
            started_ms: SystemClock.now_ms(),
            waker: Waker::default(),
        };
        let topic = NewTopic::new(&bench.topic, partitions, TopicReplication::Fixed(1));
        let made = bench
            .runtime
            .block_on(bench.admin().create_topics([&topic], &AdminOptions::new()));
        made.unwrap().remove(0).unwrap();
        Some(bench)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// When record number `n` was made: a second after the one before it.
    fn time(&self, n: i64) -> i64 {
        self.started_ms + n * 1000
    }

    fn send(&self, producer: &BaseProducer, partition: i32, numbers: std::ops::Range<i64>) {
        for n in numbers {
            let text = n.to_string();
            let record = BaseRecord::<str, str>::to(&self.topic)
                .partition(partition)
                .payload(&text);
            producer.send(record.timestamp(self.time(n))).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn fill(&self, partition: i32, numbers: std::ops::Range<i64>) {
        self.send(&self.config().create().unwrap(), partition, numbers);
    }

    fn source(&self, bounded: bool, options: &[(&str, &str)]) -> Box<dyn Source> {
        let mut all = vec![
            ("connector", "kafka"),
            ("topic", &self.topic),
            ("properties.bootstrap.servers", &self.servers),
            ("scan.startup.mode", "earliest-offset"),
        ];
        all.extend(options);
        let entry = |(key, value): (&str, &str)| {
            (
                key.to_string(),
                OptionValue {
                    value: value.to_string(),
                    place: Place::default(),
                },
            )
        };
        let scan = Scan {
            table: Arc::new(Table {
                name: "t".to_string(),
                columns: Vec::new(),
                watermark: None,
                primary_key: Vec::new(),
                partitioned_by: Vec::new(),
                options: Options {
                    entries: all.into_iter().map(entry).collect(),
                },
                comment: None,
                place: Place::default(),
            }),
            decoded: Arc::new(Schema::empty()),
            required: Vec::new(),
            metadata: Vec::new(),
            exprs: Vec::new(),
            watermark: None,
            hidden: false,
        };
        let context = SourceContext {
            bounded,
            share: tributary::source::Share::default(),
            memory_budget: 16 << 20,
            waker: self.waker.clone(),
            runtime: self.runtime.handle().clone(),
            clock: Arc::new(self.clock.clone()),
            memory: MemoryTables::default(),
            stores: Arc::new(|path| Err(tributary::error::Error::job(path))),
            registries: tributary::registry::none(),
        };
        source::open(&scan, &context).unwrap()
    }

    fn split(&self, partition: i32) -> Split {
        Split {
            topic: self.topic.as_str().into(),
            partition,
        }
    }

    /// The values up to the end of what there is.
    fn drain(&self, reader: &mut dyn Reader) -> Vec<i64> {
        let mut read = Vec::new();
        for _ in 0..WAITS {
            match reader.poll(1 << 20).unwrap() {
                Poll::Pending { at_end: true } | Poll::Finished => return read,
                Poll::Pending { at_end: false } => self.waker.wait(Duration::from_millis(100)),
                Poll::Records(records) => read.extend((0..records.len()).map(|record| {
                    let text = std::str::from_utf8(records.value(record).unwrap()).unwrap();
                    text.parse::<i64>().unwrap()
                })),
                Poll::Columns(_) => panic!("Kafka has no columns"),
            }
        }
        panic!("the end was never reached; read {read:?}");
    }

    /// What a source with these options reads of partition 0.
    fn read(&self, bounded: bool, options: &[(&str, &str)]) -> Vec<i64> {
        let mut source = self.source(bounded, options);
        source.discover().unwrap();
        let mut reader = source.open(&self.split(0), None).unwrap();
        self.drain(&mut *reader)
    }
}

#[test]
fn startup_and_bounded_modes() {
    let Some(bench) = Bench::new("modes", 1) else {
        return;
    };
    bench.fill(0, 0..10);
    let all: Vec<i64> = (0..10).collect();
    assert_eq!(bench.read(true, &[]), all);
    assert_eq!(
        bench.read(true, &[("scan.startup.mode", "latest-offset")]),
        [0i64; 0]
    );
    let time = |n: i64| bench.time(n).to_string();
    let (middle, later, never) = (time(5), time(7), time(99));
    let from = [
        ("scan.startup.mode", "timestamp"),
        ("scan.startup.timestamp-millis", &middle),
    ];
    assert_eq!(bench.read(true, &from), all[5..]);
    let after = [
        ("scan.startup.mode", "timestamp"),
        ("scan.startup.timestamp-millis", &never),
    ];
    assert_eq!(bench.read(true, &after), [0i64; 0]);
    let until = [
        ("scan.bounded.mode", "timestamp"),
        ("scan.bounded.timestamp-millis", &later),
    ];
    assert_eq!(bench.read(false, &until), all[..7]);
    let specific = [
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:3"),
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:0,offset:6"),
    ];
    assert_eq!(bench.read(false, &specific), all[3..6]);
}

#[test]
fn a_bounded_read_ends_behind_transactions() {
    let Some(bench) = Bench::new("transactions", 1) else {
        return;
    };
    let mut config = bench.config();
    config.set("transactional.id", &bench.topic);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (numbers, commit) in [(0..3, true), (3..6, false), (6..8, true), (8..9, false)] {
        producer.begin_transaction().unwrap();
        bench.send(&producer, 0, numbers);
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    let mut source = bench.source(true, &[]);
    source.discover().unwrap();
    let mut reader = source.open(&bench.split(0), None).unwrap();
    assert_eq!(bench.drain(&mut *reader), [0, 1, 2, 6, 7]);
    // Nine records and four markers, of which the last five offsets show nothing.
    assert_eq!(
        reader.position(),
        Position {
            offset: 13,
            finished: true
        }
    );
    let uncommitted = [("properties.isolation.level", "read_uncommitted")];
    assert_eq!(bench.read(true, &uncommitted), (0..9).collect::<Vec<_>>());
    // The engine goes on from there when there is more.
    bench.fill(0, 20..22);
    let mut source = bench.source(true, &[]);
    source.discover().unwrap();
    let from = Some(Position {
        offset: 13,
        finished: true,
    });
    let mut reader = source.open(&bench.split(0), from).unwrap();
    assert_eq!(bench.drain(&mut *reader), [20, 21]);
    // An open transaction holds the end back, and is no reason to wait for ever.
    producer.begin_transaction().unwrap();
    bench.send(&producer, 0, 30..32);
    assert_eq!(bench.read(true, &[]), [0, 1, 2, 6, 7, 20, 21]);
    assert_eq!(bench.read(false, &[]), [0, 1, 2, 6, 7, 20, 21]);
    producer.abort_transaction(PATIENCE).unwrap();
}

#[test]
fn deleted_records_are_told_and_reading_goes_on() {
    let Some(bench) = Bench::new("deleted", 1) else {
        return;
    };
    bench.fill(0, 0..10);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&bench.topic, 0, Offset::Offset(6))
        .unwrap();
    bench
        .runtime
        .block_on(bench.admin().delete_records(&list, &AdminOptions::new()))
        .unwrap();
    let from = Some(Position {
        offset: 2,
        finished: false,
    });
    let mut source = bench.source(false, &[]);
    source.discover().unwrap();
    let mut reader = source.open(&bench.split(0), from).unwrap();
    assert_eq!(bench.drain(&mut *reader), [6, 7, 8, 9]);

    let mut strict = bench.source(false, &[("tributary.fail-on-data-loss", "true")]);
    strict.discover().unwrap();
    let mut reader = strict.open(&bench.split(0), from).unwrap();
    let error = (0..WAITS).find_map(|_| match reader.poll(1) {
        Ok(Poll::Pending { .. }) => {
            bench.waker.wait(Duration::from_millis(100));
            None
        }
        Ok(_) => panic!("read on in silence"),
        Err(error) => Some(error.to_string()),
    });
    let error = error.unwrap();
    for part in ["partition 0", "4 offsets", "next offset was 2", "6 to 10"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_new_partition_is_found_and_read_from_its_beginning() {
    let Some(bench) = Bench::new("partitions", 1) else {
        return;
    };
    let mut source = bench.source(false, &[("scan.startup.mode", "latest-offset")]);
    assert_eq!(source.discover().unwrap(), [bench.split(0)]);
    let mut first = source.open(&bench.split(0), None).unwrap();
    let more = NewPartitions::new(&bench.topic, 2);
    let made = bench.runtime.block_on(
        bench
            .admin()
            .create_partitions([&more], &AdminOptions::new()),
    );
    made.unwrap().remove(0).unwrap();
    bench.fill(1, 0..3);
    let found = (0..WAITS).find_map(|_| {
        bench.clock.advance(Duration::from_secs(301));
        let found = source.discover().unwrap();
        if found.is_empty() {
            bench.waker.wait(Duration::from_millis(100));
        }
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.unwrap(), [bench.split(1)]);
    let mut second = source.open(&bench.split(1), None).unwrap();
    assert_eq!(bench.drain(&mut *second), [0, 1, 2]);
    bench.fill(0, 5..6);
    while bench.drain(&mut *first) != [5] {
        bench.waker.wait(Duration::from_millis(100));
    }
}

#[test]
fn what_is_acknowledged_is_the_groups_offset() {
    let Some(bench) = Bench::new("group", 2) else {
        return;
    };
    bench.fill(0, 0..10);
    let options = [
        ("scan.startup.mode", "group-offsets"),
        ("properties.group.id", bench.topic.as_str()),
        ("properties.auto.offset.reset", "earliest"),
    ];
    let mut source = bench.source(true, &options);
    source.discover().unwrap();
    let mut reader = source.open(&bench.split(0), None).unwrap();
    assert_eq!(bench.drain(&mut *reader).len(), 10);
    source.acknowledge(
        &[(
            bench.split(0),
            Position {
                offset: 7,
                finished: false,
            },
        )]
        .into(),
    );
    drop(reader);
    drop(source);
    let mut config = bench.config();
    let lag_tool: BaseConsumer = config.set("group.id", &bench.topic).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&bench.topic, 0);
    let committed = lag_tool.committed_offsets(list, PATIENCE).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Offset(7));
    assert_eq!(bench.read(true, &options), [7, 8, 9]);
    assert_eq!(
        bench
            .read(false, &[("scan.bounded.mode", "group-offsets"), options[1]])
            .len(),
        7
    );
}
