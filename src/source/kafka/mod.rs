//! Kafka topics.
//!
//! One client fetches for all partitions of a table; each partition has a queue of its own, which its reader polls
//! without a lock between lanes. Partitions are assigned, never subscribed to: which process reads what is decided by the
//! epochs, and no group coordinator takes part. A second client asks questions, on a thread of its own.
//!
//! Guarantee: the first offset of every partition is fixed when it is discovered, so what a checkpoint says was read is
//! what was read. An offset that the broker does not have any more is loud: a warning with both offsets, or the end of the
//! job where `tributary.fail-on-data-loss` asks for it. A broker that is away is waited for.
//!
//! One default differs from Flink's: records of open and aborted transactions are not read
//! (`properties.isolation.level` = `read_uncommitted` asks for them).

mod config;
mod connection;
mod options;
mod reader;
mod survey;
#[cfg(test)]
mod tests;
mod watch;

pub use config::client_config;

use super::{Position, Positions, Reader, Source, SourceContext, Split, Waker};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::plan::{MetadataKey, Scan};
use connection::{Client, Connection};
use options::{ScanOptions, Topics};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reader::{KafkaReader, Opening};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use survey::{Bounds, Found};
use watch::{Losses, Watcher};

/// How often a bounded run looks for a topic that is not there before it gives up.
const BOUNDED_TRIES: u32 = 5;
/// How long a source that is dropped waits for its last commit.
const LAST_COMMIT: Duration = Duration::from_millis(300);
/// What librdkafka needs for a record beside its bytes, about.
const RECORD_OVERHEAD: usize = 512;

/// One table's topics.
pub struct KafkaSource {
    table: String,
    config: ClientConfig,
    options: Arc<ScanOptions>,
    connection: Connection,
    with_headers: bool,
    memory_budget: usize,
    waker: Waker,
    clock: Arc<dyn Clock>,
    /// A checkpoint covers this source, so what it does not know is new.
    restored: bool,
    bounds: BTreeMap<Split, Bounds>,
    committed: BTreeMap<Split, i64>,
    live: Option<Live>,
}

/// What exists once the cluster has answered.
struct Live {
    fetcher: Arc<Client>,
    losses: Losses,
    found: Receiver<(Split, Bounds)>,
    stop: Arc<AtomicBool>,
    strayed: Arc<AtomicBool>,
}

impl KafkaSource {
    pub fn new(scan: &Scan, context: &SourceContext) -> Result<Self> {
        let table = &scan.table;
        let mut config = client_config(&table.name, &table.options)?;
        let options = ScanOptions::of(table, context.bounded, context.share.clone())?;
        // librdkafka keeps assigned partitions under a group's name, also where nothing is ever committed.
        for (key, value) in [
            ("group.id", "tributary"),
            ("client.id", "tributary"),
            ("isolation.level", "read_committed"),
            // The default of a second stalls a fast reader for that long whenever its queue was full.
            ("fetch.queue.backoff.ms", "1"),
            // One request at a time is under way to a broker, for the partitions whose queues have room. Where those have nothing new it stays
            // there for this long, and the partitions with much to read, empty by then, wait with it. Asking more often than this costs
            // brokers more than it brings, unless it is over soon.
            (
                "fetch.wait.max.ms",
                if context.bounded { "10" } else { "20" },
            ),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        let read_committed = config.get("isolation.level") == Some("read_committed");
        let servers = config.get("bootstrap.servers").unwrap_or_default();
        let waker = context.waker.clone();
        let connection = Connection::new(&table.name, servers, read_committed, waker.clone());
        Ok(KafkaSource {
            table: table.name.clone(),
            config,
            options: Arc::new(options),
            connection,
            with_headers: scan.metadata.iter().any(|m| m.key == MetadataKey::Headers),
            memory_budget: context.memory_budget,
            waker,
            clock: Arc::clone(&context.clock),
            restored: false,
            bounds: BTreeMap::new(),
            committed: BTreeMap::new(),
            live: None,
        })
    }

    fn client(&self, config: &ClientConfig) -> Result<Client> {
        config
            .create_with_context(self.connection.clone())
            .map_err(|error| {
                let place = format!("table '{}': its Kafka client could not be made", self.table);
                Error::job(place).caused_by(error)
            })
    }

    /// The settings of the client that fetches: its queues share the budget.
    fn fetch_config(&self, partitions: usize) -> ClientConfig {
        let mut config = self.config.clone();
        let share = self.memory_budget / partitions.max(1);
        let queued = (share / 2).clamp(256 << 10, 64 << 20);
        let records = (queued / RECORD_OVERHEAD).clamp(1_000, 100_000);
        let fetch = (self.memory_budget / 4).clamp(1 << 20, 50 << 20);
        for (key, value) in [
            ("queued.max.messages.kbytes", queued >> 10),
            ("queued.min.messages", records),
            ("max.partition.fetch.bytes", queued.min(1 << 20)),
            ("fetch.max.bytes", fetch),
            ("statistics.interval.ms", 2_000),
        ] {
            if config.get(key).is_none() {
                config.set(key, value.to_string());
            }
        }
        config.set("enable.partition.eof", "true");
        // An offset that is gone must be told, never passed over.
        config.set("auto.offset.reset", "error");
        config
    }

    /// Asks until the cluster has answered: the partitions and their offsets.
    fn first_answer(&self, asker: &Client) -> Result<(Found, BTreeMap<Split, Bounds>)> {
        let mut tries = 0;
        loop {
            let answer = survey::partitions(asker, &self.options);
            match answer {
                Ok(found) if self.complete(&found, &mut tries)? => {
                    match survey::bounds(asker, &found.splits, &self.options) {
                        Ok(bounds) => {
                            self.connection.found();
                            return Ok((found, bounds));
                        }
                        Err(error) => self.connection.lost(&error.to_string()),
                    }
                }
                Ok(_) => self.connection.found(),
                Err(error) => self.connection.lost(&error.to_string()),
            }
            // Serves the events that say why, and is the pause before the next try.
            for _ in 0..10 {
                let _ = asker.poll(Duration::from_millis(100));
            }
        }
    }

    /// Whether there is enough to begin with; says what is missing, once.
    fn complete(&self, found: &Found, tries: &mut u32) -> Result<bool> {
        let bounded = self.options.end.is_some();
        if found.missing.is_empty() && !found.splits.is_empty() {
            return Ok(true);
        }
        let what = match (&self.options.topics, found.missing.as_slice()) {
            (Topics::Pattern(pattern), []) => {
                format!(
                    "no topic matches '{}' (option 'topic-pattern')",
                    pattern.as_str()
                )
            }
            (_, []) => format!("no topic has one of the partitions {}", self.options.share),
            (_, missing) => {
                let missing = missing
                    .iter()
                    .map(|(topic, why)| format!("topic '{topic}': {why}"));
                missing.collect::<Vec<_>>().join("; ")
            }
        };
        *tries += 1;
        if bounded && *tries >= BOUNDED_TRIES {
            let advice = "create it, or correct the table's option 'topic'";
            return Err(Error::job(format!(
                "table '{}': {what}; {advice}",
                self.table
            )));
        }
        if *tries == 1 {
            tracing::warn!(
                table = self.table,
                "{what}; looking again until it is there"
            );
        }
        // One topic of several that is not there yet holds nobody up; it is found when it is created.
        Ok(!bounded && !found.splits.is_empty())
    }

    fn begin(&mut self) -> Result<Vec<Split>> {
        let asker = Arc::new(self.client(&self.config)?);
        let (found, bounds) = self.first_answer(&asker)?;
        let fetcher = Arc::new(self.client(&self.fetch_config(found.splits.len()))?);
        survey::introduce(&fetcher, &found.splits);
        let (losses, reported) = channel();
        let (new, news) = channel();
        let live = Live {
            fetcher: Arc::clone(&fetcher),
            losses: Losses(losses),
            found: news,
            stop: Arc::default(),
            strayed: Arc::default(),
        };
        let watcher = Watcher {
            fetcher,
            asker,
            connection: self.connection.clone(),
            options: Arc::clone(&self.options),
            clock: Arc::clone(&self.clock),
            losses: reported,
            found: new,
            known: found.splits.iter().cloned().collect::<BTreeSet<_>>(),
            missing: !found.missing.is_empty(),
            stop: Arc::clone(&live.stop),
            strayed: Arc::clone(&live.strayed),
        };
        std::thread::Builder::new()
            .name(format!("kafka-{}", self.table))
            .spawn(move || watcher.run())
            .map_err(|error| Error::retry("a thread could not be started").caused_by(error))?;
        self.bounds = bounds;
        self.live = Some(live);
        Ok(found.splits)
    }

    /// Where a split begins that no epoch covers.
    fn start(&self, split: &Split) -> Result<i64> {
        let bounds = self.bounds.get(split);
        let start = match self.restored {
            true => bounds.map(|bounds| bounds.low),
            false => bounds.and_then(|bounds| bounds.start),
        };
        start.ok_or_else(|| {
            Error::job(format!(
                "{}: consumer group '{}' has no committed offset; set 'properties.auto.offset.reset' to earliest or latest",
                self.name(split),
                self.config.get("group.id").unwrap_or_default()
            ))
        })
    }

    fn name(&self, split: &Split) -> String {
        format!(
            "table '{}', topic '{}' partition {}",
            self.table, split.topic, split.partition
        )
    }
}

impl Source for KafkaSource {
    fn discover(&mut self) -> Result<Vec<Split>> {
        let Some(live) = &self.live else {
            return self.begin();
        };
        if live.strayed.load(Ordering::Acquire) {
            return Err(Error::bug(format!(
                "table '{}': a record missed its partition's queue",
                self.table
            )));
        }
        let found: BTreeMap<Split, Bounds> = live.found.try_iter().collect();
        let splits = found.keys().cloned().collect();
        self.bounds.extend(found);
        Ok(splits)
    }

    fn restored(&mut self) {
        self.restored = true;
    }

    /// Records leave a topic without anybody's consent in any case, so this is worth a word, and no more.
    fn gone(&mut self, splits: &[(Split, Position)]) -> Result<()> {
        let names = splits.iter().map(|(split, position)| {
            let Split { topic, partition } = split;
            format!("{topic}/{partition} at offset {}", position.offset)
        });
        tracing::warn!(
            table = self.table,
            "partitions that were read before are not there any more: {}; what was not read of them is lost, unless they come back",
            names.collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }

    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        let live = self
            .live
            .as_ref()
            .ok_or_else(|| Error::bug("a split was opened before any was discovered"))?;
        // The end of an earlier bounded run is not the end of the topic.
        let next = match from {
            Some(from) => from.offset,
            None => self.start(split)?,
        };
        let bounds = self.bounds.get(split).copied();
        let place = |error| {
            Error::retry(format!("{} could not be opened", self.name(split))).caused_by(error)
        };
        // The queue is split off before the partition is assigned, or its first records would come on the events' queue.
        let mut queue = live
            .fetcher
            .split_partition_queue(&split.topic, split.partition)
            .ok_or_else(|| Error::bug(format!("{} has no queue", self.name(split))))?;
        let waker = self.waker.clone();
        queue.set_nonempty_callback(move || waker.wake());
        let end = bounds.and_then(|bounds| bounds.end);
        if end.is_none_or(|end| next < end) {
            let list =
                survey::list(std::slice::from_ref(split), Offset::Offset(next)).map_err(place)?;
            live.fetcher.incremental_assign(&list).map_err(place)?;
        }
        let high = bounds.map_or(-1, |bounds| bounds.high);
        Ok(Box::new(KafkaReader::new(Opening {
            queue,
            client: Arc::clone(&live.fetcher),
            connection: self.connection.clone(),
            losses: live.losses.clone(),
            split: split.clone(),
            next,
            end,
            high,
            news: self.connection.news_of(split, high),
            with_headers: self.with_headers,
        })))
    }

    fn acknowledge(&mut self, positions: &Positions) {
        let Some(live) = self.live.as_ref().filter(|_| self.options.has_group) else {
            return;
        };
        let mut list = TopicPartitionList::new();
        for (split, position) in positions {
            let offset = position.offset;
            if self.committed.insert(split.clone(), offset) != Some(offset)
                && let Err(error) =
                    list.add_partition_offset(&split.topic, split.partition, Offset::Offset(offset))
            {
                tracing::debug!(
                    table = self.table,
                    "offset {offset} is not committed: {error}"
                );
            }
        }
        if list.count() == 0 {
            return;
        }
        self.connection.commit_begins();
        if let Err(error) = live.fetcher.commit(&list, CommitMode::Async) {
            self.connection.commit_ends();
            tracing::debug!(table = self.table, "offsets are not committed: {error}");
        }
    }

    fn bounded(&self) -> bool {
        self.options.end.is_some()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            if !self.connection.is_down() {
                self.connection.await_commits(LAST_COMMIT);
            }
            self.connection.close();
            live.stop.store(true, Ordering::Release);
        }
    }
}
