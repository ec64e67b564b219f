//! A heading of a document as the target of epochs.

use super::document::{Part, render};
use super::parts::Parts;
use crate::error::{Error, Result};
use crate::sink::rows::{Mark, Shaped, Shares, Target, changes};
use crate::sink::text::TextFormat;
use crate::sink::{Rejected, SinkContext, TableSpec};
use crate::sql::connectors::json_file::{HEADING, PATH};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Int8Array, RecordBatch,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The columns of stored entries.
const KEY: &str = "key";
const VALUE: &str = "value";

/// How the entries of one table are made.
pub struct Layout {
    pub path: String,
    pub heading: String,
    key: Vec<usize>,
    value: Vec<usize>,
    key_format: TextFormat,
    value_format: TextFormat,
    stored: SchemaRef,
}

impl Layout {
    pub fn of(table: &TableSpec) -> Result<Layout> {
        table.only(
            &["connector", PATH, HEADING],
            &["sink.parallelism", "scan.parallelism", "property-version"],
        )?;
        let column = |name: &String| table.schema.index_of(name).map_err(Error::from);
        let key = table.primary_key.iter().map(column);
        let key = key.collect::<Result<Vec<usize>>>()?;
        let value = 0..table.schema.fields().len();
        let value: Vec<usize> = value.filter(|column| !key.contains(column)).collect();
        if key.is_empty() || value.is_empty() {
            return Err(Error::job(format!(
                "table '{}': a part of a document needs a PRIMARY KEY and a column beside it",
                table.name
            )));
        }
        Ok(Layout {
            path: table.required(PATH)?.to_string(),
            heading: table.get(HEADING).unwrap_or(&table.name).to_string(),
            key_format: TextFormat::json(table, &key)?,
            value_format: TextFormat::json(table, &value)?,
            key,
            value,
            stored: Arc::new(Schema::new(vec![
                Field::new(KEY, DataType::Binary, false),
                Field::new(VALUE, DataType::Binary, true),
            ])),
        })
    }

    /// The entries of rows: the key as a JSON array, and the value as JSON, or NULL to remove it.
    fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped> {
        let deletes = changes::deletes(kinds)
            .unwrap_or_else(|| BooleanArray::from(vec![false; rows.num_rows()]));
        match self.entries(&rows, &deletes) {
            Ok(stored) => Ok(Shaped {
                stored,
                rejected: Rejected::new(),
            }),
            // One of them cannot be written: find out which.
            Err(_) => self.one_by_one(&rows, &deletes),
        }
    }

    fn one_by_one(&self, rows: &RecordBatch, deletes: &BooleanArray) -> Result<Shaped> {
        let (mut stored, mut rejected) = (Vec::new(), Rejected::new());
        for row in 0..rows.num_rows() {
            let one = rows.slice(row, 1);
            match self.entries(&one, &deletes.slice(row, 1)) {
                Ok(entries) => stored.push(entries),
                Err(error) => rejected.push((one, error.to_string())),
            }
        }
        Ok(Shaped {
            stored: concat_batches(&self.stored, &stored)?,
            rejected,
        })
    }

    fn entries(&self, rows: &RecordBatch, deletes: &BooleanArray) -> Result<RecordBatch> {
        for &column in &self.key {
            if rows.column(column).null_count() > 0 {
                let schema = rows.schema();
                let name = schema.field(column).name();
                return Err(Error::data(format!("its key's column '{name}' is NULL")));
            }
        }
        let keys = self.key_format.rows(&rows.project(&self.key)?)?;
        let values = self.value_format.rows(&rows.project(&self.value)?)?;
        let mut made = (
            BinaryBuilder::with_capacity(keys.len(), keys.value_data().len()),
            BinaryBuilder::with_capacity(values.len(), values.value_data().len()),
        );
        for row in 0..rows.num_rows() {
            made.0.append_value(self.key_text(rows, keys.value(row))?);
            match deletes.value(row) {
                true => made.1.append_null(),
                false => made
                    .1
                    .append_value(self.value_text(rows, values.value(row))?),
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(made.0.finish()), Arc::new(made.1.finish())];
        Ok(RecordBatch::try_new(Arc::clone(&self.stored), columns)?)
    }

    /// The values of the key's columns as texts: a text by itself, anything else as JSON has it.
    fn key_text(&self, rows: &RecordBatch, object: &[u8]) -> Result<Vec<u8>> {
        let object = members(object)?;
        let mut parts = Vec::with_capacity(self.key.len());
        for &column in &self.key {
            let value = member(&object, rows.schema_ref().field(column).name())?.get();
            let text = match value.starts_with('"') {
                true => serde_json::from_str(value).map_err(not_json)?,
                false => value.to_string(),
            };
            parts.push(text);
        }
        serde_json::to_vec(&parts).map_err(not_json)
    }

    /// The value of the one column, or an object of several.
    fn value_text(&self, rows: &RecordBatch, object: &[u8]) -> Result<Vec<u8>> {
        match self.value.as_slice() {
            [column] => {
                let object = members(object)?;
                let value = member(&object, rows.schema_ref().field(*column).name())?;
                Ok(value.get().as_bytes().to_vec())
            }
            _ => Ok(object.to_vec()),
        }
    }
}

fn members(object: &[u8]) -> Result<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_slice(object).map_err(not_json)
}

fn member<'a>(object: &'a BTreeMap<String, Box<RawValue>>, name: &str) -> Result<&'a RawValue> {
    let value = object.get(name);
    value
        .map(AsRef::as_ref)
        .ok_or_else(|| Error::bug(format!("a row without its column '{name}'")))
}

fn not_json(error: serde_json::Error) -> Error {
    Error::bug("a row of a document is no JSON").caused_by(error)
}

/// Who puts a document together in this process: one at a time, or an older one could come last.
fn turn(path: &str) -> Arc<tokio::sync::Mutex<()>> {
    type Turns = BTreeMap<String, Arc<tokio::sync::Mutex<()>>>;
    static TURNS: LazyLock<Mutex<Turns>> = LazyLock::new(Mutex::default);
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(turns.entry(path.to_string()).or_default())
}

pub struct JsonFileTarget {
    layout: Layout,
    parts: Parts,
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Whether the document has all that was delivered. Not known at the start, nor after a failure.
    complete: tokio::sync::Mutex<bool>,
}

impl JsonFileTarget {
    pub fn of(table: &TableSpec, context: &SinkContext) -> Result<JsonFileTarget> {
        let layout = Layout::of(table)?;
        let (store, path) = (context.stores)(&layout.path)?;
        Ok(JsonFileTarget {
            parts: Parts::of(table, &layout.path, context)?,
            layout,
            store,
            path,
            complete: tokio::sync::Mutex::new(false),
        })
    }

    /// Puts the document together, where there is anything to show. Whoever was frozen meanwhile finds other parts afterwards,
    /// and puts it together anew, so that what it knew does not stay in place of what is newer.
    async fn show(&self) -> Result<()> {
        let turn = turn(&self.layout.path);
        let _mine = turn.lock().await;
        let mut shown = Vec::new();
        loop {
            let newest = self.parts.newest_of_all().await?;
            if newest == shown {
                return Ok(());
            }
            let text = render(self.parts.read_all(&newest).await?)?;
            let written = self.store.put(&self.path, text.into()).await;
            let failed = |error| crate::store::explain(&self.layout.path, &self.path, error);
            written.map_err(|error| failed(error).at("writing"))?;
            shown = newest;
        }
    }

    async fn add(&self, mark: &Mark, mut rows: Shares<'_>) -> Result<()> {
        let newest = self.parts.newest().await?;
        let mut part = newest.map(|(_, part)| part).unwrap_or_default();
        part.heading = self.layout.heading.clone();
        while let Some(share) = rows.next().await {
            for rows in &share?.rows {
                apply(&mut part, rows)?;
            }
        }
        self.parts.add(mark, &part).await?;
        self.show().await?;
        self.parts.forget_old().await
    }
}

fn apply(part: &mut Part, rows: &RecordBatch) -> Result<()> {
    let column =
        |name: &str| -> Option<&BinaryArray> { rows.column_by_name(name)?.as_binary_opt::<i32>() };
    let (Some(keys), Some(values)) = (column(KEY), column(VALUE)) else {
        return Err(Error::bug("stored rows of a document are no entries"));
    };
    for row in 0..rows.num_rows() {
        let key: Vec<String> = serde_json::from_slice(keys.value(row)).map_err(not_json)?;
        match values.is_valid(row) {
            true => {
                let value = serde_json::from_slice(values.value(row)).map_err(not_json)?;
                part.entries.insert(key, value);
            }
            false => {
                part.entries.remove(&key);
            }
        }
    }
    Ok(())
}

impl Target for JsonFileTarget {
    fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped> {
        self.layout.shape(rows, kinds)
    }

    fn reduce(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        changes::last_of_each(rows)
    }

    /// Nobody is kept out: an old process can make no part that counts.
    fn open(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut complete = self.complete.lock().await;
            if !*complete {
                self.show().await?;
                *complete = true;
            }
            Ok(())
        }
        .boxed()
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>>> {
        self.parts.mark().boxed()
    }

    /// The mark is in the name of what it marks, so it is never lost alone.
    fn holds<'a>(&'a self, _mark: &'a Mark, _since_ms: i64) -> BoxFuture<'a, Result<bool>> {
        futures::future::ready(Ok(false)).boxed()
    }

    fn deliver<'a>(&'a self, mark: &'a Mark, rows: Shares<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut complete = self.complete.lock().await;
            *complete = false;
            self.add(mark, rows).await?;
            *complete = true;
            Ok(())
        }
        .boxed()
    }
}
