//! The formats, and every option that each of them knows. Names and defaults are Flink's.

use super::connectors::stored_columns;
use super::csv::CsvOptions;
use super::options::OptionSpec;
use super::refusal::{Parsed, Refusal};
use super::values::Kind;
use super::{ColumnKind, Place, Table};
use crate::avro::{self, Schema};
use crate::registry::{self, RecordPart, Settings};
use arrow::datatypes::{Field, Fields};

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
        check: Some(check_csv),
    },
    Format {
        name: "raw",
        reads: true,
        options: RAW,
        check: Some(check_raw),
    },
    Format {
        name: registry::FORMAT,
        reads: true,
        options: AVRO_CONFLUENT,
        check: Some(check_avro_confluent),
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
        "what stands around a field with a delimiter in it; doubled inside of one",
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
    OptionSpec::not_yet(
        "csv.array-element-delimiter",
        "a nested column cannot be in CSV: leave it out, turn it into a STRING, or use json",
    ),
    OptionSpec::new(
        "csv.escape-character",
        Kind::Character,
        "what takes the next character's meaning away, where a table is read; another one than the other two",
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

const AVRO_CONFLUENT: &[OptionSpec] = &[
    OptionSpec::new(
        "avro-confluent.url",
        Kind::List(','),
        "the schema registry; of several the first that answers",
    )
    .required(),
    OptionSpec::new(
        "avro-confluent.subject",
        Kind::Text,
        "the subject that the schema of written records is registered under; without it, the topic's name with -value or -key",
    ),
    OptionSpec::new(
        "avro-confluent.schema",
        Kind::Text,
        "the schema in place of the one that is made of the columns; it has to be for them",
    ),
    OptionSpec::new(
        "avro-confluent.auto.register.schemas",
        Kind::Boolean,
        "whether a schema is registered that is not there; else that is an error",
    )
    .default("true"),
    OptionSpec::new(
        "avro-confluent.basic-auth.credentials-source",
        Kind::OneOf(&["USER_INFO", "URL"]),
        "where the name and password are: in the option below, or in the URL",
    ),
    OptionSpec::new(
        "avro-confluent.basic-auth.user-info",
        Kind::Text,
        "name:password",
    ),
    OptionSpec::new(
        "avro-confluent.bearer-auth.credentials-source",
        Kind::OneOf(&["STATIC_TOKEN"]),
        "where the token is: in the option below",
    ),
    OptionSpec::new("avro-confluent.bearer-auth.token", Kind::Text, "the token"),
    OptionSpec::new(
        "avro-confluent.ssl.truststore.location",
        Kind::Text,
        "a PEM file with the certificates to trust in place of the system's",
    ),
    OptionSpec::new("avro-confluent.ssl.truststore.password", Kind::AnyText, "")
        .no_effect("PEM files of certificates have no password"),
    OptionSpec::new(
        "avro-confluent.ssl.keystore.location",
        Kind::Text,
        "a PEM file with a certificate and its key, for a registry that asks who calls",
    ),
    OptionSpec::new("avro-confluent.ssl.keystore.password", Kind::AnyText, "")
        .no_effect("the key is read without a password"),
    OptionSpec::new(
        "avro-confluent.properties.*",
        Kind::AnyText,
        "a property of Confluent's client that means something here",
    ),
    OptionSpec::not_yet(
        "avro-confluent.schema-registry.*",
        "say 'avro-confluent.url', 'avro-confluent.subject' or 'avro-confluent.schema'",
    ),
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

fn check_csv(table: &Table, place: Place) -> Parsed<()> {
    let entries = &table.options.entries;
    let prefix = match is_key(table, place) {
        true => "key.csv.",
        false => "csv.",
    };
    let name = |option: &str| format!("{prefix}{option}");
    CsvOptions::of(|option| table.options.get(&name(option)))
        .map(drop)
        .map_err(|wrong| {
            let key = name(wrong.option);
            let place = entries.get(&key).map_or(place, |entry| entry.place);
            Refusal::new(place, format!("'{key}': {}", wrong.what))
        })
}

/// Whether the option at this place chose the format of the key.
fn is_key(table: &Table, place: Place) -> bool {
    let key = table.options.entries.get("key.format");
    key.is_some_and(|entry| entry.place == place)
}

fn check_raw(table: &Table, place: Place) -> Parsed<()> {
    // The key of a record may be raw while the value is not, so only a table that has nothing else is judged.
    let is_value = table
        .options
        .entries
        .get("format")
        .is_some_and(|entry| entry.place == place);
    let keys = match table.options.keys_apart() {
        true => table.options.list("key.fields").len(),
        false => 0,
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

/// What can be said of a registry without asking it, and whether Avro can hold the columns.
fn check_avro_confluent(table: &Table, place: Place) -> Parsed<()> {
    let entries = &table.options.entries;
    let (part, prefix) = match is_key(table, place) {
        true => (RecordPart::Key, "key."),
        false => (RecordPart::Value, ""),
    };
    let name = |option: &str| format!("{prefix}{}.{option}", registry::FORMAT);
    let refuse = |option: &str, what: String| {
        let key = name(option);
        let place = entries.get(&key).map_or(place, |entry| entry.place);
        Refusal::new(place, format!("'{key}': {what}"))
    };
    Settings::of(&table.options, prefix, part)
        .map_err(|wrong| refuse(&wrong.option, wrong.what))?;
    let fields = fields_of(table, part);
    match table.options.get(&name("schema")) {
        None => avro::of_columns(&fields).map(drop).map_err(|what| {
            let format = registry::FORMAT;
            Refusal::new(
                place,
                format!("the format '{format}' cannot hold the table: {what}"),
            )
        }),
        Some(own) => Schema::parse(own, &[])
            .and_then(|schema| {
                avro::keeps_the_rules(&schema)?;
                avro::fits(&schema, &fields)
            })
            .map_err(|what| {
                refuse("schema", what).hint("without this option the schema is made of the columns")
            }),
    }
}

/// The columns in this part of a record, under the names that they have there.
fn fields_of(table: &Table, part: RecordPart) -> Fields {
    let keys = match table.options.get("connector") {
        Some("upsert-kafka") => table.primary_key.clone(),
        _ => table.options.list("key.fields"),
    };
    let without_keys = table.options.keys_apart();
    let prefix = table.options.get("key.fields-prefix").unwrap_or_default();
    let physical = table
        .columns
        .iter()
        .filter_map(|column| match &column.kind {
            ColumnKind::Physical {
                data_type,
                not_null,
            } => Some(Field::new(&column.name, data_type.clone(), !not_null)),
            _ => None,
        });
    let physical: Vec<Field> = physical.collect();
    let plain = |field: &Field| {
        let name = field.name().strip_prefix(prefix).unwrap_or(field.name());
        field.clone().with_name(name)
    };
    match part {
        // In the order in which they are named.
        RecordPart::Key => keys
            .iter()
            .filter_map(|key| physical.iter().find(|field| field.name() == key))
            .map(plain)
            .collect(),
        RecordPart::Value => physical
            .into_iter()
            .filter(|field| !(without_keys && keys.contains(field.name())))
            .collect(),
    }
}
