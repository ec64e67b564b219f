//! Rows as text, and two multisets of rows side by side.

use crate::error::{Error, Result};
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// How far two doubles may be apart, relative to their size: sums depend on the order of addition.
const TOLERANCE_DIGITS: usize = 9;

/// One row in a form in which equal rows are equal texts: no NULLs, keys in order, doubles to nine digits.
pub fn canonical(row: &str) -> Result<String> {
    let value: Value = serde_json::from_str(row)
        .map_err(|error| Error::job(format!("this row is not JSON: {row}")).caused_by(error))?;
    Ok(normal(value).to_string())
}

fn normal(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            let sorted: BTreeMap<_, _> =
                fields.map(|(name, value)| (name, normal(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::Number(number) => Value::Number(rounded(number)),
        other => other,
    }
}

fn rounded(number: Number) -> Number {
    if number.is_i64() || number.is_u64() {
        return number;
    }
    let exact = number.as_f64().unwrap_or(f64::NAN);
    let text = format!("{exact:.*e}", TOLERANCE_DIGITS - 1);
    let rounded = text.parse::<f64>().unwrap_or(exact);
    // 10.0 and 10 are the same number to a person who writes an expectation.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only when it is whole and small"
    )]
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        return Number::from(rounded as i64);
    }
    Number::from_f64(rounded).unwrap_or(number)
}

/// The difference between what was expected and what was seen, for a person; nothing when they agree.
pub fn difference(expected: &[String], seen: &[String]) -> Result<Option<String>> {
    let mut missing = expected
        .iter()
        .map(|row| canonical(row))
        .collect::<Result<Vec<_>>>()?;
    let mut extra = Vec::new();
    for row in seen {
        let row = canonical(row)?;
        match missing.iter().position(|other| *other == row) {
            Some(at) => {
                missing.swap_remove(at);
            }
            None => extra.push(row),
        }
    }
    if missing.is_empty() && extra.is_empty() {
        return Ok(None);
    }
    missing.sort();
    extra.sort();
    let missing = missing.into_iter().map(|row| format!("  - {row}\n"));
    let extra = extra.into_iter().map(|row| format!("  + {row}\n"));
    Ok(Some(missing.chain(extra).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&str]) -> Vec<String> {
        rows.iter().map(|row| (*row).to_string()).collect()
    }

    #[test]
    fn order_nulls_and_the_last_digit_do_not_matter() {
        let expected = rows(&[r#"{"a":1,"b":null}"#, r#"{"x":0.1}"#]);
        let seen = rows(&[r#"{"x":0.10000000000000002}"#, r#"{"a":1.0}"#]);
        assert_eq!(difference(&expected, &seen).unwrap(), None);
    }

    #[test]
    fn how_often_a_row_is_there_matters() {
        let seen = difference(&rows(&[r#"{"a":1}"#]), &rows(&[r#"{"a":1}"#, r#"{"a":1}"#]));
        assert_eq!(seen.unwrap().unwrap(), "  + {\"a\":1}\n");
        let seen = difference(&rows(&[r#"{"a":1}"#]), &rows(&[r#"{"a":2}"#]));
        assert_eq!(seen.unwrap().unwrap(), "  - {\"a\":1}\n  + {\"a\":2}\n");
    }
}
