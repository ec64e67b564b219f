//! Compaction: the many small files of a closed partition become a few large, sorted ones.
//!
//! Guarantee: wherever it dies, no row is lost, and once the next `compact` has gone on where it was, none is there twice. Who reads a registered
//! table through the catalog sees each row once at every moment. Files that the job publishes meanwhile stay.
//!
//! No store can put one file in the place of a thousand in one step, but a catalog can lead to another folder in one. So a run goes there
//! and back, and all partitions go together:
//!
//! 1. *Merging.* The small files are merged, aside: into `_tributary/compacted/<run>/<table>/<partition>/`. What was written is read again and compared.
//! 2. *Ready.* The partition's other files are copied there too, so that nothing is missing; then the catalog leads there.
//! 3. *Moved.* Queries that have listed the old files get time to end. Then the large files are copied into the table's own folder, and the
//!    small ones, which nobody reads any more, are deleted.
//! 4. *Replaced.* The catalog leads back.
//! 5. *Returned.* Queries that read aside get time to end; then what is aside is removed. *Done.*
//!
//! Every step can be repeated, and the [`journal`] says which one it is. Where no catalog can swap a partition, the same is done without
//! steps 2 and 4, and the user has to promise that nobody reads meanwhile.

mod alike;
mod journal;
mod merge;
mod open;
mod plan;
pub mod report;
mod rows;
mod steps;
mod swap;
#[cfg(test)]
mod tests;

pub use journal::Phase;
pub use open::Writer;
pub use plan::{Registration, Survey};
pub use steps::Step;

use crate::catalog::Catalog;
use crate::clock::{Clock, Sleeper};
use crate::epoch::{Hook, Owner};
use crate::error::{Error, Kind, Result};
use crate::sink::TableSpec;
use crate::store::Located;
use futures::{StreamExt, TryStreamExt, stream};
use journal::Journal;
use merge::Merger;
use plan::{Candidate, Plan, PlannedPartition, PlannedTable, Surveyed, Swap};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// The tables of one lake, to be compacted.
pub struct Compaction {
    pub lake: Located,
    pub tables: Vec<Subject>,
    pub catalog: Option<Arc<dyn Catalog>>,
    /// The job that writes them, where it is known.
    pub writer: Option<Writer>,
    pub options: Options,
    pub me: Owner,
    pub clock: Arc<dyn Clock>,
    pub sleep: Sleeper,
    pub hook: Arc<dyn Hook<Step>>,
    pub observe: Arc<dyn Fn(Event<'_>) + Send + Sync>,
}

/// A table that may be compacted.
#[derive(Clone)]
pub struct Subject {
    /// Its name, and the options by which its files are written; the columns are those that the files have.
    pub spec: TableSpec,
    /// The name of its folder in the lake.
    pub folder: String,
    pub sort: Sort,
    /// Its name in the catalog, if it is to be there.
    pub registered: Option<Registration>,
    /// Whether its job tells when a partition is complete, so that the age of files says nothing more.
    pub tells_complete: bool,
}

/// What the rows of a merged file are sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sort {
    /// These columns, as far as the files have them. Without any, rows keep their order.
    Usual(Vec<String>),
    /// These columns and nothing else, since the user said so.
    Asked(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct Options {
    /// About how large merged files are to be, in bytes.
    pub target: usize,
    /// A partition with a file younger than this is left alone.
    pub older_than: Duration,
    /// How long queries may still read what they have listed.
    pub grace: Duration,
    /// Bytes of memory.
    pub memory: usize,
    /// The user promises that nobody reads, and no job writes.
    pub offline: bool,
    /// Go on with the run of another process although it may live.
    pub takeover: bool,
}

/// What a user may want to know while it goes on.
pub enum Event<'a> {
    /// A run that was broken off goes on in this phase.
    Continues(Phase),
    /// A partition, or a whole table where it is empty.
    LeftAlone {
        table: &'a str,
        partition: &'a str,
        why: &'a str,
    },
    /// So many bytes of small files are merged, of all.
    Merged {
        bytes: u64,
        of: u64,
    },
    Entered(Phase),
    /// Queries get so much time still.
    Waiting(Duration),
}

/// What a run did for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    pub partitions: u64,
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// By the table's folder.
pub type Report = BTreeMap<String, Saved>;

impl Survey {
    /// What a run would do. The sizes of files to come are taken to be those of their parts.
    pub fn estimate(&self, target: usize) -> Report {
        let mut report = Report::new();
        for table in &self.tables {
            for partition in &table.partitions {
                let bytes: u64 = partition.files.iter().map(|file| file.size).sum();
                let saved = report.entry(table.subject.folder.clone()).or_default();
                saved.partitions += 1;
                saved.files_before += partition.files.len() as u64;
                saved.files_after += bytes.div_ceil(target as u64).max(1);
                saved.bytes_before += bytes;
                saved.bytes_after += bytes;
            }
        }
        report
    }

    /// Whether there are tables, and none can be compacted while it is read.
    fn wants_offline(&self) -> bool {
        !self.tables.is_empty() && self.tables.iter().all(|table| table.wants_offline)
    }
}

impl Plan {
    fn report(&self) -> Report {
        let mut report = Report::new();
        for table in &self.tables {
            for partition in &table.partitions {
                let saved = report.entry(table.folder.clone()).or_default();
                saved.partitions += 1;
                saved.files_before += partition.merged.len() as u64;
                saved.files_after += partition.into.len() as u64;
                saved.bytes_before += partition.merged.values().sum::<u64>();
                saved.bytes_after += partition.into.values().sum::<u64>();
            }
        }
        report
    }
}

impl Compaction {
    /// Goes on with a run that was broken off, if there is one; then does its own. Says what both saved.
    pub async fn run(&self) -> Result<Report> {
        self.options.check()?;
        let mut report = Report::new();
        let mut journal = self.claim().await?;
        if journal.entry().phase != Phase::Merging {
            (self.observe)(Event::Continues(journal.entry().phase));
            self.finish(&mut journal, &mut report).await?;
            journal = self.claim().await?;
        }
        // What a run had merged when it died, nobody has seen.
        self.remove_aside(&journal).await?;
        let survey = self.survey().await?;
        if survey.wants_offline() {
            journal.enter(Phase::Done).await?;
            return Err(self.not_while_read());
        }
        self.bring_home(&survey).await?;
        let plan = self.merge(&survey, &journal).await?;
        self.hook.at(Step::AfterMerge)?;
        if plan.tables.is_empty() {
            journal.enter(Phase::Done).await?;
            return Ok(report);
        }
        journal::write(&self.lake, &self.plan_path(&journal), &plan).await?;
        self.enter(&mut journal, Phase::Ready).await?;
        self.hook.at(Step::AfterReady)?;
        self.finish(&mut journal, &mut report).await?;
        Ok(report)
    }

    /// Ends a run of this process that came to nothing, where it has only merged yet: nobody has seen that, and nobody has to wait for it.
    pub async fn give_up(&self) -> Result<()> {
        let mine = Journal::of(&self.lake, &self.me, self.clock.as_ref()).await?;
        let Some(mut journal) = mine.filter(|it| it.entry().phase == Phase::Merging) else {
            return Ok(());
        };
        self.remove_aside(&journal).await?;
        journal.enter(Phase::Done).await
    }

    /// What another run has left, in words.
    pub async fn unfinished(&self) -> Result<Option<String>> {
        let last = Journal::last(&self.lake).await?;
        Ok(last
            .filter(|(_, entry)| entry.phase != Phase::Done)
            .map(|(_, entry)| format!("a compaction of {} is {}", entry.owner, entry.phase)))
    }

    async fn claim(&self) -> Result<Journal<'_>> {
        let (clock, takeover) = (self.clock.as_ref(), self.options.takeover);
        let journal = Journal::claim(&self.lake, &self.me, clock, takeover).await?;
        self.hook.at(Step::AfterClaim)?;
        Ok(journal)
    }

    async fn enter(&self, journal: &mut Journal<'_>, phase: Phase) -> Result<()> {
        journal.enter(phase).await?;
        (self.observe)(Event::Entered(phase));
        Ok(())
    }

    /// From wherever a run is to its end.
    async fn finish(&self, journal: &mut Journal<'_>, report: &mut Report) -> Result<()> {
        let path = self.plan_path(journal);
        let Some(plan) = journal::read::<Plan>(&self.lake, &path).await? else {
            // It is removed last of all.
            if journal.entry().phase == Phase::Returned {
                return self.enter(journal, Phase::Done).await;
            }
            journal.still_own().await?;
            return Err(Error::data(format!(
                "{} is missing, and the compaction that was broken off needs it: bring it back. Until then the tables are as they \
                 are, and the catalog may lead to {}",
                self.lake.place_of(&path),
                journal.aside()
            )));
        };
        loop {
            match journal.entry().phase {
                Phase::Merging => {
                    return Err(Error::bug("a run without a plan was to be finished"));
                }
                Phase::Ready => {
                    self.move_aside(&plan, journal).await?;
                    self.hook.at(Step::AfterAside)?;
                    self.enter(journal, Phase::Moved).await?;
                    self.hook.at(Step::AfterMoved)?;
                }
                Phase::Moved => {
                    self.wait(&plan, journal).await?;
                    self.hook.at(Step::AfterGrace)?;
                    self.replace(&plan, journal).await?;
                    self.hook.at(Step::AfterReplace)?;
                    self.enter(journal, Phase::Replaced).await?;
                    self.hook.at(Step::AfterReplaced)?;
                }
                Phase::Replaced => {
                    self.move_back(&plan, journal).await?;
                    self.hook.at(Step::AfterReturn)?;
                    self.enter(journal, Phase::Returned).await?;
                    self.hook.at(Step::AfterReturned)?;
                }
                Phase::Returned => {
                    self.wait(&plan, journal).await?;
                    self.hook.at(Step::AfterSecondGrace)?;
                    self.move_back(&plan, journal).await?;
                    self.remove_aside(journal).await?;
                    self.hook.at(Step::AfterClean)?;
                    self.enter(journal, Phase::Done).await?;
                    self.hook.at(Step::AfterDone)?;
                }
                Phase::Done => break,
            }
        }
        for (table, saved) in plan.report() {
            report.entry(table).or_default().add(&saved);
        }
        Ok(())
    }

    /// Merges what the survey found, aside.
    async fn merge(&self, survey: &Survey, journal: &Journal<'_>) -> Result<Plan> {
        let merger = Arc::new(Merger::new(&self.lake, &self.me.id, &self.options)?);
        let all = survey.tables.iter().flat_map(|table| {
            let partitions = table.partitions.iter();
            partitions.map(move |partition| (table, partition))
        });
        let bytes =
            |partition: &Candidate| partition.files.iter().map(|file| file.size).sum::<u64>();
        let of = all.clone().map(|(_, partition)| bytes(partition)).sum();
        let done = AtomicU64::new(0);
        (self.observe)(Event::Merged { bytes: 0, of });
        let merged: Vec<_> = stream::iter(all)
            .map(|(table, partition)| {
                let (merger, done) = (&merger, &done);
                async move {
                    let planned = self.merge_one(merger, table, partition, journal).await?;
                    let size = bytes(partition);
                    let bytes = done.fetch_add(size, Ordering::Relaxed) + size;
                    (self.observe)(Event::Merged { bytes, of });
                    self.hook.at(Step::DuringMerge)?;
                    Ok::<_, Error>(planned.map(|planned| (table, planned)))
                }
            })
            .buffered(merger.at_a_time)
            .try_collect::<Vec<_>>()
            .await?;
        let mut tables: Vec<PlannedTable> = Vec::new();
        for (table, partition) in merged.into_iter().flatten() {
            let folder = &table.subject.folder;
            match tables.last_mut().filter(|last| last.folder == *folder) {
                Some(last) => last.partitions.push(partition),
                None => tables.push(PlannedTable {
                    folder: folder.clone(),
                    registered: table.registered.clone(),
                    partitions: vec![partition],
                }),
            }
        }
        Ok(Plan::new(tables))
    }

    /// Merges one partition; none where its files cannot be merged.
    async fn merge_one(
        &self,
        merger: &Arc<Merger>,
        table: &Surveyed,
        partition: &Candidate,
        journal: &Journal<'_>,
    ) -> Result<Option<PlannedPartition>> {
        let subject = &table.subject;
        let left = |why: &str| {
            (self.observe)(Event::LeftAlone {
                table: &subject.spec.name,
                partition: &partition.folder,
                why,
            });
            Ok(None)
        };
        let folders = match partition.folder.as_str() {
            "" => subject.folder.clone(),
            folder => format!("{}/{folder}", subject.folder),
        };
        let swap = match &partition.swap {
            None => None,
            Some((values, live)) => match plan::aside(live, &folders, &journal.aside()) {
                None => return left("the catalog spells its place in another way than the lake"),
                Some(aside) => Some(Swap {
                    values: values.clone(),
                    live: live.clone(),
                    aside,
                }),
            },
        };
        let to = plan::below(&self.lake.child(&journal.aside()), &folders)?;
        // A task of its own, so that partitions share the cores; dropped with this one.
        let mut task = JoinSet::new();
        let merger = Arc::clone(merger);
        task.spawn(merger.merge(subject.clone(), partition.files.clone(), to));
        let merged = match task.join_next().await {
            Some(Ok(merged)) => merged,
            _ => Err(Error::bug("the merging broke off")),
        };
        match merged {
            Ok(Some(merged)) => Ok(Some(PlannedPartition {
                folder: partition.folder.clone(),
                swap,
                merged: merged.from,
                into: merged.into,
            })),
            Ok(None) => left("its files are unlike each other, or not as this program writes them"),
            Err(error) if error.kind() == Kind::Data => left(&error.to_string()),
            Err(error) => Err(error.at(format!("merging {folders}"))),
        }
    }

    fn not_while_read(&self) -> Error {
        Error::job(format!(
            "{}: no catalog can swap a partition of these tables in one step, so whoever reads meanwhile would see rows twice or not at all: \
             stop the job and the readers, and say --offline",
            self.lake.url
        ))
    }

    fn plan_path(&self, journal: &Journal<'_>) -> object_store::path::Path {
        self.lake.child(&format!("{}/plan.json", journal.aside()))
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        match self.memory >= merge::LEAST_MEMORY.max(self.target.saturating_mul(3)) {
            true => Ok(()),
            false => Err(Error::job(format!(
                "files of {} MB need {} MB of memory: raise --memory, or lower --target-size",
                self.target >> 20,
                (self.target.saturating_mul(3)).max(merge::LEAST_MEMORY) >> 20
            ))),
        }
    }
}

impl Saved {
    pub fn add(&mut self, other: &Saved) {
        self.partitions += other.partitions;
        self.files_before += other.files_before;
        self.files_after += other.files_after;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
    }
}
