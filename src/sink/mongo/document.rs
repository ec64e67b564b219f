//! From rows to documents, and to the keys by which they replace each other.

use crate::error::{Error, Result};
use crate::mongo::value::{Told, value};
use crate::sink::options::TableSpec;
use crate::sink::rows::{Shaped, changes};
use crate::sink::{Rejected, slice_bytes};
use crate::sql::connectors::mongodb::ID;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mongodb::bson::{Bson, Document};
use std::sync::Arc;

/// What MongoDB takes is 16 MiB, and the command around the document needs a little.
const MOST_BYTES: usize = (16 << 20) - (64 << 10);

/// The columns of stored documents.
const KEY: &str = "key";
const DOCUMENT: &str = "document";

/// How the documents of one table are made.
pub struct Encoder {
    /// The columns of the key, by which rows replace each other.
    key: Vec<usize>,
    stored: SchemaRef,
}

impl Encoder {
    pub fn of(table: &TableSpec) -> Result<Encoder> {
        let column = |name: &String| table.schema.index_of(name).map_err(Error::from);
        let key = table.primary_key.iter().map(column);
        Ok(Encoder {
            key: key.collect::<Result<_>>()?,
            stored: Arc::new(Schema::new(vec![
                Field::new(KEY, DataType::Binary, true),
                Field::new(DOCUMENT, DataType::Binary, true),
            ])),
        })
    }

    /// The documents of rows.
    pub fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped> {
        let (rows, deletes) = match self.key.is_empty() {
            true => (changes::only_new(rows, kinds)?, None),
            false => (rows, changes::deletes(kinds)),
        };
        let mut rejected = Rejected::new();
        let mut keys = BinaryBuilder::with_capacity(rows.num_rows(), 0);
        let mut documents = BinaryBuilder::with_capacity(rows.num_rows(), slice_bytes(&rows));
        for row in 0..rows.num_rows() {
            let is_deleted = deletes.as_ref().is_some_and(|deletes| deletes.value(row));
            match self.row(&rows, row, is_deleted) {
                Ok((key, document)) => {
                    keys.append_option(key);
                    documents.append_option(document);
                }
                Err(why) => rejected.push((rows.slice(row, 1), why)),
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(documents.finish())];
        Ok(Shaped {
            stored: RecordBatch::try_new(Arc::clone(&self.stored), columns)?,
            rejected,
        })
    }

    /// Of documents with the same key only the last is needed.
    pub fn reduce(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        match self.key.is_empty() {
            true => Ok(batches),
            false => changes::last_of_each(batches),
        }
    }

    /// The key and the document; None for what there is not.
    #[expect(clippy::type_complexity, reason = "two of the same")]
    fn row(
        &self,
        rows: &RecordBatch,
        row: usize,
        is_deleted: bool,
    ) -> Told<(Option<Vec<u8>>, Option<Vec<u8>>)> {
        let key = self.key(rows, row)?;
        let document = match is_deleted {
            true => None,
            false => Some(bytes(&self.document(rows, row)?)?),
        };
        let key = key.as_ref().map(bytes).transpose()?;
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let size = size(&key) + size(&document);
        match size <= MOST_BYTES {
            true => Ok((key, document)),
            false => Err(format!(
                "its document has {size} bytes, and MongoDB takes {MOST_BYTES} at most"
            )),
        }
    }

    /// `{_id: ..}`: the value of one column, or a document of several.
    fn key(&self, rows: &RecordBatch, row: usize) -> Told<Option<Document>> {
        let mut parts = Document::new();
        for &column in &self.key {
            let name = rows.schema_ref().field(column).name();
            match value(rows.column(column), row)? {
                Bson::Null => return Err(format!("its key's column '{name}' is NULL")),
                part => parts.insert(name, part),
            };
        }
        let id = match (self.key.as_slice(), parts.iter().next()) {
            ([], _) => return Ok(None),
            ([_], Some((_, only))) => only.clone(),
            _ => Bson::Document(parts),
        };
        Ok(Some(Document::from_iter([(ID.to_string(), id)])))
    }

    /// All columns, but for a key that is called as MongoDB's own.
    fn document(&self, rows: &RecordBatch, row: usize) -> Told<Document> {
        let mut document = Document::new();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            if field.name() != ID {
                document.insert(field.name(), value(column, row)?);
            }
        }
        Ok(document)
    }
}

fn bytes(document: &Document) -> Told<Vec<u8>> {
    document
        .to_vec()
        .map_err(|error| format!("it cannot be a document: {error}"))
}

/// Stored documents, column by column.
pub struct Stored<'a> {
    keys: &'a BinaryArray,
    documents: &'a BinaryArray,
}

impl<'a> Stored<'a> {
    pub fn of(batch: &'a RecordBatch) -> Result<Stored<'a>> {
        let column = |name: &str| batch.column_by_name(name)?.as_binary_opt::<i32>();
        match (column(KEY), column(DOCUMENT)) {
            (Some(keys), Some(documents)) => Ok(Stored { keys, documents }),
            _ => Err(Error::bug(
                "stored rows of a MongoDB table are no documents",
            )),
        }
    }

    /// `{_id: ..}`
    pub fn key(&self, row: usize) -> Result<Option<Document>> {
        read(self.keys, row)
    }

    /// What to write; None to delete.
    pub fn document(&self, row: usize) -> Result<Option<Document>> {
        read(self.documents, row)
    }

    pub fn size(&self, row: usize) -> usize {
        (self.keys.value_length(row) + self.documents.value_length(row)) as usize
    }
}

fn read(column: &BinaryArray, row: usize) -> Result<Option<Document>> {
    let bytes = column.is_valid(row).then(|| column.value(row));
    let read = bytes.map(Document::from_reader).transpose();
    read.map_err(|error| Error::bug("a stored document cannot be read").caused_by(error))
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
