//! Where and how the options of tables are refused, as data, and that the documentation has them all.

use super::refusals::refused;
use crate::config::SETTINGS;
use crate::sql::connectors::CONNECTORS;
use crate::sql::formats::FORMATS;
use crate::sql::options::{OptionSpec, Support};

#[test]
fn options_that_are_refused() {
    // Each stands in the WITH clause of a table in line 3.
    let kafka = "'connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x', 'format' = 'json'";
    let mongo =
        "'connector' = 'mongodb', 'uri' = 'mongodb://x', 'database' = 'd', 'collection' = 'c'";
    let files = "'connector' = 'filesystem', 'path' = 'p', 'format' = 'parquet'";
    let cases = [
        (
            "'path' = 'x'".to_owned(),
            "3:1: the table 't' has no connector",
            "kafka",
        ),
        (
            "'connector' = 'kafak'".to_owned(),
            "4:1: there is no connector 'kafak'",
            "'kafka'",
        ),
        (
            "'connector' = 'jdbc'".to_owned(),
            "4:1: the connector 'jdbc' is not supported yet",
            "kafka",
        ),
        (
            format!("{kafka},\n'fromat' = 'x'"),
            "5:1: the connector 'kafka' has no option 'fromat'",
            "'format'",
        ),
        (
            format!("{kafka},\n'csv.field-delimiter' = 'x'"),
            "5:1: 'csv.field-delimiter' belongs to the format 'csv'",
            "json",
        ),
        (
            format!("{kafka},\n'json.fail-on-missing-fields' = 'true'"),
            "5:1: the connector 'kafka' has no option 'json.fail-on-missing-fields'",
            "'json.fail-on-missing-field'",
        ),
        (
            format!("{kafka},\n'json.fail-on-missing-field' = 'yes'"),
            "5:1: 'yes' is not a value for 'json.fail-on-missing-field'",
            "true or false",
        ),
        (
            format!("{kafka},\n'scan.startup.mode' = 'earliest'"),
            "5:1: 'earliest' is not a value for 'scan.startup.mode'",
            "earliest-offset",
        ),
        (
            format!("{kafka},\n'scan.startup.mode' = 'timestamp'"),
            "5:1: 'scan.startup.mode' = 'timestamp' needs 'scan.startup.timestamp-millis'",
            "",
        ),
        (
            format!("{kafka},\n'scan.bounded.timestamp-millis' = '5'"),
            "5:1: 'scan.bounded.timestamp-millis' needs 'scan.bounded.mode' = 'timestamp'",
            "",
        ),
        (
            format!("{kafka},\n'topic-pattern' = '.*'"),
            "5:1: 'topic' and 'topic-pattern' exclude each other",
            "",
        ),
        (
            format!("{kafka},\n'key.format' = 'raw'"),
            "5:1: 'key.format' needs 'key.fields'",
            "",
        ),
        (
            format!("{kafka},\n'key.format' = 'raw', 'key.fields' = 'aa'"),
            "5:23: there is no column 'aa' for the key",
            "'a'",
        ),
        (
            format!(
                "{kafka},\n'key.format' = 'raw', 'key.fields' = 'a', 'key.fields-prefix' = 'k_'"
            ),
            "5:43: 'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'",
            "",
        ),
        (
            format!(
                "{kafka},\n'value.fields-include' = 'EXCEPT_KEY', 'key.format' = 'raw', 'key.fields' = 'a', 'key.fields-prefix' = 'k_'"
            ),
            "5:82: the key's column 'a' does not begin with 'k_', as 'key.fields-prefix' has it",
            "",
        ),
        (
            format!("{kafka},\n'scan.watermark.emit.strategy' = 'on-periodic'"),
            "5:1: 'scan.watermark.emit.strategy' can only be 'on-event'",
            "timer",
        ),
        (
            format!("{kafka},\n'tributary.dead-letters' = 'nowhere'"),
            "5:1: there is no table 'nowhere' for dead letters",
            "there are: src, sink, t",
        ),
        (
            format!("{kafka},\n'value.format' = 'json'"),
            "5:1: 'value.format' and 'format' say the same",
            "4:",
        ),
        (
            "'connector' = 'kafka', 'topic' = 't', 'format' = 'json'".to_owned(),
            "3:1: the table 't' has no option 'properties.bootstrap.servers'",
            "brokers",
        ),
        (
            "'connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x'".to_owned(),
            "3:1: the table 't' has no format",
            "json",
        ),
        (
            "'connector' = 'kafka',\n'format' = 'parquet'".to_owned(),
            "5:1: the connector 'kafka' has no format 'parquet'",
            "json",
        ),
        (
            "'connector' = 'kafka',\n'format' = 'avro'".to_owned(),
            "5:1: the format 'avro' is not supported yet",
            "json",
        ),
        (
            "'connector' = 'kafka',\n'format' = 'jsn'".to_owned(),
            "5:1: there is no format 'jsn'",
            "'json'",
        ),
        (
            "'connector' = 'kafka',\n'format' = 'raw'".to_owned(),
            "5:1: the format 'raw' holds one column, and the table 't' has 2",
            "",
        ),
        (
            "'connector' = 'mongodb', 'database' = 'd', 'collection' = 'c',\n'uri' = 'localhost:27017'"
                .to_owned(),
            "5:1: 'uri' has to begin with mongodb:// or mongodb+srv://",
            "",
        ),
        (
            format!("{mongo},\n'tributary.mongodb.indexes' = 'a; aa, b'"),
            "5:1: there is no column 'aa' for an index",
            "'a'",
        ),
        (
            format!("{mongo},\n'tributary.mongodb.indexes' = 'a up'"),
            "5:1: 'a up' is no field of an index",
            "desc",
        ),
        (
            format!("{mongo},\n'scan.fetch-size' = '100'"),
            "5:1: 'scan.fetch-size' is an option of Flink's that Tributary does not have yet",
            "looked up",
        ),
        (
            format!("{mongo},\n'lookup.cache' = 'FULL'"),
            "5:1: 'FULL' is not a value for 'lookup.cache'",
            "PARTIAL",
        ),
        (
            format!("{mongo},\n'lookup.cache' = 'PARTIAL'"),
            "5:1: a cache that never forgets would grow for ever, and never see a change",
            "'lookup.partial-cache.max-rows'",
        ),
        (
            format!("{mongo},\n'lookup.partial-cache.max-rows' = '10'"),
            "5:1: 'lookup.partial-cache.max-rows' is about a cache, and there is none",
            "'lookup.cache' = 'PARTIAL'",
        ),
        (
            "'connector' = 'tributary-json-file',\n'path' = 'counts/'".to_owned(),
            "5:1: 'path' names a folder",
            "counts.json",
        ),
        (
            format!("{files},\n'sink.rolling-policy.file-size' = 'big'"),
            "5:1: 'big' is not a value for 'sink.rolling-policy.file-size'",
            "128 MB",
        ),
        (
            format!("{files},\n'sink.partition-commit.policy.kind' = 'success-file'"),
            "5:1: 'sink.partition-commit.policy.kind' is about partitions, and the table 't' has none",
            "PARTITIONED BY",
        ),
        (
            format!("{files},\n'sink.partition-commit.policy.kind' = 'metastore,custom'"),
            "5:1: 'metastore,custom' is not a value for 'sink.partition-commit.policy.kind'",
            "one or more of metastore, success-file",
        ),
        (
            format!("{files},\n'tributary.glue.projection.a.type' = 'integer'"),
            "5:1: there is no partition column 'a' for 'tributary.glue.projection.a.type'",
            "no PARTITIONED BY",
        ),
        (
            format!("{files},\n'tributary.glue.projection.a.type' = 'int'"),
            "5:1: 'int' is not a value for 'tributary.glue.projection.a.type'",
            "integer",
        ),
        (
            format!("{files},\n'auto-compaction' = 'true'"),
            "5:1: 'auto-compaction' can only be 'false'",
            "tributary compact",
        ),
        (
            format!("{files},\n'tributary.parquet.compression' = 'gzip'"),
            "5:1: 'gzip' is not a value for 'tributary.parquet.compression'",
            "snappy",
        ),
        (
            format!("{files},\n'tributary.text.compression' = 'bzip2'"),
            "5:1: 'bzip2' is not a value for 'tributary.text.compression'",
            "gzip",
        ),
        (
            format!("{files},\n'tributary.text.compression' = 'gzip'"),
            "5:1: 'tributary.text.compression' is about json and csv, and the format of 't' is parquet",
            "'tributary.parquet.compression' is for Parquet",
        ),
        (
            format!("{files},\n'tributary.csv.header' = 'true'"),
            "5:1: 'tributary.csv.header' is about csv, and the format of 't' is parquet",
            "leave it out",
        ),
        (
            format!("{files},\n'path' = 'q'"),
            "5:1: the option 'path' is given twice",
            "4:",
        ),
        (
            "'connector' = 'datagen',\n'fields.x.min' = '1'".to_owned(),
            "5:1: there is no column 'x' for 'fields.x.min'",
            "'a'",
        ),
        (
            "'connector' = 'print',\n'format' = 'json'".to_owned(),
            "5:1: the connector 'print' has no option 'format'",
            "docs/sql.md",
        ),
    ];
    let cases: Vec<_> = cases
        .iter()
        .map(|(options, expected, hint)| {
            (
                format!("CREATE TABLE t (a INT, b INT) WITH (\n{options})"),
                *expected,
                *hint,
            )
        })
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(sql, expected, hint)| (sql.as_str(), *expected, *hint))
        .collect();
    refused(&cases);
    // The same for a table that is partitioned by b.
    let cases = [
        (
            "'sink.partition-commit.success-file.name' = 'done'",
            "4:1: 'sink.partition-commit.success-file.name' needs 'sink.partition-commit.policy.kind' = 'success-file'",
            "",
        ),
        (
            "'sink.partition-commit.success-file.name' = 'done', 'sink.partition-commit.policy.kind' = 'success-file'",
            "4:1: 'done' would be taken for data",
            "begin with _",
        ),
        (
            "'partition.time-extractor.timestamp-pattern' = '$b:00:00'",
            "4:1: 'partition.time-extractor.timestamp-pattern' needs 'sink.partition-commit.trigger' = 'partition-time'",
            "",
        ),
        (
            "'partition.time-extractor.timestamp-pattern' = '$a $b:00', 'sink.partition-commit.trigger' = 'partition-time'",
            "4:1: there is no partition column 'a'",
            "'b'",
        ),
        (
            "'sink.partition-commit.watermark-time-zone' = 'Europe/Berlin'",
            "4:1: 'sink.partition-commit.watermark-time-zone' can only be 'UTC'",
            "UTC",
        ),
        (
            "'sink.partition-commit.policy.class' = 'x'",
            "4:1: 'sink.partition-commit.policy.class' is an option of Flink's that Tributary does not have yet",
            "metastore and success-file",
        ),
        (
            "'tributary.glue.projection.a.interval.unit' = 'days'",
            "4:1: there is no partition column 'a' for 'tributary.glue.projection.a.interval.unit'",
            "PARTITIONED BY has: b",
        ),
    ];
    let cases: Vec<_> = cases
        .iter()
        .map(|(options, expected, hint)| {
            let sql = format!(
                "CREATE TABLE t (a INT, b INT) PARTITIONED BY (b) WITH (\n{options}, {files})"
            );
            (sql, *expected, *hint)
        })
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(sql, expected, hint)| (sql.as_str(), *expected, *hint))
        .collect();
    refused(&cases);
    refused(&[(
        "CREATE TABLE t (a INT,\n b INT METADATA FROM 'ofset') WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x', 'format' = 'raw')",
        "4:2: the connector 'kafka' has no metadata 'ofset'",
        "'offset'",
    )]);
}

/// The row of an option in docs/sql.md.
fn row(spec: &OptionSpec) -> String {
    let default = match (spec.required, spec.default) {
        (true, _) => "required".to_owned(),
        (false, Some(default)) => format!("`{default}`"),
        (false, None) => String::new(),
    };
    let meaning = match spec.support {
        Support::Full => spec.help.to_owned(),
        Support::NotYet(instead) => format!("refused: {instead}"),
        Support::NoEffect(why) => format!("no effect, with a warning: {why}"),
        Support::Only(only, why) => format!("only `{only}`: {why}"),
    };
    let kind = if let Support::NotYet(_) = spec.support {
        String::new()
    } else {
        spec.kind.word()
    };
    format!("| `{}` | {kind} | {default} | {meaning} |", spec.key)
}

#[test]
fn the_documentation_lists_every_option() {
    let page = include_str!("../../../docs/sql.md");
    let connectors = CONNECTORS.iter().flat_map(|connector| connector.options);
    let formats = FORMATS.iter().flat_map(|format| format.options);
    let specs = connectors
        .flat_map(|options| options.iter())
        .chain(formats)
        .chain(SETTINGS);
    let mut missing: Vec<_> = specs.map(row).filter(|row| !page.contains(row)).collect();
    missing.dedup();
    assert!(
        missing.is_empty(),
        "docs/sql.md lacks these rows:\n{}",
        missing.join("\n")
    );
}
