//! Aggregates with Flink's types.
//!
//! COUNT, MIN and MAX are DataFusion's. SUM and AVG differ in what they give: SUM keeps the type of its input, AVG
//! of whole numbers is a whole number, and AVG of DECIMALs is rounded. These two exist while a job is planned; what runs is DataFusion's SUM over wider numbers
//! and COUNT, and a projection behind the window makes Flink's result of them (see `plan::window`).

use super::type_name;
use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::functions_aggregate::{count::count_udaf, min_max};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Every aggregate that a job can call, by any case of its name.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    vec![
        count_udaf(),
        min_max::min_udaf(),
        min_max::max_udaf(),
        Arc::new(AggregateUDF::from(Sum {
            signature: numeric(),
        })),
        Arc::new(AggregateUDF::from(Average {
            signature: numeric(),
        })),
    ]
    .into_iter()
    .chain(ONLY_OVER.map(|name| {
        Arc::new(AggregateUDF::from(OnlyOver {
            name,
            signature: numeric(),
        }))
    }))
    .collect()
}

/// Aggregates that depend on the order of rows, or have no final value that a window could keep: they are computed OVER.
/// In capitals, because DataFusion looks for first_value and last_value elsewhere.
pub const ONLY_OVER: [&str; 3] = ["FIRST_VALUE", "LAST_VALUE", "COLLECT"];

/// One of [`ONLY_OVER`], while a job is planned.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyOver {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for OnlyOver {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [_] => Ok(types.to_vec()),
            _ => plan_err!("{} takes one argument", self.name),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.name {
            "COLLECT" => crate::sql::functions::multiset(types[0].clone()),
            _ => types[0].clone(),
        })
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} is replaced when a job is planned", self.name)
    }
}

fn numeric() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

/// SUM, while a job is planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    signature: Signature,
}

/// AVG, while a job is planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Average {
    signature: Signature,
}

fn one_number(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Null] => Ok(vec![DataType::Int32]),
        [number] if number.is_numeric() => Ok(types.to_vec()),
        [other] => plan_err!("{name} takes a number, not {}", type_name(other)),
        _ => plan_err!("{name} takes one argument"),
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        one_number("SUM", types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match &types[0] {
            DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
            other => other.clone(),
        })
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("SUM is replaced when a job is planned")
    }
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        one_number("AVG", types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match &types[0] {
            DataType::Decimal128(_, scale) => DataType::Decimal128(38, (*scale).max(6)),
            other => other.clone(),
        })
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("AVG is replaced when a job is planned")
    }
}
