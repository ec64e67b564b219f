//! Hive's words for types, as a catalog keeps them.

use crate::error::{Error, Result};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

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
}
