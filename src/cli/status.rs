//! What a run tells: fills the status that health, metrics and the page are read from.

use super::job::Job;
use crate::catalog::keeper::Watch;
use crate::clock::{Clock, SystemClock};
use crate::epoch::Ledger;
use crate::error::Result;
use crate::http::{DeadLetterCount, OperatorStatus, SharedStatus, SplitStatus, State, Status};
use crate::runtime::{Engine, Event, Finish};
use crate::time::EventTime;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use tracing::info;

/// Rounds can be many thousands a second; nobody reads that fast.
const EVERY_MS: i64 = 200;
/// A folder that is watched may have many thousands of files: of those that were read, the last ones of each table are told.
const FINISHED_SHOWN: usize = 100;

pub struct Reporter {
    status: SharedStatus,
    /// The tables that are written, in the plan's order.
    pub tables: Vec<String>,
    filled_at_ms: AtomicI64,
    started_at_ms: i64,
    /// The books of the epoch that the run goes on from; they are of the job's whole life.
    before: OnceLock<Ledger>,
    /// How it stands with the catalog, where the job has to do with one.
    catalog: OnceLock<Watch>,
}

impl Reporter {
    pub fn new(job: &Job) -> Reporter {
        let status = SharedStatus::default();
        let now = SystemClock.now_ms();
        status.update(|status| {
            status.job.clone_from(&job.settings.name);
            status.since_ms = now;
            status.memory_limit_bytes = job.settings.memory;
        });
        Reporter {
            status,
            tables: job.tables.iter().map(|table| table.name.clone()).collect(),
            filled_at_ms: AtomicI64::new(0),
            started_at_ms: now,
            before: OnceLock::new(),
            catalog: OnceLock::new(),
        }
    }

    /// Shows how it stands with the catalog, too. A job has one keeper of it.
    pub fn watch(&self, catalog: Watch) {
        let _ = self.catalog.set(catalog);
    }

    /// What was read and written before this run is no part of its summary.
    pub fn goes_on_from(&self, ledger: &Ledger) {
        let _ = self.before.set(ledger.clone());
    }

    fn fill_catalog(&self, status: &mut Status) {
        if let Some(catalog) = self.catalog.get() {
            status.catalog = catalog.report();
        }
    }

    pub fn status(&self) -> SharedStatus {
        self.status.clone()
    }

    fn enter(&self, state: State, message: String) {
        self.status.update(|status| {
            if status.state != state {
                status.since_ms = SystemClock.now_ms();
            }
            status.state = state;
            status.message = message;
        });
    }

    pub fn waiting(&self, why: &str) {
        self.enter(State::Waiting, why.to_string());
    }

    pub fn running(&self) {
        self.enter(State::Running, String::new());
    }

    pub fn finished(&self, result: &Result<Finish>) {
        match result {
            Ok(_) => self.enter(State::Finished, String::new()),
            Err(error) => self.enter(State::Failed, error.to_string()),
        }
    }

    pub fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Begun => {
                let milliseconds = SystemClock.now_ms() - self.started_at_ms;
                info!(milliseconds, "the first records are read");
            }
            Event::Round(engine) => {
                let now = SystemClock.now_ms();
                if now - self.filled_at_ms.load(Ordering::Relaxed) >= EVERY_MS {
                    self.filled_at_ms.store(now, Ordering::Relaxed);
                    self.status.update(|status| {
                        fill(status, engine);
                        self.fill_catalog(status);
                    });
                }
            }
            Event::Published(committed) => self.status.update(|status| {
                status.epoch = committed.epoch;
                status.committed_at_ms = Some(SystemClock.now_ms());
                status.commit_ms = Some(committed.duration.as_millis() as u64);
                status.ledger.clone_from(&committed.ledger);
                status.dead_letters = dead_letters(&committed.ledger);
                self.fill_catalog(status);
            }),
        }
    }

    /// What this run has read and written, for its end.
    pub fn print_summary(&self, out: &mut dyn Write) {
        let now = self.status.get().ledger;
        let before = self.before.get().cloned().unwrap_or_default();
        let seconds = (SystemClock.now_ms() - self.started_at_ms) as f64 / 1000.0;
        let read = |ledger: &Ledger| -> u64 {
            let books = ledger.sources.values();
            books.map(|book| book.records).sum()
        };
        let records = read(&now).saturating_sub(read(&before));
        let _ = writeln!(out, "{records} records in {seconds:.1} s");
        for table in &self.tables {
            let book = |ledger: &Ledger| ledger.sinks.get(table).copied().unwrap_or_default();
            let (now, before) = (book(&now), book(&before));
            let _ = writeln!(
                out,
                "  {table:<28} {:>10} rows {:>6} files",
                now.published.saturating_sub(before.published),
                now.files.saturating_sub(before.files)
            );
        }
    }
}

/// Over the whole life of the job, as all books.
fn dead_letters(ledger: &Ledger) -> Vec<DeadLetterCount> {
    let mut counts = Vec::new();
    for (source, reasons) in &ledger.letters {
        counts.extend(reasons.iter().map(|(reason, &count)| DeadLetterCount {
            source: source.clone(),
            reason: reason.clone(),
            count,
        }));
    }
    counts
}

fn fill(status: &mut Status, engine: &Engine) {
    let watermark =
        |time: EventTime| (time != EventTime::NONE && time != EventTime::END).then_some(time.0);
    status.splits = engine
        .scans()
        .flat_map(|scan| {
            let reading = scan.reading.values().map(|split| (split, false));
            let finished = scan.finished.iter().rev().map(|split| (split, true));
            let shown = reading.chain(finished.take(FINISHED_SHOWN));
            shown.map(move |(split, finished)| SplitStatus {
                source: scan.table.clone(),
                topic: split.split.topic.to_string(),
                partition: split.split.partition,
                offset: split.position.offset,
                watermark_ms: watermark(split.watermark),
                lag: split.lag,
                idle: split.idle,
                finished,
                paused: split.paused,
            })
        })
        .collect();
    let state = engine.state_bytes();
    status.operators = engine
        .nodes()
        .filter(|(node, _)| node.op.is_keyed())
        .map(|(node, progress)| OperatorStatus {
            node: node.name.clone(),
            watermark_ms: watermark(progress.watermark),
            state_bytes: state.get(&node.name).copied().unwrap_or(0) as u64,
        })
        .collect();
    status.dead_letters = dead_letters(engine.ledger());
    status.buffered_bytes = engine.buffered_bytes() as u64;
    status.resident_bytes = resident_bytes();
    status.ledger.sources.clone_from(&engine.ledger().sources);
    status
        .ledger
        .operators
        .clone_from(&engine.ledger().operators);
}

/// What the process takes of the machine's memory; None where there is no `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::{SinkBook, SourceBook};

    #[test]
    fn the_summary_is_of_this_run() {
        let ledger = |records, published, files| {
            let mut ledger = Ledger::default();
            let source = SourceBook {
                records,
                ..SourceBook::default()
            };
            ledger.sources.insert("in".to_string(), source);
            let sink = SinkBook {
                published,
                files,
                ..SinkBook::default()
            };
            ledger.sinks.insert("out".to_string(), sink);
            ledger
        };
        let reporter = Reporter {
            status: SharedStatus::default(),
            tables: vec!["out".to_string(), "new".to_string()],
            filled_at_ms: AtomicI64::new(0),
            started_at_ms: SystemClock.now_ms(),
            before: OnceLock::new(),
            catalog: OnceLock::new(),
        };
        let summary = || {
            let mut out = Vec::new();
            reporter.print_summary(&mut out);
            let text = String::from_utf8(out).unwrap();
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>()
        };
        reporter
            .status
            .update(|status| status.ledger = ledger(30, 20, 3));
        let whole = summary();
        assert!(whole[0].starts_with("30 records in "), "{whole:?}");
        assert_eq!(whole[1..], ["out 20 rows 3 files", "new 0 rows 0 files"]);
        reporter.goes_on_from(&ledger(28, 15, 3));
        let rest = summary();
        assert!(rest[0].starts_with("2 records in "), "{rest:?}");
        assert_eq!(rest[1..], ["out 5 rows 0 files", "new 0 rows 0 files"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_has_some_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
