//! The graph while it is made.
//!
//! Nodes are shared as they are added: the same operation over the same inputs is the same node. So a view that several INSERTs read, or two queries that begin alike, are planned once.

use super::{Aggregate, GroupAggregate, IntervalJoin, NodeId, Op, Rank, Window, WindowAggregate};
use crate::sql::Place;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use std::sync::Arc;

pub type Expr = Arc<dyn PhysicalExpr>;

/// What is known of a column beside its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Nothing.
    Plain,
    /// The event time that the watermark is about.
    Rowtime,
    /// The number of a row in its partition.
    Number,
    /// The clock at which the row was read: PROCTIME().
    Proctime,
    /// A bound of the window that a row was put in; `of` is the column of the row's own time, where it is still there.
    Bound {
        bound: crate::sql::functions::Bound,
        window: Window,
        of: Option<usize>,
    },
}

/// A node that is not finished.
#[derive(Debug, Clone)]
pub struct Draft {
    pub op: Op,
    pub inputs: Vec<NodeId>,
    pub schema: SchemaRef,
    pub times: Vec<Time>,
    pub name: String,
    pub place: Place,
}

/// All of them; inputs stand before the nodes that read them.
#[derive(Debug, Default)]
pub struct Drafts {
    pub nodes: Vec<Draft>,
}

impl Drafts {
    /// The node that does this: a new one, or one that does it already.
    pub fn add(&mut self, draft: Draft) -> NodeId {
        let known = self
            .nodes
            .iter()
            .position(|other| other.inputs == draft.inputs && same(other, &draft));
        known.unwrap_or_else(|| {
            self.nodes.push(draft);
            self.nodes.len() - 1
        })
    }

    pub fn schema(&self, node: NodeId) -> &SchemaRef {
        &self.nodes[node].schema
    }

    /// New columns over a node's; the node itself when they are just its own.
    pub fn project(
        &mut self,
        input: NodeId,
        columns: Vec<(String, Expr)>,
        times: Vec<Time>,
        name: String,
        place: Place,
    ) -> Result<NodeId> {
        let (names, exprs): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let under = &self.nodes[input];
        let same_names = names
            .iter()
            .eq(under.schema.fields().iter().map(|field| field.name()));
        if names.len() == under.schema.fields().len()
            && is_identity(&exprs, names.len())
            && same_names
            && under.times == times
        {
            return Ok(input);
        }
        let schema = project_schema(&names, &exprs, self.schema(input))?;
        let op = Op::Project { exprs };
        Ok(self.add(Draft {
            op,
            inputs: vec![input],
            schema,
            times,
            name,
            place,
        }))
    }
}

/// The columns that expressions over an input give.
pub fn project_schema(names: &[String], exprs: &[Expr], input: &Schema) -> Result<SchemaRef> {
    let fields = names.iter().zip(exprs).map(|(name, expr)| {
        Ok(Field::new(
            name,
            expr.data_type(input)?,
            expr.nullable(input)?,
        ))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// Whether the expressions are the input's columns, all of them and in their order.
pub fn is_identity(exprs: &[Expr], columns: usize) -> bool {
    exprs.len() == columns
        && exprs
            .iter()
            .enumerate()
            .all(|(i, expr)| as_column(expr) == Some(i))
}

/// The column that an expression is, if it is just that.
pub fn as_column(expr: &Expr) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// An expression for a column of a schema.
pub fn column(schema: &Schema, index: usize) -> Expr {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// The same expression with every column replaced.
pub fn replace_columns(expr: &Expr, by: &dyn Fn(usize) -> Expr) -> Result<Expr> {
    let replaced = Arc::clone(expr).transform_down(|expr| {
        Ok(match as_column(&expr) {
            // The replacement speaks of other columns: it is not searched again.
            Some(index) => Transformed::new(
                by(index),
                true,
                datafusion::common::tree_node::TreeNodeRecursion::Jump,
            ),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

/// The same expression over a schema in which the columns stand elsewhere.
pub fn move_columns(expr: &Expr, schema: &Schema, to: &dyn Fn(usize) -> usize) -> Result<Expr> {
    replace_columns(expr, &|index| column(schema, to(index)))
}

/// The columns that an expression reads, each as often as it does.
pub fn columns_read(expr: &Expr, out: &mut Vec<usize>) {
    if let Some(index) = as_column(expr) {
        out.push(index);
    }
    for child in expr.children() {
        columns_read(child, out);
    }
}

/// Whether two nodes over the same inputs do the same.
fn same(a: &Draft, b: &Draft) -> bool {
    let names = |draft: &Draft| {
        draft
            .schema
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect::<Vec<_>>()
    };
    match (&a.op, &b.op) {
        (Op::Scan(a), Op::Scan(b)) => Arc::ptr_eq(&a.table, &b.table),
        (Op::Project { exprs: of_a }, Op::Project { exprs: of_b }) => {
            of_a == of_b && names(a) == names(b) && a.times == b.times
        }
        (Op::Filter { predicate: a }, Op::Filter { predicate: b }) => a == b,
        (Op::Union, Op::Union) => true,
        (Op::Window(a), Op::Window(b)) => same_window(a, b),
        (Op::Group(a), Op::Group(b)) => same_group(a, b),
        (Op::Rank(a), Op::Rank(b)) => same_rank(a, b),
        (Op::IntervalJoin(a), Op::IntervalJoin(b)) => same_join(a, b),
        (Op::Over(a), Op::Over(b)) => {
            (&a.keys, &a.time, a.frame, &a.calls) == (&b.keys, &b.time, b.frame, &b.calls)
        }
        (Op::Unnest(of_a), Op::Unnest(of_b)) => {
            *of_a.array == *of_b.array
                && (&of_a.keep, of_a.outer, of_a.ordinality)
                    == (&of_b.keep, of_b.outer, of_b.ordinality)
                && names(a) == names(b)
        }
        (Op::Lookup(of_a), Op::Lookup(of_b)) => {
            Arc::ptr_eq(&of_a.table, &of_b.table)
                && of_a.read == of_b.read
                && (&of_a.keys, &of_a.exprs) == (&of_b.keys, &of_b.exprs)
                && (&of_a.filter, of_a.outer) == (&of_b.filter, of_b.outer)
        }
        (Op::Sink(a), Op::Sink(b)) => Arc::ptr_eq(&a.table, &b.table),
        _ => false,
    }
}

fn same_window(a: &WindowAggregate, b: &WindowAggregate) -> bool {
    a.window == b.window
        && *a.time == *b.time
        && a.keys == b.keys
        && same_aggregates(&a.aggregates, &b.aggregates)
}

fn same_group(a: &GroupAggregate, b: &GroupAggregate) -> bool {
    a.keys == b.keys && same_aggregates(&a.aggregates, &b.aggregates)
}

fn same_rank(a: &Rank, b: &Rank) -> bool {
    a.partition == b.partition
        && a.limit == b.limit
        && a.number == b.number
        && a.gives.changes() == b.gives.changes()
        && a.order.len() == b.order.len()
        && a.order
            .iter()
            .zip(&b.order)
            .all(|(a, b)| *a.expr == *b.expr && a.options == b.options)
}

fn same_aggregates(a: &[Aggregate], b: &[Aggregate]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_aggregate(a, b))
}

pub fn same_aggregate(a: &Aggregate, b: &Aggregate) -> bool {
    a.filter == b.filter
        && a.function.fun() == b.function.fun()
        && a.function.is_distinct() == b.function.is_distinct()
        && a.function.expressions() == b.function.expressions()
}

fn same_join(a: &IntervalJoin, b: &IntervalJoin) -> bool {
    a.kind == b.kind
        && (a.lower_ms, a.upper_ms) == (b.lower_ms, b.upper_ms)
        && (&a.left_keys, &a.right_keys) == (&b.left_keys, &b.right_keys)
        && *a.left_time == *b.left_time
        && *a.right_time == *b.right_time
        && a.filter == b.filter
}
