//! Values from text: what stands in quotes in JSON, or between two delimiters in CSV.
//!
//! Flink reads numbers, truth and times from text with Java's own parsers, whose habits are kept here: white space around
//! a number is ignored, NaN and Infinity are words for numbers, and a BOOLEAN is true for "true" in any case and false for
//! any other text. One thing is refused that Java would take: a suffix like `1.5f`.

use super::columns::Values;
use super::number::Number;
use super::time::{self, Standard};
use crate::sql::functions::{decimal, decimal_text, floating};
use arrow::datatypes::TimeUnit;

/// The value does not fit its column; [`expected`] says what would.
pub struct Unfit;

/// How text becomes times.
#[derive(Debug, Clone, Copy)]
pub struct TimeStyle {
    pub standard: Standard,
    /// A TIME may be without its seconds.
    pub short_times: bool,
}

/// Appends what `text` says to a column of scalars. `Ok(false)` is a value that becomes NULL. Nothing is appended
/// in that case, or when it does not fit.
pub fn append(values: &mut Values, text: &str, style: TimeStyle) -> Result<bool, Unfit> {
    fn parsed<T: std::str::FromStr>(values: &mut Vec<T>, text: &str) -> Result<bool, Unfit> {
        values.push(trimmed(text).parse().map_err(|_| Unfit)?);
        Ok(true)
    }
    fn given<T>(values: &mut Vec<T>, value: Option<T>) -> Result<bool, Unfit> {
        values.push(value.ok_or(Unfit)?);
        Ok(true)
    }
    match values {
        Values::String(strings) => {
            strings.push(text.as_bytes());
            Ok(true)
        }
        Values::Boolean(values) => {
            values.append(trimmed(text).eq_ignore_ascii_case("true"));
            Ok(true)
        }
        Values::TinyInt(values) => parsed(values, text),
        Values::SmallInt(values) => parsed(values, text),
        Values::Int(values) => parsed(values, text),
        Values::BigInt(values) => parsed(values, text),
        Values::Float(values) => given(values, floating(text)),
        Values::Double(values) => given(values, floating(text)),
        Values::Decimal {
            values,
            precision,
            scale,
        } => {
            let text = decimal_text(text).ok_or(Unfit)?;
            let Some(value) = decimal(text, *precision, *scale) else {
                return Ok(false);
            };
            values.push(value);
            Ok(true)
        }
        Values::Bytes(strings) => {
            base64(text, &mut strings.bytes)?;
            strings.end();
            Ok(true)
        }
        Values::Date(values) => given(values, time::date(text)),
        Values::Time(values) => given(values, time::time(text, style.short_times)),
        Values::Timestamp { values, unit, zone } => given(
            values,
            time::timestamp(text, style.standard, zone.is_some(), *unit),
        ),
        Values::Array { .. } | Values::Map { .. } | Values::Row(_) => Err(Unfit),
    }
}

/// Appends a JSON number to a column of scalars, with the same results as [`append`], but for one that is too large for a
/// FLOAT or a DOUBLE: it does not fit. An INT and a BIGINT take a
/// number with a fraction or an exponent too and cut the fraction off, as in Flink; the smaller ones do not.
#[inline]
pub fn append_number(values: &mut Values, number: Number, style: TimeStyle) -> Result<bool, Unfit> {
    match values {
        Values::Int(values) => values.push(
            whole(number)
                .and_then(|value| value.try_into().ok())
                .ok_or(Unfit)?,
        ),
        Values::BigInt(values) => values.push(whole(number).ok_or(Unfit)?),
        Values::Float(values) => {
            values.push(number.text.parse().map_err(|_| Unfit).and_then(finite)?)
        }
        Values::Double(values) => values.push(finite(number.to_f64())?),
        Values::Bytes(_) => return Err(Unfit),
        _ => return append(values, number.text, style),
    }
    Ok(true)
}

#[inline]
fn whole(number: Number) -> Option<i64> {
    if number.integer {
        return number.to_i64();
    }
    let value = number.to_f64().trunc();
    // 2^63 is a double, 2^63 - 1 is not.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&value)
        .then_some(value as i64)
}

/// What a column wants, with its article, for a message.
pub fn expected(values: &Values, style: TimeStyle) -> String {
    let simple = match values {
        Values::Boolean(_) => "a BOOLEAN",
        Values::TinyInt(_) => "a TINYINT",
        Values::SmallInt(_) => "a SMALLINT",
        Values::Int(_) => "an INT",
        Values::BigInt(_) => "a BIGINT",
        Values::Float(_) => "a FLOAT",
        Values::Double(_) => "a DOUBLE",
        Values::Decimal {
            precision, scale, ..
        } => return format!("a DECIMAL({precision}, {scale})"),
        Values::String(_) => "a STRING",
        Values::Bytes(_) => "base64, as BYTES must be",
        Values::Date(_) => "a DATE like '2024-03-01'",
        Values::Time(_) => "a TIME like '12:30:00'",
        Values::Timestamp { unit, zone, .. } => {
            let zoned = if zone.is_some() { "_LTZ" } else { "" };
            let precision = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let example = style.standard.example(zone.is_some());
            return format!("a TIMESTAMP{zoned}({precision}) like '{example}'");
        }
        Values::Array { .. } => "an ARRAY",
        Values::Map { .. } => "a MAP",
        Values::Row(_) => "a ROW",
    };
    simple.to_owned()
}

/// Without what Java's `trim` takes away.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

fn finite<T: Into<f64> + Copy>(value: T) -> Result<T, Unfit> {
    let finite = value.into().is_finite();
    finite.then_some(value).ok_or(Unfit)
}

/// A number as it is written, as `value * 10^-scale`; `None` where it is none, or has too many digits.
pub fn decimal_of(text: &str, precision: u8, scale: i8) -> Option<i128> {
    decimal(decimal_text(text)?, precision, scale)
}

/// Appends the bytes that base64 text stands for. White space is passed over and padding required, as in Flink. On
/// bad text some bytes may have been appended: the caller cuts the column back.
fn base64(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (mut word, mut count, mut padding) = (0u32, 0, 0);
    let mut ended = false;
    for byte in text.bytes().filter(|byte| *byte > b' ') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                padding += 1;
                0
            }
            _ => return Err(Unfit),
        };
        if ended || (padding > 0 && byte != b'=') {
            return Err(Unfit);
        }
        word = word << 6 | u32::from(six);
        count += 1;
        if count == 4 {
            out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
            ended = padding > 0;
            (word, count) = (0, 0);
        }
    }
    if count == 0 { Ok(()) } else { Err(Unfit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_needs_its_padding() {
        let decode = |text| {
            let mut out = Vec::new();
            base64(text, &mut out).ok().map(|()| out)
        };
        assert_eq!(decode("").as_deref(), Some(b"".as_slice()));
        assert_eq!(decode("TWFu").as_deref(), Some(b"Man".as_slice()));
        assert_eq!(decode("TW\nE=").as_deref(), Some(b"Ma".as_slice()));
        assert_eq!(decode("TQ==").as_deref(), Some(b"M".as_slice()));
        for wrong in [
            "T", "TQ", "TQ=", "TQ==TQ==", "TQ===", "T===", "====", "TWF-", "TQ=Q", "TWFu=",
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
