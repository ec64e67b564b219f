//! Every metric, each defined once, in Prometheus' text format.

use super::{State, Status};
use crate::catalog::report::{CrawlerReport, TableReport};
use crate::epoch::{OperatorBook, SinkBook, SourceBook};
use std::fmt::Write;

/// One metric: what it is called, what it means, and where its numbers come from.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    collect: fn(&Status, i64) -> Vec<Sample>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

/// The metrics of one moment; `now_ms` is needed for ages only.
pub fn render(status: &Status, now_ms: i64) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let samples = (metric.collect)(status, now_ms);
        if samples.is_empty() {
            continue;
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP {} {}\n# TYPE {} {kind}",
            metric.name, metric.help, metric.name
        );
        for sample in samples {
            text.push_str(metric.name);
            for (at, (label, value)) in sample.labels.iter().enumerate() {
                let open = if at == 0 { '{' } else { ',' };
                let _ = write!(text, "{open}{label}=\"{}\"", escaped(value));
            }
            let close = if sample.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{close} {}", sample.value);
        }
    }
    text
}

const METRICS: &[Metric] = &[
    Metric {
        name: "tributary_job_info",
        kind: Kind::Gauge,
        help: "Always 1; its labels name the job and the version of Tributary.",
        collect: |status, _| {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            vec![sample(
                [("job", status.job.clone()), ("version", version)],
                1,
            )]
        },
    },
    Metric {
        name: "tributary_running",
        kind: Kind::Gauge,
        help: "1 while the job is running, 0 while it starts, waits, or has ended.",
        collect: |status, _| vec![sample([], u8::from(status.state == State::Running))],
    },
    Metric {
        name: "tributary_source_records_total",
        kind: Kind::Counter,
        help: "Records read, by the table that they were read for.",
        collect: |status, _| sources(status, |book| book.records),
    },
    Metric {
        name: "tributary_source_records_decoded_total",
        kind: Kind::Counter,
        help: "Records that were decoded into at least one row.",
        collect: |status, _| sources(status, |book| book.decoded),
    },
    Metric {
        name: "tributary_source_records_null_total",
        kind: Kind::Counter,
        help: "Records without a value, or with nothing to decode in it.",
        collect: |status, _| sources(status, |book| book.null),
    },
    Metric {
        name: "tributary_source_records_malformed_total",
        kind: Kind::Counter,
        help: "Records that could not be decoded and became dead letters.",
        collect: |status, _| sources(status, |book| book.malformed),
    },
    Metric {
        name: "tributary_source_records_ignored_total",
        kind: Kind::Counter,
        help: "Records that could not be decoded and were passed over, because the job says so.",
        collect: |status, _| sources(status, |book| book.ignored),
    },
    Metric {
        name: "tributary_source_rows_total",
        kind: Kind::Counter,
        help: "Rows in the decoded records.",
        collect: |status, _| sources(status, |book| book.rows),
    },
    Metric {
        name: "tributary_source_rows_accepted_total",
        kind: Kind::Counter,
        help: "Rows that went on to the first operator.",
        collect: |status, _| sources(status, |book| book.accepted),
    },
    Metric {
        name: "tributary_source_rows_refused_total",
        kind: Kind::Counter,
        help: "Rows whose event time is NULL or too far in the future; they became dead letters.",
        collect: |status, _| sources(status, |book| book.refused),
    },
    Metric {
        name: "tributary_source_offset",
        kind: Kind::Gauge,
        help: "Where the next record of a split is.",
        collect: |status, _| splits(status, |split| Some(split.offset as f64)),
    },
    Metric {
        name: "tributary_source_lag_records",
        kind: Kind::Gauge,
        help: "Records of a split that are still to be read.",
        collect: |status, _| splits(status, |split| split.lag.map(|lag| lag as f64)),
    },
    Metric {
        name: "tributary_source_watermark_ms",
        kind: Kind::Gauge,
        help: "The watermark of a split: event time in milliseconds since 1970.",
        collect: |status, _| splits(status, |split| split.watermark_ms.map(|ms| ms as f64)),
    },
    Metric {
        name: "tributary_source_idle",
        kind: Kind::Gauge,
        help: "1 while a split is idle and holds no watermark back.",
        collect: |status, _| splits(status, |split| Some(f64::from(u8::from(split.idle)))),
    },
    Metric {
        name: "tributary_source_paused",
        kind: Kind::Gauge,
        help: "1 while a split waits for others that are behind it in event time.",
        collect: |status, _| splits(status, |split| Some(f64::from(u8::from(split.paused)))),
    },
    Metric {
        name: "tributary_operator_rows_in_total",
        kind: Kind::Counter,
        help: "Rows that came into an operator.",
        collect: |status, _| operators(status, |book| book.rows_in),
    },
    Metric {
        name: "tributary_operator_rows_used_total",
        kind: Kind::Counter,
        help: "Rows that an operator used.",
        collect: |status, _| operators(status, |book| book.used),
    },
    Metric {
        name: "tributary_operator_rows_filtered_total",
        kind: Kind::Counter,
        help: "Rows that a predicate dropped.",
        collect: |status, _| operators(status, |book| book.filtered),
    },
    Metric {
        name: "tributary_operator_rows_late_total",
        kind: Kind::Counter,
        help: "Rows that came too late for an operator and became dead letters.",
        collect: |status, _| operators(status, |book| book.late),
    },
    Metric {
        name: "tributary_operator_rows_refused_total",
        kind: Kind::Counter,
        help: "Rows for which a lookup found something that cannot be read, and that became dead letters.",
        collect: |status, _| operators(status, |book| book.refused),
    },
    Metric {
        name: "tributary_operator_watermark_ms",
        kind: Kind::Gauge,
        help: "The watermark of an operator: event time in milliseconds since 1970.",
        collect: |status, _| nodes(status, |node| node.watermark_ms.map(|ms| ms as f64)),
    },
    Metric {
        name: "tributary_operator_state_bytes",
        kind: Kind::Gauge,
        help: "Bytes of state that an operator holds.",
        collect: |status, _| nodes(status, |node| Some(node.state_bytes as f64)),
    },
    Metric {
        name: "tributary_sink_rows_written_total",
        kind: Kind::Counter,
        help: "Rows written to a table, visible or not.",
        collect: |status, _| sinks(status, |book| book.written),
    },
    Metric {
        name: "tributary_sink_rows_published_total",
        kind: Kind::Counter,
        help: "Rows of a table that are visible to readers.",
        collect: |status, _| sinks(status, |book| book.published),
    },
    Metric {
        name: "tributary_sink_files_published_total",
        kind: Kind::Counter,
        help: "Files of a table that are visible to readers.",
        collect: |status, _| sinks(status, |book| book.files),
    },
    Metric {
        name: "tributary_sink_bytes_published_total",
        kind: Kind::Counter,
        help: "Bytes of a table that are visible to readers.",
        collect: |status, _| sinks(status, |book| book.bytes),
    },
    Metric {
        name: "tributary_sink_rows_carried",
        kind: Kind::Gauge,
        help: "Rows in open files: in the checkpoint, and not yet visible.",
        collect: |status, _| sinks(status, |book| book.carried),
    },
    Metric {
        name: "tributary_sink_rows_rejected_total",
        kind: Kind::Counter,
        help: "Rows that the server behind a table would not take.",
        collect: |status, _| sinks(status, |book| book.rejected),
    },
    Metric {
        name: "tributary_dead_letters_total",
        kind: Kind::Counter,
        help: "Dead letters by the table that they were read for and by reason.",
        collect: |status, _| {
            let letters = status.dead_letters.iter();
            letters
                .map(|letters| {
                    let labels = [
                        ("source", letters.source.clone()),
                        ("reason", letters.reason.clone()),
                    ];
                    sample(labels, letters.count as f64)
                })
                .collect()
        },
    },
    Metric {
        name: "tributary_catalog_troubles",
        kind: Kind::Gauge,
        help: "How many things about the catalog do not work at the moment, such as a table that cannot be registered.",
        collect: |status, _| catalogued(status, status.catalog.troubles.len() as f64),
    },
    Metric {
        name: "tributary_catalog_away",
        kind: Kind::Gauge,
        help: "1 while the catalog does not answer; the data flows on meanwhile.",
        collect: |status, _| {
            let away = status.catalog.away_since_ms.is_some();
            catalogued(status, f64::from(u8::from(away)))
        },
    },
    Metric {
        name: "tributary_catalog_partitions_unregistered",
        kind: Kind::Gauge,
        help: "Partitions with published files that the catalog has not been told of.",
        collect: |status, _| partitions(status, |table| Some(table.unregistered? as f64)),
    },
    Metric {
        name: "tributary_catalog_partitions_registered_total",
        kind: Kind::Counter,
        help: "Partitions that this process was the first to register.",
        collect: |status, _| partitions(status, |table| Some(table.registered as f64)),
    },
    Metric {
        name: "tributary_partitions_incomplete",
        kind: Kind::Gauge,
        help: "Partitions with published files that do not count as complete.",
        collect: |status, _| partitions(status, |table| Some(table.incomplete as f64)),
    },
    Metric {
        name: "tributary_partitions_without_success_file",
        kind: Kind::Gauge,
        help: "Complete partitions whose success file is not written.",
        collect: |status, _| partitions(status, |table| Some(table.without_success as f64)),
    },
    Metric {
        name: "tributary_success_files_total",
        kind: Kind::Counter,
        help: "Success files that this process has written.",
        collect: |status, _| partitions(status, |table| Some(table.succeeded as f64)),
    },
    Metric {
        name: "tributary_crawler_running",
        kind: Kind::Gauge,
        help: "1 while a crawler runs, as far as was seen.",
        collect: |status, _| {
            crawlers(status, |crawler| {
                let runs = !matches!(crawler.state.as_str(), "" | "READY");
                Some(f64::from(u8::from(runs)))
            })
        },
    },
    Metric {
        name: "tributary_crawler_failed",
        kind: Kind::Gauge,
        help: "1 where a crawler's last run has failed.",
        collect: |status, _| {
            crawlers(status, |crawler| {
                let status = crawler.last_status.as_deref()?;
                Some(f64::from(u8::from(status == "FAILED")))
            })
        },
    },
    Metric {
        name: "tributary_crawler_started_ms",
        kind: Kind::Gauge,
        help: "When a crawler's last run began, in milliseconds since 1970.",
        collect: |status, _| crawlers(status, |crawler| crawler.started_ms.map(|ms| ms as f64)),
    },
    Metric {
        name: "tributary_crawler_owed",
        kind: Kind::Gauge,
        help: "1 while there is something new for a crawler, which waits for its time.",
        collect: |status, _| crawlers(status, |crawler| Some(f64::from(u8::from(crawler.owed)))),
    },
    Metric {
        name: "tributary_crawler_starts_total",
        kind: Kind::Counter,
        help: "How often this process has started a crawler.",
        collect: |status, _| crawlers(status, |crawler| Some(crawler.starts as f64)),
    },
    Metric {
        name: "tributary_epoch",
        kind: Kind::Gauge,
        help: "The number of the epoch that was committed last.",
        collect: |status, _| vec![sample([], status.epoch as f64)],
    },
    Metric {
        name: "tributary_epoch_age_seconds",
        kind: Kind::Gauge,
        help: "How long ago that epoch was committed.",
        collect: |status, now_ms| {
            let age = status
                .committed_at_ms
                .map(|at| now_ms.saturating_sub(at).max(0) as f64 / 1000.0);
            age.map(|age| sample([], age)).into_iter().collect()
        },
    },
    Metric {
        name: "tributary_epoch_commit_seconds",
        kind: Kind::Gauge,
        help: "How long that epoch took from its barrier until it was published.",
        collect: |status, _| {
            status
                .commit_ms
                .map(|ms| sample([], ms as f64 / 1000.0))
                .into_iter()
                .collect()
        },
    },
    Metric {
        name: "tributary_buffered_bytes",
        kind: Kind::Gauge,
        help: "Bytes in the queues of readers and in open files.",
        collect: |status, _| vec![sample([], status.buffered_bytes as f64)],
    },
    Metric {
        name: "tributary_memory_limit_bytes",
        kind: Kind::Gauge,
        help: "The memory budget for queues, state and open files together.",
        collect: |status, _| vec![sample([], status.memory_limit_bytes as f64)],
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "The memory of the whole process.",
        collect: |status, _| {
            let resident = status.resident_bytes.map(|bytes| sample([], bytes as f64));
            resident.into_iter().collect()
        },
    },
];

fn sample<const N: usize>(labels: [(&'static str, String); N], value: impl Into<f64>) -> Sample {
    Sample {
        labels: labels.into(),
        value: value.into(),
    }
}

fn sources(status: &Status, value: fn(&SourceBook) -> u64) -> Vec<Sample> {
    let books = status.ledger.sources.iter();
    books
        .map(|(table, book)| sample([("table", table.clone())], value(book) as f64))
        .collect()
}

fn operators(status: &Status, value: fn(&OperatorBook) -> u64) -> Vec<Sample> {
    let books = status.ledger.operators.iter();
    books
        .map(|(node, book)| sample([("node", node.clone())], value(book) as f64))
        .collect()
}

fn sinks(status: &Status, value: fn(&SinkBook) -> u64) -> Vec<Sample> {
    let books = status.ledger.sinks.iter();
    books
        .map(|(table, book)| sample([("table", table.clone())], value(book) as f64))
        .collect()
}

/// One number, where the job has to do with the catalog.
fn catalogued(status: &Status, value: f64) -> Vec<Sample> {
    let report = &status.catalog;
    let any = !report.tables.is_empty() || !report.crawlers.is_empty();
    any.then(|| sample([], value)).into_iter().collect()
}

fn partitions(status: &Status, value: fn(&TableReport) -> Option<f64>) -> Vec<Sample> {
    let tables = status.catalog.tables.iter();
    tables
        .filter_map(|(table, report)| Some(sample([("table", table.clone())], value(report)?)))
        .collect()
}

fn crawlers(status: &Status, value: fn(&CrawlerReport) -> Option<f64>) -> Vec<Sample> {
    let crawlers = status.catalog.crawlers.iter();
    crawlers
        .filter_map(|(name, report)| Some(sample([("crawler", name.clone())], value(report)?)))
        .collect()
}

fn splits(status: &Status, value: fn(&super::SplitStatus) -> Option<f64>) -> Vec<Sample> {
    let samples = status.splits.iter().filter_map(|split| {
        let labels = [
            ("table", split.source.clone()),
            ("topic", split.topic.clone()),
            ("partition", split.partition.to_string()),
        ];
        Some(sample(labels, value(split)?))
    });
    samples.collect()
}

fn nodes(status: &Status, value: fn(&super::OperatorStatus) -> Option<f64>) -> Vec<Sample> {
    let nodes = status.operators.iter();
    nodes
        .filter_map(|node| Some(sample([("node", node.node.clone())], value(node)?)))
        .collect()
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::{DeadLetterCount, SplitStatus};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_kinds_follow_the_conventions() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "each metric is defined once");
        for metric in METRICS {
            assert!(
                metric.help.ends_with('.') && !metric.help.contains('\n'),
                "{}",
                metric.name
            );
            let counter = matches!(metric.kind, Kind::Counter);
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
        }
    }

    #[test]
    fn numbers_stand_behind_their_labels() {
        let mut status = Status {
            epoch: 7,
            committed_at_ms: Some(1_000),
            resident_bytes: Some(70 << 20),
            ..Status::default()
        };
        let book = SourceBook {
            records: 1_000_000,
            malformed: 3,
            ..SourceBook::default()
        };
        status
            .ledger
            .sources
            .insert("a \"quoted\"\\\nname".to_owned(), book);
        status.splits.push(SplitStatus {
            source: "s".to_owned(),
            topic: "t".to_owned(),
            lag: None,
            ..Default::default()
        });
        status.dead_letters.push(DeadLetterCount {
            source: "s".to_owned(),
            reason: "late".to_owned(),
            count: 2,
        });
        let crawler = CrawlerReport {
            state: "RUNNING".to_owned(),
            last_status: Some("FAILED".to_owned()),
            ..CrawlerReport::default()
        };
        status.catalog.crawlers.insert("c".to_owned(), crawler);
        let uncounted = TableReport {
            incomplete: 3,
            ..TableReport::default()
        };
        status.catalog.tables.insert("t".to_owned(), uncounted);
        let text = render(&status, 3_500);
        for line in [
            r#"tributary_source_records_total{table="a \"quoted\"\\\nname"} 1000000"#,
            "tributary_epoch 7",
            "tributary_epoch_age_seconds 2.5",
            "process_resident_memory_bytes 73400320",
            r#"tributary_dead_letters_total{source="s",reason="late"} 2"#,
            r#"tributary_source_idle{table="s",topic="t",partition="0"} 0"#,
            "# TYPE tributary_source_records_total counter",
            r#"tributary_crawler_running{crawler="c"} 1"#,
            r#"tributary_crawler_failed{crawler="c"} 1"#,
            r#"tributary_partitions_incomplete{table="t"} 3"#,
            "tributary_catalog_away 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(
            !text.contains("lag_records") && !text.contains("partitions_unregistered"),
            "what is not known is not shown"
        );
    }
}
