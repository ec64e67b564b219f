//! The thread beside a Kafka table: it serves librdkafka's events, finds new partitions, and finds out where to go on
//! when offsets are gone. Whatever waits for a broker waits here, and never on a lane.

use super::super::Split;
use super::connection::{Client, Connection};
use super::options::ScanOptions;
use super::survey::{self, Bounds, PATIENCE};
use crate::clock::Clock;
use crate::error::{Error, Result};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the thread looks around when nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// How often it asks whether the cluster is back, or whether a missing topic was created.
const ASK_AGAIN_MS: i64 = 5_000;

/// A partition whose next offset does not exist at the broker.
pub(super) struct Loss {
    split: Split,
    at: i64,
    standing: Arc<Standing>,
}

/// Where a reader stands after a loss: it waits until the watcher says where to go on.
#[derive(Default)]
pub(super) struct Standing(Mutex<Option<Result<i64, String>>>);

impl Standing {
    /// The offset to go on at, once it is known.
    pub fn resumed(&self) -> Result<Option<i64>> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(None),
            Some(Ok(offset)) => Ok(Some(*offset)),
            Some(Err(message)) => Err(Error::data(message.clone())),
        }
    }

    fn set(&self, outcome: Result<i64, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// The readers' line to the watcher.
#[derive(Clone)]
pub(super) struct Losses(pub Sender<Loss>);

impl Losses {
    pub fn report(&self, split: &Split, at: i64) -> Result<Arc<Standing>> {
        let standing = Arc::new(Standing::default());
        let loss = Loss {
            split: split.clone(),
            at,
            standing: Arc::clone(&standing),
        };
        self.0
            .send(loss)
            .map_err(|_| Error::bug("the thread beside a Kafka table is gone"))?;
        Ok(standing)
    }
}

/// What the thread works with.
pub(super) struct Watcher {
    /// Fetches records; its events are served here.
    pub fetcher: Arc<Client>,
    /// Asks questions, so that an answer that takes long holds up no fetch.
    pub asker: Arc<Client>,
    pub connection: Connection,
    pub options: Arc<ScanOptions>,
    pub clock: Arc<dyn Clock>,
    pub losses: Receiver<Loss>,
    pub found: Sender<(Split, Bounds)>,
    pub known: BTreeSet<Split>,
    /// Topics that were named and are not there yet.
    pub missing: bool,
    pub stop: Arc<AtomicBool>,
    /// Set when a record came on the wrong queue: it would never be read.
    pub strayed: Arc<AtomicBool>,
}

impl Watcher {
    pub fn run(mut self) {
        let mut asked_ms = self.clock.now_ms();
        let mut open = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            self.serve();
            open.extend(self.losses.try_iter());
            open.retain(|loss| !self.resume(loss));
            let since = self.clock.now_ms().saturating_sub(asked_ms);
            let discovery = self.options.discovery_ms.unwrap_or(i64::MAX);
            let soon = self.connection.is_down() || (self.missing && self.options.end.is_none());
            let interval = if soon {
                discovery.min(ASK_AGAIN_MS)
            } else {
                discovery
            };
            if since >= interval {
                self.look();
                asked_ms = self.clock.now_ms();
            }
        }
    }

    fn serve(&self) {
        if let Some(Ok(message)) = self.fetcher.poll(TICK) {
            use rdkafka::message::Message;
            tracing::error!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                "a record came on the events' queue"
            );
            self.strayed.store(true, Ordering::Release);
            self.connection.waker().wake();
        }
        // The asker's own events only matter as outages, which its context handles.
        let _ = self.asker.poll(Duration::ZERO);
    }

    /// Looks for partitions that are new. They are read from their beginning, as in Flink.
    fn look(&mut self) {
        let found = match survey::partitions(&self.asker, &self.options) {
            Ok(found) => found,
            Err(error) => return self.connection.lost(&error.to_string()),
        };
        self.connection.found();
        self.missing = !found.missing.is_empty();
        if self.options.end.is_some() {
            return;
        }
        for split in found.splits {
            if self.known.contains(&split) {
                continue;
            }
            let Ok((low, high)) = self.watermarks(&split) else {
                continue;
            };
            tracing::info!(
                table = self.connection.table(),
                topic = split.topic.as_ref(),
                partition = split.partition,
                offset = low,
                "a new partition"
            );
            let bounds = Bounds {
                start: Some(low),
                end: None,
                low,
                high,
            };
            self.known.insert(split.clone());
            if self.found.send((split, bounds)).is_ok() {
                self.connection.waker().wake();
            }
        }
    }

    fn watermarks(&self, split: &Split) -> rdkafka::error::KafkaResult<(i64, i64)> {
        self.asker
            .fetch_watermarks(&split.topic, split.partition, PATIENCE)
    }

    /// Decides where a reader goes on; false when the cluster could not be asked yet.
    fn resume(&self, loss: &Loss) -> bool {
        let (low, high) = match self.watermarks(&loss.split) {
            Ok(marks) => marks,
            Err(error) => {
                self.connection.lost(&error.to_string());
                return false;
            }
        };
        let (topic, partition, at) = (&loss.split.topic, loss.split.partition, loss.at);
        let (next, what) = if at < low {
            let lost = low - at;
            (
                low,
                Some(format!("{lost} offsets were deleted before they were read")),
            )
        } else if at > high {
            (
                low,
                Some(
                    "the partition is shorter than what was read of it (created anew, or cut off)"
                        .into(),
                ),
            )
        } else {
            (at, None)
        };
        if let Some(what) = what {
            let text = format!(
                "table '{}': data was lost in topic '{topic}' partition {partition}: {what}; the next offset was {at}, \
                 and the broker has {low} to {high}",
                self.connection.table()
            );
            if self.options.fail_on_data_loss {
                let advice = "'tributary.fail-on-data-loss' is true; set it to false to go on from the earliest offset";
                loss.standing.set(Err(format!("{text}; {advice}")));
                self.connection.waker().wake();
                return true;
            }
            tracing::warn!(%topic, partition, expected = at, resumed = next, "{text}; reading goes on at {next}");
        }
        // A partition that failed does not fetch any more and cannot seek; it can only be assigned again.
        let splits = std::slice::from_ref(&loss.split);
        let assigned = survey::list(splits, Offset::Invalid)
            .and_then(|list| self.fetcher.incremental_unassign(&list))
            .and_then(|()| survey::list(splits, Offset::Offset(next)))
            .and_then(|list| self.fetcher.incremental_assign(&list));
        loss.standing.set(assigned.map(|()| next).map_err(|error| {
            format!("topic '{topic}' partition {partition} could not be opened again at offset {next}: {error}")
        }));
        self.connection.waker().wake();
        true
    }
}
