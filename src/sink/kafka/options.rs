//! Where records go and how: the `sink.*` options of a Kafka table, and the client's properties.

use super::line::{EPOCH_HEADER, JOB_HEADER};
use crate::error::{Error, Result};
use crate::sink::TableSpec;
use crate::source::kafka::client_config;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::time::Duration;

/// Java's default, which librdkafka's is a little below.
const MOST_BYTES: usize = 1 << 20;
/// A transaction lasts only as long as its records need to the broker. After this the broker gives it up, and until then it keeps
/// readers of committed transactions waiting, where a process died and no other follows.
const TRANSACTION_MS: u64 = 300_000;

const BATCH_BYTES: &str = "batch.size";
/// As librdkafka has it by itself.
const DEFAULT_BATCH_BYTES: usize = 1_000_000;

/// What every record weighs, and what the mark of an epoch weighs at most.
const OVERHEAD: usize = 128;
const LONGEST_MARK: usize = 64;

const GUARANTEE: &str = "sink.delivery-guarantee";
const PARTITIONER: &str = "sink.partitioner";
const PREFIX: &str = "sink.transactional-id-prefix";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    /// Also for `none`, which asks for less.
    AtLeastOnce,
}

/// Which partition a record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of its key, as in Java; anywhere without one.
    Default,
    /// All records of a lane to one.
    Fixed,
    RoundRobin,
}

/// How records are compressed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// gzip and zstd.
    Dense,
    /// lz4 and snappy, which leave more.
    Quick,
}

impl Codec {
    fn of(name: &str) -> Option<Codec> {
        match name {
            "none" => None,
            "gzip" | "zstd" => Some(Codec::Dense),
            _ => Some(Codec::Quick),
        }
    }

    /// How much it leaves of these bytes: about, and rather more.
    pub fn leaves(self, bytes: &[u8]) -> usize {
        let Ok(packed) = zstd::bulk::compress(bytes, 1) else {
            return bytes.len();
        };
        match self {
            Codec::Dense => packed.len() + packed.len() / 8,
            Codec::Quick => packed.len() + packed.len() / 2,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub table: String,
    pub topic: String,
    pub servers: String,
    /// The id of the producer's transactions, and the name of the group that keeps the mark.
    pub identity: String,
    pub guarantee: Guarantee,
    pub partitioner: Partitioner,
    /// The largest record that the client sends.
    pub most_bytes: usize,
    /// How records travel, where they do not as they are: the topic's own limit is for what becomes of them.
    pub codec: Option<Codec>,
    /// Whether records have the time of their row instead of that of their delivery.
    pub own_time: bool,
    pub transaction: Duration,
    client: ClientConfig,
}

impl Settings {
    pub fn of(table: &TableSpec, job: &str) -> Result<Settings> {
        let mut client = client_config(&table.name, &table.options)?;
        let guarantee = match table.options.text(GUARANTEE) {
            None | Some("exactly-once") => Guarantee::ExactlyOnce,
            Some("at-least-once" | "none") => Guarantee::AtLeastOnce,
            Some(other) => {
                let why = format!("'{other}' is none of exactly-once, at-least-once, none");
                return Err(table.refuse(GUARANTEE, why));
            }
        };
        let partitioner = match table.options.text(PARTITIONER) {
            None | Some("default") => Partitioner::Default,
            Some("fixed") => Partitioner::Fixed,
            Some("round-robin") => Partitioner::RoundRobin,
            Some(other) => {
                let why = format!("'{other}' is none of default, fixed, round-robin");
                return Err(table.refuse(PARTITIONER, why));
            }
        };
        let prefix = table.get(PREFIX).unwrap_or("tributary");
        let number = |key: &str, default: u64| match client.get(key).map(str::parse) {
            None => Ok(default),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(table.refuse(&format!("properties.{key}"), "needs a number")),
        };
        let most_bytes = number("message.max.bytes", MOST_BYTES as u64)?;
        let transaction = Duration::from_millis(number("transaction.timeout.ms", TRANSACTION_MS)?);
        let codec = ["compression.type", "compression.codec"]
            .iter()
            .filter_map(|key| client.get(key))
            .find_map(Codec::of);
        // The librdkafka defaults stand where the user has none: as Java's, but for these.
        let all = ["all", "-1"];
        let waits_for_all = client.get("acks").is_none_or(|acks| all.contains(&acks));
        let safe = guarantee == Guarantee::ExactlyOnce || waits_for_all;
        let defaults = [
            ("client.id", "tributary".to_string()),
            ("message.max.bytes", most_bytes.to_string()),
            ("partitioner", "murmur2_random".to_string()),
            ("enable.idempotence", safe.to_string()),
            // As Java's buffer.memory; librdkafka would take a gigabyte.
            (
                "queue.buffering.max.kbytes",
                (most_bytes / 1024 + 1).max(32 << 10).to_string(),
            ),
        ];
        for (key, value) in defaults {
            if client.get(key).is_none() {
                client.set(key, value);
            }
        }
        client.set_log_level(RDKafkaLogLevel::Warning);
        Ok(Settings {
            topic: table.required("topic")?.trim().to_string(),
            servers: client
                .get("bootstrap.servers")
                .unwrap_or_default()
                .to_string(),
            identity: format!("{prefix}-{job}-{}", table.name),
            guarantee,
            partitioner,
            most_bytes: usize::try_from(most_bytes).unwrap_or(usize::MAX),
            codec,
            own_time: table.metadata.values().any(|key| key == "timestamp"),
            transaction,
            client,
            table: table.name.clone(),
        })
    }

    pub fn is_exact(&self) -> bool {
        self.guarantee == Guarantee::ExactlyOnce
    }

    /// The configuration of the client that produces, with batches of so many bytes at most.
    pub fn producer(&self, most_batch: Option<usize>) -> ClientConfig {
        let mut config = self.client.clone();
        if let Some(most) = most_batch {
            config.set(BATCH_BYTES, most.to_string());
        }
        if self.is_exact() {
            config.set("transactional.id", &self.identity);
            config.set(
                "transaction.timeout.ms",
                self.transaction.as_millis().to_string(),
            );
        }
        config
    }

    /// Whether batches of this client could be larger than a topic takes that takes so many bytes.
    pub fn exceeds(&self, most_batch: usize) -> bool {
        let own = self
            .client
            .get(BATCH_BYTES)
            .and_then(|own| own.parse().ok());
        own.unwrap_or(DEFAULT_BATCH_BYTES) > most_batch
    }

    /// What a record weighs beside its own bytes and headers: lengths, offsets, the batch's head, and the headers of the table's own; about,
    /// and not less.
    pub fn overhead(&self) -> usize {
        let own = match self.is_exact() {
            true => JOB_HEADER.len() + self.identity.len() + EPOCH_HEADER.len() + LONGEST_MARK,
            false => 0,
        };
        OVERHEAD + own
    }

    /// The configuration of the client that reads marks and headers.
    pub fn reader(&self) -> ClientConfig {
        let mut config = self.client.clone();
        config.set("group.id", &self.identity);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "true");
        config
    }

    /// Where it happened, for messages.
    pub fn place(&self) -> String {
        format!(
            "table '{}', topic '{}' at {}",
            self.table, self.topic, self.servers
        )
    }

    pub fn client_failed(&self, error: rdkafka::error::KafkaError) -> Error {
        Error::job(format!(
            "table '{}': its Kafka client could not be made with these 'properties.*'",
            self.table
        ))
        .caused_by(error)
    }
}
