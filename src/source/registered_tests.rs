//! Records wait for their schemas, and nothing else does.

use super::super::memory::MemoryTable;
use super::super::suite::{self, Bench};
use super::*;
use crate::registry::RegistryOpener;
use crate::registry::memory::MemoryRegistry;
use crate::sql::Options;

const AVRO: [(&str, &str); 2] = [
    ("format", "avro-confluent"),
    ("avro-confluent.url", "http://h"),
];

fn opener(registry: &MemoryRegistry) -> RegistryOpener {
    let registry = registry.clone();
    Arc::new(move |_| Ok(Arc::new(registry.clone())))
}

fn source(bench: &Bench, registry: &MemoryRegistry, context: SourceContext) -> Box<dyn Source> {
    let context = SourceContext {
        registries: opener(registry),
        ..context
    };
    let table = Table::of("t", [], Options::of(AVRO));
    let inner = Box::new(bench.memory.source("t", &context).unwrap());
    with_schemas(inner, &table, &context).unwrap()
}

fn push(table: &MemoryTable, split: usize, id: u32) {
    let value = [&avro::head(id)[..], b"value"].concat();
    table.push(split, None, Some(&value), -1);
}

#[test]
fn keeps_the_contract_of_sources() {
    let bench = Bench::new();
    let registry = MemoryRegistry::default();
    let id = registry.put_avro(r#""int""#);
    let table = bench.memory.table("t");
    for n in 0..60 {
        push(&table, n % 2, if n % 7 == 0 { 77 } else { id });
    }
    table.push(0, None, None, -1);
    table.push(0, None, Some(b"not Avro"), -1);
    suite::check(&bench, &mut || source(&bench, &registry, bench.context()));
}

#[test]
fn a_registry_that_is_away_holds_up_only_the_split_that_needs_it() {
    let bench = Bench::new();
    let registry = MemoryRegistry::default();
    let (old, new) = (
        registry.put_avro(r#""int""#),
        registry.put_avro(r#""long""#),
    );
    let table = bench.memory.table("t");
    table.splits(2);
    let mut source = source(&bench, &registry, bench.unbounded());
    let splits = source.discover().unwrap();
    let mut readers: Vec<_> = splits
        .iter()
        .map(|split| source.open(split, None).unwrap())
        .collect();
    push(&table, 0, old);
    assert_eq!(suite::next(&bench, &mut *readers[0], 1).unwrap().len(), 1);

    registry.set_away(true);
    push(&table, 0, new);
    push(&table, 1, old);
    let before = readers[0].position();
    for _ in 0..3 {
        let polled = readers[0].poll(1 << 20).unwrap();
        assert!(matches!(polled, Poll::Pending { at_end: false }));
    }
    assert_eq!(readers[0].position(), before, "nothing of it was read");
    assert!(!readers[0].answers(), "so the split does not become idle");
    assert_eq!(suite::next(&bench, &mut *readers[1], 1).unwrap().len(), 1);

    registry.set_away(false);
    let records = loop {
        match readers[0].poll(1 << 20).unwrap() {
            Poll::Records(records) => break records,
            Poll::Pending { .. } => bench.waker.wait(std::time::Duration::from_millis(200)),
            _ => panic!("neither records nor waiting"),
        }
    };
    assert!(records.schemas[&new].is_ok());
    assert_eq!(readers[0].position().offset, before.offset + 1);
    assert!(readers[0].answers());
}

#[test]
fn what_no_waiting_mends_ends_the_reader() {
    let bench = Bench::new();
    let registry = MemoryRegistry::default();
    registry.set_forbidden(true);
    let table = bench.memory.table("t");
    push(&table, 0, 1);
    let mut source = source(&bench, &registry, bench.unbounded());
    let split = source.discover().unwrap().remove(0);
    let mut reader = source.open(&split, None).unwrap();
    let error = loop {
        match reader.poll(1) {
            Err(error) => break error,
            Ok(_) => bench.waker.wait(std::time::Duration::from_millis(200)),
        }
    };
    assert_eq!(error.kind(), crate::error::Kind::Job);
}
