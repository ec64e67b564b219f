//! The job file: a subset of Flink SQL, read into statements whose every option and column is known.
//!
//! Guarantee: what is not supported is refused, with its place in the file and what to write instead; nothing is passed over
//! in silence. Whatever the text is, reading it ends with a script or an error.

pub mod connectors;
pub mod csv;
pub mod formats;
pub mod functions;
pub mod options;
pub mod queries;
pub mod refusal;
pub mod types;
pub mod values;

mod allowed;
mod ddl;
mod intervals;
mod json_forms;
pub(crate) mod names;
mod statements;
mod syntax;
mod text;

#[cfg(test)]
mod tests;

use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in the job file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A whole job file, in the order of its statements.
pub struct Script {
    /// The path as the user wrote it, for messages.
    pub path: String,
    pub settings: Vec<Setting>,
    pub tables: Vec<Arc<Table>>,
    pub views: Vec<View>,
    pub inserts: Vec<Insert>,
    /// Options that were given and change nothing, each with its place, for the user to read.
    pub warnings: Vec<String>,
}

/// `SET 'key' = 'value'`.
#[derive(Debug, Clone)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub place: Place,
}

/// `CREATE TABLE`.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub watermark: Option<WatermarkClause>,
    pub primary_key: Vec<String>,
    pub partitioned_by: Vec<String>,
    pub options: Options,
    pub comment: Option<String>,
    pub place: Place,
}

impl Table {
    /// A table made by hand, for tests and benchmarks: columns that are stored and may be NULL.
    pub fn of<'a>(
        name: &str,
        columns: impl IntoIterator<Item = (&'a str, DataType)>,
        options: Options,
    ) -> Table {
        let place = Place::default();
        let columns = columns.into_iter().map(|(name, data_type)| Column {
            name: name.to_owned(),
            kind: ColumnKind::Physical {
                data_type,
                not_null: false,
            },
            comment: None,
            place,
        });
        Table {
            name: name.to_owned(),
            columns: columns.collect(),
            watermark: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            options,
            comment: None,
            place,
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Where an option was given; the table's own place where it was not.
    pub fn option_place(&self, key: &str) -> Place {
        self.options
            .entries
            .get(key)
            .map_or(self.place, |entry| entry.place)
    }
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    pub comment: Option<String>,
    pub place: Place,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a job has a few dozen of them")]
pub enum ColumnKind {
    /// Read from, or written to, the format.
    Physical { data_type: DataType, not_null: bool },
    /// `METADATA [FROM 'key'] [VIRTUAL]`.
    Metadata {
        data_type: DataType,
        key: String,
        is_virtual: bool,
    },
    /// `name AS expression`.
    Computed { expr: ast::Expr },
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkClause {
    pub column: String,
    pub expr: ast::Expr,
    pub place: Place,
}

/// `CREATE [TEMPORARY] VIEW`.
pub struct View {
    pub name: String,
    /// New names for the query's columns, where given.
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub place: Place,
}

/// `INSERT INTO`.
pub struct Insert {
    pub table: String,
    /// The columns to fill, where given.
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub place: Place,
}

/// The options of a WITH clause, each with its place.
#[derive(Debug, Default, Clone)]
pub struct Options {
    pub entries: BTreeMap<String, OptionValue>,
}

#[derive(Debug, Clone)]
pub struct OptionValue {
    pub value: String,
    pub place: Place,
}

impl Options {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.value.as_str())
    }
}

/// Reads a job file. `variable` gives the values for `${NAME}`.
pub fn parse(path: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Script> {
    statements::script(path, text, variable).map_err(|refusal| refusal.in_file(path))
}
