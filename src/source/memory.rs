//! A source that a test feeds.
//!
//! Each split is a log that is kept whole, so it can be opened at any position, as often as a test crashes.

use super::{Poll, Position, Positions, Reader, Records, Source, SourceContext, Split, Waker};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tables with `'connector' = 'memory'`, by name. Clones share the same logs.
#[derive(Debug, Default, Clone)]
pub struct MemoryTables(Arc<Mutex<BTreeMap<String, MemoryTable>>>);

impl MemoryTables {
    /// The table of this name, made when it is asked for first.
    pub fn table(&self, name: &str) -> MemoryTable {
        lock(&self.0).entry(name.to_string()).or_default().clone()
    }

    /// A source that reads the table of this name.
    pub fn source(&self, name: &str, context: &SourceContext) -> Result<MemorySource> {
        Ok(MemorySource {
            table: self.table(name),
            topic: name.into(),
            found: 0,
            bounded: context.bounded,
            waker: context.waker.clone(),
        })
    }
}

/// One table: a log for each of its splits. Clones share them.
#[derive(Debug, Default, Clone)]
pub struct MemoryTable(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    logs: Vec<Log>,
    acknowledged: Positions,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Record>,
    ended: bool,
    failure: Option<String>,
}

#[derive(Debug, Clone)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

impl MemoryTable {
    /// Makes sure that there are at least this many splits.
    pub fn splits(&self, count: usize) {
        self.change(|state| {
            while state.logs.len() < count {
                state.logs.push(Log::default());
            }
        });
    }

    /// Appends a record to a split, which is made when it is not there yet.
    pub fn push(&self, split: usize, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) {
        self.splits(split + 1);
        self.change(|state| {
            state.logs[split].records.push(Record {
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                timestamp,
            });
        });
    }

    /// Everything that was appended so far, one split behind the other.
    pub fn all(&self) -> Records {
        let mut records = Records::default();
        let state = lock(&self.0);
        for (number, record) in state.logs.iter().flat_map(|log| &log.records).enumerate() {
            let offset = i64::try_from(number).unwrap_or(i64::MAX);
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            records.push(offset, record.timestamp, key, value);
        }
        records
    }

    /// Says that nothing more will be appended to any split.
    pub fn end(&self) {
        self.change(|state| state.logs.iter_mut().for_each(|log| log.ended = true));
    }

    /// Lets the next poll of a split fail, once, in a way that may be retried.
    pub fn fail(&self, split: usize, message: &str) {
        self.splits(split + 1);
        self.change(|state| state.logs[split].failure = Some(message.to_string()));
    }

    /// What was acknowledged last.
    pub fn acknowledged(&self) -> Positions {
        lock(&self.0).acknowledged.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.0);
        change(&mut state);
        if let Some(waker) = &state.waker {
            waker.wake();
        }
    }
}

/// Reads a [`MemoryTable`].
pub struct MemorySource {
    table: MemoryTable,
    topic: Arc<str>,
    found: usize,
    bounded: bool,
    waker: Waker,
}

impl Source for MemorySource {
    fn discover(&mut self) -> Result<Vec<Split>> {
        let mut state = lock(&self.table.0);
        state.waker = Some(self.waker.clone());
        let known = self.found..state.logs.len();
        self.found = state.logs.len();
        Ok(known
            .map(|partition| Split {
                topic: Arc::clone(&self.topic),
                partition: i32::try_from(partition).unwrap_or(i32::MAX),
            })
            .collect())
    }

    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        let log = usize::try_from(split.partition).unwrap_or(usize::MAX);
        let state = lock(&self.table.0);
        let Some(opened) = state.logs.get(log) else {
            return Err(Error::bug(format!(
                "memory table '{}' has no split {}",
                split.topic, split.partition
            )));
        };
        let next = from.map_or(0, |from| usize::try_from(from.offset).unwrap_or(0));
        Ok(Box::new(MemoryReader {
            table: self.table.clone(),
            log,
            next,
            end: self.bounded.then_some(opened.records.len()),
            finished: false,
        }))
    }

    fn acknowledge(&mut self, positions: &Positions) {
        lock(&self.table.0).acknowledged.extend(positions.clone());
    }

    fn bounded(&self) -> bool {
        self.bounded || lock(&self.table.0).logs.iter().all(|log| log.ended)
    }
}

struct MemoryReader {
    table: MemoryTable,
    log: usize,
    next: usize,
    /// Where a bounded read ends.
    end: Option<usize>,
    finished: bool,
}

impl Reader for MemoryReader {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        let mut state = lock(&self.table.0);
        let log = &mut state.logs[self.log];
        if let Some(failure) = log.failure.take() {
            return Err(Error::retry(failure));
        }
        let end = self.end.unwrap_or(log.records.len());
        if self.next >= end {
            self.finished = self.end.is_some() || log.ended;
            return Ok(match self.finished {
                true => Poll::Finished,
                false => Poll::Pending { at_end: true },
            });
        }
        let mut records = Records::default();
        while self.next < end && (records.is_empty() || records.byte_size() < max_bytes) {
            let record = &log.records[self.next];
            let offset = i64::try_from(self.next).unwrap_or(i64::MAX);
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            records.push(offset, record.timestamp, key, value);
            self.next += 1;
        }
        Ok(Poll::Records(records))
    }

    fn position(&self) -> Position {
        Position {
            offset: i64::try_from(self.next).unwrap_or(i64::MAX),
            finished: self.finished,
        }
    }

    fn lag(&self) -> Option<u64> {
        let behind = lock(&self.table.0).logs[self.log]
            .records
            .len()
            .saturating_sub(self.next);
        u64::try_from(behind).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
