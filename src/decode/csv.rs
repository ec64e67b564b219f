//! Flink's `csv` format: one record is one line, or several where quotes hold the line breaks.
//!
//! Fields are found by their place among the table's physical columns. A record with another number of fields is
//! malformed. An empty record, a comment and a header are nothing to decode.

use super::columns::{Column, Row};
use super::fault::{Fault, Parsed, shown};
use super::text::{self, TimeStyle};
use super::time::Standard;
use super::{Format, Value};
use crate::sql::csv::CsvOptions;

/// Dates and times are written as in SQL.
const STYLE: TimeStyle = TimeStyle {
    standard: Standard::Sql,
    short_times: true,
};

/// What the options of the format say.
#[derive(Debug, Clone)]
pub struct Csv {
    pub written: CsvOptions,
    /// A value that does not fit becomes NULL, and so do fields that are missing at the end.
    pub ignore_parse_errors: bool,
    /// The record at offset 0 is a header.
    pub header: bool,
    /// For each field of a record the column that it goes to, if any.
    pub targets: Vec<Option<usize>>,
}

impl Format for Csv {
    fn read(&mut self, value: Value, columns: &mut Row, rows: usize) -> Parsed<usize> {
        if self.header && value.offset == 0 {
            return Ok(0);
        }
        let text = value.text()?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || (self.written.comments && line.starts_with('#')) {
            return Ok(0);
        }
        let mut fields = 0;
        let mut rest = Some(0);
        while let Some(start) = rest {
            let (field, next) = self.field(line, start)?;
            let target = self
                .targets
                .get(fields)
                .ok_or_else(|| self.wrong_count(line))?;
            if let Some(at) = target {
                let name = columns.names.name(*at);
                self.append(&field, start, &mut columns.fields[*at])
                    .map_err(|fault| fault.within(name))?;
            }
            fields += 1;
            rest = next;
        }
        if fields < self.targets.len() && !self.ignore_parse_errors {
            return Err(self.wrong_count(line));
        }
        for (at, column) in columns.fields.iter_mut().enumerate() {
            if column.len() == rows {
                column.append_null();
            }
            if column.required && column.ends_with_null() {
                return Err(Fault::missing(
                    columns.names.name(at),
                    "NULL, but the column is NOT NULL",
                ));
            }
        }
        Ok(1)
    }
}

impl Csv {
    fn append(&self, field: &str, start: usize, column: &mut Column) -> Parsed {
        if self.written.null.as_deref() == Some(field) {
            column.append_null();
            return Ok(());
        }
        let len = column.len();
        match text::append(&mut column.values, field, STYLE) {
            Ok(true) => column.appended(),
            Ok(false) => column.append_null(),
            Err(text::Unfit) if self.ignore_parse_errors => {
                column.truncate(len);
                column.append_null();
            }
            Err(text::Unfit) => {
                let expected = text::expected(&column.values, STYLE);
                return Err(Fault::value(
                    Some(start),
                    format!("{} is not {expected}", shown(field)),
                ));
            }
        }
        Ok(())
    }

    /// The text of the field that starts here, and where the next one starts.
    fn field<'a>(
        &self,
        line: &'a str,
        start: usize,
    ) -> Parsed<(std::borrow::Cow<'a, str>, Option<usize>)> {
        let CsvOptions {
            delimiter,
            quote,
            escape,
            ..
        } = self.written;
        let rest = &line[start..];
        let quoted = quote.filter(|quote| rest.starts_with(*quote));
        if quoted.is_none() && escape.is_none() {
            let end = rest.find(delimiter);
            let next = end.map(|end| start + end + delimiter.len_utf8());
            return Ok((rest[..end.unwrap_or(rest.len())].into(), next));
        }
        let mut text = String::new();
        let mut inside = quoted.is_some();
        let mut closed = false;
        let mut chars = rest.char_indices().skip(usize::from(inside)).peekable();
        while let Some((at, char)) = chars.next() {
            if !inside && char == delimiter {
                return Ok((text.into(), Some(start + at + char.len_utf8())));
            }
            if closed {
                if char == ' ' {
                    continue;
                }
                let what = format!(
                    "expected {:?} behind a field in quotes, found {char:?}",
                    delimiter
                );
                return Err(Fault::syntax(start + at, what));
            }
            if Some(char) == escape {
                let Some((_, escaped)) = chars.next() else {
                    return Err(Fault::syntax(
                        start + at,
                        "nothing stands behind the escape character",
                    ));
                };
                text.push(match escaped {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
            } else if inside && Some(char) == quoted {
                // Two quotes inside quotes are one quote.
                if chars.next_if(|(_, next)| Some(*next) == quoted).is_some() {
                    text.push(char);
                } else {
                    (inside, closed) = (false, true);
                }
            } else {
                text.push(char);
            }
        }
        if inside {
            return Err(Fault::syntax(start, "a field in quotes does not end"));
        }
        Ok((text.into(), None))
    }

    #[cold]
    fn wrong_count(&self, line: &str) -> Box<Fault> {
        let mut found = 0;
        let mut rest = Some(0);
        while let Some(start) = rest {
            found += 1;
            rest = self.field(line, start).ok().and_then(|(_, next)| next);
        }
        let columns = self.targets.len();
        Fault::syntax(
            line.len(),
            format!("the record has {found} fields, the table {columns} columns"),
        )
    }
}
