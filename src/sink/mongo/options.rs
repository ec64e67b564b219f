//! Where documents go and how: the options of a MongoDB table.

use crate::error::Result;
use crate::mongo::{self, Address};
use crate::sink::TableSpec;
use crate::sql::connectors::mongodb::{DELETED, INDEXES, Index, index};
use mongodb::bson::{Document, doc};

const GUARANTEE: &str = "sink.delivery-guarantee";
const MAX_ROWS: &str = "sink.buffer-flush.max-rows";

/// How long a tombstone stays: a process that was frozen for longer could bring a deleted row back.
const TOMBSTONE_SECONDS: i32 = 3600;

#[derive(Debug, Clone)]
pub struct Settings {
    pub address: Address,
    /// The `_id` of the mark.
    pub identity: String,
    /// Whether rows have a key.
    pub upsert: bool,
    /// Whether deletions leave something behind that keeps old rows out.
    pub tombstones: bool,
    /// How many rows travel in one command.
    pub most_rows: usize,
    indexes: Vec<Index>,
}

impl Settings {
    pub fn of(table: &TableSpec, job: &str) -> Result<Settings> {
        let [uri, database, collection] = mongo::KEYS;
        let known = [
            "connector",
            uri,
            database,
            collection,
            GUARANTEE,
            MAX_ROWS,
            INDEXES,
        ];
        table.only(&known, &["sink.", "scan.", "lookup.", "property-version"])?;
        let upsert = !table.primary_key.is_empty();
        let exactly_once = match table.options.text(GUARANTEE) {
            None | Some("exactly-once") => true,
            Some("at-least-once" | "none") => false,
            Some(other) => {
                let why = format!("'{other}' is none of exactly-once, at-least-once, none");
                return Err(table.refuse(GUARANTEE, why));
            }
        };
        let indexes = table.options.list(INDEXES);
        let indexes = indexes.iter().map(|text| index(text));
        let indexes: Result<Vec<Index>, String> = indexes.collect();
        let most_rows = match table.options.integer(MAX_ROWS) {
            None | Some(0) => usize::MAX,
            Some(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
        };
        Ok(Settings {
            address: Address::of(&table.name, &table.options, "readWrite")?,
            identity: format!("{job}/{}", table.name),
            upsert,
            tombstones: upsert && exactly_once,
            most_rows,
            indexes: indexes.map_err(|why| table.refuse(INDEXES, why))?,
        })
    }

    /// The indexes as the server takes them, with the names that it would give them itself.
    pub fn indexes(&self) -> Vec<Document> {
        let mut specs: Vec<Document> = self.indexes.iter().map(|i| self.spec(i)).collect();
        if self.tombstones {
            specs.push(doc! {
                "key": { DELETED: 1 },
                "name": format!("{DELETED}_1"),
                "expireAfterSeconds": TOMBSTONE_SECONDS,
            });
        }
        specs
    }

    fn spec(&self, index: &Index) -> Document {
        let order = |descending: bool| if descending { -1 } else { 1 };
        let (mut key, mut name) = (Document::new(), Vec::new());
        for (field, descending) in &index.fields {
            key.insert(field, order(*descending));
            name.push(format!("{field}_{}", order(*descending)));
        }
        let mut spec = doc! { "key": key, "name": name.join("_") };
        if index.unique {
            spec.insert("unique", true);
            // Tombstones have no columns, and there may be many of them.
            if self.tombstones {
                spec.insert("sparse", true);
            }
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Options;

    fn settings(options: &[(&'static str, &'static str)], keyed: bool) -> Settings {
        let fixed = [
            ("connector", "mongodb"),
            ("uri", "mongodb://one:1,two:2/db?replicaSet=r"),
            ("database", "d"),
            ("collection", "c"),
        ];
        let mut table = TableSpec {
            options: Options::of(fixed.iter().chain(options).copied()),
            ..TableSpec::unknown("t")
        };
        if keyed {
            table.primary_key = vec!["user_id".into()];
        }
        Settings::of(&table, "job").unwrap()
    }

    #[test]
    fn indexes_are_named_as_the_server_would() {
        let indexes = [(INDEXES, "timestamp; a, b desc; unique user_id")];
        let plain = [
            doc! { "key": { "timestamp": 1 }, "name": "timestamp_1" },
            doc! { "key": { "a": 1, "b": -1 }, "name": "a_1_b_-1" },
            doc! { "key": { "user_id": 1 }, "name": "user_id_1", "unique": true },
        ];
        assert_eq!(settings(&indexes, false).indexes(), plain);
        let keyed = settings(&indexes, true).indexes();
        assert!(keyed[2].get_bool("sparse").unwrap());
        assert_eq!(keyed[3].get_i32("expireAfterSeconds").unwrap(), 3600);
        let loose = [("sink.delivery-guarantee", "at-least-once")];
        assert!(settings(&loose, true).indexes().is_empty());
    }

    #[test]
    fn batches_have_flinks_size_unless_told() {
        assert_eq!(settings(&[], false).most_rows, 1000);
        assert_eq!(settings(&[(MAX_ROWS, "7")], false).most_rows, 7);
        assert_eq!(settings(&[(MAX_ROWS, "0")], false).most_rows, usize::MAX);
    }
}
