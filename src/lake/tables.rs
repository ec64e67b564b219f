//! Which tables a lake has, and how DataFusion reads one.

use super::nulls;
use super::query::refused;
use super::visible::Visible;
use crate::error::{Error, Result};
use crate::sql::types::flink_name;
use crate::store::Located;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use url::Url;

/// A folder of tables.
#[derive(Debug, Clone)]
pub struct Lake {
    pub store: Arc<dyn ObjectStore>,
    /// The folder in the store.
    pub path: Path,
    /// What the user calls it, for messages.
    pub url: String,
}

impl From<&Located> for Lake {
    fn from(located: &Located) -> Lake {
        Lake {
            store: Arc::clone(&located.store),
            path: located.path.clone(),
            url: located.url.clone(),
        }
    }
}

/// A folder that may be a table.
pub struct Found {
    pub name: String,
    pub lake: Lake,
    pub folder: Path,
    /// Which lake it is in, for the name of its store.
    ordinal: usize,
}

/// The visible folders right below each lake.
pub async fn find_tables(lakes: &[Lake]) -> Result<Vec<Found>> {
    let mut tables = Vec::new();
    for (ordinal, lake) in lakes.iter().enumerate() {
        if lake.is_missing() {
            return Err(Error::job(format!(
                "there is no lake at {}: no such folder",
                lake.url
            )));
        }
        let listed = lake.visible().list_with_delimiter(Some(&lake.path)).await;
        let listed = listed.map_err(|error| lake.unreadable(error))?;
        for folder in listed.common_prefixes {
            let name = folder.filename().unwrap_or_default().to_owned();
            tables.push(Found {
                name,
                lake: lake.clone(),
                folder,
                ordinal,
            });
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tables)
}

impl Lake {
    fn visible(&self) -> Visible {
        Visible {
            inner: Arc::clone(&self.store),
            root: self.path.clone(),
        }
    }

    /// The table in a folder right below.
    pub fn table(&self, folder: &str) -> Found {
        Found {
            name: folder.to_owned(),
            lake: self.clone(),
            folder: self.path.clone().join(folder),
            ordinal: 0,
        }
    }

    /// A store lists a folder that is not there as an empty one, so a local folder is looked for first.
    fn is_missing(&self) -> bool {
        let local = match Url::parse(&self.url) {
            Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
            Ok(_) => None,
            Err(_) => Some(self.url.clone().into()),
        };
        local.is_some_and(|path| !path.is_dir())
    }

    fn unreadable(&self, error: object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } => {
                Error::job(format!("there is no lake at {}", self.url))
            }
            other => {
                Error::retry(format!("the lake at {} cannot be read", self.url)).caused_by(other)
            }
        }
    }
}

impl Found {
    /// Its Parquet files.
    pub async fn files(&self) -> Result<Vec<ObjectMeta>> {
        self.files_that(|file| file.location.as_ref().ends_with(".parquet"))
            .await
    }

    async fn files_that(&self, fit: impl Fn(&ObjectMeta) -> bool) -> Result<Vec<ObjectMeta>> {
        let files = self
            .lake
            .visible()
            .list(Some(&self.folder))
            .try_filter(|file| std::future::ready(file.size > 0 && fit(file)))
            .try_collect();
        files.await.map_err(|error| self.lake.unreadable(error))
    }

    /// Its partition columns, from the folders between it and its files.
    pub fn partitions(&self, files: &[ObjectMeta]) -> Result<Vec<String>> {
        let mut found: Option<(Vec<String>, &Path)> = None;
        for file in files {
            let parts: Vec<_> = file
                .location
                .prefix_match(&self.folder)
                .into_iter()
                .flatten()
                .collect();
            let folders = parts.iter().take(parts.len().saturating_sub(1));
            let keys: Vec<_> = folders
                .map(|part| {
                    part.as_ref()
                        .split_once('=')
                        .map_or(String::new(), |(key, _)| key.to_owned())
                })
                .collect();
            match &found {
                Some((other, first)) if *other != keys => {
                    let (table, second) = (&self.name, &file.location);
                    let what = format!(
                        "table '{table}' has files in unlike partitions: {first} and {second}"
                    );
                    return Err(Error::data(what));
                }
                Some(_) => {}
                None => found = Some((keys, &file.location)),
            }
        }
        let (keys, first) = found.unwrap_or((Vec::new(), &self.folder));
        if keys.iter().any(String::is_empty) {
            let what = format!(
                "table '{}': a folder above {first} is not of the form key=value",
                self.name
            );
            return Err(Error::data(what));
        }
        Ok(keys)
    }

    /// The table for DataFusion; its schema is what its files have together.
    pub async fn open(&self, context: &SessionContext) -> Result<Arc<dyn TableProvider>> {
        let place = format!("table '{}' in {}", self.name, self.lake.url);
        let files = self.files().await?;
        if files.is_empty() {
            let what = if self.files_that(|_| true).await?.is_empty() {
                "has no files yet"
            } else {
                "has no Parquet files; `query` reads Parquet only"
            };
            return Err(Error::job(format!("{place} {what}")));
        }
        let keys = self.partitions(&files)?;
        // A store of its own for each lake, by a name that no address can have.
        let base = format!("lake://{}", self.ordinal);
        let store = ObjectStoreUrl::parse(&base).map_err(refused)?;
        context.register_object_store(store.as_ref(), Arc::new(self.lake.visible()));
        let mut url = Url::parse(&base)
            .map_err(|error| Error::bug("the name of a store").caused_by(error))?;
        url.set_path(&format!("/{}/", self.folder));
        let url = ListingTableUrl::try_new(url, None).map_err(refused)?;
        let columns = keys
            .iter()
            .map(|key| (key.clone(), DataType::Utf8))
            .collect();
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
            .with_file_extension(".parquet")
            .with_table_partition_cols(columns);
        let state: SessionState = context.state();
        let unreadable = |error| Error::data(format!("{place} cannot be read")).caused_by(error);
        let schema = match options.infer_schema(&state, &url).await {
            Ok(schema) => schema,
            Err(error) => {
                let culprit = self.culprit(&state, &files, &place).await;
                return Err(culprit.unwrap_or_else(|| unreadable(error)));
            }
        };
        // A column that is also a partition is read from the path, as Athena would; and any column may be missing in
        // some file, so it is NULL there.
        let inside = schema
            .fields()
            .iter()
            .filter(|field| !keys.contains(field.name()));
        let nullable = inside.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let config = ListingTableConfig::new(url)
            .with_listing_options(options)
            .with_schema(schema);
        let table: Arc<dyn TableProvider> =
            Arc::new(ListingTable::try_new(config).map_err(unreadable)?);
        match files.iter().any(|file| nulls::is_in_null(&file.location)) {
            true => nulls::with_nulls(table, &keys).map_err(unreadable),
            false => Ok(table),
        }
    }

    /// The file, or the two, for which the files have no schema together. Each is asked for its own: this is for an error's message.
    async fn culprit(
        &self,
        state: &SessionState,
        files: &[ObjectMeta],
        place: &str,
    ) -> Option<Error> {
        let store: Arc<dyn ObjectStore> = Arc::new(self.lake.visible());
        let mut columns: BTreeMap<String, (Field, &Path)> = BTreeMap::new();
        for file in files {
            let this = &file.location;
            let asked = ParquetFormat::default();
            let schema = asked.infer_schema(state, &store, slice::from_ref(file));
            let schema = match schema.await {
                Ok(schema) => schema,
                Err(error) => {
                    let what = format!("{place}: {this} cannot be read");
                    return Some(Error::data(what).caused_by(error));
                }
            };
            for field in schema.fields() {
                let new = || (field.as_ref().clone(), this);
                let (column, first) = columns.entry(field.name().clone()).or_insert_with(new);
                if column.try_merge(field).is_err() {
                    return Some(Error::data(format!(
                        "{place}: column '{}' is {} in {first}, but {} in {this}",
                        field.name(),
                        flink_name(column.data_type()),
                        flink_name(field.data_type()),
                    )));
                }
            }
        }
        None
    }
}

/// The table with this name.
pub fn choose<'a>(tables: &'a [Found], name: &str, lakes: &[Lake]) -> Result<&'a Found> {
    let places = || {
        lakes
            .iter()
            .map(|lake| lake.url.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut named = tables.iter().filter(|table| table.name == name);
    match (named.next(), named.next()) {
        (Some(table), None) => Ok(table),
        (Some(one), Some(other)) => {
            let what = format!(
                "table '{name}' is in both {} and {}: give only one --lake",
                one.lake.url, other.lake.url
            );
            Err(Error::job(what))
        }
        (None, _) if tables.is_empty() => Err(Error::job(format!(
            "there is no table '{name}': {} has no tables yet",
            places()
        ))),
        (None, _) => {
            let lower = name.to_lowercase();
            let distance = |table: &&Found| levenshtein(&table.name.to_lowercase(), &lower);
            let nearest = tables
                .iter()
                .min_by_key(distance)
                .map_or("", |table| &table.name);
            let hint = match nearest.chars().any(char::is_uppercase) {
                true => format!("\"{nearest}\" (in double quotes, because of its capital letters)"),
                false => format!("'{nearest}'"),
            };
            Err(Error::job(format!(
                "there is no table '{name}' in {}; is it {hint}?",
                places()
            )))
        }
    }
}

/// The tables with how much is in them.
pub async fn list(tables: &[Found], lakes: &[Lake]) -> Result<RecordBatch> {
    let mut rows: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for table in tables {
        let files = table.files().await?;
        if !files.is_empty() {
            let bytes: u64 = files.iter().map(|file| file.size).sum();
            rows.insert(
                (&table.name, &table.lake.url),
                (files.len() as i64, bytes as i64),
            );
        }
    }
    if rows.is_empty() {
        // Not a result: those go to stdout alone.
        let places: Vec<_> = lakes.iter().map(|lake| lake.url.as_str()).collect();
        tracing::info!("there are no tables yet in {}", places.join(", "));
    }
    let texts = |texts| -> ArrayRef { Arc::new(StringArray::from_iter_values(texts)) };
    let numbers = |numbers: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(numbers)) };
    Ok(RecordBatch::try_from_iter([
        (
            "table",
            texts(rows.keys().map(|(name, _)| *name).collect::<Vec<_>>()),
        ),
        (
            "files",
            numbers(rows.values().map(|(files, _)| *files).collect()),
        ),
        (
            "bytes",
            numbers(rows.values().map(|(_, bytes)| *bytes).collect()),
        ),
        ("lake", texts(rows.keys().map(|(_, lake)| *lake).collect())),
    ])?)
}
