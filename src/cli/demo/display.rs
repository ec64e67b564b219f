//! What `demo` shows while it runs: one refreshing block on a terminal, otherwise a line every two seconds.

use super::feed;
use super::jobs::{Demo, Newest};
use crate::http::{SharedStatus, Status};
use crate::runtime::Event;
use crate::time::EventTime;
use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A text of the newest row is cut behind so many letters.
const MOST_LETTERS: usize = 60;

pub struct Display {
    demo: &'static Demo,
    /// The folder of the table whose newest row is shown.
    folder: Option<PathBuf>,
    newest: Arc<Mutex<Option<String>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// `places` are addresses that stay below the numbers, each with its name.
    pub fn start(
        demo: &'static Demo,
        folder: Option<PathBuf>,
        status: SharedStatus,
        made: Arc<AtomicU64>,
        places: Vec<(&'static str, String)>,
    ) -> Display {
        let newest = Arc::new(Mutex::new(None));
        let done = Arc::new(AtomicBool::new(false));
        let mut screen = Screen {
            demo,
            terminal: std::io::stdout().is_terminal(),
            lines: 0,
            before: (Instant::now(), 0),
            places,
        };
        let thread = std::thread::spawn({
            let (newest, done) = (Arc::clone(&newest), Arc::clone(&done));
            move || {
                while !done.load(Ordering::Relaxed) {
                    let pause = if screen.terminal { 500 } else { 2000 };
                    std::thread::park_timeout(Duration::from_millis(pause));
                    let newest = newest
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    screen.draw(
                        &status.get(),
                        made.load(Ordering::Relaxed),
                        newest.as_deref(),
                    );
                }
            }
        });
        Display {
            demo,
            folder,
            newest,
            done,
            thread: Some(thread),
        }
    }

    /// Looks into what was published just now for the newest row that is worth a look.
    pub fn observe(&self, event: &Event<'_>) {
        let (Event::Published(committed), Some(newest)) = (event, &self.demo.newest) else {
            return;
        };
        let Some(folder) = &self.folder else { return };
        for token in committed.tokens.get(newest.table).into_iter().flatten() {
            if let Some(found) = last_row(&folder.join(&token.name), newest) {
                *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
        }
    }

    pub fn finish(mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        say!();
    }
}

/// The display is no part of the job: a file that cannot be read is passed over.
fn last_row(file: &Path, newest: &Newest) -> Option<String> {
    let file = std::fs::File::open(file).ok()?;
    let rows = ParquetRecordBatchReaderBuilder::try_new(file)
        .ok()?
        .build()
        .ok()?;
    rows.filter_map(Result::ok)
        .filter_map(|batch| last_row_in(&batch, newest))
        .last()
}

/// `heart_rate 190, severity 2`
fn last_row_in(rows: &RecordBatch, newest: &Newest) -> Option<String> {
    let last = match newest.unless {
        None => rows.num_rows().checked_sub(1)?,
        Some(column) => {
            let unless = rows.column_by_name(column)?.as_boolean_opt()?;
            (0..rows.num_rows()).rev().find(|&row| !unless.value(row))?
        }
    };
    let value = |name: &&str| {
        let text = array_value_to_string(rows.column_by_name(name)?, last).ok()?;
        Some(format!("{name} {}", short(&text)))
    };
    let values: Option<Vec<String>> = newest.columns.iter().map(value).collect();
    Some(values?.join(", "))
}

/// In one line, and not too long.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_LETTERS) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}

struct Screen {
    demo: &'static Demo,
    terminal: bool,
    /// How many lines the block on the terminal has.
    lines: usize,
    before: (Instant, u64),
    places: Vec<(&'static str, String)>,
}

impl Screen {
    fn draw(&mut self, status: &Status, made: u64, newest: Option<&str>) {
        let read = feed::read(status);
        let (then, before) = self.before;
        let rate = read.saturating_sub(before) as f64 / then.elapsed().as_secs_f64().max(0.001);
        self.before = (Instant::now(), read);
        let sinks = &status.ledger.sinks;
        let published = |table: &str| sinks.get(table).map_or(0, |book| book.published);
        let files: u64 = sinks.values().map(|book| book.files).sum();
        let letters = status.dead_letters.iter().map(|letters| letters.count);
        let letters: u64 = letters.sum();
        let watermark = self.demo.clock.map(|clock| watermark(status, clock));
        let newest = self
            .demo
            .newest
            .as_ref()
            .map(|it| (it.what, newest.unwrap_or("none yet")));
        let mut out = std::io::stdout().lock();
        if !self.terminal {
            let mut line = format!(
                "epoch {:>3}  {rate:>7.0} records/s  read {read:>9}",
                status.epoch
            );
            if let Some(watermark) = watermark {
                line += &format!("  watermark {watermark}");
            }
            for table in self.demo.counted {
                line += &format!("  {table} {}", published(table));
            }
            line += &format!("  dead letters {letters}  files {files}");
            if let Some((what, newest)) = newest {
                line += &format!("  {what}: {newest}");
            }
            let _ = writeln!(out, "{line}");
            return;
        }
        let mut lines = vec![
            format!("tributary demo: {}", self.demo.path()),
            String::new(),
            format!("{:<19} {made:>12}   made by the generator", "sent"),
            format!("{:<19} {read:>12}   {rate:.0} records/s", "read"),
        ];
        if let Some(watermark) = watermark {
            lines.push(format!("{:<19} {watermark}", "watermark"));
        }
        for table in self.demo.counted {
            lines.push(format!("{table:<19} {:>12}", published(table)));
        }
        if let Some((what, newest)) = newest {
            lines.push(format!("{what:<19} {newest}"));
        }
        lines.push(format!(
            "{:<19} {letters:>12}   malformed or too late, kept with the reason",
            "dead letters"
        ));
        lines.push(format!(
            "{:<19} {files:>12}   epoch {}",
            "files published", status.epoch
        ));
        lines.push(String::new());
        let places = self.places.iter();
        lines.extend(places.map(|(name, address)| format!("{name:<6} {address}")));
        // Lines are cut at the terminal's edge: one that went on below would not be counted.
        let _ = write!(out, "\x1b[?7l");
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
        }
        for line in &lines {
            let _ = writeln!(out, "  {line}");
        }
        let _ = write!(out, "\x1b[?7h");
        let _ = out.flush();
        self.lines = lines.len();
    }
}

/// How far the time of one table has come.
fn watermark(status: &Status, table: &str) -> String {
    let splits = status.splits.iter().filter(|split| split.source == table);
    match splits.filter_map(|split| split.watermark_ms).min() {
        Some(ms) => EventTime(ms).to_string(),
        None => "none yet".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BooleanArray, StringArray};

    fn rows(names: &[&str], answered: &[bool]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        let answered: ArrayRef = Arc::new(BooleanArray::from(answered.to_vec()));
        RecordBatch::try_from_iter([("name", names), ("answered", answered)]).unwrap()
    }

    #[test]
    fn the_newest_row_is_the_last_that_counts() {
        let newest = |unless| Newest {
            what: "last",
            table: "t",
            columns: &["name", "answered"],
            unless,
        };
        let both = rows(&["a", "b\n  c"], &[false, true]);
        let found = |unless| last_row_in(&both, &newest(unless));
        assert_eq!(found(None).unwrap(), "name b c, answered true");
        assert_eq!(found(Some("answered")).unwrap(), "name a, answered false");
        let none = rows(&["a"], &[true]);
        assert_eq!(last_row_in(&none, &newest(Some("answered"))), None);
        assert_eq!(last_row_in(&rows(&[], &[]), &newest(None)), None);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(short(&"ä".repeat(MOST_LETTERS)).chars().count(), 60);
        assert!(short(&"ä".repeat(MOST_LETTERS + 1)).ends_with("ä.."));
    }
}
