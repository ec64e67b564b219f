//! From stored documents to commands: which statements travel together, and what each of them says.

use super::document::Stored;
use super::options::Settings;
use crate::error::{Error, Result};
use crate::sink::rows::Mark;
use crate::sql::connectors::mongodb::{DELETED, ID, VERSION};
use mongodb::bson::{Bson, DateTime, Document, doc};

/// A command is a document too, and may have 16 MiB as a whole.
const MOST_BYTES: usize = 8 << 20;
/// The server takes no more statements in one command.
const MOST_STATEMENTS: usize = 100_000;
/// What a statement has beside its document: the condition, and names.
const OVERHEAD: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Delete,
}

/// Statements of one kind, in the order of their rows.
#[derive(Debug, PartialEq)]
pub struct Batch {
    pub verb: Verb,
    pub statements: Vec<Document>,
    bytes: usize,
}

impl Batch {
    /// The command for some of them.
    pub fn command(&self, collection: &str, statements: Vec<Document>) -> Document {
        let (verb, list) = match self.verb {
            Verb::Insert => ("insert", "documents"),
            Verb::Update => ("update", "updates"),
            Verb::Delete => ("delete", "deletes"),
        };
        // No statement depends on another: what has failed must not keep the others.
        doc! { verb: collection, list: statements, "ordered": false }
    }

    /// The updates with these numbers, which are to insert nothing.
    pub fn without_inserts(&self, numbers: &[usize]) -> Vec<Document> {
        let chosen = numbers
            .iter()
            .filter_map(|number| self.statements.get(*number));
        let updates = chosen.cloned().map(|mut update| {
            update.insert("upsert", false);
            update
        });
        updates.collect()
    }
}

/// What is made of the rows of an epoch, one after another.
pub struct Batches<'a> {
    settings: &'a Settings,
    mark: &'a Mark,
    /// Behind which number this epoch is counted.
    after: i64,
    now: DateTime,
    /// How many rows of the epoch went before, and how many of each lane.
    rows: u32,
    of_lane: std::collections::BTreeMap<usize, u64>,
    open: Option<Batch>,
}

impl<'a> Batches<'a> {
    pub fn new(settings: &'a Settings, mark: &'a Mark, after: i64, now_ms: i64) -> Batches<'a> {
        Batches {
            settings,
            mark,
            after,
            now: DateTime::from_millis(now_ms),
            rows: 0,
            of_lane: Default::default(),
            open: None,
        }
    }

    /// Takes one row; gives back the batch that is full without it.
    pub fn add(&mut self, stored: &Stored<'_>, row: usize, lane: usize) -> Result<Option<Batch>> {
        let (verb, statement) = self.statement(stored, row, lane)?;
        let size = stored.size(row) + OVERHEAD;
        let most = self.settings.most_rows.min(MOST_STATEMENTS);
        match &mut self.open {
            Some(batch)
                if batch.verb == verb
                    && batch.statements.len() < most
                    && batch.bytes + size <= MOST_BYTES =>
            {
                batch.statements.push(statement);
                batch.bytes += size;
                Ok(None)
            }
            _ => Ok(self.open.replace(Batch {
                verb,
                statements: vec![statement],
                bytes: size,
            })),
        }
    }

    /// The last one.
    pub fn finish(self) -> Option<Batch> {
        self.open
    }

    fn statement(
        &mut self,
        stored: &Stored<'_>,
        row: usize,
        lane: usize,
    ) -> Result<(Verb, Document)> {
        let (key, document) = (stored.key(row)?, stored.document(row)?);
        let version = self.next_version()?;
        let Some(key) = key else {
            let ordinal = self.of_lane.entry(lane).or_default();
            let Mark { epoch, owner } = self.mark;
            let table = &self.settings.address.table;
            let mut new = doc! { ID: format!("{table}/{epoch}/{owner}/{lane}/{ordinal}") };
            *ordinal += 1;
            new.extend(document.unwrap_or_default());
            return Ok((Verb::Insert, new));
        };
        // A document that somebody else has made has no version, and is written over too. Not "$or", for which not every server looks up
        // the key first.
        let mut query = key.clone();
        let newer = doc! { VERSION: { "$exists": true, "$gt": version } };
        query.insert("$nor", vec![newer]);
        Ok(match document {
            Some(mut columns) => {
                columns.insert(VERSION, version);
                let change = doc! { "$set": columns, "$unset": { DELETED: "" } };
                (
                    Verb::Update,
                    doc! { "q": query, "u": change, "upsert": true },
                )
            }
            None if self.settings.tombstones => {
                let mut tombstone = key;
                tombstone.insert(VERSION, version);
                tombstone.insert(DELETED, Bson::DateTime(self.now));
                (
                    Verb::Update,
                    doc! { "q": query, "u": tombstone, "upsert": true },
                )
            }
            None => (Verb::Delete, doc! { "q": query, "limit": 1 }),
        })
    }

    /// Grows with every row, and is the same whoever delivers the epoch.
    fn next_version(&mut self) -> Result<i64> {
        let epoch = i64::try_from(self.mark.epoch).ok();
        let epoch = epoch.and_then(|epoch| epoch.checked_add(self.after));
        let version = epoch.filter(|epoch| *epoch <= i64::from(i32::MAX));
        let row = self.rows;
        match (version, row.checked_add(1)) {
            (Some(epoch), Some(next)) => {
                self.rows = next;
                Ok((epoch << 32) | i64::from(row))
            }
            _ => Err(Error::bug(format!(
                "epoch {} of table '{}', counted behind {}, has no version for its row {row}",
                self.mark.epoch, self.settings.address.table, self.after
            ))),
        }
    }
}

/// The number of an epoch in a version.
pub fn epoch_of(version: i64) -> i64 {
    version >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TableSpec;
    use crate::sink::mongo::document::Encoder;
    use crate::sql::Options;
    use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;

    /// The commands for `rows`, of which each says its name, its number, and what it does.
    fn commands(options: &[(&str, &str)], key: &[&str], rows: &[(&str, i64, i8)]) -> Vec<Batch> {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)));
        let kinds = Int8Array::from_iter_values(rows.iter().map(|r| r.2));
        let rows = RecordBatch::try_from_iter([("name", names), ("n", numbers)]).unwrap();
        let fixed = [
            ("connector", "mongodb"),
            ("uri", "mongodb://x"),
            ("database", "d"),
            ("collection", "c"),
        ];
        let table = TableSpec {
            schema: rows.schema(),
            primary_key: key.iter().map(ToString::to_string).collect(),
            options: Options::of(fixed.iter().chain(options).copied()),
            ..TableSpec::unknown("t")
        };
        let settings = Settings::of(&table, "job").unwrap();
        let mark = Mark {
            epoch: 2,
            owner: "o1".into(),
        };
        let shaped = Encoder::of(&table)
            .unwrap()
            .shape(rows, Some(&kinds))
            .unwrap();
        let stored = Stored::of(&shaped.stored).unwrap();
        let mut batches = Batches::new(&settings, &mark, 10, 77);
        let mut full = Vec::new();
        for row in 0..shaped.stored.num_rows() {
            full.extend(batches.add(&stored, row, 3).unwrap());
        }
        full.extend(batches.finish());
        full
    }

    const EPOCH: i64 = 12 << 32;

    #[test]
    fn new_rows_are_inserted_under_a_name_of_their_own() {
        let batches = commands(&[], &[], &[("a", 1, 0), ("b", 2, 0)]);
        assert_eq!(batches.len(), 1);
        let documents = [
            doc! { "_id": "t/2/o1/3/0", "name": "a", "n": 1_i64 },
            doc! { "_id": "t/2/o1/3/1", "name": "b", "n": 2_i64 },
        ];
        let command = batches[0].command("c", batches[0].statements.clone());
        let expected = doc! { "insert": "c", "documents": documents.to_vec(), "ordered": false };
        assert_eq!(command, expected);
    }

    fn guarded(id: impl Into<Bson>, version: i64) -> Document {
        let newer = doc! { "_version": { "$exists": true, "$gt": version } };
        doc! { "_id": id.into(), "$nor": vec![newer] }
    }

    #[test]
    fn rows_with_a_key_are_guarded_by_their_version() {
        let batches = commands(&[], &["name"], &[("a", 1, 0), ("b", 2, 3)]);
        let written = doc! { "name": "a", "n": 1_i64, "_version": EPOCH };
        let tombstone =
            doc! { "_id": "b", "_version": EPOCH + 1, "_deleted": DateTime::from_millis(77) };
        let expected = [
            doc! {
                "q": guarded("a", EPOCH), "u": { "$set": written, "$unset": { "_deleted": "" } }, "upsert": true,
            },
            doc! { "q": guarded("b", EPOCH + 1), "u": tombstone, "upsert": true },
        ];
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].statements, expected);
        let again = batches[0].without_inserts(&[1]);
        assert_eq!(again.len(), 1);
        assert!(!again[0].get_bool("upsert").unwrap());
    }

    #[test]
    fn a_key_of_several_columns_is_a_document() {
        let batches = commands(&[], &["n", "name"], &[("a", 1, 0)]);
        let id = doc! { "n": 1_i64, "name": "a" };
        let query = batches[0].statements[0].get_document("q").unwrap();
        assert_eq!(*query, guarded(id, EPOCH));
    }

    #[test]
    fn what_is_removed_for_good_keeps_its_place_among_the_others() {
        let loose = [("sink.delivery-guarantee", "at-least-once")];
        let batches = commands(&loose, &["name"], &[("a", 1, 0), ("a", 1, 3), ("a", 2, 0)]);
        let verbs: Vec<Verb> = batches.iter().map(|batch| batch.verb).collect();
        assert_eq!(verbs, [Verb::Update, Verb::Delete, Verb::Update]);
        let expected = doc! { "q": guarded("a", EPOCH + 1), "limit": 1 };
        assert_eq!(batches[1].statements, [expected]);
    }

    #[test]
    fn batches_are_bounded() {
        let few = [("sink.buffer-flush.max-rows", "2")];
        let sizes = |batches: &[Batch]| -> Vec<usize> {
            batches.iter().map(|batch| batch.statements.len()).collect()
        };
        let rows = [("a", 1, 0), ("b", 2, 0), ("c", 3, 0)];
        assert_eq!(sizes(&commands(&few, &[], &rows)), [2, 1]);
        let long = "x".repeat(5 << 20);
        let rows = [(long.as_str(), 1, 0), (long.as_str(), 2, 0)];
        assert_eq!(sizes(&commands(&[], &[], &rows)), [1, 1]);
    }
}
