//! A catalog in memory, for tests.

use super::{Catalog, Crawler, CrawlerSpec, Definition, Partition, Start};
use crate::clock::Clock;
use crate::error::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones share one catalog.
#[derive(Clone, Default)]
pub struct MemoryCatalog {
    inner: Arc<Mutex<Inner>>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Debug, Default)]
struct Inner {
    databases: BTreeSet<String>,
    tables: BTreeMap<(String, String), Table>,
    crawlers: BTreeMap<String, Crawler>,
    starts: BTreeMap<String, Vec<i64>>,
}

#[derive(Debug)]
struct Table {
    definition: Definition,
    /// By their values.
    partitions: BTreeMap<Vec<String>, String>,
}

impl Inner {
    fn table_mut(&mut self, database: &str, name: &str) -> Result<&mut Table> {
        self.tables
            .get_mut(&(database.to_owned(), name.to_owned()))
            .ok_or_else(|| Error::job(format!("the catalog has no table {database}.{name}")))
    }
}

impl MemoryCatalog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that remembers when crawlers were started.
    pub fn with_clock(clock: Arc<dyn Clock>) -> MemoryCatalog {
        MemoryCatalog {
            clock: Some(clock),
            ..MemoryCatalog::default()
        }
    }

    /// When a crawler was started, each time.
    pub fn starts(&self, crawler: &str) -> Vec<i64> {
        self.lock().starts.get(crawler).cloned().unwrap_or_default()
    }

    /// Ends the run of a crawler.
    pub fn finish_crawler(&self, name: &str, status: &str) {
        if let Some(crawler) = self.lock().crawlers.get_mut(name) {
            crawler.state = "READY".to_owned();
            crawler.last_status = Some(status.to_owned());
        }
    }
}

/// What is known at once, as a future.
fn ready<'a, T: Send + 'a>(result: Result<T>) -> BoxFuture<'a, Result<T>> {
    futures::future::ready(result).boxed()
}

impl Catalog for MemoryCatalog {
    fn create_database<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lock().databases.insert(name.to_owned());
        ready(Ok(()))
    }

    fn table<'a>(
        &'a self,
        database: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Definition>>> {
        let key = (database.to_owned(), name.to_owned());
        let inner = self.lock();
        ready(Ok(inner
            .tables
            .get(&key)
            .map(|table| table.definition.clone())))
    }

    fn tables<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Vec<Definition>>> {
        let inner = self.lock();
        let tables = inner.tables.values().map(|table| &table.definition);
        ready(Ok(tables
            .filter(|table| table.database == database)
            .cloned()
            .collect()))
    }

    fn create_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<bool>> {
        let mut inner = self.lock();
        if !inner.databases.contains(&table.database) {
            let message = format!("the catalog has no database '{}'", table.database);
            return ready(Err(Error::job(message)));
        }
        let key = (table.database.clone(), table.name.clone());
        let is_new = !inner.tables.contains_key(&key);
        inner.tables.entry(key).or_insert_with(|| Table {
            definition: table.clone(),
            partitions: BTreeMap::new(),
        });
        ready(Ok(is_new))
    }

    fn update_table<'a>(&'a self, table: &'a Definition) -> BoxFuture<'a, Result<()>> {
        let mut inner = self.lock();
        ready(
            inner
                .table_mut(&table.database, &table.name)
                .map(|there| there.definition = table.clone()),
        )
    }

    fn partitions<'a>(
        &'a self,
        database: &'a str,
        table: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        let mut inner = self.lock();
        ready(inner.table_mut(database, table).map(|table| {
            let all = table.partitions.iter();
            all.map(|(values, location)| Partition {
                values: values.clone(),
                location: location.clone(),
            })
            .collect()
        }))
    }

    fn add_partitions<'a>(
        &'a self,
        table: &'a Definition,
        partitions: &'a [Partition],
    ) -> BoxFuture<'a, Result<usize>> {
        let mut inner = self.lock();
        ready(inner.table_mut(&table.database, &table.name).map(|there| {
            let before = there.partitions.len();
            for partition in partitions {
                there
                    .partitions
                    .entry(partition.values.clone())
                    .or_insert_with(|| partition.location.clone());
            }
            there.partitions.len() - before
        }))
    }

    fn move_partition<'a>(
        &'a self,
        table: &'a Definition,
        partition: &'a Partition,
    ) -> BoxFuture<'a, Result<()>> {
        let mut inner = self.lock();
        let there = inner.table_mut(&table.database, &table.name);
        ready(
            there.and_then(|there| match there.partitions.get_mut(&partition.values) {
                Some(location) => {
                    location.clone_from(&partition.location);
                    Ok(())
                }
                None => Err(Error::job(format!(
                    "the catalog has no partition {} of {}.{}",
                    partition.values.join("/"),
                    table.database,
                    table.name
                ))),
            }),
        )
    }

    fn crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Crawler>>> {
        ready(Ok(self.lock().crawlers.get(name).cloned()))
    }

    fn create_crawler<'a>(&'a self, spec: &'a CrawlerSpec) -> BoxFuture<'a, Result<()>> {
        let created = Crawler {
            state: "READY".to_owned(),
            targets: spec.targets.clone(),
            ..Crawler::default()
        };
        let mut inner = self.lock();
        inner.crawlers.entry(spec.name.clone()).or_insert(created);
        ready(Ok(()))
    }

    fn start_crawler<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Start>> {
        let now_ms = self.clock.as_ref().map(|clock| clock.now_ms());
        let mut inner = self.lock();
        let Inner {
            crawlers, starts, ..
        } = &mut *inner;
        ready(match crawlers.get_mut(name) {
            Some(crawler) if crawler.state == "READY" => {
                crawler.state = "RUNNING".to_owned();
                crawler.last_started_ms = now_ms;
                starts.entry(name.to_owned()).or_default().extend(now_ms);
                Ok(Start::Started)
            }
            Some(_) => Ok(Start::Running),
            None => Err(Error::job(format!("there is no crawler '{name}'"))),
        })
    }
}

#[tokio::test]
async fn the_memory_catalog_keeps_the_contract() {
    super::suite::holds(&MemoryCatalog::default(), "suite").await;
}
