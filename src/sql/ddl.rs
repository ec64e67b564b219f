//! CREATE TABLE and CREATE VIEW.

use super::names::Names;
use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, plain};
use super::{
    Column, ColumnKind, Options, Place, Table, View, WatermarkClause, queries, statements, types,
};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

/// Reads what follows `CREATE TABLE`, and says whether IF NOT EXISTS makes it void.
pub fn table(parser: &mut Parser, place: Place, names: &Names) -> Parsed<(Table, bool)> {
    let (name, skip) = new_name(parser, "a table", names)?;
    refuse_derived(parser)?;
    parser.symbol(&Token::LParen)?;
    let mut elements = Elements::default();
    loop {
        elements.read(parser)?;
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.symbol(&Token::RParen)?;
    let comment = comment(parser)?;
    if parser.sees("DISTRIBUTED") {
        return Err(
            Refusal::new(parser.here(), "DISTRIBUTED is not supported").hint("leave it out")
        );
    }
    let partitioned_by = if parser.takes("PARTITIONED BY") {
        column_names(parser)?
    } else {
        Vec::new()
    };
    let options = if parser.takes("WITH") {
        statements::options(parser)?
    } else {
        Options::default()
    };
    refuse_derived(parser)?;
    let Elements {
        mut columns,
        watermark,
        primary_key,
    } = elements;
    for column in &mut columns {
        let in_key = primary_key.iter().any(|key| key.value == column.name);
        if let ColumnKind::Physical { not_null, .. } = &mut column.kind {
            *not_null |= in_key;
        }
    }
    let table = Table {
        name: name.value,
        columns,
        watermark,
        primary_key: primary_key
            .iter()
            .map(|column| column.value.clone())
            .collect(),
        partitioned_by: partitioned_by
            .iter()
            .map(|column| column.value.clone())
            .collect(),
        options,
        comment,
        place,
    };
    super::names::check_columns(&table, &primary_key, &partitioned_by)?;
    Ok((table, skip))
}

/// Reads what follows `CREATE VIEW`: the view, the names that it reads, and whether IF NOT EXISTS makes it void.
pub fn view(parser: &mut Parser, place: Place, names: &Names) -> Parsed<(View, Vec<String>, bool)> {
    let (name, skip) = new_name(parser, "a view", names)?;
    let columns = if parser.peek_token_ref().token == Token::LParen {
        let columns = column_names(parser)?;
        super::names::check_unique(&columns)?;
        for column in &columns {
            super::names::refuse_hidden(&column.value, column.span.into())?;
        }
        columns
    } else {
        Vec::new()
    };
    comment(parser)?;
    parser.word("AS")?;
    let read = queries::parse(parser)?;
    names.check_relations(&read.relations)?;
    names.check_relations(&read.looked_up)?;
    let view = View {
        name: name.value,
        columns: columns.into_iter().map(|column| column.value).collect(),
        query: read.query,
        place,
    };
    Ok((
        view,
        read.relations.into_iter().map(|(name, _)| name).collect(),
        skip,
    ))
}

/// `(a, b, ..)`.
pub fn column_names(parser: &mut Parser) -> Parsed<Vec<Ident>> {
    parser.symbol(&Token::LParen)?;
    let mut names = Vec::new();
    loop {
        names.push(parser.name("a column")?);
        comment(parser)?;
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.symbol(&Token::RParen)?;
    Ok(names)
}

/// `[IF NOT EXISTS] name`; the name is new, or IF NOT EXISTS makes the statement void.
fn new_name(parser: &mut Parser, what: &str, names: &Names) -> Parsed<(Ident, bool)> {
    let if_not_exists = parser.takes("IF NOT EXISTS");
    let name = parser.name(what)?;
    match names.place(&name.value) {
        Some(_) if if_not_exists => Ok((name, true)),
        Some(before) => Err(
            Refusal::new(name.span, format!("'{}' is declared twice", name.value))
                .hint(format!("it is also declared at {before}")),
        ),
        None => Ok((name, false)),
    }
}

fn refuse_derived(parser: &Parser) -> Parsed<()> {
    if parser.sees("LIKE") {
        return Err(
            Refusal::new(parser.here(), "CREATE TABLE .. LIKE is not supported yet")
                .hint("write the columns and options out"),
        );
    }
    if parser.sees("AS") {
        return Err(
            Refusal::new(parser.here(), "CREATE TABLE .. AS SELECT is not supported")
                .hint("write CREATE TABLE with its columns, and INSERT INTO it"),
        );
    }
    Ok(())
}

/// `COMMENT '..'`, where there is one.
fn comment(parser: &mut Parser) -> Parsed<Option<String>> {
    if parser.takes("COMMENT") {
        Ok(Some(plain(parser.text("a comment")?)))
    } else {
        Ok(None)
    }
}

/// What stands in the parentheses of CREATE TABLE.
#[derive(Default)]
struct Elements {
    columns: Vec<Column>,
    watermark: Option<WatermarkClause>,
    primary_key: Vec<Ident>,
}

impl Elements {
    fn read(&mut self, parser: &mut Parser) -> Parsed<()> {
        let place = parser.here();
        if parser.takes("WATERMARK FOR") {
            return self.watermark(parser, place);
        }
        if parser.takes("CONSTRAINT") {
            parser.name("a constraint")?;
            parser.word("PRIMARY")?;
            parser.word("KEY")?;
            return self.primary_key(parser, place);
        }
        if parser.takes("PRIMARY KEY") {
            return self.primary_key(parser, place);
        }
        if parser.sees("UNIQUE") || parser.sees("FOREIGN") || parser.sees("CHECK") {
            return Err(Refusal::new(place, "only PRIMARY KEY can be declared"));
        }
        self.column(parser, place)
    }

    fn column(&mut self, parser: &mut Parser, place: Place) -> Parsed<()> {
        let name = parser.name("a column")?;
        let kind = if parser.takes("AS") {
            ColumnKind::Computed {
                expr: queries::parse_expr(parser)?,
            }
        } else {
            self.stored(parser, &name)?
        };
        for (word, hint) in [
            (
                "DEFAULT",
                "Flink has no defaults: write COALESCE(column, value) in the query",
            ),
            ("UNIQUE", "only PRIMARY KEY can be declared"),
            ("REFERENCES", "only PRIMARY KEY can be declared"),
            ("GENERATED", "write column AS expression"),
        ] {
            if parser.sees(word) {
                return Err(
                    Refusal::new(parser.here(), format!("{word} is not supported")).hint(hint),
                );
            }
        }
        let comment = comment(parser)?;
        self.columns.push(Column {
            name: name.value,
            kind,
            comment,
            place,
        });
        Ok(())
    }

    /// A physical column or a metadata column: `TYPE [METADATA [FROM 'key'] [VIRTUAL]] [PRIMARY KEY NOT ENFORCED]`.
    fn stored(&mut self, parser: &mut Parser, name: &Ident) -> Parsed<ColumnKind> {
        let declared = types::parse(parser)?;
        let kind = if parser.takes("METADATA") {
            let key = if parser.takes("FROM") {
                plain(parser.text("the metadata's key")?)
            } else {
                name.value.clone()
            };
            let is_virtual = parser.takes("VIRTUAL");
            ColumnKind::Metadata {
                data_type: declared.data_type,
                key,
                is_virtual,
            }
        } else {
            ColumnKind::Physical {
                data_type: declared.data_type,
                not_null: declared.not_null,
            }
        };
        let constraint = parser.here();
        if parser.takes("CONSTRAINT") {
            parser.name("a constraint")?;
            if !parser.sees("PRIMARY KEY") {
                return parser.unexpected("PRIMARY KEY");
            }
        }
        if parser.takes("PRIMARY KEY") {
            self.set_primary_key(parser, constraint, vec![name.clone()])?;
        }
        Ok(kind)
    }

    fn primary_key(&mut self, parser: &mut Parser, place: Place) -> Parsed<()> {
        let columns = column_names(parser)?;
        self.set_primary_key(parser, place, columns)
    }

    fn set_primary_key(
        &mut self,
        parser: &mut Parser,
        place: Place,
        columns: Vec<Ident>,
    ) -> Parsed<()> {
        if !parser.takes("NOT ENFORCED") {
            return Err(
                Refusal::new(place, "a primary key is not enforced, and has to say so")
                    .hint("write PRIMARY KEY (..) NOT ENFORCED"),
            );
        }
        if !self.primary_key.is_empty() {
            return Err(Refusal::new(place, "the table has two primary keys"));
        }
        self.primary_key = columns;
        Ok(())
    }

    fn watermark(&mut self, parser: &mut Parser, place: Place) -> Parsed<()> {
        let column = parser.name("a column")?;
        parser.word("AS")?;
        let expr = queries::parse_expr(parser)?;
        if self.watermark.is_some() {
            return Err(Refusal::new(place, "the table has two watermarks"));
        }
        self.watermark = Some(WatermarkClause {
            column: column.value,
            expr,
            place,
        });
        Ok(())
    }
}
