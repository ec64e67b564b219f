//! The topics of a demo, which are gone with their broker: which there are, and the last record of each, for who wants to see what it was.

use crate::cli::job::Job;
use crate::error::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::Duration;

/// The broker is in this process: it answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// All topics that a job reads or writes.
pub fn of(job: &Job) -> BTreeSet<String> {
    let tables = job.script.tables.iter();
    tables
        .flat_map(|table| table.options.list("topic"))
        .collect()
}

/// Those that it writes.
pub fn written(job: &Job) -> Vec<String> {
    let topics = job.tables.iter();
    topics
        .filter_map(|table| table.options.get("topic").map(str::to_string))
        .collect()
}

/// The newest record of a topic as text, from the first of its partitions that has any.
pub fn last_record(servers: &str, topic: &str, partitions: i32) -> Result<Option<String>> {
    let failed = |error| Error::retry(format!("topic '{topic}' cannot be read")).caused_by(error);
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "demo")
        .set("enable.auto.commit", "false")
        .create()
        .map_err(failed)?;
    for partition in 0..partitions {
        if let Some(text) = last_of(&client, topic, partition).map_err(failed)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn last_of(client: &BaseConsumer, topic: &str, partition: i32) -> KafkaResult<Option<String>> {
    let (low, high) = client.fetch_watermarks(topic, partition, PATIENCE)?;
    if low >= high {
        return Ok(None);
    }
    let mut at = TopicPartitionList::new();
    at.add_partition_offset(topic, partition, Offset::Offset(high - 1))?;
    client.assign(&at)?;
    let record = client.poll(PATIENCE).transpose()?;
    let value = record.as_ref().and_then(Message::payload);
    Ok(value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{self, GenerateOptions, Generator, System};
    use crate::source::embedded::Embedded;

    #[test]
    fn the_last_record_is_found_in_whichever_partition() {
        let broker = Embedded::start(&["user-login", "empty"], 4).unwrap();
        let servers = broker.bootstrap_servers();
        let mut events = Generator::new(System::Login, &GenerateOptions::default());
        let event = events.next().unwrap();
        let sent = [event.clone()];
        generate::to_kafka(&servers, System::Login, sent, 1, None, &mut |_| {}).unwrap();
        let last = last_record(&servers, "user-login", 4).unwrap();
        assert_eq!(last.unwrap().as_bytes(), event.value);
        assert_eq!(last_record(&servers, "empty", 4).unwrap(), None);
    }
}
