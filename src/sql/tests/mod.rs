//! Whole job files: what they become.

mod options;
mod refusals;

use super::queries::{self, WindowCall};
use super::*;
use crate::plan::Window;
use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Spanned, TableFactor};
use proptest::prelude::*;

/// Two lines; what a test adds begins in line 3.
const TABLES: &str = "CREATE TABLE src (a INT, b STRING, r ROW<x INT>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'datagen');\n\
                      CREATE TABLE sink (a INT, b STRING) WITH ('connector' = 'blackhole');\n";

fn parse_job(text: &str) -> Result<Script> {
    parse("job.sql", text, &|_| None)
}

fn select(query: &Query) -> &ast::Select {
    match &*query.body {
        SetExpr::Select(select) => select,
        _ => panic!("{query}"),
    }
}

/// The only expression of `INSERT INTO sink (b) SELECT <expr> FROM src`.
fn expression(sql: &str) -> Result<Expr> {
    let script = parse_job(&format!(
        "{TABLES}INSERT INTO sink (b) SELECT {sql} FROM src"
    ))?;
    match &select(&script.inserts[0].query).projection[..] {
        [ast::SelectItem::UnnamedExpr(expr)] => Ok(expr.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_emergency_job_is_read_whole() {
    let text = include_str!("../../../jobs/emergency.sql");
    let script = parse("jobs/emergency.sql", text, &|_| None).unwrap();
    assert_eq!(script.settings.len(), 6);
    assert_eq!(script.tables.len(), 8);
    assert_eq!(script.views.len(), 3);
    assert_eq!(script.inserts.len(), 6);
    assert!(script.warnings.is_empty());
    let readings = &script.tables[0];
    assert_eq!(readings.name, "patient_readings");
    assert_eq!(
        readings.watermark.as_ref().unwrap().expr.to_string(),
        "event_time - INTERVAL '2' MINUTE"
    );
    assert!(matches!(
        readings.columns[8].kind,
        ColumnKind::Computed { .. }
    ));
    assert_eq!(
        readings.options.text("json.timestamp-format.standard"),
        Some("ISO-8601")
    );
    let responses = &script.views[2];
    assert!(
        responses
            .query
            .to_string()
            .contains("TIMESTAMPDIFF('SECOND', b.event_time, d.dispatched)")
    );
    assert!(responses.query.to_string().contains("INTERVAL '15' MINUTE"));
    let settings = crate::config::Settings::from_script(&script, &[]).unwrap();
    assert_eq!(settings.name, "emergency");
    assert_eq!(settings.checkpoint_dir, "./checkpoints/emergency");
}

#[test]
fn a_table_with_everything() {
    let script = parse_job(
        "CREATE TEMPORARY TABLE IF NOT EXISTS `my table` (
           id BIGINT NOT NULL COMMENT 'the key',
           `offset` BIGINT METADATA VIRTUAL,
           at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' COMMENT 'written by Kafka',
           tags MAP<STRING, ARRAY<ROW<a INT, b DECIMAL(10, 2)>>>,
           double_id AS id * 2 COMMENT 'twice',
           WATERMARK FOR at AS at - INTERVAL '5' SECOND,
           CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED
         ) COMMENT 'a table' PARTITIONED BY (id) WITH (
           'connector' = 'kafka', 'topic' = 'a;b', 'properties.bootstrap.servers' = 'x:1', 'value.format' = 'json',
           'value.json.ignore-parse-errors' = 'TRUE', 'scan.startup.mode' = 'Earliest-Offset'
         );
         CREATE TABLE IF NOT EXISTS `my table` (a INT) WITH ('connector' = 'print');
         CREATE TABLE other (id INT PRIMARY KEY NOT ENFORCED, x INT) WITH ('connector' = 'print')",
    )
    .unwrap();
    let table = &script.tables[0];
    assert_eq!(script.tables.len(), 2, "IF NOT EXISTS keeps the first one");
    assert_eq!(
        (table.name.as_str(), table.comment.as_deref()),
        ("my table", Some("a table"))
    );
    assert_eq!(table.place, Place { line: 1, column: 1 });
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| {
            let kind = match &column.kind {
                ColumnKind::Physical {
                    data_type,
                    not_null,
                } => {
                    format!("{} {not_null}", types::flink_name(data_type))
                }
                ColumnKind::Metadata {
                    data_type,
                    key,
                    is_virtual,
                } => {
                    format!("{} from {key} {is_virtual}", types::flink_name(data_type))
                }
                ColumnKind::Computed { expr } => expr.to_string(),
            };
            format!("{} {}: {kind}", column.place.line, column.name)
        })
        .collect();
    assert_eq!(
        columns,
        [
            "2 id: BIGINT true",
            "3 offset: BIGINT from offset true",
            "4 at: TIMESTAMP_LTZ(3) from timestamp false",
            "5 tags: MAP<STRING, ARRAY<ROW<a INT, b DECIMAL(10, 2)>>> false",
            "6 double_id: id * 2",
        ]
    );
    assert_eq!(table.columns[0].comment.as_deref(), Some("the key"));
    assert_eq!(
        table.columns[2].comment.as_deref(),
        Some("written by Kafka")
    );
    assert_eq!(
        (&table.primary_key[..], &table.partitioned_by[..]),
        (&["id".to_owned()][..], &["id".to_owned()][..])
    );
    assert_eq!(script.tables[1].primary_key, ["id"]);
    let options = &table.options;
    assert_eq!(
        options.get("format"),
        Some("json"),
        "value.format has its plain name"
    );
    assert_eq!(options.boolean("json.ignore-parse-errors"), Some(true));
    assert_eq!(
        options.boolean("json.fail-on-missing-field"),
        Some(false),
        "the default"
    );
    assert_eq!(options.text("scan.startup.mode"), Some("earliest-offset"));
    assert_eq!(options.list("topic"), ["a", "b"]);
}

#[test]
fn statements_of_every_kind() {
    let script = parse_job(&format!(
        "{TABLES}
         SET 'pipeline.name' = 'it''s me'; ;
         CREATE TEMPORARY VIEW v (x, y) COMMENT 'c' AS SELECT a, b FROM src WHERE a <> 1;
         CREATE VIEW IF NOT EXISTS w AS WITH c AS (SELECT * FROM v) SELECT * FROM c UNION ALL (SELECT x, y FROM v);
         INSERT INTO sink SELECT * FROM w;
         INSERT INTO sink (b) (SELECT b FROM src);
         BEGIN STATEMENT SET; INSERT INTO sink (a, b) SELECT x, y FROM v; END;
         EXECUTE STATEMENT SET BEGIN INSERT INTO sink SELECT * FROM v; INSERT INTO sink SELECT * FROM w; END"
    ))
    .unwrap();
    assert_eq!(script.settings[0].value, "it's me");
    assert_eq!(script.views[0].columns, ["x", "y"]);
    assert_eq!(script.inserts.len(), 5);
    assert_eq!(script.inserts[1].columns, ["b"]);
}

#[test]
fn windows_take_one_form() {
    for (from, offset_ms, alias) in [
        (
            "TABLE(TUMBLE(TABLE src, DESCRIPTOR(ts), INTERVAL '90' SECOND))",
            0,
            None,
        ),
        (
            "TABLE(tumble(TABLE `src`, descriptor(ts), INTERVAL '1:30' MINUTE TO SECOND, INTERVAL '-1' SECOND)) AS w",
            -1_000,
            Some("w"),
        ),
        (
            "TABLE(TUMBLE(DATA => TABLE src, SIZE => INTERVAL '90' SECOND, TIMECOL => DESCRIPTOR(ts)))",
            0,
            None,
        ),
        (
            "TUMBLE(TABLE src, DESCRIPTOR(ts), INTERVAL '90' SECOND) w",
            0,
            Some("w"),
        ),
    ] {
        let script = parse_job(&format!(
            "{TABLES}INSERT INTO sink (a) SELECT COUNT(*) FROM {from} GROUP BY window_start, window_end"
        ))
        .unwrap();
        let factor = &select(&script.inserts[0].query).from[0].relation;
        let Some(WindowCall {
            table,
            time,
            window,
            alias: given,
        }) = queries::window(factor)
        else {
            panic!("{factor}");
        };
        let size_ms = 90_000;
        assert_eq!(window, Window::Tumble { size_ms, offset_ms });
        assert_eq!((table.value.as_str(), time.value.as_str()), ("src", "ts"));
        assert_eq!(given.map(|alias| alias.name.value.as_str()), alias);
        let TableFactor::TableFunction {
            expr: Expr::Function(function),
            ..
        } = factor
        else {
            panic!()
        };
        assert_eq!(function.name.to_string(), "TUMBLE");
    }
}

#[test]
fn windows_that_overlap_say_their_slide_first() {
    let (size_ms, step_ms, slide_ms) = (90_000, 30_000, 30_000);
    for (from, wanted) in [
        (
            "HOP(TABLE src, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '90' SECOND, INTERVAL '5' SECOND)",
            Window::Hop {
                slide_ms,
                size_ms,
                offset_ms: 5_000,
            },
        ),
        (
            "TABLE(cumulate(SIZE => INTERVAL '90' SECOND, DATA => TABLE src, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '30' SECOND))",
            Window::Cumulate {
                step_ms,
                size_ms,
                offset_ms: 0,
            },
        ),
    ] {
        let script = parse_job(&format!(
            "{TABLES}INSERT INTO sink (a) SELECT COUNT(*) FROM {from} GROUP BY window_start, window_end"
        ))
        .unwrap();
        let factor = &select(&script.inserts[0].query).from[0].relation;
        let found = queries::window(factor).map(|call| call.window);
        assert_eq!(found, Some(wanted));
    }
}

#[test]
fn expressions_take_their_form() {
    for (sql, expected) in [
        (
            "TIMESTAMPDIFF(sql_tsi_second, ts, ts)",
            "TIMESTAMPDIFF('SECOND', ts, ts)",
        ),
        (
            "TimestampAdd(MONTHS, -1, ts)",
            "TimestampAdd('MONTH', -1, ts)",
        ),
        ("CAST(a AS VARBINARY)", ""),
        ("CAST(a AS TIMESTAMP)", "CAST(a AS TIMESTAMP(6))"),
        (
            "try_cast(r AS ROW<x BIGINT NOT NULL>)",
            "TRY_CAST(r AS ROW<x BIGINT NOT NULL>)",
        ),
        (
            "TIMESTAMP '2024-01-01 00:00:00'",
            "TIMESTAMP(3) '2024-01-01 00:00:00'",
        ),
        (
            "TIMESTAMP '2024-01-01 00:00:00.1234'",
            "TIMESTAMP(6) '2024-01-01 00:00:00.1234'",
        ),
        ("DATE '2024-01-01'", "DATE '2024-01-01'"),
        ("ARRAY[1, 2][1]", "ARRAY[1, 2][1]"),
        ("r.x", "r.x"),
        ("src.r.x", "src.r.x"),
        (
            "COUNT(DISTINCT b) FILTER (WHERE a > 0)",
            "COUNT(DISTINCT b) FILTER (WHERE a > 0)",
        ),
        ("EXTRACT(HOUR FROM ts)", "EXTRACT(HOUR FROM ts)"),
        ("TRIM(BOTH 'x' FROM b)", "TRIM(BOTH 'x' FROM b)"),
        ("SUBSTRING(b FROM 2 FOR 3)", "SUBSTRING(b FROM 2 FOR 3)"),
        ("b LIKE 'a!%' ESCAPE '!'", "b LIKE 'a!%' ESCAPE '!'"),
        (
            "a IN (1, 2) AND b NOT LIKE 'x' OR NOT a BETWEEN 1 AND 2",
            "a IN (1, 2) AND b NOT LIKE 'x' OR NOT a BETWEEN 1 AND 2",
        ),
        ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        ("-a % 2 || x'ff'", "-a % 2 || X'ff'"),
        (
            "CASE WHEN a IS NOT DISTINCT FROM 1 THEN 'x' ELSE b END",
            "CASE WHEN a IS NOT DISTINCT FROM 1 THEN 'x' ELSE b END",
        ),
    ] {
        match expression(sql) {
            Ok(expr) => assert_eq!(expr.to_string(), expected, "{sql}"),
            Err(error) => assert_eq!(expected, "", "{error}"),
        }
    }
}

#[test]
fn and_stands_behind_is_distinct_from_and_not_in_it() {
    for sql in [
        "a IS DISTINCT FROM a + 1 AND a > 5",
        "a IS NOT DISTINCT FROM a OR a > 5",
    ] {
        match expression(sql).unwrap() {
            Expr::BinaryOp { right, .. } => assert_eq!(right.to_string(), "a > 5", "{sql}"),
            other => panic!("{sql} is read as {other:?}"),
        }
    }
}

#[test]
fn spans_are_places_in_the_file() {
    let script = parse(
        "job.sql",
        &format!("{TABLES}INSERT INTO sink (a)\n  SELECT ${{X:-12345}} + a FROM src"),
        &|name| (name == "X").then(|| "1".to_owned()),
    )
    .unwrap();
    let expr = match &select(&script.inserts[0].query).projection[0] {
        ast::SelectItem::UnnamedExpr(Expr::BinaryOp { right, .. }) => right,
        other => panic!("{other}"),
    };
    assert_eq!(
        Place::from(expr.span()),
        Place {
            line: 4,
            column: 24
        }
    );
}

#[test]
fn what_changes_nothing_is_said() {
    let script = parse_job(&format!(
        "{TABLES}CREATE TABLE t (a INT) WITH ('connector' = 'print',\n 'sink.parallelism' = '2')"
    ))
    .unwrap();
    assert_eq!(
        script.warnings,
        ["job.sql:4:2: 'sink.parallelism' has no effect: each lane writes; see --parallelism"]
    );
}

/// Words that lead deep into the parser, in any order.
fn words() -> impl Strategy<Value = String> {
    let words = [
        "SELECT",
        "FROM",
        "CREATE TABLE t",
        "(",
        ")",
        "INSERT INTO sink",
        ",",
        ";",
        "'a'",
        "`b`",
        "ROW<",
        "ARRAY<",
        ">",
        ">>",
        "WATERMARK FOR",
        "AS",
        "CAST(",
        "INTERVAL",
        "'1'",
        "MINUTE",
        "TABLE(TUMBLE(TABLE src,",
        "DESCRIPTOR(ts)",
        "=>",
        "WITH",
        "'connector' = 'kafka'",
        "src",
        "sink",
        "a",
        "1",
        "+",
        "-",
        "--",
        "/*",
        "*/",
        "${X:-1}",
        "${",
        "}",
        "JOIN",
        "ON",
        "=",
        "CASE WHEN",
        "END",
        "EXECUTE STATEMENT SET BEGIN",
        "TIMESTAMPDIFF(",
        "SECOND",
        "TO",
        "[",
        "]",
        ".",
        "*",
        "\n",
        "é",
        "NOT",
        "IN",
        "BETWEEN",
        "AND",
        "EXISTS",
        "UNION ALL",
        "GROUP BY",
        "MAP<",
        "INT",
        "DECIMAL(",
        "METADATA",
        "PRIMARY KEY",
        "IS",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse("job.sql", &text, &|name| Some(name.to_owned()));
    }

    #[test]
    fn any_words_are_read_or_refused(text in words()) {
        let _ = parse("job.sql", &format!("{TABLES}INSERT INTO sink {text}"), &|_| None);
        let _ = parse("job.sql", &text, &|_| None);
    }
}

#[test]
fn deep_nesting_is_refused_or_read_but_never_a_crash() {
    for (open, close) in [
        ("(", ")"),
        ("CAST(", " AS INT)"),
        ("ARRAY[", "]"),
        ("NOT ", ""),
        ("CASE WHEN ", " THEN 1 END"),
        ("f(", ")"),
    ] {
        let nested = format!("{}a{}", open.repeat(3_000), close.repeat(3_000));
        assert!(expression(&nested).is_err(), "{open}");
    }
    assert!(expression(&format!("a{}", " + a".repeat(20_000))).is_err());
    for (open, close) in [
        ("CEIL(", ")"),
        ("ARRAY[", "]"),
        ("a[", "]"),
        ("CAST(", " AS INT)"),
        ("CASE WHEN ", " THEN 1 END"),
    ] {
        // As deep as is allowed, with a mistake inside.
        let nested = format!("{}a b c{}", open.repeat(18), close.repeat(18));
        assert!(expression(&nested).is_err(), "{open}");
    }
    let types = format!("{}INT{}", "ARRAY<".repeat(100_000), ">".repeat(100_000));
    assert!(
        parse_job(&format!(
            "CREATE TABLE t (a {types}) WITH ('connector' = 'print')"
        ))
        .is_err()
    );
    let from = format!(
        "SELECT a FROM {}src{}",
        "(".repeat(3_000),
        ")".repeat(3_000)
    );
    assert!(parse_job(&format!("{TABLES}INSERT INTO sink {from}")).is_err());
}
