//! Hive's words, which Glue and Athena speak: types, names, and the values that folders are named after.

mod read;

pub use read::data_type;

use arrow::datatypes::{DataType, Field};

/// What Hive, and so Athena, takes for NULL where a partition's value stands.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest name of a database, a table or a column, in bytes.
pub const LONGEST_NAME: usize = 255;

/// The type of a column; or, where Athena has none, the type that is the trouble and what to do instead.
pub fn hive_type(data_type: &DataType) -> Result<String, (String, &'static str)> {
    Ok(match data_type {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, _) => "timestamp".into(),
        DataType::Binary => "binary".into(),
        DataType::List(item) => format!("array<{}>", hive_type(item.data_type())?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = fields[0].data_type();
                if key.is_nested() {
                    return Err((
                        crate::sql::types::flink_name(data_type),
                        "the keys of a map cannot be made of parts: make them a STRING",
                    ));
                }
                format!(
                    "map<{},{}>",
                    hive_type(key)?,
                    hive_type(fields[1].data_type())?
                )
            }
            _ => return Err(unknown(data_type)),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| {
                    let data_type = hive_type(field.data_type())?;
                    Ok(format!("{}:{data_type}", lower(field.name())))
                })
                .collect::<Result<_, _>>()?;
            format!("struct<{}>", fields.join(","))
        }
        other => return Err(unknown(other)),
    })
}

fn unknown(data_type: &DataType) -> (String, &'static str) {
    let instead = match data_type {
        DataType::Time32(_) | DataType::Time64(_) => {
            "make it a STRING, or a number of milliseconds"
        }
        _ => "make it a STRING",
    };
    (crate::sql::types::flink_name(data_type), instead)
}

/// A name as the catalog has it.
pub fn lower(name: &str) -> String {
    name.to_lowercase()
}

/// What is wrong with a name for a column, or for a field inside of one.
pub fn trouble_with_name(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        return Some(format!(
            "has {} bytes, and {LONGEST_NAME} are allowed",
            name.len()
        ));
    }
    if name.is_empty() {
        return Some("is empty".into());
    }
    let odd = name
        .chars()
        .find(|next| !next.is_alphanumeric() && *next != '_')?;
    Some(match odd {
        ' ' => "has a space in it".into(),
        odd => format!("has the character '{odd}' in it"),
    })
}

/// A comment as Glue takes it, which has an end.
pub fn comment(text: &str) -> Option<String> {
    let end = text.floor_char_boundary(LONGEST_NAME);
    Some(text[..end].to_owned()).filter(|text| !text.is_empty())
}

/// Two of some fields that are one in lower case.
pub fn clash<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<(&'a str, &'a str)> {
    for (at, name) in names.clone().enumerate() {
        if let Some(other) = names
            .clone()
            .take(at)
            .find(|other| lower(other) == lower(name))
        {
            return Some((other, name));
        }
    }
    None
}

/// Every ROW inside of a type, at whatever depth: the fields of each.
pub fn rows(data_type: &DataType) -> Vec<&[std::sync::Arc<Field>]> {
    let mut found = Vec::new();
    collect_rows(data_type, &mut found);
    found
}

fn collect_rows<'a>(data_type: &'a DataType, found: &mut Vec<&'a [std::sync::Arc<Field>]>) {
    match data_type {
        DataType::Struct(fields) => {
            found.push(fields);
            for field in fields {
                collect_rows(field.data_type(), found);
            }
        }
        DataType::List(item) => collect_rows(item.data_type(), found),
        DataType::Map(entries, _) => {
            // The entries are a struct too, but nobody gave its fields their names.
            if let DataType::Struct(fields) = entries.data_type() {
                for field in fields {
                    collect_rows(field.data_type(), found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;
    use crate::sql::{ColumnKind, Table};

    /// The type of a column that is declared so.
    fn declared(sql: &str) -> DataType {
        let text = format!("CREATE TABLE t (a {sql}) WITH ('connector' = 'blackhole');");
        let script = parse("t.sql", &text, &|_| None).unwrap();
        let table: &Table = &script.tables[0];
        match &table.columns[0].kind {
            ColumnKind::Physical { data_type, .. } => data_type.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_type_that_is_written_has_its_word() {
        for (sql, expected) in [
            ("STRING", "string"),
            ("VARCHAR(5)", "string"),
            ("CHAR(5)", "string"),
            ("BOOLEAN", "boolean"),
            ("TINYINT", "tinyint"),
            ("SMALLINT", "smallint"),
            ("INT", "int"),
            ("BIGINT", "bigint"),
            ("FLOAT", "float"),
            ("DOUBLE", "double"),
            ("DECIMAL(20, 4)", "decimal(20,4)"),
            ("DATE", "date"),
            ("TIMESTAMP(3)", "timestamp"),
            ("TIMESTAMP(9)", "timestamp"),
            ("TIMESTAMP_LTZ(6)", "timestamp"),
            ("BYTES", "binary"),
            ("ARRAY<INT NOT NULL>", "array<int>"),
            ("MAP<STRING, ARRAY<DATE>>", "map<string,array<date>>"),
            (
                "ROW<Latitude DOUBLE, tags ARRAY<ROW<k STRING, v BYTES>>>",
                "struct<latitude:double,tags:array<struct<k:string,v:binary>>>",
            ),
        ] {
            assert_eq!(hive_type(&declared(sql)), Ok(expected.to_owned()), "{sql}");
        }
    }

    #[test]
    fn what_has_no_word_is_named() {
        for (sql, trouble, instead) in [
            ("TIME(3)", "TIME", "milliseconds"),
            ("ARRAY<ROW<at TIME>>", "TIME", "milliseconds"),
            (
                "MAP<ROW<a INT>, INT>",
                "MAP<ROW<a INT>, INT>",
                "make them a STRING",
            ),
        ] {
            let (word, hint) = hive_type(&declared(sql)).unwrap_err();
            assert_eq!(word, trouble, "{sql}");
            assert!(hint.contains(instead), "{sql}: {hint}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(trouble_with_name("heart_rate_2"), None);
        assert_eq!(trouble_with_name("größe"), None);
        for name in ["a b", "a-b", "a.b", "a,b", "a:b", "<", ""] {
            assert!(trouble_with_name(name).is_some(), "{name}");
        }
        assert!(trouble_with_name(&"x".repeat(256)).is_some());
        assert_eq!(
            clash(["a", "Id", "b", "id"].into_iter()),
            Some(("Id", "id"))
        );
        assert_eq!(clash(["a", "b"].into_iter()), None);
        let nested = declared("ARRAY<ROW<a INT, m MAP<STRING, ROW<b INT>>>>");
        let names: Vec<Vec<&str>> = rows(&nested)
            .into_iter()
            .map(|fields| fields.iter().map(|field| field.name().as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["a", "m"], vec!["b"]]);
    }
}
