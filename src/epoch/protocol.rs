//! The protocol as a whole: a small job that reads numbers, with two tables on two lanes, dies at every step, meets every fault of the
//! store, and comes back as a zombie. What is visible must be the rows of committed epochs, each once.

use super::*;
use crate::clock::{Clock, ManualClock, Sleeper};
use crate::error::{Error, Kind, Result};
use crate::operator::StatePart;
use crate::sink::{Carry, Publisher, Staging};
use crate::source::Position;
use crate::store::{Effect, Flaky, Located, is_missing, open};
use crate::time::Progress;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const TABLES: [&str; 2] = ["all", "thirds"];
const LANES: usize = 2;
/// A file closes at the first barrier at which it has so many rows.
const FILE_ROWS: usize = 5;

/// One table in a store: `staged/<table>/...` becomes `published/<table>/...` by copying, as for Parquet.
struct Table {
    name: &'static str,
    at: Located,
}

impl Publisher for Table {
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        async move {
            for token in tokens {
                let staged = self.at.child(&format!("staged/{}", token.name));
                let published = self.at.child(&format!("published/{}", token.name));
                match self.at.store.copy(&staged, &published).await {
                    Ok(()) => {
                        let deleted = self.at.store.delete(&staged).await;
                        deleted
                            .or_else(ignore_missing)
                            .map_err(|error| self.at.explain(&staged, error))?;
                    }
                    // It was published before, and only then may the staged one be gone.
                    Err(error) if is_missing(&error) => {
                        let there = self.at.store.head(&published).await;
                        there.map_err(|error| self.at.explain(&published, error))?;
                    }
                    Err(error) => return Err(self.at.explain(&staged, error)),
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn discard_except<'a>(&'a self, keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        async move {
            let folder = self.at.child(&format!("staged/{}", self.name));
            let keep: Vec<_> = keep
                .iter()
                .map(|token| self.at.child(&format!("staged/{}", token.name)))
                .collect();
            let explain = |error| self.at.explain(&folder, error);
            let staged: Vec<_> = self
                .at
                .store
                .list(Some(&folder))
                .try_collect()
                .await
                .map_err(explain)?;
            let garbage = staged
                .into_iter()
                .map(|object| object.location)
                .filter(|path| !keep.contains(path));
            let garbage: Vec<_> = garbage.map(Ok).collect();
            let deleted = self.at.store.delete_stream(stream::iter(garbage).boxed());
            deleted
                .try_collect::<Vec<_>>()
                .await
                .map(drop)
                .map_err(explain)
        }
        .boxed()
    }
}

fn ignore_missing(error: object_store::Error) -> object_store::Result<()> {
    if is_missing(&error) {
        Ok(())
    } else {
        Err(error)
    }
}

fn publishers(at: &Located) -> BTreeMap<String, Arc<dyn Publisher>> {
    let publisher = |name: &'static str| {
        Arc::new(Table {
            name,
            at: at.clone(),
        }) as Arc<dyn Publisher>
    };
    TABLES
        .map(|name| (name.to_string(), publisher(name)))
        .into()
}

/// The rows of one table that anybody can see, sorted.
async fn visible(at: &Located, table: &str) -> Vec<i64> {
    let folder = at.child(&format!("published/{table}"));
    let files: Vec<_> = at.store.list(Some(&folder)).try_collect().await.unwrap();
    let mut rows = Vec::new();
    for file in files {
        let bytes = at
            .store
            .get(&file.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        rows.extend(serde_json::from_slice::<Vec<i64>>(&bytes).unwrap());
    }
    rows.sort();
    rows
}

fn belongs(table: &str, row: i64) -> bool {
    table == "all" || row % 3 == 0
}

fn expected(table: &str, rows: i64) -> Vec<i64> {
    (0..rows).filter(|row| belongs(table, *row)).collect()
}

/// One open file of one table on one lane.
#[derive(Default)]
struct File {
    number: u64,
    rows: Vec<i64>,
    /// How many of them an earlier barrier carried.
    carried: usize,
    written: u64,
}

/// A process that runs the job.
struct Process {
    at: Located,
    owner: Owner,
    coordinator: Coordinator,
    position: i64,
    sum: i64,
    files: BTreeMap<(&'static str, usize), File>,
    ledger: Ledger,
}

fn batch(rows: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(rows.to_vec())) as _)]).unwrap()
}

fn numbers(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive::<Int64Type>().values()
}

impl Process {
    /// Starts on `at`; what is visible is looked at through `sure`, the same store without its faults.
    async fn start(at: &Located, sure: &Located, hook: Arc<dyn Hook>) -> Result<Process> {
        let owner = Owner::this_process();
        let store = EpochStore::new(at.folder("checkpoints"), "numbers");
        let clock = ManualClock::at(1_000);
        let sleep: Sleeper = Arc::new(|_: Duration| Box::pin(std::future::ready(())));
        let claim = Claim {
            store: &store,
            me: &owner,
            interval: Duration::from_secs(10),
            mode: Mode::Takeover,
            clock: &clock,
            sleep: &sleep,
            notify: &|_| {},
        };
        let claimed = claim.run().await?;
        let publishers = publishers(at);
        let recovered = recover(&store, &claimed, &publishers, hook.as_ref()).await?;
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let coordinator = Coordinator::new(store, &claimed, publishers, clock, hook);
        let mut process = Process {
            at: at.clone(),
            owner,
            coordinator,
            position: 0,
            sum: 0,
            files: BTreeMap::new(),
            ledger: Ledger::default(),
        };
        if let Some(checkpoint) = recovered.checkpoint {
            process.ledger = checkpoint.ledger;
            process.position = checkpoint
                .sources
                .get("numbers")
                .map_or(0, |source| source.splits[0].position.offset);
        }
        for state in recovered.states {
            process.sum += state.rows.iter().flat_map(numbers).sum::<i64>();
        }
        for (table, rows) in recovered.carried {
            let table = TABLES.into_iter().find(|name| *name == table).unwrap();
            for (part, rows) in rows {
                let file = process.files.entry((table, part.lane)).or_default();
                file.rows.extend(numbers(&rows));
            }
        }
        let position = process.position;
        assert_eq!(
            process.sum,
            (0..position).sum::<i64>(),
            "the state at position {position}"
        );
        for table in TABLES {
            let mut rows = visible(sure, table).await;
            let open = process.files.iter().filter(|((of, _), _)| *of == table);
            rows.extend(open.flat_map(|(_, file)| &file.rows));
            rows.sort();
            assert_eq!(
                rows,
                expected(table, position),
                "{table} after recovery at position {position}"
            );
        }
        Ok(process)
    }

    /// One epoch in which so many numbers are read.
    async fn epoch(&mut self, rows: i64, close: bool) -> Result<Committed> {
        let epoch = self.coordinator.next_epoch();
        for row in self.position..self.position + rows {
            self.sum += row;
            for table in TABLES.into_iter().filter(|table| belongs(table, row)) {
                let file = self.files.entry((table, (row % 2) as usize)).or_default();
                file.rows.push(row);
                file.written += 1;
            }
        }
        self.position += rows;
        let book = self.ledger.sources.entry("numbers".into()).or_default();
        for count in [
            &mut book.records,
            &mut book.decoded,
            &mut book.rows,
            &mut book.accepted,
        ] {
            *count = self.position as u64;
        }
        let split = SplitState {
            topic: "numbers".into(),
            partition: 0,
            position: Position {
                offset: self.position,
                finished: close,
            },
            progress: Progress::START,
        };
        let state = |rows| StatePart {
            name: "sum",
            rows: batch(rows),
            key_columns: 0,
        };
        let states = [state(&[self.sum]), state(&[])].map(|part| NodeState {
            node: "sum".into(),
            part,
        });
        let barrier = Barrier {
            epoch,
            sources: [(
                "numbers".to_string(),
                SourceState {
                    splits: vec![split],
                },
            )]
            .into(),
            states: states.into(),
            sinks: TABLES
                .map(|table| {
                    let lanes = (0..LANES)
                        .map(|lane| self.stage(table, lane, epoch, close))
                        .collect();
                    (table.to_string(), lanes)
                })
                .into(),
            ledger: self.ledger.clone(),
            released: close,
            ..Barrier::default()
        };
        let committed = self.coordinator.commit(barrier).await?;
        self.ledger = committed.ledger.clone();
        Ok(committed)
    }

    fn stage(&mut self, table: &'static str, lane: usize, epoch: u64, close: bool) -> Staging {
        let file = self.files.entry((table, lane)).or_default();
        let written = std::mem::take(&mut file.written);
        if file.rows.is_empty() {
            return Staging {
                written,
                ..Staging::default()
            };
        }
        if !close && file.rows.len() < FILE_ROWS {
            let appended = vec![(file.number, vec![batch(&file.rows[file.carried..])])];
            file.carried = file.rows.len();
            return Staging {
                written,
                carry: Carry {
                    appended,
                    open: vec![file.number],
                },
                ..Staging::default()
            };
        }
        let rows = std::mem::take(&mut file.rows);
        (file.carried, file.number) = (0, file.number + 1);
        let name = format!("{table}/{epoch}-{}-{lane}.json", self.owner.id);
        let at = self.at.clone();
        let token = async move {
            let bytes = serde_json::to_vec(&rows).unwrap();
            let path = at.child(&format!("staged/{name}"));
            let token = Token {
                name,
                rows: rows.len() as u64,
                bytes: bytes.len() as u64,
            };
            at.store
                .put(&path, bytes.into())
                .await
                .map_err(|error| at.explain(&path, error))?;
            Ok(token)
        };
        Staging {
            tokens: vec![token.boxed()],
            written,
            ..Staging::default()
        }
    }
}

/// The job from start to orderly end, started again whenever it dies. Counts how often it did.
async fn run(first: &Located, at: &Located, hook: Arc<dyn Hook>) -> usize {
    let mut deaths = 0;
    let (mut place, mut hook) = (first, hook);
    loop {
        match live(place, at, Arc::clone(&hook)).await {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), Kind::Retry, "{error}"),
        }
        deaths += 1;
        assert!(deaths < 3);
        (place, hook) = (at, Arc::new(NoHook));
    }
    for table in TABLES {
        assert_eq!(visible(at, table).await, expected(table, 40), "{table}");
        let staged = at.child(&format!("staged/{table}"));
        let staged: Vec<_> = at.store.list(Some(&staged)).try_collect().await.unwrap();
        assert_eq!(staged, [], "{table}");
    }
    let last = EpochStore::new(at.folder("checkpoints"), "numbers")
        .latest()
        .await
        .unwrap()
        .unwrap();
    assert!(last.released);
    let book = last.ledger.sinks["all"];
    assert_eq!((book.written, book.published, book.carried), (40, 40, 0));
    deaths
}

async fn live(at: &Located, sure: &Located, hook: Arc<dyn Hook>) -> Result<()> {
    let mut process = Process::start(at, sure, hook).await?;
    while process.position < 40 {
        process.epoch((40 - process.position).min(9), false).await?;
    }
    process.epoch(0, true).await?;
    Ok(())
}

fn memory() -> Located {
    open(&format!("memory://{}/lake", uuid::Uuid::new_v4())).unwrap()
}

/// Dies when a step is reached for the nth time; what was under way is dropped.
struct DieAt {
    step: Step,
    nth: usize,
    seen: AtomicUsize,
}

impl Hook for DieAt {
    fn at(&self, step: Step) -> Result<()> {
        if step == self.step && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            return Err(Error::retry(format!("died {step}")));
        }
        Ok(())
    }
}

async fn die_at_every_step(places: impl Fn() -> Located, times: usize) {
    for step in Step::ALL {
        let mut reached = 0;
        for nth in 1..=times {
            let at = places();
            println!("dies {step}, time {nth}");
            let hook = Arc::new(DieAt {
                step,
                nth,
                seen: AtomicUsize::new(0),
            });
            reached += run(&at, &at, hook).await;
        }
        assert!(reached > 0, "{step} was never reached");
    }
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing() {
    die_at_every_step(memory, 6).await;
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing_in_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = || {
        open(&format!(
            "{}/{}",
            folder.path().display(),
            uuid::Uuid::new_v4()
        ))
        .unwrap()
    };
    die_at_every_step(place, 2).await;
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing_on_s3() {
    if crate::store::test_place().is_some() {
        die_at_every_step(|| crate::store::test_place().unwrap(), 2).await;
    }
}

/// Every call in turn fails, before or after its effect. Either the protocol gets over it, or the job ends and its next start does.
#[tokio::test]
async fn a_failure_of_any_call_loses_and_repeats_nothing() {
    let flaky = |at: &Located, call, effect| {
        let flaky = Flaky::new(Arc::clone(&at.store), call, 1, effect);
        (
            flaky.clone(),
            Located {
                store: Arc::new(flaky),
                ..at.clone()
            },
        )
    };
    let at = memory();
    let (counter, place) = flaky(&at, usize::MAX, Effect::Lost);
    run(&place, &at, Arc::new(NoHook)).await;
    let calls = counter.calls();
    assert!(calls > 50, "{calls}");
    for call in 0..calls {
        for effect in [Effect::Lost, Effect::Done] {
            println!("call {call} of {calls} fails, its effect is {effect:?}");
            let at = memory();
            let (_, place) = flaky(&at, call, effect);
            run(&place, &at, Arc::new(NoHook)).await;
        }
    }
}

/// Freezes once at a step, when it is armed, until it is told to go on.
struct Freeze {
    armed: Arc<AtomicBool>,
    step: Step,
    frozen: mpsc::Sender<()>,
    thaw: Mutex<mpsc::Receiver<()>>,
}

impl Hook for Freeze {
    fn at(&self, step: Step) -> Result<()> {
        if step == self.step && self.armed.swap(false, Ordering::SeqCst) {
            self.frozen.send(()).unwrap();
            self.thaw.lock().unwrap().recv().unwrap();
        }
        Ok(())
    }
}

/// What was published becomes one file, as compaction makes it. It leaves alone what the latest epoch names, because the next start
/// publishes that again.
async fn compact(at: &Located) {
    let latest = EpochStore::new(at.folder("checkpoints"), "numbers")
        .latest()
        .await
        .unwrap()
        .unwrap();
    for table in TABLES {
        let mut rows = visible(at, table).await;
        let folder = at.child(&format!("published/{table}"));
        let files: Vec<_> = at.store.list(Some(&folder)).try_collect().await.unwrap();
        let named = &latest.sinks[table].tokens;
        let named: Vec<_> = named
            .iter()
            .map(|token| at.child(&format!("published/{}", token.name)))
            .collect();
        for file in files {
            if named.contains(&file.location) {
                let bytes = at
                    .store
                    .get(&file.location)
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap();
                let kept: Vec<i64> = serde_json::from_slice(&bytes).unwrap();
                rows.retain(|row| !kept.contains(row));
            } else {
                at.store.delete(&file.location).await.unwrap();
            }
        }
        let path = at.child(&format!("published/{table}/compacted.json"));
        at.store
            .put(&path, serde_json::to_vec(&rows).unwrap().into())
            .await
            .unwrap();
    }
}

/// The owner freezes at a step of its second epoch. A newcomer takes the job over and ends it; then the owner goes on.
async fn come_back(step: Step, compacted: bool) {
    let at = memory();
    let (frozen, is_frozen) = mpsc::channel();
    let (thaw, thawed) = mpsc::channel();
    let armed = Arc::new(AtomicBool::new(false));
    let hook = Freeze {
        armed: Arc::clone(&armed),
        step,
        frozen,
        thaw: Mutex::new(thawed),
    };
    let mut old = Process::start(&at, &at, Arc::new(hook)).await.unwrap();
    old.epoch(12, false).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    let old = tokio::spawn(async move {
        let second = old.epoch(20, false).await.map(drop);
        (second, old.epoch(1, false).await.map(drop))
    });
    tokio::task::spawn_blocking(move || is_frozen.recv())
        .await
        .unwrap()
        .unwrap();

    live(&at, &at, Arc::new(NoHook)).await.unwrap();
    if compacted {
        compact(&at).await;
    }
    let before = [visible(&at, TABLES[0]).await, visible(&at, TABLES[1]).await];
    assert_eq!(before, TABLES.map(|table| expected(table, 40)));

    thaw.send(()).unwrap();
    let (second, third) = old.await.unwrap();
    let published_late = matches!(step, Step::BeforePublish | Step::DuringPublish) && compacted;
    let too_early = matches!(
        step,
        Step::BeforeState | Step::AfterState | Step::BeforeCommit | Step::AfterCommit
    );
    if published_late || too_early {
        assert_eq!(second.unwrap_err().kind(), Kind::Fenced, "{step}");
    } else {
        second.unwrap();
        assert_eq!(third.unwrap_err().kind(), Kind::Fenced, "{step}");
    }
    let after = [visible(&at, TABLES[0]).await, visible(&at, TABLES[1]).await];
    assert_eq!(after, before, "frozen {step}, compacted: {compacted}");
    // The zombie's expiry, too, left alone what the newcomer needs.
    Process::start(&at, &at, Arc::new(NoHook))
        .await
        .unwrap()
        .epoch(0, true)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_publishes_nothing_wrong() {
    let steps = Step::ALL
        .into_iter()
        .skip_while(|step| *step != Step::BeforeState);
    for step in steps {
        for compacted in [false, true] {
            println!("frozen {step}, compacted: {compacted}");
            come_back(step, compacted).await;
        }
    }
}

/// Rows that a sink lost on the way are found before anybody relies on the epoch.
#[tokio::test]
async fn an_epoch_whose_books_do_not_balance_is_not_committed() {
    let at = memory();
    let mut process = Process::start(&at, &at, Arc::new(NoHook)).await.unwrap();
    process.epoch(6, false).await.unwrap();
    process.files.get_mut(&("all", 0)).unwrap().rows.pop();
    let error = process.epoch(9, false).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Bug, "{error}");
    assert!(error.to_string().contains("sink all"), "{error}");
    assert_eq!(
        Process::start(&at, &at, Arc::new(NoHook))
            .await
            .unwrap()
            .position,
        6
    );
}
