//! The options of a table that is written, as values. An option that nobody knows is refused: a job never
//! gets less than what it asked for in silence.

use crate::error::{Error, Result};
use crate::sql::{ColumnKind, Options, Table};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// A table to write: its columns, and the options of its WITH clause.
#[derive(Debug, Clone)]
pub struct TableSpec {
    pub name: String,
    /// The columns of the rows that the sink is given, in their order.
    pub schema: SchemaRef,
    pub partitioned_by: Vec<String>,
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
        TableSpec {
            name: table.name.clone(),
            schema: Arc::new(Schema::new(fields)),
            partitioned_by: table.partitioned_by.clone(),
            options: table.options.clone(),
        }
    }

    /// A table of which nothing is known but its files.
    pub fn unknown(name: &str) -> TableSpec {
        TableSpec {
            name: name.to_string(),
            schema: Arc::new(Schema::empty()),
            partitioned_by: Vec::new(),
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
        let Some(text) = self.get(key) else {
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
    /// Since the file was opened. One minute unless set, not Flink's thirty, so that rows are soon to be seen.
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
        Ok(Rolling {
            file_size: table.bytes(file_size)?.unwrap_or(128 << 20),
            rollover_ms: table.duration_ms(rollover)?.unwrap_or(60_000),
            inactivity_ms: table.duration_ms(inactivity)?,
            check_ms: table.duration_ms(check)?.unwrap_or(0),
        })
    }
}

/// A number and a word: `('128', 'mb')` of `128 MB`.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_ascii_lowercase()))
}

/// A duration as Flink writes it; a bare number is milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = number_and_unit(text)?;
    let ms: u64 = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    i64::try_from(number.checked_mul(ms)?).ok()
}

/// A size as Flink writes it: powers of 1,024; a bare number is bytes. Zero is no size.
fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    usize::try_from(number.checked_mul(1 << shift)?)
        .ok()
        .filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_flink_writes_them() {
        assert_eq!(duration_ms("30 min"), Some(1_800_000));
        assert_eq!(duration_ms("2s"), Some(2_000));
        assert_eq!(duration_ms("250"), Some(250));
        assert_eq!(duration_ms("1 fortnight"), None);
        assert_eq!(duration_ms("-1 s"), None);
        assert_eq!(bytes("128MB"), Some(128 << 20));
        assert_eq!(bytes("1 kb"), Some(1024));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("99999999999 tb"), None);
        assert_eq!(bytes(""), None);
    }
}
