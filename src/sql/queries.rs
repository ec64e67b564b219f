//! Queries: Flink's syntax, as sqlparser's tree that DataFusion can plan.
//!
//! What the planner gets, beyond plain SQL:
//!
//! - **Names** are as written; upper and lower case differ, so plan with
//!   `datafusion.sql_parser.enable_ident_normalization = false`.
//! - **Window table functions.** `FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE [, offset])) [AS a]`, with
//!   or without named arguments, with or without the outer `TABLE(..)`, is always
//!   `TableFactor::TableFunction { expr: Expr::Function, alias }`. The function's name is one identifier, `TUMBLE`, `HOP` or `CUMULATE`, and
//!   its arguments are unnamed, `FunctionArg::Unnamed(FunctionArgExpr::Expr(..))`:
//!   0. the table, view or CTE: `Expr::Identifier` (from `TABLE t`);
//!   1. the time column: `Expr::Function` named `DESCRIPTOR` with one unnamed argument, an `Expr::Identifier`;
//!   2. of `HOP` and `CUMULATE` the slide or the step: `Expr::Interval`;
//!   3. the size: `Expr::Interval`;
//!   4. the offset, where given: `Expr::Interval`.
//!
//!   [`window`] takes this form apart.
//! - **Intervals** are `Expr::Interval` with a quoted value and one unit and nothing else: `INTERVAL '1:30' MINUTE TO SECOND` has
//!   become `INTERVAL '90' SECOND`, and `INTERVAL '1-2' YEAR TO MONTH` `INTERVAL '14' MONTH`.
//! - **Types** in CAST, TRY_CAST and typed literals are `ast::DataType::Custom` that only
//!   [`types::of_ast`](crate::sql::types::of_ast) can read (call it from a `TypePlanner`); its text is Flink's, for messages.
//!   `TIMESTAMP '2024-01-01 00:00:00.123'` is a `TypedString` with such a type, its precision from the literal's digits.
//! - **TIMESTAMPDIFF and TIMESTAMPADD** are ordinary functions whose first argument is a text literal: `'SECOND'`, `'MINUTE'`,
//!   `'HOUR'`, `'DAY'`, `'WEEK'`, `'MONTH'`, `'QUARTER'`, `'YEAR'` (`SQL_TSI_` taken off, upper case).
//! - **EXTRACT, SUBSTRING, TRIM, POSITION, OVERLAY, FLOOR(x), CEIL(x)** are sqlparser's own forms: DataFusion hands them to its
//!   `ExprPlanner`s.
//! - **UNNEST** behind a table, `FROM t CROSS JOIN UNNEST(t.items) AS u(item)`, is a `TableFactor::NestedJoin` of what stands before it
//!   and one join with a `TableFactor::UNNEST` of one expression; its operator is `CrossJoin` or `Left`, without a condition. [`unnest`]
//!   takes this form apart.
//! - **FOR SYSTEM_TIME AS OF** is sqlparser's own form, `TableFactor::Table { version, .. }`, behind JOIN and LEFT JOIN .. ON only; its
//!   expression is the name of a column, with or without that of its table. [`snapshot`] takes this form apart.
//! - **OVER** and WINDOW are sqlparser's own forms.
//! - `ARRAY[..]` is `Expr::Array`, `a[1]` and `row.field` are what sqlparser makes of them.
//!
//! What is not in this list of forms is refused here, at its place, so that DataFusion never sees it: ORDER BY, LIMIT, DISTINCT,
//! set operations but UNION ALL, sub-queries in expressions, USING and NATURAL, and whatever sqlparser knows and Flink does not.
//! Spans are places in the job file as the user wrote it.

use super::Place;
use super::allowed::Allowed;
use super::intervals;
use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, is_word, read};
use crate::plan::Window;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinOperator,
    ObjectName, ObjectNamePart, Query, TableAlias, TableFactor, TableVersion, VisitMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;

/// A query in the form of this module, and what it reads.
pub struct Read {
    pub query: Box<Query>,
    /// The tables and views, each where it is named; no CTEs.
    pub relations: Vec<(String, Place)>,
    /// The tables that rows are looked up in, likewise.
    pub looked_up: Vec<(String, Place)>,
}

/// A window as it stands in a FROM clause.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowCall<'a> {
    pub table: &'a Ident,
    pub time: &'a Ident,
    pub window: Window,
    pub alias: Option<&'a TableAlias>,
}

/// Takes a window apart; nothing for any other member of a FROM clause.
pub fn window(factor: &TableFactor) -> Option<WindowCall<'_>> {
    let TableFactor::TableFunction {
        expr: Expr::Function(function),
        alias,
    } = factor
    else {
        return None;
    };
    let args = positional(function)?;
    let [
        Expr::Identifier(table),
        Expr::Function(descriptor),
        lengths @ ..,
    ] = args.as_slice()
    else {
        return None;
    };
    let [Expr::Identifier(time)] = positional(descriptor)?[..] else {
        return None;
    };
    let lengths = lengths.iter().map(|length| intervals::milliseconds(length));
    let lengths: Vec<i64> = lengths.collect::<Option<_>>()?;
    let offset = |at: usize| lengths.get(at).copied().unwrap_or(0);
    let name = function_name(&function.name)?;
    let window = match (name.value.as_str(), lengths.as_slice()) {
        ("TUMBLE", [size_ms, ..]) => Window::Tumble {
            size_ms: *size_ms,
            offset_ms: offset(1),
        },
        ("HOP", [slide_ms, size_ms, ..]) => Window::Hop {
            slide_ms: *slide_ms,
            size_ms: *size_ms,
            offset_ms: offset(2),
        },
        ("CUMULATE", [step_ms, size_ms, ..]) => Window::Cumulate {
            step_ms: *step_ms,
            size_ms: *size_ms,
            offset_ms: offset(2),
        },
        _ => return None,
    };
    Some(WindowCall {
        table,
        time,
        window,
        alias: alias.as_ref(),
    })
}

/// An UNNEST behind a table as it stands in a FROM clause.
pub struct Unnested<'a> {
    pub left: &'a TableFactor,
    pub array: &'a Expr,
    pub outer: bool,
    pub ordinality: bool,
    pub alias: Option<&'a TableAlias>,
}

/// Takes an UNNEST apart; nothing for any other member of a FROM clause.
pub fn unnest(factor: &TableFactor) -> Option<Unnested<'_>> {
    let TableFactor::NestedJoin {
        table_with_joins,
        alias: None,
    } = factor
    else {
        return None;
    };
    let [join] = table_with_joins.joins.as_slice() else {
        return None;
    };
    match &join.relation {
        TableFactor::UNNEST {
            alias,
            array_exprs,
            with_ordinality,
            ..
        } => Some(Unnested {
            left: &table_with_joins.relation,
            array: array_exprs.first()?,
            outer: matches!(join.join_operator, JoinOperator::Left(_)),
            ordinality: *with_ordinality,
            alias: alias.as_ref(),
        }),
        _ => None,
    }
}

/// The column that says as of when a table is read: the name of its table, where it stands with it, and its own.
pub struct AsOf<'a> {
    pub table: Option<&'a Ident>,
    pub column: &'a Ident,
}

/// As of when a member of a FROM clause is read; nothing for what is read as it comes.
pub fn snapshot(factor: &TableFactor) -> Option<AsOf<'_>> {
    let (table, column) = match version(factor)? {
        TableVersion::ForSystemTimeAsOf(Expr::Identifier(column)) => (None, column),
        TableVersion::ForSystemTimeAsOf(Expr::CompoundIdentifier(names)) => {
            match names.as_slice() {
                [table, column] => (Some(table), column),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(AsOf { table, column })
}

/// What a member of a FROM clause says of the moment as of which it is read.
pub(super) fn version(factor: &TableFactor) -> Option<&TableVersion> {
    match factor {
        TableFactor::Table { version, .. } => version.as_ref(),
        _ => None,
    }
}

/// Reads the query that the rest of a statement is.
pub fn parse(parser: &mut Parser) -> Parsed<Read> {
    let place = parser.here();
    refuse_phrases(parser)?;
    if parser.sees("VALUES") {
        return Err(Refusal::new(place, "VALUES is not supported")
            .hint("rows come from a table: see the connectors 'datagen' and 'filesystem'"));
    }
    let begins = parser.peek_token_ref().token == Token::LParen;
    if !begins && !parser.sees("SELECT") && !parser.sees("WITH") {
        return parser.unexpected("SELECT");
    }
    let mut query = match parser.parse_query() {
        Ok(query) => query,
        Err(error) => {
            let refusal = parser.refusal(&error);
            return Err(innermost_failure(parser).unwrap_or(refusal));
        }
    };
    let mut allowed = Allowed::new(place);
    if let ControlFlow::Break(refusal) = query.visit(&mut allowed) {
        return Err(refusal);
    }
    let (relations, looked_up) = allowed.into_relations();
    Ok(Read {
        query,
        relations,
        looked_up,
    })
}

/// Reads an expression of CREATE TABLE.
pub fn parse_expr(parser: &mut Parser) -> Parsed<Expr> {
    let place = parser.here();
    let mut expr = parser.expr()?;
    match expr.visit(&mut Allowed::new(place)) {
        ControlFlow::Break(refusal) => Err(refusal),
        ControlFlow::Continue(()) => Ok(expr),
    }
}

/// Syntax of Flink's that sqlparser cannot read, or drops: found by its words, before anything is read.
const REFUSED_PHRASES: &[(&str, &str, &str)] = &[
    ("MATCH_RECOGNIZE", "MATCH_RECOGNIZE is not supported", ""),
    (
        "GROUPING SETS",
        "GROUPING SETS are not supported",
        "write one INSERT for each grouping",
    ),
    ("LATERAL", "LATERAL is not supported", ""),
    (
        "TABLESAMPLE",
        "TABLESAMPLE is not supported",
        "filter with WHERE",
    ),
    ("QUALIFY", "QUALIFY is not supported", ""),
    ("WITHIN GROUP", "WITHIN GROUP is not supported", ""),
    (
        "EMIT",
        "EMIT is not supported",
        "a window fires once, when the watermark passes its end",
    ),
];

fn refuse_phrases(parser: &Parser) -> Parsed<()> {
    let tokens: Vec<_> = rest(parser).collect();
    for (at, token) in tokens.iter().enumerate() {
        for (phrase, message, hint) in REFUSED_PHRASES {
            let words = phrase.split(' ').enumerate();
            let sees = |(n, word): (usize, &str)| {
                tokens
                    .get(at + n)
                    .is_some_and(|token: &&TokenWithSpan| is_word(token, word))
            };
            // Behind a dot or AS it is somebody's name.
            let is_name =
                at > 0 && (tokens[at - 1].token == Token::Period || is_word(tokens[at - 1], "AS"));
            if !is_name && words.clone().all(sees) && !is_column(&tokens, at, phrase) {
                return Err(Refusal::new(token.span, *message).hint(*hint));
            }
        }
    }
    Ok(())
}

/// A single word that is not reserved in Flink can be a column: it is syntax only where another word follows.
fn is_column(tokens: &[&TokenWithSpan], at: usize, phrase: &str) -> bool {
    phrase == "EMIT"
        && !tokens
            .get(at + 1)
            .is_some_and(|next| matches!(next.token, Token::Word(_)))
}

/// What is still to be read, up to the end of the statement.
fn rest<'p>(parser: &'p Parser) -> impl Iterator<Item = &'p TokenWithSpan> {
    let start = match parser.get_current_index() {
        0 if std::ptr::eq(parser.peek_token_ref(), parser.token_at(0)) => 0,
        current => current + 1,
    };
    (start..)
        .map(|index| parser.token_at(index))
        .take_while(|token| token.token != Token::EOF)
}

/// sqlparser reads a FROM clause in several ways and reports the last one that failed, which is seldom the one that was meant. So
/// each sub-query is read alone, and the failure of the innermost one is reported.
fn innermost_failure(parser: &Parser) -> Option<Refusal> {
    let tokens: Vec<_> = (0..)
        .map(|index| parser.token_at(index))
        .take_while(|token| token.token != Token::EOF)
        .collect();
    let begins = |at: &usize| {
        tokens[*at].token == Token::LParen
            && tokens
                .get(at + 1)
                .is_some_and(|next| is_word(next, "SELECT") || is_word(next, "WITH"))
    };
    let mut failure: Option<(usize, Refusal)> = None;
    for begin in (0..tokens.len()).rev().filter(begins) {
        let Some(end) = closing(&tokens, begin) else {
            continue;
        };
        let inner = tokens[begin + 1..end]
            .iter()
            .map(|token| (*token).clone())
            .collect();
        let read = read(inner, tokens[end].span.into(), |parser| {
            parser
                .parse_query()
                .map_err(|error| parser.refusal(&error))?;
            match parser.peek_token_ref().token {
                Token::EOF => Ok(()),
                _ => parser.unexpected("')'"),
            }
        });
        if let Err(refusal) = read
            && failure.as_ref().is_none_or(|(kept, _)| *kept > end)
        {
            failure = Some((begin, refusal));
        }
    }
    failure.map(|(_, refusal)| refusal)
}

/// The parenthesis that closes the one at `open`.
fn closing(tokens: &[&TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Brings a window function into the form that this module promises, and gives the table that it reads.
pub(super) fn normalise_window(function: &mut Function, place: Place) -> Parsed<(String, Place)> {
    let written = function_name(&function.name).map(|name| name.value.to_ascii_uppercase());
    let (name, form, known): (_, _, &[&str]) = match written.as_deref() {
        Some("TUMBLE") => (
            "TUMBLE",
            "write TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE))",
            &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        ),
        Some("HOP") => (
            "HOP",
            "write TABLE(HOP(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)), the slide before the size",
            &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        ),
        Some("CUMULATE") => (
            "CUMULATE",
            "write TABLE(CUMULATE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)), the step before the size",
            &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
        ),
        Some("SESSION") => {
            return Err(Refusal::new(place, "SESSION windows are not supported yet")
                .hint("TUMBLE, HOP and CUMULATE are"));
        }
        Some("UNNEST") => {
            return Err(
                Refusal::new(place, "UNNEST stands behind the table whose array it takes")
                    .hint("write FROM t CROSS JOIN UNNEST(t.items) AS u(item)"),
            );
        }
        _ => {
            return Err(Refusal::new(
                place,
                format!("the table function {} is not supported", function.name),
            )
            .hint("write TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE))"));
        }
    };
    let refuse = |what: String| Err(Refusal::new(place, format!("{name} {what}")).hint(form));
    let FunctionArguments::List(list) = &mut function.args else {
        return refuse("has no arguments".to_owned());
    };
    let mut args: Vec<Option<Expr>> = known.iter().map(|_| None).collect();
    for (position, arg) in std::mem::take(&mut list.args).into_iter().enumerate() {
        let (slot, arg) = match arg {
            FunctionArg::Unnamed(arg) => (Some(position), arg),
            FunctionArg::Named { name, arg, .. } => {
                let is_it = |known: &&str| name.value.eq_ignore_ascii_case(known);
                (known.iter().position(is_it), arg)
            }
            FunctionArg::ExprNamed { arg, .. } => (None, arg),
        };
        match (slot.and_then(|slot| args.get_mut(slot)), arg) {
            (Some(slot @ None), FunctionArgExpr::Expr(arg)) => *slot = Some(arg),
            _ => return refuse("has an argument that it does not know".to_owned()),
        }
    }
    let offset = args.pop().flatten();
    let needed = args.into_iter().collect::<Option<Vec<_>>>();
    let Some((Expr::Prefixed { value, .. }, time, lengths)) = needed.and_then(|args| {
        let mut args = args.into_iter();
        Some((args.next()?, args.next()?, args.collect::<Vec<_>>()))
    }) else {
        let lengths: Vec<String> = known[2..known.len() - 1]
            .iter()
            .map(|length| length.to_lowercase())
            .collect();
        return refuse(format!(
            "needs a table, a DESCRIPTOR and a {}",
            lengths.join(" and a ")
        ));
    };
    let Expr::Identifier(table) = *value else {
        return refuse("reads a table".to_owned());
    };
    let is_descriptor = matches!(&time, Expr::Function(descriptor)
        if function_name(&descriptor.name).is_some_and(|name| name.value.eq_ignore_ascii_case("DESCRIPTOR"))
            && matches!(positional(descriptor).as_deref(), Some([Expr::Identifier(_)])));
    if !is_descriptor {
        return Err(Refusal::new(
            place,
            "the time of a window is one column, DESCRIPTOR(column)",
        )
        .hint(form));
    }
    check_lengths(name, known, &lengths, offset.as_ref(), place)?;
    let place = table.span.into();
    let read = (table.value.clone(), place);
    let all = [Expr::Identifier(table), time].into_iter();
    list.args = all
        .chain(lengths)
        .chain(offset)
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)))
        .collect();
    if let Some(ObjectNamePart::Identifier(plain)) = function.name.0.first_mut() {
        plain.value = name.to_owned();
    }
    Ok(read)
}

/// The lengths of a window: the size last, and the slide or step before it, of which the size is a multiple.
fn check_lengths(
    name: &str,
    known: &[&str],
    lengths: &[Expr],
    offset: Option<&Expr>,
    place: Place,
) -> Parsed<()> {
    let mut millis = Vec::with_capacity(lengths.len());
    for (length, what) in lengths.iter().zip(&known[2..]) {
        let Some(found) = intervals::milliseconds(length).filter(|length| *length > 0) else {
            let what = what.to_lowercase();
            return Err(Refusal::new(
                place,
                format!("the {what} of a window is an interval of a fixed length, not {length}"),
            )
            .hint("for example INTERVAL '1' MINUTE"));
        };
        millis.push(found);
    }
    if let [step, size] = millis[..]
        && size % step != 0
    {
        let what = known[2].to_lowercase();
        return Err(Refusal::new(
            place,
            format!("the size of {name} must be a multiple of its {what}"),
        )
        .hint(format!("the {what} stands before the size")));
    }
    let size = millis.last().copied().unwrap_or(0);
    match offset {
        Some(offset) if intervals::milliseconds(offset).is_none_or(|ms| ms.abs() >= size) => {
            Err(Refusal::new(
                place,
                format!(
                    "the offset of a window is an interval shorter than its size, not {offset}"
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// A function's plain name.
pub(super) fn function_name(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(name),
        _ => None,
    }
}

/// The arguments of a call that has only unnamed expressions.
fn positional(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    list.args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}
