//! Numbers with a point, as text has them.

/// The trimmed text, when it is a number with digits and perhaps a sign, a point and an exponent.
pub(crate) fn decimal_text(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, power) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good = (digits(whole) || whole.is_empty())
        && (digits(fraction) || fraction.is_empty())
        && whole.len() + fraction.len() > 0
        && power.is_none_or(|power| digits(power.strip_prefix(['+', '-']).unwrap_or(power)));
    good.then_some(text)
}

/// A number as `value * 10^-scale`, rounded half up (away from zero) as in Flink; `None` when it has more than `precision`
/// digits then, which Flink makes NULL of. The text has been through [`decimal_text`].
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let negative = text.starts_with('-');
    let (mantissa, power) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>()),
        None => (text, Ok(0)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = whole
        .bytes()
        .chain(fraction.bytes())
        .filter(u8::is_ascii_digit)
        .map(|byte| byte - b'0');
    let significant = digits.clone().any(|digit| digit > 0);
    if !significant {
        return Some(0);
    }
    // A power that no integer holds makes the number far too large, or nothing.
    let power = match power {
        Ok(power) => power,
        Err(_) if text.contains("e-") || text.contains("E-") => return Some(0),
        Err(_) => return None,
    };
    let whole_digits = whole.bytes().filter(u8::is_ascii_digit).count() as i64;
    // How many of the digits stand before the end of the result; it may be fewer than none.
    let kept = whole_digits
        .saturating_add(power)
        .saturating_add(i64::from(scale));
    let mut value = 0i128;
    for _ in 0..kept.max(0) {
        let digit = match digits.next() {
            Some(digit) => digit,
            None if value == 0 => break,
            None => 0,
        };
        value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let round_up = kept >= 0 && digits.next().is_some_and(|digit| digit >= 5);
    value += i128::from(round_up);
    let fits = value < 10i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -value } else { value })
}

/// A FLOAT or a DOUBLE as Java's own parser reads it: of words it knows these two, in these letters.
pub(crate) fn floating<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let known = matches!(unsigned, "NaN" | "Infinity") || decimal_text(text).is_some();
    text.parse().ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_up_and_overflow_to_null() {
        for (text, precision, scale, value) in [
            ("12.345", 10, 2, Some(1235)),
            ("-12.345", 10, 2, Some(-1235)),
            ("12.344", 10, 2, Some(1234)),
            ("1e3", 10, 2, Some(100_000)),
            ("1.5E-2", 10, 3, Some(15)),
            (".5", 3, 0, Some(1)),
            ("0.04", 3, 1, Some(0)),
            ("0.05", 3, 1, Some(1)),
            ("0.006", 3, 1, Some(0)),
            ("999.95", 4, 1, None),
            ("1000", 5, 2, None),
            ("0e999999999999999999999", 5, 2, Some(0)),
            ("1e999999999999999999999", 5, 2, None),
            ("1e-999999999999999999999", 5, 2, Some(0)),
            ("1e9223372036854775807", 5, 2, None),
            (
                "99999999999999999999999999999999999999",
                38,
                0,
                Some(10i128.pow(38) - 1),
            ),
        ] {
            let text = decimal_text(text).unwrap();
            assert_eq!(decimal(text, precision, scale), value, "{text}");
        }
        for wrong in [
            "", "-", ".", "1e", "1e+", "e5", "NaN", "1.2.3", "1,5", "0x10", "1f", "--1", "+-1",
        ] {
            assert!(decimal_text(wrong).is_none(), "{wrong}");
        }
    }
}
