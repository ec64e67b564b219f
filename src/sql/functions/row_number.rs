//! ROW_NUMBER, while a job is planned: `plan::rank` makes an operator of it.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl,
};
use std::sync::Arc;

/// Its name, in lower case as all names of functions.
pub const ROW_NUMBER: &str = "row_number";

/// The number of a row in its partition, a BIGINT from 1 on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowNumber {
    signature: Signature,
}

/// The function of an OVER.
pub fn row_number() -> Arc<WindowUDF> {
    Arc::new(WindowUDF::from(RowNumber {
        signature: Signature::nullary(Volatility::Immutable),
    }))
}

impl WindowUDFImpl for RowNumber {
    fn name(&self) -> &str {
        ROW_NUMBER
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(
        &self,
        _: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        internal_err!("ROW_NUMBER is replaced when a job is planned")
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, false)))
    }
}
