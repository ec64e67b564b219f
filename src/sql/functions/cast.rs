//! CAST and TRY_CAST as Flink means them.
//!
//! Where arrow's cast means the same (a wider number, say) it is used, since it is the quicker one. The rest is here: TRUE
//! in capitals, numbers that wrap, Java's text of a double, moments cut downwards also before 1970.

use super::cast_text::{read, to_text};
use super::decimal_text::{decimal, decimal_text};
use super::type_name;
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast as arrow_cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{
    Cast as PlainCast, ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// A cast from one type to another, by whichever of the two is right. With `lenient` (TRY_CAST) a text that cannot be read
/// is NULL instead of an error.
pub fn cast(value: Expr, from: &DataType, to: &DataType, lenient: bool) -> Expr {
    if from == to {
        value
    } else if is_plain(from, to) || !is_allowed(from, to) {
        Expr::Cast(PlainCast::new(Box::new(value), to.clone()))
    } else {
        ScalarUDF::from(Cast::new(to.clone(), lenient)).call(vec![value])
    }
}

/// The same for an expression that is planned already.
pub fn physical(
    value: Arc<dyn PhysicalExpr>,
    schema: &Schema,
    to: &DataType,
    options: &Arc<ConfigOptions>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let from = value.data_type(schema)?;
    if &from == to {
        Ok(value)
    } else if is_plain(&from, to) || !is_allowed(&from, to) {
        Ok(Arc::new(CastExpr::new(value, to.clone(), None)))
    } else {
        let function = Arc::new(ScalarUDF::from(Cast::new(to.clone(), false)));
        let options = Arc::clone(options);
        Ok(Arc::new(ScalarFunctionExpr::try_new(
            function,
            vec![value],
            schema,
            options,
        )?))
    }
}

/// Why a CAST that a job asks for cannot be, if it cannot.
pub fn refusal(from: &DataType, to: &DataType) -> Option<String> {
    if from == to || is_plain(from, to) || is_allowed(from, to) {
        return None;
    }
    let hint = match (from, to) {
        (DataType::Timestamp(_, _), to) if to.is_numeric() => {
            "; UNIX_TIMESTAMP(CAST(.. AS STRING)) gives seconds"
        }
        (from, DataType::Timestamp(_, _)) if from.is_numeric() => {
            "; use TO_TIMESTAMP_LTZ(.., 0) for seconds or TO_TIMESTAMP_LTZ(.., 3) for milliseconds"
        }
        _ => "",
    };
    Some(format!(
        "{} cannot be CAST AS {}{hint}",
        type_name(from),
        type_name(to)
    ))
}

/// The cast itself, as a function of one argument.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    pub to: DataType,
    pub lenient: bool,
    signature: Signature,
}

impl Cast {
    fn new(to: DataType, lenient: bool) -> Cast {
        Cast {
            to,
            lenient,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Cast {
    fn name(&self) -> &str {
        if self.lenient { "try_cast" } else { "cast" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!(
            "CAST({} AS {})",
            args[0].schema_name(),
            type_name(&self.to)
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(convert(
                array,
                &self.to,
                self.lenient,
            )?)),
            ColumnarValue::Scalar(value) => {
                let one = convert(&value.to_array_of_size(1)?, &self.to, self.lenient)?;
                Ok(ColumnarValue::Scalar(
                    datafusion::common::ScalarValue::try_from_array(&one, 0)?,
                ))
            }
        }
    }
}

/// Arrow's cast does the same and loses nothing.
fn is_plain(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64};
    matches!(
        (from, to),
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
            | (Int16, Int32 | Int64 | Float32 | Float64)
            | (Int32, Int64 | Float32 | Float64)
            | (Int64, Float32 | Float64)
            | (Float32, Float64)
            | (Float64, Float32)
    )
}

fn is_allowed(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, Boolean, Date32, Decimal128, List, Map, Null, Struct, Time32, Timestamp, Utf8,
    };
    let number = |data_type: &DataType| {
        data_type.is_signed_integer()
            || data_type.is_floating()
            || matches!(data_type, Decimal128(_, _))
    };
    match (from, to) {
        (Null, _) => true,
        (List(from), List(to)) => from == to || castable(from.data_type(), to.data_type()),
        (Map(from, _), Map(to, _)) => castable(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|(from, to)| castable(from.data_type(), to.data_type()))
        }
        (_, Utf8) => !matches!(from, DataType::Interval(_) | DataType::Duration(_)),
        (Utf8, Boolean | Date32 | Time32(TimeUnit::Millisecond) | Timestamp(_, _) | Binary) => true,
        (Utf8, to) => number(to),
        (Boolean, to) => number(to),
        (from, Boolean) => number(from),
        (Timestamp(_, _), Timestamp(_, _) | Date32 | Time32(TimeUnit::Millisecond)) => true,
        (Date32, Timestamp(_, _)) => true,
        (from, to) => number(from) && number(to),
    }
}

/// Whether Flink casts this type to that one without being asked to.
pub fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, List, Map, Null, Struct,
        Time32, Timestamp,
    };
    if from == to {
        return true;
    }
    match (from, to) {
        (Null, _) => true,
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Int8 | Int16 | Int32 | Int64 | Decimal128(_, _), Decimal128(_, _) | Float32 | Float64) => {
            true
        }
        (Float32, Float64) => true,
        (Timestamp(_, _), Timestamp(_, _) | Date32 | Time32(_)) => true,
        (List(from), List(to)) => fits(from.data_type(), to.data_type()),
        (Map(from, _), Map(to, _)) => fits(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|(from, to)| fits(from.data_type(), to.data_type()))
        }
        _ => false,
    }
}

fn castable(from: &DataType, to: &DataType) -> bool {
    from == to || is_plain(from, to) || is_allowed(from, to)
}

fn convert(values: &ArrayRef, to: &DataType, lenient: bool) -> Result<ArrayRef> {
    let from = values.data_type();
    if from == to {
        return Ok(Arc::clone(values));
    }
    match (from, to) {
        (DataType::Null, _) => Ok(new_null_array(to, values.len())),
        (DataType::Binary, DataType::Utf8) => Ok(arrow_cast(values, to)?),
        (_, DataType::Utf8) => to_text(values),
        (DataType::Utf8, _) => read(values, to, lenient),
        (DataType::List(_), DataType::List(item)) => {
            let lists = values.as_list::<i32>();
            let items = convert(lists.values(), item.data_type(), lenient)?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(item),
                offsets,
                items,
                nulls,
            )?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let maps = values.as_map();
            let pairs: ArrayRef = Arc::new(maps.entries().clone());
            let pairs = convert(&pairs, entries.data_type(), lenient)?
                .as_struct()
                .clone();
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(
                Arc::clone(entries),
                offsets,
                pairs,
                nulls,
                *sorted,
            )?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = values.as_struct();
            let columns = rows
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| convert(column, field.data_type(), lenient))
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                rows.nulls().cloned(),
            )?))
        }
        (DataType::Timestamp(_, _) | DataType::Date32, _) => moments(values, to),
        (from, to) if to.is_signed_integer() && from.is_numeric() => whole(values, to),
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(precision, scale)) => {
            exact(values, *precision, *scale)
        }
        // A decimal that is too small for the number is NULL.
        _ => Ok(cast_with_options(
            values,
            to,
            &CastOptions {
                safe: true,
                ..Default::default()
            },
        )?),
    }
}

/// To a whole number: fractions are cut, floating point numbers stop at the ends of INT or BIGINT, whole numbers wrap.
fn whole(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let long: PrimitiveArray<Int64Type> = match (values.data_type(), to) {
        (DataType::Float32 | DataType::Float64, DataType::Int64) => {
            let doubles = arrow_cast(values, &DataType::Float64)?;
            doubles.as_primitive::<Float64Type>().unary(|x| x as i64)
        }
        (DataType::Float32 | DataType::Float64, _) => {
            let doubles = arrow_cast(values, &DataType::Float64)?;
            doubles
                .as_primitive::<Float64Type>()
                .unary(|x| i64::from(x as i32))
        }
        (DataType::Decimal128(_, scale), _) => {
            let unit = 10_i128.pow((*scale).max(0) as u32);
            values
                .as_primitive::<Decimal128Type>()
                .unary(|x| (x / unit) as i64)
        }
        _ => arrow_cast(values, &DataType::Int64)?
            .as_primitive::<Int64Type>()
            .clone(),
    };
    Ok(match to {
        DataType::Int8 => Arc::new(long.unary::<_, Int8Type>(|x| x as i8)),
        DataType::Int16 => Arc::new(long.unary::<_, Int16Type>(|x| x as i16)),
        DataType::Int32 => Arc::new(long.unary::<_, Int32Type>(|x| x as i32)),
        _ => Arc::new(long),
    })
}

/// A floating point number as the decimal that is its shortest text, which Java's `BigDecimal.valueOf` takes too. A FLOAT is made
/// a DOUBLE first, as in Flink. What is no number, or has too many digits, is NULL.
fn exact(values: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let doubles = arrow_cast(values, &DataType::Float64)?;
    let rows = doubles.as_primitive::<Float64Type>().iter();
    let rows = rows.map(|x| decimal(decimal_text(&x?.to_string())?, precision, scale));
    let rows = rows.collect::<PrimitiveArray<Decimal128Type>>();
    Ok(Arc::new(rows.with_precision_and_scale(precision, scale)?))
}

/// Ticks of a unit in a second.
pub(super) fn ticks(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Dates and timestamps as other dates and timestamps, cut downwards.
fn moments(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    const DAY: i64 = 86_400;
    let (at, per_second): (PrimitiveArray<Int64Type>, i64) = match values.data_type() {
        DataType::Timestamp(unit, _) => {
            let plain = arrow_cast(values, &DataType::Int64)?;
            (plain.as_primitive::<Int64Type>().clone(), ticks(*unit))
        }
        _ => (
            values
                .as_primitive::<Date32Type>()
                .unary(|days| i64::from(days) * DAY),
            1,
        ),
    };
    match to {
        DataType::Timestamp(unit, zone) => {
            let wanted = ticks(*unit);
            let at = if wanted >= per_second {
                let factor = wanted / per_second;
                // What 64 bits of the finer unit cannot hold is NULL, and never another date.
                at.unary_opt::<_, Int64Type>(|x| x.checked_mul(factor))
            } else {
                let factor = per_second / wanted;
                at.unary::<_, Int64Type>(|x| x.div_euclid(factor))
            };
            let zone = zone.clone();
            Ok(match unit {
                TimeUnit::Second => Arc::new(
                    at.reinterpret_cast::<TimestampSecondType>()
                        .with_timezone_opt(zone),
                ),
                TimeUnit::Millisecond => Arc::new(
                    at.reinterpret_cast::<TimestampMillisecondType>()
                        .with_timezone_opt(zone),
                ),
                TimeUnit::Microsecond => Arc::new(
                    at.reinterpret_cast::<TimestampMicrosecondType>()
                        .with_timezone_opt(zone),
                ),
                TimeUnit::Nanosecond => Arc::new(
                    at.reinterpret_cast::<TimestampNanosecondType>()
                        .with_timezone_opt(zone),
                ),
            })
        }
        DataType::Date32 => {
            Ok(Arc::new(at.unary::<_, Date32Type>(|x| {
                x.div_euclid(DAY * per_second) as i32
            })))
        }
        _ => Ok(Arc::new(at.unary::<_, Time32MillisecondType>(|x| {
            let of_day = i128::from(x.rem_euclid(DAY * per_second));
            (of_day * 1000 / i128::from(per_second)) as i32
        }))),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::{check_calls, check_error};

    #[test]
    fn casts() {
        check_calls(&[
            ("CAST(1 > 0 AS STRING)", "TRUE"),
            ("CAST(300 AS TINYINT)", "44"),
            ("CAST(3000000000 AS INT)", "-1294967296"),
            ("CAST(CAST(3.9 AS DOUBLE) AS INT)", "3"),
            ("CAST(CAST(-3.9 AS DOUBLE) AS BIGINT)", "-3"),
            ("CAST(CAST(1e20 AS DOUBLE) AS INT)", "2147483647"),
            ("CAST(CAST('NaN' AS DOUBLE) AS INT)", "0"),
            ("CAST(CAST(1e7 AS DOUBLE) AS STRING)", "1.0E7"),
            ("CAST(CAST(0.5 AS FLOAT) AS STRING)", "0.5"),
            ("CAST(CAST(12.345 AS DECIMAL(10, 2)) AS STRING)", "12.35"),
            ("CAST('12345.678' AS DECIMAL(5, 2))", "NULL"),
            ("CAST('1.239' AS DECIMAL(5, 2))", "1.24"),
            ("CAST(' -1.235 ' AS DECIMAL(5, 2))", "-1.24"),
            ("CAST('999.995' AS DECIMAL(5, 2))", "NULL"),
            ("TRY_CAST('NaN' AS DECIMAL(5, 2))", "NULL"),
            ("CAST(CAST(1.005 AS DOUBLE) AS DECIMAL(5, 2))", "1.01"),
            ("CAST(CAST(-0.125 AS FLOAT) AS DECIMAL(5, 2))", "-0.13"),
            ("CAST(CAST(1e300 AS DOUBLE) AS DECIMAL(38, 0))", "NULL"),
            ("CAST(CAST('Infinity' AS DOUBLE) AS DECIMAL(5, 2))", "NULL"),
            ("CAST('-Infinity' AS DOUBLE)", "-Infinity"),
            ("CAST(' 1.5e3 ' AS FLOAT)", "1500.0"),
            ("TRY_CAST('inf' AS DOUBLE)", "NULL"),
            ("TRY_CAST('nan' AS FLOAT)", "NULL"),
            ("CAST(' 42 ' AS INT)", "42"),
            ("CAST('42.9' AS INT)", "42"),
            ("CAST('yes' AS BOOLEAN)", "true"),
            ("CAST(0 AS BOOLEAN)", "false"),
            ("CAST(2 > 1 AS INT)", "1"),
            ("TRY_CAST('x' AS INT)", "NULL"),
            ("TRY_CAST('2024-02-30' AS DATE)", "NULL"),
            (
                "CAST('2024-01-02 03:04:05.678' AS TIMESTAMP(3))",
                "2024-01-02 03:04:05.678",
            ),
            (
                "CAST('2024-01-02T03:04:05' AS TIMESTAMP(3))",
                "2024-01-02 03:04:05.000",
            ),
            ("CAST('2024-01-02' AS DATE)", "2024-01-02"),
            (
                "CAST(TIMESTAMP '2024-01-02 03:04:05.678901' AS TIMESTAMP(3))",
                "2024-01-02 03:04:05.678",
            ),
            (
                "CAST(TIMESTAMP '1969-12-31 23:59:59.999999' AS TIMESTAMP(3))",
                "1969-12-31 23:59:59.999",
            ),
            (
                "CAST(TIMESTAMP '1969-12-31 23:59:59.999' AS DATE)",
                "1969-12-31",
            ),
            (
                "CAST(DATE '2024-01-02' AS TIMESTAMP(3))",
                "2024-01-02 00:00:00.000",
            ),
            (
                "CAST(TIMESTAMP '2024-01-02 03:04:05.678' AS STRING)",
                "2024-01-02 03:04:05.678",
            ),
            ("CAST(DATE '2024-01-02' AS STRING)", "2024-01-02"),
            (
                "CAST(TIMESTAMP '9999-12-31 23:59:59' AS TIMESTAMP(9))",
                "NULL",
            ),
            (
                "TRY_CAST('9999-12-31 23:59:59.999999999' AS TIMESTAMP(9))",
                "NULL",
            ),
            ("CAST(ARRAY[1, CAST(NULL AS INT)] AS STRING)", "[1, NULL]"),
            ("CAST(ARRAY[1, 2] AS ARRAY<BIGINT>)", "[1, 2]"),
            ("CAST(NULL AS STRING)", "NULL"),
            ("7 / 2", "3"),
            ("-7 / 2", "-3"),
            ("7 % 3", "1"),
            ("7.0 / 2", "3.5"),
            ("2147483647 + 1", "-2147483648"),
        ]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        check_error(
            "CAST('x' AS INT)",
            "'x' cannot be CAST AS INT; TRY_CAST gives NULL",
        );
        for (text, to) in [
            ("inf", "DOUBLE"),
            ("nan", "DOUBLE"),
            ("infinity", "FLOAT"),
            ("NaN", "DECIMAL(5, 2)"),
        ] {
            check_error(
                &format!("CAST('{text}' AS {to})"),
                &format!("'{text}' cannot be CAST AS {to}; TRY_CAST gives NULL"),
            );
        }
        check_error(
            "CAST(TIMESTAMP '2024-01-02 03:04:05' AS BIGINT)",
            "UNIX_TIMESTAMP",
        );
        check_error("CAST(5 AS TIMESTAMP(3))", "TO_TIMESTAMP_LTZ");
    }
}
