//! The connectors, and every option that each of them knows. Names and defaults are Flink's; our own begin with
//! `tributary.`.

pub mod filesystem;

use super::options::{OptionSpec, Uses};
use super::refusal::{Parsed, Refusal, did_you_mean};
use super::values::Kind;
use super::{ColumnKind, Table};

pub struct Connector {
    pub name: &'static str,
    pub reads: bool,
    pub writes: bool,
    pub formats: &'static [&'static str],
    pub needs_format: bool,
    pub options: &'static [&'static [OptionSpec]],
    /// The keys of its metadata columns.
    pub metadata: &'static [&'static str],
    /// Those that only Flink has.
    pub later_metadata: &'static [&'static str],
    /// What its options have to do with each other.
    pub check: fn(&Table, Uses) -> Parsed<()>,
}

pub const CONNECTORS: &[Connector] = &[
    Connector {
        name: "kafka",
        reads: true,
        writes: true,
        formats: &["json", "csv", "raw"],
        needs_format: true,
        options: &[COMMON, SOURCE, KAFKA],
        metadata: &[
            "topic",
            "partition",
            "offset",
            "timestamp",
            "timestamp-type",
            "headers",
        ],
        later_metadata: &["leader-epoch"],
        check: check_kafka,
    },
    Connector {
        name: "filesystem",
        reads: true,
        writes: true,
        formats: &["json", "csv", "raw", "parquet"],
        needs_format: true,
        options: &[
            COMMON,
            SOURCE,
            filesystem::FILES,
            filesystem::COMMIT,
            filesystem::GLUE,
        ],
        metadata: &[
            "file.path",
            "file.name",
            "file.size",
            "file.modification-time",
        ],
        later_metadata: &[],
        check: filesystem::check,
    },
    Connector {
        name: "datagen",
        reads: true,
        writes: false,
        formats: &[],
        needs_format: false,
        options: &[COMMON, SOURCE, DATAGEN],
        metadata: &[],
        later_metadata: &[],
        check: check_datagen,
    },
    Connector {
        name: "print",
        reads: false,
        writes: true,
        formats: &[],
        needs_format: false,
        options: &[COMMON, PRINT],
        metadata: &[],
        later_metadata: &[],
        check: anything,
    },
    Connector {
        name: "blackhole",
        reads: false,
        writes: true,
        formats: &[],
        needs_format: false,
        options: &[COMMON],
        metadata: &[],
        later_metadata: &[],
        check: anything,
    },
    // Rows that a test puts in and takes out.
    Connector {
        name: "memory",
        reads: true,
        writes: true,
        formats: &["json", "csv", "raw"],
        needs_format: false,
        options: &[COMMON, SOURCE, MEMORY],
        metadata: &["topic", "partition", "offset", "timestamp"],
        later_metadata: &[],
        check: anything,
    },
];

/// Connectors of Flink's that may come.
pub const LATER_CONNECTORS: &[&str] = &[
    "upsert-kafka",
    "mongodb",
    "jdbc",
    "elasticsearch-6",
    "elasticsearch-7",
    "opensearch",
    "hbase-1.4",
    "hbase-2.2",
    "kinesis",
    "firehose",
    "dynamodb",
    "hive",
    "iceberg",
    "paimon",
    "pulsar",
    "python-input-format",
    "socket",
];

const COMMON: &[OptionSpec] = &[
    OptionSpec::new(
        "connector",
        Kind::Text,
        "where the table's rows come from or go to",
    )
    .required(),
    OptionSpec::new("sink.parallelism", Kind::Integer, "")
        .no_effect("each lane writes; see --parallelism"),
    OptionSpec::new("scan.parallelism", Kind::Integer, "")
        .no_effect("each lane reads its share; see --parallelism"),
    OptionSpec::new("property-version", Kind::Integer, "").no_effect("there is one version"),
];

/// What every table has that can be read.
const SOURCE: &[OptionSpec] = &[
    OptionSpec::new(
        "scan.watermark.emit.strategy",
        Kind::OneOf(&["on-event", "on-periodic"]),
        "when a row moves the watermark",
    )
    .default("on-event")
    .only(
        "on-event",
        "watermarks are made for each row, so that results do not depend on a timer",
    ),
    OptionSpec::not_yet(
        "scan.watermark.emit.on-event.gap",
        "leave it out: each row makes a watermark",
    ),
    OptionSpec::new(
        "scan.watermark.idle-timeout",
        Kind::Duration,
        "after this long at its end without a row, a partition holds nobody back (0: never)",
    ),
    OptionSpec::new(
        "scan.watermark.alignment.group",
        Kind::Text,
        "sources of one group wait for each other",
    ),
    OptionSpec::new(
        "scan.watermark.alignment.max-drift",
        Kind::Duration,
        "how far ahead of the slowest of its group a source may be",
    ),
    OptionSpec::new(
        "scan.watermark.alignment.update-interval",
        Kind::Duration,
        "how often that is looked at",
    )
    .no_effect("it is looked at before each round of reading"),
    OptionSpec::new(
        super::options::DEAD_LETTERS,
        Kind::Text,
        "the table of this job that takes records that cannot be used",
    ),
    OptionSpec::new(
        "tributary.max-future",
        Kind::Duration,
        "a row whose event time is further ahead of the clock is a dead letter",
    ),
];

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

const KAFKA: &[OptionSpec] = &[
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
        "properties.bootstrap.servers",
        Kind::Text,
        "the brokers, host:port with , between them",
    )
    .required(),
    OptionSpec::new(
        "properties.group.id",
        Kind::Text,
        "the consumer group; lag tools see how far it is",
    ),
    OptionSpec::new(
        "properties.*",
        Kind::AnyText,
        "any other property of the Kafka client",
    ),
    OptionSpec::new("format", Kind::Text, "the format of values"),
    OptionSpec::new("key.format", Kind::Text, "the format of keys"),
    OptionSpec::new(
        "key.fields",
        Kind::List(';'),
        "the columns that are in the key",
    ),
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
    OptionSpec::new(
        "sink.partitioner",
        Kind::OneOf(&["default", "fixed", "round-robin"]),
        "which partition a row goes to",
    )
    .default("default"),
    OptionSpec::new(
        "sink.delivery-guarantee",
        Kind::OneOf(&["exactly-once", "at-least-once", "none"]),
        "what a reader may see twice",
    )
    .default("at-least-once"),
    OptionSpec::new(
        "sink.transactional-id-prefix",
        Kind::Text,
        "what the transactional ids begin with",
    ),
    OptionSpec::not_yet("sink.transaction-naming-strategy", "leave it out"),
    OptionSpec::not_yet("sink.semantic", "use 'sink.delivery-guarantee'"),
    OptionSpec::new("client.id.prefix", Kind::Text, "")
        .no_effect("the client is named after the job"),
];

const DATAGEN: &[OptionSpec] = &[
    OptionSpec::new(
        "tributary.seed",
        Kind::Integer,
        "the same seed makes the same rows",
    )
    .default("0"),
    OptionSpec::new("rows-per-second", Kind::Integer, "how many rows a second").default("10000"),
    OptionSpec::new(
        "number-of-rows",
        Kind::Integer,
        "how many rows in all; without it, no end",
    ),
    OptionSpec::new(
        "fields.*.kind",
        Kind::OneOf(&["random", "sequence"]),
        "how a column's values are made",
    )
    .default("random"),
    OptionSpec::new("fields.*.min", Kind::Text, "the smallest random value"),
    OptionSpec::new("fields.*.max", Kind::Text, "the largest random value"),
    OptionSpec::new(
        "fields.*.max-past",
        Kind::Duration,
        "how far back from now a random time may be",
    )
    .default("0"),
    OptionSpec::new(
        "fields.*.length",
        Kind::Integer,
        "the length of a random text, or of a collection",
    )
    .default("100"),
    OptionSpec::new(
        "fields.*.var-len",
        Kind::Boolean,
        "whether shorter ones are made too",
    )
    .default("false"),
    OptionSpec::new("fields.*.start", Kind::Text, "where a sequence begins"),
    OptionSpec::new("fields.*.end", Kind::Text, "where a sequence ends"),
    OptionSpec::new(
        "fields.*.null-rate",
        Kind::Text,
        "the share of NULLs, 0 to 1",
    )
    .default("0"),
];

const PRINT: &[OptionSpec] = &[
    OptionSpec::new("print-identifier", Kind::AnyText, "stands before each row"),
    OptionSpec::new("standard-error", Kind::Boolean, "whether rows go to stderr").default("false"),
];

const MEMORY: &[OptionSpec] = &[OptionSpec::new(
    "format",
    Kind::Text,
    "the format of the records that a test puts in",
)
.default("json")];

fn anything(_: &Table, _: Uses) -> Parsed<()> {
    Ok(())
}

fn check_kafka(table: &Table, uses: Uses) -> Parsed<()> {
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
    Ok(())
}

fn check_datagen(table: &Table, _: Uses) -> Parsed<()> {
    for (key, entry) in &table.options.entries {
        let Some((name, _)) = key
            .strip_prefix("fields.")
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        if !stored_columns(table).any(|column| column == name) {
            return Err(Refusal::new(
                entry.place,
                format!("there is no column '{name}' for '{key}'"),
            )
            .hint(did_you_mean(name, stored_columns(table))));
        }
    }
    Ok(())
}

/// The columns that are read from, or written to, the format.
pub fn stored_columns(table: &Table) -> impl Iterator<Item = &str> + Clone {
    table
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnKind::Physical { .. }))
        .map(|column| column.name.as_str())
}
