//! A floating point number as Java writes it.

/// `1.0`, `0.001`, `1.0E7`, `1.0E-4`, `NaN`, `Infinity`: plain from a thousandth up to ten million, with an exponent outside.
pub(super) fn write(shortest: &str, value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        out.push_str(shortest);
        if !shortest.contains('.') {
            out.push_str(".0");
        }
        return;
    }
    // The shortest digits without point and zeros, and where the point stands behind the first of them.
    let digits = shortest.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (significant, exponent) = if whole != "0" {
        (format!("{whole}{fraction}"), whole.len() as i32 - 1)
    } else {
        let zeros = fraction.len() - fraction.trim_start_matches('0').len();
        (fraction[zeros..].to_owned(), -(zeros as i32) - 1)
    };
    let significant = significant.trim_end_matches('0');
    let (first, rest) = significant.split_at(1.min(significant.len()));
    if value < 0.0 {
        out.push('-');
    }
    let rest = if rest.is_empty() { "0" } else { rest };
    out.push_str(&format!("{first}.{rest}E{exponent}"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn doubles_look_like_javas() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1234567.0, "1234567.0"),
            (1e7, "1.0E7"),
            (1.25e10, "1.25E10"),
            (-1.5e-7, "-1.5E-7"),
            (1e300, "1.0E300"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = String::new();
            super::write(&value.to_string(), value, &mut out);
            assert_eq!(out, expected);
        }
    }
}
