//! Tables in memory, for tests: staged rows survive the sinks that wrote them, as files would, and only published ones are seen.

use super::options::TableSpec;
use super::partition::Partitioner;
use super::{
    Carry, Publisher, Rejected, Sink, SinkContext, Staging, Token, Uploads, expect_columns,
    unholdable,
};
use crate::error::{Error, Result};
use crate::operator::changes;
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All tables in memory of one test, however often its job is started.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables(Arc<Mutex<BTreeMap<String, MemoryTable>>>);

#[derive(Debug, Default)]
struct MemoryTable {
    staged: BTreeMap<String, Vec<RecordBatch>>,
    /// In the order in which they were published.
    published: Vec<(String, Vec<RecordBatch>)>,
    /// Signs for others: `dt=2024-03-01/_SUCCESS`.
    marks: BTreeSet<String>,
}

impl MemoryTables {
    /// What was published, in this order; of a result that changes each change, with its kind.
    pub fn rows(&self, table: &str) -> Vec<RecordBatch> {
        match self.lock().get(table) {
            Some(table) => table
                .published
                .iter()
                .flat_map(|(_, rows)| rows.clone())
                .collect(),
            None => Vec::new(),
        }
    }

    /// The signs in the table's folders.
    pub fn marks(&self, table: &str) -> Vec<String> {
        let tables = self.lock();
        let marks = tables.get(table).map(|table| table.marks.iter().cloned());
        marks.into_iter().flatten().collect()
    }

    /// How many staged things wait to be published or discarded.
    pub fn staged(&self, table: &str) -> usize {
        self.lock().get(table).map_or(0, |table| table.staged.len())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, MemoryTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stages all its rows at each barrier.
pub(super) struct MemorySink {
    table: TableSpec,
    tables: MemoryTables,
    /// Its folders are only names, for the catalog to be told; it takes the rows that files would.
    partitioner: Partitioner,
    numbers: Uploads,
    name: String,
    rows: BTreeMap<String, Vec<RecordBatch>>,
    written: u64,
}

pub(super) fn check(table: &TableSpec) -> Result<()> {
    table.only(&["connector"], &["tributary."])?;
    Partitioner::of(table).map(drop)
}

impl MemorySink {
    pub fn open(table: &TableSpec, context: &SinkContext) -> Result<MemorySink> {
        check(table)?;
        Ok(MemorySink {
            table: table.clone(),
            partitioner: Partitioner::of(table)?,
            tables: context.memory.clone(),
            numbers: context.uploads.clone(),
            name: format!("{}-{}", context.owner, context.lane),
            rows: BTreeMap::new(),
            written: 0,
        })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<Rejected> {
        let (batch, mut rejected) = unholdable::apart(batch)?;
        let shares = self.partitioner.split(&batch)?;
        rejected.extend(shares.rejected);
        for (folder, rows) in shares.groups {
            self.rows.entry(folder).or_default().push(rows);
        }
        Ok(rejected)
    }
}

impl Sink for MemorySink {
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected> {
        let (_, visible) = changes::split(&batch)?;
        expect_columns(&self.table, &visible, false)?;
        self.written += batch.num_rows() as u64;
        self.take(&batch)
    }

    fn restore(&mut self, carried: RecordBatch) -> Result<()> {
        expect_columns(&self.table, &carried, true)?;
        self.take(&carried).map(drop)
    }

    fn stage(&mut self, _epoch: u64, _close: bool) -> Result<Staging> {
        let mut tokens = Vec::new();
        for (partition, batches) in std::mem::take(&mut self.rows) {
            let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            if rows == 0 {
                continue;
            }
            let bytes = batches
                .iter()
                .map(|batch| batch.get_array_memory_size() as u64)
                .sum();
            let name = format!("{}-{}", self.name, self.numbers.next_number());
            let name = match partition.as_str() {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            let mut tables = self.tables.lock();
            let table = tables.entry(self.table.name.clone()).or_default();
            table.staged.insert(name.clone(), batches);
            tokens.push(futures::future::ready(Ok(Token { name, rows, bytes })).boxed());
        }
        Ok(Staging {
            tokens,
            carry: Carry::default(),
            written: std::mem::take(&mut self.written),
        })
    }

    fn buffered_bytes(&self) -> usize {
        let batches = self.rows.values().flatten();
        batches.map(RecordBatch::get_array_memory_size).sum()
    }

    fn shrink(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Moves rows from staged to published.
pub(super) struct MemoryPublisher {
    table: String,
    tables: MemoryTables,
}

impl MemoryPublisher {
    pub fn new(table: &TableSpec, context: &SinkContext) -> MemoryPublisher {
        MemoryPublisher {
            table: table.name.clone(),
            tables: context.memory.clone(),
        }
    }

    fn publish_now(&self, tokens: &[Token]) -> Result<()> {
        let mut tables = self.tables.lock();
        let table = tables.entry(self.table.clone()).or_default();
        for Token { name, rows, .. } in tokens {
            if let Some(batches) = table.staged.remove(name) {
                table.published.push((name.clone(), batches));
            } else if table
                .published
                .iter()
                .all(|(published, _)| published != name)
            {
                return Err(Error::data(format!(
                    "table '{}': {rows} committed rows are lost: '{name}' is neither staged nor published in memory; \
                     keep one MemoryTables for all starts of a job",
                    self.table
                )));
            }
        }
        Ok(())
    }
}

impl Publisher for MemoryPublisher {
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(self.publish_now(tokens)).boxed()
    }

    fn mark<'a>(&'a self, partition: &'a str, file: &'a str) -> BoxFuture<'a, Result<()>> {
        let mut tables = self.tables.lock();
        let table = tables.entry(self.table.clone()).or_default();
        table.marks.insert(format!("{partition}/{file}"));
        futures::future::ready(Ok(())).boxed()
    }

    fn partitions(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        let tables = self.tables.lock();
        let published = tables.get(&self.table).map(|table| table.published.iter());
        let names = published.into_iter().flatten().map(|(name, _)| name);
        let folders = names.filter_map(|name| Some(name.rsplit_once('/')?.0.to_owned()));
        futures::future::ready(Ok(folders.collect())).boxed()
    }

    fn discard_except<'a>(&'a self, keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        if let Some(table) = self.tables.lock().get_mut(&self.table) {
            table
                .staged
                .retain(|name, _| keep.iter().any(|token| token.name == *name));
        }
        futures::future::ready(Ok(())).boxed()
    }
}
