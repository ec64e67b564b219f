//! GROUP BY without a window: results that change.

use super::draft::{Draft, Expr, Time, column};
use super::lower::Lowering;
use super::trouble::Planned;
use super::window::{Before, result_fields};
use super::{GroupAggregate, NodeId, Op};
use crate::sql::Place;
use arrow::datatypes::Schema;
use datafusion::logical_expr;
use std::sync::Arc;

impl Lowering {
    /// An aggregation of the rows of a node, by key alone.
    pub fn group(
        &mut self,
        plan: &logical_expr::Aggregate,
        node: NodeId,
        place: Place,
    ) -> Planned<NodeId> {
        self.expect_final(node, place, "GROUP BY")?;
        let schema = plan.input.schema();
        let mut before = Before::new(self, node);
        // Which key each expression of the GROUP BY is; equal ones are one.
        let mut keys: Vec<usize> = Vec::new();
        let mut outputs = Vec::with_capacity(plan.group_expr.len());
        for expr in &plan.group_expr {
            let key = before.expr(expr, schema)?;
            let known = keys.iter().position(|other| *other == key);
            outputs.push(known.unwrap_or(keys.len()));
            if known.is_none() {
                keys.push(key);
            }
        }
        let calls = plan
            .aggr_expr
            .iter()
            .map(|expr| before.call(expr, schema, place));
        let calls = calls.collect::<Planned<Vec<_>>>()?;
        let columns = before.into_columns();
        let projected = self.project_before(node, columns, "group input", place)?;
        let schema = Arc::clone(self.drafts.schema(projected));

        let mut aggregates = Vec::new();
        let finishes = calls
            .into_iter()
            .map(|call| call.add_to(&mut aggregates, &schema));
        let finishes = finishes.collect::<Planned<Vec<_>>>()?;
        let keys: Vec<Expr> = keys.into_iter().map(|key| column(&schema, key)).collect();
        let fields = result_fields(&schema, &keys, &aggregates)?;
        let output = Arc::new(Schema::new(fields));
        let first_aggregate = keys.len();
        let group = self.drafts.add(Draft {
            op: Op::Group(GroupAggregate { keys, aggregates }),
            inputs: vec![projected],
            schema: Arc::clone(&output),
            times: vec![Time::Plain; output.fields().len()],
            name: self.name("group"),
            place,
        });

        let mut exprs: Vec<Expr> = outputs.iter().map(|&at| column(&output, at)).collect();
        for finish in &finishes {
            exprs.push(self.finish(finish, &output, first_aggregate)?);
        }
        let times = vec![Time::Plain; exprs.len()];
        let names = plan
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let columns = names.zip(exprs).collect();
        Ok(self
            .drafts
            .project(group, columns, times, self.name("results"), place)?)
    }
}
