//! Java's date patterns (`yyyy-MM-dd HH:mm`), compiled once and used for a whole column.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike};
use std::fmt::Write;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
    /// Moments in the same span of this many microseconds have the same text.
    span: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(String),
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Year,
    Quarter,
    Month,
    Day,
    DayOfYear,
    Weekday,
    HalfDay,
    Hour24,
    Hour12,
    /// 1 to 24, where midnight is 24.
    HourFrom1,
    /// 0 to 11.
    HourOfHalf,
    Minute,
    Second,
    Fraction,
}

/// How far a text may be off its pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Strict,
    /// As Java's DateTimeFormatter: a month may have 31 days, the last of which are its last one.
    Smart,
    /// As Java's SimpleDateFormat: numbers may have fewer digits or more, what a unit has too many of runs over into the next one, and what stands
    /// behind is passed over.
    Lenient,
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

impl Pattern {
    /// Compiles a pattern, or says what in it is not supported.
    pub(crate) fn compile(text: &str) -> Result<Pattern, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut span = DAY;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                literal(&mut pieces, &quoted(&mut chars, text)?);
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                let field = Field::of(c).ok_or_else(|| {
                    format!("the letter {c} is not supported in the date pattern '{text}'")
                })?;
                span = span.min(field.span(count));
                pieces.push(Piece::Field(field, count));
            } else {
                literal(&mut pieces, c.encode_utf8(&mut [0; 4]));
            }
        }
        Ok(Pattern { pieces, span })
    }

    /// Which span of time a moment is in; all moments of one span have the same text.
    pub(super) fn span_of(&self, micros: i64) -> i64 {
        micros.div_euclid(self.span)
    }

    /// Whether moments of one microsecond can have different texts.
    pub(super) fn shows_nanos(&self) -> bool {
        let is_fine = |piece: &Piece| matches!(piece, Piece::Field(Field::Fraction, 7..));
        self.pieces.iter().any(is_fine)
    }

    /// Appends the text of a moment in UTC: microseconds since 1970, and the nanoseconds behind them.
    pub(crate) fn format(&self, micros: i64, nanos: u32, out: &mut String) {
        let behind = TimeDelta::nanoseconds(i64::from(nanos));
        let Some(at) = DateTime::from_timestamp_micros(micros)
            .and_then(|micros| micros.checked_add_signed(behind))
        else {
            return;
        };
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Field(field, count) => field.write(&at.naive_utc(), *count, out),
            }
        }
    }

    /// The moment that a text names, in microseconds since 1970, or none when it does not follow the pattern.
    pub(crate) fn parse(&self, text: &str, reading: Reading) -> Option<i64> {
        let mut parts = Parts::default();
        let mut rest = text;
        for (i, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Piece::Field(field, count) => {
                    let followed = matches!(self.pieces.get(i + 1), Some(Piece::Field(..)));
                    rest = field.read(rest, *count, followed, reading, &mut parts)?;
                }
            }
        }
        match reading {
            Reading::Lenient => parts.rolled_over(),
            _ if !rest.is_empty() => None,
            Reading::Strict => parts.moment(),
            Reading::Smart => parts.clamped().moment(),
        }
    }
}

/// Adds to the literal that the pattern ends with so far.
fn literal(pieces: &mut Vec<Piece>, text: &str) {
    if let Some(Piece::Literal(last)) = pieces.last_mut() {
        last.push_str(text);
    } else {
        pieces.push(Piece::Literal(text.to_owned()));
    }
}

/// The text up to the closing quote; two quotes are one.
fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    text: &str,
) -> Result<String, String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Ok("'".into());
    }
    let mut result = String::new();
    while let Some(c) = chars.next() {
        if c != '\'' {
            result.push(c);
        } else if chars.next_if_eq(&'\'').is_some() {
            result.push('\'');
        } else {
            return Ok(result);
        }
    }
    Err(format!(
        "a quote is not closed in the date pattern '{text}'"
    ))
}

impl Field {
    fn of(letter: char) -> Option<Field> {
        Some(match letter {
            'y' | 'u' => Field::Year,
            'Q' | 'q' => Field::Quarter,
            'M' | 'L' => Field::Month,
            'd' => Field::Day,
            'D' => Field::DayOfYear,
            'E' => Field::Weekday,
            'a' => Field::HalfDay,
            'H' => Field::Hour24,
            'h' => Field::Hour12,
            'k' => Field::HourFrom1,
            'K' => Field::HourOfHalf,
            'm' => Field::Minute,
            's' => Field::Second,
            'S' => Field::Fraction,
            _ => return None,
        })
    }

    fn span(self, count: usize) -> i64 {
        match self {
            Field::Year | Field::Quarter | Field::Month | Field::Day => DAY,
            Field::DayOfYear | Field::Weekday => DAY,
            Field::HalfDay | Field::Hour24 | Field::Hour12 => HOUR,
            Field::HourFrom1 | Field::HourOfHalf => HOUR,
            Field::Minute => MINUTE,
            Field::Second => SECOND,
            Field::Fraction => 10_i64.pow(6_u32.saturating_sub(count as u32)),
        }
    }

    fn write(self, at: &chrono::NaiveDateTime, count: usize, out: &mut String) {
        let number = match self {
            Field::Year if count == 2 => i64::from(at.year().rem_euclid(100)),
            Field::Year => i64::from(at.year()),
            Field::Quarter => i64::from(at.month0() / 3 + 1),
            Field::Month if count >= 3 => {
                return name(MONTHS[at.month0() as usize], count, out);
            }
            Field::Month => i64::from(at.month()),
            Field::Day => i64::from(at.day()),
            Field::DayOfYear => i64::from(at.ordinal()),
            Field::Weekday => {
                return name(
                    WEEKDAYS[at.weekday().num_days_from_monday() as usize],
                    count,
                    out,
                );
            }
            Field::HalfDay => return out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
            Field::Hour24 => i64::from(at.hour()),
            Field::Hour12 => i64::from(at.hour12().1),
            Field::HourFrom1 => i64::from((at.hour() + 23) % 24 + 1),
            Field::HourOfHalf => i64::from(at.hour() % 12),
            Field::Minute => i64::from(at.minute()),
            Field::Second => i64::from(at.second()),
            Field::Fraction => {
                let digits = format!("{:09}", at.nanosecond());
                out.push_str(&digits[..count.min(9)]);
                return;
            }
        };
        // Writing into a String cannot fail.
        let _ = write!(out, "{number:0count$}");
    }

    /// Takes the field from the front of a text. Where another field follows at once, it takes exactly its own digits.
    fn read<'a>(
        self,
        text: &'a str,
        count: usize,
        followed: bool,
        reading: Reading,
        parts: &mut Parts,
    ) -> Option<&'a str> {
        let lenient = reading == Reading::Lenient;
        let text = match lenient {
            true => text.trim_start_matches([' ', '\t']),
            false => text,
        };
        if self == Field::HalfDay {
            let half = text.get(..2)?;
            parts.afternoon = Some(match half.to_ascii_uppercase().as_str() {
                "AM" => false,
                "PM" => true,
                _ => return None,
            });
            return Some(&text[2..]);
        }
        if self == Field::Weekday || (self == Field::Month && count >= 3) {
            let names: &[&str] = if self == Field::Weekday {
                &WEEKDAYS
            } else {
                &MONTHS
            };
            let short = |name: &&'static str| if count >= 4 { *name } else { &name[..3] };
            let at = names
                .iter()
                .position(|name| text.starts_with(short(name)))?;
            if self == Field::Month {
                parts.month = at as u32 + 1;
            }
            return Some(&text[short(&names[at]).len()..]);
        }
        let exact = followed || !lenient && (count > 1 || self == Field::Fraction);
        let most = match self {
            Field::Year if count != 2 && !followed => 9,
            _ if exact => count,
            _ => 9,
        };
        let least = if exact { count } else { 1 };
        let digits = text
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if digits < least {
            return None;
        }
        let number: u32 = text[..digits].parse().ok()?;
        if lenient && self == Field::Fraction {
            // There it is a number of milliseconds.
            parts.micros = number.checked_mul(1000)?;
        } else {
            parts.set(self, number, digits, count);
        }
        Some(&text[digits..])
    }
}

fn name(name: &str, count: usize, out: &mut String) {
    out.push_str(if count >= 4 { name } else { &name[..3] });
}

/// What was read of a moment.
#[derive(Debug)]
struct Parts {
    year: i32,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    hour12: Option<u32>,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    micros: u32,
}

impl Default for Parts {
    fn default() -> Self {
        Parts {
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            hour12: None,
            afternoon: None,
            minute: 0,
            second: 0,
            micros: 0,
        }
    }
}

impl Parts {
    fn set(&mut self, field: Field, number: u32, digits: usize, count: usize) {
        match field {
            Field::Year if count == 2 && digits == 2 => self.year = 2000 + number as i32,
            Field::Year => self.year = number as i32,
            Field::Month => self.month = number,
            Field::Day => self.day = number,
            Field::DayOfYear => self.day_of_year = Some(number),
            Field::Hour24 => self.hour = number,
            Field::HourFrom1 => self.hour = if number == 24 { 0 } else { number },
            Field::Hour12 => self.hour12 = Some(if number == 12 { 0 } else { number }),
            Field::HourOfHalf => self.hour12 = Some(number),
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
            Field::Fraction => {
                let shift = 6 - digits.min(9) as i32;
                self.micros = if shift >= 0 {
                    number * 10_u32.pow(shift.unsigned_abs())
                } else {
                    number / 10_u32.pow(shift.unsigned_abs())
                };
            }
            Field::Quarter | Field::Weekday | Field::HalfDay => {}
        }
    }

    fn moment(&self) -> Option<i64> {
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(self.year, day)?,
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day)?,
        };
        let at = date.and_hms_micro_opt(self.hour(), self.minute, self.second, self.micros)?;
        Some(at.and_utc().timestamp_micros())
    }

    fn hour(&self) -> u32 {
        match (self.hour12, self.afternoon) {
            (Some(hour), Some(true)) => hour + 12,
            (Some(hour), _) => hour,
            (None, _) => self.hour,
        }
    }

    /// With the last day of its month for one that it does not have, up to the 31st.
    fn clamped(mut self) -> Parts {
        let exists = |day: &u32| NaiveDate::from_ymd_opt(self.year, self.month, *day).is_some();
        if self.day <= 31 {
            self.day = (1..=self.day).rev().find(exists).unwrap_or(self.day);
        }
        self
    }

    /// Day 32 is in the next month, month 13 in the next year.
    fn rolled_over(&self) -> Option<i64> {
        let (month, day) = match self.day_of_year {
            Some(day) => (1, day),
            None => (self.month, self.day),
        };
        let months = i64::from(self.year) * 12 + i64::from(month) - 1;
        let year = i32::try_from(months.div_euclid(12)).ok()?;
        let first = NaiveDate::from_ymd_opt(year, months.rem_euclid(12) as u32 + 1, 1)?;
        let days = i64::from(first.to_epoch_days()) + i64::from(day) - 1;
        let units = [
            (self.hour(), HOUR),
            (self.minute, MINUTE),
            (self.second, SECOND),
            (self.micros, 1),
        ];
        let of_day: i64 = units
            .iter()
            .map(|&(count, size)| i64::from(count) * size)
            .sum();
        let micros = days.checked_mul(DAY)?.checked_add(of_day)?;
        // What has no date is none.
        DateTime::from_timestamp_micros(micros).map(|at| at.timestamp_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-03-05 14:07:09.012345, a Tuesday.
    const AT: i64 = 1_709_647_629_012_345;

    #[test]
    fn formats_as_java_does() {
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-03-05 14:07:09"),
            ("yyyyMMdd'T'HHmmss.SSS", "20240305T140709.012"),
            ("yy/M/d", "24/3/5"),
            ("EEE, d MMM yyyy", "Tue, 5 Mar 2024"),
            ("EEEE MMMM", "Tuesday March"),
            ("hh:mm a", "02:07 PM"),
            ("K k H", "2 14 14"),
            ("D", "65"),
            ("Q", "1"),
            ("SSSSSS", "012345"),
            ("SSSSSSSSS", "012345678"),
            ("h 'o''clock'", "2 o'clock"),
            ("''yyyy''", "'2024'"),
        ] {
            let mut text = String::new();
            let compiled = Pattern::compile(pattern).unwrap();
            compiled.format(AT, 678, &mut text);
            assert_eq!(text, expected, "{pattern}");
        }
    }

    #[test]
    fn parses_what_it_formats() {
        for (pattern, text, expected) in [
            (
                "yyyy-MM-dd HH:mm:ss",
                "2024-03-05 14:07:09",
                Some("2024-03-05 14:07:09"),
            ),
            (
                "yyyyMMddHHmmss",
                "20240305140709",
                Some("2024-03-05 14:07:09"),
            ),
            (
                "d/M/yyyy h:mm a",
                "5/3/2024 2:07 PM",
                Some("2024-03-05 14:07:00"),
            ),
            ("d MMM yyyy", "5 Mar 2024", Some("2024-03-05 00:00:00")),
            ("yyyy-MM-dd", "2024-02-30", None),
            ("yyyy-MM-dd", "2024-03-05 ", None),
            ("yyyy-MM-dd", "24-3-5", None),
        ] {
            let micros = Pattern::compile(pattern)
                .unwrap()
                .parse(text, Reading::Strict);
            let shown = micros.map(|micros| {
                let at = DateTime::from_timestamp_micros(micros).unwrap();
                at.format("%Y-%m-%d %H:%M:%S").to_string()
            });
            assert_eq!(shown.as_deref(), expected, "{text} as {pattern}");
        }
    }

    #[test]
    fn an_unknown_letter_is_an_error() {
        assert!(
            Pattern::compile("yyyy-MM-dd z")
                .unwrap_err()
                .contains("letter z")
        );
        assert!(Pattern::compile("'open").unwrap_err().contains("quote"));
    }

    #[test]
    fn a_span_has_one_text() {
        let day = Pattern::compile("yyyy-MM-dd").unwrap();
        assert_eq!(day.span_of(AT), day.span_of(AT + 9 * HOUR));
        assert_ne!(day.span_of(AT), day.span_of(AT + 10 * HOUR));
        assert_eq!(day.span_of(-1), -1);
    }
}
