//! The schema that Flink makes of a table's columns, and whether a schema of the user's own is for them.

use super::schema::{Definition, Meaning, Schema, Type, is_name};
use crate::sql::types::flink_name;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::fmt::Write;

/// Flink's name for the record; records inside it are named by their way down.
const NAMESPACE: &str = "org.apache.flink.avro.generated";
const RECORD: &str = "record";

/// The schema of rows with these columns, letter for letter as Flink writes it: what Flink has registered is found again. Or the
/// column that Avro cannot hold, and why.
pub fn of_columns(fields: &Fields) -> Result<String, String> {
    let mut out = String::new();
    record(&mut out, fields, RECORD, Some(NAMESPACE))?;
    // Names that are made of ways can meet.
    Schema::parse(&out, &[]).map(|_| out)
}

fn record(
    out: &mut String,
    fields: &Fields,
    name: &str,
    namespace: Option<&str>,
) -> Result<(), String> {
    write(out, format_args!(r#"{{"type":"record","name":"{name}","#));
    if let Some(namespace) = namespace {
        write(out, format_args!(r#""namespace":"{namespace}","#));
    }
    out.push_str(r#""fields":["#);
    for (at, field) in fields.iter().enumerate() {
        let column = field.name();
        if !is_name(column) {
            return Err(format!(
                "column '{column}': Avro's names have letters, digits and '_' only, and begin with no digit"
            ));
        }
        let comma = if at > 0 { "," } else { "" };
        write(out, format_args!(r#"{comma}{{"name":"{column}","type":"#));
        of_field(out, field, &format!("{name}_{column}"))
            .map_err(|what| format!("column '{column}': {what}"))?;
        out.push_str(match field.is_nullable() {
            true => r#","default":null}"#,
            false => "}",
        });
    }
    out.push_str("]}");
    Ok(())
}

fn of_field(out: &mut String, field: &Field, name: &str) -> Result<(), String> {
    if !field.is_nullable() {
        return of_type(out, field.data_type(), name);
    }
    out.push_str(r#"["null","#);
    of_type(out, field.data_type(), name)?;
    out.push(']');
    Ok(())
}

fn of_type(out: &mut String, data_type: &DataType, name: &str) -> Result<(), String> {
    let end = match data_type {
        DataType::Boolean => r#""boolean""#,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => r#""int""#,
        DataType::Int64 => r#""long""#,
        DataType::Float32 => r#""float""#,
        DataType::Float64 => r#""double""#,
        DataType::Utf8 => r#""string""#,
        DataType::Binary => r#""bytes""#,
        DataType::Date32 => r#"{"type":"int","logicalType":"date"}"#,
        DataType::Time32(_) => r#"{"type":"int","logicalType":"time-millis"}"#,
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            r#"{"type":"long","logicalType":"timestamp-millis"}"#
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            r#"{"type":"long","logicalType":"timestamp-micros"}"#
        }
        DataType::Timestamp(..) => {
            return Err("Avro holds timestamps to the microsecond: say TIMESTAMP(6)".to_string());
        }
        DataType::Decimal128(precision, scale) => {
            write(
                out,
                format_args!(
                    r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
                ),
            );
            return Ok(());
        }
        DataType::List(item) => {
            out.push_str(r#"{"type":"array","items":"#);
            of_field(out, item, name)?;
            "}"
        }
        DataType::Map(..) => {
            out.push_str(r#"{"type":"map","values":"#);
            of_field(out, map_value(data_type)?, name)?;
            "}"
        }
        DataType::Struct(fields) => return record(out, fields, name, None),
        other => return Err(format!("Avro has nothing for {}", flink_name(other))),
    };
    out.push_str(end);
    Ok(())
}

/// The values of a map, whose keys are texts in Avro.
fn map_value(map: &DataType) -> Result<&Field, String> {
    if let DataType::Map(entries, _) = map
        && let DataType::Struct(pair) = entries.data_type()
        && let [key, value] = &pair[..]
        && *key.data_type() == DataType::Utf8
    {
        return Ok(value);
    }
    Err("the keys of a MAP have to be STRING in Avro".to_string())
}

/// Writing into a text cannot fail.
fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Whether a schema is for rows with these columns, as Flink judges it: the same fields in the same order, of the types that the columns have.
/// Text may be an enum, and bytes a fixed.
pub fn fits(schema: &Schema, fields: &Fields) -> Result<(), String> {
    row_fits(schema, &schema.root, fields)
}

fn row_fits(schema: &Schema, of: &Type, fields: &Fields) -> Result<(), String> {
    let Some(record) = schema.record(of) else {
        return Err(format!("{} is no record", schema.describe(of)));
    };
    for (at, field) in fields.iter().enumerate() {
        let column = field.name();
        match record.get(at).map(|there| &there.name) {
            Some(name) if name == column => {}
            Some(name) => {
                return Err(format!(
                    "field '{name}' stands where column '{column}' does"
                ));
            }
            None => return Err(format!("there is no field for column '{column}'")),
        }
        field_fits(schema, &record[at].of, field)
            .map_err(|what| format!("field '{column}': {what}"))?;
    }
    match record.get(fields.len()) {
        Some(more) => Err(format!("there is no column for field '{}'", more.name)),
        None => Ok(()),
    }
}

fn field_fits(schema: &Schema, of: &Type, field: &Field) -> Result<(), String> {
    let (inner, nullable) = without_null(of);
    if field.is_nullable() && !nullable {
        return Err(
            "it cannot be null and the column can be NULL: declare that NOT NULL".to_string(),
        );
    }
    let data_type = field.data_type();
    let fits = match (inner, data_type) {
        (Type::Array(of), DataType::List(item)) => return field_fits(schema, of, item),
        (Type::Map(of), DataType::Map(..)) => return field_fits(schema, of, map_value(data_type)?),
        (Type::Named(number), _) => match (&schema.named(*number).definition, data_type) {
            (Definition::Record(_), DataType::Struct(fields)) => {
                return row_fits(schema, inner, fields);
            }
            (Definition::Enum(_), DataType::Utf8) => true,
            (Definition::Fixed { meaning, .. }, _) => bytes_fit(*meaning, data_type),
            _ => false,
        },
        (Type::Bytes(meaning), _) => bytes_fit(*meaning, data_type),
        (Type::Boolean, DataType::Boolean)
        | (Type::Float, DataType::Float32)
        | (Type::Double, DataType::Float64)
        | (Type::String, DataType::Utf8)
        | (Type::Int(Meaning::Plain), DataType::Int8 | DataType::Int16 | DataType::Int32)
        | (Type::Int(Meaning::Date), DataType::Date32)
        | (Type::Int(Meaning::Time(_)), DataType::Time32(_))
        | (Type::Long(Meaning::Plain), DataType::Int64) => true,
        (Type::Long(Meaning::Timestamp(one)), DataType::Timestamp(other, _)) => one == other,
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "{} is not for a column that is {}",
            schema.describe(inner),
            flink_name(data_type)
        )),
    }
}

fn bytes_fit(meaning: Meaning, data_type: &DataType) -> bool {
    match (meaning, data_type) {
        (Meaning::Decimal { precision, scale }, DataType::Decimal128(p, s)) => {
            precision == u64::from(*p) && scale == i32::from(*s)
        }
        (Meaning::Plain, DataType::Binary) => true,
        _ => false,
    }
}

/// The type beside null, where that is what a union is for.
fn without_null(of: &Type) -> (&Type, bool) {
    match of {
        Type::Union(branches) => match &branches[..] {
            [Type::Null, inner] | [inner, Type::Null] => (inner, true),
            [inner] => (inner, false),
            _ => (of, branches.contains(&Type::Null)),
        },
        _ => (of, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn field(name: &str, data_type: DataType, nullable: bool) -> Arc<Field> {
        Arc::new(Field::new(name, data_type, nullable))
    }

    fn map(value: DataType) -> DataType {
        let pair = Fields::from(vec![
            field("key", DataType::Utf8, false),
            field("value", value, true),
        ]);
        DataType::Map(field("entries", DataType::Struct(pair), false), false)
    }

    #[test]
    fn columns_become_the_schema_that_flink_makes() {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let point = Fields::from(vec![
            field("lat", DataType::Float64, true),
            field("tags", map(DataType::Int32), false),
        ]);
        let fields = Fields::from(vec![
            field("id", DataType::Int64, false),
            field("small", DataType::Int8, true),
            field("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            field("seen", zoned, false),
            field("day", DataType::Date32, false),
            field("clock", DataType::Time32(TimeUnit::Millisecond), false),
            field("price", DataType::Decimal128(10, 2), false),
            field(
                "stops",
                DataType::List(field("item", DataType::Struct(point), true)),
                false,
            ),
        ]);
        let expected = concat!(
            r#"{"type":"record","name":"record","namespace":"org.apache.flink.avro.generated","fields":["#,
            r#"{"name":"id","type":"long"},"#,
            r#"{"name":"small","type":["null","int"],"default":null},"#,
            r#"{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},"#,
            r#"{"name":"seen","type":{"type":"long","logicalType":"timestamp-micros"}},"#,
            r#"{"name":"day","type":{"type":"int","logicalType":"date"}},"#,
            r#"{"name":"clock","type":{"type":"int","logicalType":"time-millis"}},"#,
            r#"{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},"#,
            r#"{"name":"stops","type":{"type":"array","items":["null",{"type":"record","name":"record_stops","fields":["#,
            r#"{"name":"lat","type":["null","double"],"default":null},"#,
            r#"{"name":"tags","type":{"type":"map","values":["null","int"]}}]}]}}]}"#,
        );
        let text = of_columns(&fields).unwrap();
        assert_eq!(text, expected);
        let schema = Schema::parse(&text, &[]).unwrap();
        assert_eq!(fits(&schema, &fields), Ok(()), "it is for its own columns");
    }

    #[test]
    fn what_avro_cannot_hold_is_named() {
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let numbered = DataType::Map(
            field(
                "entries",
                DataType::Struct(Fields::from(vec![
                    field("key", DataType::Int32, false),
                    field("value", DataType::Int32, true),
                ])),
                false,
            ),
            false,
        );
        for (name, data_type, expected) in [
            ("at", nanos, "column 'at': Avro holds timestamps"),
            ("a-b", DataType::Int32, "column 'a-b': Avro's names"),
            ("m", numbered, "column 'm': the keys of a MAP"),
        ] {
            let fields = Fields::from(vec![field(name, data_type, true)]);
            let error = of_columns(&fields).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_schema_of_the_users_own_has_to_be_for_the_columns() {
        let fields = Fields::from(vec![
            field("id", DataType::Int64, false),
            field("kind", DataType::Utf8, true),
        ]);
        let record =
            |fields: &str| format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
        let id = r#"{"name":"id","type":"long"}"#;
        let kind = r#"{"name":"kind","type":["null",{"type":"enum","name":"k","symbols":["A"]}]}"#;
        for (schema, expected) in [
            (record(&format!("{id},{kind}")), ""),
            (record(id), "no field for column 'kind'"),
            (
                record(&format!("{kind},{id}")),
                "field 'kind' stands where column 'id' does",
            ),
            (
                record(&format!(r#"{id},{{"name":"kind","type":"string"}}"#)),
                "field 'kind': it cannot be null",
            ),
            (
                record(&format!(r#"{{"name":"id","type":"int"}},{kind}"#)),
                "field 'id': int is not for a column that is BIGINT",
            ),
            (
                record(&format!(r#"{id},{kind},{{"name":"x","type":"int"}}"#)),
                "no column for field 'x'",
            ),
            (r#""long""#.to_string(), "long is no record"),
        ] {
            let schema = Schema::parse(&schema, &[]).unwrap();
            match fits(&schema, &fields) {
                Ok(()) => assert_eq!(expected, ""),
                Err(error) => {
                    assert!(!expected.is_empty() && error.contains(expected), "{error}");
                }
            }
        }
    }
}
