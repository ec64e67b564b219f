//! Hive's words, which Glue and Athena speak: types, names, and the values that folders are named after.

use crate::error::{Error, Result};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

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
pub fn rows(data_type: &DataType) -> Vec<&[Arc<Field>]> {
    let mut found = Vec::new();
    collect_rows(data_type, &mut found);
    found
}

fn collect_rows<'a>(data_type: &'a DataType, found: &mut Vec<&'a [Arc<Field>]>) {
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

/// Nobody nests types so deeply, and each level takes a piece of the stack.
const MAX_DEPTH: usize = 30;

/// The Arrow type that a column of this Hive type is read as: what Athena makes of it, so a timestamp has milliseconds and no zone.
pub fn data_type(text: &str) -> Result<DataType> {
    let mut reader = Reader {
        text,
        rest: text,
        depth: 0,
    };
    let read = reader.data_type()?;
    match reader.rest.trim() {
        "" => Ok(read),
        more => Err(reader.refuse(&format!(
            "nothing was expected behind it, and there is '{more}'"
        ))),
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn refuse(&self, why: &str) -> Error {
        Error::job(format!("the type '{}' cannot be read: {why}", self.text))
    }

    fn data_type(&mut self) -> Result<DataType> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.refuse("it is nested too deeply"));
        }
        let word = self.word().to_ascii_lowercase();
        let read = match word.as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" => DataType::Int8,
            "smallint" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "string" => DataType::Utf8,
            "varchar" | "char" => {
                self.numbers()?;
                DataType::Utf8
            }
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Millisecond, None),
            "decimal" => self.decimal()?,
            "array" => {
                self.expect('<')?;
                let item = Field::new("item", self.data_type()?, true);
                self.expect('>')?;
                DataType::List(Arc::new(item))
            }
            "map" => {
                self.expect('<')?;
                let key = Field::new("key", self.data_type()?, false);
                self.expect(',')?;
                let value = Field::new("value", self.data_type()?, true);
                self.expect('>')?;
                let entries = DataType::Struct(Fields::from(vec![key, value]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            "struct" => self.fields()?,
            "" => return Err(self.refuse("a type is missing")),
            other => return Err(self.refuse(&format!("'{other}' is not a type that Athena has"))),
        };
        self.depth -= 1;
        Ok(read)
    }

    fn fields(&mut self) -> Result<DataType> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let (name, rest) = self
                .rest
                .split_once(':')
                .ok_or_else(|| self.refuse("a field has the form name:type"))?;
            let name = name.trim().trim_matches('`');
            self.rest = rest;
            fields.push(Field::new(name, self.data_type()?, true));
            if !self.takes(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(DataType::Struct(fields.into()))
    }

    fn decimal(&mut self) -> Result<DataType> {
        let (precision, scale) = match self.numbers()?[..] {
            [] => (10, 0),
            [precision] => (precision, 0),
            [precision, scale] => (precision, scale),
            _ => return Err(self.refuse("a decimal has a precision and a scale")),
        };
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(self.refuse("a decimal has 1 to 38 digits, and no more behind the point"));
        }
        let scale = i8::try_from(scale).map_err(|_| self.refuse("the scale is too large"))?;
        Ok(DataType::Decimal128(precision, scale))
    }

    /// `(10, 2)`, or nothing.
    fn numbers(&mut self) -> Result<Vec<u8>> {
        if !self.takes('(') {
            return Ok(Vec::new());
        }
        let (inside, rest) = self
            .rest
            .split_once(')')
            .ok_or_else(|| self.refuse("a ')' is missing"))?;
        self.rest = rest;
        // Lengths of texts go beyond a byte, and say nothing about how they are read.
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let numbers: Option<Vec<u32>> = inside.split(',').map(number).collect();
        let numbers =
            numbers.ok_or_else(|| self.refuse("there is no number where one has to be"))?;
        Ok(numbers
            .into_iter()
            .map(|number| u8::try_from(number).unwrap_or(u8::MAX))
            .collect())
    }

    fn word(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    fn takes(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        match self.takes(wanted) {
            true => Ok(()),
            false => Err(self.refuse(&format!("a '{wanted}' is missing"))),
        }
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

    #[test]
    fn types_are_read() {
        let check = |text: &str, expected: &str| {
            let found = data_type(text).unwrap();
            assert_eq!(crate::sql::types::flink_name(&found), expected, "{text}");
        };
        check("INT", "INT");
        check("varchar(65535)", "STRING");
        check("decimal", "DECIMAL(10, 0)");
        check("decimal( 12 , 3 )", "DECIMAL(12, 3)");
        check("timestamp", "TIMESTAMP(3)");
        check(
            "struct<a: int,`b c`:array<struct<x:double>>, d:map<string,bigint>>",
            "ROW<a INT, `b c` ARRAY<ROW<x DOUBLE>>, d MAP<STRING, BIGINT>>",
        );
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for (text, why) in [
            ("", "a type is missing"),
            ("blob", "'blob' is not a type that Athena has"),
            ("array<int", "a '>' is missing"),
            ("array<int>>", "there is '>'"),
            ("struct<a>", "name:type"),
            ("decimal(39,0)", "1 to 38 digits"),
            ("decimal(x)", "no number"),
            ("map<string>", "a ',' is missing"),
        ] {
            let error = data_type(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let deep = "array<".repeat(100);
        assert!(data_type(&deep).unwrap_err().to_string().contains("deeply"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for text in [
            "string",
            "boolean",
            "tinyint",
            "smallint",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(38,0)",
            "decimal(20,4)",
            "date",
            "timestamp",
            "binary",
            "array<map<string,array<date>>>",
            "struct<latitude:double,tags:array<struct<k:string,v:binary>>,at:timestamp>",
        ] {
            assert_eq!(hive_type(&data_type(text).unwrap()), Ok(text.to_owned()));
        }
    }
}
