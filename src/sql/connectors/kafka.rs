//! The connectors `kafka` and `upsert-kafka`: their options, and what these have to do with each other.

use super::super::options::{OptionSpec, Uses};
use super::super::refusal::{Parsed, Refusal, did_you_mean};
use super::super::values::Kind;
use super::super::{ColumnKind, Place, Table};
use super::stored_columns;

/// What a record has beside its value that can be written.
const WRITABLE: &[&str] = &["timestamp", "headers"];

const STARTUP: &[&str] = &[
    "group-offsets",
    "earliest-offset",
    "latest-offset",
    "timestamp",
    "specific-offsets",
];
const BOUNDED: &[&str] = &[
    "unbounded",
    "latest-offset",
    "group-offsets",
    "timestamp",
    "specific-offsets",
];

/// Options of both connectors.
pub const BOTH: &[OptionSpec] = &[
    OptionSpec::new(
        "properties.bootstrap.servers",
        Kind::Text,
        "the brokers, host:port with , between them",
    )
    .required(),
    OptionSpec::new(
        "properties.*",
        Kind::AnyText,
        "any other property of the Kafka client",
    ),
    OptionSpec::new("format", Kind::Text, "the format of values"),
    OptionSpec::new("key.format", Kind::Text, "the format of keys"),
    OptionSpec::new(
        "key.fields-prefix",
        Kind::AnyText,
        "what the names of key columns begin with, in the table only",
    ),
    OptionSpec::new(
        "value.fields-include",
        Kind::OneOf(&["ALL", "EXCEPT_KEY"]),
        "whether key columns are in the value too",
    )
    .default("ALL"),
    OptionSpec::new("client.id.prefix", Kind::Text, "")
        .no_effect("the client is named after the job"),
    OptionSpec::new(
        "sink.delivery-guarantee",
        Kind::OneOf(&["exactly-once", "at-least-once", "none"]),
        "what a reader may see twice",
    )
    .default("exactly-once"),
    OptionSpec::new(
        "sink.transactional-id-prefix",
        Kind::Text,
        "what the transactional ids begin with",
    ),
    OptionSpec::not_yet("sink.transaction-naming-strategy", "leave it out"),
    OptionSpec::not_yet("sink.semantic", "use 'sink.delivery-guarantee'"),
];

/// Options of `kafka` that have to do with reading, or with both.
pub const SOURCE: &[OptionSpec] = &[
    OptionSpec::new(
        "tributary.fail-on-data-loss",
        Kind::Boolean,
        "whether the job fails where the broker has dropped offsets that it has not read; else it warns and goes on",
    )
    .default("false"),
    OptionSpec::new(
        "topic",
        Kind::List(';'),
        "the topic; several to read from with ; between them",
    ),
    OptionSpec::new(
        "topic-pattern",
        Kind::Text,
        "a regular expression for the topics to read from",
    ),
    OptionSpec::new(
        "properties.group.id",
        Kind::Text,
        "the consumer group; lag tools see how far it is",
    ),
    OptionSpec::new(
        "key.fields",
        Kind::List(';'),
        "the columns that are in the key",
    ),
    OptionSpec::new(
        "scan.startup.mode",
        Kind::OneOf(STARTUP),
        "where to begin without a checkpoint",
    )
    .default("group-offsets"),
    OptionSpec::new(
        "scan.startup.specific-offsets",
        Kind::List(';'),
        "for example partition:0,offset:42;partition:1,offset:300",
    ),
    OptionSpec::new(
        "scan.startup.timestamp-millis",
        Kind::Integer,
        "milliseconds since 1970",
    ),
    OptionSpec::new("scan.bounded.mode", Kind::OneOf(BOUNDED), "where to end").default("unbounded"),
    OptionSpec::new(
        "scan.bounded.specific-offsets",
        Kind::List(';'),
        "for example partition:0,offset:42;partition:1,offset:300",
    ),
    OptionSpec::new(
        "scan.bounded.timestamp-millis",
        Kind::Integer,
        "milliseconds since 1970",
    ),
    OptionSpec::new(
        "scan.topic-partition-discovery.interval",
        Kind::Duration,
        "how often to look for new partitions (0: never)",
    )
    .default("5 min"),
];

/// Options of `kafka` that have to do with writing.
pub const SINK: &[OptionSpec] = &[OptionSpec::new(
    "sink.partitioner",
    Kind::OneOf(&["default", "fixed", "round-robin"]),
    "which partition a row goes to",
)
.default("default")];

/// Options of `upsert-kafka`.
pub const UPSERT: &[OptionSpec] = &[
    OptionSpec::new("topic", Kind::Text, "the topic").required(),
    OptionSpec::new("sink.buffer-flush.max-rows", Kind::Integer, "")
        .no_effect("of each key the last row of an epoch is written"),
    OptionSpec::new("sink.buffer-flush.interval", Kind::Duration, "")
        .no_effect("of each key the last row of an epoch is written"),
];

pub fn check(table: &Table, uses: Uses) -> Parsed<()> {
    let options = &table.options;
    let place = |key: &str| {
        options
            .entries
            .get(key)
            .map_or(table.place, |entry| entry.place)
    };
    match (options.get("topic"), options.get("topic-pattern")) {
        (None, None) => {
            return Err(Refusal::new(
                table.place,
                format!("the table '{}' has no option 'topic'", table.name),
            )
            .hint("the connector 'kafka' needs 'topic', or 'topic-pattern' to read from"));
        }
        (Some(_), Some(_)) => {
            return Err(Refusal::new(
                place("topic-pattern"),
                "'topic' and 'topic-pattern' exclude each other",
            ));
        }
        _ => {}
    }
    if uses.written && options.list("topic").len() != 1 {
        return Err(Refusal::new(
            place("topic"),
            format!(
                "the table '{}' is written, so it needs exactly one topic",
                table.name
            ),
        ));
    }
    if uses.written {
        check_written(table)?;
    }
    for (mode, key, value) in [
        (
            "scan.startup.mode",
            "scan.startup.timestamp-millis",
            "timestamp",
        ),
        (
            "scan.startup.mode",
            "scan.startup.specific-offsets",
            "specific-offsets",
        ),
        (
            "scan.bounded.mode",
            "scan.bounded.timestamp-millis",
            "timestamp",
        ),
        (
            "scan.bounded.mode",
            "scan.bounded.specific-offsets",
            "specific-offsets",
        ),
    ] {
        match (
            options.text(mode) == Some(value),
            options.get(key).is_some(),
        ) {
            (true, false) => {
                return Err(Refusal::new(
                    place(mode),
                    format!("'{mode}' = '{value}' needs '{key}'"),
                ));
            }
            (false, true) => {
                return Err(Refusal::new(
                    place(key),
                    format!("'{key}' needs '{mode}' = '{value}'"),
                ));
            }
            _ => {}
        }
    }
    for (one, other) in [("key.format", "key.fields"), ("key.fields", "key.format")] {
        if options.get(one).is_some() && options.get(other).is_none() {
            return Err(Refusal::new(place(one), format!("'{one}' needs '{other}'")));
        }
    }
    let columns = || stored_columns(table);
    for name in options.list("key.fields") {
        if !columns().any(|column| column == name) {
            return Err(Refusal::new(
                place("key.fields"),
                format!("there is no column '{name}' for the key"),
            )
            .hint(did_you_mean(&name, columns())));
        }
    }
    check_prefix(table, &options.list("key.fields"))
}

/// What a table needs that is written as upserts.
pub fn check_upsert(table: &Table, _: Uses) -> Parsed<()> {
    if table.primary_key.is_empty() {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no primary key", table.name),
        )
        .hint(
            "'upsert-kafka' writes the last row of each key: declare PRIMARY KEY (..) NOT ENFORCED; its columns are the record's key",
        ));
    }
    if table.options.get("key.format").is_none() {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no option 'key.format'", table.name),
        )
        .hint("the primary key is the record's key, so it needs a format"));
    }
    check_written(table)?;
    check_prefix(table, &table.primary_key)
}

fn check_written(table: &Table) -> Parsed<()> {
    for column in &table.columns {
        if let ColumnKind::Metadata {
            key,
            is_virtual: false,
            ..
        } = &column.kind
            && !WRITABLE.contains(&key.as_str())
        {
            return Err(Refusal::new(
                column.place,
                format!("the metadata '{key}' cannot be written"),
            )
            .hint(format!(
                "declare the column VIRTUAL; written are {}",
                WRITABLE.join(" and ")
            )));
        }
    }
    let options = &table.options;
    if options.text("sink.partitioner") == Some("round-robin")
        && options.get("key.fields").is_some()
    {
        return Err(Refusal::new(
            table.option_place("sink.partitioner"),
            "'sink.partitioner' = 'round-robin' is for records without a key",
        )
        .hint("leave 'key.fields' out, or the partitioner: records with a key go by it"));
    }
    Ok(())
}

/// A prefix keeps names of the key apart from those of the value, so it is of no use where the value has them too.
fn check_prefix(table: &Table, keys: &[String]) -> Parsed<()> {
    let options = &table.options;
    let prefix = options.get("key.fields-prefix").unwrap_or_default();
    if prefix.is_empty() {
        return Ok(());
    }
    let refused = |message: String| -> Parsed<()> {
        let place: Place = table.option_place("key.fields-prefix");
        Err(Refusal::new(place, message))
    };
    if !options.keys_apart() {
        return refused(
            "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'".to_owned(),
        );
    }
    match keys.iter().find(|name| !name.starts_with(prefix)) {
        Some(name) => refused(format!(
            "the key's column '{name}' does not begin with '{prefix}', as 'key.fields-prefix' has it"
        )),
        None => Ok(()),
    }
}
