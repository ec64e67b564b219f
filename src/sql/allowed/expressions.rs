//! Which expressions there are. Some of what is missing here DataFusion would plan, with another meaning than Flink's.

use crate::sql::queries::function_name;
use crate::sql::refusal::{Parsed, Refusal};
use datafusion::sql::sqlparser::ast::*;

const SUBQUERY: &str = "write it as a join";

/// Refuses what an expression cannot be, without looking at what is inside.
pub fn check(expr: &Expr, in_window: bool) -> Parsed<()> {
    // Finding the place walks over the whole expression, so only a refusal does it.
    let refuse = |message: &str, hint: &str| Err(Refusal::new(expr.span(), message).hint(hint));
    match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { any: false, .. }
        | Expr::Cast {
            format: None,
            array: false,
            kind: CastKind::Cast | CastKind::TryCast,
            ..
        }
        | Expr::Extract {
            syntax: ExtractSyntax::From,
            ..
        }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim {
            trim_characters: None,
            ..
        }
        | Expr::Overlay { .. }
        | Expr::Nested(_)
        | Expr::Case { .. }
        | Expr::Interval(_)
        | Expr::Array(Array { named: true, .. })
        | Expr::TypedString(TypedString {
            data_type: DataType::Custom(..),
            uses_odbc_syntax: false,
            ..
        }) => Ok(()),
        Expr::BinaryOp { op, .. } => match op {
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::StringConcat
            | BinaryOperator::Gt
            | BinaryOperator::Lt
            | BinaryOperator::GtEq
            | BinaryOperator::LtEq
            | BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::And
            | BinaryOperator::Or => Ok(()),
            other => refuse(&format!("the operator {other} is not supported"), ""),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not,
            ..
        } => Ok(()),
        Expr::Ceil { field, .. } | Expr::Floor { field, .. } => match field {
            CeilFloorKind::DateTimeField(
                DateTimeField::NoDateTime
                | DateTimeField::Second
                | DateTimeField::Minute
                | DateTimeField::Hour
                | DateTimeField::Day
                | DateTimeField::Week(None)
                | DateTimeField::Month
                | DateTimeField::Quarter
                | DateTimeField::Year,
            ) => Ok(()),
            _ => refuse(
                "CEIL and FLOOR do not know this unit",
                "it is one of SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR",
            ),
        },
        Expr::Value(value) => match &value.value {
            Value::Number(_, false)
            | Value::SingleQuotedString(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::HexStringLiteral(_) => Ok(()),
            other => refuse(&format!("{other} is not a value"), ""),
        },
        Expr::CompoundFieldAccess { access_chain, .. } => {
            let plain = access_chain.iter().all(|access| match access {
                AccessExpr::Dot(field) => matches!(field, Expr::Identifier(_)),
                AccessExpr::Subscript(subscript) => {
                    matches!(subscript, Subscript::Index { .. })
                }
            });
            if plain {
                Ok(())
            } else {
                refuse(
                    "only fields and single elements can be picked out",
                    "write row.field or array[n]",
                )
            }
        }
        Expr::Function(function) => call(function, in_window),
        Expr::Exists { .. }
        | Expr::InSubquery { .. }
        | Expr::Subquery(_)
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. } => refuse("sub-queries in expressions are not supported", SUBQUERY),
        Expr::ILike { .. } => refuse("ILIKE is not supported", "write LOWER(a) LIKE LOWER(b)"),
        Expr::SimilarTo { .. } | Expr::RLike { .. } => refuse(
            "SIMILAR TO and RLIKE are not supported",
            "write REGEXP(text, pattern)",
        ),
        Expr::AtTimeZone { .. } => refuse("AT TIME ZONE is not supported", "the zone is UTC"),
        Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => refuse(
            "GROUPING SETS, CUBE and ROLLUP are not supported",
            "write one INSERT for each grouping",
        ),
        Expr::Tuple(_) => refuse(
            "lists in parentheses are not supported here",
            "compare one value with one value",
        ),
        Expr::Prefixed { prefix, .. } => Err(Refusal::new(
            prefix.span,
            format!("{} is not supported here", prefix.value),
        )
        .hint("TABLE t is the argument of a window function in FROM")),
        other => refuse(&format!("'{}' is not supported", shortened(other)), ""),
    }
}

/// Whether an expression is a chain, `a + b + c ..`, of more than `limit` members: whoever walks over it does so by recursion.
pub fn is_deep_chain(expr: &Expr, limit: usize) -> bool {
    let mut inner = Some(expr);
    for _ in 0..limit {
        inner = inner.and_then(|expr| match expr {
            Expr::BinaryOp { left: inner, .. }
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::IsDistinctFrom(inner, _)
            | Expr::IsNotDistinctFrom(inner, _)
            | Expr::InList { expr: inner, .. }
            | Expr::InSubquery { expr: inner, .. }
            | Expr::InUnnest { expr: inner, .. }
            | Expr::Between { expr: inner, .. }
            | Expr::Like { expr: inner, .. }
            | Expr::ILike { expr: inner, .. }
            | Expr::SimilarTo { expr: inner, .. }
            | Expr::RLike { expr: inner, .. }
            | Expr::IsNormalized { expr: inner, .. }
            | Expr::AnyOp { left: inner, .. }
            | Expr::AllOp { left: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::AtTimeZone {
                timestamp: inner, ..
            }
            | Expr::UnaryOp { expr: inner, .. } => Some(&**inner),
            _ => None,
        });
    }
    inner.is_some()
}

/// Refuses what a call cannot be.
fn call(function: &Function, in_window: bool) -> Parsed<()> {
    let refuse =
        |message: &str, hint: &str| Err(Refusal::new(function.name.span(), message).hint(hint));
    let Some(name) = function_name(&function.name) else {
        return refuse(
            &format!("the function {} is not known", function.name),
            "functions have plain names",
        );
    };
    let word = name.value.to_ascii_uppercase();
    if !in_window
        && matches!(
            word.as_str(),
            "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" | "DESCRIPTOR"
        )
    {
        return refuse(
            &format!("{word} is not supported here"),
            "windows stand in FROM: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
        );
    }
    if word == "ROW_NUMBER"
        && let Some(over) = &function.over
    {
        row_number(function, over)?;
    }
    if let Some(WindowType::WindowSpec(WindowSpec {
        window_frame: Some(frame),
        ..
    })) = &function.over
        && frame.units == WindowFrameUnits::Groups
    {
        return refuse("GROUPS is not supported", "count ROWS, or a RANGE of time");
    }
    if !function.within_group.is_empty() || function.null_treatment.is_some() {
        return refuse(
            &format!("{word} cannot be written like this"),
            "WITHIN GROUP and IGNORE NULLS are not supported",
        );
    }
    if function.uses_odbc_syntax || !matches!(function.parameters, FunctionArguments::None) {
        return refuse(&format!("{word} cannot be written like this"), "");
    }
    let FunctionArguments::List(list) = &function.args else {
        return match &function.args {
            FunctionArguments::None => Ok(()),
            _ => refuse("a sub-query cannot be an argument", SUBQUERY),
        };
    };
    if let Some(clause) = list.clauses.first() {
        return refuse(&format!("{word}: '{clause}' is not supported"), "");
    }
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(_) | FunctionArgExpr::Wildcard) => {}
            FunctionArg::Unnamed(_) => {
                return refuse(&format!("{word}({arg}) is not supported"), "");
            }
            _ => {
                return refuse(
                    &format!("{word} has no named arguments"),
                    "write them in their order, without names",
                );
            }
        }
    }
    Ok(())
}

/// Refuses what the OVER of ROW_NUMBER cannot be.
fn row_number(function: &Function, over: &WindowType) -> Parsed<()> {
    const FORM: &str = "write ROW_NUMBER() OVER (PARTITION BY a ORDER BY b)";
    let refuse = |message: &str| Err(Refusal::new(function.name.span(), message).hint(FORM));
    let WindowType::WindowSpec(spec) = over else {
        return refuse("a named WINDOW is not supported");
    };
    if spec.window_name.is_some() || spec.window_frame.is_some() {
        return refuse("ROW_NUMBER has no frame");
    }
    if spec.order_by.is_empty() {
        return refuse("ROW_NUMBER() needs an ORDER BY in its OVER");
    }
    match spec.order_by.iter().find(|by| by.with_fill.is_some()) {
        Some(by) => Err(Refusal::new(by.expr.span(), "WITH FILL is not supported")),
        None if function.filter.is_some() => refuse("ROW_NUMBER has no FILTER"),
        None => Ok(()),
    }
}

/// The beginning of an expression, for a message.
fn shortened(expr: &Expr) -> String {
    let text = expr.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
