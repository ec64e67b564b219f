//! What the coordinator of epochs has to do with the catalog: it writes down what is owed, and has it worked off beside the epochs.
//!
//! Guarantee: an epoch never waits for the catalog, and no failure of it ends the job. Only what is published is told, and only by
//! the owner of the job. What a process leaves undone is in its last checkpoint, and the next start goes on with it.

use super::Catalog;
use super::definition::Registered;
use super::owed::{About, Done, News, Owed, Terms, Warning};
use super::report::Report;
use super::worker::Worker;
use crate::clock::{Clock, Sleeper};
use crate::epoch::{EpochStore, Hook};
use crate::error::Result;
use crate::sink::Publisher;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long a job that ends waits for the catalog.
pub const LAST_WAIT: Duration = Duration::from_secs(30);

/// Fails when this process, which has committed the epoch, does not own the job any more.
pub type Guard = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A guard that looks whether another process has committed an epoch behind this owner's.
pub fn guard(store: &EpochStore, owner: &str) -> Guard {
    let (store, owner) = (store.clone(), owner.to_owned());
    Arc::new(move |epoch| {
        let (store, owner) = (store.clone(), owner.clone());
        async move { store.check_owner(epoch, &owner).await }.boxed()
    })
}

/// Says what a person should know.
pub type Voice = Arc<dyn Fn(&str) + Send + Sync>;

/// What the tables of a job ask for.
#[derive(Debug, Clone, Default)]
pub struct Duties {
    pub tables: BTreeMap<String, Duty>,
    pub crawlers: BTreeMap<String, CrawlerDuty>,
}

#[derive(Debug, Clone, Default)]
pub struct Duty {
    pub terms: Terms,
    /// How the catalog shall know the table, where it shall.
    pub registered: Option<Registered>,
}

#[derive(Debug, Clone)]
pub struct CrawlerDuty {
    /// The least time from one start to the next.
    pub min_interval_ms: i64,
    /// How to create it where it is missing.
    pub create: Option<super::CrawlerSpec>,
}

/// What the keeper is given of the world.
#[derive(Clone)]
pub struct Tools {
    /// None where no table is registered and no crawler is looked at.
    pub catalog: Option<Arc<dyn Catalog>>,
    pub publishers: BTreeMap<String, Arc<dyn Publisher>>,
    pub guard: Guard,
    pub clock: Arc<dyn Clock>,
    pub sleep: Sleeper,
    /// Between 0 and 1: keeps several processes from asking at the same moments.
    pub jitter: fn() -> f64,
    pub voice: Voice,
    pub hook: Arc<dyn Hook>,
}

/// The coordinator's side.
pub struct Keeper {
    terms: BTreeMap<String, Terms>,
    shared: Arc<Shared>,
    voice: Voice,
    /// What was said already of which table.
    warned: BTreeSet<(String, About)>,
    task: Option<JoinHandle<()>>,
}

/// What lies between the coordinator and the worker.
#[derive(Default)]
pub(super) struct Shared {
    desk: Mutex<Desk>,
    changed: Notify,
}

#[derive(Default)]
struct Desk {
    /// What is owed behind the last epoch that was published, until the worker has taken it.
    told: Option<(u64, Owed)>,
    /// What was done, until the coordinator has taken it.
    done: Vec<Done>,
    finishing: bool,
    report: Report,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take_told(&self) -> Option<(u64, Owed)> {
        self.desk().told.take()
    }

    pub fn done(&self, done: Done) {
        let mut desk = self.desk();
        if let Some((_, owed)) = &mut desk.told {
            owed.settle(&done);
        }
        desk.done.push(done);
    }

    pub fn is_finishing(&self) -> bool {
        self.desk().finishing
    }

    pub fn report(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.desk().report);
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// How the keeper is getting on, for whoever shows it.
#[derive(Clone, Default)]
pub struct Watch(Arc<Shared>);

impl Watch {
    pub fn report(&self) -> Report {
        self.0.desk().report.clone()
    }
}

impl Keeper {
    /// A keeper, and the worker to be run by the caller.
    pub(super) fn new(duties: Duties, tools: Tools) -> (Keeper, Worker) {
        let shared = Arc::new(Shared::default());
        let terms = duties.tables.iter();
        let keeper = Keeper {
            terms: terms
                .map(|(table, duty)| (table.clone(), duty.terms.clone()))
                .collect(),
            shared: Arc::clone(&shared),
            voice: Arc::clone(&tools.voice),
            warned: BTreeSet::new(),
            task: None,
        };
        (keeper, Worker::new(duties, tools, shared))
    }

    /// A keeper whose worker runs beside the caller.
    pub fn start(duties: Duties, tools: Tools, runtime: &Handle) -> Keeper {
        let (mut keeper, worker) = Keeper::new(duties, tools);
        keeper.task = Some(runtime.spawn(worker.run()));
        keeper
    }

    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// What will be owed when this epoch is committed: what was owed behind the last one, less what was done since, and what is new.
    pub fn add(
        &mut self,
        owed: &Owed,
        epoch: u64,
        now_ms: i64,
        news: &BTreeMap<String, News<'_>>,
    ) -> Owed {
        let mut owed = self.settled(owed);
        for Warning { table, about, text } in owed.add(epoch, now_ms, &self.terms, news) {
            if self.warned.insert((table.clone(), about)) {
                (self.voice)(&format!("table '{table}': {text}"));
            }
        }
        owed
    }

    /// What is left of it. What was done until now is written down by this, so it has to be committed.
    pub fn settled(&self, owed: &Owed) -> Owed {
        let mut owed = owed.clone();
        for done in self.shared.desk().done.drain(..) {
            owed.settle(&done);
        }
        owed
    }

    /// Everything that this epoch names is visible: now it may be told.
    pub fn tell(&self, epoch: u64, owed: &Owed) {
        let mut owed = owed.clone();
        let mut desk = self.shared.desk();
        for done in &desk.done {
            owed.settle(done);
        }
        desk.report.count(&owed);
        desk.told = Some((epoch, owed));
        drop(desk);
        self.shared.changed.notify_one();
    }

    /// The job ends: waits for a while until all is done that can be done now.
    pub async fn finish(&mut self) {
        self.shared.desk().finishing = true;
        self.shared.changed.notify_one();
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(LAST_WAIT, &mut task).await.is_err()
        {
            task.abort();
        }
    }

    /// Says what the job ends without having done.
    pub fn leave(&self, owed: &Owed) {
        if let Some(left) = super::report::left(owed) {
            (self.voice)(&format!(
                "the job ends, and {left}: that is kept in the checkpoint, and the next start goes on with it"
            ));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
