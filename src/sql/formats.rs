//! The formats, and every option that each of them knows. Names and defaults are Flink's.

use super::connectors::stored_columns;
use super::options::OptionSpec;
use super::refusal::{Parsed, Refusal};
use super::values::Kind;
use super::{Place, Table};

pub struct Format {
    pub name: &'static str,
    pub reads: bool,
    pub options: &'static [OptionSpec],
    /// What the format asks of the table's columns; the place is that of the option that chose it.
    pub check: Option<fn(&Table, Place) -> Parsed<()>>,
}

pub const FORMATS: &[Format] = &[
    Format {
        name: "json",
        reads: true,
        options: JSON,
        check: None,
    },
    Format {
        name: "csv",
        reads: true,
        options: CSV,
        check: None,
    },
    Format {
        name: "raw",
        reads: true,
        options: RAW,
        check: Some(check_raw),
    },
    Format {
        name: "parquet",
        reads: true,
        options: PARQUET,
        check: None,
    },
];

/// Formats of Flink's that may come.
pub const LATER_FORMATS: &[&str] = &[
    "avro",
    "avro-confluent",
    "debezium-avro-confluent",
    "orc",
    "protobuf",
    "debezium-json",
    "canal-json",
    "maxwell-json",
    "ogg-json",
];

const JSON: &[OptionSpec] = &[
    OptionSpec::new(
        "json.fail-on-missing-field",
        Kind::Boolean,
        "whether a field that is not there is an error",
    )
    .default("false"),
    OptionSpec::new(
        "json.ignore-parse-errors",
        Kind::Boolean,
        "true: bad fields are NULL and bad records are dropped; false: the job fails; not given: dead letters",
    ),
    OptionSpec::new(
        "json.timestamp-format.standard",
        Kind::OneOf(&["SQL", "ISO-8601"]),
        "'2024-01-01 10:00:00.123' or '2024-01-01T10:00:00.123'",
    )
    .default("SQL"),
    OptionSpec::new(
        "json.map-null-key.mode",
        Kind::OneOf(&["FAIL", "DROP", "LITERAL"]),
        "what is written for a NULL key of a map",
    )
    .default("FAIL"),
    OptionSpec::new(
        "json.map-null-key.literal",
        Kind::AnyText,
        "the key for LITERAL",
    )
    .default("null"),
    OptionSpec::new(
        "json.encode.decimal-as-plain-number",
        Kind::Boolean,
        "whether decimals are written without an exponent",
    )
    .default("false"),
    OptionSpec::new(
        "json.encode.ignore-null-fields",
        Kind::Boolean,
        "whether NULL fields are left out",
    )
    .default("false"),
    OptionSpec::new("json.decode.json-parser.enabled", Kind::Boolean, "")
        .no_effect("there is one decoder"),
];

const CSV: &[OptionSpec] = &[
    OptionSpec::new(
        "csv.field-delimiter",
        Kind::Character,
        "what stands between two fields",
    )
    .default(","),
    OptionSpec::new(
        "csv.disable-quote-character",
        Kind::Boolean,
        "whether no field is quoted",
    )
    .default("false"),
    OptionSpec::new(
        "csv.quote-character",
        Kind::Character,
        "what stands around a field with a delimiter in it",
    )
    .default("\""),
    OptionSpec::new(
        "csv.allow-comments",
        Kind::Boolean,
        "whether lines that begin with # are passed over",
    )
    .default("false"),
    OptionSpec::new(
        "csv.ignore-parse-errors",
        Kind::Boolean,
        "as json.ignore-parse-errors",
    ),
    OptionSpec::new(
        "csv.array-element-delimiter",
        Kind::Character,
        "what stands between two elements",
    )
    .default(";"),
    OptionSpec::new(
        "csv.escape-character",
        Kind::Character,
        "what takes the next character's meaning away",
    ),
    OptionSpec::new(
        "csv.null-literal",
        Kind::AnyText,
        "the text that stands for NULL",
    ),
    OptionSpec::new(
        "csv.write-bigdecimal-in-scientific-notation",
        Kind::Boolean,
        "whether decimals are written with an exponent",
    )
    .default("true"),
];

const RAW: &[OptionSpec] = &[
    OptionSpec::new("raw.charset", Kind::Text, "the encoding of text")
        .default("UTF-8")
        .only("UTF-8", "other encodings are not supported yet"),
    OptionSpec::new(
        "raw.endianness",
        Kind::OneOf(&["big-endian", "little-endian"]),
        "the order of a number's bytes",
    )
    .default("big-endian"),
];

const PARQUET: &[OptionSpec] = &[
    OptionSpec::new("parquet.utc-timezone", Kind::Boolean, "").no_effect("the zone is UTC"),
    OptionSpec::new(
        "parquet.timestamp.time.unit",
        Kind::OneOf(&["micros", "millis", "nanos"]),
        "",
    )
    .no_effect("a timestamp is stored as its type says"),
    OptionSpec::new("parquet.write.int64.timestamp", Kind::Boolean, "")
        .no_effect("timestamps are stored as INT64"),
    OptionSpec::not_yet("parquet.compression", "use 'tributary.parquet.compression'"),
    OptionSpec::not_yet("parquet.*", "Tributary chooses the layout of files itself"),
];

fn check_raw(table: &Table, place: Place) -> Parsed<()> {
    // The key of a record may be raw while the value is not, so only a table that has nothing else is judged.
    let is_value = table
        .options
        .entries
        .get("format")
        .is_some_and(|entry| entry.place == place);
    let keys = if table
        .options
        .get("value.fields-include")
        .is_some_and(|fields| fields.eq_ignore_ascii_case("EXCEPT_KEY"))
    {
        table.options.list("key.fields").len()
    } else {
        0
    };
    if is_value && stored_columns(table).count() != keys + 1 {
        return Err(Refusal::new(
            place,
            format!(
                "the format 'raw' holds one column, and the table '{}' has {}",
                table.name,
                stored_columns(table).count()
            ),
        ));
    }
    Ok(())
}
