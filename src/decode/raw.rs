//! Flink's `raw` format: the whole value is the one column of the table.

use super::columns::{Row, Values};
use super::fault::{Fault, Parsed};
use super::text;
use super::{Format, Value};

/// What the options of the format say.
#[derive(Debug, Clone, Copy)]
pub struct Raw {
    /// `raw.endianness` = `little-endian`: of the numbers' bytes.
    pub little_endian: bool,
}

impl Format for Raw {
    fn read(&mut self, value: Value, columns: &mut Row, _rows: usize) -> Parsed<usize> {
        // A job that only counts records decodes no column at all.
        let Some(column) = columns.fields.first_mut() else {
            return Ok(1);
        };
        match &mut column.values {
            Values::String(strings) => strings.push(value.text()?.as_bytes()),
            Values::Bytes(strings) => strings.push(value.bytes),
            values => self.number(value.bytes, values).ok_or_else(|| {
                let style = text::TimeStyle {
                    standard: super::time::Standard::Sql,
                    short_times: false,
                };
                let expected = text::expected(values, style);
                Fault::value(
                    None,
                    format!("{} bytes are not {expected}", value.bytes.len()),
                )
                .within(columns.names.name(0))
            })?,
        }
        column.appended();
        Ok(1)
    }
}

impl Raw {
    /// Appends a number of as many bytes as its type has.
    fn number(self, bytes: &[u8], values: &mut Values) -> Option<()> {
        macro_rules! number {
            ($type:ty) => {{
                let bytes = bytes.try_into().ok()?;
                if self.little_endian {
                    <$type>::from_le_bytes(bytes)
                } else {
                    <$type>::from_be_bytes(bytes)
                }
            }};
        }
        match values {
            Values::Boolean(values) => values.append(number!(u8) != 0),
            Values::TinyInt(values) => values.push(number!(i8)),
            Values::SmallInt(values) => values.push(number!(i16)),
            Values::Int(values) => values.push(number!(i32)),
            Values::BigInt(values) => values.push(number!(i64)),
            Values::Float(values) => values.push(number!(f32)),
            Values::Double(values) => values.push(number!(f64)),
            _ => return None,
        }
        Some(())
    }
}
