//! Faults on demand: a catalog whose nth call fails.

use super::{Catalog, Crawler, CrawlerSpec, Definition, Partition, Start};
use crate::error::{Error, Result};
use crate::store::Effect;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passes every call on, and lets some in a row fail, as a catalog that is away or busy does.
#[derive(Clone)]
pub struct FlakyCatalog {
    inner: Arc<dyn Catalog>,
    calls: Arc<AtomicUsize>,
    first: usize,
    failures: usize,
    effect: Effect,
}

impl FlakyCatalog {
    /// Calls `first` to `first + failures - 1` fail, counted from 0.
    pub fn new(inner: Arc<dyn Catalog>, first: usize, failures: usize, effect: Effect) -> Self {
        FlakyCatalog {
            inner,
            calls: Arc::default(),
            first,
            failures,
            effect,
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        work: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if !(self.first..self.first.saturating_add(self.failures)).contains(&call) {
            return work;
        }
        async move {
            if self.effect == Effect::Done {
                work.await?;
            }
            Err(Error::retry("throttled by a test"))
        }
        .boxed()
    }
}

impl Catalog for FlakyCatalog {
    fn create_database<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        // The call itself may have its effect before the future is asked, so it is made inside.
        self.call(async move { self.inner.create_database(name).await }.boxed())
    }

    fn table<'a>(
        &'a self,
        database: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Definition>>> {
        self.call(async move { self.inner.table(database, name).await }.boxed())
    }

    fn tables<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Vec<Definition>>> {
        self.call(async move { self.inner.tables(database).await }.boxed())
    }

    fn create_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<bool>> {
        self.call(async move { self.inner.create_table(table).await }.boxed())
    }

    fn update_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<()>> {
        self.call(async move { self.inner.update_table(table).await }.boxed())
    }

    fn partitions<'a>(
        &'a self,
        database: &'a str,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        self.call(async move { self.inner.partitions(database, table).await }.boxed())
    }

    fn add_partitions<'a>(
        &'a self,
        table: &'a Definition,
        partitions: &'a [Partition],
    ) -> BoxFuture<'a, Result<usize>> {
        self.call(async move { self.inner.add_partitions(table, partitions).await }.boxed())
    }

    fn move_partition<'a>(
        &'a self,
        table: &'a Definition,
        partition: &'a Partition,
    ) -> BoxFuture<'a, Result<()>> {
        self.call(async move { self.inner.move_partition(table, partition).await }.boxed())
    }

    fn crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Crawler>>> {
        self.call(async move { self.inner.crawler(name).await }.boxed())
    }

    fn create_crawler<'a>(&'a self, spec: &'a CrawlerSpec) -> BoxFuture<'a, Result<()>> {
        self.call(async move { self.inner.create_crawler(spec).await }.boxed())
    }

    fn start_crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Start>> {
        self.call(async move { self.inner.start_crawler(name).await }.boxed())
    }
}
