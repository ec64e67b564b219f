//! `CROSS JOIN UNNEST(array) AS t(x)`: one row for each element.

use super::draft::{Draft, Time};
use super::lower::Lowering;
use super::trouble::{Planned, refused};
use super::{NodeId, Op, Unnest};
use crate::sql::Place;
use crate::sql::functions::type_name;
use crate::sql::names::refuse_hidden;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};
use std::fmt;
use std::sync::Arc;

/// The node of the logical plan: all columns of the input, and the elements' behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unnesting {
    input: LogicalPlan,
    array: Expr,
    how: How,
    schema: DFSchemaRef,
}

/// What the query says beside the array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct How {
    pub outer: bool,
    pub ordinality: bool,
    /// The name of the table that UNNEST is.
    pub alias: Option<String>,
    /// The names of its columns; none: as the elements call them.
    pub columns: Vec<String>,
    pub place: Place,
}

impl PartialOrd for Unnesting {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl Unnesting {
    pub fn plan(input: LogicalPlan, array: Expr, how: How) -> Result<LogicalPlan> {
        let node = Arc::new(Self::new(input, array, how)?);
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    fn new(input: LogicalPlan, array: Expr, how: How) -> Result<Unnesting> {
        let mut fields = elements(&array.get_type(input.schema())?, how.outer)?;
        if how.ordinality {
            fields.push(Field::new("ORDINALITY", DataType::Int32, how.outer));
        }
        if !how.columns.is_empty() {
            if how.columns.len() != fields.len() {
                return plan_err!(
                    "UNNEST gives {} columns, and {} names stand behind it",
                    fields.len(),
                    how.columns.len()
                );
            }
            let named = fields.into_iter().zip(&how.columns);
            fields = named.map(|(field, name)| field.with_name(name)).collect();
        }
        let alias = how.alias.clone().map(TableReference::bare);
        let own = fields
            .into_iter()
            .map(|field| (alias.clone(), Arc::new(field)));
        let before = input.schema().iter();
        let all = before.map(|(of, field)| (of.cloned(), Arc::clone(field)));
        let schema = DFSchema::new_with_metadata(all.chain(own).collect(), Default::default())?;
        Ok(Unnesting {
            input,
            array,
            how,
            schema: Arc::new(schema),
        })
    }
}

/// The columns of an element: the fields of a ROW, key and value of a MAP, or the element itself.
fn elements(array: &DataType, outer: bool) -> Result<Vec<Field>> {
    let all_of = |fields: &Fields, whole_nullable: bool| {
        let fields = fields.iter().map(|field| field.as_ref().clone());
        let nullable = |field: Field| {
            let nullable = field.is_nullable() || whole_nullable;
            field.with_nullable(nullable)
        };
        fields.map(nullable).collect()
    };
    Ok(match array {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => all_of(fields, outer),
            other => vec![Field::new(
                "EXPR$0",
                other.clone(),
                outer || item.is_nullable(),
            )],
        },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => all_of(pair, outer),
            other => return plan_err!("{} has no entries", type_name(other)),
        },
        other => {
            return plan_err!("UNNEST takes an ARRAY or a MAP, not {}", type_name(other));
        }
    })
}

impl UserDefinedLogicalNodeCore for Unnesting {
    fn name(&self) -> &str {
        "Unnest"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.array.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Unnest: {}", self.array)
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(array), Some(input)) => Self::new(input, array, self.how.clone()),
            _ => plan_err!("UNNEST has one input and one array"),
        }
    }
}

impl Lowering {
    /// A node of ours in a logical plan.
    pub fn extension(&mut self, extension: &Extension) -> Planned<NodeId> {
        let Some(unnesting) = extension.node.as_any().downcast_ref::<Unnesting>() else {
            return refused(
                self.statement(),
                format!("{} is not supported here", extension.node.name()),
                "",
            );
        };
        let input = self.plan(&unnesting.input)?;
        self.expect_final(input, unnesting.how.place, "UNNEST")?;
        let array = self.expr(&unnesting.array, unnesting.input.schema(), input)?;
        let under = &self.drafts.nodes[input];
        let width = under.schema.fields().len();
        for field in &unnesting.schema.fields()[width..] {
            refuse_hidden(field.name(), unnesting.how.place)?;
        }
        let mut fields: Vec<Field> = under
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields.extend(
            unnesting.schema.fields()[width..]
                .iter()
                .map(|field| field.as_ref().clone()),
        );
        let mut times = under.times.clone();
        times.resize(fields.len(), Time::Plain);
        let How {
            outer, ordinality, ..
        } = unnesting.how;
        let draft = Draft {
            op: Op::Unnest(Unnest {
                array,
                keep: (0..width).collect(),
                outer,
                ordinality,
            }),
            inputs: vec![input],
            schema: Arc::new(Schema::new(fields)),
            times,
            name: self.name("unnest"),
            place: unnesting.how.place.or(self.statement()),
        };
        Ok(self.drafts.add(draft))
    }
}
