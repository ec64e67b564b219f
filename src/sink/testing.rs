//! A small world for the tests of sinks: a store, a clock that stands still, and a reader who sees what anybody sees.

use super::memory::MemoryTables;
use super::{Publisher, Sink, SinkContext, Staging, TableSpec, Token, Uploads};
use crate::clock::ManualClock;
use crate::error::Result;
use crate::sql::{OptionValue, Options, Place};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// A row as the tests write it: id, name, dt.
pub type Row = (i64, &'static str, &'static str);

pub struct World {
    pub runtime: Runtime,
    pub clock: ManualClock,
    pub store: Arc<dyn ObjectStore>,
    pub memory: MemoryTables,
    pub table: TableSpec,
    pub folder: Option<TemporaryFolder>,
}

impl World {
    pub fn new(connector: &str, format: &str, store: Arc<dyn ObjectStore>) -> World {
        let mut world = World {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            clock: ManualClock::at(0),
            store,
            memory: MemoryTables::default(),
            table: TableSpec {
                name: "t".into(),
                schema: Arc::new(Schema::new(vec![
                    Field::new("id", DataType::Int64, false),
                    Field::new("name", DataType::Utf8, true),
                    Field::new("dt", DataType::Utf8, true),
                ])),
                partitioned_by: vec![],
                primary_key: vec![],
                metadata: Default::default(),
                options: Options::default(),
            },
            folder: None,
        };
        world.set("connector", connector);
        if connector == "filesystem" {
            world.set("format", format);
            world.set("path", "lake/t");
            world.table.partitioned_by.push("dt".into());
        }
        world
    }

    pub fn in_memory(connector: &str, format: &str) -> World {
        World::new(connector, format, Arc::new(InMemory::new()))
    }

    pub fn local(format: &str) -> World {
        let folder = TemporaryFolder::new();
        let store = Arc::new(LocalFileSystem::new_with_prefix(&folder.0).unwrap());
        let mut world = World::new("filesystem", format, store);
        world.folder = Some(folder);
        world
    }

    pub fn set(&mut self, key: &str, value: &str) {
        let value = OptionValue {
            value: value.into(),
            place: Place { line: 3, column: 5 },
        };
        self.table.options.entries.insert(key.into(), value);
    }

    pub fn context(&self, owner: &str) -> SinkContext {
        let store = self.store.clone();
        SinkContext {
            job: "job".into(),
            owner: owner.into(),
            lane: 0,
            stores: Arc::new(move |url| Ok((store.clone(), Path::parse(url).unwrap()))),
            checkpoints: "checkpoints/job".into(),
            runtime: self.runtime.handle().clone(),
            clock: Arc::new(self.clock.clone()),
            uploads: Uploads::with_limit(1 << 20),
            limits: super::RecordLimits::default(),
            registries: crate::registry::none(),
            memory: self.memory.clone(),
        }
    }

    pub fn sink(&self, owner: &str) -> Box<dyn Sink> {
        super::open(&self.table, &self.context(owner)).unwrap()
    }

    pub fn publisher(&self) -> Arc<dyn Publisher> {
        super::publisher(&self.table, &self.context("publisher")).unwrap()
    }

    pub fn rows(&self, rows: &[Row]) -> RecordBatch {
        RecordBatch::try_new(
            self.table.schema.clone(),
            vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
            ],
        )
        .unwrap()
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Waits until all that was staged is durable.
    pub fn tokens(&self, staging: &mut Staging) -> Result<Vec<Token>> {
        let tokens = std::mem::take(&mut staging.tokens);
        self.wait(futures::future::try_join_all(tokens))
    }

    /// The paths of all files below a folder.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let listed = self.store.list(Some(&Path::parse(folder).unwrap()));
        let mut paths: Vec<String> = self
            .wait(
                listed
                    .map_ok(|object| object.location.to_string())
                    .try_collect(),
            )
            .unwrap();
        paths.sort();
        paths
    }

    pub fn bytes(&self, path: &str) -> Bytes {
        let path = Path::parse(path).unwrap();
        self.wait(async { self.store.get(&path).await.unwrap().bytes().await.unwrap() })
    }

    /// What a reader of the table sees: `id,name,dt`, sorted.
    pub fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for batch in self.memory.rows("t") {
            shown.extend(lines(&batch));
        }
        for path in self.files("lake/t") {
            let dt = path
                .split('/')
                .find_map(|part| part.strip_prefix("dt="))
                .unwrap_or_default();
            let bytes = self.bytes(&path);
            let file: Vec<String> = match path.rsplit('.').next() {
                Some("parquet") => parquet_rows(bytes).iter().flat_map(lines).collect(),
                Some("csv") => text(&bytes).lines().map(str::to_string).collect(),
                Some("json") => text(&bytes)
                    .lines()
                    .map(|line| {
                        let row: serde_json::Value = serde_json::from_str(line).unwrap();
                        format!("{},{}", row["id"], row["name"].as_str().unwrap())
                    })
                    .collect(),
                other => panic!("a file that nobody wrote: {other:?}"),
            };
            assert!(!file.is_empty(), "{path} is empty");
            shown.extend(file.into_iter().map(|line| format!("{line},{dt}")));
        }
        shown.sort();
        shown
    }
}

pub fn parquet_rows(bytes: Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    (0..batch.num_rows())
        .map(|row| {
            let texts = batch.columns()[1..].iter().map(|column| {
                let column = column.as_string::<i32>();
                if column.is_valid(row) {
                    column.value(row).to_string()
                } else {
                    "null".into()
                }
            });
            std::iter::once(ids.value(row).to_string())
                .chain(texts)
                .collect::<Vec<_>>()
                .join(",")
        })
        .collect()
}

/// A folder that goes when its owner goes.
pub struct TemporaryFolder(pub PathBuf);

impl TemporaryFolder {
    fn new() -> TemporaryFolder {
        let folder = std::env::temp_dir().join(format!("tributary-sink-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        TemporaryFolder(folder)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store of which one changing call fails, before or after its effect; and which, like S3, cannot copy without overwriting.
pub struct FlakyStore {
    inner: InMemory,
    /// Changing calls until the one that fails.
    left: AtomicI64,
    after_effect: bool,
    meanwhile: Mutex<Option<(Path, Meanwhile)>>,
}

/// What somebody else does while a call is on its way.
type Meanwhile = BoxFuture<'static, ()>;

impl FlakyStore {
    pub fn failing(call: i64, after_effect: bool) -> FlakyStore {
        FlakyStore {
            inner: InMemory::new(),
            left: AtomicI64::new(call),
            after_effect,
            meanwhile: Mutex::default(),
        }
    }

    /// The next one who writes this object is held up until `meanwhile` is done.
    pub fn hold_up(&self, path: &Path, meanwhile: Meanwhile) {
        *self.meanwhile.lock().unwrap() = Some((path.clone(), meanwhile));
    }

    fn held_up(&self, path: &Path) -> Option<Meanwhile> {
        let mut held = self.meanwhile.lock().unwrap();
        held.take_if(|(at, _)| at == path).map(|(_, done)| done)
    }

    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    async fn change<T>(
        &self,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let fails = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        if fails && !self.after_effect {
            return Err(failure());
        }
        let done = call.await;
        if fails { Err(failure()) } else { done }
    }
}

impl std::fmt::Debug for FlakyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for FlakyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flaky")
    }
}

type Answer<'a, T> = BoxFuture<'a, object_store::Result<T>>;

/// Written out as `async_trait` would write it, which is not a dependency of ours.
impl ObjectStore for FlakyStore {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
    {
        async move {
            if let Some(done) = self.held_up(location) {
                done.await;
            }
            self.change(self.inner.put_opts(location, payload, options))
                .await
        }
        .boxed()
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.put_multipart_opts(location, options)
    }

    fn get_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.get_opts(location, options)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            self.inner.delete_stream(locations)
        } else if self.after_effect {
            self.inner
                .delete_stream(locations)
                .map(|_| Err(failure()))
                .boxed()
        } else {
            futures::stream::iter([Err(failure())]).boxed()
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b, 'd, 'c>(
        &'a self,
        from: &'b Path,
        to: &'d Path,
        options: CopyOptions,
    ) -> Answer<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
    {
        if options.mode == CopyMode::Create {
            let source = "as on S3".into();
            let refused = Err(object_store::Error::NotSupported { source });
            return futures::future::ready(refused).boxed();
        }
        self.change(self.inner.copy_opts(from, to, options)).boxed()
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic {
        store: "flaky",
        source: "as told".into(),
    }
}
