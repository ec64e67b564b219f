//! Expressions as a person writes them.

use super::rules::cast_target;
use super::{Rank, Window};
use crate::operator::guard::Guarded;
use crate::operator::operation::Operation;
use crate::sql::functions::{
    Choices, WindowBound, exact_operator, is_division, is_field, type_name,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr,
    Literal, NegativeExpr, NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// An expression in SQL.
pub fn expr(expr: &Arc<dyn PhysicalExpr>) -> String {
    text(expr, 0)
}

/// The argument of an aggregate. `counts` is COUNT without DISTINCT, which asks a constant only whether it is NULL: any other stands for
/// every row.
pub fn argument(arg: &Arc<dyn PhysicalExpr>, counts: bool) -> String {
    let constant = arg.downcast_ref::<Literal>();
    if counts && constant.is_some_and(|constant| !constant.value().is_null()) {
        "*".into()
    } else {
        expr(arg)
    }
}

/// A window; `before_offset` stands before its offset, where it has one.
pub fn window(window: Window, before_offset: &str) -> String {
    let words = match window {
        Window::Tumble { size_ms, .. } => format!("tumble {}", duration(size_ms)),
        Window::Hop {
            slide_ms, size_ms, ..
        } => format!("hop by {} over {}", duration(slide_ms), duration(size_ms)),
        Window::Cumulate {
            step_ms, size_ms, ..
        } => format!(
            "cumulate by {} up to {}",
            duration(step_ms),
            duration(size_ms)
        ),
    };
    match window.offset_ms() {
        0 => words,
        offset => format!("{words}{before_offset}{}", duration(offset)),
    }
}

/// `the first 3 by count DESC`.
pub fn first_rows(rank: &Rank) -> String {
    let order: Vec<String> = rank
        .order
        .iter()
        .map(|by| {
            let direction = if by.options.descending { " DESC" } else { "" };
            // NULL is smaller than every value, where nothing else is said.
            let nulls = match by.options.nulls_first == by.options.descending {
                true if by.options.nulls_first => " NULLS FIRST",
                true => " NULLS LAST",
                false => "",
            };
            format!("{}{direction}{nulls}", expr(&by.expr))
        })
        .collect();
    let limit = rank
        .limit
        .map_or_else(String::new, |limit| format!("first {limit} "));
    format!("the {limit}by {}", order.join(", "))
}

/// `outer` is how strongly the operator around it binds; brackets stand where this one binds less.
fn text(expr: &Arc<dyn PhysicalExpr>, outer: u8) -> String {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return column.name().to_owned();
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return value(literal.value());
    }
    let guarded = expr.downcast_ref::<Guarded>().map(Guarded::plain);
    let operation = expr.downcast_ref::<Operation>().map(Operation::plain);
    let plain = expr.downcast_ref::<BinaryExpr>().or(operation);
    if let Some(binary) = guarded.as_ref().or(plain) {
        return infix(binary.left(), binary.op(), binary.right(), outer);
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        let division = is_division(call.fun()).then_some(Operator::Divide);
        if let [left, right] = call.args()
            && let Some(op) = division.or_else(|| exact_operator(call.fun()))
        {
            return infix(left, &op, right, outer);
        }
        return call_text(call);
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return format!(
            "CAST({} AS {})",
            text(cast.expr(), 0),
            type_name(cast.cast_type())
        );
    }
    if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
        return format!(
            "TRY_CAST({} AS {})",
            text(cast.expr(), 0),
            type_name(cast.cast_type())
        );
    }
    if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        return format!("{} IS NULL", text(is_null.arg(), 9));
    }
    if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        return format!("{} IS NOT NULL", text(is_not_null.arg(), 9));
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return format!("NOT {}", text(not.arg(), 9));
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        return format!("-{}", text(negative.arg(), 9));
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let not = if like.negated() { "NOT " } else { "" };
        return format!(
            "{} {not}LIKE {}",
            text(like.expr(), 9),
            text(like.pattern(), 9)
        );
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        let items: Vec<String> = list.list().iter().map(|item| text(item, 0)).collect();
        let not = if list.negated() { "NOT " } else { "" };
        return format!("{} {not}IN ({})", text(list.expr(), 9), items.join(", "));
    }
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        return case_text(case);
    }
    format!(
        "{}",
        datafusion::physical_expr_common::physical_expr::fmt_sql(expr.as_ref())
    )
}

fn infix(
    left: &Arc<dyn PhysicalExpr>,
    op: &Operator,
    right: &Arc<dyn PhysicalExpr>,
    outer: u8,
) -> String {
    let strength = strength(op);
    let (left, right) = (text(left, strength), text(right, strength + 1));
    let text = format!("{left} {op} {right}");
    if strength < outer {
        format!("({text})")
    } else {
        text
    }
}

fn call_text(call: &ScalarFunctionExpr) -> String {
    let args: Vec<String> = call.args().iter().map(|arg| text(arg, 0)).collect();
    if is_field(call.fun()) {
        return format!("{}.{}", args.join(", "), call.fun().name());
    }
    if let Some(to) = cast_target(call.fun()) {
        return format!(
            "{}({} AS {to})",
            call.fun().name().to_uppercase(),
            args.join(", ")
        );
    }
    if let Some(WindowBound { window, .. }) = call.fun().inner().downcast_ref::<WindowBound>() {
        let name = call.fun().name().to_uppercase();
        return format!(
            "{name}({}, {})",
            args.join(", "),
            duration(window.slice_ms())
        );
    }
    if let Some(choices) = call.fun().inner().downcast_ref::<Choices>() {
        return choices.describe(&args);
    }
    let name = call.fun().name().to_uppercase();
    match name.as_str() {
        "ARRAY" => format!("ARRAY[{}]", args.join(", ")),
        "ELEMENT_AT" => format!("{}[{}]", args[0], args[1]),
        _ => format!("{name}({})", args.join(", ")),
    }
}

fn case_text(case: &CaseExpr) -> String {
    let mut result = String::from("CASE");
    if let Some(of) = case.expr() {
        result.push_str(&format!(" {}", text(of, 0)));
    }
    for (when, then) in case.when_then_expr() {
        result.push_str(&format!(" WHEN {} THEN {}", text(when, 0), text(then, 0)));
    }
    if let Some(otherwise) = case.else_expr() {
        result.push_str(&format!(" ELSE {}", text(otherwise, 0)));
    }
    result.push_str(" END");
    result
}

fn strength(op: &Operator) -> u8 {
    match op {
        Operator::Or => 1,
        Operator::And => 2,
        Operator::Plus | Operator::Minus | Operator::StringConcat => 5,
        Operator::Multiply | Operator::Divide | Operator::Modulo => 6,
        _ => 4,
    }
}

fn value(value: &ScalarValue) -> String {
    if value.is_null() {
        return "NULL".into();
    }
    match value {
        ScalarValue::Utf8(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        ScalarValue::Boolean(Some(yes)) => yes.to_string().to_uppercase(),
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            let millis = i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000;
            format!("INTERVAL {}", duration(millis))
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            format!("INTERVAL {} months", interval.months)
        }
        ScalarValue::Float64(Some(number)) => format!("{number:?}"),
        other => other.to_string(),
    }
}

/// A length of time: `15 min`, `1 h 30 min`, `-2 s`.
pub fn duration(millis: i64) -> String {
    if millis == 0 {
        return "0 s".into();
    }
    let mut rest = millis.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if rest >= size {
            parts.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    let sign = if millis < 0 { "-" } else { "" };
    format!("{sign}{}", parts.join(" "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_readable() {
        for (millis, expected) in [
            (0, "0 s"),
            (900_000, "15 min"),
            (5_400_000, "1 h 30 min"),
            (-1_500, "-1 s 500 ms"),
        ] {
            assert_eq!(super::duration(millis), expected);
        }
    }
}
