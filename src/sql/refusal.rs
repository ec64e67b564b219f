//! How a job file is refused: where, what is wrong, and what to write instead.

use super::Place;
use crate::error::Error;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use std::fmt;

/// A refusal before it is known which file it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub place: Place,
    pub message: String,
    /// What to write instead; empty where there is nothing to say.
    pub hint: String,
}

/// What reading a part of a job file gives.
pub type Parsed<T> = Result<T, Refusal>;

/// The error for something in a job file that cannot be run: `file:line:column: message`, and below it the hint.
pub fn refuse(
    path: &str,
    place: Place,
    message: impl fmt::Display,
    hint: impl fmt::Display,
) -> Error {
    let hint = hint.to_string();
    // What was said on the command line, or by nobody, stands nowhere in the file.
    let mut text = match place.line {
        0 => format!("{path}: {message}"),
        _ => format!("{path}:{place}: {message}"),
    };
    if !hint.is_empty() {
        text.push_str("\n  hint: ");
        text.push_str(&hint);
    }
    Error::job(text)
}

impl Refusal {
    pub fn new(place: impl Into<Place>, message: impl Into<String>) -> Refusal {
        Refusal {
            place: place.into(),
            message: message.into(),
            hint: String::new(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = hint.into();
        self
    }

    pub fn in_file(&self, path: &str) -> Error {
        refuse(path, self.place, &self.message, &self.hint)
    }

    /// The same as a warning, in one line.
    pub fn warning(&self, path: &str) -> String {
        let text = self.in_file(path).to_string();
        text.replacen("\n  hint: ", "; ", 1)
    }

    /// What sqlparser says, with its place taken out of the text: `Expected: x, found: y at Line: 1, Column: 2`.
    /// Where it names none, the place is `end`.
    pub fn from_parser(error: &ParserError, end: Place) -> Refusal {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return Refusal::new(end, "the statement is nested too deeply")
                    .hint("give a name to the inner part with CREATE VIEW");
            }
        };
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, parse_place(place).unwrap_or(end)),
            None => (text.as_str(), end),
        };
        let message = message
            .replace("Expected: ", "expected ")
            .replace("Expected an ", "expected an ")
            .replace(", found: EOF", ", found the end of the statement")
            .replace(", found: ", ", found ");
        Refusal::new(place, message)
    }
}

fn parse_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    let place = Place {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    };
    (place.line > 0).then_some(place)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl From<Location> for Place {
    fn from(at: Location) -> Place {
        Place {
            line: at.line,
            column: at.column,
        }
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Place {
        span.start.into()
    }
}

impl Place {
    /// This place, or `other` where the tree knows none.
    pub fn or(self, other: Place) -> Place {
        if self.line == 0 { other } else { self }
    }
}

/// The name among `known` that a mistyped one was most likely meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, candidate)| {
            // Up to a third of the letters may differ: more than that is another name, not a slip.
            *distance
                <= candidate
                    .chars()
                    .count()
                    .max(wanted.chars().count())
                    .div_ceil(3)
        })
        .map(|(_, candidate)| candidate)
}

/// `did you mean 'x'?`, or else what there is.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean '{near}'?");
    }
    let known: Vec<_> = known.into_iter().collect();
    if known.is_empty() {
        String::new()
    } else {
        format!("there are: {}", known.join(", "))
    }
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_file_the_place_and_the_way_out() {
        let error = Refusal::new(Place { line: 3, column: 7 }, "no such table 'x'")
            .hint("did you mean 'y'?")
            .in_file("jobs/a.sql");
        assert_eq!(
            error.to_string(),
            "jobs/a.sql:3:7: no such table 'x'\n  hint: did you mean 'y'?"
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_parsers_own_message_loses_its_place() {
        let error = ParserError::ParserError(
            "Expected: an expression, found: EOF at Line: 2, Column: 9".to_owned(),
        );
        assert_eq!(
            Refusal::from_parser(&error, Place::default()),
            Refusal::new(
                Place { line: 2, column: 9 },
                "expected an expression, found the end of the statement"
            )
        );
    }

    #[test]
    fn the_nearest_name_is_a_slip_away() {
        let known = ["path", "format", "topic-pattern", "topic"];
        assert_eq!(nearest("fromat", known), Some("format"));
        assert_eq!(nearest("TOPIC", known), Some("topic"));
        assert_eq!(nearest("compression", known), None);
        assert_eq!(did_you_mean("zzz", ["a", "b"]), "there are: a, b");
    }
}
