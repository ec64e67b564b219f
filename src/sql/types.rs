//! Flink's types as Arrow's.
//!
//! STRING, VARCHAR(n), CHAR(n) = Utf8; BOOLEAN; TINYINT..BIGINT = Int8..Int64; FLOAT, DOUBLE; DECIMAL(p,s) = Decimal128;
//! DATE = Date32; TIME(p) = Time32(Millisecond); TIMESTAMP(p) = Timestamp without zone, in milliseconds for p <= 3, microseconds
//! for p <= 6, nanoseconds above; TIMESTAMP_LTZ(p) the same with the zone "UTC"; BYTES, VARBINARY(n), BINARY(n) = Binary;
//! ARRAY<T> = List with "item"; MAP<K,V> = Map of "entries" with "key" and "value"; ROW<..> = Struct. A field, an item or a
//! value is nullable unless its type says NOT NULL.
//!
//! A length is not enforced in a column, which is also Flink's default (`table.exec.sink.type-length-enforcer`). In a CAST
//! Flink cuts off or pads, and drops digits of a second, which Arrow's types cannot say: such casts are refused.

use super::Place;
use super::refusal::{Parsed, Refusal};
use super::syntax::{Walk, read, tokens};
use super::text::Text;
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::sync::Arc;

/// The zone of TIMESTAMP_LTZ.
pub const UTC: &str = "UTC";

/// A type as it is declared, with its nullability.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    pub data_type: DataType,
    pub not_null: bool,
    /// Why no value can be cast to this type; nothing where it can.
    uncastable: Option<&'static str>,
}

/// The Arrow type of a type in a query's tree: those that [`super::queries`] hands over, and no others.
pub fn of_ast(data_type: &ast::DataType) -> Option<DataType> {
    let ast::DataType::Custom(name, _) = data_type else {
        return None;
    };
    let [ast::ObjectNamePart::Identifier(text)] = name.0.as_slice() else {
        return None;
    };
    let text = Text::fill(&text.value, &|_| None).ok()?;
    let declared = read(tokens(&text).ok()?, Place::default(), parse).ok()?;
    Some(declared.data_type)
}

/// An Arrow type in Flink's words, for messages.
pub fn flink_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "STRING".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let name = if zone.is_some() {
                "TIMESTAMP_LTZ"
            } else {
                "TIMESTAMP"
            };
            let precision = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            format!("{name}({precision})")
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_owned(),
        DataType::List(item) => format!("ARRAY<{}>", flink_field(item)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types: Vec<_> = match &fields[..] {
                    // A key is never NULL, and nobody writes so.
                    [key, value] => vec![flink_name(key.data_type()), flink_field(value)],
                    other => other.iter().map(|field| flink_field(field)).collect(),
                };
                format!("MAP<{}>", types.join(", "))
            }
            other => flink_name(other),
        },
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| format!("{} {}", quoted(field.name()), flink_field(field)))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Null => "NULL".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        other => other.to_string(),
    }
}

fn flink_field(field: &Field) -> String {
    let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("{}{not_null}", flink_name(field.data_type()))
}

/// A name as it can be written: in backticks where it is not a plain word.
fn quoted(name: &str) -> String {
    let plain = name
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && name
            .chars()
            .all(|next| next.is_alphanumeric() || next == '_');
    if plain {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('`', "``"))
    }
}

/// Reads a type and its `NOT NULL`.
pub fn parse(parser: &mut Parser) -> Parsed<Declared> {
    let mut types = Types {
        parser,
        spare_close: false,
        depth: 0,
    };
    let declared = types.declared()?;
    if types.spare_close {
        return Err(Refusal::new(parser.here(), "one '>' too many"));
    }
    Ok(declared)
}

/// Reads the type of a CAST, and gives it in the form that only [`of_ast`] can read.
pub fn parse_for_cast(parser: &mut Parser) -> Parsed<ast::DataType> {
    let place = parser.here();
    let declared = parse(parser)?;
    match declared.uncastable {
        Some(hint) => Err(Refusal::new(place, "a cast to this type is not supported").hint(hint)),
        None => Ok(custom(flink_name(&declared.data_type))),
    }
}

/// The type of `TIMESTAMP '..'`, `DATE '..'` and `TIME '..'`: a timestamp is as precise as it is written.
pub fn of_literal(word: &str, text: &str) -> ast::DataType {
    match word {
        "TIMESTAMP" => {
            let digits = text
                .rsplit_once('.')
                .map_or(0, |(_, digits)| digits.trim_end().len());
            custom(format!(
                "TIMESTAMP({})",
                digits.next_multiple_of(3).clamp(3, 9)
            ))
        }
        _ => custom(word.to_owned()),
    }
}

fn custom(text: String) -> ast::DataType {
    ast::DataType::Custom(ObjectName::from(Ident::new(text)), Vec::new())
}

/// Nobody nests types so deeply, and each level takes a piece of the stack.
const MAX_DEPTH: usize = 30;

struct Types<'p, 'a> {
    parser: &'p mut Parser<'a>,
    /// `>>` is one token: it closed the inner type, and still has to close the outer one.
    spare_close: bool,
    depth: usize,
}

impl Types<'_, '_> {
    fn declared(&mut self) -> Parsed<Declared> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Refusal::new(
                self.parser.here(),
                "the type is nested too deeply",
            ));
        }
        let declared = self.nullable();
        self.depth -= 1;
        declared
    }

    fn nullable(&mut self) -> Parsed<Declared> {
        let (data_type, uncastable) = self.data_type()?;
        let not_null = !self.spare_close && self.parser.takes("NOT NULL");
        if !not_null && !self.spare_close {
            // Every type is nullable unless it says otherwise, so the word alone says nothing.
            let _ = self.parser.takes("NULL");
        }
        if !self.spare_close && self.parser.sees("ARRAY") {
            return Err(Refusal::new(
                self.parser.here(),
                "an array's type stands before its items'",
            )
            .hint("write ARRAY<type>"));
        }
        Ok(Declared {
            data_type,
            not_null,
            uncastable,
        })
    }

    fn data_type(&mut self) -> Parsed<(DataType, Option<&'static str>)> {
        const LENGTH: &str =
            "cast to STRING; cut off with LEFT(text, n) or SUBSTRING(text FROM 1 FOR n)";
        const DIGITS: &str = "a timestamp can be cast to precision 3, 6 or 9";
        let token = self.parser.next_token();
        let word = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            other => {
                return Err(Refusal::new(
                    token.span,
                    format!("expected a type, found {other}"),
                ));
            }
        };
        let plain = match word.as_str() {
            "STRING" => DataType::Utf8,
            "BOOLEAN" => DataType::Boolean,
            "TINYINT" => DataType::Int8,
            "SMALLINT" => DataType::Int16,
            "INT" | "INTEGER" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            "FLOAT" => DataType::Float32,
            "DOUBLE" => {
                let _ = self.parser.takes("PRECISION");
                DataType::Float64
            }
            "DATE" => DataType::Date32,
            "BYTES" => DataType::Binary,
            "VARCHAR" | "CHAR" => {
                self.length()?;
                return Ok((DataType::Utf8, Some(LENGTH)));
            }
            "VARBINARY" | "BINARY" => {
                self.length()?;
                return Ok((DataType::Binary, Some("cast to BYTES")));
            }
            "DECIMAL" | "NUMERIC" | "DEC" => self.decimal()?,
            "TIME" => {
                self.precision(0, "TIME")?;
                self.parser.takes("WITHOUT TIME ZONE");
                DataType::Time32(TimeUnit::Millisecond)
            }
            "TIMESTAMP" => {
                let precision = self.precision(6, "TIMESTAMP")?;
                let zone = self.zone()?;
                let castable = precision % 3 == 0 && precision > 0;
                return Ok((timestamp(precision, zone), (!castable).then_some(DIGITS)));
            }
            "TIMESTAMP_LTZ" => {
                let precision = self.precision(6, "TIMESTAMP_LTZ")?;
                let castable = precision % 3 == 0 && precision > 0;
                return Ok((timestamp(precision, true), (!castable).then_some(DIGITS)));
            }
            "ARRAY" => {
                self.open()?;
                let item = self.declared()?;
                self.close()?;
                let field = Field::new("item", item.data_type, !item.not_null);
                return Ok((DataType::List(Arc::new(field)), item.uncastable));
            }
            "MULTISET" => {
                self.open()?;
                let item = self.declared()?;
                self.close()?;
                return Ok((super::functions::multiset(item.data_type), item.uncastable));
            }
            "MAP" => {
                self.open()?;
                let key = self.declared()?;
                self.comma()?;
                let value = self.declared()?;
                self.close()?;
                let entries = DataType::Struct(
                    vec![
                        Field::new("key", key.data_type, false),
                        Field::new("value", value.data_type, !value.not_null),
                    ]
                    .into(),
                );
                let entries = Arc::new(Field::new("entries", entries, false));
                let uncastable = key.uncastable.or(value.uncastable);
                return Ok((DataType::Map(entries, false), uncastable));
            }
            "ROW" => return self.row(),
            _ => return Err(unknown(&word, token.span.into())),
        };
        Ok((plain, None))
    }

    /// `ROW<name TYPE ['comment'], ..>`, also with parentheses.
    fn row(&mut self) -> Parsed<(DataType, Option<&'static str>)> {
        let round = self.parser.consume_token(&Token::LParen);
        if !round {
            self.open()?;
        }
        let mut fields: Vec<Field> = Vec::new();
        let mut uncastable = None;
        loop {
            let name = self.parser.name("a field")?;
            if fields.iter().any(|field| *field.name() == name.value) {
                return Err(Refusal::new(
                    name.span,
                    format!("the row has two fields '{}'", name.value),
                ));
            }
            let declared = self.declared()?;
            uncastable = uncastable.or(declared.uncastable);
            fields.push(Field::new(
                name.value,
                declared.data_type,
                !declared.not_null,
            ));
            if self.spare_close {
                break;
            }
            if let Token::SingleQuotedString(_) = self.parser.peek_token_ref().token {
                self.parser.advance_token();
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if round {
            self.parser.symbol(&Token::RParen)?;
        } else {
            self.close()?;
        }
        Ok((DataType::Struct(fields.into()), uncastable))
    }

    fn decimal(&mut self) -> Parsed<DataType> {
        let place = self.parser.here();
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(DataType::Decimal128(10, 0));
        }
        let precision = self.number()?;
        let scale = if self.parser.consume_token(&Token::Comma) {
            self.number()?
        } else {
            0
        };
        self.parser.symbol(&Token::RParen)?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(Refusal::new(
                place,
                format!("DECIMAL({precision}, {scale}) is not possible"),
            )
            .hint("DECIMAL(p, s) has 1 <= p <= 38 digits, 0 <= s <= p of them behind the point"));
        }
        // Both are at most 38 now.
        Ok(DataType::Decimal128(precision as u8, scale as i8))
    }

    /// `(n)`, which changes nothing.
    fn length(&mut self) -> Parsed<()> {
        if self.parser.consume_token(&Token::LParen) {
            self.number()?;
            self.parser.symbol(&Token::RParen)?;
        }
        Ok(())
    }

    fn precision(&mut self, default: u32, of: &str) -> Parsed<u32> {
        let place = self.parser.here();
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(default);
        }
        let precision = self.number()?;
        self.parser.symbol(&Token::RParen)?;
        if precision > 9 {
            return Err(
                Refusal::new(place, format!("{of}({precision}) is not possible"))
                    .hint("the precision of a second is 0 to 9 digits"),
            );
        }
        Ok(precision)
    }

    fn number(&mut self) -> Parsed<u32> {
        let token = self.parser.next_token();
        match &token.token {
            Token::Number(digits, false) => digits.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| {
            Refusal::new(
                token.span,
                format!("expected a number, found {}", token.token),
            )
        })
    }

    /// `WITH LOCAL TIME ZONE` and its relatives: whether it is local.
    fn zone(&mut self) -> Parsed<bool> {
        if self.spare_close {
            return Ok(false);
        }
        if self.parser.takes("WITH LOCAL TIME ZONE") {
            return Ok(true);
        }
        if self.parser.sees("WITH TIME ZONE") {
            return Err(Refusal::new(
                self.parser.here(),
                "TIMESTAMP WITH TIME ZONE is not supported",
            )
            .hint("use TIMESTAMP_LTZ(p), a moment, or TIMESTAMP(p), a wall clock"));
        }
        let _ = self.parser.takes("WITHOUT TIME ZONE");
        Ok(false)
    }

    fn open(&mut self) -> Parsed<()> {
        self.parser.symbol(&Token::Lt)
    }

    fn comma(&mut self) -> Parsed<()> {
        if self.spare_close {
            return Err(Refusal::new(self.parser.here(), "one '>' too many"));
        }
        self.parser.symbol(&Token::Comma)
    }

    fn close(&mut self) -> Parsed<()> {
        if self.spare_close {
            self.spare_close = false;
            return Ok(());
        }
        if self.parser.consume_token(&Token::ShiftRight) {
            self.spare_close = true;
            return Ok(());
        }
        self.parser.symbol(&Token::Gt)
    }
}

fn timestamp(precision: u32, local: bool) -> DataType {
    let unit = match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    DataType::Timestamp(unit, local.then(|| UTC.into()))
}

fn unknown(word: &str, place: Place) -> Refusal {
    let refusal = Refusal::new(place, format!("the type {word} is not supported"));
    let hint = match word {
        "TEXT" => "use STRING",
        "BOOL" => "use BOOLEAN",
        "REAL" | "FLOAT4" => "use FLOAT",
        "INT8" | "LONG" => "use BIGINT",
        "DATETIME" => "use TIMESTAMP(3)",
        "TIMESTAMPTZ" => "use TIMESTAMP_LTZ(3)",
        "STRUCT" => "use ROW<name type, ..>",
        "JSON" | "VARIANT" => {
            "use STRING and JSON_VALUE, or declare the fields with ROW<name type, ..>"
        }
        "RAW" | "INTERVAL" | "NULL" | "SYMBOL" => "",
        _ => {
            "the types are STRING, VARCHAR, CHAR, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL, DATE, TIME, \
             TIMESTAMP, TIMESTAMP_LTZ, BYTES, VARBINARY, BINARY, ARRAY, MAP and ROW"
        }
    };
    refusal.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(sql: &str) -> Parsed<Declared> {
        let text = Text::fill(sql, &|_| None)?;
        read(tokens(&text)?, Place { line: 9, column: 9 }, |parser| {
            let declared = parse(parser)?;
            if parser.peek_token_ref().token == Token::EOF {
                Ok(declared)
            } else {
                parser.unexpected("the end")
            }
        })
    }

    #[test]
    fn flinks_names_and_back() {
        for (sql, name) in [
            ("string", "STRING"),
            ("VARCHAR(20)", "STRING"),
            ("CHAR", "STRING"),
            ("INTEGER", "INT"),
            ("double precision", "DOUBLE"),
            ("DECIMAL", "DECIMAL(10, 0)"),
            ("DEC(12)", "DECIMAL(12, 0)"),
            ("NUMERIC(12, 2)", "DECIMAL(12, 2)"),
            ("TIME(3) WITHOUT TIME ZONE", "TIME"),
            ("TIMESTAMP", "TIMESTAMP(6)"),
            ("TIMESTAMP(0)", "TIMESTAMP(3)"),
            ("TIMESTAMP(4) WITHOUT TIME ZONE", "TIMESTAMP(6)"),
            ("TIMESTAMP(9)", "TIMESTAMP(9)"),
            ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(6)"),
            ("VARBINARY(3)", "BYTES"),
            ("ARRAY<INT NOT NULL>", "ARRAY<INT NOT NULL>"),
            (
                "ARRAY<ARRAY<ROW<a INT, `b c` ARRAY<STRING>>>>",
                "ARRAY<ARRAY<ROW<a INT, `b c` ARRAY<STRING>>>>",
            ),
            ("MAP<STRING, ARRAY<DOUBLE>>", "MAP<STRING, ARRAY<DOUBLE>>"),
            (
                "ROW(a INT 'first', b STRING NOT NULL)",
                "ROW<a INT, b STRING NOT NULL>",
            ),
            (
                "ROW<a ROW<b INT NOT NULL> NOT NULL>",
                "ROW<a ROW<b INT NOT NULL> NOT NULL>",
            ),
        ] {
            let declared = declared(sql).unwrap();
            assert_eq!(flink_name(&declared.data_type), name, "{sql}");
            assert_eq!(
                of_ast(&custom(name.to_owned())),
                Some(declared.data_type),
                "{sql}"
            );
        }
    }

    #[test]
    fn not_null_belongs_to_the_type() {
        assert!(declared("BIGINT NOT NULL").unwrap().not_null);
        assert!(!declared("BIGINT NULL").unwrap().not_null);
        assert!(!declared("ARRAY<BIGINT NOT NULL>").unwrap().not_null);
    }

    #[test]
    fn arrow_types_are_those_of_the_contract() {
        let map = declared("MAP<STRING, BYTES>").unwrap().data_type;
        let entries = DataType::Struct(
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", DataType::Binary, true),
            ]
            .into(),
        );
        assert_eq!(
            map,
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        );
        assert_eq!(
            declared("TIMESTAMP_LTZ(3)").unwrap().data_type,
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
        );
        assert_eq!(
            declared("TIME").unwrap().data_type,
            DataType::Time32(TimeUnit::Millisecond)
        );
    }

    #[test]
    fn what_is_not_a_type_is_refused() {
        for (sql, column, message) in [
            ("TEXT", 1, "the type TEXT is not supported"),
            ("ROW<a INT, a INT>", 12, "the row has two fields 'a'"),
            (
                "ARRAY<INT",
                9,
                "expected '>', found the end of the statement",
            ),
            ("ARRAY<INT>>", 9, "one '>' too many"),
            ("DECIMAL(39, 2)", 8, "DECIMAL(39, 2) is not possible"),
            ("TIMESTAMP(10)", 10, "TIMESTAMP(10) is not possible"),
            (
                "TIMESTAMP(3) WITH TIME ZONE",
                14,
                "TIMESTAMP WITH TIME ZONE is not supported",
            ),
            ("INT ARRAY", 5, "an array's type stands before its items'"),
            ("MAP<INT>", 8, "expected ',', found >"),
            ("ROW<1 INT>", 5, "expected the name of a field, found 1"),
        ] {
            let refusal = declared(sql).unwrap_err();
            assert_eq!(
                (refusal.place.column, refusal.message.as_str()),
                (column, message),
                "{sql}"
            );
        }
    }
}
