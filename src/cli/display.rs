//! What `demo` shows while it runs: one refreshing block on a terminal, otherwise a line every two seconds.

use crate::http::{SharedStatus, Status};
use crate::runtime::Event;
use crate::time::EventTime;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const RESPONSES: &str = "emergency_responses";

pub struct Display {
    lake: PathBuf,
    unanswered: Arc<Mutex<String>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    pub fn start(
        status: SharedStatus,
        sent: Arc<AtomicU64>,
        lake: PathBuf,
        page: Option<SocketAddr>,
    ) -> Display {
        let unanswered = Arc::new(Mutex::new("none yet".to_string()));
        let done = Arc::new(AtomicBool::new(false));
        let mut screen = Screen {
            terminal: std::io::stdout().is_terminal(),
            lines: 0,
            before: (Instant::now(), 0),
            lake: lake.display().to_string(),
            page: page
                .map(|page| format!("http://{page}/"))
                .unwrap_or_default(),
        };
        let thread = std::thread::spawn({
            let (unanswered, done) = (Arc::clone(&unanswered), Arc::clone(&done));
            move || {
                while !done.load(Ordering::Relaxed) {
                    let pause = if screen.terminal { 500 } else { 2000 };
                    std::thread::park_timeout(Duration::from_millis(pause));
                    let last = unanswered
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    screen.draw(&status.get(), sent.load(Ordering::Relaxed), &last);
                }
            }
        });
        Display {
            lake,
            unanswered,
            done,
            thread: Some(thread),
        }
    }

    /// Looks into the newly published responses for the last breach that nobody answered.
    pub fn observe(&self, event: &Event<'_>) {
        let Event::Published(committed) = event else {
            return;
        };
        for token in committed.tokens.get(RESPONSES).into_iter().flatten() {
            let file = self.lake.join(RESPONSES).join(&token.name);
            if let Some(found) = last_unanswered(&file) {
                *self
                    .unanswered
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = found;
            }
        }
    }

    pub fn finish(mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        println!();
    }
}

/// The display is no part of the job: a file that cannot be read is passed over.
fn last_unanswered(file: &Path) -> Option<String> {
    let file = std::fs::File::open(file).ok()?;
    let rows = ParquetRecordBatchReaderBuilder::try_new(file)
        .ok()?
        .build()
        .ok()?;
    rows.filter_map(Result::ok)
        .filter_map(|batch| last_unanswered_in(&batch))
        .last()
}

fn last_unanswered_in(rows: &RecordBatch) -> Option<String> {
    let answered = rows.column_by_name("answered")?.as_boolean_opt()?;
    let patients = rows.column_by_name("patient_id")?.as_string_opt::<i32>()?;
    let times = rows
        .column_by_name("breach_time")?
        .as_primitive_opt::<TimestampMicrosecondType>()?;
    let severity = rows.column_by_name("severity")?;
    let last = (0..rows.num_rows())
        .filter(|&row| !answered.value(row))
        .max_by_key(|&row| times.value(row))?;
    let severity = arrow::util::display::array_value_to_string(severity, last).ok()?;
    let at = EventTime(times.value(last) / 1000);
    Some(format!(
        "{} at {at}, severity {severity}",
        patients.value(last)
    ))
}

struct Screen {
    terminal: bool,
    /// How many lines the block on the terminal has.
    lines: usize,
    before: (Instant, u64),
    lake: String,
    page: String,
}

impl Screen {
    fn draw(&mut self, status: &Status, sent: u64, unanswered: &str) {
        let read: u64 = status
            .splits
            .iter()
            .map(|split| split.offset.unsigned_abs())
            .sum();
        let (then, before) = self.before;
        let rate = read.saturating_sub(before) as f64 / then.elapsed().as_secs_f64().max(0.001);
        self.before = (Instant::now(), read);
        // The readings' own: the vehicles are few, and their partitions are often idle.
        let readings = status
            .splits
            .iter()
            .filter(|split| split.source == "patient_readings");
        let watermark = readings.filter_map(|split| split.watermark_ms).min();
        let watermark = watermark.map_or("none yet".to_string(), |ms| EventTime(ms).to_string());
        let published = |table: &str| {
            status
                .ledger
                .sinks
                .get(table)
                .map_or(0, |book| book.published)
        };
        let files: u64 = status.ledger.sinks.values().map(|book| book.files).sum();
        let breaches = published("breaches");
        let letters: u64 = status
            .dead_letters
            .iter()
            .map(|letters| letters.count)
            .sum();
        let mut out = std::io::stdout().lock();
        if !self.terminal {
            let _ = writeln!(
                out,
                "epoch {:>3}  {rate:>7.0} records/s  read {read:>9}  watermark {watermark}  breaches {breaches}  responses {}  dead letters {letters}  \
                 files {files}  last unanswered: {unanswered}",
                status.epoch,
                published(RESPONSES),
            );
            return;
        }
        if self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
        }
        let lines = [
            "  tributary demo: jobs/emergency.sql".to_string(),
            String::new(),
            format!("  sent                {sent:>12}   made by the generator"),
            format!("  read                {read:>12}   {rate:.0} records/s"),
            format!("  watermark           {watermark}"),
            format!("  breaches            {breaches:>12}"),
            format!("  one-minute vitals   {:>12}", published("vitals_1m")),
            format!("  responses           {:>12}", published(RESPONSES)),
            format!("  last unanswered     {unanswered}"),
            format!(
                "  dead letters        {letters:>12}   malformed or too late, in their own table"
            ),
            format!("  files published     {files:>12}   epoch {}", status.epoch),
            String::new(),
            format!("  lake  {}", self.lake),
            format!("  page  {}", self.page),
        ];
        for line in &lines {
            let _ = writeln!(out, "{line}");
        }
        let _ = out.flush();
        self.lines = lines.len();
    }
}
