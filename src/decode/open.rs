//! From a table's options to its decoder.

use super::avro::Avro;
use super::columns::Row;
use super::csv::Csv;
use super::json::Json;
use super::keyed::Keyed;
use super::raw::Raw;
use super::run::{OnError, Run};
use super::time::Standard;
use super::{Decoder, Format};
use crate::avro::Schema;
use crate::error::{Error, Result};
use crate::registry;
use crate::sql::csv::CsvOptions;
use crate::sql::{ColumnKind, Table};
use arrow::datatypes::{DataType, SchemaRef};

/// A decoder for some of a table's physical columns: `schema` has those to decode, and `required` says which of them are
/// NOT NULL. Options that the format does not have are refused.
pub fn open(table: &Table, schema: SchemaRef, required: &[bool]) -> Result<Box<dyn Decoder>> {
    match Keyed::open(table, &schema, required)? {
        Some(keyed) => Ok(Box::new(keyed)),
        None => single(table, Part::Value, schema, required),
    }
}

/// The key of a record, or its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
}

/// A decoder for columns of one part.
pub fn single(
    table: &Table,
    part: Part,
    schema: SchemaRef,
    required: &[bool],
) -> Result<Box<dyn Decoder>> {
    let options = FormatOptions::of(table, part)?;
    let mut columns = Row::new(schema.fields()).map_err(|error| options.at(error))?;
    for (column, required) in columns.fields.iter_mut().zip(required) {
        column.required |= required;
    }
    let run = Making {
        table: table.name.clone(),
        schema: schema.clone(),
        columns,
    };
    Ok(match options.format {
        "json" => {
            let (format, on_error) = json(&options)?;
            run.of(format, on_error)
        }
        "csv" => {
            let (format, on_error) = csv(&options, &schema)?;
            run.of(format, on_error)
        }
        "raw" => run.of(raw(&options)?, OnError::Keep),
        registry::FORMAT if part == Part::Key => {
            let what = "keys of this format are not read; those of json, csv and raw are";
            return Err(options.error(options.key, what));
        }
        registry::FORMAT => {
            let own = own_schema(&options)?;
            run.of(Avro::new(schema.fields().clone(), own), OnError::Keep)
        }
        other => {
            let key = options.key;
            return Err(options.error(
                key,
                format!("there is no format '{other}' to read; there are json, csv, raw and avro-confluent"),
            ));
        }
    })
}

/// What a decoder is made of, whatever its format.
struct Making {
    table: String,
    schema: SchemaRef,
    columns: Row,
}

impl Making {
    fn of<F: Format + 'static>(self, format: F, on_error: OnError) -> Box<dyn Decoder> {
        Box::new(Run {
            table: self.table,
            format,
            schema: self.schema,
            columns: self.columns,
            on_error,
        })
    }
}

/// The columns that are in the keys of records only, each with its name there.
pub fn key_fields(table: &Table) -> Vec<(&str, &str)> {
    if !table.options.keys_apart() {
        return Vec::new();
    }
    let prefix = table.options.get("key.fields-prefix").unwrap_or_default();
    let keys = table.options.list("key.fields");
    let columns = keys.iter().filter_map(|key| {
        let column = table.columns.iter().find(|column| column.name == *key)?;
        let name = column.name.as_str();
        Some((name, name.strip_prefix(prefix).unwrap_or(name)))
    });
    columns.collect()
}

fn json(options: &FormatOptions) -> Result<(Json, OnError)> {
    // The writer's options may stand on a table that is also read.
    options.only(&[
        "fail-on-missing-field",
        "ignore-parse-errors",
        "timestamp-format.standard",
        "map-null-key.mode",
        "map-null-key.literal",
        "encode.decimal-as-plain-number",
        "encode.ignore-null-fields",
        "decode.json-parser.enabled",
    ])?;
    let (_, standard) = match options.get("timestamp-format.standard") {
        None => Standard::NAMES[0],
        Some(given) => *Standard::NAMES
            .iter()
            .find(|(name, _)| *name == given)
            .ok_or_else(|| {
                let names = Standard::NAMES.map(|(name, _)| name).join(", ");
                options.error(
                    "timestamp-format.standard",
                    format!("'{given}' is none of {names}"),
                )
            })?,
    };
    let fail_on_missing_field = options.flag("fail-on-missing-field")?.unwrap_or(false);
    let on_error = options.on_error()?;
    let ignore_parse_errors = on_error == OnError::Ignore;
    if fail_on_missing_field && ignore_parse_errors {
        let what = "cannot be true together with ignore-parse-errors: choose one";
        return Err(options.error("fail-on-missing-field", what));
    }
    Ok((
        Json {
            standard,
            fail_on_missing_field,
            ignore_parse_errors,
        },
        on_error,
    ))
}

fn csv(options: &FormatOptions, schema: &SchemaRef) -> Result<(Csv, OnError)> {
    options.only(&[
        "field-delimiter",
        "quote-character",
        "disable-quote-character",
        "escape-character",
        "null-literal",
        "ignore-parse-errors",
        "allow-comments",
        "write-bigdecimal-in-scientific-notation",
    ])?;
    for field in schema.fields() {
        if field.data_type().is_nested() {
            let what = format!(
                "column '{}' is nested, which a CSV record cannot hold",
                field.name()
            );
            return Err(options.at(Error::job(what)));
        }
    }
    let written = CsvOptions::of(|name| options.get(name))
        .map_err(|wrong| options.error(wrong.option, wrong.what))?;
    let targets = options
        .physical()
        .map(|(name, _)| schema.index_of(name).ok())
        .collect();
    let on_error = options.on_error()?;
    let header = "tributary.csv.header";
    let format = Csv {
        written,
        ignore_parse_errors: on_error == OnError::Ignore,
        header: options.part == Part::Value
            && truth(options.table.options.get(header))
                .map_err(|what| options.full_error(header, what))?
                .unwrap_or(false),
        targets,
    };
    Ok((format, on_error))
}

/// The schema that the user has given; it was compared with the columns when the job was read.
fn own_schema(options: &FormatOptions) -> Result<Option<Schema>> {
    options.only(registry::KNOWN)?;
    let schema = options.get("schema").map(|text| Schema::parse(text, &[]));
    schema
        .transpose()
        .map_err(|what| options.error("schema", what))
}

fn raw(options: &FormatOptions) -> Result<Raw> {
    options.only(&["charset", "endianness"])?;
    let physical: Vec<_> = options.physical().collect();
    let &[(name, data_type)] = physical.as_slice() else {
        let what = format!(
            "the raw format is for exactly one column, here are {}",
            physical.len()
        );
        return Err(options.error(options.key, what));
    };
    let plain = matches!(
        data_type,
        DataType::Utf8 | DataType::Binary | DataType::Boolean
    );
    if !plain && (!data_type.is_numeric() || matches!(data_type, DataType::Decimal128(..))) {
        let what = format!("the raw format cannot hold the type of column '{name}'");
        return Err(options.error(options.key, what));
    }
    if let Some(charset) = options
        .get("charset")
        .filter(|charset| !charset.eq_ignore_ascii_case("UTF-8"))
    {
        return Err(options.error(
            "charset",
            format!("only UTF-8 can be read, not '{charset}'"),
        ));
    }
    let little_endian = match options.get("endianness") {
        None | Some("big-endian") => false,
        Some("little-endian") => true,
        Some(other) => {
            return Err(options.error(
                "endianness",
                format!("'{other}' is neither big-endian nor little-endian"),
            ));
        }
    };
    Ok(Raw { little_endian })
}

/// The options of a table that concern its format.
struct FormatOptions<'a> {
    table: &'a Table,
    part: Part,
    /// `format`, `value.format` or `key.format`, as the table has it.
    key: &'static str,
    format: &'a str,
    /// What stands before the names of the format's options: `json.`, `value.json.` or `key.json.`.
    prefix: String,
}

impl<'a> FormatOptions<'a> {
    fn of(table: &'a Table, part: Part) -> Result<FormatOptions<'a>> {
        let keys: &[&'static str] = match part {
            Part::Key => &["key.format"],
            Part::Value => &["value.format", "format"],
        };
        let found = keys
            .iter()
            .copied()
            .find_map(|key| Some((key, table.options.get(key)?)));
        let Some((key, format)) = found else {
            let what = format!(
                "table '{}' (line {}): the option 'format' is missing",
                table.name, table.place.line
            );
            return Err(Error::job(what));
        };
        let part_of = key.strip_suffix("format").unwrap_or_default();
        Ok(FormatOptions {
            table,
            part,
            key,
            format,
            prefix: format!("{part_of}{format}."),
        })
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.table.options.get(&format!("{}{name}", self.prefix))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        truth(self.get(name)).map_err(|what| self.error(name, what))
    }

    fn on_error(&self) -> Result<OnError> {
        Ok(match self.flag("ignore-parse-errors")? {
            None => OnError::Keep,
            Some(true) => OnError::Ignore,
            Some(false) => OnError::Fail(format!("{}ignore-parse-errors", self.prefix)),
        })
    }

    /// Refuses what begins like an option of the format and is none.
    fn only(&self, known: &[&str]) -> Result<()> {
        let mut names = self
            .table
            .options
            .entries
            .keys()
            .filter_map(|key| key.strip_prefix(&self.prefix));
        // What ends in a dot begins many.
        let knows = |name: &&str| {
            let covers = |known: &&str| known.ends_with('.') && name.starts_with(*known);
            known.contains(name) || known.iter().any(covers)
        };
        match names.find(|name| !knows(name)) {
            Some(name) => {
                let what = format!(
                    "is not an option that can be read with; there are {}",
                    known.join(", ")
                );
                Err(self.error(name, what))
            }
            None => Ok(()),
        }
    }

    /// The columns that this part of a record holds, in their order there, by their names there. A partition column's value is in the
    /// file's path, not in its records.
    fn physical(&self) -> impl Iterator<Item = (&'a str, &'a DataType)> {
        let table = self.table;
        let of_key = key_fields(table);
        let stored = table
            .columns
            .iter()
            .filter_map(|column| match &column.kind {
                ColumnKind::Physical { data_type, .. } => Some((column.name.as_str(), data_type)),
                _ => None,
            });
        let columns: Vec<_> = match self.part {
            Part::Value => stored
                .filter(|(name, _)| !table.partitioned_by.iter().any(|p| p == name))
                .filter(|(name, _)| !of_key.iter().any(|(key, _)| key == name))
                .collect(),
            Part::Key => of_key
                .iter()
                .filter_map(|(name, there)| {
                    let (_, data_type) = stored.clone().find(|(column, _)| column == name)?;
                    Some((*there, data_type))
                })
                .collect(),
        };
        columns.into_iter()
    }

    /// What is wrong with the format's option of this name.
    fn error(&self, name: &str, what: impl std::fmt::Display) -> Error {
        if name == self.key {
            self.full_error(name, what)
        } else {
            self.full_error(&format!("{}{name}", self.prefix), what)
        }
    }

    fn full_error(&self, key: &str, what: impl std::fmt::Display) -> Error {
        let place = self
            .table
            .options
            .entries
            .get(key)
            .map_or(self.table.place, |entry| entry.place);
        let table = &self.table.name;
        Error::job(format!(
            "{}:{}: table '{table}', option '{key}': {what}",
            place.line, place.column
        ))
    }

    fn at(&self, error: Error) -> Error {
        error.at(format!(
            "{}:{}: table '{}'",
            self.table.place.line, self.table.place.column, self.table.name
        ))
    }
}

fn truth(given: Option<&str>) -> Result<Option<bool>, String> {
    match given {
        None => Ok(None),
        Some(given) if given.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(given) if given.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(given) => Err(format!("'{given}' is neither true nor false")),
    }
}
