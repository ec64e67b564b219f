//! Old and new records in one table, bad ones beside them, and what `arrow-avro` has written.

use super::super::testing::{field, lines, records, schema, table};
use super::super::{Decoded, Decoder, Reason, open};
use crate::avro::{Schema as Avro, head, of_columns, put_bytes, put_long};
use crate::source::Records;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int32Array, Int32Builder, Int64Array, ListArray, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use arrow_avro::schema::FingerprintStrategy;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use std::collections::BTreeMap;
use std::sync::Arc;

const FORMAT: [(&str, &str); 2] = [
    ("format", "avro-confluent"),
    ("avro-confluent.url", "http://registry"),
];

fn decoder(columns: &[(&str, DataType)], required: &[bool]) -> Box<dyn Decoder> {
    open(&table(columns, &FORMAT), schema(columns), required).unwrap()
}

/// Records with the schemas of their ids.
fn written(values: &[Vec<u8>], schemas: &[(u32, &str)]) -> Records {
    let found = schemas.iter().map(|(id, text)| {
        let schema = Avro::parse(text, &[]).map(Arc::new);
        (*id, schema)
    });
    Records {
        schemas: Arc::new(found.collect::<BTreeMap<_, _>>()),
        ..records(values)
    }
}

/// A record of this schema: the head, and what `put` appends.
fn record(id: u32, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = head(id).to_vec();
    put(&mut bytes);
    bytes
}

fn fields(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// Decodes one value that was written with a type into one column: what it became, as JSON, or the error.
fn one(of: &str, bytes: &[u8], column: DataType) -> Result<String, String> {
    let schema = fields(&format!(r#"{{"name":"v","type":{of}}}"#));
    let value = record(1, |out| out.extend(bytes));
    let mut decoder = decoder(&[("v", column)], &[false]);
    let decoded = decoder.decode(&written(&[value], &[(1, &schema)])).unwrap();
    match decoded.bad.first() {
        Some(bad) => Err(bad.error.clone()),
        None => Ok(lines(&decoded).concat()),
    }
}

fn reasons(decoded: &Decoded) -> Vec<(u32, Reason)> {
    let bad = decoded.bad.iter();
    bad.map(|bad| (bad.record, bad.reason)).collect()
}

#[test]
fn two_versions_of_a_schema_lie_in_one_table() {
    let one = fields(
        r#"{"name":"id","type":"int"},{"name":"gone","type":{"type":"array","items":"string"}}"#,
    );
    let two = fields(
        r#"{"name":"name","type":["null","string"],"default":null},{"name":"id","type":"long"},
           {"name":"place","type":{"type":"record","name":"p","fields":[{"name":"new","type":"int"},{"name":"lat","type":"float"}]}}"#,
    );
    let place = DataType::Struct(vec![field("lat", DataType::Float64)].into());
    let columns = [
        ("id", DataType::Int64),
        ("place", place),
        ("name", DataType::Utf8),
    ];
    let old = |id: i64| {
        record(7, |out| {
            put_long(out, id);
            put_long(out, 1);
            put_bytes(out, b"x");
            out.push(0);
        })
    };
    let new = |id: i64, lat: f32| {
        record(8, |out| {
            put_long(out, 1);
            put_bytes(out, "ü".as_bytes());
            put_long(out, id);
            put_long(out, 5);
            out.extend(lat.to_le_bytes());
        })
    };
    let values = [old(1), new(1 << 40, 1.5), old(3)];
    let mut decoder = decoder(&columns, &[true, false, false]);
    let decoded = decoder
        .decode(&written(&values, &[(7, &one), (8, &two)]))
        .unwrap();
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    assert_eq!(
        lines(&decoded),
        [
            r#"{"id":1,"place":null,"name":null}"#,
            r#"{"id":1099511627776,"place":{"lat":1.5},"name":"ü"}"#,
            r#"{"id":3,"place":null,"name":null}"#
        ]
    );
}

#[test]
fn a_bad_record_costs_itself_and_says_why() {
    let schema = fields(r#"{"name":"a","type":"string"},{"name":"b","type":["null","int"]}"#);
    let good = |text: &str| {
        record(1, |out| {
            put_bytes(out, text.as_bytes());
            put_long(out, 1);
            put_long(out, 5);
        })
    };
    let without = record(1, |out| {
        put_bytes(out, b"n");
        put_long(out, 0);
    });
    let mut behind = good("more");
    behind.push(0);
    let cut = good("cut off")[..9].to_vec();
    let values = [
        good("first"),
        b"{\"a\":1}".to_vec(),
        record(9, |_| {}),
        cut,
        without,
        behind,
        record(1, |out| {
            put_bytes(out, &[0xff]);
            put_long(out, 0);
        }),
        vec![],
        good("last"),
    ];
    let columns = [("a", DataType::Utf8), ("b", DataType::Int32)];
    let mut decoder = decoder(&columns, &[false, true]);
    let mut records = written(&values, &[(1, &schema)]);
    let mut schemas = (*records.schemas).clone();
    schemas.insert(9, Err("the schema registry does not have it".into()));
    records.schemas = Arc::new(schemas);
    records.push(9, -1, None, None);
    let decoded = decoder.decode(&records).unwrap();
    assert_eq!(
        lines(&decoded),
        [r#"{"a":"first","b":5}"#, r#"{"a":"last","b":5}"#]
    );
    assert_eq!(decoded.nulls, 1, "a record without a value is no bad one");
    assert_eq!(
        reasons(&decoded),
        [
            (1, Reason::Malformed),
            (2, Reason::Malformed),
            (3, Reason::Malformed),
            (4, Reason::MissingValue),
            (5, Reason::Malformed),
            (6, Reason::Malformed),
            (7, Reason::Malformed),
        ]
    );
    for (bad, expected) in decoded.bad.iter().zip([
        "0x7b",
        "schema 9 cannot be used: the schema registry does not have it",
        "column 'a': the record ends in the middle of a value, at byte 6",
        "column 'b': NULL",
        "1 bytes are left",
        "column 'a': the text is not UTF-8, at byte 5",
        "empty",
    ]) {
        assert!(bad.error.contains(expected), "{}", bad.error);
    }
}

#[test]
fn a_column_that_must_have_a_value_finds_none() {
    let schema = fields(r#"{"name":"a","type":"int"}"#);
    let columns = [("a", DataType::Int32), ("b", DataType::Int32)];
    let mut decoder = decoder(&columns, &[false, true]);
    let value = record(1, |out| put_long(out, 5));
    let decoded = decoder.decode(&written(&[value], &[(1, &schema)])).unwrap();
    assert_eq!(reasons(&decoded), [(0, Reason::MissingValue)]);
    assert!(decoded.bad[0].error.contains("column 'b'"));
}

#[test]
fn values_become_what_their_column_is() {
    let millis =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
    let long = |number: i64| {
        let mut out = Vec::new();
        put_long(&mut out, number);
        out
    };
    let fixed =
        r#"{"type":"fixed","name":"f","size":2,"logicalType":"decimal","precision":4,"scale":1}"#;
    for (of, bytes, column, expected) in [
        (r#""int""#, long(7), DataType::Float64, r#"{"v":7.0}"#),
        (r#""long""#, long(7), DataType::Float32, r#"{"v":7.0}"#),
        (r#""bytes""#, vec![2, b'x'], DataType::Utf8, r#"{"v":"x"}"#),
        (
            r#"{"type":"enum","name":"e","symbols":["A","B"]}"#,
            long(1),
            DataType::Utf8,
            r#"{"v":"B"}"#,
        ),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            long(-1),
            millis(None),
            r#"{"v":"1969-12-31 23:59:59.999"}"#,
        ),
        (
            r#"{"type":"long","logicalType":"local-timestamp-millis"}"#,
            long(1),
            millis(Some("UTC")),
            r#"{"v":"1970-01-01 00:00:00.001Z"}"#,
        ),
        (
            r#""long""#,
            long(1),
            millis(None),
            r#"{"v":"1970-01-01 00:00:00.001"}"#,
        ),
        (
            r#"{"type":"long","logicalType":"time-micros"}"#,
            long(1_500),
            DataType::Time32(TimeUnit::Millisecond),
            r#"{"v":"00:00:00.001"}"#,
        ),
        (
            fixed,
            vec![0xff, 0xfb],
            DataType::Decimal128(10, 2),
            r#"{"v":-0.50}"#,
        ),
        (
            r#"["null","int"]"#,
            long(0),
            DataType::Int32,
            r#"{"v":null}"#,
        ),
        (
            r#"["string","int"]"#,
            vec![2, 14],
            DataType::Int32,
            r#"{"v":7}"#,
        ),
    ] {
        assert_eq!(one(of, &bytes, column).as_deref(), Ok(expected), "{of}");
    }
    let too_late = i64::MAX / 1_000;
    for (of, bytes, column, expected) in [
        (
            r#""long""#,
            long(7),
            DataType::Int32,
            "has long here, which cannot be read as INT",
        ),
        (
            r#""int""#,
            long(300),
            DataType::Int8,
            "300 is not a TINYINT",
        ),
        (
            r#"["string","int"]"#,
            vec![0, 0],
            DataType::Int32,
            "has string here",
        ),
        (
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            long(too_late),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            "is not a TIMESTAMP of this precision",
        ),
        (
            r#"{"type":"int","logicalType":"time-millis"}"#,
            long(86_400_000),
            DataType::Time32(TimeUnit::Millisecond),
            "not of one day",
        ),
        (
            fixed,
            vec![0x7f, 0xff],
            DataType::Decimal128(4, 2),
            "too large for a DECIMAL(4, 2)",
        ),
    ] {
        let error = one(of, &bytes, column).unwrap_err();
        assert!(
            error.contains("column 'v'") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn a_schema_of_the_tables_own_has_defaults_and_other_names() {
    let own = fields(
        r#"{"name":"id","type":"long","aliases":["number"]},{"name":"kind","type":["null","string"],"default":null},
           {"name":"tags","type":{"type":"array","items":"string"},"default":["a","b"]}"#,
    );
    let tags = DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)));
    let columns = [
        ("id", DataType::Int64),
        ("kind", DataType::Utf8),
        ("tags", tags),
    ];
    let options = [&FORMAT[..], &[("avro-confluent.schema", &own)]].concat();
    let table = table(&columns, &options);
    let mut decoder = open(&table, schema(&columns), &[true, false, true]).unwrap();
    let old = fields(r#"{"name":"number","type":"int"}"#);
    let value = record(1, |out| put_long(out, 5));
    let decoded = decoder.decode(&written(&[value], &[(1, &old)])).unwrap();
    assert_eq!(
        lines(&decoded),
        [r#"{"id":5,"kind":null,"tags":["a","b"]}"#]
    );
}

#[test]
fn a_name_of_its_own_comes_before_another_name() {
    let own = fields(r#"{"name":"id","type":"long","aliases":["number"]}"#);
    let columns = [("id", DataType::Int64)];
    let options = [&FORMAT[..], &[("avro-confluent.schema", &own)]].concat();
    let mut decoder = open(&table(&columns, &options), schema(&columns), &[true]).unwrap();
    // A writer that had both, for a while.
    for both in [["number", "id"], ["id", "number"]] {
        let names = both.map(|name| format!(r#"{{"name":"{name}","type":"long"}}"#));
        let id = if both[0] == "id" { 1 } else { 2 };
        let value = record(id, |out| {
            both.iter()
                .for_each(|name| put_long(out, if *name == "id" { 5 } else { 6 }));
        });
        let schemas = [(id, &*fields(&names.join(",")))];
        let decoded = decoder.decode(&written(&[value], &schemas)).unwrap();
        assert_eq!(lines(&decoded), [r#"{"id":5}"#], "{both:?}");
    }
}

#[test]
fn elements_without_bytes_are_few() {
    let nulls = r#"{"type":"array","items":"null"}"#;
    let list = || DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let three = one(nulls, &[6, 0], list());
    assert_eq!(three.as_deref(), Ok(r#"{"v":[null,null,null]}"#));
    let blocks = [0xd0, 0x0f].repeat(10_000);
    let error = one(nulls, &blocks, list()).unwrap_err();
    assert!(error.contains("too short for so many"), "{error}");
}

#[test]
fn numbers_that_are_written_in_another_way_are_not_guessed() {
    for of in [
        r#"{"type":"bytes","logicalType":"big-decimal"}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":"2"}"#,
        r#"{"type":"fixed","name":"f","size":1,"logicalType":"decimal","scale":2}"#,
    ] {
        let error = one(of, &[2, 1], DataType::Decimal128(4, 2)).unwrap_err();
        assert!(error.contains("cannot be read as DECIMAL"), "{error}");
    }
    let plain = one(r#""bytes""#, &[2, 1], DataType::Decimal128(4, 2));
    assert_eq!(plain.as_deref(), Ok(r#"{"v":0.01}"#));
}

fn map() -> MapBuilder<StringBuilder, Int32Builder> {
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new())
}

/// Rows with a column of each type, NULLs among them.
pub fn every_type() -> RecordBatch {
    let mut counts = map();
    counts.keys().append_value("a");
    counts.values().append_value(1);
    counts.keys().append_value("b");
    counts.values().append_null();
    counts.append(true).unwrap();
    counts.append(false).unwrap();
    let lat = Arc::new(Float64Array::from(vec![Some(51.5), None])) as ArrayRef;
    let point = Fields::from(vec![Field::new("lat", DataType::Float64, true)]);
    let numbers = [Some(vec![Some(1), None, Some(-3)]), None];
    let price = Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(10, 2);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("small", Arc::new(Int8Array::from(vec![Some(-5), None]))),
        (
            "int",
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        ),
        (
            "long",
            Arc::new(Int64Array::from(vec![Some(i64::MAX), None])),
        ),
        ("float", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        (
            "double",
            Arc::new(Float64Array::from(vec![Some(-0.1), None])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("grüße"), None])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None])),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(19_783), None]))),
        (
            "clock",
            Arc::new(Time32MillisecondArray::from(vec![Some(86_399_999), None])),
        ),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_709_294_400_123), None])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "fine",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
        ),
        ("price", Arc::new(price.unwrap())),
        (
            "numbers",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(numbers)),
        ),
        ("counts", Arc::new(counts.finish())),
        (
            "place",
            Arc::new(StructArray::new(
                point,
                vec![lat],
                Some(vec![true, false].into()),
            )),
        ),
    ];
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

#[test]
fn what_arrow_avro_has_written_is_read() {
    // It has no TINYINT.
    let rows = every_type();
    let names = rows
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect::<Vec<_>>();
    let kept: Vec<usize> = (0..names.len())
        .filter(|at| names[*at] != "small")
        .collect();
    let rows = rows.project(&kept).unwrap();
    let text = of_columns(rows.schema().fields()).unwrap();
    let metadata = [("avro.schema".to_string(), text.clone())].into();
    let writes = Schema::clone(&rows.schema()).with_metadata(metadata);
    let mut encoder = WriterBuilder::new(writes.clone())
        .with_fingerprint_strategy(FingerprintStrategy::Id(7))
        .build_encoder::<AvroSoeFormat>()
        .unwrap();
    let given = RecordBatch::try_new(Arc::new(writes), rows.columns().to_vec()).unwrap();
    encoder.encode(&given).unwrap();
    let values: Vec<Vec<u8>> = encoder.flush().iter().map(|row| row.to_vec()).collect();
    let columns: Vec<(&str, DataType)> = rows
        .schema_ref()
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone()))
        .collect();
    let mut decoder = decoder(&columns, &vec![false; columns.len()]);
    let decoded = decoder.decode(&written(&values, &[(7, &text)])).unwrap();
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    assert_eq!(decoded.batch, rows);
}
