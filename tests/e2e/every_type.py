"""A table with a column of every type that can be written, as data: its job, its rows, and what it has to be in the catalog."""

import base64
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    name: str
    sql: str
    hive: str
    values: tuple  # as JSON, in the first and the third row; the second row is NULL


def encoded(raw):
    return base64.b64encode(raw).decode()


COLUMNS = (
    Column("a_boolean", "BOOLEAN", "boolean", (True, False)),
    Column("a_tinyint", "TINYINT", "tinyint", (-128, 127)),
    Column("a_smallint", "SMALLINT", "smallint", (-32768, 32767)),
    Column("an_int", "INT", "int", (-2147483648, 2147483647)),
    Column("a_bigint", "BIGINT", "bigint", (-9223372036854775808, 9223372036854775807)),
    Column("a_float", "FLOAT", "float", (1.5, -3.4e38)),
    Column("a_double", "DOUBLE", "double", (0.1, 1e308)),
    # Parquet has three ways to keep a DECIMAL: in 4 bytes, in 8, in as many as it takes.
    Column("small_decimal", "DECIMAL(9, 2)", "decimal(9,2)", (-1234567.89, 999.99)),
    Column("large_decimal", "DECIMAL(18, 18)", "decimal(18,18)", ("0.123456789012345678", "-0.000000000000000001")),
    Column("huge_decimal", "DECIMAL(38, 10)", "decimal(38,10)", ("-1234567890123456789012345678.0123456789", "0.0000000001")),
    Column("a_decimal", "DECIMAL", "decimal(10,0)", (1234567890, -1)),
    Column("a_string", "STRING", "string", ("héllo \u2603", "")),
    # Lengths are not enforced: with its length in the catalog, a reader would cut this one off or pad it.
    Column("a_varchar", "VARCHAR(5)", "string", ("longer than five", "")),
    Column("a_char", "CHAR(3)", "string", ("a", "longer than three")),
    Column("some_bytes", "BYTES", "binary", (encoded(b"\x00\xff\x01"), "")),
    Column("a_varbinary", "VARBINARY(2)", "binary", (encoded(b"abcdef"), "")),
    Column("a_date", "DATE", "date", ("1969-12-31", "9999-12-31")),
    Column("second_time", "TIMESTAMP(0)", "timestamp", ("2024-02-29 12:34:56", "1969-12-31 23:59:59")),
    Column("milli_time", "TIMESTAMP(3)", "timestamp", ("2024-02-29 12:34:56.789", "0001-01-01 00:00:00")),
    Column("micro_time", "TIMESTAMP(6)", "timestamp", ("1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999")),
    Column("milli_moment", "TIMESTAMP_LTZ(3)", "timestamp", ("2024-02-29 12:34:56.789Z", "1969-12-31 23:59:59.999Z")),
    Column("micro_moment", "TIMESTAMP_LTZ(6)", "timestamp", ("2024-02-29 12:34:56.123456Z", "1969-12-31 23:59:59.999999Z")),
    Column("a_row", "ROW<latitude DOUBLE, `Longitude` DOUBLE, seen TIMESTAMP(3), floor TINYINT>",
           "struct<latitude:double,longitude:double,seen:timestamp,floor:tinyint>",
           ({"latitude": 51.5, "Longitude": -0.1, "seen": "2024-02-29 12:34:56.789", "floor": 7}, {"latitude": 51.5})),
    Column("an_array", "ARRAY<STRING>", "array<string>", (["a", None, ""], [])),
    Column("not_null_items", "ARRAY<INT NOT NULL>", "array<int>", ([1, 2], [])),
    Column("a_map", "MAP<STRING, INT>", "map<string,int>", ({"k": 1, "l": None}, {})),
    Column("times_in_a_map", "MAP<STRING, TIMESTAMP(6)>", "map<string,timestamp>", ({"t": "2024-02-29 12:34:56.123456"}, {})),
    Column("deep", "ARRAY<ROW<a INT, b MAP<STRING, ARRAY<DECIMAL(10, 2)>>>>", "array<struct<a:int,b:map<string,array<decimal(10,2)>>>>",
           ([{"a": 1, "b": {"x": [1.25, None]}}, None], [])),
    Column("MixedCase", "STRING", "string", ("found", "by its name in lower case")),
)
# Every kind of partition key; of the text one a value with all that is escaped in a folder's name, and NULL. A quote is not among
# it: Trino does not escape quotes when it asks Glue for partitions.
KEYS = (
    Column("day", "DATE", "date", ("2024-02-29", "1969-12-31")),
    Column("place", "STRING", "string", ('a b/c=d%e:f#"[x]{y}^?*\\ é', None)),
    Column("number", "INT", "int", (7, -3)),
    Column("flag", "BOOLEAN", "boolean", (True, False)),
)
NULL_KEYS = {"day": "2024-03-01", "place": "", "number": 0, "flag": True}

COLUMN_TYPES = {"id": "int"} | {column.name.lower(): column.hive for column in COLUMNS}
KEY_TYPES = {column.name: column.hive for column in KEYS}


def rows():
    """Three rows: values, NULLs, and values at the other end."""
    first, last = ({"id": number} | {column.name: column.values[at] for column in COLUMNS + KEYS} for number, at in ((1, 0), (3, 1)))
    return [first, {"id": 2} | NULL_KEYS, last]


def prepare(folder, extra=""):
    """Writes the rows and the job into a folder, and returns the job's path. `extra` is another column of both tables."""
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    columns = ",\n  ".join(["id INT", *(f"`{column.name}` {column.sql}" for column in COLUMNS), *([extra] if extra else []),
                            *(f"`{column.name}` {column.sql}" for column in KEYS)])
    job = folder / "every_type.sql"
    job.write_text(f"""SET 'pipeline.name' = 'every_type';
SET 'execution.checkpointing.dir' = '${{CHECKPOINTS}}';
CREATE TABLE incoming (
  {columns}
) WITH ('connector' = 'filesystem', 'path' = '{folder}/input', 'format' = 'json');
CREATE TABLE every_type (
  {columns}
) PARTITIONED BY ({", ".join(f"`{column.name}`" for column in KEYS)})
WITH ('connector' = 'filesystem', 'path' = '${{LAKE}}/every_type', 'format' = 'parquet');
INSERT INTO every_type SELECT * FROM incoming;
""")
    return job
