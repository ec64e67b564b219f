//! Regular expressions, in Java's language.

use super::Takes::{Int, Text};
use super::arrays::{list_of, text_lists};
use super::java_regex::compiled;
use super::{Function, Gives, int_rows, numbers, text_rows, texts};
use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Int32Type};
use regex::NoExpand;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
    let int = || Gives::Type(DataType::Int32);
    vec![
        Function::new("regexp_extract", &[Text, Text, Int], text(), |args| {
            let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
            let groups = if args.args.len() > 2 {
                Some(numbers::<Int32Type>(args, 2)?)
            } else {
                None
            };
            let constant = patterns.constant().and_then(compiled);
            text_rows(args, |row| {
                let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                let group = match &groups {
                    Some(groups) => groups.get(row)?,
                    None => 0,
                };
                let regex = constant.clone().or_else(|| compiled(pattern))?;
                let found = regex.captures(value)?.get(usize::try_from(group).ok()?)?;
                Some(found.as_str().to_owned())
            })
        })
        .optional(1),
        Function::new("regexp_replace", &[Text, Text, Text], text(), |args| {
            let (values, patterns, by) = (texts(args, 0)?, texts(args, 1)?, texts(args, 2)?);
            text_rows(args, |row| {
                let (value, pattern, by) = (values.get(row)?, patterns.get(row)?, by.get(row)?);
                Some(
                    compiled(pattern)?
                        // What is put in is plain text in Flink, also where it looks like a group.
                        .replace_all(value, NoExpand(by))
                        .into_owned(),
                )
            })
        }),
        Function::new(
            "regexp",
            &[Text, Text],
            Gives::Type(DataType::Boolean),
            |args| {
                let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
                let rows = (0..args.number_rows).map(|row| {
                    let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                    // No pattern, or none that is valid, is found nowhere.
                    let regex = compiled(pattern).filter(|_| !pattern.is_empty());
                    Some(regex.is_some_and(|regex| regex.is_match(value)))
                });
                Ok(Arc::new(rows.collect::<BooleanArray>()))
            },
        ),
        Function::new(
            "regexp_extract_all",
            &[Text, Text, Int],
            Gives::Type(list_of(DataType::Utf8)),
            |args| {
                let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
                let groups = match args.args.len() {
                    3 => Some(numbers::<Int32Type>(args, 2)?),
                    _ => None,
                };
                text_lists(args, |row| {
                    let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                    let group = match &groups {
                        Some(groups) => usize::try_from(groups.get(row)?).ok()?,
                        None => 1,
                    };
                    let regex = compiled(pattern)?;
                    if group >= regex.captures_len() {
                        return None;
                    }
                    let finds = regex.captures_iter(value);
                    let held = finds.map(|find| Some(find.get(group)?.as_str().to_owned()));
                    Some(held.collect())
                })
            },
        )
        .optional(1),
        Function::new("regexp_count", &[Text, Text], int(), |args| {
            let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
            int_rows(args, |row| {
                let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                Some(compiled(pattern)?.find_iter(value).count() as i32)
            })
        }),
        Function::new("regexp_substr", &[Text, Text], text(), |args| {
            let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
            text_rows(args, |row| {
                let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                Some(compiled(pattern)?.find(value)?.as_str().to_owned())
            })
        }),
        Function::new("regexp_instr", &[Text, Text], int(), |args| {
            let (values, patterns) = (texts(args, 0)?, texts(args, 1)?);
            int_rows(args, |row| {
                let (value, pattern) = (values.get(row)?, patterns.get(row)?);
                let found = compiled(pattern)?.find(value);
                let at = |start: usize| value[..start].chars().count() as i32 + 1;
                Some(found.map_or(0, |found| at(found.start())))
            })
        }),
    ]
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::{check_calls, check_error};

    #[test]
    fn regular_expressions() {
        check_calls(&[
            (
                r"REGEXP_EXTRACT('shows signs of flu. Prescribed x', 'signs of (\w+)', 1)",
                "flu",
            ),
            (
                r"REGEXP_EXTRACT('shows signs of flu', 'signs of (\w+)')",
                "signs of flu",
            ),
            (
                r"REGEXP_EXTRACT('nothing here', 'signs of (\w+)', 1)",
                "NULL",
            ),
            (r"REGEXP_EXTRACT('ab', 'a(b)', 2)", "NULL"),
            (r"REGEXP_EXTRACT('ab', '(x)?ab', 1)", "NULL"),
            (r"REGEXP_REPLACE('foobar', 'oo|ar', '')", "fb"),
            (r"REGEXP_REPLACE('a1b2', '([a-z])(\d)', '$2$1')", "$2$1$2$1"),
            (r"REGEXP_REPLACE('a.b', '.', '\$0')", r"\$0\$0\$0"),
            ("REGEXP_REPLACE('abc', '', '-')", "-a-b-c-"),
            ("REGEXP_REPLACE('', 'x*', '-')", "-"),
            (r"REGEXP_REPLACE('10.1.2.3', '\.\d+$', '.0')", "10.1.2.0"),
            ("REGEXP('abc', '')", "false"),
            ("REGEXP('', '')", "false"),
            ("REGEXP('', 'x*')", "true"),
            (r"REGEXP('abc', '^a.c$')", "true"),
            ("REGEXP_EXTRACT('aaa' || CHR(13), '(.*)')", "aaa"),
            ("REGEXP_EXTRACT('aaa', CONCAT('a+', '+a'))", "NULL"),
        ]);
        check_error("REGEXP_EXTRACT('aaa', 'a++a')", "possessive");
    }

    /// As real Flink 2.2 answered.
    #[test]
    fn edges() {
        let null = "CAST(NULL AS STRING)";
        check_calls(&[
            (r"REGEXP_EXTRACT('', '(\w+)', 1)", "NULL"),
            ("REGEXP_EXTRACT('ab', 'a(b)', -1)", "NULL"),
            ("REGEXP_EXTRACT('', '')", ""),
            (r"REGEXP_EXTRACT('Müller', 'M(\w+)')", "NULL"),
            ("REGEXP_EXTRACT('Müller', 'M(.)', 1)", "ü"),
            (r"REGEXP_EXTRACT_ALL('a1b22', '(\d+)')", "[1, 22]"),
            (r"REGEXP_EXTRACT_ALL('a1b22', '([a-z])(\d+)')", "[a, b]"),
            (r"REGEXP_EXTRACT_ALL('a1b22', '([a-z])(\d+)', 2)", "[1, 22]"),
            (
                r"REGEXP_EXTRACT_ALL('a1b22', '([a-z])(\d+)', 0)",
                "[a1, b22]",
            ),
            (r"REGEXP_EXTRACT_ALL('a1b22', '([a-z])(\d+)', 3)", "NULL"),
            (r"REGEXP_EXTRACT_ALL('a1b22', '\d+')", "NULL"),
            (r"REGEXP_EXTRACT_ALL('a1b22', '\d+', 0)", "[1, 22]"),
            (r"REGEXP_EXTRACT_ALL('abc', '(\d+)')", "[]"),
            ("REGEXP_EXTRACT_ALL('ab', '(a)|(b)', 1)", "[a, NULL]"),
            (&format!("REGEXP_EXTRACT_ALL({null}, 'a')"), "NULL"),
            ("REGEXP_EXTRACT_ALL('ab', 'a', -1)", "NULL"),
            ("REGEXP_COUNT('abab', 'ab')", "2"),
            ("REGEXP_COUNT('abab', '')", "5"),
            ("REGEXP_COUNT('', 'x')", "0"),
            ("REGEXP_COUNT('äbä', 'ä')", "2"),
            (&format!("REGEXP_COUNT({null}, 'x')"), "NULL"),
            ("REGEXP_SUBSTR('hello world, flink', '[a-z]+k')", "flink"),
            ("REGEXP_SUBSTR('abc', 'x')", "NULL"),
            ("REGEXP_INSTR('hello world', 'o')", "5"),
            ("REGEXP_INSTR('äbc', 'c')", "3"),
            ("REGEXP_INSTR('abc', 'x')", "0"),
        ]);
    }
}
