//! Interval literals: `INTERVAL '5' MINUTE`, `INTERVAL '1 2:30' DAY TO MINUTE`.

use super::Place;
use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, plain};
use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, Value, ValueWithSpan};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// Reads an interval literal and gives it with one unit: DAY, HOUR, MINUTE, SECOND, MONTH or YEAR.
pub fn parse(parser: &mut Parser) -> Parsed<Expr> {
    parser.word("INTERVAL")?;
    let negative = parser.consume_token(&Token::Minus);
    if !negative {
        // A plus sign says nothing.
        let _ = parser.consume_token(&Token::Plus);
    }
    let text = parser.text("the interval's value")?;
    let span = text.span;
    let value = plain(text);
    let from = parse_unit(parser)?;
    let to = if parser.takes("TO") {
        Some(parse_unit(parser)?)
    } else {
        None
    };
    let (value, unit) = simplify(value.trim(), from, to).ok_or_else(|| {
        let unit = to.map_or(from.to_owned(), |to| format!("{from} TO {to}"));
        Refusal::new(span, format!("'{value}' is not an interval of {unit}"))
            .hint("for example INTERVAL '5' MINUTE, INTERVAL '1.5' SECOND, INTERVAL '1:30' MINUTE TO SECOND")
    })?;
    let value = match (negative, value.strip_prefix('-')) {
        (true, Some(positive)) => positive.to_owned(),
        (true, None) => format!("-{value}"),
        (false, _) => value,
    };
    Ok(Expr::Interval(Interval {
        value: Box::new(Expr::Value(
            Value::SingleQuotedString(value).with_span(span),
        )),
        leading_field: Some(unit),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

/// The unit's name in upper case and in the singular; `SQL_TSI_MINUTE` and `minutes` are `MINUTE`.
pub fn unit(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SQL_TSI_").unwrap_or(&name);
    let name = name.strip_suffix('S').unwrap_or(name);
    [
        "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR",
    ]
    .into_iter()
    .find(|unit| *unit == name)
}

/// How long an interval is that [`parse`] gave, in milliseconds; nothing for months and years, whose length differs.
pub fn milliseconds(expr: &Expr) -> Option<i64> {
    let Expr::Interval(Interval {
        value,
        leading_field: Some(field),
        ..
    }) = expr
    else {
        return None;
    };
    let Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(value),
        ..
    }) = &**value
    else {
        return None;
    };
    let unit = match field {
        DateTimeField::Day => 86_400_000,
        DateTimeField::Hour => 3_600_000,
        DateTimeField::Minute => 60_000,
        DateTimeField::Second => 1_000,
        _ => return None,
    };
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.as_str()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // Beyond milliseconds there is no event time.
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let length = whole
        .parse::<i64>()
        .ok()?
        .checked_mul(unit)?
        .checked_add(thousandths.checked_mul(unit / 1_000)?)?;
    Some(if negative { -length } else { length })
}

/// A unit, and a precision in parentheses that changes nothing.
fn parse_unit(parser: &mut Parser) -> Parsed<&'static str> {
    let token = parser.peek_token();
    let found = match &token.token {
        Token::Word(word) => unit(&word.value),
        _ => None,
    };
    let Some(found) = found else {
        return parser.unexpected(
            "an interval's unit (SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER or YEAR)",
        );
    };
    parser.advance_token();
    if parser.consume_token(&Token::LParen) {
        loop {
            let place: Place = parser.here();
            if !matches!(parser.next_token().token, Token::Number(..)) {
                return Err(Refusal::new(place, "expected a number of digits"));
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.symbol(&Token::RParen)?;
    }
    Ok(found)
}

/// The units of a day-time interval, the largest first, with their length in seconds.
const DAY_TIME: [(&str, i64); 4] = [
    ("DAY", 86_400),
    ("HOUR", 3_600),
    ("MINUTE", 60),
    ("SECOND", 1),
];

fn simplify(value: &str, from: &str, to: Option<&str>) -> Option<(String, DateTimeField)> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let sign = if negative { "-" } else { "" };
    let Some(to) = to else {
        let (field, factor) = match from {
            "SECOND" => {
                return second(digits)
                    .map(|digits| (format!("{sign}{digits}"), DateTimeField::Second));
            }
            "MINUTE" => (DateTimeField::Minute, 1),
            "HOUR" => (DateTimeField::Hour, 1),
            "DAY" => (DateTimeField::Day, 1),
            "WEEK" => (DateTimeField::Day, 7),
            "MONTH" => (DateTimeField::Month, 1),
            "QUARTER" => (DateTimeField::Month, 3),
            "YEAR" => (DateTimeField::Year, 1),
            _ => return None,
        };
        let number = whole(digits)?.checked_mul(factor)?;
        return Some((format!("{sign}{number}"), field));
    };
    if (from, to) == ("YEAR", "MONTH") {
        let (years, months) = digits.split_once('-')?;
        let months = whole(months).filter(|months| *months < 12)?;
        let months = whole(years)?.checked_mul(12)?.checked_add(months)?;
        return Some((format!("{sign}{months}"), DateTimeField::Month));
    }
    let first = DAY_TIME.iter().position(|(unit, _)| *unit == from)?;
    let last = DAY_TIME.iter().position(|(unit, _)| *unit == to)?;
    if first >= last {
        return None;
    }
    let mut rest = digits;
    let mut seconds: i64 = 0;
    let mut fraction = String::new();
    for (n, (unit, length)) in DAY_TIME.iter().enumerate().take(last + 1).skip(first) {
        let part = if n == last {
            rest
        } else {
            let (part, behind) = rest.split_once(if *unit == "DAY" { ' ' } else { ':' })?;
            rest = behind.trim_start();
            part
        };
        let part = match part.split_once('.') {
            Some((part, behind)) if *unit == "SECOND" && second(rest).is_some() => {
                fraction = format!(".{behind}");
                part
            }
            _ => part,
        };
        let number = whole(part)?;
        // 23 hours, 59 minutes, 59 seconds: only the first number may be larger.
        if n > first && number >= if *unit == "HOUR" { 24 } else { 60 } {
            return None;
        }
        seconds = seconds.checked_add(number.checked_mul(*length)?)?;
    }
    Some((format!("{sign}{seconds}{fraction}"), DateTimeField::Second))
}

fn whole(digits: &str) -> Option<i64> {
    let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit());
    // Nine digits are 31 years of seconds, and keep every sum far from an overflow.
    (all && digits.len() <= 9)
        .then(|| digits.parse().ok())
        .flatten()
}

/// Seconds with up to nine digits behind the point.
fn second(digits: &str) -> Option<&str> {
    let (before, behind) = digits.split_once('.').unwrap_or((digits, "0"));
    (whole(before).is_some() && whole(behind).is_some()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::syntax::{read, tokens};
    use crate::sql::text::Text;

    fn interval(sql: &str) -> Parsed<Expr> {
        let text = Text::fill(sql, &|_| None)?;
        read(tokens(&text)?, Place::default(), parse)
    }

    #[test]
    fn one_unit_is_left() {
        for (sql, expected, ms) in [
            ("INTERVAL '5' MINUTE", "INTERVAL '5' MINUTE", Some(300_000)),
            (
                "interval '05' minutes",
                "INTERVAL '5' MINUTE",
                Some(300_000),
            ),
            (
                "INTERVAL '1.5' SECOND",
                "INTERVAL '1.5' SECOND",
                Some(1_500),
            ),
            (
                "INTERVAL '-1.25' SECOND(2, 3)",
                "INTERVAL '-1.25' SECOND",
                Some(-1_250),
            ),
            ("INTERVAL -'3' DAY", "INTERVAL '-3' DAY", Some(-259_200_000)),
            ("INTERVAL -'-3' DAY", "INTERVAL '3' DAY", Some(259_200_000)),
            (
                "INTERVAL '2' WEEK",
                "INTERVAL '14' DAY",
                Some(1_209_600_000),
            ),
            (
                "INTERVAL '100' MINUTE(3)",
                "INTERVAL '100' MINUTE",
                Some(6_000_000),
            ),
            (
                "INTERVAL '1:30' MINUTE TO SECOND",
                "INTERVAL '90' SECOND",
                Some(90_000),
            ),
            (
                "INTERVAL '-1:30.5' MINUTE TO SECOND",
                "INTERVAL '-90.5' SECOND",
                Some(-90_500),
            ),
            (
                "INTERVAL '1 02:03:04' DAY TO SECOND",
                "INTERVAL '93784' SECOND",
                Some(93_784_000),
            ),
            ("INTERVAL '1-2' YEAR TO MONTH", "INTERVAL '14' MONTH", None),
            ("INTERVAL '1' QUARTER", "INTERVAL '3' MONTH", None),
        ] {
            let expr = interval(sql).unwrap();
            assert_eq!(expr.to_string(), expected, "{sql}");
            assert_eq!(milliseconds(&expr), ms, "{sql}");
        }
    }

    #[test]
    fn nonsense_is_refused_at_its_place() {
        for (sql, column, message) in [
            (
                "INTERVAL '5 min' MINUTE",
                10,
                "'5 min' is not an interval of MINUTE",
            ),
            (
                "INTERVAL '1.5' MINUTE",
                10,
                "'1.5' is not an interval of MINUTE",
            ),
            ("INTERVAL '' DAY", 10, "'' is not an interval of DAY"),
            (
                "INTERVAL '1:60' MINUTE TO SECOND",
                10,
                "'1:60' is not an interval of MINUTE TO SECOND",
            ),
            (
                "INTERVAL '1' SECOND TO MINUTE",
                10,
                "'1' is not an interval of SECOND TO MINUTE",
            ),
            (
                "INTERVAL '9999999999' DAY",
                10,
                "'9999999999' is not an interval of DAY",
            ),
            (
                "INTERVAL '5' FORTNIGHT",
                14,
                "expected an interval's unit (SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER or YEAR), found FORTNIGHT",
            ),
        ] {
            let refusal = interval(sql).unwrap_err();
            assert_eq!(
                (refusal.place.column, refusal.message.as_str()),
                (column, message)
            );
        }
    }
}
