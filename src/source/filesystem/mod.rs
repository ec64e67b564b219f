//! Files under a folder, local or in a cloud.
//!
//! One file is one split, and the records in it are counted from 0. Files are read in the order of their names as far as
//! several are read at once; names that begin with `_` or `.` are passed over. A file must not change once it is there:
//! a position in it counts its records, and a restart counts them again.
//!
//! All I/O happens on tokio, ahead of the readers and through bounded channels; what is read ahead by all readers together
//! stays within the memory budget, because only so many of them have their file open at a time.

mod files;
mod fit;
mod parquet;
mod records;
mod shape;
mod text;
mod turns;
mod unpack;

use super::{Poll, Position, Positions, Reader, Source, SourceContext, Split, Waker};
use crate::error::{Error, Result};
use crate::plan::Scan;
use crate::sql::values::duration;
use crate::store;
pub(crate) use files::unescaped;
use files::{File, Folder};
use object_store::ObjectStore;
use records::Quoting;
pub use shape::Shape;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use text::Text;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use turns::{MOST_OPEN, Opener, PatientReader, Place, Turns};
use unpack::Packing;

/// Open files may take so many times what is read ahead of them: a Parquet file is held by whole row groups.
const OPEN_BUDGETS: usize = 4;

/// One table's files.
pub struct FilesystemSource {
    folder: Arc<Folder>,
    format: Format,
    shape: Shape,
    context: SourceContext,
    /// How often to look for new files; a source without it ends.
    monitor: Option<Duration>,
    /// Whether the folder may be made later.
    may_come: bool,
    files: BTreeMap<Split, File>,
    turns: Arc<Turns>,
    watch: Option<Watch>,
    discovered: bool,
}

#[derive(Clone)]
enum Format {
    /// Records of text, for a decoder.
    Text(Text),
    Parquet,
}

/// What a file's reader works with.
#[derive(Clone)]
struct Opening {
    store: Arc<dyn ObjectStore>,
    file: File,
    /// Records to pass over.
    skip: i64,
    /// Where one of them begins, the last one that is known.
    known: Place,
    waker: Waker,
    runtime: Handle,
    /// Bytes that this reader may hold ahead.
    budget: usize,
}

/// The task that looks for new files; it ends with the source.
struct Watch {
    found: Receiver<File>,
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
            Some(text @ ("json" | "raw")) => Format::Text(Text {
                quoting: None,
                raw: text == "raw",
            }),
            Some("csv") => Format::Text(Text {
                quoting: Quoting::of(table)?,
                raw: false,
            }),
            Some(other) => {
                let what = format!("'{other}' is none of json, csv, raw, parquet");
                return Err(error("format", &what));
            }
            None => return Err(error("format", "is needed: json, csv, raw or parquet")),
        };
        let monitor = match options.get("source.monitor-interval") {
            None => None,
            Some(text) => match duration(text) {
                Some(interval) if !interval.is_zero() => Some(interval),
                _ => return Err(error("source.monitor-interval", "needs a time like '10 s'")),
            },
        };
        Ok(FilesystemSource {
            folder: Arc::new(Folder {
                table: table.name.clone(),
                store,
                root,
                shown: path.trim_end_matches('/').to_string(),
            }),
            format,
            shape: Shape::of(scan),
            context: context.clone(),
            may_come: monitor.is_some(),
            monitor: monitor.filter(|_| !context.bounded),
            files: BTreeMap::new(),
            turns: Turns::new(OPEN_BUDGETS * context.memory_budget, context.waker.clone()),
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

    /// Where there is no file: an error if there never will be one.
    fn judge_absence(&self) -> Result<()> {
        let Folder { table, shown, .. } = &*self.folder;
        let refusal = |what: &str| Err(Error::job(format!("table '{table}': '{shown}' {what}")));
        // A store of objects has no folders that could be missing.
        let place = store::place(shown);
        let is_local = place.starts_with('/');
        let exists = is_local && std::path::Path::new(&place).exists();
        if !exists && shown.contains(['*', '?', '{']) {
            return refusal("does not exist, and patterns are not supported: name the folder");
        }
        if is_local && !exists && !self.may_come {
            return refusal(
                "does not exist: correct the path, or make the folder if it is to be empty",
            );
        }
        // A folder that is watched may well be empty at first.
        if self.monitor.is_none() || is_local && !exists {
            tracing::warn!(table, "there is no file under '{shown}'");
        }
        Ok(())
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
                            if new.send(file).is_err() {
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
                self.judge_absence()?;
            }
            let splits = self.add(files);
            self.watch = self.monitor.map(|interval| self.watch(interval));
            return Ok(splits);
        }
        let Some(watch) = &self.watch else {
            return Ok(Vec::new());
        };
        let files = watch.found.try_iter().collect();
        Ok(self.add(files))
    }

    /// The same file, though its folder was spelled in another way.
    fn renamed(&self, split: Split) -> Split {
        match self.folder.spelled_anew(&split.topic) {
            Some(topic) => Split { topic, ..split },
            None => split,
        }
    }

    fn gone(&mut self, splits: &[(Split, Position)]) -> Result<()> {
        let Some((Split { topic: name, .. }, position)) = splits.first() else {
            return Ok(());
        };
        let others = match splits.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more like it)"),
        };
        Err(Error::job(format!(
            "table '{}': the file '{name}' is gone{others}, and was not read to its end: {} records of it were; put it back under this name, \
             or start once with -D tributary.allow-dropped-state=true, which goes on without the rest of it",
            self.folder.table, position.offset
        )))
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
            known: Place::default(),
            waker: self.context.waker.clone(),
            runtime: self.context.runtime.clone(),
            budget: self.context.memory_budget / self.files.len().clamp(1, MOST_OPEN),
        };
        let (facts, size) = (opening.file.facts(), opening.file.size);
        let cost = match &self.format {
            // What cannot be unpacked is refused before anything is read.
            Format::Text(_) => Packing::of(&opening.file.name).map(|_| opening.budget)?,
            Format::Parquet => usize::try_from(size).unwrap_or(usize::MAX / 2),
        };
        let (format, shape) = (self.format.clone(), self.shape.clone());
        let opener: Opener = Box::new(move |skip, known| {
            let opening = Opening {
                skip,
                known,
                ..opening.clone()
            };
            Ok(match &format {
                Format::Text(text) => Box::new(text::TextReader::open(opening, text)?),
                Format::Parquet => Box::new(parquet::ParquetReader::open(opening, shape.clone())?),
            })
        });
        let reader = PatientReader::new(&self.turns, cost, facts, from, opener);
        Ok(Box::new(reader))
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
