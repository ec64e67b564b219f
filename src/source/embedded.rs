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
        let embedded = Embedded { cluster };
        for topic in topics {
            embedded.create(topic, partitions)?;
        }
        Ok(embedded)
    }

    pub fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        let created = self.cluster.create_topic(topic, partitions, 1);
        created.map_err(|error| {
            let what = format!("the embedded Kafka could not create topic '{topic}'");
            Error::retry(what).caused_by(error)
        })
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
