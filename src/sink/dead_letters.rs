//! Where dead letters lie when a job names no table for them: Parquet beside its output, partitioned by the day of processing.

use super::options::TableSpec;
use super::place::parent_and_name;
use crate::sql::{OptionValue, Options, Place, Table};
use arrow::datatypes::SchemaRef;

/// The table's name, and its folder's.
pub const NAME: &str = "dead_letters";

/// The default dead-letter table at this path; `schema` ends with the partition column `dt`.
pub fn table(path: &str, schema: SchemaRef) -> TableSpec {
    let options = [
        ("connector", "filesystem"),
        ("format", "parquet"),
        ("path", path),
    ];
    let entry = |(key, value): (&str, &str)| {
        (
            key.to_string(),
            OptionValue {
                value: value.to_string(),
                place: Place::default(),
            },
        )
    };
    TableSpec {
        name: NAME.to_string(),
        schema,
        partitioned_by: vec!["dt".to_string()],
        primary_key: vec![],
        metadata: Default::default(),
        options: Options {
            entries: options.into_iter().map(entry).collect(),
        },
    }
}

/// The common parent of the filesystem tables that are written, so that who finds one finds the other; beside the checkpoints
/// where there is no such parent.
pub fn path(written: &[&Table], checkpoints: &str) -> String {
    let paths: Vec<&str> = written
        .iter()
        .filter(|table| table.options.get("connector") == Some("filesystem"))
        .filter_map(|table| table.options.get("path"))
        .collect();
    let parent = common_parent(&paths).or_else(|| {
        parent_and_name(checkpoints).map(|(parent, _)| parent.trim_end_matches('/').to_string())
    });
    match parent {
        Some(parent) => format!("{parent}/{NAME}"),
        // The checkpoints are a whole bucket: the letters share it with them.
        None => format!("{}/{NAME}", checkpoints.trim_end_matches('/')),
    }
}

/// The longest folder that all the paths are in. A bucket is one; the root of a disk, or of a scheme, is not.
fn common_parent(paths: &[&str]) -> Option<String> {
    let (first, others) = paths.split_first()?;
    let mut common = parent_parts(first)?;
    for path in others {
        let parts = parent_parts(path)?;
        let same = common
            .iter()
            .zip(&parts)
            .take_while(|(a, b)| a == b)
            .count();
        common.truncate(same);
    }
    let is_root = common
        .iter()
        .all(|part| part.is_empty() || part.ends_with(':'));
    (!is_root).then(|| common.join("/"))
}

/// `["s3:", "", "b", "lake"]` of `s3://b/lake/t`; a relative path begins with a dot, so that `./lake` and `lake` are one.
fn parent_parts(path: &str) -> Option<Vec<&str>> {
    let (parent, _) = parent_and_name(path)?;
    let mut parts: Vec<&str> = parent.trim_end_matches('/').split('/').collect();
    let is_absolute = path.starts_with('/') || path.contains("://");
    if !is_absolute
        && parts
            .first()
            .is_none_or(|part| !matches!(*part, "." | ".."))
    {
        parts.insert(0, ".");
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], checkpoints: &str, expected: &str) {
        let tables: Vec<Table> = paths
            .iter()
            .map(|path| {
                let connector = if path.is_empty() {
                    "print"
                } else {
                    "filesystem"
                };
                let entry = |(key, value): (&str, &str)| {
                    let value = value.to_string();
                    (
                        key.to_string(),
                        OptionValue {
                            value,
                            place: Place::default(),
                        },
                    )
                };
                Table {
                    name: "t".into(),
                    columns: vec![],
                    watermark: None,
                    primary_key: vec![],
                    partitioned_by: vec![],
                    options: Options {
                        entries: [("connector", connector), ("path", path)].map(entry).into(),
                    },
                    comment: None,
                    place: Place::default(),
                }
            })
            .collect();
        assert_eq!(
            path(&tables.iter().collect::<Vec<_>>(), checkpoints),
            expected,
            "{paths:?}"
        );
    }

    #[test]
    fn dead_letters_lie_beside_the_output() {
        let checkpoints = "./checkpoints/job";
        check(
            &["./lake/a", "./lake/b"],
            checkpoints,
            "./lake/dead_letters",
        );
        check(&["./lake/a", "lake/b"], checkpoints, "./lake/dead_letters");
        check(
            &["./lake/x/a", "./lake/y/b", ""],
            checkpoints,
            "./lake/dead_letters",
        );
        check(
            &["s3://b/lake/a", "s3://b/lake/b/"],
            checkpoints,
            "s3://b/lake/dead_letters",
        );
        check(
            &["s3://b/a", "s3://b/x/b"],
            checkpoints,
            "s3://b/dead_letters",
        );
        check(&["/data/lake/a"], checkpoints, "/data/lake/dead_letters");
        check(&["a", "b"], checkpoints, "./dead_letters");
    }

    #[test]
    fn or_beside_the_checkpoints() {
        check(&[], "./checkpoints/job", "./checkpoints/dead_letters");
        check(&[""], "checkpoints", "./dead_letters");
        check(
            &["s3://a/t", "s3://b/t"],
            "s3://c/checkpoints/job",
            "s3://c/checkpoints/dead_letters",
        );
        check(
            &["s3://a/t", "./lake/t"],
            "/var/checkpoints",
            "/var/dead_letters",
        );
        check(&["/a/t", "/b/t"], "/var/checkpoints", "/var/dead_letters");
        check(&[], "s3://bucket", "s3://bucket/dead_letters");
    }
}
