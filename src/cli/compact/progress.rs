//! How far a compaction is: a bar on a terminal, else a line in the log for each phase.

use crate::lake::compact::{Event, Phase};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::info;

pub struct Progress {
    terminal: bool,
    /// A line is on the terminal that the next one replaces.
    drawn: AtomicBool,
    /// It was said that queries are being waited for.
    told: AtomicBool,
}

const WIDTH: u64 = 30;

impl Progress {
    pub fn new(terminal: bool) -> Progress {
        Progress {
            terminal,
            drawn: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    pub fn show(&self, event: &Event<'_>) {
        match event {
            Event::Continues(phase) => {
                self.clear();
                info!("going on with a compaction that was broken off ({phase})");
            }
            Event::LeftAlone {
                table,
                partition,
                why,
            } => {
                self.clear();
                info!(table, partition, "left alone: {why}");
            }
            Event::Merged { of: 0, .. } => {}
            Event::Merged { bytes, of } => {
                let full = usize::try_from(WIDTH * bytes / of).unwrap_or(0);
                let bar = format!("{:-<30}", "#".repeat(full));
                self.draw(&format!(
                    "merging [{bar}] {} of {}",
                    size(*bytes),
                    size(*of)
                ));
            }
            Event::Entered(phase) => {
                self.clear();
                self.told.store(false, Ordering::Relaxed);
                info!("{}", told(*phase));
            }
            Event::Waiting(left) => {
                let text = format!(
                    "queries that have listed files have {} to end",
                    clock(*left)
                );
                if !self.terminal && !left.is_zero() && !self.told.swap(true, Ordering::Relaxed) {
                    info!("{text}");
                }
                self.draw(&text);
            }
        }
    }

    fn draw(&self, text: &str) {
        if self.terminal {
            self.drawn.store(true, Ordering::Relaxed);
            let _ = write!(std::io::stderr(), "\r\x1b[K  {text}");
        }
    }

    fn clear(&self) {
        if self.drawn.swap(false, Ordering::Relaxed) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn told(phase: Phase) -> &'static str {
    match phase {
        Phase::Merging => "merging",
        Phase::Ready => "merged and compared",
        Phase::Moved => "readers are led to the large files",
        Phase::Replaced => "the large files are in the place of the small ones",
        Phase::Returned => "readers are led back",
        Phase::Done => "done",
    }
}

fn clock(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / (1 << 20) as f64)
}
