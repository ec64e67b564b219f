//! What rows become as records.

use super::*;
use crate::sql::Options;
use arrow::array::{
    BinaryBuilder, MapBuilder, MapFieldNames, StringArray, StringBuilder, TimestampMillisecondArray,
};

const SERVERS: (&str, &str) = ("properties.bootstrap.servers", "127.0.0.1:1");

fn table(options: &[(&str, &str)]) -> TableSpec {
    let entry = DataType::Struct(
        vec![
            Field::new("keys", DataType::Utf8, false),
            Field::new("values", DataType::Binary, true),
        ]
        .into(),
    );
    let mut all = vec![("connector", "kafka"), ("topic", "t"), SERVERS];
    all.extend(options);
    TableSpec {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("k_name", DataType::Utf8, true),
            Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                true,
            ),
            Field::new(
                "h",
                DataType::Map(Arc::new(Field::new("entries", entry, false)), false),
                true,
            ),
        ])),
        partitioned_by: vec![],
        primary_key: vec![],
        metadata: [("at", "timestamp"), ("h", "headers")]
            .map(|(name, key)| (name.to_string(), key.to_string()))
            .into(),
        options: Options::of(all),
    }
}

fn rows(table: &TableSpec, names: &[Option<&str>]) -> RecordBatch {
    let fields = MapFieldNames {
        entry: "entries".into(),
        key: "keys".into(),
        value: "values".into(),
    };
    let mut headers = MapBuilder::new(Some(fields), StringBuilder::new(), BinaryBuilder::new());
    for name in names {
        if let Some(name) = name {
            headers.keys().append_value("n");
            headers.values().append_value(name);
            headers.append(true).unwrap();
        } else {
            headers.append(false).unwrap();
        }
    }
    let count = names.len() as i64;
    let times = TimestampMillisecondArray::from_iter_values((0..count).map(|n| n * 1000));
    RecordBatch::try_new(
        table.schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(0..count)),
            Arc::new(StringArray::from(names.to_vec())),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(headers.finish()),
        ],
    )
    .unwrap()
}

fn anything() -> Bounds {
    Bounds {
        packed: None,
        overhead: 128,
        most_bytes: usize::MAX,
        times: 0..=i64::MAX,
        where_to: "t".into(),
    }
}

/// `key|value` of each record.
fn made(table: &TableSpec, rows: RecordBatch, kinds: Option<&[i8]>) -> Vec<String> {
    let kinds = kinds.map(|kinds| Int8Array::from(kinds.to_vec()));
    let encoder = Encoder::of(table).unwrap();
    let shaped = encoder.shape(rows, kinds.as_ref(), &anything()).unwrap();
    assert!(shaped.rejected.is_empty());
    let reduced = encoder.reduce(vec![shaped.stored]).unwrap();
    reduced.iter().flat_map(texts).collect()
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let stored = Stored::of(batch).unwrap();
    let text = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).to_string(),
        None => "NULL".to_string(),
    };
    (0..batch.num_rows())
        .map(|row| format!("{}|{}", text(stored.key(row)), text(stored.value(row))))
        .collect()
}

fn check(options: &[(&str, &str)], expected: &[&str]) {
    let table = table(options);
    let rows = rows(&table, &[Some("a"), None]);
    assert_eq!(made(&table, rows, None), expected, "{options:?}");
}

#[test]
fn keys_and_values_are_written_as_flink_does() {
    let json = ("format", "json");
    check(
        &[json],
        &[
            r#"NULL|{"id":0,"k_name":"a"}"#,
            r#"NULL|{"id":1,"k_name":null}"#,
        ],
    );
    check(
        &[
            ("format", "csv"),
            ("csv.field-delimiter", ";"),
            ("key.format", "json"),
            ("key.fields", "id;k_name"),
            ("key.json.encode.ignore-null-fields", "true"),
        ],
        &[r#"{"id":0,"k_name":"a"}|0;a"#, r#"{"id":1}|1;"#],
    );
    let without_key = [
        json,
        ("key.format", "json"),
        ("key.fields", "k_name"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    check(
        &without_key,
        &[r#"{"name":"a"}|{"id":0}"#, r#"{"name":null}|{"id":1}"#],
    );
    check(
        &[json, ("key.format", "raw"), ("key.fields", "k_name")],
        &[
            r#"a|{"id":0,"k_name":"a"}"#,
            r#"NULL|{"id":1,"k_name":null}"#,
        ],
    );
}

#[test]
fn numbers_are_raw_bytes() {
    for (order, expected) in [("big-endian", 1), ("little-endian", 1 << 56)] {
        let table = table(&[
            ("format", "json"),
            ("key.format", "raw"),
            ("key.fields", "id"),
            ("key.raw.endianness", order),
        ]);
        let rows = rows(&table, &[None, None]);
        let shaped = Encoder::of(&table).unwrap();
        let shaped = shaped.shape(rows, None, &anything()).unwrap();
        let key = Stored::of(&shaped.stored).unwrap().key(1).unwrap().to_vec();
        assert_eq!(i64::from_be_bytes(key.try_into().unwrap()), expected);
    }
}

#[test]
fn lines_inside_of_fields_stay_in_their_record() {
    for (format, expected) in [
        ("json", r#"NULL|{"id":0,"k_name":"a\nb"}"#),
        ("csv", "NULL|0,\"a\nb\""),
    ] {
        let table = table(&[("format", format)]);
        let rows = rows(&table, &[Some("a\nb"), Some("c")]);
        let made = made(&table, rows, None);
        assert_eq!((made.len(), made[0].as_str()), (2, expected));
    }
}

#[test]
fn times_and_headers_travel_beside_the_value() {
    let table = table(&[("format", "json")]);
    let rows = rows(&table, &[Some("a"), None]);
    let encoder = Encoder::of(&table).unwrap();
    let shaped = encoder.shape(rows, None, &anything()).unwrap();
    let stored = Stored::of(&shaped.stored).unwrap();
    assert_eq!((stored.time(0), stored.time(1)), (Some(0), Some(1000)));
    assert_eq!(stored.headers(0), [("n", Some(&b"a"[..]))]);
    assert!(stored.headers(1).is_empty());
}

#[test]
fn a_record_that_is_too_large_is_given_back() {
    let table = table(&[("format", "json")]);
    let long = "x".repeat(1000);
    let rows = rows(&table, &[Some("a"), Some(&long), Some("b")]);
    let encoder = Encoder::of(&table).unwrap();
    let shaped = encoder
        .shape(
            rows.clone(),
            None,
            &Bounds {
                packed: None,
                overhead: 128,
                most_bytes: 1100,
                where_to: "topic 't'".into(),
                ..anything()
            },
        )
        .unwrap();
    assert_eq!(shaped.stored.num_rows(), 2);
    assert_eq!(shaped.rejected.len(), 1);
    assert_eq!(shaped.rejected[0].0, rows.slice(1, 1));
    let why = &shaped.rejected[0].1;
    for part in ["topic 't'", "1100", "max.request.size"] {
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_record_whose_time_would_not_be_taken_is_given_back() {
    let table = table(&[("format", "json")]);
    let encoder = Encoder::of(&table).unwrap();
    let times = [
        Some(-1),
        Some(999),
        Some(1_000),
        Some(2_000),
        Some(2_001),
        None,
    ];
    let rows = rows(&table, &[None; 6]);
    let mut columns = rows.columns().to_vec();
    columns[2] = Arc::new(TimestampMillisecondArray::from(times.to_vec()).with_timezone("UTC"));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let bounds = Bounds {
        times: 1_000..=2_000,
        where_to: "topic 't'".into(),
        ..anything()
    };
    let shaped = encoder.shape(rows.clone(), None, &bounds).unwrap();
    let stored = Stored::of(&shaped.stored).unwrap();
    let taken: Vec<_> = (0..shaped.stored.num_rows())
        .map(|row| stored.time(row))
        .collect();
    assert_eq!(taken, [Some(1_000), Some(2_000), None]);
    let expected = [
        (0, "before 1970"),
        (1, "message.timestamp.before.max.ms"),
        (
            4,
            "1970-01-01 00:00:02.001, and topic 't' takes none behind 1970-01-01 00:00:02.000 now: raise message.timestamp.after.max.ms",
        ),
    ];
    assert_eq!(shaped.rejected.len(), expected.len());
    for ((row, why), (at, part)) in shaped.rejected.iter().zip(expected) {
        assert_eq!(*row, rows.slice(at, 1));
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn of_each_key_the_last_row_stays_and_a_deletion_is_a_tombstone() {
    let mut table = table(&[
        ("connector", "upsert-kafka"),
        ("format", "json"),
        ("key.format", "raw"),
    ]);
    table.primary_key = vec!["k_name".into()];
    let names = ["a", "b", "a", "a", "b", "c"].map(Some);
    let kinds = [0, 0, 1, 2, 3, 0];
    assert_eq!(
        made(&table, rows(&table, &names), Some(&kinds)),
        [
            r#"a|{"id":3,"k_name":"a"}"#,
            "b|NULL",
            r#"c|{"id":5,"k_name":"c"}"#
        ]
    );
    // A query that only adds rows has no hidden column.
    assert_eq!(
        made(&table, rows(&table, &names), None),
        [
            r#"a|{"id":3,"k_name":"a"}"#,
            r#"b|{"id":4,"k_name":"b"}"#,
            r#"c|{"id":5,"k_name":"c"}"#
        ]
    );
}

#[test]
fn rows_that_change_others_never_come_to_a_plain_topic() {
    let table = table(&[("format", "json")]);
    let encoder = Encoder::of(&table).unwrap();
    let kinds = Int8Array::from(vec![0, 2]);
    let rows = rows(&table, &[None, None]);
    let shaped = encoder.shape(rows.clone(), Some(&kinds), &anything());
    assert!(shaped.is_err());
    let kinds = Int8Array::from(vec![0, 0]);
    let shaped = encoder.shape(rows, Some(&kinds), &anything());
    assert_eq!(shaped.unwrap().stored.num_rows(), 2);
}

#[test]
fn what_cannot_be_written_is_refused() {
    for (options, expected) in [
        (vec![("format", "raw")], "one column"),
        (
            vec![("format", "json"), ("json.map-null-key.mode", "DROP")],
            "does not know it",
        ),
        (
            vec![
                ("format", "json"),
                ("csv.null-literal", "x"),
                ("nonsense", "x"),
            ],
            "'nonsense'",
        ),
    ] {
        let error = Encoder::of(&table(&options)).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut wrong = table(&[("format", "json")]);
    wrong.metadata.insert("id".into(), "timestamp".into());
    wrong.metadata.remove("at");
    let error = Encoder::of(&wrong).err().unwrap().to_string();
    assert!(error.contains("TIMESTAMP_LTZ(3)"), "{error}");
}
