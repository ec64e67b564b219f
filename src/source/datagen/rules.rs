//! What the options say of each column.

use crate::error::{Error, Result};
use crate::sql::Table;
use crate::sql::values::duration_ms;
use arrow::datatypes::{DataType, TimeUnit};
use std::str::FromStr;

/// How the values of one column are made.
pub(super) struct Rule {
    pub kind: Kind,
    pub null_rate: f64,
    /// Tells the columns' random numbers apart.
    pub salt: u64,
}

pub(super) enum Kind {
    Sequence {
        start: i64,
    },
    Random {
        min: Bound,
        max: Bound,
        length: usize,
        max_past_ms: i64,
    },
}

/// A bound of a random number, in the precision of the column.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub whole: i64,
    pub real: f64,
}

/// The table's options, read with errors that name them.
pub(super) struct Options<'a> {
    pub table: &'a Table,
}

impl Options<'_> {
    pub fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.table
            .options
            .get(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| self.error(key, &format!("needs a number, and '{text}' is none")))
            })
            .transpose()
    }

    /// The first number of a sequence and how many there are, when the column is one.
    pub fn sequence(&self, column: &str) -> Result<Option<(i64, i64)>> {
        let key = |name| format!("fields.{column}.{name}");
        match self.table.options.get(&key("kind")) {
            None | Some("random") => return Ok(None),
            Some("sequence") => {}
            Some(other) => {
                let what = format!("'{other}' is none of random, sequence");
                return Err(self.error(&key("kind"), &what));
            }
        }
        let needed = |name| {
            self.number::<i64>(&key(name))?
                .ok_or_else(|| self.error(&key(name), "is needed for a sequence"))
        };
        let (start, end) = (needed("start")?, needed("end")?);
        match end
            .checked_sub(start)
            .and_then(|steps| steps.checked_add(1))
        {
            Some(count) if count > 0 => Ok(Some((start, count))),
            _ => Err(self.error(&key("end"), "must not be smaller than the start")),
        }
    }

    pub fn rule(&self, column: &str, data_type: &DataType, salt: usize) -> Result<Rule> {
        let key = |name: &str| format!("fields.{column}.{name}");
        let (least, greatest) = limits(data_type).ok_or_else(|| {
            Error::job(format!(
                "table '{}', column '{column}': datagen makes no values of type {data_type}; \
                 make its parts as columns and put them together in a query",
                self.table.name
            ))
        })?;
        let kind = match self.sequence(column)? {
            Some((start, _)) => Kind::Sequence { start },
            None => {
                let min = self.bound(&key("min"), least)?;
                let max = self.bound(&key("max"), greatest)?;
                if min.real > max.real || min.whole > max.whole {
                    return Err(self.error(&key("min"), "is greater than the maximum"));
                }
                let length = self.number(&key("length"))?.unwrap_or(100);
                let max_past_ms = match self.table.options.get(&key("max-past")) {
                    None => 0,
                    Some(text) => duration_ms(text)
                        .ok_or_else(|| self.error(&key("max-past"), "needs a time like '5 s'"))?,
                };
                Kind::Random {
                    min,
                    max,
                    length,
                    max_past_ms,
                }
            }
        };
        let null_rate = self.number(&key("null-rate"))?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(self.error(&key("null-rate"), "must be from 0 to 1"));
        }
        Ok(Rule {
            kind,
            null_rate,
            salt: salt as u64 + 1,
        })
    }

    fn bound(&self, key: &str, otherwise: Bound) -> Result<Bound> {
        let Some(real) = self.number::<f64>(key)? else {
            return Ok(otherwise);
        };
        // A whole number is kept exactly, which a double does not do above 2^53.
        let whole = self
            .table
            .options
            .get(key)
            .and_then(|text| text.parse().ok());
        let whole = whole.unwrap_or(real as i64);
        Ok(Bound { whole, real })
    }

    pub fn error(&self, key: &str, what: &str) -> Error {
        Error::job(format!(
            "table '{}', option '{key}': {what}",
            self.table.name
        ))
    }
}

/// The smallest and the greatest value of a type; for types without, anything.
fn limits(data_type: &DataType) -> Option<(Bound, Bound)> {
    let whole = |min: i64, max: i64| {
        let bound = |whole| Bound {
            whole,
            real: whole as f64,
        };
        Some((bound(min), bound(max)))
    };
    match data_type {
        DataType::Int8 => whole(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => whole(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => whole(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => whole(i64::MIN, i64::MAX),
        DataType::Float32 => {
            let bound = |real: f32| Bound {
                whole: 0,
                real: real.into(),
            };
            Some((bound(f32::MIN), bound(f32::MAX)))
        }
        DataType::Float64 => {
            let bound = |real| Bound { whole: 0, real };
            Some((bound(f64::MIN), bound(f64::MAX)))
        }
        DataType::Decimal128(precision, scale) => {
            let max = 10f64.powi(i32::from(*precision) - i32::from(*scale)) * 0.999;
            let bound = |real| Bound { whole: 0, real };
            Some((bound(-max), bound(max)))
        }
        DataType::Boolean
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Time32(TimeUnit::Millisecond)
        | DataType::Timestamp(_, _) => whole(0, 0),
        _ => None,
    }
}
