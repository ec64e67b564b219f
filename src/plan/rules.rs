//! Flink's types for a plan that DataFusion made.

use crate::sql::functions::{self, Cast, type_name};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, Like, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, Operator, Projection, Union, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use std::iter::once;
use std::sync::Arc;

/// The same plan, every expression with the type and the meaning that it has in Flink.
pub fn typed(plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
    let plan = rewrite(plan, &before)?;
    let plan = TypeCoercion::new().analyze(plan, options)?;
    rewrite(plan, &after)
}

type Rule = dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>;

/// Applies a rule to every expression, from the leaves up; columns keep their names.
fn rewrite(plan: LogicalPlan, rule: &Rule) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|plan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| rule(expr, &schema))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?
        .map_data(with_schema_of_inputs)
    })?;
    Ok(rewritten.data)
}

/// DataFusion leaves a union the types that its inputs had when it was made.
fn with_schema_of_inputs(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Union(mut union) => {
            doubles_in_union(&mut union.inputs)?;
            Union::try_new_with_loose_types(union.inputs).map(LogicalPlan::Union)
        }
        other => other.recompute_schema(),
    }
}

/// Before operands are made to agree: a whole number is an INT if it fits, a DECIMAL beside a floating number is a DOUBLE, a division is
/// Flink's, LIKE has no escape character of its own, and a CAST that Flink does not have is refused.
fn before(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    doubles(must_agree(&mut expr), schema);
    times(compared(&mut expr), schema);
    Ok(match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(value)), metadata)),
            Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
        },
        Expr::Like(like) => Transformed::yes(plain_like(like)?),
        // Which type it gives depends on types that are only found now, and what stands around it depends on its type.
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Divide,
            right,
        }) => Transformed::yes(functions::divide(*left, *right)),
        Expr::BinaryExpr(binary) if functions::may_be_too_long(&binary, schema) => {
            Transformed::yes(functions::exact(*binary.left, binary.op, *binary.right))
        }
        Expr::Cast(cast) => {
            check_cast(&cast.expr, cast.field.data_type(), schema)?;
            Transformed::no(Expr::Cast(cast))
        }
        Expr::TryCast(cast) => {
            check_cast(&cast.expr, cast.field.data_type(), schema)?;
            // A function of ours at once: DataFusion's own TRY_CAST would be simplified by its own rules.
            let from = cast.expr.get_type(schema)?;
            Transformed::yes(functions::cast(
                *cast.expr,
                &from,
                cast.field.data_type(),
                true,
            ))
        }
        other => Transformed::no(other),
    })
}

/// The parts of an expression that get one type.
fn must_agree(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => vec![left, right],
        Expr::Between(between) => vec![&mut between.expr, &mut between.low, &mut between.high],
        Expr::InList(list) => list
            .list
            .iter_mut()
            .chain(once(list.expr.as_mut()))
            .collect(),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then);
            results
                .chain(&mut case.else_expr)
                .map(Box::as_mut)
                .collect()
        }
        Expr::ScalarFunction(call)
            if ["coalesce", "greatest", "least", "array"].contains(&call.name()) =>
        {
            call.args.iter_mut().collect()
        }
        _ => Vec::new(),
    }
}

/// Flink makes a DOUBLE of a DECIMAL that stands beside a FLOAT or a DOUBLE; DataFusion would make a DECIMAL of both, and lose digits.
fn doubles(exprs: Vec<&mut Expr>, schema: &DFSchema) {
    let types = exprs.iter().map(|expr| expr.get_type(schema));
    // What has no type is refused where operands are made to agree, which has better words for it.
    let Ok(types) = types.collect::<Result<Vec<_>>>() else {
        return;
    };
    let mut all = exprs.iter().zip(&types);
    if !all.any(|(expr, of)| of.is_floating() && !fits_decimal(expr)) {
        return;
    }
    let all = exprs.into_iter().zip(&types);
    for (expr, _) in all.filter(|(_, of)| of.is_decimal()) {
        *expr = cast(std::mem::take(expr), DataType::Float64);
    }
}

/// The parts of a comparison.
fn compared(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) if !op.supports_propagation() => Vec::new(),
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::InList(_) => must_agree(expr),
        _ => Vec::new(),
    }
}

/// A text beside a time is read with microseconds; DataFusion would make nanoseconds of both, which end in 2262.
fn times(exprs: Vec<&mut Expr>, schema: &DFSchema) {
    let types = exprs.iter().map(|expr| expr.get_type(schema));
    let Ok(types) = types.collect::<Result<Vec<_>>>() else {
        return;
    };
    let zone = types.iter().find_map(|of| match of {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => Some(zone.clone()),
        _ => None,
    });
    let Some(zone) = zone else { return };
    let all = exprs.into_iter().zip(&types);
    for (expr, _) in all.filter(|(_, of)| of.is_string()) {
        let time = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
        *expr = cast(std::mem::take(expr), time);
    }
}

/// A number with a point is a DECIMAL in Flink, so beside one it stays one, where DataFusion's DECIMAL(30, 15) holds it.
fn fits_decimal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Float64(Some(number)), _) if number.abs() < 1e15)
}

/// A DECIMAL is a DOUBLE too where another input of a union has a floating column.
fn doubles_in_union(inputs: &mut [Arc<LogicalPlan>]) -> Result<()> {
    let type_of =
        |input: &Arc<LogicalPlan>, at: usize| input.schema().field(at).data_type().clone();
    let columns = inputs
        .first()
        .map_or(0, |input| input.schema().fields().len());
    let mut floating = (0..columns).collect::<Vec<_>>();
    floating.retain(|&at| inputs.iter().any(|input| type_of(input, at).is_floating()));
    for input in inputs {
        let changes = |at: usize| floating.contains(&at) && type_of(input, at).is_decimal();
        if !(0..columns).any(changes) {
            continue;
        }
        let exprs = input.schema().columns().into_iter().enumerate();
        let exprs = exprs.map(|(at, column)| {
            let name = column.name.clone();
            match changes(at) {
                true => cast(Expr::Column(column), DataType::Float64).alias(name),
                false => Expr::Column(column),
            }
        });
        let projection = Projection::try_new(exprs.collect(), Arc::clone(input))?;
        *input = Arc::new(LogicalPlan::Projection(projection));
    }
    Ok(())
}

fn check_cast(value: &Expr, to: &DataType, schema: &DFSchema) -> Result<()> {
    match functions::cast_refusal(&value.get_type(schema)?, to) {
        Some(refusal) => plan_err!("{refusal}"),
        None => Ok(()),
    }
}

/// Arrow's LIKE takes the backslash as the escape character; Flink's takes none, or the one that the job names.
fn plain_like(like: Like) -> Result<Expr> {
    let Like {
        negated,
        expr,
        pattern,
        escape_char,
        case_insensitive,
    } = like;
    let pattern = match (*pattern, escape_char) {
        (Expr::Literal(text, metadata), escape) => match text.try_as_str() {
            Some(Some(text)) => lit(with_backslashes(text, escape)),
            _ => Expr::Literal(text, metadata),
        },
        (pattern, None) => functions::named("replace")
            .ok_or_else(|| plan_datafusion_err!("the function REPLACE does not exist"))?
            .call(vec![pattern, lit(r"\"), lit(r"\\")]),
        (_, Some(_)) => return plan_err!("LIKE .. ESCAPE needs a constant pattern"),
    };
    Ok(Expr::Like(Like::new(
        negated,
        expr,
        Box::new(pattern),
        None,
        case_insensitive,
    )))
}

fn with_backslashes(pattern: &str, escape: Option<char>) -> String {
    let mut result = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            result.push('\\');
            result.extend(chars.next());
        } else {
            if c == '\\' {
                result.push('\\');
            }
            result.push(c);
        }
    }
    result
}

/// After operands agree: casts become Flink's, and divisions that are not of DECIMALs become operators again.
fn after(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Cast(cast) => {
            let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
            Transformed::yes(functions::cast(*cast.expr, &from, &to, false))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Minus,
            right,
        }) if is_moment(&left.get_type(schema)?) && is_moment(&right.get_type(schema)?) => {
            return plan_err!(
                "two moments cannot be subtracted; use TIMESTAMPDIFF(SECOND, from, to)"
            );
        }
        Expr::ScalarFunction(call) if functions::is_division(&call.func) => {
            let operands = <[Expr; 2]>::try_from(call.args)
                .map_err(|_| plan_datafusion_err!("a division has two operands"))?;
            let of = operands[0].get_type(schema)?;
            let [left, right] = operands;
            match of {
                DataType::Decimal128(_, _) => Transformed::no(functions::divide(left, right)),
                _ => Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(left),
                    Operator::Divide,
                    Box::new(right),
                ))),
            }
        }
        Expr::ScalarFunction(call) => {
            let constants: Vec<Option<&str>> = call.args.iter().map(constant_text).collect();
            if let Some(refusal) = functions::constant_refusal(call.name(), &constants) {
                return plan_err!("{refusal}");
            }
            match functions::choices(&call) {
                Some(quicker) => Transformed::yes(quicker),
                None => fitted(call, schema)?,
            }
        }
        other => Transformed::no(other),
    })
}

/// A call whose second argument is looked for in its first one, with the type that it must have for that.
fn fitted(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let types = call.args.iter().map(|arg| arg.get_type(schema));
    let types = types.collect::<Result<Vec<_>>>()?;
    let wanted = functions::looked_for(call.name(), &types)?;
    let changed = match wanted {
        Some(wanted) if wanted != types[1] => {
            let value = call.args[1].clone();
            call.args[1] = functions::cast(value, &types[1], &wanted, false);
            true
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(
        Expr::ScalarFunction(call),
        changed,
    ))
}

fn constant_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _) | DataType::Date32)
}

/// The type that a function of ours casts to, if the expression is one.
pub fn cast_target(function: &datafusion::logical_expr::ScalarUDF) -> Option<String> {
    function
        .inner()
        .downcast_ref::<Cast>()
        .map(|cast| type_name(&cast.to))
}
