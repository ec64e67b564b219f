//! A list of the conditions that hold, in one pass.
//!
//! `ARRAY_REMOVE(ARRAY[CASE WHEN a THEN 'x' ELSE '' END, ..], '')` is how a job says it. Step by step that would make a text
//! for each condition of each row, only to remove nearly all of them again; here only what stays is written.

use super::arrays::list_of;
use arrow::array::{Array, ArrayBuilder, AsArray, BooleanArray, ListArray, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The function; its arguments are the conditions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Choices {
    /// For each condition the text where it holds, and where it does not; NULL is none.
    items: Vec<(Option<String>, Option<String>)>,
    /// The text that is left out.
    removed: String,
    signature: Signature,
}

/// The call in this form, if it is one: a removal of a constant from a list of constants, each with one condition.
pub fn choices(call: &ScalarFunction) -> Option<Expr> {
    let ("array_remove", [Expr::ScalarFunction(array), removed]) = (call.name(), &call.args[..])
    else {
        return None;
    };
    let removed = text(removed)??;
    if array.name() != "array" {
        return None;
    }
    let (mut items, mut conditions) = (Vec::new(), Vec::new());
    for item in &array.args {
        let Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr,
        }) = item
        else {
            return None;
        };
        let [(when, then)] = &when_then_expr[..] else {
            return None;
        };
        let otherwise = match else_expr {
            Some(otherwise) => text(otherwise)?,
            None => None,
        };
        items.push((text(then)?, otherwise));
        conditions.push(when.as_ref().clone());
    }
    let signature = Signature::any(conditions.len(), Volatility::Immutable);
    Some(
        ScalarUDF::from(Choices {
            items,
            removed,
            signature,
        })
        .call(conditions),
    )
}

/// A constant text; the inner option is its NULL.
fn text(expr: &Expr) -> Option<Option<String>> {
    match expr {
        Expr::Literal(value, _) => Some(value.try_as_str()?.map(str::to_owned)),
        _ => None,
    }
}

impl Choices {
    /// As the job says it.
    pub fn describe(&self, conditions: &[String]) -> String {
        let quoted = |text: &Option<String>| match text {
            Some(text) => format!("'{}'", text.replace('\'', "''")),
            None => "NULL".into(),
        };
        let items = conditions
            .iter()
            .zip(&self.items)
            .map(|(condition, (yes, no))| {
                format!(
                    "CASE WHEN {condition} THEN {} ELSE {} END",
                    quoted(yes),
                    quoted(no)
                )
            });
        let items: Vec<String> = items.collect();
        format!(
            "ARRAY_REMOVE(ARRAY[{}], '{}')",
            items.join(", "),
            self.removed.replace('\'', "''")
        )
    }
}

impl ScalarUDFImpl for Choices {
    fn name(&self) -> &str {
        "choices"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(list_of(DataType::Utf8))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut conditions: Vec<BooleanArray> = Vec::with_capacity(args.args.len());
        for arg in &args.args {
            let array = arg.to_array(args.number_rows)?;
            let Some(condition) = array.as_boolean_opt() else {
                return exec_err!("a condition is {}, not BOOLEAN", array.data_type());
            };
            // A condition that is NULL does not hold.
            conditions.push(if condition.null_count() > 0 {
                prep_null_mask_filter(condition)
            } else {
                condition.clone()
            });
        }
        let stays = |text: &Option<String>| text.as_deref() != Some(self.removed.as_str());
        let items: Vec<_> = self
            .items
            .iter()
            .zip(&conditions)
            .map(|((yes, no), condition)| {
                let choice = |text| stays(text).then_some(text.as_deref());
                (condition.values(), choice(yes), choice(no))
            })
            .collect();
        let mut values = StringBuilder::new();
        let mut lengths = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let before = values.len();
            for (condition, yes, no) in &items {
                if let Some(text) = if condition.value(row) { yes } else { no } {
                    values.append_option(*text);
                }
            }
            lengths.push(values.len() - before);
        }
        let DataType::List(item) = list_of(DataType::Utf8) else {
            return exec_err!("a list is expected");
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list = ListArray::try_new(item, offsets, Arc::new(values.finish()), None)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    #[test]
    fn what_holds_stays() {
        check_calls(&[
            (
                "ARRAY_REMOVE(ARRAY[CASE WHEN 1 > 0 THEN 'a' ELSE '' END, CASE WHEN 1 < 0 THEN 'b' ELSE '' END], '')",
                "[a]",
            ),
            (
                "ARRAY_REMOVE(ARRAY[CASE WHEN CAST(NULL AS BOOLEAN) THEN 'a' ELSE 'z' END, CASE WHEN 1 < 0 THEN 'b' END], 'b')",
                "[z, NULL]",
            ),
            (
                "ARRAY_REMOVE(ARRAY[CASE WHEN 1 > 0 THEN 'x' ELSE 'y' END], 'x')",
                "[]",
            ),
        ]);
    }
}
