//! MongoDB collections on a real server, whose address is in `TRIBUTARY_TEST_MONGO`.

use super::super::suite::{self, Place, asked, found_names, join};
use super::super::{Lookup, LookupContext};
use super::*;
use crate::clock::ManualClock;
use crate::error::Kind;
use crate::source::memory::MemoryTables;
use crate::sql::Options;
use mongodb::bson::DateTime;
use mongodb::bson::oid::ObjectId;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;

/// A collection of its own at the server.
struct Bench {
    runtime: Runtime,
    server: String,
    collection: String,
    stopped: Arc<AtomicBool>,
}

impl Bench {
    /// `None` where no server was named.
    fn new(name: &str) -> Option<Bench> {
        let Ok(server) = std::env::var("TRIBUTARY_TEST_MONGO") else {
            eprintln!("left out: {name} needs a MongoDB server in TRIBUTARY_TEST_MONGO");
            return None;
        };
        let bench = Bench::at(&server, name);
        bench
            .runtime
            .block_on(
                bench
                    .database()
                    .create_collection(&bench.collection)
                    .into_future(),
            )
            .unwrap();
        Some(bench)
    }

    fn at(server: &str, name: &str) -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Bench {
            runtime: runtime.unwrap(),
            server: format!("{server}/?directConnection=true"),
            collection: format!("lookup_{name}_{}", uuid::Uuid::new_v4().simple()),
            stopped: Arc::default(),
        }
    }

    fn context(&self) -> LookupContext {
        let stopped = Arc::clone(&self.stopped);
        LookupContext {
            runtime: self.runtime.handle().clone(),
            clock: Arc::new(ManualClock::at(0)),
            stopped: Arc::new(move || stopped.load(Ordering::SeqCst)),
            memory: MemoryTables::default(),
            servers: Servers::default(),
        }
    }

    fn database(&self) -> mongodb::Database {
        let client = self.runtime.block_on(Client::with_uri_str(&self.server));
        client.unwrap().database("tributary_test")
    }

    fn insert(&self, documents: &[Document]) {
        let collection: Collection<Document> = self.database().collection(&self.collection);
        self.runtime
            .block_on(collection.insert_many(documents.to_vec()).into_future())
            .unwrap();
    }

    fn keyed(&self, primary: &[&str], read: &[&str], keys: &[&str]) -> Result<Box<dyn Lookup>> {
        super::super::open(&join(self.options(), primary, read, keys), &self.context())
    }
}

impl Place for Bench {
    fn add(&self, customers: &[(i64, &str, Option<&str>)]) {
        let documents: Vec<Document> = customers
            .iter()
            .map(|(id, name, city)| doc! { "id": id, "name": name, "city": *city })
            .collect();
        self.insert(&documents);
    }

    fn open(&self, join: &LookupJoin) -> Box<dyn Lookup> {
        super::super::open(join, &self.context()).unwrap()
    }

    fn options(&self) -> Options {
        Options::of([
            ("connector", "mongodb"),
            ("uri", self.server.as_str()),
            ("database", "tributary_test"),
            ("collection", self.collection.as_str()),
        ])
    }
}

#[test]
fn a_collection_passes_what_every_table_must() {
    if let Some(bench) = Bench::new("suite") {
        suite::passes(&bench);
    }
}

#[test]
fn a_primary_key_is_found_by_the_id_and_by_its_field() {
    let Some(bench) = Bench::new("primary") else {
        return;
    };
    bench.insert(&[
        // As a sink writes it.
        doc! { "_id": 1, "id": 1, "name": "a" },
        // By the id alone, and by the field alone.
        doc! { "_id": 2, "name": "b" },
        doc! { "_id": ObjectId::new(), "id": 3, "name": "c" },
        // A row that was deleted.
        doc! { "_id": 4, "_version": 1_i64, "_deleted": DateTime::from_millis(4_102_444_800_000) },
    ]);
    let mut table = bench.keyed(&["id"], &["id", "name"], &["id"]).unwrap();
    let keys = [4, 3, 2, 1, 5];
    let found = table.find(&asked(&keys)).unwrap();
    assert_eq!(found_names(&keys, &found), ["1 a", "2 b", "3 c"]);
}

#[test]
fn an_object_id_is_found_by_its_text() {
    let Some(bench) = Bench::new("objects") else {
        return;
    };
    let id = ObjectId::new();
    bench.insert(&[
        doc! { "city": id, "name": "a" },
        doc! { "city": id.to_hex(), "name": "b" },
    ]);
    let mut table = bench.keyed(&[], &["name", "city"], &["city"]).unwrap();
    let text: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![id.to_hex()]));
    let keys = RecordBatch::try_from_iter_with_nullable([("city", text, true)]).unwrap();
    assert_eq!(table.find(&keys).unwrap().rows.num_rows(), 2);
}

#[test]
fn a_document_that_cannot_be_read_is_told_with_its_key() {
    let Some(bench) = Bench::new("unreadable") else {
        return;
    };
    bench.insert(&[
        doc! { "city": "x", "id": "one" },
        doc! { "city": "y", "id": 2 },
    ]);
    let mut table = bench.keyed(&[], &["id", "city"], &["city"]).unwrap();
    let cities: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["y", "x"]));
    let keys = RecordBatch::try_from_iter_with_nullable([("city", cities, true)]).unwrap();
    let found = table.find(&keys).unwrap();
    assert_eq!(found.keys, [0]);
    let why = "what was found cannot be read: 'id' is one (String), no BIGINT";
    assert_eq!(found.unreadable, [(1, why.to_owned())]);
}

#[test]
fn a_collection_that_is_not_there_is_named() {
    let Some(bench) = Bench::new("missing") else {
        return;
    };
    let nowhere = Bench {
        collection: "nowhere".to_owned(),
        ..bench
    };
    let error = nowhere.keyed(&[], &["id"], &["id"]).err().unwrap();
    assert_eq!(error.kind(), Kind::Job);
    let text = error.to_string();
    for part in ["table 'customers'", "tributary_test.nowhere", "create it"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_stop_ends_the_wait_for_a_server_that_is_away() {
    // Nobody listens there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let mut bench = Bench::at(&format!("mongodb://127.0.0.1:{port}"), "away");
    bench.server.push_str("&serverSelectionTimeoutMS=10");
    bench.stopped.store(true, Ordering::SeqCst);
    let error = bench.keyed(&[], &["id"], &["id"]).err().unwrap();
    assert_eq!(error.kind(), Kind::Stopped, "{error}");
    assert!(error.to_string().contains("table 'customers'"), "{error}");
}

#[test]
fn what_no_server_can_be_asked_with_is_refused() {
    let bench = Bench::at("mongodb://user:secret@", "wrong");
    let error = bench.keyed(&[], &["id"], &["id"]).err().unwrap();
    assert_eq!(error.kind(), Kind::Job);
    assert!(!error.to_string().contains("secret"), "{error}");
}
