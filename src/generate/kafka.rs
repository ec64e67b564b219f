//! Events as records of Kafka topics.

use super::pace::Pace;
use super::{Event, System};
use crate::error::{Error, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Events between two calls of `progress`.
const PROGRESS: u64 = 1024;
/// How long the cluster may take to make topics, and to take what is still to be sent at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so long somebody who waits is told why.
const SOON: Duration = Duration::from_secs(3);

/// Sends up to `count` events to a cluster, making the system's topics where they are missing; says how many were taken.
pub fn to_kafka(
    servers: &str,
    system: System,
    events: impl IntoIterator<Item = Event>,
    count: u64,
    rate: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("client.id", "tributary-generate");
    create_topics(&config, servers, system)?;
    let outcome = Outcome::default();
    let producer: ThreadedProducer<Outcome> = config
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", if rate.is_some() { "5" } else { "20" })
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "131072")
        .create_with_context(outcome.clone())
        .map_err(|error| Error::job(format!("cannot send to '{servers}'")).caused_by(error))?;
    let pace = Pace::new(rate);
    let mut sent = 0;
    let mut events = events.into_iter();
    while sent < count {
        let Some(event) = events.next() else {
            break;
        };
        send(&producer, &event)?;
        sent += 1;
        pace.wait(sent);
        if sent % PROGRESS == 0 {
            outcome.check()?;
            progress(sent);
        }
    }
    producer.flush(PATIENCE).map_err(|error| {
        let left = producer.in_flight_count();
        Error::retry(format!("'{servers}' did not take the last {left} events")).caused_by(error)
    })?;
    outcome.check()?;
    progress(sent);
    Ok(sent)
}

/// Hands one event over; waits while the producer's queue is full.
fn send(producer: &ThreadedProducer<Outcome>, event: &Event) -> Result<()> {
    let mut record = BaseRecord::to(event.topic)
        .key(&event.key)
        .payload(&event.value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.context().check()?;
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => {
                let what = format!("an event for topic '{}' cannot be sent", event.topic);
                return Err(Error::retry(what).caused_by(error));
            }
        }
    }
}

fn create_topics(config: &ClientConfig, servers: &str, system: System) -> Result<()> {
    let failed =
        |error| Error::retry(format!("topics cannot be created at '{servers}'")).caused_by(error);
    let admin: AdminClient<DefaultClientContext> = config
        .clone()
        .set_log_level(RDKafkaLogLevel::Critical)
        .create()
        .map_err(failed)?;
    // Asked about all topics, because asking for one by name may create it, with other partitions.
    let ask = |patience| admin.inner().fetch_metadata(None, patience);
    let there = ask(SOON).or_else(|error| {
        let seconds = PATIENCE.as_secs();
        tracing::warn!(
            servers,
            "Kafka cannot be reached, trying for {seconds} s: {error}"
        );
        ask(PATIENCE).map_err(failed)
    })?;
    let there: Vec<&str> = there.topics().iter().map(|topic| topic.name()).collect();
    let missing = system
        .topics()
        .iter()
        .filter(|topic| !there.contains(&topic.name));
    let topics: Vec<_> = missing
        .map(|topic| NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(-1)))
        .collect();
    if topics.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::retry("no thread could be started").caused_by(error))?;
    match runtime.block_on(admin.create_topics(&topics, &options)) {
        Ok(results) => {
            for result in results {
                match result {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => {
                        return Err(Error::retry(format!(
                            "topic '{topic}' cannot be created at '{servers}': {code}; create it and try again"
                        )));
                    }
                }
            }
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}

/// What became of what was sent.
#[derive(Default, Clone)]
struct Outcome {
    failed: Arc<AtomicU64>,
    first: Arc<Mutex<Option<String>>>,
}

impl Outcome {
    fn check(&self) -> Result<()> {
        match self.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => {
                let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
                let first = first.clone().unwrap_or_default();
                Err(Error::retry(format!(
                    "{failed} events were not taken, the first because of: {first}"
                )))
            }
        }
    }
}

impl ClientContext for Outcome {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!("Kafka, trying again: {error}: {reason}");
    }
}

impl ProducerContext for Outcome {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GenerateOptions, Generator};
    use super::*;
    use crate::source::embedded::Embedded;

    #[test]
    fn every_event_arrives() {
        let topics = System::Retail.topics().iter().map(|topic| topic.name);
        let topics: Vec<_> = topics.collect();
        let cluster = Embedded::start(&topics, 1).unwrap();
        let events = Generator::new(System::Retail, &GenerateOptions::default());
        let mut heard = 0;
        let sent = to_kafka(
            &cluster.bootstrap_servers(),
            System::Retail,
            events,
            3000,
            None,
            &mut |sent| heard = sent,
        );
        assert_eq!(sent.unwrap(), 3000);
        assert_eq!(heard, 3000);
        let client: rdkafka::consumer::BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .unwrap();
        use rdkafka::consumer::Consumer;
        let held = |topic: &&str| client.fetch_watermarks(topic, 0, PATIENCE).unwrap().1;
        assert_eq!(topics.iter().map(held).sum::<i64>(), 3000);
    }
}
