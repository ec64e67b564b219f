//! A column of a Parquet file as the column that the table declares: rows inside it by the names of their fields, and values only in
//! ways in which nothing of them is lost.

use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::util::display::FormatOptions;
use std::sync::Arc;

/// A value that does not fit is an error, not a NULL.
pub const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

/// The column in the type that the table declares. Fails where the file has something else there, and where a value is too large.
pub fn fit(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    fitted(column, field.data_type())
        .and_then(|fitted| fitted.ok_or_else(|| Error::data("it is another kind of value")))
        .map_err(|error| {
            Error::data(format!(
                "column '{}' is {} in it, which does not fit the table's {}",
                field.name(),
                column.data_type(),
                field.data_type()
            ))
            .caused_by(error)
        })
}

/// None where the one type is never the other.
fn fitted(column: &ArrayRef, to: &DataType) -> Result<Option<ArrayRef>> {
    let from = column.data_type();
    if from == to {
        return Ok(Some(Arc::clone(column)));
    }
    Ok(match (from, to) {
        (DataType::Null, _) => Some(new_null_array(to, column.len())),
        (DataType::Struct(_), DataType::Struct(fields)) => row(column.as_struct(), fields)?,
        (DataType::List(_), DataType::List(item)) => {
            let list = column.as_list::<i32>();
            match fitted(list.values(), item.data_type())? {
                None => None,
                Some(items) => Some(Arc::new(ListArray::try_new(
                    Arc::clone(item),
                    list.offsets().clone(),
                    items,
                    list.nulls().cloned(),
                )?)),
            }
        }
        (
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::ListView(item),
            DataType::List(_),
        ) => {
            let list = DataType::List(Arc::clone(item));
            fitted(&cast_with_options(column, &list, &STRICT)?, to)?
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = column.as_map();
            match pair(map.entries(), entries.data_type())? {
                None => None,
                Some(pairs) => Some(Arc::new(MapArray::try_new(
                    Arc::clone(entries),
                    map.offsets().clone(),
                    pairs,
                    map.nulls().cloned(),
                    *sorted,
                )?)),
            }
        }
        (DataType::Dictionary(_, plain), _) => {
            fitted(&cast_with_options(column, plain, &STRICT)?, to)?
        }
        _ if keeps(from, to) => Some(cast_with_options(column, to, &STRICT)?),
        _ => None,
    })
}

/// A field that the file does not have is NULL, as a column would be; one that the table does not have is passed over.
fn row(from: &StructArray, fields: &Fields) -> Result<Option<ArrayRef>> {
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        columns.push(match from.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), from.len()),
            Some(column) => match fitted(column, field.data_type())? {
                None => return Ok(None),
                Some(column) => column,
            },
        });
    }
    let nulls = from.nulls().cloned();
    let row = StructArray::try_new_with_length(fields.clone(), columns, nulls, from.len())?;
    Ok(Some(Arc::new(row)))
}

/// The entries of a map: what the two are called is up to whoever wrote them.
fn pair(from: &StructArray, to: &DataType) -> Result<Option<StructArray>> {
    let DataType::Struct(fields) = to else {
        return Ok(None);
    };
    let mut columns = Vec::with_capacity(fields.len());
    for (column, field) in from.columns().iter().zip(fields) {
        match fitted(column, field.data_type())? {
            None => return Ok(None),
            Some(column) => columns.push(column),
        }
    }
    let nulls = from.nulls().cloned();
    Ok(Some(StructArray::try_new(fields.clone(), columns, nulls)?))
}

/// Whether all values of the one type that fit into the other are the same there. Times are brought to the precision of their column, as from
/// everywhere else.
fn keeps(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Decimal256, FixedSizeBinary, Float16,
        Float32, Float64, Int8, Int16, Int32, LargeBinary, LargeUtf8, Time32, Time64, Timestamp,
        UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    match (from, to) {
        (Int8 | Int16 | UInt8 | UInt16 | Float16, Float32)
        | (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float16 | Float32, Float64)
        | (Date64, Date32)
        | (Time32(_) | Time64(_), Time32(_))
        | (Timestamp(..), Timestamp(..))
        // Who wrote bytes may have meant a text; those that are none are refused one by one.
        | (
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView,
            Utf8 | Binary,
        )
        | (FixedSizeBinary(_), Binary) => true,
        (Decimal128(_, scale) | Decimal256(_, scale), Decimal128(_, to)) => scale <= to,
        (from, Decimal128(_, scale)) => from.is_integer() && *scale >= 0,
        (from, to) => from.is_integer() && to.is_integer(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        ListBuilder, MapBuilder, StringArray, StringBuilder, StructBuilder,
        TimestampMicrosecondArray, TimestampMillisecondArray,
    };
    use arrow::array::{Int32Builder, RecordBatch};
    use arrow::datatypes::{Field, TimeUnit};

    fn field(name: &str, data_type: DataType) -> FieldRef {
        Arc::new(Field::new(name, data_type, true))
    }

    fn to(column: impl Array + 'static, data_type: DataType) -> Result<ArrayRef> {
        let column: ArrayRef = Arc::new(column);
        fit(&column, &field("c", data_type))
    }

    fn json(column: ArrayRef) -> Vec<String> {
        let rows = RecordBatch::try_from_iter([("c", column)]).unwrap();
        let rows = crate::decode::dead_letters::rows_as_json(&rows).unwrap();
        rows.into_iter()
            .map(|row| String::from_utf8(row).unwrap())
            .collect()
    }

    #[test]
    fn values_that_stay_the_same_are_taken() {
        let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
        let same: Vec<(ArrayRef, ArrayRef)> = vec![
            (
                Arc::new(Int64Array::from(vec![7])),
                Arc::new(Int32Array::from(vec![7])),
            ),
            (
                Arc::new(Int32Array::from(vec![7])),
                Arc::new(Float64Array::from(vec![7.0])),
            ),
            (
                Arc::new(Float32Array::from(vec![0.5])),
                Arc::new(Float64Array::from(vec![0.5])),
            ),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![7_999]).with_timezone("UTC")),
                Arc::new(TimestampMillisecondArray::from(vec![7])),
            ),
            (
                Arc::new(Int64Array::from(vec![7])),
                Arc::new(
                    Decimal128Array::from(vec![700])
                        .with_precision_and_scale(5, 2)
                        .unwrap(),
                ),
            ),
        ];
        for (from, expected) in same {
            let found = fit(&from, &field("c", expected.data_type().clone())).unwrap();
            assert_eq!(&found, &expected, "{}", from.data_type());
        }
        let words: StringArray = vec!["a", "b", "a"].into();
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let packed = cast_with_options(&words, &dictionary, &STRICT).unwrap();
        assert_eq!(
            &*fit(&packed, &field("c", DataType::Utf8)).unwrap(),
            &words as &dyn Array
        );
        assert_eq!(
            to(arrow::array::NullArray::new(2), millis)
                .unwrap()
                .null_count(),
            2
        );
    }

    #[test]
    fn values_that_would_become_others_are_refused() {
        let price = || {
            Decimal128Array::from(vec![123])
                .with_precision_and_scale(5, 2)
                .unwrap()
        };
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let refused = [
            to(Float64Array::from(vec![1.5]), DataType::Int32),
            to(Int32Array::from(vec![2]), DataType::Boolean),
            to(BooleanArray::from(vec![true]), DataType::Int32),
            to(Int64Array::from(vec![2]), time),
            to(StringArray::from(vec!["2"]), DataType::Int32),
            to(Int32Array::from(vec![2]), DataType::Utf8),
            to(Int64Array::from(vec![2]), DataType::Float64),
            to(Float64Array::from(vec![1.5]), DataType::Float32),
            to(price(), DataType::Decimal128(5, 1)),
            // Of the right kind, but too large.
            to(Int64Array::from(vec![1 << 40]), DataType::Int32),
            to(price(), DataType::Decimal128(2, 2)),
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            let error = refused.err().map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|e| e.contains("column 'c' is")),
                "{at}: {error:?}"
            );
        }
    }

    #[test]
    fn fields_of_rows_are_found_by_their_names() {
        let fields = vec![field("b", DataType::Utf8), field("a", DataType::Int32)];
        let builder = || {
            let of_b: Box<dyn arrow::array::ArrayBuilder> = Box::new(StringBuilder::new());
            StructBuilder::new(fields.clone(), vec![of_b, Box::new(Int32Builder::new())])
        };
        let add = |row: &mut StructBuilder, b: &str, a: i32| {
            let of_b = row.field_builder::<StringBuilder>(0).unwrap();
            of_b.append_value(b);
            row.field_builder::<Int32Builder>(1)
                .unwrap()
                .append_value(a);
            row.append(true);
        };
        let target = DataType::Struct(
            vec![
                field("a", DataType::Int64),
                field("new", DataType::Utf8),
                field("b", DataType::Utf8),
            ]
            .into(),
        );
        let mut rows = builder();
        add(&mut rows, "x", 1);
        rows.append_null();
        // What stands in a row that is NULL has to be as long as the others.
        rows.field_builder::<StringBuilder>(0)
            .unwrap()
            .append_null();
        rows.field_builder::<Int32Builder>(1).unwrap().append_null();
        assert_eq!(
            json(to(rows.finish(), target.clone()).unwrap()),
            [r#"{"c":{"a":1,"new":null,"b":"x"}}"#, r#"{"c":null}"#]
        );

        let mut lists = ListBuilder::new(builder());
        add(lists.values(), "x", 1);
        add(lists.values(), "y", 2);
        lists.append(true);
        let list = DataType::List(field("item", target.clone()));
        assert_eq!(
            json(to(lists.finish(), list).unwrap()),
            [r#"{"c":[{"a":1,"new":null,"b":"x"},{"a":2,"new":null,"b":"y"}]}"#]
        );

        let mut maps = MapBuilder::new(None, StringBuilder::new(), builder());
        maps.keys().append_value("k");
        add(maps.values(), "x", 1);
        maps.append(true).unwrap();
        let pair = vec![
            Arc::new(Field::new("key", DataType::Utf8, false)),
            field("value", target),
        ];
        let entries = Field::new("entries", DataType::Struct(pair.into()), false);
        let map = DataType::Map(Arc::new(entries), false);
        assert_eq!(
            json(to(maps.finish(), map).unwrap()),
            [r#"{"c":{"k":{"a":1,"new":null,"b":"x"}}}"#]
        );
    }
}
