use super::*;
use crate::operator::changes::Kind;
use arrow::array::{
    BooleanArray, Decimal128Array, Float32Array, Int16Array, Int64Array, ListArray, MapBuilder,
    StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, doc};

fn table(columns: &[(&str, ArrayRef)], key: &[&str]) -> (Encoder, RecordBatch) {
    let columns = columns
        .iter()
        .map(|(name, column)| (*name, Arc::clone(column), true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let table = TableSpec {
        schema: rows.schema(),
        primary_key: key.iter().map(ToString::to_string).collect(),
        ..TableSpec::unknown("t")
    };
    (Encoder::of(&table).unwrap(), rows)
}

fn shaped(columns: &[(&str, ArrayRef)], key: &[&str], kinds: Option<&[i8]>) -> Shaped {
    let (encoder, rows) = table(columns, key);
    let kinds = kinds.map(|kinds| Int8Array::from(kinds.to_vec()));
    encoder.shape(rows, kinds.as_ref()).unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn every_type_becomes_what_flink_makes_of_it() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).unwrap();
    let inner = Field::new("b", DataType::Boolean, true);
    let inner_column: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("small", Arc::new(Int16Array::from(vec![-3]))),
        ("big", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
        ("float", Arc::new(Float32Array::from(vec![0.5]))),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![-1230])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        ("text", texts(&[Some("ü")])),
        ("null", texts(&[None])),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"\0\xff"[..]]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![-1]))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
                Some(1),
                None,
            ])])),
        ),
        (
            "row",
            Arc::new(StructArray::from(vec![(Arc::new(inner), inner_column)])),
        ),
        ("map", Arc::new(map.finish())),
    ];
    let Shaped { stored, rejected } = shaped(&columns, &[], None);
    assert!(rejected.is_empty());
    let stored = Stored::of(&stored).unwrap();
    assert_eq!(stored.key(0).unwrap(), None);
    let decimal: mongodb::bson::Decimal128 = "-12.30".parse().unwrap();
    let bytes = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0, 0xff],
    };
    let expected = doc! {
        "small": -3, "big": 1_i64 << 40, "float": 0.5, "decimal": decimal, "text": "ü", "null": null, "bytes": bytes,
        "at": DateTime::from_millis(-1), "list": [1, null], "row": { "b": true }, "map": { "k": null },
    };
    assert_eq!(stored.document(0).unwrap(), Some(expected));
}

#[test]
fn a_key_is_a_value_or_a_document_of_several() {
    let columns: [(&str, ArrayRef); 2] = [
        ("a", texts(&[Some("x")])),
        ("b", Arc::new(Int64Array::from(vec![7]))),
    ];
    let key = |names: &[&str]| {
        let shaped = shaped(&columns, names, None);
        Stored::of(&shaped.stored).unwrap().key(0).unwrap()
    };
    assert_eq!(key(&["b"]), Some(doc! { "_id": 7_i64 }));
    assert_eq!(
        key(&["b", "a"]),
        Some(doc! { "_id": { "b": 7_i64, "a": "x" } })
    );
}

#[test]
fn a_key_of_mongodbs_name_is_not_in_the_document_again() {
    let shaped = shaped(
        &[("_id", texts(&[Some("x")])), ("n", texts(&[None]))],
        &["_id"],
        None,
    );
    let stored = Stored::of(&shaped.stored).unwrap();
    assert_eq!(stored.key(0).unwrap(), Some(doc! { "_id": "x" }));
    assert_eq!(stored.document(0).unwrap(), Some(doc! { "n": null }));
}

#[test]
fn deletions_have_a_key_and_nothing_else() {
    let name = texts(&[Some("a"), Some("b"), Some("c")]);
    let kinds = [Kind::UpdateBefore, Kind::Delete, Kind::Insert].map(|kind| kind as i8);
    let shaped = shaped(&[("name", name)], &["name"], Some(&kinds));
    let stored = Stored::of(&shaped.stored).unwrap();
    assert_eq!(shaped.stored.num_rows(), 3);
    assert_eq!(stored.key(1).unwrap(), Some(doc! { "_id": "b" }));
    assert_eq!(stored.document(0).unwrap(), None);
    assert_eq!(stored.document(1).unwrap(), None);
    assert_eq!(stored.document(2).unwrap(), Some(doc! { "name": "c" }));
}

#[test]
fn what_cannot_be_a_document_is_given_back() {
    let long = "x".repeat(MOST_BYTES);
    let too_long = shaped(&[("a", texts(&[Some("b"), Some(&long)]))], &[], None);
    assert_eq!(too_long.stored.num_rows(), 1);
    assert!(
        too_long.rejected[0].1.contains("MongoDB takes"),
        "{}",
        too_long.rejected[0].1
    );

    let without = shaped(&[("a", texts(&[None, Some("b")]))], &["a"], None);
    assert_eq!(without.stored.num_rows(), 1);
    assert_eq!(without.rejected[0].1, "its key's column 'a' is NULL");

    let digits = Decimal128Array::from(vec![10_i128.pow(37) + 1, 5]);
    let digits = digits.with_precision_and_scale(38, 0).unwrap();
    let digits = shaped(&[("a", Arc::new(digits))], &[], None);
    assert_eq!(digits.stored.num_rows(), 1);
    assert!(
        digits.rejected[0].1.contains("34"),
        "{}",
        digits.rejected[0].1
    );
}
