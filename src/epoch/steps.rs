//! The named steps of a protocol, where tests let a process die: those of the epochs, and whatever other protocol names its own.

use crate::error::{Error, Result};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// The steps of one protocol, by their names.
pub trait Point: Copy + PartialEq + Send + Sync + 'static {
    const ALL: &'static [Self];

    fn name(self) -> &'static str;
}

/// A gap between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    AfterClaim,
    /// What the claimed epoch names was published again.
    AfterRepublish,
    AfterRecover,
    BeforeState,
    AfterState,
    BeforeCommit,
    AfterCommit,
    BeforePublish,
    /// Behind each table but the last.
    DuringPublish,
    AfterPublish,
    AfterExpire,
    /// The epoch is done; only its offsets are not told to the broker yet.
    BeforeAcknowledge,
    /// Around each registration of partitions, beside the epochs.
    BeforeCatalog,
    AfterCatalog,
}

impl Point for Step {
    const ALL: &'static [Step] = &[
        Step::AfterClaim,
        Step::AfterRepublish,
        Step::AfterRecover,
        Step::BeforeState,
        Step::AfterState,
        Step::BeforeCommit,
        Step::AfterCommit,
        Step::BeforePublish,
        Step::DuringPublish,
        Step::AfterPublish,
        Step::AfterExpire,
        Step::BeforeAcknowledge,
        Step::BeforeCatalog,
        Step::AfterCatalog,
    ];

    fn name(self) -> &'static str {
        match self {
            Step::AfterClaim => "after-claim",
            Step::AfterRepublish => "after-republish",
            Step::AfterRecover => "after-recover",
            Step::BeforeState => "before-state",
            Step::AfterState => "after-state",
            Step::BeforeCommit => "before-commit",
            Step::AfterCommit => "after-commit",
            Step::BeforePublish => "before-publish",
            Step::DuringPublish => "during-publish",
            Step::AfterPublish => "after-publish",
            Step::AfterExpire => "after-expire",
            Step::BeforeAcknowledge => "before-acknowledge",
            Step::BeforeCatalog => "before-catalog",
            Step::AfterCatalog => "after-catalog",
        }
    }
}

impl Step {
    /// The steps that every epoch of every job takes.
    pub fn of_epochs() -> impl Iterator<Item = Step> {
        let beside = |step: &Step| matches!(step, Step::BeforeCatalog | Step::AfterCatalog);
        let all = Step::ALL.iter().copied();
        all.filter(move |step| !beside(step))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Is told of every step; an error from here ends the job there.
pub trait Hook<P = Step>: Send + Sync {
    fn at(&self, step: P) -> Result<()>;
}

/// Lets every step pass.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHook;

impl<P> Hook<P> for NoHook {
    fn at(&self, _step: P) -> Result<()> {
        Ok(())
    }
}

/// Ends the process, as a power cut would, when it comes to a step for the nth time.
#[derive(Debug)]
pub struct KillAt<P = Step> {
    step: P,
    remaining: AtomicU32,
}

impl<P: Point> KillAt<P> {
    /// Reads `step` or `step:n` (n from 1), as in TRIBUTARY_KILL_AT.
    pub fn parse(text: &str) -> Result<KillAt<P>> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let step = P::ALL.iter().copied().find(|step| step.name() == name);
        match (step, times.parse::<u32>()) {
            (Some(step), Ok(times @ 1..)) => Ok(KillAt {
                step,
                remaining: AtomicU32::new(times),
            }),
            _ => {
                let names: Vec<_> = P::ALL.iter().map(|step| step.name()).collect();
                Err(Error::job(format!(
                    "TRIBUTARY_KILL_AT={text}: write step or step:n, with one of {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// What the environment variable TRIBUTARY_KILL_AT asks for: fault tests set it, nobody else does.
    pub fn from_env() -> Result<Box<dyn Hook<P>>> {
        match std::env::var("TRIBUTARY_KILL_AT") {
            Ok(text) if !text.is_empty() => Ok(Box::new(KillAt::<P>::parse(&text)?)),
            _ => Ok(Box::new(NoHook)),
        }
    }

    /// Whether this is the time to die.
    fn is_due(&self, step: P) -> bool {
        step == self.step
            && self
                .remaining
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                == Ok(1)
    }
}

impl<P: Point> Hook<P> for KillAt<P> {
    fn at(&self, step: P) -> Result<()> {
        if self.is_due(step) {
            eprintln!("TRIBUTARY_KILL_AT: ending at {}", step.name());
            std::process::abort();
        }
        Ok(())
    }
}

/// Lets a test's process die when it comes to a step for the nth time: what was under way is dropped.
#[cfg(test)]
pub(crate) struct DieAt {
    step: Step,
    remaining: AtomicU32,
}

#[cfg(test)]
impl DieAt {
    pub fn new(step: Step, nth: u32) -> DieAt {
        DieAt {
            step,
            remaining: AtomicU32::new(nth),
        }
    }
}

#[cfg(test)]
impl Hook for DieAt {
    fn at(&self, step: Step) -> Result<()> {
        if step == self.step && self.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(Error::retry(format!("died {step}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_point_is_reached_at_its_count() {
        let kill = KillAt::parse("after-commit:2").unwrap();
        let due = [
            Step::AfterCommit,
            Step::BeforeCommit,
            Step::AfterCommit,
            Step::AfterCommit,
        ]
        .map(|s| kill.is_due(s));
        assert_eq!(due, [false, false, true, false]);
        assert!(
            KillAt::parse("after-commit")
                .unwrap()
                .is_due(Step::AfterCommit)
        );
    }

    #[test]
    fn unknown_steps_are_refused_with_the_known_ones() {
        for text in ["after", "after-commit:0", "after-commit:x"] {
            let error = KillAt::<Step>::parse(text).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("before-state"), "{error}");
        }
    }
}
