//! Steps between moments: TIMESTAMPDIFF and TIMESTAMPADD.

use super::Takes::{Long, Text, Time};
use super::time::{MILLIS_OF_DAY, get, micros};
use super::{Function, Gives, column, numbers, texts};
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, TimestampNanosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use chrono::{DateTime, Datelike, Months, NaiveDate};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new(
            "timestampdiff",
            &[Text, Time, Time],
            Gives::Type(DataType::Int32),
            timestampdiff,
        ),
        Function::new(
            "timestampadd",
            &[Text, Long, Time],
            Gives::ByValue(moved),
            timestampadd,
        ),
    ]
}

/// Whole units from the first moment to the second, cut towards zero; fractions of a millisecond do not count.
fn timestampdiff(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (from, to) = (micros(args, 1)?, micros(args, 2)?);
    let unit = Unit::of(args)?;
    let rows = (0..args.number_rows).map(|row| {
        let (from, to) = (
            get(&from, row)?.div_euclid(1000),
            get(&to, row)?.div_euclid(1000),
        );
        let whole = match unit {
            Unit::Millis(size) => to.wrapping_sub(from) / size,
            Unit::Months(size) => months_between(from, to)? / size,
        };
        Some(whole as i32)
    });
    Ok(Arc::new(rows.collect::<Int32Array>()))
}

/// The type of TIMESTAMPADD: that of the moment, but a DATE has no room for hours.
fn moved(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let unit = constants.first().copied().flatten();
    let unit = unit.and_then(|unit| unit.try_as_str().flatten());
    Ok(match (&types[2], unit) {
        (DataType::Date32, Some("SECOND" | "MINUTE" | "HOUR")) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        (given, _) => given.clone(),
    })
}

fn timestampadd(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let counts = numbers::<Int64Type>(args, 1)?;
    let moments = micros(args, 2)?;
    let unit = Unit::of(args)?;
    let rows = (0..args.number_rows).map(|row| {
        let (count, at) = (counts.get(row)?, get(&moments, row)?);
        match unit {
            Unit::Millis(size) => at.checked_add(count.checked_mul(size)?.checked_mul(1000)?),
            Unit::Months(size) => {
                let at = DateTime::from_timestamp_micros(at)?.naive_utc();
                let day = plus_months(at.date(), count.checked_mul(size)?)?;
                Some(day.and_time(at.time()).and_utc().timestamp_micros())
            }
        }
    });
    let micros: Int64Array = rows.collect();
    let result: ArrayRef = match args.return_type() {
        DataType::Date32 => {
            Arc::new(micros.unary::<_, Date32Type>(|m| m.div_euclid(1000 * MILLIS_OF_DAY) as i32))
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            Arc::new(micros.unary::<_, TimestampSecondType>(|m| m.div_euclid(1_000_000)))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Arc::new(micros.unary::<_, TimestampMillisecondType>(|m| m.div_euclid(1000)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let given = column(args, 2)?;
            let rows = micros
                .iter()
                .zip(given.as_primitive::<TimestampNanosecondType>().iter());
            // Whole units leave what is behind the microseconds as it is.
            let rows = rows.map(|(micros, given)| {
                let behind = given?.rem_euclid(1000);
                micros?.checked_mul(1000)?.checked_add(behind)
            });
            Arc::new(rows.collect::<TimestampNanosecondArray>())
        }
        _ => Arc::new(micros.unary::<_, TimestampMicrosecondType>(|m| m)),
    };
    Ok(arrow::compute::cast(&result, args.return_type())?)
}

#[derive(Clone, Copy)]
enum Unit {
    Millis(i64),
    Months(i64),
}

impl Unit {
    fn of(args: &ScalarFunctionArgs) -> Result<Unit> {
        let units = texts(args, 0)?;
        Ok(match units.constant() {
            Some("SECOND") => Unit::Millis(1000),
            Some("MINUTE") => Unit::Millis(60_000),
            Some("HOUR") => Unit::Millis(3_600_000),
            Some("DAY") => Unit::Millis(MILLIS_OF_DAY),
            Some("WEEK") => Unit::Millis(7 * MILLIS_OF_DAY),
            Some("MONTH") => Unit::Months(1),
            Some("QUARTER") => Unit::Months(3),
            Some("YEAR") => Unit::Months(12),
            other => {
                return plan_err!(
                    "the unit {} is unknown; use SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER or YEAR",
                    other.unwrap_or("NULL")
                );
            }
        })
    }
}

/// Whole months between two moments in milliseconds. The days alone are counted towards zero, where a month ends with its last day; the
/// time of day counts where the months lead to the very day, in both directions, as in Flink.
fn months_between(from: i64, to: i64) -> Option<i64> {
    let start = DateTime::from_timestamp_millis(from)?.naive_utc();
    let end = DateTime::from_timestamp_millis(to)?.naive_utc();
    let (first, last) = (start.date(), end.date());
    let months = if first <= last {
        months_forward(first, last)?
    } else {
        -months_forward(last, first)?
    };
    let early = plus_months(first, months)? == last && end.time() < start.time();
    Some(months - i64::from(early))
}

fn months_forward(first: NaiveDate, last: NaiveDate) -> Option<i64> {
    let count = |day: NaiveDate| i64::from(day.year()) * 12 + i64::from(day.month0());
    let months = count(last) - count(first);
    Some(months - i64::from(plus_months(first, months)? > last))
}

/// The same day of another month, or the last one that the month has.
fn plus_months(day: NaiveDate, months: i64) -> Option<NaiveDate> {
    let step = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 {
        day.checked_sub_months(step)
    } else {
        day.checked_add_months(step)
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    /// As real Flink 2.2 answered.
    #[test]
    fn months_end_with_their_last_day() {
        for (unit, from, to, expected) in [
            ("MONTH", "2024-01-31 00:00:00", "2024-02-29 00:00:00", "1"),
            ("YEAR", "2024-02-29 00:00:00", "2025-02-28 10:00:00", "1"),
            ("MONTH", "2024-02-29 00:00:00", "2025-02-28 10:00:00", "12"),
            ("MONTH", "2024-02-29 10:00:00", "2025-02-28 00:00:00", "11"),
            ("MONTH", "2024-02-15 10:00:00", "2024-01-15 08:00:00", "-2"),
            ("MONTH", "2024-02-15 08:00:00", "2024-01-15 10:00:00", "-1"),
            ("MONTH", "1969-12-31 10:00:00", "1969-12-31 00:00:00", "-1"),
            ("YEAR", "1969-12-31 10:00:00", "1969-12-31 00:00:00", "0"),
            ("MONTH", "2024-03-31 12:00:00", "2024-02-29 13:00:00", "-1"),
            ("MONTH", "2024-01-31 12:00:00", "2024-02-29 11:00:00", "0"),
            (
                "MONTH",
                "2025-02-28 00:00:00",
                "1968-02-29 00:00:00",
                "-684",
            ),
            ("MONTH", "2024-12-31 10:00:00", "2024-04-30 00:00:00", "-9"),
            ("MONTH", "2024-04-30 10:00:00", "2024-03-31 08:00:00", "-1"),
            (
                "MONTH",
                "2024-01-31 08:00:00",
                "1969-12-31 00:00:00",
                "-650",
            ),
        ] {
            let call = format!("TIMESTAMPDIFF({unit}, TIMESTAMP '{from}', TIMESTAMP '{to}')");
            check_calls(&[(&call, expected)]);
        }
    }
}
