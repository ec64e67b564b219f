//! A target in memory: the smallest that keeps the contract, with faults on demand.

use super::{Mark, Shaped, Shares, Target};
use crate::error::{Error, Result};
use crate::sink::Rejected;
use arrow::array::{Int8Array, RecordBatch};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use std::sync::{Arc, Mutex};

/// What all processes share: the rows that anybody sees, and the mark that was set with them.
#[derive(Clone)]
pub struct MemoryTopic(Arc<Mutex<Topic>>);

#[derive(Default)]
struct Topic {
    rows: Vec<(Mark, RecordBatch)>,
    mark: Option<Mark>,
    /// Who may deliver.
    holder: u64,
    /// How many calls go well before one fails; negative: all do.
    left: i64,
    after_effect: bool,
    failed: bool,
}

impl MemoryTopic {
    /// A topic whose call number `left` fails, before or after its effect.
    pub fn failing(left: i64, after_effect: bool) -> MemoryTopic {
        MemoryTopic(Arc::new(Mutex::new(Topic {
            left,
            after_effect,
            ..Topic::default()
        })))
    }

    pub fn steady() -> MemoryTopic {
        MemoryTopic::failing(-1, false)
    }

    pub fn has_failed(&self) -> bool {
        self.0.lock().unwrap().failed
    }

    pub fn rows(&self) -> Vec<RecordBatch> {
        let topic = self.0.lock().unwrap();
        topic.rows.iter().map(|(_, rows)| rows.clone()).collect()
    }

    pub fn forget_mark(&self) {
        self.0.lock().unwrap().mark = None;
    }

    /// One call, which fails when it is its turn.
    fn call<T>(&self, effect: impl FnOnce(&mut Topic) -> Result<T>) -> Result<T> {
        let mut topic = self.0.lock().unwrap();
        let fails = topic.left == 0;
        topic.left -= 1;
        topic.failed |= fails;
        if fails && !topic.after_effect {
            return Err(Error::retry("as told, before"));
        }
        let done = effect(&mut topic)?;
        match fails {
            true => Err(Error::retry("as told, after")),
            false => Ok(done),
        }
    }
}

/// One process's way to it.
pub struct MemoryTarget {
    topic: MemoryTopic,
    number: Mutex<Option<u64>>,
}

impl MemoryTarget {
    pub fn new(topic: &MemoryTopic) -> MemoryTarget {
        MemoryTarget {
            topic: topic.clone(),
            number: Mutex::new(None),
        }
    }
}

impl Target for MemoryTarget {
    fn shape(&self, rows: RecordBatch, _kinds: Option<&Int8Array>) -> Result<Shaped> {
        Ok(Shaped {
            stored: rows,
            rejected: Rejected::new(),
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<()>> {
        let mut number = self.number.lock().unwrap();
        if number.is_some() {
            return futures::future::ready(Ok(())).boxed();
        }
        let opened = self.topic.call(|topic| {
            topic.holder += 1;
            Ok(topic.holder)
        });
        let opened = opened.map(|mine| *number = Some(mine));
        futures::future::ready(opened).boxed()
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>>> {
        let mark = self.topic.call(|topic| Ok(topic.mark.clone()));
        futures::future::ready(mark).boxed()
    }

    fn holds<'a>(&'a self, mark: &'a Mark, _since_ms: i64) -> BoxFuture<'a, Result<bool>> {
        let held = |topic: &mut Topic| Ok(topic.rows.iter().any(|(of, _)| of == mark));
        futures::future::ready(self.topic.call(held)).boxed()
    }

    fn deliver<'a>(&'a self, mark: &'a Mark, rows: Shares<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let shares: Vec<_> = rows.try_collect().await?;
            let mine = self.number.lock().unwrap().take();
            self.topic.call(|topic| {
                if mine != Some(topic.holder) {
                    return Err(Error::fenced("another process delivers"));
                }
                let rows = shares.into_iter().flat_map(|share| share.rows);
                topic.rows.extend(rows.map(|rows| (mark.clone(), rows)));
                topic.mark = Some(mark.clone());
                Ok(())
            })?;
            *self.number.lock().unwrap() = mine;
            Ok(())
        }
        .boxed()
    }
}
