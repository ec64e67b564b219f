//! The named steps of compaction, where tests let a process die.

use crate::epoch::Point;

/// A gap between two effects. Those that are called "during", and the one before a partition goes aside, come again for each partition or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    AfterClaim,
    DuringMerge,
    AfterMerge,
    AfterReady,
    BeforeAside,
    DuringAside,
    AfterAside,
    AfterMoved,
    AfterGrace,
    AfterRecord,
    DuringCopy,
    DuringDelete,
    AfterReplace,
    AfterReplaced,
    DuringReturn,
    AfterReturn,
    AfterReturned,
    AfterSecondGrace,
    DuringClean,
    AfterClean,
    AfterDone,
}

impl Point for Step {
    const ALL: &'static [Step] = &[
        Step::AfterClaim,
        Step::DuringMerge,
        Step::AfterMerge,
        Step::AfterReady,
        Step::BeforeAside,
        Step::DuringAside,
        Step::AfterAside,
        Step::AfterMoved,
        Step::AfterGrace,
        Step::AfterRecord,
        Step::DuringCopy,
        Step::DuringDelete,
        Step::AfterReplace,
        Step::AfterReplaced,
        Step::DuringReturn,
        Step::AfterReturn,
        Step::AfterReturned,
        Step::AfterSecondGrace,
        Step::DuringClean,
        Step::AfterClean,
        Step::AfterDone,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::AfterClaim => "after-claim",
            Step::DuringMerge => "during-merge",
            Step::AfterMerge => "after-merge",
            Step::AfterReady => "after-ready",
            Step::BeforeAside => "before-aside",
            Step::DuringAside => "during-aside",
            Step::AfterAside => "after-aside",
            Step::AfterMoved => "after-moved",
            Step::AfterGrace => "after-grace",
            Step::AfterRecord => "after-record",
            Step::DuringCopy => "during-copy",
            Step::DuringDelete => "during-delete",
            Step::AfterReplace => "after-replace",
            Step::AfterReplaced => "after-replaced",
            Step::DuringReturn => "during-return",
            Step::AfterReturn => "after-return",
            Step::AfterReturned => "after-returned",
            Step::AfterSecondGrace => "after-second-grace",
            Step::DuringClean => "during-clean",
            Step::AfterClean => "after-clean",
            Step::AfterDone => "after-done",
        }
    }
}
