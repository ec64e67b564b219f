//! The numbers of JSON: read eight digits at a time, and as exact as a double can be.

/// A number by JSON's grammar: `mantissa * 10^exponent`, negative or not.
#[derive(Clone, Copy)]
pub struct Number<'a> {
    pub text: &'a str,
    pub negative: bool,
    pub mantissa: u64,
    pub exponent: i32,
    /// It has more digits than the mantissa or the exponent can hold, so only the text is right.
    pub inexact: bool,
    /// It has neither a fraction nor an exponent.
    pub integer: bool,
}

impl Number<'_> {
    /// The number as an integer, where it is written as one and fits.
    #[inline(always)]
    pub fn to_i64(self) -> Option<i64> {
        if !self.integer {
            return None;
        }
        if self.inexact {
            return self.text.parse().ok();
        }
        if self.negative {
            0i64.checked_sub_unsigned(self.mantissa)
        } else {
            i64::try_from(self.mantissa).ok()
        }
    }

    /// The nearest double; infinite where it is too large for one.
    #[inline(always)]
    pub fn to_f64(self) -> f64 {
        let value = if self.inexact {
            None
        } else if self.mantissa <= 1 << 53 {
            short(self.mantissa, self.exponent)
        } else {
            long(self.mantissa, self.exponent)
        };
        match value {
            Some(value) if self.negative => -value,
            Some(value) => value,
            // Every number of JSON's grammar is one of Rust's.
            None => self.text.parse().unwrap_or(f64::NAN),
        }
    }
}

/// Where both factors are doubles, their product or quotient is rounded once, so it is the nearest double.
#[inline(always)]
fn short(mantissa: u64, exponent: i32) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let power = POWERS.get(exponent.unsigned_abs() as usize)?;
    let mantissa = mantissa as f64;
    Some(if exponent < 0 {
        mantissa / power
    } else {
        mantissa * power
    })
}

/// The most digits behind the point that [`long`] divides by: 5^27 is the last power of five below 2^64.
const MOST_DIGITS: usize = 27;

/// For each k the first 128 bits of 1 / 5^k, cut off, and how many bits 5^k has.
const RECIPROCALS: [(u128, u32); MOST_DIGITS + 1] = {
    let mut all = [(0, 0); MOST_DIGITS + 1];
    let (mut k, mut five) = (1, 5u128);
    while k <= MOST_DIGITS {
        let bits = 128 - five.leading_zeros();
        // 2^(127 + bits) / 5^k, bit by bit.
        let (mut quotient, mut rest, mut at) = (0u128, 1u128, 0);
        while at < 127 + bits {
            rest *= 2;
            quotient *= 2;
            if rest >= five {
                rest -= five;
                quotient += 1;
            }
            at += 1;
        }
        all[k] = (quotient, bits);
        five *= 5;
        k += 1;
    }
    all
};

/// The double that is nearest to a large mantissa with digits behind the point; `None` where that is not decided here.
///
/// With m the mantissa, moved left until its highest bit is set, and r the reciprocal, the product p = m * r has 192 bits and lies below the true
/// value by less than m < 2^64. So when the 64 bits in the middle of p are not all ones, no carry reaches the upper 64 bits: these are those
/// of the true value, and behind them there is something more than zero (were there nothing, p would lie just below and end in ones).
/// A bit set at their end stands for that, and the conversion of an integer rounds to the nearest double.
#[inline]
fn long(mantissa: u64, exponent: i32) -> Option<f64> {
    let digits = usize::try_from(exponent.checked_neg()?).ok()?;
    if digits == 0 {
        return Some(mantissa as f64);
    }
    let &(reciprocal, bits) = RECIPROCALS.get(digits)?;
    let shift = mantissa.leading_zeros();
    let m = u128::from(mantissa << shift);
    let low = m * (reciprocal & u128::from(u64::MAX));
    let high = m * (reciprocal >> 64) + (low >> 64);
    if high as u64 == u64::MAX {
        return None;
    }
    let upper = (high >> 64) as u64 | 1;
    // p is m * 2^(127 + bits) / 5^k, and 10^k is 5^k * 2^k.
    let power = 128 - (127 + bits + shift) as i32 - digits as i32;
    Some(upper as f64 * f64::from_bits(((1023 + power) as u64) << 52))
}

/// How many digits a word of eight characters begins with, and the number that they are.
#[inline(always)]
pub fn leading_digits(word: u64) -> (u32, u64) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Digits become 0 to 9; in whatever is none, this or adding 0x76 sets the highest bit.
    let values = word ^ (EACH * 0x30);
    let other = (values.wrapping_add(EACH * 0x76) | values) & (EACH * 0x80);
    let count = other.trailing_zeros() / 8;
    if count == 0 {
        return (0, 0);
    }
    // The digits move to the end, with zeros before them; then two, four and eight are put together.
    let values = values << (64 - 8 * count);
    let values = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let values = (values * 100 + (values >> 16)) & 0x0000_ffff_0000_ffff;
    let values = (values * 10_000 + (values >> 32)) & 0xffff_ffff;
    (count, values)
}

pub const POWERS_OF_TEN: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_and_put_together() {
        for (text, count, value) in [
            ("12345678", 8, 12_345_678),
            ("00000000", 8, 0),
            ("7, \"a\": ", 1, 7),
            ("120.5678", 3, 120),
            ("/1234567", 0, 0),
            (":1234567", 0, 0),
            ("1/234567", 1, 1),
            ("99:99999", 2, 99),
            ("1234567\u{0}", 7, 1_234_567),
        ] {
            let word = u64::from_le_bytes(text.as_bytes().try_into().unwrap());
            assert_eq!(leading_digits(word), (count, value), "{text}");
        }
        for byte in 0..=255u8 {
            let word = u64::from_le_bytes([b'4', b'2', byte, 0xff, 0x80, b'1', 0, b'9']);
            let expected = match byte {
                b'0'..=b'9' => (3, 420 + u64::from(byte - b'0')),
                _ => (2, 42),
            };
            assert_eq!(leading_digits(word), expected, "{byte}");
        }
    }

    /// Against Rust's own, which is exact: the digits that people write, and those next to a tie between two doubles.
    #[test]
    fn long_numbers_are_the_nearest_doubles() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut decided = 0;
        for round in 0..200_000 {
            let digits = random.usize(1..=MOST_DIGITS);
            let mantissa = match round % 4 {
                0 => random.u64((1 << 53) + 1..),
                // A double's own shortest text.
                1 => {
                    let text = format!("{:e}", random.f64());
                    text.split_once('e')
                        .unwrap()
                        .0
                        .replace('.', "")
                        .parse()
                        .unwrap()
                }
                // In the middle of two doubles, or beside it.
                2 => {
                    let bits = random.u64(1 << 53..1 << 54) | 1;
                    let shift = random.u32(0..10);
                    (bits << shift).saturating_add_signed(random.i64(-1..2))
                }
                _ => 5u64
                    .pow(random.u32(23..=27))
                    .saturating_mul(random.u64(1..100)),
            };
            if mantissa <= 1 << 53 {
                continue;
            }
            let expected: f64 = format!("{mantissa}e-{digits}").parse().unwrap();
            if let Some(value) = long(mantissa, -(digits as i32)) {
                decided += 1;
                assert_eq!(value.to_bits(), expected.to_bits(), "{mantissa}e-{digits}");
            }
        }
        assert!(decided > 100_000, "{decided}");
    }
}
