//! From rows to records: keys, values, headers and times, as Flink writes them.
//!
//! What is stored with an epoch are the records themselves, so that one that no broker would take is found while its row can still
//! become a dead letter.

use super::options::Codec;
use super::schemas::Named;
use crate::error::{Error, Result};
use crate::registry::{self, RecordPart, Settings};
use crate::sink::avro::AvroFormat;
use crate::sink::options::TableSpec;
use crate::sink::rows::{Shaped, changes};
use crate::sink::text::TextFormat;
use crate::sink::{Rejected, raw::RawFormat};
use crate::time::EventTime;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int8Array, Int64Array, MapArray,
    RecordBatch, RecordBatchOptions,
};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The columns of stored records.
pub const KEY: &str = "key";
pub const VALUE: &str = "value";
const TIME: &str = "timestamp";
const HEADERS: &str = "headers";

const FORMAT: &str = "format";
const KEY_FORMAT: &str = "key.format";
const KEY_FIELDS: &str = "key.fields";
const KEY_PREFIX: &str = "key.fields-prefix";
const INCLUDE: &str = "value.fields-include";

/// How the records of one table are made.
pub struct Encoder {
    upsert: bool,
    key: Option<Part>,
    value: Part,
    time: Option<usize>,
    headers: Option<usize>,
    stored: SchemaRef,
}

/// The key or the value.
struct Part {
    columns: Vec<usize>,
    /// Their names there.
    schema: SchemaRef,
    format: RowFormat,
}

enum RowFormat {
    Text(TextFormat),
    Raw(RawFormat),
    /// With the name of its schema.
    Avro(Box<AvroFormat>, Named),
}

/// Rows that became records, with the bytes of each.
struct Records {
    stored: RecordBatch,
    sizes: Vec<usize>,
}

/// What records may be, where they go to.
pub struct Bounds {
    pub most_bytes: usize,
    /// How they travel, where they do not as they are, and how much a topic takes of what is left then.
    pub packed: Option<(Codec, usize)>,
    /// What each weighs beside its own bytes and headers.
    pub overhead: usize,
    /// Their times, in milliseconds since 1970.
    pub times: RangeInclusive<i64>,
    /// As it is named to who asks why a row was refused.
    pub where_to: String,
}

impl Bounds {
    /// Why a record would not be taken; None where it would.
    fn refusal(&self, bytes: usize, time: Option<i64>) -> Option<String> {
        let where_to = &self.where_to;
        let bytes = bytes + self.overhead;
        if bytes > self.most_bytes {
            return Some(format!(
                "its record has {bytes} bytes, and {where_to} takes {} at most: raise 'properties.max.request.size' of the table and \
                 max.message.bytes of the topic",
                self.most_bytes
            ));
        }
        let time = time.filter(|time| !self.times.contains(time))?;
        let (at, last) = (EventTime(time), EventTime(*self.times.end()));
        Some(if time < 0 {
            format!("the time of its record is {at}, and no record can have one before 1970")
        } else if time < *self.times.start() {
            let first = EventTime(*self.times.start());
            format!(
                "the time of its record is {at}, and {where_to} takes none before {first} now: raise message.timestamp.before.max.ms of \
                 the topic"
            )
        } else {
            format!(
                "the time of its record is {at}, and {where_to} takes none behind {last} now: raise message.timestamp.after.max.ms of the \
                 topic"
            )
        })
    }
}

impl Bounds {
    /// Why a record of so many bytes would not be taken for what compression leaves of its value; only asked of those that are too large as
    /// they are.
    fn packed_refusal(&self, bytes: usize, value: &[u8]) -> Option<String> {
        let (codec, most) = self.packed?;
        let bytes = bytes + self.overhead;
        if bytes <= most {
            return None;
        }
        let left = bytes - value.len() + codec.leaves(value);
        let where_to = &self.where_to;
        (left > most).then(|| {
            format!(
                "its record has {bytes} bytes, of which compression leaves about {left}, and {where_to} takes {most} at most: raise \
                 max.message.bytes of the topic"
            )
        })
    }
}

impl Encoder {
    pub fn of(table: &TableSpec) -> Result<Encoder> {
        let upsert = table.get("connector") == Some("upsert-kafka");
        refuse_unknown(table)?;
        let physical: Vec<usize> = (0..table.schema.fields().len())
            .filter(|&column| {
                !table
                    .metadata
                    .contains_key(table.schema.field(column).name())
            })
            .collect();
        let keys = match upsert {
            true => columns(table, &table.primary_key)?,
            false => columns(table, &table.options.list(KEY_FIELDS))?,
        };
        let without_key = table.options.keys_apart();
        let values = physical.iter().copied();
        let values: Vec<usize> = values
            .filter(|column| !(without_key && keys.contains(column)))
            .collect();
        let prefix = table.get(KEY_PREFIX).unwrap_or_default();
        let key = match keys.is_empty() {
            true => None,
            false => Some(Part::of(&of_key(table), RecordPart::Key, keys, prefix)?),
        };
        let value = Part::of(table, RecordPart::Value, values, "")?;
        let (time, headers) = (
            metadata(table, TIME, is_time)?,
            metadata(table, HEADERS, is_headers)?,
        );
        let bytes = |name: &str, part: Option<&Part>| {
            let field = Field::new(name, DataType::Binary, true);
            match part.and_then(Part::schema_name) {
                Some((named, _)) => field.with_metadata(named.metadata()),
                None => field,
            }
        };
        let mut stored = vec![bytes(KEY, key.as_ref()), bytes(VALUE, Some(&value))];
        if time.is_some() {
            stored.push(Field::new(TIME, DataType::Int64, true));
        }
        if let Some(headers) = headers {
            let data_type = table.schema.field(headers).data_type().clone();
            stored.push(Field::new(HEADERS, data_type, true));
        }
        Ok(Encoder {
            upsert,
            key,
            value,
            time,
            headers,
            stored: Arc::new(Schema::new(stored)),
        })
    }

    /// The schema that this part of the records is written with, and who has to know it.
    pub fn schema_of(&self, part: RecordPart) -> Option<(&Named, &Settings)> {
        let part = match part {
            RecordPart::Key => self.key.as_ref(),
            RecordPart::Value => Some(&self.value),
        };
        part.and_then(Part::schema_name)
    }

    /// The records of rows.
    pub fn shape(
        &self,
        rows: RecordBatch,
        kinds: Option<&Int8Array>,
        bounds: &Bounds,
    ) -> Result<Shaped> {
        let (rows, deletes) = match self.upsert {
            true => (rows, changes::deletes(kinds)),
            false => (changes::only_new(rows, kinds)?, None),
        };
        let mut rejected = Rejected::new();
        let mut made = Vec::new();
        match self.encode(&rows, deletes.as_ref()) {
            Ok(records) => made.push((rows, records)),
            // One of them cannot be written: find out which.
            Err(_) => {
                for row in 0..rows.num_rows() {
                    let one = rows.slice(row, 1);
                    let deletes = deletes.as_ref().map(|deletes| deletes.slice(row, 1));
                    match self.encode(&one, deletes.as_ref()) {
                        Ok(records) => made.push((one, records)),
                        Err(error) => rejected.push((one, error.to_string())),
                    }
                }
            }
        }
        let mut stored = Vec::new();
        for (rows, records) in made {
            let refused = records.refused(bounds)?;
            if refused.is_empty() {
                stored.push(records.stored);
                continue;
            }
            let mut fits = vec![true; rows.num_rows()];
            for (row, why) in refused {
                fits[row] = false;
                rejected.push((rows.slice(row, 1), why));
            }
            let fits = BooleanArray::from(fits);
            stored.push(filter_record_batch(&records.stored, &fits)?);
        }
        Ok(Shaped {
            stored: concat_batches(&self.stored, &stored)?,
            rejected,
        })
    }

    fn encode(&self, rows: &RecordBatch, deletes: Option<&BooleanArray>) -> Result<Records> {
        let keys = match &self.key {
            Some(key) => key.encode(rows)?,
            None => BinaryArray::new_null(rows.num_rows()),
        };
        let mut values = self.value.encode(rows)?;
        if let Some(deletes) = deletes {
            let nothing = BinaryArray::new_null(rows.num_rows());
            let chosen = arrow::compute::kernels::zip::zip(deletes, &nothing, &values)?;
            values = chosen.as_binary::<i32>().clone();
        }
        let headers = self.headers.map(|column| rows.column(column));
        let sizes = (0..rows.num_rows())
            .map(|row| {
                let bytes = |column: &BinaryArray| column.value_length(row) as usize;
                let headers = headers.map_or(0, |headers| headers_bytes(headers.as_map(), row));
                bytes(&keys) + bytes(&values) + headers
            })
            .collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values)];
        if let Some(time) = self.time {
            let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
            let time = cast(&cast(rows.column(time), &millis)?, &DataType::Int64)?;
            columns.push(time);
        }
        columns.extend(headers.cloned());
        Ok(Records {
            stored: RecordBatch::try_new(Arc::clone(&self.stored), columns)?,
            sizes,
        })
    }

    /// Of records with the same key only the last is needed, where they say how things are.
    pub fn reduce(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        match self.upsert {
            true => changes::last_of_each(batches),
            false => Ok(batches),
        }
    }
}

impl Records {
    /// Those that would not be taken, and why.
    fn refused(&self, bounds: &Bounds) -> Result<Vec<(usize, String)>> {
        let stored = Stored::of(&self.stored)?;
        let sizes = self.sizes.iter().enumerate();
        let refused = sizes.filter_map(|(row, size)| {
            let why = bounds.refusal(*size, stored.time(row)).or_else(|| {
                let value = stored.value(row).unwrap_or_default();
                bounds.packed_refusal(*size, value)
            });
            Some((row, why?))
        });
        Ok(refused.collect())
    }
}

/// Stored records, column by column.
pub struct Stored<'a> {
    keys: &'a BinaryArray,
    values: &'a BinaryArray,
    times: Option<&'a Int64Array>,
    headers: Option<&'a MapArray>,
}

impl<'a> Stored<'a> {
    pub fn of(batch: &'a RecordBatch) -> Result<Stored<'a>> {
        let bytes = |name: &str| {
            let column = batch.column_by_name(name)?;
            column.as_binary_opt::<i32>()
        };
        let (Some(keys), Some(values)) = (bytes(KEY), bytes(VALUE)) else {
            return Err(Error::bug("stored rows of a Kafka table are no records"));
        };
        let times = batch.column_by_name(TIME);
        let headers = batch.column_by_name(HEADERS);
        Ok(Stored {
            keys,
            values,
            times: times.and_then(|times| times.as_primitive_opt::<Int64Type>()),
            headers: headers.and_then(|headers| headers.as_map_opt()),
        })
    }

    pub fn key(&self, row: usize) -> Option<&'a [u8]> {
        self.keys.is_valid(row).then(|| self.keys.value(row))
    }

    pub fn value(&self, row: usize) -> Option<&'a [u8]> {
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    pub fn time(&self, row: usize) -> Option<i64> {
        let times = self.times.filter(|times| times.is_valid(row))?;
        Some(times.value(row))
    }

    pub fn headers(&self, row: usize) -> Vec<(&'a str, Option<&'a [u8]>)> {
        let Some(headers) = self.headers.filter(|headers| headers.is_valid(row)) else {
            return Vec::new();
        };
        let (names, values) = (
            headers.keys().as_string::<i32>(),
            headers.values().as_binary::<i32>(),
        );
        let offsets = headers.value_offsets();
        (offsets[row] as usize..offsets[row + 1] as usize)
            .map(|entry| {
                let value = values.is_valid(entry).then(|| values.value(entry));
                (names.value(entry), value)
            })
            .collect()
    }
}

fn headers_bytes(headers: &MapArray, row: usize) -> usize {
    let offsets = headers.value_offsets();
    let (names, values) = (
        headers.keys().as_string::<i32>(),
        headers.values().as_binary::<i32>(),
    );
    (offsets[row] as usize..offsets[row + 1] as usize)
        .map(|entry| (names.value_length(entry) + values.value_length(entry)) as usize + 8)
        .sum()
}

impl Part {
    fn of(table: &TableSpec, part: RecordPart, columns: Vec<usize>, prefix: &str) -> Result<Part> {
        let format = match part {
            RecordPart::Key => KEY_FORMAT,
            RecordPart::Value => FORMAT,
        };
        let fields = columns.iter().map(|&column| {
            let field = table.schema.field(column).clone();
            let name = field.name().strip_prefix(prefix).unwrap_or(field.name());
            let name = name.to_string();
            field.with_name(name)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Part {
            format: match table.required(format)? {
                "json" => RowFormat::Text(TextFormat::json(table, &columns)?),
                "csv" => RowFormat::Text(TextFormat::csv(table, &columns)?),
                "raw" => RowFormat::Raw(RawFormat::of(table, &columns)?),
                registry::FORMAT => {
                    let avro = AvroFormat::of(table, &schema, part)?;
                    let named = Named {
                        subject: avro.subject(table.required("topic")?.trim(), part),
                        schema: avro.text.clone(),
                    };
                    RowFormat::Avro(Box::new(avro), named)
                }
                other => {
                    let why = format!(
                        "'{other}' cannot be written; json, csv, raw and avro-confluent can"
                    );
                    return Err(table.refuse(format, why));
                }
            },
            columns,
            schema,
        })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        let rows = rows.project(&self.columns)?;
        let columns = rows.columns().to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        match &self.format {
            RowFormat::Text(text) => text.rows(&rows),
            RowFormat::Raw(raw) => raw.rows(rows.column(0)),
            RowFormat::Avro(avro, _) => avro.rows(&rows),
        }
    }

    fn schema_name(&self) -> Option<(&Named, &Settings)> {
        match &self.format {
            RowFormat::Avro(avro, named) => Some((named, &avro.settings)),
            _ => None,
        }
    }
}

/// Options that a reader of the table has, or nobody; those that would change what is written and cannot yet are refused.
fn refuse_unknown(table: &TableSpec) -> Result<()> {
    let mut known: Vec<String> = [
        "connector",
        "topic",
        FORMAT,
        KEY_FORMAT,
        KEY_FIELDS,
        KEY_PREFIX,
        INCLUDE,
    ]
    .map(String::from)
    .to_vec();
    for key in TextFormat::JSON_KEYS
        .iter()
        .chain(&TextFormat::CSV_KEYS)
        .chain(&RawFormat::KEYS)
    {
        known.push((*key).to_string());
        known.push(format!("key.{key}"));
    }
    for key in AvroFormat::keys() {
        known.push(format!("key.{key}"));
        known.push(key);
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    table.only(
        &known,
        &[
            "properties.",
            "scan.",
            "sink.",
            "tributary.",
            "client.id.prefix",
            "property-version",
            "json.fail-on-missing-field",
            "json.ignore-parse-errors",
            "json.decode.",
            "csv.ignore-parse-errors",
            "csv.allow-comments",
            "key.json.fail-on-missing-field",
            "key.json.ignore-parse-errors",
            "key.json.decode.",
            "key.csv.ignore-parse-errors",
            "key.csv.allow-comments",
            "avro-confluent.properties.",
            "key.avro-confluent.properties.",
        ],
    )
}

/// The table as the format of its key sees it: `key.json.x` is `json.x` there.
fn of_key(table: &TableSpec) -> TableSpec {
    let mut key = table.clone();
    let formats = ["json.", "csv.", "raw.", "avro-confluent."];
    let entries = std::mem::take(&mut key.options.entries);
    let of_value = |name: &str| formats.iter().any(|format| name.starts_with(format));
    for (name, entry) in entries {
        match name.strip_prefix("key.").filter(|name| of_value(name)) {
            Some(plain) => {
                key.options.entries.insert(plain.to_string(), entry);
            }
            None if of_value(&name) => {}
            None => {
                key.options.entries.insert(name, entry);
            }
        }
    }
    key
}

fn columns(table: &TableSpec, names: &[String]) -> Result<Vec<usize>> {
    let index = |name: &String| {
        table.schema.index_of(name).map_err(|_| {
            Error::job(format!(
                "table '{}': there is no column '{name}' for the key of its records",
                table.name
            ))
        })
    };
    names.iter().map(index).collect()
}

/// The column that fills this part of a record.
fn metadata(table: &TableSpec, key: &str, fits: fn(&DataType) -> bool) -> Result<Option<usize>> {
    let Some((name, _)) = table.metadata.iter().find(|(_, of)| *of == key) else {
        return Ok(None);
    };
    let column = table.schema.index_of(name)?;
    let data_type = table.schema.field(column).data_type();
    if fits(data_type) {
        return Ok(Some(column));
    }
    let wanted = match key {
        TIME => "TIMESTAMP_LTZ(3)",
        _ => "MAP<STRING, BYTES>",
    };
    Err(Error::job(format!(
        "table '{}': column '{name}' fills the {key} of records, so it has to be {wanted}; to only read it, declare it VIRTUAL",
        table.name
    )))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}

fn is_headers(data_type: &DataType) -> bool {
    let DataType::Map(entries, _) = data_type else {
        return false;
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return false;
    };
    let types: Vec<&DataType> = fields.iter().map(|field| field.data_type()).collect();
    types == [&DataType::Utf8, &DataType::Binary]
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
