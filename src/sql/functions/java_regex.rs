//! Java's regular expressions as this program's.
//!
//! The two languages agree on most; where they do not, the pattern is rewritten: `\w`, `\d`, `\s`, `\b` and `\p{Alpha}` know only
//! ASCII in Java, and the dot takes no end of a line of any kind. What has no counterpart (looking around, referring back, possessive repetition) is an error
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
    let translated = translate(pattern)?;
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

/// What stands before a character, for what a repetition there means.
#[derive(Clone, Copy)]
enum Before {
    Repetition,
    /// A repetition and its question mark.
    Lazy,
    Other,
}

type Chars<'p> = std::iter::Peekable<std::str::Chars<'p>>;

fn translate(pattern: &str) -> Result<String, String> {
    let mut result = String::with_capacity(pattern.len() + 16);
    let mut chars: Chars = pattern.chars().peekable();
    let mut before = Before::Other;
    // How many square brackets are open; and for each round one whether the dot takes line ends in it.
    let mut depth = 0_u32;
    let mut dotall = vec![false];
    let mut any_case = false;
    while let Some(c) = chars.next() {
        let repeats = depth == 0 && matches!(c, '*' | '+' | '?' | '{');
        before = match (repeats, before) {
            (true, Before::Other) => Before::Repetition,
            (true, Before::Repetition) if c == '?' => Before::Lazy,
            (true, Before::Repetition) if c == '+' => {
                return Err("a + behind a repetition makes it possessive".into());
            }
            (true, _) => return Err(format!("{c} stands behind a repetition")),
            (false, _) => Before::Other,
        };
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('p' | 'P')) if chars.peek() == Some(&'{') => {
                    property(escaped, &mut chars, depth > 0, &mut result);
                }
                Some(escaped) => {
                    class(escaped, depth > 0, &mut result);
                    if "xuN".contains(escaped) && chars.peek() == Some(&'{') {
                        copy_braces(&mut chars, &mut result);
                    }
                }
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
            // In square brackets these would mean something here that they do not mean in Java.
            '-' if depth > 0 && chars.peek() == Some(&'-') => {
                return Err("-- stands in square brackets; write \\- for a minus".into());
            }
            '~' | ':' if depth > 0 => {
                result.push('\\');
                result.push(c);
            }
            _ if depth > 0 => result.push(c),
            '{' => {
                result.push('{');
                copy_braces(&mut chars, &mut result);
            }
            '(' => any_case |= open_group(&mut chars, &mut dotall, &mut result)?,
            ')' => {
                result.push(')');
                if dotall.len() > 1 {
                    dotall.pop();
                }
            }
            '.' if dotall.last() != Some(&true) => result.push_str(NO_LINE_END),
            _ => result.push(c),
        }
    }
    let has_cases = |c: char| !c.is_ascii() && (c.is_lowercase() || c.is_uppercase());
    if any_case && pattern.contains(has_cases) {
        return Err("(?i) knows the cases of ASCII letters only; (?iu) knows all".into());
    }
    Ok(result)
}

/// The classes that know only ASCII in Java, and have the same names here, in small letters.
const ASCII_CLASSES: [&str; 13] = [
    "Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank",
    "Cntrl", "XDigit", "Space",
];

/// A class that is named in braces: `\p{..}`, or `\P{..}` for what is not in it.
fn property(escaped: char, chars: &mut Chars, inside: bool, result: &mut String) {
    let mut braces = String::new();
    copy_braces(chars, &mut braces);
    let name = braces.trim_matches(['{', '}']);
    if !ASCII_CLASSES.contains(&name) {
        result.push('\\');
        result.push(escaped);
        result.push_str(&braces);
        return;
    }
    let not = if escaped == 'P' { "^" } else { "" };
    let class = format!("[:{not}{}:]", name.to_ascii_lowercase());
    if inside {
        result.push_str(&class);
    } else {
        result.push_str(&format!("[{class}]"));
    }
}

/// What Java's dot takes.
const NO_LINE_END: &str = r"[^\n\r\x{85}\x{2028}\x{2029}]";

/// Copies what stands up to the closing brace, so that nothing in it is read as something else.
fn copy_braces(chars: &mut Chars, result: &mut String) {
    for c in chars.by_ref() {
        result.push(c);
        if c == '}' {
            return;
        }
    }
}

/// A group, or flags that hold up to the end of the group around them; one of the flags says what the dot takes. Gives
/// whether the flags make the cases of ASCII letters alone equal.
fn open_group(
    chars: &mut Chars,
    dotall: &mut Vec<bool>,
    result: &mut String,
) -> Result<bool, String> {
    let (mut any_case, mut unicode) = (false, false);
    let mut of_group = dotall.last() == Some(&true);
    result.push('(');
    if chars.next_if_eq(&'?').is_some() {
        result.push('?');
        let mut sets = true;
        while let Some(flag) = chars.next_if(|c| c.is_ascii_alphabetic() || *c == '-') {
            result.push(flag);
            match flag {
                '-' => sets = false,
                's' => of_group = sets,
                'i' => any_case |= sets,
                'u' => unicode |= sets,
                'm' | 'x' => {}
                other => return Err(format!("the flag {other} is not supported")),
            }
        }
        if chars.next_if_eq(&')').is_some() {
            result.push(')');
            dotall.pop();
        }
    }
    dotall.push(of_group);
    Ok(any_case && !unicode)
}

/// One escape, outside or inside square brackets.
fn class(escaped: char, inside: bool, result: &mut String) {
    let set = match escaped.to_ascii_lowercase() {
        'w' => "0-9A-Za-z_",
        'd' => "0-9",
        's' => r" \t\n\x0B\f\r",
        'v' => r"\n\x0B\f\r\x{85}\x{2028}\x{2029}",
        'h' => r" \t\xA0\u{1680}\u{180e}\u{2000}-\u{200a}\u{202f}\u{205f}\u{3000}",
        'b' if !inside => {
            let boundary = if escaped == 'b' { r"(?-u:\b)" } else { r"\B" };
            result.push_str(boundary);
            return;
        }
        // Not ends of words, as they are here.
        '<' | '>' => {
            result.push(escaped);
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
            (r"\p{L}+", "1ü2", Some("ü")),
            (r"\p{Punct}+", "a<$~¿", Some("<$~")),
            (r"[\p{Alpha}-]+", "éa-bé", Some("a-b")),
            (r"\P{Alnum}+", "a1é b", Some("é ")),
            (r"\p{Lower}+", "éab", Some("ab")),
            (r"\p{Space}+", "\u{a0} \t", Some(" \t")),
            (r"\p{IsAlphabetic}+", "1é", Some("é")),
            (r"a\v", "a\u{2028}", Some("a\u{2028}")),
            (r"[^\v]+", "\rab\n", Some("ab")),
            (r"\<b\>", "b <b>", Some("<b>")),
            (r"[\<]+", "b<", Some("<")),
            (r"[[:alpha:]]+", "xyz:alp", Some(":alp")),
            (r"[a~~b]+", "c~a", Some("~a")),
            (r"[a-]+", "b-a", Some("-a")),
            (r"(?i)aB", "xAb", Some("Ab")),
            (r"(?iu)É", "xé", Some("é")),
            // Repetitions of something that only looks like one, or has one in it.
            (r"[+*]+", "a+*", Some("+*")),
            (r"a\++b", "a++b", Some("a++b")),
            (r"(?:a+b?)+", "aabax", Some("aaba")),
            (r"a+?b", "aab", Some("aab")),
            (r"a{2}?", "aaa", Some("aa")),
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
        for pattern in [
            r"(?=x)",
            r"(a)\1",
            "(",
            r"[\w--]+",
            "[+--]+",
            r"(?U)\w",
            "(?i)É",
            "a++b(?!c)",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_repetition_behind_a_repetition_is_an_error() {
        for pattern in ["a++a", "a*+", "a?+", "a{2}+", "(ab)++", "[ab]++", "a+?+"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        for pattern in ["a**", "a+*", "a{2}{3}", "a+??"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_dot_takes_no_line_end() {
        for (pattern, text, expected) in [
            (".*", "aaa\r\n", "aaa"),
            (".+", "\u{2028}ab\u{85}", "ab"),
            ("[.]+", "..a", ".."),
            ("(?s).*", "a\r\nb", "a\r\nb"),
            ("(?s)(?-s).*", "a\rb", "a"),
            ("(?s:a.).*", "a\rb\rc", "a\rb"),
            ("(?:(?s)a.).*", "a\rb\rc", "a\rb"),
            ("(?i)A.*", "ab\r", "ab"),
        ] {
            let regex = compile(pattern).unwrap();
            let found = regex.find(text).map(|found| found.as_str());
            assert_eq!(found, Some(expected), "{pattern}");
        }
    }
}
