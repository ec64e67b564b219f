//! Keeps to a rate.

use std::time::{Duration, Instant};

/// How many events go out between two looks at the clock.
const BURST: u64 = 256;

/// Lets so many events a second through; without a rate, all.
pub(super) struct Pace {
    rate: Option<u64>,
    started: Instant,
}

impl Pace {
    pub fn new(rate: Option<u64>) -> Self {
        Pace {
            rate: rate.map(|rate| rate.max(1)),
            started: Instant::now(),
        }
    }

    /// Waits until event number `sent` is due.
    pub fn wait(&self, sent: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        // A slow rate is even; a fast one comes in bursts, because a pause costs more than an event.
        if !sent.is_multiple_of((rate / 100).clamp(1, BURST)) {
            return;
        }
        let due = Duration::from_secs(sent / rate)
            + Duration::from_nanos(sent % rate * 1_000_000_000 / rate);
        if let Some(left) = due.checked_sub(self.started.elapsed()) {
            std::thread::sleep(left);
        }
    }
}
