//! ROW_NUMBER: Top-N, Top-N of windows, and deduplication.
//!
//! `ROW_NUMBER() OVER (..)` becomes a node without a limit, whose number is a column like others. A WHERE that bounds that column, in
//! whatever query around it, puts the limit into the node; the columns between the two are made once more over it. A node that nobody
//! bounds is refused at the end.

use super::draft::{Draft, Drafts, Expr, Time, as_column, column};
use super::lower::{Lowering, is_time};
use super::trouble::{Planned, place_of, refused};
use super::window::as_millis;
use super::{Gives, NodeId, Op, OrderBy, Rank};
use crate::sql::functions::{Bound, ROW_NUMBER};
use crate::sql::refusal::refuse;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::{self, Operator, WindowFunctionDefinition};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::physical_expr::{conjunction, split_conjunction};
use std::sync::Arc;

pub const UNBOUNDED: &str =
    "a ROW_NUMBER without a bound would number all rows again with each new one";

pub const FORM: &str = "write SELECT .. FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) AS n FROM t) WHERE n <= 3";

/// Whether this is `ROW_NUMBER() OVER (..)`, and not an aggregate's OVER.
pub fn is_row_number(expr: &logical_expr::Expr) -> bool {
    let call = match expr {
        logical_expr::Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    matches!(call, logical_expr::Expr::WindowFunction(call)
        if matches!(&call.fun, WindowFunctionDefinition::WindowUDF(function) if function.name() == ROW_NUMBER))
}

impl Lowering {
    /// The rows of a query, each with its number in its partition.
    pub fn rank(&mut self, window: &logical_expr::Window) -> Planned<NodeId> {
        let mut input = self.plan(&window.input)?;
        let schema = window.input.schema();
        let call = match window.window_expr.as_slice() {
            [logical_expr::Expr::WindowFunction(call)] => call,
            [logical_expr::Expr::Alias(alias)] => match alias.expr.as_ref() {
                logical_expr::Expr::WindowFunction(call) => call,
                _ => return refused(self.statement(), "OVER stands behind ROW_NUMBER()", FORM),
            },
            several => {
                let place = place_of(several).unwrap_or(self.statement());
                return refused(place, "a query can have one ROW_NUMBER", FORM);
            }
        };
        let params = &call.params;
        let order_by = params.order_by.iter().map(|sort| &sort.expr);
        let place =
            place_of(params.partition_by.iter().chain(order_by)).unwrap_or(self.statement());
        let is_number = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(function)
            if function.name() == ROW_NUMBER);
        if !is_number || params.order_by.is_empty() {
            return refused(place, "ROW_NUMBER() needs an ORDER BY in its OVER", FORM);
        }

        // Whatever is no column becomes one behind the others.
        let width = self.drafts.schema(input).fields().len();
        let under = Arc::clone(self.drafts.schema(input));
        let mut columns: Vec<Expr> = (0..width).map(|at| column(&under, at)).collect();
        let mut place_among = |lowering: &Lowering, expr| -> Planned<usize> {
            let expr = lowering.expr(expr, schema, input)?;
            let known = columns.iter().position(|other| **other == *expr);
            Ok(known.unwrap_or_else(|| {
                columns.push(expr);
                columns.len() - 1
            }))
        };
        let partition = params
            .partition_by
            .iter()
            .map(|expr| place_among(self, expr));
        let partition = partition.collect::<Planned<Vec<_>>>()?;
        let mut order = Vec::with_capacity(params.order_by.len());
        for sort in &params.order_by {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            order.push((place_among(self, &sort.expr)?, options));
        }
        let mut times = self.drafts.nodes[input].times.clone();
        if columns.len() > width {
            times.resize(columns.len(), Time::Plain);
            let named = columns.into_iter().enumerate().map(|(at, expr)| match at {
                at if at < width => (under.field(at).name().clone(), expr),
                at => (format!("order_{at}"), expr),
            });
            let name = self.name("rank input");
            input = self
                .drafts
                .project(input, named.collect(), times.clone(), name, place)?;
        }
        let schema = Arc::clone(self.drafts.schema(input));
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false)));
        times.push(Time::Number);
        let order = order.into_iter().map(|(at, options)| OrderBy {
            expr: column(&schema, at),
            options,
        });
        let rank = Rank {
            partition: partition.iter().map(|at| column(&schema, *at)).collect(),
            order: order.collect(),
            limit: None,
            number: true,
            newest_first: false,
            input_changes: self.drafts.changes(input),
            gives: Gives::Changes,
        };
        let name = self.name("rank");
        let node = self.drafts.add(Draft {
            op: Op::Rank(rank),
            inputs: vec![input],
            schema: Arc::new(Schema::new(fields)),
            times,
            name: name.clone(),
            place,
        });
        // The query knows nothing of the columns that were added.
        let seen = (0..width).chain([schema.fields().len()]);
        let own = &self.drafts.nodes[node];
        let times = seen.clone().map(|at| own.times[at]).collect();
        let columns = seen.map(|at| {
            let name = own.schema.field(at).name().clone();
            (name, column(&own.schema, at))
        });
        let columns = columns.collect();
        Ok(self.drafts.project(node, columns, times, name, place)?)
    }

    /// A predicate's input and what is left of the predicate, when what bounds a row's number has gone into the node that numbers. None
    /// of the predicate may be left: then there is only the input.
    pub fn limited(&mut self, input: &mut NodeId, predicate: Expr) -> Planned<Option<Expr>> {
        let times = &self.drafts.nodes[*input].times;
        if !times.contains(&Time::Number) {
            return Ok(Some(predicate));
        }
        let mut limits: Vec<(usize, usize)> = Vec::new();
        let mut rest: Vec<Expr> = Vec::new();
        for part in split_conjunction(&predicate) {
            match bound(part).filter(|(at, _)| times[*at] == Time::Number) {
                Some(limit) => limits.push(limit),
                None => rest.push(Arc::clone(part)),
            }
        }
        let Some((at, limit)) = limits.into_iter().min_by_key(|(_, limit)| *limit) else {
            return Ok(Some(predicate));
        };
        let Some(limited) = self.with_limit(*input, at, limit)? else {
            return Ok(Some(predicate));
        };
        *input = limited;
        Ok((!rest.is_empty()).then(|| conjunction(rest)))
    }

    /// The same node over a rank that gives no more than `limit` rows of each partition; nothing where there is no rank to limit.
    fn with_limit(&mut self, id: NodeId, at: usize, limit: usize) -> Planned<Option<NodeId>> {
        let node = self.drafts.nodes[id].clone();
        match &node.op {
            // Only its own number, which is its last column: it may pass those of others on.
            Op::Rank(rank) if rank.limit.is_none() && at + 1 == node.times.len() => {
                let rank = Rank {
                    limit: Some(limit),
                    ..rank.clone()
                };
                self.settled(rank, node).map(Some)
            }
            Op::Project { exprs } => {
                let Some(at) = as_column(&exprs[at]) else {
                    return Ok(None);
                };
                let Some(input) = self.with_limit(node.inputs[0], at, limit)? else {
                    return Ok(None);
                };
                let under = &self.drafts.nodes[input].times;
                let times =
                    node.times
                        .iter()
                        .zip(exprs)
                        .map(|(time, expr)| match as_column(expr) {
                            Some(at) => kept(*time, under[at]),
                            None => *time,
                        });
                Ok(Some(self.drafts.add(Draft {
                    times: times.collect(),
                    inputs: vec![input],
                    ..node
                })))
            }
            Op::Filter { .. } => {
                let Some(input) = self.with_limit(node.inputs[0], at, limit)? else {
                    return Ok(None);
                };
                let times = self.drafts.nodes[input].times.clone();
                Ok(Some(self.drafts.add(Draft {
                    times,
                    inputs: vec![input],
                    ..node
                })))
            }
            _ => Ok(None),
        }
    }

    /// A rank whose limit is known: what kind it is.
    fn settled(&mut self, mut rank: Rank, node: Draft) -> Planned<NodeId> {
        let input = &self.drafts.nodes[node.inputs[0]];
        let bounds = |wanted: Bound| {
            let columns = rank.partition.iter().filter_map(as_column);
            let is_it = |at: &usize| matches!(input.times[*at], Time::Bound { bound, .. } if bound == wanted);
            columns.into_iter().find(is_it)
        };
        let window = bounds(Bound::Start).and(bounds(Bound::End));
        let by_time = match rank.order.as_slice() {
            [by] if rank.limit == Some(1) => {
                let at = as_column(&by.expr).filter(|at| is_time(input.times[*at]));
                at.map(|at| (at, by.options.descending))
            }
            _ => None,
        };
        rank.newest_first = by_time.is_some_and(|(_, descending)| descending);
        rank.gives = match (window, by_time) {
            _ if rank.input_changes => Gives::Changes,
            (Some(end), _) => Gives::AtWindowEnd(as_millis(column(&input.schema, end))),
            (None, Some((at, false))) => Gives::AtTime(as_millis(column(&input.schema, at))),
            (None, _) => Gives::Changes,
        };
        // The time at which rows come out is the only one that the watermark is still about.
        let ordered = by_time.map(|(at, _)| at);
        let times = node.times.iter().enumerate().map(|(at, time)| {
            let stays = match (&rank.gives, time) {
                // Bounded once; what asks more of it is a filter like others.
                (_, Time::Number) => false,
                (Gives::AtWindowEnd(_), Time::Bound { .. }) => true,
                (Gives::AtWindowEnd(_), _) => false,
                (Gives::AtTime(_), _) => ordered == Some(at),
                (Gives::Changes, _) => false,
            };
            if stays { *time } else { Time::Plain }
        });
        let times = times.collect();
        Ok(self.drafts.add(Draft {
            op: Op::Rank(rank),
            times,
            ..node
        }))
    }
}

/// The time of a column that was made over another node before.
fn kept(before: Time, now: Time) -> Time {
    match now {
        Time::Plain => Time::Plain,
        _ => before,
    }
}

/// `column <= n` and the like: the column, and the greatest value that it can have.
fn bound(part: &Expr) -> Option<(usize, usize)> {
    let binary = part.downcast_ref::<BinaryExpr>()?;
    let (at, op, value) = match (as_column(binary.left()), as_column(binary.right())) {
        (Some(at), None) => (at, *binary.op(), binary.right()),
        (None, Some(at)) => (at, binary.op().swap()?, binary.left()),
        _ => return None,
    };
    let value = value.downcast_ref::<Literal>()?.value();
    let value = value.cast_to(&DataType::Int64).ok()?;
    let datafusion::common::ScalarValue::Int64(Some(value)) = value else {
        return None;
    };
    let most = match op {
        Operator::LtEq => value,
        Operator::Lt => value.checked_sub(1)?,
        Operator::Eq if value == 1 => 1,
        _ => return None,
    };
    Some((at, usize::try_from(most).ok().filter(|most| *most > 0)?))
}

/// Refuses numbers that nobody bounds.
pub fn check_limits(drafts: &Drafts, path: &str) -> crate::error::Result<()> {
    for node in &drafts.nodes {
        if let Op::Rank(Rank { limit: None, .. }) = &node.op {
            let message =
                "a ROW_NUMBER without a bound would number all rows again with each new one";
            return Err(refuse(path, node.place, message, FORM));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_expr::expressions::{Column, lit};

    #[test]
    fn a_number_is_bounded_from_above_by_what_it_can_be() {
        let number: Expr = Arc::new(Column::new("n", 2));
        let compared = |op, value: i64| -> Expr {
            Arc::new(BinaryExpr::new(Arc::clone(&number), op, lit(value)))
        };
        for (op, value, most) in [
            (Operator::LtEq, 3, Some(3)),
            (Operator::Lt, 3, Some(2)),
            (Operator::Eq, 1, Some(1)),
            (Operator::Eq, 2, None),
            (Operator::Lt, 1, None),
            (Operator::Lt, i64::MIN, None),
            (Operator::LtEq, i64::MIN, None),
            (Operator::Gt, 3, None),
        ] {
            let found = bound(&compared(op, value));
            assert_eq!(found, most.map(|most| (2, most)), "{op} {value}");
        }
    }
}
