//! The values of options and settings, which are all written as text.

use crate::store;
use std::time::Duration;

/// What the value of an option has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    AnyText,
    /// A path, or a URL of a store that is known.
    Location,
    Boolean,
    /// A whole number, zero or more.
    Integer,
    /// `10 s`, `1 min`, `500 ms`; without a unit, milliseconds.
    Duration,
    /// `128 MB`, `1 gb`; without a unit, bytes. A kilobyte has 1024 bytes.
    Size,
    /// One of these words, in upper or lower case.
    OneOf(&'static [&'static str]),
    /// One or more of these words, with commas between them.
    SomeOf(&'static [&'static str]),
    /// Several texts with this character between them.
    List(char),
    /// One character.
    Character,
    /// `zstd`, `zstd:LEVEL`, `snappy`, `none`.
    Compression,
}

impl Kind {
    /// The value in its plainest writing, or what it should look like.
    pub fn check(self, value: &str) -> Result<String, String> {
        let kept = value.to_owned();
        match self {
            Kind::Text if value.is_empty() => Err("a text that is not empty".to_owned()),
            Kind::Text | Kind::AnyText => Ok(kept),
            Kind::Location if value.is_empty() || !store::is_known(value) => {
                Err(store::LOCATIONS.to_owned())
            }
            Kind::Location => Ok(kept),
            Kind::Boolean => boolean(value)
                .map(|value| value.to_string())
                .ok_or_else(|| "true or false".to_owned()),
            Kind::Integer => integer(value)
                .map(|value| value.to_string())
                .ok_or_else(|| "a whole number".to_owned()),
            Kind::Duration => duration(value)
                .map(|_| kept)
                .ok_or_else(|| "a duration, for example '10 s' or '1 min'".to_owned()),
            Kind::Size => size(value)
                .map(|_| kept)
                .ok_or_else(|| "a size, for example '128 MB'".to_owned()),
            Kind::OneOf(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(value))
                .map(|word| (*word).to_owned())
                .ok_or_else(|| format!("one of {}", words.join(", "))),
            Kind::SomeOf(words) => some_of(value, words).ok_or_else(|| {
                format!("one or more of {}, with ',' between them", words.join(", "))
            }),
            Kind::List(separator) => match list(value, separator).is_empty() {
                false => Ok(kept),
                true => Err(format!("a list with '{separator}' between its members")),
            },
            Kind::Character => match character(value) {
                Some(_) => Ok(kept),
                None => Err("one character".to_owned()),
            },
            Kind::Compression => {
                let value = value.to_ascii_lowercase();
                let level = value
                    .strip_prefix("zstd:")
                    .and_then(|level| level.parse::<i32>().ok());
                let known = ["zstd", "snappy", "none"].contains(&value.as_str())
                    || level.is_some_and(|level| (1..=22).contains(&level));
                if known {
                    Ok(value)
                } else {
                    Err("zstd, zstd:LEVEL (1 to 22), snappy or none".to_owned())
                }
            }
        }
    }

    /// The kind in a word, for the documentation.
    pub fn word(self) -> String {
        match self {
            Kind::Text | Kind::AnyText | Kind::Location => "text".to_owned(),
            Kind::Boolean => "true, false".to_owned(),
            Kind::Integer => "number".to_owned(),
            Kind::Duration => "duration".to_owned(),
            Kind::Size => "size".to_owned(),
            Kind::OneOf(words) => words.join(", "),
            Kind::SomeOf(words) => format!("one or more of {}", words.join(", ")),
            Kind::List(separator) => format!("list with `{separator}`"),
            Kind::Character => "character".to_owned(),
            Kind::Compression => "zstd, zstd:LEVEL, snappy, none".to_owned(),
        }
    }
}

/// The words in the order of their list, each once.
fn some_of(text: &str, words: &[&str]) -> Option<String> {
    let given = list(text, ',');
    let known = |member: &String| words.iter().any(|word| word.eq_ignore_ascii_case(member));
    if given.is_empty() || !given.iter().all(known) {
        return None;
    }
    let named = |word: &&&str| given.iter().any(|member| word.eq_ignore_ascii_case(member));
    let chosen: Vec<&str> = words.iter().filter(named).copied().collect();
    Some(chosen.join(","))
}

pub fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub fn integer(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `10 s`, `1 min`, `500 ms`, as Flink writes them.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let nanos = match unit.as_str() {
        "d" | "day" | "days" => 86_400_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

/// A duration in milliseconds.
pub fn duration_ms(text: &str) -> Option<i64> {
    i64::try_from(duration(text)?.as_millis()).ok()
}

/// `128 MB`, `1 gb`, as Flink writes them, in bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The members of a list, without empty ones.
pub fn list(text: &str, separator: char) -> Vec<String> {
    text.split(separator)
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

/// One character; `\t` and its like may be written so.
pub fn character(text: &str) -> Option<char> {
    let text = match text {
        "\\t" => "\t",
        "\\n" => "\n",
        "\\\\" => "\\",
        other => other,
    };
    let mut letters = text.chars();
    letters.next().filter(|_| letters.next().is_none())
}

fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text
        .find(|next: char| !next.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, ms) in [
            ("10 s", 10_000),
            ("1min", 60_000),
            ("250", 250),
            ("2 Hours", 7_200_000),
            ("1 d", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1.5 s", "-1 s", "1 fortnight", "999999999999999 d"] {
            assert_eq!(duration(text), None, "{text}");
        }
        for (text, bytes) in [
            ("128MB", 128 << 20),
            ("1 g", 1 << 30),
            ("77", 77),
            ("3 kb", 3072),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "1 pb", "99999999999 tb"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn values_take_their_plain_form() {
        assert_eq!(
            Kind::OneOf(&["SQL", "ISO-8601"]).check("iso-8601"),
            Ok("ISO-8601".to_owned())
        );
        let some = Kind::SomeOf(&["metastore", "success-file"]);
        assert_eq!(
            some.check("Success-File, metastore"),
            Ok("metastore,success-file".to_owned())
        );
        assert!(some.check("metastore,custom").is_err() && some.check(",").is_err());
        assert_eq!(Kind::Boolean.check("TRUE"), Ok("true".to_owned()));
        assert_eq!(Kind::Compression.check("ZSTD:3"), Ok("zstd:3".to_owned()));
        assert!(Kind::Compression.check("zstd:99").is_err());
        assert_eq!(character("\\t"), Some('\t'));
        assert_eq!(list("a; b;;", ';'), ["a", "b"]);
    }
}
