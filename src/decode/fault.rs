//! What is wrong with one record.

use super::Reason;

/// The result of reading a part of a record. A fault is rare and boxed, so that the good way stays short.
pub type Parsed<T = ()> = Result<T, Box<Fault>>;

/// Why a record, or one value of it, is not what its table says.
#[derive(Debug)]
pub struct Fault {
    pub reason: Reason,
    /// The text around the value is whole: only this value is wrong, and the record can be read on behind it.
    pub value_only: bool,
    /// The column, with the fields of rows inside it behind dots.
    path: String,
    what: String,
    /// The byte of the record, counted from 0.
    at: Option<usize>,
}

impl Fault {
    /// The text cannot be read on.
    #[cold]
    pub fn syntax(at: usize, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            reason: Reason::Malformed,
            value_only: false,
            path: String::new(),
            what: what.into(),
            at: Some(at),
        })
    }

    /// A value is not of its column's type.
    #[cold]
    pub fn value(at: Option<usize>, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            reason: Reason::Malformed,
            value_only: true,
            path: String::new(),
            what: what.into(),
            at,
        })
    }

    /// A column has no value and must have one.
    #[cold]
    pub fn missing(column: &str, what: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            reason: Reason::MissingValue,
            value_only: false,
            path: column.to_owned(),
            what: what.into(),
            at: None,
        })
    }

    /// It happened inside this column, or field of a row.
    #[cold]
    pub fn within(mut self: Box<Self>, name: &str) -> Box<Fault> {
        self.path = match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{name}.{}", self.path),
        };
        self
    }

    /// The sentence for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push_str(&format!("column '{}': ", self.path));
        }
        text.push_str(&self.what);
        if let Some(at) = self.at {
            text.push_str(&format!(", at byte {at}"));
        }
        text
    }
}

/// A value as it may stand in a message: in quotes, not longer than a line can bear.
pub fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
