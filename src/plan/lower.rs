//! From DataFusion's logical plan to nodes.

use super::bind::Relation;
use super::draft::{Draft, Drafts, Expr, Time, as_column, column};
use super::rank::is_row_number;
use super::trouble::{Planned, place_of, refused};
use super::{NodeId, Op};
use crate::operator::guard::guarded;
use crate::sql::Place;
use crate::sql::functions::{Bound, WindowBound, type_name};
use crate::sql::names::refuse_hidden;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{self, JoinType, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{ScalarFunctionExpr, create_physical_expr};
use std::sync::Arc;

/// Adds the nodes of plans to the drafts.
pub struct Lowering {
    pub drafts: Drafts,
    pub options: Arc<ConfigOptions>,
    props: ExecutionProps,
    /// The view or the table that is being planned: nodes are named after it.
    context: String,
    /// Where its statement stands, for what has no place of its own.
    statement: Place,
}

impl Lowering {
    pub fn new(options: Arc<ConfigOptions>) -> Lowering {
        let props = ExecutionProps::new();
        let (context, statement) = (String::new(), Place::default());
        Lowering {
            drafts: Drafts::default(),
            options,
            props,
            context,
            statement,
        }
    }

    /// From here on nodes belong to this view or table.
    pub fn enter(&mut self, context: &str, statement: Place) {
        self.context = context.to_owned();
        self.statement = statement;
    }

    pub fn statement(&self) -> Place {
        self.statement
    }

    /// The name of a new node: what it belongs to, and what it does.
    pub fn name(&self, what: &str) -> String {
        format!("{} {what}", self.context)
    }

    /// The node that gives the rows of a plan, column by column.
    pub fn plan(&mut self, plan: &LogicalPlan) -> Planned<NodeId> {
        match plan {
            LogicalPlan::TableScan(scan) => match scan.source.downcast_ref::<Relation>() {
                Some(relation) => Ok(relation.node),
                None => refused(self.statement, "this cannot be read in a job", ""),
            },
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => match filter.input.as_ref() {
                LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
                    self.join(join, vec![filter.predicate.clone()])
                }
                input => {
                    let node = self.plan(input)?;
                    self.filter(node, input.schema(), &filter.predicate)
                }
            },
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.plan(input));
                let inputs = inputs.collect::<Planned<Vec<_>>>()?;
                Ok(self.union(inputs, &self.name("union")))
            }
            LogicalPlan::Aggregate(aggregate) => self.window(aggregate),
            LogicalPlan::Window(window) if window.window_expr.iter().any(is_row_number) => {
                self.rank(window)
            }
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Extension(extension) => self.extension(extension),
            LogicalPlan::Join(join) => self.join(join, Vec::new()),
            LogicalPlan::EmptyRelation(_) => refused(
                self.statement,
                "a query without FROM has no rows in a stream",
                "read a table; the connector 'datagen' makes rows",
            ),
            other => refused(
                self.statement,
                format!(
                    "{} is not supported",
                    other.display().to_string().to_lowercase()
                ),
                "",
            ),
        }
    }

    fn projection(&mut self, projection: &logical_expr::Projection) -> Planned<NodeId> {
        let input = self.plan(&projection.input)?;
        let schema = projection.input.schema();
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
            refuse_hidden(field.name(), place_of([expr]).unwrap_or(self.statement))?;
            exprs.push(self.expr(expr, schema, input)?);
        }
        let times = self.times(&exprs, input)?;
        let names = projection
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let place = place_of(&projection.expr).unwrap_or(self.statement);
        let columns = names.zip(exprs).collect();
        Ok(self
            .drafts
            .project(input, columns, times, self.name("columns"), place)?)
    }

    /// What new columns are: a time attribute stays one when it is passed on unchanged.
    fn times(&self, exprs: &[Expr], input: NodeId) -> Planned<Vec<Time>> {
        let old = &self.drafts.nodes[input].times;
        let moved = |of: Option<usize>| {
            exprs
                .iter()
                .position(|expr| of.is_some() && as_column(expr) == of)
        };
        let windowed = exprs.iter().any(|expr| window_of(expr).is_some());
        let mut times = Vec::with_capacity(exprs.len());
        for expr in exprs {
            times.push(match (window_of(expr), as_column(expr)) {
                (Some((bound, time)), _) => {
                    self.check_rowtime(time, input, bound)?;
                    Time::Bound {
                        bound: bound.bound,
                        window: bound.window,
                        of: moved(Some(time)),
                    }
                }
                (None, Some(index)) => match old[index] {
                    // In a window's rows, the window's time is the event time.
                    Time::Rowtime | Time::Bound { .. } if windowed => Time::Plain,
                    Time::Bound { bound, window, of } => Time::Bound {
                        bound,
                        window,
                        of: moved(of),
                    },
                    time => time,
                },
                (None, None) => Time::Plain,
            });
        }
        Ok(times)
    }

    fn check_rowtime(&self, time: usize, input: NodeId, bound: &WindowBound) -> Planned<()> {
        let node = &self.drafts.nodes[input];
        if is_time(node.times[time]) {
            return Ok(());
        }
        let known: Vec<&str> = (0..node.times.len())
            .filter(|&i| is_time(node.times[i]))
            .map(|i| node.schema.field(i).name().as_str())
            .collect();
        let name = node.schema.field(time).name();
        let hint = if known.is_empty() {
            "declare WATERMARK FOR on the table, and pass that column on unchanged".to_owned()
        } else {
            format!("use {}, which the watermark is about", known.join(" or "))
        };
        refused(
            bound.place,
            format!("'{name}' is not a time attribute, so it makes no windows"),
            hint,
        )
    }

    /// Keeps the rows for which a predicate is true.
    pub fn filter(
        &mut self,
        input: NodeId,
        schema: &DFSchema,
        predicate: &logical_expr::Expr,
    ) -> Planned<NodeId> {
        let place = place_of([predicate]).unwrap_or(self.statement);
        let predicate = self.bare_expr(predicate, schema, input)?;
        let mut input = input;
        let Some(predicate) = self.limited(&mut input, predicate)? else {
            return Ok(input);
        };
        let predicate = guarded(predicate, self.drafts.schema(input))?;
        let node = &self.drafts.nodes[input];
        let draft = Draft {
            op: Op::Filter { predicate },
            inputs: vec![input],
            schema: Arc::clone(&node.schema),
            times: node.times.clone(),
            name: self.name("filter"),
            place,
        };
        Ok(self.drafts.add(draft))
    }

    /// The rows of all inputs; a column is a time attribute if it is one in each.
    pub fn union(&mut self, inputs: Vec<NodeId>, name: &str) -> NodeId {
        if let [only] = inputs[..] {
            return only;
        }
        let nodes: Vec<&Draft> = inputs
            .iter()
            .map(|&input| &self.drafts.nodes[input])
            .collect();
        let columns = 0..nodes[0].schema.fields().len();
        let times = columns.clone().map(|i| {
            let time = nodes[0].times[i];
            if nodes.iter().all(|node| node.times[i] == time) {
                time
            } else {
                Time::Plain
            }
        });
        let fields: Vec<Field> = columns
            .map(|i| {
                let nullable = nodes.iter().any(|node| node.schema.field(i).is_nullable());
                nodes[0].schema.field(i).clone().with_nullable(nullable)
            })
            .collect();
        let draft = Draft {
            op: Op::Union,
            times: times.collect(),
            schema: Arc::new(Schema::new(fields)),
            inputs,
            name: name.to_owned(),
            place: self.statement,
        };
        self.drafts.add(draft)
    }

    /// An expression over a node's columns, with what is constant computed.
    pub fn expr(
        &self,
        expr: &logical_expr::Expr,
        schema: &DFSchema,
        node: NodeId,
    ) -> Planned<Expr> {
        let expr = self.bare_expr(expr, schema, node)?;
        Ok(guarded(expr, self.drafts.schema(node))?)
    }

    /// The same for who looks into it, and guards it afterwards.
    fn bare_expr(
        &self,
        expr: &logical_expr::Expr,
        schema: &DFSchema,
        node: NodeId,
    ) -> Planned<Expr> {
        let physical = self.free_expr(expr, schema)?;
        let columns = self.drafts.schema(node);
        Ok(super::draft::replace_columns(&physical, &|index| {
            column(columns, index)
        })?)
    }

    /// The same, with columns as the logical plan calls them.
    pub fn free_expr(&self, expr: &logical_expr::Expr, schema: &DFSchema) -> Planned<Expr> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(&self.options))
            .build();
        let expr = expr.clone().unalias_nested().data;
        let simple = ExprSimplifier::new(context).simplify(expr)?;
        let planning = PhysicalPlanningContext::default();
        Ok(create_physical_expr(
            &simple,
            schema,
            &self.props,
            &planning,
        )?)
    }
}

/// Whether a column is a time attribute.
pub fn is_time(time: Time) -> bool {
    matches!(
        time,
        Time::Rowtime
            | Time::Bound {
                bound: Bound::Time,
                ..
            }
    )
}

/// The bound of a window that an expression is, and the column of the time that it is about.
fn window_of(expr: &Expr) -> Option<(&WindowBound, usize)> {
    let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let bound = function.fun().inner().downcast_ref::<WindowBound>()?;
    Some((bound, as_column(function.args().first()?)?))
}

/// TIMESTAMP(3), with or without a zone: what an event time must be.
pub fn is_millis(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Millisecond, _))
}

/// The columns of a node with other names, no two of them alike.
pub fn renamed(schema: &SchemaRef, names: impl Iterator<Item = String>) -> SchemaRef {
    let mut taken: Vec<String> = Vec::new();
    for name in names {
        let free = (0..)
            .map(|n| {
                if n == 0 {
                    name.clone()
                } else {
                    format!("{name}{}", n - 1)
                }
            })
            .find(|candidate| !taken.contains(candidate));
        taken.push(free.unwrap_or(name));
    }
    let fields = schema
        .fields()
        .iter()
        .zip(taken)
        .map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// For messages: a column's name and type.
pub fn shown(field: &Field) -> String {
    format!("'{}' ({})", field.name(), type_name(field.data_type()))
}
