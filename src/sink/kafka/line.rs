//! A line to the cluster: a producer, and a reader of marks. After any failure it is given up, and the next one begins anew.

use super::super::rows::{Mark, Share};
use super::fault::{self, explain};
use super::options::{Partitioner, Settings};
use super::records::Stored;
use crate::error::{Error, Result};
use crate::sink::limits::Limits;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a topic's limits, on which nothing depends. The mock cluster of the demo never tells them.
const LIMITS_PATIENCE: Duration = Duration::from_millis(500);
/// On a slow line, so many times as long as all else took that is asked meanwhile.
const LIMITS_SHARE: u32 = 3;
/// How long a broker gets to make a topic that it creates by itself, in steps.
const CREATION_STEPS: usize = 20;
const CREATION_STEP: Duration = Duration::from_millis(250);
/// How long a full queue gets to send records. The client does not come back earlier when there is room.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);
/// How long records may be under way without one of them arriving.
const STALLED: Duration = Duration::from_secs(30);
/// A batch always takes one record, however large that is.
pub const ONE_RECORD: usize = 1;

/// The headers of records that are delivered exactly once: whose they are, and of which epoch. The first record of a batch has them, for
/// one that is found tells of all.
pub const JOB_HEADER: &str = "tributary.job";
pub const EPOCH_HEADER: &str = "tributary.epoch";

/// What a client says of itself, and what became of records.
#[derive(Default)]
pub struct Ear {
    /// The last trouble of the connection.
    reason: Mutex<String>,
    /// The first record that did not arrive.
    failed: Mutex<Option<KafkaError>>,
    arrived: AtomicU64,
    /// Behind the last record that went to partition 0.
    end: AtomicI64,
}

impl Ear {
    pub fn reason(&self) -> String {
        lock(&self.reason).clone()
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        // That all brokers are down says less than why the last one is.
        let mut last = lock(&self.reason);
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) || last.is_empty() {
            *last = reason.to_string();
        }
    }
}

impl ConsumerContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(record) => {
                self.arrived.fetch_add(1, Ordering::Relaxed);
                if record.partition() == 0 {
                    self.end.fetch_max(record.offset() + 1, Ordering::Relaxed);
                }
            }
            Err((error, _)) => {
                lock(&self.failed).get_or_insert(error.clone());
            }
        }
    }
}

pub type Reader = BaseConsumer<Ear>;

pub struct Line {
    settings: Arc<Settings>,
    producer: BaseProducer<Ear>,
    /// Only where there are transactions.
    pub reader: Option<Reader>,
    partitions: i32,
    sent: AtomicU64,
    /// How large a batch may be; None for the client's own limit.
    most_batch: Option<usize>,
    too_large: AtomicBool,
}

/// A line, and what was learnt while it was opened.
pub struct Opened {
    pub line: Line,
    /// What was delivered last.
    pub mark: Option<Mark>,
    /// What the topic takes, as far as that can be found out.
    pub limits: Option<Limits>,
}

impl Line {
    /// Opens a line, which ends all older ones of the same identity. Asks for the topic's limits too, where records can be judged by them.
    pub fn open(
        settings: Arc<Settings>,
        most_batch: Option<usize>,
        runtime: &Handle,
    ) -> Result<Opened> {
        let began = Instant::now();
        let producer: BaseProducer<Ear> = settings
            .producer(most_batch)
            .create_with_context(Ear::default())
            .map_err(|error| settings.client_failed(error))?;
        let partitions = partitions(&settings, &producer)?;
        let limits = ask_limits(Arc::clone(&settings), runtime);
        let mut line = Line {
            settings,
            producer,
            reader: None,
            partitions,
            sent: AtomicU64::new(0),
            most_batch,
            too_large: AtomicBool::new(false),
        };
        let panicked = |_| Error::bug("a thread that talks to Kafka panicked");
        let reader = match line.settings.is_exact() {
            false => None,
            true => std::thread::scope(|scope| {
                // It connects while the producer does.
                let reader = scope.spawn(|| reader(&line.settings));
                line.begin_transactions()?;
                reader.join().map_err(panicked)?.map(Some)
            })?,
        };
        let mark = match &reader {
            None => None,
            Some(reader) => read_mark(&line.settings, reader)?,
        };
        line.reader = reader;
        let mark = mark.map(|(mark, end)| {
            line.producer.context().end.store(end, Ordering::Relaxed);
            mark
        });
        let patience = LIMITS_PATIENCE.max(began.elapsed() * LIMITS_SHARE);
        let limits = limits.recv_timeout(patience).ok().flatten();
        Ok(Opened { line, mark, limits })
    }

    fn begin_transactions(&self) -> Result<()> {
        // The first answer came over a connection that served to find the brokers. A coordinator is looked for only over one of their own,
        // and where there is none yet, again after half a second: so wait until one is there, which a second question does.
        let client = self.producer.client();
        client
            .fetch_metadata(Some(&self.settings.topic), PATIENCE)
            .map_err(|error| self.failed("asking for the brokers", error))?;
        self.producer
            .init_transactions(PATIENCE * 3)
            .map_err(|error| self.failed("beginning transactions", error))
    }

    pub fn begin(&self) -> Result<()> {
        if !self.settings.is_exact() {
            return Ok(());
        }
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| self.failed("beginning a transaction", error))
    }

    /// Sends records on their way.
    pub fn send(&self, share: &Share, mark: &Mark) -> Result<()> {
        let mark = mark.to_string();
        for batch in &share.rows {
            let stored = Stored::of(batch)?;
            for row in 0..batch.num_rows() {
                let mut record = BaseRecord::<[u8], [u8]>::to(&self.settings.topic);
                record.key = stored.key(row);
                record.payload = stored.value(row);
                record.timestamp = stored.time(row);
                record.partition = self.partition(share.lane);
                record.headers = self.headers(&stored, row, (row == 0).then_some(&mark));
                self.send_one(record)?;
            }
            self.check()?;
        }
        Ok(())
    }

    fn send_one(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let mut record = record;
        let mut progress = Progress::new(self);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(FULL_QUEUE_PAUSE);
                    self.check()?;
                    progress.check(self)?;
                }
                Err((error, _)) => return Err(self.failed("sending a record", error)),
            }
        }
    }

    fn partition(&self, lane: usize) -> Option<i32> {
        let chosen = match self.settings.partitioner {
            Partitioner::Default => return None,
            Partitioner::Fixed => lane as u64,
            Partitioner::RoundRobin => self.sent.fetch_add(1, Ordering::Relaxed),
        };
        i32::try_from(chosen % u64::from(self.partitions.unsigned_abs().max(1))).ok()
    }

    fn headers(
        &self,
        stored: &Stored<'_>,
        row: usize,
        mark: Option<&String>,
    ) -> Option<OwnedHeaders> {
        let own = stored.headers(row);
        let mark = mark.filter(|_| self.settings.is_exact());
        if own.is_empty() && mark.is_none() {
            return None;
        }
        let mut headers = OwnedHeaders::new_with_capacity(own.len() + 2);
        for (key, value) in own {
            headers = headers.insert(Header { key, value });
        }
        if let Some(mark) = mark {
            let ours = [
                (JOB_HEADER, self.settings.identity.as_str()),
                (EPOCH_HEADER, mark.as_str()),
            ];
            for (key, value) in ours {
                let value = Some(value);
                headers = headers.insert(Header { key, value });
            }
        }
        Some(headers)
    }

    /// Waits until all records have arrived, and commits them together with the mark.
    pub fn finish(&self, mark: &Mark) -> Result<()> {
        // While they are still on their way.
        self.send_mark(mark)?;
        let mut progress = Progress::new(self);
        while self.producer.in_flight_count() > 0 {
            // That not all is there yet is no failure.
            let _ = self.producer.flush(Duration::from_secs(1));
            self.check()?;
            progress.check(self)?;
        }
        self.check()?;
        if !self.settings.is_exact() {
            return Ok(());
        }
        let committed = self.producer.commit_transaction(STALLED);
        committed.map_err(|error| self.failed("committing a transaction", error))
    }

    fn send_mark(&self, mark: &Mark) -> Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let group = reader
            .group_metadata()
            .ok_or_else(|| Error::bug("a Kafka client with a group has no group"))?;
        let mut offsets = TopicPartitionList::new();
        let end = self.producer.context().end.load(Ordering::Relaxed);
        let committing = |error| self.failed("adding the mark to a transaction", error);
        let mut entry = offsets.add_partition(&self.settings.topic, 0);
        entry.set_offset(Offset::Offset(end)).map_err(committing)?;
        entry.set_metadata(mark.to_string());
        self.producer
            .send_offsets_to_transaction(&offsets, &group, STALLED)
            .map_err(committing)
    }

    /// Ends a transaction that nobody will go on with, as far as that can be done now: readers of committed ones would wait behind it
    /// until its time is over.
    pub fn abort(&self) {
        if !self.settings.is_exact() {
            return;
        }
        // The client ends it only when nothing is under way any more, and hears of that only while it is polled, as `flush` does.
        self.producer.purge(PurgeConfig::default().queue());
        let ended = self
            .producer
            .flush(PATIENCE)
            .and_then(|()| self.producer.abort_transaction(PATIENCE));
        if let Err(error) = ended {
            tracing::debug!(
                table = self.settings.table,
                "a transaction is left to its time-out: {error}"
            );
        }
    }

    /// Fails when a record did not arrive.
    fn check(&self) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        let failed = lock(&self.producer.context().failed).take();
        match failed {
            None => Ok(()),
            Some(error) => Err(self.failed("sending records", error)),
        }
    }

    fn failed(&self, doing: &str, error: KafkaError) -> Error {
        // Of a client that has given up each call says something else, and only the client why.
        let error = match self.producer.client().fatal_error() {
            Some((code, _)) => KafkaError::Global(code),
            None => error,
        };
        if fault::is_fenced(&error) {
            let place = self.settings.place();
            return Error::fenced(format!(
                "{place}: another producer uses the transactional id '{}': a second instance, or another job of the same name, which \
                 need a 'sink.transactional-id-prefix' each of its own; or an epoch that took longer than its transaction may: raise \
                 'properties.transaction.timeout.ms'",
                self.settings.identity
            ))
            .caused_by(error);
        }
        let reason = self.producer.context().reason();
        if fault::code(&error) == Some(Code::MessageSizeTooLarge) && !self.sends_singly() {
            self.too_large.store(true, Ordering::Relaxed);
            let place = self.settings.place();
            return Error::retry(format!(
                "{place}: a batch of records is larger than the topic takes, so they are sent one by one"
            ))
            .caused_by(error);
        }
        explain(&self.settings, doing, error, &reason)
    }

    fn sends_singly(&self) -> bool {
        self.most_batch == Some(ONE_RECORD)
    }

    /// Whether the topic has refused a batch that a smaller one might replace.
    pub fn was_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }
}

fn reader(settings: &Settings) -> Result<Reader> {
    let reader: Reader = settings
        .reader()
        .create_with_context(Ear::default())
        .map_err(|error| settings.client_failed(error))?;
    // Only so that it has a connection when it is needed.
    let _ = reader.fetch_metadata(Some(&settings.topic), PATIENCE);
    Ok(reader)
}

/// Asks for a topic's limits, over a connection of its own; the answer comes when it does.
fn ask_limits(settings: Arc<Settings>, runtime: &Handle) -> Receiver<Option<Limits>> {
    let (answer, answered) = channel();
    runtime.spawn(async move {
        // Where it takes too long nobody listens any more.
        let _ = answer.send(topic_limits(&settings).await);
    });
    answered
}

async fn topic_limits(settings: &Settings) -> Option<Limits> {
    let mut config = settings.reader();
    // It sends no records, so it needs no identity as a producer.
    config.set("enable.idempotence", "false");
    let admin: AdminClient<Ear> = config.create_with_context(Ear::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let topic = [ResourceSpecifier::Topic(&settings.topic)];
    let found = admin.describe_configs(&topic, &options).await;
    // It takes a tenth of a second to end.
    tokio::task::spawn_blocking(move || drop(admin));
    let found = found.ok()?.into_iter().next()?.ok()?;
    let setting = |name: &str| found.get(name)?.value.clone();
    Some(limits_of(setting))
}

/// What a topic takes by its own settings. Its limit of bytes is one of batches, as they travel.
fn limits_of(setting: impl Fn(&str) -> Option<String>) -> Limits {
    let bytes = setting("max.message.bytes").and_then(|bytes| bytes.parse().ok());
    let mut limits = Limits {
        bytes: bytes.unwrap_or(usize::MAX),
        ..Limits::NONE
    };
    if setting("message.timestamp.type").as_deref() == Some("LogAppendTime") {
        return limits;
    }
    let span = |name: &str| setting(name)?.parse::<i64>().ok();
    // The old setting for both ways, which Kafka 4 does not have any more, counts where the newer one has its default.
    let either = span("message.timestamp.difference.max.ms").unwrap_or(i64::MAX);
    let or_either = |own: Option<i64>| own.filter(|own| *own != i64::MAX).unwrap_or(either);
    limits.behind_ms = or_either(span("message.timestamp.before.max.ms"));
    limits.ahead_ms = or_either(span("message.timestamp.after.max.ms"));
    limits
}

/// Gives up where nothing arrives for long: a broker that is away must not hide behind a queue.
struct Progress {
    arrived: u64,
    since: Instant,
}

impl Progress {
    fn new(line: &Line) -> Progress {
        Progress {
            arrived: line.producer.context().arrived.load(Ordering::Relaxed),
            since: Instant::now(),
        }
    }

    fn check(&mut self, line: &Line) -> Result<()> {
        let arrived = line.producer.context().arrived.load(Ordering::Relaxed);
        if arrived > self.arrived {
            *self = Progress::new(line);
        } else if self.since.elapsed() > STALLED {
            let timed_out = KafkaError::MessageProduction(Code::MessageTimedOut);
            return Err(line.failed("sending records", timed_out));
        }
        Ok(())
    }
}

/// How many partitions the topic has. A broker that makes topics by itself may do so when it is asked for one.
fn partitions(settings: &Settings, producer: &BaseProducer<Ear>) -> Result<i32> {
    let failed = |error| {
        let reason = producer.context().reason();
        explain(settings, "asking for the topic", error, &reason)
    };
    for step in 0..CREATION_STEPS {
        if step > 0 {
            std::thread::sleep(CREATION_STEP);
        }
        let metadata = producer
            .client()
            .fetch_metadata(Some(&settings.topic), PATIENCE)
            .map_err(failed)?;
        let Some(topic) = metadata.topics().first() else {
            continue;
        };
        match topic.error().map(Code::from) {
            None if !topic.partitions().is_empty() => {
                return Ok(i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
            }
            None
            | Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable) =>
                {}
            Some(code) => return Err(failed(KafkaError::MetadataFetch(code))),
        }
    }
    let place = settings.place();
    let missing = fault::missing(&settings.topic);
    Err(Error::job(format!("{place}: {missing}")))
}

/// The mark in the group of the table's own.
fn read_mark(settings: &Settings, reader: &Reader) -> Result<Option<(Mark, i64)>> {
    let failed = |error| {
        let reason = reader.context().reason();
        explain(
            settings,
            "reading the mark of what was delivered",
            error,
            &reason,
        )
    };
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&settings.topic, 0);
    let found = reader.committed_offsets(asked, PATIENCE).map_err(failed)?;
    let Some(entry) = found.find_partition(&settings.topic, 0) else {
        return Ok(None);
    };
    entry
        .error()
        .map_err(|error| match error.rdkafka_error_code() {
            Some(code) => failed(KafkaError::OffsetFetch(code)),
            None => failed(error),
        })?;
    let Offset::Offset(offset) = entry.offset() else {
        return Ok(None);
    };
    match Mark::parse(entry.metadata()) {
        Some(mark) => Ok(Some((mark, offset))),
        None => Err(Error::job(format!(
            "{}: group '{}' keeps something else than the mark of what was delivered ('{}'); give the table a \
             'sink.transactional-id-prefix' that nobody else uses",
            settings.place(),
            settings.identity,
            entry.metadata()
        ))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &[(&str, &str)]) -> Limits {
        let value = |name: &str| {
            let found = settings.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_string())
        };
        limits_of(value)
    }

    #[test]
    fn the_settings_of_a_topic_say_what_it_takes() {
        let unlimited = i64::MAX.to_string();
        let before = ("message.timestamp.before.max.ms", unlimited.as_str());
        let after = ("message.timestamp.after.max.ms", "3600000");
        let both = ("message.timestamp.difference.max.ms", "5000");
        let bytes = ("max.message.bytes", "2000");
        for (settings, bytes, behind_ms, ahead_ms) in [
            (vec![], usize::MAX, i64::MAX, i64::MAX),
            (vec![bytes, before, after], 2_000, i64::MAX, 3_600_000),
            (vec![both], usize::MAX, 5_000, 5_000),
            (vec![both, before, after], usize::MAX, 5_000, 3_600_000),
            (
                vec![
                    bytes,
                    both,
                    after,
                    ("message.timestamp.type", "LogAppendTime"),
                ],
                2_000,
                i64::MAX,
                i64::MAX,
            ),
        ] {
            let expected = Limits {
                bytes,
                behind_ms,
                ahead_ms,
            };
            assert_eq!(limits(&settings), expected, "{settings:?}");
        }
    }
}
