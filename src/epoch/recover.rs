//! From a claim to a running job: what the owner before committed becomes visible, and what it did not commit is removed.

use super::blob::{Segment, read_batches};
use super::coordinator::publish;
use super::steps::{Hook, Step};
use super::store::EpochStore;
use super::{CarriedRef, Checkpoint, Claimed};
use crate::error::{Error, Result};
use crate::sink::Publisher;
use arrow::record_batch::RecordBatch;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many segments are fetched at a time: a large state is many of them, and a store takes its time for each.
const SEGMENTS_AT_ONCE: usize = 16;

/// What a new owner starts from.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The content of the claimed epoch; None at the first start of a job.
    pub checkpoint: Option<Checkpoint>,
    pub states: Vec<LoadedState>,
    /// The rows of files that were open, by table, in the order in which they were written.
    pub carried: BTreeMap<String, Vec<(CarriedRef, RecordBatch)>>,
}

/// One part of a node's state, from all lanes of the owner before.
#[derive(Debug)]
pub struct LoadedState {
    pub node: String,
    pub part: String,
    pub key_columns: usize,
    pub rows: Vec<RecordBatch>,
}

/// Publishes what the claimed epoch names, once more, removes what is staged and not named, and loads the state. The claim came first: a live
/// old owner could otherwise commit what is removed here.
pub async fn recover(
    store: &EpochStore,
    claimed: &Claimed,
    publishers: &BTreeMap<String, Arc<dyn Publisher>>,
    hook: &dyn Hook,
) -> Result<Recovered> {
    hook.at(Step::AfterClaim)?;
    let checkpoint = &claimed.checkpoint;
    // Together, for each waits for a server.
    let opening = publishers.iter().map(|(table, publisher)| async move {
        let opened = publisher.open().await;
        opened.map_err(|error| error.at(format!("opening {table}")))
    });
    try_join_all(opening).await?;
    // Who was frozen between its claim and here has just kept the right owner out, but publishes nothing.
    store.check_not_fenced(checkpoint).await?;
    publish(store, checkpoint, publishers, hook).await?;
    hook.at(Step::AfterRepublish)?;
    for (table, publisher) in publishers {
        let tokens = checkpoint
            .sinks
            .get(table)
            .map_or(&[][..], |sink| &sink.tokens);
        publisher.discard_except(tokens).await.map_err(|error| {
            error.at(format!("removing what {table} staged and did not commit"))
        })?;
    }
    let mut recovered = Recovered::default();
    let states = checkpoint.state.iter().map(|state| async move {
        let segment = Segment {
            blob: state.blob.clone(),
            offset: state.offset,
            bytes: state.bytes,
            xxh3: state.xxh3.clone(),
        };
        Ok::<_, Error>(LoadedState {
            node: state.node.clone(),
            part: state.part.clone(),
            key_columns: state.key_columns,
            rows: load(store, &segment).await?,
        })
    });
    let states = stream::iter(states).buffered(SEGMENTS_AT_ONCE);
    recovered.states = states.try_collect().await?;
    for (table, sink) in &checkpoint.sinks {
        let rows = recovered.carried.entry(table.clone()).or_default();
        for part in &sink.carried {
            let batches = carried_rows(store, part).await?;
            let found: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            if found != part.rows {
                return Err(Error::bug(format!(
                    "{}: {} has {found} rows of {table}, and epoch {} says {}",
                    store.url(),
                    part.blob,
                    checkpoint.epoch,
                    part.rows
                )));
            }
            rows.extend(batches.into_iter().map(|batch| (part.clone(), batch)));
        }
    }
    recovered.checkpoint = claimed.previous.is_some().then(|| checkpoint.clone());
    hook.at(Step::AfterRecover)?;
    Ok(recovered)
}

/// The rows of an open file that one segment carries.
pub async fn carried_rows(store: &EpochStore, part: &CarriedRef) -> Result<Vec<RecordBatch>> {
    let segment = Segment {
        blob: part.blob.clone(),
        offset: part.offset,
        bytes: part.bytes,
        xxh3: part.xxh3.clone(),
    };
    load(store, &segment).await
}

async fn load(store: &EpochStore, segment: &Segment) -> Result<Vec<RecordBatch>> {
    let (place, bytes) = store.get_segment(segment).await?;
    let shown = place.clone();
    let read = tokio::task::spawn_blocking(move || read_batches(&place, bytes)).await;
    read.map_err(|error| Error::bug(format!("{shown}: reading a state blob")).caused_by(error))?
}
