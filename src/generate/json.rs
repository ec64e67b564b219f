//! Writes numbers, times and ids as text. Hundreds of thousands of events a second are made, and the formatting machinery
//! of the standard library would take most of that time.

/// 2.5 as `decimal(out, 250, 2)`.
pub(super) fn decimal(out: &mut Vec<u8>, value: i64, digits: u32) {
    if value < 0 {
        out.push(b'-');
    }
    let scale = 10u64.pow(digits);
    whole(out, value.unsigned_abs() / scale);
    out.push(b'.');
    padded(out, value.unsigned_abs() % scale, digits);
}

pub(super) fn whole(out: &mut Vec<u8>, value: u64) {
    padded(out, value, value.checked_ilog10().unwrap_or(0) + 1);
}

/// With zeros in front.
fn padded(out: &mut Vec<u8>, value: u64, digits: u32) {
    let mut unit = 10u64.pow(digits - 1);
    while unit > 0 {
        out.push(b'0' + u8::try_from(value / unit % 10).unwrap_or(0));
        unit /= 10;
    }
}

/// `2024-03-01T00:00:00.123456`, from microseconds since 1970.
pub(super) fn timestamp(out: &mut Vec<u8>, micros: i64) {
    let part = |out: &mut Vec<u8>, value: i64, digits| {
        padded(out, u64::try_from(value).unwrap_or(0), digits);
    };
    let (days, time) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000),
    );
    let (year, month, day) = date(days);
    for (value, digits, before) in [
        (year, 4, None),
        (month, 2, Some(b'-')),
        (day, 2, Some(b'-')),
        (time / 3_600_000_000, 2, Some(b'T')),
        (time / 60_000_000 % 60, 2, Some(b':')),
        (time / 1_000_000 % 60, 2, Some(b':')),
        (time % 1_000_000, 6, Some(b'.')),
    ] {
        out.extend(before);
        part(out, value, digits);
    }
}

/// The date of a day since 1970, by counting whole cycles of 400 years that begin on a first of March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let cycle = days.div_euclid(146_097);
    let of_cycle = days.rem_euclid(146_097);
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + cycle * 400 + i64::from(month <= 2), month, day)
}

/// A random UUID (version 4) out of 128 random bits.
pub(super) fn uuid(bits: u128) -> Vec<u8> {
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let mut text = Vec::with_capacity(36);
    for at in 0..32 {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push(b'-');
        }
        text.push(b"0123456789abcdef"[(bits >> (124 - 4 * at) & 0xf) as usize]);
    }
    text
}

/// A JSON object, field by field. Texts stand in it as they are: nothing that is generated needs an escape.
pub(super) struct Object {
    out: Vec<u8>,
}

impl Object {
    pub fn new() -> Self {
        let mut out = Vec::with_capacity(320);
        out.push(b'{');
        Object { out }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.extend_from_slice(b", ");
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\": ");
    }

    pub fn text(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    pub fn whole(&mut self, name: &str, value: u64) {
        self.name(name);
        whole(&mut self.out, value);
    }

    /// 2.5 as `decimal(name, 250, 2)`.
    pub fn decimal(&mut self, name: &str, value: u64, digits: u32) {
        self.name(name);
        decimal(&mut self.out, value.cast_signed(), digits);
    }

    pub fn time(&mut self, name: &str, micros: i64) {
        self.name(name);
        self.out.push(b'"');
        timestamp(&mut self.out, micros);
        self.out.push(b'"');
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for day in (-30_000..60_000).step_by(7) {
            let micros = day * 86_400_000_000 + 3_723_004_005;
            let expected = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let expected = expected.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
            assert_eq!(text(|out| timestamp(out, micros)), expected);
        }
    }

    #[test]
    fn numbers_and_ids_are_well_formed() {
        assert_eq!(text(|out| whole(out, 0)), "0");
        assert_eq!(text(|out| whole(out, 1050)), "1050");
        assert_eq!(text(|out| decimal(out, -123_456, 6)), "-0.123456");
        assert_eq!(text(|out| decimal(out, 9705, 2)), "97.05");
        for bits in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = String::from_utf8(uuid(bits)).unwrap();
            let parsed = uuid::Uuid::parse_str(&id).unwrap();
            assert_eq!(parsed.get_version_num(), 4);
            assert_eq!(parsed.get_variant(), uuid::Variant::RFC4122);
        }
    }
}
