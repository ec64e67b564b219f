//! What can go wrong while a query is planned, and how a person is told.

use crate::error::Error;
use crate::sql::Place;
use crate::sql::refusal::{Refusal, did_you_mean, refuse};
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::logical_expr::Expr;

/// A query that cannot be planned: found by us, with its place, or by DataFusion, often without.
#[derive(Debug)]
pub enum Trouble {
    Refused(Refusal),
    DataFusion(Box<DataFusionError>),
}

pub type Planned<T> = Result<T, Trouble>;

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refused(refusal)
    }
}

impl From<DataFusionError> for Trouble {
    fn from(error: DataFusionError) -> Self {
        Trouble::DataFusion(Box::new(error))
    }
}

/// A refusal with its hint.
pub fn refused<T>(place: Place, message: impl Into<String>, hint: impl Into<String>) -> Planned<T> {
    Err(Refusal::new(place, message).hint(hint).into())
}

impl Trouble {
    /// The place that the trouble itself names.
    pub fn place(&self) -> Option<Place> {
        let place = match self {
            Trouble::Refused(refusal) => Some(refusal.place),
            Trouble::DataFusion(error) => place_of_error(error),
        };
        place.filter(|place| place.line > 0)
    }

    /// The error for the user; `place` is used where the trouble names none.
    pub fn into_error(self, path: &str, place: Place) -> Error {
        let place = self.place().unwrap_or(place);
        match self {
            Trouble::Refused(refusal) => refuse(path, place, refusal.message, refusal.hint),
            Trouble::DataFusion(error) => {
                let (message, hint) = words(&error);
                refuse(path, place, message, hint)
            }
        }
    }

    /// Two troubles with the same words are the same trouble.
    pub fn words(&self) -> String {
        match self {
            Trouble::Refused(refusal) => refusal.message.clone(),
            Trouble::DataFusion(error) => words(error).0,
        }
    }
}

fn place_of_error(error: &DataFusionError) -> Option<Place> {
    let start = match error {
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) => span.start,
            None => return place_of_error(inner),
        },
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. }
            | SchemaError::AmbiguousReference { field } => field.spans.first()?.start,
            _ => return None,
        },
        DataFusionError::Context(_, inner) => return place_of_error(inner),
        DataFusionError::Shared(inner) => return place_of_error(inner),
        DataFusionError::Collection(errors) => return errors.iter().find_map(place_of_error),
        _ => return None,
    };
    Some(Place {
        line: start.line,
        column: start.column,
    })
}

/// What is wrong, and what to do about it.
fn words(error: &DataFusionError) -> (String, String) {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => words(inner),
        DataFusionError::Shared(inner) => words(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => words(&errors[0]),
        DataFusionError::SchemaError(schema, _) => schema_words(schema),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => plain(text),
        DataFusionError::NotImplemented(text) => {
            let (text, _) = plain(text);
            (format!("this is not supported: {text}"), String::new())
        }
        other => plain(&other.strip_backtrace()),
    }
}

fn schema_words(error: &SchemaError) -> (String, String) {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let in_table = field
                .relation
                .as_ref()
                .map_or(String::new(), |of| format!(" in '{of}'"));
            let known: Vec<&str> = valid_fields
                .iter()
                .filter(|known| field.relation.is_none() || known.relation == field.relation)
                .map(|known| known.name.as_str())
                .collect();
            if let Some(of) = &field.relation
                && known.is_empty()
            {
                let all = valid_fields
                    .iter()
                    .filter_map(|known| known.relation.as_ref());
                let mut tables: Vec<&str> = all.map(|of| of.table()).collect();
                tables.dedup();
                let hint = did_you_mean(of.table(), tables.iter().copied());
                return (format!("there is no table '{}' here", of.table()), hint);
            }
            let hint = did_you_mean(&field.name, known.iter().copied());
            (
                format!("there is no column '{}'{}", field.name, in_table),
                hint,
            )
        }
        SchemaError::AmbiguousReference { field } => (
            format!(
                "the column '{}' is in more than one of the tables",
                field.name
            ),
            format!("write the table's name before it: t.{}", field.name),
        ),
        other => (
            other.to_string(),
            "give columns names of their own with AS".into(),
        ),
    }
}

/// The first line of a text, without DataFusion's own preamble.
fn plain(text: &str) -> (String, String) {
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first = [
        "Error during planning: ",
        "Execution error: ",
        "type_coercion caused by ",
    ]
    .iter()
    .fold(first, |text, preamble| {
        text.strip_prefix(preamble).unwrap_or(text)
    });
    if first.starts_with("Column in SELECT must be in GROUP BY") {
        let column = first.split('"').nth(1).unwrap_or_default();
        let message = format!("{column} is neither in GROUP BY nor in an aggregate");
        return (message, "add it to GROUP BY, or take MAX of it, say".into());
    }
    // What our own functions say of their arguments comes wrapped.
    let first = first
        .split_once("coercion failed with: Error during planning: ")
        .map_or(first, |(_, ours)| ours);
    let first = first
        .split_once(" No function matches")
        .map_or(first, |(ours, _)| ours);
    let first = &in_flinks_words(first.trim_end_matches('.'));
    // Our own texts carry what to do behind a semicolon.
    match first.split_once("; ") {
        Some((message, hint)) => (message.to_owned(), hint.to_owned()),
        None => (first.to_owned(), String::new()),
    }
}

/// The names of types as a job writes them.
fn in_flinks_words(text: &str) -> String {
    const TYPES: &[(&str, &str)] = &[
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Utf8", "STRING"),
        ("Boolean", "BOOLEAN"),
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("Float32", "FLOAT"),
        ("Float64", "DOUBLE"),
        ("List(", "ARRAY("),
        ("Struct(", "ROW("),
        ("Interval(MonthDayNano)", "INTERVAL"),
    ];
    TYPES.iter().fold(text.to_owned(), |text, (theirs, ours)| {
        text.replace(theirs, ours)
    })
}

/// Where an expression stands: the first of the columns that it reads.
pub fn place_of<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Option<Place> {
    let mut first: Option<Place> = None;
    for expr in exprs {
        for column in expr.column_refs() {
            let Some(span) = column.spans.first() else {
                continue;
            };
            let place = Place {
                line: span.start.line,
                column: span.start.column,
            };
            let earlier =
                first.is_none_or(|first| (place.line, place.column) < (first.line, first.column));
            if place.line > 0 && earlier {
                first = Some(place);
            }
        }
    }
    first
}

impl Trouble {
    /// The same trouble, at this place where it names none.
    pub fn or_at(self, place: Place) -> Trouble {
        if self.place().is_some() {
            return self;
        }
        match self {
            Trouble::Refused(refusal) => Trouble::Refused(Refusal { place, ..refusal }),
            Trouble::DataFusion(error) => {
                let (message, hint) = words(&error);
                Trouble::Refused(Refusal::new(place, message).hint(hint))
            }
        }
    }
}
