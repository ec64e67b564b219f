//! The `json` format, case by case, and against serde_json on documents and bytes that nobody thought of.

use super::Reason;
use super::testing::{decoder, field, lines, one, records, schema, table};
use crate::error::Kind;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::Arc;

const JSON: &[(&str, &str)] = &[("format", "json")];
const IGNORE: &[(&str, &str)] = &[("format", "json"), ("json.ignore-parse-errors", "true")];

fn row(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(
        fields
            .iter()
            .map(|(name, of)| field(name, of.clone()))
            .collect(),
    )
}

fn list(item: DataType) -> DataType {
    DataType::List(field("item", item))
}

fn map(value: DataType) -> DataType {
    let key = Arc::new(Field::new("key", DataType::Utf8, false));
    let entries = DataType::Struct(Fields::from(vec![key, field("value", value)]));
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

/// Decodes `{"v": value}` for one column.
fn value(data_type: DataType, value: &str) -> Result<String, String> {
    let line = one(data_type, JSON, &format!(r#"{{"v":{value}}}"#))?;
    Ok(line
        .strip_prefix(r#"{"v":"#)
        .unwrap()
        .strip_suffix('}')
        .unwrap()
        .to_owned())
}

#[test]
fn values_are_taken_as_flink_takes_them() {
    use DataType::*;
    let decimal = Decimal128(10, 2);
    let micros = Timestamp(TimeUnit::Microsecond, None);
    let zoned = Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    for (data_type, given, expected) in [
        (Boolean, "true", "true"),
        (Boolean, r#"" True ""#, "true"),
        (Boolean, r#""yes""#, "false"),
        (Boolean, "1", "false"),
        (Int8, "-128", "-128"),
        (Int16, r#""32767""#, "32767"),
        (Int32, "2147483647", "2147483647"),
        (Int32, r#"" 42 ""#, "42"),
        (Int32, "1e5", "100000"),
        (Int32, "-72.9", "-72"),
        (Int64, "-9223372036854775808", "-9223372036854775808"),
        (Int64, "1.5E3", "1500"),
        (Float32, "0.1", "0.1"),
        (Float64, "85.83749561871434", "85.83749561871434"),
        (Float64, r#""1e3""#, "1000.0"),
        (Float64, "7", "7.0"),
        (decimal.clone(), "12.345", "12.35"),
        (decimal.clone(), r#""-1.005""#, "-1.01"),
        (decimal, "123456789012", "null"),
        (Utf8, r#""a\u0041\n\"""#, r#""aA\n\"""#),
        (Utf8, "1.50", r#""1.50""#),
        (Utf8, "false", r#""false""#),
        (
            Utf8,
            r#"{ "a" : [1, "x \" y", { }] }"#,
            r#""{\"a\":[1,\"x \\\" y\",{}]}""#,
        ),
        (Utf8, "null", "null"),
        (Binary, r#""TWFu""#, r#""4d616e""#),
        (Date32, r#""2024-02-29""#, r#""2024-02-29""#),
        (
            Time32(TimeUnit::Millisecond),
            r#""12:30:00.5""#,
            r#""12:30:00.500""#,
        ),
        (
            micros,
            r#""2024-03-01 12:00:00.000001""#,
            r#""2024-03-01 12:00:00.000001""#,
        ),
        (
            zoned,
            r#""2024-03-01 12:00:00Z""#,
            r#""2024-03-01 12:00:00Z""#,
        ),
        (list(Int32), r#"[1, null, "3"]"#, "[1,null,3]"),
        (
            list(list(Utf8)),
            r#"[["a"], [], null]"#,
            r#"[["a"],[],null]"#,
        ),
        (
            map(Int32),
            r#"{"b": 1, "a": 2, "b": 3}"#,
            r#"{"a":2,"b":3}"#,
        ),
        (
            row(&[("x", Int32), ("y", Utf8)]),
            r#"{"z": {}, "y": "k"}"#,
            r#"{"x":null,"y":"k"}"#,
        ),
        (
            row(&[("x", row(&[("y", Boolean)]))]),
            r#"{"x": null}"#,
            r#"{"x":null}"#,
        ),
    ] {
        assert_eq!(
            value(data_type.clone(), given).as_deref(),
            Ok(expected),
            "{data_type} {given}"
        );
    }
}

#[test]
fn errors_name_the_column_and_the_byte() {
    use DataType::*;
    for (data_type, given, expected) in [
        (
            Int32,
            r#""abc""#,
            r#"column 'v': "abc" is not an INT, at byte 6"#,
        ),
        (
            Int32,
            "true",
            r#"column 'v': "true" is not an INT, at byte 5"#,
        ),
        (Int32, "{}", r#"column 'v': "{}" is not an INT, at byte 5"#),
        (
            Int8,
            "1.0",
            r#"column 'v': "1.0" is not a TINYINT, at byte 5"#,
        ),
        (
            Int64,
            "9223372036854775808",
            r#"column 'v': "9223372036854775808" is not a BIGINT, at byte 5"#,
        ),
        (
            Float64,
            "1e999",
            r#"column 'v': "1e999" is not a DOUBLE, at byte 5"#,
        ),
        (
            Float64,
            r#""nan""#,
            r#"column 'v': "nan" is not a DOUBLE, at byte 6"#,
        ),
        (
            Float32,
            "1e39",
            r#"column 'v': "1e39" is not a FLOAT, at byte 5"#,
        ),
        (
            Float64,
            "NaN",
            r#"column 'v': expected a value, found 'N', at byte 5"#,
        ),
        (
            Binary,
            r#""TQ""#,
            r#"column 'v': "TQ" is not base64, as BYTES must be, at byte 6"#,
        ),
        (
            Binary,
            "1",
            r#"column 'v': "1" is not base64, as BYTES must be, at byte 5"#,
        ),
        (
            list(Int32),
            "{}",
            r#"column 'v': "{}" is not an ARRAY, at byte 5"#,
        ),
        (
            list(Int32),
            "3",
            r#"column 'v': "3" is not an ARRAY, at byte 5"#,
        ),
        (
            map(Int32),
            "[]",
            r#"column 'v': "[]" is not a MAP, at byte 5"#,
        ),
        (
            row(&[("x", Int32)]),
            r#"{"x":"k"}"#,
            r#"column 'v.x': "k" is not an INT, at byte 11"#,
        ),
        (
            row(&[("x", Int32)]),
            r#"{"x":1"#,
            "expected ',' or '}', found the end, at byte 12",
        ),
        (
            Timestamp(TimeUnit::Microsecond, None),
            r#""2024-03-01T12:00:00""#,
            r#"column 'v': "2024-03-01T12:00:00" is not a TIMESTAMP(6) like '2024-03-01 12:30:00.123', at byte 6"#,
        ),
    ] {
        let error = value(data_type.clone(), given).unwrap_err();
        assert_eq!(error, expected);
    }
    let long = format!(r#"{{"v":"{}"}}"#, "é".repeat(100));
    assert!(
        one(Int32, JSON, &long)
            .unwrap_err()
            .contains(r#"é"... is not an INT"#)
    );
}

#[test]
fn a_record_is_one_document() {
    let read = |text| one(DataType::Int32, JSON, text);
    assert_eq!(read(" {\"v\" : 1 } \n").as_deref(), Ok(r#"{"v":1}"#));
    assert_eq!(
        read(r#"[{"v":1},null,{"v":2}]"#).as_deref(),
        Ok(r#"{"v":1}{"v":2}"#)
    );
    assert_eq!(
        read(r#"{"\u0076":3}"#).as_deref(),
        Ok(r#"{"v":3}"#),
        "a name can have escapes"
    );
    assert_eq!(
        read(r#"{"v":1,"v":2,"V":3}"#).as_deref(),
        Ok(r#"{"v":2}"#),
        "the last of two, by case"
    );
    for wrong in [
        "null",
        "1",
        "\"x\"",
        " ",
        r#"{"v":1} x"#,
        r#"{"v":1}{"v":2}"#,
        "[1]",
        r#"[{"v":1},]"#,
        "{v:1}",
        r#"{"v":1,}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn one_bad_record_costs_only_itself() {
    let columns = [
        ("id", DataType::Utf8),
        (
            "place",
            row(&[("x", DataType::Float64), ("tags", list(DataType::Utf8))]),
        ),
        ("counts", map(DataType::Int64)),
    ];
    let good =
        |id| format!(r#"{{"id":"{id}","place":{{"x":1.5,"tags":["a","b"]}},"counts":{{"k":1}}}}"#);
    let mut given = records([
        good("first").into_bytes(),
        br#"{"id":"cut","place":{"x":2.5,"tags":["c","#.to_vec(),
        br#"[{"id":"array","counts":{"k":2}},{"id":"bad","counts":{"k":"x"}}]"#.to_vec(),
        b"{\"id\":\"\xff\"}".to_vec(),
        good("last").into_bytes(),
        b"".to_vec(),
        b"[]".to_vec(),
    ]);
    given.push(7, -1, None, None);
    let decoded = decoder(&columns, JSON).decode(&given).unwrap();
    let line =
        |id| format!(r#"{{"id":"{id}","place":{{"x":1.5,"tags":["a","b"]}},"counts":{{"k":1}}}}"#);
    assert_eq!(lines(&decoded), [line("first"), line("last")]);
    assert_eq!(
        (decoded.origin, decoded.nulls, decoded.ignored),
        (vec![0, 4], 3, 0)
    );
    assert_eq!(
        decoded.bad.iter().map(|bad| bad.record).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(
        decoded
            .bad
            .iter()
            .all(|bad| bad.reason == Reason::Malformed)
    );
    assert_eq!(decoded.bad[2].error, "the bytes are not UTF-8, at byte 7");
}

#[test]
fn only_the_columns_asked_for_are_read() {
    let columns = [("a", DataType::Int32), ("b", DataType::Int32)];
    let table = table(&columns, JSON);
    let given = records([r#"{"a":"no number","b":1}"#]);
    let mut decoder = super::open(&table, schema(&columns[1..]), &[false]).unwrap();
    assert_eq!(lines(&decoder.decode(&given).unwrap()), [r#"{"b":1}"#]);
    let mut decoder = super::open(&table, schema(&[]), &[]).unwrap();
    let decoded = decoder.decode(&given).unwrap();
    assert_eq!(
        (decoded.batch.num_rows(), decoded.batch.num_columns()),
        (1, 0),
        "COUNT(*) needs no column"
    );
}

#[test]
fn not_null_is_a_reason_of_its_own() {
    let columns = [("a", DataType::Int32)];
    for options in [JSON, IGNORE] {
        let mut decoder =
            super::open(&table(&columns, options), schema(&columns), &[true]).unwrap();
        let decoded = decoder
            .decode(&records([r#"{"a":null}"#, "{}", r#"{"a":1}"#]))
            .unwrap();
        assert_eq!(lines(&decoded), [r#"{"a":1}"#]);
        assert!(
            decoded
                .bad
                .iter()
                .all(|bad| bad.reason == Reason::MissingValue)
        );
        assert_eq!(
            decoded.bad[1].error,
            "column 'a': NULL or missing, but the column is NOT NULL"
        );
    }
}

#[test]
fn what_happens_on_errors_is_the_jobs_choice() {
    let columns = [("a", DataType::Int32), ("b", list(DataType::Int32))];
    let given = records([
        r#"{"a":"x","b":[1,"x",{}]}"#,
        r#"{"a":1"#,
        r#"{"a":2,"b":[]}"#,
    ]);
    let decoded = decoder(&columns, IGNORE).decode(&given).unwrap();
    assert_eq!(
        lines(&decoded),
        [r#"{"a":null,"b":[1,null,null]}"#, r#"{"a":2,"b":[]}"#]
    );
    assert_eq!((decoded.ignored, decoded.bad.len()), (1, 0));

    let fail = [("format", "json"), ("json.ignore-parse-errors", "false")];
    let mut failing = decoder(&columns, &fail);
    let error = failing.decode(&given).err().unwrap();
    assert_eq!(error.kind(), Kind::Data);
    let text = error.to_string();
    assert!(
        text.starts_with("table 't', offset 0: column 'a': \"x\" is not an INT, at byte 6"),
        "{text}"
    );
    assert_eq!(
        failing
            .decode(&records([r#"{"a":3}"#]))
            .unwrap()
            .batch
            .num_rows(),
        1
    );

    let missing = [
        ("value.format", "json"),
        ("value.json.fail-on-missing-field", "true"),
    ];
    let decoded = decoder(&columns, &missing).decode(&given).unwrap();
    assert_eq!(decoded.bad.len(), 2);
    let decoded = decoder(&columns, &missing)
        .decode(&records([r#"{"a":1}"#]))
        .unwrap();
    assert!(
        decoded.bad[0]
            .error
            .starts_with("column 'b': the field is missing")
    );
}

#[test]
fn options_are_checked() {
    let refused = |options: &[(&str, &str)]| {
        let columns = [("a", DataType::Int32)];
        let error = super::open(&table(&columns, options), schema(&columns), &[false])
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Job);
        error.to_string()
    };
    assert!(refused(&[]).contains("'format' is missing"));
    let in_key = [
        ("format", "json"),
        ("key.format", "avro-confluent"),
        ("key.fields", "a"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    assert!(refused(&in_key).contains("keys of this format are not read"));
    assert!(refused(&[("format", "avro")]).contains("json, csv, raw and avro-confluent"));
    assert!(
        refused(&[("format", "json"), ("json.ignore-errors", "true")])
            .contains("ignore-parse-errors")
    );
    assert!(
        refused(&[("format", "json"), ("json.ignore-parse-errors", "yes")])
            .contains("neither true nor false")
    );
    assert!(
        refused(&[
            ("format", "json"),
            ("json.timestamp-format.standard", "RFC")
        ])
        .contains("ISO-8601")
    );
    assert!(
        refused(&[
            ("format", "json"),
            ("json.fail-on-missing-field", "true"),
            ("json.ignore-parse-errors", "true")
        ])
        .contains("choose one")
    );
}

#[test]
fn a_wide_row_finds_its_fields_in_any_order() {
    let names: Vec<String> = (0..40).map(|at| format!("f{at}")).collect();
    let columns: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), DataType::Int32))
        .collect();
    let fields: Vec<_> = (0..40)
        .rev()
        .map(|at| format!(r#""f{at}":{at},"g{at}":0"#))
        .collect();
    let decoded = decoder(&columns, JSON)
        .decode(&records([format!("{{{}}}", fields.join(","))]))
        .unwrap();
    let values: Vec<_> = decoded
        .batch
        .columns()
        .iter()
        .map(|column| {
            column
                .as_primitive::<arrow::datatypes::Int32Type>()
                .value(0)
        })
        .collect();
    assert_eq!(values, (0..40).collect::<Vec<_>>());
}

/// Any JSON document that a column of one of the types below could meet.
fn document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abc]|\\PC{0,3}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object whose fields are all read: one of each kind.
fn typed() -> impl Strategy<Value = Value> {
    (
        any::<String>(),
        any::<f64>(),
        any::<i64>(),
        prop::option::of(any::<bool>()),
        prop::collection::vec(any::<String>(), 0..4),
    )
        .prop_map(|(a, b, c, d, e)| serde_json::json!({"a": a, "b": b, "c": c, "d": d, "e": e}))
}

fn typed_columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("a", DataType::Utf8),
        ("b", DataType::Float64),
        ("c", DataType::Int64),
        ("d", DataType::Boolean),
        ("e", list(DataType::Utf8)),
    ]
}

/// Changes some bytes of a text.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4);
    (typed(), edits).prop_map(|(value, edits)| {
        let mut bytes = value.to_string().into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, b"{}[]\",:\\0e-. tn"[usize::from(byte) % 15]),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_values_come_out(value in typed(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let decoded = decoder(&typed_columns(), JSON).decode(&records([&text])).unwrap();
        prop_assert!(decoded.bad.is_empty(), "{:?}: {text}", decoded.bad);
        let batch = &decoded.batch;
        prop_assert_eq!(Some(batch["a"].as_string::<i32>().value(0)), value["a"].as_str());
        let double = batch["b"].as_primitive::<arrow::datatypes::Float64Type>().value(0);
        // A double that JSON cannot write is null there.
        prop_assert_eq!(Some(double.to_bits()).filter(|_| batch["b"].is_valid(0)), value["b"].as_f64().map(f64::to_bits));
        prop_assert_eq!(Some(batch["c"].as_primitive::<arrow::datatypes::Int64Type>().value(0)), value["c"].as_i64());
        let truth = batch["d"].as_boolean();
        prop_assert_eq!(truth.is_valid(0).then(|| truth.value(0)), value["d"].as_bool());
        let items = batch["e"].as_list::<i32>().value(0);
        let items: Vec<_> = items.as_string::<i32>().iter().flatten().collect();
        let expected: Vec<_> = value["e"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        prop_assert_eq!(items, expected);
    }

    /// Whatever is in the other fields, they are stepped over, and nested text comes out as the same document.
    #[test]
    fn any_document_is_stepped_over_or_kept_as_text(inner in document()) {
        let text = format!(r#"{{"skipped":{inner},"kept":{inner},"c":7}}"#);
        let columns = [("kept", DataType::Utf8), ("c", DataType::Int64)];
        let decoded = decoder(&columns, JSON).decode(&records([&text])).unwrap();
        prop_assert!(decoded.bad.is_empty(), "{:?}: {text}", decoded.bad);
        prop_assert_eq!(decoded.batch["c"].as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        let kept = decoded.batch["kept"].as_string::<i32>();
        match &inner {
            Value::Null => prop_assert!(kept.is_null(0)),
            Value::String(text) => prop_assert_eq!(kept.value(0), text),
            other => prop_assert_eq!(kept.value(0), other.to_string()),
        }
    }

    /// Broken bytes never cost a neighbour, and are good exactly where serde_json finds them good.
    #[test]
    fn broken_bytes_are_judged_as_serde_json_judges_them(bytes in mutated()) {
        // Every field is a STRING here, so that only the text itself can be wrong.
        let columns: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| (name, DataType::Utf8)).into();
        let good = br#"{"a":"x","e":["y"]}"#;
        let given = records([good.as_slice(), &bytes, good.as_slice()]);
        for options in [JSON, IGNORE] {
            let decoded = decoder(&columns, options).decode(&given).unwrap();
            let mut neighbours = lines(&decoded);
            let origin = &decoded.origin;
            let read = decoded.bad.is_empty() && decoded.ignored == 0;
            prop_assert_eq!((origin.first(), origin.last()), (Some(&0), Some(&2)));
            let (first, last) = (neighbours.remove(0), neighbours.pop());
            prop_assert_eq!(Some(first), last);

            // Flink allows control characters in strings, serde_json does not.
            let plain: Vec<u8> = bytes.iter().map(|byte| if *byte < b' ' { b' ' } else { *byte }).collect();
            let is_rows = |bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
                Ok(Value::Array(items)) => items.iter().all(|item| item.is_object() || item.is_null()),
                Ok(value) => value.is_object(),
                Err(_) => bytes.is_empty(),
            };
            // What is stepped over (a name that no column has, here) may have escapes that mean nothing.
            let lenient = bytes.contains(&b'\\') || text_beyond_doubles(&bytes);
            if read {
                prop_assert!(is_rows(&plain) || lenient, "read, but is not JSON: {:?}", String::from_utf8_lossy(&bytes));
            } else {
                prop_assert!(!is_rows(&bytes), "{:?}: {:?}", decoded.bad, String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// serde_json refuses a number that no double can hold, also where it would be text here.
fn text_beyond_doubles(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let number = |text: &str| text.parse::<f64>().is_ok_and(|value| value.is_infinite());
    text.split(|c: char| !c.is_ascii_alphanumeric() && !".+-".contains(c))
        .any(number)
}
