//! Flink's forms of JSON that sqlparser does not read: they become ordinary calls, whose arguments say what stood there.
//!
//! - `JSON_VALUE(text, path [NULL | ERROR | DEFAULT x ON EMPTY] [.. ON ERROR])`: text, path, on empty, its default, on error, its default;
//! - `JSON_QUERY(text, path [WITH [CONDITIONAL] WRAPPER | WITHOUT WRAPPER] [.. ON ERROR])`: text, path, wrapper, on error;
//! - `JSON_EXISTS(text, path [TRUE | FALSE | UNKNOWN | ERROR ON ERROR])`: text, path, on error;
//! - `JSON_OBJECT([KEY] name VALUE value, .. [NULL | ABSENT ON NULL])`: letters, then names and values in turn. The first letter is N or A
//!   for what is done with NULL; then each argument has one, J for a value that is JSON itself, and V;
//! - `JSON_ARRAY(value, .. [NULL | ABSENT ON NULL])`: the same without names;
//! - `text IS [NOT] JSON [VALUE | ARRAY | OBJECT | SCALAR]`: text, kind.

use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, is_word};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

/// Reads a call of a function of JSON that is not written like others; nothing for any other.
pub fn call(parser: &mut Parser, word: &str) -> Option<Parsed<Expr>> {
    match word {
        "JSON_VALUE" => Some(value(parser)),
        "JSON_QUERY" => Some(query(parser)),
        "JSON_EXISTS" => Some(exists(parser)),
        "JSON_OBJECT" => Some(object(parser)),
        "JSON_ARRAY" => Some(array(parser)),
        _ => None,
    }
}

/// Whether `IS [NOT] JSON` comes next.
pub fn sees_is_json(parser: &Parser) -> bool {
    let at = |n: usize, word: &str| is_word(parser.peek_nth_token_ref(n), word);
    at(0, "IS") && (at(1, "JSON") || at(1, "NOT") && at(2, "JSON"))
}

/// Reads `IS [NOT] JSON ..` behind a text.
pub fn is_json(parser: &mut Parser, text: Expr) -> Parsed<Expr> {
    let span = parser.peek_token_ref().span;
    parser.word("IS")?;
    let not = parser.takes("NOT");
    parser.word("JSON")?;
    let kinds = ["VALUE", "ARRAY", "OBJECT", "SCALAR"];
    let kind = kinds.into_iter().find(|kind| parser.takes(kind));
    let test = made(
        "IS_JSON",
        span,
        vec![text, literal(kind.unwrap_or("VALUE"))],
    );
    Ok(match not {
        true => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(test),
        },
        false => test,
    })
}

/// The name, the opening parenthesis, the text and the path.
fn text_and_path(parser: &mut Parser) -> Parsed<(Ident, Expr, Expr)> {
    let name = parser.name("a function")?;
    parser.symbol(&Token::LParen)?;
    let text = parser.expr()?;
    parser.symbol(&Token::Comma)?;
    let path = parser.expr()?;
    if parser.sees("RETURNING") {
        return Err(Refusal::new(parser.here(), "RETURNING is not supported")
            .hint("its result is STRING: write TRY_CAST(JSON_VALUE(text, path) AS INT)"));
    }
    Ok((name, text, path))
}

fn value(parser: &mut Parser) -> Parsed<Expr> {
    let (name, text, path) = text_and_path(parser)?;
    let mut clauses = [None, None];
    while parser.peek_token_ref().token != Token::RParen {
        let place = parser.here();
        let clause = if parser.takes("NULL") {
            ("NULL", null())
        } else if parser.takes("ERROR") {
            ("ERROR", null())
        } else if parser.takes("DEFAULT") {
            ("DEFAULT", parser.expr()?)
        } else {
            return parser.unexpected("NULL, ERROR or DEFAULT, or ')'");
        };
        parser.word("ON")?;
        let slot = if parser.takes("EMPTY") {
            0
        } else {
            parser.word("ERROR")?;
            1
        };
        if clauses[slot].replace(clause).is_some() {
            return Err(Refusal::new(place, "this is said twice"));
        }
    }
    parser.symbol(&Token::RParen)?;
    let mut args = vec![text, path];
    for clause in clauses {
        let (behaviour, default) = clause.unwrap_or(("NULL", null()));
        args.extend([literal(behaviour), default]);
    }
    Ok(made(&name.value, name.span, args))
}

fn query(parser: &mut Parser) -> Parsed<Expr> {
    let (name, text, path) = text_and_path(parser)?;
    let (mut wrapper, mut on_error) = ("WITHOUT", "NULL");
    if parser.takes("WITHOUT") {
        let _ = parser.takes("ARRAY");
        parser.word("WRAPPER")?;
    } else if parser.takes("WITH") {
        wrapper = if parser.takes("CONDITIONAL") {
            "CONDITIONAL"
        } else {
            let _ = parser.takes("UNCONDITIONAL");
            "ALWAYS"
        };
        let _ = parser.takes("ARRAY");
        parser.word("WRAPPER")?;
    }
    while parser.peek_token_ref().token != Token::RParen {
        let place = parser.here();
        let behaviours = [
            ("NULL", "NULL"),
            ("ERROR", "ERROR"),
            ("EMPTY ARRAY", "ARRAY"),
            ("EMPTY OBJECT", "OBJECT"),
        ];
        let Some((_, behaviour)) = behaviours.iter().find(|(words, _)| parser.takes(words)) else {
            return parser.unexpected("NULL, EMPTY ARRAY, EMPTY OBJECT or ERROR, or ')'");
        };
        parser.word("ON")?;
        if parser.takes("EMPTY") {
            if *behaviour != "NULL" {
                return Err(
                    Refusal::new(place, "only NULL ON EMPTY is supported in JSON_QUERY")
                        .hint("Flink 2.2 takes no notice of another: write COALESCE(JSON_QUERY(text, path), '[]')"),
                );
            }
        } else {
            parser.word("ERROR")?;
            on_error = behaviour;
        }
    }
    parser.symbol(&Token::RParen)?;
    let args = vec![text, path, literal(wrapper), literal(on_error)];
    Ok(made(&name.value, name.span, args))
}

fn exists(parser: &mut Parser) -> Parsed<Expr> {
    let (name, text, path) = text_and_path(parser)?;
    let words = ["TRUE", "FALSE", "UNKNOWN", "ERROR"];
    let on_error = words.into_iter().find(|word| parser.takes(word));
    if on_error.is_some() {
        parser.word("ON")?;
        parser.word("ERROR")?;
    }
    parser.symbol(&Token::RParen)?;
    let args = vec![text, path, literal(on_error.unwrap_or("FALSE"))];
    Ok(made(&name.value, name.span, args))
}

fn object(parser: &mut Parser) -> Parsed<Expr> {
    let name = parser.name("a function")?;
    parser.symbol(&Token::LParen)?;
    let (mut letters, mut args) = (String::new(), Vec::new());
    while !ends(parser) {
        // KEY may be left out, and may be a column's name.
        if parser.sees("KEY") && !matches!(parser.peek_nth_token_ref(1).token, Token::Comma) {
            let _ = !parser.sees("KEY VALUE") && parser.takes("KEY");
        }
        args.push(parser.expr()?);
        letters.push('V');
        if !parser.takes("VALUE") {
            parser.symbol(&Token::Colon)?;
        }
        letters.push(letter(parser));
        args.push(parser.expr()?);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let letters = format!("{}{letters}", on_null(parser, "N")?);
    args.insert(0, literal(&letters));
    Ok(made(&name.value, name.span, args))
}

fn array(parser: &mut Parser) -> Parsed<Expr> {
    let name = parser.name("a function")?;
    parser.symbol(&Token::LParen)?;
    let (mut letters, mut args) = (String::new(), Vec::new());
    while !ends(parser) {
        letters.push(letter(parser));
        args.push(parser.expr()?);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let letters = format!("{}{letters}", on_null(parser, "A")?);
    args.insert(0, literal(&letters));
    Ok(made(&name.value, name.span, args))
}

fn ends(parser: &Parser) -> bool {
    parser.peek_token_ref().token == Token::RParen
        || parser.sees("NULL ON NULL")
        || parser.sees("ABSENT ON NULL")
}

/// `[NULL | ABSENT ON NULL])`
fn on_null(parser: &mut Parser, default: &'static str) -> Parsed<&'static str> {
    let said = if parser.takes("NULL ON NULL") {
        "N"
    } else if parser.takes("ABSENT ON NULL") {
        "A"
    } else {
        default
    };
    parser.symbol(&Token::RParen)?;
    Ok(said)
}

/// J where the value that comes next is a call that gives JSON.
fn letter(parser: &Parser) -> char {
    let calls = ["JSON_OBJECT", "JSON_ARRAY", "JSON"];
    let called = parser.peek_nth_token_ref(1).token == Token::LParen;
    match called && calls.into_iter().any(|word| parser.sees(word)) {
        true => 'J',
        false => 'V',
    }
}

fn literal(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_empty_span())
}

/// NULL as a text, whatever the other rows say.
fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

pub fn made(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(Ident::with_span(span, name)),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
