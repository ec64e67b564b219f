//! Operators that Arrow would compute otherwise than Flink does.
//!
//! Arrow orders NaN behind every number and takes -0.0 for another number than 0.0; Java compares NaN with nothing. Arrow ends the job where
//! the smallest INT is divided by -1; Java wraps. And a moment that is moved stops at the first or the last one: if it wrapped, one bad
//! record would be behind everything that can come.

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BooleanArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::try_binary;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_primitive_array;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use std::fmt;
use std::sync::Arc;

type Expr = Arc<dyn PhysicalExpr>;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Operation(BinaryExpr);

impl Operation {
    /// The same operator with Java's meaning, where that is another one.
    pub fn of(binary: &BinaryExpr, schema: &Schema) -> Result<Option<Operation>> {
        let differs: fn(&DataType) -> bool = match binary.op() {
            op if is_comparison(*op) => |of| matches!(of, DataType::Float32 | DataType::Float64),
            Operator::Divide | Operator::Modulo => DataType::is_signed_integer,
            _ => return Ok(None),
        };
        let differs = differs(&binary.left().data_type(schema)?);
        Ok(differs.then(|| Operation(binary.clone())))
    }

    /// Milliseconds since 1970, `by` of them later or earlier.
    pub fn moved(moment: Expr, op: Operator, by: i64) -> Operation {
        let by = Arc::new(Literal::new(ScalarValue::Int64(Some(by))));
        Operation(BinaryExpr::new(moment, op, by))
    }

    pub fn can_fail(&self) -> bool {
        matches!(self.0.op(), Operator::Divide | Operator::Modulo)
    }

    /// The operator as the job has it, for those who want to say what it is.
    pub fn plain(&self) -> &BinaryExpr {
        &self.0
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl PhysicalExpr for Operation {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let sides = Sides {
            left: self.0.left().evaluate(batch)?,
            op: *self.0.op(),
            right: self.0.right().evaluate(batch)?,
            rows: batch.num_rows(),
        };
        let result = match sides.left.data_type() {
            DataType::Float32 => sides.compared::<Float32Type>(),
            DataType::Float64 => sides.compared::<Float64Type>(),
            DataType::Int64 if matches!(sides.op, Operator::Plus | Operator::Minus) => {
                sides.moved()
            }
            DataType::Int8 => sides.divided::<Int8Type>(),
            DataType::Int16 => sides.divided::<Int16Type>(),
            DataType::Int32 => sides.divided::<Int32Type>(),
            DataType::Int64 => sides.divided::<Int64Type>(),
            other => internal_err!("{self} is planned for {other}"),
        };
        Ok(ColumnarValue::Array(result?))
    }

    fn children(&self) -> Vec<&Expr> {
        self.0.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Expr>) -> Result<Expr> {
        let [left, right] = children.as_slice() else {
            return internal_err!("{} has two sides", self.0.op());
        };
        let (left, right) = (Arc::clone(left), Arc::clone(right));
        let binary = BinaryExpr::new(left, *self.0.op(), right);
        Ok(Arc::new(Operation(binary)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// What the two sides are for the rows of one batch.
struct Sides {
    left: ColumnarValue,
    op: Operator,
    right: ColumnarValue,
    rows: usize,
}

impl Sides {
    fn compared<T: ArrowPrimitiveType>(&self) -> Result<ArrayRef>
    where
        T::Native: PartialOrd,
    {
        let result = match self.op {
            Operator::Eq => self.tested::<T>(|a, b| a == b),
            Operator::NotEq => self.tested::<T>(|a, b| a != b),
            Operator::Lt => self.tested::<T>(|a, b| a < b),
            Operator::LtEq => self.tested::<T>(|a, b| a <= b),
            Operator::Gt => self.tested::<T>(|a, b| a > b),
            Operator::GtEq => self.tested::<T>(|a, b| a >= b),
            other => internal_err!("{other} compares nothing"),
        };
        Ok(Arc::new(result?))
    }

    fn tested<T: ArrowPrimitiveType>(
        &self,
        test: impl Fn(T::Native, T::Native) -> bool,
    ) -> Result<BooleanArray> {
        match (&self.left, &self.right) {
            (column, ColumnarValue::Scalar(constant)) => {
                self.with_constant::<T>(column, constant, test)
            }
            (ColumnarValue::Scalar(constant), column) => {
                self.with_constant::<T>(column, constant, |a, b| test(b, a))
            }
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => {
                let left = as_primitive_array::<T>(left)?;
                let right = as_primitive_array::<T>(right)?;
                let pairs = left.values().chunks(64).zip(right.values().chunks(64));
                let words = pairs.map(|(a, b)| word(a.iter().zip(b).map(|(a, b)| test(*a, *b))));
                let nulls = NullBuffer::union(left.nulls(), right.nulls());
                Ok(BooleanArray::new(packed(words, self.rows), nulls))
            }
        }
    }

    /// The column's values first, the constant second.
    fn with_constant<T: ArrowPrimitiveType>(
        &self,
        column: &ColumnarValue,
        constant: &ScalarValue,
        test: impl Fn(T::Native, T::Native) -> bool,
    ) -> Result<BooleanArray> {
        if constant.is_null() {
            return Ok(BooleanArray::new_null(self.rows));
        }
        let constant = constant.to_array_of_size(1)?;
        let constant = as_primitive_array::<T>(&constant)?.value(0);
        let column = column.to_array(self.rows)?;
        let column = as_primitive_array::<T>(&column)?;
        let chunks = column.values().chunks(64);
        let words = chunks.map(|chunk| word(chunk.iter().map(|value| test(*value, constant))));
        Ok(BooleanArray::new(
            packed(words, self.rows),
            column.nulls().cloned(),
        ))
    }

    fn divided<T: ArrowPrimitiveType>(&self) -> Result<ArrayRef> {
        let (left, right) = (
            self.left.to_array(self.rows)?,
            self.right.to_array(self.rows)?,
        );
        let (left, right) = (
            as_primitive_array::<T>(&left)?,
            as_primitive_array::<T>(&right)?,
        );
        let is_division = self.op == Operator::Divide;
        let divided = try_binary::<_, _, _, T>(left, right, |dividend, divisor| {
            match (divisor.is_zero(), is_division) {
                (true, _) => Err(ArrowError::DivideByZero),
                (false, true) => Ok(dividend.div_wrapping(divisor)),
                (false, false) => Ok(dividend.mod_wrapping(divisor)),
            }
        })?;
        Ok(Arc::new(divided))
    }

    fn moved(&self) -> Result<ArrayRef> {
        let ColumnarValue::Scalar(ScalarValue::Int64(Some(by))) = &self.right else {
            return internal_err!("a moment is moved by a constant");
        };
        let moments = self.left.to_array(self.rows)?;
        let moments = as_primitive_array::<Int64Type>(&moments)?;
        Ok(Arc::new(match self.op {
            Operator::Plus => moments.unary::<_, Int64Type>(|moment| moment.saturating_add(*by)),
            _ => moments.unary::<_, Int64Type>(|moment| moment.saturating_sub(*by)),
        }))
    }
}

/// Up to 64 answers as bits, the first one lowest.
fn word(answers: impl Iterator<Item = bool>) -> u64 {
    answers
        .enumerate()
        .fold(0, |word, (at, answer)| word | u64::from(answer) << at)
}

fn packed(words: impl Iterator<Item = u64>, rows: usize) -> BooleanBuffer {
    BooleanBuffer::new(words.collect::<Buffer>(), 0, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Float64Array, Int32Array, Int64Array};
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    fn batch(a: ArrayRef, b: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true)]).unwrap()
    }

    fn evaluated(left: Expr, op: Operator, right: Expr, batch: &RecordBatch) -> Result<ArrayRef> {
        let plain = BinaryExpr::new(left, op, right);
        let operation = Operation::of(&plain, &batch.schema()).unwrap().unwrap();
        operation.evaluate(batch)?.into_array(batch.num_rows())
    }

    /// In more rows than a word has bits, with columns and constants on both sides.
    #[track_caller]
    fn check(a: Option<f64>, op: Operator, b: Option<f64>, expected: Option<bool>) {
        const ROWS: usize = 131;
        let column = |value| Arc::new(Float64Array::from(vec![value; ROWS])) as ArrayRef;
        let batch = batch(column(a), column(b));
        let columns = ["a", "b"].map(|name| col(name, &batch.schema()).unwrap());
        let [left, right] = columns;
        for (left, right) in [
            (Arc::clone(&left), Arc::clone(&right)),
            (lit(ScalarValue::Float64(a)), right),
            (left, lit(ScalarValue::Float64(b))),
        ] {
            let found = evaluated(left, op, right, &batch).unwrap();
            let found: Vec<_> = found.as_boolean().iter().collect();
            assert_eq!(found, vec![expected; ROWS], "{a:?} {op} {b:?}");
        }
    }

    #[test]
    fn floating_numbers_are_compared_as_java_does() {
        use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let nan = Some(f64::NAN);
        for op in [Eq, Gt, GtEq, Lt, LtEq] {
            check(nan, op, Some(40.0), Some(false));
            check(Some(40.0), op, nan, Some(false));
            check(nan, op, nan, Some(false));
        }
        check(nan, NotEq, Some(40.0), Some(true));
        check(nan, NotEq, nan, Some(true));
        check(Some(-0.0), Eq, Some(0.0), Some(true));
        check(Some(-0.0), Lt, Some(0.0), Some(false));
        check(Some(1.0), Lt, Some(2.0), Some(true));
        check(Some(2.0), LtEq, Some(1.0), Some(false));
        check(None, Lt, Some(2.0), None);
        check(Some(2.0), NotEq, None, None);
    }

    #[test]
    fn each_row_has_its_own_answer() {
        let numbers: Float64Array = (0..200)
            .map(|n| (n % 9 != 0).then_some(f64::from(n)))
            .collect();
        let halves: Float64Array = (0..200).map(|n| Some(f64::from(n % 7) * 20.0)).collect();
        let expected: Vec<_> = numbers
            .iter()
            .zip(&halves)
            .map(|(a, b)| Some(a? < b?))
            .collect();
        let batch = batch(Arc::new(numbers), Arc::new(halves));
        for batch in [batch.clone(), batch.slice(67, 130)] {
            let [a, b] = ["a", "b"].map(|name| col(name, &batch.schema()).unwrap());
            let found = evaluated(a, Operator::Lt, b, &batch).unwrap();
            let found: Vec<_> = found.as_boolean().iter().collect();
            let from = if batch.num_rows() == 200 { 0 } else { 67 };
            assert_eq!(found, expected[from..from + batch.num_rows()]);
        }
    }

    #[test]
    fn whole_numbers_wrap_and_zero_is_an_error() {
        let a = Int32Array::from(vec![Some(i32::MIN), Some(7), None]);
        let batch = batch(Arc::new(a.clone()), Arc::new(a));
        let a = col("a", &batch.schema()).unwrap();
        let by = |op, divisor: i32| evaluated(Arc::clone(&a), op, lit(divisor), &batch);
        let quotients = by(Operator::Divide, -1).unwrap();
        let expected = Int32Array::from(vec![Some(i32::MIN), Some(-7), None]);
        assert_eq!(quotients.as_primitive::<Int32Type>(), &expected);
        let rests = by(Operator::Modulo, -1).unwrap();
        let expected = Int32Array::from(vec![Some(0), Some(0), None]);
        assert_eq!(rests.as_primitive::<Int32Type>(), &expected);
        let error = by(Operator::Divide, 0).unwrap_err().to_string();
        assert!(error.contains("Divide by zero"), "{error}");
    }

    #[test]
    fn a_moment_stops_at_the_first_and_the_last_one() {
        let moments = Int64Array::from(vec![Some(i64::MIN), Some(7), Some(i64::MAX), None]);
        let batch = batch(Arc::new(moments.clone()), Arc::new(moments));
        let moved = |op| {
            let moment = col("a", &batch.schema()).unwrap();
            let moved = Operation::moved(moment, op, 5).evaluate(&batch).unwrap();
            let moved = moved.into_array(batch.num_rows()).unwrap();
            moved.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(
            moved(Operator::Minus),
            [Some(i64::MIN), Some(2), Some(i64::MAX - 5), None]
        );
        assert_eq!(
            moved(Operator::Plus),
            [Some(i64::MIN + 5), Some(12), Some(i64::MAX), None]
        );
    }

    #[test]
    fn what_means_the_same_stays_arrows() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let a = col("a", &schema).unwrap();
        for op in [Operator::Lt, Operator::Plus] {
            let same = binary(Arc::clone(&a), op, lit(1i64), &schema).unwrap();
            let same = same.downcast_ref::<BinaryExpr>().unwrap();
            assert!(Operation::of(same, &schema).unwrap().is_none());
        }
    }
}
