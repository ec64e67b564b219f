//! Partition projection: which partitions Athena takes a table to have, by the table's properties alone.
//!
//! What is registered beside a projection is not seen, nor is a folder whose values are not projected.

use super::Definition;
use crate::error::{Error, Result};
use chrono::format::{Parsed, StrftimeItems};
use chrono::{DateTime, Days, Months, NaiveDateTime, TimeDelta};
use std::fmt::Write;

/// More values than this are not counted out: neither does a query over them come to an end in Athena.
const MOST: usize = 1_000_000;

/// The projection of one table.
#[derive(Debug)]
pub struct Projection {
    /// In the order of the table's partition keys.
    pub columns: Vec<Column>,
    template: String,
}

/// What one partition key can be.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Listed(Vec<String>),
    Numbers {
        first: i64,
        last: i64,
        step: u64,
        digits: usize,
    },
    Dates {
        first: Bound,
        last: Bound,
        step: (u32, Unit),
        format: String,
    },
    /// Whatever a query asks for.
    Injected,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Years,
    Months,
    Weeks,
    Days,
    Hours,
    Minutes,
    Seconds,
}

#[derive(Debug)]
enum Bound {
    At(NaiveDateTime),
    /// So far from now.
    Now {
        back: bool,
        by: u32,
        unit: Unit,
    },
}

impl Projection {
    /// The projection of a table, where it has one.
    pub fn of(table: &Definition) -> Result<Option<Projection>> {
        if !table.is_projected() {
            return Ok(None);
        }
        let mut columns = Vec::new();
        let mut usual = table.location.trim_end_matches('/').to_owned();
        for key in &table.partition_keys {
            let properties = Properties {
                table,
                column: &key.name,
            };
            columns.push(Column {
                name: key.name.clone(),
                values: properties.values()?,
            });
            // Writing into a String cannot fail.
            let _ = write!(usual, "/{0}=${{{0}}}", key.name);
        }
        let template = table.parameters.get("storage.location.template");
        Ok(Some(Projection {
            columns,
            template: template.cloned().unwrap_or(usual),
        }))
    }

    /// Where the partition with these values lies.
    pub fn location(&self, values: &[&str]) -> String {
        let columns = self.columns.iter().zip(values);
        columns.fold(self.template.clone(), |location, (column, value)| {
            location.replace(&format!("${{{}}}", column.name), value)
        })
    }
}

impl Column {
    /// Every value; nothing where only the query can say.
    pub fn values(&self, now_ms: i64) -> Result<Option<Vec<String>>> {
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let now = now.naive_utc();
        let mut all = Vec::new();
        match &self.values {
            Values::Injected => return Ok(None),
            Values::Listed(values) => all.clone_from(values),
            Values::Numbers {
                first,
                last,
                step,
                digits,
            } => {
                let mut next = Some(*first);
                while let Some(number) = next.filter(|number| number <= last) {
                    all.push(padded(number, *digits));
                    self.bear(all.len())?;
                    next = number.checked_add_unsigned(*step);
                }
            }
            Values::Dates {
                first,
                last,
                step: (by, unit),
                format,
            } => {
                let last = last.when(now);
                let first = first.when(now);
                let mut steps = 0;
                // Each from the first one: the 31st of a month would else become the 28th for ever.
                while let Some(at) = first
                    .and_then(|first| moved(first, by.checked_mul(steps)?, *unit, false))
                    .filter(|at| last.is_some_and(|last| *at <= last))
                {
                    all.push(at.format(format).to_string());
                    self.bear(all.len())?;
                    steps += 1;
                }
                all.dedup();
            }
        }
        Ok(Some(all))
    }

    fn bear(&self, count: usize) -> Result<()> {
        match count > MOST {
            true => Err(Error::job(format!(
                "partition key '{}' is projected to more than {MOST} values: give it a smaller range",
                self.name
            ))),
            false => Ok(()),
        }
    }
}

fn padded(number: i64, digits: usize) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:0digits$}", number.unsigned_abs())
}

impl Bound {
    /// Nothing where no calendar reaches that far.
    fn when(&self, now: NaiveDateTime) -> Option<NaiveDateTime> {
        match *self {
            Bound::At(at) => Some(at),
            Bound::Now { back, by, unit } => moved(now, by, unit, back),
        }
    }
}

fn moved(from: NaiveDateTime, by: u32, unit: Unit, back: bool) -> Option<NaiveDateTime> {
    let months = |months: Months| match back {
        true => from.checked_sub_months(months),
        false => from.checked_add_months(months),
    };
    let days = |days: Days| match back {
        true => from.checked_sub_days(days),
        false => from.checked_add_days(days),
    };
    let time = |seconds: i64| {
        let by = TimeDelta::try_seconds(seconds)?;
        match back {
            true => from.checked_sub_signed(by),
            false => from.checked_add_signed(by),
        }
    };
    match unit {
        Unit::Years => months(Months::new(by.checked_mul(12)?)),
        Unit::Months => months(Months::new(by)),
        Unit::Weeks => days(Days::new(u64::from(by) * 7)),
        Unit::Days => days(Days::new(u64::from(by))),
        Unit::Hours => time(i64::from(by) * 3_600),
        Unit::Minutes => time(i64::from(by) * 60),
        Unit::Seconds => time(i64::from(by)),
    }
}

/// The properties of one partition key.
struct Properties<'a> {
    table: &'a Definition,
    column: &'a str,
}

impl Properties<'_> {
    fn get(&self, property: &str) -> Option<&str> {
        let key = format!("projection.{}.{property}", self.column);
        self.table.parameters.get(&key).map(String::as_str)
    }

    fn required(&self, property: &str) -> Result<&str> {
        self.get(property).ok_or_else(|| {
            Error::job(format!(
                "table {}.{} is projected, and 'projection.{}.{property}' is missing: Athena refuses it",
                self.table.database, self.table.name, self.column
            ))
        })
    }

    fn refuse(&self, property: &str, why: &str) -> Error {
        Error::job(format!(
            "table {}.{}: 'projection.{}.{property}' = '{}' {why}",
            self.table.database,
            self.table.name,
            self.column,
            self.get(property).unwrap_or_default()
        ))
    }

    fn values(&self) -> Result<Values> {
        match self.required("type")?.trim().to_ascii_lowercase().as_str() {
            "enum" => {
                let values = self.required("values")?.split(',');
                Ok(Values::Listed(values.map(str::to_owned).collect()))
            }
            "injected" => Ok(Values::Injected),
            "integer" => {
                let number = |text: &str| {
                    let number = text.trim().parse::<i64>();
                    number.map_err(|_| self.refuse("range", "has to be two whole numbers"))
                };
                let (first, last) = self.range()?;
                Ok(Values::Numbers {
                    first: number(first)?,
                    last: number(last)?,
                    step: u64::from(self.positive("interval")?.unwrap_or(1)),
                    digits: self.positive("digits")?.unwrap_or(1) as usize,
                })
            }
            "date" => {
                let format = self.format()?;
                let (first, last) = self.range()?;
                Ok(Values::Dates {
                    first: self.bound(first, &format)?,
                    last: self.bound(last, &format)?,
                    step: self.step(&format)?,
                    format,
                })
            }
            _ => Err(self.refuse("type", "is none of enum, integer, date and injected")),
        }
    }

    fn range(&self) -> Result<(&str, &str)> {
        let range = self.required("range")?.split_once(',');
        range.ok_or_else(|| self.refuse("range", "has to be two values with a comma between"))
    }

    fn positive(&self, property: &str) -> Result<Option<u32>> {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(self.refuse(property, "has to be a whole number above 0")),
        };
        self.get(property).map(number).transpose()
    }

    /// Athena steps by days or months where the format says one of them; in all other cases it has to be told.
    fn step(&self, format: &str) -> Result<(u32, Unit)> {
        let by = self.positive("interval")?;
        let unit = match self.get("interval.unit") {
            Some(text) => {
                Some(unit(text).ok_or_else(|| self.refuse("interval.unit", "is no unit of time"))?)
            }
            None => None,
        };
        let finest = match format {
            format if format.contains("%H") => None,
            format if format.contains("%d") => Some(Unit::Days),
            format if format.contains("%m") => Some(Unit::Months),
            _ => None,
        };
        match (by, unit, finest) {
            (by, Some(unit), _) => Ok((by.unwrap_or(1), unit)),
            (by, None, Some(unit)) => Ok((by.unwrap_or(1), unit)),
            _ => Err(self
                .required("interval.unit")
                .err()
                .unwrap_or_else(|| self.refuse("interval.unit", "is missing"))),
        }
    }

    /// Java's pattern as chrono's.
    fn format(&self) -> Result<String> {
        let pattern = self.required("format")?;
        let mut format = String::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let run = rest.len() - rest.trim_start_matches(first).len();
            let (letters, behind) = rest.split_at(run);
            rest = behind;
            match letters {
                "yyyy" | "uuuu" => format.push_str("%Y"),
                "MM" => format.push_str("%m"),
                "dd" => format.push_str("%d"),
                "HH" => format.push_str("%H"),
                "mm" => format.push_str("%M"),
                "ss" => format.push_str("%S"),
                "'" => {
                    let (quoted, behind) = rest
                        .split_once('\'')
                        .ok_or_else(|| self.refuse("format", "has a quote that is not closed"))?;
                    format.push_str(&quoted.replace('%', "%%"));
                    rest = behind;
                }
                _ if first.is_ascii_alphabetic() => {
                    let why = format!(
                        "has '{letters}', and only yyyy, MM, dd, HH, mm and ss can be read here"
                    );
                    return Err(self.refuse("format", &why));
                }
                _ => format.push_str(&letters.replace('%', "%%")),
            }
        }
        Ok(format)
    }

    fn bound(&self, text: &str, format: &str) -> Result<Bound> {
        let text = text.trim();
        if let Some(offset) = text.strip_prefix("NOW") {
            return now(offset)
                .ok_or_else(|| self.refuse("range", "has no such form as NOW-3DAYS"));
        }
        date(text, format)
            .map(Bound::At)
            .ok_or_else(|| self.refuse("range", "does not have the form of 'format'"))
    }
}

/// `-3DAYS` behind NOW.
fn now(offset: &str) -> Option<Bound> {
    let offset = offset.trim();
    if offset.is_empty() {
        return Some(Bound::Now {
            back: false,
            by: 0,
            unit: Unit::Days,
        });
    }
    let back = offset.starts_with('-');
    let rest = offset.strip_prefix(['-', '+'])?.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_digit())?;
    let (by, name) = rest.split_at(letters);
    Some(Bound::Now {
        back,
        by: by.parse().ok()?,
        unit: unit(name)?,
    })
}

fn unit(text: &str) -> Option<Unit> {
    let name = text.trim().to_ascii_uppercase();
    match name.strip_suffix('S').unwrap_or(&name) {
        "YEAR" => Some(Unit::Years),
        "MONTH" => Some(Unit::Months),
        "WEEK" => Some(Unit::Weeks),
        "DAY" => Some(Unit::Days),
        "HOUR" => Some(Unit::Hours),
        "MINUTE" => Some(Unit::Minutes),
        "SECOND" => Some(Unit::Seconds),
        _ => None,
    }
}

/// A date of which the format may say no more than the year; the rest is the first there is.
fn date(text: &str, format: &str) -> Option<NaiveDateTime> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
    for (what, set) in [
        ("%m", Parsed::set_month as fn(&mut Parsed, i64) -> _),
        ("%d", Parsed::set_day),
    ] {
        if !format.contains(what) {
            set(&mut parsed, 1).ok()?;
        }
    }
    for (what, set) in [
        ("%H", Parsed::set_hour as fn(&mut Parsed, i64) -> _),
        ("%M", Parsed::set_minute),
    ] {
        if !format.contains(what) {
            set(&mut parsed, 0).ok()?;
        }
    }
    parsed.to_naive_datetime_with_offset(0).ok()
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
