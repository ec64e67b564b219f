//! Calls in a query's tree, before DataFusion sees it.
//!
//! Every name is checked here, where its place is known. Functions that are another form of something else become
//! that: IF becomes CASE, YEAR becomes EXTRACT. And every column of a SELECT gets a name, as in Flink, so that two may be
//! the same expression.

use super::bind::Binder;
use super::trouble::Planned;
use crate::sql::functions::{REFUSED, ROW_NUMBER};
use crate::sql::refusal::{Refusal, nearest};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, DateTimeField, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, Select,
    SelectItem, Spanned, Value, VisitMut, VisitorMut,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The query as DataFusion can plan it.
pub fn prepared_query(query: &Query, binder: &Binder) -> Planned<Query> {
    let mut query = query.clone();
    match VisitMut::visit(&mut query, &mut Calls { binder }) {
        ControlFlow::Break(refusal) => Err(refusal.into()),
        ControlFlow::Continue(()) => Ok(query),
    }
}

/// The same for an expression of a CREATE TABLE.
pub fn prepared_expr(expr: &Expr, binder: &Binder) -> Planned<Expr> {
    let mut expr = expr.clone();
    match VisitMut::visit(&mut expr, &mut Calls { binder }) {
        ControlFlow::Break(refusal) => Err(refusal.into()),
        ControlFlow::Continue(()) => Ok(expr),
    }
}

struct Calls<'a> {
    binder: &'a Binder,
}

impl VisitorMut for Calls<'_> {
    type Break = Refusal;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Refusal> {
        name_columns(&mut select.projection);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refusal> {
        if let Expr::Floor { expr: of, field } | Expr::Ceil { expr: of, field } = expr
            && let CeilFloorKind::DateTimeField(unit) = field
            && *unit != DateTimeField::NoDateTime
        {
            let (unit, of) = (unit.to_string(), of.as_ref().clone());
            let name = match expr {
                Expr::Floor { .. } => "floor_to",
                _ => "ceil_to",
            };
            *expr = to_unit(name, &unit, of);
            return ControlFlow::Continue(());
        }
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        match self.call(function) {
            Ok(Some(replacement)) => {
                *expr = replacement;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(refusal) => ControlFlow::Break(refusal),
        }
    }
}

impl Calls<'_> {
    /// What a call is replaced by, if it is.
    fn call(&self, function: &mut Function) -> Result<Option<Expr>, Refusal> {
        let name = function.name.to_string().to_lowercase();
        let place = function.name.span();
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let message = format!("{} cannot be used in a job", name.to_uppercase());
            return Err(Refusal::new(place, message).hint(*why));
        }
        let wrong_count =
            |takes: &str| Refusal::new(place, format!("{} takes {takes}", name.to_uppercase()));
        match name.as_str() {
            "if" => match arguments(function).as_slice() {
                [condition, yes, no] => {
                    let (condition, yes, no) = (condition.clone(), yes.clone(), no.clone());
                    Ok(Some(case(condition, yes, Some(no))))
                }
                _ => Err(wrong_count("three arguments")),
            },
            "nullif" => match arguments(function).as_slice() {
                [value, other] => {
                    let same = Expr::BinaryOp {
                        left: Box::new(Expr::Nested(Box::new(value.clone()))),
                        op: BinaryOperator::Eq,
                        right: Box::new(Expr::Nested(Box::new(other.clone()))),
                    };
                    let null = Expr::Value(Value::Null.with_empty_span());
                    Ok(Some(case(same, null, Some(value.clone()))))
                }
                _ => Err(wrong_count("two arguments")),
            },
            "ifnull" => {
                rename(function, "COALESCE");
                Ok(None)
            }
            "year" | "quarter" | "month" | "week" | "hour" | "minute" | "second" | "dayofyear"
            | "dayofmonth" | "dayofweek" => {
                let unit = match name.as_str() {
                    "dayofyear" => "DOY".to_owned(),
                    "dayofmonth" => "DAY".to_owned(),
                    "dayofweek" => "DOW".to_owned(),
                    other => other.to_uppercase(),
                };
                let unit = Expr::Value(Value::SingleQuotedString(unit).with_empty_span());
                if let FunctionArguments::List(list) = &mut function.args {
                    list.args
                        .insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)));
                }
                rename(function, "EXTRACT");
                Ok(None)
            }
            // The parts of a window's clause.
            "tumble" | "hop" | "cumulate" | "descriptor" => Ok(None),
            ROW_NUMBER if function.over.is_some() => Ok(None),
            ROW_NUMBER => Err(wrong_count("an OVER (PARTITION BY .. ORDER BY ..)")),
            _ if self.binder.callable().any(|known| known == name) => Ok(None),
            _ => {
                let message = format!("there is no function {}", name.to_uppercase());
                let hint = match nearest(&name, self.binder.callable()) {
                    Some(near) => format!("did you mean {}?", near.to_uppercase()),
                    None => "docs/functions.md lists the functions that there are".into(),
                };
                Err(Refusal::new(place, message).hint(hint))
            }
        }
    }
}

/// `FLOOR(time TO unit)`, as a call.
fn to_unit(name: &str, unit: &str, time: Expr) -> Expr {
    let unit = Value::SingleQuotedString(unit.to_owned()).with_empty_span();
    let args = [Expr::Value(unit), time];
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.to_vec(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn rename(function: &mut Function, name: &str) {
    let span = function.name.span();
    function.name = ObjectName::from(vec![Ident::with_span(span, name)]);
}

fn arguments(function: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return Vec::new();
    };
    list.args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

/// A column keeps its name; another expression is called `EXPR$` and its number; a name that was there before gets a
/// number behind it.
fn name_columns(items: &mut [SelectItem]) {
    let mut taken = BTreeSet::new();
    for (i, item) in items.iter_mut().enumerate() {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                taken.insert(alias.value.clone());
                continue;
            }
            SelectItem::UnnamedExpr(expr) => match &*expr {
                Expr::Identifier(name) => (expr.clone(), name.value.clone()),
                Expr::CompoundIdentifier(names) => {
                    let last = names
                        .last()
                        .map_or_else(String::new, |name| name.value.clone());
                    (expr.clone(), last)
                }
                _ => (expr.clone(), format!("EXPR${i}")),
            },
            _ => continue,
        };
        let is_column = matches!(expr, Expr::Identifier(_));
        let free = (0..)
            .map(|n| format!("{name}{n}"))
            .find(|other| !taken.contains(other));
        let new = !taken.contains(&name);
        if is_column && new {
            taken.insert(name);
            continue;
        }
        let name = if new { name } else { free.unwrap_or(name) };
        taken.insert(name.clone());
        *item = SelectItem::ExprWithAlias {
            expr,
            alias: Ident::new(name),
        };
    }
}
