//! How it stands between the job and the catalog, for the page, the metrics, the log and the audit.

use super::owed::{Owed, OwedCrawler};
use serde::Serialize;
use std::collections::BTreeMap;

/// The numbers of one moment. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Since when the catalog has not answered.
    pub away_since_ms: Option<i64>,
    /// What cannot be done at the moment, and why: a sentence each.
    pub troubles: Vec<String>,
    pub tables: BTreeMap<String, TableReport>,
    pub crawlers: BTreeMap<String, CrawlerReport>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The database and the name in the catalog, where partitions are registered.
    pub registered_as: Option<String>,
    /// Partitions that the catalog has not been told of; unknown while the table's whole folder is still to be looked at.
    pub unregistered: Option<usize>,
    pub incomplete: usize,
    /// Complete partitions without a success file.
    pub without_success: usize,
    /// Partitions that this process was the first to register.
    pub registered: u64,
    /// Success files that this process has written.
    pub succeeded: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CrawlerReport {
    pub state: String,
    pub last_status: Option<String>,
    pub last_message: Option<String>,
    pub started_ms: Option<i64>,
    /// There is something new for it, and it waits for its time.
    pub owed: bool,
    /// How often this process has started it.
    pub starts: u64,
}

impl Report {
    /// Takes over what is owed.
    pub fn count(&mut self, owed: &Owed) {
        self.tables
            .retain(|table, _| owed.tables.contains_key(table));
        for (table, owed) in &owed.tables {
            let report = self.tables.entry(table.clone()).or_default();
            report.registered_as.clone_from(&owed.registered_as);
            report.unregistered = owed.unregistered();
            report.incomplete = owed.incomplete.len();
            report.without_success = owed.success.len();
        }
        self.crawlers
            .retain(|name, _| owed.crawlers.contains_key(name));
        for (name, owed) in &owed.crawlers {
            let report = self.crawlers.entry(name.clone()).or_default();
            let OwedCrawler {
                start,
                started_ms,
                state,
                last_status,
                last_message,
            } = owed.clone();
            report.owed = start.is_some();
            (report.state, report.started_ms) = (state, started_ms);
            (report.last_status, report.last_message) = (last_status, last_message);
        }
    }
}

/// What is owed, as a part of a sentence; nothing where nothing is.
pub fn left(owed: &Owed) -> Option<String> {
    let mut parts = Vec::new();
    let of = |count: usize, one: &str, more: &str| {
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { more }))
    };
    let tables = || owed.tables.values();
    let whole = tables().filter(|table| table.everything.is_some()).count();
    let partitions = tables().map(|table| table.register.len()).sum();
    parts.extend(of(
        whole,
        "table has partitions that nobody has counted yet to be registered",
        "tables have partitions that nobody has counted yet to be registered",
    ));
    parts.extend(of(
        partitions,
        "partition is not registered in the catalog",
        "partitions are not registered in the catalog",
    ));
    let success = tables().map(|table| table.success.len()).sum();
    parts.extend(of(
        success,
        "complete partition has no success file",
        "complete partitions have no success file",
    ));
    let crawlers = owed.crawlers.iter();
    parts.extend(
        crawlers
            .filter(|(_, crawler)| crawler.start.is_some())
            .map(|(name, _)| format!("crawler '{name}' is to be started")),
    );
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::owed::OwedTable;
    use super::*;

    #[test]
    fn what_is_left_is_said_in_words() {
        let mut owed = Owed::default();
        assert_eq!(left(&owed), None);
        let table = OwedTable {
            register: [("dt=a".into(), 1), ("dt=b".into(), 1)].into(),
            success: [("dt=a".into(), 1)].into(),
            ..OwedTable::default()
        };
        owed.tables.insert("t".into(), table);
        owed.crawlers.insert("c".into(), OwedCrawler::default());
        assert_eq!(
            left(&owed).unwrap(),
            "2 partitions are not registered in the catalog, 1 complete partition has no success file"
        );
        owed.tables.clear();
        owed.crawlers.get_mut("c").unwrap().start = Some(1);
        assert_eq!(left(&owed).unwrap(), "crawler 'c' is to be started");
    }
}
