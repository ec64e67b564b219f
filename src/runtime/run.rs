//! The life of a job once its engine stands: rounds, epochs at their interval, and the end.

use super::engine::{Engine, millis};
use crate::clock::Clock;
use crate::epoch::{Committed, Coordinator};
use crate::error::{Error, Kind, Result};
use crate::source::{Positions, Waker};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::info;

/// The longest that an idle engine sleeps: time passes for idle splits and open files too.
const NAP: Duration = Duration::from_millis(100);
/// The pause after a round that read little, or a trickle of single records would cost thousands of rounds a second. It is too short for
/// anybody to notice, and in a stream that is worth a round of its own there is none.
const PAUSE: Duration = Duration::from_millis(5);
/// How many bytes are little: about what 20,000 records a second are in a pause.
const LITTLE: usize = 32 << 10;

/// How far behind an epoch may be, where two intervals are less: then rows wait in their source until it is published.
const MOST_BEHIND_MS: i64 = 10_000;

/// Asks a run to stop in good order.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    waker: Waker,
}

impl Stop {
    pub fn new(waker: Waker) -> Self {
        Stop {
            asked: Arc::default(),
            waker,
        }
    }

    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Every source came to its end.
    Ended,
    /// Somebody asked it to stop.
    Stopped,
    /// Somebody asked it to stop while it waited for a server. What was read since the last epoch is in none, and read again.
    Waiting,
}

/// What an observer is told.
pub enum Event<'a> {
    /// The first records were read.
    Begun,
    /// A round is over.
    Round(&'a Engine),
    /// An epoch is published.
    Published(&'a Committed),
}

/// A job at work.
pub struct Run {
    pub engine: Engine,
    pub coordinator: Coordinator,
    pub interval: Duration,
    pub clock: Arc<dyn Clock>,
    pub waker: Waker,
    pub runtime: Handle,
}

/// An epoch that is being committed beside the rounds. It has the coordinator with it: one epoch at a time.
struct Pending {
    task: JoinHandle<(Box<Coordinator>, Result<Committed>)>,
    positions: BTreeMap<String, Positions>,
}

/// The coordinator is at hand, or under way with an epoch.
enum Commits {
    Idle(Box<Coordinator>),
    Busy(Pending),
}

impl Run {
    /// Works until the sources end, somebody asks to stop, or something fails that cannot be retried.
    pub fn run(self, stop: &Stop, observe: &mut dyn FnMut(Event<'_>)) -> Result<Finish> {
        let Run {
            mut engine,
            coordinator,
            interval,
            clock,
            waker,
            runtime,
        } = self;
        let beside = Beside {
            waker: waker.clone(),
            runtime,
        };
        let mut heart = Heart::new(interval, clock.now_ms());
        let mut commits = Commits::Idle(Box::new(coordinator));
        let finish = loop {
            if stop.asked() {
                break Finish::Stopped;
            }
            let wait = heart.wait(clock.now_ms());
            commits = match commits {
                Commits::Busy(pending) if pending.task.is_finished() => {
                    Commits::Idle(beside.settle(pending, &mut engine, observe)?)
                }
                // An epoch that takes longer than the interval delays the next one; the rows flow on.
                Commits::Idle(coordinator) if wait.is_zero() => {
                    heart.beat(clock.now_ms());
                    Commits::Busy(beside.barrier(coordinator, &mut engine, false)?)
                }
                other => other,
            };
            // What is read now makes the next epoch longer: where publishing is slower than reading, longer with each.
            if matches!(commits, Commits::Busy(_)) && heart.has_missed(clock.now_ms()) {
                observe(Event::Round(&engine));
                waker.wait(NAP);
                continue;
            }
            let had_begun = engine.begun();
            let read = match engine.round() {
                Err(error) if error.kind() == Kind::Stopped => {
                    info!("{error}");
                    if let Commits::Busy(pending) = commits {
                        beside.settle(pending, &mut engine, observe)?;
                    }
                    return Ok(Finish::Waiting);
                }
                read => read?,
            };
            if engine.begun() && !had_begun {
                observe(Event::Begun);
            }
            observe(Event::Round(&engine));
            if engine.finished() {
                break Finish::Ended;
            }
            match Rest::after(read) {
                Rest::UntilWoken => {
                    let due = heart.wait(clock.now_ms()).max(Duration::from_millis(1));
                    let busy = matches!(commits, Commits::Busy(_));
                    waker.wait(if busy { NAP } else { due.min(NAP) });
                }
                // Not the waker: the next record of the trickle would end the pause.
                Rest::Pause => std::thread::sleep(PAUSE),
                Rest::None => {}
            }
        };
        let coordinator = match commits {
            Commits::Idle(coordinator) => coordinator,
            Commits::Busy(pending) => beside.settle(pending, &mut engine, observe)?,
        };
        let last = beside.barrier(coordinator, &mut engine, true)?;
        beside.settle(last, &mut engine, observe)?;
        Ok(finish)
    }
}

/// What comes between a round and the next.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    None,
    Pause,
    UntilWoken,
}

impl Rest {
    /// After a round that read so many bytes.
    fn after(read: usize) -> Rest {
        match read {
            0 => Rest::UntilWoken,
            1..LITTLE => Rest::Pause,
            LITTLE.. => Rest::None,
        }
    }
}

/// When the next epoch is due. Each is a heartbeat, by which others know that the owner lives.
struct Heart {
    interval_ms: i64,
    last_ms: i64,
}

impl Heart {
    fn new(interval: Duration, now_ms: i64) -> Heart {
        Heart {
            interval_ms: millis(interval),
            last_ms: now_ms,
        }
    }

    fn beat(&mut self, now_ms: i64) {
        self.last_ms = now_ms;
    }

    /// Whether an epoch holds up the next one for so long that nothing more should be read.
    fn has_missed(&self, now_ms: i64) -> bool {
        let patience_ms = self.interval_ms.saturating_mul(2).max(MOST_BEHIND_MS);
        now_ms.saturating_sub(self.last_ms) > patience_ms
    }

    /// How long until the next beat. A clock that was set back must not keep the heart from beating, so it counts anew from there.
    fn wait(&mut self, now_ms: i64) -> Duration {
        self.last_ms = self.last_ms.min(now_ms);
        let wait = self
            .last_ms
            .saturating_add(self.interval_ms)
            .saturating_sub(now_ms);
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }
}

/// What commits beside the rounds.
struct Beside {
    waker: Waker,
    runtime: Handle,
}

impl Beside {
    fn barrier(
        &self,
        mut coordinator: Box<Coordinator>,
        engine: &mut Engine,
        last: bool,
    ) -> Result<Pending> {
        let (mut barrier, positions) = engine.barrier(coordinator.next_epoch(), last)?;
        barrier.released = last;
        let waker = self.waker.clone();
        let task = self.runtime.spawn(async move {
            let committed = coordinator.commit(barrier).await;
            waker.wake();
            (coordinator, committed)
        });
        Ok(Pending { task, positions })
    }

    fn settle(
        &self,
        pending: Pending,
        engine: &mut Engine,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Box<Coordinator>> {
        let Pending { task, positions } = pending;
        let (coordinator, committed) = self.runtime.block_on(task).map_err(|error| {
            Error::bug("the task that commits an epoch ended without an answer").caused_by(error)
        })?;
        let committed = committed?;
        engine.committed(&positions, &committed.ledger);
        observe(Event::Published(&committed));
        Ok(coordinator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_gathered_and_a_stream_is_not_held_up() {
        assert_eq!(Rest::after(0), Rest::UntilWoken);
        assert_eq!(Rest::after(1), Rest::Pause);
        assert_eq!(Rest::after(300), Rest::Pause);
        assert_eq!(Rest::after(1 << 20), Rest::None);
    }

    #[test]
    fn the_heart_beats_at_its_interval_and_on_a_clock_that_was_set_back() {
        let mut heart = Heart::new(Duration::from_secs(10), 1_000_000);
        assert_eq!(heart.wait(1_004_000), Duration::from_secs(6));
        assert_eq!(heart.wait(1_010_000), Duration::ZERO);
        assert_eq!(heart.wait(1_099_000), Duration::ZERO);
        heart.beat(1_099_000);
        assert_eq!(heart.wait(1_099_000), Duration::from_secs(10));
        // Longer than two intervals, or ten seconds.
        assert!(!heart.has_missed(1_119_000));
        assert!(heart.has_missed(1_119_001));
        // An hour back, so that the old time is not reached again for an hour.
        assert_eq!(heart.wait(1_099_000 - 3_600_000), Duration::from_secs(10));
        assert_eq!(heart.wait(1_109_000 - 3_600_000), Duration::ZERO);
    }
}
