//! The JSON lexer: one pass over the text of one record, nothing copied.
//!
//! The text was found to be valid UTF-8 before it comes here, so every slice between two ASCII characters is text
//! again. What is skipped is still checked for its structure, so that a record is good or bad by its own
//! bytes, hardly by which columns a job happens to read.

use super::fault::{Fault, Parsed};
use super::number::{Number, POWERS_OF_TEN, leading_digits};
use super::quoted::Quoted;

/// How deep a document may be nested: the limit of Jackson, which Flink reads JSON with.
pub const MAX_DEPTH: usize = 1000;

/// A place in the text of one record.
pub struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Scan {
            text,
            bytes: text.as_bytes(),
            at: 0,
        }
    }

    /// The byte that is to be read next, counted from 0.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes back to a place that [`Scan::at`] gave.
    pub fn return_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The text from a place that [`Scan::at`] gave up to here.
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next byte, or 0 at the end; a real 0 is no JSON either.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// The next byte that is not white space.
    #[inline(always)]
    pub fn next_token(&mut self) -> u8 {
        // Most tokens stand at once or behind one blank.
        let mut byte = self.peek();
        if byte == b' ' {
            self.at += 1;
            byte = self.peek();
        }
        while matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
            byte = self.peek();
        }
        byte
    }

    /// Steps over one byte that was peeked at.
    #[inline(always)]
    pub fn step(&mut self) {
        self.at += 1;
    }

    /// Steps over `expected` when it stands here.
    #[inline(always)]
    pub fn take(&mut self, expected: &[u8]) -> bool {
        let here = self.bytes.get(self.at..self.at + expected.len());
        let found = here.is_some_and(|here| same(here, expected));
        if found {
            self.at += expected.len();
        }
        found
    }

    /// Steps over the colon behind a name.
    #[inline(always)]
    pub fn colon(&mut self) -> Parsed {
        if self.next_token() != b':' {
            return Err(self.wrong("':' after a name"));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space is left.
    pub fn end(&mut self) -> Parsed {
        self.next_token();
        if self.at < self.bytes.len() {
            return Err(self.wrong("the end of the record"));
        }
        Ok(())
    }

    /// A fault that says what should have stood here.
    #[cold]
    pub fn wrong(&self, expected: &str) -> Box<Fault> {
        let found = match self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            Some(found) => format!("{found:?}"),
            None => "the end".to_owned(),
        };
        Fault::syntax(self.at, format!("expected {expected}, found {found}"))
    }

    /// Reads `true`, `false` or `null` when it stands here.
    pub fn word(&mut self, word: &'static str) -> Parsed {
        if self.take(word.as_bytes()) && !self.peek().is_ascii_alphanumeric() {
            return Ok(());
        }
        Err(self.wrong(word))
    }

    /// Reads a string; the scan stands at its first quote.
    #[inline]
    pub fn string(&mut self) -> Parsed<Quoted<'a>> {
        if self.peek() != b'"' {
            return Err(self.wrong("a string"));
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at += special(&self.bytes[at..]);
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(_) => {
                    // A backslash and whatever stands behind it; a quote there does not end the string.
                    escaped = true;
                    at = (at + 2).min(self.bytes.len());
                }
                None => return Err(Fault::syntax(start - 1, "a string does not end")),
            }
        }
        self.at = at + 1;
        Ok(Quoted {
            raw: &self.text[start..at],
            escaped,
            at: start,
            rest: &self.bytes[start..],
        })
    }

    /// Reads a number.
    #[inline]
    pub fn number(&mut self) -> Parsed<Number<'a>> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let mut mantissa = 0u64;
        let first = self.at;
        self.digits(&mut mantissa);
        let mut digits = self.at - first;
        if digits == 0 {
            return Err(self.wrong("a digit"));
        }
        if digits > 1 && self.bytes[first] == b'0' {
            return Err(Fault::syntax(first, "a number begins with a needless 0"));
        }
        let mut exponent = 0i32;
        let mut integer = true;
        if self.peek() == b'.' {
            integer = false;
            self.at += 1;
            let point = self.at;
            self.digits(&mut mantissa);
            let fraction = self.at - point;
            if fraction == 0 {
                return Err(self.wrong("a digit after the decimal point"));
            }
            digits += fraction;
            exponent = i32::try_from(fraction).map_or(i32::MIN, |fraction| -fraction);
        }
        let mut inexact = digits > 19 && self.significant(start) > 19;
        if matches!(self.peek(), b'e' | b'E') {
            integer = false;
            let power = self.power()?;
            inexact |= power.is_none();
            exponent = exponent.saturating_add(power.unwrap_or(0));
        }
        Ok(Number {
            text: &self.text[start..self.at],
            negative,
            mantissa,
            exponent,
            inexact,
            integer,
        })
    }

    /// Reads digits into `mantissa`, which wraps where there are too many.
    #[inline(always)]
    fn digits(&mut self, mantissa: &mut u64) {
        while let Some(word) = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            let (count, value) = leading_digits(u64::from_le_bytes(*word));
            let moved = mantissa.wrapping_mul(POWERS_OF_TEN[count as usize]);
            *mantissa = moved.wrapping_add(value);
            self.at += count as usize;
            if count < 8 {
                return;
            }
        }
        while let Some(digit) = self.bytes.get(self.at).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
    }

    /// How many digits there are from a place up to here, without the zeros at their beginning.
    #[cold]
    fn significant(&self, start: usize) -> usize {
        let digits = self.since(start).bytes().filter(u8::is_ascii_digit);
        digits.skip_while(|digit| *digit == b'0').count()
    }

    /// Reads `e+12`; `None` when it is too large to be counted.
    fn power(&mut self) -> Parsed<Option<i32>> {
        self.at += 1;
        let negative = self.peek() == b'-';
        if matches!(self.peek(), b'-' | b'+') {
            self.at += 1;
        }
        let mut power = Some(0i32);
        let first = self.at;
        while self.peek().is_ascii_digit() {
            let digit = i32::from(self.peek() - b'0');
            power = power.and_then(|power| power.checked_mul(10)?.checked_add(digit));
            self.at += 1;
        }
        if self.at == first {
            return Err(self.wrong("a digit in the exponent"));
        }
        Ok(power.map(|power| if negative { -power } else { power }))
    }

    /// Steps over one value of any kind. Strings are not unescaped and numbers not computed, but the
    /// structure is checked. It does not recurse, so that no document can exhaust the stack.
    pub fn skip(&mut self) -> Parsed {
        match self.next_token() {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.skip_nested(),
        }
    }

    fn skip_nested(&mut self) -> Parsed {
        let mut open = Open::default();
        loop {
            match self.next_token() {
                b'"' => drop(self.string()?),
                b'{' => {
                    self.at += 1;
                    if self.next_token() != b'}' {
                        open.push(true, self.at)?;
                        self.name()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.next_token() != b']' {
                        open.push(false, self.at)?;
                        continue;
                    }
                    self.at += 1;
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                b'-' | b'0'..=b'9' => drop(self.number()?),
                _ => return Err(self.wrong("a value")),
            }
            // Behind a value: what closes here, until something goes on.
            loop {
                let Some(object) = open.last() else {
                    return Ok(());
                };
                match (self.next_token(), object) {
                    (b',', true) => {
                        self.at += 1;
                        self.next_token();
                        self.name()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        open.pop();
                    }
                    (_, true) => return Err(self.wrong("',' or '}'")),
                    (_, false) => return Err(self.wrong("',' or ']'")),
                }
            }
        }
    }

    /// Steps over a name and its colon.
    fn name(&mut self) -> Parsed {
        self.string()?;
        self.colon()
    }
}

/// Which brackets are open: one bit each.
struct Open {
    bits: [u64; MAX_DEPTH.div_ceil(64)],
    depth: usize,
}

impl Default for Open {
    fn default() -> Self {
        Open {
            bits: [0; MAX_DEPTH.div_ceil(64)],
            depth: 0,
        }
    }
}

impl Open {
    fn push(&mut self, object: bool, at: usize) -> Parsed {
        if self.depth == MAX_DEPTH {
            return Err(Fault::syntax(at, format!("nested deeper than {MAX_DEPTH}")));
        }
        let (word, bit) = (self.depth / 64, 1u64 << (self.depth % 64));
        self.bits[word] = if object {
            self.bits[word] | bit
        } else {
            self.bits[word] & !bit
        };
        self.depth += 1;
        Ok(())
    }

    fn last(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }
}

/// Whether two texts of one length are the same. They are short, so that calling a function would take most of the time.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        word.map(|word| u64::from_le_bytes(*word))
    };
    let Some(last) = a.len().checked_sub(8) else {
        return a.iter().zip(b).all(|(a, b)| a == b);
    };
    let mut at = 0;
    while at < last {
        if word(a, at) != word(b, at) {
            return false;
        }
        at += 8;
    }
    word(a, last) == word(b, last)
}

/// How many bytes stand before the next quote or backslash, eight at a time at first. Flink allows raw control characters in
/// strings, so nothing else ends a run of plain text.
#[inline(always)]
fn special(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Longer texts are worth a call.
    const SHORT: usize = 48;
    // The lowest byte of the result that has its high bit set is the first byte of `word` that is zero.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        if at == SHORT {
            let rest = &bytes[at..];
            return at + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        }
        let word = u64::from_le_bytes(*chunk);
        let hits = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !matches!(bytes[at], b'"' | b'\\') {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> f64 {
        Scan::new(text).number().unwrap().to_f64()
    }

    #[test]
    fn doubles_are_exact() {
        for text in [
            "0",
            "-0",
            "85.83749561871434",
            "1e22",
            "1e23",
            "9007199254740993",
            "4.9e-324",
            "-1.7976931348623157e308",
            "1e-7",
            "123456789012345678901234567890.5",
        ] {
            assert_eq!(
                number(text).to_bits(),
                text.parse::<f64>().unwrap().to_bits(),
                "{text}"
            );
        }
        assert!(number("1e400").is_infinite());
    }

    #[test]
    fn strings_end_at_their_own_quote() {
        let mut scan = Scan::new(r#""a long text, \"quoted\" \\" rest"#);
        let string = scan.string().unwrap();
        let mut text = Vec::new();
        string.append_to(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"a long text, "quoted" \"#
        );
        assert_eq!(scan.next_token(), b'r');
    }

    #[test]
    fn skipping_checks_the_structure() {
        let skip = |text: &str| {
            let mut scan = Scan::new(text);
            scan.skip().and_then(|()| scan.end()).is_ok()
        };
        for good in [
            "{}",
            "[]",
            " [1, -2.5e3, \"a\", {\"b\": [true, false, null]}, {}] ",
            "\"x\"",
        ] {
            assert!(skip(good), "{good}");
        }
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1}",
            "{1:2}",
            "01",
            "1.",
            "nul",
            "truex",
            "NaN",
            "[] []",
            "-",
        ] {
            assert!(!skip(bad), "{bad}");
        }
        assert!(skip(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))));
        assert!(!skip(
            &("[".repeat(MAX_DEPTH + 2) + &"]".repeat(MAX_DEPTH + 2))
        ));
        assert!(!skip(&"[".repeat(1_000_000)));
    }
}
