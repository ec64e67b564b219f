//! Reads one partition: the hot path.

use super::super::{Poll, Position, Reader, Records, Split};
use super::connection::{Client, Connection, News};
use super::survey::list;
use super::watch::{Losses, Standing};
use crate::error::{Error, Result};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most records in one run: enough to pay for a batch, few enough to stay in the caches.
const MAX_RECORDS: usize = 16 * 1024;

pub(super) struct KafkaReader {
    /// Stands before `client`, so that it is dropped first: librdkafka wants its queues gone before its client.
    queue: PartitionQueue<Connection>,
    client: Arc<Client>,
    connection: Connection,
    losses: Losses,
    split: Split,
    next: i64,
    /// The first offset that is not read, in a bounded read.
    end: Option<i64>,
    /// Where the partition ended when `end` was set.
    high: i64,
    news: Arc<News>,
    with_headers: bool,
    at_end: bool,
    finished: bool,
    /// Set while the watcher finds out where to go on after a loss.
    standing: Option<Arc<Standing>>,
    /// The size of the last run: the next one is likely as large.
    room: (usize, usize, usize),
    complained: Option<RDKafkaErrorCode>,
}

/// What a reader is opened with.
pub(super) struct Opening {
    pub queue: PartitionQueue<Connection>,
    pub client: Arc<Client>,
    pub connection: Connection,
    pub losses: Losses,
    pub split: Split,
    pub next: i64,
    pub end: Option<i64>,
    pub high: i64,
    pub news: Arc<News>,
    pub with_headers: bool,
}

impl KafkaReader {
    pub fn new(opening: Opening) -> Self {
        let finished = opening.end.is_some_and(|end| opening.next >= end);
        KafkaReader {
            queue: opening.queue,
            client: opening.client,
            connection: opening.connection,
            losses: opening.losses,
            split: opening.split,
            next: opening.next,
            end: opening.end,
            high: opening.high,
            news: opening.news,
            with_headers: opening.with_headers,
            at_end: false,
            finished,
            standing: None,
            room: (0, 0, 0),
            complained: None,
        }
    }

    /// Takes what is in the queue, up to a run's size.
    fn fill(&mut self, records: &mut Records, max_bytes: usize) -> Result<()> {
        while records.len() < MAX_RECORDS && records.byte_size() < max_bytes {
            let trouble = match self.queue.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if self.end.is_some_and(|end| offset >= end) {
                        self.finished = true;
                        return Ok(());
                    }
                    if offset >= self.next {
                        push(records, &message, self.with_headers);
                        self.next = offset + 1;
                        self.at_end = false;
                    }
                    None
                }
                Some(Err(error)) => Some(error),
            };
            if let Some(error) = trouble {
                return self.trouble(error);
            }
            if self.end.is_some_and(|end| self.next >= end) {
                self.finished = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn trouble(&mut self, error: KafkaError) -> Result<()> {
        use RDKafkaErrorCode as Code;
        match error {
            KafkaError::PartitionEOF(_) => {
                self.at_end = true;
                // Markers of transactions and compacted records are never seen: only this tells that a bounded read is
                // done whose last offsets are such. The end is judged by where the partition ended when it was set.
                self.finished = self.end.is_some_and(|end| end <= self.high);
            }
            KafkaError::MessageConsumption(Code::AutoOffsetReset) => {
                self.at_end = false;
                self.standing = Some(self.losses.report(&self.split, self.next)?);
            }
            KafkaError::MessageConsumptionFatal(code) => {
                return Err(Error::retry(format!(
                    "table '{}': reading {} partition {} at offset {} failed for good: {code}",
                    self.connection.table(),
                    self.split.topic,
                    self.split.partition,
                    self.next
                )));
            }
            error => {
                let code = error.rdkafka_error_code();
                if code != self.complained {
                    self.complained = code;
                    tracing::warn!(
                        table = self.connection.table(),
                        topic = self.split.topic.as_ref(),
                        partition = self.split.partition,
                        offset = self.next,
                        "cannot read on now, trying until it works: {error}"
                    );
                }
            }
        }
        Ok(())
    }

    /// False while the watcher is still asking where to go on.
    fn recovered(&mut self) -> Result<bool> {
        let Some(standing) = &self.standing else {
            return Ok(true);
        };
        match standing.resumed()? {
            Some(offset) => {
                self.next = offset;
                self.standing = None;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Stops fetching what nobody will read.
    fn leave(&self) {
        let left = list(std::slice::from_ref(&self.split), Offset::Invalid)
            .and_then(|list| self.client.incremental_unassign(&list));
        if let Err(error) = left {
            tracing::debug!(topic = self.split.topic.as_ref(), "not unassigned: {error}");
        }
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        if self.finished {
            return Ok(Poll::Finished);
        }
        if !self.recovered()? {
            return Ok(Poll::Pending { at_end: false });
        }
        if self.end.is_some_and(|end| self.next >= end) {
            self.finished = true;
            self.leave();
            return Ok(Poll::Finished);
        }
        let (count, bytes, key_bytes) = self.room;
        let mut records = Records::with_room(count, bytes, key_bytes);
        self.fill(&mut records, max_bytes)?;
        if self.finished {
            // The position stands behind everything below the end, also behind what was never seen.
            self.next = self.end.map_or(self.next, |end| self.next.max(end));
            self.leave();
        }
        if !records.is_empty() {
            self.connection.found();
            self.complained = None;
            let spare = |used: usize| used + used / 8;
            self.room = (
                spare(records.len()),
                spare(records.values.bytes.len()),
                spare(records.keys.bytes.len()),
            );
            return Ok(Poll::Records(records));
        }
        self.room = (0, 0, 0);
        Ok(match self.finished {
            true => Poll::Finished,
            false => Poll::Pending {
                at_end: self.at_end,
            },
        })
    }

    fn position(&self) -> Position {
        Position {
            offset: self.next,
            finished: self.finished,
        }
    }

    fn lag(&self) -> Option<u64> {
        match self.at_end || self.finished {
            true => Some(0),
            false => u64::try_from(self.news.end.load(Ordering::Relaxed) - self.next).ok(),
        }
    }

    fn answers(&self) -> bool {
        !self.connection.is_down() && !self.news.silent.load(Ordering::Relaxed)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        if !self.finished {
            self.leave();
        }
    }
}

fn push(records: &mut Records, message: &BorrowedMessage, with_headers: bool) {
    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
    records.push(
        message.offset(),
        timestamp,
        message.key(),
        message.payload(),
    );
    let appended = matches!(message.timestamp(), Timestamp::LogAppendTime(_));
    records.appended.push(appended);
    if with_headers {
        let headers = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        records.headers.push(
            headers
                .map(|header| {
                    (
                        header.key.to_string(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                })
                .collect(),
        );
    }
}
