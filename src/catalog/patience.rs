//! When to try again what has failed.

use crate::error::{Error, Kind};

const FIRST_MS: i64 = 1_000;
const LONGEST_MS: i64 = 5 * 60_000;

/// Something that does not work at the moment.
#[derive(Debug)]
pub struct Trouble {
    pub since_ms: i64,
    pub next_ms: i64,
    /// Nobody answers; else somebody has to change something.
    pub away: bool,
    pub message: String,
    pause_ms: i64,
}

impl Trouble {
    pub fn new(now_ms: i64) -> Trouble {
        Trouble {
            since_ms: now_ms,
            next_ms: now_ms,
            away: true,
            message: String::new(),
            pause_ms: FIRST_MS,
        }
    }

    /// It failed (again); `jitter` is between 0 and 1. Says whether that is worth a word.
    pub fn again(&mut self, error: &Error, now_ms: i64, jitter: f64) -> bool {
        let away = error.kind() == Kind::Retry;
        let message = error.to_string();
        let first = self.message.is_empty();
        let news = first || away != self.away || (!away && message != self.message);
        (self.away, self.message) = (away, message);
        // Half of it at least, so that a pause is one.
        #[expect(clippy::cast_possible_truncation, reason = "minutes, as milliseconds")]
        let pause = (self.pause_ms as f64 * (0.5 + jitter / 2.0)) as i64;
        self.next_ms = now_ms + pause;
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_MS);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_one_word_is_said() {
        let mut trouble = Trouble::new(0);
        let mut words = 0;
        let pauses: Vec<i64> = (0..11)
            .map(|attempt| {
                let error = Error::retry(format!("attempt {attempt}"));
                words += usize::from(trouble.again(&error, 7, 1.0));
                trouble.next_ms - 7
            })
            .collect();
        assert_eq!(words, 1);
        assert_eq!(
            pauses[..4],
            [1_000, 2_000, 4_000, 8_000],
            "twice as long each time"
        );
        assert_eq!(pauses[9..], [300_000, 300_000]);
        trouble.again(&Error::retry("again"), 7, 0.0);
        assert_eq!(trouble.next_ms - 7, 150_000);
    }

    #[test]
    fn another_refusal_is_another_word() {
        let mut trouble = Trouble::new(0);
        let mut again = |error: Error| trouble.again(&error, 0, 1.0);
        assert!(again(Error::job("no permission")));
        assert!(!again(Error::job("no permission")));
        assert!(again(Error::job("another type")));
        assert!(again(Error::retry("away")));
        assert!(!again(Error::retry("still away")));
    }
}
