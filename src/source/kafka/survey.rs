//! Questions to the cluster that take a round trip: which partitions there are, and which offsets the options mean.

use super::super::Split;
use super::connection::Client;
use super::options::{End, Missing, ScanOptions, Start, Topics};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long one question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What the cluster has of the topics that the table names.
pub(super) struct Found {
    /// In order of topic and partition.
    pub splits: Vec<Split>,
    /// Topics that could not be listed, each with the reason.
    pub missing: Vec<(String, String)>,
}

/// The offsets between which a partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// `None` where the group never committed and the options do not say what then.
    pub start: Option<i64>,
    /// The first offset that is not read.
    pub end: Option<i64>,
    /// The partition's own beginning when it was asked.
    pub low: i64,
    /// The partition's own end when it was asked.
    pub high: i64,
}

/// The partitions that are to be read, and the topics that have none yet.
pub(super) fn partitions(client: &Client, options: &ScanOptions) -> KafkaResult<Found> {
    let topics = &options.topics;
    let mut found = Found {
        splits: Vec::new(),
        missing: Vec::new(),
    };
    let listed = match topics {
        Topics::Named(names) => names
            .iter()
            .map(|name| client.fetch_metadata(Some(name), PATIENCE))
            .collect::<KafkaResult<Vec<_>>>()?,
        Topics::Pattern(_) => vec![client.fetch_metadata(None, PATIENCE)?],
    };
    for topic in listed.iter().flat_map(|metadata| metadata.topics()) {
        if let Topics::Pattern(pattern) = topics {
            // The cluster's own topics are never meant by a pattern.
            if topic.name().starts_with("__") || !pattern.is_match(topic.name()) {
                continue;
            }
        }
        match topic.error() {
            None if !topic.partitions().is_empty() => {}
            None => {
                found.missing.push((
                    topic.name().to_string(),
                    "it has no partitions yet".to_string(),
                ));
                continue;
            }
            Some(error) => {
                let reason = RDKafkaErrorCode::from(error).to_string();
                found.missing.push((topic.name().to_string(), reason));
                continue;
            }
        }
        let name: std::sync::Arc<str> = topic.name().into();
        found
            .splits
            .extend(topic.partitions().iter().map(|p| Split {
                topic: name.clone(),
                partition: p.id(),
            }));
    }
    found
        .splits
        .retain(|split| options.share.contains(split.partition));
    found.splits.sort();
    found.splits.dedup();
    Ok(found)
}

/// The offsets that the options mean, at this moment.
pub(super) fn bounds(
    client: &Client,
    splits: &[Split],
    options: &ScanOptions,
) -> KafkaResult<BTreeMap<Split, Bounds>> {
    if splits.is_empty() {
        return Ok(BTreeMap::new());
    }
    let by_group = matches!(options.start, Start::Group | Start::Offsets(_))
        || options.end == Some(End::Group);
    let committed = match by_group && options.has_group {
        true => offsets(client.committed_offsets(list(splits, Offset::Invalid)?, PATIENCE)?)?,
        false => BTreeMap::new(),
    };
    let at = |time: Offset| {
        let asked = list(splits, time)?;
        offsets(client.offsets_for_times(asked, PATIENCE)?)
    };
    let started = match options.start {
        Start::Timestamp(time) => at(Offset::Offset(time))?,
        _ => BTreeMap::new(),
    };
    let ended = match options.end {
        Some(End::Timestamp(time)) => at(Offset::Offset(time))?,
        _ => BTreeMap::new(),
    };
    // In place of a time, the beginning and the end can be asked for: one question for all partitions of a broker.
    let (lows, highs) = (at(Offset::Beginning)?, at(Offset::End)?);
    let mut all = BTreeMap::new();
    for split in splits {
        let (Some(&low), Some(&high)) = (lows.get(split), highs.get(split)) else {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::Partial));
        };
        let start = match &options.start {
            Start::Earliest => Some(low),
            Start::Latest => Some(high),
            Start::Group => committed.get(split).copied().or(match options.missing {
                Missing::Earliest => Some(low),
                Missing::Latest => Some(high),
                Missing::Fail => None,
            }),
            // Where no record is as young as that, the end is meant.
            Start::Timestamp(_) => Some(started.get(split).copied().unwrap_or(high)),
            // As in Flink, a partition that is not listed goes on where the group was.
            Start::Offsets(listed) => {
                let listed = listed.get(&split.partition).or(committed.get(split));
                Some(listed.copied().unwrap_or(low))
            }
        };
        let end = options.end.as_ref().map(|end| match end {
            End::Latest => high,
            End::Group => committed.get(split).copied().unwrap_or(low),
            End::Timestamp(_) => ended.get(split).copied().unwrap_or(high),
            End::Offsets(listed) => listed.get(&split.partition).copied().unwrap_or(high),
        });
        let bounds = Bounds {
            start,
            end,
            low,
            high,
        };
        all.insert(split.clone(), bounds);
    }
    Ok(all)
}

/// Tells a client of topics that it will read. It would find out by itself who leads their partitions, but looks only once a second for
/// those that it did not know when it connected; so where the cluster is away just now, nothing is lost.
pub(super) fn introduce(client: &Client, splits: &[Split]) {
    let topics: BTreeSet<&str> = splits.iter().map(|split| split.topic.as_ref()).collect();
    for topic in topics {
        if client.fetch_metadata(Some(topic), PATIENCE).is_err() {
            return;
        }
    }
}

/// A list of partitions, all at one offset.
pub(super) fn list(splits: &[Split], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(splits.len());
    for split in splits {
        list.add_partition_offset(&split.topic, split.partition, offset)?;
    }
    Ok(list)
}

/// The real offsets of an answer; a partition without one is left out.
fn offsets(list: TopicPartitionList) -> KafkaResult<BTreeMap<Split, i64>> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        element
            .error()
            .map_err(|error| match error.rdkafka_error_code() {
                Some(code) => KafkaError::OffsetFetch(code),
                None => error,
            })?;
        if let Offset::Offset(offset) = element.offset() {
            let split = Split {
                topic: element.topic().into(),
                partition: element.partition(),
            };
            offsets.insert(split, offset);
        }
    }
    Ok(offsets)
}
