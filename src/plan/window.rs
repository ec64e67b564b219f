//! GROUP BY a window.

use super::draft::{Draft, Expr, Time, as_column, column, same_aggregate};
use super::lower::{Lowering, is_millis};
use super::trouble::{Planned, place_of, refused};
use super::{Aggregate, NodeId, Op, Window, WindowAggregate, describe};
use crate::sql::Place;
use crate::sql::functions::{Average, Bound, Sum, physical_cast, physical_divide, type_name};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions_aggregate::{average::avg_udaf, count::count_udaf, sum::sum_udaf};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{self, AggregateUDF, Operator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal};
use std::sync::Arc;

/// The columns that a window gives before its keys: window_start, window_end, window_time.
const BOUNDS: usize = 3;

/// What a GROUP BY says: the bounds of a window, and the keys beside them.
struct Grouping {
    window: Window,
    /// A column of the input whose value lies in the window; or the end of the window, which is a moment behind it.
    time: usize,
    is_end: bool,
    /// For each expression of the GROUP BY which column of the window's output it is, and what is known of it.
    outputs: Vec<(usize, Time)>,
    keys: Vec<Expr>,
}

/// How an aggregate of the job is made of the aggregates that run.
pub enum Finish {
    /// It is one of them, with another type.
    Column(usize, DataType),
    /// A sum divided by a count.
    Quotient(usize, usize, DataType),
}

impl Lowering {
    /// An aggregation, over a window or without one.
    pub fn window(&mut self, plan: &logical_expr::Aggregate) -> Planned<NodeId> {
        let node = self.plan(&plan.input)?;
        let place =
            place_of(plan.group_expr.iter().chain(&plan.aggr_expr)).unwrap_or(self.statement());
        let Some(grouping) = self.grouping(plan, node, place)? else {
            return self.group(plan, node, place);
        };
        self.expect_final(node, place, "a window")?;

        // What the window needs of a row is computed before it, so that nothing else has to travel to it.
        let mut before = Before::new(self, node);
        let input = Arc::clone(before.lowering.drafts.schema(node));
        let time = before.column(column(&input, grouping.time))?;
        let keys = grouping
            .keys
            .iter()
            .map(|key| before.column(Arc::clone(key)));
        let keys = keys.collect::<Planned<Vec<_>>>()?;
        let mut calls = Vec::with_capacity(plan.aggr_expr.len());
        for expr in &plan.aggr_expr {
            calls.push(before.call(expr, plan.input.schema(), place)?);
        }
        let columns = before.into_columns();
        let projected = self.project_before(node, columns, "window input", place)?;
        let schema = Arc::clone(self.drafts.schema(projected));

        let mut aggregates = Vec::new();
        let finishes = calls
            .into_iter()
            .map(|call| call.add_to(&mut aggregates, &schema));
        let finishes = finishes.collect::<Planned<Vec<_>>>()?;
        let keys: Vec<Expr> = keys.into_iter().map(|key| column(&schema, key)).collect();
        let output = window_schema(&schema, time, &keys, &aggregates)?;
        let first_aggregate = BOUNDS + keys.len();
        let times = vec![Time::Plain; output.fields().len()];
        let moment = as_millis(column(&schema, time));
        let last: Expr = Arc::new(Literal::new(ScalarValue::Int64(Some(1))));
        let operation = WindowAggregate {
            window: grouping.window,
            time: match grouping.is_end {
                true => Arc::new(BinaryExpr::new(moment, Operator::Minus, last)),
                false => moment,
            },
            keys,
            aggregates,
        };
        let window = self.drafts.add(Draft {
            op: Op::Window(operation),
            inputs: vec![projected],
            schema: Arc::clone(&output),
            times,
            name: self.name("window"),
            place,
        });

        let mut exprs: Vec<Expr> = grouping
            .outputs
            .iter()
            .map(|&(index, _)| column(&output, index))
            .collect();
        for finish in &finishes {
            exprs.push(self.finish(finish, &output, first_aggregate)?);
        }
        let mut times: Vec<Time> = grouping.outputs.iter().map(|(_, time)| *time).collect();
        times.resize(exprs.len(), Time::Plain);
        let names = plan
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let columns = names.zip(exprs).collect();
        Ok(self
            .drafts
            .project(window, columns, times, self.name("results"), place)?)
    }

    fn grouping(
        &self,
        plan: &logical_expr::Aggregate,
        node: NodeId,
        place: Place,
    ) -> Planned<Option<Grouping>> {
        let mut found: Option<(Window, Option<usize>)> = None;
        let (mut start, mut end) = (None, None);
        let (mut outputs, mut keys) = (Vec::new(), Vec::new());
        for expr in &plan.group_expr {
            if matches!(expr, logical_expr::Expr::GroupingSet(_)) {
                return refused(
                    place,
                    "grouping sets are not supported",
                    "write one query for each",
                );
            }
            let key = self.expr(expr, plan.input.schema(), node)?;
            let time = as_column(&key).map(|index| self.drafts.nodes[node].times[index]);
            let Some(Time::Bound { bound, window, of }) = time else {
                outputs.push((BOUNDS + keys.len(), Time::Plain));
                keys.push(key);
                continue;
            };
            match bound {
                Bound::Start => start = as_column(&key),
                Bound::End => end = as_column(&key),
                Bound::Time => {}
            }
            let at = match bound {
                Bound::Start => 0,
                Bound::End => 1,
                Bound::Time => 2,
            };
            let given = Time::Bound {
                bound,
                window,
                of: None,
            };
            outputs.push((at, given));
            found = Some((window, of.or(found.and_then(|(_, of)| of))));
        }
        match (found, start, end) {
            (Some((window, None)), Some(start), Some(end))
                if window.slice_ms() != window.size_ms() =>
            {
                // Each row names the one window that it belongs to. It ends with a slice, in which the row is counted; where it began
                // is a key like others.
                let start_at = BOUNDS + keys.len();
                let at_start = outputs.iter_mut().filter(|(at, _)| *at == 0);
                at_start.for_each(|(at, _)| *at = start_at);
                keys.push(column(self.drafts.schema(node), start));
                Ok(Some(Grouping {
                    window: Window::Tumble {
                        size_ms: window.slice_ms(),
                        offset_ms: window.offset_ms(),
                    },
                    time: end,
                    is_end: true,
                    outputs,
                    keys,
                }))
            }
            (Some((window, of)), Some(start), Some(_)) => {
                // A window's start lies in the window too: it serves where the row's own time is gone.
                Ok(Some(Grouping {
                    window,
                    time: of.unwrap_or(start),
                    is_end: false,
                    outputs,
                    keys,
                }))
            }
            (None, _, _) => Ok(None),
            (Some(_), _, _) => refused(
                place,
                "GROUP BY has only one bound of the window",
                "GROUP BY window_start, window_end",
            ),
        }
    }

    pub fn project_before(
        &mut self,
        node: NodeId,
        columns: Vec<Expr>,
        what: &str,
        place: Place,
    ) -> Planned<NodeId> {
        let times = columns
            .iter()
            .map(|expr| as_column(expr).map_or(Time::Plain, |i| self.drafts.nodes[node].times[i]))
            .collect();
        let columns = columns
            .into_iter()
            .map(|expr| (describe::expr(&expr), expr))
            .collect();
        Ok(self
            .drafts
            .project(node, columns, times, self.name(what), place)?)
    }

    pub fn finish(&self, finish: &Finish, schema: &SchemaRef, first: usize) -> Planned<Expr> {
        Ok(match finish {
            Finish::Column(index, to) => {
                physical_cast(column(schema, first + index), schema, to, &self.options)?
            }
            Finish::Quotient(sum, count, to) => {
                let (sum, count) = (column(schema, first + sum), column(schema, first + count));
                let quotient: Expr = match sum.data_type(schema)? {
                    // As Flink divides its sum, which has 38 digits, by a BIGINT.
                    DataType::Decimal128(_, scale) => {
                        let cast = |value, precision, scale| {
                            let to = DataType::Decimal128(precision, scale);
                            physical_cast(value, schema, &to, &self.options)
                        };
                        let (sum, count) = (cast(sum, 38, scale)?, cast(count, 19, 0)?);
                        physical_divide(sum, count, schema, &self.options)?
                    }
                    _ => Arc::new(BinaryExpr::new(sum, Operator::Divide, count)),
                };
                physical_cast(quotient, schema, to, &self.options)?
            }
        })
    }
}

/// The projection before a window, while it grows.
pub struct Before<'a> {
    lowering: &'a Lowering,
    node: NodeId,
    columns: Vec<Expr>,
}

/// One call of an aggregate; arguments are columns of the projection before the window, or constants.
pub struct Call {
    function: Arc<AggregateUDF>,
    distinct: bool,
    args: Vec<Argument>,
    filter: Option<usize>,
    /// The type that the job sees.
    gives: DataType,
}

enum Argument {
    Column(usize),
    Constant(Expr),
}

impl<'a> Before<'a> {
    pub fn new(lowering: &'a Lowering, node: NodeId) -> Before<'a> {
        Before {
            lowering,
            node,
            columns: Vec::new(),
        }
    }

    pub fn into_columns(self) -> Vec<Expr> {
        self.columns
    }

    /// The place of what an expression of the query gives.
    pub fn expr(&mut self, expr: &logical_expr::Expr, schema: &DFSchema) -> Planned<usize> {
        self.column(self.lowering.expr(expr, schema, self.node)?)
    }

    /// The place of an expression among the columns.
    fn column(&mut self, expr: Expr) -> Planned<usize> {
        let known = self.columns.iter().position(|other| **other == *expr);
        Ok(known.unwrap_or_else(|| {
            self.columns.push(expr);
            self.columns.len() - 1
        }))
    }

    pub fn call(
        &mut self,
        expr: &logical_expr::Expr,
        schema: &DFSchema,
        place: Place,
    ) -> Planned<Call> {
        let call = match expr {
            logical_expr::Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        let logical_expr::Expr::AggregateFunction(AggregateFunction { func, params }) = call else {
            return refused(place, format!("{expr} is not an aggregate"), "");
        };
        let name = func.name().to_uppercase();
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return refused(
                place,
                format!("{name} takes no ORDER BY and no NULLS clause"),
                "",
            );
        }
        if crate::sql::functions::ONLY_OVER.contains(&func.name()) {
            return refused(
                place,
                format!("{name} is not supported in GROUP BY"),
                "it is OVER: FIRST_VALUE(x) OVER (PARTITION BY key ORDER BY ts)",
            );
        }
        if params.args.len() != 1 {
            return refused(place, format!("{name} takes one argument"), "");
        }
        let distinct = params.distinct && !matches!(func.name(), "min" | "max");
        if distinct && func.name() != "count" {
            return refused(
                place,
                format!("{name}(DISTINCT ..) is not supported"),
                "only COUNT(DISTINCT ..) is",
            );
        }
        let mut args = Vec::with_capacity(1);
        for arg in &params.args {
            let arg = self.lowering.expr(arg, schema, self.node)?;
            args.push(if arg.is::<Literal>() {
                Argument::Constant(arg)
            } else {
                Argument::Column(self.column(arg)?)
            });
        }
        let filter = match &params.filter {
            Some(filter) => Some(self.column(self.lowering.expr(filter, schema, self.node)?)?),
            None => None,
        };
        use datafusion::logical_expr::ExprSchemable;
        let gives = call.get_type(schema)?;
        Ok(Call {
            function: Arc::clone(func),
            distinct,
            args,
            filter,
            gives,
        })
    }
}

impl Call {
    /// Adds what runs to the aggregates, and says how the job's result is made of it.
    pub fn add_to(self, aggregates: &mut Vec<Aggregate>, schema: &SchemaRef) -> Planned<Finish> {
        let inner = self.function.inner();
        let wider = match &self.gives {
            DataType::Decimal128(_, _) => None,
            whole if whole.is_integer() => Some(DataType::Int64),
            _ => Some(DataType::Float64),
        };
        // An average of exact numbers is made of exact numbers, so that it is rounded, or cut, once.
        if inner.is::<Average>() && wider != Some(DataType::Float64) {
            let sum = self.add(sum_udaf(), wider, aggregates, schema)?;
            let count = self.add(count_udaf(), None, aggregates, schema)?;
            return Ok(Finish::Quotient(sum, count, self.gives));
        }
        let index = if inner.is::<Sum>() {
            self.add(sum_udaf(), wider, aggregates, schema)?
        } else if inner.is::<Average>() {
            self.add(avg_udaf(), wider, aggregates, schema)?
        } else {
            self.add(Arc::clone(&self.function), None, aggregates, schema)?
        };
        Ok(Finish::Column(index, self.gives))
    }

    fn add(
        &self,
        function: Arc<AggregateUDF>,
        wider: Option<DataType>,
        aggregates: &mut Vec<Aggregate>,
        schema: &SchemaRef,
    ) -> Planned<usize> {
        let mut args = Vec::with_capacity(self.args.len());
        for arg in &self.args {
            let arg = match arg {
                Argument::Column(index) => column(schema, *index),
                Argument::Constant(constant) => Arc::clone(constant),
            };
            let given = arg.data_type(schema)?;
            args.push(match &wider {
                Some(wider) if *wider != given => Arc::new(CastExpr::new(arg, wider.clone(), None)),
                _ => arg,
            });
        }
        let counts = function.name() == "count" && !self.distinct;
        let described = args.iter().map(|arg| describe::argument(arg, counts));
        let described: Vec<String> = described.collect();
        let filter = self.filter.map(|index| column(schema, index));
        let name = format!(
            "{}({}{}){}",
            function.name().to_uppercase(),
            if self.distinct { "DISTINCT " } else { "" },
            described.join(", "),
            filter.as_ref().map_or(String::new(), |filter| {
                format!(" FILTER (WHERE {})", describe::expr(filter))
            })
        );
        let function = AggregateExprBuilder::new(function, args)
            .schema(Arc::clone(schema))
            .alias(name)
            .with_distinct(self.distinct)
            .build()?;
        let new = Aggregate {
            function: Arc::new(function),
            filter,
        };
        let known = aggregates
            .iter()
            .position(|other| same_aggregate(other, &new));
        Ok(known.unwrap_or_else(|| {
            aggregates.push(new);
            aggregates.len() - 1
        }))
    }
}

/// Event time as a number of milliseconds.
pub fn as_millis(time: Expr) -> Expr {
    Arc::new(CastExpr::new(time, DataType::Int64, None))
}

fn window_schema(
    input: &Schema,
    time: usize,
    keys: &[Expr],
    aggregates: &[Aggregate],
) -> Planned<SchemaRef> {
    let time = input.field(time).data_type();
    if !is_millis(time) {
        let message = format!("a window is over TIMESTAMP(3), not {}", type_name(time));
        return refused(
            Place::default(),
            message,
            "CAST it in the table, AS TIMESTAMP(3)",
        );
    }
    let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut fields = vec![
        Field::new("window_start", plain.clone(), false),
        Field::new("window_end", plain, false),
        Field::new("window_time", time.clone(), false),
    ];
    fields.extend(result_fields(input, keys, aggregates)?);
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns of keys and aggregates.
pub fn result_fields(
    input: &Schema,
    keys: &[Expr],
    aggregates: &[Aggregate],
) -> Planned<Vec<Field>> {
    let mut fields = Vec::with_capacity(keys.len() + aggregates.len());
    for key in keys {
        let field = key.return_field(input)?;
        fields.push(Field::new(
            field.name(),
            field.data_type().clone(),
            field.is_nullable(),
        ));
    }
    for aggregate in aggregates {
        let field = aggregate.function.field();
        let filtered = aggregate.filter.is_some() && aggregate.function.fun().name() != "count";
        let nullable = field.is_nullable() || filtered;
        fields.push(Field::new(
            aggregate.function.name(),
            field.data_type().clone(),
            nullable,
        ));
    }
    Ok(fields)
}
