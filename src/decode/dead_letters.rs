//! Dead letters: rows that could not go on, kept as a table, each with its reason and where it came from.

use super::Reason;
use crate::calendar;
use crate::error::{Error, Result};
use crate::operator::hidden;
use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, StringArray, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// The column that the table of dead letters is partitioned by: the day on which they were written.
pub const PARTITION: &str = "dt";

/// One row or record that could not go on.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    pub reason: Reason,
    /// What is wrong with it, for a person.
    pub error: String,
    /// The table that it was read for.
    pub source: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970, where it has one.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// The record's bytes as they came; of a late row its columns as JSON.
    pub value: Option<Vec<u8>>,
}

/// Where a row came from: what the engine knows of the split whose number is in [`hidden::SPLIT`].
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    pub source: String,
    pub topic: String,
    pub partition: i32,
}

/// The columns of the table, [`PARTITION`] last.
pub fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("reason"),
        text("error"),
        text("source"),
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            true,
        ),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        text(PARTITION),
    ]))
}

/// Collects dead letters into a batch.
#[derive(Default)]
pub struct DeadLetters {
    reason: StringBuilder,
    error: StringBuilder,
    source: StringBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    timestamp: TimestampMillisecondBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
}

impl DeadLetters {
    pub fn len(&self) -> usize {
        self.offset.values_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, letter: &DeadLetter) {
        self.reason.append_value(letter.reason.word());
        self.error.append_value(&letter.error);
        self.source.append_value(&letter.source);
        self.topic.append_value(&letter.topic);
        self.partition.append_value(letter.partition);
        self.offset.append_value(letter.offset);
        // A broker keeps any number that it is sent.
        let timestamp = letter.timestamp.filter(|at_ms| calendar::shows(*at_ms));
        self.timestamp.append_option(timestamp);
        self.key.append_option(letter.key.as_deref());
        self.value.append_option(letter.value.as_deref());
    }

    /// Everything so far as a batch of [`schema`], for the day `dt`; the collection is empty afterwards.
    pub fn finish(&mut self, dt: &str) -> Result<RecordBatch> {
        let days = StringArray::from_iter_values(std::iter::repeat_n(dt, self.len()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.reason.finish()),
            Arc::new(self.error.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.timestamp.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.value.finish()),
            Arc::new(days),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// Each row as one line of JSON, without the hidden columns, with times as SQL writes them. A time that has no date is its number.
pub fn rows_as_json(rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let visible: Vec<usize> = (0..hidden::visible(rows.schema_ref())).collect();
    if visible.is_empty() {
        return Ok(vec![b"{}".to_vec(); rows.num_rows()]);
    }
    let rows = rows.project(&visible)?;
    if calendar::beyond(&rows).is_none() {
        return lines(&rows);
    }
    let each = (0..rows.num_rows()).map(|row| lines(&with_numbers(rows.slice(row, 1))?));
    Ok(each.collect::<Result<Vec<_>>>()?.concat())
}

fn lines(rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.f".to_owned())
        .with_timestamp_tz_format("%Y-%m-%d %H:%M:%S%.fZ".to_owned())
        .build::<_, LineDelimited>(&mut text);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    // A line break inside a value is written as an escape.
    let lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    if lines.len() != rows.num_rows() {
        return Err(Error::bug(format!(
            "{} rows became {} lines of JSON",
            rows.num_rows(),
            lines.len()
        )));
    }
    Ok(lines)
}

/// Columns with times that have no date, as columns of numbers.
fn with_numbers(rows: RecordBatch) -> Result<RecordBatch> {
    let Some((at, _)) = calendar::beyond(&rows) else {
        return Ok(rows);
    };
    let (mut fields, mut columns) = (rows.schema().fields().to_vec(), rows.columns().to_vec());
    let numbers = number_type(fields[at].data_type());
    columns[at] = cast(&columns[at], &numbers)?;
    fields[at] = Arc::new(fields[at].as_ref().clone().with_data_type(numbers));
    with_numbers(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

fn number_type(data_type: &DataType) -> DataType {
    let inside = |field: &FieldRef| {
        let numbers = number_type(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(numbers))
    };
    match data_type {
        DataType::Timestamp(..) => DataType::Int64,
        DataType::Date32 => DataType::Int32,
        DataType::List(item) => DataType::List(inside(item)),
        DataType::Map(entries, sorted) => DataType::Map(inside(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, Int32Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::TimestampMillisecondType;

    fn letter() -> DeadLetter {
        DeadLetter {
            reason: Reason::Malformed,
            error: "expected a value".to_owned(),
            source: "readings".to_owned(),
            topic: "patient_data".to_owned(),
            partition: 3,
            offset: 17,
            timestamp: Some(1_709_294_400_000),
            key: None,
            value: Some(b"{\xff".to_vec()),
        }
    }

    #[test]
    fn a_letter_keeps_the_bytes_and_the_place() {
        let mut letters = DeadLetters::default();
        letters.push(&letter());
        letters.push(&DeadLetter {
            timestamp: None,
            key: Some(b"k".to_vec()),
            ..letter()
        });
        let batch = letters.finish("2024-03-01").unwrap();
        assert_eq!(batch.schema(), schema());
        assert_eq!(batch["reason"].as_string::<i32>().value(0), "malformed");
        assert_eq!(batch["value"].as_binary::<i32>().value(0), b"{\xff");
        assert_eq!(
            batch["timestamp"]
                .as_primitive::<TimestampMillisecondType>()
                .value(0),
            1_709_294_400_000
        );
        assert!(batch["timestamp"].is_null(1) && batch["key"].is_null(0));
        assert_eq!(batch[PARTITION].as_string::<i32>().value(1), "2024-03-01");
        assert!(letters.is_empty());
        assert_eq!(letters.finish("2024-03-01").unwrap().num_rows(), 0);
    }

    #[test]
    fn a_time_without_a_date_is_its_number() {
        let times = |times: [i64; 2]| -> ArrayRef {
            Arc::new(arrow::array::TimestampMillisecondArray::from(
                times.to_vec(),
            ))
        };
        let inside = Arc::new(Field::new("at", times([0, 0]).data_type().clone(), true));
        let row = arrow::array::StructArray::from(vec![(inside, times([i64::MIN, 0]))]);
        let rows = RecordBatch::try_from_iter([
            ("at", times([i64::MAX, 0])),
            ("row", Arc::new(row) as ArrayRef),
        ])
        .unwrap();
        let lines = rows_as_json(&rows).unwrap();
        let text = |row: usize| std::str::from_utf8(&lines[row]).unwrap();
        assert_eq!(
            text(0),
            r#"{"at":9223372036854775807,"row":{"at":-9223372036854775808}}"#
        );
        assert_eq!(
            text(1),
            r#"{"at":"1970-01-01 00:00:00","row":{"at":"1970-01-01 00:00:00"}}"#
        );
        let mut letters = DeadLetters::default();
        letters.push(&DeadLetter {
            timestamp: Some(i64::MAX),
            ..letter()
        });
        assert!(letters.finish("2024-03-01").unwrap()["timestamp"].is_null(0));
    }

    #[test]
    fn a_late_row_is_json_without_hidden_columns() {
        let mut fields = vec![
            Arc::new(Field::new("name", DataType::Utf8, true)),
            Arc::new(Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            )),
        ];
        fields.extend(hidden::fields());
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(StringArray::from(vec![Some("two\nlines"), None])),
                Arc::new(TimestampMicrosecondArray::from(vec![
                    1_709_294_400_000_001,
                    0,
                ])),
                Arc::new(Int32Array::from(vec![0, 1])),
                Arc::new(Int64Array::from(vec![40, 41])),
                Arc::new(Int64Array::from(vec![0, 0])),
            ],
        )
        .unwrap();
        let lines = rows_as_json(&rows).unwrap();
        let text = |row: usize| std::str::from_utf8(&lines[row]).unwrap();
        assert_eq!(
            text(0),
            r#"{"name":"two\nlines","at":"2024-03-01 12:00:00.000001"}"#
        );
        assert_eq!(text(1), r#"{"name":null,"at":"1970-01-01 00:00:00"}"#);
    }
}
