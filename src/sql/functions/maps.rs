//! Maps, as constructor and as functions.

use super::Takes::{Any, Text};
use super::arrays::{key_and_value, list_of};
use super::{Function, Gives, column, common_type, texts, type_name};
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, MapBuilder, MapFieldNames, StringBuilder,
    StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("map", &[Any, Any], Gives::Of(type_of_map), map).variadic(),
        Function::new("map_keys", &[Any], Gives::Of(list_of_keys), |args| {
            parts(args, true)
        }),
        Function::new("map_values", &[Any], Gives::Of(list_of_values), |args| {
            parts(args, false)
        }),
        Function::new(
            "str_to_map",
            &[Text, Text, Text],
            Gives::Type(map_of(DataType::Utf8, DataType::Utf8)),
            str_to_map,
        )
        .optional(2),
    ]
}

/// MULTISET<T>: how often each value is there, as a MAP.
pub fn multiset(of: DataType) -> DataType {
    let pair = vec![
        Field::new("key", of, false),
        Field::new("value", DataType::Int32, false),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn map_of(key: DataType, value: DataType) -> DataType {
    let pair = vec![
        Field::new("key", key, false),
        Field::new("value", value, true),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// Keys and values stand in turn; all keys have one type, and all values.
fn type_of_map(types: &[DataType]) -> Result<DataType> {
    if !types.len().is_multiple_of(2) {
        return plan_err!("MAP takes keys and values in turn");
    }
    let every_other =
        |first: usize| -> Vec<DataType> { types.iter().skip(first).step_by(2).cloned().collect() };
    let key = common_type("MAP", &every_other(0))?;
    let value = common_type("MAP", &every_other(1))?;
    Ok(map_of(key, value))
}

/// The last value of a key counts.
fn map(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = args.return_type().clone() else {
        return exec_err!("MAP gives a map");
    };
    let (key, value) = key_and_value(args.return_type())?;
    let columns = |first: usize, to: &DataType| -> Result<Vec<ArrayRef>> {
        (first..args.args.len())
            .step_by(2)
            .map(|at| Ok(cast(&column(args, at)?, to)?))
            .collect()
    };
    let (keys, values) = (columns(0, &key)?, columns(1, &value)?);
    let converter = RowConverter::new(vec![SortField::new(key)])?;
    let encoded = keys
        .iter()
        .map(|keys| converter.convert_columns(std::slice::from_ref(keys)))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(args.number_rows));
    for row in 0..args.number_rows {
        let first = places.len();
        let mut known = HashMap::with_capacity(keys.len());
        for (at, (keys, encoded)) in keys.iter().zip(&encoded).enumerate() {
            if keys.is_null(row) {
                return exec_err!("a key of MAP[..] is NULL");
            }
            let place = known
                .entry(encoded.row(row).owned())
                .or_insert(places.len());
            if *place == places.len() {
                places.push((at, row));
            } else {
                places[*place] = (at, row);
            }
        }
        lengths.push(places.len() - first);
    }
    let gather = |columns: &[ArrayRef]| -> Result<ArrayRef> {
        let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&columns, &places)?)
    };
    let DataType::Struct(fields) = entries.data_type().clone() else {
        return exec_err!("a map has entries");
    };
    let pairs = StructArray::try_new(fields, vec![gather(&keys)?, gather(&values)?], None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(
        entries, offsets, pairs, None, false,
    )?))
}

fn list_of_keys(types: &[DataType]) -> Result<DataType> {
    Ok(list_of(key_and_value(&types[0])?.0))
}

fn list_of_values(types: &[DataType]) -> Result<DataType> {
    Ok(list_of(key_and_value(&types[0])?.1))
}

fn parts(args: &ScalarFunctionArgs, keys: bool) -> Result<ArrayRef> {
    let values = column(args, 0)?;
    let Some(maps) = values.as_map_opt() else {
        return exec_err!("{} is no MAP", type_name(values.data_type()));
    };
    let items = if keys { maps.keys() } else { maps.values() };
    let item = Arc::new(Field::new("item", items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(
        item,
        maps.offsets().clone(),
        Arc::clone(items),
        maps.nulls().cloned(),
    )?))
}

/// `a=1,b=2`; a pair without a separator has no value.
fn str_to_map(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let values = texts(args, 0)?;
    let separators = [1, 2].map(|at| (at < args.args.len()).then(|| texts(args, at)));
    let [pairs, marks] = separators;
    let (pairs, marks) = (pairs.transpose()?, marks.transpose()?);
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..args.number_rows {
        let between = pairs.as_ref().map_or(Some(","), |between| between.get(row));
        let mark = marks.as_ref().map_or(Some("="), |mark| mark.get(row));
        let (Some(text), Some(between), Some(mark)) = (values.get(row), between, mark) else {
            maps.append(false)?;
            continue;
        };
        let mut found: Vec<(&str, Option<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for pair in text.split(between).filter(|_| !text.is_empty()) {
            let (key, value) = match pair.split_once(mark) {
                Some((key, value)) => (key, Some(value)),
                None => (pair, None),
            };
            let place = *places.entry(key).or_insert(found.len());
            if place == found.len() {
                found.push((key, value));
            } else {
                found[place].1 = value;
            }
        }
        for (key, value) in found {
            maps.keys().append_value(key);
            maps.values().append_option(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    /// As real Flink 2.2 answered.
    #[test]
    fn maps() {
        check_calls(&[
            ("MAP['a', 1, 'b', CAST(NULL AS INT)]", "{a=1, b=NULL}"),
            ("MAP['a', 1, 'a', 2]", "{a=2}"),
            ("MAP['a', 1]['a']", "1"),
            ("MAP['a', 1]['x']", "NULL"),
            ("CARDINALITY(MAP['a', 1, 'b', 2])", "2"),
            ("MAP_KEYS(MAP['a', 1, 'b', 2])", "[a, b]"),
            ("MAP_VALUES(MAP['a', 1, 'b', 2])", "[1, 2]"),
            ("STR_TO_MAP('a=1,b=2')", "{a=1, b=2}"),
            ("STR_TO_MAP('a:1;b:2', ';', ':')", "{a=1, b=2}"),
            ("STR_TO_MAP('a')", "{a=NULL}"),
            ("STR_TO_MAP('a=1,b=2,a=3,c,b')", "{a=3, b=NULL, c=NULL}"),
            ("STR_TO_MAP('a=1=2,b', ',', '=')", "{a=1=2, b=NULL}"),
            ("STR_TO_MAP('')", "{}"),
        ]);
    }
}
