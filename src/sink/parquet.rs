//! Parquet files that Athena, Trino, Spark, Flink and DuckDB read alike.
//!
//! Timestamps are microseconds (Athena reads no nanoseconds), with `isAdjustedToUTC` for TIMESTAMP_LTZ only. Lists have the three levels
//! `list` and `element`, maps `key_value`. All columns are optional, as Hive declares them. Rows keep their order.
//! The schema of Arrow is not put beside Parquet's own, which says all that matters here.
//!
//! An open file holds its rows as they came until they become a row group, column by column. Writers that stay open beside each other
//! would take more: a compressor has up to half a megabyte of its own, and a file needs one for each column.

use super::encode::{Encoder, Format, Pieces};
use super::files::slice_bytes;
use super::options::TableSpec;
use crate::error::{Error, Result};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use std::sync::Arc;

/// How the files of one table are written.
pub(crate) struct ParquetFormat {
    table: String,
    schema: SchemaRef,
    properties: WriterProperties,
}

/// The names that Parquet prescribes inside lists and maps, in place of Arrow's.
const COERCE_TYPES: bool = true;
/// What the root of the file's schema is called.
const ROOT: &str = "schema";

const COMPRESSION: &str = "tributary.parquet.compression";

/// On the readings of the emergency job zstd's first level is as fast as snappy and its files are a third smaller; level 3 takes
/// twice the time and saves nothing more. See benches/parquet.rs.
const DEFAULT_COMPRESSION: &str = "zstd:1";

/// A dictionary that has grown this large will not pay: the column goes on plain. Ids and measurements get there soon, names and
/// categories never do. With Parquet's usual 1 MiB the same files take up to a third longer to write, and are no smaller.
const DICTIONARY_LIMIT: usize = 128 << 10;

/// So many bytes of rows become a row group, if memory does not get scarce before.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Before a file has its first row group: rows are taken to become smaller by this factor.
const SHRINKS_TO: f64 = 1.0 / 3.0;

impl ParquetFormat {
    pub const KEYS: [&str; 1] = [COMPRESSION];

    /// For files with these columns of the table.
    pub fn of(table: &TableSpec, columns: &[usize]) -> Result<ParquetFormat> {
        let text = table.get(COMPRESSION).unwrap_or(DEFAULT_COMPRESSION);
        let compression = compression(text).ok_or_else(|| {
            let why = format!("'{text}' is not zstd, zstd:1 to zstd:22, snappy or none");
            table.refuse(COMPRESSION, why)
        })?;
        let schema = file_schema(&table.schema.project(columns)?);
        // What Parquet cannot hold is refused when a file is opened.
        let described = described(&schema).ok();
        Ok(ParquetFormat {
            table: table.name.clone(),
            properties: properties(compression, described.as_ref()),
            schema,
        })
    }

    /// The columns as Arrow has them, in the types of the file.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns as Parquet has them in every file that is written so.
    pub fn parquet_schema(&self) -> Result<SchemaDescriptor> {
        described(&self.schema)
    }
}

fn described(schema: &SchemaRef) -> Result<SchemaDescriptor> {
    let converter = ArrowSchemaConverter::new()
        .with_coerce_types(COERCE_TYPES)
        .schema_root(ROOT);
    Ok(converter.convert(schema)?)
}

impl Format for ParquetFormat {
    fn open(&self) -> Result<Box<dyn Encoder>> {
        let options = ArrowWriterOptions::new()
            .with_properties(self.properties.clone())
            .with_skip_arrow_metadata(true)
            .with_schema_root(ROOT.to_string());
        let (writer, columns) =
            ArrowWriter::try_new_with_options(Pieces::default(), self.schema.clone(), options)
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(|error| {
                    let what = "a column's type cannot be written as Parquet";
                    Error::job(format!("table '{}': {what}", self.table)).caused_by(error)
                })?;
        Ok(Box::new(ParquetEncoder {
            schema: self.schema.clone(),
            writer,
            columns,
            pending: Vec::new(),
            pending_bytes: 0,
            encoded_bytes: 0,
        }))
    }

    fn extension(&self) -> &'static str {
        "parquet"
    }
}

/// One open Parquet file.
struct ParquetEncoder {
    schema: SchemaRef,
    writer: SerializedFileWriter<Pieces>,
    columns: ArrowRowGroupWriterFactory,
    /// The rows of the next row group.
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    /// What the rows of all row groups took before.
    encoded_bytes: usize,
}

impl ParquetEncoder {
    fn written(&self) -> usize {
        self.writer.bytes_written()
    }
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.pending_bytes += slice_bytes(rows);
        self.pending.push(rows.clone());
        if self.pending_bytes >= ROW_GROUP_BYTES {
            self.settle()?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let shrinks_to = match self.encoded_bytes {
            0 => SHRINKS_TO,
            encoded => self.written() as f64 / encoded as f64,
        };
        self.written() + (self.pending_bytes as f64 * shrinks_to) as usize
    }

    fn memory(&self) -> usize {
        self.writer.inner().capacity() + self.pending_bytes
    }

    fn pending(&self) -> usize {
        self.pending_bytes
    }

    fn settle(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.pending);
        if batches.is_empty() {
            return Ok(());
        }
        let number = self.writer.flushed_row_groups().len();
        let mut writers = self.columns.create_column_writers(number)?.into_iter();
        let mut group = self.writer.next_row_group()?;
        // A value that has no place in its column would become NULL in silence. Rows with one were turned away before.
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        for (at, field) in self.schema.fields().iter().enumerate() {
            // A column with others inside has a writer for each of them.
            let mut own: Vec<ArrowColumnWriter> = Vec::new();
            for batch in &batches {
                let column = batch.column(at);
                let column = match column.data_type() == field.data_type() {
                    true => column.clone(),
                    false => cast_with_options(column, field.data_type(), &strict)?,
                };
                let leaves = compute_leaves(field, &column)?;
                if own.is_empty() {
                    own.extend(writers.by_ref().take(leaves.len()));
                }
                for (writer, leaf) in own.iter_mut().zip(&leaves) {
                    writer.write(leaf)?;
                }
            }
            for writer in own {
                writer.close()?.append_to_row_group(&mut group)?;
            }
        }
        group.close()?;
        self.encoded_bytes += std::mem::take(&mut self.pending_bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Bytes>> {
        self.settle()?;
        Ok(self.writer.into_inner()?.finish())
    }
}

/// The columns as the file has them.
fn file_schema(table: &Schema) -> SchemaRef {
    let fields = table.fields().iter();
    Arc::new(Schema::new(
        fields
            .map(|field| Field::new(field.name(), file_type(field.data_type()), true))
            .collect::<Vec<_>>(),
    ))
}

/// The type of a column in the file: every timestamp in microseconds, also inside others.
fn file_type(data_type: &DataType) -> DataType {
    let inside = |field: &FieldRef| {
        let changed = field
            .as_ref()
            .clone()
            .with_data_type(file_type(field.data_type()));
        Arc::new(changed)
    };
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(item) => DataType::List(inside(item)),
        DataType::Map(entries, sorted) => DataType::Map(inside(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        other => other.clone(),
    }
}

fn properties(compression: Compression, schema: Option<&SchemaDescriptor>) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by("tributary".to_string())
        .set_compression(compression)
        .set_dictionary_page_size_limit(DICTIONARY_LIMIT)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_coerce_types(COERCE_TYPES);
    for column in schema.into_iter().flat_map(SchemaDescriptor::columns) {
        // Measurements hardly ever come again.
        if matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE) {
            builder = builder.set_column_dictionary_enabled(column.path().clone(), false);
        }
    }
    builder.build()
}

fn compression(text: &str) -> Option<Compression> {
    match text.to_ascii_lowercase().as_str() {
        "zstd" => compression(DEFAULT_COMPRESSION),
        "snappy" => Some(Compression::SNAPPY),
        "none" => Some(Compression::UNCOMPRESSED),
        other => {
            let level = other.strip_prefix("zstd:")?.parse().ok()?;
            Some(Compression::ZSTD(ZstdLevel::try_new(level).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::parquet_rows;
    use super::*;
    use crate::sql::{OptionValue, Options, Place};
    use arrow::array::ArrayRef;
    use arrow::array::{
        Array, AsArray, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder,
        StructArray, TimestampMillisecondArray, TimestampNanosecondArray,
    };
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::schema::printer::print_schema;

    fn millis(zone: Option<&str>) -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into))
    }

    /// A row of every shape.
    fn rows() -> RecordBatch {
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some("a"), None]);
        tags.append_null();
        let mut labels = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        labels.keys().append_value("k");
        labels.values().append_value("v");
        labels.append(true).unwrap();
        labels.append(true).unwrap();
        let place = StructArray::from(vec![
            (
                Arc::new(Field::new("latitude", DataType::Float64, true)),
                Arc::new(arrow::array::Float64Array::from(vec![51.5, -51.5])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("seen", millis(None), true)),
                Arc::new(TimestampMillisecondArray::from(vec![Some(1), None])) as ArrayRef,
            ),
        ]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("dt", Arc::new(StringArray::from(vec!["x", "x"]))),
            (
                "at",
                Arc::new(TimestampMillisecondArray::from(vec![1_500, -1])),
            ),
            (
                "utc",
                Arc::new(TimestampNanosecondArray::from(vec![1_500, 0]).with_timezone("UTC")),
            ),
            ("place", Arc::new(place)),
            ("tags", Arc::new(tags.finish())),
            ("labels", Arc::new(labels.finish())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn written(options: &[(&str, &str)]) -> Bytes {
        let rows = rows();
        let entry = |(key, value): &(&str, &str)| {
            let value = value.to_string();
            (
                key.to_string(),
                OptionValue {
                    value,
                    place: Place::default(),
                },
            )
        };
        let table = TableSpec {
            name: "t".into(),
            schema: rows.schema(),
            partitioned_by: vec!["dt".into()],
            primary_key: vec![],
            metadata: Default::default(),
            options: Options {
                entries: options.iter().map(entry).collect(),
            },
        };
        let columns = [0, 2, 3, 4, 5, 6];
        let mut encoder = ParquetFormat::of(&table, &columns).unwrap().open().unwrap();
        encoder.write(&rows.project(&columns).unwrap()).unwrap();
        assert!(encoder.size() > 0 && encoder.memory() > 0);
        encoder.finish().unwrap().concat().into()
    }

    #[test]
    fn the_schema_is_what_hive_and_athena_expect() {
        let reader = SerializedFileReader::new(written(&[])).unwrap();
        let file = reader.metadata().file_metadata();
        let mut schema = Vec::new();
        print_schema(&mut schema, file.schema());
        assert_eq!(
            String::from_utf8(schema).unwrap(),
            "message schema {
  OPTIONAL INT64 id;
  OPTIONAL INT64 at (TIMESTAMP(MICROS,false));
  OPTIONAL INT64 utc (TIMESTAMP(MICROS,true));
  OPTIONAL group place {
    OPTIONAL DOUBLE latitude;
    OPTIONAL INT64 seen (TIMESTAMP(MICROS,false));
  }
  OPTIONAL group tags (LIST) {
    REPEATED group list {
      OPTIONAL BYTE_ARRAY element (STRING);
    }
  }
  OPTIONAL group labels (MAP) {
    REPEATED group key_value {
      REQUIRED BYTE_ARRAY key (STRING);
      OPTIONAL BYTE_ARRAY value (STRING);
    }
  }
}
"
        );
        assert_eq!(file.created_by(), Some("tributary"));
        assert!(
            file.key_value_metadata().is_none_or(Vec::is_empty),
            "no schema of Arrow's"
        );
        for column in reader.metadata().row_group(0).columns() {
            assert!(column.statistics().is_some(), "{}", column.column_path());
            assert!(
                column.column_index_offset().is_some(),
                "{}",
                column.column_path()
            );
        }
    }

    #[test]
    fn the_values_come_back() {
        let read = parquet_rows(written(&[])).remove(0);
        let original = rows();
        let at = read["at"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(at.values().to_vec(), [1_500_000, -1_000]);
        let utc = read["utc"].as_primitive::<TimestampMicrosecondType>();
        assert_eq!(utc.values().to_vec(), [1, 0]);
        let place = read["place"].as_struct();
        assert_eq!(
            place
                .column(0)
                .as_primitive::<Float64Type>()
                .values()
                .to_vec(),
            [51.5, -51.5]
        );
        assert_eq!(
            place
                .column(1)
                .as_primitive::<TimestampMicrosecondType>()
                .value(0),
            1_000
        );
        assert!(place.column(1).is_null(1));
        assert_eq!(read["tags"].as_list::<i32>().value(0).len(), 2);
        assert!(read["tags"].is_null(1));
        let labels = read["labels"].as_map();
        assert_eq!(labels.keys().as_string::<i32>().value(0), "k");
        assert_eq!(
            labels.value_offsets(),
            original["labels"].as_map().value_offsets()
        );
    }

    #[test]
    fn compression_is_a_choice() {
        let of = |options: &[(&str, &str)]| {
            let reader = SerializedFileReader::new(written(options)).unwrap();
            reader.metadata().row_group(0).column(0).compression()
        };
        assert!(matches!(of(&[]), Compression::ZSTD(_)));
        assert!(matches!(
            of(&[(COMPRESSION, "zstd:3")]),
            Compression::ZSTD(_)
        ));
        assert_eq!(of(&[(COMPRESSION, "snappy")]), Compression::SNAPPY);
        assert_eq!(of(&[(COMPRESSION, "none")]), Compression::UNCOMPRESSED);
    }
}
