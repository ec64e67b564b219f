//! Which names there are. Upper and lower case differ, as in Flink.

use super::refusal::{Parsed, Refusal, did_you_mean};
use super::types::flink_name;
use super::{ColumnKind, Place, Table, View};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::Ident;
use std::collections::BTreeMap;

/// The tables and views that were declared so far.
#[derive(Default)]
pub struct Names {
    known: BTreeMap<String, Known>,
}

/// What is known of one of them.
pub struct Known {
    place: Place,
    /// A table's columns, each with whether it can be written; nothing for a view.
    columns: Option<Vec<(String, bool)>>,
}

impl Names {
    pub fn add_table(&mut self, table: &Table) -> Parsed<()> {
        let columns = table.columns.iter().map(|column| {
            let is_written = match &column.kind {
                ColumnKind::Physical { .. } => true,
                ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
                ColumnKind::Computed { .. } => false,
            };
            (column.name.clone(), is_written)
        });
        let known = Known {
            place: table.place,
            columns: Some(columns.collect()),
        };
        self.known.insert(table.name.clone(), known);
        Ok(())
    }

    pub fn add_view(&mut self, view: &View) -> Parsed<()> {
        let known = Known {
            place: view.place,
            columns: None,
        };
        self.known.insert(view.name.clone(), known);
        Ok(())
    }

    /// Where a table or view was declared.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.known.get(name).map(|known| known.place)
    }

    /// What a query reads has been declared before it.
    pub fn check_relations(&self, relations: &[(String, Place)]) -> Parsed<()> {
        match relations
            .iter()
            .find(|(name, _)| !self.known.contains_key(name))
        {
            None => Ok(()),
            Some((name, place)) => Err(Refusal::new(
                *place,
                format!("there is no table or view '{name}' before this"),
            )
            .hint(did_you_mean(name, self.known.keys().map(String::as_str)))),
        }
    }

    /// The table that an INSERT writes.
    pub fn target(&self, name: &Ident) -> Parsed<&Known> {
        match self.known.get(&name.value) {
            Some(known) if known.columns.is_some() => Ok(known),
            Some(_) => Err(
                Refusal::new(name.span, format!("'{}' is a view", name.value))
                    .hint("INSERT INTO writes into a table"),
            ),
            None => {
                let tables = self
                    .known
                    .iter()
                    .filter(|(_, known)| known.columns.is_some());
                let tables = tables.map(|(name, _)| name.as_str());
                Err(Refusal::new(
                    name.span,
                    format!("there is no table '{}' before this", name.value),
                )
                .hint(did_you_mean(&name.value, tables)))
            }
        }
    }
}

impl Known {
    /// The columns that an INSERT lists can be written.
    pub fn check_insert(&self, listed: &[Ident]) -> Parsed<()> {
        check_unique(listed)?;
        let columns = self.columns.as_deref().unwrap_or_default();
        for name in listed {
            match columns.iter().find(|(column, _)| *column == name.value) {
                Some((_, true)) => {}
                Some((_, false)) => {
                    return Err(Refusal::new(
                        name.span,
                        format!("the column '{}' cannot be written", name.value),
                    )
                    .hint("it is computed, or VIRTUAL metadata"));
                }
                None => {
                    return Err(no_column(
                        name,
                        columns
                            .iter()
                            .filter(|(_, written)| *written)
                            .map(|(name, _)| name.as_str()),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// No name stands twice in a list.
pub fn check_unique(names: &[Ident]) -> Parsed<()> {
    for (at, name) in names.iter().enumerate() {
        if names[..at].iter().any(|before| before.value == name.value) {
            return Err(Refusal::new(
                name.span,
                format!("the column '{}' stands here twice", name.value),
            ));
        }
    }
    Ok(())
}

/// The columns that rows carry out of sight while a job runs.
pub const HIDDEN: [&str; 4] = ["__split", "__offset", "__watermark", "__kind"];

/// Columns with the names of hidden ones would be taken for those.
pub fn refuse_hidden(name: &str, place: Place) -> Parsed<()> {
    match HIDDEN.contains(&name) {
        true => Err(
            Refusal::new(place, format!("no column can be called '{name}'"))
                .hint("rows carry a hidden column of this name: give it another name"),
        ),
        false => Ok(()),
    }
}

/// The columns of a table fit together.
pub fn check_columns(table: &Table, primary_key: &[Ident], partitioned_by: &[Ident]) -> Parsed<()> {
    let columns = &table.columns;
    for (at, column) in columns.iter().enumerate() {
        refuse_hidden(&column.name, column.place)?;
        if let Some(before) = columns[..at]
            .iter()
            .find(|before| before.name == column.name)
        {
            return Err(Refusal::new(
                column.place,
                format!("the table has two columns '{}'", column.name),
            )
            .hint(format!("the other one is at {}", before.place)));
        }
    }
    let physical: Vec<_> = columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnKind::Physical { .. }))
        .map(|column| column.name.as_str())
        .collect();
    for list in [primary_key, partitioned_by] {
        check_unique(list)?;
        if let Some(name) = list
            .iter()
            .find(|name| !physical.contains(&name.value.as_str()))
        {
            return Err(no_column(name, physical.iter().copied()));
        }
    }
    if physical.is_empty() {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no columns of its own", table.name),
        ));
    }
    if partitioned_by.len() == physical.len() {
        return Err(Refusal::new(
            table.place,
            format!("every column of '{}' is a partition column", table.name),
        )
        .hint("a file needs one column at least"));
    }
    check_watermark(table)
}

/// The watermark's column is a time in milliseconds. A computed column's type is known only to the planner.
fn check_watermark(table: &Table) -> Parsed<()> {
    let Some(watermark) = &table.watermark else {
        return Ok(());
    };
    let names = table.columns.iter().map(|column| column.name.as_str());
    let Some(column) = table
        .columns
        .iter()
        .find(|column| column.name == watermark.column)
    else {
        return Err(Refusal::new(
            watermark.place,
            format!(
                "the watermark is for a column '{}' that is not there",
                watermark.column
            ),
        )
        .hint(did_you_mean(&watermark.column, names)));
    };
    match &column.kind {
        ColumnKind::Computed { .. }
        | ColumnKind::Physical { data_type: DataType::Timestamp(TimeUnit::Millisecond, _), .. }
        | ColumnKind::Metadata { data_type: DataType::Timestamp(TimeUnit::Millisecond, _), .. } => Ok(()),
        ColumnKind::Physical { data_type, .. } | ColumnKind::Metadata { data_type, .. } => {
            Err(Refusal::new(
                watermark.place,
                format!("the watermark's column '{}' is a {}", column.name, flink_name(data_type)),
            )
            .hint(format!(
                "it has to be TIMESTAMP(3) or TIMESTAMP_LTZ(3): add a column, event_time AS CAST({} AS TIMESTAMP(3))",
                column.name
            )))
        }
    }
}

fn no_column<'a>(name: &Ident, known: impl Iterator<Item = &'a str> + Clone) -> Refusal {
    Refusal::new(
        name.span,
        format!("there is no column '{}' to be stored", name.value),
    )
    .hint(did_you_mean(&name.value, known))
}
