//! Where the rows of epochs lie until they are delivered: `staged/<table>/` in the checkpoint folder, one blob for a lane and epoch, or
//! several where there was much.

use super::super::{SinkContext, TableSpec, Token};
use super::Mark;
use crate::epoch::{read_rows, write_rows};
use crate::error::{Error, Result};
use crate::store::{is_missing, place_of};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeSet;
use std::sync::Arc;

const EXTENSION: &str = ".arrows";

/// What a token says: `42/<owner>-<lane>-<number>`, and no number where nothing is left to deliver of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub owner: String,
    pub lane: usize,
    pub number: Option<u64>,
}

impl Name {
    pub fn in_epoch(&self, epoch: u64) -> String {
        let Name { owner, lane, .. } = self;
        let number = self.number.map(|number| number.to_string());
        format!("{epoch}/{owner}-{lane}-{}", number.unwrap_or_default())
    }

    /// The name in a token, and the epoch that it was staged for.
    pub fn of(token: &Token) -> Result<(Mark, Name)> {
        let parsed = Mark::parse(&token.name).and_then(|Mark { epoch, owner: rest }| {
            let mut parts = rest.rsplitn(3, '-');
            let number = match parts.next()? {
                "" => None,
                number => Some(number.parse().ok()?),
            };
            let lane = parts.next()?.parse().ok()?;
            let owner = parts.next()?.to_string();
            let mark = Mark {
                epoch,
                owner: owner.clone(),
            };
            let name = Name {
                owner,
                lane,
                number,
            };
            Some((mark, name))
        });
        parsed.ok_or_else(|| {
            Error::bug(format!(
                "'{}' is not the name of staged rows: the table was a folder of files when its epoch was committed",
                token.name
            ))
        })
    }

    fn file(&self) -> Option<String> {
        let Name {
            owner,
            lane,
            number,
        } = self;
        number.map(|number| format!("{owner}-{lane}-{number}{EXTENSION}"))
    }
}

/// The folder of one table.
#[derive(Clone)]
pub struct Folder {
    store: Arc<dyn ObjectStore>,
    url: String,
    path: Path,
}

impl Folder {
    pub fn of(table: &TableSpec, context: &SinkContext) -> Result<Folder> {
        let (store, checkpoints) = (context.stores)(&context.checkpoints)?;
        Ok(Folder {
            store,
            url: context.checkpoints.clone(),
            path: checkpoints.join("staged").join(table.name.as_str()),
        })
    }

    /// Writes rows, durably, and says how many bytes they took.
    pub async fn write(&self, name: &Name, rows: Vec<RecordBatch>) -> Result<u64> {
        let Some(file) = name.file() else {
            return Ok(0);
        };
        let bytes = tokio::task::spawn_blocking(move || write_rows(rows))
            .await
            .map_err(|error| Error::bug("writing staged rows").caused_by(error))??;
        let (path, size) = (self.path.clone().join(file), bytes.len() as u64);
        self.store
            .put(&path, bytes.into())
            .await
            .map_err(|error| self.failed("writing", &path, error))?;
        Ok(size)
    }

    /// The rows of a name; None where its blob is not there.
    pub async fn read(&self, name: &Name) -> Result<Option<Vec<RecordBatch>>> {
        let Some(file) = name.file() else {
            return Ok(Some(Vec::new()));
        };
        let path = self.path.clone().join(file);
        let got = match self.store.get(&path).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = match got {
            Ok(bytes) => bytes,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.failed("reading", &path, error)),
        };
        let place = place_of(&self.url, &path);
        let read = tokio::task::spawn_blocking(move || read_rows(&place, bytes)).await;
        read.map_err(|error| Error::bug("reading staged rows").caused_by(error))?
            .map(Some)
    }

    /// When the blob of a name was written; None where it is not there, or never was.
    pub async fn written_ms(&self, name: &Name) -> Result<Option<i64>> {
        let Some(file) = name.file() else {
            return Ok(None);
        };
        let path = self.path.clone().join(file);
        match self.store.head(&path).await {
            Ok(object) => Ok(Some(object.last_modified.timestamp_millis())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("looking at", &path, error)),
        }
    }

    /// Removes all blobs but those of these names.
    pub async fn keep(&self, names: &[Name]) -> Result<usize> {
        let kept: BTreeSet<String> = names.iter().filter_map(Name::file).collect();
        let listed = self.store.list(Some(&self.path)).map_ok(|o| o.location);
        let listed: Vec<Path> = listed
            .try_collect()
            .await
            .map_err(|error| self.failed("listing", &self.path, error))?;
        let unnamed = |path: &Path| path.filename().is_none_or(|name| !kept.contains(name));
        let gone: Vec<Path> = listed.into_iter().filter(unnamed).collect();
        self.remove(&gone).await?;
        Ok(gone.len())
    }

    pub async fn delete(&self, names: &[Name]) -> Result<()> {
        let paths = names.iter().filter_map(Name::file);
        let paths: Vec<Path> = paths.map(|file| self.path.clone().join(file)).collect();
        self.remove(&paths).await
    }

    async fn remove(&self, paths: &[Path]) -> Result<()> {
        for path in paths {
            match self.store.delete(path).await {
                Err(error) if !is_missing(&error) => {
                    return Err(self.failed("deleting", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &str, path: &Path, error: object_store::Error) -> Error {
        crate::store::explain(&self.url, path, error).at(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_epoch_and_its_blob() {
        for number in [Some(7), None] {
            let name = Name {
                owner: "0b5c-22".into(),
                lane: 3,
                number,
            };
            let token = Token {
                name: name.in_epoch(42),
                rows: 1,
                bytes: 0,
            };
            let (mark, read) = Name::of(&token).unwrap();
            assert_eq!((mark.to_string(), read), ("42/0b5c-22".to_string(), name));
        }
        let file = Token {
            name: "dt=1/part-o-0-1.parquet".into(),
            rows: 1,
            bytes: 1,
        };
        assert!(Name::of(&file).is_err());
    }
}
