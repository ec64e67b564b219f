//! Values on their way out of columns and into columns.
//!
//! Numbers that are added up are kept as they are. All other values are kept as arrow's row bytes, which are equal and ordered as the
//! values are: so MIN, MAX, FIRST_VALUE, LAST_VALUE and COLLECT work on every type alike.

use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, Int64Array, MapArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type};
use arrow::row::{OwnedRow, RowConverter, RowParser, Rows, SortField};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value as row bytes.
pub type Bytes = Arc<[u8]>;

/// One value of an argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Whole(i64),
    Real(f64),
    Exact(i128),
    Bytes(Bytes),
}

/// How the values of one argument are kept.
pub enum Codec {
    /// COUNT(*): there is no argument, and every row counts.
    Every,
    /// COUNT(x): all that matters is whether there is a value.
    Present,
    /// A number that is added up: BIGINT, DOUBLE or DECIMAL.
    Number(DataType),
    Any(AnyType),
}

/// A type as row bytes.
pub struct AnyType {
    data_type: DataType,
    converter: RowConverter,
    parser: RowParser,
    null: OwnedRow,
}

/// The values of an argument in one batch.
pub enum Reader {
    Every,
    Present(ArrayRef),
    Whole(Int64Array),
    Real(Float64Array),
    Exact(Decimal128Array),
    Bytes(ArrayRef, Rows),
}

/// A column that grows value by value.
pub enum Column<'a> {
    Whole(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Exact(Vec<Option<i128>>, &'a DataType),
    Bytes(Rows, &'a AnyType),
}

/// A column of MAPs from a value to how often it is there.
pub struct Bags<'a> {
    keys: Rows,
    counts: Vec<i64>,
    lengths: Vec<usize>,
    of: &'a AnyType,
}

impl AnyType {
    pub fn new(data_type: &DataType) -> Result<AnyType> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])
            .map_err(|error| Error::job("such values cannot be compared").caused_by(error))?;
        let null = converter.convert_columns(&[arrow::array::new_null_array(data_type, 1)])?;
        Ok(AnyType {
            data_type: data_type.clone(),
            parser: converter.parser(),
            null: null.row(0).owned(),
            converter,
        })
    }

    /// The type of [`Bags`] of such values.
    pub fn bag_type(of: &DataType, count: DataType) -> DataType {
        let key = Field::new("key", of.clone(), false);
        let value = Field::new("value", count, false);
        let pair = DataType::Struct(vec![key, value].into());
        DataType::Map(Arc::new(Field::new("entries", pair, false)), false)
    }

    pub fn bags(&self) -> Bags<'_> {
        Bags {
            keys: self.converter.empty_rows(0, 0),
            counts: Vec::new(),
            lengths: Vec::new(),
            of: self,
        }
    }
}

impl Codec {
    /// The type of a column of such values.
    pub fn data_type(&self) -> DataType {
        match self {
            Codec::Every | Codec::Present => DataType::Int64,
            Codec::Number(data_type) => data_type.clone(),
            Codec::Any(any) => any.data_type.clone(),
        }
    }

    /// An argument's column, to be read row by row.
    pub fn reader(&self, column: Option<ArrayRef>) -> Result<Reader> {
        let Some(column) = column else {
            return Ok(Reader::Every);
        };
        Ok(match self {
            Codec::Every => Reader::Every,
            Codec::Present => Reader::Present(column),
            Codec::Number(_) => numbers(&column)?,
            Codec::Any(any) => {
                let rows = any
                    .converter
                    .convert_columns(std::slice::from_ref(&column))?;
                Reader::Bytes(column, rows)
            }
        })
    }

    /// A column that [`Codec::column`] made, to be read again.
    pub fn reread(&self, column: &ArrayRef) -> Result<Reader> {
        match self {
            Codec::Every | Codec::Present => numbers(column),
            _ => self.reader(Some(Arc::clone(column))),
        }
    }

    pub fn column(&self) -> Column<'_> {
        match self {
            Codec::Every | Codec::Present => Column::Whole(Vec::new()),
            Codec::Number(DataType::Float64) => Column::Real(Vec::new()),
            Codec::Number(decimal @ DataType::Decimal128(_, _)) => {
                Column::Exact(Vec::new(), decimal)
            }
            Codec::Number(_) => Column::Whole(Vec::new()),
            Codec::Any(any) => Column::Bytes(any.converter.empty_rows(0, 0), any),
        }
    }
}

fn numbers(column: &ArrayRef) -> Result<Reader> {
    if let Some(column) = column.as_primitive_opt::<Int64Type>() {
        return Ok(Reader::Whole(column.clone()));
    }
    if let Some(column) = column.as_primitive_opt::<Float64Type>() {
        return Ok(Reader::Real(column.clone()));
    }
    match column.as_primitive_opt::<Decimal128Type>() {
        Some(column) => Ok(Reader::Exact(column.clone())),
        None => Err(Error::bug(format!(
            "{} is planned to be added up",
            column.data_type()
        ))),
    }
}

impl Reader {
    pub fn read(&self, row: usize) -> Value {
        match self {
            Reader::Every => Value::Whole(1),
            Reader::Present(column) if column.is_valid(row) => Value::Whole(1),
            Reader::Whole(column) if column.is_valid(row) => Value::Whole(column.value(row)),
            Reader::Real(column) if column.is_valid(row) => Value::Real(column.value(row)),
            Reader::Exact(column) if column.is_valid(row) => Value::Exact(column.value(row)),
            Reader::Bytes(column, rows) if column.is_valid(row) => {
                Value::Bytes(rows.row(row).data().into())
            }
            _ => Value::Null,
        }
    }
}

impl Column<'_> {
    /// Adds a value; one of another kind than the column's counts as NULL.
    pub fn push(&mut self, value: &Value) {
        match self {
            Column::Whole(values) => values.push(match value {
                Value::Whole(value) => Some(*value),
                _ => None,
            }),
            Column::Real(values) => values.push(match value {
                Value::Real(value) => Some(*value),
                _ => None,
            }),
            Column::Exact(values, _) => values.push(match value {
                Value::Exact(value) => Some(*value),
                _ => None,
            }),
            Column::Bytes(rows, any) => match value {
                Value::Bytes(bytes) => rows.push(any.parser.parse(bytes)),
                _ => rows.push(any.null.row()),
            },
        }
    }

    pub fn push_bytes(&mut self, value: Option<&Bytes>) {
        if let Column::Bytes(rows, any) = self {
            match value {
                Some(bytes) => rows.push(any.parser.parse(bytes)),
                None => rows.push(any.null.row()),
            }
        }
    }

    pub fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Column::Whole(values) => Arc::new(Int64Array::from(values)),
            Column::Real(values) => Arc::new(Float64Array::from(values)),
            Column::Exact(values, data_type) => {
                Arc::new(Decimal128Array::from(values).with_data_type(data_type.clone()))
            }
            Column::Bytes(rows, any) => any.converter.convert_rows(rows.iter())?.remove(0),
        })
    }
}

impl Bags<'_> {
    pub fn push(&mut self, bag: &BTreeMap<Bytes, i64>) {
        for (value, count) in bag {
            self.keys.push(self.of.parser.parse(value));
            self.counts.push(*count);
        }
        self.lengths.push(bag.len());
    }

    /// The counts are INT for a query, BIGINT in the state.
    pub fn finish(self, count: DataType) -> Result<ArrayRef> {
        let keys = self.of.converter.convert_rows(self.keys.iter())?.remove(0);
        let counts: ArrayRef = match count {
            DataType::Int32 => Arc::new(Int32Array::from_iter_values(
                self.counts.iter().map(|count| *count as i32),
            )),
            _ => Arc::new(Int64Array::from(self.counts)),
        };
        let DataType::Map(entries, _) = AnyType::bag_type(&self.of.data_type, count) else {
            return Err(Error::bug("a bag is no map"));
        };
        let DataType::Struct(fields) = entries.data_type().clone() else {
            return Err(Error::bug("a map has no entries"));
        };
        let pairs = StructArray::try_new(fields, vec![keys, counts], None::<NullBuffer>)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Ok(Arc::new(MapArray::try_new(
            entries, offsets, pairs, None, false,
        )?))
    }
}

/// Reads what [`Bags`] wrote into the state.
pub fn bag_of(column: &ArrayRef, row: usize, of: &AnyType) -> Result<BTreeMap<Bytes, i64>> {
    let Some(maps) = column.as_map_opt() else {
        return Err(Error::bug("a bag is no map"));
    };
    let pairs = maps.value(row);
    let keys = of
        .converter
        .convert_columns(std::slice::from_ref(pairs.column(0)))?;
    let counts = pairs.column(1).as_primitive::<Int64Type>();
    let bytes = keys.iter().map(|key| Bytes::from(key.data()));
    Ok(bytes.zip(counts.values().iter().copied()).collect())
}
