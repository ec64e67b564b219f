//! Where bytes come from.
//!
//! A [`Source`] stands for one table of the job. It finds *splits* (a Kafka partition, a file, a
//! generator's share) and opens each at a position; the [`Reader`] it returns moves to the lane
//! that owns the split.
//!
//! Guarantee: what a reader returns after it was opened at a position is the same every time, in
//! the same order, so that a job that starts again from a checkpoint reads what it would have read.
//! A reader never blocks; one that has nothing says so, and wakes the engine when it has.

pub mod datagen;
pub mod embedded;
pub mod filesystem;
pub mod kafka;
pub mod memory;
mod registered;
mod share;
#[cfg(test)]
mod suite;

use crate::clock::Clock;
use crate::decode::Reason;
pub use crate::store::StoreOpener;
pub use share::Share;

use crate::error::{Error, Result};
use crate::plan::Scan;
use crate::registry::{self, RegistryOpener, Written};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A part of a source that is read in order, by one reader.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Split {
    /// The Kafka topic, the file's path, or the generator's table.
    pub topic: Arc<str>,
    /// The Kafka partition; 0 where there are none.
    pub partition: i32,
}

/// Where the next row of a split is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// A Kafka offset, or how many records of the file or the generator were read.
    pub offset: i64,
    /// Nothing will come after this position: the file's end, or the end of a bounded read.
    pub finished: bool,
}

/// The splits of one source, each with the position up to which an epoch covers it.
pub type Positions = BTreeMap<Split, Position>;

/// One table's input. Called by the engine's own thread, never by a lane.
pub trait Source: Send {
    /// The splits that are new since the last call. The first call waits for the server's answer
    /// (saying so while the server is away); later ones return at once.
    fn discover(&mut self) -> Result<Vec<Split>>;

    /// The name that a split has now which a checkpoint calls like this.
    fn renamed(&self, split: Split) -> Split {
        split
    }

    /// Said before the first split is opened when a checkpoint covers this source: a split that the checkpoint does not know
    /// appeared while the job was away, so it is read from its beginning, whatever the job's options say.
    fn restored(&mut self) {}

    /// Said behind the first answer of [`discover`](Source::discover): a checkpoint has these splits, not read to their end, and they are not
    /// there any more. An error where what was not read of them is lost.
    fn gone(&mut self, _splits: &[(Split, Position)]) -> Result<()> {
        Ok(())
    }

    /// Opens a split: at `from` when an epoch covers it already, else where the job's options say.
    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>>;

    /// An epoch that covers these positions is committed and published. Only for the eyes of lag
    /// tools: nothing is ever restored from what is acknowledged here.
    fn acknowledge(&mut self, positions: &Positions);

    /// Whether every split ends, and no new one will come.
    fn bounded(&self) -> bool;
}

/// What the sources of one process share.
#[derive(Clone)]
pub struct SourceContext {
    /// The command line's `--bounded`: read what is there now, then end.
    pub bounded: bool,
    /// The command line's `--partitions`.
    pub share: Share,
    /// Bytes that each source may hold which were read ahead and not polled yet.
    pub memory_budget: usize,
    pub waker: Waker,
    pub runtime: tokio::runtime::Handle,
    pub clock: Arc<dyn Clock>,
    /// The tables with `'connector' = 'memory'`, fed by a test.
    pub memory: memory::MemoryTables,
    pub stores: StoreOpener,
    pub registries: RegistryOpener,
}

/// Opens the source that a table's options describe. Nothing is asked of a server before the first `discover`.
pub fn open(scan: &Scan, context: &SourceContext) -> Result<Box<dyn Source>> {
    let table = &scan.table;
    match table.options.get("connector") {
        Some("kafka") => {
            let source = Box::new(kafka::KafkaSource::new(scan, context)?);
            match table.options.get("format") {
                Some(registry::FORMAT) => registered::with_schemas(source, table, context),
                _ => Ok(source),
            }
        }
        Some("filesystem") => Ok(Box::new(filesystem::FilesystemSource::new(scan, context)?)),
        Some("datagen") => Ok(Box::new(datagen::DatagenSource::new(scan, context)?)),
        Some("memory") => Ok(Box::new(context.memory.source(&table.name, context)?)),
        Some(other) => Err(Error::job(format!(
            "table '{}': connector '{other}' cannot be read from; use kafka, filesystem or datagen",
            table.name
        ))),
        None => Err(Error::job(format!(
            "table '{}' has no option 'connector'; say kafka, filesystem or datagen",
            table.name
        ))),
    }
}

/// What a reader has at this moment.
pub enum Poll {
    /// Records that are still to be decoded.
    Records(Records),
    /// Rows that are columns already.
    Columns(Columns),
    /// Nothing yet. `at_end` is true when everything that the split holds now was read; only then
    /// can it become idle.
    Pending { at_end: bool },
    /// Nothing ever again.
    Finished,
}

/// Rows of a columnar format (Parquet, or a generator's).
#[derive(Debug)]
pub struct Columns {
    pub batch: RecordBatch,
    /// For each row which record it is, counted from the first of this run.
    pub origin: Vec<u32>,
    pub first_offset: i64,
    /// Records that are not what the table says. They are not in the batch.
    pub bad: Vec<BadRow>,
}

/// A record of a columnar format that is not what its table says.
#[derive(Debug)]
pub struct BadRow {
    /// Counted from the first record of its run.
    pub record: u32,
    pub reason: Reason,
    /// What is wrong, for a person.
    pub error: String,
    /// Its values as JSON: it has no bytes of its own.
    pub value: Option<Vec<u8>>,
}

impl Columns {
    /// Rows with which all is well.
    pub fn all(batch: RecordBatch, first_offset: i64) -> Self {
        Columns {
            origin: (0..).take(batch.num_rows()).collect(),
            batch,
            first_offset,
            bad: Vec::new(),
        }
    }

    /// How many records were read.
    pub fn records(&self) -> usize {
        self.origin.len() + self.bad.len()
    }
}

/// What a store says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
}

/// Reads one split, in order.
pub trait Reader: Send {
    /// What is there now, in about `max_bytes`; never waits.
    fn poll(&mut self, max_bytes: usize) -> Result<Poll>;

    /// The position behind everything that `poll` returned.
    fn position(&self) -> Position;

    /// How many records the split still holds behind the position, where that is known.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// The file that it reads, where it reads one.
    fn file(&self) -> Option<FileFacts> {
        None
    }

    /// Whether its server answers. While it does not, nobody knows what the split has got meanwhile, so it does not become idle.
    fn answers(&self) -> bool {
        true
    }
}

/// A run of records of one split, in offset order: their bytes one behind the other, so that a
/// decoder walks through one piece of memory.
#[derive(Debug, Default, Clone)]
pub struct Records {
    pub values: Spans,
    /// Which records have a value at all (Kafka's null value is a tombstone, not an empty text).
    pub has_value: Vec<bool>,
    pub keys: Spans,
    pub has_key: Vec<bool>,
    pub offsets: Vec<i64>,
    /// Milliseconds since 1970; -1 where the source has none.
    pub timestamps: Vec<i64>,
    /// Whether the timestamp is that of the broker's log. Filled by Kafka only.
    pub appended: Vec<bool>,
    /// Filled only when the table has a `headers` column.
    pub headers: Vec<Vec<(String, Vec<u8>)>>,
    /// The schemas that the values were written with. Filled only where the table's format has a schema registry.
    pub schemas: Written,
}

impl Records {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Room for a run like one that was read before, so that a steady stream costs no regrowth.
    pub fn with_room(records: usize, bytes: usize, key_bytes: usize) -> Self {
        Records {
            values: Spans::with_room(records, bytes),
            has_value: Vec::with_capacity(records),
            keys: Spans::with_room(records, key_bytes),
            has_key: Vec::with_capacity(records),
            offsets: Vec::with_capacity(records),
            timestamps: Vec::with_capacity(records),
            appended: Vec::new(),
            headers: Vec::new(),
            schemas: Written::default(),
        }
    }

    /// How much memory the bytes of these records take.
    pub fn byte_size(&self) -> usize {
        self.values.bytes.len() + self.keys.bytes.len()
    }

    /// Appends one record.
    pub fn push(&mut self, offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.values.push(value.unwrap_or_default());
        self.has_value.push(value.is_some());
        self.keys.push(key.unwrap_or_default());
        self.has_key.push(key.is_some());
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
    }

    pub fn value(&self, record: usize) -> Option<&[u8]> {
        self.has_value[record].then(|| self.values.get(record))
    }

    pub fn key(&self, record: usize) -> Option<&[u8]> {
        self.has_key[record].then(|| self.keys.get(record))
    }
}

/// Byte strings stored end to end.
#[derive(Debug, Default, Clone)]
pub struct Spans {
    pub bytes: Vec<u8>,
    /// The end of each string in `bytes`; it begins where the one before it ends.
    pub ends: Vec<usize>,
}

impl Spans {
    pub fn with_room(strings: usize, bytes: usize) -> Self {
        Spans {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(strings),
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

/// Wakes the engine when a reader has something again, so that an idle job costs nothing.
#[derive(Debug, Default, Clone)]
pub struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    pub fn wake(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
    }

    /// Waits for a wake since the last wait, at most this long.
    pub fn wait(&self, at_most: Duration) {
        let woken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(woken, at_most, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}
