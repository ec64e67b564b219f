//! Expressions with what Flink's row by row evaluation means: AND and OR whose right side is asked only where the left side leaves it
//! open, and the operators of [`Operation`].
//!
//! Flink goes row by row, so `b <> 0 AND a / b > 2` never divides by zero. A column at a time the right side would be computed for all rows,
//! and a row that the left side has judged already could end the job. So wherever the right side can fail, it sees only the others.

use super::operation::Operation;
use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::boolean::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

type Expr = Arc<dyn PhysicalExpr>;

/// The same expression over the columns of a schema, with every AND and OR guarded that needs it, and Java's operators.
pub fn guarded(expr: Expr, schema: &Schema) -> Result<Expr> {
    let guarded = expr.transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(expr));
        };
        if let Some(operation) = Operation::of(binary, schema)? {
            return Ok(Transformed::yes(Arc::new(operation)));
        }
        let decides = matches!(binary.op(), Operator::And | Operator::Or);
        if !decides || !can_fail(binary.right()) {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(Arc::new(Guarded {
            op: *binary.op(),
            left: Arc::clone(binary.left()),
            right: Arc::clone(binary.right()),
        })))
    })?;
    Ok(guarded.data)
}

/// Whether an expression may be an error for some values. Of functions that is not known, so each may.
fn can_fail(expr: &Expr) -> bool {
    let operation = expr.downcast_ref::<Operation>();
    let harmless = match (expr.downcast_ref::<BinaryExpr>(), operation) {
        (Some(binary), _) => {
            use Operator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
            matches!(binary.op(), Eq | NotEq | Lt | LtEq | Gt | GtEq | And | Or)
        }
        (None, Some(operation)) => !operation.can_fail(),
        (None, None) => {
            expr.is::<Column>()
                || expr.is::<Literal>()
                || expr.is::<NotExpr>()
                || expr.is::<IsNullExpr>()
                || expr.is::<IsNotNullExpr>()
                || expr.is::<LikeExpr>()
                || expr.is::<InListExpr>()
        }
    };
    !harmless || expr.children().into_iter().any(can_fail)
}

#[derive(Debug, Eq)]
pub struct Guarded {
    op: Operator,
    left: Expr,
    right: Expr,
}

impl Guarded {
    /// The same as a plain AND or OR, for those who want to say what it is.
    pub fn plain(&self) -> BinaryExpr {
        BinaryExpr::new(Arc::clone(&self.left), self.op, Arc::clone(&self.right))
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plain())
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let left = as_boolean_array(&left)?;
        let open = BooleanArray::new(self.open(left), None);
        if !open.has_true() {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.right.evaluate_selection(batch, &open)?;
        let right = right.into_array(rows)?;
        // Where the right side was not asked the left one decides, whatever stands here.
        let right = as_boolean_array(&right)?;
        let both = match self.op {
            Operator::And => and_kleene(left, right)?,
            _ => or_kleene(left, right)?,
        };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Expr> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Expr>) -> Result<Expr> {
        let [left, right] = children.as_slice() else {
            return internal_err!("{} has two sides", self.op);
        };
        Ok(Arc::new(Guarded {
            op: self.op,
            left: Arc::clone(left),
            right: Arc::clone(right),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plain().fmt_sql(f)
    }
}

impl Guarded {
    /// The rows that the left side does not decide.
    fn open(&self, left: &BooleanArray) -> BooleanBuffer {
        let deciding = match self.op {
            Operator::And => !left.values(),
            _ => left.values().clone(),
        };
        match left.nulls() {
            None => !&deciding,
            Some(nulls) => !&(&deciding & nulls.inner()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    /// `b <op> 0 <sign> 10 / b > 2`, where a zero would end the job.
    #[track_caller]
    fn check(op: Operator, sign: Operator, divisors: &[Option<i64>], expected: &[Option<bool>]) {
        let schema = Schema::new(vec![Field::new("b", DataType::Int64, true)]);
        let b = col("b", &schema).unwrap();
        let left = binary(b.clone(), op, lit(0i64), &schema).unwrap();
        let quotient = binary(lit(10i64), Operator::Divide, b, &schema).unwrap();
        let right = binary(quotient, Operator::Gt, lit(2i64), &schema).unwrap();
        let both = guarded(binary(left, sign, right, &schema).unwrap(), &schema).unwrap();
        let column = Arc::new(Int64Array::from(divisors.to_vec()));
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
        let found = both.evaluate(&batch).unwrap();
        let found = found.into_array(divisors.len()).unwrap();
        let found: Vec<_> = as_boolean_array(&found).unwrap().iter().collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_left_side_decides_the_right_side_never_sees() {
        let divisors = [Some(0), Some(2), None, Some(9), Some(0)];
        let (yes, no) = (Some(true), Some(false));
        check(
            Operator::NotEq,
            Operator::And,
            &divisors,
            &[no, yes, None, no, no],
        );
        check(
            Operator::Eq,
            Operator::Or,
            &divisors,
            &[yes, yes, None, no, yes],
        );
        check(
            Operator::NotEq,
            Operator::And,
            &[Some(0), Some(0)],
            &[no, no],
        );
    }

    #[test]
    fn what_cannot_fail_stays_as_it_is() {
        let schema = Schema::new(vec![Field::new("b", DataType::Int64, true)]);
        let b = col("b", &schema).unwrap();
        let small = binary(b.clone(), Operator::Lt, lit(3i64), &schema).unwrap();
        let large = binary(b, Operator::Gt, lit(1i64), &schema).unwrap();
        let both = binary(small, Operator::And, large, &schema).unwrap();
        assert!(guarded(both, &schema).unwrap().is::<BinaryExpr>());
    }
}
