//! The job as a demo runs it: the same SQL, with things of this process in place of servers.
//!
//! Topics are on the embedded broker, which keeps no transactions: they are written at least once. Collections of MongoDB are files. Results
//! that change become one JSON document for each collection, rewritten whole at every epoch; rows that come for good, which would make such a
//! document longer for ever, are JSON lines in new files. Both hold what the collection would.

use super::jobs::Demo;
use crate::cli::job::Job;
use crate::error::Result;
use crate::operator::hidden;
use crate::plan::{Graph, Op};
use crate::sink::{self, TableSpec};
use crate::sql::{OptionValue, Options, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where everything is during a demo.
pub struct Places {
    pub servers: String,
    pub lake: PathBuf,
    pub checkpoints: PathBuf,
    /// The folder of files that a job reads, where it reads files.
    pub entries: PathBuf,
}

impl Places {
    /// What `${NAME}` is. Addresses are ours; thresholds and the like may be tried out from the environment, as with the real job.
    fn variable(&self, name: &str) -> Option<String> {
        let text = |path: &Path| Some(path.display().to_string());
        match name {
            "KAFKA_BOOTSTRAP_SERVERS" => Some(self.servers.clone()),
            "LAKE" => text(&self.lake),
            "CHECKPOINTS" => text(&self.checkpoints),
            "ENTRIES" => text(&self.entries),
            "AGGREGATED_DATA" => text(&self.lake.join("aggregated_data.json")),
            "WATCH_INTERVAL" => Some("500 ms".to_string()),
            // What it makes is for this moment only: no catalog is told, and no server's name or password is needed.
            "GLUE_DATABASE" | "GLUE_CRAWLER" | "ALERTS_GUARANTEE" | "MONGO_URI" => None,
            other => std::env::var(other).ok(),
        }
    }
}

/// Files in place of a collection.
#[derive(Debug, PartialEq, Eq)]
pub struct Documents {
    pub collection: String,
    /// The document, or the pattern of the names of its files.
    pub path: PathBuf,
}

/// Reads a demo's job, with everything in its place; says which collections are files.
pub fn load(demo: &Demo, places: &Places) -> Result<(Job, Vec<Documents>)> {
    let every_second = (
        "execution.checkpointing.interval".to_string(),
        "1 s".to_string(),
    );
    let variable = |name: &str| places.variable(name);
    let mut job = Job::parse(&demo.path(), demo.sql, &[every_second], &variable)?;
    let documents = collections_as_files(&mut job, &places.lake.join("documents"));
    for table in &mut job.tables {
        match table.options.get("connector") {
            Some("kafka" | "upsert-kafka") => {
                set(table, "sink.delivery-guarantee", "at-least-once");
                // Of records that travel compressed the topic's limit is not asked, which the mock cluster would not tell.
                set(table, "properties.compression.type", "lz4");
            }
            // Whoever watches wants to see rows soon.
            Some("filesystem") => set(table, "sink.rolling-policy.rollover-interval", "2 s"),
            _ => {}
        }
        sink::check(table)?;
    }
    sink::check_together(&job.tables)?;
    Ok((job, documents))
}

fn set(table: &mut TableSpec, key: &str, value: &str) {
    let value = OptionValue {
        value: value.to_string(),
        place: Place::default(),
    };
    table.options.entries.insert(key.to_string(), value);
}

fn collections_as_files(job: &mut Job, folder: &Path) -> Vec<Documents> {
    let changing = changing(&job.graph);
    let collection = |table: &TableSpec| match table.options.get("connector") {
        Some("mongodb") => table.options.get("collection").map(str::to_string),
        _ => None,
    };
    // Tables that share a folder would take each other's names.
    let mut adding: BTreeMap<String, usize> = BTreeMap::new();
    for table in &job.tables {
        if let Some(collection) = collection(table).filter(|_| !changing.contains(&table.name)) {
            *adding.entry(collection).or_default() += 1;
        }
    }
    let mut documents = Vec::new();
    for table in &mut job.tables {
        let Some(collection) = collection(table) else {
            continue;
        };
        let (options, path) = if changing.contains(&table.name) {
            let document = folder.join(format!("{collection}.json"));
            (document_options(&document), document)
        } else if adding.get(&collection) == Some(&1) {
            let files = folder.join(&collection);
            (lines_options(&files), files.join("*.json"))
        } else {
            let files = folder.join(&collection);
            let own = files.join(&table.name);
            (lines_options(&own), files.join("*").join("*.json"))
        };
        table.options = options;
        let there = Documents { collection, path };
        if !documents.contains(&there) {
            documents.push(there);
        }
    }
    documents
}

/// The tables that are given rows that take others back.
fn changing(graph: &Graph) -> BTreeSet<String> {
    let sinks = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Sink(sink) => Some((sink, node.inputs.first()?)),
        _ => None,
    });
    let changing = sinks.filter(|(_, input)| {
        let rows = &graph.nodes[**input].schema;
        rows.index_of(hidden::KIND).is_ok()
    });
    changing.map(|(sink, _)| sink.table.name.clone()).collect()
}

fn document_options(path: &Path) -> Options {
    let path = path.display().to_string();
    Options::of([
        ("connector", "tributary-json-file"),
        ("path", path.as_str()),
    ])
}

fn lines_options(folder: &Path) -> Options {
    let folder = folder.display().to_string();
    Options::of([
        ("connector", "filesystem"),
        ("format", "json"),
        ("path", folder.as_str()),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::jobs::DEMOS;
    use super::*;

    fn places() -> Places {
        Places {
            servers: "127.0.0.1:9".into(),
            lake: "/l".into(),
            checkpoints: "/c".into(),
            entries: "/e".into(),
        }
    }

    fn loaded(name: &str) -> (Job, Vec<Documents>) {
        let demo = DEMOS.iter().find(|demo| demo.name == name).unwrap();
        load(demo, &places()).unwrap()
    }

    #[test]
    fn every_job_can_be_shown_without_servers() {
        for demo in &DEMOS {
            let (job, _) = loaded(demo.name);
            for table in &job.tables {
                let option = |key| table.options.get(key);
                let there = match option("connector").unwrap() {
                    "kafka" => {
                        assert_eq!(option("sink.delivery-guarantee"), Some("at-least-once"));
                        option("properties.bootstrap.servers") == Some("127.0.0.1:9")
                    }
                    "filesystem" | "tributary-json-file" => {
                        let path = option("path").unwrap();
                        // A job without a lake has its dead letters beside its checkpoints.
                        path.starts_with("/l/") || path == "/dead_letters"
                    }
                    _ => false,
                };
                assert!(there, "{}: {table:?}", demo.name);
            }
            for table in &job.script.tables {
                let servers = table.options.get("properties.bootstrap.servers");
                assert!(servers.is_none_or(|servers| servers == "127.0.0.1:9"));
            }
        }
    }

    #[test]
    fn what_is_shown_is_there() {
        for demo in &DEMOS {
            let (job, _) = loaded(demo.name);
            let table = |name: &str| job.tables.iter().find(|table| table.name == name);
            for name in demo.counted {
                assert!(table(name).is_some(), "{}: {name}", demo.name);
            }
            if let Some(clock) = demo.clock {
                let mut tables = job.script.tables.iter();
                assert!(tables.any(|table| table.name == clock && table.watermark.is_some()));
            }
            if let Some(newest) = &demo.newest {
                let table = table(newest.table).unwrap();
                assert_eq!(table.options.get("format"), Some("parquet"));
                for column in newest.columns.iter().chain(&newest.unless) {
                    assert!(table.schema.index_of(column).is_ok(), "{column}");
                }
            }
        }
    }

    #[test]
    fn collections_are_documents_where_results_change_and_lines_where_rows_come_for_good() {
        let (job, documents) = loaded("retail");
        let connector = |name: &str| {
            let table = job.tables.iter().find(|table| table.name == name).unwrap();
            table.options.get("connector").unwrap().to_string()
        };
        for name in ["totals", "alerts"] {
            assert_eq!(connector(name), "tributary-json-file");
        }
        for name in [
            "raw_activity",
            "raw_sales",
            "raw_inventory",
            "aggregated_data",
        ] {
            assert_eq!(connector(name), "filesystem");
        }
        let of = |collection: &str, path: &str| Documents {
            collection: collection.into(),
            path: path.into(),
        };
        assert_eq!(
            documents,
            [
                of("raw_data", "/l/documents/raw_data/*/*.json"),
                of("aggregated_data", "/l/documents/aggregated_data/*.json"),
                of("real_time_metrics", "/l/documents/real_time_metrics.json"),
            ]
        );
        let (_, documents) = loaded("medical-entries");
        let path = "/l/documents/processed_entries/*.json";
        assert_eq!(documents, [of("processed_entries", path)]);
        assert_eq!(loaded("login-privacy").1, []);
    }
}
