//! Interval joins: which rows of two streams are near each other in time.

use super::draft::{Draft, Expr, Time, as_column, column, move_columns};
use super::lookup::Snapshot;
use super::lower::{Lowering, is_time, shown};
use super::trouble::{Planned, place_of, refused};
use super::window::as_millis;
use super::{IntervalJoin, JoinKind, NodeId, Op};
use crate::operator::guard::guarded;
use crate::sql::Place;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{self, JoinType, LogicalPlan, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::physical_expr::{conjunction, split_conjunction};
use std::sync::Arc;

const NEEDS_INTERVAL: &str = "bound it: AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '15' MINUTE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
    Both,
}

impl Lowering {
    /// A join; `extra` are predicates of a WHERE around an inner one.
    pub fn join(
        &mut self,
        join: &logical_expr::Join,
        extra: Vec<logical_expr::Expr>,
    ) -> Planned<NodeId> {
        if let Some(snapshot) = Snapshot::of(&join.right) {
            return self.lookup(join, snapshot, extra);
        }
        let asked: Vec<&logical_expr::Expr> = join
            .filter
            .iter()
            .chain(&extra)
            .chain(join.on.iter().map(|(left, _)| left))
            .collect();
        let place = place_of(asked).unwrap_or(self.statement());
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            other => return refused(place, format!("{other} joins are not supported"), ""),
        };
        let (left, right) = (join.left.schema(), join.right.schema());

        // A predicate about one side only is asked before the join, where an outer join allows it.
        let mut before = (Vec::new(), Vec::new());
        let mut rest = Vec::new();
        let predicates = join
            .filter
            .iter()
            .cloned()
            .chain(extra)
            .flat_map(split_conjunction_owned);
        for predicate in predicates {
            match side_of(&predicate, left, right) {
                Side::Left if matches!(kind, JoinKind::Inner | JoinKind::Right) => {
                    before.0.push(predicate);
                }
                Side::Right if matches!(kind, JoinKind::Inner | JoinKind::Left) => {
                    before.1.push(predicate);
                }
                _ => rest.push(predicate),
            }
        }
        let left_node = self.input(&join.left, before.0)?;
        let right_node = self.input(&join.right, before.1)?;
        for side in [left_node, right_node] {
            self.expect_final(side, place, "a join")?;
        }

        let both = left.join(right)?;
        let columns = Columns::new(self, left_node, right_node);
        let mut conditions = Conditions::default();
        for (of_left, of_right) in &join.on {
            let of_left = self.expr(of_left, left, left_node)?;
            let of_right = self.expr(of_right, right, right_node)?;
            conditions.keys.push((of_left, of_right));
        }
        for predicate in &rest {
            let predicate = self.free_expr(predicate, &both)?;
            let predicate = move_columns(&predicate, &columns.schema, &|index| index)?;
            for part in split_conjunction(&predicate) {
                conditions.take(part, &columns, place)?;
            }
        }
        let join = conditions.into_join(kind, &columns, place)?;
        Ok(self.drafts.add(Draft {
            op: Op::IntervalJoin(join),
            inputs: vec![left_node, right_node],
            schema: Arc::new(columns.output(kind)),
            times: columns.output_times(kind),
            name: self.name("join"),
            place,
        }))
    }

    /// One side of a join, with the predicates that are about it alone.
    pub fn input(
        &mut self,
        plan: &LogicalPlan,
        predicates: Vec<logical_expr::Expr>,
    ) -> Planned<NodeId> {
        if let LogicalPlan::Join(join) = plan
            && join.join_type == JoinType::Inner
        {
            return self.join(join, predicates);
        }
        let node = self.plan(plan)?;
        match logical_expr::utils::conjunction(predicates) {
            Some(predicate) => self.filter(node, plan.schema(), &predicate),
            None => Ok(node),
        }
    }
}

pub fn side_of(predicate: &logical_expr::Expr, left: &DFSchema, right: &DFSchema) -> Side {
    let columns = predicate.column_refs();
    let all_in = |schema: &DFSchema| columns.iter().all(|column| schema.has_column(column));
    match (columns.is_empty(), all_in(left), all_in(right)) {
        (false, true, false) => Side::Left,
        (false, false, true) => Side::Right,
        _ => Side::Both,
    }
}

/// The columns of both sides, the left ones first.
struct Columns {
    schema: Schema,
    times: Vec<Time>,
    left: usize,
}

impl Columns {
    fn new(lowering: &Lowering, left: NodeId, right: NodeId) -> Columns {
        let (left, right) = (&lowering.drafts.nodes[left], &lowering.drafts.nodes[right]);
        let fields = left
            .schema
            .fields()
            .iter()
            .chain(right.schema.fields())
            .cloned();
        Columns {
            schema: Schema::new(fields.collect::<Vec<_>>()),
            times: left.times.iter().chain(&right.times).copied().collect(),
            left: left.schema.fields().len(),
        }
    }

    fn side(&self, expr: &Expr) -> Side {
        let mut read = Vec::new();
        super::draft::columns_read(expr, &mut read);
        match (
            read.iter().any(|&i| i < self.left),
            read.iter().any(|&i| i >= self.left),
        ) {
            (true, false) => Side::Left,
            (false, true) => Side::Right,
            _ => Side::Both,
        }
    }

    /// An expression about the right side, over the right side's own columns.
    fn of_right(&self, expr: &Expr) -> Planned<Expr> {
        let fields = self.schema.fields()[self.left..].to_vec();
        let right = Schema::new(fields);
        Ok(move_columns(expr, &right, &|index| index - self.left)?)
    }

    /// What an outer join pads can be NULL.
    fn output(&self, kind: JoinKind) -> Schema {
        let pads_left = matches!(kind, JoinKind::Right | JoinKind::Full);
        let pads_right = matches!(kind, JoinKind::Left | JoinKind::Full);
        let fields = self.schema.fields().iter().enumerate().map(|(i, field)| {
            let padded = if i < self.left { pads_left } else { pads_right };
            field
                .as_ref()
                .clone()
                .with_nullable(field.is_nullable() || padded)
        });
        Schema::new(fields.collect::<Vec<Field>>())
    }

    /// A time that can be padded with NULL is no time attribute any more.
    fn output_times(&self, kind: JoinKind) -> Vec<Time> {
        let keeps_left = matches!(kind, JoinKind::Inner | JoinKind::Left);
        let keeps_right = matches!(kind, JoinKind::Inner | JoinKind::Right);
        self.times
            .iter()
            .enumerate()
            .map(|(i, &time)| {
                let keeps = if i < self.left {
                    keeps_left
                } else {
                    keeps_right
                };
                if keeps && is_time(time) {
                    Time::Rowtime
                } else {
                    Time::Plain
                }
            })
            .collect()
    }
}

/// What the predicates of a join ask.
#[derive(Default)]
struct Conditions {
    keys: Vec<(Expr, Expr)>,
    /// The time columns of both sides, as columns of both.
    times: Option<(usize, usize)>,
    lower: Option<i64>,
    upper: Option<i64>,
    rest: Vec<Expr>,
    /// A comparison of moments that are no time attributes: a likely mistake.
    suspect: Option<String>,
}

impl Conditions {
    fn take(&mut self, predicate: &Expr, columns: &Columns, place: Place) -> Planned<()> {
        let binary = predicate.downcast_ref::<BinaryExpr>();
        let Some(binary) = binary else {
            self.rest.push(Arc::clone(predicate));
            return Ok(());
        };
        let (left, right, op) = match (columns.side(binary.left()), columns.side(binary.right())) {
            (Side::Left, Side::Right) => (binary.left(), binary.right(), *binary.op()),
            (Side::Right, Side::Left) => match binary.op().swap() {
                Some(op) => (binary.right(), binary.left(), op),
                None => {
                    self.rest.push(Arc::clone(predicate));
                    return Ok(());
                }
            },
            _ => {
                self.rest.push(Arc::clone(predicate));
                return Ok(());
            }
        };
        if let (Some((at, plus)), Some((other, other_plus))) =
            (shifted(left, place)?, shifted(right, place)?)
        {
            if is_time(columns.times[at]) && is_time(columns.times[other]) {
                // at + plus OP other + other_plus, so at - other OP other_plus - plus.
                return self.bound(op, other_plus - plus, (at, other), predicate, place);
            }
            let plain = if is_time(columns.times[at]) {
                other
            } else {
                at
            };
            let field = columns.schema.field(plain);
            if field.data_type().is_temporal() {
                self.suspect = Some(shown(field));
            }
        }
        if op == Operator::Eq {
            self.keys.push((Arc::clone(left), columns.of_right(right)?));
        } else {
            self.rest.push(Arc::clone(predicate));
        }
        Ok(())
    }

    /// One range predicate on the difference of the two times.
    fn bound(
        &mut self,
        op: Operator,
        by: i64,
        times: (usize, usize),
        predicate: &Expr,
        place: Place,
    ) -> Planned<()> {
        if self.times.is_some_and(|known| known != times) {
            return refused(
                place,
                "the interval is about more than one pair of times",
                "",
            );
        }
        let lower = |by: i64| Some(self.lower.map_or(by, |known| known.max(by)));
        let upper = |by: i64| Some(self.upper.map_or(by, |known| known.min(by)));
        match op {
            Operator::LtEq => self.upper = upper(by),
            Operator::Lt => self.upper = upper(by - 1),
            Operator::GtEq => self.lower = lower(by),
            Operator::Gt => self.lower = lower(by + 1),
            Operator::Eq => (self.lower, self.upper) = (lower(by), upper(by)),
            _ => {
                self.rest.push(Arc::clone(predicate));
                return Ok(());
            }
        }
        self.times = Some(times);
        Ok(())
    }

    fn into_join(self, kind: JoinKind, columns: &Columns, place: Place) -> Planned<IntervalJoin> {
        let (times, lower_ms, upper_ms) = match (self.times, self.lower, self.upper) {
            (Some(times), Some(lower), Some(upper)) => (times, lower, upper),
            (Some(_), _, _) => {
                return refused(
                    place,
                    "the join is bounded in time on one side only, so rows would be kept for ever",
                    NEEDS_INTERVAL,
                );
            }
            (None, _, _) => {
                return match self.suspect {
                    Some(column) => refused(
                        place,
                        format!("{column} is not a time attribute, so it bounds no join"),
                        "compare the columns that the tables declare a WATERMARK FOR, passed on unchanged",
                    ),
                    None => refused(
                        place,
                        "a join of two streams needs a time interval, or rows would be kept for ever",
                        NEEDS_INTERVAL,
                    ),
                };
            }
        };
        if lower_ms > upper_ms {
            return refused(
                place,
                "the join's interval is empty: no rows are ever that near",
                "",
            );
        }
        if self.keys.is_empty() {
            return refused(
                place,
                "an interval join needs an equality beside its interval",
                "for example a.id = b.id",
            );
        }
        let (left_keys, right_keys) = self.keys.into_iter().unzip();
        let right_time = columns.of_right(&column(&columns.schema, times.1))?;
        Ok(IntervalJoin {
            kind,
            left_keys,
            right_keys,
            left_time: as_millis(column(&columns.schema, times.0)),
            right_time: as_millis(right_time),
            lower_ms,
            upper_ms,
            filter: if self.rest.is_empty() {
                None
            } else {
                Some(guarded(conjunction(self.rest), &columns.schema)?)
            },
        })
    }
}

/// A column and how many milliseconds are added to it, if the expression is that.
fn shifted(expr: &Expr, place: Place) -> Planned<Option<(usize, i64)>> {
    if let Some(index) = as_column(expr) {
        return Ok(Some((index, 0)));
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
        return Ok(None);
    };
    let (moment, interval, sign) = match binary.op() {
        Operator::Plus if interval_of(binary.left()).is_some() => {
            (binary.right(), binary.left(), 1)
        }
        Operator::Plus => (binary.left(), binary.right(), 1),
        Operator::Minus => (binary.left(), binary.right(), -1),
        _ => return Ok(None),
    };
    let (Some((index, plus)), Some(interval)) = (shifted(moment, place)?, interval_of(interval))
    else {
        return Ok(None);
    };
    match interval_millis(interval) {
        Some(millis) => Ok(Some((index, plus + sign * millis))),
        None => refused(
            place,
            "a month has no fixed length, so it bounds no join",
            "use an interval of days, hours, minutes or seconds",
        ),
    }
}

fn interval_of(expr: &Expr) -> Option<&ScalarValue> {
    let value = expr.downcast_ref::<Literal>()?.value();
    matches!(value, ScalarValue::IntervalMonthDayNano(Some(_))).then_some(value)
}

/// An interval's length; none where it has months.
pub fn interval_millis(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            Some(i64::from(interval.days) * 86_400_000 + interval.nanoseconds.div_euclid(1_000_000))
        }
        _ => None,
    }
}
