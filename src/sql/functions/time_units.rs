//! FLOOR and CEIL of a moment to a unit.

use super::Takes::{Text, Time};
use super::{Function, Gives, column, texts};
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampNanosecondType};
use chrono::{DateTime, Datelike, Months, NaiveDate, TimeDelta};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarFunctionArgs;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("floor_to", &[Text, Time], Gives::Same(1), |args| {
            rounded(args, false)
        }),
        Function::new("ceil_to", &[Text, Time], Gives::Same(1), |args| {
            rounded(args, true)
        }),
    ]
}

fn rounded(args: &ScalarFunctionArgs, up: bool) -> Result<ArrayRef> {
    let values = column(args, 1)?;
    let units = texts(args, 0)?;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let plain: ArrayRef = match values.data_type() {
        // Rounded in the same direction already here, a nanosecond before or behind a unit counts.
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Arc::new(
            values
                .as_primitive::<TimestampNanosecondType>()
                .unary::<_, Int64Type>(|at| {
                    at.div_euclid(1000) + i64::from(up && at.rem_euclid(1000) > 0)
                }),
        ),
        DataType::Timestamp(_, _) => cast(&cast(&values, &zoneless(values.data_type()))?, &micros)?,
        _ => cast(&values, &micros)?,
    };
    let plain = cast(&plain, &DataType::Int64)?;
    let plain = plain.as_primitive::<Int64Type>();
    let rows = plain.iter().enumerate();
    let rows: Int64Array = rows
        .map(|(row, at)| to_unit(at?, units.get(row)?, up))
        .collect();
    let back = cast(&(Arc::new(rows) as ArrayRef), &micros)?;
    Ok(match values.data_type() {
        DataType::Timestamp(_, _) => cast(
            &cast(&back, &zoneless(values.data_type()))?,
            values.data_type(),
        )?,
        other => cast(&back, other)?,
    })
}

/// The zone is UTC, so that taking it off and putting it on changes nothing.
fn zoneless(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        other => other.clone(),
    }
}

/// Microseconds since 1970, at the beginning of the unit or of the next one. Flink's week begins on Sunday.
fn to_unit(at: i64, unit: &str, up: bool) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    let fixed = match unit {
        "SECOND" => Some(SECOND),
        "MINUTE" => Some(60 * SECOND),
        "HOUR" => Some(3_600 * SECOND),
        "DAY" => Some(86_400 * SECOND),
        _ => None,
    };
    if let Some(size) = fixed {
        let floor = at - at.rem_euclid(size);
        return Some(if up && floor < at {
            floor + size
        } else {
            floor
        });
    }
    let day = DateTime::from_timestamp_micros(at)?.date_naive();
    let first_of = |month: u32| NaiveDate::from_ymd_opt(day.year(), month, 1);
    let (floor, months) = match unit {
        "WEEK" => {
            let since_sunday = i64::from(day.weekday().num_days_from_sunday());
            (day.checked_sub_signed(TimeDelta::days(since_sunday))?, 0)
        }
        "MONTH" => (first_of(day.month())?, 1),
        "QUARTER" => (first_of(day.month0() / 3 * 3 + 1)?, 3),
        "YEAR" => (first_of(1)?, 12),
        _ => return None,
    };
    let micros = |day: NaiveDate| Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros());
    if !up || micros(floor)? == at {
        return micros(floor);
    }
    micros(match months {
        0 => floor.checked_add_signed(TimeDelta::days(7))?,
        months => floor.checked_add_months(Months::new(months))?,
    })
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    /// As real Flink 2.2 answered.
    #[test]
    fn moments_are_rounded_to_units() {
        let at = "TIMESTAMP '2024-05-15 08:59:10.123'";
        for (unit, floor, ceil) in [
            (
                "SECOND",
                "2024-05-15 08:59:10.000",
                "2024-05-15 08:59:11.000",
            ),
            (
                "MINUTE",
                "2024-05-15 08:59:00.000",
                "2024-05-15 09:00:00.000",
            ),
            ("HOUR", "2024-05-15 08:00:00.000", "2024-05-15 09:00:00.000"),
            ("DAY", "2024-05-15 00:00:00.000", "2024-05-16 00:00:00.000"),
            ("WEEK", "2024-05-12 00:00:00.000", "2024-05-19 00:00:00.000"),
            (
                "MONTH",
                "2024-05-01 00:00:00.000",
                "2024-06-01 00:00:00.000",
            ),
            (
                "QUARTER",
                "2024-04-01 00:00:00.000",
                "2024-07-01 00:00:00.000",
            ),
            ("YEAR", "2024-01-01 00:00:00.000", "2025-01-01 00:00:00.000"),
        ] {
            check_calls(&[
                (&format!("FLOOR({at} TO {unit})"), floor),
                (&format!("CEIL({at} TO {unit})"), ceil),
            ]);
        }
        check_calls(&[
            (
                "FLOOR(TIMESTAMP '1969-12-31 23:59:10.123' TO HOUR)",
                "1969-12-31 23:00:00.000",
            ),
            (
                "CEIL(TO_TIMESTAMP('2024-05-01 00:00:00') TO MONTH)",
                "2024-05-01 00:00:00.000",
            ),
            (
                "CEIL(TIMESTAMP '2024-05-15 08:59:10.000000001' TO SECOND)",
                "2024-05-15 08:59:11.000000000",
            ),
            (
                "FLOOR(TIMESTAMP '1969-12-31 23:59:59.999999999' TO SECOND)",
                "1969-12-31 23:59:59.000000000",
            ),
            ("FLOOR(DATE '2024-05-15' TO WEEK)", "2024-05-12"),
            ("CEIL(DATE '2024-05-15' TO MONTH)", "2024-06-01"),
            ("FLOOR(DATE '2024-05-15' TO HOUR)", "2024-05-15"),
            (
                "CAST(FLOOR(TO_TIMESTAMP_LTZ(3661, 0) TO HOUR) AS STRING)",
                "1970-01-01 01:00:00.000",
            ),
        ]);
    }
}
