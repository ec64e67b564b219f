//! Where one record of a text file ends and the next begins.

use crate::error::{Error, Result};
use crate::sql::Table;
use crate::sql::csv::{CsvOptions, Wrong};

/// How a CSV table quotes; a line break inside quotes belongs to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quoting {
    pub quote: u8,
    pub delimiter: u8,
    pub escape: Option<u8>,
    /// Whether a record that begins with # is a comment, in which quotes mean nothing.
    pub comments: bool,
}

impl Quoting {
    /// What the table's `csv.*` options say; `None` where quotes mean nothing.
    pub fn of(table: &Table) -> Result<Option<Self>> {
        let options = CsvOptions::of(|name| table.options.get(&format!("csv.{name}")));
        let options = options.map_err(|Wrong { option, what }| {
            Error::job(format!(
                "table '{}', option 'csv.{option}': {what}",
                table.name
            ))
        })?;
        // They are ASCII where fields are quoted.
        let byte = |char: char| u8::try_from(char).ok();
        Ok(options.quote.and_then(byte).map(|quote| Quoting {
            quote,
            delimiter: byte(options.delimiter).unwrap_or(b','),
            escape: options.escape.and_then(byte),
            comments: options.comments,
        }))
    }
}

/// Finds the ends of records in bytes that come in pieces.
pub(super) struct Splitter {
    quoting: Option<Quoting>,
    state: State,
    /// How much of the record that is under way was looked at already.
    seen: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Comment,
    Plain,
    Quoted,
    /// Behind a quote inside quotes: the end of the field, or the first half of a doubled quote.
    QuoteInQuoted,
    /// The next character is taken as it is; then this state goes on.
    Escaped {
        quoted: bool,
    },
}

impl Splitter {
    pub fn new(quoting: Option<Quoting>) -> Self {
        Splitter {
            quoting,
            state: State::RecordStart,
            seen: 0,
        }
    }

    /// Forgets the record that is under way: it was the last, and had no line break.
    pub fn reset(&mut self) {
        self.state = State::RecordStart;
        self.seen = 0;
    }

    /// The length of the record at the start of `bytes`, with its line break; `None` while its end is not there. The next
    /// call is given the same bytes and more, or what follows the record.
    pub fn record(&mut self, bytes: &[u8]) -> Option<usize> {
        let fresh = &bytes[self.seen..];
        let end = match &self.quoting {
            None => fresh.iter().position(|byte| *byte == b'\n'),
            Some(quoting) => fresh.iter().position(|byte| {
                let ends = *byte == b'\n'
                    && matches!(
                        self.state,
                        State::RecordStart
                            | State::FieldStart
                            | State::Comment
                            | State::Plain
                            | State::QuoteInQuoted
                    );
                self.state = if ends {
                    State::RecordStart
                } else {
                    self.state.after(*byte, quoting)
                };
                ends
            }),
        };
        match end {
            Some(at) => {
                let length = self.seen + at + 1;
                self.seen = 0;
                Some(length)
            }
            None => {
                self.seen = bytes.len();
                None
            }
        }
    }
}

impl State {
    fn after(self, byte: u8, quoting: &Quoting) -> State {
        match self {
            State::Comment => State::Comment,
            State::RecordStart if quoting.comments && byte == b'#' => State::Comment,
            State::Escaped { quoted: true } => State::Quoted,
            State::Escaped { quoted: false } => State::Plain,
            State::Quoted if Some(byte) == quoting.escape => State::Escaped { quoted: true },
            State::Quoted if byte == quoting.quote => State::QuoteInQuoted,
            State::Quoted => State::Quoted,
            State::QuoteInQuoted if byte == quoting.quote => State::Quoted,
            _ if byte == quoting.delimiter => State::FieldStart,
            _ if Some(byte) == quoting.escape => State::Escaped { quoted: false },
            State::RecordStart | State::FieldStart if byte == quoting.quote => State::Quoted,
            _ => State::Plain,
        }
    }
}

/// A record's bytes without its line break.
pub(super) fn without_break(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a text that comes in pieces of `step` bytes.
    fn split(text: &str, quoting: Option<Quoting>, step: usize) -> Vec<String> {
        let mut splitter = Splitter::new(quoting);
        let (mut records, mut pending) = (Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(step) {
            pending.extend_from_slice(piece);
            while let Some(length) = splitter.record(&pending) {
                let record: Vec<u8> = pending.drain(..length).collect();
                records.push(String::from_utf8(without_break(&record).to_vec()).unwrap());
            }
        }
        records.push(String::from_utf8(pending).unwrap());
        records
    }

    #[test]
    fn quoted_line_breaks_belong_to_the_record() {
        let csv = || {
            Some(Quoting {
                quote: b'"',
                delimiter: b',',
                escape: None,
                comments: true,
            })
        };
        let escaping = || {
            Some(Quoting {
                quote: b'\'',
                delimiter: b';',
                escape: Some(b'\\'),
                comments: false,
            })
        };
        let cases: &[(&str, Option<Quoting>, &[&str])] = &[
            ("a\r\nb\n\nc", None, &["a", "b", "", "c"]),
            ("\"a\nb\n", None, &["\"a", "b", ""]),
            ("1,\"a\nb\",2\n3,c\n", csv(), &["1,\"a\nb\",2", "3,c", ""]),
            (
                "\"say \"\"hi\"\"\n\"\nx\n",
                csv(),
                &["\"say \"\"hi\"\"\n\"", "x", ""],
            ),
            (
                "# say, \"hi\nx,\"#\n\"\n",
                csv(),
                &["# say, \"hi", "x,\"#\n\"", ""],
            ),
            ("5\" pipe\nx\n", csv(), &["5\" pipe", "x", ""]),
            ("\"a\" ,b\nc\n", csv(), &["\"a\" ,b", "c", ""]),
            ("'a\\'\nb';c\nd\n", escaping(), &["'a\\'\nb';c", "d", ""]),
        ];
        for (text, quoting, expected) in cases {
            for step in 1..=text.len() {
                assert_eq!(
                    &split(text, quoting.clone(), step),
                    expected,
                    "{text:?} by {step}"
                );
            }
        }
    }
}
