//! The filesystem connector: files, the moment when a partition counts as complete, and what the catalog is told of the table.

use super::stored_columns;
use crate::catalog::hive::NULL_PARTITION;
use crate::sql::Table;
use crate::sql::options::{OptionSpec, Uses};
use crate::sql::refusal::{Parsed, Refusal, did_you_mean};
use crate::sql::values::Kind;

/// A member of `sink.partition-commit.policy.kind`.
pub const METASTORE: &str = "metastore";
/// Another one.
pub const SUCCESS_FILE: &str = "success-file";

pub const POLICY: &str = "sink.partition-commit.policy.kind";
pub const TRIGGER: &str = "sink.partition-commit.trigger";
pub const DELAY: &str = "sink.partition-commit.delay";
pub const SUCCESS_FILE_NAME: &str = "sink.partition-commit.success-file.name";
pub const TIMESTAMP_PATTERN: &str = "partition.time-extractor.timestamp-pattern";
pub const TIMESTAMP_FORMATTER: &str = "partition.time-extractor.timestamp-formatter";
/// How text is packed.
pub const TEXT_COMPRESSION: &str = "tributary.text.compression";
pub const TEXT_COMPRESSIONS: &[&str] = &["none", "gzip", "zstd"];
/// The first line of a CSV file.
pub const CSV_HEADER: &str = "tributary.csv.header";
/// What the options of partition projection begin with; the rest is Athena's own words.
pub const PROJECTION: &str = "tributary.glue.projection.";
/// What Athena counts the steps of projected dates in, each finer than the one before.
pub const INTERVAL_UNITS: &[&str] = &[
    "YEARS",
    "MONTHS",
    "WEEKS",
    "DAYS",
    "HOURS",
    "MINUTES",
    "SECONDS",
    "MILLISECONDS",
];

/// Where the files are, and when they close.
pub(super) const FILES: &[OptionSpec] = &[
    OptionSpec::new(
        "path",
        Kind::Location,
        "the table's folder: a path, file://, s3://, gs:// or az://",
    )
    .required(),
    OptionSpec::new("format", Kind::Text, "the format of the files"),
    OptionSpec::new(
        "partition.default-name",
        Kind::Text,
        "the partition of rows whose partition column is NULL or empty (Flink's default is `__DEFAULT_PARTITION__`, which Athena would \
         take for a text)",
    )
    .default(NULL_PARTITION),
    OptionSpec::new(
        "source.monitor-interval",
        Kind::Duration,
        "how often to look for new files; without it, the files at the start are all",
    ),
    OptionSpec::not_yet(
        "source.path.regex-pattern",
        "name a folder that holds only the table's files",
    ),
    OptionSpec::new("source.report-statistics", Kind::Text, "")
        .no_effect("no plan depends on statistics"),
    OptionSpec::new(
        "sink.rolling-policy.file-size",
        Kind::Size,
        "a file closes when it is this large",
    )
    .default("128MB"),
    OptionSpec::new(
        "sink.rolling-policy.rollover-interval",
        Kind::Duration,
        "a file closes when it is this old (in Flink after `30 min`: here rows are soon to be seen)",
    )
    .default("1 min"),
    OptionSpec::new(
        "sink.rolling-policy.check-interval",
        Kind::Duration,
        "how often its age is looked at; without it at every epoch",
    ),
    OptionSpec::new(
        "sink.rolling-policy.inactivity-interval",
        Kind::Duration,
        "a file closes after this long without a row; without it only by age and size",
    ),
    OptionSpec::new(
        "tributary.parquet.compression",
        Kind::Compression,
        "how pages of Parquet are compressed",
    )
    .default("zstd"),
    OptionSpec::new(
        TEXT_COMPRESSION,
        Kind::OneOf(TEXT_COMPRESSIONS),
        "how files of JSON and CSV are packed when they are written; the ending of their names, .gz or .zst, says it to who reads",
    )
    .default("none"),
    OptionSpec::new(
        CSV_HEADER,
        Kind::Boolean,
        "whether a file of CSV begins with the names of the columns: passed over when it is read, and written",
    )
    .default("false"),
    OptionSpec::new("sink.shuffle-by-partition.enable", Kind::Boolean, "")
        .no_effect("each lane writes the partitions it has"),
    OptionSpec::new("auto-compaction", Kind::Boolean, "")
        .default("false")
        .only("false", "use 'tributary compact'"),
    OptionSpec::not_yet("compaction.file-size", "use 'tributary compact'"),
    OptionSpec::not_yet("compaction.parallelism", "use 'tributary compact'"),
];

const OWN_CLASS: &str = "there are no classes here: the policies are metastore and success-file";

/// When a partition is complete, and who is told.
pub(super) const COMMIT: &[OptionSpec] = &[
    OptionSpec::new(
        POLICY,
        Kind::SomeOf(&[METASTORE, SUCCESS_FILE]),
        "what is done for a partition that is complete: it is registered in the catalog, a file says so, or both",
    ),
    OptionSpec::new(
        TRIGGER,
        Kind::OneOf(&["process-time", "partition-time"]),
        "whether a partition's age counts from its first file, by the clock, or from the time in its name, by the watermark",
    )
    .default("process-time"),
    OptionSpec::new(
        DELAY,
        Kind::Duration,
        "how old it is when it counts as complete",
    )
    .default("0 s"),
    OptionSpec::new(
        SUCCESS_FILE_NAME,
        Kind::Text,
        "the name of the file that says so",
    )
    .default("_SUCCESS"),
    OptionSpec::new(
        "sink.partition-commit.watermark-time-zone",
        Kind::Text,
        "the zone of the time in its name",
    )
    .default("UTC")
    .only("UTC", "other zones are not supported yet: name partitions by UTC"),
    OptionSpec::not_yet("sink.partition-commit.policy.class", OWN_CLASS),
    OptionSpec::not_yet("sink.partition-commit.policy.class.parameters", OWN_CLASS),
    OptionSpec::new(
        "partition.time-extractor.kind",
        Kind::OneOf(&["default", "custom"]),
        "",
    )
    .default("default")
    .only(
        "default",
        "there are no classes here: say with 'partition.time-extractor.timestamp-pattern' how the time is made",
    ),
    OptionSpec::not_yet(
        "partition.time-extractor.class",
        "say with 'partition.time-extractor.timestamp-pattern' how the time is made",
    ),
    OptionSpec::new(
        TIMESTAMP_PATTERN,
        Kind::Text,
        "how the time is made of the partition columns: '$dt $hour:00:00'; without it, it is the first column",
    ),
    OptionSpec::new(
        TIMESTAMP_FORMATTER,
        Kind::Text,
        "how that is written; without it, yyyy-MM-dd HH:mm:ss, or a date alone",
    ),
];

/// What the table is in the Glue catalog.
pub(super) const GLUE: &[OptionSpec] = &[
    OptionSpec::new(
        "tributary.glue.database",
        Kind::AnyText,
        "the database that the table is registered in, in place of the job's; empty: none",
    ),
    OptionSpec::new(
        "tributary.glue.table",
        Kind::Text,
        "its name there; without it, the table's in lower case",
    ),
    OptionSpec::new(
        "tributary.glue.crawler",
        Kind::AnyText,
        "the crawler that looks at the table, in place of the job's; empty: none",
    ),
    OptionSpec::new(
        "tributary.glue.projection.enabled",
        Kind::Boolean,
        "whether Athena works partitions out by itself; then none are registered",
    )
    .default("false"),
    OptionSpec::new(
        "tributary.glue.projection.*.type",
        Kind::OneOf(&["date", "integer", "enum", "injected"]),
        "what the values of a partition column are; the word of Athena, like all that follow",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.range",
        Kind::Text,
        "of a date or an integer: the first and the last value with , between them: '2024-01-01,NOW'",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.format",
        Kind::Text,
        "of a date: how it is written, as in Java: 'yyyy-MM-dd'",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.interval",
        Kind::Integer,
        "of a date or an integer: the step from one value to the next",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.interval.unit",
        Kind::OneOf(INTERVAL_UNITS),
        "of a date: what the step is counted in",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.digits",
        Kind::Integer,
        "of an integer: how many digits are written, with zeros in front",
    ),
    OptionSpec::new(
        "tributary.glue.projection.*.values",
        Kind::List(','),
        "of an enum: all the values, with , between them",
    ),
];

/// What the options of one table have to do with each other. What needs the job's settings too is judged where both are known.
pub(super) fn check(table: &Table, _: Uses) -> Parsed<()> {
    check_text(table)?;
    check_commit(table)?;
    check_projection(table)
}

fn check_text(table: &Table) -> Parsed<()> {
    let format = table.options.get("format").unwrap_or_default();
    for (key, formats, instead) in [
        (
            TEXT_COMPRESSION,
            ["json", "csv"].as_slice(),
            "'tributary.parquet.compression' is for Parquet",
        ),
        (CSV_HEADER, ["csv"].as_slice(), "leave it out"),
    ] {
        if let Some(entry) = table.options.entries.get(key)
            && !formats.contains(&format)
        {
            let message = format!(
                "'{key}' is about {}, and the format of '{}' is {format}",
                formats.join(" and "),
                table.name
            );
            return Err(Refusal::new(entry.place, message).hint(instead));
        }
    }
    Ok(())
}

fn check_commit(table: &Table) -> Parsed<()> {
    let options = &table.options;
    let partitioned = !table.partitioned_by.is_empty();
    for (key, entry) in &options.entries {
        let is_commit = COMMIT.iter().any(|spec| spec.covers(key));
        // Who is registered needs no partitions.
        let needs_partitions = is_commit && (key != POLICY || entry.value != METASTORE);
        if needs_partitions && !partitioned {
            return Err(Refusal::new(
                entry.place,
                format!(
                    "'{key}' is about partitions, and the table '{}' has none",
                    table.name
                ),
            )
            .hint("add PARTITIONED BY, or leave the option out"));
        }
    }
    let needs = |key: &str, other: &str, value: &str| match options.entries.get(key) {
        Some(entry) => Err(Refusal::new(
            entry.place,
            format!("'{key}' needs '{other}' = '{value}'"),
        )),
        None => Ok(()),
    };
    if options.text(TRIGGER) != Some("partition-time") {
        for key in [TIMESTAMP_PATTERN, TIMESTAMP_FORMATTER] {
            needs(key, TRIGGER, "partition-time")?;
        }
    }
    if !options.list(POLICY).iter().any(|kind| kind == SUCCESS_FILE) {
        needs(SUCCESS_FILE_NAME, POLICY, SUCCESS_FILE)?;
    }
    if let Some(entry) = options.entries.get(SUCCESS_FILE_NAME)
        && (entry.value.contains('/') || !entry.value.starts_with(['_', '.']))
    {
        return Err(Refusal::new(
            entry.place,
            format!("'{}' would be taken for data", entry.value),
        )
        .hint("readers pass over names that begin with _ or a dot; folders cannot be part of it"));
    }
    if let Some(entry) = options.entries.get(TIMESTAMP_PATTERN) {
        let columns = || table.partitioned_by.iter().map(String::as_str);
        for name in variables(&entry.value) {
            if !columns().any(|column| column == name) {
                return Err(Refusal::new(
                    entry.place,
                    format!("there is no partition column '{name}'"),
                )
                .hint(did_you_mean(name, columns())));
            }
        }
    }
    Ok(())
}

/// The names behind the dollar signs of `$dt $hour:00:00`.
fn variables(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('$').skip(1).map(|rest| {
        let end = rest
            .find(|next: char| !next.is_alphanumeric() && next != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Projection is about columns that the table is partitioned by.
fn check_projection(table: &Table) -> Parsed<()> {
    let columns = || table.partitioned_by.iter().map(String::as_str);
    for (key, entry) in &table.options.entries {
        let Some(rest) = key.strip_prefix(PROJECTION) else {
            continue;
        };
        let name = GLUE
            .iter()
            .filter_map(|spec| spec.key.strip_prefix(PROJECTION)?.strip_prefix('*'))
            .find_map(|word| rest.strip_suffix(word));
        let Some(name) = name else { continue };
        if columns().any(|column| column.eq_ignore_ascii_case(name)) {
            continue;
        }
        let hint = if table.partitioned_by.is_empty() {
            "the table has no PARTITIONED BY".to_owned()
        } else if stored_columns(table).any(|column| column.eq_ignore_ascii_case(name)) {
            format!(
                "it is a column; PARTITIONED BY has: {}",
                columns().collect::<Vec<_>>().join(", ")
            )
        } else {
            did_you_mean(name, columns())
        };
        return Err(Refusal::new(
            entry.place,
            format!("there is no partition column '{name}' for '{key}'"),
        )
        .hint(hint));
    }
    Ok(())
}
