//! Schema registries: what the number in front of a record stands for.
//!
//! A [`Registry`] gives the schema of an id and the id of a schema. [`http`] speaks to one that is Confluent's or compatible, [`memory`] is one
//! for tests, [`patient`] waits for one that is away. Readers ask through [`Schemas`], beside the lanes; tables that are written ask when
//! they are opened and when they deliver.
//!
//! Guarantee: the schema of an id is known for good once it was answered; that there is none, or none that can be read, is known for a minute. An
//! outage is waited out, and no record is judged by it: only where the registry itself says that it has no such id is there none.

mod http;
#[cfg(test)]
pub(crate) mod memory;
mod options;
mod patient;
mod schemas;
#[cfg(test)]
mod suite;

pub use options::{Auth, FORMAT, KNOWN, RecordPart, Settings, Wrong};
pub use schemas::{Around, Found, Schemas, Written};

use crate::error::Result;
use async_trait::async_trait;
use std::sync::Arc;

/// A registry of schemas.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The schema of an id; None where the registry says that it has none.
    async fn schema(&self, id: u32) -> Result<Option<SchemaText>>;

    /// The id of a schema, which is registered under the subject where it is not yet.
    async fn register(&self, subject: &str, schema: &str) -> Result<u32>;

    /// The id of a schema, if it is registered under the subject.
    async fn find(&self, subject: &str, schema: &str) -> Result<Option<u32>>;
}

/// A schema as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    pub text: String,
    /// The schemas that it refers to, each behind those that it needs itself.
    pub references: Vec<String>,
}

/// Opens the registry of a table. Nothing is asked of it yet.
pub type RegistryOpener = Arc<dyn Fn(&Settings) -> Result<Arc<dyn Registry>> + Send + Sync>;

/// Registries as they are in the world.
pub fn over_http() -> RegistryOpener {
    Arc::new(|settings| Ok(Arc::new(http::HttpRegistry::open(settings)?)))
}

/// None at all, where a job runs on tables in memory.
pub fn none() -> RegistryOpener {
    Arc::new(|settings| {
        Err(crate::error::Error::bug(format!(
            "a table in memory asked for the registry at {}",
            settings.name()
        )))
    })
}
