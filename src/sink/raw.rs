//! Flink's `raw` format: one column is the whole record.

use super::options::TableSpec;
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};

const ENDIANNESS: &str = "raw.endianness";

#[derive(Debug, Clone, Copy)]
pub(super) struct RawFormat {
    little_endian: bool,
}

impl RawFormat {
    pub const KEYS: [&str; 2] = [ENDIANNESS, "raw.charset"];

    /// For records with these columns of the table.
    pub fn of(table: &TableSpec, columns: &[usize]) -> Result<RawFormat> {
        let [column] = columns else {
            return Err(Error::job(format!(
                "table '{}': the format 'raw' holds one column, and there are {} for it",
                table.name,
                columns.len()
            )));
        };
        let field = table.schema.field(*column);
        let fits = matches!(
            field.data_type(),
            DataType::Utf8
                | DataType::Binary
                | DataType::Boolean
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
        );
        if !fits {
            return Err(Error::job(format!(
                "table '{}': column '{}' is a {}, which the format 'raw' cannot hold; it holds a text, bytes, a number or a truth value",
                table.name,
                field.name(),
                field.data_type()
            )));
        }
        Ok(RawFormat {
            little_endian: table.get(ENDIANNESS) == Some("little-endian"),
        })
    }

    /// The bytes of each value; NULL stays NULL.
    pub fn rows(self, column: &ArrayRef) -> Result<BinaryArray> {
        macro_rules! numbers {
            ($type:ty) => {
                self.numbers::<$type, _>(column, |number, little| match little {
                    true => number.to_le_bytes(),
                    false => number.to_be_bytes(),
                })
            };
        }
        Ok(match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().iter().collect(),
            DataType::Binary => column.as_binary::<i32>().clone(),
            DataType::Boolean => {
                let bytes = |truth: Option<bool>| truth.map(|truth| [u8::from(truth)]);
                column.as_boolean().iter().map(bytes).collect()
            }
            DataType::Int8 => numbers!(Int8Type),
            DataType::Int16 => numbers!(Int16Type),
            DataType::Int32 => numbers!(Int32Type),
            DataType::Int64 => numbers!(Int64Type),
            DataType::Float32 => numbers!(Float32Type),
            DataType::Float64 => numbers!(Float64Type),
            other => return Err(Error::bug(format!("the format 'raw' was given a {other}"))),
        })
    }

    fn numbers<T: ArrowPrimitiveType, B: AsRef<[u8]>>(
        self,
        column: &ArrayRef,
        bytes: impl Fn(T::Native, bool) -> B,
    ) -> BinaryArray {
        let mut records = BinaryBuilder::with_capacity(column.len(), column.len() * 8);
        for number in column.as_primitive::<T>().iter() {
            records.append_option(number.map(|number| bytes(number, self.little_endian)));
        }
        records.finish()
    }
}
