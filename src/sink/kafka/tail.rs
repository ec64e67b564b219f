//! The records of an epoch, looked for in the topic itself: the mark expires with its group, where nobody has written for a week.

use super::super::rows::Mark;
use super::fault::explain;
use super::line::{EPOCH_HEADER, JOB_HEADER, Reader};
use super::options::Settings;
use crate::error::{Error, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing may come before this is an outage.
const SILENCE: Duration = Duration::from_secs(30);

/// Whether committed records of that epoch are in the topic. Nothing of it is older than `since_ms`, by the clock; records that have the
/// time of their row say nothing of that, so all are looked at.
pub fn holds(settings: &Settings, reader: &Reader, mark: &Mark, since_ms: i64) -> Result<bool> {
    let failed = |error| {
        let reason = reader.context().reason();
        explain(settings, "looking for what was delivered", error, &reason)
    };
    let mut ends = ends(settings, reader).map_err(failed)?;
    if ends.is_empty() {
        return Ok(false);
    }
    let starts = starts(settings, reader, &ends, since_ms).map_err(failed)?;
    let wanted = mark.to_string();
    reader.assign(&starts).map_err(failed)?;
    tracing::info!(
        table = settings.table,
        topic = settings.topic,
        "there is no mark of what was delivered (any more): looking at the topic itself"
    );
    let mut heard = Instant::now();
    let found = loop {
        match reader.poll(Duration::from_millis(200)) {
            Some(Ok(record)) => {
                heard = Instant::now();
                if is_of(&record, &settings.identity, &wanted) {
                    break true;
                }
            }
            // As far as all is committed. Where somebody else's transaction is open behind that, ours is not: it was ended before.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                ends.remove(&partition);
            }
            Some(Err(error)) => return Err(failed(error)),
            None => {}
        }
        if ends.is_empty() {
            break false;
        }
        if heard.elapsed() > SILENCE {
            let error = KafkaError::MessageConsumption(Code::OperationTimedOut);
            return Err(failed(error));
        }
    };
    reader.unassign().map_err(failed)?;
    Ok(found)
}

fn is_of(record: &BorrowedMessage<'_>, identity: &str, mark: &str) -> bool {
    let Some(headers) = record.headers() else {
        return false;
    };
    let has = |key: &str, value: &str| {
        headers
            .iter()
            .any(|header| header.key == key && header.value == Some(value.as_bytes()))
    };
    has(JOB_HEADER, identity) && has(EPOCH_HEADER, mark)
}

/// Where the partitions end that have anything in them.
fn ends(settings: &Settings, reader: &Reader) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let metadata = reader.fetch_metadata(Some(&settings.topic), PATIENCE)?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    let mut ends = BTreeMap::new();
    for partition in partitions.map(|partition| partition.id()) {
        let (low, high) = reader.fetch_watermarks(&settings.topic, partition, PATIENCE)?;
        if high > low {
            ends.insert(partition, high);
        }
    }
    Ok(ends)
}

fn starts(
    settings: &Settings,
    reader: &Reader,
    ends: &BTreeMap<i32, i64>,
    since_ms: i64,
) -> Result<TopicPartitionList, KafkaError> {
    let all = |offset: Offset| {
        let mut list = TopicPartitionList::new();
        for partition in ends.keys() {
            list.add_partition_offset(&settings.topic, *partition, offset)?;
        }
        Ok::<_, KafkaError>(list)
    };
    if settings.own_time {
        return all(Offset::Beginning);
    }
    let found = reader.offsets_for_times(all(Offset::Offset(since_ms.max(0)))?, PATIENCE)?;
    let mut list = TopicPartitionList::new();
    for entry in found.elements() {
        // Where no record is as young as that, there is nothing to look at but the end.
        let offset = match entry.offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            _ => Offset::Offset(ends.get(&entry.partition()).copied().unwrap_or(0)),
        };
        list.add_partition_offset(entry.topic(), entry.partition(), offset)?;
    }
    Ok(list)
}

/// What a reader is asked for that is not there, since nothing is exact.
pub fn without_reader() -> Error {
    Error::bug("a Kafka table without transactions has no mark to make up for")
}
