//! Flink's `avro-confluent` format as bytes: each row behind the place for its schema's id, which is filled in when the row is delivered. So no
//! lane waits for a registry.

use super::options::TableSpec;
use crate::avro::{self, Definition, Schema, Type, head, put_bytes, put_long};
use crate::error::{Error, Result};
use crate::registry::{FORMAT, RecordPart, Settings};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array,
    Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, SchemaRef};
use std::collections::HashMap;

/// How the rows of one part of a record are written.
pub(super) struct AvroFormat {
    pub settings: Settings,
    /// The schema, as it is registered.
    pub text: String,
    schema: Schema,
}

impl AvroFormat {
    /// For records with these columns, under the names that they have there.
    pub fn of(table: &TableSpec, columns: &SchemaRef, part: RecordPart) -> Result<AvroFormat> {
        let refuse = |option: &str, what: &str| table.refuse(&format!("{FORMAT}.{option}"), what);
        let settings = Settings::of(&table.options, "", part)
            .map_err(|wrong| refuse(&wrong.option, &wrong.what))?;
        let fields = columns.fields();
        let own = table.get(&format!("{FORMAT}.schema"));
        let text = match own {
            Some(own) => own.to_string(),
            None => avro::of_columns(fields)
                .map_err(|what| Error::job(format!("table '{}': {what}", table.name)))?,
        };
        let schema = Schema::parse(&text, &[]).and_then(|schema| {
            avro::fits(&schema, fields)?;
            Ok(schema)
        });
        Ok(AvroFormat {
            settings,
            schema: schema.map_err(|what| refuse("schema", &what))?,
            text,
        })
    }

    /// The names that Confluent's options have for it.
    pub fn keys() -> impl Iterator<Item = String> {
        let known = crate::registry::KNOWN.iter();
        known
            .filter(|name| !name.ends_with('.'))
            .map(|name| format!("{FORMAT}.{name}"))
    }

    pub fn subject(&self, topic: &str, part: RecordPart) -> String {
        let record = self.schema.name(&self.schema.root).unwrap_or_default();
        self.settings.subject(topic, part, record)
    }

    /// The bytes of each row.
    pub fn rows(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        let fields = rows.schema().fields().clone();
        let cells = self.record(&self.schema.root, &fields, rows.columns())?;
        let mut records = BinaryBuilder::with_capacity(rows.num_rows(), rows.num_rows() * 32);
        let mut bytes = Vec::new();
        for row in 0..rows.num_rows() {
            bytes.clear();
            bytes.extend(head(0));
            for (cell, field) in cells.iter().zip(&fields) {
                cell.put(row, &mut bytes)
                    .map_err(|what| Error::data(format!("column '{}': {what}", field.name())))?;
            }
            records.append_value(&bytes);
        }
        Ok(records.finish())
    }

    fn record(&self, of: &Type, fields: &Fields, columns: &[ArrayRef]) -> Result<Vec<Cells<'_>>> {
        let there = self.schema.record(of).ok_or_else(unfit)?;
        let cells = there.iter().zip(fields).zip(columns);
        cells
            .map(|((there, _), column)| self.cells(&there.of, column))
            .collect()
    }

    /// The values of a column, as values of a type that is known to be for them.
    fn cells(&self, of: &Type, column: &ArrayRef) -> Result<Cells<'_>> {
        let (branches, inner) = match of {
            Type::Union(branches) => {
                let is_null = |of: &Type| *of == Type::Null;
                let inner = branches.iter().position(|of| !is_null(of));
                let inner = inner.ok_or_else(unfit)?;
                let null = branches.iter().position(is_null);
                (Some((null, inner)), &branches[inner])
            }
            other => (None, other),
        };
        let values = match (inner, column.data_type()) {
            (Type::Boolean, _) => Values::Boolean(column.as_boolean().clone()),
            (Type::Int(_), _) => {
                let ints = cast(column, &DataType::Int32)?;
                Values::Int(ints.as_primitive().clone())
            }
            (Type::Long(_), _) => {
                let longs = cast(column, &DataType::Int64)?;
                Values::Long(longs.as_primitive().clone())
            }
            (Type::Float, _) => Values::Float(column.as_primitive().clone()),
            (Type::Double, _) => Values::Double(column.as_primitive().clone()),
            (Type::String, _) => Values::Text(column.as_string().clone()),
            (Type::Bytes(_), DataType::Decimal128(..)) => {
                Values::Decimal(column.as_primitive().clone(), None)
            }
            (Type::Bytes(_), _) => Values::Bytes(column.as_binary().clone()),
            (Type::Array(item), DataType::List(_)) => {
                let list = column.as_list::<i32>();
                let items = Box::new(self.cells(item, list.values())?);
                Values::Array(list.offsets().clone(), items)
            }
            (Type::Map(value), DataType::Map(..)) => {
                let map = column.as_map();
                Values::Map(
                    map.offsets().clone(),
                    map.keys().as_string().clone(),
                    Box::new(self.cells(value, map.values())?),
                )
            }
            (Type::Named(number), data_type) => {
                match (&self.schema.named(*number).definition, data_type) {
                    (Definition::Record(_), DataType::Struct(fields)) => {
                        let row = column.as_struct();
                        Values::Record(self.record(inner, fields, row.columns())?)
                    }
                    (Definition::Enum(symbols), _) => {
                        let symbols = symbols.iter().enumerate();
                        let symbols = symbols.map(|(at, symbol)| (symbol.as_str(), at as i64));
                        Values::Enum(column.as_string().clone(), symbols.collect())
                    }
                    (Definition::Fixed { size, .. }, DataType::Decimal128(..)) => {
                        Values::Decimal(column.as_primitive().clone(), Some(*size))
                    }
                    (Definition::Fixed { size, .. }, _) => {
                        Values::Fixed(column.as_binary().clone(), *size)
                    }
                    _ => return Err(unfit()),
                }
            }
            _ => return Err(unfit()),
        };
        Ok(Cells {
            nulls: column.nulls().cloned(),
            branches,
            values,
        })
    }
}

/// The schema was compared with the columns before.
fn unfit() -> Error {
    Error::bug("a column is not of the type that its Avro schema says")
}

/// The values of one column, or of what is inside it.
struct Cells<'a> {
    nulls: Option<NullBuffer>,
    /// Of a union: the numbers of null, where that is in it, and of the value.
    branches: Option<(Option<usize>, usize)>,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(BooleanArray),
    Int(Int32Array),
    Long(Int64Array),
    Float(Float32Array),
    Double(Float64Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Enum(StringArray, HashMap<&'a str, i64>),
    Fixed(BinaryArray, usize),
    /// With the number of its bytes, where that is fixed.
    Decimal(Decimal128Array, Option<usize>),
    Array(OffsetBuffer<i32>, Box<Cells<'a>>),
    Map(OffsetBuffer<i32>, StringArray, Box<Cells<'a>>),
    Record(Vec<Cells<'a>>),
}

impl Cells<'_> {
    /// Appends one value, or says why Avro cannot hold it.
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        match (is_null, self.branches) {
            (true, Some((Some(null), _))) => {
                put_long(out, null as i64);
                return Ok(());
            }
            (true, _) => return Err("it is NULL, which its Avro schema does not allow".to_string()),
            (false, Some((_, value))) => put_long(out, value as i64),
            (false, None) => {}
        }
        match &self.values {
            Values::Boolean(values) => out.push(u8::from(values.value(row))),
            Values::Int(values) => put_long(out, i64::from(values.value(row))),
            Values::Long(values) => put_long(out, values.value(row)),
            Values::Float(values) => out.extend(values.value(row).to_le_bytes()),
            Values::Double(values) => out.extend(values.value(row).to_le_bytes()),
            Values::Text(values) => put_bytes(out, values.value(row).as_bytes()),
            Values::Bytes(values) => put_bytes(out, values.value(row)),
            Values::Enum(values, symbols) => {
                let text = values.value(row);
                let symbol = symbols.get(text);
                put_long(
                    out,
                    *symbol.ok_or_else(|| format!("'{text}' is no symbol of its enum"))?,
                );
            }
            Values::Fixed(values, size) => {
                let bytes = values.value(row);
                if bytes.len() != *size {
                    return Err(format!("it has {} bytes instead of {size}", bytes.len()));
                }
                out.extend(bytes);
            }
            Values::Decimal(values, size) => put_decimal(out, values.value(row), *size)?,
            Values::Array(offsets, items) => {
                let elements = offsets[row] as usize..offsets[row + 1] as usize;
                if !elements.is_empty() {
                    put_long(out, elements.len() as i64);
                }
                for element in elements {
                    items.put(element, out)?;
                }
                out.push(0);
            }
            Values::Map(offsets, keys, values) => {
                let entries = offsets[row] as usize..offsets[row + 1] as usize;
                if !entries.is_empty() {
                    put_long(out, entries.len() as i64);
                }
                for entry in entries {
                    if keys.is_null(entry) {
                        return Err("a key of the map is NULL".to_string());
                    }
                    put_bytes(out, keys.value(entry).as_bytes());
                    values.put(entry, out)?;
                }
                out.push(0);
            }
            Values::Record(cells) => {
                for cell in cells {
                    cell.put(row, out)?;
                }
            }
        }
        Ok(())
    }
}

/// In two's complement, the highest byte first, in as few bytes as Java writes.
fn put_decimal(out: &mut Vec<u8>, number: i128, size: Option<usize>) -> Result<(), String> {
    let wide = number.to_be_bytes();
    let sign: u8 = if number < 0 { 0xff } else { 0 };
    // A byte is needless where it says only what the highest bit of the next one says too.
    let needless = |pair: &&[u8]| pair[0] == sign && (pair[1] ^ sign) < 0x80;
    let spare = wide.windows(2).take_while(needless).count();
    let bytes = &wide[spare..];
    match size {
        None => put_bytes(out, bytes),
        Some(size) if size >= bytes.len() => {
            out.extend(std::iter::repeat_n(sign, size - bytes.len()));
            out.extend(bytes);
        }
        Some(size) => return Err(format!("the number does not fit into {size} bytes")),
    }
    Ok(())
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
