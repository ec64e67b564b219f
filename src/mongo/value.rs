//! From a column's value to what it is in a document, as Flink writes it: nested rows and maps are documents, arrays are arrays, NULL is
//! null.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime};

/// Why a value cannot be what it should.
pub type Told<T> = Result<T, String>;

/// The value of a row.
pub fn value(column: &ArrayRef, row: usize) -> Told<Bson> {
    macro_rules! number {
        ($type:ty) => {
            column.as_primitive::<$type>().value(row)
        };
    }
    if column.is_null(row) {
        return Ok(Bson::Null);
    }
    Ok(match column.data_type() {
        DataType::Null => Bson::Null,
        DataType::Boolean => Bson::Boolean(column.as_boolean().value(row)),
        DataType::Int8 => Bson::Int32(number!(Int8Type).into()),
        DataType::Int16 => Bson::Int32(number!(Int16Type).into()),
        DataType::Int32 => Bson::Int32(number!(Int32Type)),
        DataType::Int64 => Bson::Int64(number!(Int64Type)),
        DataType::Float32 => Bson::Double(number!(Float32Type).into()),
        DataType::Float64 => Bson::Double(number!(Float64Type)),
        DataType::Decimal128(..) => {
            let text = column.as_primitive::<Decimal128Type>().value_as_string(row);
            let number = text.parse().map_err(|error| {
                format!("{text} has more digits than MongoDB's decimals, which have 34: {error}")
            })?;
            Bson::Decimal128(number)
        }
        DataType::Utf8 => Bson::String(column.as_string::<i32>().value(row).to_string()),
        DataType::Binary => Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: column.as_binary::<i32>().value(row).to_vec(),
        }),
        // In milliseconds: what is finer is cut off, as in Flink.
        DataType::Timestamp(unit, _) => {
            let millis = match unit {
                TimeUnit::Second => number!(TimestampSecondType).saturating_mul(1000),
                TimeUnit::Millisecond => number!(TimestampMillisecondType),
                TimeUnit::Microsecond => number!(TimestampMicrosecondType).div_euclid(1000),
                TimeUnit::Nanosecond => number!(TimestampNanosecondType).div_euclid(1_000_000),
            };
            Bson::DateTime(DateTime::from_millis(millis))
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|item| value(&items, item));
            Bson::Array(items.collect::<Told<_>>()?)
        }
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let fields = fields.iter().zip(columns);
            let fields = fields.map(|(field, column)| entry(field.name(), column, row));
            Bson::Document(fields.collect::<Told<_>>()?)
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let entries = (0..entries.len())
                .map(|entry_row| entry(names.value(entry_row), values, entry_row));
            Bson::Document(entries.collect::<Told<_>>()?)
        }
        other => return Err(format!("MongoDB cannot hold a {other}")),
    })
}

fn entry(name: &str, column: &ArrayRef, row: usize) -> Told<(String, Bson)> {
    // Not every server takes it in an update, and then it would be too late.
    if name.starts_with('$') {
        return Err(format!(
            "MongoDB takes no name that begins with '$' in a document: '{name}'"
        ));
    }
    Ok((name.to_string(), value(column, row)?))
}
