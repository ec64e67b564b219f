//! The splits of one scan, as the engine's own thread sees them: how far each has come, which of them count, and which
//! may be read next.

use crate::epoch::{SourceState, SplitState};
use crate::error::{Error, Result};
use crate::operator::watermark::SplitWatermark;
use crate::source::{Position, Positions, Reader, Source, Split, Waker};
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
    /// About how many bytes were read.
    pub read: usize,
    pub at_end: bool,
    /// Whether its server is there to say so.
    pub answers: bool,
    pub finished: bool,
    pub lag: Option<u64>,
}

/// One split, on the engine's side.
#[derive(Debug, Clone)]
pub struct LiveSplit {
    pub split: Split,
    pub ordinal: i32,
    pub position: Position,
    pub watermark: EventTime,
    pub at_end: bool,
    pub idle: bool,
    answers: bool,
    /// It ran ahead of the others, and waits for them.
    pub paused: bool,
    pub lag: Option<u64>,
    /// When something was last read or there was something to read, or when it was opened.
    active_at_ms: i64,
}

/// A scan's splits.
pub struct ScanSplits {
    pub table: String,
    opening: Opening,
    /// Whether the user goes on without what is left of splits that are gone.
    may_drop: bool,
    /// Those that are read, by their numbers. Only these cost anything in a round.
    pub reading: BTreeMap<i32, LiveSplit>,
    /// Those that were read to their end, in that order: a checkpoint has to know that they were.
    pub finished: Vec<LiveSplit>,
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
    /// When something was last read of any split, or a new one was found.
    active_at_ms: i64,
    /// The smallest first watermark of a split.
    first: Option<EventTime>,
}

/// How a scan deals with time, from the table's options and the job's settings.
pub struct Habits {
    pub timed: bool,
    pub idle_timeout_ms: i64,
    pub group: String,
    pub max_drift_ms: i64,
    /// `tributary.allow-dropped-state`.
    pub may_drop: bool,
}

/// A source that asks its server for splits and opens them, on a thread of its own at first: a server that is away must hold up neither the
/// other sources nor the epochs, whose commits are the job's heartbeat. What it fetches comes while the job is made ready.
pub struct Asking {
    thread: JoinHandle<Asked>,
    /// What a checkpoint knows of its splits.
    known: BTreeMap<Split, SplitState>,
}

type Asked = (Box<dyn Source>, Result<Vec<Opened>>);
type Opened = (Split, Box<dyn Reader>);

impl Asking {
    pub fn begin(
        mut source: Box<dyn Source>,
        restored: Option<&SourceState>,
        waker: Waker,
    ) -> Asking {
        let known = restored.into_iter().flat_map(|state| &state.splits);
        let known: BTreeMap<Split, SplitState> = known
            .map(|state| {
                let split = Split {
                    topic: state.topic.as_str().into(),
                    partition: state.partition,
                };
                (source.renamed(split), state.clone())
            })
            .collect();
        let from = known.clone();
        let thread = std::thread::spawn(move || {
            if !from.is_empty() {
                source.restored();
            }
            let opened = find(source.as_mut(), &from);
            waker.wake();
            (source, opened)
        });
        Asking { thread, known }
    }
}

/// Asks for splits that are new, and opens each where a checkpoint has it.
fn find(source: &mut dyn Source, known: &BTreeMap<Split, SplitState>) -> Result<Vec<Opened>> {
    let splits = source.discover()?;
    let open = |split: Split| {
        let from = known.get(&split).map(|state| state.position);
        let reader = source.open(&split, from)?;
        Ok((split, reader))
    };
    splits.into_iter().map(open).collect()
}

enum Opening {
    Asking(JoinHandle<Asked>),
    Open(Box<dyn Source>),
    /// Only while the one becomes the other, or when asking failed.
    Gone,
}

/// A split that was found, for a lane to read.
pub struct Found {
    pub split: Split,
    pub ordinal: i32,
    pub lane: usize,
    pub watermark: SplitWatermark,
    /// None where nothing is left to read of it.
    pub reader: Option<Box<dyn Reader>>,
}

impl ScanSplits {
    pub fn new(table: String, source: Asking, habits: Habits, progress: Progress) -> Self {
        ScanSplits {
            table,
            opening: Opening::Asking(source.thread),
            may_drop: habits.may_drop,
            reading: BTreeMap::new(),
            finished: Vec::new(),
            group: habits.group,
            max_drift_ms: habits.max_drift_ms,
            timed: habits.timed,
            idle_timeout_ms: habits.idle_timeout_ms,
            unclaimed: source.known,
            progress,
            active_at_ms: 0,
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

    fn new_splits(&mut self) -> Result<Vec<Opened>> {
        match std::mem::replace(&mut self.opening, Opening::Gone) {
            Opening::Asking(thread) if thread.is_finished() => {
                let (source, opened) = thread.join().map_err(|_| {
                    Error::bug(format!(
                        "table '{}': asking for its splits panicked",
                        self.table
                    ))
                })?;
                self.opening = Opening::Open(source);
                opened
            }
            Opening::Open(mut source) => {
                let opened = find(source.as_mut(), &self.unclaimed);
                self.opening = Opening::Open(source);
                opened
            }
            other => {
                self.opening = other;
                Ok(Vec::new())
            }
        }
    }

    /// Takes the splits that are new, and gives each a number and a lane.
    pub fn discover(
        &mut self,
        next_ordinal: &mut i32,
        lanes: usize,
        now_ms: i64,
    ) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let was_opening = self.opening();
        if was_opening {
            self.active_at_ms = now_ms;
        }
        for (split, reader) in self.new_splits()? {
            self.active_at_ms = now_ms;
            let restored = self.unclaimed.remove(&split);
            let progress = restored.map_or(Progress::START, |state| state.progress);
            let position = reader.position();
            let ordinal = *next_ordinal;
            *next_ordinal += 1;
            let live = LiveSplit {
                split: split.clone(),
                ordinal,
                position,
                watermark: progress.watermark,
                at_end: false,
                idle: progress.idle,
                answers: true,
                paused: false,
                lag: None,
                active_at_ms: now_ms,
            };
            let lane = (self.reading.len() + self.finished.len()) % lanes;
            if position.finished {
                self.finished.push(live);
            } else {
                self.reading.insert(ordinal, live);
            }
            found.push(Found {
                split,
                ordinal,
                lane,
                watermark: SplitWatermark(progress.watermark),
                reader: (!position.finished).then_some(reader),
            });
        }
        if was_opening && !self.opening() {
            self.tell_of_gone()?;
        }
        Ok(found)
    }

    /// Splits that were not read to their end, and that the source's first answer does not have any more.
    fn tell_of_gone(&mut self) -> Result<()> {
        let left = self.unclaimed.iter();
        let left = left.filter(|(_, state)| !state.position.finished);
        let gone: Vec<(Split, Position)> = left
            .map(|(split, state)| (split.clone(), state.position))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let told = match self.source() {
            Some(source) => source.gone(&gone),
            None => Ok(()),
        };
        match told {
            Err(error) if self.may_drop => {
                tracing::warn!("the job goes on without what is lost: {error}");
                self.unclaimed.retain(|_, state| state.position.finished);
                Ok(())
            }
            told => told,
        }
    }

    fn finish(&mut self, ordinal: i32) {
        self.finished.extend(self.reading.remove(&ordinal));
    }

    pub fn report(&mut self, report: &SplitReport, now_ms: i64) {
        let Some(split) = self.reading.get_mut(&report.ordinal) else {
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
        split.answers = report.answers;
        split.lag = report.lag;
        if report.read > 0 {
            split.idle = false;
            self.active_at_ms = now_ms;
        }
        // It is quiet only while it is known to have nothing more: not while its server is away, nor at once when that is back.
        if report.read > 0 || !(report.at_end && report.answers) {
            split.active_at_ms = now_ms;
        }
        if report.finished {
            // What it said last counts as if it had said it before it ended.
            if self.timed {
                self.advance();
            }
            self.finish(report.ordinal);
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
                idle: self.reading.is_empty(),
            };
        }
        let timeout = self.idle_timeout_ms;
        let quiet = |already: bool, active_at_ms: i64| {
            timeout > 0 && (already || now_ms - active_at_ms >= timeout)
        };
        for split in self.reading.values_mut() {
            // A split that is merely not read yet, or waits for others, or whose server is away, is never idle.
            let may = split.at_end && split.answers && !split.paused;
            split.idle = may && quiet(split.idle, split.active_at_ms);
        }
        if self.opening() {
            return self.progress;
        }
        if self.reading.is_empty() {
            // The next file may come as soon as the next record of a partition.
            self.progress.idle = quiet(self.progress.idle, self.active_at_ms);
        } else {
            self.advance();
        }
        self.progress
    }

    /// As far as the slowest of the splits that are read.
    fn advance(&mut self) {
        let inputs: Vec<_> = self
            .reading
            .values()
            .map(|split| Progress {
                watermark: split.watermark,
                idle: split.idle,
            })
            .collect();
        self.progress.advance_to(Progress::combine(&inputs));
    }

    /// Every split has been read to its end, and no more will come.
    fn finished(&self) -> bool {
        let Opening::Open(source) = &self.opening else {
            return false;
        };
        source.bounded() && self.reading.is_empty()
    }

    /// The smallest watermark among the splits that still have something to read now: what the others are aligned with.
    pub fn slowest(&self) -> Option<EventTime> {
        let reading = self.reading.values().filter(|split| !split.at_end);
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
        for split in self.reading.values_mut() {
            split.paused = self.timed && split.watermark > limit;
        }
        let two = self.two_slowest();
        let view = |split: &LiveSplit| {
            let other = two.iter().flatten().find(|(_, who)| *who != split.ordinal);
            SplitView {
                split: split.split.clone(),
                ordinal: split.ordinal,
                others: other.map_or(EventTime::END, |(at, _)| *at),
                source_watermark: self.progress.watermark,
                now_ms,
                read: !split.paused,
            }
        };
        self.reading.values().map(view).collect()
    }

    /// The two smallest watermarks of splits that count, each with its split: all that is needed to know, for any split, how far the
    /// others are.
    fn two_slowest(&self) -> [Option<(EventTime, i32)>; 2] {
        let mut two: [Option<(EventTime, i32)>; 2] = [None, None];
        for split in self.reading.values().filter(|split| !split.idle) {
            let this = (split.watermark, split.ordinal);
            if two[0].is_none_or(|first| this < first) {
                two = [Some(this), two[0]];
            } else if two[1].is_none_or(|second| this < second) {
                two[1] = Some(this);
            }
        }
        two
    }

    fn all(&self) -> impl Iterator<Item = &LiveSplit> {
        self.finished.iter().chain(self.reading.values())
    }

    /// What an epoch keeps: also the positions of splits that are gone from the server's answer for now.
    pub fn state(&self) -> SourceState {
        let live = self.all().map(|split| SplitState {
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
        self.all()
            .map(|split| (split.split.clone(), split.position))
            .collect()
    }
}

/// The list of all splits by number, which lanes use to name the origin of a late row.
#[derive(Debug, Clone, Default)]
pub struct SplitNames(pub Arc<Vec<(Arc<str>, Split)>>);

#[cfg(test)]
#[path = "splits_tests.rs"]
mod tests;
