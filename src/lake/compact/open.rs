//! Which partitions the job that writes the tables has not done with.

use crate::epoch::{Checkpoint, EpochStore, carried_rows};
use crate::error::{Error, Result};
use crate::sink::{self, TableSpec};
use std::collections::{BTreeMap, BTreeSet};

/// How often a checkpoint is read again whose blobs expire meanwhile.
const ATTEMPTS: usize = 5;

/// The job that writes the tables, as its checkpoints tell of it.
pub struct Writer {
    pub store: EpochStore,
    pub tables: Vec<TableSpec>,
    /// No epoch at all is no error.
    pub may_be_new: bool,
}

impl Writer {
    /// By table, the folders of the partitions that the latest epoch makes visible, which the next start publishes again, of those
    /// that have rows in files still open, and of those that the job waits for to be complete.
    pub async fn open_partitions(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut latest = self.latest().await?;
        for _ in 1..ATTEMPTS {
            match self.open_in(latest.as_ref()).await {
                Ok(open) => return Ok(open),
                Err(error) => {
                    // The job goes on, and the blobs of epochs before its latest expire.
                    let newer = self.latest().await?;
                    if number(&newer) == number(&latest) {
                        return Err(error);
                    }
                    latest = newer;
                }
            }
        }
        self.open_in(latest.as_ref()).await
    }

    async fn latest(&self) -> Result<Option<Checkpoint>> {
        let latest = self.store.latest().await?;
        if latest.is_none() && !self.may_be_new {
            return Err(Error::job(format!(
                "{}: there is no epoch of job '{}', so nobody knows which files its next start publishes again; name its \
                 'execution.checkpointing.dir', or stop the job and whoever reads the tables, and say --offline",
                self.store.url(),
                self.store.job()
            )));
        }
        Ok(latest)
    }

    async fn open_in(
        &self,
        latest: Option<&Checkpoint>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut open: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let Some(latest) = latest else {
            return Ok(open);
        };
        for table in &self.tables {
            let Some(sink) = latest.sinks.get(&table.name) else {
                continue;
            };
            let partitions = open.entry(table.name.clone()).or_default();
            if let Some(owed) = latest.catalog.tables.get(&table.name) {
                partitions.extend(owed.incomplete.keys().cloned());
            }
            for token in &sink.tokens {
                let folder = token.name.rsplit_once('/').map_or("", |(folder, _)| folder);
                partitions.insert(folder.to_string());
            }
            // A file has the rows of one partition, so its first segment tells.
            let mut files = BTreeSet::new();
            for part in &sink.carried {
                if files.insert((part.lane, part.file)) {
                    for rows in carried_rows(&self.store, part).await? {
                        partitions.extend(sink::partitions(table, &rows)?);
                    }
                }
            }
        }
        Ok(open)
    }
}

fn number(checkpoint: &Option<Checkpoint>) -> u64 {
    checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.epoch)
}
