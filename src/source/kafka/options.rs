//! Which topics, from where, and up to where: the `scan.*` options of a Kafka table.

use crate::error::{Error, Result};
use crate::source::Share;
use crate::sql::Table;
use crate::sql::values::duration_ms;
use regex::Regex;
use std::collections::BTreeMap;

/// Everything that a Kafka table's options say about reading it.
#[derive(Debug)]
pub(super) struct ScanOptions {
    pub topics: Topics,
    pub share: Share,
    pub start: Start,
    /// Where a group that never committed begins.
    pub missing: Missing,
    pub end: Option<End>,
    /// How often to look for new partitions; never where it is `None`.
    pub discovery_ms: Option<i64>,
    pub fail_on_data_loss: bool,
    pub has_group: bool,
}

#[derive(Debug)]
pub(super) enum Topics {
    Named(Vec<String>),
    Pattern(Regex),
}

#[derive(Debug, PartialEq)]
pub(super) enum Start {
    Earliest,
    Latest,
    Group,
    Timestamp(i64),
    Offsets(BTreeMap<i32, i64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Earliest,
    Latest,
    Fail,
}

#[derive(Debug, PartialEq)]
pub(super) enum End {
    Latest,
    Group,
    Timestamp(i64),
    Offsets(BTreeMap<i32, i64>),
}

impl ScanOptions {
    pub fn of(table: &Table, bounded: bool, share: Share) -> Result<Self> {
        let read = Reading { table };
        let topics = read.topics()?;
        let has_group = table.options.get("properties.group.id").is_some();
        let single = matches!(&topics, Topics::Named(names) if names.len() == 1);
        let offsets = |key: &str| {
            if !single {
                return Err(read.error(key, "needs a table that reads a single topic"));
            }
            read.offsets(key)
        };
        let start = match table.options.get("scan.startup.mode") {
            Some("earliest-offset") => Start::Earliest,
            Some("latest-offset") => Start::Latest,
            None | Some("group-offsets") => Start::Group,
            Some("timestamp") => Start::Timestamp(read.number("scan.startup.timestamp-millis")?),
            Some("specific-offsets") => Start::Offsets(offsets("scan.startup.specific-offsets")?),
            Some(other) => {
                let what = format!(
                    "'{other}' is none of earliest-offset, latest-offset, group-offsets, timestamp, specific-offsets"
                );
                return Err(read.error("scan.startup.mode", &what));
            }
        };
        let end = match table.options.get("scan.bounded.mode") {
            None | Some("unbounded") => bounded.then_some(End::Latest),
            Some("latest-offset") => Some(End::Latest),
            Some("group-offsets") => Some(End::Group),
            Some("timestamp") => Some(End::Timestamp(
                read.number("scan.bounded.timestamp-millis")?,
            )),
            Some("specific-offsets") => {
                Some(End::Offsets(offsets("scan.bounded.specific-offsets")?))
            }
            Some(other) => {
                let what = format!(
                    "'{other}' is none of unbounded, latest-offset, group-offsets, timestamp, specific-offsets"
                );
                return Err(read.error("scan.bounded.mode", &what));
            }
        };
        for (key, by_group) in [
            ("scan.startup.mode", start == Start::Group),
            ("scan.bounded.mode", end == Some(End::Group)),
        ] {
            if by_group && !has_group {
                let what = "is group-offsets (the default of scan.startup.mode), which needs 'properties.group.id'; \
                            or say 'earliest-offset'";
                return Err(read.error(key, what));
            }
        }
        let missing = match table.options.get("properties.auto.offset.reset") {
            Some("earliest") => Missing::Earliest,
            Some("latest") => Missing::Latest,
            None | Some("none") => Missing::Fail,
            Some(other) => {
                let what = format!("'{other}' is none of earliest, latest, none");
                return Err(read.error("properties.auto.offset.reset", &what));
            }
        };
        let fail_on_data_loss = match table.options.get("tributary.fail-on-data-loss") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(read.error("tributary.fail-on-data-loss", "needs true or false")),
        };
        Ok(ScanOptions {
            topics,
            share,
            start,
            missing,
            discovery_ms: if end.is_some() {
                None
            } else {
                read.discovery()?
            },
            end,
            fail_on_data_loss,
            has_group,
        })
    }
}

struct Reading<'a> {
    table: &'a Table,
}

impl Reading<'_> {
    fn topics(&self) -> Result<Topics> {
        let options = &self.table.options;
        match (options.get("topic"), options.get("topic-pattern")) {
            (Some(names), None) => {
                let names = names
                    .split(';')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_string).collect();
                if names.is_empty() {
                    return Err(self.error("topic", "names no topic"));
                }
                Ok(Topics::Named(names))
            }
            (None, Some(pattern)) => Regex::new(&format!("^(?:{pattern})$"))
                .map(Topics::Pattern)
                .map_err(|error| {
                    let what = "is no regular expression that can be used here \
                                (look-around and back-references are not known)";
                    self.error("topic-pattern", what).caused_by(error)
                }),
            (Some(_), Some(_)) => Err(self.error("topic-pattern", "cannot stand beside 'topic'")),
            (None, None) => Err(self.error("topic", "is needed, or 'topic-pattern'")),
        }
    }

    fn discovery(&self) -> Result<Option<i64>> {
        let key = "scan.topic-partition-discovery.interval";
        let ms = match self.table.options.get(key) {
            None => 300_000,
            Some(text) => {
                duration_ms(text).ok_or_else(|| self.error(key, "needs a time like '5 min'"))?
            }
        };
        Ok((ms > 0).then_some(ms))
    }

    fn number(&self, key: &str) -> Result<i64> {
        match self.table.options.get(key).map(str::parse) {
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(self.error(key, "needs a whole number of milliseconds since 1970")),
            None => Err(self.error(key, "is needed for this mode")),
        }
    }

    /// `partition:0,offset:42;partition:1,offset:300`
    fn offsets(&self, key: &str) -> Result<BTreeMap<i32, i64>> {
        let Some(text) = self.table.options.get(key) else {
            return Err(self.error(key, "is needed for this mode"));
        };
        let pair = |part: &str| {
            let (partition, offset) = part.split_once(',')?;
            let partition = partition
                .trim()
                .strip_prefix("partition:")?
                .trim()
                .parse()
                .ok()?;
            let offset = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
            Some((partition, offset))
                .filter(|&(partition, offset): &(i32, i64)| partition >= 0 && offset >= 0)
        };
        text.split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .try_fold(BTreeMap::new(), |mut offsets, part| {
                let found = pair(part).filter(|(partition, _)| !offsets.contains_key(partition));
                let (partition, offset) = found.ok_or_else(|| {
                    self.error(
                        key,
                        &format!("'{part}' is not 'partition:0,offset:42', or repeats a partition"),
                    )
                })?;
                offsets.insert(partition, offset);
                Ok(offsets)
            })
    }

    fn error(&self, key: &str, what: &str) -> Error {
        Error::job(format!(
            "table '{}', option '{key}': {what}",
            self.table.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::suite;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn options(options: &[(&str, &str)]) -> Result<ScanOptions> {
        ScanOptions::of(
            &suite::scan("t", Arc::new(Schema::empty()), options).table,
            false,
            Share::default(),
        )
    }

    #[test]
    fn modes_are_read() {
        let read = options(&[
            ("topic", "a"),
            ("scan.startup.mode", "specific-offsets"),
            (
                "scan.startup.specific-offsets",
                "partition:0,offset:42; partition:1,offset:300",
            ),
            ("scan.bounded.mode", "timestamp"),
            ("scan.bounded.timestamp-millis", "17"),
        ])
        .unwrap();
        assert_eq!(
            read.start,
            Start::Offsets(BTreeMap::from([(0, 42), (1, 300)]))
        );
        assert_eq!(read.end, Some(End::Timestamp(17)));
        assert_eq!(read.discovery_ms, None);
        let read = options(&[("topic", "a; b"), ("scan.startup.mode", "latest-offset")]).unwrap();
        assert!(matches!(&read.topics, Topics::Named(names) if names == &["a", "b"]));
        assert_eq!(read.discovery_ms, Some(300_000));
        let read = options(&[("topic-pattern", "x-.*"), ("properties.group.id", "g")]).unwrap();
        assert!(
            matches!(&read.topics, Topics::Pattern(p) if p.is_match("x-1") && !p.is_match("ax-1"))
        );
        assert_eq!(read.start, Start::Group);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_option() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("'topic'", &[]),
            ("'topic-pattern'", &[("topic-pattern", "a(?!b)")]),
            ("'properties.group.id'", &[("topic", "a")]),
            (
                "'scan.startup.mode'",
                &[("topic", "a"), ("scan.startup.mode", "soon")],
            ),
            (
                "'scan.startup.timestamp-millis'",
                &[("topic", "a"), ("scan.startup.mode", "timestamp")],
            ),
            (
                "single topic",
                &[
                    ("topic", "a;b"),
                    ("scan.startup.mode", "specific-offsets"),
                    ("scan.startup.specific-offsets", "partition:0,offset:1"),
                ],
            ),
            (
                "'partition:0;offset:1'",
                &[
                    ("topic", "a"),
                    ("scan.startup.mode", "specific-offsets"),
                    (
                        "scan.startup.specific-offsets",
                        "partition:0,offset:1;partition:0;offset:1",
                    ),
                ],
            ),
        ];
        for (expected, given) in cases {
            let error = options(given).unwrap_err().to_string();
            let expected = expected.replace("'partition:0;offset:1'", "'partition:0'");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
