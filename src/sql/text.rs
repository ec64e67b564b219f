//! The job file's text: `${NAME}` filled in, and every place still a place in the file as it was written.
//!
//! `${NAME}` is the variable's value, `${NAME:-default}` the default where the variable is missing or empty, as in bash.
//! A value can never change the statement around it:
//!
//! - inside `'..'` a quote in the value is doubled, so that the text is exactly the value;
//! - inside backticks a backtick in the value is doubled likewise;
//! - elsewhere (a number, a name, a list of them) a value with a quote, a semicolon or the beginning of a comment is refused;
//! - in a comment nothing is filled in.
//!
//! A default is part of the file: it stands as it is written.

use super::Place;
use super::refusal::{Parsed, Refusal};

/// A job file's text with its variables filled in.
pub struct Text {
    pub filled: String,
    /// In the order of the filled text; the first one begins at 1:1.
    pieces: Vec<Piece>,
}

/// A run of the filled text that was taken from the file as it is, or that stands for one `${..}`.
struct Piece {
    filled: Place,
    written: Place,
    is_variable: bool,
}

impl Text {
    /// Fills the variables of `written`.
    pub fn fill(written: &str, variable: &dyn Fn(&str) -> Option<String>) -> Parsed<Text> {
        // An editor's byte order mark is not part of the text.
        let written = written.strip_prefix('\u{feff}').unwrap_or(written);
        let mut filler = Filler {
            rest: written,
            at: Place { line: 1, column: 1 },
            filled: String::with_capacity(written.len()),
            filled_at: Place { line: 1, column: 1 },
            pieces: Vec::new(),
        };
        filler.begin_piece(false);
        let mut context = Context::Plain;
        while let Some(next) = filler.rest.chars().next() {
            if filler.rest.starts_with("${") && !context.is_comment() {
                filler.fill_variable(context, variable)?;
                continue;
            }
            context = match context {
                Context::Plain if filler.rest.starts_with("--") => Context::LineComment,
                Context::Plain if filler.rest.starts_with("/*") => {
                    // Both characters, so that the star of `/*/` does not end the comment too.
                    filler.copy();
                    Context::BlockComment
                }
                Context::Plain if next == '\'' => Context::Text,
                Context::Plain if next == '`' => Context::Name,
                // A doubled quote closes and opens again, which comes to the same.
                Context::Text if next == '\'' => Context::Plain,
                Context::Name if next == '`' => Context::Plain,
                Context::LineComment if next == '\n' => Context::Plain,
                Context::BlockComment if filler.rest.starts_with("*/") => {
                    filler.copy();
                    Context::Plain
                }
                same => same,
            };
            filler.copy();
        }
        Ok(Text {
            filled: filler.filled,
            pieces: filler.pieces,
        })
    }

    /// Where in the file something stands that is at `filled` in the filled text.
    pub fn place(&self, filled: Place) -> Place {
        let after = self.pieces.partition_point(|piece| {
            (piece.filled.line, piece.filled.column) <= (filled.line, filled.column)
        });
        let Some(piece) = after
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index))
        else {
            return filled;
        };
        if piece.is_variable {
            piece.written
        } else if filled.line == piece.filled.line {
            let column = piece.written.column + (filled.column - piece.filled.column);
            Place {
                line: piece.written.line,
                column,
            }
        } else {
            Place {
                line: piece.written.line + (filled.line - piece.filled.line),
                ..filled
            }
        }
    }
}

/// What surrounds the character that is looked at.
#[derive(Clone, Copy, PartialEq)]
enum Context {
    Plain,
    Text,
    Name,
    LineComment,
    BlockComment,
}

impl Context {
    fn is_comment(self) -> bool {
        matches!(self, Context::LineComment | Context::BlockComment)
    }
}

struct Filler<'a> {
    rest: &'a str,
    at: Place,
    filled: String,
    filled_at: Place,
    pieces: Vec<Piece>,
}

impl Filler<'_> {
    /// Takes one character over as it is.
    fn copy(&mut self) {
        if let Some(next) = self.rest.chars().next() {
            self.skip(next.len_utf8());
            self.put(next);
        }
    }

    fn put(&mut self, next: char) {
        self.filled.push(next);
        step(&mut self.filled_at, next);
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        skipped.chars().for_each(|next| step(&mut self.at, next));
        self.rest = rest;
    }

    fn begin_piece(&mut self, is_variable: bool) {
        self.pieces.push(Piece {
            filled: self.filled_at,
            written: self.at,
            is_variable,
        });
    }

    fn fill_variable(
        &mut self,
        context: Context,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Parsed<()> {
        let place = self.at;
        let Some(length) = self.rest.find('}') else {
            return Err(Refusal::new(place, "a variable that is not closed")
                .hint("write ${NAME} or ${NAME:-default}"));
        };
        let inside = &self.rest["${".len()..length];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(
                Refusal::new(place, format!("'{name}' is not the name of a variable"))
                    .hint("write ${NAME} or ${NAME:-default}; a name has letters, digits and _"),
            );
        }
        let value = match (variable(name), default) {
            (Some(value), None) => escape(&value, name, context, place)?,
            (Some(value), Some(_)) if !value.is_empty() => escape(&value, name, context, place)?,
            (_, Some(default)) => checked_default(default, name, context, place)?,
            (None, None) => {
                return Err(
                    Refusal::new(place, format!("the variable {name} is not set")).hint(format!(
                        "set {name} in the environment, or give a default: ${{{name}:-default}}"
                    )),
                );
            }
        };
        self.begin_piece(true);
        if context == Context::Plain && self.filled.ends_with('-') && value.starts_with('-') {
            // `a -${X}` with a negative X is a subtraction, not a comment.
            self.put(' ');
        }
        value.chars().for_each(|next| self.put(next));
        self.skip(length + 1);
        self.begin_piece(false);
        Ok(())
    }
}

fn step(at: &mut Place, over: char) {
    if over == '\n' {
        *at = Place {
            line: at.line + 1,
            column: 1,
        };
    } else {
        at.column += 1;
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|next| next.is_ascii_alphanumeric() || next == '_')
}

/// A value as it has to stand in the text so that it stays one value.
fn escape(value: &str, name: &str, context: Context, place: Place) -> Parsed<String> {
    match context {
        Context::Text => Ok(value.replace('\'', "''")),
        Context::Name => Ok(value.replace('`', "``")),
        _ if breaks_out(value) => Err(Refusal::new(
            place,
            format!("the value of {name} has a quote, a semicolon or the beginning of a comment"),
        )
        .hint(format!(
            "a value that is text belongs into quotes: '${{{name}}}'"
        ))),
        _ => Ok(value.to_owned()),
    }
}

fn breaks_out(value: &str) -> bool {
    value.contains(['\'', '"', '`', ';'])
        || value.contains("--")
        || value.contains("/*")
        || value.ends_with(['-', '/'])
}

fn checked_default(default: &str, name: &str, context: Context, place: Place) -> Parsed<String> {
    let quote = match context {
        Context::Text => Some('\''),
        Context::Name => Some('`'),
        _ => None,
    };
    let closes = quote.is_some_and(|quote| {
        default
            .replace(&format!("{quote}{quote}"), "")
            .contains(quote)
    });
    if closes || default.contains("${") {
        return Err(
            Refusal::new(place, format!("the default of {name} cannot be read"))
                .hint("double a quote inside quotes; a default cannot hold another variable"),
        );
    }
    Ok(default.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("a:9092,b:9092".to_owned()),
            "EMPTY" => Some(String::new()),
            "QUOTE" => Some("it's".to_owned()),
            "TICK" => Some("a`b".to_owned()),
            "LINES" => Some("a\nb".to_owned()),
            "NEGATIVE" => Some("-5".to_owned()),
            "EVIL" => Some("1; SET 'a' = 'b'".to_owned()),
            _ => None,
        }
    }

    fn filled(text: &str) -> String {
        Text::fill(text, &variables).unwrap().filled
    }

    #[test]
    fn values_and_defaults() {
        for (written, expected) in [
            ("'${HOST}'", "'a:9092,b:9092'"),
            ("${MISSING:-180}", "180"),
            ("${EMPTY:-5}|${EMPTY}|", "5||"),
            ("'${QUOTE}'", "'it''s'"),
            ("`${TICK}`", "`a``b`"),
            ("'a''${QUOTE}'", "'a''it''s'"),
            ("'${MISSING:-it''s}'", "'it''s'"),
            (
                "-- ${MISSING}\n/* ${MISSING} */ /*/ ${MISSING} */ 1",
                "-- ${MISSING}\n/* ${MISSING} */ /*/ ${MISSING} */ 1",
            ),
            ("'--' ${HOST}", "'--' a:9092,b:9092"),
            ("'/*' ${EMPTY:-x}", "'/*' x"),
            ("a -${NEGATIVE}", "a - -5"),
            ("$5 { }", "$5 { }"),
            ("\u{feff}SET", "SET"),
        ] {
            assert_eq!(filled(written), expected, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_refused_at_its_place() {
        for (written, line, column, message) in [
            ("a\n  ${MISSING}", 2, 3, "the variable MISSING is not set"),
            ("a ${HOST", 1, 3, "a variable that is not closed"),
            ("a ${1}", 1, 3, "'1' is not the name of a variable"),
            (
                "a ${EVIL}",
                1,
                3,
                "the value of EVIL has a quote, a semicolon or the beginning of a comment",
            ),
            (
                "'${MISSING:-it's}'",
                1,
                2,
                "the default of MISSING cannot be read",
            ),
            ("${A:-${B}}", 1, 1, "the default of A cannot be read"),
        ] {
            let refusal = Text::fill(written, &variables).err().unwrap();
            assert_eq!(
                (refusal.place, refusal.message.as_str()),
                (Place { line, column }, message)
            );
        }
    }

    #[test]
    fn places_are_places_in_the_file() {
        let written = "é ${HOST} x '${LINES}' y\nz ${HOST} w";
        let text = Text::fill(written, &variables).unwrap();
        for letter in ['é', 'x', 'y', 'z', 'w'] {
            let find = |text: &str| {
                let mut at = Place { line: 1, column: 1 };
                text.chars()
                    .take_while(|next| *next != letter)
                    .for_each(|c| step(&mut at, c));
                at
            };
            assert_eq!(text.place(find(&text.filled)), find(written), "{letter}");
        }
        // Inside of what was filled in, the place is that of the variable.
        assert_eq!(
            text.place(Place { line: 1, column: 7 }),
            Place { line: 1, column: 3 }
        );
    }
}
