//! What a failure of the cluster asks for: wait, give a right, or change the table.

use super::options::Settings;
use crate::error::{Error, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The failure as an error for the user; `reason` is what the connection said last.
pub fn explain(settings: &Settings, doing: &str, error: KafkaError, reason: &str) -> Error {
    let place = format!("{}: {doing}", settings.place());
    let (topic, identity) = (&settings.topic, &settings.identity);
    let code = code(&error);
    let advice = match code {
        Some(Code::TopicAuthorizationFailed) => Some(format!(
            "the user may not write to it; grant Write and Describe on topic '{topic}'"
        )),
        Some(Code::TransactionalIdAuthorizationFailed) => Some(format!(
            "the user has no right to its transactions; grant Write and Describe on transactional id '{identity}', or say \
             'sink.delivery-guarantee' = 'at-least-once'"
        )),
        Some(Code::GroupAuthorizationFailed) => Some(format!(
            "the user may not keep the mark of what was delivered; grant Read on group '{identity}'"
        )),
        Some(Code::ClusterAuthorizationFailed) => Some(
            "the user may not produce idempotently; grant IdempotentWrite on the cluster".to_string(),
        ),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Some(missing(topic))
        }
        Some(Code::InvalidTopic) => Some("no topic can have this name".to_string()),
        Some(Code::MessageSizeTooLarge) => Some(
            "a record of a committed epoch is larger than the topic takes, or than 'properties.max.request.size' of the table; raise \
             max.message.bytes of the topic, and that option to the same, and start again. Of later ones, what is larger than the lower of \
             both becomes a dead letter"
                .to_string(),
        ),
        Some(Code::InvalidTimestamp) => Some(
            "a record of a committed epoch has a time that the topic does not take; raise message.timestamp.after.max.ms or \
             message.timestamp.before.max.ms of the topic and start again. Later ones become dead letters, where the user may ask for the \
             topic's settings (DescribeConfigs)"
                .to_string(),
        ),
        Some(Code::PolicyViolation | Code::InvalidConfig) => Some(format!(
            "the cluster has rules of its own for topics and records, and refuses this by one of them; make topic '{topic}' as they ask, \
             or have them changed, and start again"
        )),
        Some(Code::InvalidTransactionTimeout) => Some(format!(
            "a transaction may take {} ms here, and the broker's transaction.max.timeout.ms is less; set \
             'properties.transaction.timeout.ms' of the table to that",
            settings.transaction.as_millis()
        )),
        Some(Code::InvalidRecord) => Some(
            "the broker refuses the records as they are; where the topic is compacted, they need a key: 'key.fields' and 'key.format'"
                .to_string(),
        ),
        Some(Code::UnsupportedVersion | Code::UnsupportedFeature) => Some(
            "the broker knows no transactions; say 'sink.delivery-guarantee' = 'at-least-once'".to_string(),
        ),
        _ => None,
    };
    match advice {
        Some(advice) => Error::job(format!("{place}: {advice}")).caused_by(error),
        None if reason.is_empty() => Error::retry(place).caused_by(error),
        None => Error::retry(format!("{place} ({reason})")).caused_by(error),
    }
}

/// What to do about a topic that is not there.
pub fn missing(topic: &str) -> String {
    format!(
        "there is no topic '{topic}'; create it (kafka-topics.sh --create --topic {topic}), or let the broker do so \
         (auto.create.topics.enable)"
    )
}

/// Whether another producer with the same id, or the broker by itself, has ended this one's rights.
pub fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    )
}

pub fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    }
}

/// Puts a thing that a thread was doing back into the hands of whoever waits.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::bug("a thread that talks to Kafka ended").caused_by(error))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::sink::TableSpec;
    use crate::sql::Options;

    fn explained(code: Code) -> Error {
        let table = TableSpec {
            options: Options::of([
                ("connector", "kafka"),
                ("topic", "alerts"),
                ("properties.bootstrap.servers", "broker:9092"),
            ]),
            ..TableSpec::unknown("t")
        };
        let settings = Settings::of(&table, "job").unwrap();
        explain(
            &settings,
            "sending",
            KafkaError::Global(code),
            "connection refused",
        )
    }

    #[test]
    fn what_a_right_or_an_option_would_mend_is_said_with_its_name() {
        for (code, expected) in [
            (
                Code::TopicAuthorizationFailed,
                "Write and Describe on topic 'alerts'",
            ),
            (
                Code::TransactionalIdAuthorizationFailed,
                "transactional id 'tributary-job-t'",
            ),
            (
                Code::GroupAuthorizationFailed,
                "Read on group 'tributary-job-t'",
            ),
            (Code::UnknownTopicOrPartition, "--topic alerts"),
            (Code::InvalidTransactionTimeout, "300000 ms"),
            (Code::MessageSizeTooLarge, "max.message.bytes"),
            (
                Code::InvalidTimestamp,
                "message.timestamp.after.max.ms or message.timestamp.before.max.ms",
            ),
            (Code::PolicyViolation, "make topic 'alerts'"),
        ] {
            let error = explained(code);
            assert_eq!(error.kind(), Kind::Job, "{error}");
            for part in [expected, "broker:9092", "table 't'"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
    }

    #[test]
    fn an_outage_is_waited_out_and_says_why() {
        let error = explained(Code::BrokerTransportFailure);
        assert_eq!(error.kind(), Kind::Retry);
        assert!(error.to_string().contains("connection refused"), "{error}");
    }
}
