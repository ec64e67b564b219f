//! Partition projection, as a job asks for it: Athena works a table's partitions out from its properties, and none are registered.
//!
//! What Athena would refuse when somebody queries the table is refused here, at its place in the job. So is what would silently hide
//! rows: a format, or a number of digits, that is not how the folders are named. The plan knows how: where a column is made by
//! DATE_FORMAT or EXTRACT, its type, format, unit, digits and often its range need not be said.

use super::evolve::PROJECTED_BY_JOB;
use super::{PROJECTION_ENABLED, hive};
use crate::plan::{Graph, Origin};
use crate::sink::escaped;
use crate::sql::connectors::filesystem::{INTERVAL_UNITS as UNITS, PROJECTION};
use crate::sql::functions::{Pattern, Reading};
use crate::sql::refusal::{Parsed, Refusal};
use crate::sql::types::flink_name;
use crate::sql::{ColumnKind, OptionValue, Place, Table, values};
use arrow::datatypes::DataType;
use std::collections::BTreeMap;
use std::fmt::Write;

const TEMPLATE: &str = "storage.location.template";
/// How a DATE names its folders.
const ISO_DATE: &str = "yyyy-MM-dd";

/// The properties that a table gets, and what is to be said about them.
#[derive(Debug, Default)]
pub struct Projected {
    pub parameters: BTreeMap<String, String>,
    pub warnings: Vec<Refusal>,
}

/// The projection of a table, nothing where it has none.
pub fn of(table: &Table, graph: &Graph) -> Parsed<Projected> {
    let mut projected = Projected::default();
    let enabled = format!("{PROJECTION}enabled");
    let Some(switch) = table.options.entries.get(&enabled) else {
        let mut entries = table.options.entries.iter();
        let idle = entries.find(|(key, _)| key.starts_with(PROJECTION));
        return match idle {
            None => Ok(projected),
            Some((key, entry)) => Err(Refusal::new(
                entry.place,
                format!("'{key}' needs '{enabled}' = 'true'"),
            )),
        };
    };
    if table.options.boolean(&enabled) != Some(true) {
        return Ok(projected);
    }
    if table.partitioned_by.is_empty() {
        return Err(Refusal::new(
            switch.place,
            format!("the table '{}' has no partitions to project", table.name),
        )
        .hint("add PARTITIONED BY, or leave the option out"));
    }
    let mut reachable = true;
    for name in &table.partitioned_by {
        let column = Column::of(table, name, graph, switch.place)?;
        for (word, value) in column.properties()? {
            let key = format!("projection.{}.{word}", hive::lower(name));
            projected.parameters.insert(key, value);
        }
        let kind = table.column(name).map(|column| &column.kind);
        reachable &= matches!(kind, Some(ColumnKind::Physical { not_null: true, .. }));
    }
    if !reachable {
        projected.warnings.push(
            Refusal::new(
                switch.place,
                format!(
                    "rows of '{}' in which a partition column is NULL are in a folder that projection does not reach: Athena will not see them",
                    table.name
                ),
            )
            .hint(format!(
                "declare {} as NOT NULL, or filter such rows out",
                table.partitioned_by.join(", ")
            )),
        );
    }
    projected.parameters.extend(template(table));
    for key in [PROJECTION_ENABLED, PROJECTED_BY_JOB] {
        projected
            .parameters
            .insert(key.to_owned(), "true".to_owned());
    }
    Ok(projected)
}

/// Where the partitions lie, if that has to be said: Athena knows only names in lower case.
fn template(table: &Table) -> Option<(String, String)> {
    let mut folders = String::new();
    for name in &table.partitioned_by {
        // Writing into a String cannot fail.
        let _ = write!(folders, "{}=${{{}}}/", escaped(name), hive::lower(name));
    }
    let usual = |name: &String| escaped(name) == hive::lower(name);
    if table.partitioned_by.iter().all(usual) {
        return None;
    }
    let path = table.options.get("path").unwrap_or_default();
    let location = super::definition::location(path);
    Some((TEMPLATE.to_owned(), format!("{location}/{folders}")))
}

/// A column that a projected table is partitioned by.
struct Column<'a> {
    table: &'a Table,
    name: &'a str,
    data_type: &'a DataType,
    /// How all its values come about, where the plan tells.
    origin: Option<Origin>,
    /// Where projection was asked for.
    place: Place,
}

/// The words that go with a type, beside the type itself.
const WORDS: &[(&str, &[&str])] = &[
    ("date", &["range", "format", "interval", "interval.unit"]),
    ("integer", &["range", "interval", "digits"]),
    ("enum", &["values"]),
    ("injected", &[]),
];

impl<'a> Column<'a> {
    fn of(table: &'a Table, name: &'a str, graph: &Graph, place: Place) -> Parsed<Column<'a>> {
        let Some(ColumnKind::Physical { data_type, .. }) =
            table.column(name).map(|column| &column.kind)
        else {
            return Err(Refusal::new(place, format!("there is no column '{name}'")));
        };
        let origin = match graph.origins(&table.name, name).as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        };
        Ok(Column {
            table,
            name,
            data_type,
            origin,
            place,
        })
    }

    /// The full name of one of its options.
    fn key(&self, word: &str) -> String {
        format!("{PROJECTION}{}.{word}", self.name)
    }

    /// An option; its column may be written in upper case or in lower.
    fn get(&self, word: &str) -> Option<&'a OptionValue> {
        let wanted = self.key(word);
        let mut entries = self.table.options.entries.iter();
        entries
            .find(|(key, _)| key.eq_ignore_ascii_case(&wanted))
            .map(|(_, entry)| entry)
    }

    fn value(&self, word: &str) -> Option<&'a str> {
        self.get(word).map(|entry| entry.value.as_str())
    }

    fn refuse(&self, word: &str, message: String) -> Refusal {
        Refusal::new(
            self.get(word).map_or(self.place, |entry| entry.place),
            message,
        )
    }

    fn missing(&self, word: &str, example: &str) -> Refusal {
        self.refuse(
            word,
            format!(
                "the projection of '{}' needs '{}'",
                self.name,
                self.key(word)
            ),
        )
        .hint(format!("for example '{}' = '{example}'", self.key(word)))
    }

    fn properties(&self) -> Parsed<Vec<(&'static str, String)>> {
        let kind = self.kind()?;
        let allowed = WORDS
            .iter()
            .find(|(word, _)| *word == kind)
            .map_or(&[][..], |(_, words)| *words);
        for (owner, words) in WORDS {
            for word in *words {
                if !allowed.contains(word) && self.get(word).is_some() {
                    return Err(self.refuse(
                        word,
                        format!(
                            "'{}' is for the type {owner}, and '{}' has the type {kind}",
                            self.key(word),
                            self.name
                        ),
                    ));
                }
            }
        }
        let mut properties = match kind {
            "date" => self.date()?,
            "integer" => self.integer()?,
            "enum" => self.values()?,
            _ => Vec::new(),
        };
        properties.push(("type", kind.to_owned()));
        Ok(properties)
    }

    /// The type of projection: what is said, or what the column's type and its origin leave no doubt about.
    fn kind(&self) -> Parsed<&'static str> {
        let said = self.value("type").and_then(|said| {
            let mut words = WORDS.iter().map(|(word, _)| *word);
            words.find(|word| *word == said)
        });
        let inferred = match (self.data_type, self.pattern()) {
            (DataType::Date32, _) => Some("date"),
            (data_type, _) if data_type.is_integer() => Some("integer"),
            (DataType::Utf8, Some(pattern)) => match letters(pattern).as_slice() {
                [(letter, _)] if span(*letter).is_some() => Some("integer"),
                letters if letters.iter().any(|(letter, _)| "yu".contains(*letter)) => Some("date"),
                _ => None,
            },
            _ => None,
        };
        let Some(kind) = said.or(inferred) else {
            return Err(self.missing("type", "enum").hint(format!(
                "how the values of '{}' come about is not known: say '{}' = 'date', 'integer', 'enum' or 'injected'",
                self.name,
                self.key("type")
            )));
        };
        let fits = match (kind, self.data_type) {
            ("date", DataType::Date32) | (_, DataType::Utf8) => true,
            ("integer", DataType::Int32 | DataType::Int64) => true,
            ("injected", data_type) => data_type.is_integer(),
            _ => false,
        };
        if !fits {
            return Err(self
                .refuse(
                    "type",
                    format!(
                        "'{}' is of type {}, which Athena does not project as {kind}",
                        self.name,
                        flink_name(self.data_type)
                    ),
                )
                .hint("a STRING can be projected as anything, an INT or BIGINT as integer, a DATE as date"));
        }
        Ok(kind)
    }

    /// The pattern that all its values are written with, where it is known.
    fn pattern(&self) -> Option<&str> {
        match (&self.origin, self.data_type) {
            (_, DataType::Date32) => Some(ISO_DATE),
            (Some(Origin::Formatted(pattern)), DataType::Utf8) => Some(pattern),
            _ => None,
        }
    }

    fn date(&self) -> Parsed<Vec<(&'static str, String)>> {
        let format = match (self.value("format"), self.pattern()) {
            (Some(said), Some(written)) if said != written => {
                return Err(self
                    .refuse(
                        "format",
                        format!("'{}' is written as {written}, not as {said}", self.name),
                    )
                    .hint("Athena would look for folders that are not there"));
            }
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) => return Err(self.missing("format", ISO_DATE)),
        };
        let pattern = Pattern::compile(format).map_err(|why| self.refuse("format", why))?;
        let mut sample = String::new();
        pattern.format(0, 0, &mut sample);
        if escaped(&sample) != sample {
            return Err(self
                .refuse(
                    "format",
                    format!("the format {format} makes folders whose names have escapes in them"),
                )
                .hint("write it without : and /, also in the SELECT"));
        }
        let letters = letters(format);
        let finest = letters.iter().filter_map(|(letter, _)| unit(*letter)).max();
        let Some(finest) = finest else {
            return Err(self.refuse(
                "format",
                format!("the format {format} says nothing of the date"),
            ));
        };
        let step = match self.value("interval.unit") {
            Some(said) => UNITS.iter().position(|unit| *unit == said),
            None => None,
        };
        let step = step.unwrap_or(finest);
        if step > finest {
            return Err(self.refuse(
                "interval.unit",
                format!(
                    "the format {format} says no {}, so one value would come up many times",
                    UNITS[step]
                ),
            ));
        }
        let (first, last) = self.range("2024-01-01,NOW")?;
        let moment = |text: &str| -> Parsed<Option<i64>> {
            if is_relative(text) {
                return Ok(None);
            }
            let moment = pattern.parse(text, Reading::Strict);
            moment.map(Some).ok_or_else(|| {
                self.refuse(
                    "range",
                    format!("'{text}' is neither written as {format} nor relative to now"),
                )
                .hint("relative are NOW, NOW-3YEARS, NOW+1DAYS and their like")
            })
        };
        if let (Some(first), Some(last)) = (moment(first)?, moment(last)?)
            && first > last
        {
            return Err(self.refuse("range", "the range ends before it begins".to_owned()));
        }
        Ok(vec![
            ("format", format.to_owned()),
            ("range", format!("{first},{last}")),
            ("interval", self.interval()?),
            ("interval.unit", UNITS[step].to_owned()),
        ])
    }

    fn integer(&self) -> Parsed<Vec<(&'static str, String)>> {
        let known = match (&self.origin, self.pattern().map(letters).as_deref()) {
            (_, Some([(letter, count)])) => span(*letter).map(|span| (span, *count)),
            (Some(Origin::Extracted(unit)), _) => {
                let letter = EXTRACTED.iter().find(|(name, _)| name == unit);
                letter
                    .and_then(|(_, letter)| span(*letter))
                    .map(|span| (span, 1))
            }
            _ => None,
        };
        let mut properties = vec![("interval", self.interval()?)];
        let (first, last) = match (self.get("range"), known) {
            (None, Some(((first, last), _))) => (first, last),
            _ => {
                let (first, last) = self.range("0,23")?;
                let number = |text: &str| {
                    text.parse::<i64>().map_err(|_| {
                        self.refuse("range", format!("'{text}' is not a whole number"))
                    })
                };
                (number(first)?, number(last)?)
            }
        };
        if first > last {
            return Err(self.refuse("range", "the range ends before it begins".to_owned()));
        }
        properties.push(("range", format!("{first},{last}")));
        let said = self.value("digits").and_then(values::integer);
        // A number names its folder without zeros in front.
        let written = match (self.data_type, known) {
            (DataType::Utf8, Some((_, count))) => Some(count as u64),
            (DataType::Utf8, None) => None,
            _ => Some(1),
        };
        if let (Some(said), Some(written)) = (said, written)
            && said.max(1) != written
        {
            return Err(self
                .refuse(
                    "digits",
                    format!(
                        "'{}' is written with {written} digits at least, not with {said}",
                        self.name
                    ),
                )
                .hint("Athena would look for folders that are not there"));
        }
        if let Some(digits) = said.or(written).filter(|digits| *digits > 1) {
            properties.push(("digits", digits.to_string()));
        }
        Ok(properties)
    }

    fn values(&self) -> Parsed<Vec<(&'static str, String)>> {
        let Some(values) = self.value("values") else {
            return Err(self.missing("values", "a,b,c"));
        };
        // A space is part of a value to Athena.
        for value in values.split(',') {
            if value.is_empty() || value.trim() != value {
                return Err(self
                    .refuse(
                        "values",
                        format!("'{value}' is a value with spaces around it, or an empty one"),
                    )
                    .hint("Athena takes spaces as they stand: write a,b,c"));
            }
            if escaped(value) != value {
                return Err(self.refuse(
                    "values",
                    format!("the folder of '{value}' has escapes in its name, which projection does not make"),
                ));
            }
        }
        Ok(vec![("values", values.to_owned())])
    }

    fn range(&self, example: &str) -> Parsed<(&'a str, &'a str)> {
        let Some(range) = self.value("range") else {
            return Err(self.missing("range", example));
        };
        match range.split(',').map(str::trim).collect::<Vec<_>>()[..] {
            [first, last] if !first.is_empty() && !last.is_empty() => Ok((first, last)),
            _ => Err(self
                .refuse("range", format!("'{range}' is not a range"))
                .hint(format!(
                    "a range is two values with a comma between them: '{example}'"
                ))),
        }
    }

    fn interval(&self) -> Parsed<String> {
        match self.value("interval").map(values::integer) {
            None => Ok("1".to_owned()),
            Some(Some(interval)) if interval > 0 => Ok(interval.to_string()),
            Some(_) => Err(self.refuse("interval", "the interval has to be 1 or more".to_owned())),
        }
    }
}

/// The unit that a letter of a pattern tells, as an index into [`UNITS`].
fn unit(letter: char) -> Option<usize> {
    Some(match letter {
        'y' | 'u' => 0,
        'M' | 'L' => 1,
        'd' | 'D' | 'E' => 3,
        'H' | 'h' | 'k' | 'K' | 'a' => 4,
        'm' => 5,
        's' => 6,
        'S' => 7,
        _ => return None,
    })
}

/// The numbers that a letter can stand for by itself.
fn span(letter: char) -> Option<(i64, i64)> {
    Some(match letter {
        'H' => (0, 23),
        'm' | 's' => (0, 59),
        'd' => (1, 31),
        'M' => (1, 12),
        _ => return None,
    })
}

/// What EXTRACT takes out, as the letter of a pattern.
const EXTRACTED: &[(&str, char)] = &[
    ("HOUR", 'H'),
    ("MINUTE", 'm'),
    ("SECOND", 's'),
    ("DAY", 'd'),
    ("MONTH", 'M'),
];

/// The letters of a pattern outside of quotes, each with how often it is repeated.
pub(super) fn letters(pattern: &str) -> Vec<(char, usize)> {
    let mut found: Vec<(char, usize)> = Vec::new();
    let mut quoted = false;
    let mut before = None;
    for next in pattern.chars() {
        if next == '\'' {
            quoted = !quoted;
        } else if !quoted && next.is_ascii_alphabetic() {
            match found.last_mut() {
                Some((letter, count)) if before == Some(next) && *letter == next => *count += 1,
                _ => found.push((next, 1)),
            }
        }
        before = Some(next);
    }
    found
}

/// `NOW`, `NOW-3YEARS`, `NOW + 1 DAY`.
fn is_relative(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix("NOW") else {
        return false;
    };
    let rest = rest.trim();
    if rest.is_empty() {
        return true;
    }
    let Some(rest) = rest.strip_prefix(['+', '-']) else {
        return false;
    };
    let rest = rest.trim_start();
    let digits = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(0);
    let word = rest[digits..].trim();
    // Milliseconds are a step, but nothing that one counts from now.
    digits > 0
        && UNITS[..7]
            .iter()
            .any(|unit| word == *unit || unit.strip_suffix('S') == Some(word))
}
