//! What is written, `arrow-avro` reads; and what Avro cannot hold is said.

use super::super::testing::World;
use super::*;
use arrow::array::{ListArray, StructArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Int32Type, Schema as Columns, TimeUnit};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use std::sync::Arc;

const URL: &str = "http://registry";

fn table(columns: &SchemaRef, options: &[(&str, &str)]) -> TableSpec {
    let mut world = World::in_memory("kafka", "");
    world.set("avro-confluent.url", URL);
    for (key, value) in options {
        world.set(key, value);
    }
    world.table.schema = Arc::clone(columns);
    world.table
}

fn format(columns: &SchemaRef, options: &[(&str, &str)]) -> Result<AvroFormat> {
    AvroFormat::of(&table(columns, options), columns, RecordPart::Value)
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> RecordBatch {
    let fields = columns
        .iter()
        .map(|(name, column, nullable)| Field::new(*name, column.data_type().clone(), *nullable));
    let schema = Arc::new(Columns::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column, _)| column).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Rows with many types, NULLs among them.
fn rows() -> RecordBatch {
    let lat = Arc::new(Float64Array::from(vec![Some(51.5), None, None])) as ArrayRef;
    let point = Fields::from(vec![Field::new("lat", DataType::Float64, true)]);
    let numbers = [Some(vec![Some(1), None, Some(-3)]), None, Some(vec![])];
    let price = Decimal128Array::from(vec![Some(-12_345), None, Some(128)]);
    let at = TimestampMillisecondArray::from(vec![1_709_294_400_123, -1, 0]);
    batch(vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            true,
        ),
        (
            "int",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(0)])),
            true,
        ),
        (
            "long",
            Arc::new(Int64Array::from(vec![i64::MAX, 2, 3])),
            false,
        ),
        (
            "float",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(0.0)])),
            true,
        ),
        (
            "double",
            Arc::new(Float64Array::from(vec![Some(-0.1), None, Some(0.0)])),
            true,
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("grüße"), None, Some("")])),
            true,
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![
                Some(&[0u8, 255][..]),
                None,
                Some(&[][..]),
            ])),
            true,
        ),
        ("at", Arc::new(at.with_timezone("+00:00")), false),
        (
            "price",
            Arc::new(price.with_precision_and_scale(10, 2).unwrap()),
            true,
        ),
        (
            "numbers",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(numbers)),
            true,
        ),
        (
            "place",
            Arc::new(StructArray::new(
                point,
                vec![lat],
                Some(vec![true, false, true].into()),
            )),
            true,
        ),
    ])
}

#[test]
fn arrow_avro_reads_what_was_written() {
    let rows = rows();
    let format = format(rows.schema_ref(), &[]).unwrap();
    let records = format.rows(&rows).unwrap();
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let id = Fingerprint::load_fingerprint_id(0);
    store.set(id, AvroSchema::new(format.text.clone())).unwrap();
    let mut decoder = ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_active_fingerprint(id)
        .with_batch_size(10)
        .build_decoder()
        .unwrap();
    for record in records.iter().flatten() {
        assert_eq!(decoder.decode(record).unwrap(), record.len());
    }
    let read = decoder.flush().unwrap().unwrap();
    for (at, field) in rows.schema().fields().iter().enumerate() {
        let column = cast(read.column(at), field.data_type()).unwrap();
        assert_eq!(&column, rows.column(at), "{}", field.name());
    }
}

#[test]
fn decimals_have_as_few_bytes_as_java_writes() {
    for (number, size, expected) in [
        (0, None, vec![2, 0]),
        (127, None, vec![2, 127]),
        (128, None, vec![4, 0, 128]),
        (-128, None, vec![2, 128]),
        (-129, None, vec![4, 0xff, 0x7f]),
        (-1, Some(3), vec![0xff, 0xff, 0xff]),
        (1, Some(2), vec![0, 1]),
    ] {
        let mut out = Vec::new();
        put_decimal(&mut out, number, size).unwrap();
        assert_eq!(out, expected, "{number}");
    }
    assert!(put_decimal(&mut Vec::new(), 128, Some(1)).is_err());
}

#[test]
fn a_schema_of_the_users_own_is_written_by() {
    let kind: ArrayRef = Arc::new(StringArray::from(vec![Some("B"), None, Some("Z")]));
    let rows = batch(vec![("kind", kind, true)]);
    let own = r#"{"type":"record","name":"com.Event","fields":[{"name":"kind","type":[{"type":"enum","name":"Kind","symbols":["A","B"]},"null"]}]}"#;
    let strategy = "avro-confluent.properties.value.subject.name.strategy";
    let options = [
        ("avro-confluent.schema", own),
        (strategy, "TopicRecordNameStrategy"),
    ];
    let format = format(rows.schema_ref(), &options).unwrap();
    assert_eq!(format.text, own);
    assert_eq!(format.subject("t", RecordPart::Value), "t-com.Event");
    let records = format.rows(&rows.slice(0, 2)).unwrap();
    assert_eq!(records.value(0)[5..], [0, 2]);
    assert_eq!(records.value(1)[5..], [2], "null is its second branch");
    let error = format.rows(&rows.slice(2, 1)).unwrap_err().to_string();
    assert!(error.contains("column 'kind': 'Z' is no symbol"), "{error}");
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_runs() {
    let column = |data_type| Arc::new(Columns::new(vec![Field::new("c", data_type, true)]));
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let own = r#"{"type":"record","name":"r","fields":[{"name":"c","type":"long"}]}"#;
    for (data_type, options, expected) in [
        (nanos, vec![], "column 'c': Avro holds timestamps"),
        (
            DataType::Int64,
            vec![("avro-confluent.schema", own)],
            "option 'avro-confluent.schema' (line 3, column 5): field 'c': it cannot be null",
        ),
        (
            DataType::Int64,
            vec![("avro-confluent.ssl.truststore.location", "x.jks")],
            "keytool",
        ),
    ] {
        let error = format(&column(data_type), &options).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Job);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
