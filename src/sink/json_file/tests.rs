//! Documents in memory and on disk.

use super::super::rows::suite::{self, Place};
use super::super::rows::{Mark, RowPublisher, Target};
use super::super::testing::{FlakyStore, Row, World};
use super::super::{Publisher, Sink, Token};
use super::parts::Parts;
use super::target::JsonFileTarget;
use crate::error::Result;
use crate::operator::changes;
use crate::store::DurableLocal;
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::Schema;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

const DOCUMENT: &str = "lake/counts.json";

/// A document, and the table `t` that fills a heading of it.
struct Bench {
    world: World,
    document: String,
    /// For a store on disk.
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    fn new(store: Arc<dyn ObjectStore>) -> Bench {
        let document = format!("{DOCUMENT}-{}", uuid::Uuid::new_v4());
        let mut world = World::new("tributary-json-file", "", store);
        world.set("path", &document);
        world.set("tributary.json-file.heading", "All of Them");
        world.table.primary_key = vec!["id".into()];
        Bench {
            world,
            document,
            _folder: None,
        }
    }

    fn in_memory() -> Bench {
        Bench::new(Arc::new(object_store::memory::InMemory::new()))
    }

    fn process(&self, owner: &str) -> (Box<dyn Sink>, Arc<dyn Publisher>) {
        let context = self.world.context(owner);
        let publisher = super::publisher(&self.world.table, &context).unwrap();
        self.world.wait(publisher.open()).unwrap();
        (super::open(&self.world.table, &context).unwrap(), publisher)
    }

    /// Writes rows as one epoch of a process.
    fn write(&self, epoch: u64, rows: RecordBatch) {
        let (mut sink, publisher) = self.process("o1");
        assert!(sink.write(rows).unwrap().is_empty());
        let tokens = self.world.tokens(&mut sink.stage(epoch, false).unwrap());
        self.world
            .wait(publisher.publish(&tokens.unwrap()))
            .unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8(self.world.bytes(&self.document).to_vec()).unwrap()
    }
}

impl Place for Bench {
    fn world(&self) -> &World {
        &self.world
    }

    fn target(&self, owner: &str) -> Arc<dyn Target> {
        let context = self.world.context(owner);
        Arc::new(JsonFileTarget::of(&self.world.table, &context).unwrap())
    }

    fn shown(&self) -> Vec<String> {
        let path = Path::parse(&self.document).unwrap();
        if self.world.wait(self.world.store.head(&path)).is_err() {
            return Vec::new();
        }
        let document: serde_json::Value = serde_json::from_str(&self.text()).unwrap();
        let entries = document["All of Them"].as_object().unwrap();
        let text =
            |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_string();
        let lines = entries.iter();
        lines
            .map(|(id, value)| format!("{id},{},{}", text(value, "name"), text(value, "dt")))
            .collect()
    }

    /// It is in the name of what it marks.
    fn forget_mark(&self) {}
}

#[test]
fn a_document_in_memory_passes_what_every_target_must() {
    suite::passes(&|| Box::new(Bench::in_memory()));
}

#[test]
fn a_document_on_disk_passes_what_every_target_must() {
    suite::passes(&|| {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::from_absolute_path(folder.path()).unwrap();
        let store = object_store::prefix::PrefixStore::new(DurableLocal::new(), root);
        let mut bench = Bench::new(Arc::new(store));
        bench._folder = Some(folder);
        Box::new(bench)
    });
}

/// Rows with what each does.
fn changed(bench: &Bench, rows: &[(Row, i8)]) -> RecordBatch {
    let batch: Vec<Row> = rows.iter().map(|(row, _)| *row).collect();
    let batch = bench.world.rows(&batch);
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(changes::field()));
    let mut columns = batch.columns().to_vec();
    let kinds = rows.iter().map(|(_, kind)| *kind);
    columns.push(Arc::new(Int8Array::from_iter_values(kinds)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn the_last_row_of_each_key_stays_and_deleted_ones_go() {
    let bench = Bench::in_memory();
    let first = [((1, "a", "x"), 0), ((2, "b", "x"), 0), ((3, "c", "x"), 0)];
    bench.write(1, changed(&bench, &first));
    let second = [
        ((1, "a", "x"), 1),
        ((1, "aa", "x"), 2),
        ((2, "b", "x"), 3),
        ((4, "d", "x"), 0),
        ((4, "d", "x"), 3),
    ];
    bench.write(2, changed(&bench, &second));
    assert_eq!(bench.shown(), ["1,aa,x", "3,c,x"]);
    assert_eq!(bench.world.files("checkpoints/job/documents").len(), 1);
}

#[test]
fn one_value_stands_for_itself_and_two_keys_nest() {
    let mut bench = Bench::in_memory();
    bench.world.table.primary_key = vec!["dt".into(), "name".into()];
    bench.write(
        1,
        bench
            .world
            .rows(&[(1, "a", "x"), (2, "b", "x"), (3, "a \"q\"", "y")]),
    );
    let expected = r#"{
  "All of Them": {
    "x": {
      "a": 1,
      "b": 2
    },
    "y": {
      "a \"q\"": 3
    }
  }
}
"#;
    assert_eq!(bench.text(), expected);
}

#[test]
fn tables_share_a_document() {
    let mut bench = Bench::in_memory();
    bench.write(1, bench.world.rows(&[(1, "a", "x")]));
    bench.world.table.name = "u".into();
    bench.world.set("tributary.json-file.heading", "Others");
    bench.world.table.primary_key = vec!["name".into(), "dt".into()];
    bench.write(1, bench.world.rows(&[(7, "b", "y")]));
    let document: serde_json::Value = serde_json::from_str(&bench.text()).unwrap();
    assert_eq!(document["Others"]["b"]["y"], 7);
    assert_eq!(document["All of Them"]["1"]["name"], "a");
}

#[test]
fn a_row_without_a_key_is_given_back() {
    let mut bench = Bench::in_memory();
    bench.world.table.primary_key = vec!["name".into()];
    let rows = bench.world.rows(&[(1, "a", "x"), (2, "b", "x")]);
    let mut columns = rows.columns().to_vec();
    columns[1] = Arc::new(arrow::array::StringArray::from(vec![None, Some("b")]));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let (mut sink, _) = bench.process("o1");
    let rejected = sink.write(rows).unwrap();
    assert_eq!(rejected.len(), 1);
    assert!(
        rejected[0].1.contains("'name' is NULL"),
        "{}",
        rejected[0].1
    );
}

#[test]
fn what_was_frozen_before_its_write_mends_the_document() {
    let store = Arc::new(FlakyStore::failing(-1, false));
    let bench = Bench::new(store.clone());
    bench.write(1, bench.world.rows(&[(1, "a", "x")]));
    let parts = Parts::of(
        &bench.world.table,
        &bench.document,
        &bench.world.context("o2"),
    )
    .unwrap();
    let (_, mut part) = bench.world.wait(parts.newest()).unwrap().unwrap();
    part.entries.clear();
    let mark = Mark {
        epoch: 2,
        owner: "o2".into(),
    };
    let newer = async move { parts.add(&mark, &part).await.unwrap() };
    store.hold_up(&Path::parse(&bench.document).unwrap(), newer.boxed());
    // It has read the parts, and another one adds to them before it writes.
    bench.process("o1");
    assert!(bench.shown().is_empty());
}

/// The document says what the parts say, wherever a process died between them.
#[test]
fn whichever_call_fails_each_row_counts_once() {
    for after_effect in [false, true] {
        for call in 0.. {
            let store = Arc::new(FlakyStore::failing(call, after_effect));
            let bench = Bench::new(store.clone());
            let mut tokens = Vec::new();
            // Each is a new process, which publishes first what the last epoch names.
            for epoch in [1, 2, 3, 4] {
                let owner = format!("o{epoch}");
                // Where a failure ended it, the same is done by the next one.
                let publish = || bench.world.wait(published(&bench, &owner, &tokens));
                publish().or_else(|_| publish()).unwrap();
                let id = i64::try_from(epoch).unwrap();
                let stage = || {
                    let context = bench.world.context(&owner);
                    let mut sink = super::open(&bench.world.table, &context).unwrap();
                    sink.write(bench.world.rows(&[(id, "a", "x")])).unwrap();
                    bench.world.tokens(&mut sink.stage(epoch, false).unwrap())
                };
                tokens = stage().or_else(|_| stage()).unwrap();
            }
            assert_eq!(bench.shown(), ["1,a,x", "2,a,x", "3,a,x"], "call {call}");
            if !store.has_failed() {
                assert!(call > 9, "parts and documents are written three times");
                break;
            }
        }
    }
}

async fn published(bench: &Bench, owner: &str, tokens: &[Token]) -> Result<()> {
    let context = bench.world.context(owner);
    let target = bench.target(owner);
    let at_once = Arc::new(|_| futures::future::ready(()).boxed());
    let publisher = RowPublisher::new(&bench.world.table, target, &context)?;
    let publisher = publisher.with(at_once, Arc::new(|_| ()));
    Publisher::open(&publisher).await?;
    publisher.publish(tokens).await
}

#[test]
fn tables_that_would_hide_each_other_are_refused() {
    let table = |name: &str, path: &str, heading: Option<&str>| {
        let mut world = World::in_memory("tributary-json-file", "");
        world.set("path", path);
        if let Some(heading) = heading {
            world.set("tributary.json-file.heading", heading);
        }
        world.table.name = name.to_string();
        world.table.primary_key = vec!["id".into()];
        world.table
    };
    let one = || table("a", "lake/counts.json", None);
    for other in [
        table("b", "lake/counts.json", None),
        table("b", "lake/other.json", Some("a")),
        table("b", "s3://lake/counts.json", Some("a")),
    ] {
        super::check_together(&[one(), other]).unwrap();
    }
    let absolute = std::path::absolute("lake/counts.json").unwrap();
    let url = format!("file://{}", absolute.display());
    for (other, expected) in [
        (
            table("b", "lake/counts.json", Some("a")),
            "'tributary.json-file.heading'",
        ),
        (table("b", "./lake/../lake/counts.json", None), "'path'"),
        (table("b", &url, None), "write the path alike"),
    ] {
        let error = super::check_together(&[one(), other]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
