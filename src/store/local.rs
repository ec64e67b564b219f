//! Local folders whose writes survive a power cut.
//!
//! `object_store`'s own `LocalFileSystem` never asks the disk to write: after a crash of the machine, a file that was "put" can be empty, or
//! gone. Here, bytes go to a temporary file beside the final one, are synced, and get their name by a link (create-only) or a rename;
//! then the folder is synced, because the name lives there. Reading and listing are left to `LocalFileSystem`, which does not show
//! the temporary files: their names end in `#` and a number.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result, UploadPart,
};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many files are found before they are asked for.
const LISTED_AHEAD: usize = 1024;
/// How many files with unusable names are told of.
const MOST_SAID: usize = 1000;

/// The whole file system as a store, durable.
#[derive(Debug, Clone, Default)]
pub struct DurableLocal {
    files: LocalFileSystem,
}

impl DurableLocal {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs file work off the threads that serve the network.
    async fn blocking<T: Send + 'static>(
        path: PathBuf,
        work: impl FnOnce(&FilePath) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(move || work(&path).map_err(|error| translate(&path, error)))
            .await?
    }
}

impl std::fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("local files")
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.files.put_opts(location, payload, opts).await,
        };
        let path = self.files.path_to_filesystem(location)?;
        Self::blocking(path, move |path| {
            let mut temporary = Temporary::beside(path)?;
            for bytes in payload.iter() {
                temporary.file.write_all(bytes)?;
            }
            temporary.name(path, create)
        })
        .await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.files.path_to_filesystem(location)?;
        let temporary = Self::blocking(path.clone(), Temporary::beside).await?;
        Ok(Box::new(Upload {
            path,
            temporary: Some(Arc::new(temporary)),
            end: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    /// A deletion is not synced: what comes back after a crash was garbage before it, and is found again.
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (files, prefix) = (self.files.clone(), prefix.cloned());
        with_possible_names(move || files.list(prefix.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (files, prefix, offset) = (self.files.clone(), prefix.cloned(), offset.clone());
        with_possible_names(move || files.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    /// A hard link, since objects never change; real copying only where the file system cannot link.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = options.mode == CopyMode::Create;
        let from = self.files.path_to_filesystem(from)?;
        let to = self.files.path_to_filesystem(to)?;
        let missing = from.clone();
        Self::blocking(to, move |to| copy(&from, to, create))
            .await
            .map_err(|error| blame(missing, error))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let create = options.target_mode == RenameTargetMode::Create;
        let from = self.files.path_to_filesystem(from)?;
        let to = self.files.path_to_filesystem(to)?;
        let missing = from.clone();
        Self::blocking(to, move |to| {
            if create {
                copy(&from, to, true)?;
                fs::remove_file(&from)?;
            } else {
                make_parent(to)?;
                fs::rename(&from, to)?;
                // Renaming one of two links to a file over the other does nothing, says POSIX, and both stay.
                if same_file(&from, to) {
                    fs::remove_file(&from)?;
                }
                sync_parent(to)?;
            }
            sync_parent(&from)
        })
        .await
        .map_err(|error| blame(missing, error))
    }
}

/// A file that nobody else sees yet. Dropping it removes it.
#[derive(Debug)]
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &FilePath) -> io::Result<Self> {
        make_parent(path)?;
        loop {
            let temporary = temporary_path(path);
            match File::options()
                .write(true)
                .create_new(true)
                .open(&temporary)
            {
                Ok(file) => {
                    return Ok(Temporary {
                        file,
                        path: temporary,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the content durable, then gives it its name, then makes the name durable.
    fn name(&self, path: &FilePath, create: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if create {
            fs::hard_link(&self.path, path)?;
        } else {
            fs::rename(&self.path, path)?;
        }
        sync_parent(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove, and what cannot be removed is never read.
        let _ = fs::remove_file(&self.path);
    }
}

/// Parts are written where they belong in the temporary file, in any order.
#[derive(Debug)]
struct Upload {
    path: PathBuf,
    temporary: Option<Arc<Temporary>>,
    end: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut at = self.end;
        self.end += data.content_length() as u64;
        let temporary = self.temporary.clone();
        let path = self.path.clone();
        Box::pin(async move {
            let temporary = temporary.ok_or_else(|| ended(&path))?;
            DurableLocal::blocking(path, move |_| {
                for bytes in data.iter() {
                    temporary.file.write_all_at(bytes, at)?;
                    at += bytes.len() as u64;
                }
                Ok(())
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temporary = self.temporary.take().ok_or_else(|| ended(&self.path))?;
        DurableLocal::blocking(self.path.clone(), move |path| temporary.name(path, false)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn abort(&mut self) -> Result<()> {
        self.temporary.take();
        Ok(())
    }
}

fn copy(from: &FilePath, to: &FilePath, create: bool) -> io::Result<()> {
    make_parent(to)?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !create => {
            if !same_file(from, to) {
                let temporary = temporary_path(to);
                fs::hard_link(from, &temporary)?;
                fs::rename(&temporary, to).inspect_err(|_| _ = fs::remove_file(&temporary))?;
            }
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
            ) =>
        {
            return Err(error);
        }
        // Another file system, or one without links.
        Err(_) => {
            let mut temporary = Temporary::beside(to)?;
            io::copy(&mut File::open(from)?, &mut temporary.file)?;
            return temporary.name(to, create);
        }
    }
    sync_parent(to)
}

fn same_file(a: &FilePath, b: &FilePath) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// A name that listing does not show and a glob does not match: hidden, and ending in `#` and digits.
fn temporary_path(path: &FilePath) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}#{}{number:08}", std::process::id()))
}

/// Makes the folders above a file, and their names durable. One thread at a time: else one could see a folder that another has
/// made and not yet synced, and rely on it.
fn make_parent(path: &FilePath) -> io::Result<()> {
    static FOLDERS: Mutex<()> = Mutex::new(());
    fn make(folder: &FilePath) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let Some(parent) = folder.parent() else {
            return Ok(());
        };
        make(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Another process has just made it; or it is a file, which must not pass for an object that is there already.
                if !folder.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            made => made?,
        }
        File::open(parent)?.sync_all()
    }
    let _one_at_a_time = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    path.parent().map_or(Ok(()), make)
}

fn sync_parent(path: &FilePath) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A list without the files whose names no store can have: with a line break in them, or bytes that are no text. They would end it.
fn with_possible_names(
    list: impl FnOnce() -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
) -> BoxStream<'static, Result<ObjectMeta>> {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let (found, taken) = tokio::sync::mpsc::channel(LISTED_AHEAD);
    // On a thread that tokio does not know: there the list is one of folders as they are walked through, always ready, and it goes on behind an error.
    std::thread::spawn(move || {
        let mut all = list();
        while let Some(Some(entry)) = all.next().now_or_never() {
            if let Err(Error::InvalidPath { source }) = &entry {
                let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
                if is_news(&mut said, source.to_string()) {
                    tracing::warn!(
                        "a file is passed over whose name cannot be used: {source}; rename it"
                    );
                }
                continue;
            }
            if found.blocking_send(entry).is_err() {
                return;
            }
        }
    });
    futures::stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken))).boxed()
}

/// Whether something is to be said: once, and not endlessly many such things.
fn is_news(said: &mut BTreeSet<String>, what: String) -> bool {
    said.len() < MOST_SAID && said.insert(what)
}

fn translate(path: &FilePath, source: io::Error) -> Error {
    let place = path.display().to_string();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound {
            path: place,
            source: source.into(),
        },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists {
            path: place,
            source: source.into(),
        },
        _ => Error::Generic {
            store: "local",
            source: source.into(),
        },
    }
}

/// When a copy or a rename finds nothing, it is the source that is missing: folders of the target are made.
fn blame(from: PathBuf, error: Error) -> Error {
    match error {
        Error::NotFound { source, .. } => Error::NotFound {
            path: from.display().to_string(),
            source,
        },
        other => other,
    }
}

fn ended(path: &FilePath) -> Error {
    Error::Generic {
        store: "local",
        source: format!("the upload of {} has ended", path.display()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    fn folder() -> (tempfile::TempDir, Path) {
        let folder = tempfile::tempdir().unwrap();
        let path = Path::from_absolute_path(folder.path()).unwrap();
        (folder, path)
    }

    #[test]
    fn each_unusable_name_is_news_once() {
        let mut said = BTreeSet::new();
        for (name, news) in [("a", true), ("b", true), ("a", false)] {
            assert_eq!(is_news(&mut said, name.to_owned()), news, "{name}");
        }
        let more = (0..2 * MOST_SAID).filter(|n| is_news(&mut said, n.to_string()));
        assert_eq!(more.count(), MOST_SAID - 2);
    }

    fn names(folder: &FilePath) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn nothing_temporary_stays() {
        let (folder, path) = folder();
        let store = DurableLocal::new();
        let (a, b) = (path.clone().join("a"), path.clone().join("b"));
        store.put(&a, "1".into()).await.unwrap();
        store
            .put_opts(&a, "2".into(), PutMode::Create.into())
            .await
            .unwrap_err();
        store.put(&b, "3".into()).await.unwrap();
        store.copy(&a, &b).await.unwrap();
        drop(store.put_multipart(&a).await.unwrap());
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[tokio::test]
    async fn an_unfinished_write_is_not_listed() {
        use futures::TryStreamExt;
        let (folder, path) = folder();
        let store = DurableLocal::new();
        let _upload = store
            .put_multipart(&path.clone().join("a.parquet"))
            .await
            .unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        let listed: Vec<_> = store.list(Some(&path)).try_collect().await.unwrap();
        assert_eq!(listed, []);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_is_passed_over() {
        use futures::TryStreamExt;
        use std::os::unix::ffi::OsStrExt;
        let (folder, path) = folder();
        for name in [&b"a"[..], b"b\nc", b"d\xff", b"e"] {
            let name = std::ffi::OsStr::from_bytes(name);
            fs::write(folder.path().join(name), "1").unwrap();
        }
        let store = DurableLocal::new();
        let names = async |list: BoxStream<'static, Result<ObjectMeta>>| {
            let all: Vec<_> = list.try_collect().await.unwrap();
            let names = all.iter().map(|file| file.location.filename().unwrap());
            let mut names: Vec<String> = names.map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(names(store.list(Some(&path))).await, ["a", "e"]);
        let behind = store.list_with_offset(Some(&path), &path.clone().join("a"));
        assert_eq!(names(behind).await, ["e"]);
        let missing = store.list(Some(&path.clone().join("nothing")));
        assert!(names(missing).await.is_empty());
    }

    #[tokio::test]
    async fn renaming_a_link_over_its_twin_removes_it() {
        let (folder, path) = folder();
        let store = DurableLocal::new();
        let (a, b) = (path.clone().join("a"), path.clone().join("b"));
        store.put(&a, "1".into()).await.unwrap();
        store.copy(&a, &b).await.unwrap();
        store.rename(&a, &b).await.unwrap();
        assert_eq!(names(folder.path()), ["b"]);
    }

    #[tokio::test]
    async fn a_file_in_the_way_of_a_folder_is_named() {
        let (_folder, path) = folder();
        let store = DurableLocal::new();
        let file = path.clone().join("a");
        store.put(&file, "1".into()).await.unwrap();
        let below = file.join("b");
        let error = store.put(&below, "2".into()).await.unwrap_err();
        let error = crate::store::explain("./lake", &below, error);
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
