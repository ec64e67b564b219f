//! Aggregates OVER the rows before a row.

use super::draft::{Draft, Expr, Time, as_column, column};
use super::join::interval_millis;
use super::lower::Lowering;
use super::trouble::{Planned, place_of, refused};
use super::window::as_millis;
use super::{Frame, NodeId, Op, OverAggregate, OverCall, Running, describe};
use crate::sql::Place;
use crate::sql::functions::{physical_cast, type_name};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    self, ExprSchemable, Operator, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal};
use std::sync::Arc;

const FORM: &str = "write COUNT(*) OVER (PARTITION BY key ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";

/// How a result of the job is made of the calls that run.
enum Finish {
    Column(usize, DataType),
    /// A sum divided by a count.
    Quotient(usize, usize, DataType),
}

impl Lowering {
    /// One OVER window and all that is computed over it.
    pub fn over(&mut self, plan: &logical_expr::Window) -> Planned<NodeId> {
        let place = place_of(&plan.window_expr).unwrap_or(self.statement());
        if matches!(plan.input.as_ref(), logical_expr::LogicalPlan::Window(_)) {
            return self.other_windows(place);
        }
        let input = self.plan(&plan.input)?;
        self.expect_final(input, place, "OVER")?;
        let mut calls = Vec::new();
        for expr in &plan.window_expr {
            calls.push(window_function(expr, place)?);
        }
        let Some(first) = calls.first() else {
            return Ok(input);
        };
        let WindowFunctionParams {
            partition_by,
            order_by,
            window_frame,
            ..
        } = &first.params;
        if calls.iter().any(|call| {
            (
                &call.params.partition_by,
                &call.params.order_by,
                &call.params.window_frame,
            ) != (partition_by, order_by, window_frame)
        }) {
            return self.other_windows(place);
        }
        let schema = plan.input.schema();
        let time = self.order(order_by, schema, input, place)?;
        let frame = frame(window_frame, time.is_some(), place)?;
        let mut keys = Vec::with_capacity(partition_by.len());
        for key in partition_by {
            keys.push(self.expr(key, schema, input)?);
        }

        let mut before = Before::new(self, input);
        let keys: Vec<usize> = keys.into_iter().map(|key| before.column(key)).collect();
        let mut prepared = Vec::with_capacity(calls.len());
        for call in &calls {
            prepared.push(self.prepare(call, schema, input, &mut before, place)?);
        }
        let projected = before.project(self, input, place)?;
        let under = Arc::clone(self.drafts.schema(projected));

        let mut running: Vec<OverCall> = Vec::new();
        let finishes: Vec<Finish> = prepared
            .into_iter()
            .map(|call| call.add_to(&mut running, &under))
            .collect();
        let width = under.fields().len();
        let mut fields: Vec<Field> = under.fields().iter().map(|f| f.as_ref().clone()).collect();
        for call in &running {
            fields.push(Field::new(
                &call.name,
                result_type(call, &under)?,
                !call.never_null(),
            ));
        }
        let output = Arc::new(Schema::new(fields));
        let mut times = self.drafts.nodes[projected].times.clone();
        if time.is_none() {
            // Rows come out as they arrive, and do not tell any more which watermark was in force before them.
            times.iter_mut().for_each(|time| {
                if *time != Time::Proctime {
                    *time = Time::Plain;
                }
            });
        }
        times.resize(output.fields().len(), Time::Plain);
        let over = self.drafts.add(Draft {
            op: Op::Over(OverAggregate {
                keys: keys.into_iter().map(|key| column(&under, key)).collect(),
                time: time.map(|time| as_millis(column(&under, time))),
                frame,
                calls: running,
            }),
            inputs: vec![projected],
            schema: Arc::clone(&output),
            times: times.clone(),
            name: self.name("over"),
            place,
        });

        let visible = schema.fields().len();
        let mut exprs: Vec<Expr> = (0..visible).map(|index| column(&output, index)).collect();
        for finish in finishes {
            exprs.push(match finish {
                Finish::Column(index, to) => {
                    physical_cast(column(&output, width + index), &output, &to, &self.options)?
                }
                Finish::Quotient(sum, count, to) => {
                    let (sum, mut count) =
                        (column(&output, width + sum), column(&output, width + count));
                    let of = sum.data_type(&output)?;
                    if of != DataType::Int64 {
                        count = Arc::new(CastExpr::new(count, of, None));
                    }
                    let quotient = Arc::new(BinaryExpr::new(sum, Operator::Divide, count));
                    physical_cast(quotient, &output, &to, &self.options)?
                }
            });
        }
        let times = exprs
            .iter()
            .map(|expr| as_column(expr).map_or(Time::Plain, |index| times[index]))
            .collect();
        let names = plan.schema.fields().iter();
        let names = names.map(|field| field.name().clone());
        let columns = names.zip(exprs).collect();
        Ok(self
            .drafts
            .project(over, columns, times, self.name("results"), place)?)
    }

    fn other_windows<T>(&self, place: Place) -> Planned<T> {
        refused(
            place,
            "all aggregates of a SELECT are OVER the same window",
            "give the window a name, WINDOW w AS (..), and write OVER w; another window needs a query of its own, as in Flink",
        )
    }

    /// The time column that the rows are in the order of; none by processing time.
    fn order(
        &self,
        order_by: &[logical_expr::SortExpr],
        schema: &datafusion::common::DFSchema,
        input: NodeId,
        place: Place,
    ) -> Planned<Option<usize>> {
        let [order] = order_by else {
            return refused(place, "an OVER is ordered by one column, a time", FORM);
        };
        let place = place_of([&order.expr]).unwrap_or(place);
        if !order.asc {
            return refused(
                place,
                "an OVER is ordered by time ascending",
                "leave DESC out",
            );
        }
        let node = &self.drafts.nodes[input];
        let by = self.expr(&order.expr, schema, input)?;
        let time = as_column(&by).map(|index| (index, node.times[index]));
        match time {
            Some((_, Time::Proctime)) => Ok(None),
            Some((index, time)) if super::lower::is_time(time) => Ok(Some(index)),
            _ => refused(
                place,
                format!(
                    "an OVER is ordered by a time attribute, and {} is none",
                    describe::expr(&by)
                ),
                "use the column that the WATERMARK is for, or declare one AS PROCTIME(); pass it on unchanged",
            ),
        }
    }

    fn prepare(
        &self,
        call: &WindowFunction,
        schema: &datafusion::common::DFSchema,
        input: NodeId,
        before: &mut Before,
        place: Place,
    ) -> Planned<Prepared> {
        let params = &call.params;
        let name = call.fun.name().to_uppercase();
        if params.filter.is_some() {
            return refused(
                place,
                format!("{name}(..) FILTER (WHERE ..) OVER is not supported, as in Flink"),
                "write SUM(CASE WHEN condition THEN 1 ELSE 0 END) OVER ..",
            );
        }
        if params.null_treatment.is_some() || params.args.len() != 1 {
            return refused(place, format!("{name} OVER takes one argument"), "");
        }
        let args = logical_expr::Expr::from(call.clone());
        let gives = args.get_type(schema)?;
        let argument = self.expr(&params.args[0], schema, input)?;
        let counted = name == "COUNT"
            && argument
                .downcast_ref::<Literal>()
                .is_some_and(|literal| !literal.value().is_null());
        let function = match (name.as_str(), params.distinct) {
            ("COUNT", false) => Running::Count,
            ("COUNT", true) => Running::CountDistinct,
            ("MIN", _) => Running::Min,
            ("MAX", _) => Running::Max,
            ("SUM" | "AVG", false) => Running::Sum,
            ("FIRST_VALUE", false) => Running::First,
            ("LAST_VALUE", false) => Running::Last,
            ("COLLECT", false) => Running::Collect,
            (_, true) => {
                return refused(
                    place,
                    format!("{name}(DISTINCT ..) OVER is not supported"),
                    "only COUNT(DISTINCT ..) is",
                );
            }
            _ => return refused(place, format!("{name} OVER is not supported"), ""),
        };
        let average = name == "AVG";
        if average && matches!(gives, DataType::Decimal128(_, _)) {
            return refused(
                place,
                "AVG of a DECIMAL OVER is not supported yet",
                "CAST it AS DOUBLE",
            );
        }
        let argument = match (function, counted) {
            (_, true) => None,
            (Running::Sum, _) => {
                let wider = match &gives {
                    DataType::Decimal128(_, _) => gives.clone(),
                    whole if whole.is_integer() => DataType::Int64,
                    _ => DataType::Float64,
                };
                let under = self.drafts.schema(input);
                let argument = match argument.data_type(under)? == wider {
                    true => argument,
                    false => Arc::new(CastExpr::new(argument, wider, None)),
                };
                Some(before.column(argument))
            }
            _ => Some(before.column(argument)),
        };
        Ok(Prepared {
            function,
            argument,
            average,
            gives,
        })
    }
}

/// The projection before the OVER, while it grows: all columns of the input, and what is computed of them.
struct Before {
    columns: Vec<Expr>,
}

impl Before {
    fn new(lowering: &Lowering, input: NodeId) -> Before {
        let schema = lowering.drafts.schema(input);
        let all = 0..schema.fields().len();
        Before {
            columns: all.map(|index| column(schema, index)).collect(),
        }
    }

    /// The place of an expression among the columns.
    fn column(&mut self, expr: Expr) -> usize {
        let known = self.columns.iter().position(|other| **other == *expr);
        known.unwrap_or_else(|| {
            self.columns.push(expr);
            self.columns.len() - 1
        })
    }

    fn project(self, lowering: &mut Lowering, input: NodeId, place: Place) -> Planned<NodeId> {
        let node = &lowering.drafts.nodes[input];
        let own = node.schema.fields().len();
        let times = self
            .columns
            .iter()
            .map(|expr| as_column(expr).map_or(Time::Plain, |index| node.times[index]));
        let times = times.collect();
        let fields = node
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let computed = self.columns[own..].iter().map(describe::expr);
        let names: Vec<String> = fields.chain(computed).collect();
        let columns = names.into_iter().zip(self.columns).collect();
        let name = lowering.name("over input");
        Ok(lowering
            .drafts
            .project(input, columns, times, name, place)?)
    }
}

/// One call, with its argument's place among the columns.
struct Prepared {
    function: Running,
    argument: Option<usize>,
    average: bool,
    gives: DataType,
}

impl Prepared {
    fn add_to(self, running: &mut Vec<OverCall>, schema: &Schema) -> Finish {
        let first = add(running, self.function, self.argument, schema);
        if self.average {
            let count = add(running, Running::Count, self.argument, schema);
            return Finish::Quotient(first, count, self.gives);
        }
        Finish::Column(first, self.gives)
    }
}

fn add(
    running: &mut Vec<OverCall>,
    function: Running,
    argument: Option<usize>,
    schema: &Schema,
) -> usize {
    let argument = argument.map(|index| column(schema, index));
    let of = argument.as_ref().map_or("*".into(), describe::expr);
    let new = OverCall {
        name: format!("{}({of})", function.word()),
        function,
        argument,
    };
    let known = running.iter().position(|other| *other == new);
    known.unwrap_or_else(|| {
        running.push(new);
        running.len() - 1
    })
}

impl Running {
    fn word(self) -> &'static str {
        match self {
            Running::Count => "COUNT",
            Running::CountDistinct => "COUNT DISTINCT",
            Running::Sum => "SUM",
            Running::Min => "MIN",
            Running::Max => "MAX",
            Running::First => "FIRST_VALUE",
            Running::Last => "LAST_VALUE",
            Running::Collect => "COLLECT",
        }
    }
}

impl OverCall {
    fn never_null(&self) -> bool {
        use Running::{Collect, Count, CountDistinct};
        matches!(self.function, Count | CountDistinct | Collect)
    }
}

fn result_type(call: &OverCall, schema: &Schema) -> Planned<DataType> {
    Ok(match (&call.argument, call.function) {
        (None, _) | (_, Running::Count | Running::CountDistinct) => DataType::Int64,
        (Some(argument), Running::Collect) => {
            crate::sql::functions::multiset(argument.data_type(schema)?)
        }
        (Some(argument), _) => argument.data_type(schema)?,
    })
}

fn window_function(expr: &logical_expr::Expr, place: Place) -> Planned<&WindowFunction> {
    let call = match expr {
        logical_expr::Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    match call {
        logical_expr::Expr::WindowFunction(call)
            if matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_)) =>
        {
            Ok(call)
        }
        _ => refused(place, format!("{expr} is not supported"), FORM),
    }
}

fn frame(frame: &WindowFrame, by_event_time: bool, place: Place) -> Planned<Frame> {
    let unbounded = |bound: &ScalarValue| bound.is_null();
    if !matches!(frame.end_bound, WindowFrameBound::CurrentRow) {
        return refused(
            place,
            "the frame of an OVER ends with the current row",
            "write BETWEEN .. PRECEDING AND CURRENT ROW",
        );
    }
    let WindowFrameBound::Preceding(start) = &frame.start_bound else {
        return refused(
            place,
            "the frame of an OVER begins before the current row",
            "write UNBOUNDED PRECEDING, or how many rows or how much time before",
        );
    };
    match (frame.units, start) {
        (WindowFrameUnits::Rows, start) if unbounded(start) => Ok(Frame::AllRows),
        (WindowFrameUnits::Rows, ScalarValue::UInt64(Some(rows))) => Ok(Frame::Rows(*rows)),
        // By the clock each row is a moment of its own.
        (WindowFrameUnits::Range, start) if unbounded(start) && !by_event_time => {
            Ok(Frame::AllRows)
        }
        (WindowFrameUnits::Range, start) if unbounded(start) => Ok(Frame::AllRange),
        (WindowFrameUnits::Range, _) if !by_event_time => refused(
            place,
            "a RANGE of processing time is not supported",
            "count rows, ROWS BETWEEN n PRECEDING AND CURRENT ROW, or order by event time",
        ),
        (WindowFrameUnits::Range, start) => match interval_millis(start) {
            Some(millis) if millis >= 0 => Ok(Frame::Range(millis)),
            _ => refused(
                place,
                format!(
                    "the RANGE of an OVER is an interval of a fixed length, not {}",
                    type_name(&start.data_type())
                ),
                "for example RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW",
            ),
        },
        _ => refused(
            place,
            "the frame of an OVER counts ROWS or a RANGE of time",
            FORM,
        ),
    }
}
