//! Files under a folder, local or on S3.
//!
//! One file is one split, and the records in it are counted from 0. Files are read in the order of their names as far as
//! several are read at once; names that begin with `_` or `.` are passed over. A file must not change once it is there:
//! a position in it counts its records, and a restart counts them again.
//!
//! All I/O happens on tokio, ahead of the readers and through bounded channels; what is read ahead by all readers together
//! stays within the memory budget.

mod files;
mod parquet;
mod records;
mod text;

use super::{Poll, Position, Positions, Reader, Source, SourceContext, Split, Waker};
use crate::catalog::hive::NULL_PARTITION;
use crate::error::{Error, Result};
use crate::plan::Scan;
use crate::sql::values::duration;
use arrow::datatypes::SchemaRef;
pub(crate) use files::unescaped;
use files::{File, Folder};
use object_store::ObjectStore;
use records::Quoting;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// One table's files.
pub struct FilesystemSource {
    folder: Arc<Folder>,
    format: Format,
    shape: Shape,
    context: SourceContext,
    /// How often to look for new files; a source without it ends.
    monitor: Option<Duration>,
    files: BTreeMap<Split, File>,
    watch: Option<Watch>,
    discovered: bool,
}

enum Format {
    /// Records of text, for a decoder.
    Text {
        quoting: Option<Quoting>,
    },
    Parquet,
}

/// What a Parquet file is turned into.
#[derive(Clone)]
struct Shape {
    schema: SchemaRef,
    partitioned_by: Arc<[String]>,
    /// Stands in a path for NULL.
    default_partition: Arc<str>,
}

/// What a file's reader works with.
struct Opening {
    store: Arc<dyn ObjectStore>,
    file: File,
    /// Records to pass over.
    skip: i64,
    waker: Waker,
    runtime: Handle,
    /// Bytes that this reader may hold ahead.
    budget: usize,
}

/// The task that looks for new files; it ends with the source.
struct Watch {
    found: Receiver<Result<File>>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FilesystemSource {
    pub fn new(scan: &Scan, context: &SourceContext) -> Result<Self> {
        let table = &scan.table;
        let options = &table.options;
        let error = |key: &str, what: &str| {
            Error::job(format!("table '{}', option '{key}': {what}", table.name))
        };
        let path = options
            .get("path")
            .ok_or_else(|| error("path", "is needed"))?;
        let (store, root) = (context.stores)(path)?;
        let format = match options.get("format") {
            Some("parquet") => Format::Parquet,
            Some("json" | "raw") => Format::Text { quoting: None },
            Some("csv") => Format::Text {
                quoting: Quoting::of(table)?,
            },
            Some(other) => {
                let what = format!("'{other}' is none of json, csv, raw, parquet");
                return Err(error("format", &what));
            }
            None => return Err(error("format", "is needed: json, csv, raw or parquet")),
        };
        let used = table
            .partitioned_by
            .iter()
            .find(|name| scan.decoded.index_of(name).is_ok());
        if let (Format::Text { .. }, Some(column)) = (&format, used) {
            return Err(Error::job(format!(
                "table '{}': the partition column '{column}' is in the path, which is read with the format parquet only; \
                 take it out of PARTITIONED BY, or do not use it",
                table.name
            )));
        }
        let monitor = match options.get("source.monitor-interval") {
            None => None,
            Some(text) => match duration(text) {
                Some(interval) if !interval.is_zero() => Some(interval),
                _ => return Err(error("source.monitor-interval", "needs a time like '10 s'")),
            },
        };
        let default_partition = options
            .get("partition.default-name")
            .unwrap_or(NULL_PARTITION);
        Ok(FilesystemSource {
            folder: Arc::new(Folder {
                table: table.name.clone(),
                store,
                root,
                shown: path.trim_end_matches('/').to_string(),
            }),
            format,
            shape: Shape {
                schema: Arc::clone(&scan.decoded),
                partitioned_by: table.partitioned_by.clone().into(),
                default_partition: default_partition.into(),
            },
            context: context.clone(),
            monitor: monitor.filter(|_| !context.bounded),
            files: BTreeMap::new(),
            watch: None,
            discovered: false,
        })
    }

    fn add(&mut self, files: Vec<File>) -> Vec<Split> {
        let mut splits = Vec::with_capacity(files.len());
        for file in files {
            let split = Split {
                topic: Arc::clone(&file.name),
                partition: 0,
            };
            if self.files.insert(split.clone(), file).is_none() {
                splits.push(split);
            }
        }
        splits
    }

    /// Lists again and again, and hands over what is new.
    fn watch(&self, interval: Duration) -> Watch {
        let (new, found) = channel();
        let (folder, waker) = (Arc::clone(&self.folder), self.context.waker.clone());
        let mut known: HashSet<Arc<str>> =
            self.files.keys().map(|split| split.topic.clone()).collect();
        let task = self.context.runtime.spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                match folder.list().await {
                    Ok(files) => {
                        let fresh = files.into_iter().filter(|file| !known.contains(&file.name));
                        let fresh: Vec<File> = fresh.collect();
                        known.extend(fresh.iter().map(|file| file.name.clone()));
                        for file in fresh {
                            if new.send(Ok(file)).is_err() {
                                return;
                            }
                            waker.wake();
                        }
                    }
                    Err(error) => tracing::warn!(
                        table = folder.table,
                        "new files could not be looked for, trying again: {error}"
                    ),
                }
            }
        });
        Watch {
            found,
            task: task.abort_handle(),
        }
    }
}

impl Source for FilesystemSource {
    fn discover(&mut self) -> Result<Vec<Split>> {
        if !std::mem::replace(&mut self.discovered, true) {
            let folder = Arc::clone(&self.folder);
            let (answer, answered) = channel();
            self.context.runtime.spawn(async move {
                let _ = answer.send(folder.list().await);
            });
            let files = answered
                .recv()
                .map_err(|_| Error::retry(format!("'{}' was not listed", self.folder.shown)))??;
            if files.is_empty() {
                tracing::warn!(
                    table = self.folder.table,
                    "there is no file under '{}'",
                    self.folder.shown
                );
            }
            let splits = self.add(files);
            self.watch = self.monitor.map(|interval| self.watch(interval));
            return Ok(splits);
        }
        let Some(watch) = &self.watch else {
            return Ok(Vec::new());
        };
        let files = watch.found.try_iter().collect::<Result<Vec<_>>>()?;
        Ok(self.add(files))
    }

    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        let file = self.files.get(split).cloned().ok_or_else(|| {
            Error::bug(format!(
                "the file '{}' was opened before it was found",
                split.topic
            ))
        })?;
        let from = from.unwrap_or(Position {
            offset: 0,
            finished: false,
        });
        if from.finished {
            return Ok(Box::new(Done(from)));
        }
        let opening = Opening {
            store: Arc::clone(&self.folder.store),
            file,
            skip: from.offset,
            waker: self.context.waker.clone(),
            runtime: self.context.runtime.clone(),
            budget: self.context.memory_budget / self.files.len().max(1),
        };
        Ok(match &self.format {
            Format::Text { quoting } => Box::new(text::TextReader::open(opening, quoting.clone())?),
            Format::Parquet => Box::new(parquet::ParquetReader::open(opening, self.shape.clone())?),
        })
    }

    fn acknowledge(&mut self, _positions: &Positions) {}

    fn bounded(&self) -> bool {
        self.monitor.is_none()
    }
}

/// A file that was read to its end before.
struct Done(Position);

impl Reader for Done {
    fn poll(&mut self, _max_bytes: usize) -> Result<Poll> {
        Ok(Poll::Finished)
    }

    fn position(&self) -> Position {
        self.0
    }
}

#[cfg(test)]
mod tests;
