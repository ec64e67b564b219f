//! The options of a table that is written, as values. An option that nobody knows is refused: a job never
//! gets less than what it asked for in silence.

use crate::error::{Error, Result};
use crate::sql::values::{duration_ms, size};
use crate::sql::{ColumnKind, Options, Table};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table to write: its columns, and the options of its WITH clause.
#[derive(Debug, Clone)]
pub struct TableSpec {
    pub name: String,
    /// The columns of the rows that the sink is given, in their order.
    pub schema: SchemaRef,
    pub partitioned_by: Vec<String>,
    pub primary_key: Vec<String>,
    /// Columns that are no part of a record's value, by their names: what they fill instead, such as `timestamp`.
    pub metadata: BTreeMap<String, String>,
    pub options: Options,
}

impl TableSpec {
    /// The columns of a declared table that an INSERT fills: not the computed ones, and not VIRTUAL metadata.
    pub fn of(table: &Table) -> TableSpec {
        let fields: Vec<Field> = table
            .columns
            .iter()
            .filter_map(|column| match &column.kind {
                ColumnKind::Physical {
                    data_type,
                    not_null,
                } => Some(Field::new(&column.name, data_type.clone(), !not_null)),
                ColumnKind::Metadata {
                    data_type,
                    is_virtual: false,
                    ..
                } => Some(Field::new(&column.name, data_type.clone(), true)),
                ColumnKind::Metadata { .. } | ColumnKind::Computed { .. } => None,
            })
            .collect();
        let metadata = table
            .columns
            .iter()
            .filter_map(|column| match &column.kind {
                ColumnKind::Metadata {
                    key,
                    is_virtual: false,
                    ..
                } => Some((column.name.clone(), key.clone())),
                _ => None,
            });
        TableSpec {
            name: table.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            partitioned_by: table.partitioned_by.clone(),
            primary_key: table.primary_key.clone(),
            metadata: metadata.collect(),
            options: table.options.clone(),
        }
    }

    /// A table of which nothing is known but its files.
    pub fn unknown(name: &str) -> TableSpec {
        TableSpec {
            name: name.to_string(),
            schema: Arc::new(Schema::empty()),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            metadata: BTreeMap::new(),
            options: Options::default(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.options.get(key)
    }

    pub(super) fn required(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| {
            Error::job(format!(
                "table '{}': the option '{key}' is missing; add it to the WITH clause",
                self.name
            ))
        })
    }

    /// A refusal that names the option and, where it was written in a file, its place.
    pub(crate) fn refuse(&self, key: &str, why: impl std::fmt::Display) -> Error {
        let place = match self.options.entries.get(key).map(|entry| entry.place) {
            Some(place) if place.line > 0 => {
                format!(" (line {}, column {})", place.line, place.column)
            }
            _ => String::new(),
        };
        Error::job(format!(
            "table '{}', option '{key}'{place}: {why}",
            self.name
        ))
    }

    /// Refuses options that are not `known`. Those that begin with one of `elsewhere` are the business of other parts of the
    /// program; what concerns Parquet is nobody's but ours.
    pub(super) fn only(&self, known: &[&str], elsewhere: &[&str]) -> Result<()> {
        for key in self.options.entries.keys() {
            let is_ours = !elsewhere.iter().any(|prefix| key.starts_with(prefix))
                || key.starts_with("tributary.parquet.");
            if is_ours && !known.contains(&key.as_str()) {
                let why = format!(
                    "this sink does not know it; remove it (known here: {})",
                    known.join(", ")
                );
                return Err(self.refuse(key, why));
            }
        }
        Ok(())
    }

    pub(super) fn duration_ms(&self, key: &str) -> Result<Option<i64>> {
        self.parsed(key, duration_ms, "a duration such as '30 s' or '5 min'")
    }

    pub(super) fn bytes(&self, key: &str) -> Result<Option<usize>> {
        let bytes = |text: &str| usize::try_from(size(text)?).ok().filter(|bytes| *bytes > 0);
        self.parsed(key, bytes, "a size such as '64mb'")
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.parsed(
            key,
            |text| text.to_ascii_lowercase().parse().ok(),
            "'true' or 'false'",
        )
    }

    fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
    ) -> Result<Option<T>> {
        let Some(text) = self.options.text(key) else {
            return Ok(None);
        };
        match parse(text.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.refuse(key, format!("'{text}' is not {wanted}"))),
        }
    }
}

/// When an open file is closed. It is looked at when rows are written, and at barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rolling {
    pub file_size: usize,
    /// Since the file was opened.
    pub rollover_ms: i64,
    /// Since the last row.
    pub inactivity_ms: Option<i64>,
    /// How often the two intervals are looked at; at every opportunity unless set.
    pub check_ms: i64,
}

impl Rolling {
    pub const KEYS: [&str; 4] = [
        "sink.rolling-policy.file-size",
        "sink.rolling-policy.rollover-interval",
        "sink.rolling-policy.inactivity-interval",
        "sink.rolling-policy.check-interval",
    ];

    pub fn of(table: &TableSpec) -> Result<Rolling> {
        let [file_size, rollover, inactivity, check] = Self::KEYS;
        let needed = |key| table.refuse(key, "has no value");
        Ok(Rolling {
            file_size: table.bytes(file_size)?.ok_or_else(|| needed(file_size))?,
            rollover_ms: table
                .duration_ms(rollover)?
                .ok_or_else(|| needed(rollover))?,
            inactivity_ms: table.duration_ms(inactivity)?,
            check_ms: table.duration_ms(check)?.unwrap_or(0),
        })
    }
}
