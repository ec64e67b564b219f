//! Regular expressions, in Java's language.

use super::Takes::{Int, Text};
use super::java_regex::compiled;
use super::{Function, Gives, numbers, text_rows, texts};
use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
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
                        .replace_all(value, replacement(by).as_str())
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
                    Some(compiled(pattern)?.is_match(value))
                });
                Ok(Arc::new(rows.collect::<BooleanArray>()))
            },
        ),
    ]
}

/// Java writes `$1` and `\$`; here a group's name ends where its digits end, so it is put in braces.
fn replacement(java: &str) -> String {
    let mut result = String::with_capacity(java.len() + 4);
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => result.push_str("$$"),
                Some(other) => result.push(other),
                None => {}
            },
            '$' => {
                let mut digits = String::new();
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                if digits.is_empty() {
                    result.push('$');
                } else {
                    result.push_str(&format!("${{{digits}}}"));
                }
            }
            _ => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

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
            (r"REGEXP_REPLACE('a1b2', '([a-z])(\d)', '$2$1x')", "1ax2bx"),
            (r"REGEXP_REPLACE('a', 'a', '\$1')", "$1"),
            (r"REGEXP('abc', '^a.c$')", "true"),
        ]);
    }
}
