//! `row.field`.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The field of a ROW; NULL where the whole ROW is.
pub fn field(row: Expr, name: &str) -> Expr {
    ScalarUDF::from(Field {
        name: name.to_owned(),
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![row])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Field {
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Field {
    /// Printed as `row.name`: a name that no job can call.
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{}.{}", args[0].schema_name(), self.name))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let DataType::Struct(fields) = &types[0] else {
            return plan_err!(
                "{} has no fields, so .{} is nothing",
                super::type_name(&types[0]),
                self.name
            );
        };
        match fields.iter().find(|field| field.name() == &self.name) {
            Some(field) => Ok(field.data_type().clone()),
            None => {
                let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
                plan_err!(
                    "the ROW has no field '{}'; it has {}",
                    self.name,
                    names.join(", ")
                )
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.args[0].to_array(args.number_rows)?;
        let Some(rows) = rows.as_struct_opt() else {
            return exec_err!("{} has no fields", rows.data_type());
        };
        let Some(child) = rows.column_by_name(&self.name) else {
            return exec_err!("the ROW has no field '{}'", self.name);
        };
        Ok(ColumnarValue::Array(with_nulls(child, rows.nulls())?))
    }
}

/// The same values, NULL where the parent is NULL too.
fn with_nulls(child: &ArrayRef, parent: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(parent) = parent.filter(|parent| parent.null_count() > 0) else {
        return Ok(ArrayRef::clone(child));
    };
    let nulls = NullBuffer::union(child.nulls(), Some(parent));
    let data = child.to_data().into_builder().nulls(nulls).build()?;
    Ok(arrow::array::make_array(data))
}

/// Whether a call is the access to a field of a ROW.
pub fn is_field(function: &ScalarUDF) -> bool {
    function.inner().is::<Field>()
}
