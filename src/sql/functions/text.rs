//! Text. Positions and lengths count characters, the first is 1.

use super::Takes::{Int, Long, Text};
use super::arrays::{list_of, text_lists};
use super::{Function, Gives, int_rows, numbers, text_rows, texts};
use arrow::array::{ArrayRef, BooleanArray, Int32Array, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarFunctionArgs;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
    let int = || Gives::Type(DataType::Int32);
    let boolean = || Gives::Type(DataType::Boolean);
    vec![
        Function::new("upper", &[Text], text(), |args| {
            map(args, |s| s.to_uppercase())
        }),
        Function::new("lower", &[Text], text(), |args| {
            map(args, |s| s.to_lowercase())
        }),
        Function::new("reverse", &[Text], text(), |args| {
            map(args, |s| s.chars().rev().collect())
        }),
        Function::new("initcap", &[Text], text(), |args| map(args, initcap)),
        Function::new("trim", &[Text, Text], text(), |args| trim(args, true, true))
            .optional(1)
            .alias("btrim"),
        Function::new("ltrim", &[Text, Text], text(), |args| {
            trim(args, true, false)
        })
        .optional(1),
        Function::new("rtrim", &[Text, Text], text(), |args| {
            trim(args, false, true)
        })
        .optional(1),
        Function::new("char_length", &[Text], int(), |args| {
            let values = texts(args, 0)?;
            let length = |row| values.get(row).map(|s| s.chars().count() as i32);
            Ok(Arc::new(
                (0..args.number_rows).map(length).collect::<Int32Array>(),
            ))
        })
        .alias("character_length"),
        Function::new("position", &[Text, Text], int(), |args| {
            position(args, 0, 1)
        }),
        Function::new("instr", &[Text, Text], int(), |args| position(args, 1, 0)),
        Function::new("locate", &[Text, Text, Int], int(), |args| {
            position(args, 0, 1)
        })
        .optional(1),
        Function::new("substring", &[Text, Int, Int], text(), substring)
            .optional(1)
            .alias("substr"),
        Function::new("left", &[Text, Int], text(), |args| ends(args, true)),
        Function::new("right", &[Text, Int], text(), |args| ends(args, false)),
        Function::new("replace", &[Text, Text, Text], text(), |args| {
            let (values, from, to) = (texts(args, 0)?, texts(args, 1)?, texts(args, 2)?);
            text_rows(args, |row| {
                let (value, from, to) = (values.get(row)?, from.get(row)?, to.get(row)?);
                Some(if from.is_empty() {
                    value.into()
                } else {
                    value.replace(from, to)
                })
            })
        }),
        Function::new("repeat", &[Text, Int], text(), |args| {
            let (values, times) = (texts(args, 0)?, numbers::<Int32Type>(args, 1)?);
            text_rows(args, |row| {
                Some(values.get(row)?.repeat(times.get(row)?.max(0) as usize))
            })
        }),
        Function::new("lpad", &[Text, Int, Text], text(), |args| pad(args, true)),
        Function::new("rpad", &[Text, Int, Text], text(), |args| pad(args, false)),
        Function::new("split_index", &[Text, Text, Int], text(), |args| {
            let (values, by, at) = (
                texts(args, 0)?,
                texts(args, 1)?,
                numbers::<Int32Type>(args, 2)?,
            );
            text_rows(args, |row| {
                let (value, by, at) = (values.get(row)?, by.get(row)?, at.get(row)?);
                let at = usize::try_from(at).ok()?;
                let part = match (value, by) {
                    ("", _) => None,
                    // Without a separator Flink splits at each space.
                    (value, "") => value.split(char::is_whitespace).nth(at),
                    (value, by) => value.split(by).nth(at),
                };
                part.map(str::to_owned)
            })
        }),
        Function::new(
            "split",
            &[Text, Text],
            Gives::Type(list_of(DataType::Utf8)),
            |args| {
                let (values, by) = (texts(args, 0)?, texts(args, 1)?);
                text_lists(args, |row| {
                    let all = |part: &str| Some(part.to_owned());
                    Some(match (values.get(row)?, by.get(row)?) {
                        ("", _) => Vec::new(),
                        (value, "") => value.chars().map(|c| Some(c.to_string())).collect(),
                        (value, by) => value.split(by).map(all).collect(),
                    })
                })
            },
        ),
        Function::new("overlay", &[Text, Text, Int, Int], text(), overlay).optional(1),
        Function::new("translate", &[Text, Text, Text], text(), |args| {
            let (values, from, to) = (texts(args, 0)?, texts(args, 1)?, texts(args, 2)?);
            text_rows(args, |row| {
                let (value, from, to) = (values.get(row)?, from.get(row)?, to.get(row)?);
                let translated =
                    value
                        .chars()
                        .filter_map(|c| match from.chars().position(|known| known == c) {
                            Some(at) => to.chars().nth(at),
                            None => Some(c),
                        });
                Some(translated.collect())
            })
        }),
        Function::new("concat", &[Text], text(), concat).variadic(),
        Function::new("concat_ws", &[Text, Text], text(), concat_ws).variadic(),
        Function::new("starts_with", &[Text, Text], boolean(), |args| {
            test(args, |s, part| s.starts_with(part))
        })
        .alias("startswith"),
        Function::new("ends_with", &[Text, Text], boolean(), |args| {
            test(args, |s, part| s.ends_with(part))
        })
        .alias("endswith"),
        Function::new("ascii", &[Text], int(), |args| {
            let values = texts(args, 0)?;
            let first = |row| {
                values
                    .get(row)
                    // A byte of Java's: from 128 on it is negative.
                    .map(|s| s.bytes().next().map_or(0, |byte| i32::from(byte as i8)))
            };
            Ok(Arc::new(
                (0..args.number_rows).map(first).collect::<Int32Array>(),
            ))
        }),
        Function::new("chr", &[Long], text(), |args| {
            let codes = numbers::<Int64Type>(args, 0)?;
            text_rows(args, |row| {
                let code = codes.get(row)?;
                let byte = if code < 0 {
                    return Some(String::new());
                } else {
                    (code & 0xFF) as u8
                };
                Some(char::from(byte).to_string())
            })
        }),
    ]
}

fn map(args: &ScalarFunctionArgs, of: impl Fn(&str) -> String) -> Result<ArrayRef> {
    let values = texts(args, 0)?;
    text_rows(args, |row| values.get(row).map(&of))
}

fn test(args: &ScalarFunctionArgs, of: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (values, parts) = (texts(args, 0)?, texts(args, 1)?);
    let rows = (0..args.number_rows).map(|row| Some(of(values.get(row)?, parts.get(row)?)));
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

fn initcap(s: &str) -> String {
    let mut inside = false;
    let mut result = String::with_capacity(s.len());
    // Flink knows ASCII letters only here: others stay, and end a word.
    for c in s.chars() {
        result.push(match inside {
            true => c.to_ascii_lowercase(),
            false => c.to_ascii_uppercase(),
        });
        inside = c.is_ascii_alphanumeric();
    }
    result
}

/// Without a second argument spaces go, and nothing else; with one, every character that it holds.
fn trim(args: &ScalarFunctionArgs, start: bool, end: bool) -> Result<ArrayRef> {
    let values = texts(args, 0)?;
    let what = if args.args.len() > 1 {
        Some(texts(args, 1)?)
    } else {
        None
    };
    text_rows(args, |row| {
        let what = match &what {
            Some(what) => what.get(row)?,
            None => " ",
        };
        let mut value = values.get(row)?;
        if start {
            value = value.trim_start_matches(|c| what.contains(c));
        }
        if end {
            value = value.trim_end_matches(|c| what.contains(c));
        }
        Some(value.to_owned())
    })
}

fn position(args: &ScalarFunctionArgs, part: usize, whole: usize) -> Result<ArrayRef> {
    let (parts, wholes) = (texts(args, part)?, texts(args, whole)?);
    let starts = match args.args.len() {
        3 => Some(numbers::<Int32Type>(args, 2)?),
        _ => None,
    };
    int_rows(args, |row| {
        let (part, whole) = (parts.get(row)?, wholes.get(row)?);
        let start = match &starts {
            Some(starts) => starts.get(row)?,
            None => 1,
        };
        let skipped = usize::try_from(start.saturating_sub(1)).unwrap_or(0);
        let Some(from) = whole
            .char_indices()
            .map(|(at, _)| at)
            .chain([whole.len()])
            .nth(skipped)
        else {
            return Some(0);
        };
        let found = whole[from..].find(part).map(|at| from + at);
        Some(found.map_or(0, |at| whole[..at].chars().count() as i32 + 1))
    })
}

/// A start below 0 counts from the end; a start of 0 is the first character; a negative length is NULL.
fn substring(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, starts) = (texts(args, 0)?, numbers::<Int32Type>(args, 1)?);
    let lengths = if args.args.len() > 2 {
        Some(numbers::<Int32Type>(args, 2)?)
    } else {
        None
    };
    let mut result = StringBuilder::with_capacity(args.number_rows, args.number_rows * 8);
    for row in 0..args.number_rows {
        let length = match &lengths {
            Some(lengths) => lengths.get(row),
            None => Some(i32::MAX),
        };
        let part = values.get(row).zip(starts.get(row)).zip(length);
        result.append_option(part.and_then(|((value, start), length)| slice(value, start, length)));
    }
    Ok(Arc::new(result.finish()))
}

fn slice(value: &str, start: i32, length: i32) -> Option<&str> {
    let length = usize::try_from(length).ok()?;
    let skipped = if start > 0 {
        start as usize - 1
    } else if start == 0 {
        0
    } else {
        let count = value.chars().count();
        match count.checked_sub(start.unsigned_abs() as usize) {
            Some(skipped) => skipped,
            None => return Some(""),
        }
    };
    if value.is_ascii() {
        let from = skipped.min(value.len());
        return Some(&value[from..from.saturating_add(length).min(value.len())]);
    }
    let byte =
        |value: &str, at: usize| value.char_indices().nth(at).map_or(value.len(), |(i, _)| i);
    let rest = &value[byte(value, skipped)..];
    Some(&rest[..byte(rest, length)])
}

/// A place outside of the text leaves it as it is; a length that is negative or too large takes all that follows.
fn overlay(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, by, starts) = (
        texts(args, 0)?,
        texts(args, 1)?,
        numbers::<Int32Type>(args, 2)?,
    );
    let lengths = match args.args.len() {
        4 => Some(numbers::<Int32Type>(args, 3)?),
        _ => None,
    };
    text_rows(args, |row| {
        let (value, by, start) = (values.get(row)?, by.get(row)?, starts.get(row)?);
        let length = match &lengths {
            Some(lengths) => usize::try_from(lengths.get(row)?).unwrap_or(usize::MAX),
            None => by.chars().count(),
        };
        let count = value.chars().count();
        let start = match usize::try_from(start) {
            Ok(start) if start > 0 && start <= count => start - 1,
            _ => return Some(value.to_owned()),
        };
        let rest = value.chars().skip(start.saturating_add(length));
        Some(
            value
                .chars()
                .take(start)
                .chain(by.chars())
                .chain(rest)
                .collect(),
        )
    })
}

fn ends(args: &ScalarFunctionArgs, left: bool) -> Result<ArrayRef> {
    let (values, lengths) = (texts(args, 0)?, numbers::<Int32Type>(args, 1)?);
    text_rows(args, |row| {
        let (value, length) = (values.get(row)?, lengths.get(row)?.max(0));
        let skipped = value.chars().count().saturating_sub(length as usize) as i32;
        slice(
            value,
            if left { 1 } else { skipped.saturating_add(1) },
            length,
        )
        .map(str::to_owned)
    })
}

/// A text that is too long is cut; a negative length, or nothing to pad with, is NULL.
fn pad(args: &ScalarFunctionArgs, left: bool) -> Result<ArrayRef> {
    let (values, lengths) = (texts(args, 0)?, numbers::<Int32Type>(args, 1)?);
    let pads = texts(args, 2)?;
    text_rows(args, |row| {
        let (value, length, pad) = (values.get(row)?, lengths.get(row)?, pads.get(row)?);
        let length = usize::try_from(length).ok()?;
        let missing = length.saturating_sub(value.chars().count());
        if pad.is_empty() {
            return None;
        }
        let padding = pad.chars().cycle().take(missing);
        let value = value.chars().take(length);
        Some(if left {
            padding.chain(value).collect()
        } else {
            value.chain(padding).collect()
        })
    })
}

/// NULL if any part is NULL.
fn concat(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let parts = (0..args.args.len())
        .map(|i| texts(args, i))
        .collect::<Result<Vec<_>>>()?;
    text_rows(args, |row| {
        parts
            .iter()
            .map(|part| part.get(row))
            .collect::<Option<String>>()
    })
}

/// Parts that are NULL are left out; a NULL separator makes the whole NULL.
fn concat_ws(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let parts = (0..args.args.len())
        .map(|i| texts(args, i))
        .collect::<Result<Vec<_>>>()?;
    let rows = (0..args.number_rows).map(|row| {
        let separator = parts[0].get(row)?;
        let present: Vec<_> = parts[1..].iter().filter_map(|part| part.get(row)).collect();
        Some(present.join(separator))
    });
    Ok(Arc::new(rows.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    #[test]
    fn text_functions() {
        check_calls(&[
            ("UPPER('straße')", "STRASSE"),
            ("LOWER('ÄB')", "äb"),
            ("TRIM('  a ')", "a"),
            ("TRIM(LEADING 'x' FROM 'xxax')", "ax"),
            ("TRIM(BOTH 'xy' FROM 'xyaxy')", "a"),
            ("LTRIM('  a ')", "a "),
            ("CHAR_LENGTH('äöü')", "3"),
            ("POSITION('b' IN 'äb')", "2"),
            ("POSITION('z' IN 'ab')", "0"),
            ("SUBSTRING('häuser', 2, 3)", "äus"),
            ("SUBSTRING('abc' FROM 2)", "bc"),
            ("SUBSTRING('abc', -2)", "bc"),
            ("SUBSTRING('abc', 0, 2)", "ab"),
            ("SUBSTRING('abc', -5, 2)", ""),
            ("SUBSTRING('abc', 9)", ""),
            ("SUBSTRING('abc', 1, -1)", "NULL"),
            ("SUBSTR('abc', 3)", "c"),
            ("LEFT('abc', 2)", "ab"),
            ("RIGHT('abc', 2)", "bc"),
            ("REPLACE('aba', 'a', 'xy')", "xybxy"),
            ("REPEAT('ab', 2)", "abab"),
            ("LPAD('hi', 4, '??')", "??hi"),
            ("LPAD('hi', 1, '??')", "h"),
            ("RPAD('hi', 5, 'xy')", "hixyx"),
            ("RPAD('hi', -1, 'x')", "NULL"),
            ("RPAD('hi', 2, '')", "NULL"),
            ("SPLIT_INDEX('a,b,c', ',', 1)", "b"),
            ("SPLIT_INDEX('a,b,c', ',', 7)", "NULL"),
            ("CONCAT('a', 'b', 'c')", "abc"),
            ("CONCAT('a', CAST(NULL AS STRING))", "NULL"),
            ("CONCAT_WS('-', 'a', CAST(NULL AS STRING), 'b')", "a-b"),
            ("'a' || 'b'", "ab"),
            ("'a' || CAST(NULL AS STRING)", "NULL"),
            ("INITCAP('hello wORLD')", "Hello World"),
            ("INITCAP('hello-world x1y äb')", "Hello-World X1y äB"),
            ("INITCAP('ÄB cD')", "ÄB Cd"),
            ("ASCII('')", "0"),
            ("ASCII('äb')", "-61"),
            ("CHR(353)", "a"),
            ("CHR(-1)", ""),
            ("LOCATE('b', 'abcb', 3)", "4"),
            ("LOCATE('', 'abc')", "1"),
            ("LOCATE('b', 'abcb', 0)", "2"),
            ("LOCATE('b', 'abcb', 9)", "0"),
            ("LOCATE('b', 'äbcb', 3)", "4"),
            ("SPLIT('a,b,,c', ',')", "[a, b, , c]"),
            ("SPLIT('äöü', '')", "[ä, ö, ü]"),
            ("CARDINALITY(SPLIT('', ','))", "0"),
            ("SPLIT('abc', 'x')", "[abc]"),
            ("SPLIT(',a,', ',')", "[, a, ]"),
            ("SPLIT('a::b::c', '::')", "[a, b, c]"),
            ("SPLIT('a', CAST(NULL AS STRING))", "NULL"),
            ("SPLIT_INDEX('a,b,c', ',', -1)", "NULL"),
            ("SPLIT_INDEX('a,,c', ',', 1)", ""),
            ("SPLIT_INDEX('', ',', 0)", "NULL"),
            ("SPLIT_INDEX('abc', '', 1)", "NULL"),
            ("SPLIT_INDEX('a b  c', '', 2)", ""),
            ("SPLIT_INDEX('10.1.2.3', '.', 3)", "3"),
            ("CONCAT_WS('-', 'a', '', 'b')", "a--b"),
            ("CONCAT_WS(CAST(NULL AS STRING), 'a')", "NULL"),
            ("CONCAT_WS('-', CAST(NULL AS STRING))", ""),
            ("LTRIM('xyax', 'xy')", "ax"),
            ("RTRIM('xyax', 'xy')", "xya"),
            ("OVERLAY('abcdef' PLACING 'xx' FROM 3 FOR 2)", "abxxef"),
            ("OVERLAY('abcdef' PLACING 'xx' FROM 3)", "abxxef"),
            ("OVERLAY('abc' PLACING 'xx' FROM 9)", "abc"),
            ("OVERLAY('abc' PLACING 'xx' FROM 0)", "abc"),
            ("OVERLAY('abc' PLACING 'xx' FROM 2 FOR -1)", "axx"),
            ("OVERLAY('äöüß' PLACING 'x' FROM 2 FOR 1)", "äxüß"),
            ("TRANSLATE('abcb', 'ab', 'xy')", "xycy"),
            ("TRANSLATE('abcb', 'ab', 'x')", "xc"),
            ("'a_b' LIKE 'a\\_b'", "false"),
            ("'a_b' LIKE 'a#_b' ESCAPE '#'", "true"),
            ("'axb' LIKE 'a#_b' ESCAPE '#'", "false"),
            ("'abc' LIKE 'a%'", "true"),
            ("'abc' NOT LIKE '_b_'", "false"),
        ]);
    }
}
