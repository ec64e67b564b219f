//! A job whose text was changed between two starts: its state goes on where it belongs, or the change is refused with exit code 2.

use super::place::{Place, expect_refusal, said};

macro_rules! window {
    ($select:literal) => {
        concat!(
            "\nINSERT INTO o SELECT ",
            $select,
            " FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k;\n"
        )
    };
}

const TABLES: &str = "
CREATE TABLE t (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'json', 'source.monitor-interval' = '5 ms');
CREATE VIEW small AS SELECT * FROM t WHERE n < 100;
CREATE TABLE o (what STRING, k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/o', 'format' = 'json');
CREATE TABLE p (k STRING, n INT) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/p', 'format' = 'json');
";
const SUMS: &str = window!("'sum', k, SUM(n)");
const COUNTS: &str = window!("'count', k, COUNT(DISTINCT n)");
const PAIRS: &str = "
INSERT INTO p SELECT a.k, a.n FROM t a LEFT JOIN small b ON a.k = b.k AND b.n <> a.n AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE;
";

/// Windows that are open and rows that wait, in a place whose process was killed behind the epoch that holds them.
fn interrupted(queries: &[&str]) -> Place {
    let place = Place::new();
    let lines = [("a", 1), ("a", 2), ("b", 500), ("b", 7)]
        .map(|(k, n)| format!("{{\"k\":\"{k}\",\"n\":{n},\"ts\":\"2024-01-01 00:00:10\"}}\n"));
    place.write("1.json", &lines.concat());
    let running = place.start(&job(queries), &["--http", "off"]);
    place.until_epoch("all rows to be in the state", |epoch| {
        let read = epoch["ledger"]["sources"]["t"]["records"] == 4;
        read && epoch["state"]
            .as_array()
            .is_some_and(|state| state.len() >= queries.len())
    });
    drop(running);
    place
}

fn job(queries: &[&str]) -> String {
    TABLES.to_string() + &queries.concat()
}

const SUMMED: [&str; 2] = [
    r#"{"what":"sum","k":"a","n":3}"#,
    r#"{"what":"sum","k":"b","n":7}"#,
];
const COUNTED: [&str; 2] = [
    r#"{"what":"count","k":"a","n":2}"#,
    r#"{"what":"count","k":"b","n":1}"#,
];

#[test]
fn queries_that_change_places_keep_their_state() {
    let before = interrupted(&[SUMS, COUNTS]);
    let same = before.copy();
    same.finish(&job(&[SUMS, COUNTS]), &[]);
    let swapped = before.copy();
    swapped.finish(&job(&[COUNTS, SUMS]), &[]);
    let mut expected = [COUNTED, SUMMED].concat();
    expected.sort();
    assert_eq!(same.rows("o"), expected);
    assert_eq!(swapped.rows("o"), expected);
    let books = |place: &Place, name: &str| {
        place.audit(&job(&[SUMS, COUNTS]))["ledger"]["operators"][name]["used"].clone()
    };
    assert_eq!(books(&swapped, "o window"), books(&same, "o window 2"));
}

#[test]
fn what_stands_before_a_window_may_change() {
    let place = interrupted(&[SUMS, COUNTS]);
    let job = job(&[SUMS, COUNTS]).replace("n < 100", "n < 1000");
    place.write(
        "2.json",
        "{\"k\":\"b\",\"n\":500,\"ts\":\"2024-01-01 00:00:20\"}\n",
    );
    place.finish(&job, &[]);
    assert!(
        place
            .rows("o")
            .contains(&r#"{"what":"sum","k":"b","n":507}"#.to_string()),
        "{:?}",
        place.rows("o")
    );
}

#[test]
fn an_aggregate_that_is_another_is_refused_and_named() {
    let place = interrupted(&[SUMS]);
    let changes = [
        ("SUM(n)", "MAX(n)", "MAX(n) of INT"),
        // The same name and column, of another type.
        ("SUM(n)", "SUM(CAST(n AS DOUBLE))", "DOUBLE"),
        ("'1' MINUTE", "'2' MINUTE", "tumble 2 min"),
        (
            "GROUP BY window_start, window_end, k",
            "GROUP BY window_start, window_end, k, n",
            "keys: k STRING, n INT",
        ),
    ];
    for (from, to, says) in changes {
        let mut changed = SUMS.replace(from, to);
        if to.contains("DOUBLE") {
            changed = changed.replace(
                "SUM(CAST(n AS DOUBLE))",
                "CAST(SUM(CAST(n AS DOUBLE)) AS BIGINT)",
            );
        }
        let refused = place.run(&job(&[&changed]), &[]);
        let did = "which did: tumble 1 min by ts; keys: k STRING; gives: SUM(CAST(n AS BIGINT)) of BIGINT";
        expect_refusal(
            &refused,
            &[
                "'o window'",
                did,
                says,
                "job.sql:",
                "--bounded",
                "tributary.allow-dropped-state",
            ],
        );
    }
    // It is still there for the job that it belongs to.
    place.finish(&job(&[SUMS]), &[]);
    assert_eq!(place.rows("o"), SUMMED);
    // And with every window closed the job may become another.
    place.write(
        "2.json",
        "{\"k\":\"a\",\"n\":5,\"ts\":\"2024-01-01 00:10:00\"}\n",
    );
    place.finish(&job(&[&SUMS.replace("SUM(n)", "MAX(n)")]), &[]);
    assert!(
        place
            .rows("o")
            .contains(&r#"{"what":"sum","k":"a","n":5}"#.to_string()),
        "{:?}",
        place.rows("o")
    );
}

/// A column whose type was changed in the table, so that nothing but the type of the state is another.
#[test]
fn a_column_of_another_type_is_refused_and_does_not_panic() {
    let place = interrupted(&[COUNTS]);
    let changed = job(&[COUNTS]).replace("(k STRING, n INT,", "(k STRING, n BIGINT,");
    expect_refusal(
        &place.run(&changed, &[]),
        &["COUNT(DISTINCT n) of INT", "COUNT(DISTINCT n) of BIGINT"],
    );
    // Checkpoints from before nodes were described are compared by the columns of their state.
    let old = place.copy();
    old.forget_what_nodes_do();
    expect_refusal(
        &old.run(&changed, &[]),
        &["o window", "state_0 List", "Int32", "Int64", "--bounded"],
    );
    old.finish(&job(&[COUNTS]), &[]);
    assert_eq!(old.rows("o"), COUNTED);
}

#[test]
fn a_join_that_keeps_other_rows_is_refused_and_named() {
    let place = interrupted(&[PAIRS]);
    for (from, to) in [("'1' MINUTE", "'2' MINUTE"), ("LEFT JOIN", "JOIN")] {
        let refused = place.run(&job(&[&PAIRS.replace(from, to)]), &[]);
        expect_refusal(
            &refused,
            &[
                "'p join'",
                "which did: left outer join",
                "-1 min <= ts - ts <= 0 s",
            ],
        );
    }
    let old = place.copy();
    old.forget_what_nodes_do();
    let changed = job(&[PAIRS])
        .replace("(k STRING, n INT, ts", "(k STRING, n BIGINT, ts")
        .replace("SELECT a.k, a.n", "SELECT a.k, CAST(a.n AS INT)");
    expect_refusal(&old.run(&changed, &[]), &["p join", "n Int32", "n Int64"]);
    place.finish(&job(&[PAIRS]), &[]);
    let expected = [("a", 1), ("a", 2), ("b", 500), ("b", 7)]
        .map(|(k, n)| format!("{{\"k\":\"{k}\",\"n\":{n}}}"));
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(place.rows("p"), expected);
}

#[test]
fn a_query_that_is_gone_is_dropped_only_when_that_is_allowed() {
    let place = interrupted(&[COUNTS, SUMS]);
    expect_refusal(
        &place.run(&job(&[SUMS]), &[]),
        &["the state of 'o window', 2 rows", "COUNT(DISTINCT n)"],
    );
    let allowed = place.run(&job(&[SUMS]), &["-D", "tributary.allow-dropped-state=true"]);
    let said = said(&allowed);
    assert!(
        allowed.status.success() && said.contains("goes on without") && said.contains("'o window'"),
        "{said}"
    );
    assert_eq!(place.rows("o"), SUMMED);
    place.audit(&job(&[SUMS]));
}

#[test]
fn a_table_that_is_not_read_any_more_is_dropped_only_when_that_is_allowed() {
    let place = interrupted(&[SUMS]);
    // A renamed table would be read from its beginning.
    let renamed = job(&[SUMS])
        .replace("TABLE t ", "TABLE renamed ")
        .replace("FROM t WHERE", "FROM renamed WHERE");
    expect_refusal(&place.run(&renamed, &[]), &["how far table 't' was read"]);
}

/// Rows of files that are still open are in the checkpoint too, and no table is left to take them.
#[test]
fn rows_of_open_files_are_not_lost_with_their_table() {
    let rows = "\nINSERT INTO p SELECT k, n FROM t;\n";
    let place = interrupted(&[SUMS]);
    let running = place.start(&job(&[SUMS, rows]), &["--http", "off"]);
    place.write(
        "2.json",
        "{\"k\":\"c\",\"n\":1,\"ts\":\"2024-01-01 00:00:11\"}\n",
    );
    place.until_epoch("a row to be carried", |epoch| {
        epoch["ledger"]["sinks"]["p"]["carried"] == 1
    });
    drop(running);
    let refused = place.run(&job(&[SUMS]), &["-D", "tributary.allow-dropped-state=true"]);
    expect_refusal(
        &refused,
        &["carries rows of table 'p'", "put its INSERT back"],
    );
    place.finish(&job(&[SUMS, rows]), &[]);
    assert_eq!(place.rows("p"), [r#"{"k":"c","n":1}"#]);
    // After a good end nothing is open and nothing is to be published, and the INSERT may go.
    place.finish(&job(&[SUMS]), &[]);
    place.audit(&job(&[SUMS]));
}

/// Each process would read all of the folder, and have some rows of a key only.
#[test]
fn a_share_of_what_cannot_be_shared_is_refused() {
    let place = Place::new();
    let shared = ["--partitions", "0-3"];
    let copied = "\nINSERT INTO p SELECT k, n FROM t;\n";
    expect_refusal(
        &place.run(&job(&[copied]), &shared),
        &["--partitions 0-3", "'t' is not read from Kafka"],
    );
    let kafka = TABLES.replace(
        "'connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'json', 'source.monitor-interval' = '5 ms'",
        "'connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = '127.0.0.1:1', 'format' = 'json'",
    );
    expect_refusal(
        &place.run(&(kafka + SUMS), &shared),
        &["'o window' brings the rows of a key together"],
    );
}
