//! What the options of the format `csv` say: one reading of them for who decodes records, who finds their ends in a file, and who writes them.

use super::values::{boolean, character};

/// How the records of one table are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    pub delimiter: char,
    /// Around fields in which something else would mean what it should not; none where quotes mean nothing.
    pub quote: Option<char>,
    /// Takes the next character's meaning away.
    pub escape: Option<char>,
    /// The text that stands for NULL.
    pub null: Option<String>,
    /// Whether records that begin with # are passed over.
    pub comments: bool,
}

/// An option, by its name in the format, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub option: &'static str,
    pub what: String,
}

const DELIMITER: &str = "field-delimiter";
const QUOTE: &str = "quote-character";
const NO_QUOTE: &str = "disable-quote-character";
const ESCAPE: &str = "escape-character";
const NULL: &str = "null-literal";
const COMMENTS: &str = "allow-comments";

impl CsvOptions {
    /// `get` has the options by their names in the format.
    pub fn of<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> Result<CsvOptions, Wrong> {
        let one = |option| match get(option) {
            None => Ok(None),
            Some(given) => match character(given) {
                Some('\n' | '\r') => Err(wrong(option, "a line's end stands between records")),
                Some(char) => Ok(Some(char)),
                None => Err(wrong(option, format!("'{given}' is not one character"))),
            },
        };
        let flag = |option| match get(option) {
            None => Ok(false),
            Some(given) => boolean(given)
                .ok_or_else(|| wrong(option, format!("'{given}' is neither true nor false"))),
        };
        let delimiter = one(DELIMITER)?.unwrap_or(',');
        let quote = match (flag(NO_QUOTE)?, one(QUOTE)?) {
            (true, Some(_)) => {
                return Err(wrong(NO_QUOTE, "cannot stand with a quote-character"));
            }
            (true, None) => None,
            (false, given) => Some(given.unwrap_or('"')),
        };
        // A quote that takes its own meaning away is a doubled one, which means the same in any case.
        let escape = one(ESCAPE)?.filter(|escape| Some(*escape) != quote);
        let parts = [
            (DELIMITER, Some(delimiter)),
            (QUOTE, quote),
            (ESCAPE, escape),
        ];
        for (at, (option, char)) in parts.iter().enumerate() {
            let Some(char) = char else { continue };
            if let Some((other, _)) = parts[..at].iter().find(|(_, one)| *one == Some(*char)) {
                let what = format!("{char:?} is the {other} too; choose another character");
                return Err(wrong(option, what));
            }
            // The ends of records are looked for byte by byte, and part of a character may look like another one.
            if quote.is_some() && !char.is_ascii() {
                let what = format!(
                    "{char:?} is no ASCII character, which it has to be where fields are quoted; choose another one, or '{NO_QUOTE}' = 'true'"
                );
                return Err(wrong(option, what));
            }
        }
        Ok(CsvOptions {
            delimiter,
            quote,
            escape,
            null: get(NULL).map(str::to_owned),
            comments: flag(COMMENTS)?,
        })
    }
}

fn wrong(option: &'static str, what: impl Into<String>) -> Wrong {
    Wrong {
        option,
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &'static str)]) -> Result<CsvOptions, Wrong> {
        CsvOptions::of(|name| {
            let found = options.iter().find(|(option, _)| *option == name);
            found.map(|(_, value)| *value)
        })
    }

    #[test]
    fn the_three_characters_are_different_and_ascii() {
        for (options, option, what) in [
            (&[(QUOTE, ",")][..], QUOTE, "is the field-delimiter too"),
            (&[(ESCAPE, ",")], ESCAPE, "is the field-delimiter too"),
            (&[(DELIMITER, "\"")], QUOTE, "is the field-delimiter too"),
            (&[(DELIMITER, "ä")], DELIMITER, "no ASCII"),
            (&[(QUOTE, "«")], QUOTE, "no ASCII"),
            (&[(ESCAPE, "§")], ESCAPE, "no ASCII"),
            (&[(QUOTE, "<<")], QUOTE, "'<<' is not one character"),
            (&[(DELIMITER, "\\n")], DELIMITER, "a line's end"),
            (
                &[(QUOTE, "'"), (NO_QUOTE, "true")],
                NO_QUOTE,
                "cannot stand",
            ),
            (&[(NO_QUOTE, "no")], NO_QUOTE, "neither true nor false"),
        ] {
            let wrong = of(options).unwrap_err();
            assert_eq!(wrong.option, option, "{options:?}");
            assert!(wrong.what.contains(what), "{options:?}: {}", wrong.what);
        }
    }

    #[test]
    fn what_is_not_given_is_as_in_flink() {
        let plain = of(&[]).unwrap();
        assert_eq!((plain.delimiter, plain.quote), (',', Some('"')));
        assert_eq!((plain.escape, plain.null), (None, None));
        let tabs = of(&[(DELIMITER, "\\t"), (NO_QUOTE, "true")]).unwrap();
        assert_eq!((tabs.delimiter, tabs.quote), ('\t', None));
        // Without quotes no ends of records are looked for but those of lines.
        assert_eq!(
            of(&[(DELIMITER, "ä"), (NO_QUOTE, "true")])
                .unwrap()
                .delimiter,
            'ä'
        );
        assert_eq!(of(&[(ESCAPE, "\"")]).unwrap(), of(&[]).unwrap());
        assert_eq!(of(&[(ESCAPE, "\\\\")]).unwrap().escape, Some('\\'));
    }
}
