//! Functions that choose among values. (IF, IFNULL, NULLIF and CASE are planned as CASE and COALESCE.)

use super::Takes::Any;
use super::{Function, Gives, column, uniform};
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, or_kleene};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("coalesce", &[Any], Gives::Same(0), |args| {
            let mut result = column(args, 0)?;
            for i in 1..args.args.len() {
                if result.null_count() == 0 {
                    break;
                }
                let present = is_not_null(&result)?;
                result = zip(&present, &result, &column(args, i)?)?;
            }
            Ok(result)
        })
        .variadic()
        .agree(uniform),
        Function::new("greatest", &[Any], Gives::Same(0), |args| {
            extreme(args, true)
        })
        .variadic()
        .agree(uniform),
        Function::new("least", &[Any], Gives::Same(0), |args| extreme(args, false))
            .variadic()
            .agree(uniform),
    ]
}

/// NULL if any argument is NULL.
fn extreme(args: &ScalarFunctionArgs, greatest: bool) -> Result<ArrayRef> {
    let mut result = column(args, 0)?;
    for i in 1..args.args.len() {
        let next = column(args, i)?;
        let wins = if greatest {
            cmp::gt(&next, &result)?
        } else {
            cmp::lt(&next, &result)?
        };
        // A comparison with NULL is NULL: then the NULL of the two is taken, whichever it is.
        let next_is_null = arrow::compute::is_null(&next)?;
        let take_next: BooleanArray = or_kleene(&wins, &next_is_null)?;
        result = zip(&take_next, &next, &result)?;
    }
    Ok(result)
}

/// Passes a value on and fails on NULL: what NOT NULL means for a column of a table that is written.
pub fn not_null(value: Expr, column: &str) -> Expr {
    ScalarUDF::from(NotNull {
        column: column.to_owned(),
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NotNull {
    /// `table.column`, for the message.
    column: String,
    signature: Signature,
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        "not_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<arrow::datatypes::FieldRef> {
        Ok(Arc::new(
            args.arg_fields[0].as_ref().clone().with_nullable(false),
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        if values.logical_null_count() > 0 {
            return exec_err!(
                "the column {} is NOT NULL, but a row has NULL there; filter such rows (WHERE .. IS NOT NULL), \
                 or give them a value (COALESCE)",
                self.column
            );
        }
        Ok(ColumnarValue::Array(values))
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    #[test]
    fn choices() {
        let null = "CAST(NULL AS INT)";
        check_calls(&[
            (&format!("COALESCE({null}, 2, 3)"), "2"),
            (&format!("COALESCE({null}, {null})"), "NULL"),
            ("COALESCE(1, CAST(2 AS BIGINT))", "1"),
            (&format!("IFNULL({null}, 4)"), "4"),
            ("NULLIF(1, 1)", "NULL"),
            ("NULLIF(1, 2)", "1"),
            ("IF(1 > 2, 'a', 'b')", "b"),
            (
                "CASE WHEN 1 > 2 THEN 'a' WHEN 2 > 1 THEN 'c' ELSE 'b' END",
                "c",
            ),
            ("CASE 3 WHEN 1 THEN 'a' END", "NULL"),
            ("GREATEST(1, 3, 2)", "3"),
            (&format!("GREATEST(1, {null}, 2)"), "NULL"),
            (&format!("GREATEST({null}, 2)"), "NULL"),
            ("LEAST('b', 'a')", "a"),
            (&format!("LEAST(2, {null})"), "NULL"),
            ("LEAST(2.5, 1)", "1.0"),
        ]);
    }
}
