//! Many small Parquet files to a few large ones, row by row the same.
//!
//! Written as the sink writes them: the same properties, types and names, which is why only files are merged that look just so. Rows are sorted where
//! columns to sort by are known, else they keep their order. Memory is bounded: a sort that needs more goes to the disk. What was written is read again
//! and compared with what was read.

use super::alike::alike;
use super::rows::{Input, Rows, Sum, ordering, rows_of, sorted};
use super::{Options, Subject};
use crate::error::{Error, Result};
use crate::sink::{Format, ParquetFormat, upload};
use crate::store::{Located, ParquetObject};
use bytes::Bytes;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Below this nothing can be sorted.
pub const LEAST_MEMORY: usize = 64 << 20;
/// What a sort needs in any case.
const SORT_MEMORY: usize = 24 << 20;
/// How many partitions are merged at the same time at most, and how many files of each are opened.
const AT_A_TIME: usize = 8;
/// What is kept of a file before it is read, about.
const FOOTER: u64 = 8 << 10;
/// Memory for files is shared out in this unit.
const UNIT: usize = 64 << 10;

/// Merges files of partitions, several partitions at a time.
pub struct Merger {
    lake: Located,
    /// Names of files are unique by it.
    owner: String,
    target: usize,
    /// Half of the memory is for sorting, the other half for files being read and written.
    sorting: Arc<RuntimeEnv>,
    files: Semaphore,
    units: usize,
    pub at_a_time: usize,
}

/// What became what: names and sizes.
pub struct Merged {
    pub from: BTreeMap<String, u64>,
    pub into: BTreeMap<String, u64>,
}

impl Merger {
    pub fn new(lake: &Located, owner: &str, options: &Options) -> Result<Merger> {
        let half = options.memory / 2;
        let sorting = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(half)))
            .build_arc()
            .map_err(|error| Error::bug("the memory for sorting").caused_by(error))?;
        let units = (half / UNIT).min(u32::MAX as usize);
        Ok(Merger {
            lake: lake.clone(),
            owner: owner.to_string(),
            target: options.target,
            sorting,
            files: Semaphore::new(units),
            units,
            at_a_time: (half / SORT_MEMORY).clamp(1, AT_A_TIME),
        })
    }

    /// Merges files into the folder `to`; none where there are no two that can be.
    pub async fn merge(
        self: Arc<Self>,
        subject: Subject,
        files: Vec<ObjectMeta>,
        to: Path,
    ) -> Result<Option<Merged>> {
        let units = u32::try_from(self.units_for(&files)).unwrap_or(u32::MAX);
        let room = self.files.acquire_many(units).await;
        let _room = room.map_err(|error| Error::bug("the memory for files").caused_by(error))?;

        let inputs = self.open(&files).await?;
        let Some((inputs, format)) = alike(&subject.spec, inputs)? else {
            return Ok(None);
        };
        let from = inputs.iter().map(|input| {
            let name = input.object.path.filename().unwrap_or_default();
            (name.to_string(), input.object.size)
        });
        let from: BTreeMap<_, _> = from.collect();
        let read = Arc::new(Mutex::new(Sum::default()));
        let rows = rows_of(inputs, format.schema(), &read);
        let rows = match ordering(&subject.sort, &subject.spec.name, format.schema())? {
            Some(ordering) => sorted(rows, format.schema(), ordering, &self.sorting)?,
            None => rows,
        };
        let into = self.write(rows, &format, &to).await?;
        let read = *read.lock().unwrap_or_else(PoisonError::into_inner);
        self.compare(read, &into, &format, &to).await?;
        Ok(Some(Merged { from, into }))
    }

    /// A file is read by row groups, which are no larger than it is, and written in memory before it is uploaded.
    fn units_for(&self, files: &[ObjectMeta]) -> usize {
        let largest = files.iter().map(|file| file.size).max().unwrap_or(0);
        let all: u64 = files.iter().map(|file| file.size).sum();
        let footers = FOOTER * files.len() as u64;
        let bytes = footers + largest + all.min(self.target as u64);
        let units = usize::try_from(bytes.div_ceil(UNIT as u64)).unwrap_or(usize::MAX);
        units.clamp(1, self.units)
    }

    async fn open(&self, files: &[ObjectMeta]) -> Result<Vec<Input>> {
        let objects = files.iter().map(|file| ParquetObject {
            store: Arc::clone(&self.lake.store),
            path: file.location.clone(),
            size: file.size,
        });
        stream::iter(objects.collect::<Vec<_>>())
            .map(Input::open)
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    }

    async fn write(
        &self,
        mut rows: Rows,
        format: &ParquetFormat,
        to: &Path,
    ) -> Result<BTreeMap<String, u64>> {
        let mut written = BTreeMap::new();
        let mut open = None;
        while let Some(batch) = rows.try_next().await? {
            let mut file = match open.take() {
                Some(file) => file,
                None => format.open()?,
            };
            file.write(&batch)?;
            if file.size() < self.target {
                open = Some(file);
                continue;
            }
            self.put(file.finish()?, to, &mut written).await?;
        }
        if let Some(last) = open {
            self.put(last.finish()?, to, &mut written).await?;
        }
        Ok(written)
    }

    async fn put(
        &self,
        file: Vec<Bytes>,
        to: &Path,
        written: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        let name = format!("compacted-{}-{}.parquet", self.owner, written.len());
        let bytes: usize = file.iter().map(Bytes::len).sum();
        let path = to.clone().join(name.as_str());
        let in_parts = self.lake.on_disk().is_none();
        upload(&*self.lake.store, &path, file, in_parts)
            .await
            .map_err(|error| self.lake.explain(&path, error))?;
        written.insert(name, bytes as u64);
        Ok(())
    }

    /// Reads what was written. It has to be what was read.
    async fn compare(
        &self,
        read: Sum,
        written: &BTreeMap<String, u64>,
        format: &ParquetFormat,
        to: &Path,
    ) -> Result<()> {
        let objects = written.iter().map(|(name, size)| ParquetObject {
            store: Arc::clone(&self.lake.store),
            path: to.clone().join(name.as_str()),
            size: *size,
        });
        let opened = stream::iter(objects.collect::<Vec<_>>())
            .then(Input::open)
            .try_collect();
        let there = Arc::new(Mutex::new(Sum::default()));
        let mut rows = rows_of(opened.await?, format.schema(), &there);
        while rows.try_next().await?.is_some() {}
        let there = *there.lock().unwrap_or_else(PoisonError::into_inner);
        if there == read {
            return Ok(());
        }
        Err(Error::bug(format!(
            "{to}: the merged files have {} rows, and their parts {}, or other ones: nothing was replaced",
            there.rows, read.rows
        )))
    }
}
