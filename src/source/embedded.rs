//! A Kafka cluster inside this process, for `demo` and for tests.
//!
//! It is librdkafka's mock cluster: the real protocol over 127.0.0.1, in memory. It keeps about 5 MB a partition and
//! then drops the oldest records, knows no admin requests and no look-up by timestamp, and keeps no transactions, so it
//! proves nothing about those.

use crate::error::{Error, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A running cluster of one broker; it ends when this is dropped.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// Starts a broker on a free port, with these topics.
    pub fn start(topics: &[&str], partitions: i32) -> Result<Embedded> {
        let cluster = MockCluster::new(1)
            .map_err(|error| Error::retry("the embedded Kafka could not start").caused_by(error))?;
        for topic in topics {
            cluster
                .create_topic(topic, partitions, 1)
                .map_err(|error| {
                    Error::retry(format!(
                        "the embedded Kafka could not create topic '{topic}'"
                    ))
                    .caused_by(error)
                })?;
        }
        Ok(Embedded { cluster })
    }

    /// What to give as `properties.bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The cluster itself, for tests that let it fail.
    #[cfg(test)]
    pub(crate) fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }
}
