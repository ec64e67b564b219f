//! Dates, times and timestamps as text, in the form that CAST reads and writes.

use chrono::{DateTime, NaiveDate, NaiveTime, Timelike};
use std::fmt::Write;

/// Appends `yyyy-MM-dd HH:mm:ss` and as many digits of the second as the type has.
pub(super) fn write_timestamp(nanos: i128, digits: usize, out: &mut String) {
    let (seconds, rest) = (
        nanos.div_euclid(1_000_000_000),
        nanos.rem_euclid(1_000_000_000),
    );
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|s| DateTime::from_timestamp(s, rest as u32));
    let Some(at) = at else { return };
    // Writing into a String cannot fail.
    let _ = write!(out, "{}", at.format("%Y-%m-%d %H:%M:%S"));
    if digits > 0 {
        let fraction = format!("{rest:09}");
        out.push('.');
        out.push_str(&fraction[..digits.min(9)]);
    }
}

pub(super) fn write_date(days: i32, out: &mut String) {
    if let Some(date) = NaiveDate::from_epoch_days(days) {
        let _ = write!(out, "{}", date.format("%Y-%m-%d"));
    }
}

/// A TIME has milliseconds only where they are not 0.
pub(super) fn write_time(millis: i32, out: &mut String) {
    let (seconds, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if rest != 0 {
        let _ = write!(out, ".{rest:03}");
    }
}

/// `yyyy-MM-dd`, with or without leading zeros.
pub(super) fn read_date(text: &str) -> Option<i32> {
    let text = text.trim();
    let date = text.split([' ', 'T']).next()?;
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)? as i32;
    let month = parts.next().map_or(Some(1), |part| number(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| number(part, 2))?;
    if parts.next().is_some() {
        return None;
    }
    Some(NaiveDate::from_ymd_opt(year, month, day)?.to_epoch_days())
}

/// `HH:mm:ss`, with a fraction of up to nine digits, as nanoseconds of the day.
pub(super) fn read_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 2)?;
    let minute = parts.next().map_or(Some(0), |part| number(part, 2))?;
    let second = parts.next().map_or(Some(0), |part| number(part, 2))?;
    if parts.next().is_some() || fraction.len() > 9 {
        return None;
    }
    let nanos = match fraction {
        "" => 0,
        _ => number(fraction, 9)? * 10_u32.pow(9 - fraction.len() as u32),
    };
    let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?;
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(nanos))
}

/// A text as TO_TIMESTAMP without a pattern reads it, in nanoseconds: `yyyy-MM-dd[ HH:mm:ss[.fraction]]` and nothing else. A day that
/// its month does not have is the month's last one, and 24:00:00 is the next day.
pub(super) fn read_plain(text: &str) -> Option<i128> {
    fn number(text: &str, most: u32) -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number <= most)
    }
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, time),
        None => (text, "0:0:0"),
    };
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
    let (year, month) = (number(year, 9999)? as i32, number(month, 12)?);
    let wanted = number(day, 31).filter(|day| *day > 0)?;
    let day = (1..=wanted)
        .rev()
        .find_map(|day| NaiveDate::from_ymd_opt(year, month, day))?;
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>().try_into().ok()?;
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let nanos = number(fraction.get(..9).unwrap_or(fraction), 999_999_999)?;
    let nanos = i128::from(nanos) * 10_i128.pow(9_u32.saturating_sub(fraction.len() as u32));
    let (hour, minute, second) = (number(hour, 24)?, number(minute, 59)?, number(second, 59)?);
    if hour == 24 && (minute, second, nanos) != (0, 0, 0) {
        return None;
    }
    let seconds = i128::from(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp());
    let seconds = seconds + i128::from(hour * 3_600 + minute * 60 + second);
    Some(seconds * 1_000_000_000 + nanos)
}

/// A date, alone or with a time behind a space or a `T`, as nanoseconds since 1970; a `Z` at the end is passed over.
pub(super) fn read_timestamp(text: &str) -> Option<i128> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if date.matches('-').count() != 2 {
        return None;
    }
    let days = i128::from(read_date(date)?);
    let nanos = time.map_or(Some(0), read_time)?;
    Some(days * 86_400_000_000_000 + i128::from(nanos))
}

fn number(digits: &str, most: usize) -> Option<u32> {
    let valid = !digits.is_empty()
        && digits.len() <= most
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_flink_reads() {
        let shown = |text| {
            read_timestamp(text).map(|nanos| {
                let mut out = String::new();
                write_timestamp(nanos, 3, &mut out);
                out
            })
        };
        for (text, expected) in [
            ("2024-01-02 03:04:05", Some("2024-01-02 03:04:05.000")),
            (
                "2024-01-02T03:04:05.678901",
                Some("2024-01-02 03:04:05.678"),
            ),
            ("2024-1-2 3:4:5.1", Some("2024-01-02 03:04:05.100")),
            ("2024-01-02 03:04", Some("2024-01-02 03:04:00.000")),
            ("2024-01-02", Some("2024-01-02 00:00:00.000")),
            ("1969-12-31 23:59:59.999", Some("1969-12-31 23:59:59.999")),
            ("2024-13-02", None),
            ("2024-02-30 00:00:00", None),
            ("2024-01-02 24:00:00", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }
}
