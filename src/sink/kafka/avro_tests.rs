//! Records that are written with a registry, on librdkafka's mock cluster.

use super::super::SinkContext;
use super::super::rows::Target;
use super::super::testing::World;
use super::target::KafkaTarget;
use crate::error::Kind;
use crate::operator::changes;
use crate::registry::Registry;
use crate::registry::memory::MemoryRegistry;
use crate::source::embedded::Embedded;
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

fn world(cluster: &Embedded, options: &[(&str, &str)]) -> World {
    let mut world = World::in_memory("kafka", "");
    world.set("topic", "t");
    world.set("properties.bootstrap.servers", &cluster.bootstrap_servers());
    for (key, value) in options {
        world.set(key, value);
    }
    world
}

/// A registry for a table, and the options that lead there.
fn with_registry(mut context: SinkContext, registry: &MemoryRegistry) -> SinkContext {
    let registry = registry.clone();
    context.registries = Arc::new(move |_| Ok(Arc::new(registry.clone())));
    context
}

const AVRO: [(&str, &str); 7] = [
    ("connector", "upsert-kafka"),
    ("format", "avro-confluent"),
    ("avro-confluent.url", "http://registry"),
    ("key.format", "avro-confluent"),
    ("key.avro-confluent.url", "http://registry"),
    ("key.avro-confluent.subject", "keys"),
    ("sink.delivery-guarantee", "at-least-once"),
];

#[test]
fn ids_are_filled_in_when_records_are_delivered() {
    let cluster = Embedded::start(&["t"], 1).unwrap();
    let mut world = world(&cluster, &AVRO);
    world.table.primary_key = vec!["id".into()];
    let registry = MemoryRegistry::default();
    for other in ["int", "long", "string"] {
        registry.put_avro(&format!("\"{other}\""));
    }
    let context = with_registry(world.context("o1"), &registry);
    // The registry is away, and lanes go on.
    registry.set_away(true);
    let mut sink = super::open(&world.table, &context).unwrap();
    let mut fields = world.table.schema.fields().to_vec();
    fields.push(Arc::new(changes::field()));
    let rows = world.rows(&[(1, "a", "x"), (2, "b", "y")]);
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int8Array::from(vec![0, 3])));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert!(sink.write(rows).unwrap().is_empty());
    let mut staging = sink.stage(1, false).unwrap();
    let tokens = world.tokens(&mut staging).unwrap();
    assert_eq!(registry.asked(), 0);
    registry.set_away(false);

    // What one process has stored, another one delivers, whose table has another column more.
    let mut wider = world.table.clone();
    let mut fields = wider.schema.fields().to_vec();
    fields.push(Arc::new(Field::new("new", DataType::Int32, true)));
    wider.schema = Arc::new(Schema::new(fields));
    let context = with_registry(world.context("o2"), &registry);
    let publisher = super::publisher(&wider, &context).unwrap();
    world.wait(publisher.open()).unwrap();
    world.wait(publisher.publish(&tokens)).unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "r")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record.unwrap();
            let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            seen.push((bytes(record.key()), bytes(record.payload())));
        }
    }
    let text = |id: u32| {
        let schema = world.wait(registry.schema(id)).unwrap();
        schema.unwrap().text
    };
    let id_of = |record: &[u8]| crate::avro::parts(record).unwrap().0;
    let (key, value) = (seen[0].0.clone().unwrap(), seen[0].1.clone().unwrap());
    assert_eq!(key[5..], [2]);
    assert!(text(id_of(&key)).contains(r#"[{"name":"id","type":"long"}]"#));
    assert_eq!(value[5..], [2, 2, 2, b'a', 2, 2, b'x']);
    let schema = text(id_of(&value));
    assert!(
        schema.contains(r#""dt""#) && !schema.contains(r#""new""#),
        "{schema}"
    );
    assert_eq!(
        (seen[1].0.as_deref(), seen[1].1.clone()),
        (Some(&[key[..5].to_vec(), vec![4]].concat()[..]), None)
    );
    for (subject, schema) in [("keys", text(id_of(&key))), ("t-value", schema)] {
        let found = world.wait(registry.find(subject, &schema)).unwrap();
        assert!(found.is_some(), "{subject}");
    }
}

#[test]
fn what_the_registry_says_is_said_before_any_row_is_delivered() {
    let cluster = Embedded::start(&["t"], 1).unwrap();
    let options = [&AVRO[1..3], &AVRO[6..]].concat();
    let mut world = world(&cluster, &options);
    let registry = MemoryRegistry::default();
    let opened = |world: &World| {
        let context = with_registry(world.context("o1"), &registry);
        let target = KafkaTarget::of(&world.table, &context).unwrap();
        world.wait(target.open())
    };
    registry.set_away(true);
    assert_eq!(opened(&world).unwrap_err().kind(), Kind::Retry);
    registry.set_away(false);
    registry.set_forbidden(true);
    let error = opened(&world).unwrap_err();
    assert!(
        error.kind() == Kind::Job && error.to_string().contains("table 't'"),
        "{error}"
    );
    registry.set_forbidden(false);

    world.set("avro-confluent.auto.register.schemas", "false");
    let error = opened(&world).unwrap_err();
    assert_eq!(error.kind(), Kind::Job);
    assert!(error.to_string().contains("'t-value'"), "{error}");
    world.set("avro-confluent.auto.register.schemas", "true");
    opened(&world).unwrap();
    world.set("avro-confluent.auto.register.schemas", "false");
    opened(&world).unwrap();

    registry.keep_backward("t-value");
    world.table.schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
    world.set("avro-confluent.auto.register.schemas", "true");
    let error = opened(&world).unwrap_err();
    assert!(error.to_string().contains("'t-value'"), "{error}");
}
