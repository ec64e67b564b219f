//! `+ - * %` of DECIMALs whose result may be too long for 38 digits.
//!
//! Arrow's operators fail there. In Flink digits behind the point are given up for those before it, down to six, and what is too long even so is
//! NULL. Where every result fits, the operators stay Arrow's, which are quicker.

use super::decimal::{MOST, decimals, fitted, half_up};
use super::math::rest_type;
use super::{column, type_name};
use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, i256};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use std::sync::Arc;

/// Whether these operands can have a result, or be brought to a common scale, only with more than 38 digits.
pub fn may_be_too_long(of: &BinaryExpr, schema: &DFSchema) -> bool {
    let (Ok(left), Ok(right)) = (of.left.get_type(schema), of.right.get_type(schema)) else {
        return false;
    };
    let Some([DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)]) =
        decimals(&left, &right)
    else {
        return false;
    };
    digits(of.op, (p1, s1), (p2, s2)).is_some_and(|(precision, _)| precision > MOST)
}

/// `left op right`, for an operator that is one of `+ - * %`.
pub fn exact(left: Expr, op: Operator, right: Expr) -> Expr {
    ScalarUDF::from(Exact {
        op,
        signature: Signature::user_defined(Volatility::Immutable),
    })
    .call(vec![left, right])
}

/// Which operator a function stands for.
pub fn exact_operator(function: &ScalarUDF) -> Option<Operator> {
    Some(function.inner().downcast_ref::<Exact>()?.op)
}

/// How many digits, and how many of them behind the point, no result of an operator needs more of.
fn digits(op: Operator, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Option<(i32, i32)> {
    let [p1, s1, p2, s2]: [i32; 4] = [p1.into(), s1.into(), p2.into(), s2.into()];
    let (whole, scale) = ((p1 - s1).max(p2 - s2), s1.max(s2));
    match op {
        Operator::Plus | Operator::Minus => Some((whole + scale + 1, scale)),
        Operator::Multiply => Some((p1 + p2 + 1, s1 + s2)),
        Operator::Modulo => Some((whole + scale, scale)),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    op: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for Exact {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "plus",
            Operator::Minus => "minus",
            Operator::Multiply => "times",
            _ => "rest",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else {
            return plan_err!("{} has two operands", self.op);
        };
        match decimals(left, right) {
            Some(decimals) => Ok(decimals.to_vec()),
            None => plan_err!(
                "{} and {} are no DECIMALs",
                type_name(left),
                type_name(right)
            ),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.op == Operator::Modulo {
            return rest_type(types);
        }
        let [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] = types else {
            return plan_err!("{} has two DECIMALs as operands", self.op);
        };
        match digits(self.op, (*p1, *s1), (*p2, *s2)) {
            Some((precision, scale)) => Ok(fitted(precision - scale, scale)),
            None => plan_err!("{} is no operator of DECIMALs", self.op),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (left, right) = (column(&args, 0)?, column(&args, 1)?);
        let result = results(&left, self.op, &right, args.return_type())?;
        Ok(ColumnarValue::Array(result))
    }
}

/// Two numbers of 38 digits have a product of 76, which 256 bits hold; so they do with either brought to the scale of the other.
fn results(left: &ArrayRef, op: Operator, right: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (
        &DataType::Decimal128(p1, s1),
        &DataType::Decimal128(p2, s2),
        &DataType::Decimal128(precision, scale),
    ) = (left.data_type(), right.data_type(), to)
    else {
        return exec_err!(
            "{} and {} are no DECIMALs",
            type_name(left.data_type()),
            type_name(right.data_type())
        );
    };
    let Some((_, full)) = digits(op, (p1, s1), (p2, s2)) else {
        return exec_err!("{op} is no operator of DECIMALs");
    };
    let power = |digits: i32| i256::from_i128(10).wrapping_pow(digits.max(0).unsigned_abs());
    let (one, other) = match op {
        Operator::Multiply => (power(0), power(0)),
        _ => (power(full - i32::from(s1)), power(full - i32::from(s2))),
    };
    let given_up = power(full - i32::from(scale));
    let limit = 10_u128.pow(precision.into());
    let result = |left: i128, right: i128| {
        let left = i256::from_i128(left).wrapping_mul(one);
        let right = i256::from_i128(right).wrapping_mul(other);
        let whole = match op {
            Operator::Plus => left.wrapping_add(right),
            Operator::Minus => left.wrapping_sub(right),
            Operator::Multiply => left.wrapping_mul(right),
            _ => match left.checked_rem(right) {
                Some(rest) => rest,
                None => return Err(DataFusionError::from(ArrowError::DivideByZero)),
            },
        };
        let result = half_up(whole, given_up).to_i128();
        Ok(result.filter(|result| result.unsigned_abs() < limit))
    };
    let left = left.as_primitive::<Decimal128Type>();
    let right = right.as_primitive::<Decimal128Type>();
    let rows = left.iter().zip(right.iter());
    let rows = rows.map(|operands| match operands {
        (Some(left), Some(right)) => result(left, right),
        _ => Ok(None),
    });
    let rows = rows.collect::<Result<PrimitiveArray<Decimal128Type>>>()?;
    Ok(Arc::new(rows.with_precision_and_scale(precision, scale)?))
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    /// As real Flink 2.2 answered.
    #[test]
    fn long_results_keep_what_is_before_the_point() {
        let long = |number: &str, scale: u8| format!("CAST('{number}' AS DECIMAL(38, {scale}))");
        for (left, op, right, expected) in [
            (
                long("12345.678", 18),
                "*",
                long("100", 18),
                "1234567.800000",
            ),
            (long("0.0000005", 18), "*", long("1", 18), "0.000001"),
            (long("-0.0000005", 18), "*", long("1", 18), "-0.000001"),
            (
                long("1000000000000000000000", 0),
                "+",
                long("0.5", 18),
                "1000000000000000000000.500000",
            ),
            (long("1", 0), "+", long("0.0000005", 18), "1.000001"),
            (long("1", 18), "-", "1".into(), "0.00000000000000000"),
            (long("5.5", 18), "%", long("2", 2), "1.500000000000000000"),
            (
                long("99999999999999999999999999999999999999", 0),
                "+",
                long("1", 0),
                "NULL",
            ),
        ] {
            check_calls(&[(&format!("{left} {op} {right}"), expected)]);
        }
    }
}
