//! Dates and times as Flink's text formats write them.
//!
//! Impossible dates are refused in every form, where Flink's SQL form would make the 29th of February of the 30th.

use arrow::datatypes::TimeUnit;

/// `json.timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// `2024-03-01 12:30:00.123`, and with `Z` behind it for TIMESTAMP_LTZ.
    Sql,
    /// The same with `T` in the middle; seconds may be left out.
    Iso,
    /// `2024-03-01T12:30:00.123+01:00` or with `Z`, for both types.
    IsoWithOffset,
}

impl Standard {
    /// The option's values.
    pub const NAMES: [(&'static str, Standard); 3] = [
        ("SQL", Standard::Sql),
        ("ISO-8601", Standard::Iso),
        ("ISO-8601-WITH-OFFSET", Standard::IsoWithOffset),
    ];

    /// What a timestamp looks like, for a message.
    pub fn example(self, zoned: bool) -> &'static str {
        match (self, zoned) {
            (Standard::Sql, false) => "2024-03-01 12:30:00.123",
            (Standard::Sql, true) => "2024-03-01 12:30:00.123Z",
            (Standard::Iso, false) => "2024-03-01T12:30:00.123",
            (Standard::Iso, true) => "2024-03-01T12:30:00.123Z",
            (Standard::IsoWithOffset, _) => "2024-03-01T12:30:00.123+01:00",
        }
    }
}

/// A timestamp in the column's unit; digits that the unit cannot hold are cut off. With a zone it is a moment in UTC.
pub fn timestamp(text: &str, standard: Standard, zoned: bool, unit: TimeUnit) -> Option<i64> {
    let mut text = Text(text.as_bytes());
    let days = text.date()?;
    text.one_of(if standard == Standard::Sql {
        b"  "
    } else {
        b"Tt"
    })?;
    let clock = text.clock(standard != Standard::Sql)?;
    let offset = match (standard, zoned) {
        (Standard::IsoWithOffset, _) => text.offset()?,
        (_, true) => {
            text.one_of(if standard == Standard::Sql {
                b"ZZ"
            } else {
                b"Zz"
            })?;
            0
        }
        (_, false) => 0,
    };
    text.end()?;
    let seconds = i64::from(days) * 86_400 + i64::from(clock.seconds) - i64::from(offset);
    let nanos = i64::from(clock.nanos);
    match unit {
        TimeUnit::Second => Some(seconds),
        TimeUnit::Millisecond => Some(seconds * 1_000 + nanos / 1_000_000),
        TimeUnit::Microsecond => Some(seconds * 1_000_000 + nanos / 1_000),
        // Nanoseconds reach from 1677 to 2262 only.
        TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos),
    }
}

/// `2024-03-01` in days since 1970-01-01.
pub fn date(text: &str) -> Option<i32> {
    let mut text = Text(text.as_bytes());
    let days = text.date()?;
    text.end()?;
    Some(days)
}

/// `12:30:00.123` in milliseconds of the day.
pub fn time(text: &str, seconds_optional: bool) -> Option<i32> {
    let mut text = Text(text.as_bytes());
    let clock = text.clock(seconds_optional)?;
    text.end()?;
    i32::try_from(clock.seconds * 1_000 + clock.nanos / 1_000_000).ok()
}

struct Clock {
    seconds: u32,
    nanos: u32,
}

/// What is left to be read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    #[inline]
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    #[inline]
    fn one_of(&mut self, either: &[u8; 2]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        either.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    #[inline]
    fn digits<const N: usize>(&mut self) -> Option<u32> {
        let (digits, rest) = self.0.split_first_chunk::<N>()?;
        let mut number = 0;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + u32::from(digit);
        }
        self.0 = rest;
        Some(number)
    }

    #[inline]
    fn date(&mut self) -> Option<i32> {
        let year = self.digits::<4>()?;
        self.one_of(b"--")?;
        let month = self.digits::<2>()?;
        self.one_of(b"--")?;
        let day = self.digits::<2>()?;
        (day >= 1 && day <= days_of_month(year, month)?).then(|| days_since_1970(year, month, day))
    }

    #[inline]
    fn clock(&mut self, seconds_optional: bool) -> Option<Clock> {
        let hour = self.digits::<2>()?;
        self.one_of(b"::")?;
        let minute = self.digits::<2>()?;
        let (mut second, mut nanos) = (0, 0);
        if !seconds_optional || self.0.first() == Some(&b':') {
            self.one_of(b"::")?;
            second = self.digits::<2>()?;
            if self.one_of(b"..").is_some() {
                nanos = self.fraction()?;
            }
        }
        (hour < 24 && minute < 60 && second < 60).then_some(Clock {
            seconds: hour * 3_600 + minute * 60 + second,
            nanos,
        })
    }

    /// One to nine digits behind the point.
    #[inline]
    fn fraction(&mut self) -> Option<u32> {
        // What most producers write.
        let usual = match self.0.len() {
            3 => self.digits::<3>().map(|millis| millis * 1_000_000),
            6 => self.digits::<6>().map(|micros| micros * 1_000),
            _ => None,
        };
        if usual.is_some() {
            return usual;
        }
        let mut number = 0;
        let mut length = 0;
        while length < 9
            && let Some(digit) = self.digits::<1>()
        {
            number = number * 10 + digit;
            length += 1;
        }
        (length > 0).then(|| number * 10u32.pow(9 - length))
    }

    /// `Z`, `+01`, `+01:00` or `+01:00:00`, in seconds.
    fn offset(&mut self) -> Option<i32> {
        if self.one_of(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.digits::<2>()?;
        let mut rest = [0; 2];
        for part in &mut rest {
            if self.one_of(b"::").is_none() {
                break;
            }
            *part = self.digits::<2>()?;
        }
        let seconds = hours * 3_600 + rest[0] * 60 + rest[1];
        // The farthest offset that Java knows is 18 hours.
        (rest[0] < 60 && rest[1] < 60 && seconds <= 18 * 3_600).then_some(sign * seconds as i32)
    }
}

fn days_of_month(year: u32, month: u32) -> Option<u32> {
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => return None,
    })
}

/// Days by the calendar of eras of 400 years, in which a year begins in March.
fn days_since_1970(year: u32, month: u32, day: u32) -> i32 {
    let year = year as i32 - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, NaiveDate};

    #[test]
    fn every_day_is_where_the_calendar_has_it() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let mut day = NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        while day < NaiveDate::from_ymd_opt(9999, 12, 1).unwrap() {
            let text = day.format("%Y-%m-%d").to_string();
            assert_eq!(
                date(&text).map(i64::from),
                Some((day - epoch).num_days()),
                "{text}"
            );
            day = day + Days::new(13);
        }
        for wrong in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-1-1",
            "24-01-01",
            "2024-01-01 ",
            "",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_standard_reads_its_own_form() {
        use Standard::*;
        let at = |text, standard, zoned| timestamp(text, standard, zoned, TimeUnit::Microsecond);
        let noon = 1_709_294_400_000_000;
        assert_eq!(at("2024-03-01 12:00:00", Sql, false), Some(noon));
        assert_eq!(
            at("2024-03-01 12:00:00.1234567", Sql, false),
            Some(noon + 123_456)
        );
        assert_eq!(at("2024-03-01T12:00:00.000001", Iso, false), Some(noon + 1));
        assert_eq!(at("2024-03-01T12:00", Iso, false), Some(noon));
        assert_eq!(at("2024-03-01T12:00:00Z", Iso, true), Some(noon));
        assert_eq!(
            at("2024-03-01T13:30:00+01:30", IsoWithOffset, true),
            Some(noon)
        );
        assert_eq!(at("2024-03-01T12:00:00Z", IsoWithOffset, false), Some(noon));
        for (wrong, standard, zoned) in [
            ("2024-03-01T12:00:00", Sql, false),
            ("2024-03-01 12:00", Sql, false),
            ("2024-03-01 12:00:00", Iso, false),
            ("2024-03-01T12:00:00Z", Iso, false),
            ("2024-03-01T12:00:00", Iso, true),
            ("2024-03-01T12:00:00+01:00", Iso, true),
            ("2024-03-01T12:00:00", IsoWithOffset, true),
            ("2024-03-01T24:00:00", Iso, false),
            ("2024-03-01T12:60:00", Iso, false),
            ("2024-03-01T12:00:00.", Iso, false),
            ("2024-03-01T12:00:00.1234567890", Iso, false),
            ("1709294400", Sql, false),
        ] {
            assert_eq!(at(wrong, standard, zoned), None, "{wrong}");
        }
    }

    #[test]
    fn units_hold_what_they_can() {
        let text = "1969-12-31 23:59:59.999999999";
        let at = |unit| timestamp(text, Standard::Sql, false, unit);
        assert_eq!(at(TimeUnit::Millisecond), Some(-1));
        assert_eq!(at(TimeUnit::Nanosecond), Some(-1));
        let far = timestamp(
            "9999-01-01 00:00:00",
            Standard::Sql,
            false,
            TimeUnit::Nanosecond,
        );
        assert_eq!(far, None);
        assert_eq!(time("23:59:59.9999", false), Some(86_399_999));
        assert_eq!(time("12:30", false), None);
        assert_eq!(time("12:30", true), Some(45_000_000));
    }
}
