//! Where the files of a table are: staged ones and published ones.

use super::options::TableSpec;
use super::{SinkContext, merged};
use crate::error::{Error, Result};
use object_store::path::{Path, PathPart};
use object_store::{Error as StoreError, ObjectStore};
use std::sync::Arc;

/// The folders of one table.
///
/// Both names of a file follow from its token: the file `dt=2024-03-01/part-x.parquet` is shown at that path in the
/// table's folder, and is staged as `part-x.parquet` in a folder of the same store that is outside every table.
#[derive(Clone)]
pub(super) struct Place {
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder, as the job names it.
    url: String,
    lake: Path,
    pub table: Path,
    pub staging: Path,
    /// Large files had better go there in parts.
    pub in_parts: bool,
}

impl Place {
    pub const KEY: &str = "path";

    pub fn of(spec: &TableSpec, context: &SinkContext) -> Result<Place> {
        let (lake, folder) = Self::check(spec)?;
        let (store, lake) =
            (context.stores)(lake).map_err(|error| error.at(format!("table '{}'", spec.name)))?;
        let url = spec.required(Self::KEY)?;
        let staging = lake.clone().join("_tributary").join("staged");
        Ok(Place {
            store,
            url: url.to_string(),
            table: lake.clone().join(folder),
            lake,
            staging: staging.join(context.job.as_str()).join(spec.name.as_str()),
            in_parts: crate::store::is_cloud(url),
        })
    }

    /// The lake and the table's folder in it.
    pub fn check(spec: &TableSpec) -> Result<(&str, PathPart<'_>)> {
        let url = spec.required(Self::KEY)?;
        let Some((lake, folder)) = parent_and_name(url) else {
            let why = format!(
                "'{url}' needs a folder of its own, such as './lake/{0}' or 's3://bucket/{0}'",
                spec.name
            );
            return Err(spec.refuse(Self::KEY, why));
        };
        let folder = PathPart::parse(folder).map_err(|error| {
            spec.refuse(Self::KEY, format!("'{url}' cannot be a folder: {error}"))
        })?;
        Ok((lake, folder))
    }

    pub fn staged(&self, name: &str) -> Path {
        let file = name.rsplit('/').next().unwrap_or(name);
        self.staging.clone().join(file)
    }

    /// The name is escaped already, so it is taken as it is.
    pub fn shown(&self, name: &str) -> Result<Path> {
        Path::parse(format!("{}/{name}", self.table)).map_err(|error| {
            Error::bug(format!("'{name}' cannot be a path below '{}'", self.table)).caused_by(error)
        })
    }

    /// The folder of the partition that a file of the table is in; none for one that readers pass over, and in a table without partitions.
    pub fn partition_of(&self, file: &Path) -> Option<String> {
        let parts: Vec<_> = file.prefix_match(&self.table)?.collect();
        let hidden = parts
            .iter()
            .any(|part| part.as_ref().starts_with(['_', '.']));
        let (_, folders) = parts.split_last().filter(|_| !hidden)?;
        let names: Vec<&str> = folders.iter().map(PathPart::as_ref).collect();
        let is_partition = !names.is_empty() && names.iter().all(|name| name.contains('='));
        is_partition.then(|| names.join("/"))
    }

    /// Whether compaction has merged a file that was shown by this name.
    pub async fn was_merged(&self, name: &str) -> Result<bool> {
        let folder = self.table.filename().unwrap_or_default();
        let failed = |path: &Path, error| self.failed("reading", path, error);
        merged::holds(&*self.store, &self.lake, folder, name, failed).await
    }

    /// What a failure of the store asks for.
    pub fn failed(&self, doing: &str, object: &Path, error: StoreError) -> Error {
        crate::store::explain(&self.url, object, error).at(doing)
    }
}

/// `('s3://b/lake', 't')` of `s3://b/lake/t/`.
pub(super) fn parent_and_name(url: &str) -> Option<(&str, &str)> {
    let (scheme, path) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    let path = path.trim_end_matches('/');
    let (parent, name) = match path.rfind('/') {
        // The root of a disk is a parent; what comes first behind a scheme is a bucket and has none.
        Some(0) => ("/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None if scheme.is_empty() => (".", path),
        None => return None,
    };
    if matches!(name, "" | "." | "..") {
        return None;
    }
    let parent = match scheme {
        "" => parent,
        // A part of the text that was given, scheme and all.
        _ => &url[..scheme.len() + parent.len()],
    };
    Some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lake_is_the_parent_of_the_table() {
        let check = |url, expected| assert_eq!(parent_and_name(url), expected, "{url}");
        check("s3://b/lake/t/", Some(("s3://b/lake", "t")));
        check("s3://b/t", Some(("s3://b", "t")));
        check("s3://b", None);
        check("./lake/t", Some(("./lake", "t")));
        check("t", Some((".", "t")));
        check("/t", Some(("/", "t")));
        check("/data/lake/t", Some(("/data/lake", "t")));
        check("file:///data/t", Some(("file:///data", "t")));
        check("file:///t", Some(("file:///", "t")));
        check("..", None);
        check("/", None);
        check("", None);
    }
}
