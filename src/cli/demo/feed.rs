//! Who makes a demo's events: the generator, at the demo's pace.
//!
//! Event time runs a hundred times faster than the clock, or more where events are rare, so that windows close, ambulances fail to come and deliveries arrive while
//! one watches.

use super::jobs::{Demo, Fed};
use super::stand_ins::Places;
use crate::generate::{self, GenerateOptions, Generator};
use crate::http::{SharedStatus, Status};
use crate::runtime::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::warn;

/// Milliseconds of event time in a second, if the generator's steps can be as small as that.
const SPEED_MS: i64 = 100_000;
/// Event time begins so far in the past that it does not overtake the clock within this many seconds.
const LASTS_SECONDS: i64 = 8 * 3600;
/// But not before 2000, however fast it runs.
const EARLIEST_MS: i64 = 946_684_800_000;
/// The mock cluster keeps 5 MB a partition; the generator waits before it would forget what nobody has read.
const MOST_UNREAD: u64 = 40_000;

pub struct Feed {
    /// How many events it has made.
    pub made: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Feed {
    /// Sends so many events a second until it is asked to stop.
    pub fn start(
        demo: &'static Demo,
        rate: u64,
        began_ms: i64,
        places: &Places,
        status: SharedStatus,
        stop: Stop,
    ) -> Feed {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let events = Generator::new(demo.system, &options(demo, rate, began_ms));
        let events = events.take_while(move |_| {
            let made = count.fetch_add(1, Ordering::Relaxed) + 1;
            // Asking for the status costs more than making an event.
            while made.is_multiple_of(256)
                && !stop.asked()
                && made.saturating_sub(read(&status.get())) > MOST_UNREAD
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            !stop.asked()
        });
        let (servers, entries) = (places.servers.clone(), places.entries.clone());
        let thread = std::thread::spawn(move || {
            let system = demo.system;
            let sent = match demo.fed {
                Fed::Topics => {
                    let all = u64::MAX;
                    generate::to_kafka(&servers, system, events, all, Some(rate), &mut |_| {})
                }
                Fed::Files => {
                    let nobody = &mut |_| {};
                    generate::to_new_files(&entries, system, events, rate, Some(rate), nobody)
                }
            };
            if let Err(error) = sent {
                warn!("the generator has ended: {error}");
            }
        });
        Feed { made, thread }
    }

    /// Waits until it has stopped.
    pub fn join(self) {
        if self.thread.join().is_err() {
            warn!("the generator ended badly; see the message above");
        }
    }
}

fn options(demo: &Demo, rate: u64, began_ms: i64) -> GenerateOptions {
    let steps = demo
        .system
        .steps_per_event()
        .saturating_mul(rate.cast_signed());
    let step_ms = demo.step_ms.unwrap_or((SPEED_MS / steps).max(1));
    let speed_ms = steps.saturating_mul(step_ms);
    GenerateOptions {
        seed: began_ms.unsigned_abs(),
        keys: demo.keys,
        malformed: 0.002,
        late: 0.002,
        start_ms: (began_ms - speed_ms.saturating_mul(LASTS_SECONDS)).max(EARLIEST_MS),
        step_ms,
        ..GenerateOptions::default()
    }
}

/// How many records the job has read.
pub fn read(status: &Status) -> u64 {
    let books = status.ledger.sources.values();
    books.map(|book| book.records).sum()
}

#[cfg(test)]
mod tests {
    use super::super::jobs::DEMOS;
    use super::*;

    #[test]
    fn windows_of_a_minute_close_within_seconds_and_time_is_never_ahead() {
        let began_ms = 1_800_000_000_000;
        for demo in &DEMOS {
            let options = options(demo, demo.rate, began_ms);
            let second = usize::try_from(demo.rate).unwrap();
            let last = Generator::new(demo.system, &options)
                .take(second * 20)
                .map(|event| event.event_ms)
                .max()
                .unwrap();
            let speed = (last - options.start_ms) / 20;
            assert!(
                (50_000..=600_000).contains(&speed),
                "{}: {speed}",
                demo.name
            );
            // Bursts come as they come.
            assert!(options.start_ms + speed * LASTS_SECONDS * 3 / 4 < began_ms);
        }
    }

    #[test]
    fn a_rate_that_steps_cannot_follow_begins_earlier() {
        let began_ms = 1_800_000_000_000;
        let demo = DEMOS.iter().find(|demo| demo.name == "login-privacy");
        let options = |rate| options(demo.unwrap(), rate, began_ms);
        assert_eq!(options(2000).step_ms, 1);
        assert!(options(2000).start_ms <= began_ms - 1_500_000 * LASTS_SECONDS);
        assert_eq!(options(1_000_000_000).start_ms, EARLIEST_MS);
    }
}
