//! Against librdkafka's mock cluster, in this process.

use super::super::embedded::Embedded;
use super::super::suite::{self, Bench};
use super::super::{Poll, Position, Source};
use super::*;
use arrow::datatypes::Schema;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;

fn producer(cluster: &Embedded) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "0");
    config.create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, numbers: std::ops::Range<i32>) {
    for n in numbers {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        let headers = OwnedHeaders::new().insert(Header {
            key: "n",
            value: Some(&n.to_string()),
        });
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&value)
            .headers(headers);
        producer.send(record).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn scan(cluster: &Embedded, options: &[(&str, &str)]) -> Scan {
    let servers = cluster.bootstrap_servers();
    let mut all = vec![
        ("connector", "kafka"),
        ("properties.bootstrap.servers", servers.as_str()),
        ("scan.startup.mode", "earliest-offset"),
    ];
    all.extend(options);
    suite::scan("t", Arc::new(Schema::empty()), &all)
}

fn source(cluster: &Embedded, context: &SourceContext, options: &[(&str, &str)]) -> KafkaSource {
    KafkaSource::new(&scan(cluster, options), context).unwrap()
}

fn only(source: &mut KafkaSource) -> Split {
    let mut splits = source.discover().unwrap();
    assert_eq!(splits.len(), 1);
    splits.remove(0)
}

fn values(rows: &[suite::Row]) -> Vec<i64> {
    rows.iter().map(|row| row.0).collect()
}

#[test]
fn keeps_the_contract() {
    let cluster = Embedded::start(&["a", "b"], 2).unwrap();
    let producer = producer(&cluster);
    send(&producer, "a", 0, 0..50);
    send(&producer, "a", 1, 0..3);
    send(&producer, "b", 1, 0..20);
    let bench = Bench::new();
    suite::check(&bench, &mut || {
        Box::new(source(&cluster, &bench.context(), &[("topic", "a;b")]))
    });
}

#[test]
fn a_fetch_of_idle_partitions_comes_back_soon() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let bench = Bench::new();
    let wait = |context: &SourceContext, more: &[(&str, &str)]| {
        let options = [&[("topic", "a")], more].concat();
        let source = source(&cluster, context, &options);
        let config = source.fetch_config(1);
        config.get("fetch.wait.max.ms").map(str::to_string)
    };
    assert_eq!(wait(&bench.context(), &[]).unwrap(), "10");
    assert_eq!(wait(&bench.unbounded(), &[]).unwrap(), "20");
    let own = [("properties.fetch.max.wait.ms", "300")];
    assert_eq!(wait(&bench.unbounded(), &own).unwrap(), "300");
}

#[test]
fn a_record_that_comes_wakes_the_engine() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let producer = producer(&cluster);
    send(&producer, "a", 0, 0..5);
    let bench = Bench::new();
    let mut source = source(&cluster, &bench.unbounded(), &[("topic", "a")]);
    assert!(!source.bounded());
    let split = only(&mut source);
    let mut reader = source.open(&split, None).unwrap();
    assert_eq!(
        values(&suite::to_the_end(&bench, &mut *reader)),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(reader.lag(), Some(0));
    send(&producer, "a", 0, 5..6);
    assert_eq!(values(&suite::next(&bench, &mut *reader, 1).unwrap()), [5]);
    assert_eq!(
        reader.position(),
        Position {
            offset: 6,
            finished: false
        }
    );
}

#[test]
fn the_engine_may_drop_the_source_before_its_readers() {
    let cluster = Embedded::start(&["a"], 2).unwrap();
    send(&producer(&cluster), "a", 0, 0..5);
    let bench = Bench::new();
    let mut source = source(&cluster, &bench.unbounded(), &[("topic", "a")]);
    let splits = source.discover().unwrap();
    let mut readers: Vec<_> = splits
        .iter()
        .map(|split| source.open(split, None).unwrap())
        .collect();
    assert_eq!(suite::to_the_end(&bench, &mut *readers[0]).len(), 5);
    drop(source);
    drop(readers);
}

#[test]
fn a_cluster_that_goes_after_its_source_is_no_outage() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let bench = Bench::new();
    let mut source = source(&cluster, &bench.unbounded(), &[("topic", "a")]);
    only(&mut source);
    let connection = source.connection.clone();
    drop(source);
    drop(cluster);
    // What the clients say while they end.
    connection.lost("all brokers are down");
    assert!(!connection.is_down());
}

#[test]
fn latest_and_specific_offsets_begin_where_they_say() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let producer = producer(&cluster);
    send(&producer, "a", 0, 0..10);
    let bench = Bench::new();
    let specific = [
        ("topic", "a"),
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:4"),
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:0,offset:7"),
    ];
    let mut bounded = source(&cluster, &bench.unbounded(), &specific);
    assert!(bounded.bounded());
    let split = only(&mut bounded);
    let mut reader = bounded.open(&split, None).unwrap();
    assert_eq!(values(&suite::to_the_end(&bench, &mut *reader)), [4, 5, 6]);
    assert_eq!(
        reader.position(),
        Position {
            offset: 7,
            finished: true
        }
    );

    let latest = [("topic", "a"), ("scan.startup.mode", "latest-offset")];
    let mut latest = source(&cluster, &bench.unbounded(), &latest);
    let split = only(&mut latest);
    // What comes between discovery and opening is not lost.
    send(&producer, "a", 0, 10..12);
    let mut reader = latest.open(&split, None).unwrap();
    assert_eq!(reader.position().offset, 10);
    assert_eq!(values(&suite::to_the_end(&bench, &mut *reader)), [10, 11]);
}

#[test]
fn a_group_goes_on_where_it_acknowledged() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    send(&producer(&cluster), "a", 0, 0..10);
    let bench = Bench::new();
    let options = [
        ("topic", "a"),
        ("scan.startup.mode", "group-offsets"),
        ("properties.group.id", "g"),
    ];
    let mut first = source(&cluster, &bench.context(), &options);
    let split = only(&mut first);
    let error = first.open(&split, None).err().unwrap().to_string();
    assert!(error.contains("'g' has no committed offset"), "{error}");
    let at = Position {
        offset: 6,
        finished: false,
    };
    first.acknowledge(&[(split.clone(), at)].into());
    drop(first);
    let mut second = source(&cluster, &bench.context(), &options);
    let split = only(&mut second);
    let mut reader = second.open(&split, None).unwrap();
    assert_eq!(
        values(&suite::to_the_end(&bench, &mut *reader)),
        [6, 7, 8, 9]
    );
}

#[test]
fn headers_come_when_the_table_asks() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    send(&producer(&cluster), "a", 0, 7..8);
    let bench = Bench::new();
    let mut scan = scan(&cluster, &[("topic", "a")]);
    scan.metadata.push(crate::plan::Metadata {
        name: "h".into(),
        key: MetadataKey::Headers,
    });
    let mut source = KafkaSource::new(&scan, &bench.context()).unwrap();
    let split = only(&mut source);
    let mut reader = source.open(&split, None).unwrap();
    let records = loop {
        match reader.poll(1 << 20).unwrap() {
            Poll::Records(records) => break records,
            Poll::Pending { .. } => bench.waker.wait(Duration::from_secs(10)),
            _ => panic!("no record"),
        }
    };
    assert_eq!(records.headers, [vec![("n".to_string(), b"7".to_vec())]]);
    assert_eq!(
        (records.key(0), records.value(0)),
        (Some(&b"key 7"[..]), Some(&b"value 7"[..]))
    );
    assert!(records.timestamps[0] > 0);
}

#[test]
fn an_offset_that_is_gone_is_told_and_reading_goes_on() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    send(&producer(&cluster), "a", 0, 0..10);
    let bench = Bench::new();
    // The partition ends at 10, so 500 was read of another one that had the same name.
    let gone = Some(Position {
        offset: 500,
        finished: false,
    });
    let mut tolerant = source(&cluster, &bench.unbounded(), &[("topic", "a")]);
    let split = only(&mut tolerant);
    let mut reader = tolerant.open(&split, gone).unwrap();
    assert_eq!(values(&suite::to_the_end(&bench, &mut *reader)).len(), 10);
    assert_eq!(reader.position().offset, 10);

    let strict = [("topic", "a"), ("tributary.fail-on-data-loss", "true")];
    let mut strict = source(&cluster, &bench.unbounded(), &strict);
    let split = only(&mut strict);
    let mut reader = strict.open(&split, gone).unwrap();
    let error = loop {
        match reader.poll(1) {
            Ok(Poll::Pending { .. }) => bench.waker.wait(Duration::from_secs(1)),
            Ok(_) => panic!("read on in silence"),
            Err(error) => break error.to_string(),
        }
    };
    for part in ["topic 'a' partition 0", "500", "0 to 10"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_bounded_run_names_the_topic_that_is_not_there() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let bench = Bench::new();
    let error = source(&cluster, &bench.context(), &[("topic", "a;nowhere")])
        .discover()
        .unwrap_err();
    assert!(error.to_string().contains("topic 'nowhere'"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_topic_that_is_created_later_is_read_from_its_beginning() {
    let cluster = Embedded::start(&["a-1", "b"], 1).unwrap();
    let producer = producer(&cluster);
    let bench = Bench::new();
    let clock = crate::clock::ManualClock::at(0);
    let context = SourceContext {
        clock: Arc::new(clock.clone()),
        ..bench.unbounded()
    };
    let options = [
        ("topic-pattern", "a-\\d"),
        ("scan.startup.mode", "latest-offset"),
    ];
    let mut source = source(&cluster, &context, &options);
    assert_eq!(only(&mut source).topic.as_ref(), "a-1");
    cluster.cluster().create_topic("a-2", 1, 1).unwrap();
    send(&producer, "a-2", 0, 0..3);
    clock.advance(Duration::from_secs(301));
    let split = loop {
        match source.discover().unwrap().pop() {
            Some(split) => break split,
            None => bench.waker.wait(Duration::from_secs(10)),
        }
    };
    let mut reader = source.open(&split, None).unwrap();
    assert_eq!(values(&suite::to_the_end(&bench, &mut *reader)), [0, 1, 2]);
}

#[test]
fn what_a_checkpoint_does_not_know_is_read_from_its_beginning() {
    let cluster = Embedded::start(&["a"], 2).unwrap();
    send(&producer(&cluster), "a", 1, 0..3);
    let bench = Bench::new();
    let mut source = source(
        &cluster,
        &bench.unbounded(),
        &[("topic", "a"), ("scan.startup.mode", "latest-offset")],
    );
    source.restored();
    let splits = source.discover().unwrap();
    // The engine's thread opens, and waits for no broker: what it needs was asked before.
    cluster.cluster().broker_down(1).unwrap();
    assert_eq!(source.open(&splits[1], None).unwrap().position().offset, 0);
}

#[test]
fn a_share_is_some_of_the_partitions_of_every_topic() {
    let cluster = Embedded::start(&["a", "b"], 4).unwrap();
    let bench = Bench::new();
    let context = SourceContext {
        share: "1-2,9".parse().unwrap(),
        ..bench.unbounded()
    };
    let mut source = source(&cluster, &context, &[("topic", "a;b")]);
    let splits = source.discover().unwrap();
    let found: Vec<_> = splits
        .iter()
        .map(|split| (split.topic.as_ref(), split.partition))
        .collect();
    assert_eq!(found, [("a", 1), ("a", 2), ("b", 1), ("b", 2)]);
}

#[test]
fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let cluster = Embedded::start(&["a"], 1).unwrap();
    let producer = producer(&cluster);
    send(&producer, "a", 0, 0..5);
    let bench = Bench::new();
    let mut source = source(&cluster, &bench.unbounded(), &[("topic", "a")]);
    let split = only(&mut source);
    let mut reader = source.open(&split, None).unwrap();
    assert_eq!(suite::to_the_end(&bench, &mut *reader).len(), 5);
    cluster.cluster().broker_down(1).unwrap();
    while !source.connection.is_down() {
        assert!(matches!(reader.poll(1).unwrap(), Poll::Pending { .. }));
        bench.waker.wait(Duration::from_millis(10));
    }
    assert!(!reader.answers());
    cluster.cluster().broker_up(1).unwrap();
    send(&producer, "a", 0, 5..8);
    let mut read = Vec::new();
    while read.len() < 3 {
        read.extend(values(&suite::next(&bench, &mut *reader, 1).unwrap()));
    }
    assert_eq!(read, [5, 6, 7]);
    assert!(!source.connection.is_down());
}
