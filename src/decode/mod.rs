//! From bytes to columns.
//!
//! A [`Decoder`] is made for the columns that a job uses of one table, and turns a run of records
//! into one batch. Guarantee: each record is judged alone. A bad one costs only itself and is
//! reported with its reason; its neighbours are in the batch, in their order.

mod avro;
mod columns;
mod csv;
#[cfg(test)]
mod csv_tests;
pub mod dead_letters;
mod fault;
#[cfg(test)]
mod habit_tests;
mod json;
#[cfg(test)]
mod json_tests;
mod keyed;
mod names;
mod number;
mod open;
mod quoted;
mod raw;
mod run;
mod scan;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod time;

pub use open::open;
pub use text::decimal_of;

use crate::error::Result;
use crate::source::Records;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use columns::Row;
use fault::{Fault, Parsed};

/// Bytes to columns, for one table; one instance per lane, so it may keep buffers.
pub trait Decoder: Send {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// Decodes the records. Fails only where the job asked to fail on bad data.
    fn decode(&mut self, records: &Records) -> Result<Decoded>;
}

/// What became of a run of records: records = rows' distinct origins + nulls + bad + ignored.
pub struct Decoded {
    pub batch: RecordBatch,
    /// For each row the record it came from; a record can be several rows (a JSON array) or none.
    pub origin: Vec<u32>,
    /// Records in which there is nothing to decode: without a value, a JSON array with no element, an empty JSON
    /// or CSV record, a CSV header or comment.
    pub nulls: u64,
    /// Records passed over because the job set `ignore-parse-errors` to true.
    pub ignored: u64,
    /// Records that could not be decoded. A record that is here has no row in the batch.
    pub bad: Vec<BadRecord>,
}

/// One record that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct BadRecord {
    /// Its place in the run.
    pub record: u32,
    pub reason: Reason,
    /// What is wrong and where, for a person: `column 'heart_rate': 'abc' is not an INT, at byte 57`.
    pub error: String,
}

/// Why a row is in the dead-letter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are not what the table's format says.
    Malformed,
    /// A column that is NOT NULL has no value.
    MissingValue,
    /// The event-time column is NULL.
    NullEventTime,
    /// The event time is further ahead of the clock than `tributary.max-future`.
    FutureEventTime,
    /// The window or join that the row belongs to is closed.
    Late,
    /// What was looked up for the row is not what its table declares.
    Lookup,
    /// The table that the row was written to cannot hold it.
    Sink,
}

impl Reason {
    pub const ALL: [Reason; 7] = [
        Reason::Malformed,
        Reason::MissingValue,
        Reason::NullEventTime,
        Reason::FutureEventTime,
        Reason::Late,
        Reason::Lookup,
        Reason::Sink,
    ];

    /// The word in the `reason` column and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::MissingValue => "missing_value",
            Reason::NullEventTime => "null_event_time",
            Reason::FutureEventTime => "future_event_time",
            Reason::Late => "late",
            Reason::Lookup => "lookup",
            Reason::Sink => "sink",
        }
    }
}

/// One format: how the bytes of one record become rows.
trait Format: Send {
    /// Whether records are text, so that it pays to look at all of them at once.
    const IS_TEXT: bool = true;

    /// A run of records begins.
    fn begin(&mut self, _records: &Records) {}

    /// Appends the rows of one record to columns that hold `rows` rows, and returns how many they are. After a fault the
    /// caller cuts the columns back.
    fn read(&mut self, value: Value, columns: &mut Row, rows: usize) -> Parsed<usize>;
}

/// The bytes of one record.
#[derive(Clone, Copy)]
struct Value<'a> {
    bytes: &'a [u8],
    /// The same as text, where that was found out for the whole run at once.
    text: Option<&'a str>,
    offset: i64,
}

impl<'a> Value<'a> {
    #[inline(always)]
    fn text(&self) -> Parsed<&'a str> {
        match self.text {
            Some(text) => Ok(text),
            None => std::str::from_utf8(self.bytes)
                .map_err(|error| Fault::syntax(error.valid_up_to(), "the bytes are not UTF-8")),
        }
    }
}
