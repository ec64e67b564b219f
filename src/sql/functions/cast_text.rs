//! Values as text, and text as values, as CAST shows and reads them.

use super::cast::ticks;
use super::decimal_text::{decimal, decimal_text, floating};
use super::time_text::{
    read_date, read_time, read_timestamp, write_date, write_time, write_timestamp,
};
use super::{java_double, type_name};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringBuilder};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimeUnit,
};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;

/// The column as text, as CAST(.. AS STRING) shows it.
pub fn to_text(values: &ArrayRef) -> Result<ArrayRef> {
    let write = writer(values.as_ref())?;
    let nulls = values.logical_nulls();
    let mut result = StringBuilder::with_capacity(values.len(), values.len() * 8);
    let mut text = String::new();
    for row in 0..values.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            result.append_null();
        } else {
            text.clear();
            write(row, &mut text);
            result.append_value(&text);
        }
    }
    Ok(Arc::new(result.finish()))
}

/// Text as another type.
pub(super) fn read(values: &ArrayRef, to: &DataType, lenient: bool) -> Result<ArrayRef> {
    fn parse<T: ArrowPrimitiveType>(
        values: &ArrayRef,
        lenient: bool,
        to: &DataType,
        of: impl Fn(&str) -> Option<T::Native>,
    ) -> Result<PrimitiveArray<T>> {
        let texts = values.as_string::<i32>();
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let value = text.and_then(&of);
            if let (Some(text), None, false) = (text, &value, lenient) {
                return unreadable(text, to);
            }
            rows.push(value);
        }
        Ok(rows.into_iter().collect())
    }
    Ok(match to {
        DataType::Binary => arrow_cast(values, to)?,
        DataType::Boolean => {
            let mut rows = Vec::with_capacity(values.len());
            for text in values.as_string::<i32>() {
                let value = text.and_then(read_boolean);
                if let (Some(text), None, false) = (text, value, lenient) {
                    return unreadable(text, to);
                }
                rows.push(value);
            }
            Arc::new(BooleanArray::from(rows))
        }
        DataType::Int8 => Arc::new(parse::<Int8Type>(values, lenient, to, |s| {
            read_whole(s)?.try_into().ok()
        })?),
        DataType::Int16 => Arc::new(parse::<Int16Type>(values, lenient, to, |s| {
            read_whole(s)?.try_into().ok()
        })?),
        DataType::Int32 => Arc::new(parse::<Int32Type>(values, lenient, to, |s| {
            read_whole(s)?.try_into().ok()
        })?),
        DataType::Int64 => Arc::new(parse::<Int64Type>(values, lenient, to, |s| {
            read_whole(s)?.try_into().ok()
        })?),
        DataType::Float32 => Arc::new(parse::<Float32Type>(values, lenient, to, floating)?),
        DataType::Float64 => Arc::new(parse::<Float64Type>(values, lenient, to, floating)?),
        DataType::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            let mut rows = Vec::with_capacity(values.len());
            for text in values.as_string::<i32>() {
                let number = text.and_then(decimal_text);
                if let (Some(text), None, false) = (text, number, lenient) {
                    return unreadable(text, to);
                }
                // What is a number but has too many digits is NULL; what is no number is an error.
                rows.push(number.and_then(|number| decimal(number, precision, scale)));
            }
            let exact: PrimitiveArray<Decimal128Type> = rows.into_iter().collect();
            Arc::new(exact.with_precision_and_scale(precision, scale)?)
        }
        DataType::Date32 => Arc::new(parse::<Date32Type>(values, lenient, to, read_date)?),
        DataType::Time32(TimeUnit::Millisecond) => {
            Arc::new(parse::<Time32MillisecondType>(values, lenient, to, |s| {
                read_time(s.trim()).map(|nanos| (nanos / 1_000_000) as i32)
            })?)
        }
        DataType::Timestamp(unit, _) => {
            let per_tick = i128::from(1_000_000_000 / ticks(*unit));
            let at = parse::<Int64Type>(values, lenient, to, |s| {
                read_timestamp(s).and_then(|nanos| nanos.div_euclid(per_tick).try_into().ok())
            })?;
            let at: ArrayRef = Arc::new(at);
            arrow_cast(&at, to)?
        }
        other => return exec_err!("STRING cannot be CAST AS {}", type_name(other)),
    })
}

fn unreadable<T>(text: &str, to: &DataType) -> Result<T> {
    let to = type_name(to);
    exec_err!("'{text}' cannot be CAST AS {to}; TRY_CAST gives NULL for such a value")
}

fn read_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A whole number; digits behind a point are passed over.
fn read_whole(text: &str) -> Option<i128> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(fraction) {
        return None;
    }
    whole.parse().ok()
}

type Writer<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

/// How one value of a column is written as text.
fn writer(values: &dyn Array) -> Result<Writer<'_>> {
    Ok(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            Box::new(|row, out| out.push_str(if values.value(row) { "TRUE" } else { "FALSE" }))
        }
        DataType::Int8 => display::<Int8Type>(values),
        DataType::Int16 => display::<Int16Type>(values),
        DataType::Int32 => display::<Int32Type>(values),
        DataType::Int64 => display::<Int64Type>(values),
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            Box::new(|row, out| {
                let value = values.value(row);
                java_double::write(&value.to_string(), f64::from(value), out);
            })
        }
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            Box::new(|row, out| {
                let value = values.value(row);
                java_double::write(&value.to_string(), value, out);
            })
        }
        DataType::Decimal128(_, _) => {
            let values = values.as_primitive::<Decimal128Type>();
            Box::new(|row, out| out.push_str(&values.value_as_string(row)))
        }
        DataType::Date32 => {
            let values = values.as_primitive::<Date32Type>();
            Box::new(|row, out| write_date(values.value(row), out))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            let values = values.as_primitive::<Time32MillisecondType>();
            Box::new(|row, out| write_time(values.value(row), out))
        }
        DataType::Timestamp(unit, _) => {
            let per_tick = i128::from(1_000_000_000 / ticks(*unit));
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let plain = arrow_cast(values, &DataType::Int64)?;
            let plain = plain.as_primitive::<Int64Type>().clone();
            Box::new(move |row, out| {
                write_timestamp(i128::from(plain.value(row)) * per_tick, digits, out);
            })
        }
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            Box::new(|row, out| out.push_str(values.value(row)))
        }
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            Box::new(|row, out| out.push_str(&String::from_utf8_lossy(values.value(row))))
        }
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let item = nullable_writer(lists.values().as_ref())?;
            Box::new(move |row, out| {
                let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
                out.push('[');
                for i in start..end {
                    out.push_str(if i == start { "" } else { ", " });
                    item(i as usize, out);
                }
                out.push(']');
            })
        }
        DataType::Map(_, _) => {
            let maps = values.as_map();
            let key = nullable_writer(maps.keys().as_ref())?;
            let value = nullable_writer(maps.values().as_ref())?;
            Box::new(move |row, out| {
                let (start, end) = (maps.value_offsets()[row], maps.value_offsets()[row + 1]);
                out.push('{');
                for i in start..end {
                    out.push_str(if i == start { "" } else { ", " });
                    key(i as usize, out);
                    out.push('=');
                    value(i as usize, out);
                }
                out.push('}');
            })
        }
        DataType::Struct(_) => {
            let rows = values.as_struct();
            let columns = rows
                .columns()
                .iter()
                .map(|column| nullable_writer(column.as_ref()))
                .collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| {
                out.push('(');
                for (i, column) in columns.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    column(row, out);
                }
                out.push(')');
            })
        }
        DataType::Null => Box::new(|_, _| {}),
        other => return exec_err!("{} cannot be CAST AS STRING", type_name(other)),
    })
}

fn nullable_writer(values: &dyn Array) -> Result<Writer<'_>> {
    let write = writer(values)?;
    Ok(Box::new(move |row, out| {
        if values.is_null(row) {
            out.push_str("NULL");
        } else {
            write(row, out);
        }
    }))
}

fn display<T: ArrowPrimitiveType>(values: &dyn Array) -> Writer<'_>
where
    T::Native: std::fmt::Display,
{
    let values = values.as_primitive::<T>();
    Box::new(|row, out| out.push_str(&values.value(row).to_string()))
}
