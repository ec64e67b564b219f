//! The keeper as a whole, beside real epochs: a small job publishes partitions, dies at every step, meets every fault of the catalog, and
//! comes back. In the end the catalog must hold exactly the partitions that have files, each success file must stand behind
//! all files of a complete partition, and a crawler must have seen everything without being started too often.

use super::definition::Registered;
use super::flaky::FlakyCatalog;
use super::keeper::{CrawlerDuty, Duties, Duty, Keeper, Tools};
use super::memory::MemoryCatalog;
use super::owed::Terms;
use super::worker::Worker;
use super::*;
use crate::catalog::complete::Rule;
use crate::clock::{Clock, ManualClock, Sleeper};
use crate::config::CrawlerStart;
use crate::epoch::{
    self, Barrier, Claim, Coordinator, DieAt, EpochStore, Hook, Mode, NoHook, Owner, Point,
    SourceState, SplitState, Step,
};
use crate::error::Kind;
use crate::sink::{Carry, Publisher, Staging, TableSpec, Token};
use crate::source::Position;
use crate::sql::Options;
use crate::store::{Effect, Located, open};
use crate::time::{EventTime, Progress};
use arrow::datatypes::Schema;
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TABLES: [&str; 3] = ["events", "letters", "plain"];
const INTERVAL_MS: i64 = 600_000;
const HOUR_MS: i64 = 3_600_000;

/// What a step of the job publishes of one table, and what it leaves open.
#[derive(Debug, Clone, Default)]
struct Written {
    published: Vec<String>,
    open: BTreeSet<String>,
}

/// What the job does, whoever does it: the same after a crash.
#[derive(Debug)]
struct Script {
    steps: Vec<BTreeMap<&'static str, Written>>,
    watermarks: Vec<EventTime>,
}

impl Script {
    fn drawn(seed: u64) -> Script {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let (mut steps, mut watermarks, mut hour) = (Vec::new(), Vec::new(), 0);
        let last = random.usize(3..7);
        for step in 0..=last {
            hour += random.i64(0..3);
            let mut written = BTreeMap::new();
            for table in TABLES {
                let open = files.entry(table).or_default();
                for _ in 0..random.usize(0..3) {
                    // Late rows come for partitions that are complete already.
                    let late = random.i64(0..4);
                    open.insert(folder(table, (hour - late).max(0)));
                }
                let mut closed = BTreeSet::new();
                open.retain(|partition| {
                    let closes = step == last || random.bool();
                    closes.then(|| closed.insert(partition.clone()));
                    !closes
                });
                let of = Written {
                    published: closed.into_iter().collect(),
                    open: open.clone(),
                };
                written.insert(table, of);
            }
            steps.push(written);
            watermarks.push(EventTime(hour * HOUR_MS));
        }
        Script { steps, watermarks }
    }

    /// The number of files in each partition of a table behind so many steps.
    fn files(&self, table: &str, steps: usize) -> BTreeMap<String, usize> {
        let mut files = BTreeMap::new();
        for step in &self.steps[..steps] {
            for partition in &step[table].published {
                *files.entry(partition.clone()).or_default() += 1;
            }
        }
        files
    }
}

fn folder(table: &str, hour: i64) -> String {
    let hour = format!("{:02}", hour % 24);
    match table {
        "plain" => String::new(),
        _ => format!("dt=1970-01-01/hour={hour}"),
    }
}

/// Everything that outlives a process.
struct World {
    script: Script,
    at: Located,
    clock: ManualClock,
    catalog: MemoryCatalog,
    visible: Arc<Mutex<Visible>>,
    words: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Default)]
struct Visible {
    /// The names of files, by table.
    files: BTreeMap<String, BTreeSet<String>>,
    /// For each partition of each table, how many files stood behind its success file when it was written last.
    marks: BTreeMap<(String, String), usize>,
}

struct Table {
    name: &'static str,
    visible: Arc<Mutex<Visible>>,
}

impl Publisher for Table {
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        let mut visible = self.visible.lock().unwrap();
        let files = visible.files.entry(self.name.to_owned()).or_default();
        files.extend(tokens.iter().map(|token| token.name.clone()));
        futures::future::ready(Ok(())).boxed()
    }

    fn discard_except<'a>(&'a self, _: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    fn mark<'a>(&'a self, partition: &'a str, file: &'a str) -> BoxFuture<'a, Result<()>> {
        assert_eq!(file, "_SUCCESS");
        let mut visible = self.visible.lock().unwrap();
        let files = visible.files[self.name].iter();
        let behind = files
            .filter(|name| name.starts_with(&format!("{partition}/")))
            .count();
        let key = (self.name.to_owned(), partition.to_owned());
        visible.marks.insert(key, behind);
        futures::future::ready(Ok(())).boxed()
    }

    fn partitions(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        let visible = self.visible.lock().unwrap();
        let files = visible.files.get(self.name).into_iter().flatten();
        let folders = files.filter_map(|name| Some(name.rsplit_once('/')?.0.to_owned()));
        futures::future::ready(Ok(folders.collect())).boxed()
    }
}

fn column(name: &str) -> Column {
    Column {
        name: name.into(),
        hive_type: "string".into(),
        comment: None,
    }
}

fn definition(table: &str) -> Definition {
    let keys: &[&str] = if table == "plain" {
        &[]
    } else {
        &["dt", "hour"]
    };
    Definition {
        database: "db".into(),
        name: table.into(),
        columns: vec![column("id")],
        partition_keys: keys.iter().map(|name| column(name)).collect(),
        location: format!("s3://lake/{table}"),
        parameters: BTreeMap::new(),
        format: Format::Parquet,
    }
}

fn rule(table: &str) -> Rule {
    let mut options = vec![("connector", "filesystem")];
    if table == "events" {
        options.extend([
            ("sink.partition-commit.trigger", "partition-time"),
            ("sink.partition-commit.delay", "1 h"),
            (
                "partition.time-extractor.timestamp-pattern",
                "$dt $hour:00:00",
            ),
        ]);
    }
    let table = TableSpec {
        name: table.into(),
        schema: Arc::new(Schema::empty()),
        partitioned_by: vec!["dt".into(), "hour".into()],
        primary_key: vec![],
        metadata: Default::default(),
        options: Options::of(options),
    };
    Rule::of(&table).unwrap()
}

fn duties() -> Duties {
    let duty = |table: &str| {
        let partitioned = table != "plain";
        let terms = Terms {
            registered_as: partitioned.then(|| format!("db.{table}")),
            complete: partitioned.then(|| rule(table)),
            success_file: partitioned.then(|| "_SUCCESS".to_owned()),
            crawler: Some(("c".to_owned(), CrawlerStart::NewFiles)),
        };
        let registered = Some(Registered::new(
            table,
            definition(table),
            "__HIVE_DEFAULT_PARTITION__",
        ));
        (table.to_owned(), Duty { terms, registered })
    };
    let crawler = CrawlerDuty {
        min_interval_ms: INTERVAL_MS,
        create: Some(CrawlerSpec {
            name: "c".into(),
            role: "role".into(),
            database: "db".into(),
            targets: vec!["s3://lake".into()],
            schedule: None,
        }),
    };
    Duties {
        tables: TABLES.map(duty).into(),
        crawlers: [("c".to_owned(), crawler)].into(),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let clock = ManualClock::at(1_800_000_000_000);
        World {
            script: Script::drawn(seed),
            at: open(&format!("memory://{}/lake", uuid::Uuid::new_v4())).unwrap(),
            catalog: MemoryCatalog::with_clock(Arc::new(clock.clone())),
            clock,
            visible: Arc::default(),
            words: Arc::default(),
        }
    }

    fn sure(&self) -> Arc<dyn Catalog> {
        Arc::new(self.catalog.clone())
    }

    fn publishers(&self) -> BTreeMap<String, Arc<dyn Publisher>> {
        let publisher = |name: &'static str| {
            let visible = Arc::clone(&self.visible);
            let table: Arc<dyn Publisher> = Arc::new(Table { name, visible });
            (name.to_owned(), table)
        };
        TABLES.map(publisher).into()
    }

    fn store(&self) -> EpochStore {
        EpochStore::new(self.at.folder("checkpoints"), "job")
    }

    /// A process takes the job over.
    async fn start(&self, catalog: Arc<dyn Catalog>, hook: Arc<dyn Hook>) -> Result<Process> {
        let owner = Owner::this_process();
        let (store, publishers) = (self.store(), self.publishers());
        let sleep: Sleeper = Arc::new(|_: Duration| Box::pin(std::future::ready(())));
        let claim = Claim {
            store: &store,
            me: &owner,
            interval: Duration::from_secs(10),
            mode: Mode::Takeover,
            clock: &self.clock,
            sleep: &sleep,
            notify: &|_| {},
        };
        let claimed = claim.run().await?;
        let recovered = epoch::recover(&store, &claimed, &publishers, hook.as_ref()).await?;
        let words = Arc::clone(&self.words);
        let tools = Tools {
            catalog: Some(catalog),
            publishers: publishers.clone(),
            guard: super::keeper::guard(&store, &owner.id),
            clock: Arc::new(self.clock.clone()),
            sleep,
            jitter: || 1.0,
            voice: Arc::new(move |text| words.lock().unwrap().push(text.to_owned())),
            hook: Arc::clone(&hook),
        };
        let (keeper, worker) = Keeper::new(duties(), tools);
        let clock = Arc::new(self.clock.clone());
        let coordinator = Coordinator::new(store, &claimed, publishers, clock, hook);
        let step = recovered
            .checkpoint
            .and_then(|checkpoint| Some(checkpoint.sources.get("numbers")?.splits[0].position));
        Ok(Process {
            owner: owner.id,
            coordinator: coordinator.with_keeper(keeper),
            worker,
            step: step.map_or(0, |position| usize::try_from(position.offset).unwrap()),
        })
    }

    /// The worker works until nothing is owed; the clock runs on meanwhile, and crawlers end their runs.
    async fn settle(&self, worker: &mut Worker) -> Result<()> {
        for _ in 0..200 {
            let Some(next) = worker.round().await? else {
                break;
            };
            self.catalog.finish_crawler("c", "SUCCEEDED");
            if worker.owes_nothing() {
                return Ok(());
            }
            let wait = next.saturating_sub(self.clock.now_ms()).max(0);
            self.clock
                .advance(Duration::from_millis(wait.unsigned_abs()));
        }
        panic!("it never comes to an end")
    }

    /// What must be true when all is done.
    async fn check(&self, context: &str) {
        let steps = self.script.steps.len();
        let visible = self.visible.lock().unwrap().clone();
        let mut marks = BTreeMap::new();
        for table in TABLES {
            let files = self.script.files(table, steps);
            let published = visible.files.get(table).map_or(0, BTreeSet::len);
            assert_eq!(
                published,
                files.values().sum::<usize>(),
                "{context}: {table}"
            );
            let registered = self.catalog.partitions("db", table).await.unwrap();
            let expected: Vec<Partition> = files
                .keys()
                .filter(|folder| !folder.is_empty())
                .map(|folder| Partition {
                    values: crate::sink::folder_values(folder),
                    location: format!("s3://lake/{table}/{folder}"),
                })
                .collect();
            assert_eq!(registered, expected, "{context}: {table}");
            let watermark = self.script.watermarks[steps - 1];
            for (folder, count) in files {
                let complete = match table {
                    "plain" => false,
                    "letters" => true,
                    _ => rule(table).has_come(&folder, 0, 0, watermark).unwrap(),
                };
                if complete {
                    marks.insert((table.to_owned(), folder), count);
                }
            }
        }
        assert_eq!(
            visible.marks, marks,
            "{context}: success files, each with the files that it stands behind"
        );
        let starts = self.catalog.starts("c");
        let any = !visible.files.values().all(BTreeSet::is_empty);
        assert_eq!(any, !starts.is_empty(), "{context}: {starts:?}");
        assert!(
            starts.windows(2).all(|two| two[1] - two[0] >= INTERVAL_MS),
            "{context}: {starts:?}"
        );
    }
}

struct Process {
    owner: String,
    coordinator: Coordinator,
    worker: Worker,
    step: usize,
}

impl Process {
    /// The next step of the script, as an epoch.
    async fn epoch(&mut self, world: &World) -> Result<()> {
        let epoch = self.coordinator.next_epoch();
        let last = self.step + 1 >= world.script.steps.len();
        let nothing = BTreeMap::new();
        let written = world.script.steps.get(self.step).unwrap_or(&nothing);
        let watermark = world.script.watermarks[self.step.min(world.script.steps.len() - 1)];
        self.step += 1;
        let staging = |table: &str| {
            let Written { published, open } = written.get(table).cloned().unwrap_or_default();
            let token = |folder: String| {
                let name = format!("part-{epoch}-{}", self.owner);
                let name = match folder.as_str() {
                    "" => name,
                    folder => format!("{folder}/{name}"),
                };
                let token = Token {
                    name,
                    rows: 1,
                    bytes: 1,
                };
                futures::future::ready(Ok(token)).boxed()
            };
            Staging {
                written: published.len() as u64,
                tokens: published.into_iter().map(token).collect(),
                carry: Carry {
                    partitions: open,
                    ..Carry::default()
                },
            }
        };
        let split = SplitState {
            topic: "numbers".into(),
            partition: 0,
            position: Position {
                offset: self.step as i64,
                finished: last,
            },
            progress: Progress::START,
        };
        let splits = vec![split];
        let barrier = Barrier {
            epoch,
            sources: [("numbers".to_owned(), SourceState { splits })].into(),
            watermarks: TABLES.map(|table| (table.to_owned(), watermark)).into(),
            sinks: TABLES
                .map(|table| (table.to_owned(), vec![staging(table)]))
                .into(),
            released: last,
            ..Barrier::default()
        };
        self.coordinator.commit(barrier).await.map(drop)
    }
}

/// One process, from its start to the end of the script.
async fn live(
    world: &World,
    seed: u64,
    catalog: Arc<dyn Catalog>,
    hook: Arc<dyn Hook>,
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = world.start(catalog, hook).await?;
    while process.step < world.script.steps.len() {
        // The worker may be ahead or behind.
        for _ in 0..random.usize(0..3) {
            process.worker.round().await?;
        }
        process.epoch(world).await?;
        if random.bool() {
            process.worker.round().await?;
        }
        if random.bool() {
            world.catalog.finish_crawler("c", "SUCCEEDED");
        }
        world.clock.advance(Duration::from_secs(random.u64(0..900)));
    }
    world.settle(&mut process.worker).await
}

/// The whole job, started again whenever it dies. Says how often it did.
async fn run(world: &World, seed: u64, catalog: Arc<dyn Catalog>, hook: Arc<dyn Hook>) -> usize {
    let mut deaths = 0;
    let (mut catalog, mut hook) = (catalog, hook);
    while let Err(error) = live(world, seed, catalog, hook).await {
        assert_eq!(error.kind(), Kind::Retry, "{error}");
        deaths += 1;
        assert!(deaths < 3, "{error}");
        (catalog, hook) = (world.sure(), Arc::new(NoHook));
    }
    deaths
}

#[tokio::test]
async fn a_death_at_any_step_leaves_nothing_untold() {
    for &step in Step::ALL {
        let mut reached = 0;
        for nth in 1..=3 {
            for seed in 0..8 {
                let world = World::new(seed);
                let hook = Arc::new(DieAt::new(step, nth));
                reached += run(&world, seed, world.sure(), hook).await;
                world
                    .check(&format!("dies {step}, time {nth}, seed {seed}"))
                    .await;
            }
        }
        assert!(reached > 0, "{step} was never reached");
    }
}

#[tokio::test]
async fn any_call_may_fail_before_or_after_its_effect() {
    for effect in [Effect::Lost, Effect::Done] {
        for first in 0..40 {
            let failures = 1 + first % 4;
            let seed = first as u64;
            let world = World::new(seed);
            let flaky = FlakyCatalog::new(world.sure(), first, failures, effect);
            let hook = Arc::new(NoHook);
            run(&world, seed, Arc::new(flaky.clone()), hook).await;
            let context = format!("calls {first} and {failures} more fail, {effect:?}");
            world.check(&context).await;
            let words = world.words.lock().unwrap();
            let said = words.iter().any(|text| text.contains("does not answer"));
            assert_eq!(first < flaky.calls(), said, "{context}: {words:?}");
        }
    }
}

#[tokio::test]
async fn a_catalog_that_is_away_for_long_is_one_word_and_a_word_when_it_is_back() {
    let world = World::new(5);
    let away = FlakyCatalog::new(world.sure(), 2, 60, Effect::Lost);
    run(&world, 5, Arc::new(away), Arc::new(NoHook)).await;
    world.check("away for long").await;
    let words = world.words.lock().unwrap();
    let about = |word: &str| words.iter().filter(|text| text.contains(word)).count();
    assert_eq!(
        (about("does not answer"), about("answers again")),
        (1, 1),
        "{words:?}"
    );
}

#[tokio::test]
async fn who_does_not_own_the_job_any_more_tells_nothing() {
    let world = World::new(1);
    let calls = FlakyCatalog::new(world.sure(), usize::MAX, 0, Effect::Lost);
    let catalog: Arc<dyn Catalog> = Arc::new(calls.clone());
    let mut old = world
        .start(Arc::clone(&catalog), Arc::new(NoHook))
        .await
        .unwrap();
    old.epoch(&world).await.unwrap();
    // It freezes here, and a newcomer takes the job over.
    let _new = world.start(catalog, Arc::new(NoHook)).await.unwrap();
    let error = old.worker.round().await.unwrap_err();
    assert_eq!((error.kind(), calls.calls()), (Kind::Fenced, 0));
}

/// Another tool's folders keep none of the table's from being registered.
#[tokio::test]
async fn folders_that_are_no_partitions_are_named_and_left_out() {
    let world = World::new(3);
    let strange = ["backup=1/x.parquet", "dt=1970-01-01/x.parquet"].map(str::to_owned);
    {
        let mut visible = world.visible.lock().unwrap();
        visible.files.insert("events".to_owned(), strange.into());
    }
    let mut process = world.start(world.sure(), Arc::new(NoHook)).await.unwrap();
    while process.step < world.script.steps.len() {
        process.epoch(&world).await.unwrap();
    }
    world.settle(&mut process.worker).await.unwrap();
    let there = world.catalog.partitions("db", "events").await.unwrap();
    let there: Vec<String> = there.into_iter().map(|one| one.location).collect();
    let files = world.script.files("events", world.script.steps.len());
    let expected = files
        .keys()
        .map(|folder| format!("s3://lake/events/{folder}"));
    assert_eq!(there, expected.collect::<Vec<_>>());
    let words = world.words.lock().unwrap().join("\n");
    assert!(words.contains("'backup=1'"), "{words}");
}

/// Between the last publish and the registration the process is gone: the checkpoint knows.
#[tokio::test]
async fn what_the_job_ends_without_doing_is_in_its_last_checkpoint() {
    let world = World::new(3);
    let mut process = world.start(world.sure(), Arc::new(NoHook)).await.unwrap();
    while process.step < world.script.steps.len() {
        process.epoch(&world).await.unwrap();
    }
    let last = world.store().latest().await.unwrap().unwrap();
    assert!(last.released);
    assert!(last.sinks.values().all(|sink| sink.tokens.is_empty()));
    let left = super::report::left(&last.catalog).unwrap();
    let said = world.words.lock().unwrap().join("\n");
    assert!(said.contains(&left), "{said}");
    drop(process);

    let mut next = world.start(world.sure(), Arc::new(NoHook)).await.unwrap();
    world.settle(&mut next.worker).await.unwrap();
    world.check("by the next start").await;
    next.epoch(&world).await.unwrap();
    let last = world.store().latest().await.unwrap().unwrap();
    assert_eq!(super::report::left(&last.catalog), None);
}
