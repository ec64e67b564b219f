use super::super::super::suite;
use super::*;
use crate::sql::Options;
use crate::sql::functions::to_text;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimeUnit};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Timestamp, doc};

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(of: DataType) -> DataType {
    let pair = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", of, true),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn row() -> DataType {
    let fields = vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, false),
    ];
    DataType::Struct(fields.into())
}

/// A value as the column's text, or why it is none.
fn shown(given: Bson, wanted: DataType) -> String {
    let read = match value(Some(&given), &wanted) {
        Ok(read) => read,
        Err(why) => return why,
    };
    // With a NULL beside it.
    let column = array(vec![Value::Null, read], &wanted).unwrap();
    assert_eq!((column.data_type(), column.len()), (&wanted, 2));
    assert!(column.is_null(0));
    if column.is_null(1) {
        return "NULL".to_owned();
    }
    to_text(&column)
        .unwrap()
        .as_string::<i32>()
        .value(1)
        .to_owned()
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

#[test]
fn numbers_are_read_where_they_fit_and_nowhere_else() {
    use DataType::*;
    for (given, wanted, expected) in [
        (Bson::Int32(7), Int64, "7"),
        (Bson::Int64(7), Int32, "7"),
        (Bson::Double(7.0), Int16, "7"),
        (decimal("7.00"), Int8, "7"),
        (
            decimal("7.0000000000001"),
            Int64,
            "is 7.0000000000001 (Decimal128), no BIGINT",
        ),
        (
            Bson::Int64(1 << 40),
            Int32,
            "is 1099511627776 (Int64), no INT",
        ),
        (Bson::Int32(128), Int8, "is 128 (Int32), no TINYINT"),
        (Bson::Double(7.5), Int64, "is 7.5 (Double), no BIGINT"),
        (Bson::Double(1e18), Int64, "is 1e+18 (Double), no BIGINT"),
        (Bson::String("7".into()), Int64, "is 7 (String), no BIGINT"),
        (Bson::Int32(7), Float64, "7.0"),
        (Bson::Double(0.5), Float32, "0.5"),
        (
            Bson::Int64((1 << 53) + 1),
            Float64,
            "is 9007199254740993 (Int64), no DOUBLE",
        ),
        (decimal("12.345"), Decimal128(10, 2), "12.35"),
        (Bson::Int32(-3), Decimal128(10, 2), "-3.00"),
        (Bson::Double(0.1), Decimal128(10, 2), "0.10"),
        (
            decimal("1E+9"),
            Decimal128(10, 2),
            "is 1E+9 (Decimal128), no DECIMAL(10, 2)",
        ),
        (decimal("NaN"), Decimal128(10, 2), "NULL"),
        (Bson::Boolean(true), Boolean, "TRUE"),
        (Bson::Int32(1), Boolean, "is 1 (Int32), no BOOLEAN"),
        (Bson::Null, Boolean, "NULL"),
        (Bson::Undefined, Utf8, "NULL"),
    ] {
        let text = format!("{given:?} as {wanted}");
        assert_eq!(shown(given, wanted), expected, "{text}");
    }
}

#[test]
fn everything_can_be_a_text() {
    let id = "65a0000000000000000000ff";
    for (given, expected) in [
        (Bson::String("ü".into()), "ü"),
        (Bson::ObjectId(ObjectId::parse_str(id).unwrap()), id),
        (Bson::Int64(5), "5"),
        (Bson::Double(5.0), "5.0"),
        (decimal("1.50"), "1.50"),
        (Bson::Boolean(false), "false"),
        (
            Bson::DateTime(DateTime::from_millis(0)),
            "1970-01-01T00:00:00Z",
        ),
        (Bson::Array(vec![1.into(), Bson::Null]), "[1,null]"),
        (Bson::Document(doc! { "a": { "b": 1 } }), r#"{"a":{"b":1}}"#),
    ] {
        assert_eq!(shown(given, DataType::Utf8), expected);
    }
}

#[test]
fn times_bytes_and_nested_values_are_what_they_are() {
    let millis =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
    let at = Bson::DateTime(DateTime::from_millis(1_704_067_200_123));
    assert_eq!(shown(at.clone(), millis(None)), "2024-01-01 00:00:00.123");
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(shown(at, micros), "2024-01-01 00:00:00.123000");
    let stamp = Timestamp {
        time: 1_704_067_200,
        increment: 3,
    };
    let stamp = Bson::Timestamp(stamp);
    assert_eq!(shown(stamp, millis(None)), "2024-01-01 00:00:00.000");
    let late = Bson::String("2024-01-01".into());
    assert_eq!(
        shown(late, millis(None)),
        "is 2024-01-01 (String), no TIMESTAMP(3)"
    );
    let bytes = Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: b"ab".to_vec(),
    });
    let column = array(
        vec![value(Some(&bytes), &DataType::Binary).unwrap()],
        &DataType::Binary,
    );
    assert_eq!(column.unwrap().as_binary::<i32>().value(0), b"ab");

    let items = Bson::Array(vec![1.into(), Bson::Null]);
    assert_eq!(shown(items.clone(), list(DataType::Int32)), "[1, NULL]");
    assert_eq!(
        shown(1.into(), list(DataType::Int32)),
        "is 1 (Int32), no ARRAY<INT>"
    );
    let texts = Bson::Array(vec!["x".into()]);
    assert_eq!(shown(texts, list(DataType::Int32)), "is x (String), no INT");
    let fields = Bson::Document(doc! { "b": "x", "c": 1 });
    assert_eq!(shown(fields.clone(), row()), "(NULL, x)");
    assert_eq!(
        shown(Bson::Document(doc! { "a": 1 }), row()),
        "has a field 'b' that is NOT NULL, and has no value"
    );
    assert_eq!(
        shown(items, row()),
        "is an array, no ROW<a INT, b STRING NOT NULL>"
    );
    assert_eq!(shown(fields, map(DataType::Utf8)), "{b=x, c=1}");
}

fn reader(primary: &[&str], read: &[&str], keys: &[&str]) -> Reader {
    Reader::of(&suite::join(Options::default(), primary, read, keys))
}

#[test]
fn only_documents_with_a_key_are_rows_and_one_that_cannot_be_read_says_why() {
    let reader = reader(&[], &["id", "name"], &["id"]);
    let index = KeyIndex::of(&suite::asked(&[5, 6, 7])).unwrap();
    let documents = [
        doc! { "id": 6, "name": "b" },
        // The server finds a number in an array of them, too.
        doc! { "id": [5, 9], "name": "no" },
        doc! { "id": 8, "name": "no" },
        doc! { "name": "no" },
        doc! { "id": 5.0, "name": null },
        doc! { "id": 6_i64 },
    ];
    let found = reader.rows(&documents, &index).unwrap();
    assert_eq!(found.keys, [1, 0, 1]);
    let ids = found.rows["id"].as_primitive::<Int64Type>();
    assert_eq!(ids.values(), &[6, 5, 6]);
    assert!(found.unreadable.is_empty());
    assert_eq!(reader.projection(), doc! { "id": 1, "name": 1, "_id": 0 });

    let strict = Reader {
        read: Arc::new(arrow::datatypes::Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, false),
        ])),
        ..reader
    };
    let found = strict.rows(&documents, &index).unwrap();
    assert_eq!(found.keys, [1]);
    let why: Vec<_> = found.unreadable.iter().map(|(key, _)| *key).collect();
    assert_eq!(why, [0, 1]);
    assert!(
        found.unreadable[0].1.contains("'name' is NOT NULL"),
        "{found:?}"
    );
}

#[test]
fn a_primary_key_may_be_in_the_id_alone() {
    let one = reader(&["id"], &["id", "name"], &["id"]);
    assert_eq!(one.primary_among_keys(), [0]);
    let index = KeyIndex::of(&suite::asked(&[5, 7])).unwrap();
    let documents = [
        doc! { "_id": 5, "name": "by id" },
        doc! { "_id": 6, "id": 7, "name": "by field" },
    ];
    let found = one.rows(&documents, &index).unwrap();
    assert_eq!(found.keys, [0, 1]);
    assert!(one.is_tombstone(&doc! { "_id": 5, "_deleted": DateTime::from_millis(0) }));
    assert!(!one.is_tombstone(&documents[0]));
    assert_eq!(
        one.projection(),
        doc! { "id": 1, "name": 1, "_id": 1, "_deleted": 1 }
    );

    let two = reader(&["city", "id"], &["id", "name", "city"], &["id", "city"]);
    assert_eq!(two.primary_among_keys(), [1, 0]);
    let document = doc! { "_id": { "city": "x", "id": 5 }, "name": "n" };
    assert_eq!(two.field(&document, "id"), Some(&Bson::Int32(5)));
    assert_eq!(
        two.field(&document, "name"),
        Some(&Bson::String("n".into()))
    );
    let part = reader(&["city", "id"], &["id", "city"], &["id"]);
    assert_eq!(
        part.primary_among_keys(),
        [0; 0],
        "not all of it is asked for"
    );
    assert!(!reader(&[], &["id"], &["id"]).is_tombstone(&doc! { "_deleted": 1 }));
}
