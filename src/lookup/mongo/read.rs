//! From documents to rows of a table.

use super::super::index::KeyIndex;
use crate::decode::decimal_of;
use crate::error::{Error, Result};
use crate::mongo::value::Told;
use crate::operator::lookup::Found;
use crate::plan::LookupJoin;
use crate::sql::connectors::mongodb::{DELETED, ID};
use crate::sql::types::flink_name;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray,
    MapArray, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use mongodb::bson::{Bson, Document};
use serde_json::Value as Json;
use std::sync::Arc;

/// How documents of one table are read.
pub struct Reader {
    read: SchemaRef,
    /// Which of the columns are the keys that are asked for.
    keys: Vec<usize>,
    /// The columns that `_id` was made of.
    primary: Vec<String>,
}

impl Reader {
    pub fn of(join: &LookupJoin) -> Reader {
        Reader {
            read: Arc::clone(&join.read),
            keys: join.keys.iter().map(|key| key.column).collect(),
            primary: join.table.primary_key.clone(),
        }
    }

    /// The fields that the server is to send.
    pub fn projection(&self) -> Document {
        let names = self.read.fields().iter().map(|field| field.name().as_str());
        let keyed = [ID, DELETED].into_iter();
        let keyed = keyed.filter(|_| !self.primary.is_empty());
        let mut fields: Document = names
            .chain(keyed)
            .map(|name| (name.to_string(), Bson::Int32(1)))
            .collect();
        // It comes unless somebody says no.
        if !fields.contains_key(ID) {
            fields.insert(ID, 0);
        }
        fields
    }

    /// Which of the keys make the primary key, in its order; none where not all of it is asked for, or where it is `_id` by name.
    pub fn primary_among_keys(&self) -> Vec<usize> {
        let place = |name: &String| {
            let is_it = |key: &usize| self.read.field(*key).name() == name;
            self.keys.iter().position(is_it)
        };
        match self.primary.as_slice() {
            [only] if only == ID => Vec::new(),
            primary => primary
                .iter()
                .map(place)
                .collect::<Option<_>>()
                .unwrap_or_default(),
        }
    }

    /// Whether a document only says that its row was deleted.
    pub fn is_tombstone(&self, document: &Document) -> bool {
        let deleted = document.get(DELETED);
        !self.primary.is_empty() && deleted.is_some_and(|at| *at != Bson::Null)
    }

    /// A field; one of the primary key may be in `_id` alone.
    fn field<'a>(&self, document: &'a Document, name: &str) -> Option<&'a Bson> {
        let of_id = || match (document.get(ID)?, self.primary.as_slice()) {
            (id, [only]) if only == name => Some(id),
            (Bson::Document(id), [_, _, ..]) if self.primary.iter().any(|part| part == name) => {
                id.get(name)
            }
            _ => None,
        };
        document.get(name).or_else(of_id)
    }

    /// Columns of documents as keys; what is something else than the column is equal to none, as NULL is.
    pub fn keys_of(&self, documents: &[Document], fields: &[&Field]) -> Result<Vec<ArrayRef>> {
        let column = |field: &&Field| {
            let read =
                |document: &Document| value(self.field(document, field.name()), field.data_type());
            let values = documents
                .iter()
                .map(|document| read(document).unwrap_or(Value::Null));
            array(values.collect(), field.data_type())
        };
        fields.iter().map(column).collect()
    }

    /// The documents that have one of the keys, as rows.
    pub fn rows(&self, documents: &[Document], index: &KeyIndex) -> Result<Found> {
        let keys: Vec<&Field> = self.keys.iter().map(|&key| self.read.field(key)).collect();
        let numbers = index.numbers(&self.keys_of(documents, &keys)?, documents.len())?;
        let mut columns: Vec<Vec<Value>> = self.read.fields().iter().map(|_| Vec::new()).collect();
        let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
        for (document, number) in documents.iter().zip(numbers) {
            let Some(number) = number else { continue };
            match self.row(document) {
                Ok(values) => {
                    keys.push(number);
                    for (column, value) in columns.iter_mut().zip(values) {
                        column.push(value);
                    }
                }
                Err(why) => unreadable.push((number, why)),
            }
        }
        let arrays = columns.into_iter().zip(self.read.fields());
        let arrays = arrays.map(|(values, field)| array(values, field.data_type()));
        Ok(Found {
            rows: RecordBatch::try_new(Arc::clone(&self.read), arrays.collect::<Result<_>>()?)?,
            keys,
            unreadable,
        })
    }

    fn row(&self, document: &Document) -> Told<Vec<Value>> {
        let fields = self.read.fields().iter();
        let values = fields.map(|field| {
            let given = self.field(document, field.name());
            value(given, field.data_type())
                .and_then(|value| not_null(value, field))
                .map_err(|why| format!("what was found cannot be read: '{}' {why}", field.name()))
        });
        values.collect()
    }
}

/// A value as a column of its type holds it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Boolean(bool),
    /// Also a time, in milliseconds since 1970.
    Integer(i64),
    Double(f64),
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
    Items(Vec<Value>),
    Fields(Vec<Value>),
    Entries(Vec<(String, Value)>),
}

fn not_null(value: Value, field: &Field) -> Told<Value> {
    match value {
        Value::Null if !field.is_nullable() => Err("is NOT NULL, and has no value".to_owned()),
        value => Ok(value),
    }
}

/// Reads a value. Numbers are read as any type of number that holds them exactly, and everything can be a text; the rest has to be what it is.
fn value(given: Option<&Bson>, wanted: &DataType) -> Told<Value> {
    let given = match given {
        None | Some(Bson::Null | Bson::Undefined) => return Ok(Value::Null),
        Some(Bson::Decimal128(number)) if number.to_string() == "NaN" => return Ok(Value::Null),
        Some(given) => given,
    };
    let read = match wanted {
        DataType::Boolean => given.as_bool().map(Value::Boolean),
        DataType::Int8 => integer(given, i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => integer(given, i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => integer(given, i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integer(given, i64::MIN, i64::MAX),
        DataType::Float32 | DataType::Float64 => double(given).map(Value::Double),
        DataType::Decimal128(precision, scale) => {
            let text = number_text(given);
            text.and_then(|text| decimal_of(&text, *precision, *scale))
                .map(Value::Decimal)
        }
        DataType::Utf8 => Some(Value::Text(text(given))),
        DataType::Binary => match given {
            Bson::Binary(binary) => Some(Value::Bytes(binary.bytes.clone())),
            _ => None,
        },
        DataType::Timestamp(..) => match given {
            Bson::DateTime(at) => Some(Value::Integer(at.timestamp_millis())),
            Bson::Timestamp(at) => Some(Value::Integer(i64::from(at.time) * 1000)),
            _ => None,
        },
        DataType::List(item) => match given {
            Bson::Array(items) => {
                let items = items.iter().map(|given| inner(Some(given), item));
                Some(Value::Items(items.collect::<Told<_>>()?))
            }
            _ => None,
        },
        DataType::Struct(fields) => match given {
            Bson::Document(document) => {
                let fields = fields.iter().map(|field| {
                    inner(document.get(field.name()), field)
                        .map_err(|why| format!("has a field '{}' that {why}", field.name()))
                });
                Some(Value::Fields(fields.collect::<Told<_>>()?))
            }
            _ => None,
        },
        DataType::Map(entries, _) => match (given, entries.data_type()) {
            (Bson::Document(document), DataType::Struct(pair)) => {
                let entries = document.iter();
                let entries =
                    entries.map(|(name, given)| Ok((name.clone(), inner(Some(given), &pair[1])?)));
                Some(Value::Entries(entries.collect::<Told<_>>()?))
            }
            _ => None,
        },
        _ => None,
    };
    read.ok_or_else(|| format!("is {}, no {}", kind(given), flink_name(wanted)))
}

fn inner(given: Option<&Bson>, field: &Field) -> Told<Value> {
    value(given, field.data_type()).and_then(|value| not_null(value, field))
}

fn integer(given: &Bson, least: i64, most: i64) -> Option<Value> {
    let number = match given {
        Bson::Int32(number) => i64::from(*number),
        Bson::Int64(number) => *number,
        // All whole numbers up to here are doubles; beyond it a double stands for several.
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of 53 bits")]
        Bson::Double(number)
            if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 =>
        {
            *number as i64
        }
        Bson::Decimal128(number) => {
            // Twice, so that a fraction shows.
            let text = number.to_string();
            let (whole, finer) = (decimal_of(&text, 38, 0)?, decimal_of(&text, 38, 18)?);
            let is_whole = whole.checked_mul(10i128.pow(18)) == Some(finer);
            i64::try_from(whole).ok().filter(|_| is_whole)?
        }
        _ => return None,
    };
    (least..=most)
        .contains(&number)
        .then_some(Value::Integer(number))
}

fn double(given: &Bson) -> Option<f64> {
    match given {
        Bson::Double(number) => Some(*number),
        Bson::Int32(number) => Some(f64::from(*number)),
        #[expect(clippy::cast_precision_loss, reason = "checked behind it")]
        Bson::Int64(number) => {
            let double = *number as f64;
            #[expect(clippy::cast_possible_truncation, reason = "it came from there")]
            let back = double as i64;
            (back == *number).then_some(double)
        }
        Bson::Decimal128(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn number_text(given: &Bson) -> Option<String> {
    match given {
        Bson::Int32(number) => Some(number.to_string()),
        Bson::Int64(number) => Some(number.to_string()),
        Bson::Double(number) => Some(number.to_string()),
        Bson::Decimal128(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What is no text is written as JSON has it.
fn text(given: &Bson) -> String {
    match json(given) {
        Json::String(text) => text,
        json => json.to_string(),
    }
}

/// What JSON has no form for is its text, a time as ISO 8601 has it.
fn json(given: &Bson) -> Json {
    match given {
        Bson::String(text) | Bson::Symbol(text) => text.as_str().into(),
        Bson::Boolean(value) => (*value).into(),
        Bson::Int32(number) => (*number).into(),
        Bson::Int64(number) => (*number).into(),
        Bson::Double(number) if number.is_finite() => (*number).into(),
        Bson::Null | Bson::Undefined => Json::Null,
        Bson::Array(items) => items.iter().map(json).collect(),
        Bson::Document(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| (name.clone(), json(value)));
            Json::Object(fields.collect())
        }
        Bson::ObjectId(id) => id.to_hex().into(),
        Bson::DateTime(at) => match at.try_to_rfc3339_string() {
            Ok(text) => text.into(),
            Err(_) => at.timestamp_millis().into(),
        },
        other => other.to_string().into(),
    }
}

fn kind(given: &Bson) -> String {
    match given {
        Bson::Document(_) => "a document".to_owned(),
        Bson::Array(_) => "an array".to_owned(),
        Bson::Binary(_) => "binary".to_owned(),
        other => {
            let text: String = text(other).chars().take(40).collect();
            format!("{text} ({:?})", other.element_type())
        }
    }
}

/// Values as a column of the type that they were read for.
fn array(values: Vec<Value>, data_type: &DataType) -> Result<ArrayRef> {
    let odd = || Error::bug(format!("a value was not read as a {data_type}"));
    macro_rules! each {
        ($kind:ident) => {
            values
                .into_iter()
                .map(|value| match value {
                    Value::$kind(value) => Ok(Some(value)),
                    Value::Null => Ok(None),
                    _ => Err(odd()),
                })
                .collect::<Result<Vec<_>>>()?
        };
    }
    let nulls =
        |there: Vec<bool>| Some(NullBuffer::from(there)).filter(|nulls| nulls.null_count() > 0);
    Ok(match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from(each!(Boolean))),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            cast(&Int64Array::from(each!(Integer)), data_type)?
        }
        DataType::Timestamp(..) => {
            cast(&TimestampMillisecondArray::from(each!(Integer)), data_type)?
        }
        DataType::Float32 | DataType::Float64 => {
            cast(&Float64Array::from(each!(Double)), data_type)?
        }
        DataType::Decimal128(precision, scale) => Arc::new(
            Decimal128Array::from(each!(Decimal)).with_precision_and_scale(*precision, *scale)?,
        ),
        DataType::Utf8 => Arc::new(StringArray::from(each!(Text))),
        DataType::Binary => {
            let values = each!(Bytes);
            Arc::new(BinaryArray::from_iter(values.iter().map(Option::as_ref)))
        }
        DataType::List(item) => {
            let lists: Vec<Option<Vec<Value>>> = each!(Items);
            let there = nulls(lists.iter().map(Option::is_some).collect());
            let lengths = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let items = array(
                lists.into_iter().flatten().flatten().collect(),
                item.data_type(),
            )?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, there)?)
        }
        DataType::Struct(fields) => {
            let rows: Vec<Option<Vec<Value>>> = each!(Fields);
            let there = nulls(rows.iter().map(Option::is_some).collect());
            let count = rows.len();
            let mut columns: Vec<Vec<Value>> = fields.iter().map(|_| Vec::new()).collect();
            for row in rows {
                let row = row.unwrap_or_else(|| vec![Value::Null; fields.len()]);
                for (column, value) in columns.iter_mut().zip(row) {
                    column.push(value);
                }
            }
            let columns = columns.into_iter().zip(fields);
            let columns = columns.map(|(values, field)| array(values, field.data_type()));
            let columns = columns.collect::<Result<_>>()?;
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                there,
                count,
            )?)
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(odd());
            };
            let maps: Vec<Option<Vec<(String, Value)>>> = each!(Entries);
            let there = nulls(maps.iter().map(Option::is_some).collect());
            let lengths = maps.iter().map(|map| map.as_ref().map_or(0, Vec::len));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let (names, values): (Vec<String>, Vec<Value>) =
                maps.into_iter().flatten().flatten().unzip();
            let names: ArrayRef = Arc::new(StringArray::from(names));
            let values = array(values, pair[1].data_type())?;
            let pairs = StructArray::try_new(pair.clone(), vec![names, values], None)?;
            Arc::new(MapArray::try_new(
                Arc::clone(entries),
                offsets,
                pairs,
                there,
                *sorted,
            )?)
        }
        _ => return Err(odd()),
    })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
