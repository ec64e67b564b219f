//! Works off what is owed: one errand after the other, each with patience of its own.

use super::evolve::{self, Prepared};
use super::keeper::{CrawlerDuty, Duties, Shared, Tools};
use super::owed::{Done, Owed, What};
use super::patience::Trouble;
use super::{Catalog, Crawler, Definition, Partition, Start};
use crate::epoch::Step;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often a crawler that runs is looked at, and how often one that does not.
const LOOK_EVERY_MS: i64 = 60_000;
const LOOK_SELDOM_MS: i64 = 600_000;
/// A state in which a crawler may be started.
const READY: &str = "READY";

/// The other side of a [`super::keeper::Keeper`].
pub struct Worker {
    duties: Duties,
    tools: Tools,
    shared: Arc<Shared>,
    owed: Owed,
    /// The epoch behind which that is owed; nothing is done before one is known.
    behind: Option<u64>,
    /// The tables that the catalog knows as the job has them.
    prepared: BTreeSet<String>,
    /// The last look at each crawler.
    looks: BTreeMap<String, Look>,
    troubles: BTreeMap<Errand, Trouble>,
}

/// Something to do that can fail by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Errand {
    Register(String),
    Succeed(String),
    Crawl(String),
}

impl Errand {
    fn asks_the_catalog(&self) -> bool {
        !matches!(self, Errand::Succeed(_))
    }

    fn failed(&self) -> String {
        match self {
            Errand::Register(table) => format!("table '{table}' cannot be registered"),
            Errand::Succeed(table) => format!("table '{table}' gets no success files"),
            Errand::Crawl(crawler) => format!("crawler '{crawler}' cannot be started"),
        }
    }

    fn works(&self) -> String {
        match self {
            Errand::Register(table) => format!("table '{table}' is registered now"),
            Errand::Succeed(table) => format!("table '{table}' has its success files now"),
            Errand::Crawl(crawler) => format!("crawler '{crawler}' answers now"),
        }
    }
}

/// A look at a crawler.
#[derive(Debug)]
struct Look {
    at_ms: i64,
    /// It ran then.
    runs: bool,
}

/// Why an errand was broken off.
enum Interrupt {
    Trouble(Error),
    /// The process ends here.
    End(Error),
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Self {
        Interrupt::Trouble(error)
    }
}

impl Worker {
    pub(super) fn new(duties: Duties, tools: Tools, shared: Arc<Shared>) -> Worker {
        Worker {
            looks: BTreeMap::new(),
            duties,
            tools,
            shared,
            owed: Owed::default(),
            behind: None,
            prepared: BTreeSet::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// Works until the job ends, or is owned by another process.
    pub(super) async fn run(mut self) {
        let mut finishing = false;
        loop {
            let next_ms = match self.round().await {
                Ok(next) => next,
                Err(error) => {
                    if error.kind() != Kind::Fenced {
                        tracing::warn!(%error, "the catalog is not told any more");
                    }
                    return;
                }
            };
            if self.shared.is_finishing() {
                if !std::mem::replace(&mut finishing, true) {
                    // Nobody can wait for minutes now.
                    for trouble in self.troubles.values_mut() {
                        trouble.next_ms = i64::MIN;
                    }
                    continue;
                }
                if !self.can_do_more() {
                    return;
                }
            }
            let pause_ms = next_ms.map(|at| at.saturating_sub(self.now_ms()).max(1));
            let pause = pause_ms.and_then(|ms| u64::try_from(ms).ok());
            tokio::select! {
                () = self.shared.changed() => {}
                () = (self.tools.sleep)(Duration::from_millis(pause.unwrap_or(0))), if pause.is_some() => {}
            }
        }
    }

    /// Does what is due, and says when there is more to do; nothing where somebody has to say so first. Fails only where the process
    /// has to end.
    pub(super) async fn round(&mut self) -> Result<Option<i64>> {
        self.listen();
        let Some(behind) = self.behind else {
            return Ok(None);
        };
        let now_ms = self.now_ms();
        let due: Vec<Errand> = self
            .errands()
            .into_iter()
            .filter(|(_, at_ms)| *at_ms <= now_ms)
            .map(|(errand, _)| errand)
            .collect();
        if !due.is_empty() {
            match (self.tools.guard)(behind).await {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Fenced => return Err(error),
                // Who cannot find out whether the job is still its own does nothing.
                Err(_) => return Ok(Some(now_ms + LOOK_EVERY_MS)),
            }
        }
        for errand in due {
            let attempt = match &errand {
                Errand::Register(table) => self.register(table).await,
                Errand::Succeed(table) => self.succeed(table).await,
                Errand::Crawl(crawler) => self.crawl(crawler).await,
            };
            match attempt {
                Ok(()) => self.went_well(&errand),
                Err(Interrupt::Trouble(error)) => self.went_wrong(errand, &error),
                Err(Interrupt::End(error)) => return Err(error),
            }
            self.tell_report();
        }
        Ok(self.errands().into_iter().map(|(_, at_ms)| at_ms).min())
    }

    #[cfg(test)]
    pub(super) fn owes_nothing(&self) -> bool {
        super::report::left(&self.owed).is_none()
    }

    fn now_ms(&self) -> i64 {
        self.tools.clock.now_ms()
    }

    /// Takes over what is owed behind a newer epoch.
    fn listen(&mut self) {
        if let Some((epoch, owed)) = self.shared.take_told() {
            (self.behind, self.owed) = (Some(epoch), owed);
            // What is no longer owed is no trouble any more.
            let tables = &self.owed.tables;
            self.troubles.retain(|errand, _| match errand {
                Errand::Succeed(table) => tables
                    .get(table)
                    .is_some_and(|owed| !owed.success.is_empty()),
                Errand::Register(_) | Errand::Crawl(_) => true,
            });
            self.tell_report();
        }
    }

    fn done(&mut self, what: What) {
        let behind = self.behind.unwrap_or(0);
        let done = Done { behind, what };
        self.owed.settle(&done);
        self.shared.done(done);
    }

    /// All that is to be done, with the time from which on. The tables come before the crawlers.
    fn errands(&self) -> Vec<(Errand, i64)> {
        let mut errands = Vec::new();
        for (table, duty) in &self.duties.tables {
            let owed = self.owed.tables.get(table);
            let unregistered =
                owed.is_some_and(|owed| owed.everything.is_some() || !owed.register.is_empty());
            if duty.registered.is_some() && (unregistered || !self.prepared.contains(table)) {
                errands.push((Errand::Register(table.clone()), i64::MIN));
            }
            if owed.is_some_and(|owed| !owed.success.is_empty()) {
                errands.push((Errand::Succeed(table.clone()), i64::MIN));
            }
        }
        for name in self.duties.crawlers.keys() {
            errands.push((Errand::Crawl(name.clone()), self.look_at(name)));
        }
        for (errand, at_ms) in &mut errands {
            if let Some(trouble) = self.troubles.get(errand) {
                *at_ms = trouble.next_ms.max(*at_ms);
            }
        }
        errands
    }

    /// When a crawler is to be looked at, and perhaps started.
    fn look_at(&self, name: &str) -> i64 {
        match self.looks.get(name) {
            None => i64::MIN,
            // It has to end first, also where it is owed another start.
            Some(Look { at_ms, runs: true }) => at_ms + LOOK_EVERY_MS,
            Some(Look { at_ms, .. }) => {
                let seldom = at_ms + LOOK_SELDOM_MS;
                self.start_at(name)
                    .map_or(seldom, |start| start.min(seldom))
            }
        }
    }

    /// When a crawler that is owed a start may have it.
    fn start_at(&self, name: &str) -> Option<i64> {
        let owed = self.owed.crawlers.get(name)?;
        owed.start?;
        let interval_ms = self.duties.crawlers.get(name)?.min_interval_ms;
        let again = |started_ms: i64| started_ms.saturating_add(interval_ms);
        Some(owed.started_ms.map_or(i64::MIN, again))
    }

    /// Whether something is left that need not wait for a crawler.
    fn can_do_more(&self) -> bool {
        let now_ms = self.now_ms();
        self.errands().iter().any(|(errand, at_ms)| match errand {
            Errand::Crawl(name) => {
                let is_owed = self.start_at(name).is_some();
                is_owed && (*at_ms <= now_ms || self.is_away(errand))
            }
            // What somebody has to change first is left to the next start.
            Errand::Register(_) | Errand::Succeed(_) => {
                !self.troubles.contains_key(errand) || self.is_away(errand)
            }
        })
    }

    /// Whether the last try failed since there was no answer.
    fn is_away(&self, errand: &Errand) -> bool {
        self.troubles
            .get(errand)
            .is_some_and(|trouble| trouble.away)
    }

    fn went_well(&mut self, errand: &Errand) {
        let Some(trouble) = self.troubles.remove(errand) else {
            return;
        };
        if !(trouble.away && errand.asks_the_catalog()) {
            (self.tools.voice)(&errand.works());
            return;
        }
        // It answers, so nobody else has to go on waiting.
        let now_ms = self.now_ms();
        let mut still_away = false;
        for (other, trouble) in &mut self.troubles {
            if trouble.away && other.asks_the_catalog() {
                still_away = true;
                trouble.next_ms = now_ms;
            }
        }
        if !still_away {
            (self.tools.voice)("the catalog answers again");
        }
    }

    fn went_wrong(&mut self, errand: Errand, error: &Error) {
        let now_ms = self.now_ms();
        if let Errand::Register(table) = &errand {
            // Somebody may have changed or dropped it meanwhile: the next try looks.
            self.prepared.remove(table);
        }
        let is_away = |trouble: &Trouble| trouble.away;
        let known = self
            .troubles
            .iter()
            .any(|(other, trouble)| other.asks_the_catalog() && is_away(trouble));
        let trouble = self
            .troubles
            .entry(errand.clone())
            .or_insert_with(|| Trouble::new(now_ms));
        let news = trouble.again(error, now_ms, (self.tools.jitter)());
        if !(trouble.away && errand.asks_the_catalog()) {
            if news {
                let failed = errand.failed();
                (self.tools.voice)(&format!(
                    "{failed}: {error}; the data flows on, and this is tried again"
                ));
            }
        } else if !known {
            (self.tools.voice)(&format!(
                "the catalog does not answer: the data flows on, and what the catalog has to know is kept for it: {error}"
            ));
        }
    }

    fn tell_report(&self) {
        let away = self
            .troubles
            .iter()
            .filter(|(errand, trouble)| errand.asks_the_catalog() && trouble.away);
        let away_since_ms = away.map(|(_, trouble)| trouble.since_ms).min();
        let troubles = self
            .troubles
            .iter()
            .map(|(errand, trouble)| format!("{}: {}", errand.failed(), trouble.message));
        let troubles = troubles.collect();
        self.shared.report(|report| {
            report.count(&self.owed);
            report.away_since_ms = away_since_ms;
            report.troubles = troubles;
        });
    }

    fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        let catalog = self.tools.catalog.clone();
        catalog.ok_or_else(|| Error::bug("there is no catalog to be told"))
    }

    /// The table first, then its partitions.
    async fn register(&mut self, table: &str) -> Result<(), Interrupt> {
        let duty = self.duties.tables.get(table);
        let Some(registered) = duty.and_then(|duty| duty.registered.clone()) else {
            return Ok(());
        };
        let definition = &registered.definition;
        let catalog = self.catalog()?;
        if !self.prepared.contains(table) {
            self.prepare(table, catalog.as_ref(), definition).await?;
        }
        let Some(owed) = self.owed.tables.get(table) else {
            return Ok(());
        };
        if owed.everything.is_some() {
            let folders = match self.tools.publishers.get(table) {
                Some(publisher) => publisher.partitions().await?,
                None => BTreeSet::new(),
            };
            let there = catalog
                .partitions(&definition.database, &definition.name)
                .await?;
            let there: BTreeSet<Vec<String>> = there
                .into_iter()
                .map(|partition| partition.values)
                .collect();
            let (ours, strange): (Vec<String>, Vec<String>) = folders
                .into_iter()
                .partition(|folder| registered.has_folder(folder));
            let all = ours.iter().map(|folder| registered.partition(folder));
            let missing = all.filter(|partition| !there.contains(&partition.values));
            self.add(table, definition, missing.collect()).await?;
            if let Some(one) = strange.first() {
                let count = strange.len();
                (self.tools.voice)(&format!(
                    "table '{table}': what is in the folder '{one}' is not registered, since it is none of the table's partitions ({count} such)"
                ));
            }
            let table = table.to_owned();
            self.done(What::RegisteredEverything { table });
            return Ok(());
        }
        let partitions: Vec<String> = owed.register.keys().cloned().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let new = partitions.iter().map(|folder| registered.partition(folder));
        self.add(table, definition, new.collect()).await?;
        let table = table.to_owned();
        self.done(What::Registered { table, partitions });
        Ok(())
    }

    /// The catalog's table becomes the job's.
    async fn prepare(
        &mut self,
        table: &str,
        catalog: &dyn Catalog,
        definition: &Definition,
    ) -> Result<()> {
        for prepared in evolve::prepare(catalog, std::slice::from_ref(definition)).await? {
            match prepared {
                Prepared::Created => {
                    tracing::info!(table, "table created in the catalog");
                    // It has no partitions, whatever an earlier one was told.
                    let table = table.to_owned();
                    self.done(What::Forgotten { table });
                }
                Prepared::Changed(changes) => {
                    let changes = changes.join(", ");
                    tracing::info!(table, changes, "table changed in the catalog");
                }
                Prepared::Same => {}
            }
        }
        self.prepared.insert(table.to_owned());
        Ok(())
    }

    async fn add(
        &mut self,
        table: &str,
        definition: &Definition,
        partitions: Vec<Partition>,
    ) -> Result<(), Interrupt> {
        if partitions.is_empty() {
            return Ok(());
        }
        let hook = Arc::clone(&self.tools.hook);
        hook.at(Step::BeforeCatalog).map_err(Interrupt::End)?;
        let catalog = self.catalog()?;
        let new = catalog.add_partitions(definition, &partitions).await?;
        hook.at(Step::AfterCatalog).map_err(Interrupt::End)?;
        if new > 0 {
            tracing::info!(table, new, "partitions registered in the catalog");
        }
        self.shared.report(|report| {
            report
                .tables
                .entry(table.to_owned())
                .or_default()
                .registered += new as u64;
        });
        Ok(())
    }

    async fn succeed(&mut self, table: &str) -> Result<(), Interrupt> {
        let terms = self.duties.tables.get(table).map(|duty| &duty.terms);
        let file = terms.and_then(|terms| terms.success_file.clone());
        let publisher = self.tools.publishers.get(table).cloned();
        let (Some(file), Some(publisher)) = (file, publisher) else {
            return Ok(());
        };
        loop {
            // Rows may have come for it meanwhile, and then it is not complete.
            self.listen();
            let owed = self.owed.tables.get(table);
            let Some(partition) = owed.and_then(|owed| owed.success.keys().next().cloned()) else {
                return Ok(());
            };
            publisher.mark(&partition, &file).await?;
            tracing::debug!(table, partition, "partition complete");
            let table = table.to_owned();
            self.shared.report(|report| {
                report.tables.entry(table.clone()).or_default().succeeded += 1;
            });
            self.done(What::Succeeded { table, partition });
        }
    }

    /// Looks at a crawler, and starts it where that is owed and its time has come.
    async fn crawl(&mut self, name: &str) -> Result<(), Interrupt> {
        let Some(CrawlerDuty { create, .. }) = self.duties.crawlers.get(name).cloned() else {
            return Ok(());
        };
        let catalog = self.catalog()?;
        let seen = match (catalog.crawler(name).await?, create) {
            (Some(seen), _) => seen,
            (None, Some(spec)) => {
                catalog.create_crawler(&spec).await?;
                tracing::info!(crawler = name, "crawler created");
                Crawler {
                    state: READY.to_owned(),
                    ..Crawler::default()
                }
            }
            (None, None) => {
                return Err(Interrupt::Trouble(Error::job(format!(
                    "there is no crawler '{name}': create it, or set 'tributary.glue.crawler.role', so that Tributary does"
                ))));
            }
        };
        let is_ready = seen.state == READY;
        self.note(name, seen, is_ready);
        let now_ms = self.now_ms();
        let is_time = self.start_at(name).is_some_and(|at_ms| at_ms <= now_ms);
        let mut runs = !is_ready;
        if is_ready && is_time {
            let started = catalog.start_crawler(name).await?;
            runs = true;
            if started == Start::Started {
                tracing::info!(crawler = name, "crawler started");
                let crawler = name.to_owned();
                self.shared.report(|report| {
                    report.crawlers.entry(crawler.clone()).or_default().starts += 1;
                });
                self.done(What::Started {
                    crawler,
                    at_ms: now_ms,
                });
            }
        }
        let look = Look {
            at_ms: now_ms,
            runs,
        };
        self.looks.insert(name.to_owned(), look);
        Ok(())
    }

    /// Writes down what was seen of a crawler, and says how its run ended.
    fn note(&mut self, name: &str, seen: Crawler, is_ready: bool) {
        let before = self.owed.crawlers.get(name);
        let ran = before.is_some_and(|before| !before.state.is_empty() && before.state != READY);
        if ran && is_ready {
            let status = seen.last_status.as_deref().unwrap_or("unknown");
            match (status, seen.last_message.as_deref()) {
                ("FAILED", message) => {
                    let why = message.unwrap_or("its log says why");
                    (self.tools.voice)(&format!("crawler '{name}' has failed: {why}"));
                }
                _ => tracing::info!(crawler = name, status, "crawler ended"),
            }
        }
        let crawler = name.to_owned();
        self.done(What::Seen { crawler, seen });
    }
}
