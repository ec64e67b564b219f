//! What a topic takes, against a real broker.

use super::super::testing::Row;
use super::tests::Bench;
use crate::clock::{Clock, SystemClock};
use crate::error::Kind;
use crate::sink::rows::suite::Place;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};

#[test]
fn times_that_the_topic_would_not_take_are_given_back() {
    let near = [("message.timestamp.after.max.ms", "3600000")];
    let Some(mut bench) = Bench::with("ahead", 1, &near, &[]) else {
        return;
    };
    let now = SystemClock.now_ms();
    let rows = bench.timed(&[now, now + 7_200_000]);
    let (mut sink, publisher) = bench.process("o1");
    let rejected = sink.write(rows.clone()).unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].0, rows.slice(1, 1));
    let why = &rejected[0].1;
    assert!(why.contains("message.timestamp.after.max.ms"), "{why}");
    let tokens = bench.tokens(&mut *sink, 1);
    bench.world.wait(publisher.publish(&tokens)).unwrap();
    assert_eq!(bench.records()[0].timestamp, now);

    // A sink that has not learnt it leaves it to the broker to find out, and then it is said what to do.
    let publisher = super::publisher(&bench.world.table, &bench.context("o2")).unwrap();
    bench.world.wait(publisher.open()).unwrap();
    let mut sink = super::open(&bench.world.table, &bench.context("o2")).unwrap();
    assert!(sink.write(rows).unwrap().is_empty());
    let tokens = bench.tokens(&mut *sink, 2);
    let error = bench.world.wait(publisher.publish(&tokens)).unwrap_err();
    assert_eq!(error.kind(), Kind::Job, "{error}");
    let said = error.to_string();
    assert!(said.contains("message.timestamp.after.max.ms"), "{said}");
    assert!(said.contains(&bench.topic), "{said}");
}

#[test]
fn what_the_topic_would_not_take_is_given_back() {
    let small = [("max.message.bytes", "2000")];
    let Some(bench) = Bench::with("limit", 1, &small, &[]) else {
        return;
    };
    let long: &'static str = "x".repeat(5000).leak();
    let (mut sink, publisher) = bench.process("o1");
    let rows = bench.world.rows(&[(1, "a", "x"), (2, long, "x")]);
    let rejected = sink.write(rows).unwrap();
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].1.contains("2000"), "{}", rejected[0].1);
    let tokens = bench.tokens(&mut *sink, 1);
    bench.world.wait(publisher.publish(&tokens)).unwrap();
    assert_eq!(bench.shown(), ["1,a,x"]);

    // Of one that travels compressed, what is left counts: much of what is random, little of what is not.
    let options = [("properties.compression.type", "lz4")];
    let bench = Bench::with("limit", 1, &small, &options).unwrap();
    let random: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(9000)
        .collect();
    let (mut sink, publisher) = bench.process("o1");
    let rows = bench.world.rows(&[(1, random.leak(), "x"), (2, long, "x")]);
    let rejected = sink.write(rows).unwrap();
    assert_eq!(rejected.len(), 1);
    let why = &rejected[0].1;
    assert!(
        why.contains("max.message.bytes") && why.contains(&bench.topic),
        "{why}"
    );
    let tokens = bench.tokens(&mut *sink, 1);
    bench.world.wait(publisher.publish(&tokens)).unwrap();
    assert_eq!(bench.records().len(), 1);
}

#[test]
fn batches_are_as_small_as_the_topic_wants_them() {
    let small = [("max.message.bytes", "2000")];
    let rows: Vec<Row> = (0..200).map(|id| (id, "a", "x")).collect();
    // From the beginning, or since somebody changed it.
    for later in [false, true] {
        let first: &[_] = if later { &[] } else { &small };
        let Some(bench) = Bench::with("small", 1, first, &[]) else {
            return;
        };
        let (mut sink, publisher) = bench.process("o1");
        if later {
            let topic = AlterConfig::new(ResourceSpecifier::Topic(&bench.topic));
            let changes = [&topic.set(small[0].0, small[0].1)];
            let admin = bench.admin();
            let changed = admin.alter_configs(changes, &AdminOptions::new());
            bench.world.wait(changed).unwrap()[0].as_ref().unwrap();
        }
        assert!(sink.write(bench.world.rows(&rows)).unwrap().is_empty());
        let tokens = bench.tokens(&mut *sink, 1);
        bench.world.wait(publisher.publish(&tokens)).unwrap();
        assert_eq!(bench.records().len(), rows.len(), "later: {later}");
    }
}

#[test]
fn the_largest_row_that_is_taken_is_delivered() {
    let Some(bench) = Bench::new("largest", &[]) else {
        return;
    };
    let (mut sink, publisher) = bench.process("o1");
    let mut write = |length: usize| {
        let long: &'static str = "x".repeat(length).leak();
        sink.write(bench.world.rows(&[(1, long, "x")])).unwrap()
    };
    let most = 1 << 20;
    let rejected = write(most);
    let said = rejected[0].1.split_whitespace();
    let bytes = said.filter_map(|word| word.parse::<usize>().ok()).next();
    let beyond = bytes.unwrap() - most;
    assert_eq!(write(most - beyond + 1).len(), 1);
    assert!(write(most - beyond).is_empty());
    let tokens = bench.tokens(&mut *sink, 1);
    bench.world.wait(publisher.publish(&tokens)).unwrap();
    assert_eq!(bench.records().len(), 1);
}
