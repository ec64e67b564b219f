//! Where the parts of a document lie: `documents/<hash of its path>/<table>/<epoch>-<owner>.json` in the checkpoint folder.

use super::super::{SinkContext, TableSpec};
use super::document::Part;
use crate::error::{Error, Result};
use crate::sink::rows::Mark;
use crate::store::is_missing;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;
use twox_hash::XxHash64;

const EXTENSION: &str = ".json";

/// The parts of all tables that name one document.
#[derive(Clone)]
pub struct Parts {
    store: Arc<dyn ObjectStore>,
    url: String,
    folder: Path,
    table: String,
}

impl Parts {
    pub fn of(table: &TableSpec, document: &str, context: &SinkContext) -> Result<Parts> {
        let (store, checkpoints) = (context.stores)(&context.checkpoints)?;
        let mut hasher = XxHash64::with_seed(0);
        hasher.write(document.as_bytes());
        let name = format!("{:016x}", hasher.finish());
        Ok(Parts {
            store,
            url: context.checkpoints.clone(),
            folder: checkpoints.join("documents").join(name),
            table: table.name.clone(),
        })
    }

    /// The newest part of this table, and which epoch it has last.
    pub async fn newest(&self) -> Result<Option<(Mark, Part)>> {
        let mine = self.folder.clone().join(self.table.as_str());
        match self
            .list()
            .await?
            .remove(&mine)
            .and_then(|mut all| all.pop())
        {
            None => Ok(None),
            Some((mark, path)) => Ok(Some((mark, self.read(&path).await?))),
        }
    }

    /// Which epoch this table delivered last.
    pub async fn mark(&self) -> Result<Option<Mark>> {
        let mine = self.folder.clone().join(self.table.as_str());
        let newest = self
            .list()
            .await?
            .remove(&mine)
            .and_then(|mut all| all.pop());
        Ok(newest.map(|(mark, _)| mark))
    }

    /// Where the newest part of each table lies.
    pub async fn newest_of_all(&self) -> Result<Vec<Path>> {
        let tables = self.list().await?.into_values();
        let newest = tables.filter_map(|mut parts| Some(parts.pop()?.1));
        Ok(newest.collect())
    }

    pub async fn read_all(&self, paths: &[Path]) -> Result<Vec<Part>> {
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            parts.push(self.read(path).await?);
        }
        Ok(parts)
    }

    pub async fn add(&self, mark: &Mark, part: &Part) -> Result<()> {
        let Mark { epoch, owner } = mark;
        // Zeros in front, so that names sort as numbers do.
        let file = format!("{epoch:020}-{owner}{EXTENSION}");
        let path = self.folder.clone().join(self.table.as_str()).join(file);
        let written = self.store.put(&path, part.to_bytes()?.into()).await;
        written
            .map(drop)
            .map_err(|error| self.failed("writing", &path, error))
    }

    /// Removes all parts of this table but the newest.
    pub async fn forget_old(&self) -> Result<()> {
        let mine = self.folder.clone().join(self.table.as_str());
        let mut all = self.list().await?.remove(&mine).unwrap_or_default();
        all.pop();
        for (_, path) in all {
            match self.store.delete(&path).await {
                Err(error) if !is_missing(&error) => {
                    return Err(self.failed("deleting", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The parts in each table's folder, the newest last.
    async fn list(&self) -> Result<BTreeMap<Path, Vec<(Mark, Path)>>> {
        let listed = self.store.list(Some(&self.folder));
        let mut listed: Vec<Path> = listed
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|error| self.failed("listing", &self.folder, error))?;
        listed.sort();
        let mut all: BTreeMap<Path, Vec<(Mark, Path)>> = BTreeMap::new();
        for path in listed {
            let Some(mark) = path.filename().and_then(mark) else {
                continue;
            };
            let folder = path.parts().count().saturating_sub(1);
            let folder = Path::from_iter(path.parts().take(folder));
            all.entry(folder).or_default().push((mark, path));
        }
        Ok(all)
    }

    async fn read(&self, path: &Path) -> Result<Part> {
        let failed = |error| self.failed("reading", path, error);
        let bytes = self.store.get(path).await.map_err(failed)?;
        let bytes = bytes.bytes().await.map_err(failed)?;
        Part::of_bytes(&crate::store::place_of(&self.url, path), &bytes)
    }

    fn failed(&self, doing: &str, path: &Path, error: object_store::Error) -> Error {
        crate::store::explain(&self.url, path, error).at(doing)
    }
}

/// The mark in a part's name.
fn mark(file: &str) -> Option<Mark> {
    let (epoch, owner) = file.strip_suffix(EXTENSION)?.split_once('-')?;
    Some(Mark {
        epoch: epoch.parse().ok()?,
        owner: owner.to_string(),
    })
}
