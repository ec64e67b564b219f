//! What real Flink 2.2 answered.

use crate::sql::functions::testing::{check_calls, check_error};

#[test]
fn values() {
    check_calls(&[
        (r#"JSON_VALUE('{"a": 1}', '$.a')"#, "1"),
        (r#"JSON_VALUE('{"a": "x"}', '$.a')"#, "x"),
        (r#"JSON_VALUE('{"a": true}', '$.a')"#, "true"),
        (r#"JSON_VALUE('{"a": 1.50}', '$.a')"#, "1.50"),
        (r#"JSON_VALUE('{"a": 1e3}', '$.a')"#, "1E+3"),
        (
            r#"JSON_VALUE('{"a": 0.1234567890123456789}', '$.a')"#,
            "0.1234567890123456789",
        ),
        (r#"JSON_VALUE('{"a": -0.0}', '$.a')"#, "0.0"),
        (r#"JSON_VALUE('{"a": null}', '$.a')"#, "NULL"),
        (
            r#"JSON_VALUE('{"a": null}', '$.a' DEFAULT 'd' ON EMPTY DEFAULT 'e' ON ERROR)"#,
            "e",
        ),
        (r#"JSON_VALUE('{"a": {"b": 2}}', '$.a.b')"#, "2"),
        (r#"JSON_VALUE('{"a": {"b": 2}}', '$.a')"#, "NULL"),
        (
            r#"JSON_VALUE('{"a": {"b": 2}}', '$.a' DEFAULT 'd' ON EMPTY DEFAULT 'e' ON ERROR)"#,
            "e",
        ),
        (r#"JSON_VALUE('{"a": [1, 2]}', '$.a[1]')"#, "2"),
        (r#"JSON_VALUE('{"a": [1, 2]}', '$.a[5]')"#, "NULL"),
        (r#"JSON_VALUE('{"a": [1, 2]}', '$.a[-1]')"#, "2"),
        (r#"JSON_VALUE('{"a": [1]}', '$.a[*]')"#, "NULL"),
        (r#"JSON_VALUE('[{"a": 1}]', '$[0].a')"#, "1"),
        (r#"JSON_VALUE('[{"a": 1}]', 'lax $.a')"#, "NULL"),
        (r#"JSON_VALUE('{"a": 1}', 'lax $[0].a')"#, "NULL"),
        (r#"JSON_VALUE('{"a": 1}', 'LAX $.a')"#, "1"),
        (r#"JSON_VALUE('{"a": 1}', '$.b')"#, "NULL"),
        (
            r#"JSON_VALUE('{"a": 1}', 'strict $.b' DEFAULT 'd' ON EMPTY DEFAULT 'e' ON ERROR)"#,
            "e",
        ),
        (
            r#"JSON_VALUE('{"a": 1}', 'lax $.b' DEFAULT 'd' ON EMPTY DEFAULT 'e' ON ERROR)"#,
            "d",
        ),
        ("JSON_VALUE('bad', '$.a')", "NULL"),
        (
            "JSON_VALUE('bad', '$.a' DEFAULT 'd' ON EMPTY DEFAULT 'e' ON ERROR)",
            "e",
        ),
        ("JSON_VALUE('', '$.a')", "NULL"),
        (r#"JSON_VALUE('{"a": 1} x', '$.a')"#, "1"),
        ("JSON_VALUE('1', '$')", "1"),
        (r#"JSON_VALUE('"x"', '$')"#, "x"),
        ("JSON_VALUE(CAST(NULL AS STRING), '$.a')", "NULL"),
        (r#"JSON_VALUE('{"a b": 1}', '$["a b"]')"#, "1"),
        (r#"JSON_VALUE('{"a b": 1}', '$[''a b'']')"#, "1"),
        (r#"JSON_VALUE('{"a": "ä\n\u00e9"}', '$.a')"#, "ä\né"),
        (r#"JSON_VALUE('{"a": 1, "a": 2}', '$.a')"#, "2"),
        (r#"JSON_VALUE('{"ä-x": 1}', '$.ä-x')"#, "1"),
        (r#"JSON_VALUE('{"a.b": 1}', '$.a.b')"#, "NULL"),
        (r#"JSON_VALUE('{"1": 7}', '$.1')"#, "7"),
        (
            r#"JSON_VALUE('{"a": {"b": [[1,2],[3]]}}', '$.a.b[0][1]')"#,
            "2",
        ),
        ("JSON_VALUE('[1,2', '$[0]')", "NULL"),
    ]);
}

#[test]
fn queries() {
    check_calls(&[
        (r#"JSON_QUERY('{"a": {"b": 1}}', '$.a')"#, r#"{"b":1}"#),
        (
            r#"JSON_QUERY('{"a": {"c": 1.50, "b": "x/y"}}', '$.a')"#,
            r#"{"b":"x/y","c":1.50}"#,
        ),
        (r#"JSON_QUERY('{"a": [1, 2]}', '$.a')"#, "[1,2]"),
        (r#"JSON_QUERY('{"a": 1}', '$.a')"#, "NULL"),
        (r#"JSON_QUERY('{"a": null}', '$.a')"#, "NULL"),
        (r#"JSON_QUERY('{"a": 1}', '$.b')"#, "NULL"),
        (r#"JSON_QUERY('{"a": 1}', '$.a' WITH WRAPPER)"#, "[1]"),
        (r#"JSON_QUERY('{"a": [1]}', '$.a' WITH WRAPPER)"#, "[[1]]"),
        (
            r#"JSON_QUERY('{"a": [1]}', '$.a' WITH CONDITIONAL WRAPPER)"#,
            "[1]",
        ),
        (
            r#"JSON_QUERY('{"a": {"b":1}}', '$.a' WITH CONDITIONAL WRAPPER)"#,
            r#"[{"b":1}]"#,
        ),
        (
            r#"JSON_QUERY('{"a": 1}', '$.a' WITH CONDITIONAL WRAPPER)"#,
            "[1]",
        ),
        (r#"JSON_QUERY('{"a": 1}', '$.b' WITH WRAPPER)"#, "NULL"),
        (
            r#"JSON_QUERY('{"a": 1}', 'strict $.b' WITH WRAPPER)"#,
            "NULL",
        ),
        (
            r#"JSON_QUERY('{"a": 1}', '$.a' EMPTY OBJECT ON ERROR)"#,
            "{}",
        ),
        ("JSON_QUERY('bad', '$.a' EMPTY ARRAY ON ERROR)", "[]"),
        (
            r#"JSON_QUERY('{"a": [{"b": 1}, {"b": 2}]}', '$.a[*].b')"#,
            "[1,2]",
        ),
        (
            r#"JSON_QUERY('{"a": [{"b": 1}, {"b": 2}]}', '$.a[*].b' WITH WRAPPER)"#,
            "[[1,2]]",
        ),
        (
            r#"JSON_QUERY('{"b": {"z": 1e2, "y": "\u00e9\u0001"}}', '$.b')"#,
            r#"{"y":"é\u0001","z":1E+2}"#,
        ),
    ]);
}

#[test]
fn tests_of_json() {
    check_calls(&[
        (r#"JSON_EXISTS('{"a": 1}', '$.a')"#, "true"),
        (r#"JSON_EXISTS('{"a": null}', '$.a')"#, "false"),
        (r#"JSON_EXISTS('{"a": 1}', '$.b')"#, "false"),
        (r#"JSON_EXISTS('{"a": 1}', 'strict $.b')"#, "false"),
        (
            r#"JSON_EXISTS('{"a": 1}', 'strict $.b' TRUE ON ERROR)"#,
            "true",
        ),
        (
            r#"JSON_EXISTS('{"a": 1}', 'strict $.b' UNKNOWN ON ERROR)"#,
            "NULL",
        ),
        ("JSON_EXISTS('bad', '$.a')", "false"),
        ("JSON_EXISTS('bad', '$.a' UNKNOWN ON ERROR)", "NULL"),
        ("JSON_EXISTS(CAST(NULL AS STRING), '$')", "NULL"),
        (r#"JSON_EXISTS('{"a": [{"b": 1}]}', '$.a[*].c')"#, "true"),
        (r#"JSON_EXISTS('{"a": [{"b": 1}]}', '$.a[0].b')"#, "true"),
        (r#"'{"a":1}' IS JSON"#, "true"),
        ("'1' IS JSON", "true"),
        ("'abc' IS JSON", "false"),
        ("'' IS JSON", "false"),
        (r#"'{"a":1} x' IS JSON"#, "true"),
        ("'[1]' IS JSON ARRAY", "true"),
        ("'[1]' IS JSON OBJECT", "false"),
        ("'{}' IS JSON OBJECT", "true"),
        (r#"'"x"' IS JSON SCALAR"#, "true"),
        ("'null' IS JSON SCALAR", "true"),
        ("'{}' IS NOT JSON", "false"),
        ("'x' IS NOT JSON VALUE", "true"),
        ("CAST(NULL AS STRING) IS JSON", "false"),
        ("'[1,]' IS JSON", "false"),
    ]);
}

#[test]
fn values_become_json() {
    check_calls(&[
        (
            "JSON_OBJECT('a' VALUE 1, 'b' VALUE 'x')",
            r#"{"a":1,"b":"x"}"#,
        ),
        (
            "JSON_OBJECT(KEY 'a' VALUE CAST(NULL AS INT))",
            r#"{"a":null}"#,
        ),
        (
            "JSON_OBJECT('a' VALUE CAST(NULL AS INT) ABSENT ON NULL)",
            "{}",
        ),
        ("JSON_OBJECT('b' VALUE 1, 'a' VALUE 2)", r#"{"a":2,"b":1}"#),
        (
            "JSON_OBJECT('a' VALUE JSON_OBJECT('b' VALUE 1))",
            r#"{"a":{"b":1}}"#,
        ),
        ("JSON_OBJECT('a' VALUE JSON_ARRAY(1, 2))", r#"{"a":[1,2]}"#),
        (
            "JSON_OBJECT('a' VALUE ARRAY[1, 2], 'm' VALUE MAP['k', 1])",
            r#"{"a":[1,2],"m":{"k":1}}"#,
        ),
        (
            r#"JSON_OBJECT('a' VALUE '{"b":1}')"#,
            r#"{"a":"{\"b\":1}"}"#,
        ),
        (
            r#"JSON_OBJECT('a' VALUE JSON('{"b":1}'))"#,
            r#"{"a":{"b":1}}"#,
        ),
        (
            r#"JSON_OBJECT('a' VALUE 'x"y/ä' || CHR(10))"#,
            r#"{"a":"x\"y/ä\n"}"#,
        ),
        (
            "JSON_OBJECT('a' VALUE CAST('1.10' AS DECIMAL(10, 2)), 'b' VALUE CAST('1e20' AS DOUBLE), 'f' VALUE CAST(1.5 AS FLOAT))",
            r#"{"a":1.10,"b":1.0E+20,"f":1.5}"#,
        ),
        ("JSON_ARRAY(1, 'a', TRUE)", r#"[1,"a",true]"#),
        ("JSON_ARRAY(1, CAST(NULL AS INT))", "[1]"),
        ("JSON_ARRAY(1, CAST(NULL AS INT) NULL ON NULL)", "[1,null]"),
        ("JSON_ARRAY('x' ABSENT ON NULL)", r#"["x"]"#),
        (r#"JSON_STRING('a"b')"#, r#""a\"b""#),
        ("JSON_STRING(1)", "1"),
        ("JSON_STRING(CAST(NULL AS INT))", "NULL"),
        ("JSON_STRING(ARRAY[1, 2])", "[1,2]"),
        ("JSON_STRING(MAP['a', 1])", r#"{"a":1}"#),
        ("JSON_STRING(CAST(2 AS DOUBLE))", "2.0"),
        (r#"JSON_QUOTE('a"b')"#, r#""a\"b""#),
    ]);
}

#[test]
fn what_cannot_be_is_refused() {
    for (call, part) in [
        ("JSON_VALUE('{}', '$..b')", "cannot be used"),
        ("JSON_VALUE('{}', '$.*.b')", "no plain name"),
        ("JSON_VALUE('{}', 'a')", "does not begin with $"),
        ("JSON_VALUE('{}', '$.a' RETURNING INT)", "RETURNING"),
        (
            "JSON_QUERY('{}', '$.a' EMPTY ARRAY ON EMPTY)",
            "NULL ON EMPTY",
        ),
        (
            "JSON_OBJECT('a' VALUE DATE '2024-01-02')",
            "CAST it AS STRING",
        ),
        (
            r#"JSON_VALUE('{"a": 1}', 'strict $.b' ERROR ON ERROR)"#,
            "the job says ERROR",
        ),
        (
            r#"JSON_VALUE('{"a": 1}', 'lax $.b' ERROR ON EMPTY)"#,
            "the job says ERROR",
        ),
        ("JSON('bad')", "is no JSON"),
    ] {
        check_error(call, part);
    }
}
