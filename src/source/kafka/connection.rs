//! What librdkafka tells about a connection: outages, log lines, the ends of partitions, commits.
//!
//! A broker that is away is no failure: librdkafka tries again for ever. It says so many times a second, so here it is
//! said to the user once, and once more when the broker is back.

use super::super::{Split, Waker};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) type Client = BaseConsumer<Connection>;

/// The state of a table's connection to its cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Connection(Arc<State>);

struct State {
    table: String,
    servers: String,
    waker: Waker,
    read_committed: bool,
    down: AtomicBool,
    /// Nobody reads from it any more.
    closed: AtomicBool,
    /// The last thing that went wrong, which says more than that all brokers are down.
    reason: Mutex<String>,
    news: Mutex<BTreeMap<Split, Arc<News>>>,
    commits: Commits,
}

/// What the statistics last told of a partition.
pub(super) struct News {
    /// Where it ends.
    pub end: AtomicI64,
    /// Its leader has said nothing for a while, or there is none.
    pub silent: AtomicBool,
}

/// A leader answers a fetch twice a second, even where there is nothing new. One that is cut off without a word would be missed by
/// librdkafka only after a minute. In microseconds, as the statistics count.
const SILENT_US: i64 = 5_000_000;

/// Commits that are under way, so that the last one of a run is not lost when the process ends.
#[derive(Default)]
struct Commits {
    open: Mutex<usize>,
    changed: Condvar,
    failed: AtomicBool,
}

impl Connection {
    pub fn new(table: &str, servers: &str, read_committed: bool, waker: Waker) -> Self {
        Connection(Arc::new(State {
            table: table.to_string(),
            servers: servers.to_string(),
            waker,
            read_committed,
            down: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reason: Mutex::default(),
            news: Mutex::default(),
            commits: Commits::default(),
        }))
    }

    pub fn waker(&self) -> &Waker {
        &self.0.waker
    }

    pub fn table(&self) -> &str {
        &self.0.table
    }

    pub fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Relaxed)
    }

    /// From here on nobody has to know whether the cluster can be reached: the clients take a moment to end, and it may be gone before.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Nothing could be reached: warns, unless it did already.
    pub fn lost(&self, what: &str) {
        if self.0.closed.load(Ordering::Acquire) {
            return;
        }
        if !self.0.down.swap(true, Ordering::AcqRel) {
            let reason = lock(&self.0.reason).clone();
            let reason = if reason.is_empty() {
                what
            } else {
                reason.as_str()
            };
            tracing::warn!(
                table = self.0.table,
                servers = self.0.servers,
                "Kafka cannot be reached, trying until it can: {reason}"
            );
        }
    }

    /// Something was heard.
    pub fn found(&self) {
        if self.is_down() && self.0.down.swap(false, Ordering::AcqRel) {
            lock(&self.0.reason).clear();
            tracing::info!(
                table = self.0.table,
                servers = self.0.servers,
                "Kafka answers again"
            );
        }
    }

    /// What is heard of a partition, kept up to date from here on.
    pub fn news_of(&self, split: &Split, end: i64) -> Arc<News> {
        let news = Arc::new(News {
            end: AtomicI64::new(end),
            silent: AtomicBool::new(false),
        });
        lock(&self.0.news).insert(split.clone(), Arc::clone(&news));
        news
    }

    pub fn commit_begins(&self) {
        *lock(&self.0.commits.open) += 1;
    }

    pub fn commit_ends(&self) {
        let mut open = lock(&self.0.commits.open);
        *open = open.saturating_sub(1);
        self.0.commits.changed.notify_all();
    }

    /// Waits until every commit was answered, at most this long.
    pub fn await_commits(&self, at_most: Duration) {
        let open = lock(&self.0.commits.open);
        let waited = self
            .0
            .commits
            .changed
            .wait_timeout_while(open, at_most, |open| *open > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl ClientContext for Connection {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Whatever matters also comes as an event or as the answer to a call, and is told from there.
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF | Code::AutoOffsetReset) => {}
            Some(Code::AllBrokersDown) => self.lost(reason),
            Some(Code::Authentication | Code::SSL | Code::Resolve) => {
                *lock(&self.0.reason) = reason.to_string();
                self.lost(reason);
            }
            Some(Code::BrokerTransportFailure) => {
                tracing::debug!(target: "librdkafka", "{reason}");
                *lock(&self.0.reason) = reason.to_string();
            }
            _ => tracing::debug!(target: "librdkafka", "{error}: {reason}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let heard = |leader: i32| {
            let mut brokers = statistics.brokers.values();
            brokers.any(|broker| {
                broker.nodeid == leader && broker.state == "UP" && broker.rxidle < SILENT_US
            })
        };
        for (split, news) in lock(&self.0.news).iter() {
            let topic = statistics.topics.get(split.topic.as_ref());
            let Some(partition) = topic.and_then(|topic| topic.partitions.get(&split.partition))
            else {
                continue;
            };
            let end = match self.0.read_committed {
                true => partition.ls_offset,
                false => partition.hi_offset,
            };
            if end >= 0 {
                news.end.store(end, Ordering::Relaxed);
            }
            news.silent
                .store(!heard(partition.leader), Ordering::Relaxed);
        }
    }
}

impl ConsumerContext for Connection {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) => self.0.commits.failed.store(false, Ordering::Relaxed),
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                if !self.0.commits.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        table = self.0.table,
                        "the consumer group's offsets could not be committed (lag tools will show old ones; \
                         nothing else depends on them): {error}"
                    );
                }
            }
        }
        self.commit_ends();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
