//! The connectors, and every option that each of them knows. Names and defaults are Flink's; our own begin with
//! `tributary.`.

pub mod filesystem;
pub mod json_file;
pub mod kafka;
pub mod mongodb;

use super::options::{OptionSpec, Uses};
use super::refusal::{Parsed, Refusal, did_you_mean};
use super::values::Kind;
use super::{ColumnKind, Table};

pub struct Connector {
    pub name: &'static str,
    pub reads: bool,
    pub writes: bool,
    /// Whether rows can be looked up in its tables: FOR SYSTEM_TIME AS OF.
    pub looks_up: bool,
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
        looks_up: false,
        formats: &["json", "csv", "raw", "avro-confluent"],
        needs_format: true,
        options: &[COMMON, SOURCE, kafka::BOTH, kafka::SOURCE, kafka::SINK],
        metadata: &[
            "topic",
            "partition",
            "offset",
            "timestamp",
            "timestamp-type",
            "headers",
        ],
        later_metadata: &["leader-epoch"],
        check: kafka::check,
    },
    Connector {
        name: "upsert-kafka",
        reads: false,
        writes: true,
        looks_up: false,
        formats: &["json", "csv", "raw", "avro-confluent"],
        needs_format: true,
        options: &[COMMON, kafka::BOTH, kafka::UPSERT],
        metadata: &["timestamp", "headers"],
        later_metadata: &[
            "topic",
            "partition",
            "offset",
            "timestamp-type",
            "leader-epoch",
        ],
        check: kafka::check_upsert,
    },
    Connector {
        name: "filesystem",
        reads: true,
        writes: true,
        looks_up: false,
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
        name: "mongodb",
        reads: false,
        writes: true,
        looks_up: true,
        formats: &[],
        needs_format: false,
        options: &[COMMON, mongodb::OPTIONS],
        metadata: &[],
        later_metadata: &[],
        check: mongodb::check,
    },
    Connector {
        name: "tributary-json-file",
        reads: false,
        writes: true,
        looks_up: false,
        formats: &[],
        needs_format: false,
        options: &[COMMON, json_file::OPTIONS],
        metadata: &[],
        later_metadata: &[],
        check: json_file::check,
    },
    Connector {
        name: "datagen",
        reads: true,
        writes: false,
        looks_up: false,
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
        looks_up: false,
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
        looks_up: false,
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
        looks_up: true,
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

/// Whether rows can be looked up in tables of this connector.
pub fn looks_up(connector: &str) -> bool {
    CONNECTORS
        .iter()
        .any(|known| known.name == connector && known.looks_up)
}

/// The columns that are read from, or written to, the format.
pub fn stored_columns(table: &Table) -> impl Iterator<Item = &str> + Clone {
    table
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnKind::Physical { .. }))
        .map(|column| column.name.as_str())
}
