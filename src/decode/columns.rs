//! Columns that grow value by value and can be cut back.
//!
//! A record is appended field by field before anybody knows whether it is good to its end. When it is not, every
//! column is cut back to where it was: so a bad record leaves nothing behind. Arrow's own builders cannot be cut, hence
//! these.

use super::names::{Habit, Names};
use crate::error::{Error, Result};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, ListArray,
    MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use std::collections::HashMap;
use std::sync::Arc;

/// One column, or one field of a row, or the elements of an array.
pub struct Column {
    len: usize,
    /// One bit for each value, from the first NULL on.
    valid: Option<BooleanBufferBuilder>,
    /// It must not hold a NULL; whoever appends looks after that.
    pub required: bool,
    pub values: Values,
}

/// The values of a column, by its SQL type. Where a value is NULL something stands in its place.
pub enum Values {
    Boolean(BooleanBufferBuilder),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    String(Strings),
    Bytes(Strings),
    /// Days since 1970-01-01.
    Date(Vec<i32>),
    /// Milliseconds of the day.
    Time(Vec<i32>),
    Timestamp {
        values: Vec<i64>,
        unit: TimeUnit,
        zone: Option<Arc<str>>,
    },
    Array {
        ends: Vec<i32>,
        items: Box<Column>,
    },
    Map {
        ends: Vec<i32>,
        keys: Strings,
        values: Box<Column>,
        replaced: Vec<usize>,
    },
    Row(Row),
}

/// Byte strings end to end, as Arrow has them: `offsets` has one entry more than there are strings.
pub struct Strings {
    pub offsets: Vec<i32>,
    pub bytes: Vec<u8>,
}

/// Fields side by side; the top level of a table is a row too.
pub struct Row {
    pub names: Names,
    pub habit: Habit,
    pub fields: Vec<Column>,
}

impl Row {
    /// Fields for these Arrow fields. Fails for a type that no SQL type of a table becomes.
    pub fn new<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> Result<Row> {
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for field in fields {
            columns.push(
                Column::new(field)
                    .map_err(|error| error.at(format!("column '{}'", field.name())))?,
            );
            names.push(field.name().clone());
        }
        Ok(Row {
            names: Names::new(names),
            habit: Habit::default(),
            fields: columns,
        })
    }

    pub fn truncate(&mut self, len: usize) {
        self.fields.iter_mut().for_each(|field| field.truncate(len));
    }

    /// The columns as arrays, for the Arrow fields that they were made for. The row is empty afterwards.
    pub fn finish<'a>(
        &mut self,
        fields: impl IntoIterator<Item = &'a FieldRef>,
    ) -> Result<Vec<ArrayRef>> {
        self.fields
            .iter_mut()
            .zip(fields)
            .map(|(column, field)| column.finish(field.data_type()))
            .collect()
    }
}

impl Column {
    pub fn new(field: &Field) -> Result<Column> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::TinyInt(Vec::new()),
            DataType::Int16 => Values::SmallInt(Vec::new()),
            DataType::Int32 => Values::Int(Vec::new()),
            DataType::Int64 => Values::BigInt(Vec::new()),
            DataType::Float32 => Values::Float(Vec::new()),
            DataType::Float64 => Values::Double(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Utf8 => Values::String(Strings::default()),
            DataType::Binary => Values::Bytes(Strings::default()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(TimeUnit::Millisecond) => Values::Time(Vec::new()),
            DataType::Timestamp(unit, zone) => Values::Timestamp {
                values: Vec::new(),
                unit: *unit,
                zone: zone.clone(),
            },
            DataType::List(item) => Values::Array {
                ends: Vec::new(),
                items: Box::new(Column::new(item)?),
            },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair)
                    if pair.len() == 2 && *pair[0].data_type() == DataType::Utf8 =>
                {
                    Values::Map {
                        ends: Vec::new(),
                        keys: Strings::default(),
                        values: Box::new(Column::new(&pair[1])?),
                        replaced: Vec::new(),
                    }
                }
                _ => return Err(Error::job("only a MAP whose keys are STRING can be read")),
            },
            DataType::Struct(fields) => Values::Row(Row::new(fields)?),
            other => return Err(Error::bug(format!("no SQL type is {other} in Arrow"))),
        };
        Ok(Column {
            len: 0,
            valid: None,
            required: !field.is_nullable(),
            values,
        })
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A value was appended to `values`; says that it is one.
    #[inline(always)]
    pub fn appended(&mut self) {
        self.len += 1;
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
    }

    pub fn append_null(&mut self) {
        let valid = self.valid.get_or_insert_with(|| {
            let mut valid = BooleanBufferBuilder::new(self.len + 1);
            valid.append_n(self.len, true);
            valid
        });
        valid.append(false);
        self.len += 1;
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::TinyInt(values) => values.push(0),
            Values::SmallInt(values) => values.push(0),
            Values::Int(values) | Values::Date(values) | Values::Time(values) => values.push(0),
            Values::BigInt(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::String(strings) | Values::Bytes(strings) => strings.end(),
            Values::Array { ends, items } => ends.push(offset(items.len())),
            Values::Map { ends, values, .. } => ends.push(offset(values.len())),
            Values::Row(row) => row.fields.iter_mut().for_each(Column::append_null),
        }
    }

    /// The last value is NULL. Only for a column that is not empty.
    #[inline(always)]
    pub fn ends_with_null(&self) -> bool {
        let valid = self.valid.as_ref();
        valid.is_some_and(|valid| !valid.get_bit(self.len - 1))
    }

    /// Forgets everything behind the first `len` values, also a value that was begun and has not yet been
    /// counted by [`Column::appended`].
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Some(valid) = &mut self.valid {
            valid.truncate(len);
        }
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::TinyInt(values) => values.truncate(len),
            Values::SmallInt(values) => values.truncate(len),
            Values::Int(values) | Values::Date(values) | Values::Time(values) => {
                values.truncate(len)
            }
            Values::BigInt(values) | Values::Timestamp { values, .. } => values.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::String(strings) | Values::Bytes(strings) => strings.truncate(len),
            Values::Array { ends, items } => {
                ends.truncate(len);
                items.truncate(last_end(ends));
            }
            Values::Map {
                ends,
                keys,
                values,
                replaced,
            } => {
                ends.truncate(len);
                let kept = last_end(ends);
                keys.truncate(kept);
                values.truncate(kept);
                replaced.retain(|entry| *entry < kept);
            }
            Values::Row(row) => row.truncate(len),
        }
    }

    /// The column as an array of this type, for which it was made. It is empty afterwards.
    pub fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef> {
        let len = std::mem::take(&mut self.len);
        let valid = self.valid.take().map(|mut valid| valid.finish());
        let nulls = valid.map(NullBuffer::new);
        Ok(match (&mut self.values, data_type) {
            (Values::Boolean(values), _) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            (Values::TinyInt(values), _) => primitive::<Int8Type>(values, nulls)?,
            (Values::SmallInt(values), _) => primitive::<Int16Type>(values, nulls)?,
            (Values::Int(values), _) => primitive::<Int32Type>(values, nulls)?,
            (Values::BigInt(values), _) => primitive::<Int64Type>(values, nulls)?,
            (Values::Float(values), _) => primitive::<Float32Type>(values, nulls)?,
            (Values::Double(values), _) => primitive::<Float64Type>(values, nulls)?,
            (Values::Date(values), _) => primitive::<Date32Type>(values, nulls)?,
            (Values::Time(values), _) => primitive::<Time32MillisecondType>(values, nulls)?,
            (Values::Timestamp { values, unit, zone }, _) => match unit {
                TimeUnit::Second => return Err(Error::bug("no TIMESTAMP counts in seconds")),
                TimeUnit::Millisecond => {
                    timestamps::<TimestampMillisecondType>(values, nulls, zone)?
                }
                TimeUnit::Microsecond => {
                    timestamps::<TimestampMicrosecondType>(values, nulls, zone)?
                }
                TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(values, nulls, zone)?,
            },
            (
                Values::Decimal {
                    values,
                    precision,
                    scale,
                },
                _,
            ) => Arc::new(
                Decimal128Array::try_new(handed_out(values).into(), nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            (Values::String(strings), _) => {
                let (offsets, bytes) = strings.take();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            (Values::Bytes(strings), _) => {
                let (offsets, bytes) = strings.take();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
            (Values::Array { ends, items }, DataType::List(item)) => {
                let items = items.finish(item.data_type())?;
                Arc::new(ListArray::try_new(
                    Arc::clone(item),
                    offsets_of(ends),
                    items,
                    nulls,
                )?)
            }
            (
                Values::Map {
                    ends,
                    keys,
                    values,
                    replaced,
                },
                DataType::Map(entries, sorted),
            ) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(Error::bug("the entries of a MAP are not pairs"));
                };
                let (offsets, bytes) = keys.take();
                let keys: ArrayRef = Arc::new(StringArray::try_new(offsets, bytes, None)?);
                let values = values.finish(pair[1].data_type())?;
                let columns = drop_entries(ends, vec![keys, values], std::mem::take(replaced))?;
                let pairs = StructArray::try_new(pair.clone(), columns, None)?;
                let offsets = offsets_of(ends);
                Arc::new(MapArray::try_new(
                    Arc::clone(entries),
                    offsets,
                    pairs,
                    nulls,
                    *sorted,
                )?)
            }
            (Values::Row(row), DataType::Struct(fields)) => {
                let columns = row.finish(fields)?;
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    columns,
                    nulls,
                    len,
                )?)
            }
            (_, other) => return Err(Error::bug(format!("a column was not made for {other}"))),
        })
    }
}

impl Default for Strings {
    fn default() -> Self {
        Strings {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }
}

impl Strings {
    /// The bytes that were appended since the last string are a string.
    #[inline(always)]
    pub fn end(&mut self) {
        self.offsets.push(offset(self.bytes.len()));
    }

    #[inline(always)]
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.end();
    }

    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(last_end(&self.offsets));
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = handed_out(&mut self.offsets);
        self.offsets.push(0);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(handed_out(&mut self.bytes)),
        )
    }
}

/// Nothing that is decoded has more bytes than the records it came from, and a run of records is refused when it is larger than an Arrow offset can
/// say. Nor has it more elements, but for those of Avro that have no byte: they are counted where they are read.
#[inline(always)]
pub fn offset(length: usize) -> i32 {
    length as i32
}

fn last_end(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

fn offsets_of(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// What was collected, without much room that is not used, since rows of it may be kept for long. Leaves room for as much again: a
/// steady stream costs no regrowth.
fn handed_out<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len() + values.len() / 8);
    let mut values = std::mem::replace(values, room);
    if values.len() < values.capacity() / 2 {
        values.shrink_to_fit();
    }
    values
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(
        handed_out(values).into(),
        nulls,
    )?))
}

fn timestamps<T: arrow::datatypes::ArrowTimestampType>(
    values: &mut Vec<i64>,
    nulls: Option<NullBuffer>,
    zone: &Option<Arc<str>>,
) -> Result<ArrayRef> {
    let array = PrimitiveArray::<T>::try_new(handed_out(values).into(), nulls)?;
    Ok(Arc::new(array.with_timezone_opt(zone.clone())))
}

/// Of the entries of one map, from `first` to `end`, notes those whose key comes again.
pub fn note_replaced(keys: &Strings, first: usize, end: usize, replaced: &mut Vec<usize>) {
    if end - first < 2 {
        return;
    }
    let mut last = HashMap::with_capacity(end - first);
    replaced.extend((first..end).filter_map(|entry| last.insert(keys.get(entry), entry)));
}

/// Takes the entries of a map out that a later entry with the same key replaced.
fn drop_entries(
    ends: &mut [i32],
    columns: Vec<ArrayRef>,
    mut replaced: Vec<usize>,
) -> Result<Vec<ArrayRef>> {
    if replaced.is_empty() {
        return Ok(columns);
    }
    replaced.sort_unstable();
    let mut keep = vec![true; columns[0].len()];
    replaced.iter().for_each(|entry| keep[*entry] = false);
    for end in ends {
        *end -= offset(replaced.partition_point(|entry| *entry < *end as usize));
    }
    let keep = BooleanArray::from(keep);
    columns
        .iter()
        .map(|column| Ok(filter(column, &keep)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    fn field(name: &str, data_type: DataType) -> FieldRef {
        Arc::new(Field::new(name, data_type, true))
    }

    #[test]
    fn a_value_that_was_begun_can_be_cut_off() {
        let item = field("item", DataType::Utf8);
        let data_type = DataType::List(item);
        let mut column = Column::new(&field("list", data_type.clone())).unwrap();
        column.append_null();
        if let Values::Array { items, .. } = &mut column.values
            && let Values::String(strings) = &mut items.values
        {
            strings.push(b"half");
            items.appended();
        }
        column.truncate(1);
        column.append_null();
        let array = column.finish(&data_type).unwrap();
        assert_eq!((array.len(), array.null_count()), (2, 2));
        assert_eq!(array.as_list::<i32>().values().len(), 0);
        assert_eq!(
            column.finish(&data_type).unwrap().len(),
            0,
            "finishing empties the column"
        );
    }
}
