//! Event time: how far a stream has come, by what its own rows say.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment of event time in milliseconds since 1970-01-01, as in Flink's `TIMESTAMP(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before anything was seen.
    pub const NONE: EventTime = EventTime(i64::MIN);
    /// After the last row of a bounded input.
    pub const END: EventTime = EventTime(i64::MAX);

    /// A moment `ms` later; the two ends stay where they are.
    pub fn plus(self, ms: i64) -> EventTime {
        match self {
            EventTime::NONE | EventTime::END => self,
            EventTime(at) => EventTime(at.saturating_add(ms)),
        }
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::NONE => f.write_str("none"),
            EventTime::END => f.write_str("end"),
            EventTime(ms) => match chrono::DateTime::from_timestamp_millis(ms) {
                Some(at) => write!(f, "{}", at.format("%Y-%m-%d %H:%M:%S%.3f")),
                None => write!(f, "{ms} ms"),
            },
        }
    }
}

/// How far one input of an operator has come: its watermark, and whether it counts. An idle input
/// holds nobody back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub watermark: EventTime,
    pub idle: bool,
}

impl Progress {
    pub const START: Progress = Progress {
        watermark: EventTime::NONE,
        idle: false,
    };

    pub fn at(watermark: EventTime) -> Self {
        Progress {
            watermark,
            idle: false,
        }
    }

    /// Several inputs together: the smallest watermark of those that are not idle. When all are
    /// idle the result is idle too, at the largest watermark, as in Flink. An input that has ended
    /// neither holds the others back nor drives them on; together they end when all have ended.
    pub fn combine(inputs: &[Progress]) -> Progress {
        let going = inputs
            .iter()
            .filter(|input| input.watermark != EventTime::END);
        let watermarks = |idle| {
            let of_these = going.clone().filter(move |input| input.idle == idle);
            of_these.map(|input| input.watermark)
        };
        if let Some(watermark) = watermarks(false).min() {
            return Progress::at(watermark);
        }
        match watermarks(true).max() {
            Some(watermark) => Progress {
                watermark,
                idle: true,
            },
            None if inputs.is_empty() => Progress {
                watermark: EventTime::NONE,
                idle: true,
            },
            None => Progress::at(EventTime::END),
        }
    }

    /// The same input later: a watermark never goes back.
    pub fn advance_to(&mut self, next: Progress) {
        self.watermark = self.watermark.max(next.watermark);
        self.idle = next.idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_inputs_hold_nobody_back() {
        let at = |ms, idle| Progress {
            watermark: EventTime(ms),
            idle,
        };
        assert_eq!(
            Progress::combine(&[at(5, false), at(3, true)]),
            at(5, false)
        );
        assert_eq!(
            Progress::combine(&[at(5, false), at(3, false)]),
            at(3, false)
        );
        assert_eq!(Progress::combine(&[at(5, true), at(3, true)]), at(5, true));
    }

    #[test]
    fn an_input_that_has_ended_leaves_the_time_to_the_others() {
        let end = Progress::at(EventTime::END);
        let five = Progress::at(EventTime(5));
        let idle = Progress { idle: true, ..five };
        assert_eq!(Progress::combine(&[end, five]), five);
        assert_eq!(Progress::combine(&[end, idle]), idle);
        assert_eq!(Progress::combine(&[end, end]), end);
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let mut progress = Progress::at(EventTime(5));
        progress.advance_to(Progress::at(EventTime(3)));
        assert_eq!(progress.watermark, EventTime(5));
    }
}
