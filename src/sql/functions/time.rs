//! Dates and timestamps. The session's zone is UTC.

use super::Takes::{Int, Long, Text, Time, TimeOrText};
use super::pattern::{Pattern, Reading};
use super::time_text::{read_plain, read_timestamp};
use super::{Function, Gives, Values, column, numbers, text_rows, texts, type_name};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, StringBuilder,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use chrono::{DateTime, Datelike};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use std::sync::Arc;

/// What EXTRACT can take out of a moment.
pub const EXTRACT_UNITS: &[&str] = &[
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "DOY",
    "DOW",
    "ISODOW",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
    "EPOCH",
];

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";
pub(super) const MILLIS_OF_DAY: i64 = 86_400_000;

/// The milliseconds of the years 0 to 9999, which are all that Flink makes a time of.
const FLINKS_YEARS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
    let bigint = || Gives::Type(DataType::Int64);
    let timestamp = || Gives::Type(DataType::Timestamp(TimeUnit::Millisecond, None));
    vec![
        Function::new("date_format", &[TimeOrText, Text], text(), date_format),
        Function::new("from_unixtime", &[Long, Text], text(), from_unixtime).optional(1),
        Function::new("unix_timestamp", &[Text, Text], bigint(), |args| {
            let moments = parsed(args, |text, pattern| pattern.parse(text, Reading::Lenient))?;
            let seconds = moments.into_iter().map(|moment| match moment {
                Moment::Null => None,
                // Flink's documented answer to a text that it cannot read.
                Moment::Unreadable => Some(i64::MIN),
                Moment::At(micros) => Some(micros.div_euclid(1_000_000)),
            });
            Ok(Arc::new(seconds.collect::<Int64Array>()))
        })
        .optional(1),
        Function::new("to_timestamp", &[Text, Text], timestamp(), |args| {
            let by_pattern = args.args.len() > 1;
            let moments = parsed(args, |text, pattern| {
                let found = by_pattern.then(|| pattern.parse(text, Reading::Smart));
                // Flink tries its own form behind that of the pattern.
                found.flatten().or_else(|| micros_of(read_plain(text)?))
            })?;
            let millis = moments.into_iter().map(|moment| match moment {
                Moment::At(micros) => Some(micros.div_euclid(1000)),
                Moment::Null | Moment::Unreadable => None,
            });
            Ok(Arc::new(millis.collect::<TimestampMillisecondArray>()))
        })
        .optional(1),
        Function::new(
            "to_date",
            &[Text, Text],
            Gives::Type(DataType::Date32),
            |args| {
                let by_pattern = args.args.len() > 1;
                let moments = parsed(args, |text, pattern| match by_pattern {
                    true => pattern.parse(text, Reading::Lenient),
                    false => micros_of(read_timestamp(text)?),
                })?;
                let days = moments.into_iter().map(|moment| match moment {
                    Moment::At(micros) => Some(micros.div_euclid(1000 * MILLIS_OF_DAY) as i32),
                    Moment::Null | Moment::Unreadable => None,
                });
                Ok(Arc::new(days.collect::<Date32Array>()))
            },
        )
        .optional(1),
        Function::new(
            "to_timestamp_ltz",
            &[Long, Int],
            Gives::Of(ltz),
            to_timestamp_ltz,
        )
        .optional(1),
        Function::new("extract", &[Text, Time], bigint(), extract),
    ]
}

/// A date or timestamp as microseconds since 1970.
pub(super) fn micros(args: &ScalarFunctionArgs, index: usize) -> Result<Int64Array> {
    let array = column(args, index)?;
    Ok(match array.data_type() {
        DataType::Date32 => array
            .as_primitive::<Date32Type>()
            .unary(|days| i64::from(days) * MILLIS_OF_DAY * 1000),
        DataType::Timestamp(TimeUnit::Second, _) => array
            .as_primitive::<TimestampSecondType>()
            .unary(|s| s.saturating_mul(1_000_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array
            .as_primitive::<TimestampMillisecondType>()
            .unary(|ms| ms.saturating_mul(1000)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive::<TimestampMicrosecondType>()
            .unary(|micros| micros),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive::<TimestampNanosecondType>()
            .unary(|ns| ns.div_euclid(1000)),
        other => return exec_err!("{} is not a moment", type_name(other)),
    })
}

pub(super) fn get(values: &Int64Array, row: usize) -> Option<i64> {
    values.is_valid(row).then(|| values.value(row))
}

fn compiled(pattern: &str) -> Result<Pattern> {
    Pattern::compile(pattern).map_err(|why| exec_datafusion_err!("{why}"))
}

/// A pattern argument: compiled once where it is a constant.
struct Patterns {
    texts: Option<Values<StringArray>>,
    constant: Option<Pattern>,
}

impl Patterns {
    fn new(args: &ScalarFunctionArgs, index: usize) -> Result<Patterns> {
        if args.args.len() <= index {
            return Ok(Patterns {
                texts: None,
                constant: Some(compiled(DEFAULT_PATTERN)?),
            });
        }
        let texts = texts(args, index)?;
        let constant = texts.constant().map(compiled).transpose()?;
        Ok(Patterns {
            texts: Some(texts),
            constant,
        })
    }

    /// The pattern of one row, where it is not constant.
    fn of_row(&self, row: usize) -> Result<Option<Pattern>> {
        self.texts
            .as_ref()
            .and_then(|texts| texts.get(row))
            .map(compiled)
            .transpose()
    }
}

fn date_format(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let given = column(args, 0)?;
    let nanos = given.as_primitive_opt::<TimestampNanosecondType>();
    let moments = match given.as_string_opt::<i32>() {
        // A text that cannot be read is NULL, and a fraction is passed over.
        Some(texts) => {
            let usual = compiled(DEFAULT_PATTERN)?;
            let moments = texts.iter();
            moments
                .map(|text| usual.parse(text?, Reading::Lenient))
                .collect()
        }
        None => micros(args, 0)?,
    };
    format_column(args, &moments, nanos, &Patterns::new(args, 1)?)
}

fn from_unixtime(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let seconds = column(args, 0)?;
    let micros = seconds
        .as_primitive::<Int64Type>()
        .unary(|s| s.saturating_mul(1_000_000));
    format_column(args, &micros, None, &Patterns::new(args, 1)?)
}

/// Rows of a stream are near each other in time, so with a pattern of days or hours nearly every row has a text that
/// was made before: it is kept, and found by the span of time that it stands for. `nanos` are the moments themselves, where they have more
/// digits than microseconds.
fn format_column(
    args: &ScalarFunctionArgs,
    moments: &Int64Array,
    nanos: Option<&TimestampNanosecondArray>,
    patterns: &Patterns,
) -> Result<ArrayRef> {
    const KEPT: usize = 64;
    let behind = |row| nanos.map_or(0, |nanos| nanos.value(row).rem_euclid(1000) as u32);
    let Some(pattern) = &patterns.constant else {
        let mut rows = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let text = get(moments, row)
                .zip(patterns.of_row(row)?)
                .map(|(micros, pattern)| {
                    let mut text = String::new();
                    pattern.format(micros, behind(row), &mut text);
                    text
                });
            rows.push(text);
        }
        return text_rows(args, |row| rows[row].take());
    };
    let shows_nanos = nanos.is_some() && pattern.shows_nanos();
    let mut kept: Vec<(i64, String)> = vec![(i64::MIN, String::new()); KEPT];
    let mut result = StringBuilder::with_capacity(args.number_rows, args.number_rows * 10);
    for row in 0..args.number_rows {
        let Some(micros) = get(moments, row) else {
            result.append_null();
            continue;
        };
        let span = pattern.span_of(micros);
        let (of, text) = &mut kept[span.rem_euclid(KEPT as i64) as usize];
        if *of != span || shows_nanos {
            *of = span;
            text.clear();
            pattern.format(micros, behind(row), text);
        }
        result.append_value(text);
    }
    Ok(Arc::new(result.finish()))
}

enum Moment {
    Null,
    Unreadable,
    At(i64),
}

fn micros_of(nanos: i128) -> Option<i64> {
    i64::try_from(nanos.div_euclid(1000)).ok()
}

/// The texts of the first argument as moments in microseconds; the pattern is that of the second, or Flink's own where there is none.
fn parsed(
    args: &ScalarFunctionArgs,
    read: impl Fn(&str, &Pattern) -> Option<i64>,
) -> Result<Vec<Moment>> {
    let values = texts(args, 0)?;
    let patterns = Patterns::new(args, 1)?;
    (0..args.number_rows)
        .map(|row| {
            let Some(text) = values.get(row) else {
                return Ok(Moment::Null);
            };
            let found = match &patterns.constant {
                Some(pattern) => read(text, pattern),
                None => match patterns.of_row(row)? {
                    Some(pattern) => read(text, &pattern),
                    None => return Ok(Moment::Null),
                },
            };
            Ok(found.map_or(Moment::Unreadable, Moment::At))
        })
        .collect()
}

fn ltz(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Timestamp(
        TimeUnit::Millisecond,
        Some("UTC".into()),
    ))
}

/// A number of seconds (precision 0) or milliseconds (precision 3).
fn to_timestamp_ltz(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let values = numbers::<Int64Type>(args, 0)?;
    let precisions = match args.args.len() {
        2 => Some(numbers::<Int32Type>(args, 1)?),
        _ => None,
    };
    let mut rows = Vec::with_capacity(args.number_rows);
    for row in 0..args.number_rows {
        let precision = precisions.as_ref().map_or(Some(3), |given| given.get(row));
        let millis = match (values.get(row), precision) {
            (None, _) | (_, None) => None,
            (Some(seconds), Some(0)) => seconds.checked_mul(1000),
            (Some(millis), Some(3)) => Some(millis),
            (_, Some(other)) => {
                return exec_err!("TO_TIMESTAMP_LTZ takes a precision of 0 or 3, not {other}");
            }
        };
        rows.push(millis.filter(|millis| FLINKS_YEARS.contains(millis)));
    }
    Ok(Arc::new(
        TimestampMillisecondArray::from(rows).with_timezone("UTC"),
    ))
}

fn extract(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (units, moments) = (texts(args, 0)?, micros(args, 1)?);
    let Some(unit) = units.constant() else {
        return exec_err!("the unit of EXTRACT must be a constant");
    };
    let given = column(args, 1)?;
    if let ("NANOSECOND", Some(nanos)) = (unit, given.as_primitive_opt::<TimestampNanosecondType>())
    {
        return Ok(Arc::new(
            nanos.unary::<_, Int64Type>(|at| at % 1_000_000_000),
        ));
    }
    let part = |micros: i64| part(unit, micros);
    let rows = (0..args.number_rows).map(|row| get(&moments, row).and_then(part));
    Ok(Arc::new(rows.collect::<Int64Array>()))
}

fn part(unit: &str, micros: i64) -> Option<i64> {
    let second_of_day = micros.div_euclid(1_000_000).rem_euclid(86_400);
    let quick = match unit {
        "HOUR" => Some(second_of_day / 3600),
        "MINUTE" => Some(second_of_day / 60 % 60),
        "SECOND" => Some(second_of_day % 60),
        // Before 1970 they count backwards, as in Flink.
        "MILLISECOND" => Some(micros % 1_000_000 / 1000),
        "MICROSECOND" => Some(micros % 1_000_000),
        "NANOSECOND" => Some(micros % 1_000_000 * 1000),
        "EPOCH" => Some(micros.div_euclid(1_000_000)),
        _ => None,
    };
    if quick.is_some() {
        return quick;
    }
    let at = DateTime::from_timestamp_micros(micros)?.naive_utc();
    Some(match unit {
        "YEAR" => i64::from(at.year()),
        "QUARTER" => i64::from(at.month0() / 3 + 1),
        "MONTH" => i64::from(at.month()),
        "WEEK" => i64::from(at.iso_week().week()),
        "DAY" => i64::from(at.day()),
        "DOY" => i64::from(at.ordinal()),
        "DOW" => i64::from(at.weekday().number_from_sunday()),
        "ISODOW" => i64::from(at.weekday().number_from_monday()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    /// As real Flink 2.2 answered.
    #[test]
    fn texts_without_a_pattern() {
        check_calls(&[
            (
                "TO_TIMESTAMP('2024-03-01 08:00:00.123456')",
                "2024-03-01 08:00:00.123",
            ),
            ("TO_TIMESTAMP('2024-03-01')", "2024-03-01 00:00:00.000"),
            ("TO_TIMESTAMP('2024-03-01T08:00:00')", "NULL"),
            ("TO_TIMESTAMP('2024-03-01 08:00')", "NULL"),
            ("TO_TIMESTAMP('2024-3-1 8:0:0')", "2024-03-01 08:00:00.000"),
            (
                "TO_TIMESTAMP('2024-02-30 00:00:00')",
                "2024-02-29 00:00:00.000",
            ),
            ("TO_TIMESTAMP('2024-02-32 00:00:00')", "NULL"),
            (
                "TO_TIMESTAMP('2024-03-01 24:00:00')",
                "2024-03-02 00:00:00.000",
            ),
            ("TO_TIMESTAMP(' 2024-03-01 08:00:00')", "NULL"),
            ("TO_TIMESTAMP('2024-03-01 08:00:00x')", "NULL"),
            ("TO_TIMESTAMP('')", "NULL"),
            (
                "TO_TIMESTAMP('01/03/2024 08:00', 'dd/MM/yyyy HH:mm')",
                "2024-03-01 08:00:00.000",
            ),
            ("TO_TIMESTAMP_LTZ(1709280000123)", "2024-03-01 08:00:00.123"),
            ("TO_DATE('2024-02-30')", "NULL"),
            ("FROM_UNIXTIME(-1)", "1969-12-31 23:59:59"),
            (
                "FROM_UNIXTIME(1709280000, 'yyyy-MM-dd''T''HH:mm:ss')",
                "2024-03-01T08:00:00",
            ),
            ("UNIX_TIMESTAMP('x')", "-9223372036854775808"),
        ]);
    }

    use crate::sql::functions::testing::check_calls;

    #[test]
    fn time_functions() {
        let at = "TIMESTAMP '2024-03-05 14:07:09.123'";
        check_calls(&[
            (&format!("DATE_FORMAT({at}, 'yyyy-MM-dd')"), "2024-03-05"),
            (&format!("DATE_FORMAT({at}, 'HH')"), "14"),
            (
                &format!("DATE_FORMAT({at}, 'EEE d MMM yy hh:mm:ss.SSS a')"),
                "Tue 5 Mar 24 02:07:09.123 PM",
            ),
            (
                "DATE_FORMAT(TIMESTAMP '1969-12-31 23:00:00', 'yyyy-MM-dd HH')",
                "1969-12-31 23",
            ),
            ("DATE_FORMAT('2024-03-05 14:07:09', 'HH:mm')", "14:07"),
            ("DATE_FORMAT(CAST(NULL AS TIMESTAMP(3)), 'HH')", "NULL"),
            ("FROM_UNIXTIME(0)", "1970-01-01 00:00:00"),
            ("FROM_UNIXTIME(86399, 'HH.mm')", "23.59"),
            ("UNIX_TIMESTAMP('1970-01-02 00:00:01')", "86401"),
            ("UNIX_TIMESTAMP('02/01/1970', 'dd/MM/yyyy')", "86400"),
            ("UNIX_TIMESTAMP('what')", "-9223372036854775808"),
            (
                "TO_TIMESTAMP('2024-03-05 14:07:09')",
                "2024-03-05 14:07:09.000",
            ),
            (
                "TO_TIMESTAMP('05.03.2024 14:07', 'dd.MM.yyyy HH:mm')",
                "2024-03-05 14:07:00.000",
            ),
            ("TO_TIMESTAMP('what')", "NULL"),
            ("TO_DATE('2024-03-05')", "2024-03-05"),
            ("TO_TIMESTAMP_LTZ(1, 0)", "1970-01-01 00:00:01.000"),
            ("TO_TIMESTAMP_LTZ(1, 3)", "1970-01-01 00:00:00.001"),
            (&format!("EXTRACT(YEAR FROM {at})"), "2024"),
            (&format!("EXTRACT(QUARTER FROM {at})"), "1"),
            (&format!("EXTRACT(WEEK FROM {at})"), "10"),
            (&format!("EXTRACT(DOW FROM {at})"), "3"),
            ("EXTRACT(DOW FROM DATE '2024-03-03')", "1"),
            (&format!("EXTRACT(HOUR FROM {at})"), "14"),
            (&format!("EXTRACT(SECOND FROM {at})"), "9"),
            (
                &format!("TIMESTAMPDIFF(SECOND, {at}, TIMESTAMP '2024-03-05 14:07:08.124')"),
                "0",
            ),
            (
                &format!("TIMESTAMPDIFF(SECOND, {at}, TIMESTAMP '2024-03-05 14:07:08.122')"),
                "-1",
            ),
            (
                &format!("TIMESTAMPDIFF(MINUTE, {at}, TIMESTAMP '2024-03-05 15:08:09')"),
                "60",
            ),
            (
                &format!("TIMESTAMPDIFF(DAY, {at}, TIMESTAMP '2024-03-04 14:07:09')"),
                "-1",
            ),
            (
                "TIMESTAMPDIFF(MONTH, TIMESTAMP '2024-01-31 00:00:00', TIMESTAMP '2024-03-30 00:00:00')",
                "1",
            ),
            (
                "TIMESTAMPDIFF(YEAR, DATE '2024-03-01', DATE '2022-03-02')",
                "-1",
            ),
            (
                &format!("TIMESTAMPADD(HOUR, -15, {at})"),
                "2024-03-04 23:07:09.123",
            ),
            ("TIMESTAMPADD(MONTH, 1, DATE '2024-01-31')", "2024-02-29"),
            (
                "TIMESTAMPADD(SECOND, 1, TIMESTAMP '2024-03-05 14:07:09.123456789')",
                "2024-03-05 14:07:10.123456789",
            ),
            (
                "TIMESTAMPADD(MONTH, -1, TIMESTAMP '1969-12-31 23:59:59.999999999')",
                "1969-11-30 23:59:59.999999999",
            ),
            (
                "DATE_FORMAT(TIMESTAMP '2024-03-05 14:07:09.123456789', 'ss.SSSSSSSSS')",
                "09.123456789",
            ),
            (
                "DATE_FORMAT(TIMESTAMP '1969-12-31 23:59:59.123456789', 'ss.SSSSSSS')",
                "59.1234567",
            ),
            (
                "TIMESTAMP '2024-03-05 00:00:00' + INTERVAL '90' SECOND",
                "2024-03-05 00:01:30.000",
            ),
            (
                "TIMESTAMP '2024-03-31 00:00:00' - INTERVAL '1' MONTH",
                "2024-02-29 00:00:00.000",
            ),
        ]);
    }
    /// As real Flink 2.2 answered.
    #[test]
    fn edges_of_times() {
        check_calls(&[
            (
                "TO_TIMESTAMP_LTZ(253402300799999, 3)",
                "9999-12-31 23:59:59.999",
            ),
            ("TO_TIMESTAMP_LTZ(253402300800000, 3)", "NULL"),
            ("TO_TIMESTAMP_LTZ(253402300800, 0)", "NULL"),
            (
                "TO_TIMESTAMP_LTZ(-62167219200, 0)",
                "0000-01-01 00:00:00.000",
            ),
            ("TO_TIMESTAMP_LTZ(-62167219201, 0)", "NULL"),
            ("DATE_FORMAT('n/a', 'yyyy-MM-dd')", "NULL"),
            ("DATE_FORMAT('2024-03-05', 'yyyy-MM-dd')", "NULL"),
            ("DATE_FORMAT('2024-03-05T14:07:09', 'yyyy')", "NULL"),
            (
                "DATE_FORMAT(' 2024-3-5 1:7:9.5x', 'HH:mm:ss.SSS')",
                "01:07:09.000",
            ),
            ("DATE_FORMAT('2024-02-32 24:00:00', 'MM-dd')", "03-04"),
            ("UNIX_TIMESTAMP('2024-13-05 14:07:09')", "1736086029"),
            ("UNIX_TIMESTAMP('2024-03-05 14:07:99')", "1709647719"),
            ("UNIX_TIMESTAMP('2024-03-05')", "-9223372036854775808"),
            (
                "UNIX_TIMESTAMP('2024-03-05 14:07:09.123', 'yyyy-MM-dd HH:mm:ss')",
                "1709647629",
            ),
            ("TO_DATE('2024-03-05 10:00:00', 'yyyy-MM-dd')", "2024-03-05"),
            ("TO_DATE('2024-3-5', 'yyyy-MM-dd')", "2024-03-05"),
            ("TO_DATE('5.3.2024', 'yyyy-MM-dd')", "NULL"),
            (
                "TO_TIMESTAMP('2024-02-30', 'yyyy-MM-dd')",
                "2024-02-29 00:00:00.000",
            ),
            ("TO_TIMESTAMP('2024-02-32', 'yyyy-MM-dd')", "NULL"),
            (
                "TO_TIMESTAMP('2024-03-05 14:07:09.123', 'yyyy-MM-dd HH:mm:ss')",
                "2024-03-05 14:07:09.123",
            ),
            (
                "TO_TIMESTAMP('2024-03-05 14:07:09', 'yyyy-MM-dd''T''HH:mm:ss')",
                "2024-03-05 14:07:09.000",
            ),
            (
                "EXTRACT(MILLISECOND FROM TIMESTAMP '2024-03-05 14:07:09.123456')",
                "123",
            ),
            (
                "EXTRACT(MICROSECOND FROM TIMESTAMP '2024-03-05 14:07:09.123456')",
                "123456",
            ),
            (
                "EXTRACT(NANOSECOND FROM TIMESTAMP '2024-03-05 14:07:09.123456789')",
                "123456789",
            ),
            (
                "EXTRACT(MILLISECOND FROM TIMESTAMP '1969-03-05 14:07:09.123')",
                "-877",
            ),
            (
                "TIMESTAMPADD(HOUR, 5, DATE '2024-03-05')",
                "2024-03-05 05:00:00.000000",
            ),
        ]);
    }
}
