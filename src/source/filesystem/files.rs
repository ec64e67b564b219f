//! Finding files, and reading what their paths say.

use crate::error::{Error, Result};
use crate::source::FileFacts;
use crate::store::{below, place};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// Where a table's files are.
pub(super) struct Folder {
    pub table: String,
    pub store: Arc<dyn ObjectStore>,
    pub root: Path,
    /// The path as the user wrote it, without a slash at the end.
    pub shown: String,
}

#[derive(Debug, Clone)]
pub(super) struct File {
    /// The path as the user would write it.
    pub name: Arc<str>,
    pub path: Path,
    pub size: u64,
    pub modified_ms: i64,
}

impl Folder {
    /// The name of a file in this folder that was named by another spelling of it: `./in`, `/x/in` and `file:///x/in` may be the same.
    pub fn spelled_anew(&self, name: &str) -> Option<Arc<str>> {
        if below(name, &self.shown).is_some() {
            return None;
        }
        let folder = place(&self.shown);
        // Only the folder was a URL; the file's name stood behind it as it is, with whatever `%2F` is in it.
        let plain = name.strip_prefix("file://").unwrap_or(name);
        let found = below(plain, &folder).map(str::to_owned);
        let found = found.or_else(|| below(&place(name), &folder).map(str::to_owned))?;
        Some(format!("{}{found}", self.shown).into())
    }

    /// All files below the folder (or the one file that the path names), by name.
    pub async fn list(&self) -> Result<Vec<File>> {
        let error = |error| {
            let place = format!("table '{}': '{}' cannot be listed", self.table, self.shown);
            Error::retry(place).caused_by(error)
        };
        // A folder is no object; stores say so in different ways, and one that cannot be reached cannot list either. A whole bucket is
        // no object in any case, and its answer would be none that a client can read.
        let root = &self.root;
        if !root.as_ref().is_empty()
            && let Ok(one) = self.store.head(root).await
        {
            let name = self.shown.as_str().into();
            return Ok(vec![File {
                name,
                path: one.location,
                size: one.size,
                modified_ms: one.last_modified.timestamp_millis(),
            }]);
        }
        let found: Vec<_> = self
            .store
            .list(Some(&self.root))
            .try_collect()
            .await
            .map_err(error)?;
        let mut files: Vec<File> = found
            .into_iter()
            .filter_map(|object| {
                let parts: Vec<_> = object.location.prefix_match(&self.root)?.collect();
                if parts
                    .iter()
                    .any(|part| part.as_ref().starts_with(['_', '.']))
                {
                    return None;
                }
                let below = parts
                    .iter()
                    .map(|part| part.as_ref())
                    .collect::<Vec<_>>()
                    .join("/");
                let name = format!("{}/{below}", self.shown).into();
                Some(File {
                    name,
                    size: object.size,
                    modified_ms: object.last_modified.timestamp_millis(),
                    path: object.location,
                })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

impl File {
    pub fn facts(&self) -> FileFacts {
        FileFacts {
            size: self.size,
            modified_ms: self.modified_ms,
        }
    }
}

/// For a file that ends before the position from which it is to be read.
pub(super) fn shortened(read: i64, records: i64) -> Error {
    Error::job(format!(
        "it has become shorter: it has {records} records, and {read} of it were read; put it back as it was, or move it elsewhere and start \
         once with -D tributary.allow-dropped-state=true, which goes on without the rest of it"
    ))
}

/// The value of `column` in a path like `.../dt=2024-01-01/hour=07/file`.
pub(super) fn partition_value(path: &str, column: &str) -> Option<String> {
    let mut parts = path.split('/').filter_map(|part| part.split_once('='));
    parts
        .rfind(|(name, _)| *name == column || unescaped(name) == column)
        .map(|(_, value)| unescaped(value))
}

/// Undoes `%2F` and the like, which stand in a path for characters that cannot.
pub(crate) fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_says_is_unescaped_on_both_sides_of_the_sign() {
        let path = "lake/t/a%2Fb=x%3Ay/dt=1/part.json";
        let value = |column: &str| partition_value(path, column);
        assert_eq!(value("a/b").as_deref(), Some("x:y"));
        assert_eq!(value("dt").as_deref(), Some("1"));
        assert_eq!(value("other"), None);
        // A sign is no digit.
        assert_eq!(unescaped("%+5 %5 %41%"), "%+5 %5 A%");
    }
}
