//! ARRAY and MAP.

use super::Takes::{Any, Array as ArrayOf, Text};
use super::{Function, Gives, column, common_type, fits, numbers, text_rows, texts, type_name};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, ListBuilder, StringArray,
    StringBuilder, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat, filter, interleave, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::collections::HashSet;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    let boolean = || Gives::Type(DataType::Boolean);
    vec![
        Function::new(
            "cardinality",
            &[Any],
            Gives::Type(DataType::Int32),
            cardinality,
        ),
        Function::new("array_remove", &[ArrayOf, Any], Gives::Same(0), remove),
        Function::new("array_contains", &[ArrayOf, Any], boolean(), contains),
        Function::new(
            "array_join",
            &[ArrayOf, Text, Text],
            Gives::Type(DataType::Utf8),
            join,
        )
        .optional(1),
        Function::new("array_distinct", &[ArrayOf], Gives::Same(0), distinct),
    ]
}

/// A list's type.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// A column of ARRAY<STRING>, one value for each row of the batch.
pub(super) fn text_lists(
    args: &ScalarFunctionArgs,
    value: impl Fn(usize) -> Option<Vec<Option<String>>>,
) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args.number_rows {
        let items = value(row);
        let present = items.is_some();
        for item in items.into_iter().flatten() {
            lists.values().append_option(item);
        }
        lists.append(present);
    }
    Ok(Arc::new(lists.finish()))
}

/// `ARRAY[a, b, ..]`.
pub fn make_array(items: Vec<Expr>) -> Expr {
    ScalarUDF::from(MakeArray {
        signature: Signature::user_defined(Volatility::Immutable),
    })
    .call(items)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MakeArray {
    signature: Signature,
}

impl ScalarUDFImpl for MakeArray {
    fn name(&self) -> &str {
        "array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.is_empty() {
            return plan_err!("an empty ARRAY has no type; CAST it");
        }
        Ok(vec![common_type("ARRAY", types)?; types.len()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of(types[0].clone()))
    }

    /// The columns are woven together row by row, in one pass.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (width, rows) = (args.args.len(), args.number_rows);
        let columns = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok((Arc::clone(array), false)),
                ColumnarValue::Scalar(value) => Ok((value.to_array_of_size(1)?, true)),
            })
            .collect::<Result<Vec<_>>>()?;
        let order: Vec<(usize, usize)> = (0..rows * width)
            .map(|i| (i % width, if columns[i % width].1 { 0 } else { i / width }))
            .collect();
        let arrays: Vec<&dyn Array> = columns.iter().map(|(array, _)| array.as_ref()).collect();
        let values = interleave(&arrays, &order)?;
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(width, rows));
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            item, offsets, values, None,
        )?)))
    }
}

/// `array[i]`, where the first element is 1 and one out of range is NULL; or `map[key]`.
pub fn element_at(of: Expr, at: Expr) -> Expr {
    ScalarUDF::from(ElementAt {
        signature: Signature::user_defined(Volatility::Immutable),
    })
    .call(vec![of, at])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ElementAt {
    signature: Signature,
}

impl ScalarUDFImpl for ElementAt {
    fn name(&self) -> &str {
        "element_at"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let at = match &types[0] {
            DataType::List(_) if types[1].is_integer() || types[1].is_null() => DataType::Int64,
            DataType::List(_) => {
                return plan_err!(
                    "an ARRAY is indexed by a number, not by {}",
                    type_name(&types[1])
                );
            }
            // It is given the keys' type as soon as its own is known: see `looked_for`.
            DataType::Map(_, _) => types[1].clone(),
            other => return plan_err!("{} has no elements", type_name(other)),
        };
        Ok(vec![types[0].clone(), at])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            other => Ok(key_and_value(other)?.1),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of = column(&args, 0)?;
        if let Some(maps) = of.as_map_opt() {
            let wanted = column(&args, 1)?;
            let mut found = Vec::with_capacity(args.number_rows);
            for row in 0..args.number_rows {
                let (start, end) = (maps.value_offsets()[row], maps.value_offsets()[row + 1]);
                let range = if maps.is_valid(row) { start..end } else { 0..0 };
                let keys = maps.keys().slice(range.start as usize, range.len());
                let same = same_as_row(&keys, &wanted, row)?;
                found.push(same.true_index().map(|i| (start as usize + i) as u32));
            }
            return Ok(ColumnarValue::Array(take(
                maps.values(),
                &UInt32Array::from(found),
                None,
            )?));
        }
        let lists = of.as_list::<i32>();
        let at = numbers::<Int64Type>(&args, 1)?;
        let rows = (0..args.number_rows).map(|row| {
            let index = at
                .get(row)
                .filter(|_| lists.is_valid(row))?
                .checked_sub(1)?;
            let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
            let inside = index >= 0 && index < i64::from(end - start);
            inside.then(|| start as u32 + index as u32)
        });
        let indices: UInt32Array = rows.collect();
        Ok(ColumnarValue::Array(take(lists.values(), &indices, None)?))
    }
}

trait TrueIndex {
    /// The first place that is true.
    fn true_index(&self) -> Option<usize>;
}

impl TrueIndex for BooleanArray {
    fn true_index(&self) -> Option<usize> {
        self.values().set_indices().next()
    }
}

pub(super) fn key_and_value(map: &DataType) -> Result<(DataType, DataType)> {
    if let DataType::Map(entries, _) = map
        && let DataType::Struct(pair) = entries.data_type()
        && let [key, value] = pair.as_ref()
    {
        return Ok((key.data_type().clone(), value.data_type().clone()));
    }
    plan_err!("{} is not a MAP", type_name(map))
}

/// The type that the second argument of a call must have, where it is looked for in the first: that of the elements, or of the keys. An
/// argument of another type is cast to it where Flink does so without being asked; cut to it, it would be found where it is not.
pub fn looked_for(function: &str, types: &[DataType]) -> Result<Option<DataType>> {
    let [within, given] = types else {
        return Ok(None);
    };
    let (what, wanted) = match (function, within) {
        ("array_contains" | "array_remove", DataType::List(item)) => {
            let what = format!("what {} looks for in", function.to_uppercase());
            (what, item.data_type().clone())
        }
        ("element_at", DataType::Map(_, _)) => ("a key of".to_owned(), key_and_value(within)?.0),
        _ => return Ok(None),
    };
    if !fits(given, &wanted) {
        let (within, wanted) = (type_name(within), type_name(&wanted));
        return plan_err!(
            "{what} {within} must be {wanted}, not {}; CAST(.. AS {wanted})",
            type_name(given)
        );
    }
    Ok(Some(wanted))
}

fn cardinality(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let values = column(args, 0)?;
    let (offsets, nulls) = if let Some(lists) = values.as_list_opt::<i32>() {
        (lists.offsets().clone(), lists.nulls().cloned())
    } else if let Some(maps) = values.as_map_opt() {
        (maps.offsets().clone(), maps.nulls().cloned())
    } else {
        return exec_err!(
            "CARDINALITY takes an ARRAY or a MAP, not {}",
            type_name(values.data_type())
        );
    };
    let lengths: Vec<i32> = offsets.lengths().map(|length| length as i32).collect();
    Ok(Arc::new(Int32Array::new(lengths.into(), nulls)))
}

/// Where the elements equal the one value of a row; NULL equals NULL.
fn same_as_row(elements: &ArrayRef, wanted: &ArrayRef, row: usize) -> Result<BooleanArray> {
    let wanted = arrow::array::Scalar::new(wanted.slice(row, 1));
    Ok(not_distinct(elements, &wanted)?)
}

/// For each element of all rows, whether it equals the value that is asked for in its row.
fn equal_elements(args: &ScalarFunctionArgs, lists: &ListArray) -> Result<BooleanArray> {
    let wanted = match &args.args[1] {
        ColumnarValue::Scalar(value) => {
            return same_as_row(lists.values(), &value.to_array_of_size(1)?, 0);
        }
        ColumnarValue::Array(array) => array,
    };
    let rows = lists.offsets().lengths().enumerate();
    let rows: UInt32Array = rows
        .flat_map(|(row, length)| std::iter::repeat_n(row as u32, length))
        .collect();
    let first = lists.value_offsets().first().copied().unwrap_or(0) as usize;
    let elements = lists.values().slice(first, rows.len());
    let same = not_distinct(&elements, &take(wanted, &rows, None)?)?;
    if first == 0 {
        return Ok(same);
    }
    // A sliced array: what lies before its first element takes part in no row.
    let before = BooleanArray::from(vec![false; first]);
    Ok(concat(&[&before, &same])?.as_boolean().clone())
}

/// The list without every element that equals the value.
fn remove(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let lists = column(args, 0)?;
    let lists = lists.as_list::<i32>();
    let gone = equal_elements(args, lists)?;
    if gone.true_count() == 0 {
        return Ok(Arc::new(lists.clone()));
    }
    let mut keep = arrow::compute::not(&gone)?;
    let first = lists.value_offsets().first().copied().unwrap_or(0) as usize;
    let last = lists.value_offsets().last().copied().unwrap_or(0) as usize;
    keep = keep.slice(first, last - first);
    let values = filter(&lists.values().slice(first, last - first), &keep)?;
    let lengths = lists.value_offsets().windows(2).map(|ends| {
        let (start, length) = (ends[0] as usize - first, (ends[1] - ends[0]) as usize);
        keep.values().slice(start, length).count_set_bits()
    });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let DataType::List(item) = lists.data_type() else {
        return exec_err!("{} is not an ARRAY", lists.data_type());
    };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        offsets,
        values,
        lists.nulls().cloned(),
    )?))
}

fn contains(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let lists = column(args, 0)?;
    let lists = lists.as_list::<i32>();
    let same = equal_elements(args, lists)?;
    let found: BooleanArray = lists
        .value_offsets()
        .windows(2)
        .map(|ends| {
            let (start, length) = (ends[0] as usize, (ends[1] - ends[0]) as usize);
            Some(same.values().slice(start, length).count_set_bits() > 0)
        })
        .collect();
    let nulls: Option<NullBuffer> = lists.nulls().cloned();
    Ok(Arc::new(BooleanArray::new(found.values().clone(), nulls)))
}

/// Elements that are NULL are left out, or shown as the third argument.
fn join(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let lists = column(args, 0)?;
    let lists = lists.as_list::<i32>();
    let items = super::cast_text::to_text(lists.values())?;
    let items: &StringArray = items.as_string();
    let separators = texts(args, 1)?;
    let for_null = if args.args.len() > 2 {
        Some(texts(args, 2)?)
    } else {
        None
    };
    text_rows(args, |row| {
        let separator = separators.get(row).filter(|_| lists.is_valid(row))?;
        let for_null = match &for_null {
            Some(for_null) => Some(for_null.get(row)?),
            None => None,
        };
        let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
        let parts: Vec<&str> = (start as usize..end as usize)
            .filter_map(|i| {
                if items.is_valid(i) {
                    Some(items.value(i))
                } else {
                    for_null
                }
            })
            .collect();
        Some(parts.join(separator))
    })
}

/// The first of each group of equal elements, in their order.
fn distinct(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let lists = column(args, 0)?;
    let lists = lists.as_list::<i32>();
    let first = lists.value_offsets().first().copied().unwrap_or(0);
    let last = lists.value_offsets().last().copied().unwrap_or(0);
    let elements = lists
        .values()
        .slice(first as usize, (last - first) as usize);
    let converter = RowConverter::new(vec![SortField::new(elements.data_type().clone())])?;
    let encoded = converter.convert_columns(std::slice::from_ref(&elements))?;
    let mut places: Vec<u32> = Vec::with_capacity(elements.len());
    let mut lengths = Vec::with_capacity(lists.len());
    for ends in lists.value_offsets().windows(2) {
        let before = places.len();
        let mut known = HashSet::new();
        let elements = (ends[0] - first) as u32..(ends[1] - first) as u32;
        places.extend(elements.filter(|&at| known.insert(encoded.row(at as usize))));
        lengths.push(places.len() - before);
    }
    let DataType::List(item) = lists.data_type() else {
        return exec_err!("{} is not an ARRAY", lists.data_type());
    };
    let offsets = OffsetBuffer::from_lengths(lengths);
    let values = take(&elements, &UInt32Array::from(places), None)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        offsets,
        values,
        lists.nulls().cloned(),
    )?))
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::{check_calls, check_error};

    #[test]
    fn arrays() {
        check_calls(&[
            ("ARRAY['a', 'b']", "[a, b]"),
            ("ARRAY[1, CAST(NULL AS INT)]", "[1, NULL]"),
            ("CARDINALITY(ARRAY[1, 2, 3])", "3"),
            ("ARRAY_REMOVE(ARRAY['a', '', 'b', ''], '')", "[a, b]"),
            ("ARRAY_REMOVE(ARRAY['', ''], '')", "[]"),
            (
                "ARRAY_REMOVE(ARRAY[1, CAST(NULL AS INT)], CAST(NULL AS INT))",
                "[1]",
            ),
            ("ARRAY_CONTAINS(ARRAY[1, 2], 2)", "true"),
            ("ARRAY_CONTAINS(ARRAY[1, 2], 3)", "false"),
            ("ARRAY_CONTAINS(ARRAY[CAST(1 AS BIGINT), 2], 2)", "true"),
            ("ARRAY_CONTAINS(ARRAY[1.5, 2.0], 2)", "true"),
            ("ARRAY_CONTAINS(ARRAY[1, CAST(NULL AS INT)], NULL)", "true"),
            ("MAP[CAST(1 AS BIGINT), 'a'][1]", "a"),
            (
                "ARRAY_JOIN(ARRAY['a', CAST(NULL AS STRING), 'b'], '+')",
                "a+b",
            ),
            (
                "ARRAY_JOIN(ARRAY['a', CAST(NULL AS STRING)], '+', '?')",
                "a+?",
            ),
            ("ARRAY_DISTINCT(ARRAY[1, 2, 1])", "[1, 2]"),
            (
                "ARRAY_DISTINCT(ARRAY['b', CAST(NULL AS STRING), 'a', 'b', CAST(NULL AS STRING)])",
                "[b, NULL, a]",
            ),
            (
                "ARRAY_DISTINCT(ARRAY[ARRAY[1], ARRAY[2], ARRAY[1]])",
                "[[1], [2]]",
            ),
            ("ARRAY[7, 8][1]", "7"),
            ("ARRAY[7, 8][3]", "NULL"),
            ("ARRAY[7, 8][0]", "NULL"),
        ]);
    }

    #[test]
    fn what_is_looked_for_fits_what_is_there() {
        for (call, part) in [
            (
                "ARRAY_CONTAINS(ARRAY[1, CAST(NULL AS INT)], 3000000000)",
                "what ARRAY_CONTAINS looks for in ARRAY<INT> must be INT, not BIGINT",
            ),
            (
                "ARRAY_REMOVE(ARRAY[1, CAST(NULL AS INT)], 1.5)",
                "must be INT, not DOUBLE",
            ),
            // Its type is known only when both branches are.
            (
                "ARRAY_CONTAINS(ARRAY[1], CASE WHEN 1 > 2 THEN 1 ELSE 3000000000 END)",
                "must be INT, not BIGINT",
            ),
            (
                "MAP[1, 'a'][3000000000]",
                "a key of MAP<INT, STRING> must be INT, not BIGINT",
            ),
        ] {
            check_error(call, part);
        }
    }
}
