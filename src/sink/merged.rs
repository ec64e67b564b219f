//! Files that were published and are gone, because compaction merged them into others.
//!
//! A start publishes again what its epoch names. It must not take a merged file for a lost one, so compaction leaves a record of every file that it
//! merges before it removes the first: `_tributary/compact/merged/<run>.json` in the lake. Records are looked at only where a file is missing.

use crate::error::{Error, Result};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the format, which docs/checkpoint-format.md describes.
pub const VERSION: u32 = 1;

/// What one run of compaction merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    pub version: u32,
    /// By the table's folder in the lake: paths below it.
    pub tables: BTreeMap<String, BTreeSet<String>>,
}

/// Where the records of a lake are.
pub fn records(lake: &Path) -> Path {
    ["_tributary", "compact", "merged"]
        .into_iter()
        .fold(lake.clone(), Path::join)
}

/// Whether a record says that a file was merged; `failed` says what a failure of the store means.
pub async fn holds(
    store: &dyn ObjectStore,
    lake: &Path,
    table: &str,
    name: &str,
    failed: impl Fn(&Path, object_store::Error) -> Error,
) -> Result<bool> {
    let folder = records(lake);
    let listed: Vec<_> = store
        .list(Some(&folder))
        .try_collect()
        .await
        .map_err(|error| failed(&folder, error))?;
    for object in listed {
        let path = object.location;
        let read = async { store.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|error| failed(&path, error))?;
        if parse(&path, &bytes)?
            .tables
            .get(table)
            .is_some_and(|files| files.contains(name))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Merged> {
    let record: Merged = serde_json::from_slice(bytes).map_err(|error| {
        Error::data(format!("{path} cannot be read as a record of compaction")).caused_by(error)
    })?;
    match record.version {
        VERSION => Ok(record),
        other => Err(Error::job(format!(
            "{path} has format version {other}, and this Tributary knows {VERSION}: run the version that wrote it"
        ))),
    }
}
