//! The options of a WITH clause: checked against what the connector and the format say they know.
//!
//! Guarantee: no option is passed over in silence. An unknown one, an illegal value, and one that Flink has and Tributary has
//! not, are refused at their place; one that changes nothing here is named in a warning.
//!
//! After the check the options are in their plainest form: `value.format` is `format`, `value.json.x` is `json.x`, words
//! from a list are written as in the list. So the rest of the program reads one name for one thing.

use super::connectors::{CONNECTORS, Connector, LATER_CONNECTORS};
use super::formats::{FORMATS, Format, LATER_FORMATS};
use super::refusal::{Parsed, Refusal, did_you_mean};
use super::values::{self, Kind};
use super::{ColumnKind, OptionValue, Options, Place, Table};
use std::time::Duration;

/// The option of a source that names the table for its dead letters.
pub const DEAD_LETTERS: &str = "tributary.dead-letters";

/// What is known about one option, or about all that begin alike (`properties.*`).
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    pub key: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
    pub required: bool,
    pub support: Support,
    pub help: &'static str,
}

/// What Tributary does with an option that Flink has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Support {
    Full,
    /// Refused, with what to do instead.
    NotYet(&'static str),
    /// Accepted with a warning that says why it changes nothing.
    NoEffect(&'static str),
    /// Only this value is supported; others are refused with the reason.
    Only(&'static str, &'static str),
}

impl OptionSpec {
    pub const fn new(key: &'static str, kind: Kind, help: &'static str) -> OptionSpec {
        OptionSpec {
            key,
            kind,
            default: None,
            required: false,
            support: Support::Full,
            help,
        }
    }

    pub const fn default(self, default: &'static str) -> OptionSpec {
        OptionSpec {
            default: Some(default),
            ..self
        }
    }

    pub const fn required(self) -> OptionSpec {
        OptionSpec {
            required: true,
            ..self
        }
    }

    pub const fn not_yet(key: &'static str, instead: &'static str) -> OptionSpec {
        OptionSpec {
            support: Support::NotYet(instead),
            ..OptionSpec::new(key, Kind::Text, "")
        }
    }

    pub const fn no_effect(self, why: &'static str) -> OptionSpec {
        OptionSpec {
            support: Support::NoEffect(why),
            ..self
        }
    }

    pub const fn only(self, value: &'static str, why: &'static str) -> OptionSpec {
        OptionSpec {
            support: Support::Only(value, why),
            ..self
        }
    }

    /// Whether this is about `key`: `fields.*.min` is about `fields.a.min`, `properties.*` about `properties.a.b`.
    pub fn covers(&self, key: &str) -> bool {
        match self.key.split_once('*') {
            None => self.key == key,
            Some((before, behind)) => key
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(behind))
                .is_some_and(|middle| !middle.is_empty()),
        }
    }

    /// Checks a value, and gives it in its plainest form. A warning says that it changes nothing.
    pub fn check(
        &self,
        key: &str,
        value: &str,
    ) -> Result<(String, Option<String>), (String, String)> {
        if let Support::NotYet(instead) = self.support {
            return Err((
                format!("'{key}' is an option of Flink's that Tributary does not have yet"),
                instead.to_owned(),
            ));
        }
        let value = self.kind.check(value).map_err(|expected| {
            (
                format!("'{value}' is not a value for '{key}'"),
                format!("it has to be {expected}"),
            )
        })?;
        match self.support {
            Support::NoEffect(why) => Ok((value, Some(format!("'{key}' has no effect: {why}")))),
            Support::Only(only, why) if value != only => {
                Err((format!("'{key}' can only be '{only}'"), why.to_owned()))
            }
            _ => Ok((value, None)),
        }
    }
}

/// How a table is used in its job.
#[derive(Debug, Clone, Copy)]
pub struct Uses {
    pub read: bool,
    pub written: bool,
}

/// Checks the options of a table, and brings them into their plainest form.
pub fn check(table: &mut Table, uses: Uses, warnings: &mut Vec<String>) -> Parsed<()> {
    let connector = connector(table)?;
    if uses.read && !connector.reads {
        let refusal = Refusal::new(
            table.place,
            format!(
                "the table '{}' is read, but its connector '{}' can only be written",
                table.name, connector.name
            ),
        );
        return Err(match connector.looks_up {
            true => refusal.hint(format!(
                "rows can be looked up in it: JOIN {} FOR SYSTEM_TIME AS OF o.proc ON ..",
                table.name
            )),
            false => refusal,
        });
    }
    if uses.written && !connector.writes {
        return Err(Refusal::new(
            table.place,
            format!(
                "the table '{}' is written, but its connector '{}' can only be read",
                table.name, connector.name
            ),
        ));
    }
    plain_names(table)?;
    let format = format(table, connector, "format")?;
    let key_format = format_if_known(table, connector, "key.format")?;
    if uses.read && format.is_some_and(|format| !format.reads) {
        return Err(Refusal::new(
            table.place,
            format!(
                "the table '{}' is read, but its format can only be written",
                table.name
            ),
        ));
    }
    let mut known: Vec<(String, OptionSpec)> = connector
        .options
        .iter()
        .flat_map(|options| options.iter())
        .map(|spec| (spec.key.to_owned(), *spec))
        .collect();
    for (prefix, format) in [("", format), ("key.", key_format)] {
        for spec in format.iter().flat_map(|format| format.options) {
            known.push((format!("{prefix}{}", spec.key), *spec));
        }
    }
    let names = || known.iter().map(|(name, _)| name.as_str());
    let mut entries = std::mem::take(&mut table.options.entries);
    for (key, entry) in &mut entries {
        let spec = known
            .iter()
            .find(|(name, spec)| name == key || spec.covers(key));
        let Some((_, spec)) = spec else {
            return Err(unknown_option(key, entry.place, connector, format, names()));
        };
        match spec.check(key, &entry.value) {
            Ok((value, warning)) => {
                entry.value = value;
                warnings.extend(warning.map(|warning| format!("{}: {warning}", entry.place)));
            }
            Err((message, hint)) => return Err(Refusal::new(entry.place, message).hint(hint)),
        }
    }
    table.options.entries = entries;
    for (name, spec) in &known {
        if spec.required && table.options.get(name).is_none() {
            return Err(Refusal::new(
                table.place,
                format!("the table '{}' has no option '{name}'", table.name),
            )
            .hint(format!(
                "the connector '{}' needs it: {}",
                connector.name, spec.help
            )));
        }
    }
    check_metadata(table, connector)?;
    (connector.check)(table, uses)
}

fn connector(table: &Table) -> Parsed<&'static Connector> {
    let names = CONNECTORS.iter().map(|connector| connector.name);
    let Some(entry) = table.options.entries.get("connector") else {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no connector", table.name),
        )
        .hint(format!(
            "write WITH ('connector' = '..'), with one of {}",
            names.collect::<Vec<_>>().join(", ")
        )));
    };
    if let Some(connector) = CONNECTORS
        .iter()
        .find(|connector| connector.name == entry.value)
    {
        return Ok(connector);
    }
    if LATER_CONNECTORS.contains(&entry.value.as_str()) {
        return Err(Refusal::new(
            entry.place,
            format!("the connector '{}' is not supported yet", entry.value),
        )
        .hint(format!(
            "there are: {}",
            names.collect::<Vec<_>>().join(", ")
        )));
    }
    Err(Refusal::new(
        entry.place,
        format!("there is no connector '{}'", entry.value),
    )
    .hint(did_you_mean(&entry.value, names)))
}

/// `value.format` becomes `format`, and `value.json.x` becomes `json.x`.
fn plain_names(table: &mut Table) -> Parsed<()> {
    let entries = &mut table.options.entries;
    let moved: Vec<_> = entries
        .keys()
        .filter_map(|key| {
            let plain = key.strip_prefix("value.")?;
            let prefix = plain.split('.').next()?;
            let is_formats =
                plain == "format" || FORMATS.iter().any(|format| format.name == prefix);
            is_formats.then(|| (key.clone(), plain.to_owned()))
        })
        .collect();
    for (key, plain) in moved {
        let Some(entry) = entries.remove(&key) else {
            continue;
        };
        if let Some(other) = entries.get(&plain) {
            return Err(
                Refusal::new(entry.place, format!("'{key}' and '{plain}' say the same")).hint(
                    format!("leave one of them out; the other is at {}", other.place),
                ),
            );
        }
        entries.insert(plain, entry);
    }
    Ok(())
}

fn format(table: &Table, connector: &Connector, key: &str) -> Parsed<Option<&'static Format>> {
    let found = format_if_known(table, connector, key)?;
    if found.is_none() && connector.needs_format {
        return Err(Refusal::new(
            table.place,
            format!("the table '{}' has no format", table.name),
        )
        .hint(format!(
            "write 'format' = '..', with one of {}",
            connector.formats.join(", ")
        )));
    }
    Ok(found)
}

fn format_if_known(
    table: &Table,
    connector: &Connector,
    key: &str,
) -> Parsed<Option<&'static Format>> {
    let Some(entry) = table.options.entries.get(key) else {
        return Ok(None);
    };
    if connector.formats.is_empty() {
        // Then it is no option of this connector at all, and refused as such.
        return Ok(None);
    }
    let found = FORMATS.iter().find(|format| format.name == entry.value);
    match found {
        Some(format) if connector.formats.contains(&format.name) => {
            if let Some(check) = format.check {
                check(table, entry.place)?;
            }
            Ok(Some(format))
        }
        Some(format) => Err(Refusal::new(
            entry.place,
            format!(
                "the connector '{}' has no format '{}'",
                connector.name, format.name
            ),
        )
        .hint(format!("it has: {}", connector.formats.join(", ")))),
        None if LATER_FORMATS.contains(&entry.value.as_str()) => Err(Refusal::new(
            entry.place,
            format!("the format '{}' is not supported yet", entry.value),
        )
        .hint(format!("there are: {}", connector.formats.join(", ")))),
        None => Err(
            Refusal::new(entry.place, format!("there is no format '{}'", entry.value)).hint(
                did_you_mean(&entry.value, connector.formats.iter().copied()),
            ),
        ),
    }
}

fn unknown_option<'a>(
    key: &str,
    place: Place,
    connector: &Connector,
    format: Option<&Format>,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Refusal {
    let prefix = key
        .trim_start_matches("key.")
        .split('.')
        .next()
        .unwrap_or_default();
    if let Some(other) = FORMATS.iter().find(|format| format.name == prefix)
        && other.options.iter().any(|spec| key.ends_with(spec.key))
    {
        let ours = format.map_or("no format".to_owned(), |format| {
            format!("the format '{}'", format.name)
        });
        return Refusal::new(
            place,
            format!("'{key}' belongs to the format '{}'", other.name),
        )
        .hint(format!("the table has {ours}"));
    }
    let refusal = Refusal::new(
        place,
        format!("the connector '{}' has no option '{key}'", connector.name),
    );
    match super::refusal::nearest(key, known.filter(|name| !name.contains('*'))) {
        Some(near) => refusal.hint(format!("did you mean '{near}'?")),
        None => refusal.hint("docs/sql.md lists the options of every connector and format"),
    }
}

/// Metadata columns name keys that the connector has.
fn check_metadata(table: &Table, connector: &Connector) -> Parsed<()> {
    for column in &table.columns {
        let ColumnKind::Metadata { key, .. } = &column.kind else {
            continue;
        };
        if connector.metadata.contains(&key.as_str()) {
            continue;
        }
        if connector.later_metadata.contains(&key.as_str()) {
            return Err(Refusal::new(
                column.place,
                format!("the metadata '{key}' is not supported yet"),
            ));
        }
        let refusal = Refusal::new(
            column.place,
            format!("the connector '{}' has no metadata '{key}'", connector.name),
        );
        return Err(refusal.hint(did_you_mean(key, connector.metadata.iter().copied())));
    }
    Ok(())
}

/// What an option is declared to be, found by its key alone: first among those of the table's own connector and format.
fn declared(options: &Options, key: &str) -> Option<&'static OptionSpec> {
    let own = CONNECTORS
        .iter()
        .filter(|connector| options.get("connector") == Some(connector.name));
    let all = own
        .chain(CONNECTORS)
        .flat_map(|connector| connector.options)
        .flat_map(|options| options.iter());
    let formats = FORMATS.iter().flat_map(|format| format.options);
    let plain = key.strip_prefix("key.").unwrap_or(key);
    all.chain(formats)
        .find(|spec| spec.covers(key) || spec.covers(plain))
}

/// The values of options, each as what it is declared to be, with its default. They were checked when the job was read, so
/// nothing is returned only where an option is not given and has no default.
impl Options {
    /// Options made by hand.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Options {
        let entries = pairs.into_iter().map(|(key, value)| {
            (
                key.to_owned(),
                OptionValue {
                    value: value.to_owned(),
                    place: Place::default(),
                },
            )
        });
        Options {
            entries: entries.collect(),
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).or_else(|| declared(self, key)?.default)
    }

    /// Whether the columns of a record's key are in the key only.
    pub fn keys_apart(&self) -> bool {
        let include = self.get("value.fields-include");
        include.is_some_and(|include| include.eq_ignore_ascii_case("EXCEPT_KEY"))
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        values::boolean(self.text(key)?)
    }

    pub fn integer(&self, key: &str) -> Option<u64> {
        values::integer(self.text(key)?)
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        values::duration(self.text(key)?)
    }

    /// A size in bytes.
    pub fn size(&self, key: &str) -> Option<u64> {
        values::size(self.text(key)?)
    }

    pub fn character(&self, key: &str) -> Option<char> {
        values::character(self.text(key)?)
    }

    /// The members of a list; empty where the option is not given.
    pub fn list(&self, key: &str) -> Vec<String> {
        let separator = match declared(self, key).map(|spec| spec.kind) {
            Some(Kind::List(separator)) => separator,
            Some(Kind::SomeOf(_)) => ',',
            _ => ';',
        };
        self.text(key)
            .map(|text| values::list(text, separator))
            .unwrap_or_default()
    }

    /// The options that begin with `prefix`, without it: `properties.` gives those for librdkafka.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.entries.iter().filter_map(move |(key, entry)| {
            key.strip_prefix(prefix)
                .map(|rest| (rest, entry.value.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    fn every_spec() -> impl Iterator<Item = &'static OptionSpec> {
        let connectors = CONNECTORS.iter().flat_map(|connector| connector.options);
        let formats = FORMATS.iter().flat_map(|format| format.options);
        connectors
            .flat_map(|options| options.iter())
            .chain(formats)
            .chain(SETTINGS)
    }

    #[test]
    fn every_default_is_a_legal_value() {
        for spec in every_spec() {
            if let Some(default) = spec.default {
                assert_eq!(
                    spec.kind.check(default).as_deref(),
                    Ok(default),
                    "{}",
                    spec.key
                );
            }
        }
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        for spec in every_spec() {
            let explains = match spec.support {
                Support::Full => !spec.help.is_empty(),
                Support::NotYet(why) | Support::NoEffect(why) | Support::Only(_, why) => {
                    !why.is_empty()
                }
            };
            assert!(explains, "{}", spec.key);
        }
    }

    #[test]
    fn getters_know_kinds_and_defaults() {
        let options = Options::of([
            ("connector", "filesystem"),
            ("sink.rolling-policy.file-size", "1 mb"),
            ("properties.a", "1"),
            ("properties.b.c", "2"),
            ("key.json.ignore-parse-errors", "true"),
            ("fields.x.length", "7"),
        ]);
        assert_eq!(options.size("sink.rolling-policy.file-size"), Some(1 << 20));
        assert_eq!(
            options.duration("sink.rolling-policy.rollover-interval"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            options.text("partition.default-name"),
            Some("__HIVE_DEFAULT_PARTITION__")
        );
        assert_eq!(options.text("tributary.parquet.compression"), Some("zstd"));
        assert_eq!(options.duration("source.monitor-interval"), None);
        assert_eq!(options.character("csv.field-delimiter"), Some(','));
        assert_eq!(options.boolean("json.ignore-parse-errors"), None);
        assert_eq!(options.boolean("key.json.ignore-parse-errors"), Some(true));
        assert_eq!(options.integer("fields.x.length"), Some(7));
        assert_eq!(options.integer("fields.y.length"), Some(100));
        assert_eq!(options.list("topic"), [""; 0]);
        let properties: Vec<_> = options.with_prefix("properties.").collect();
        assert_eq!(properties, [("a", "1"), ("b.c", "2")]);
    }
}
