//! Tokens, and a way to walk over them: the ground on which statements, types and queries are read.
//!
//! sqlparser makes the tokens and reads expressions and queries; [`Flink`] is the dialect that tells it what Flink writes
//! differently. [`Walk`] adds to its parser what our own statements need.

use super::Place;
use super::refusal::{Parsed, Refusal};
use super::text::Text;
use super::{intervals, json_forms, types};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Subscript, TypedString, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{
    Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word,
};
use std::cell::RefCell;

/// The tokens of a job file without spaces and comments, at their places in the file.
pub fn tokens(text: &Text) -> Parsed<Vec<TokenWithSpan>> {
    let dialect = Flink::default();
    let mut tokens = Tokenizer::new(&dialect, &text.filled)
        .tokenize_with_location()
        .map_err(|error| Refusal::new(text.place(error.location.into()), error.message))?;
    let place = |at: Location| {
        let place = text.place(at.into());
        Location::new(place.line, place.column)
    };
    for token in &mut tokens {
        token.span = Span::new(place(token.span.start), place(token.span.end));
        refuse_token(token)?;
    }
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    refuse_deep_nesting(&tokens)?;
    Ok(tokens)
}

/// Tokens that no Flink statement has, or that sqlparser would drop.
fn refuse_token(token: &TokenWithSpan) -> Parsed<()> {
    let (message, hint) = match &token.token {
        Token::Whitespace(Whitespace::MultiLineComment(comment)) if comment.starts_with('+') => (
            "hints (/*+ .. */) are not supported",
            "put the options into the table's WITH clause; write comments without the plus sign",
        ),
        Token::DoubleQuotedString(_) => (
            "double quotes are not used",
            "text stands in single quotes, 'like this'; a name in backticks, `like this`",
        ),
        Token::Number(_, true) => ("a number cannot end with L", "leave the L out"),
        Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_) => (
            "this kind of text literal is not supported",
            "write text in single quotes",
        ),
        Token::DoubleColon => ("'::' is not an operator", "write CAST(value AS type)"),
        Token::DoubleEq => ("'==' is not an operator", "write ="),
        Token::Placeholder(_) | Token::Question => (
            "placeholders are not supported",
            "write ${NAME}: it is filled from the environment",
        ),
        _ => return Ok(()),
    };
    Err(Refusal::new(token.span, message).hint(hint))
}

/// How deep parentheses and brackets may be nested. Where something is wrong deep inside, sqlparser reads each level in two
/// ways before it gives up, which doubles the time for each level.
const MAX_NESTING: usize = 18;
/// And how many may stand directly behind each other: those of a FROM clause cost more.
const MAX_RUN: usize = 10;

fn refuse_deep_nesting(tokens: &[TokenWithSpan]) -> Parsed<()> {
    let (mut depth, mut run) = (0_usize, 0);
    for token in tokens {
        match token.token {
            Token::LParen | Token::LBracket => (depth, run) = (depth + 1, run + 1),
            Token::RParen | Token::RBracket => (depth, run) = (depth.saturating_sub(1), 0),
            Token::SemiColon => (depth, run) = (0, 0),
            _ => run = 0,
        }
        if depth > MAX_NESTING || run > MAX_RUN {
            return Err(
                Refusal::new(token.span, "parentheses are nested too deeply")
                    .hint("give a name to the inner part with CREATE VIEW"),
            );
        }
    }
    Ok(())
}

/// Flink's SQL, as far as sqlparser asks a dialect about it.
#[derive(Debug, Default)]
pub struct Flink {
    /// What our own hooks refused last. sqlparser swallows errors while it tries one reading after the other; where all of them
    /// fail, this one says more than its own.
    refused: RefCell<Option<Refusal>>,
    /// Whether the statement reads a table as of a moment. sqlparser takes other dialects' words for that too, which are names here.
    as_of: bool,
}

impl Dialect for Flink {
    fn is_identifier_start(&self, letter: char) -> bool {
        letter.is_alphabetic() || letter == '_'
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        letter.is_alphanumeric() || letter == '_' || letter == '$'
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        letter == '`'
    }

    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('`')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        self.as_of
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let parsed = prefix(parser)?;
        Some(self.refusing(parsed))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        if let Some(is_not) = takes_distinct_from(parser) {
            let left = Box::new(expr.clone());
            // sqlparser's own reading takes an AND or OR behind it into the right side.
            let right = parser.parse_subexpr(precedence).map(Box::new);
            return Some(right.map(|right| match is_not {
                true => Expr::IsNotDistinctFrom(left, right),
                false => Expr::IsDistinctFrom(left, right),
            }));
        }
        if !json_forms::sees_is_json(parser) {
            return None;
        }
        Some(self.refusing(json_forms::is_json(parser, expr.clone())))
    }
}

impl Flink {
    /// Keeps what was refused, and tells sqlparser of it in its own words.
    fn refusing(&self, parsed: Parsed<Expr>) -> Result<Expr, ParserError> {
        parsed.map_err(|refusal| {
            let at = Location::new(refusal.place.line, refusal.place.column);
            // With its place, as sqlparser writes it, so that `read` sees that it is the same failure.
            let error = ParserError::ParserError(format!("{}{at}", refusal.message));
            self.refused.replace(Some(refusal));
            error
        })
    }
}

/// Reads one statement's tokens; the statement ends at `end`.
pub fn read<T>(
    mut tokens: Vec<TokenWithSpan>,
    end: Place,
    what: impl FnOnce(&mut Parser) -> Parsed<T>,
) -> Parsed<T> {
    let at = Location::new(end.line, end.column);
    tokens.push(TokenWithSpan::new(Token::EOF, Span::new(at, at)));
    let dialect = Flink {
        as_of: tokens
            .windows(2)
            .any(|pair| is_word(&pair[0], "FOR") && is_word(&pair[1], "SYSTEM_TIME")),
        ..Flink::default()
    };
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let parsed = what(&mut parser);
    parsed.map_err(|refusal| match dialect.refused.take() {
        // Only a refusal that is the reason for the failure: sqlparser's own message is then at the same place or before it.
        Some(ours) if is_after(ours.place, refusal.place) => ours,
        _ => refusal,
    })
}

fn is_after(place: Place, other: Place) -> bool {
    (place.line, place.column) >= (other.line, other.column)
}

/// Takes `IS [NOT] DISTINCT FROM`, if it is there, and says whether there is a NOT in it.
fn takes_distinct_from(parser: &mut Parser) -> Option<bool> {
    ["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
        .into_iter()
        .position(|words| parser.takes(words))
        .map(|at| at == 1)
}

/// Expressions that sqlparser does not know, or reads in another way.
fn prefix(parser: &mut Parser) -> Option<Parsed<Expr>> {
    let [first, second] = parser.peek_tokens_ref();
    let Token::Word(Word {
        value,
        quote_style: None,
        ..
    }) = &first.token
    else {
        return None;
    };
    let word = value.to_ascii_uppercase();
    let called = second.token == Token::LParen;
    match (word.as_str(), &second.token) {
        ("CAST", _) if called => Some(cast(parser, CastKind::Cast)),
        ("TRY_CAST", _) if called => Some(cast(parser, CastKind::TryCast)),
        ("TIMESTAMPDIFF" | "TIMESTAMPADD", _) if called => Some(with_unit(parser)),
        ("INTERVAL", Token::SingleQuotedString(_) | Token::Minus | Token::Plus) => {
            Some(intervals::parse(parser))
        }
        ("INTERVAL", Token::Number(..)) => Some(Err(Refusal::new(
            second.span,
            "an interval's value stands in quotes",
        )
        .hint("write INTERVAL '5' MINUTE"))),
        ("DATE" | "TIME" | "TIMESTAMP", Token::SingleQuotedString(text)) => {
            let data_type = types::of_literal(&word, text);
            Some(typed_text(parser, data_type))
        }
        ("TABLE", Token::Word(_)) => Some(table_argument(parser)),
        ("MAP", Token::LBracket) => Some(map(parser)),
        (word, _) if called => json_forms::call(parser, word),
        _ => None,
    }
}

/// `MAP[key, value, ..]`, as a call.
fn map(parser: &mut Parser) -> Parsed<Expr> {
    let span = parser.peek_token_ref().span;
    parser.advance_token();
    parser.symbol(&Token::LBracket)?;
    let mut args = Vec::new();
    while parser.peek_token_ref().token != Token::RBracket {
        args.push(parser.expr()?);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.symbol(&Token::RBracket)?;
    let mut access_chain = Vec::new();
    while parser.consume_token(&Token::LBracket) {
        let index = parser.expr()?;
        parser.symbol(&Token::RBracket)?;
        access_chain.push(AccessExpr::Subscript(Subscript::Index { index }));
    }
    let map = json_forms::made("MAP", span, args);
    Ok(match access_chain.is_empty() {
        true => map,
        false => Expr::CompoundFieldAccess {
            root: Box::new(map),
            access_chain,
        },
    })
}

/// `CAST(value AS type)`, with Flink's types.
fn cast(parser: &mut Parser, kind: CastKind) -> Parsed<Expr> {
    parser.advance_token();
    parser.symbol(&Token::LParen)?;
    let expr = parser.expr()?;
    parser.word("AS")?;
    let data_type = types::parse_for_cast(parser)?;
    parser.symbol(&Token::RParen)?;
    Ok(Expr::Cast {
        kind,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    })
}

/// `TIMESTAMPDIFF(SECOND, a, b)`: the unit becomes a text, so that nobody takes it for a column.
fn with_unit(parser: &mut Parser) -> Parsed<Expr> {
    let name = parser.name("a function")?;
    parser.symbol(&Token::LParen)?;
    let token = parser.next_token();
    let unit = match &token.token {
        Token::Word(word) => intervals::unit(&word.value),
        _ => None,
    };
    let Some(unit) = unit else {
        return Err(Refusal::new(token.span, format!("'{}' is not a unit of time", token.token))
            .hint(format!(
                "{}(SECOND, a, b): the unit is one of SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER, YEAR",
                name.value.to_uppercase()
            )));
    };
    let unit = Value::SingleQuotedString(unit.to_owned()).with_span(token.span);
    let mut args = vec![Expr::Value(unit)];
    while parser.consume_token(&Token::Comma) {
        args.push(parser.expr()?);
    }
    parser.symbol(&Token::RParen)?;
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Ok(Expr::Function(Function {
        name: ObjectName::from(name),
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
    }))
}

fn typed_text(
    parser: &mut Parser,
    data_type: datafusion::sql::sqlparser::ast::DataType,
) -> Parsed<Expr> {
    parser.advance_token();
    let value: ValueWithSpan = parser.text("a literal")?;
    Ok(Expr::TypedString(TypedString {
        data_type,
        value,
        uses_odbc_syntax: false,
    }))
}

/// `TABLE t` as an argument: marked, so that it is found again where it belongs, in a window function, and only there.
fn table_argument(parser: &mut Parser) -> Parsed<Expr> {
    let prefix = parser.name("TABLE")?;
    let name = parser.name("a table")?;
    Ok(Expr::Prefixed {
        prefix,
        value: Box::new(Expr::Identifier(name)),
    })
}

/// What our statements ask of sqlparser's parser, with refusals instead of its errors.
pub trait Walk {
    /// Where the next token is.
    fn here(&self) -> Place;
    /// Whether the next tokens are these words, unquoted and in any case.
    fn sees(&self, words: &str) -> bool;
    /// Takes these words, or nothing.
    fn takes(&mut self, words: &str) -> bool;
    /// Takes this word, or refuses what is there instead.
    fn word(&mut self, word: &str) -> Parsed<()>;
    fn symbol(&mut self, symbol: &Token) -> Parsed<()>;
    /// A name, which may be in backticks; one with dots in it is refused.
    fn name(&mut self, of_what: &str) -> Parsed<Ident>;
    /// A text in single quotes.
    fn text(&mut self, what: &str) -> Parsed<ValueWithSpan>;
    fn expr(&mut self) -> Parsed<Expr>;
    /// Refuses the next token.
    fn unexpected<T>(&self, expected: &str) -> Parsed<T>;
    /// What sqlparser's error says, as a refusal.
    fn refusal(&self, error: &ParserError) -> Refusal;
}

impl Walk for Parser<'_> {
    fn here(&self) -> Place {
        self.peek_token_ref().span.into()
    }

    fn sees(&self, words: &str) -> bool {
        words
            .split(' ')
            .enumerate()
            .all(|(n, word)| is_word(self.peek_nth_token_ref(n), word))
    }

    fn takes(&mut self, words: &str) -> bool {
        let sees = self.sees(words);
        if sees {
            words.split(' ').for_each(|_| self.advance_token());
        }
        sees
    }

    fn word(&mut self, word: &str) -> Parsed<()> {
        if self.takes(word) {
            Ok(())
        } else {
            self.unexpected(word)
        }
    }

    fn symbol(&mut self, symbol: &Token) -> Parsed<()> {
        if self.consume_token(symbol) {
            Ok(())
        } else {
            self.unexpected(&format!("'{symbol}'"))
        }
    }

    fn name(&mut self, of_what: &str) -> Parsed<Ident> {
        let token = self.peek_token_ref();
        let Token::Word(word) = &token.token else {
            return self.unexpected(&format!("the name of {of_what}"));
        };
        let name = word.clone().into_ident(token.span);
        self.advance_token();
        if self.peek_token_ref().token == Token::Period {
            return Err(Refusal::new(
                name.span,
                format!("the name of {of_what} has no dots in it"),
            )
            .hint("catalogues and databases are not supported: use a plain name"));
        }
        Ok(name)
    }

    fn text(&mut self, what: &str) -> Parsed<ValueWithSpan> {
        let token = self.peek_token_ref();
        let Token::SingleQuotedString(text) = &token.token else {
            return self.unexpected(&format!("{what} in single quotes"));
        };
        let text = Value::SingleQuotedString(text.clone()).with_span(token.span);
        self.advance_token();
        Ok(text)
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.parse_expr().map_err(|error| self.refusal(&error))
    }

    fn unexpected<T>(&self, expected: &str) -> Parsed<T> {
        let token = self.peek_token_ref();
        let found = match &token.token {
            Token::EOF => "the end of the statement".to_owned(),
            token => token.to_string(),
        };
        Err(Refusal::new(
            token.span,
            format!("expected {expected}, found {found}"),
        ))
    }

    fn refusal(&self, error: &ParserError) -> Refusal {
        Refusal::from_parser(error, self.here())
    }
}

/// Whether a token is this word, unquoted, in upper or lower case.
pub fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// The text of a value that [`Walk::text`] gave.
pub fn plain(text: ValueWithSpan) -> String {
    text.value.into_string().unwrap_or_default()
}
