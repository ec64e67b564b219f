//! Numbers.

use super::Takes::{Double, Int, Number};
use super::decimal::decimals;
use super::{Function, Gives, column, numbers, type_name};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray};
use arrow::compute::kernels::{arity, numeric};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    let mut functions: Vec<Function> = ONE_DOUBLE
        .iter()
        .map(|&(name, of)| {
            Function::new(
                name,
                &[Double],
                Gives::Type(DataType::Float64),
                move |args| {
                    let values = column(args, 0)?;
                    Ok(Arc::new(
                        values
                            .as_primitive::<Float64Type>()
                            .unary::<_, Float64Type>(of),
                    ))
                },
            )
        })
        .collect();
    functions.extend(TWO_DOUBLES.iter().map(|&(name, of)| {
        Function::new(
            name,
            &[Double, Double],
            Gives::Type(DataType::Float64),
            move |args| {
                let (left, right) = (column(args, 0)?, column(args, 1)?);
                let (left, right) = (left.as_primitive(), right.as_primitive());
                let result: PrimitiveArray<Float64Type> =
                    arity::binary::<Float64Type, Float64Type, _, _>(left, right, of)?;
                Ok(Arc::new(result))
            },
        )
    }));
    functions.extend([
        Function::new("pi", &[], Gives::Type(DataType::Float64), |args| {
            let values = vec![std::f64::consts::PI; args.number_rows];
            Ok(Arc::new(PrimitiveArray::<Float64Type>::from(values)))
        }),
        Function::new("abs", &[Number], Gives::Same(0), |args| {
            same_type(args, Keep::Abs)
        }),
        Function::new("sign", &[Number], Gives::Same(0), |args| {
            same_type(args, Keep::Sign)
        }),
        Function::new("ceil", &[Number], Gives::Of(whole_decimal), |args| {
            same_type(args, Keep::Ceil)
        })
        .alias("ceiling"),
        Function::new("floor", &[Number], Gives::Of(whole_decimal), |args| {
            same_type(args, Keep::Floor)
        }),
        Function::new("round", &[Number, Int], Gives::ByValue(rounded), round).optional(1),
        Function::new(
            "truncate",
            &[Number, Int],
            Gives::ByValue(rounded),
            truncate,
        )
        .optional(1),
        Function::new("mod", &[Number, Number], Gives::Of(rest_type), rest).agree(exact),
    ]);
    functions
}

/// MOD takes whole numbers and DECIMALs, and both are DECIMALs where one is.
fn exact(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if let Some(given) = types.iter().find(|given| given.is_floating()) {
        return plan_err!(
            "{name} takes whole numbers and DECIMALs, not {}; CAST(.. AS DECIMAL(p, s))",
            type_name(given)
        );
    }
    match decimals(&types[0], &types[1]) {
        Some(decimals) => Ok(decimals.to_vec()),
        None => Ok(types.to_vec()),
    }
}

/// The rest is smaller than the divisor, so it fits its type, with the digits behind the point that the dividend may have more.
pub(super) fn rest_type(types: &[DataType]) -> Result<DataType> {
    let (&DataType::Decimal128(p1, s1), &DataType::Decimal128(p2, s2)) = (&types[0], &types[1])
    else {
        return Ok(types[1].clone());
    };
    let scale = s1.max(s2);
    let whole = (p1 as i8 - s1).min(p2 as i8 - s2);
    Ok(DataType::Decimal128((whole + scale) as u8, scale))
}

fn rest(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (mut left, mut right) = (column(args, 0)?, column(args, 1)?);
    if right.data_type().is_integer() {
        // The dividend may be too large for the type of the divisor, which is that of the rest.
        left = arrow::compute::cast(&left, &DataType::Int64)?;
        right = arrow::compute::cast(&right, &DataType::Int64)?;
    }
    let rest = numeric::rem(&left, &right)?;
    Ok(arrow::compute::cast(&rest, args.return_type())?)
}

type OneDouble = (&'static str, fn(f64) -> f64);
type TwoDoubles = (&'static str, fn(f64, f64) -> f64);

const ONE_DOUBLE: &[OneDouble] = &[
    ("sqrt", f64::sqrt),
    ("exp", f64::exp),
    ("ln", f64::ln),
    ("log10", f64::log10),
    ("log2", f64::log2),
    ("sin", f64::sin),
    ("cos", f64::cos),
    ("tan", f64::tan),
    ("cot", |x| 1.0 / x.tan()),
    ("asin", f64::asin),
    ("acos", f64::acos),
    ("atan", f64::atan),
    ("sinh", f64::sinh),
    ("cosh", f64::cosh),
    ("tanh", f64::tanh),
    ("radians", f64::to_radians),
    ("degrees", f64::to_degrees),
];

const TWO_DOUBLES: &[TwoDoubles] = &[("power", f64::powf), ("atan2", f64::atan2)];

/// What keeps the type of its argument.
#[derive(Clone, Copy)]
enum Keep {
    Abs,
    Sign,
    Ceil,
    Floor,
}

/// CEIL and FLOOR of a decimal have no digits behind the point.
fn whole_decimal(types: &[DataType]) -> Result<DataType> {
    Ok(match &types[0] {
        DataType::Decimal128(precision, _) => DataType::Decimal128(*precision, 0),
        other => other.clone(),
    })
}

fn same_type(args: &ScalarFunctionArgs, keep: Keep) -> Result<ArrayRef> {
    let values = column(args, 0)?;
    match values.data_type() {
        DataType::Int8 => Ok(integers::<Int8Type>(&values, keep)),
        DataType::Int16 => Ok(integers::<Int16Type>(&values, keep)),
        DataType::Int32 => Ok(integers::<Int32Type>(&values, keep)),
        DataType::Int64 => Ok(integers::<Int64Type>(&values, keep)),
        DataType::Float32 => {
            let of = |x: f32| double(f64::from(x), keep) as f32;
            Ok(Arc::new(
                values
                    .as_primitive::<Float32Type>()
                    .unary::<_, Float32Type>(of),
            ))
        }
        DataType::Float64 => {
            let of = |x: f64| double(x, keep);
            Ok(Arc::new(
                values
                    .as_primitive::<Float64Type>()
                    .unary::<_, Float64Type>(of),
            ))
        }
        DataType::Decimal128(precision, scale) => {
            let one = 10_i128.pow((*scale).max(0) as u32);
            let of = |x: i128| match keep {
                Keep::Abs => x.abs(),
                Keep::Sign => x.signum() * one,
                Keep::Floor => x.div_euclid(one),
                Keep::Ceil => -(-x).div_euclid(one),
            };
            let scale = if matches!(keep, Keep::Floor | Keep::Ceil) {
                0
            } else {
                *scale
            };
            let result = values
                .as_primitive::<Decimal128Type>()
                .unary::<_, Decimal128Type>(of);
            Ok(Arc::new(
                result.with_precision_and_scale(*precision, scale)?,
            ))
        }
        other => exec_err!("{other} is not a number"),
    }
}

fn integers<T: ArrowPrimitiveType>(values: &ArrayRef, keep: Keep) -> ArrayRef {
    let (zero, one) = (T::Native::ZERO, T::Native::ONE);
    let of = |x: T::Native| match keep {
        Keep::Ceil | Keep::Floor => x,
        Keep::Abs if x.is_lt(zero) => x.neg_wrapping(),
        Keep::Abs => x,
        Keep::Sign if x.is_lt(zero) => one.neg_wrapping(),
        Keep::Sign if x.is_zero() => zero,
        Keep::Sign => one,
    };
    Arc::new(values.as_primitive::<T>().unary::<_, T>(of))
}

fn double(x: f64, keep: Keep) -> f64 {
    match keep {
        Keep::Abs => x.abs(),
        Keep::Sign if x == 0.0 || x.is_nan() => x,
        Keep::Sign => x.signum(),
        Keep::Ceil => x.ceil(),
        Keep::Floor => x.floor(),
    }
}

/// ROUND and TRUNCATE of a decimal to a constant number of digits have as many, and room for the digit that rounding up may add.
fn rounded(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let digits = match constants.get(1) {
        None if types.len() < 2 => Some(0),
        Some(Some(ScalarValue::Int32(Some(digits)))) => Some(i64::from(*digits)),
        Some(Some(ScalarValue::Int64(Some(digits)))) => Some(*digits),
        _ => None,
    };
    Ok(match (&types[0], digits) {
        (DataType::Decimal128(precision, scale), Some(digits)) if digits < i64::from(*scale) => {
            let digits = digits.max(0) as i8;
            let precision = (*precision as i8 - scale + digits + 1).min(38);
            DataType::Decimal128(precision as u8, digits)
        }
        (given, _) => given.clone(),
    })
}

/// Half is rounded away from zero, judged on the decimal text of the number, as Java's BigDecimal does.
fn round(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    to_digits(args, true)
}

fn truncate(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    to_digits(args, false)
}

fn to_digits(args: &ScalarFunctionArgs, half_up: bool) -> Result<ArrayRef> {
    let values = column(args, 0)?;
    let digits = if args.args.len() > 1 {
        Some(numbers::<Int32Type>(args, 1)?)
    } else {
        None
    };
    let digits = |row| digits.as_ref().map_or(Some(0), |digits| digits.get(row));
    match values.data_type() {
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            Ok(rows::<Float64Type>(values, |x, row| {
                Some(round_double(x, digits(row)?, half_up))
            }))
        }
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            Ok(rows::<Float32Type>(values, |x, row| {
                Some(round_double(f64::from(x), digits(row)?, half_up) as f32)
            }))
        }
        DataType::Int8 => Ok(rows::<Int8Type>(values.as_primitive(), |x, row| {
            Some(round_whole(i128::from(x), digits(row)?, half_up) as i8)
        })),
        DataType::Int16 => Ok(rows::<Int16Type>(values.as_primitive(), |x, row| {
            Some(round_whole(i128::from(x), digits(row)?, half_up) as i16)
        })),
        DataType::Int32 => Ok(rows::<Int32Type>(values.as_primitive(), |x, row| {
            Some(round_whole(i128::from(x), digits(row)?, half_up) as i32)
        })),
        DataType::Int64 => Ok(rows::<Int64Type>(values.as_primitive(), |x, row| {
            Some(round_whole(i128::from(x), digits(row)?, half_up) as i64)
        })),
        DataType::Decimal128(_, scale) => {
            let &DataType::Decimal128(precision, to_scale) = args.return_type() else {
                return exec_err!("{} is no DECIMAL", type_name(args.return_type()));
            };
            let scale = *scale;
            let unit = 10_i128.pow((scale - to_scale).max(0).unsigned_abs().into());
            let limit = 10_i128.pow(precision.into());
            let result = (0..values.len())
                .map(|row| {
                    let array = values.as_primitive::<Decimal128Type>();
                    let digits = digits(row)?;
                    let digits = digits.saturating_sub(scale.into());
                    array
                        .is_valid(row)
                        .then(|| round_whole(array.value(row), digits, half_up) / unit)
                        .filter(|rounded| rounded.abs() < limit)
                })
                .collect::<PrimitiveArray<Decimal128Type>>();
            Ok(Arc::new(
                result.with_precision_and_scale(precision, to_scale)?,
            ))
        }
        other => exec_err!("{other} is not a number"),
    }
}

fn rows<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    of: impl Fn(T::Native, usize) -> Option<T::Native>,
) -> ArrayRef {
    let rows = (0..values.len()).map(|row| {
        if values.is_valid(row) {
            of(values.value(row), row)
        } else {
            None
        }
    });
    Arc::new(rows.collect::<PrimitiveArray<T>>())
}

/// Rounds to a multiple of ten to the power of `-digits`; a number of digits above 0 changes nothing.
fn round_whole(x: i128, digits: i32, half_up: bool) -> i128 {
    if digits >= 0 {
        return x;
    }
    let Some(unit) = 10_i128.checked_pow(digits.unsigned_abs()) else {
        return 0;
    };
    let (quotient, rest) = (x / unit, x % unit);
    let up = half_up && rest.unsigned_abs() >= unit.unsigned_abs().div_ceil(2);
    (quotient + if up { x.signum() } else { 0 }) * unit
}

/// The shortest decimal text of a double is what Java's `BigDecimal.valueOf` rounds, so 1.005 to two digits is 1.01.
fn round_double(x: f64, digits: i32, half_up: bool) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let text = format!("{x}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if digits >= 0 && fraction.len() <= digits as usize {
        return x;
    }
    let Ok(unscaled) = format!("{whole}{fraction}").parse::<i128>() else {
        return x;
    };
    let scale = fraction.len() as i32;
    let sign = if x.is_sign_negative() { -1 } else { 1 };
    let rounded = round_whole(unscaled.abs() * sign, digits - scale, half_up);
    format!("{rounded}e-{scale}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::functions::testing::{check_calls, check_error};

    #[test]
    fn numbers() {
        check_calls(&[
            ("ABS(-3)", "3"),
            ("ABS(-2.5)", "2.5"),
            ("SIGN(-2.5)", "-1.0"),
            ("SIGN(CAST(-7 AS BIGINT))", "-1"),
            ("CEIL(1.2)", "2.0"),
            ("FLOOR(-1.2)", "-2.0"),
            ("CEIL(7)", "7"),
            ("CEIL(CAST(-1.5 AS DECIMAL(5, 1)))", "-1"),
            ("FLOOR(CAST(-1.5 AS DECIMAL(5, 1)))", "-2"),
            ("ROUND(2.345, 2)", "2.35"),
            ("ROUND(1250, -2)", "1300"),
            ("ROUND(CAST(2.345 AS DECIMAL(6, 3)), 2)", "2.35"),
            ("ROUND(CAST(9.99 AS DECIMAL(3, 2)), 1)", "10.0"),
            (
                "ROUND(CAST(99999999.99 AS DECIMAL(10, 2)), 1)",
                "100000000.0",
            ),
            ("ROUND(CAST(99999999.99 AS DECIMAL(10, 2)))", "100000000"),
            (
                "ROUND(CAST(99999999.99 AS DECIMAL(10, 2)), -3)",
                "100000000",
            ),
            ("ROUND(CAST(99999999.99 AS DECIMAL(10, 2)), -9)", "0"),
            (
                "ROUND(CAST(99999999.99 AS DECIMAL(10, 2)), 5)",
                "99999999.99",
            ),
            ("TRUNCATE(CAST(19.99 AS DECIMAL(4, 2)), -1)", "10"),
            ("TRUNCATE(CAST(9.99 AS DECIMAL(3, 2)), 1)", "9.9"),
            ("TRUNCATE(2.349, 2)", "2.34"),
            ("MOD(-7, 3)", "-1"),
            ("MOD(3000000007, 10)", "7"),
            ("MOD(CAST(NULL AS INT), 10)", "NULL"),
            (
                "MOD(CAST(10.5 AS DECIMAL(10, 2)), CAST(3 AS DECIMAL(5, 0)))",
                "1.50",
            ),
            (
                "MOD(CAST(123456 AS DECIMAL(10, 2)), CAST(7 AS DECIMAL(3, 0)))",
                "4.00",
            ),
            ("MOD(CAST(-10.5 AS DECIMAL(10, 2)), 3)", "-1.50"),
            ("MOD(7, CAST(2.5 AS DECIMAL(3, 1)))", "2.0"),
            ("POWER(2, 10)", "1024.0"),
            ("SQRT(-1)", "NaN"),
            ("SQRT(16)", "4.0"),
            ("LN(EXP(1))", "1.0"),
            ("LOG10(1000)", "3.0"),
            ("ATAN2(0, 1)", "0.0"),
            ("DEGREES(RADIANS(180))", "180.0"),
            ("ROUND(PI(), 4)", "3.1416"),
            ("COS(CAST(NULL AS DOUBLE))", "NULL"),
            ("1.0 / 0", "Infinity"),
        ]);
    }

    #[test]
    fn a_rest_is_of_exact_numbers() {
        check_error(
            "MOD(CAST(7.5 AS DOUBLE), 2)",
            "MOD takes whole numbers and DECIMALs, not DOUBLE",
        );
    }

    #[test]
    fn doubles_round_as_their_decimal_text() {
        for (x, digits, expected) in [
            (1.005, 2, 1.01),
            (2.5, 0, 3.0),
            (-2.5, 0, -3.0),
            (0.4, 0, 0.0),
            (1234.5, -2, 1200.0),
            (1e300, 2, 1e300),
            (-0.125, 2, -0.13),
        ] {
            assert_eq!(round_double(x, digits, true), expected, "{x} to {digits}");
        }
    }

    #[test]
    fn truncation_cuts_towards_zero() {
        assert_eq!(round_double(42.329, 2, false), 42.32);
        assert_eq!(round_double(-42.329, 2, false), -42.32);
        assert_eq!(round_whole(1299, -2, false), 1200);
    }
}
