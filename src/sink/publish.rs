//! From the staging folder into the table's folder.

use super::place::Place;
use super::{Publisher, Token};
use crate::error::{Error, Result};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// How many files are moved at the same time.
const AT_A_TIME: usize = 16;

/// Shows the staged files of one table.
pub(super) struct FilePublisher {
    table: String,
    place: Arc<Place>,
}

impl FilePublisher {
    pub fn new(table: &str, place: Place) -> FilePublisher {
        FilePublisher {
            table: table.to_string(),
            place: Arc::new(place),
        }
    }

    async fn discard(&self, keep: HashSet<Path>) -> Result<()> {
        let place = &self.place;
        let staged = place.store.list(Some(&place.staging));
        let unnamed: Vec<Path> = staged
            .map_ok(|object| object.location)
            .try_filter(|location| futures::future::ready(!keep.contains(location)))
            .try_collect()
            .await
            .map_err(|error| place.failed("listing", &place.staging, error))?;
        for location in unnamed {
            tracing::info!(table = self.table, file = %location, "discarding a file that no epoch names");
            delete(&*place.store, &location)
                .await
                .map_err(|error| place.failed("deleting", &location, error))?;
        }
        Ok(())
    }
}

impl Publisher for FilePublisher {
    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        let moves: Vec<_> = tokens
            .iter()
            .map(|token| publish_one(self.place.clone(), self.table.clone(), token.clone()))
            .collect();
        futures::stream::iter(moves)
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .boxed()
    }

    fn mark<'a>(&'a self, partition: &'a str, file: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            let place = &self.place;
            let sign = place.shown(&format!("{partition}/{file}"))?;
            let put = place.store.put(&sign, PutPayload::new()).await;
            put.map(drop)
                .map_err(|error| place.failed("writing", &sign, error))
        }
        .boxed()
    }

    fn partitions(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        async move {
            let place = &self.place;
            let mut files = place.store.list(Some(&place.table));
            let mut partitions = BTreeSet::new();
            while let Some(file) = files.next().await {
                let file = file.map_err(|error| place.failed("listing", &place.table, error))?;
                partitions.extend(place.partition_of(&file.location));
            }
            Ok(partitions)
        }
        .boxed()
    }

    fn discard_except<'a>(&'a self, keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        let keep = keep
            .iter()
            .map(|token| self.place.staged(&token.name))
            .collect();
        self.discard(keep).boxed()
    }
}

/// Repeatable at every step: the file is copied, found to be there already, or found to be gone and there.
async fn publish_one(place: Arc<Place>, table: String, token: Token) -> Result<()> {
    let staged = place.staged(&token.name);
    let shown = place.shown(&token.name)?;
    let store = &*place.store;
    let failed = |error| place.failed(&format!("publishing '{staged}' as"), &shown, error);
    match copy_new(store, &staged, &shown).await {
        Ok(()) => {}
        Err(StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }) => {
            match store.head(&shown).await {
                Ok(there) if there.size == token.bytes => {}
                Ok(there) => {
                    return Err(Error::bug(format!(
                        "table '{table}': '{shown}' has {} bytes and the file to publish has {}: it is another file; \
                         it was not overwritten, and '{staged}' was kept",
                        there.size, token.bytes
                    )));
                }
                Err(StoreError::NotFound { .. }) if place.was_merged(&token.name).await? => {
                    tracing::debug!(table, file = token.name, "compaction has merged this file");
                }
                Err(StoreError::NotFound { .. }) => {
                    return Err(Error::data(format!(
                        "table '{table}': a committed file of {} rows is lost: it is neither staged at '{staged}' nor published at \
                         '{shown}'; restore it from a backup of the store, or start the job from an older epoch",
                        token.rows
                    )));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    }
    delete(store, &staged)
        .await
        .map_err(|error| place.failed("deleting", &staged, error))
}

/// Copies without overwriting. Where the store has no such copy (S3) it looks first; between the look and the copy only
/// another publisher of the same token can come, with the same bytes, since names are used once.
async fn copy_new(store: &dyn ObjectStore, from: &Path, to: &Path) -> object_store::Result<()> {
    match store.copy_if_not_exists(from, to).await {
        Err(StoreError::NotSupported { .. } | StoreError::NotImplemented { .. }) => {}
        done => return done,
    }
    match store.head(to).await {
        Ok(_) => Err(StoreError::AlreadyExists {
            path: to.to_string(),
            source: "it is there already".into(),
        }),
        Err(StoreError::NotFound { .. }) => store.copy(from, to).await,
        Err(error) => Err(error),
    }
}

/// That it is gone is all that matters.
async fn delete(store: &dyn ObjectStore, location: &Path) -> object_store::Result<()> {
    match store.delete(location).await {
        Err(StoreError::NotFound { .. }) => Ok(()),
        done => done,
    }
}
