//! The `csv` and `raw` formats, case by case.

use super::testing::{decoder, lines, one, records, schema, table};
use arrow::datatypes::{DataType, TimeUnit};

fn columns() -> Vec<(&'static str, DataType)> {
    let at = DataType::Timestamp(TimeUnit::Millisecond, None);
    vec![
        ("id", DataType::Int32),
        ("entry", DataType::Utf8),
        ("at", at),
    ]
}

fn read(options: &[(&str, &str)], record: &str) -> Result<String, String> {
    let options: Vec<_> = [("format", "csv")].iter().chain(options).copied().collect();
    let decoded = decoder(&columns(), &options)
        .decode(&records([record]))
        .unwrap();
    match decoded.bad.first() {
        Some(bad) => Err(bad.error.clone()),
        None => Ok(lines(&decoded).concat()),
    }
}

#[test]
fn quotes_keep_what_is_inside_them() {
    let row = |entry| {
        Ok(format!(
            r#"{{"id":1,"entry":"{entry}","at":"2024-01-01 12:00:00"}}"#
        ))
    };
    let at = "2024-01-01 12:00:00";
    assert_eq!(read(&[], &format!("1,plain,{at}")), row("plain"));
    assert_eq!(
        read(&[], &format!("1,\"signs of flu, and\nmore\",{at}\r\n")),
        row(r"signs of flu, and\nmore")
    );
    assert_eq!(
        read(&[], &format!(" 1 ,\"a \"\"word\"\"\" ,{at}")),
        row(r#"a \"word\""#)
    );
    assert_eq!(
        read(&[], &format!("1,a \"word\",{at}")),
        row(r#"a \"word\""#)
    );
    assert_eq!(
        read(&[("csv.field-delimiter", "\\t")], &format!("1\ta,b\t{at}")),
        row("a,b")
    );
    assert_eq!(
        read(
            &[
                ("csv.field-delimiter", "ä"),
                ("csv.disable-quote-character", "true")
            ],
            &format!("1äö,öä{at}")
        ),
        row("ö,ö")
    );
    assert_eq!(
        read(&[("csv.quote-character", "'")], &format!("1,'a,b',{at}")),
        row("a,b")
    );
    assert_eq!(
        read(
            &[("csv.disable-quote-character", "true")],
            &format!("1,\"a\",{at}")
        ),
        row(r#"\"a\""#)
    );
    assert_eq!(
        read(
            &[("csv.escape-character", "\\")],
            &format!("1,a\\,\\n\"\\\\,{at}")
        ),
        row(r#"a,\n\"\\"#)
    );
}

#[test]
fn errors_name_the_column_and_the_byte() {
    let at = "2024-01-01 12:00:00";
    for (record, error) in [
        (
            format!("x,a,{at}"),
            r#"column 'id': "x" is not an INT, at byte 0"#,
        ),
        (
            format!(",a,{at}"),
            r#"column 'id': "" is not an INT, at byte 0"#,
        ),
        (
            "1,a,2024-01-01".to_owned(),
            r#"column 'at': "2024-01-01" is not a TIMESTAMP(3) like '2024-03-01 12:30:00.123', at byte 4"#,
        ),
        (
            "1,a".to_owned(),
            "the record has 2 fields, the table 3 columns, at byte 3",
        ),
        (
            format!("1,a,{at},"),
            "the record has 4 fields, the table 3 columns, at byte 24",
        ),
        (
            format!("1,\"a,{at}"),
            "a field in quotes does not end, at byte 2",
        ),
        (
            format!("1,\"a\"b,{at}"),
            "expected ',' behind a field in quotes, found 'b', at byte 5",
        ),
    ] {
        assert_eq!(read(&[], &record), Err(error.to_owned()), "{record}");
    }
}

#[test]
fn nulls_comments_headers_and_ignored_errors() {
    assert_eq!(
        read(&[("csv.null-literal", "n/a")], "n/a,,n/a").as_deref(),
        Ok(r#"{"id":null,"entry":"","at":null}"#)
    );
    assert_eq!(
        read(&[("csv.allow-comments", "true")], "# 1,2").as_deref(),
        Ok("")
    );
    assert!(read(&[], "# 1,2").is_err());
    assert_eq!(read(&[], "").as_deref(), Ok(""));
    let ignore = ("csv.ignore-parse-errors", "true");
    assert_eq!(
        read(&[ignore], "x,a").as_deref(),
        Ok(r#"{"id":null,"entry":"a","at":null}"#)
    );

    let options = [("format", "csv"), ("tributary.csv.header", "true")];
    let columns = [("id", DataType::Int32)];
    let decoded = decoder(&columns, &options)
        .decode(&records(["id", "7"]))
        .unwrap();
    assert_eq!(
        (lines(&decoded), decoded.nulls),
        (vec![r#"{"id":7}"#.to_owned()], 1)
    );
}

#[test]
fn a_column_is_found_by_its_place_in_the_table() {
    let columns = columns();
    let mut table = table(&columns, &[("format", "csv")]);
    let mut decoder = super::open(&table, schema(&columns[1..2]), &[true]).unwrap();
    let decoded = decoder.decode(&records(["x,a,y", "1,b"])).unwrap();
    assert_eq!(
        (lines(&decoded), decoded.bad.len()),
        (vec![r#"{"entry":"a"}"#.to_owned()], 1)
    );
    // A partition column is not in the record.
    table.partitioned_by.push("id".to_owned());
    let mut decoder = super::open(&table, schema(&columns[1..2]), &[true]).unwrap();
    assert_eq!(
        lines(&decoder.decode(&records(["b,y"])).unwrap()),
        [r#"{"entry":"b"}"#]
    );
}

#[test]
fn raw_is_the_whole_value() {
    let raw = &[("format", "raw")];
    assert_eq!(
        one(DataType::Utf8, raw, "a,\"b\"").as_deref(),
        Ok(r#"{"v":"a,\"b\""}"#)
    );
    assert_eq!(one(DataType::Utf8, raw, "").as_deref(), Ok(r#"{"v":""}"#));
    assert_eq!(
        one(DataType::Binary, raw, "\x01").as_deref(),
        Ok(r#"{"v":"01"}"#)
    );
    assert_eq!(
        one(DataType::Int32, raw, "\0\0\x01\x02").as_deref(),
        Ok(r#"{"v":258}"#)
    );
    assert_eq!(
        one(
            DataType::Int16,
            &[raw[0], ("raw.endianness", "little-endian")],
            "\x01\0"
        )
        .as_deref(),
        Ok(r#"{"v":1}"#)
    );
    assert_eq!(
        one(DataType::Int32, raw, "abc").unwrap_err(),
        "column 'v': 3 bytes are not an INT"
    );
    let columns = [("v", DataType::Utf8)];
    let decoded = decoder(&columns, raw)
        .decode(&records([b"\xff".as_slice()]))
        .unwrap();
    assert_eq!(decoded.bad[0].error, "the bytes are not UTF-8, at byte 0");
    let two = [("a", DataType::Utf8), ("b", DataType::Utf8)];
    assert!(super::open(&table(&two, raw), schema(&two), &[false; 2]).is_err());
}
