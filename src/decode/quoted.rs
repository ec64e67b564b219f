//! The strings of JSON: text between two quotes, and what its escapes stand for.

use super::fault::{Fault, Parsed};

/// The inside of a string as it stands in the text.
#[derive(Clone, Copy)]
pub struct Quoted<'a> {
    pub raw: &'a str,
    /// It has escapes: the text is not the raw text.
    pub escaped: bool,
    /// Where the raw text begins.
    pub at: usize,
    /// The bytes from there to the end of the record.
    pub rest: &'a [u8],
}

/// Appends the first `length` bytes: in steps of one size, where there is more behind them, since calling a function to move a few bytes would
/// take longer than moving some too many.
#[inline(always)]
fn append_start(out: &mut Vec<u8>, bytes: &[u8], length: usize) {
    const STEP: usize = 16;
    const SHORT: usize = 4 * STEP;
    if length > SHORT || bytes.len() < length + STEP {
        return out.extend_from_slice(&bytes[..length]);
    }
    let end = out.len() + length;
    for step in bytes
        .as_chunks::<STEP>()
        .0
        .iter()
        .take(length.div_ceil(STEP))
    {
        out.extend_from_slice(step);
    }
    out.truncate(end);
}

impl Quoted<'_> {
    /// Appends the text that the string stands for.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Parsed {
        if !self.escaped {
            append_start(out, self.rest, self.raw.len());
            return Ok(());
        }
        let bytes = self.raw.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let plain = bytes[at..]
                .iter()
                .position(|byte| *byte == b'\\')
                .unwrap_or(bytes.len() - at);
            out.extend_from_slice(&bytes[at..at + plain]);
            at += plain;
            if at == bytes.len() {
                break;
            }
            let fault = |what: &str| Fault::syntax(self.at + at, what);
            let short = match bytes.get(at + 1) {
                Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'u') => {
                    let (found, length) = self
                        .code_point(at)
                        .ok_or_else(|| fault("\\u is not followed by the code of a character"))?;
                    out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                    at += length;
                    continue;
                }
                _ => return Err(fault("no such escape")),
            };
            out.push(short);
            at += 2;
        }
        Ok(())
    }

    /// The character that `\uXXXX`, or a pair of them, at this place stands for, and how long it is.
    fn code_point(&self, at: usize) -> Option<(char, usize)> {
        let unit = |at: usize| {
            let hex = self.raw.get(at..at + 6)?.strip_prefix("\\u")?;
            hex.bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then_some(())?;
            u32::from_str_radix(hex, 16).ok()
        };
        let high = unit(at)?;
        if !(0xd800..0xdc00).contains(&high) {
            return Some((char::from_u32(high)?, 6));
        }
        let low = unit(at + 6).filter(|low| (0xdc00..0xe000).contains(low))?;
        Some((
            char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?,
            12,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scan;
    use super::*;

    #[test]
    fn surrogates_come_in_pairs() {
        let read = |text: &str| {
            let mut out = Vec::new();
            Scan::new(text).string()?.append_to(&mut out)?;
            Parsed::Ok(String::from_utf8(out).unwrap())
        };
        assert_eq!(read(r#""\ud83d\ude91 \u00e9""#).unwrap(), "🚑 é");
        for lone in [
            r#""\ud83d""#,
            r#""\ude91""#,
            r#""\ud83dx""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\x""#,
        ] {
            assert!(read(lone).is_err(), "{lone}");
        }
    }
}
