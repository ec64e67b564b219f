//! Flink's `json` format, straight into columns.
//!
//! The plan is the row of columns itself: each field of an object finds its column, and the column's type says what is
//! read. What no column wants is stepped over. Values are taken as Flink takes them (see `text.rs` for values in
//! quotes); an object or array for a STRING is its JSON text without white space. A field that is not there is NULL.
//! Where a name appears twice in an object, the last one counts.
//!
//! Stricter than Flink: nothing may stand behind the document, and half a surrogate pair is no character.

use super::columns::{Column, Row, Values, note_replaced, offset};
use super::fault::{Fault, Parsed, shown};
use super::names::Names;
use super::number::Number;
use super::quoted::Quoted;
use super::scan::Scan;
use super::text::{self, TimeStyle, Unfit};
use super::time::Standard;
use super::{Format, Value};

/// What the options of the format say.
#[derive(Debug, Clone, Copy)]
pub struct Json {
    pub standard: Standard,
    /// A field that is not in the record is an error.
    pub fail_on_missing_field: bool,
    /// A value that does not fit becomes NULL.
    pub ignore_parse_errors: bool,
}

impl Format for Json {
    fn read(&mut self, value: Value, columns: &mut Row, rows: usize) -> Parsed<usize> {
        // Flink takes an empty message for none.
        if value.bytes.is_empty() {
            return Ok(0);
        }
        let mut reader = Reader {
            scan: Scan::new(value.text()?),
            rules: self,
        };
        let read = match reader.scan.next_token() {
            b'{' => {
                reader.object(columns, rows)?;
                1
            }
            b'[' => reader.rows(columns, rows)?,
            _ => return Err(reader.scan.wrong("an object or an array of objects")),
        };
        reader.scan.end()?;
        Ok(read)
    }
}

struct Reader<'a> {
    scan: Scan<'a>,
    rules: &'a Json,
}

impl Reader<'_> {
    /// A top-level array is a row for each of its objects.
    fn rows(&mut self, columns: &mut Row, mut rows: usize) -> Parsed<usize> {
        let before = rows;
        self.elements(|reader| {
            match reader.scan.next_token() {
                b'{' => {
                    reader.object(columns, rows)?;
                    rows += 1;
                }
                b'n' => reader.scan.word("null")?,
                _ => return Err(reader.scan.wrong("an object in the array of rows")),
            }
            Ok(())
        })?;
        Ok(rows - before)
    }

    /// Reads `[..]`, calling `element` at each of its elements.
    #[inline]
    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Parsed) -> Parsed {
        self.scan.step();
        if self.scan.next_token() == b']' {
            self.scan.step();
            return Ok(());
        }
        loop {
            element(self)?;
            match self.scan.next_token() {
                b',' => self.scan.step(),
                b']' => {
                    self.scan.step();
                    return Ok(());
                }
                _ => return Err(self.scan.wrong("',' or ']'")),
            }
        }
    }

    /// Reads `{..}`, calling `member` behind the opening brace and behind each comma, where a name must stand.
    #[inline]
    fn members(&mut self, mut member: impl FnMut(&mut Self) -> Parsed) -> Parsed {
        self.scan.step();
        if self.scan.next_token() == b'}' {
            self.scan.step();
            return Ok(());
        }
        loop {
            member(self)?;
            match self.scan.next_token() {
                b',' => {
                    self.scan.step();
                    self.scan.next_token();
                }
                b'}' => {
                    self.scan.step();
                    return Ok(());
                }
                _ => return Err(self.scan.wrong("',' or '}'")),
            }
        }
    }

    /// Reads an object into a row that has `len` values already.
    fn object(&mut self, row: &mut Row, len: usize) -> Parsed {
        let Row {
            names,
            habit,
            fields,
        } = row;
        let (mut lead, mut first, mut next) = (0, true, 0);
        loop {
            let start = self.scan.at();
            let field = match habit.expected(lead, first) {
                // What was read before as the way from one value to the next is so again.
                Some((text, field)) if self.scan.take(text) => {
                    habit.confirm();
                    lead += 1;
                    field
                }
                _ => {
                    let Some(field) = self.lead(names, first, next)? else {
                        break;
                    };
                    lead = habit.learn(lead, first, self.scan.since(start), field);
                    field
                }
            };
            first = false;
            let Some(at) = field else {
                self.scan.skip()?;
                continue;
            };
            next = at + 1;
            let column = &mut fields[at];
            if column.len() > len {
                column.truncate(len);
            }
            self.value(column)
                .map_err(|fault| fault.within(names.name(at)))?;
        }
        for (at, column) in fields.iter_mut().enumerate() {
            if column.len() == len {
                if self.rules.fail_on_missing_field {
                    let what = "the field is missing, which 'json.fail-on-missing-field' refuses";
                    return Err(Fault::value(None, what).within(names.name(at)));
                }
                column.append_null();
            }
            if column.required && column.ends_with_null() {
                return Err(Fault::missing(
                    names.name(at),
                    "NULL or missing, but the column is NOT NULL",
                ));
            }
        }
        Ok(())
    }

    /// Steps from the brace, or from the value before, to the next value of an object. Says which field it is, if it is one that a column
    /// wants; nothing at the end of the object, which is stepped over.
    fn lead(&mut self, names: &Names, first: bool, next: usize) -> Parsed<Option<Option<usize>>> {
        if first {
            self.scan.step();
        }
        match (self.scan.next_token(), first) {
            (b'}', _) => {
                self.scan.step();
                return Ok(None);
            }
            (_, true) => {}
            (b',', false) => {
                self.scan.step();
                self.scan.next_token();
            }
            (_, false) => return Err(self.scan.wrong("',' or '}'")),
        }
        let name = self.scan.string()?;
        let field = match name.escaped {
            false => names.find(name.raw.as_bytes(), next),
            true => names.find(&unescaped(name)?, next),
        };
        self.scan.colon()?;
        self.scan.next_token();
        Ok(Some(field))
    }

    /// Reads one value. With `ignore_parse_errors` one that does not fit is NULL.
    #[inline]
    fn value(&mut self, column: &mut Column) -> Parsed {
        let len = column.len();
        self.scan.next_token();
        let start = self.scan.at();
        match self.strict_value(column) {
            Err(fault) if fault.value_only && self.rules.ignore_parse_errors => {
                column.truncate(len);
                self.scan.return_to(start);
                self.scan.skip()?;
                column.append_null();
                Ok(())
            }
            read => read,
        }
    }

    #[inline]
    fn strict_value(&mut self, column: &mut Column) -> Parsed {
        match self.scan.peek() {
            b'"' => {
                let string = self.scan.string()?;
                self.string(string, column)
            }
            b'-' | b'0'..=b'9' => {
                let start = self.scan.at();
                let number = self.scan.number()?;
                self.number(number, start, column)
            }
            b'{' => self.braces(column),
            b'[' => self.brackets(column),
            b't' => self.truth(true, column),
            b'f' => self.truth(false, column),
            b'n' => {
                self.scan.word("null")?;
                column.append_null();
                Ok(())
            }
            _ => Err(self.scan.wrong("a value")),
        }
    }

    #[inline]
    fn string(&self, string: Quoted, column: &mut Column) -> Parsed {
        if let Values::String(strings) = &mut column.values {
            string.append_to(&mut strings.bytes)?;
            strings.end();
            column.appended();
            return Ok(());
        }
        if !string.escaped {
            let appended = text::append(&mut column.values, string.raw, self.style());
            return self.appended(appended, column, string.at, string.raw);
        }
        // What was valid UTF-8 with its escapes is so without them.
        let text = String::from_utf8(unescaped(string)?).unwrap_or_default();
        let appended = text::append(&mut column.values, &text, self.style());
        self.appended(appended, column, string.at, &text)
    }

    #[inline]
    fn number(&self, number: Number, start: usize, column: &mut Column) -> Parsed {
        let appended = text::append_number(&mut column.values, number, self.style());
        self.appended(appended, column, start, number.text)
    }

    #[inline]
    fn appended(
        &self,
        appended: Result<bool, Unfit>,
        column: &mut Column,
        at: usize,
        text: &str,
    ) -> Parsed {
        match appended {
            Ok(true) => column.appended(),
            Ok(false) => column.append_null(),
            Err(Unfit) => return Err(self.unfit(column, at, text)),
        }
        Ok(())
    }

    fn truth(&mut self, value: bool, column: &mut Column) -> Parsed {
        let start = self.scan.at();
        let word = if value { "true" } else { "false" };
        self.scan.word(word)?;
        match &mut column.values {
            Values::Boolean(values) => values.append(value),
            Values::String(strings) => strings.push(word.as_bytes()),
            _ => return Err(self.unfit(column, start, word)),
        }
        column.appended();
        Ok(())
    }

    fn braces(&mut self, column: &mut Column) -> Parsed {
        let len = column.len();
        match &mut column.values {
            Values::Row(row) => self.object(row, len)?,
            Values::Map {
                ends,
                keys,
                values,
                replaced,
            } => {
                let first = values.len();
                self.members(|reader| {
                    let key = reader.scan.string()?;
                    key.append_to(&mut keys.bytes)?;
                    keys.end();
                    reader.scan.colon()?;
                    reader.element(values)
                })?;
                note_replaced(keys, first, values.len(), replaced);
                ends.push(offset(values.len()));
            }
            _ => return self.nested_text(column),
        }
        column.appended();
        Ok(())
    }

    fn brackets(&mut self, column: &mut Column) -> Parsed {
        match &mut column.values {
            Values::Array { ends, items } => {
                self.elements(|reader| reader.element(items))?;
                ends.push(offset(items.len()));
                column.appended();
                Ok(())
            }
            _ => self.nested_text(column),
        }
    }

    fn element(&mut self, column: &mut Column) -> Parsed {
        let at = self.scan.at();
        self.value(column)?;
        if column.required && column.ends_with_null() {
            return Err(Fault::value(Some(at), "an element is NULL and must not be"));
        }
        Ok(())
    }

    /// An object or array as a STRING.
    fn nested_text(&mut self, column: &mut Column) -> Parsed {
        let start = self.scan.at();
        self.scan.skip()?;
        let text = self.scan.since(start);
        let Values::String(strings) = &mut column.values else {
            return Err(self.unfit(column, start, text));
        };
        append_compact(text, &mut strings.bytes);
        strings.end();
        column.appended();
        Ok(())
    }

    fn style(&self) -> TimeStyle {
        TimeStyle {
            standard: self.rules.standard,
            short_times: false,
        }
    }

    #[cold]
    fn unfit(&self, column: &Column, at: usize, text: &str) -> Box<Fault> {
        let expected = text::expected(&column.values, self.style());
        Fault::value(Some(at), format!("{} is not {expected}", shown(text)))
    }
}

fn unescaped(string: Quoted) -> Parsed<Vec<u8>> {
    let mut text = Vec::with_capacity(string.raw.len());
    string.append_to(&mut text)?;
    Ok(text)
}

/// JSON text without the white space between its tokens.
fn append_compact(text: &str, out: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        if quoted || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            out.push(byte);
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
    }
}
