use super::*;
use crate::source::Poll;

const TIMEOUT_MS: i64 = 1_000;

/// Finds what it is told to, and gives readers that only know where they stand.
struct Scripted {
    splits: Vec<Split>,
    bounded: bool,
}

struct Standing(Position);

impl Source for Scripted {
    fn discover(&mut self) -> Result<Vec<Split>> {
        Ok(std::mem::take(&mut self.splits))
    }

    fn open(&mut self, _split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Standing(from.unwrap_or(at(0, false)))))
    }

    fn renamed(&self, split: Split) -> Split {
        let topic = split.topic.trim_start_matches("./").into();
        Split { topic, ..split }
    }

    fn gone(&mut self, splits: &[(Split, Position)]) -> Result<()> {
        let names: Vec<&str> = splits.iter().map(|(split, _)| &*split.topic).collect();
        Err(Error::job(format!("gone: {names:?}")))
    }

    fn acknowledge(&mut self, _positions: &Positions) {}

    fn bounded(&self) -> bool {
        self.bounded
    }
}

impl Reader for Standing {
    fn poll(&mut self, _max_bytes: usize) -> Result<Poll> {
        Ok(Poll::Finished)
    }

    fn position(&self) -> Position {
        self.0
    }
}

fn at(offset: i64, finished: bool) -> Position {
    Position { offset, finished }
}

/// The splits of a source whose answer is there, opened.
fn opened(names: &[&str], bounded: bool, restored: Option<&SourceState>) -> ScanSplits {
    answered(names, bounded, restored, false).unwrap()
}

fn answered(
    names: &[&str],
    bounded: bool,
    restored: Option<&SourceState>,
    may_drop: bool,
) -> Result<ScanSplits> {
    let splits = names.iter().map(|name| Split {
        topic: (*name).into(),
        partition: 0,
    });
    let source = Scripted {
        splits: splits.collect(),
        bounded,
    };
    let habits = Habits {
        timed: true,
        idle_timeout_ms: TIMEOUT_MS,
        group: String::new(),
        max_drift_ms: 100,
        may_drop,
    };
    let waker = Waker::default();
    let mut scan = ScanSplits::new(
        "t".to_string(),
        Asking::begin(Box::new(source), restored, waker.clone()),
        habits,
        Progress::START,
    );
    let mut next = 0;
    while scan.opening() {
        scan.discover(&mut next, 1, 0)?;
        std::thread::yield_now();
    }
    Ok(scan)
}

/// What a lane says of a split; `worked` where rows came.
fn report(ordinal: i32, watermark: i64, worked: bool, at_end: bool, finished: bool) -> SplitReport {
    SplitReport {
        scan: 0,
        ordinal,
        position: at(watermark, finished),
        watermark: EventTime(watermark),
        read: usize::from(worked),
        at_end,
        answers: true,
        finished,
        lag: None,
    }
}

#[test]
fn a_watched_folder_is_idle_when_nothing_came_for_the_timeout() {
    let mut folder = opened(&["a"], false, None);
    folder.report(&report(0, 50, true, false, false), 10);
    folder.report(&report(0, 50, false, true, true), 20);
    assert_eq!(folder.progress(20), Progress::at(EventTime(50)));
    assert_eq!(folder.progress(9 + TIMEOUT_MS), Progress::at(EventTime(50)));
    let idle = Progress {
        watermark: EventTime(50),
        idle: true,
    };
    assert_eq!(folder.progress(10 + TIMEOUT_MS), idle);

    let mut empty = opened(&[], false, None);
    assert!(!empty.progress(TIMEOUT_MS - 1).idle);
    assert!(empty.progress(TIMEOUT_MS).idle);

    let mut bounded = opened(&["a"], true, None);
    bounded.report(&report(0, 50, false, true, true), 20);
    assert_eq!(bounded.progress(20), Progress::at(EventTime::END));
}

#[test]
fn a_split_that_is_gone_before_its_end_is_told() {
    let state = |name: &str, offset: i64, finished: bool| SplitState {
        topic: name.to_string(),
        partition: 0,
        position: at(offset, finished),
        progress: Progress::START,
    };
    let restored = |splits: Vec<SplitState>| SourceState { splits };
    // Who has read a file may clean it away.
    let cleaned = restored(vec![state("a", 3, true), state("b", 3, false)]);
    let scan = opened(&["b"], true, Some(&cleaned));
    assert_eq!(
        scan.state().splits.len(),
        2,
        "it is not read again if it comes back"
    );

    let lost = restored(vec![state("a", 3, false), state("b", 3, false)]);
    let error = answered(&["b"], true, Some(&lost), false).err().unwrap();
    assert!(error.to_string().contains(r#"gone: ["a"]"#), "{error}");
    let scan = answered(&["b"], true, Some(&lost), true).unwrap();
    assert_eq!(scan.state().splits.len(), 1, "it is given up for good");
}

#[test]
fn a_split_that_was_named_in_another_way_goes_on_where_it_was() {
    let mut before = opened(&["./a", "./b"], false, None);
    before.report(&report(0, 50, false, true, true), 0);
    let now = opened(&["a", "b"], true, Some(&before.state()));
    let splits = now.state().splits;
    let found: Vec<_> = splits
        .iter()
        .map(|split| (split.topic.as_str(), split.position))
        .collect();
    assert_eq!(found, [("a", at(50, true)), ("b", at(0, false))]);
}

#[test]
fn a_split_that_waits_for_others_is_never_idle() {
    let mut scan = opened(&["a"], false, None);
    scan.report(&report(0, 500, true, true, false), 0);
    let others_are_far_behind = Some(EventTime(0));
    assert!(!scan.views(others_are_far_behind, TIMEOUT_MS)[0].read);
    assert_eq!(
        scan.progress(5 * TIMEOUT_MS),
        Progress::at(EventTime(500)),
        "at its end and quiet for long, but paused"
    );
    assert!(!scan.reading[&0].idle);
    assert!(scan.views(Some(EventTime(450)), TIMEOUT_MS)[0].read);
    assert!(scan.progress(5 * TIMEOUT_MS).idle);
}

#[test]
fn after_an_outage_each_split_has_the_whole_timeout_to_speak() {
    let mut scan = opened(&["a", "b"], false, None);
    scan.report(&report(0, 50, true, true, false), 0);
    scan.report(&report(1, 60, true, true, false), 0);
    let back = 5 * TIMEOUT_MS;
    for away in [TIMEOUT_MS, back] {
        for ordinal in [0, 1] {
            let quiet = report(ordinal, 0, false, true, false);
            let answers = false;
            scan.report(&SplitReport { answers, ..quiet }, away);
        }
        assert_eq!(scan.progress(away), Progress::at(EventTime(50)));
        assert_eq!(scan.slowest(), None, "it holds up no other source");
    }
    scan.report(&report(0, 50, false, true, false), back + 1);
    scan.report(&report(1, 900, true, true, false), back + 1);
    let soon = back + TIMEOUT_MS - 1;
    assert_eq!(scan.progress(soon), Progress::at(EventTime(50)));
    assert_eq!(scan.progress(soon + 1).watermark, EventTime(900));
}

#[test]
fn what_is_finished_costs_no_round_and_stays_in_the_checkpoint() {
    let mut scan = opened(&["a", "b"], false, None);
    scan.report(&report(0, 50, false, true, true), 0);
    assert_eq!(scan.views(None, 0).len(), 1);
    let kept = scan.state();
    assert_eq!(kept.splits.len(), 2);
    assert_eq!(scan.positions().len(), 2);

    let mut again = opened(&["a", "b"], false, Some(&kept));
    let views = again.views(None, 0);
    assert_eq!(views.len(), 1, "a file that was read is not read again");
    assert_eq!(views[0].split.topic.as_ref(), "b");
    let finished: Vec<_> = again.state().splits.iter().map(|s| s.position).collect();
    assert_eq!(finished, [at(50, true), at(0, false)]);
}

#[test]
fn each_split_is_told_how_far_the_others_are() {
    for watermarks in [[1, 2, 3], [3, 1, 2], [2, 3, 1], [1, 1, 2], [2, 2, 2]] {
        let mut scan = opened(&["a", "b", "c"], false, None);
        for (ordinal, watermark) in (0..).zip(watermarks) {
            scan.report(&report(ordinal, watermark, true, false, false), 0);
        }
        for view in scan.views(None, 0) {
            let others = (0..).zip(watermarks).filter(|(at, _)| *at != view.ordinal);
            let smallest = others.map(|(_, watermark)| EventTime(watermark)).min();
            assert_eq!(Some(view.others), smallest, "{watermarks:?}");
        }
    }
    let mut alone = opened(&["a"], false, None);
    assert_eq!(alone.views(None, 0)[0].others, EventTime::END);
}
