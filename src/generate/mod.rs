//! Events to try a job with.
//!
//! A [`Generator`] makes the events of the emergency job: patients whose vital signs wander and sometimes break a threshold,
//! and vehicles that are sent to most of them. Guarantee: the same options give the same events, byte for byte, always.

mod emergency;
mod folder;
mod json;
mod kafka;
mod pace;

pub use emergency::{DISPATCHES, Generator, READINGS};
pub use folder::to_folder;
pub use kafka::to_kafka;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    pub seed: u64,
    /// How many patients there are.
    pub keys: u64,
    /// The share of events whose bytes are no good, in one of several ways.
    pub malformed: f64,
    /// The share of readings that come minutes after the watermark has passed them.
    pub late: f64,
    /// The share of events that come twice.
    pub duplicates: f64,
    /// Event time of the first reading, in milliseconds since 1970.
    pub start_ms: i64,
    /// How much later in event time each reading is.
    pub step_ms: i64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            seed: 1,
            keys: 20,
            malformed: 0.0,
            late: 0.0,
            duplicates: 0.0,
            // 2024-03-01 00:00:00
            start_ms: 1_709_251_200_000,
            step_ms: 10,
        }
    }
}

/// One record for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub topic: &'static str,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// How far event time has come with it.
    pub event_ms: i64,
}
