//! `a / b` with the digits that Flink gives it.
//!
//! Arrow's quotient of two DECIMALs has four digits more than the dividend, and what is behind them is cut off. Flink's has at least
//! six, enough for the divisor's digits, and is rounded half up. Of other numbers the operator stays DataFusion's: a division is this
//! function only until its operands have their types.

use super::{column, type_name};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Schema, i256};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// The digits of the largest DECIMAL, and how many Flink keeps behind the point when a result is too long for it.
pub(super) const MOST: i32 = 38;
const KEPT: i32 = 6;

/// `left / right`.
pub fn divide(left: Expr, right: Expr) -> Expr {
    ScalarUDF::from(Divide::new()).call(vec![left, right])
}

/// The same for two DECIMALs that are planned already.
pub fn physical_divide(
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    schema: &Schema,
    options: &Arc<ConfigOptions>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let function = Arc::new(ScalarUDF::from(Divide::new()));
    let options = Arc::clone(options);
    Ok(Arc::new(ScalarFunctionExpr::try_new(
        function,
        vec![left, right],
        schema,
        options,
    )?))
}

pub fn is_division(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<Divide>().is_some()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Divide {
    signature: Signature,
}

impl Divide {
    fn new() -> Divide {
        Divide {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Divide {
    fn name(&self) -> &str {
        "divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = types else {
            return plan_err!("a division has two operands");
        };
        if let Some(decimals) = decimals(left, right) {
            return Ok(decimals.to_vec());
        }
        let coercer = BinaryTypeCoercer::new(left, &Operator::Divide, right);
        let (left, right) = coercer.get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] => {
                Ok(quotient_type((*p1, *s1), (*p2, *s2)))
            }
            [left, right] => {
                BinaryTypeCoercer::new(left, &Operator::Divide, right).get_result_type()
            }
            _ => plan_err!("a division has two operands"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (left, right) = (column(&args, 0)?, column(&args, 1)?);
        Ok(ColumnarValue::Array(quotients(
            &left,
            &right,
            args.return_type(),
        )?))
    }
}

/// Both types as DECIMALs, where one is a DECIMAL and the other one or a whole number.
pub(super) fn decimals(left: &DataType, right: &DataType) -> Option<[DataType; 2]> {
    let exact = |data_type: &DataType| match data_type {
        DataType::Int8 => Some(DataType::Decimal128(3, 0)),
        DataType::Int16 => Some(DataType::Decimal128(5, 0)),
        DataType::Int32 => Some(DataType::Decimal128(10, 0)),
        DataType::Int64 => Some(DataType::Decimal128(19, 0)),
        DataType::Decimal128(_, _) => Some(data_type.clone()),
        _ => None,
    };
    let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(_, _));
    if !is_decimal(left) && !is_decimal(right) {
        return None;
    }
    Some([exact(left)?, exact(right)?])
}

/// Flink's type of the quotient of two DECIMALs, each given as (precision, scale).
fn quotient_type((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> DataType {
    let scale = (i32::from(s1) + i32::from(p2) + 1).max(KEPT);
    let whole = i32::from(p1) - i32::from(s1) + i32::from(s2);
    fitted(whole, scale)
}

/// The type of a result with so many digits before the point and behind it. Where both are too long together, those behind it are given up.
pub(super) fn fitted(whole: i32, scale: i32) -> DataType {
    let scale = scale.min((MOST - whole).max(KEPT));
    DataType::Decimal128((whole + scale).min(MOST) as u8, scale as i8)
}

fn quotients(left: &ArrayRef, right: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (
        DataType::Decimal128(_, s1),
        DataType::Decimal128(_, s2),
        DataType::Decimal128(precision, scale),
    ) = (left.data_type(), right.data_type(), to)
    else {
        return exec_err!(
            "{} and {} are no DECIMALs",
            type_name(left.data_type()),
            type_name(right.data_type())
        );
    };
    let division = Division::new(
        i32::from(*scale) - i32::from(*s1) + i32::from(*s2),
        *precision,
    );
    let left = left.as_primitive::<Decimal128Type>();
    let right = right.as_primitive::<Decimal128Type>();
    let rows = left.iter().zip(right.iter());
    let rows = rows.map(|operands| match operands {
        (Some(_), Some(0)) => Err(DataFusionError::from(ArrowError::DivideByZero)),
        (Some(left), Some(right)) => Ok(division.quotient(left, right)),
        _ => Ok(None),
    });
    let rows = rows.collect::<Result<PrimitiveArray<Decimal128Type>>>()?;
    Ok(Arc::new(rows.with_precision_and_scale(*precision, *scale)?))
}

/// What the unscaled operands are multiplied by, so that the whole quotient of both is the unscaled result.
struct Division {
    left: i256,
    right: i256,
    /// The result is smaller than this.
    limit: u128,
}

impl Division {
    /// `places` is how many digits the quotient has behind the point, more than its unscaled operands give by themselves.
    fn new(places: i32, precision: u8) -> Division {
        // Three scales of at most 38 make no power that does not fit.
        let power = |places: i32| i256::from_i128(10).wrapping_pow(places.max(0).unsigned_abs());
        Division {
            left: power(places),
            right: power(-places),
            limit: 10_u128.pow(u32::from(precision)),
        }
    }

    /// Rounded half up, away from zero; none where it has too many digits, which Flink makes NULL of.
    fn quotient(&self, left: i128, right: i128) -> Option<i128> {
        let narrow = |value: i128, unit: i256| value.checked_mul(unit.to_i128()?);
        let quotient = match (narrow(left, self.left), narrow(right, self.right)) {
            (Some(left), Some(right)) => half_up(left, right),
            // A dividend that is too large even here has a quotient with more than 38 digits.
            _ => half_up(
                i256::from_i128(left).checked_mul(self.left)?,
                i256::from_i128(right).checked_mul(self.right)?,
            )
            .to_i128()?,
        };
        (quotient.unsigned_abs() < self.limit).then_some(quotient)
    }
}

pub(super) fn half_up<N: ArrowNativeTypeOp>(dividend: N, divisor: N) -> N {
    let negative = |value: N| value.is_lt(N::ZERO);
    let size = |value: N| {
        if negative(value) {
            value.neg_wrapping()
        } else {
            value
        }
    };
    let quotient = dividend.div_wrapping(divisor);
    let rest = size(dividend.mod_wrapping(divisor));
    // Twice the rest could be too large a number, so it is compared with what the divisor leaves.
    if rest.is_lt(size(divisor).sub_wrapping(rest)) {
        quotient
    } else if negative(dividend) == negative(divisor) {
        quotient.add_wrapping(N::ONE)
    } else {
        quotient.sub_wrapping(N::ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::functions::testing::check_calls;

    #[test]
    fn quotients_have_flinks_digits() {
        check_calls(&[
            (
                "CAST(1 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(10, 2))",
                "0.3333333333333",
            ),
            (
                "CAST(-2 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(10, 2))",
                "-0.6666666666667",
            ),
            (
                "CAST(1 AS DECIMAL(1, 0)) / CAST(8 AS DECIMAL(1, 0))",
                "0.125000",
            ),
            ("CAST(2 AS DECIMAL(5, 2)) / 3", "0.6666666666667"),
            ("2 / CAST(3 AS DECIMAL(5, 2))", "0.666667"),
            (
                "CAST(1 AS DECIMAL(38, 10)) / CAST(3 AS DECIMAL(38, 10))",
                "0.333333",
            ),
            (
                "CAST(1e20 AS DECIMAL(38, 0)) / CAST(1e-20 AS DECIMAL(38, 30))",
                "NULL",
            ),
            (
                "CAST(NULL AS DECIMAL(5, 2)) / CAST(0 AS DECIMAL(5, 2))",
                "NULL",
            ),
            // The type is found also where the operands' types must be found first.
            (
                "CASE WHEN 1 > 2 THEN 1 ELSE CAST(2 AS DECIMAL(5, 2)) END / 3",
                "0.6666666666667",
            ),
            (
                "CAST(1 AS DECIMAL(5, 2)) / 3 > CAST(0.333333 AS DECIMAL(7, 6))",
                "true",
            ),
            ("CAST(1 AS DECIMAL(5, 2)) / CAST(4 AS DOUBLE)", "0.25"),
        ]);
    }

    #[test]
    fn quotient_types_are_flinks() {
        for (left, right, expected) in [
            ((10, 2), (10, 2), (23, 13)),
            ((10, 2), (10, 0), (21, 13)),
            ((1, 0), (1, 0), (7, 6)),
            ((38, 10), (38, 10), (38, 6)),
            ((38, 2), (19, 0), (38, 6)),
            ((38, 9), (19, 0), (38, 9)),
        ] {
            let (precision, scale) = expected;
            assert_eq!(
                quotient_type(left, right),
                DataType::Decimal128(precision, scale),
                "{left:?} / {right:?}"
            );
        }
    }

    #[test]
    fn wide_operands_round_like_narrow_ones() {
        let most = 10_i128.pow(38) - 1;
        // 76 digits are needed on the way.
        let division = Division::new(38, 38);
        assert_eq!(division.quotient(most, most), None);
        assert_eq!(division.quotient(2, 3 * 10_i128.pow(37)), Some(7));
        assert_eq!(division.quotient(-5, 10_i128.pow(38) - 1), Some(-5));
        let two_thirds = most / 3 * 2;
        assert_eq!(division.quotient(two_thirds, most), Some(two_thirds + 1));
        // The divisor is the one that is multiplied.
        let division = Division::new(-32, 38);
        assert_eq!(division.quotient(most, most), Some(0));
        assert_eq!(division.quotient(most, 2), Some(500_000));
        assert_eq!(division.quotient(-most, 3), Some(-333_333));
    }
}
