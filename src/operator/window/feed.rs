//! What the aggregates read of a batch.

use crate::error::Result;
use crate::operator::expr::{evaluate_all, evaluate_predicate};
use crate::plan::Aggregate;
use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

/// An aggregate with the expressions that feed it.
pub(in crate::operator) struct Compiled {
    pub function: Arc<AggregateFunctionExpr>,
    /// The types of its state's columns.
    pub state: Vec<DataType>,
    /// The arguments, and behind them what the aggregate's ORDER BY asks for.
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What one aggregate reads of a batch.
pub(in crate::operator) struct Feed {
    pub arguments: Vec<ArrayRef>,
    pub filter: Option<BooleanArray>,
}

impl Compiled {
    pub fn new(aggregate: &Aggregate) -> Result<Self> {
        let function = aggregate.function.clone();
        let mut arguments = function.expressions();
        arguments.extend(function.order_bys().iter().map(|order| order.expr.clone()));
        let state = function.state_fields()?;
        let state = state.iter().map(|field| field.data_type().clone());
        Ok(Compiled {
            state: state.collect(),
            function,
            arguments,
            filter: aggregate.filter.clone(),
        })
    }

    pub fn feed(&self, batch: &RecordBatch) -> Result<Feed> {
        let predicate = self.filter.as_ref();
        Ok(Feed {
            arguments: evaluate_all(&self.arguments, batch)?,
            filter: predicate
                .map(|expr| evaluate_predicate(expr, batch))
                .transpose()?,
        })
    }
}

impl Feed {
    /// The same for some rows only.
    pub fn take(&self, rows: &UInt32Array) -> Result<Feed> {
        let arguments = self
            .arguments
            .iter()
            .map(|column| Ok(take(column, rows, None)?));
        let filter = match &self.filter {
            Some(filter) => Some(take(filter, rows, None)?.as_boolean().clone()),
            None => None,
        };
        Ok(Feed {
            arguments: arguments.collect::<Result<_>>()?,
            filter,
        })
    }
}
