//! Who runs a job: one process at a time, by claiming its next epoch.
//!
//! A claim is a commit of nothing new: epoch n + 1 with the content of n and a new owner. From then on the old owner cannot commit.
//! Heartbeats only say when a claim is polite; that two processes never publish both rests on the claim.

use super::store::EpochStore;
use super::{Checkpoint, Ledger, Owner, VERSION};
use crate::catalog::owed::Owed;
use crate::clock::{Clock, Sleeper};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// A heart that has not beaten for three intervals, but at least this long, has stopped.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting process looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to do when another process seems to run the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Wait until its heartbeat is stale; give up when it beats.
    Normal,
    /// Wait for as long as it lives.
    Standby,
    /// Do not ask.
    Takeover,
}

/// A wish to run a job.
pub struct Claim<'a> {
    pub store: &'a EpochStore,
    pub me: &'a Owner,
    /// Between commits: what others will judge this owner's heart by.
    pub interval: Duration,
    pub mode: Mode,
    pub clock: &'a dyn Clock,
    pub sleep: &'a Sleeper,
    /// Tells the user what is being waited for.
    pub notify: &'a (dyn Fn(String) + Send + Sync),
}

/// The right to commit the epochs behind `checkpoint`.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The claim itself, as it was committed: the content to start from, under the new owner's name.
    pub checkpoint: Checkpoint,
    /// The epoch of the owner before, if there was one.
    pub previous: Option<Checkpoint>,
}

impl Claim<'_> {
    /// Waits until the job may be claimed, as the mode has it, and claims it. An error of the kind [`Kind::Fenced`] names the owner.
    pub async fn run(&self) -> Result<Claimed> {
        let mut previous = self.store.latest().await?;
        loop {
            if let Some(seen) = previous.take() {
                previous = Some(self.wait_for(seen).await?);
            }
            let checkpoint = self.next(previous.as_ref());
            match self.store.commit(&checkpoint).await {
                Ok(()) => {
                    return Ok(Claimed {
                        checkpoint,
                        previous,
                    });
                }
                Err(error) if error.kind() != Kind::Fenced => return Err(error),
                Err(error) => {
                    // Somebody was faster. The old owner may have lived after all, and a takeover goes on; a rival wins.
                    let winner = self.store.latest().await?;
                    let same_owner = match (&winner, &previous) {
                        (Some(winner), Some(previous)) => winner.owner.id == previous.owner.id,
                        _ => false,
                    };
                    match self.mode {
                        Mode::Standby => {}
                        Mode::Takeover if same_owner => {}
                        _ => return Err(error),
                    }
                    previous = winner;
                }
            }
        }
    }

    /// Returns the latest epoch once its owner may be followed.
    async fn wait_for(&self, mut seen: Checkpoint) -> Result<Checkpoint> {
        let mut since = self.clock.now_ms();
        let mut told = false;
        loop {
            if seen.released || self.mode == Mode::Takeover || seen.owner.is_provably_dead(self.me)
            {
                return Ok(seen);
            }
            let patience = Duration::from_millis(seen.interval_ms)
                .saturating_mul(3)
                .max(LEAST_PATIENCE);
            // Only this process's clock is asked, since it first saw this heartbeat: clocks of two machines may differ.
            let waited = self.clock.now_ms().saturating_sub(since);
            if waited >= i64::try_from(patience.as_millis()).unwrap_or(i64::MAX) {
                (self.notify)(format!(
                    "{}: no heartbeat for {} s; taking over",
                    seen.owner,
                    patience.as_secs()
                ));
                return Ok(seen);
            }
            if !told {
                (self.notify)(self.waiting(&seen, patience));
                told = true;
            }
            (self.sleep)(LOOK_EVERY.min(patience)).await;
            if self.store.read(seen.epoch + 1).await?.is_some() {
                let newer = self.store.latest().await?.ok_or_else(|| {
                    Error::retry(format!(
                        "{}: the epochs vanished while waiting",
                        self.store.url()
                    ))
                })?;
                if self.mode == Mode::Normal && !newer.released {
                    return Err(Error::fenced(format!(
                        "job {:?} is being run by {}, which committed epoch {} just now: stop it first, or start with --standby to wait \
                         for its end, or with --takeover to replace it",
                        newer.job, newer.owner, newer.epoch
                    )));
                }
                told = told && newer.owner == seen.owner;
                seen = newer;
                since = self.clock.now_ms();
            }
        }
    }

    fn waiting(&self, seen: &Checkpoint, patience: Duration) -> String {
        let Checkpoint {
            job, owner, epoch, ..
        } = seen;
        match self.mode {
            Mode::Standby => format!("standing by: job {job:?} is run by {owner} (epoch {epoch})"),
            _ => format!(
                "job {job:?} was last run by {owner} (epoch {epoch}), which did not stop in good order: waiting {} s for a sign of life",
                patience.as_secs()
            ),
        }
    }

    fn next(&self, previous: Option<&Checkpoint>) -> Checkpoint {
        let base = previous
            .cloned()
            .unwrap_or_else(|| empty(self.store.job(), self.me));
        Checkpoint {
            epoch: base.epoch + 1,
            owner: self.me.clone(),
            committed_at_ms: self.clock.now_ms(),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            released: false,
            ..base
        }
    }
}

/// What stands before the first epoch; never committed itself.
fn empty(job: &str, owner: &Owner) -> Checkpoint {
    Checkpoint {
        version: VERSION,
        job: job.to_string(),
        epoch: 0,
        owner: owner.clone(),
        committed_at_ms: 0,
        interval_ms: 0,
        released: false,
        sources: BTreeMap::new(),
        progress: BTreeMap::new(),
        nodes: None,
        state: Vec::new(),
        sinks: BTreeMap::new(),
        ledger: Ledger::default(),
        catalog: Owed::default(),
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
