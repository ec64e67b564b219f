//! The half of a commit that waits: durable state, durable staging, the epoch, then publishing.
//!
//! Guarantee: when [`Coordinator::commit`] returns, everything that the epoch names is visible. When it fails, or never returns, the next
//! owner either finds the epoch and publishes it, or does not find it and nobody ever sees its rows.

use super::blob::{Pack, Rows};
use super::steps::{Hook, Step};
use super::store::EpochStore;
use super::{CarriedRef, Checkpoint, Claimed, Ledger, SinkBook, SinkState, SourceState, StateRef};
use crate::catalog::keeper::Keeper;
use crate::catalog::owed::{News, Owed};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::operator::StatePart;
use crate::plan::Meaning;
use crate::sink::{Publisher, Staging, Token};
use crate::time::{EventTime, Progress};
use arrow::record_batch::RecordBatch;
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Commits the epochs of one owner, one after the other.
pub struct Coordinator {
    store: EpochStore,
    publishers: BTreeMap<String, Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    hook: Arc<dyn Hook>,
    /// The last epoch committed; at first the claim.
    last: Checkpoint,
    /// Segments of files that are open in this process, by table. Those of the owner before are not among them: its files are written
    /// again by `Sink::restore`, under new numbers, and their rows are handed over anew at the first barrier.
    carried: BTreeMap<String, Vec<CarriedRef>>,
    /// What the last epoch has of the state that need not be written again.
    held: Held,
    keeper: Option<Keeper>,
}

/// Everything that the engine hands over between two rounds.
#[derive(Default)]
pub struct Barrier {
    pub epoch: u64,
    pub sources: BTreeMap<String, SourceState>,
    pub progress: BTreeMap<String, Progress>,
    /// What the nodes that remember something do.
    pub nodes: BTreeMap<String, Meaning>,
    /// How far the rows have come that a table is written from, by table; at the end when nothing more will come.
    pub watermarks: BTreeMap<String, EventTime>,
    /// The state of every node, from all lanes.
    pub states: Vec<NodeState>,
    /// What each lane staged, by table; the index is the lane.
    pub sinks: BTreeMap<String, Vec<Staging>>,
    /// The books of sources and operators, over the whole life of the job. Of the sinks' books only `rejected` is read: the others are kept
    /// here.
    pub ledger: Ledger,
    /// Set when the job stops in good order, so that the next start does not wait.
    pub released: bool,
}

/// One part of a node's state on one lane.
pub struct NodeState {
    pub node: String,
    pub lane: usize,
    pub part: StatePart,
}

/// Where rows of state were written that may stay as they are: by lane, node, part, and the number that the operator gave them.
type Held = BTreeMap<(usize, String, &'static str, u64), Vec<StateRef>>;

/// What a commit came to.
#[derive(Debug, Clone)]
pub struct Committed {
    pub epoch: u64,
    /// What became visible, by table.
    pub tokens: BTreeMap<String, Vec<Token>>,
    /// Rows in files that are still open, by table.
    pub carried: BTreeMap<String, u64>,
    pub ledger: Ledger,
    /// From the barrier to the end of publishing.
    pub duration: Duration,
}

impl Coordinator {
    /// A coordinator for the owner of this claim, after [`super::recover`].
    pub fn new(
        store: EpochStore,
        claimed: &Claimed,
        publishers: BTreeMap<String, Arc<dyn Publisher>>,
        clock: Arc<dyn Clock>,
        hook: Arc<dyn Hook>,
    ) -> Self {
        Coordinator {
            store,
            publishers,
            clock,
            hook,
            last: claimed.checkpoint.clone(),
            carried: BTreeMap::new(),
            held: Held::new(),
            keeper: None,
        }
    }

    /// Has the catalog told of what is published: first of what was owed to it when the job was claimed.
    pub fn with_keeper(mut self, keeper: Keeper) -> Self {
        keeper.tell(self.last.epoch, &self.last.catalog);
        self.keeper = Some(keeper);
        self
    }

    /// The number that the next barrier has to have.
    pub fn next_epoch(&self) -> u64 {
        self.last.epoch + 1
    }

    /// Makes an epoch durable and visible. After an error the job must not go on: only a new start knows what was committed.
    pub async fn commit(&mut self, barrier: Barrier) -> Result<Committed> {
        let began = self.clock.now_ms();
        if barrier.epoch != self.next_epoch() {
            let (last, got) = (self.last.epoch, barrier.epoch);
            return Err(Error::bug(format!(
                "a barrier of epoch {got} came behind epoch {last}"
            )));
        }
        self.hook.at(Step::BeforeState)?;
        let last = barrier.released;
        let checkpoint = self.prepare(barrier).await?;
        checkpoint.ledger.check()?;
        self.hook.at(Step::AfterState)?;

        self.hook.at(Step::BeforeCommit)?;
        self.store.commit(&checkpoint).await?;
        self.hook.at(Step::AfterCommit)?;

        self.store.check_not_fenced(&checkpoint).await?;
        self.hook.at(Step::BeforePublish)?;
        let hook = self.hook.as_ref();
        let published = publish(&self.store, &checkpoint, &self.publishers, hook).await;
        if let Err(error) = published {
            // A newcomer may have published and cleaned up meanwhile, and then that is what to say.
            self.store.check_not_fenced(&checkpoint).await?;
            return Err(error);
        }
        self.hook.at(Step::AfterPublish)?;
        if let Some(keeper) = &self.keeper {
            keeper.tell(checkpoint.epoch, &checkpoint.catalog);
        }

        self.store.expire(&checkpoint).await?;
        self.hook.at(Step::AfterExpire)?;
        self.hook.at(Step::BeforeAcknowledge)?;
        let duration = self.clock.now_ms().saturating_sub(began);
        let committed = Committed {
            epoch: checkpoint.epoch,
            tokens: checkpoint
                .sinks
                .iter()
                .map(|(table, sink)| (table.clone(), sink.tokens.clone()))
                .collect(),
            carried: checkpoint
                .ledger
                .sinks
                .iter()
                .map(|(table, book)| (table.clone(), book.carried))
                .collect(),
            ledger: checkpoint.ledger.clone(),
            duration: Duration::from_millis(u64::try_from(duration).unwrap_or(0)),
        };
        self.last = checkpoint;
        if last {
            self.conclude().await;
        }
        Ok(committed)
    }

    /// The end of a job: one more epoch, which names nothing to publish, says what the catalog knows by then, and only now lets the next
    /// owner begin. So that owner may do without a table of this one. Where it cannot be committed, the next start publishes once more.
    async fn conclude(&mut self) {
        let mut end = self.last.clone();
        if let Some(keeper) = &mut self.keeper {
            keeper.finish().await;
            end.catalog = keeper.settled(&end.catalog);
            keeper.leave(&end.catalog);
        }
        end.epoch += 1;
        end.committed_at_ms = self.clock.now_ms();
        end.released = true;
        for sink in end.sinks.values_mut() {
            sink.tokens.clear();
        }
        match self.store.commit(&end).await {
            Ok(()) => self.last = end,
            Err(error) => {
                tracing::warn!(%error, "all is published, but the end of the job could not be written down");
            }
        }
    }

    /// Makes everything durable that the epoch will name.
    async fn prepare(&mut self, barrier: Barrier) -> Result<Checkpoint> {
        let folder = EpochStore::blob_folder(barrier.epoch, &self.last.owner.id);
        let mut staged = Vec::new();
        let mut carries = Vec::new();
        let mut written: BTreeMap<String, u64> = BTreeMap::new();
        let mut open: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (table, lanes) in barrier.sinks {
            for (lane, staging) in lanes.into_iter().enumerate() {
                let Staging {
                    tokens,
                    mut carry,
                    written: rows,
                } = staging;
                open.entry(table.clone())
                    .or_default()
                    .append(&mut carry.partitions);
                staged.extend(tokens.into_iter().map(|token| {
                    let table = table.clone();
                    async move { token.await.map(|token| (table, token)) }
                }));
                carries.push((table.clone(), lane, carry));
                *written.entry(table.clone()).or_default() += rows;
            }
        }
        // Uploads run while state is written.
        let uploads = try_join_all(staged);
        let state = write_state(&self.store, &folder, &mut self.held, barrier.states);
        let carried = write_carried(
            &self.store,
            format!("{folder}/carried"),
            &mut self.carried,
            carries,
        );
        let (tokens, state, ()) = futures::try_join!(uploads, state, carried)?;

        let mut sinks: BTreeMap<String, SinkState> = written
            .keys()
            .map(|table| (table.clone(), SinkState::default()))
            .collect();
        for (table, token) in tokens {
            sinks.entry(table).or_default().tokens.push(token);
        }
        for (table, carried) in &self.carried {
            sinks
                .entry(table.clone())
                .or_default()
                .carried
                .clone_from(carried);
        }
        let now_ms = self.clock.now_ms();
        let catalog = match &mut self.keeper {
            Some(keeper) => {
                let news = sinks.iter().map(|(table, sink)| {
                    let news = News {
                        tokens: &sink.tokens,
                        open: open.remove(table).unwrap_or_default(),
                        watermark: barrier.watermarks.get(table).copied(),
                    };
                    (table.clone(), news)
                });
                keeper.add(&self.last.catalog, barrier.epoch, now_ms, &news.collect())
            }
            None => Owed::default(),
        };
        let mut checkpoint = Checkpoint {
            version: self.last.version,
            job: self.last.job.clone(),
            epoch: barrier.epoch,
            owner: self.last.owner.clone(),
            committed_at_ms: now_ms,
            interval_ms: self.last.interval_ms,
            // Only by the epoch that concludes.
            released: false,
            sources: barrier.sources,
            progress: barrier.progress,
            nodes: Some(barrier.nodes),
            state,
            sinks,
            ledger: barrier.ledger,
            catalog,
        };
        let rejected = std::mem::take(&mut checkpoint.ledger.sinks);
        let mut books = self.last.ledger.sinks.clone();
        for (table, rows) in written {
            let before = books.get(&table).copied().unwrap_or_default();
            let rejected = rejected.get(&table).map_or(0, |book| book.rejected);
            let book = SinkBook::after(before, rows, rejected, &checkpoint, &table);
            books.insert(table, book);
        }
        checkpoint.ledger.sinks = books;
        Ok(checkpoint)
    }
}

/// Shows everything that an epoch names, table after table.
///
/// A table that was taken from its publisher is published to once more, where the store knows of no other owner: then it was somebody who
/// has no right to it, and finds that out in the same way. Both would keep each other out for ever if they did not ask.
pub(super) async fn publish(
    store: &EpochStore,
    checkpoint: &Checkpoint,
    publishers: &BTreeMap<String, Arc<dyn Publisher>>,
    hook: &dyn Hook,
) -> Result<()> {
    let mut first = true;
    for (table, sink) in checkpoint
        .sinks
        .iter()
        .filter(|(_, sink)| !sink.tokens.is_empty())
    {
        if !std::mem::take(&mut first) {
            hook.at(Step::DuringPublish)?;
        }
        let publisher = publishers.get(table).ok_or_else(|| {
            Error::job(format!(
                "epoch {} has rows to publish to table {table}, which the job no longer writes: put its INSERT back, run until it \
                 stops, and take it out then",
                checkpoint.epoch
            ))
        })?;
        let published = match publisher.publish(&sink.tokens).await {
            Err(error) if error.kind() == Kind::Fenced => {
                store.check_not_fenced(checkpoint).await?;
                tracing::info!(table, "publishing once more: {error}");
                publisher.publish(&sink.tokens).await
            }
            published => published,
        };
        published.map_err(|error| error.at(format!("publishing to {table}")))?;
    }
    Ok(())
}

/// Writes each part of each node's state: what changes from epoch to epoch together, for all lanes, and what may stay by itself, once.
async fn write_state(
    store: &EpochStore,
    folder: &str,
    held: &mut Held,
    states: Vec<NodeState>,
) -> Result<Vec<StateRef>> {
    let mut before = std::mem::take(held);
    let mut passing: BTreeMap<(String, &'static str), (usize, Vec<RecordBatch>)> = BTreeMap::new();
    let mut refs = Vec::new();
    // Apart from the others, or a few rows that stay would keep whole blobs that do not.
    let mut pack = Pack::new(store, format!("{folder}/held"));
    for NodeState { node, lane, part } in states {
        let StatePart {
            name,
            id,
            rows,
            key_columns,
        } = part;
        let Some(id) = id else {
            let (_, all) = passing
                .entry((node, name))
                .or_insert((key_columns, Vec::new()));
            all.extend(rows);
            continue;
        };
        let key = (lane, node.clone(), name, id);
        let parts = match rows {
            Some(rows) => append(&mut pack, &node, name, key_columns, vec![rows]).await?,
            None => before.remove(&key).ok_or_else(|| {
                Error::bug(format!(
                    "lane {lane}: part {id} of '{name}' of '{node}' was never written"
                ))
            })?,
        };
        refs.extend(parts.iter().cloned());
        held.insert(key, parts);
    }
    pack.finish().await?;
    let mut pack = Pack::new(store, format!("{folder}/snapshot"));
    for ((node, name), (key_columns, rows)) in passing {
        refs.extend(append(&mut pack, &node, name, key_columns, rows).await?);
    }
    pack.finish().await?;
    Ok(refs)
}

/// Writes one part of a node's state.
async fn append(
    pack: &mut Pack<'_>,
    node: &str,
    part: &str,
    key_columns: usize,
    rows: Vec<RecordBatch>,
) -> Result<Vec<StateRef>> {
    let segments = pack.append(Rows::new(rows)).await?;
    let refs = segments.into_iter().map(|(segment, _)| StateRef {
        node: node.to_string(),
        part: part.to_string(),
        key_columns,
        blob: segment.blob,
        offset: segment.offset,
        bytes: segment.bytes,
        xxh3: segment.xxh3,
    });
    Ok(refs.collect())
}

/// Writes what open files gained since the last epoch, and forgets files that have closed.
async fn write_carried(
    store: &EpochStore,
    blob: String,
    carried: &mut BTreeMap<String, Vec<CarriedRef>>,
    carries: Vec<(String, usize, crate::sink::Carry)>,
) -> Result<()> {
    let mut pack = Pack::new(store, blob);
    for (table, lane, carry) in carries {
        let open: BTreeSet<u64> = carry.open.into_iter().collect();
        let parts = carried.entry(table.clone()).or_default();
        parts.retain(|part| part.lane != lane || open.contains(&part.file));
        for (file, batches) in carry.appended {
            if !open.contains(&file) {
                return Err(Error::bug(format!(
                    "table {table}, lane {lane}: rows of file {file} are carried, and it is not open"
                )));
            }
            for (segment, rows) in pack.append(Rows::new(batches)).await? {
                parts.push(CarriedRef {
                    lane,
                    file,
                    blob: segment.blob,
                    offset: segment.offset,
                    rows,
                    bytes: segment.bytes,
                    xxh3: segment.xxh3,
                });
            }
        }
    }
    pack.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::{NoHook, Owner};
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A table from which its publisher is kept out a few times.
    struct Contested {
        refusals: u64,
        asked: AtomicU64,
    }

    impl Publisher for Contested {
        fn publish<'a>(&'a self, _: &'a [Token]) -> BoxFuture<'a, Result<()>> {
            let refused = self.asked.fetch_add(1, Ordering::SeqCst) < self.refusals;
            let done = match refused {
                true => Err(Error::fenced("another process delivers")),
                false => Ok(()),
            };
            futures::future::ready(done).boxed()
        }

        fn discard_except<'a>(&'a self, _: &'a [Token]) -> BoxFuture<'a, Result<()>> {
            futures::future::ready(Ok(())).boxed()
        }
    }

    fn checkpoint(epoch: u64, owner: &str) -> Checkpoint {
        let fixture = include_bytes!("../../tests/fixtures/checkpoint-v1.json");
        let fixture: Checkpoint = serde_json::from_slice(fixture).unwrap();
        let token = Token {
            name: "1/a-0-0".into(),
            rows: 1,
            bytes: 1,
        };
        let table = SinkState {
            tokens: vec![token],
            ..SinkState::default()
        };
        Checkpoint {
            epoch,
            owner: Owner {
                id: owner.into(),
                ..fixture.owner.clone()
            },
            state: vec![],
            sinks: [("t".to_string(), table)].into(),
            ..fixture
        }
    }

    /// How publishing ends, and how often the table was asked.
    async fn published(refusals: u64, successor: Option<&str>) -> (Result<()>, u64) {
        let url = format!("memory://{}/checkpoints", uuid::Uuid::new_v4());
        let store = EpochStore::new(crate::store::open(&url).unwrap(), "emergency");
        let mine = checkpoint(1, "a");
        store.commit(&mine).await.unwrap();
        if let Some(other) = successor {
            store.commit(&checkpoint(2, other)).await.unwrap();
        }
        let table = Arc::new(Contested {
            refusals,
            asked: AtomicU64::new(0),
        });
        let publishers: BTreeMap<String, Arc<dyn Publisher>> =
            [("t".to_string(), table.clone() as Arc<dyn Publisher>)].into();
        let done = publish(&store, &mine, &publishers, &NoHook).await;
        (done, table.asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn only_the_owner_tries_again_where_it_was_kept_out_and_only_once() {
        let (done, asked) = published(1, None).await;
        assert_eq!((done.is_ok(), asked), (true, 2));
        for (refusals, successor, expected) in [(9, None, 2), (1, Some("b"), 1)] {
            let (done, asked) = published(refusals, successor).await;
            assert_eq!(done.unwrap_err().kind(), Kind::Fenced);
            assert_eq!(asked, expected, "{successor:?}");
        }
    }
}
