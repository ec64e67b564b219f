//! Folders of CSV, JSON lines and Parquet, and made-up rows: each read to its end once, although its process dies on the way.

use super::place::{Place, said};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use parquet::arrow::ArrowWriter;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

const FILES: i64 = 3;
const ROWS: i64 = 250_000;
/// 2024-01-01 00:00:00
const START_MS: i64 = 1_704_067_200_000;

/// The job over a source: every row as it is, and how many there are in each minute of event time.
fn job(with: &str) -> String {
    format!(
        "CREATE TABLE t (id BIGINT, name STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ({with});
         CREATE TABLE o (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = '${{LAKE}}/o', 'format' = 'json');
         CREATE TABLE minutes (at TIMESTAMP(3), n BIGINT, total BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '${{LAKE}}/minutes', 'format' = 'json');
         INSERT INTO o SELECT id, name FROM t;
         INSERT INTO minutes SELECT window_start, COUNT(*), SUM(id)
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;"
    )
}

fn ids(file: i64) -> std::ops::Range<i64> {
    file * ROWS..(file + 1) * ROWS
}

fn name(id: i64) -> String {
    format!("row {id}")
}

/// One row a centisecond, and the files beside each other in time, so that none is late.
fn time(id: i64) -> i64 {
    START_MS + id % ROWS * 10
}

fn shown(ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms).unwrap();
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn expected(times: impl Fn(i64) -> i64, rows: i64) -> (Vec<String>, Vec<String>) {
    let mut minutes: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut all = Vec::new();
    for id in 0..rows {
        all.push(format!("{{\"id\":{id},\"name\":\"{}\"}}", name(id)));
        let (n, total) = minutes.entry(times(id) / 60_000 * 60_000).or_default();
        (*n, *total) = (*n + 1, *total + id);
    }
    all.sort();
    let line = |(at, (n, total)): (i64, (i64, i64))| {
        let at = shown(at);
        let at = at.trim_end_matches(".000");
        format!("{{\"at\":\"{at}\",\"n\":{n},\"total\":{total}}}")
    };
    (all, minutes.into_iter().map(line).collect())
}

/// Runs the job on places that `fill` has filled, each killed at a later epoch than the one before, until one was killed while some of
/// its records were read and others not. That one is killed once more, finished, and has to have every row once.
fn check(job: &str, fill: impl Fn(&Place), rows: i64, (all, minutes): (Vec<String>, Vec<String>)) {
    for epoch in 1.. {
        let place = Place::new();
        fill(&place);
        let killed = place.run_until(job, &[], &format!("after-commit:{epoch}"));
        assert!(
            !killed.status.success(),
            "it was never killed in the middle of its records:\n{}",
            said(&killed)
        );
        let books = place.epoch().unwrap()["ledger"]["sources"]["t"]["records"].clone();
        if !books
            .as_i64()
            .is_some_and(|records| 0 < records && records < rows)
        {
            continue;
        }
        let again = place.run_until(job, &["--parallelism", "3"], "before-publish:2");
        assert!(!again.status.success(), "{}", said(&again));
        place.finish(job, &["--parallelism", "2"]);
        assert!(
            place.rows("o") == all,
            "{} rows are not the {} expected",
            place.rows("o").len(),
            all.len()
        );
        assert_eq!(place.rows("minutes"), minutes);
        let books = &place.audit(job)["ledger"];
        assert_eq!(books["sources"]["t"]["records"], rows, "{books}");
        assert_eq!(books["sinks"]["o"]["published"], rows, "{books}");
        return;
    }
}

fn check_files(format: &str, options: &str, fill: impl Fn(&Place)) {
    let job = job(&format!(
        "'connector' = 'filesystem', 'path' = '${{INPUT}}', 'format' = '{format}'{options}"
    ));
    check(&job, fill, FILES * ROWS, expected(time, FILES * ROWS));
}

#[test]
fn json_lines() {
    check_files("json", "", |place| {
        for file in 0..FILES {
            let line = |id| {
                format!(
                    "{{\"id\":{id},\"name\":\"{}\",\"ts\":\"{}\"}}\n",
                    name(id),
                    shown(time(id))
                )
            };
            place.write(
                &format!("{file}.json"),
                &ids(file).map(line).collect::<String>(),
            );
        }
    });
}

#[test]
fn csv() {
    check_files("csv", ", 'csv.field-delimiter' = ';'", |place| {
        for file in 0..FILES {
            let line = |id| format!("{id};\"{}\";{}\n", name(id), shown(time(id)));
            place.write(
                &format!("{file}.csv"),
                &ids(file).map(line).collect::<String>(),
            );
        }
    });
}

#[test]
fn parquet() {
    check_files("parquet", "", |place| {
        for file in 0..FILES {
            let columns: [(&str, ArrayRef); 3] = [
                (
                    "name",
                    Arc::new(StringArray::from_iter_values(ids(file).map(name))),
                ),
                ("id", Arc::new(Int64Array::from_iter_values(ids(file)))),
                (
                    "ts",
                    Arc::new(TimestampMillisecondArray::from_iter_values(
                        ids(file).map(time),
                    )),
                ),
            ];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let out = File::create(place.input(&format!("{file}.parquet"))).unwrap();
            let mut writer = ArrowWriter::try_new(out, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
    });
}

/// Rows that follow from their numbers alone: those of a run that was never killed are what the killed ones must give.
#[test]
fn datagen() {
    const MADE: i64 = 20_000;
    let job = job(&format!(
        "'connector' = 'datagen', 'number-of-rows' = '{MADE}', 'rows-per-second' = '100000', 'fields.id.kind' = 'sequence',
         'fields.id.start' = '0', 'fields.id.end' = '{}', 'fields.name.length' = '8'",
        MADE - 1
    ));
    let whole = Place::new();
    whole.finish(&job, &[]);
    let all = whole.rows("o");
    let numbered = |id: i64| {
        all.iter()
            .any(|row| row.starts_with(&format!("{{\"id\":{id},")))
    };
    assert!(all.len() as i64 == MADE && numbered(0) && numbered(MADE - 1));
    check(&job, |_| {}, MADE, (all, whole.rows("minutes")));
}
