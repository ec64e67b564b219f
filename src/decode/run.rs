//! The loop over a run of records, the same for every format: each record is read, and where it is bad taken out again.

use super::columns::{Column, Row};
use super::fault::Fault;
use super::{BadRecord, Decoded, Decoder, Format, Reason, Value};
use crate::error::{Error, Result};
use crate::source::Records;
use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// What is done with a record that is not what its format says: the format's `ignore-parse-errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnError {
    /// Not set: it is a dead letter.
    Keep,
    /// Set to true, as in Flink: it is passed over, and counted.
    Ignore,
    /// Set to false: the job fails. Holds the option's name.
    Fail(String),
}

/// A decoder of one table.
pub struct Run<F> {
    pub table: String,
    pub format: F,
    pub schema: SchemaRef,
    pub columns: Row,
    pub on_error: OnError,
}

impl<F: Format> Decoder for Run<F> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, records: &Records) -> Result<Decoded> {
        let bytes = &records.values.bytes;
        // Every offset of an Arrow column is at most this.
        if i32::try_from(bytes.len()).is_err() {
            return Err(Error::bug(format!(
                "table '{}': a run of records has {} bytes",
                self.table,
                bytes.len()
            )));
        }
        // One look at all bytes is much faster than one at each record; it fails only where some record is bad.
        let all_text = match F::IS_TEXT {
            true => simdutf8::basic::from_utf8(bytes).ok(),
            false => None,
        };
        self.format.begin(records);
        let mut origin = Vec::with_capacity(records.len());
        let (mut nulls, mut ignored, mut bad) = (0, 0, Vec::new());
        let mut start = 0;
        for (at, (&end, &offset)) in records.values.ends.iter().zip(&records.offsets).enumerate() {
            let span = std::mem::replace(&mut start, end)..end;
            if !records.has_value[at] {
                nulls += 1;
                continue;
            }
            let text = all_text.and_then(|all| all.get(span.clone()));
            let value = Value {
                bytes: &bytes[span],
                text,
                offset,
            };
            let rows = origin.len();
            let record = at as u32;
            match self.format.read(value, &mut self.columns, rows) {
                Ok(0) => nulls += 1,
                Ok(1) => origin.push(record),
                Ok(read) => origin.extend(std::iter::repeat_n(record, read)),
                Err(fault) => {
                    self.columns.truncate(rows);
                    match (&self.on_error, fault.reason) {
                        (OnError::Ignore, Reason::Malformed) => ignored += 1,
                        (OnError::Fail(option), Reason::Malformed) => {
                            let error = self.failure(option, offset, &fault);
                            self.columns.truncate(0);
                            return Err(error);
                        }
                        (_, reason) => bad.push(BadRecord {
                            record,
                            reason,
                            error: fault.text(),
                        }),
                    }
                }
            }
        }
        debug_assert!(
            self.columns
                .fields
                .iter()
                .all(|column| Column::len(column) == origin.len())
        );
        let arrays = self.columns.finish(self.schema.fields())?;
        let options = RecordBatchOptions::new().with_row_count(Some(origin.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        Ok(Decoded {
            batch,
            origin,
            nulls,
            ignored,
            bad,
        })
    }
}

impl<F> Run<F> {
    #[cold]
    fn failure(&self, option: &str, offset: i64, fault: &Fault) -> Error {
        Error::data(format!(
            "table '{}', offset {offset}: {}; the job fails on it because of '{option}' = 'false': without that \
             option it would become a dead letter",
            self.table,
            fault.text(),
        ))
    }
}
