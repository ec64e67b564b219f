//! The connector `tributary-json-file`: its options, and what a table needs to be a part of a document.

use super::super::options::{OptionSpec, Uses};
use super::super::refusal::{Parsed, Refusal};
use super::super::types::flink_name;
use super::super::values::Kind;
use super::super::{ColumnKind, Table};

pub const PATH: &str = "path";
pub const HEADING: &str = "tributary.json-file.heading";

pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        PATH,
        Kind::Location,
        "the file: a path, file://, s3://, gs:// or az://; several tables may name the same",
    )
    .required(),
    OptionSpec::new(
        HEADING,
        Kind::Text,
        "the name of the table's part of the document; without it, the table's name",
    ),
];

pub fn check(table: &Table, _: Uses) -> Parsed<()> {
    let path = table.options.text(PATH).unwrap_or_default();
    if path.ends_with('/') {
        return Err(
            Refusal::new(table.option_place(PATH), "'path' names a folder")
                .hint("name the file, such as lake/counts.json"),
        );
    }
    if table.primary_key.is_empty() {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no primary key", table.name),
        )
        .hint(
            "a part of the document holds the last row of each key: declare PRIMARY KEY (..) NOT ENFORCED",
        ));
    }
    let stored =
        |column: &&super::super::Column| matches!(column.kind, ColumnKind::Physical { .. });
    for column in table.columns.iter().filter(stored) {
        if let ColumnKind::Physical { data_type, .. } = &column.kind
            && table.primary_key.contains(&column.name)
            && data_type.is_nested()
        {
            let name = flink_name(data_type);
            return Err(Refusal::new(
                column.place,
                format!("the key's column '{}' is a {name}", column.name),
            )
            .hint("keys are the names in the document: texts, numbers, truth values and times"));
        }
    }
    if table.columns.iter().filter(stored).count() == table.primary_key.len() {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has only its key", table.name),
        )
        .hint("declare at least one column more: it is the value of the key"));
    }
    Ok(())
}
