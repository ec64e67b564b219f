//! The splits of one scan, as the engine's own thread sees them: how far each has come, which of them count, and which
//! may be read next.

use crate::epoch::{SourceState, SplitState};
use crate::error::{Error, Result};
use crate::operator::watermark::SplitWatermark;
use crate::source::{Position, Positions, Source, Split, Waker};
use crate::time::{EventTime, Progress};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a lane is told about a split before a round.
#[derive(Debug, Clone)]
pub struct SplitView {
    pub split: Split,
    /// Its number in the engine's list, which the hidden column carries.
    pub ordinal: i32,
    /// The smallest watermark of the other splits of its source.
    pub others: EventTime,
    /// The source's watermark.
    pub source_watermark: EventTime,
    pub now_ms: i64,
    /// Whether it may be read in this round; one that ran ahead of the others waits.
    pub read: bool,
}

/// What a lane says about a split after a round.
#[derive(Debug, Clone)]
pub struct SplitReport {
    pub scan: usize,
    pub ordinal: i32,
    pub position: Position,
    pub watermark: EventTime,
    /// Something was read.
    pub worked: bool,
    pub at_end: bool,
    pub finished: bool,
    pub lag: Option<u64>,
}

/// One split, on the engine's side.
#[derive(Debug, Clone)]
pub struct LiveSplit {
    pub split: Split,
    pub ordinal: i32,
    pub lane: usize,
    pub position: Position,
    pub watermark: EventTime,
    pub at_end: bool,
    pub finished: bool,
    pub idle: bool,
    /// It ran ahead of the others, and waits for them.
    pub paused: bool,
    pub lag: Option<u64>,
    /// When something was last read, or when it was opened.
    active_at_ms: i64,
}

/// A scan's splits.
pub struct ScanSplits {
    pub table: String,
    opening: Opening,
    pub splits: Vec<LiveSplit>,
    /// Sources of one group wait for each other.
    pub group: String,
    /// How far, in event time, a split may run ahead of the slowest of the group.
    pub max_drift_ms: i64,
    /// Whether the table has a watermark at all; one without never holds others back or is held back.
    pub timed: bool,
    idle_timeout_ms: i64,
    /// Positions from the checkpoint of splits that were not discovered (yet).
    unclaimed: BTreeMap<Split, SplitState>,
    /// The watermark of the whole source; never goes back.
    progress: Progress,
    /// The smallest first watermark of a split.
    first: Option<EventTime>,
}

/// How a scan deals with time, from the table's options and the job's settings.
pub struct Habits {
    pub timed: bool,
    pub idle_timeout_ms: i64,
    pub group: String,
    pub max_drift_ms: i64,
}

/// A source asks its server for splits on a thread of its own at first: a server that is away must hold up neither the other sources
/// nor the epochs, whose commits are the job's heartbeat.
enum Opening {
    Asking(JoinHandle<Asked>),
    Open(Box<dyn Source>),
    /// Only while the one becomes the other, or when asking failed.
    Gone,
}

type Asked = (Box<dyn Source>, Result<Vec<Split>>);

/// A split that was found and is to be opened on a lane.
pub struct Found {
    pub index: usize,
    pub restored: Option<SplitWatermark>,
    pub from: Option<Position>,
}

impl ScanSplits {
    pub fn new(
        table: String,
        mut source: Box<dyn Source>,
        waker: Waker,
        habits: Habits,
        restored: Option<&SourceState>,
        progress: Progress,
    ) -> Self {
        let unclaimed = restored
            .into_iter()
            .flat_map(|state| &state.splits)
            .map(|state| {
                let split = Split {
                    topic: state.topic.as_str().into(),
                    partition: state.partition,
                };
                (split, state.clone())
            });
        if restored.is_some_and(|state| !state.splits.is_empty()) {
            source.restored();
        }
        let asking = std::thread::spawn(move || {
            let splits = source.discover();
            waker.wake();
            (source, splits)
        });
        ScanSplits {
            table,
            opening: Opening::Asking(asking),
            splits: Vec::new(),
            group: habits.group,
            max_drift_ms: habits.max_drift_ms,
            timed: habits.timed,
            idle_timeout_ms: habits.idle_timeout_ms,
            unclaimed: unclaimed.collect(),
            progress,
            first: None,
        }
    }

    /// Whether the source is still asking its server for the first time.
    pub fn opening(&self) -> bool {
        matches!(self.opening, Opening::Asking(_))
    }

    pub fn source(&mut self) -> Option<&mut Box<dyn Source>> {
        match &mut self.opening {
            Opening::Open(source) => Some(source),
            Opening::Asking(_) | Opening::Gone => None,
        }
    }

    fn new_splits(&mut self) -> Result<Vec<Split>> {
        match std::mem::replace(&mut self.opening, Opening::Gone) {
            Opening::Asking(thread) if thread.is_finished() => {
                let (source, splits) = thread.join().map_err(|_| {
                    Error::bug(format!(
                        "table '{}': asking for its splits panicked",
                        self.table
                    ))
                })?;
                self.opening = Opening::Open(source);
                splits
            }
            Opening::Open(mut source) => {
                let splits = source.discover();
                self.opening = Opening::Open(source);
                splits
            }
            other => {
                self.opening = other;
                Ok(Vec::new())
            }
        }
    }

    /// Asks the source for new splits and gives each a number and a lane.
    pub fn discover(
        &mut self,
        next_ordinal: &mut i32,
        lanes: usize,
        now_ms: i64,
    ) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for split in self.new_splits()? {
            let restored = self.unclaimed.remove(&split);
            let index = self.splits.len();
            let watermark = restored
                .as_ref()
                .map_or(EventTime::NONE, |s| s.progress.watermark);
            let from = restored.as_ref().map(|state| state.position);
            self.splits.push(LiveSplit {
                split,
                ordinal: *next_ordinal,
                lane: index % lanes,
                position: from.unwrap_or(Position {
                    offset: 0,
                    finished: false,
                }),
                watermark,
                at_end: false,
                finished: false,
                idle: restored.as_ref().is_some_and(|state| state.progress.idle),
                paused: false,
                lag: None,
                active_at_ms: now_ms,
            });
            *next_ordinal += 1;
            found.push(Found {
                index,
                restored: restored.map(|s| SplitWatermark(s.progress.watermark)),
                from,
            });
        }
        Ok(found)
    }

    pub fn report(&mut self, report: &SplitReport, now_ms: i64) {
        let Some(split) = self
            .splits
            .iter_mut()
            .find(|split| split.ordinal == report.ordinal)
        else {
            return;
        };
        split.position = report.position;
        if split.watermark == EventTime::NONE && report.watermark != EventTime::NONE {
            self.first = Some(
                self.first
                    .map_or(report.watermark, |at| at.min(report.watermark)),
            );
        }
        split.watermark = split.watermark.max(report.watermark);
        split.at_end = report.at_end;
        split.finished = report.finished;
        split.lag = report.lag;
        if report.worked {
            split.active_at_ms = now_ms;
            split.idle = false;
        }
    }

    /// How far the source as a whole has come.
    pub fn progress(&mut self, now_ms: i64) -> Progress {
        if self.finished() {
            return Progress::at(EventTime::END);
        }
        if !self.timed {
            return Progress {
                watermark: EventTime::NONE,
                idle: self.splits.is_empty(),
            };
        }
        for split in &mut self.splits {
            // A split that is merely not read yet, or waits for others, is never idle.
            let quiet = now_ms - split.active_at_ms >= self.idle_timeout_ms;
            split.idle =
                (split.idle || quiet) && split.at_end && !split.paused && self.idle_timeout_ms > 0;
        }
        let open = self.splits.iter().filter(|split| !split.finished);
        let inputs: Vec<_> = open
            .map(|split| Progress {
                watermark: split.watermark,
                idle: split.idle,
            })
            .collect();
        if !self.opening() {
            self.progress.advance_to(Progress::combine(&inputs));
        }
        self.progress
    }

    /// Every split has been read to its end, and no more will come.
    fn finished(&self) -> bool {
        let Opening::Open(source) = &self.opening else {
            return false;
        };
        source.bounded() && self.splits.iter().all(|split| split.finished)
    }

    /// The smallest watermark among the splits that still have something to read now: what the others are aligned with.
    pub fn slowest(&self) -> Option<EventTime> {
        let reading = self
            .splits
            .iter()
            .filter(|split| !split.finished && !split.at_end);
        if self.timed {
            reading.map(|split| split.watermark).min()
        } else {
            None
        }
    }

    /// Where the source began, as far as that was seen: the others wait there for a split that has shown nothing yet.
    pub fn first(&self) -> Option<EventTime> {
        self.first
    }

    /// What each lane is told. `base` is how far the slowest of the group has come.
    pub fn views(&mut self, base: Option<EventTime>, now_ms: i64) -> Vec<SplitView> {
        let limit = base.map_or(EventTime::END, |at| at.plus(self.max_drift_ms));
        for split in &mut self.splits {
            split.paused = self.timed && !split.finished && split.watermark > limit;
        }
        let counting = |split: &&LiveSplit| !split.finished && !split.idle;
        let view = |at: usize, split: &LiveSplit| {
            let others = self
                .splits
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            let others = others
                .map(|(_, split)| split)
                .filter(counting)
                .map(|s| s.watermark)
                .min();
            SplitView {
                split: split.split.clone(),
                ordinal: split.ordinal,
                others: others.unwrap_or(EventTime::END),
                source_watermark: self.progress.watermark,
                now_ms,
                read: !split.finished && !split.paused,
            }
        };
        self.splits
            .iter()
            .enumerate()
            .map(|(at, split)| view(at, split))
            .collect()
    }

    /// What an epoch keeps: also the positions of splits that are gone from the server's answer for now.
    pub fn state(&self) -> SourceState {
        let live = self.splits.iter().map(|split| SplitState {
            topic: split.split.topic.to_string(),
            partition: split.split.partition,
            position: split.position,
            progress: Progress {
                watermark: split.watermark,
                idle: split.idle,
            },
        });
        SourceState {
            splits: live.chain(self.unclaimed.values().cloned()).collect(),
        }
    }

    pub fn positions(&self) -> Positions {
        self.splits
            .iter()
            .map(|split| (split.split.clone(), split.position))
            .collect()
    }

    /// The open split that holds the watermark back.
    pub fn holding_back(&self) -> Option<&LiveSplit> {
        let open = self
            .splits
            .iter()
            .filter(|split| !split.finished && !split.idle);
        if self.timed {
            open.min_by_key(|split| split.watermark)
        } else {
            None
        }
    }
}

/// The list of all splits by number, which lanes use to name the origin of a late row.
#[derive(Debug, Clone, Default)]
pub struct SplitNames(pub Vec<(Arc<str>, Split)>);
