//! Values as JSON.

use super::tree::{Json, big_decimal, parse};
use crate::sql::functions::{column, text_rows, texts, to_text, type_name};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use std::collections::BTreeMap;

/// JSON_OBJECT's arguments: how each value is meant, as letters, with what is done with NULL before them; then names and values in
/// turn. A value that is JSON itself (J) is put in as it is.
pub fn object(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (modes, columns) = arguments(args)?;
    let names = (1..args.args.len()).step_by(2).map(|at| texts(args, at));
    let names = names.collect::<Result<Vec<_>>>()?;
    text_rows(args, |row| {
        let mut fields = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            let value = columns[at * 2 + 1](row);
            if value != Json::Null || !modes.absent {
                fields.insert(name.get(row)?.to_owned(), value);
            }
        }
        Some(Json::Object(fields).text())
    })
}

/// JSON_ARRAY's arguments: the same, without names.
pub fn array(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (modes, columns) = arguments(args)?;
    text_rows(args, |row| {
        let values = columns.iter().map(|value| value(row));
        let items = values.filter(|value| *value != Json::Null || !modes.absent);
        Some(Json::Array(items.collect()).text())
    })
}

pub fn string(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let values = column(args, 0)?;
    let write = writer(&values)?;
    text_rows(args, |row| {
        let value = write(row);
        values.is_valid(row).then(|| value.text())
    })
}

struct Modes {
    absent: bool,
}

type Writer = Box<dyn Fn(usize) -> Json>;

fn arguments(args: &ScalarFunctionArgs) -> Result<(Modes, Vec<Writer>)> {
    let modes = texts(args, 0)?;
    let modes = modes.get(0).unwrap_or_default().to_owned();
    let mut columns = Vec::with_capacity(args.args.len());
    for at in 1..args.args.len() {
        let values = column(args, at)?;
        // The first letter is about NULL.
        columns.push(match modes.as_bytes().get(at) {
            Some(b'J') => raw(&values),
            _ => writer(&values)?,
        });
    }
    let absent = modes.starts_with('A');
    Ok((Modes { absent }, columns))
}

/// A text that is JSON already.
fn raw(values: &ArrayRef) -> Writer {
    let texts = values.as_string::<i32>().clone();
    Box::new(move |row| match texts.is_valid(row) {
        true => parse(texts.value(row)).unwrap_or(Json::Null),
        false => Json::Null,
    })
}

/// How the values of a column are written.
fn writer(values: &ArrayRef) -> Result<Writer> {
    let nulls = values.logical_nulls();
    let write = of_valid(values)?;
    Ok(Box::new(move |row| {
        match nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            true => Json::Null,
            false => write(row),
        }
    }))
}

fn of_valid(values: &ArrayRef) -> Result<Writer> {
    Ok(match values.data_type() {
        DataType::Null => Box::new(|_| Json::Null),
        DataType::Boolean => {
            let values = values.as_boolean().clone();
            Box::new(move |row| Json::Bool(values.value(row)))
        }
        DataType::Float32 | DataType::Float64 => {
            let texts = to_text(values)?;
            let texts = texts.as_string::<i32>().clone();
            Box::new(move |row| {
                let text = texts.value(row);
                match big_decimal(text).filter(|_| !text.starts_with(['N', 'I'])) {
                    Some(number) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                        Json::Number(number)
                    }
                    _ => Json::Text(text.to_owned()),
                }
            })
        }
        whole if whole.is_integer() || matches!(whole, DataType::Decimal128(_, _)) => {
            let texts = to_text(values)?;
            let texts = texts.as_string::<i32>().clone();
            Box::new(move |row| Json::Number(texts.value(row).to_owned()))
        }
        DataType::Utf8 => {
            let texts = values.as_string::<i32>().clone();
            Box::new(move |row| Json::Text(texts.value(row).to_owned()))
        }
        DataType::List(_) => {
            let lists = values.as_list::<i32>().clone();
            let item = writer(lists.values())?;
            Box::new(move |row| {
                let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
                Json::Array((start..end).map(|at| item(at as usize)).collect())
            })
        }
        DataType::Map(_, _) => {
            let maps = values.as_map().clone();
            if maps.keys().data_type() != &DataType::Utf8 {
                return exec_err!("a MAP is JSON only where its keys are STRING");
            }
            let (keys, value) = (
                maps.keys().as_string::<i32>().clone(),
                writer(maps.values())?,
            );
            Box::new(move |row| {
                let (start, end) = (maps.value_offsets()[row], maps.value_offsets()[row + 1]);
                let entries =
                    (start as usize..end as usize).map(|at| (keys.value(at).to_owned(), value(at)));
                Json::Object(entries.collect())
            })
        }
        DataType::Struct(fields) => {
            let rows = values.as_struct();
            let columns = fields.iter().zip(rows.columns());
            let columns = columns
                .map(|(field, column)| Ok((field.name().clone(), writer(column)?)))
                .collect::<Result<Vec<_>>>()?;
            Box::new(move |row| {
                let fields = columns
                    .iter()
                    .map(|(name, write)| (name.clone(), write(row)));
                Json::Object(fields.collect())
            })
        }
        other => return exec_err!("{} is no JSON; CAST it AS STRING", type_name(other)),
    })
}

/// Text, if values of these types can be JSON: asked when a job is planned.
pub fn checked(types: &[DataType]) -> Result<DataType> {
    types.iter().try_for_each(check)?;
    Ok(DataType::Utf8)
}

fn check(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::List(item) => check(item.data_type()),
        DataType::Map(entries, _) => check(entries.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field.data_type())),
        DataType::Date32 | DataType::Time32(_) | DataType::Binary | DataType::Timestamp(_, _) => {
            plan_err!("{} is no JSON; CAST it AS STRING", type_name(data_type))
        }
        _ => Ok(()),
    }
}
