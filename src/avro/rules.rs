//! What the specification asks of a schema beyond its shape. A schema of the user's own is held to it before a registry refuses it; one that a
//! registry has is taken as it is.

use super::encode_default;
use super::schema::{Definition, Field, Named, Schema, is_name};
use std::collections::HashSet;

/// Names are made of letters, digits and `_`, what is named lies beside no other of its name, and defaults are of their field's type.
pub fn keeps_the_rules(schema: &Schema) -> Result<(), String> {
    for Named { name, definition } in schema.all_named() {
        name.split('.').try_for_each(is_a_name)?;
        match definition {
            Definition::Record(fields) => {
                distinct(fields.iter().map(|field| &field.name))
                    .and_then(|()| {
                        let mut fields = fields.iter();
                        fields.try_for_each(|field| field_keeps_them(schema, field))
                    })
                    .map_err(|what| format!("record {name}: {what}"))?;
            }
            Definition::Enum(symbols) => {
                let mut names = symbols.iter();
                names
                    .try_for_each(|symbol| is_a_name(symbol))
                    .and_then(|()| distinct(symbols.iter()))
                    .map_err(|what| format!("enum {name}: {what}"))?;
            }
            Definition::Fixed { .. } => {}
        }
    }
    Ok(())
}

fn field_keeps_them(schema: &Schema, field: &Field) -> Result<(), String> {
    is_a_name(&field.name)?;
    match &field.default {
        None => Ok(()),
        Some(default) => encode_default(schema, &field.of, default, &mut Vec::new())
            .map_err(|what| format!("field '{}': {what}", field.name)),
    }
}

fn is_a_name(name: &str) -> Result<(), String> {
    match is_name(name) {
        true => Ok(()),
        false => Err(format!(
            "'{name}' is no name: those have letters, digits and '_' only, and begin with no digit"
        )),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut names = names;
    match names.find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(twice) => Err(format!("the name '{twice}' is given twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_would_refuse_is_said() {
        let of = |definition: &str| {
            let schema = Schema::parse(definition, &[]).unwrap();
            keeps_the_rules(&schema)
        };
        let record = |name: &str, fields: &str| {
            format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
        };
        let int = |name: &str| format!(r#"{{"name":"{name}","type":"int"}}"#);
        let symbols =
            |symbols: &str| format!(r#"{{"type":"enum","name":"e","symbols":[{symbols}]}}"#);
        for (schema, expected) in [
            (record("r-x", &int("a")), "'r-x' is no name"),
            (record("a.2b.r", &int("a")), "'2b' is no name"),
            (record("r", &int("a-b")), "record r: 'a-b' is no name"),
            (
                record("r", &format!("{},{}", int("a"), int("a"))),
                "record r: the name 'a' is given twice",
            ),
            (
                record("r", r#"{"name":"a","type":"int","default":"x"}"#),
                r#"record r: field 'a': "x" is no default for int"#,
            ),
            (
                record(
                    "r",
                    &format!(
                        r#"{{"name":"a","type":{}}}"#,
                        record("inner", r#"{"name":"b","type":"string","default":1}"#)
                    ),
                ),
                "record inner: field 'b': 1 is no default for string",
            ),
            (
                record("r", r#"{"name":"a","type":"r","default":{}}"#),
                "has no end",
            ),
            (symbols(r#""A","b-c""#), "enum e: 'b-c' is no name"),
            (
                symbols(r#""A","B","A""#),
                "enum e: the name 'A' is given twice",
            ),
        ] {
            let error = of(&schema).unwrap_err();
            assert!(error.contains(expected), "{schema}: {error}");
        }
        let good = record(
            "a.b.r",
            r#"{"name":"a","type":["null",{"type":"enum","name":"e","symbols":["A"]}],"default":null}"#,
        );
        assert_eq!(of(&good), Ok(()));
    }
}
