//! There and back: the steps of a run once all is merged. Each looks at what is there and does what is missing, so each can be repeated.

use super::journal::{Journal, Phase};
use super::plan::{Plan, PlannedPartition, PlannedTable, Registration, Survey, below};
use super::{Compaction, Event, Step};
use crate::catalog::{Definition, Partition};
use crate::error::{Error, Kind, Result};
use crate::lake::visible::is_visible;
use crate::sink::merged::{self, Merged};
use crate::store::is_missing;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many partitions are worked on at the same time, and how many files of each.
const PARTITIONS: usize = 8;
const FILES: usize = 8;
/// How often files that the job publishes meanwhile are shown aside as well.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is said how long queries may still take.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often a catalog that is away or busy is asked, with pauses of a second and twice as long each time.
const ATTEMPTS: u32 = 6;

/// A partition of the plan, and its two places.
struct Spot<'a> {
    table: &'a PlannedTable,
    partition: &'a PlannedPartition,
    live: Path,
    aside: Path,
}

/// Where the catalog leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Live,
    Aside,
    /// Somebody has moved or removed the partition: it is left to them.
    Elsewhere,
}

/// The tables of the plan as the catalog has them, with the places of their partitions.
type View = BTreeMap<Registration, (Definition, BTreeMap<Vec<String>, String>)>;

impl Compaction {
    /// The catalog leads to the files aside, and nothing is missing there.
    pub(super) async fn move_aside(&self, plan: &Plan, journal: &Journal<'_>) -> Result<()> {
        let view = self.view(plan).await?;
        self.each(self.spots(plan, journal)?, async |spot| {
            match now(spot, &view) {
                None => return Ok(()),
                Some(Now::Elsewhere) => {
                    self.tell_left(spot, "somebody has moved it in the catalog, or removed it");
                    return Ok(());
                }
                Some(Now::Live) => {
                    let there = self.sizes(&spot.live).await?;
                    if !has_all(&there, &spot.partition.merged) {
                        self.tell_left(spot, "its files are not what they were");
                        return Ok(());
                    }
                    self.mirror(spot).await?;
                    self.expect_complete(spot, &there).await?;
                    self.hook.at(Step::BeforeAside)?;
                    self.lead(&view, spot, Now::Aside, journal).await?;
                }
                Some(Now::Aside) => {}
            }
            // What was published between the copying and the swap would be missing until the way back.
            self.mirror(spot).await?;
            self.hook.at(Step::DuringAside)
        })
        .await
    }

    /// In the tables' folders, the large files take the place of the small ones. Only where nobody reads.
    pub(super) async fn replace(&self, plan: &Plan, journal: &Journal<'_>) -> Result<()> {
        let view = self.view(plan).await?;
        let mut spots = self.spots(plan, journal)?;
        spots.retain(|spot| {
            let unread = matches!(now(spot, &view), None | Some(Now::Aside));
            if !unread {
                self.tell_left(spot, "the catalog does not lead aside any more");
            }
            unread
        });
        self.record(&spots, journal).await?;
        self.hook.at(Step::AfterRecord)?;
        self.each(spots, async |spot| {
            let PlannedPartition { merged, into, .. } = spot.partition;
            let mut there = self.sizes(&spot.live).await?;
            if !has_all(&there, into) {
                // As long as one large file is missing, no small one may be.
                if !has_all(&there, merged) {
                    let mut why = "its files are not what they were".to_string();
                    let copied: Vec<&str> = into
                        .keys()
                        .filter(|name| there.contains_key(*name))
                        .map(String::as_str)
                        .collect();
                    if !copied.is_empty() {
                        let copied = copied.join(", ");
                        why += &format!(", and a run that died left {copied} there, with rows that small files may have too");
                    }
                    self.tell_left(spot, &why);
                    return Ok(());
                }
                for name in into.keys() {
                    self.copy(&spot.aside, &spot.live, name).await?;
                    self.hook.at(Step::DuringCopy)?;
                }
                there = self.sizes(&spot.live).await?;
                if !has_all(&there, into) {
                    return Err(Error::retry(
                        "a large file is missing that was copied there just now",
                    ));
                }
            }
            for name in merged.keys().filter(|name| there.contains_key(*name)) {
                self.delete(&below(&spot.live, name)?).await?;
                self.hook.at(Step::DuringDelete)?;
            }
            Ok(())
        })
        .await
    }

    /// The catalog leads to the tables' folders.
    pub(super) async fn move_back(&self, plan: &Plan, journal: &Journal<'_>) -> Result<()> {
        let view = self.view(plan).await?;
        self.each(self.spots(plan, journal)?, async |spot| {
            if now(spot, &view) == Some(Now::Aside) {
                self.lead(&view, spot, Now::Live, journal).await?;
                self.hook.at(Step::DuringReturn)?;
            }
            Ok(())
        })
        .await
    }

    /// Removes what is aside, the plan last.
    pub(super) async fn remove_aside(&self, journal: &Journal<'_>) -> Result<()> {
        let folder = self.lake.child(&journal.aside());
        let plan = self.plan_path(journal);
        let listed: Vec<_> = self
            .lake
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| self.lake.explain(&folder, error))?;
        for object in listed.iter().filter(|object| object.location != plan) {
            self.delete(&object.location).await?;
            self.hook.at(Step::DuringClean)?;
        }
        self.delete(&plan).await?;
        // On a disk there are folders, and what an upload left that was broken off.
        if let Some(folder) = self.lake.folder(&journal.aside()).on_disk() {
            let _ = tokio::fs::remove_dir_all(folder).await;
        }
        Ok(())
    }

    /// Waits until queries that began before this phase have had their time.
    pub(super) async fn wait(&self, plan: &Plan, journal: &Journal<'_>) -> Result<()> {
        let swaps = plan.tables.iter().any(|table| table.registered.is_some());
        if !swaps {
            return Ok(());
        }
        let mut looked = Duration::ZERO;
        loop {
            let passed = self.clock.now_ms() - journal.entry().since_ms;
            let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
            let left = self.options.grace.saturating_sub(passed);
            (self.observe)(Event::Waiting(left));
            if left.is_zero() {
                return Ok(());
            }
            let pause = left.min(TELL_EVERY);
            (self.sleep)(pause).await;
            looked += pause;
            if journal.entry().phase == Phase::Moved && looked >= LOOK_EVERY {
                looked = Duration::ZERO;
                let view = self.view(plan).await?;
                self.each(self.spots(plan, journal)?, async |spot| {
                    match now(spot, &view) {
                        Some(Now::Aside) => self.mirror(spot).await,
                        _ => Ok(()),
                    }
                })
                .await?;
            }
        }
    }

    /// Partitions that are still where a broken run left them go to their own place.
    pub(super) async fn bring_home(&self, survey: &Survey) -> Result<()> {
        let Some(catalog) = &self.catalog else {
            return Ok(());
        };
        for (definition, partition) in &survey.strays {
            let place = partition.values.join("/");
            self.patiently(|| catalog.move_partition(definition, partition))
                .await
                .map_err(|error| error.at(format!("{}: {place}", definition.name)))?;
            let why = "the catalog led to what a broken compaction left, and leads to its own folder again";
            (self.observe)(Event::LeftAlone {
                table: &definition.name,
                partition: &place,
                why,
            });
        }
        Ok(())
    }

    fn spots<'a>(&self, plan: &'a Plan, journal: &Journal<'_>) -> Result<Vec<Spot<'a>>> {
        let aside = self.lake.child(&journal.aside());
        let mut spots = Vec::new();
        for table in &plan.tables {
            for partition in &table.partitions {
                let of = |folder: &Path| {
                    let table = folder.clone().join(table.folder.as_str());
                    below(&table, &partition.folder)
                };
                spots.push(Spot {
                    table,
                    partition,
                    live: of(&self.lake.path)?,
                    aside: of(&aside)?,
                });
            }
        }
        Ok(spots)
    }

    async fn each<'a>(
        &self,
        spots: Vec<Spot<'a>>,
        work: impl AsyncFn(&Spot<'a>) -> Result<()>,
    ) -> Result<()> {
        let work = &work;
        stream::iter(spots)
            .map(|spot| async move {
                work(&spot)
                    .await
                    .map_err(|error| error.at(spot.live.to_string()))
            })
            .buffer_unordered(PARTITIONS)
            .try_collect()
            .await
    }

    async fn view(&self, plan: &Plan) -> Result<View> {
        let mut view = View::new();
        for name in plan
            .tables
            .iter()
            .filter_map(|table| table.registered.as_ref())
        {
            let Registration { database, table } = name;
            let Some(catalog) = &self.catalog else {
                return Err(Error::job(format!(
                    "{}: the compaction that was broken off swaps partitions of {database}.{table} in the catalog: start it with the job that \
                     names this catalog",
                    self.lake.url
                )));
            };
            let definition = self.patiently(|| catalog.table(database, table)).await?;
            // A table that was dropped has no partitions.
            let Some(definition) = definition else {
                continue;
            };
            let partitions = self
                .patiently(|| catalog.partitions(database, table))
                .await?;
            let places = partitions
                .into_iter()
                .map(|partition| (partition.values, partition.location));
            view.insert(name.clone(), (definition, places.collect()));
        }
        Ok(view)
    }

    /// One step for whoever reads through the catalog. Only the owner of the run takes it: what another one is done with is gone.
    async fn lead(
        &self,
        view: &View,
        spot: &Spot<'_>,
        to: Now,
        journal: &Journal<'_>,
    ) -> Result<()> {
        let known = spot
            .table
            .registered
            .as_ref()
            .and_then(|name| view.get(name));
        let (Some((definition, _)), Some(swap), Some(catalog)) =
            (known, &spot.partition.swap, &self.catalog)
        else {
            return Err(Error::bug(
                "a partition was to be swapped that is in no catalog",
            ));
        };
        let location = match to {
            Now::Aside => &swap.aside,
            _ => &swap.live,
        };
        let partition = Partition {
            values: swap.values.clone(),
            location: location.clone(),
        };
        journal.still_own().await?;
        self.patiently(|| catalog.move_partition(definition, &partition))
            .await
    }

    /// Asks again where that may help.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pause = Duration::from_secs(1);
        for _ in 1..ATTEMPTS {
            match ask().await {
                Err(error) if error.kind() == Kind::Retry => {
                    tracing::warn!(%error, "the catalog does not answer; asking again");
                    (self.sleep)(pause).await;
                    pause *= 2;
                }
                answered => return answered,
            }
        }
        ask().await
    }

    /// Whatever is in the table's folder and not merged is aside, too.
    async fn mirror(&self, spot: &Spot<'_>) -> Result<()> {
        let mut missing = self.sizes(&spot.live).await?;
        let there = self.sizes(&spot.aside).await?;
        missing.retain(|name, _| {
            !spot.partition.merged.contains_key(name) && !there.contains_key(name)
        });
        stream::iter(missing.keys())
            .map(|name| async {
                match self.copy(&spot.live, &spot.aside, name).await {
                    // What has vanished meanwhile was removed by somebody else.
                    Err(_) if self.is_gone(&below(&spot.live, name)?).await? => Ok(()),
                    done => done,
                }
            })
            .buffer_unordered(FILES)
            .try_collect()
            .await
    }

    async fn expect_complete(&self, spot: &Spot<'_>, live: &BTreeMap<String, u64>) -> Result<()> {
        let PlannedPartition { merged, into, .. } = spot.partition;
        let mut wanted = live.clone();
        wanted.retain(|name, _| !merged.contains_key(name));
        wanted.extend(into.clone());
        match has_all(&self.sizes(&spot.aside).await?, &wanted) {
            true => Ok(()),
            false => Err(Error::retry(format!(
                "{}: files are missing that were copied or written there just now",
                spot.aside
            ))),
        }
    }

    /// Says for whoever looks for them later which files are no more: see [`merged`].
    async fn record(&self, spots: &[Spot<'_>], journal: &Journal<'_>) -> Result<()> {
        let mut record = Merged {
            version: merged::VERSION,
            tables: BTreeMap::new(),
        };
        for spot in spots {
            let files = record.tables.entry(spot.table.folder.clone()).or_default();
            let folder = &spot.partition.folder;
            files.extend(
                spot.partition
                    .merged
                    .keys()
                    .map(|name| match folder.as_str() {
                        "" => name.clone(),
                        folder => format!("{folder}/{name}"),
                    }),
            );
        }
        let path = merged::records(&self.lake.path).join(format!("{}.json", journal.entry().run));
        super::journal::write(&self.lake, &path, &record).await
    }

    /// The files that a reader of a folder sees: their sizes by their paths below it.
    async fn sizes(&self, folder: &Path) -> Result<BTreeMap<String, u64>> {
        let listed: Vec<_> = self
            .lake
            .store
            .list(Some(folder))
            .try_collect()
            .await
            .map_err(|error| self.lake.explain(folder, error))?;
        let above = folder.as_ref().len() + 1;
        let visible = listed
            .iter()
            .filter(|file| is_visible(folder, &file.location))
            .filter_map(|file| Some((file.location.as_ref().get(above..)?.to_string(), file.size)));
        Ok(visible.collect())
    }

    async fn copy(&self, from: &Path, to: &Path, name: &str) -> Result<()> {
        let (from, to) = (below(from, name)?, below(to, name)?);
        let copied = self.lake.store.copy(&from, &to).await;
        copied.map_err(|error| self.lake.explain(&from, error))
    }

    async fn is_gone(&self, path: &Path) -> Result<bool> {
        match self.lake.store.head(path).await {
            Ok(_) => Ok(false),
            Err(error) if is_missing(&error) => Ok(true),
            Err(error) => Err(self.lake.explain(path, error)),
        }
    }

    async fn delete(&self, path: &Path) -> Result<()> {
        match self.lake.store.delete(path).await {
            Err(error) if !is_missing(&error) => Err(self.lake.explain(path, error)),
            _ => Ok(()),
        }
    }

    fn tell_left(&self, spot: &Spot<'_>, why: &str) {
        (self.observe)(Event::LeftAlone {
            table: &spot.table.folder,
            partition: &spot.partition.folder,
            why,
        });
    }
}

/// None where no catalog is asked.
fn now(spot: &Spot<'_>, view: &View) -> Option<Now> {
    let name = spot.table.registered.as_ref()?;
    let swap = spot.partition.swap.as_ref()?;
    let place = view
        .get(name)
        .and_then(|(_, places)| places.get(&swap.values));
    Some(match place {
        Some(place) if *place == swap.live => Now::Live,
        Some(place) if *place == swap.aside => Now::Aside,
        _ => Now::Elsewhere,
    })
}

fn has_all(there: &BTreeMap<String, u64>, wanted: &BTreeMap<String, u64>) -> bool {
    wanted
        .iter()
        .all(|(name, size)| there.get(name) == Some(size))
}
