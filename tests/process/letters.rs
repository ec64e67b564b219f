//! Rows that cannot be used, as a whole process keeps and counts them.

use super::place::{Place, until};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// NULL for NOT NULL in a Parquet file has no bytes to keep; the row is kept as JSON, and its neighbours live.
#[test]
fn a_parquet_row_without_a_required_value_is_a_dead_letter() {
    let job = "CREATE TABLE t (id BIGINT NOT NULL, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'parquet');
         CREATE TABLE o (id BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/o', 'format' = 'json');
         INSERT INTO o SELECT id, n FROM t;";
    let place = Place::new();
    let columns: [(&str, ArrayRef); 2] = [
        (
            "id",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        ),
        ("n", Arc::new(Int64Array::from(vec![10, 20, 30]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(
        File::create(place.input("a.parquet")).unwrap(),
        batch.schema(),
        None,
    )
    .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    place.finish(job, &[]);
    assert_eq!(
        place.rows("o"),
        [r#"{"id":1,"n":10}"#, r#"{"id":3,"n":30}"#]
    );
    let books = &place.audit(job)["ledger"];
    let source = &books["sources"]["t"];
    assert_eq!(
        (&source["records"], &source["malformed"], &source["rows"]),
        (&3.into(), &1.into(), &2.into()),
        "{books}"
    );
    let letters = place.query(r#"SELECT reason, error, source, "offset", CAST(value AS VARCHAR) AS value FROM dead_letters"#);
    let letter = serde_json::json!({
        "reason": "missing_value", "error": "column 'id': NULL, but the column is NOT NULL", "source": "t", "offset": 1,
        "value": r#"{"id":null,"n":20}"#
    });
    assert_eq!(letters, [letter]);
}

const TWO_TABLES: &str = "CREATE TABLE t (id BIGINT, city STRING)
    WITH ('connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'json', 'source.monitor-interval' = '5 ms');
    CREATE TABLE o (id BIGINT, city STRING) PARTITIONED BY (city)
    WITH ('connector' = 'filesystem', 'path' = '${LAKE}/o', 'format' = 'json');
    INSERT INTO o SELECT id, city FROM t;";

/// What would stop the job at every start: a value that no disk takes for the name of a folder.
#[test]
fn a_partition_too_long_for_a_folder_is_a_dead_letter() {
    let place = Place::new();
    let line = |id: u32, city: &str| format!("{{\"id\":{id},\"city\":\"{city}\"}}\n");
    let long = "x".repeat(300);
    place.write(
        "1.json",
        &(line(1, "Rome") + &line(2, &long) + &line(3, "Rome")),
    );
    place.finish(TWO_TABLES, &[]);
    assert_eq!(
        place.rows("o"),
        [r#"city=Rome {"id":1}"#, r#"city=Rome {"id":3}"#]
    );
    let books = place.audit(TWO_TABLES)["ledger"]["sinks"]["o"].clone();
    assert_eq!(
        (&books["written"], &books["published"], &books["rejected"]),
        (&3.into(), &2.into(), &1.into()),
        "{books}"
    );
    let letters = place.query(
        "SELECT reason, error, source, topic, CAST(value AS VARCHAR) AS value FROM dead_letters",
    );
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["reason"], &letters[0]["source"]),
        (&"sink".into(), &"t".into())
    );
    assert!(
        letters[0]["topic"].as_str().unwrap().ends_with("1.json"),
        "{}",
        letters[0]
    );
    assert!(
        letters[0]["error"]
            .as_str()
            .unwrap()
            .contains("table 'o': the value of partition column 'city'"),
        "{}",
        letters[0]
    );
    assert_eq!(letters[0]["value"], line(2, &long).trim());

    // A next run counts on.
    place.write("2.json", &line(4, &long));
    place.finish(TWO_TABLES, &[]);
    assert_eq!(
        place.audit(TWO_TABLES)["ledger"]["sinks"]["o"]["rejected"],
        2
    );
}

#[test]
fn counts_of_dead_letters_live_over_a_restart() {
    let place = Place::new();
    place.write("1.json", "{\"id\":1,\"city\":\"Rome\"}\nnothing like it\n");
    place.finish(TWO_TABLES, &[]);
    place.write("2.json", "nor this\n");
    let _running = place.start(TWO_TABLES, &["--http", "127.0.0.1:0"]);
    let address = until(
        "the page's address",
        || address_in(&place.log()),
        || place.log(),
    );
    let wanted = r#"tributary_dead_letters_total{source="t",reason="malformed"} 2"#;
    let metrics = || get(&address, "/metrics").filter(|text| text.contains(wanted));
    until("both letters to be counted", metrics, || {
        get(&address, "/metrics").unwrap_or_default()
    });
    assert_eq!(
        place.audit(TWO_TABLES)["ledger"]["letters"]["t"]["malformed"],
        2
    );
}

/// The address in a line of the log that names it.
fn address_in(log: &str) -> Option<String> {
    let rest = log.split("http://").nth(1)?;
    Some(rest[..rest.find('/')?].to_string())
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
