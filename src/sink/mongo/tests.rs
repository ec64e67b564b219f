//! MongoDB tables against a real server, whose address is in `TRIBUTARY_TEST_MONGO`.

use super::super::rows::suite::{self, Place};
use super::super::rows::{Mark, Share, Target};
use super::super::testing::{Row, World};
use super::super::{Publisher, Sink, Token};
use super::target::MongoTarget;
use crate::error::{Error, Kind, Result};
use crate::operator::changes;
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::Schema;
use futures::{StreamExt, stream};
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};
use std::sync::Arc;

/// A collection of its own at the server, and a table that writes it.
struct Bench {
    world: World,
    uri: String,
    collection: String,
}

impl Bench {
    /// `None` where no server was named.
    fn new(name: &str, options: &[(&str, &str)]) -> Option<Bench> {
        let Ok(server) = std::env::var("TRIBUTARY_TEST_MONGO") else {
            eprintln!("left out: {name} needs a MongoDB server in TRIBUTARY_TEST_MONGO");
            return None;
        };
        let uri = format!("{server}/?directConnection=true");
        let collection = format!("{name}_{}", uuid::Uuid::new_v4().simple());
        let mut world = World::in_memory("mongodb", "");
        world.set("uri", &uri);
        world.set("database", "tributary_test");
        world.set("collection", &collection);
        for (key, value) in options {
            world.set(key, value);
        }
        Some(Bench {
            world,
            uri,
            collection,
        })
    }

    /// With `name` as the key.
    fn keyed(name: &str, options: &[(&str, &str)]) -> Option<Bench> {
        let mut bench = Bench::new(name, options)?;
        bench.world.table.primary_key = vec!["name".into()];
        Some(bench)
    }

    fn context(&self, owner: &str) -> super::SinkContext {
        // The mark is named after the job: a job for each test.
        super::SinkContext {
            job: self.collection.clone(),
            ..self.world.context(owner)
        }
    }

    fn target_of(&self, owner: &str) -> MongoTarget {
        MongoTarget::of(&self.world.table, &self.context(owner)).unwrap()
    }

    fn process(&self, owner: &str) -> (Box<dyn Sink>, Arc<dyn Publisher>) {
        let context = self.context(owner);
        let publisher = super::publisher(&self.world.table, &context).unwrap();
        self.world.wait(publisher.open()).unwrap();
        (super::open(&self.world.table, &context).unwrap(), publisher)
    }

    fn tokens(&self, sink: &mut dyn Sink, epoch: u64) -> Vec<Token> {
        let mut staging = sink.stage(epoch, false).unwrap();
        self.world.tokens(&mut staging).unwrap()
    }

    /// Writes rows as one epoch of a process.
    fn write(&self, epoch: u64, rows: RecordBatch) {
        let (mut sink, publisher) = self.process("o1");
        assert!(sink.write(rows).unwrap().is_empty());
        let tokens = self.tokens(&mut *sink, epoch);
        self.world.wait(publisher.publish(&tokens)).unwrap();
    }

    /// Delivers rows as a process does that was frozen since it had opened, whatever became of its rights.
    fn share(&self, rows: RecordBatch, kinds: &[i8]) -> Share {
        let kinds = Int8Array::from(kinds.to_vec());
        let target = self.target_of("o1");
        let shaped = target.shape(rows, Some(&kinds)).unwrap();
        Share {
            lane: 0,
            rows: vec![shaped.stored],
        }
    }

    fn deliver(&self, owner: &str, epoch: u64, shares: Vec<Result<Share>>) -> Result<()> {
        let target = self.target_of(owner);
        let mark = Mark {
            epoch,
            owner: "o1".into(),
        };
        self.world.wait(async {
            target.open().await?;
            target.deliver(&mark, stream::iter(shares).boxed()).await
        })
    }

    fn database(&self) -> mongodb::Database {
        let client = self.world.wait(Client::with_uri_str(&self.uri)).unwrap();
        client.database("tributary_test")
    }

    fn documents(&self) -> Vec<Document> {
        let collection: Collection<Document> = self.database().collection(&self.collection);
        self.world.wait(async {
            let mut found = collection.find(doc! {}).await.unwrap();
            let mut documents = Vec::new();
            while found.advance().await.unwrap() {
                documents.push(found.deserialize_current().unwrap());
            }
            documents
        })
    }

    /// `name=id` of what is there, sorted; a tombstone is `name=gone`.
    fn keys(&self) -> Vec<String> {
        let documents = self.documents();
        let mut keys: Vec<String> = documents
            .iter()
            .map(|document| {
                let name = document.get_str("_id").unwrap();
                match document.contains_key("_deleted") {
                    false => format!("{name}={}", id(document)),
                    true => format!("{name}=gone"),
                }
            })
            .collect();
        keys.sort();
        keys
    }
}

/// A test server may make numbers smaller.
fn id(row: &Document) -> i64 {
    match row.get("id") {
        Some(Bson::Int64(id)) => *id,
        Some(Bson::Int32(id)) => i64::from(*id),
        other => panic!("{other:?} is no id"),
    }
}

impl Place for Bench {
    fn world(&self) -> &World {
        &self.world
    }

    fn target(&self, owner: &str) -> Arc<dyn Target> {
        Arc::new(self.target_of(owner))
    }

    fn shown(&self) -> Vec<String> {
        let documents = self.documents();
        let mut shown: Vec<String> = documents
            .iter()
            .map(|row| {
                let text = |name: &str| row.get_str(name).unwrap();
                format!("{},{},{}", id(row), text("name"), text("dt"))
            })
            .collect();
        shown.sort();
        shown
    }

    fn forget_mark(&self) {
        let marks: Collection<Document> = self.database().collection("_tributary");
        let mine = doc! { "_id": format!("{}/t", self.collection) };
        self.world
            .wait(marks.delete_many(mine).into_future())
            .unwrap();
    }
}

#[test]
fn a_collection_passes_what_every_target_must() {
    if Bench::new("suite", &[]).is_none() {
        return;
    }
    suite::passes(&|| Box::new(Bench::new("suite", &[]).unwrap()));
    suite::passes(&|| {
        let mut bench = Bench::keyed("suite", &[]).unwrap();
        bench.world.table.primary_key = vec!["id".into()];
        Box::new(bench)
    });
}

#[test]
fn new_rows_come_once_however_often_they_are_delivered() {
    let Some(bench) = Bench::new("new", &[("sink.buffer-flush.max-rows", "2")]) else {
        return;
    };
    let rows: Vec<Row> = (0..5).map(|id| (id, "a", "x")).collect();
    let share = || bench.share(bench.world.rows(&rows), &[0; 5]);
    let torn = vec![Ok(share()), Err(Error::retry("torn"))];
    bench.deliver("o1", 1, torn).unwrap_err();
    assert_eq!(bench.documents().len(), 4, "what is full has gone");
    bench
        .deliver("o2", 1, vec![Ok(share()), Ok(share())])
        .unwrap();
    assert_eq!(bench.documents().len(), 10);
    bench
        .deliver("o3", 1, vec![Ok(share()), Ok(share())])
        .unwrap();
    let documents = bench.documents();
    assert_eq!(documents.len(), 10);
    let mut ids: Vec<&str> = documents
        .iter()
        .map(|d| d.get_str("_id").unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!((ids[0], ids[9]), ("t/1/o1/0/0", "t/1/o1/0/9"));
}

#[test]
fn the_last_row_of_each_key_stays() {
    let Some(mut bench) = Bench::keyed("last", &[]) else {
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
    bench.write(
        1,
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
    );
    assert_eq!(bench.keys(), ["a=3", "b=gone"]);
    bench.write(2, bench.world.rows(&[(5, "b", "x")]));
    assert_eq!(bench.keys(), ["a=3", "b=5"]);
    let documents = bench.documents();
    assert!(
        documents
            .iter()
            .all(|document| !document.contains_key("_deleted"))
    );
}

#[test]
fn an_old_process_changes_nothing_and_brings_nothing_back() {
    let Some(bench) = Bench::keyed("old", &[]) else {
        return;
    };
    let old = || {
        let rows = [(1, "a", "x"), (1, "b", "x"), (1, "c", "x")];
        bench.share(bench.world.rows(&rows), &[0, 0, 0])
    };
    let new = || bench.share(bench.world.rows(&[(2, "a", "x"), (2, "b", "x")]), &[2, 3]);
    bench.deliver("o1", 1, vec![Ok(old())]).unwrap();
    bench.deliver("o2", 2, vec![Ok(new())]).unwrap();
    assert_eq!(bench.keys(), ["a=2", "b=gone", "c=1"]);

    // It opened long ago, and was in the middle of its epoch: the commands are sent by hand.
    let settings = super::options::Settings::of(&bench.world.table, "job").unwrap();
    let settings = Arc::new(settings);
    let mark = Mark {
        epoch: 1,
        owner: "o1".into(),
    };
    let share = old();
    let stored = super::document::Stored::of(&share.rows[0]).unwrap();
    let mut batches = super::batch::Batches::new(&settings, &mark, 0, 0);
    for row in 0..3 {
        assert_eq!(batches.add(&stored, row, 0).unwrap(), None);
    }
    let batch = batches.finish().unwrap();
    let command = batch.command(&bench.collection, batch.statements.clone());
    let database = bench.database();
    let answer = bench
        .world
        .wait(database.run_command(command).into_future());
    let there = super::fault::Failed::of(&answer.unwrap());
    assert_eq!(there.len(), 2);
    assert!(there.iter().all(super::fault::Failed::is_there_already));
    let again = batch.command(&bench.collection, batch.without_inserts(&[0, 1]));
    bench
        .world
        .wait(database.run_command(again).into_future())
        .unwrap();
    assert_eq!(bench.keys(), ["a=2", "b=gone", "c=1"]);
}

#[test]
fn at_least_once_leaves_no_tombstones_and_repeats_end_the_same() {
    let options = [("sink.delivery-guarantee", "at-least-once")];
    let Some(bench) = Bench::keyed("loose", &options) else {
        return;
    };
    let share = || {
        let rows = [(1, "a", "x"), (1, "b", "x"), (1, "a", "x"), (2, "c", "x")];
        bench.share(bench.world.rows(&rows), &[0, 0, 3, 0])
    };
    for owner in ["o1", "o2"] {
        bench.deliver(owner, 1, vec![Ok(share())]).unwrap();
        assert_eq!(bench.keys(), ["b=1", "c=2"]);
    }
}

#[test]
fn epochs_that_begin_anew_count_behind_the_old_ones() {
    let Some(bench) = Bench::keyed("anew", &[]) else {
        return;
    };
    let share = |id| bench.share(bench.world.rows(&[(id, "a", "x")]), &[2]);
    bench.deliver("o1", 500, vec![Ok(share(1))]).unwrap();
    bench.deliver("o2", 3, vec![Ok(share(2))]).unwrap();
    assert_eq!(bench.keys(), ["a=2"]);
    bench.deliver("o2", 4, vec![Ok(share(3))]).unwrap();
    assert_eq!(bench.keys(), ["a=3"]);
    // A mark that is lost is made up for by the versions in the collection.
    bench.forget_mark();
    bench.deliver("o3", 1, vec![Ok(share(4))]).unwrap();
    assert_eq!(bench.keys(), ["a=4"]);
}

#[test]
fn documents_that_somebody_else_has_made_are_written_over() {
    let Some(bench) = Bench::keyed("theirs", &[]) else {
        return;
    };
    let collection: Collection<Document> = bench.database().collection(&bench.collection);
    let theirs = doc! { "_id": "a", "id": 0_i64, "more": true };
    bench
        .world
        .wait(collection.insert_one(theirs).into_future())
        .unwrap();
    bench.write(1, bench.world.rows(&[(1, "a", "x")]));
    assert_eq!(bench.keys(), ["a=1"]);
    assert!(bench.documents()[0].get_bool("more").unwrap());
}

#[test]
fn indexes_are_made_and_made_once() {
    let indexes = [("tributary.mongodb.indexes", "dt; id, name desc; unique id")];
    let Some(bench) = Bench::keyed("indexes", &indexes) else {
        return;
    };
    bench.process("o1");
    bench.process("o2");
    let collection: Collection<Document> = bench.database().collection(&bench.collection);
    let names = bench
        .world
        .wait(collection.list_index_names().into_future())
        .unwrap();
    for name in ["dt_1", "id_1_name_-1", "id_1", "_deleted_1"] {
        assert!(
            names.iter().any(|found| found.ends_with(name)),
            "{name} in {names:?}"
        );
    }
}

#[test]
fn an_address_that_cannot_be_used_is_told_without_the_password() {
    let mut world = World::in_memory("mongodb", "");
    world.set("database", "d");
    world.set("collection", "c");
    world.set("uri", "mongodb://user:secret@host:1/?tls=maybe");
    let target = MongoTarget::of(&world.table, &world.context("o1")).unwrap();
    let error = world.wait(target.open()).unwrap_err();
    assert_eq!(error.kind(), Kind::Job, "{error}");
    assert!(error.to_string().contains("host:1"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

/// Nobody listens there: that is an outage, which is waited out.
#[test]
fn a_server_that_is_away_is_waited_for() {
    let mut world = World::in_memory("mongodb", "");
    world.set("database", "d");
    world.set("collection", "c");
    world.set("uri", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50");
    let target = MongoTarget::of(&world.table, &world.context("o1")).unwrap();
    let error = world.wait(target.open()).unwrap_err();
    assert_eq!(error.kind(), Kind::Retry, "{error}");
}
