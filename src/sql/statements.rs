//! The statements of a job file, one after the other.

use super::names::Names;
use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, is_word, plain, read, tokens};
use super::text::Text;
use super::{Insert, OptionValue, Options, Place, Script, Setting, View, ddl, options, queries};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads a whole job file.
pub fn script(path: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Parsed<Script> {
    let text = Text::fill(text, variable)?;
    let mut reading = Reading::default();
    for piece in pieces(tokens(&text)?) {
        let end = piece.end;
        if let Some(token) = piece.tokens.get(MAX_TOKENS) {
            return Err(Refusal::new(token.span, "the statement is too long")
                .hint("give a name to a part of it with CREATE VIEW"));
        }
        read(piece.tokens, end, |parser| reading.statement(parser))?;
    }
    reading.finish(path)
}

/// A statement's tree is taken down by recursion too, so its size has an end.
const MAX_TOKENS: usize = 20_000;

/// One statement's tokens, without the semicolon at its end.
struct Piece {
    tokens: Vec<TokenWithSpan>,
    end: Place,
}

fn pieces(tokens: Vec<TokenWithSpan>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for token in tokens {
        if token.token == Token::SemiColon {
            if !piece.is_empty() {
                pieces.push(Piece {
                    tokens: std::mem::take(&mut piece),
                    end: token.span.into(),
                });
            }
        } else {
            piece.push(token);
        }
    }
    if let Some(last) = piece.last() {
        let end = last.span.end.into();
        pieces.push(Piece { tokens: piece, end });
    }
    pieces
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    names: Names,
    settings: Vec<Setting>,
    tables: Vec<super::Table>,
    views: Vec<View>,
    inserts: Vec<Insert>,
    /// The tables that some query reads.
    read: BTreeSet<String>,
    /// Where the statement set that is being read begins.
    set: Option<Place>,
}

impl Reading {
    fn statement(&mut self, parser: &mut Parser) -> Parsed<()> {
        let place = parser.here();
        if parser.takes("EXECUTE STATEMENT SET") {
            parser.word("BEGIN")?;
            return self.begin_set(place, parser);
        }
        if parser.takes("BEGIN STATEMENT SET") {
            self.begin_set(place, parser)?;
            return end_of_statement(parser);
        }
        if self.set.is_some() && parser.takes("END") {
            self.set = None;
            return end_of_statement(parser);
        }
        if parser.takes("INSERT INTO") {
            self.insert(parser, place)?;
        } else if let Some(set) = self.set {
            return Err(
                Refusal::new(place, "only INSERT INTO can stand in a statement set")
                    .hint(format!("the set that begins at {set} ends with END;")),
            );
        } else if parser.takes("SET") {
            self.setting(parser, place)?;
        } else if parser.takes("CREATE TABLE") || parser.takes("CREATE TEMPORARY TABLE") {
            let (table, skip) = ddl::table(parser, place, &self.names)?;
            if !skip {
                self.names.add_table(&table)?;
                self.tables.push(table);
            }
        } else if parser.takes("CREATE VIEW") || parser.takes("CREATE TEMPORARY VIEW") {
            let (view, relations, skip) = ddl::view(parser, place, &self.names)?;
            if !skip {
                self.names.add_view(&view)?;
                self.views.push(view);
            }
            self.read.extend(relations);
        } else {
            return Err(refused_statement(parser));
        }
        end_of_statement(parser)
    }

    fn begin_set(&mut self, place: Place, parser: &mut Parser) -> Parsed<()> {
        if let Some(set) = self.set {
            return Err(Refusal::new(place, "a statement set inside of another")
                .hint(format!("the set that begins at {set} ends with END;")));
        }
        self.set = Some(place);
        match parser.peek_token_ref().token {
            // `BEGIN;` is how the SQL client takes it, with the INSERT in a statement of its own.
            Token::EOF => Ok(()),
            _ => self.statement(parser),
        }
    }

    /// `SET 'key' = 'value'`.
    fn setting(&mut self, parser: &mut Parser, place: Place) -> Parsed<()> {
        if let Some(insert) = self.inserts.first() {
            return Err(Refusal::new(place, "SET has no effect behind an INSERT")
                .hint(format!("put it before the INSERT at {}", insert.place)));
        }
        if !matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            return Err(
                Refusal::new(parser.here(), "the key of SET stands in single quotes")
                    .hint("SET 'key' = 'value';"),
            );
        }
        let key = plain(parser.text("a key")?);
        parser.symbol(&Token::Eq)?;
        let value = plain(parser.text("a value")?);
        if let Some(before) = self.settings.iter().find(|setting| setting.key == key) {
            return Err(Refusal::new(place, format!("'{key}' is set twice"))
                .hint(format!("it is also set at {}", before.place)));
        }
        self.settings.push(Setting { key, value, place });
        Ok(())
    }

    /// `INSERT INTO t [(columns)] SELECT ..`.
    fn insert(&mut self, parser: &mut Parser, place: Place) -> Parsed<()> {
        let table = parser.name("a table")?;
        if parser.sees("PARTITION") {
            return Err(
                Refusal::new(parser.here(), "INSERT INTO .. PARTITION is not supported")
                    .hint("select the partition's columns like all others"),
            );
        }
        let known = self.names.target(&table)?;
        let lists_columns = parser.peek_token_ref().token == Token::LParen
            && !is_word(parser.peek_nth_token_ref(1), "SELECT")
            && !is_word(parser.peek_nth_token_ref(1), "WITH")
            && parser.peek_nth_token_ref(1).token != Token::LParen;
        let columns = if lists_columns {
            ddl::column_names(parser)?
        } else {
            Vec::new()
        };
        known.check_insert(&columns)?;
        let query = queries::parse(parser)?;
        self.names.check_relations(&query.relations)?;
        self.names.check_relations(&query.looked_up)?;
        self.read
            .extend(query.relations.into_iter().map(|(name, _)| name));
        let columns = columns.into_iter().map(|column| column.value).collect();
        self.inserts.push(Insert {
            table: table.value,
            columns,
            query: query.query,
            place,
        });
        Ok(())
    }

    fn finish(self, path: &str) -> Parsed<Script> {
        if let Some(set) = self.set {
            return Err(
                Refusal::new(set, "this statement set has no end").hint("close it with END;")
            );
        }
        let mut warnings = Vec::new();
        let mut tables = Vec::with_capacity(self.tables.len());
        for mut table in self.tables {
            let uses = options::Uses {
                read: self.read.contains(&table.name),
                written: self.inserts.iter().any(|insert| insert.table == table.name),
            };
            options::check(&mut table, uses, &mut warnings)?;
            tables.push(table);
        }
        for table in &tables {
            check_dead_letters(table, &tables)?;
        }
        Ok(Script {
            path: path.to_owned(),
            settings: self.settings,
            tables: tables.into_iter().map(Arc::new).collect(),
            views: self.views,
            inserts: self.inserts,
            warnings: warnings
                .iter()
                .map(|warning| format!("{path}:{warning}"))
                .collect(),
        })
    }
}

/// The table for a source's dead letters is a table of the job.
fn check_dead_letters(table: &super::Table, tables: &[super::Table]) -> Parsed<()> {
    let Some(OptionValue { value, place }) = table.options.entries.get(options::DEAD_LETTERS)
    else {
        return Ok(());
    };
    let names = tables.iter().map(|table| table.name.as_str());
    if names.clone().any(|name| name == value) {
        return Ok(());
    }
    Err(Refusal::new(
        *place,
        format!("there is no table '{value}' for dead letters"),
    )
    .hint(super::refusal::did_you_mean(value, names)))
}

fn end_of_statement(parser: &Parser) -> Parsed<()> {
    match parser.peek_token_ref().token {
        Token::EOF => Ok(()),
        _ => parser.unexpected("';'"),
    }
}

/// Statements that Flink or sqlparser's other dialects have, by their first words.
const REFUSED: &[(&str, &str)] = &[
    (
        "INSERT OVERWRITE",
        "use INSERT INTO: what was published is never taken back",
    ),
    ("INSERT", "write INSERT INTO table SELECT .."),
    (
        "SELECT",
        "a job writes into tables: INSERT INTO table SELECT ..; look at results with 'tributary query'",
    ),
    (
        "WITH",
        "a job writes into tables: INSERT INTO table WITH .. SELECT ..",
    ),
    (
        "CREATE FUNCTION",
        "functions of one's own are not supported",
    ),
    (
        "CREATE TEMPORARY FUNCTION",
        "functions of one's own are not supported",
    ),
    (
        "CREATE TEMPORARY SYSTEM FUNCTION",
        "functions of one's own are not supported",
    ),
    (
        "CREATE OR REPLACE",
        "leave OR REPLACE out: a job file declares everything once",
    ),
    (
        "CREATE OR ALTER",
        "leave OR ALTER out: a job file declares everything once",
    ),
    (
        "CREATE MATERIALIZED TABLE",
        "use CREATE TABLE and INSERT INTO",
    ),
    (
        "CREATE CATALOG",
        "catalogues are not supported: tables belong to the job file",
    ),
    (
        "CREATE DATABASE",
        "databases are not supported: tables belong to the job file",
    ),
    (
        "USE",
        "catalogues and databases are not supported: tables belong to the job file",
    ),
    (
        "DROP",
        "a job file declares everything once, and leaves out what it does not need",
    ),
    (
        "ALTER",
        "a job file declares everything once: change the CREATE statement",
    ),
    ("RESET", "leave the SET out instead"),
    ("EXPLAIN", "use 'tributary explain'"),
    ("SHOW", "use 'tributary explain'"),
    ("DESCRIBE", "use 'tributary explain'"),
    ("DESC", "use 'tributary explain'"),
    (
        "ADD JAR",
        "there are no jars: connectors and formats are part of Tributary",
    ),
    ("UPDATE", "rows are added, never changed"),
    ("DELETE", "rows are added, never removed"),
    ("TRUNCATE", "rows are added, never removed"),
    ("MERGE", "rows are added, never changed"),
    (
        "EXECUTE",
        "write EXECUTE STATEMENT SET BEGIN INSERT ..; INSERT ..; END;",
    ),
    (
        "BEGIN",
        "write EXECUTE STATEMENT SET BEGIN INSERT ..; INSERT ..; END;",
    ),
    ("END", "there is no statement set to end"),
];

/// The word that should have begun a statement, and with CREATE what should have been created.
fn beginning(parser: &Parser) -> String {
    let first = parser.peek_token_ref().token.to_string();
    if first.eq_ignore_ascii_case("CREATE") {
        return format!("{first} {}", parser.peek_nth_token_ref(1).token);
    }
    first
}

fn refused_statement(parser: &Parser) -> Refusal {
    let place = parser.here();
    match REFUSED.iter().find(|(words, _)| parser.sees(words)) {
        Some((words, hint)) => {
            Refusal::new(place, format!("{words} is not supported here")).hint(*hint)
        }
        None => Refusal::new(place, format!("'{}' does not begin a statement", beginning(parser)))
            .hint("the statements are SET, CREATE TABLE, CREATE VIEW, INSERT INTO and EXECUTE STATEMENT SET"),
    }
}

/// `('key' = 'value', ..)`.
pub(super) fn options(parser: &mut Parser) -> Parsed<Options> {
    let mut options = Options::default();
    parser.symbol(&Token::LParen)?;
    loop {
        let place = parser.here();
        let key = plain(parser.text("an option's key")?);
        parser.symbol(&Token::Eq)?;
        let value = plain(parser.text("an option's value")?);
        if let Some(before) = options.entries.get(&key) {
            return Err(
                Refusal::new(place, format!("the option '{key}' is given twice"))
                    .hint(format!("it is also given at {}", before.place)),
            );
        }
        options.entries.insert(key, OptionValue { value, place });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.symbol(&Token::RParen)?;
    Ok(options)
}
