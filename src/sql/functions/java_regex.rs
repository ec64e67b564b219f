//! Java's regular expressions as this program's.
//!
//! The two languages agree on most; where they do not, the pattern is rewritten: `\w`, `\d`, `\s` and `\b` know only
//! ASCII in Java. What has no counterpart (looking around, referring back, possessive repetition) is an error
//! here, because a pattern that silently means something else would be worse.

use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;

/// How many compiled patterns a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::new(HashMap::new());
}

/// The compiled pattern, or none when it is no valid pattern (Flink's functions then give NULL).
pub(super) fn compiled(pattern: &str) -> Option<Regex> {
    COMPILED.with_borrow_mut(|kept| {
        if let Some(known) = kept.get(pattern) {
            return known.clone();
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let regex = compile(pattern).ok();
        kept.insert(pattern.to_owned(), regex.clone());
        regex
    })
}

/// Compiles a pattern, or says why it cannot be.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern);
    RegexBuilder::new(&translated)
        .build()
        .map_err(|error| match error {
            regex::Error::Syntax(text) => {
                let why = text.lines().last().unwrap_or_default().trim();
                why.strip_prefix("error: ").unwrap_or(why).to_owned()
            }
            other => other.to_string(),
        })
}

fn translate(pattern: &str) -> String {
    let mut result = String::with_capacity(pattern.len() + 16);
    let mut depth = 0_u32;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => class(escaped, depth > 0, &mut result),
                None => result.push('\\'),
            },
            '[' => {
                depth += 1;
                result.push('[');
            }
            ']' => {
                depth = depth.saturating_sub(1);
                result.push(']');
            }
            _ => result.push(c),
        }
    }
    result
}

/// One escape, outside or inside square brackets.
fn class(escaped: char, inside: bool, result: &mut String) {
    let set = match escaped.to_ascii_lowercase() {
        'w' => "0-9A-Za-z_",
        'd' => "0-9",
        's' => r" \t\n\x0B\f\r",
        'h' => r" \t\xA0\u{1680}\u{180e}\u{2000}-\u{200a}\u{202f}\u{205f}\u{3000}",
        'b' if !inside => {
            let boundary = if escaped == 'b' { r"(?-u:\b)" } else { r"\B" };
            result.push_str(boundary);
            return;
        }
        'z' if !inside => {
            result.push_str(r"\z");
            return;
        }
        _ => {
            result.push('\\');
            result.push(escaped);
            return;
        }
    };
    match (escaped.is_ascii_uppercase(), inside) {
        (true, _) => {
            result.push_str("[^");
            result.push_str(set);
            result.push(']');
        }
        (false, true) => result.push_str(set),
        (false, false) => {
            result.push('[');
            result.push_str(set);
            result.push(']');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii() {
        for (pattern, text, expected) in [
            (r"\w+", "grüße", Some("gr")),
            (r"[\w-]+", "a-b c", Some("a-b")),
            (r"[^\s,]+", " a,b", Some("a")),
            (r"\D+", "12ab", Some("ab")),
            (r"\bflu\b", "the flu.", Some("flu")),
            (r"\d{2}", "٤٤ 17", Some("17")),
            (r"a\.b", "a.b", Some("a.b")),
        ] {
            let regex = compile(pattern).unwrap();
            assert_eq!(
                regex.find(text).map(|found| found.as_str()),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn what_has_no_counterpart_is_an_error() {
        for pattern in [r"(?=x)", r"(a)\1", "(", "a++b(?!c)"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
