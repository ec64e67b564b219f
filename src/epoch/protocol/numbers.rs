//! The job that the protocol is tried with: it reads numbers and sums them, on two lanes, into two tables whose files stay open for a
//! while. Every start checks that what is visible and what is carried are the rows up to its position, each once.

use super::super::*;
use crate::clock::{Clock, ManualClock, Sleeper};
use crate::error::Result;
use crate::operator::StatePart;
use crate::sink::{Carry, Publisher, Staging};
use crate::source::Position;
use crate::store::{Located, is_missing};
use crate::time::Progress;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use std::time::Duration;

pub(super) const TABLES: [&str; 2] = ["all", "thirds"];
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
pub(super) async fn visible(at: &Located, table: &str) -> Vec<i64> {
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

pub(super) fn expected(table: &str, rows: i64) -> Vec<i64> {
    (0..rows).filter(|row| belongs(table, *row)).collect()
}

/// One open file of one table on one lane.
#[derive(Default)]
pub(super) struct File {
    number: u64,
    pub rows: Vec<i64>,
    /// How many of them an earlier barrier carried.
    carried: usize,
    written: u64,
}

/// A process that runs the job.
pub(super) struct Process {
    at: Located,
    owner: Owner,
    coordinator: Coordinator,
    pub position: i64,
    sum: i64,
    /// State that stays as it is while the process lives; said whole once.
    began: Option<i64>,
    pub files: BTreeMap<(&'static str, usize), File>,
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
    pub async fn start(at: &Located, sure: &Located, hook: Arc<dyn Hook>) -> Result<Process> {
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
            began: None,
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
        let mut began = 0;
        for state in &recovered.states {
            match state.part.as_str() {
                "sum" => process.sum += state.rows.iter().flat_map(numbers).sum::<i64>(),
                _ => began += state.rows.iter().flat_map(numbers).count(),
            }
        }
        assert_eq!(began, usize::from(!recovered.states.is_empty()));
        process.began = Some(process.position);
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
    pub async fn epoch(&mut self, rows: i64, close: bool) -> Result<Committed> {
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
            id: None,
            rows: Some(batch(rows)),
            key_columns: 0,
        };
        let stays = StatePart {
            name: "began",
            id: Some(1),
            rows: self.began.take().map(|began| batch(&[began])),
            key_columns: 0,
        };
        let states = [state(&[self.sum]), state(&[]), stays].map(|part| NodeState {
            node: "sum".into(),
            lane: 0,
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
                    ..Carry::default()
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
