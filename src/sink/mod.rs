//! Where rows land: stage, commit, publish.
//!
//! A [`Sink`] takes rows of one table on one lane. At a barrier it *stages*: what is finished becomes durable
//! but stays invisible, and is named by tokens; rows that are not finished (a Parquet file still open) are
//! handed over to be carried in the checkpoint. The tokens are committed with the epoch. Only then does
//! the table's [`Publisher`] make them visible.
//!
//! Guarantee: publishing is repeatable. The same token published twice, by this process or the next, shows each
//! row once. What no epoch names is never shown, and is removed at the next start.
//!
//! Some tables are files: `files` keeps one open for each partition, `parquet` and `text` make their bytes, `upload`
//! takes them to the staging folder, `publish` from there into the table. Others are `rows` that are stored with the epoch and delivered
//! as a whole: `kafka`, `mongo`, `json_file`. What neither files nor texts can hold, `unholdable` finds. `print` shows its lines at least once: what a terminal has shown cannot be taken back
//! when a process dies before it could say so.

pub mod dead_letters;
pub mod memory;
pub mod merged;

mod avro;
mod console;
mod encode;
mod files;
mod json_file;
mod kafka;
mod limits;
mod mongo;
mod options;
mod parquet;
mod partition;
mod place;
mod publish;
mod raw;
mod rows;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod testing;
mod text;
mod text_files;
mod unholdable;
mod upload;

pub use crate::store::StoreOpener;
pub(crate) use encode::Format;
pub(crate) use files::slice_bytes;
pub use limits::RecordLimits;
pub use options::TableSpec;
pub(crate) use parquet::ParquetFormat;
pub(crate) use partition::{default_partition, escaped, folder_values};
pub use upload::Uploads;
pub(crate) use upload::put as upload;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::registry::RegistryOpener;
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::runtime::Handle;

/// One table's output on one lane.
pub trait Sink: Send {
    /// Takes rows, and gives back those that cannot lie in the table; they count as written too. What it took is not visible to
    /// anybody yet. After an error a sink is of no more use: the rows come again from the last epoch, into a new one.
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected>;

    /// Rows that an earlier epoch carried: written again, but not counted as written. The next [`Carry`] holds them again where
    /// their file is still open, so it is complete by itself: all that older epochs carried is forgotten with it.
    fn restore(&mut self, carried: RecordBatch) -> Result<()>;

    /// The barrier of an epoch. With `close` nothing stays open behind it: the run ends here.
    fn stage(&mut self, epoch: u64, close: bool) -> Result<Staging>;

    /// Bytes held in memory, for the budget.
    fn buffered_bytes(&self) -> usize;

    /// Gives memory back, the most that can be had in one step: encodes rows early, or closes a file; its rows are staged at the next
    /// barrier.
    fn shrink(&mut self) -> Result<()>;
}

/// Rows that a table cannot hold, each batch with the sentence that says why.
pub type Rejected = Vec<(RecordBatch, String)>;

/// What a sink hands over at a barrier.
#[derive(Default)]
pub struct Staging {
    /// Each becomes a token when what it names is durable; the epoch is committed only after all of them are.
    pub tokens: Vec<BoxFuture<'static, Result<Token>>>,
    /// What to carry of rows that are not in any token.
    pub carry: Carry,
    /// Rows taken by `write` since the last barrier.
    pub written: u64,
}

/// The rows of open files, as the checkpoint keeps them: an increment where it can be one.
#[derive(Debug, Default)]
pub struct Carry {
    /// For each file that stays open: the file's own number on this lane, and its rows since the last barrier.
    pub appended: Vec<(u64, Vec<RecordBatch>)>,
    /// Every file that stays open, so that the carried rows of all others can be forgotten.
    pub open: Vec<u64>,
    /// The partitions that those files are in: none of them is complete.
    pub partitions: BTreeSet<String>,
}

/// A thing that is durable and not yet visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What the publisher needs to find it and to show it: for a file its path below the table's folder, from which its staged
    /// name follows; for a `print` table the lines themselves.
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
}

/// Makes staged things of one table visible. Shared by all lanes; runs beside them.
pub trait Publisher: Send + Sync {
    /// Keeps owners of before from publishing, where what the table is in can do that. Called behind the claim and before anything is
    /// published; repeating it is harmless.
    fn open(&self) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// Shows everything that the tokens name. Repeating it is harmless.
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>>;

    /// Removes whatever was staged by earlier owners and is not among `keep`.
    fn discard_except<'a>(&'a self, keep: &'a [Token]) -> BoxFuture<'a, Result<()>>;

    /// Writes an empty file of this name into a partition's folder, as a sign for others. Repeating it is harmless.
    fn mark<'a>(&'a self, _partition: &'a str, _file: &'a str) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// The folders of all partitions in which there is something to read.
    fn partitions(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        futures::future::ready(Ok(BTreeSet::new())).boxed()
    }
}

/// What a sink is given of the world.
#[derive(Clone)]
pub struct SinkContext {
    /// Whose files these are. Unique among all the jobs that write into one lake, for a start discards what is staged under this name.
    pub job: String,
    /// The id of this run of the job, drawn at its start and never used twice: file names are unique by it.
    pub owner: String,
    pub lane: usize,
    pub stores: StoreOpener,
    /// The folder of the job's checkpoints, for rows that are stored with an epoch.
    pub checkpoints: String,
    /// Where uploads run.
    pub runtime: Handle,
    pub clock: Arc<dyn Clock>,
    pub uploads: Uploads,
    /// What publishers have learnt of the records that sinks may make.
    pub limits: RecordLimits,
    pub registries: RegistryOpener,
    /// What `memory` tables hold.
    pub memory: memory::MemoryTables,
}

impl SinkContext {
    /// The same for another lane.
    pub fn on_lane(&self, lane: usize) -> SinkContext {
        SinkContext {
            lane,
            ..self.clone()
        }
    }
}

/// The connectors that can be written to here.
enum Connector {
    Files,
    Kafka,
    Mongo,
    JsonFile,
    Print,
    Blackhole,
    Memory,
}

impl Connector {
    fn of(table: &TableSpec) -> Result<Connector> {
        let key = "connector";
        match table.required(key)? {
            "filesystem" => Ok(Connector::Files),
            "kafka" | "upsert-kafka" => Ok(Connector::Kafka),
            "mongodb" => Ok(Connector::Mongo),
            "tributary-json-file" => Ok(Connector::JsonFile),
            "print" => Ok(Connector::Print),
            "blackhole" => Ok(Connector::Blackhole),
            "memory" => Ok(Connector::Memory),
            other => Err(table.refuse(
                key,
                format!(
                    "'{other}' cannot be written to; filesystem, kafka, upsert-kafka, mongodb, tributary-json-file, print, blackhole and memory can"
                ),
            )),
        }
    }
}

/// Refuses a table that could not be written, without touching anything: what `open` would say of its options and columns.
pub fn check(table: &TableSpec) -> Result<()> {
    match Connector::of(table)? {
        Connector::Files => files::Layout::of(table).map(drop),
        Connector::Kafka => kafka::check(table),
        Connector::Mongo => mongo::check(table),
        Connector::JsonFile => json_file::check(table),
        Connector::Print => console::PrintSink::open(table).map(drop),
        Connector::Blackhole => console::BlackholeSink::open(table).map(drop),
        Connector::Memory => memory::check(table),
    }
}

/// Refuses tables of one job that cannot be written beside each other.
pub fn check_together(tables: &[TableSpec]) -> Result<()> {
    json_file::check_together(tables)
}

/// The sink of a table on one lane.
pub fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    Ok(match Connector::of(table)? {
        Connector::Files => Box::new(files::FileSink::open(table, context)?),
        Connector::Kafka => kafka::open(table, context)?,
        Connector::Mongo => mongo::open(table, context)?,
        Connector::JsonFile => json_file::open(table, context)?,
        Connector::Print => Box::new(console::PrintSink::open(table)?),
        Connector::Blackhole => Box::new(console::BlackholeSink::open(table)?),
        Connector::Memory => Box::new(memory::MemorySink::open(table, context)?),
    })
}

/// What makes the staged rows of a table visible; one for all lanes.
pub fn publisher(table: &TableSpec, context: &SinkContext) -> Result<Arc<dyn Publisher>> {
    Ok(match Connector::of(table)? {
        Connector::Files => Arc::new(publish::FilePublisher::new(
            &table.name,
            place::Place::of(table, context)?,
        )),
        Connector::Kafka => kafka::publisher(table, context)?,
        Connector::Mongo => mongo::publisher(table, context)?,
        Connector::JsonFile => json_file::publisher(table, context)?,
        Connector::Print => Arc::new(console::PrintPublisher::of(table)?),
        Connector::Blackhole => Arc::new(console::BlackholePublisher),
        Connector::Memory => Arc::new(memory::MemoryPublisher::new(table, context)),
    })
}

/// Whether a table can take rows that change what was there: updates and deletions beside new rows. To all others rows can only be
/// added, and a query that changes its results is refused where it is planned.
pub fn takes_changes(table: &crate::sql::Table) -> bool {
    match table.options.get("connector") {
        Some("upsert-kafka" | "tributary-json-file" | "print" | "blackhole" | "memory") => true,
        Some("mongodb") => !table.primary_key.is_empty(),
        _ => false,
    }
}

/// Whether the order of a table's rows is known by the epochs of the process that writes it, so that there can be only one.
pub fn has_one_writer(table: &crate::sql::Table) -> bool {
    match table.options.get("connector") {
        Some("tributary-json-file") => true,
        Some("mongodb") => !table.primary_key.is_empty(),
        _ => false,
    }
}

/// The lake of a table of files, and the name of the table's folder in it.
pub fn folder(table: &TableSpec) -> Result<(&str, String)> {
    let (lake, folder) = place::Place::check(table)?;
    Ok((lake, folder.as_ref().to_string()))
}

/// The folders of the partitions that some rows of a table go to. They may be rows that a checkpoint carries.
pub fn partitions(table: &TableSpec, rows: &RecordBatch) -> Result<Vec<String>> {
    expect_columns(table, rows, true)?;
    let shares = partition::Partitioner::of(table)?.split(rows)?;
    let folders = shares.groups.into_iter().map(|(folder, _)| folder);
    Ok(folders.collect())
}

/// Refuses a batch that does not have the table's columns. Rows that were carried may come from a job that was changed since.
fn expect_columns(table: &TableSpec, batch: &RecordBatch, carried: bool) -> Result<()> {
    let wanted = table.schema.fields();
    let same = wanted.len() == batch.num_columns()
        && wanted
            .iter()
            .zip(batch.columns())
            .all(|(field, column)| field.data_type().equals_datatype(column.data_type()));
    if same {
        return Ok(());
    }
    let columns: Vec<String> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let columns = columns.join(", ");
    Err(if carried {
        Error::job(format!(
            "table '{}': the checkpoint carries rows of an open file with other columns than the job's table has ({columns}); \
             stop the job with its old text first, which closes its files, then start it with the new one",
            table.name
        ))
    } else {
        Error::bug(format!(
            "table '{}' was given other columns than it has: {columns}",
            table.name
        ))
    })
}
