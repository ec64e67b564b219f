//! What Athena knows of the lake: tables, their columns and partitions, and crawlers.
//!
//! The catalog comes behind everything else: data is published whether it answers or not, and what it has not been told yet is owed to it.
//! Guarantee: every step can be repeated. A database, table or partition that is there already is no failure.
//!
//! A [`Catalog`] is one step at a time; it waits for the network, and knows nothing of jobs.

pub mod complete;
pub mod definition;
pub mod duties;
pub mod evolve;
mod feedback;
pub mod glue;
pub mod hive;
pub mod keeper;
pub mod memory;
pub mod owed;
pub mod preflight;
pub mod projection;
pub mod report;

#[cfg(test)]
pub(crate) mod flaky;
mod patience;
mod projected;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod worker;

use crate::error::Result;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// A table as a Hive catalog describes it. The names are those of the catalog: lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub database: String,
    pub name: String,
    /// The columns inside the files, in their order.
    pub columns: Vec<Column>,
    /// The columns that are folders.
    pub partition_keys: Vec<Column>,
    /// The table's folder, as a URL.
    pub location: String,
    /// The table's properties; partition projection is among them.
    pub parameters: BTreeMap<String, String>,
    pub format: Format,
}

/// What a table's files are, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    Parquet,
    /// Something that no job writes there: a view, or files of another kind; in words.
    Other(String),
}

/// The property that makes Athena work partitions out by itself, with the value `true`.
pub const PROJECTION_ENABLED: &str = "projection.enabled";

impl Definition {
    /// Whether Athena works the partitions out by itself, and passes over registered ones.
    pub fn is_projected(&self) -> bool {
        self.parameters
            .get(PROJECTION_ENABLED)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// In Hive's words: `struct<latitude:double>`.
    pub hive_type: String,
    pub comment: Option<String>,
}

/// A registered partition: a value for each partition key, and where its files are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub values: Vec<String>,
    pub location: String,
}

/// What became of a crawler that was to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Started,
    /// It runs already, and may have passed by the newest files.
    Running,
}

/// A crawler, as far as somebody who waits for it wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crawler {
    /// `READY`, `RUNNING` or `STOPPING`.
    pub state: String,
    /// `SUCCEEDED`, `CANCELLED` or `FAILED`, where it ran before.
    pub last_status: Option<String>,
    pub last_message: Option<String>,
    /// When its last run began, in milliseconds since 1970.
    pub last_started_ms: Option<i64>,
    /// The folders that it looks at, as URLs.
    pub targets: Vec<String>,
    /// What it passes over there, as patterns below each folder.
    pub exclusions: Vec<String>,
}

/// A crawler to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlerSpec {
    pub name: String,
    /// The IAM role that it reads with.
    pub role: String,
    pub database: String,
    /// The folders that it looks at, as URLs.
    pub targets: Vec<String>,
    /// `cron(15 12 * * ? *)`, where it shall run by itself too.
    pub schedule: Option<String>,
}

/// A catalog. Failures that may pass (away, busy, throttled) are of the kind `Retry`; what the user has to change is of the kind `Job`.
pub trait Catalog: Send + Sync {
    /// Creates a database where there is none.
    fn create_database<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;

    /// The table, if there is one.
    fn table<'a>(
        &'a self,
        database: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Definition>>>;

    /// Every table of a database, by name.
    fn tables<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Vec<Definition>>>;

    /// Creates a table, and answers whether it did. One that is there already is left as it is.
    fn create_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<bool>>;

    /// Gives a table another definition.
    fn update_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<()>>;

    /// Every registered partition of a table, in the order of their values.
    fn partitions<'a>(
        &'a self,
        database: &'a str,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Partition>>>;

    /// Registers partitions, and answers how many were new. One that is there already is left as it is, wherever it lies.
    fn add_partitions<'a>(
        &'a self,
        table: &'a Definition,
        partitions: &'a [Partition],
    ) -> BoxFuture<'a, Result<usize>>;

    /// Lets a registered partition lie elsewhere: readers see the one place or the other, and nothing in between.
    fn move_partition<'a>(
        &'a self,
        table: &'a Definition,
        partition: &'a Partition,
    ) -> BoxFuture<'a, Result<()>>;

    /// The crawler, if there is one.
    fn crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Crawler>>>;

    /// Creates a crawler where there is none.
    fn create_crawler<'a>(&'a self, spec: &'a CrawlerSpec) -> BoxFuture<'a, Result<()>>;

    /// Starts a crawler.
    fn start_crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Start>>;
}
