//! Jobs, and what the catalog would be told of them, or why they are refused, as data.

use super::definition::Registered;
use crate::cli::Job;
use crate::plan::tests::check_file;
use std::fmt::Write;
use std::path::Path;

/// What is known of a job: the definitions of its tables, and the warnings.
fn shown(sql: &str) -> String {
    let mut text = String::new();
    // Beside the lake, where nobody minds them, unless the case is about them.
    let beside = ("execution.checkpointing.dir", "s3://b/checkpoints");
    let overrides: Vec<_> = [beside]
        .iter()
        .filter(|_| !sql.contains("checkpoint"))
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    match Job::parse("job.sql", sql, &overrides, &|_| None) {
        Ok(job) => {
            for table in &job.registered {
                // The dead letters are the same in every job.
                if table.table != "dead_letters" {
                    text.push_str(&table_text(table));
                }
            }
            for warning in &job.warnings {
                writeln!(text, "warning: {warning}").unwrap();
            }
        }
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            text = error.to_string();
        }
    }
    text
}

fn table_text(table: &Registered) -> String {
    let definition = &table.definition;
    let mut text = format!(
        "{}.{} at {}\n",
        definition.database, definition.name, definition.location
    );
    let columns = definition.columns.iter().map(|column| ("", column));
    let keys = definition.partition_keys.iter().map(|key| ("by ", key));
    for (word, column) in columns.chain(keys) {
        let comment = column.comment.as_ref();
        let comment = comment.map_or(String::new(), |comment| format!(" -- {comment}"));
        writeln!(
            text,
            "  {word}{} {}{comment}",
            column.name, column.hive_type
        )
        .unwrap();
    }
    for (key, value) in &definition.parameters {
        writeln!(text, "  '{key}' = '{value}'").unwrap();
    }
    text
}

fn check(file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalog");
    check_file(&folder.join(file), shown);
}

#[test]
fn definitions_follow_from_jobs() {
    check("definitions.txt");
}

#[test]
fn projections_are_what_athena_takes() {
    check("projections.txt");
}

#[test]
fn what_athena_cannot_read_is_found_before() {
    check("preflight.txt");
}

#[test]
fn the_emergency_job_is_registered_where_a_database_is_named() {
    let text = include_str!("../../jobs/emergency.sql");
    let load = |variables: &[(&str, &str)]| {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Job::parse("jobs/emergency.sql", text, &[], &variable).unwrap()
    };
    assert!(load(&[]).registered.is_empty());
    assert_eq!(load(&[]).warnings, [""; 0]);
    let job = load(&[
        ("GLUE_DATABASE", "Emergency"),
        ("LAKE", "s3://lake/emergency"),
        ("CHECKPOINTS", "s3://lake/checkpoints"),
    ]);
    let names: Vec<String> = job
        .registered
        .iter()
        .map(|table| format!("{}.{}", table.definition.database, table.definition.name))
        .collect();
    assert_eq!(
        names,
        [
            "emergency.patient_data",
            "emergency.emergency_vehicle_data",
            "emergency.breaches",
            "emergency.vitals_1m",
            "emergency.emergency_responses",
            "emergency.dead_letters",
        ]
    );
    assert_eq!(job.warnings, [""; 0]);
    assert_eq!(
        table_text(&job.registered[0]),
        "emergency.patient_data at s3://lake/emergency/patient_data
  id string
  patient_id string
  heart_rate int
  oxygen_saturation double
  vo2_max double
  location struct<latitude:double,longitude:double>
  emergency_alert boolean
  timestamp timestamp
  by dt string
  by hour string
  'EXTERNAL' = 'TRUE'
  'classification' = 'parquet'
  'parquet.compression' = 'ZSTD'
  'tributary.job' = 'emergency'
"
    );
    let letters = table_text(&job.registered[5]);
    assert!(
        letters.starts_with(
            "emergency.dead_letters at s3://lake/emergency/dead_letters\n  reason string\n"
        ),
        "{letters}"
    );
    assert!(
        letters.contains("\n  value binary\n  by dt string\n"),
        "{letters}"
    );
}
