//! What the catalog, and whoever waits for a complete partition, has not been told yet.
//!
//! Told of every epoch that is about to be committed, it grows by what the epoch will show; told what was done, it shrinks. It is part of
//! that epoch's checkpoint, so whatever becomes visible is either told or owed, whenever a process dies. Doing something twice is harmless.
//!
//! It stays small: what is done leaves it, and where more than [`MOST`] partitions wait for the catalog, it only remembers that all
//! of the table's are to be looked at. Pure: it asks neither a clock nor a store.

use super::Crawler;
use super::complete::Rule;
use crate::config::CrawlerStart;
use crate::sink::Token;
use crate::time::EventTime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many partitions of a table are remembered one by one.
pub const MOST: usize = 1_000;

/// What one table asks for.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The name, with the database, under which its partitions are registered.
    pub registered_as: Option<String>,
    /// When a partition is complete, where somebody wants to know.
    pub complete: Option<Rule>,
    /// The file that says so.
    pub success_file: Option<String>,
    /// Who looks at the table's files.
    pub crawler: Option<(String, CrawlerStart)>,
}

/// What an epoch will show of one table.
#[derive(Debug, Default)]
pub struct News<'a> {
    pub tokens: &'a [Token],
    /// The partitions with rows in files that are still open.
    pub open: BTreeSet<String>,
    /// How far the rows that the table is written from have come.
    pub watermark: Option<EventTime>,
}

/// What is owed, as the checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, OwedTable>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub crawlers: BTreeMap<String, OwedCrawler>,
}

/// What is owed of one table. Partitions go by their folders: `dt=2024-03-01/hour=07`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedTable {
    /// The name under which its partitions are registered. Under another one, all have to be registered anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_as: Option<String>,
    /// Since which epoch whatever lies in the table's folder is to be registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everything: Option<u64>,
    /// Partitions to register, each with the epoch that it is owed since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub register: BTreeMap<String, u64>,
    /// Partitions that are not complete, each with the time when its first file was to be seen, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incomplete: BTreeMap<String, i64>,
    /// Complete partitions that are to have a success file, each with the epoch that completed it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub success: BTreeMap<String, u64>,
}

/// What is owed to one crawler, and what was last seen of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedCrawler {
    /// The epoch behind which it has to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// When it was last started, by anybody, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// `READY`, `RUNNING` or `STOPPING`; empty before anybody looked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
}

/// Something that was done behind the epoch `behind`, with all that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub behind: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Registered {
        table: String,
        partitions: Vec<String>,
    },
    /// All that lay in the table's folder.
    RegisteredEverything {
        table: String,
    },
    /// The catalog had to be told of the table itself, so it knows no partition of it.
    Forgotten {
        table: String,
    },
    Succeeded {
        table: String,
        partition: String,
    },
    Started {
        crawler: String,
        at_ms: i64,
    },
    Seen {
        crawler: String,
        seen: Crawler,
    },
}

/// Something that a person should know of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub table: String,
    pub about: About,
    /// A sentence.
    pub text: String,
}

/// What a warning is about: of one table each is worth one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A partition in whose name there is no time.
    Timeless,
    /// Partitions that were given up, since there are too many.
    GivenUp,
}

impl Owed {
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.crawlers.is_empty()
    }

    /// An epoch is about to be committed. What its job no longer asks for is forgotten.
    pub fn add(
        &mut self,
        epoch: u64,
        now_ms: i64,
        terms: &BTreeMap<String, Terms>,
        news: &BTreeMap<String, News<'_>>,
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        self.tables.retain(|table, _| terms.contains_key(table));
        let crawlers: BTreeSet<&str> = terms
            .values()
            .filter_map(|terms| terms.crawler.as_ref().map(|(name, _)| name.as_str()))
            .collect();
        self.crawlers
            .retain(|name, _| crawlers.contains(name.as_str()));
        for name in crawlers {
            self.crawlers.entry(name.to_owned()).or_default();
        }
        for (table, terms) in terms {
            let none = News::default();
            let news = news.get(table).unwrap_or(&none);
            let owed = self.tables.entry(table.clone()).or_default();
            owed.register_new(epoch, terms, news);
            let (complete, said) = owed.judge(epoch, now_ms, terms, news);
            warnings.extend(said.into_iter().map(|(about, text)| Warning {
                table: table.clone(),
                about,
                text,
            }));
            let Some((crawler, start)) = &terms.crawler else {
                continue;
            };
            let is_due = match start {
                CrawlerStart::NewFiles => !news.tokens.is_empty(),
                CrawlerStart::PartitionCommit => complete,
                CrawlerStart::Never => false,
            };
            if is_due && let Some(crawler) = self.crawlers.get_mut(crawler) {
                crawler.start = Some(epoch);
            }
        }
        warnings
    }

    /// Something was done. What has been owed since a later epoch than it covers stays.
    pub fn settle(&mut self, done: &Done) {
        let covered = |since: u64| since <= done.behind;
        match &done.what {
            What::Registered { table, partitions } => {
                if let Some(owed) = self.tables.get_mut(table) {
                    for partition in partitions {
                        take_covered(&mut owed.register, partition, done.behind);
                    }
                }
            }
            What::RegisteredEverything { table } => {
                if let Some(owed) = self.tables.get_mut(table) {
                    owed.everything = owed.everything.filter(|since| !covered(*since));
                    owed.register.retain(|_, since| !covered(*since));
                }
            }
            What::Forgotten { table } => {
                if let Some(owed) = self.tables.get_mut(table)
                    && owed.registered_as.is_some()
                {
                    owed.everything = owed.everything.max(Some(done.behind));
                }
            }
            What::Succeeded { table, partition } => {
                if let Some(owed) = self.tables.get_mut(table) {
                    take_covered(&mut owed.success, partition, done.behind);
                }
            }
            What::Started { crawler, at_ms } => {
                if let Some(owed) = self.crawlers.get_mut(crawler) {
                    owed.start = owed.start.filter(|since| !covered(*since));
                    owed.started_ms = owed.started_ms.max(Some(*at_ms));
                }
            }
            What::Seen { crawler, seen } => {
                if let Some(owed) = self.crawlers.get_mut(crawler) {
                    owed.state.clone_from(&seen.state);
                    owed.last_status.clone_from(&seen.last_status);
                    owed.last_message.clone_from(&seen.last_message);
                    owed.started_ms = owed.started_ms.max(seen.last_started_ms);
                }
            }
        }
    }
}

fn take_covered(owed: &mut BTreeMap<String, u64>, partition: &str, behind: u64) {
    if owed.get(partition).is_some_and(|since| *since <= behind) {
        owed.remove(partition);
    }
}

impl OwedTable {
    fn register_new(&mut self, epoch: u64, terms: &Terms, news: &News<'_>) {
        if self.registered_as != terms.registered_as {
            self.registered_as.clone_from(&terms.registered_as);
            self.everything = terms.registered_as.is_some().then_some(epoch);
            self.register.clear();
        }
        if terms.registered_as.is_none() {
            return;
        }
        for partition in folders(news.tokens) {
            self.register.entry(partition.to_owned()).or_insert(epoch);
        }
        if self.register.len() > MOST {
            self.register.clear();
            self.everything = Some(epoch);
        }
    }

    /// Which partitions are complete behind this epoch. Says whether one has become so.
    fn judge(
        &mut self,
        epoch: u64,
        now_ms: i64,
        terms: &Terms,
        news: &News<'_>,
    ) -> (bool, Vec<(About, String)>) {
        let Some(rule) = &terms.complete else {
            self.incomplete.clear();
            self.success.clear();
            return (false, Vec::new());
        };
        for partition in folders(news.tokens) {
            self.success.remove(partition);
            self.incomplete
                .entry(partition.to_owned())
                .or_insert(now_ms);
        }
        // What was complete gets more rows: nobody shall be told before they are there too.
        for partition in &news.open {
            if self.success.remove(partition).is_some() {
                self.incomplete.insert(partition.clone(), now_ms);
            }
        }
        let watermark = news.watermark.unwrap_or(EventTime::NONE);
        let mut timeless = None;
        let complete: Vec<String> = self
            .incomplete
            .extract_if(.., |partition, first_ms| {
                let come = rule.has_come(partition, *first_ms, now_ms, watermark);
                let come = come.unwrap_or_else(|error| {
                    timeless = Some(error.to_string());
                    false
                });
                come && !news.open.contains(partition)
            })
            .map(|(partition, _)| partition)
            .collect();
        let any = !complete.is_empty();
        if terms.success_file.is_some() {
            self.success
                .extend(complete.into_iter().map(|partition| (partition, epoch)));
        } else {
            self.success.clear();
        }
        let mut said = Vec::new();
        said.extend(timeless.map(|text| (About::Timeless, text)));
        let given_up = drop_oldest(&mut self.incomplete) + drop_oldest(&mut self.success);
        if given_up > 0 {
            let text = format!(
                "more than {MOST} partitions wait to be complete; {given_up} of the oldest will not be called so until they get new files"
            );
            said.push((About::GivenUp, text));
        }
        (any, said)
    }

    /// How many partitions the catalog has not been told of; none where nobody counted them.
    pub fn unregistered(&self) -> Option<usize> {
        self.everything.is_none().then_some(self.register.len())
    }
}

/// The partitions that these files are in; a table without partitions has none.
fn folders(tokens: &[Token]) -> impl Iterator<Item = &str> {
    let folders = tokens
        .iter()
        .filter_map(|token| token.name.rsplit_once('/'));
    folders.map(|(folder, _)| folder)
}

/// Keeps the newest [`MOST`], and says how many went.
fn drop_oldest<T: Ord + Copy>(partitions: &mut BTreeMap<String, T>) -> usize {
    let surplus = partitions.len().saturating_sub(MOST);
    if surplus > 0 {
        let mut by_age: Vec<(T, String)> = partitions
            .iter()
            .map(|(partition, since)| (*since, partition.clone()))
            .collect();
        by_age.sort();
        for (_, partition) in &by_age[..surplus] {
            partitions.remove(partition);
        }
    }
    surplus
}

#[cfg(test)]
#[path = "owed_tests.rs"]
mod tests;
