//! Where bytes are kept: a folder, a bucket of S3 or Google Cloud Storage, a container of Azure, or memory.
//!
//! [`open`] turns a URL of a job into an [`ObjectStore`] and a path in it. Whatever the URL, the store that comes back keeps four
//! promises, which one suite checks for all of them:
//!
//! - when a put, copy or rename has returned, its effect survives a crash of the machine;
//! - an object is there whole or not at all, also for somebody who lists or reads meanwhile;
//! - of several creations of one object (`PutMode::Create`) exactly one succeeds;
//! - a server that is away is waited for, and said to be away once; what no waiting can mend (a bucket that does not exist, a refused
//!   access) is an error at once, which says what to do.
//!
//! Copying never fails because of a copy that was made before: repeat it freely.

mod az;
mod cloud;
pub mod encryption;
mod fault;
mod flaky;
mod gs;
mod local;
mod parquet;
mod retrying;
mod s3;
#[cfg(test)]
mod suite;

pub use cloud::Cloud;
pub use encryption::Encryption;
pub use fault::{explain, is_missing};
pub use flaky::{Effect, Flaky};
pub use local::DurableLocal;
pub use parquet::{ParquetObject, unreadable};
pub use retrying::{Retrying, Voice};
#[cfg(test)]
pub(crate) use suite::s3 as test_place;

use crate::error::{Error, Result};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// A folder in a store: what a URL of the job leads to.
#[derive(Debug, Clone)]
pub struct Located {
    /// The whole store: the file system from its root, or the bucket. Two URLs in one of them can be copied between.
    pub store: Arc<dyn ObjectStore>,
    /// The folder in it.
    pub path: Path,
    /// What the user wrote, without a slash at the end; for messages.
    pub url: String,
}

impl Located {
    /// The path of something below the folder; `relative` may have slashes in it.
    pub fn child(&self, relative: &str) -> Path {
        relative
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(self.path.clone(), Path::join)
    }

    /// The folder below this one.
    pub fn folder(&self, relative: &str) -> Located {
        Located {
            store: Arc::clone(&self.store),
            path: self.child(relative),
            url: format!("{}/{relative}", self.url),
        }
    }

    /// The folder on this machine's disk, where that is what it is.
    pub fn on_disk(&self) -> Option<PathBuf> {
        is_on_disk(&self.url).then(|| PathBuf::from("/").join(self.path.as_ref()))
    }

    /// Where an object lies, for messages.
    pub fn place_of(&self, object: &Path) -> String {
        place_of(&self.url, object)
    }

    /// Says what a failure of the store means for the job, naming the URL and the object.
    pub fn explain(&self, object: &Path, error: object_store::Error) -> Error {
        explain(&self.url, object, error)
    }
}

fn is_on_disk(url: &str) -> bool {
    url.starts_with("file://") || !url.contains("://")
}

/// Where an object lies in the store of a URL, for messages: the path of a file as one may type it.
pub fn place_of(url: &str, object: &Path) -> String {
    let root = if is_on_disk(url) { "/" } else { "" };
    format!("{url}: {root}{object}")
}

/// What of a path or URL is below a folder: nothing for the folder itself, else it begins with a slash.
pub fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let below = path.strip_prefix(folder.trim_end_matches('/'))?;
    (below.is_empty() || below.starts_with('/')).then_some(below)
}

/// Opens the store that a URL or a local path leads to, and says where in it that is.
pub type StoreOpener = Arc<dyn Fn(&str) -> Result<(Arc<dyn ObjectStore>, Path)> + Send + Sync>;

/// What leads to a store.
pub const LOCATIONS: &str =
    "a local path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://name";

/// A kind of store, by the scheme of URLs that lead to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    S3,
    Gs,
    Az,
    Memory,
    File,
}

impl Scheme {
    fn of(name: &str) -> Option<Scheme> {
        match name {
            "s3" | "s3a" => Some(Scheme::S3),
            "gs" => Some(Scheme::Gs),
            "az" | "abfss" | "abfs" => Some(Scheme::Az),
            "memory" => Some(Scheme::Memory),
            "file" => Some(Scheme::File),
            _ => None,
        }
    }

    fn is_cloud(self) -> bool {
        matches!(self, Scheme::S3 | Scheme::Gs | Scheme::Az)
    }
}

/// Whether there is a store for URLs like this one.
pub fn is_known(url: &str) -> bool {
    url.split_once("://")
        .is_none_or(|(scheme, _)| Scheme::of(scheme).is_some())
}

/// Whether a URL leads to a cloud, not to this machine.
pub fn is_cloud(url: &str) -> bool {
    url.split_once("://")
        .and_then(|(scheme, _)| Scheme::of(scheme))
        .is_some_and(Scheme::is_cloud)
}

/// Finds the store that a URL names: a local path (`./lake`, `/x/y`, `file:///x/y`), `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix` (also `abfss://container@account.dfs.core.windows.net/prefix`), or `memory://name/prefix`, which lives as long
/// as the process. Nothing is made, and no server is asked. What S3 stores is encrypted as the environment says.
pub fn open(url: &str) -> Result<Located> {
    open_with(
        url,
        &Encryption::from_env(&|name| std::env::var(name).ok())?,
    )
}

/// The same for a job, which may say itself how what it writes to S3 is encrypted.
pub fn open_with(url: &str, encryption: &Encryption) -> Result<Located> {
    let trimmed = url.trim_end_matches('/');
    let in_bucket = |rest, open: &dyn Fn(&str) -> Result<Arc<dyn ObjectStore>>| {
        let (bucket, path) = split_bucket(url, rest)?;
        Ok(Located {
            store: open(bucket)?,
            path,
            url: trimmed.to_string(),
        })
    };
    let Some((name, rest)) = url.split_once("://") else {
        if trimmed.is_empty() && !url.starts_with('/') {
            return Err(Error::job(format!("an empty path: write {LOCATIONS}")));
        }
        let shown = if trimmed.is_empty() { "/" } else { trimmed };
        return local(PathBuf::from(url), shown);
    };
    let scheme = Scheme::of(name).ok_or_else(|| {
        Error::job(format!(
            "{url}: {name}:// is not supported: write {LOCATIONS}"
        ))
    })?;
    match scheme {
        Scheme::S3 => in_bucket(rest, &|bucket| s3::bucket(bucket, encryption)),
        Scheme::Gs => in_bucket(rest, &gs::bucket),
        Scheme::Az => in_bucket(rest, &|container| az::Container::of(url, container)?.open()),
        Scheme::Memory => in_bucket(rest, &|name| Ok(memory(name))),
        Scheme::File => {
            let path = url::Url::parse(url)
                .ok()
                .and_then(|url| url.to_file_path().ok());
            let path = path.ok_or_else(|| {
                Error::job(format!(
                    "{url} does not name a local folder: write file:///absolute/path"
                ))
            })?;
            local(path, trimmed)
        }
    }
}

/// One name for what a URL names, however that is spelt. Nothing is opened; of a URL that cannot be, it is the URL.
pub fn place(url: &str) -> String {
    let found = match url.split_once("://") {
        None | Some(("file", _)) => {
            open_with(url, &Encryption::default()).map(|located| format!("/{}", located.path))
        }
        Some((scheme, rest)) => split_bucket(url, rest).map(|(bucket, path)| {
            let scheme = scheme
                .strip_suffix('a')
                .filter(|s| *s == "s3")
                .unwrap_or(scheme);
            format!("{scheme}://{bucket}/{path}")
        }),
    };
    found.unwrap_or_else(|_| url.to_owned())
}

fn split_bucket<'a>(url: &str, rest: &'a str) -> Result<(&'a str, Path)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::job(format!("{url}: the bucket's name is missing")));
    }
    let prefix = Path::parse(prefix.trim_matches('/'))
        .map_err(|error| Error::job(format!("{url} is not a path in a store")).caused_by(error))?;
    Ok((bucket, prefix))
}

fn local(path: PathBuf, url: &str) -> Result<Located> {
    let unusable = || Error::job(format!("{url} is not a path that can be used"));
    let path = std::path::absolute(path).map_err(|error| unusable().caused_by(error))?;
    // The store knows no `..`, so it is resolved here.
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = clean.pop(),
            other => clean.push(other),
        }
    }
    let path = Path::from_absolute_path(&clean).map_err(|error| unusable().caused_by(error))?;
    Ok(Located {
        store: Arc::new(DurableLocal::new()),
        path,
        url: url.to_string(),
    })
}

/// Stores of this process by name, so that a job and a test see the same one.
fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static STORES: LazyLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let store: &Arc<InMemory> = stores.entry(name.to_string()).or_default();
    Arc::clone(store) as Arc<dyn ObjectStore>
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, path: &str) {
        assert_eq!(open(url).unwrap().path.as_ref(), path, "{url}");
    }

    #[test]
    fn urls_lead_to_paths() {
        let here = std::env::current_dir().unwrap();
        let here = Path::from_absolute_path(here).unwrap();
        check("./lake", &format!("{here}/lake"));
        check("lake/x/", &format!("{here}/lake/x"));
        check("../lake", &format!("{}/lake", here.parent().unwrap()));
        check("/x/y", "x/y");
        check("file:///x/a%20b", "x/a b");
        check("s3://bucket", "");
        check("s3://bucket/a/b/", "a/b");
        check("gs://bucket/a/b", "a/b");
        check("abfss://lake@acme.dfs.core.windows.net/a/", "a");
        check("memory://name/a", "a");
    }

    #[test]
    fn what_no_store_serves_is_refused() {
        for url in [
            "",
            "wasb://bucket/x",
            "s3:///x",
            "gs://",
            "abfss://lake@example.org/x",
            "memory://",
            "s3://bucket/a/../b",
            "file://host/x",
        ] {
            let error = open(url).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{url}: {error}");
        }
    }

    #[test]
    fn children_keep_their_slashes() {
        let lake = open("memory://children/lake/").unwrap();
        assert_eq!(lake.url, "memory://children/lake");
        assert_eq!(
            lake.child("a/dt=2024-01-01/x").as_ref(),
            "lake/a/dt=2024-01-01/x"
        );
        assert_eq!(lake.folder("a").child("b").as_ref(), "lake/a/b");
    }

    #[test]
    fn a_folder_beside_another_is_not_below_it() {
        for (path, folder, expected) in [
            ("/x/in/a", "/x/in/", Some("/a")),
            ("/x/in", "/x/in", Some("")),
            ("/x/in2/a", "/x/in", None),
            ("s3://b/lake/t", "s3://b/lake/", Some("/t")),
            ("s3://b/lake", "s3://b/lake", Some("")),
            ("s3://b/lakes", "s3://b/lake", None),
        ] {
            assert_eq!(below(path, folder), expected, "{path} in {folder}");
        }
    }

    #[test]
    fn a_file_is_named_as_one_may_type_it() {
        for (url, expected) in [
            ("/x", "/x: /x/a"),
            ("file:///x", "file:///x: /x/a"),
            ("memory://m/x", "memory://m/x: x/a"),
        ] {
            let folder = open(url).unwrap();
            assert_eq!(folder.place_of(&folder.child("a")), expected);
        }
    }
}
