//! The default of a field, from the schema's JSON to the bytes that a writer would have written.

use super::bytes::{put_bytes, put_long};
use super::schema::{Definition, Schema, Type};
use serde_json::Value;

/// Appends the default, or says why it is none for this type.
pub fn encode_default(
    schema: &Schema,
    of: &Type,
    default: &Value,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    encode(schema, of, default, out, 0)
}

/// A record inside itself, whose default leaves it out, has no end.
const DEEPEST: u32 = 100;

fn encode(
    schema: &Schema,
    of: &Type,
    default: &Value,
    out: &mut Vec<u8>,
    depth: u32,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("the default of {} has no end", schema.describe(of)));
    }
    let deeper = depth + 1;
    let unfit = || format!("{default} is no default for {}", schema.describe(of));
    match (of, default) {
        (Type::Null, Value::Null) => {}
        (Type::Boolean, Value::Bool(value)) => out.push(u8::from(*value)),
        (Type::Int(_), Value::Number(number)) => {
            let number = number
                .as_i64()
                .and_then(|number| i32::try_from(number).ok());
            put_long(out, i64::from(number.ok_or_else(unfit)?));
        }
        (Type::Long(_), Value::Number(number)) => put_long(out, number.as_i64().ok_or_else(unfit)?),
        (Type::Float, Value::Number(number)) => {
            let number = number.as_f64().ok_or_else(unfit)? as f32;
            out.extend(number.to_le_bytes());
        }
        (Type::Double, Value::Number(number)) => {
            out.extend(number.as_f64().ok_or_else(unfit)?.to_le_bytes());
        }
        (Type::String, Value::String(text)) => put_bytes(out, text.as_bytes()),
        (Type::Bytes(_), Value::String(text)) => {
            put_bytes(out, &latin(text).ok_or_else(unfit)?);
        }
        (Type::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                put_long(out, items.len() as i64);
                for value in items {
                    encode(schema, item, value, out, deeper)?;
                }
            }
            out.push(0);
        }
        (Type::Map(of), Value::Object(entries)) => {
            if !entries.is_empty() {
                put_long(out, entries.len() as i64);
                for (key, value) in entries {
                    put_bytes(out, key.as_bytes());
                    encode(schema, of, value, out, deeper)?;
                }
            }
            out.push(0);
        }
        // The specification wants it to be of the first branch; since 1.12 of any.
        (Type::Union(branches), _) => {
            let start = out.len();
            let fits = |(index, branch): (usize, &Type)| {
                out.truncate(start);
                put_long(out, index as i64);
                encode(schema, branch, default, out, deeper).is_ok()
            };
            if !branches.iter().enumerate().any(fits) {
                return Err(unfit());
            }
        }
        (Type::Named(number), _) => match (&schema.named(*number).definition, default) {
            (Definition::Record(fields), Value::Object(values)) => {
                for field in fields {
                    let value = values.get(&field.name).or(field.default.as_ref());
                    encode(schema, &field.of, value.ok_or_else(unfit)?, out, deeper)?;
                }
            }
            (Definition::Enum(symbols), Value::String(symbol)) => {
                let index = symbols.iter().position(|known| known == symbol);
                put_long(out, index.ok_or_else(unfit)? as i64);
            }
            (Definition::Fixed { size, .. }, Value::String(text)) => {
                let bytes = latin(text).filter(|bytes| bytes.len() == *size);
                out.extend(bytes.ok_or_else(unfit)?);
            }
            _ => return Err(unfit()),
        },
        _ => return Err(unfit()),
    }
    Ok(())
}

/// Bytes stand in JSON as the characters with their numbers.
fn latin(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|char| u8::try_from(u32::from(char)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(of: &str, default: &str) -> Result<Vec<u8>, String> {
        let schema = Schema::parse(of, &[]).unwrap();
        let mut out = Vec::new();
        let default = serde_json::from_str(default).unwrap();
        encode_default(&schema, &schema.root, &default, &mut out).map(|()| out)
    }

    #[test]
    fn defaults_are_what_a_writer_would_have_written() {
        for (of, default, expected) in [
            (r#"["null","string"]"#, "null", vec![0]),
            (r#"["null","string"]"#, r#""ab""#, vec![2, 4, b'a', b'b']),
            (r#""bytes""#, "\"\u{ff}\"", vec![2, 0xff]),
            (
                r#"{"type":"array","items":"int"}"#,
                "[1,2]",
                vec![4, 2, 4, 0],
            ),
            (r#"{"type":"map","values":"int"}"#, "{}", vec![0]),
            (r#""float""#, "1", vec![0, 0, 0x80, 0x3f]),
            (
                r#"{"type":"enum","name":"e","symbols":["A","B"]}"#,
                r#""B""#,
                vec![2],
            ),
            (
                r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":3}]}"#,
                r#"{"a":1}"#,
                vec![2, 6],
            ),
        ] {
            assert_eq!(encoded(of, default), Ok(expected), "{of} {default}");
        }
        for (of, default) in [
            (r#""int""#, "3000000000"),
            (r#""string""#, "null"),
            (r#"["null","int"]"#, r#""a""#),
        ] {
            assert!(encoded(of, default).unwrap_err().contains("no default"));
        }
    }
}
