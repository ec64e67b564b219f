//! Where and how job files are refused, as data.

use super::{TABLES, parse_job};

/// The message of the refusal, or what was parsed instead of being refused.
fn refusal(text: &str) -> String {
    match parse_job(text) {
        Ok(_) => panic!("not refused: {text}"),
        Err(error) => {
            assert_eq!(error.kind(), crate::error::Kind::Job);
            error.to_string()
        }
    }
}

/// Each case: what is added to TABLES, the refusal's first line (from the line number on), and a part of its hint.
pub(super) fn refused(cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, expected, hint) in cases {
        let text = refusal(&format!("{TABLES}{sql}"));
        let (message, hints) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
        if message != format!("job.sql:{expected}")
            || !hints.contains(hint)
            || hint.is_empty() != hints.is_empty()
        {
            wrong.push(format!(
                "{sql}\n  gave     {text:?}\n  expected {expected:?} {hint:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn statements_that_are_refused() {
    refused(&[
        (
            "SELECT 1",
            "3:1: SELECT is not supported here",
            "INSERT INTO",
        ),
        (
            "INSERT OVERWRITE sink SELECT a, b FROM src",
            "3:1: INSERT OVERWRITE is not supported here",
            "INSERT INTO",
        ),
        (
            "  DROP TABLE src",
            "3:3: DROP is not supported here",
            "declares everything once",
        ),
        (
            "CREATE FUNCTION f AS 'x'",
            "3:1: CREATE FUNCTION is not supported here",
            "functions of one's own",
        ),
        (
            "CREATE OR REPLACE TABLE t (a INT)",
            "3:1: CREATE OR REPLACE is not supported here",
            "leave",
        ),
        (
            "FOO BAR",
            "3:1: 'FOO' does not begin a statement",
            "the statements are",
        ),
        (
            "SET a = 1",
            "3:5: the key of SET stands in single quotes",
            "SET 'key' = 'value'",
        ),
        ("SET 'a' 'b'", "3:9: expected '=', found 'b'", ""),
        (
            "SET 'a' = 'b'; SET 'a' = 'c'",
            "3:16: 'a' is set twice",
            "3:1",
        ),
        (
            "INSERT INTO sink SELECT a, b FROM src; SET 'a' = 'b'",
            "3:40: SET has no effect behind an INSERT",
            "3:1",
        ),
        ("SET 'a' = 'b' SET", "3:15: expected ';', found SET", ""),
        (
            "EXECUTE STATEMENT SET BEGIN INSERT INTO sink SELECT a, b FROM src;",
            "3:1: this statement set has no end",
            "END;",
        ),
        (
            "BEGIN STATEMENT SET; SET 'a' = 'b'; END",
            "3:22: only INSERT INTO can stand in a statement set",
            "3:1",
        ),
        ("END", "3:1: END is not supported here", "no statement set"),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = \"print\")",
            "3:44: double quotes are not used",
            "single quotes",
        ),
        ("SET 'a' = 'b", "3:11: Unterminated string literal", ""),
        (
            "INSERT INTO sink SELECT a, b FROM src /*+ OPTIONS('x'='y') */",
            "3:39: hints (/*+ .. */) are not supported",
            "WITH clause",
        ),
    ]);
}

#[test]
fn tables_that_are_refused() {
    refused(&[
        (
            "CREATE TABLE src (a INT)",
            "3:14: 'src' is declared twice",
            "1:1",
        ),
        (
            "CREATE VIEW sink AS SELECT * FROM src",
            "3:13: 'sink' is declared twice",
            "2:1",
        ),
        (
            "CREATE TABLE db.t (a INT)",
            "3:14: the name of a table has no dots in it",
            "plain name",
        ),
        (
            "CREATE TABLE t LIKE src",
            "3:16: CREATE TABLE .. LIKE is not supported yet",
            "write the columns",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector'='print') AS SELECT 1",
            "3:51: CREATE TABLE .. AS SELECT is not supported",
            "INSERT INTO",
        ),
        (
            "CREATE TABLE t (a INT, a STRING)",
            "3:24: the table has two columns 'a'",
            "3:17",
        ),
        (
            "CREATE TABLE t (a INT, `__watermark` BIGINT)",
            "3:24: no column can be called '__watermark'",
            "another name",
        ),
        (
            "CREATE VIEW v (a, `__kind`) AS SELECT a, b FROM src",
            "3:19: no column can be called '__kind'",
            "another name",
        ),
        (
            "CREATE TABLE t (a TEXT)",
            "3:19: the type TEXT is not supported",
            "STRING",
        ),
        (
            "CREATE TABLE t (a ROW<b INTT>)",
            "3:25: the type INTT is not supported",
            "the types are",
        ),
        (
            "CREATE TABLE t (a INT DEFAULT 1)",
            "3:23: DEFAULT is not supported",
            "COALESCE",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (a))",
            "3:24: a primary key is not enforced, and has to say so",
            "NOT ENFORCED",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (b) NOT ENFORCED)",
            "3:37: there is no column 'b' to be stored",
            "did you mean 'a'?",
        ),
        (
            "CREATE TABLE t (a INT, b INT, UNIQUE (a))",
            "3:31: only PRIMARY KEY can be declared",
            "",
        ),
        (
            "CREATE TABLE t (a INT, dt INT) PARTITIONED BY (td)",
            "3:48: there is no column 'td' to be stored",
            "'dt'",
        ),
        (
            "CREATE TABLE t (a INT) PARTITIONED BY (a)",
            "3:1: every column of 't' is a partition column",
            "one column",
        ),
        (
            "CREATE TABLE t (a AS 1)",
            "3:1: the table 't' has no columns of its own",
            "",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR tss AS ts)",
            "3:34: the watermark is for a column 'tss' that is not there",
            "'ts'",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP(6), WATERMARK FOR ts AS ts)",
            "3:34: the watermark's column 'ts' is a TIMESTAMP(6)",
            "CAST(ts AS TIMESTAMP(3))",
        ),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR a AS a, WATERMARK FOR a AS a)",
            "3:46: the table has two watermarks",
            "",
        ),
        (
            "CREATE TABLE t (a INT",
            "3:22: expected ')', found the end of the statement",
            "",
        ),
        (
            "CREATE TABLE t (a INT, b AS (SELECT 1))",
            "3:30: sub-queries in expressions are not supported",
            "join",
        ),
        (
            "CREATE TABLE t (a INT, b AS a +)",
            "3:32: expected an expression, found )",
            "",
        ),
        (
            "CREATE VIEW v (a, a) AS SELECT a, b FROM src",
            "3:19: the column 'a' stands here twice",
            "",
        ),
        (
            "CREATE VIEW v AS SELECT a FROM srk",
            "3:32: there is no table or view 'srk' before this",
            "'src'",
        ),
        (
            "INSERT INTO snk SELECT a, b FROM src",
            "3:13: there is no table 'snk' before this",
            "'sink'",
        ),
        (
            "INSERT INTO Sink SELECT a, b FROM src",
            "3:13: there is no table 'Sink' before this",
            "'sink'",
        ),
        (
            "CREATE VIEW v AS SELECT a FROM src; INSERT INTO v SELECT a FROM src",
            "3:49: 'v' is a view",
            "into a table",
        ),
        (
            "INSERT INTO sink (a, c) SELECT a, b FROM src",
            "3:22: there is no column 'c' to be stored",
            "'a'",
        ),
        (
            "INSERT INTO sink (a, a) SELECT a, b FROM src",
            "3:22: the column 'a' stands here twice",
            "",
        ),
        (
            "INSERT INTO sink PARTITION (a = 1) SELECT b FROM src",
            "3:18: INSERT INTO .. PARTITION is not supported",
            "select",
        ),
        (
            "INSERT INTO src (ts, a) SELECT a, b FROM src",
            "1:1: the table 'src' is written, but its connector 'datagen' can only be read",
            "",
        ),
        (
            "CREATE VIEW v AS SELECT * FROM sink",
            "2:1: the table 'sink' is read, but its connector 'blackhole' can only be written",
            "",
        ),
    ]);
}

#[test]
fn queries_that_are_refused() {
    // Each stands behind `INSERT INTO sink ` in line 3, which is 17 characters.
    let cases = [
        (
            "VALUES (1, 'a')",
            "3:18: VALUES is not supported",
            "datagen",
        ),
        (
            "SELECT a, b FROM src ORDER BY a",
            "3:48: ORDER BY is not supported",
            "sort where they are read",
        ),
        (
            "SELECT a, b FROM src LIMIT 10",
            "3:45: LIMIT and OFFSET are not supported",
            "taken back",
        ),
        (
            "SELECT DISTINCT a, b FROM src",
            "3:18: SELECT DISTINCT is not supported",
            "window",
        ),
        (
            "SELECT a, b FROM src UNION SELECT a, b FROM src",
            "3:45: UNION without ALL is not supported",
            "UNION ALL",
        ),
        (
            "SELECT a, b FROM src INTERSECT SELECT a, b FROM src",
            "3:49: INTERSECT is not supported",
            "taken back",
        ),
        (
            "SELECT 1, 'a'",
            "3:18: SELECT without FROM is not supported",
            "datagen",
        ),
        (
            "SELECT a::STRING, b FROM src",
            "3:26: '::' is not an operator",
            "CAST",
        ),
        (
            "SELECT a, b FROM src WHERE b ILIKE 'x'",
            "3:45: ILIKE is not supported",
            "LOWER",
        ),
        (
            "SELECT a, b FROM src WHERE b SIMILAR TO 'x'",
            "3:45: SIMILAR TO and RLIKE are not supported",
            "REGEXP",
        ),
        (
            "SELECT a, b FROM src WHERE a IN (SELECT a FROM src)",
            "3:45: sub-queries in expressions are not supported",
            "join",
        ),
        (
            "SELECT (SELECT 1 FROM src), b FROM src",
            "3:26: sub-queries in expressions are not supported",
            "join",
        ),
        (
            "SELECT a, COUNT(*) OVER (ORDER BY ts GROUPS 1 PRECEDING) FROM src",
            "3:28: GROUPS is not supported",
            "count ROWS",
        ),
        (
            "SELECT a, b FROM src QUALIFY a = 1",
            "3:39: QUALIFY is not supported",
            "",
        ),
        (
            "SELECT a, b FROM src LATERAL VIEW x",
            "3:39: LATERAL is not supported",
            "",
        ),
        (
            "SELECT a, b FROM src FOR SYSTEM_TIME AS OF ts",
            "3:35: FOR SYSTEM_TIME AS OF is for a table behind JOIN",
            "JOIN c FOR SYSTEM_TIME AS OF o.proc",
        ),
        (
            "SELECT a, b FROM src AS s JOIN src FOR SYSTEM_TIME AS OF PROCTIME() AS t ON s.a = t.a",
            "3:49: FOR SYSTEM_TIME AS OF takes a column of the table before it, as in Flink",
            "a column AS PROCTIME()",
        ),
        (
            "SELECT a, b FROM src AS s RIGHT JOIN src FOR SYSTEM_TIME AS OF s.ts AS t ON s.a = t.a",
            "3:55: FOR SYSTEM_TIME AS OF is for JOIN and LEFT JOIN with ON",
            "JOIN c FOR SYSTEM_TIME AS OF",
        ),
        (
            "SELECT a, b FROM src AS s CROSS JOIN src FOR SYSTEM_TIME AS OF s.ts AS t",
            "3:55: FOR SYSTEM_TIME AS OF is for JOIN and LEFT JOIN with ON",
            "JOIN c FOR SYSTEM_TIME AS OF",
        ),
        (
            "SELECT a, b FROM src AS s JOIN nowhere FOR SYSTEM_TIME AS OF s.ts AS t ON s.a = t.a",
            "3:49: there is no table or view 'nowhere' before this",
            "there are: sink, src",
        ),
        (
            "SELECT * FROM src MATCH_RECOGNIZE (PARTITION BY a)",
            "3:36: MATCH_RECOGNIZE is not supported",
            "",
        ),
        (
            "SELECT a, b FROM src GROUP BY GROUPING SETS ((a), (b))",
            "3:48: GROUPING SETS are not supported",
            "one INSERT",
        ),
        (
            "SELECT a, b FROM src GROUP BY CUBE (a, b)",
            "3:54: GROUPING SETS, CUBE and ROLLUP are not supported",
            "one INSERT",
        ),
        (
            "SELECT x.a, y.b FROM src x JOIN src y USING (a)",
            "3:50: USING and NATURAL are not supported",
            "ON a.id = b.id",
        ),
        (
            "SELECT x.a, y.b FROM src x NATURAL JOIN src y",
            "3:58: USING and NATURAL are not supported",
            "ON a.id = b.id",
        ),
        (
            "SELECT a, b FROM TABLE(SESSION(TABLE src, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "3:41: SESSION windows are not supported yet",
            "TUMBLE",
        ),
        (
            "SELECT a, b FROM TABLE(TUMBLE(src, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "3:41: TUMBLE needs a table, a DESCRIPTOR and a size",
            "TABLE t",
        ),
        (
            "SELECT a, b FROM TABLE(TUMBLE(TABLE src, ts, INTERVAL '1' MINUTE))",
            "3:41: the time of a window is one column, DESCRIPTOR(column)",
            "TABLE t",
        ),
        (
            "SELECT a, b FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(ts), INTERVAL '1' MONTH))",
            "3:41: the size of a window is an interval of a fixed length, not INTERVAL '1' MONTH",
            "MINUTE",
        ),
        (
            "SELECT a, b FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '60' SECOND))",
            "3:41: the offset of a window is an interval shorter than its size, not INTERVAL '60' SECOND",
            "",
        ),
        (
            "SELECT a, b FROM TABLE(TUMBLE(TABLE srk, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "3:54: there is no table or view 'srk' before this",
            "'src'",
        ),
        (
            "SELECT a, b FROM src GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE)",
            "3:48: TUMBLE is not supported here",
            "FROM TABLE(TUMBLE",
        ),
        (
            "SELECT TABLE src, b FROM src",
            "3:25: TABLE is not supported here",
            "window function",
        ),
        (
            "SELECT a, b FROM UNNEST(ARRAY[1])",
            "3:35: UNNEST stands behind the table whose array it takes",
            "CROSS JOIN UNNEST",
        ),
        (
            "SELECT a, b FROM f(1)",
            "3:35: the table function f is not supported",
            "TUMBLE",
        ),
        (
            "SELECT TIMESTAMPDIFF(FORTNIGHT, ts, ts), b FROM src",
            "3:39: 'FORTNIGHT' is not a unit of time",
            "TIMESTAMPDIFF(SECOND, a, b)",
        ),
        (
            "SELECT CAST(b AS VARCHAR(3)), b FROM src",
            "3:35: a cast to this type is not supported",
            "LEFT(text, n)",
        ),
        (
            "SELECT CAST(ts AS TIMESTAMP(0)), b FROM src",
            "3:36: a cast to this type is not supported",
            "3, 6 or 9",
        ),
        (
            "SELECT CAST(b AS JSON), b FROM src",
            "3:35: the type JSON is not supported",
            "JSON_VALUE",
        ),
        (
            "SELECT a FROM (SELECT CAST(b AS JSON) FROM src)",
            "3:50: the type JSON is not supported",
            "JSON_VALUE",
        ),
        (
            "SELECT a FROM (SELECT a, FROM src) AS x",
            "3:48: expected an expression, found FROM",
            "",
        ),
        (
            "SELECT a FROM (SELECT a FRM src) AS x",
            "3:46: expected ')', found src",
            "",
        ),
        (
            "SELECT INTERVAL 5 MINUTE, b FROM src",
            "3:34: an interval's value stands in quotes",
            "INTERVAL '5' MINUTE",
        ),
        (
            "SELECT a & 1, b FROM src",
            "3:25: the operator & is not supported",
            "",
        ),
        (
            "SELECT FLOOR(ts TO DECADE), b FROM src",
            "3:31: CEIL and FLOOR do not know this unit",
            "SECOND",
        ),
        (
            "SELECT f(x => 1), b FROM src",
            "3:25: F has no named arguments",
            "in their order",
        ),
        (
            "SELECT a AT TIME ZONE 'x', b FROM src",
            "3:25: AT TIME ZONE is not supported",
            "UTC",
        ),
        (
            "WITH RECURSIVE c AS (SELECT a FROM src) SELECT a FROM c",
            "3:18: WITH RECURSIVE is not supported",
            "",
        ),
        (
            "SELECT a FROM x.src",
            "3:32: x.src: a table's name has no dots in it",
            "plain name",
        ),
        (
            "SELECT a, b FROM src x LEFT SEMI JOIN src y ON x.a = y.a",
            "3:56: this kind of join is not supported",
            "LEFT JOIN",
        ),
    ];
    let cases: Vec<_> = cases
        .iter()
        .map(|(sql, expected, hint)| (format!("INSERT INTO sink {sql}"), *expected, *hint))
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(sql, expected, hint)| (sql.as_str(), *expected, *hint))
        .collect();
    refused(&cases);
}
