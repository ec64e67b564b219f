//! A lake in memory that is compacted while others read it through a catalog, and write into it.

use super::super::*;
use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{Column, Definition, Partition};
use crate::clock::{ManualClock, SystemClock};
use crate::epoch::NoHook;
use crate::lake::visible::is_visible;
use crate::sink::{Format, ParquetFormat};
use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeSet;
use std::sync::Mutex;

pub const GRACE: Duration = Duration::from_secs(600);
pub const URL: &str = "memory://lake/lake";

/// What every process of a test shares.
#[derive(Clone)]
pub struct World {
    pub at: Located,
    pub catalog: MemoryCatalog,
    pub clock: ManualClock,
    /// Rows that were published before, each of which is seen once at every moment.
    pub settled: Arc<Mutex<BTreeSet<i64>>>,
    /// Rows that come meanwhile, none of which is seen twice.
    pub late: Arc<Mutex<BTreeSet<i64>>>,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Empty, with the table `t` in the catalog.
    pub fn new() -> World {
        let at = Located {
            store: Arc::new(InMemory::new()),
            path: Path::from("lake"),
            url: URL.to_string(),
        };
        let world = World {
            at,
            catalog: MemoryCatalog::default(),
            // The memory store dates its files by the real clock.
            clock: ManualClock::at(SystemClock.now_ms() + 24 * 3_600_000),
            settled: Arc::default(),
            late: Arc::default(),
            log: Arc::default(),
        };
        let catalog = world.catalog.clone();
        now(catalog.create_database("d")).unwrap();
        now(catalog.create_table(&world.definition())).unwrap();
        world
    }

    pub fn definition(&self) -> Definition {
        let column = |name: &str, hive_type: &str| Column {
            name: name.into(),
            hive_type: hive_type.into(),
            comment: None,
        };
        Definition {
            database: "d".into(),
            name: "t".into(),
            format: crate::catalog::Format::Parquet,
            columns: vec![column("id", "bigint"), column("name", "string")],
            partition_keys: vec![column("dt", "string")],
            location: format!("{URL}/t/"),
            parameters: BTreeMap::new(),
        }
    }

    pub fn path(&self, name: &str) -> Path {
        Path::parse(format!("{}/{name}", self.at.path)).unwrap()
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        now(self.at.store.put(&self.path(name), bytes.into())).unwrap();
    }

    /// A published file of the table, and its partition in the catalog.
    pub fn publish(&self, folder: &str, name: &str, ids: &[i64]) {
        self.put(&format!("t/{folder}/{name}"), file(ids));
        self.register(folder);
        self.settled.lock().unwrap().extend(ids);
    }

    /// A file that comes while a run is under way.
    pub fn publish_late(&self, folder: &str, name: &str, ids: &[i64]) {
        self.put(&format!("t/{folder}/{name}"), file(ids));
        self.late.lock().unwrap().extend(ids);
    }

    pub fn register(&self, folder: &str) {
        let (_, value) = folder.split_once('=').unwrap();
        let partition = Partition {
            values: vec![value.replace("%3A", ":")],
            location: format!("{URL}/t/{folder}"),
        };
        now(self
            .catalog
            .add_partitions(&self.definition(), &[partition]))
        .unwrap();
    }

    /// The paths of all objects below a folder of the lake.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let listed = self.at.store.list(Some(&self.path(folder)));
        let mut paths: Vec<_> = now(listed.try_collect::<Vec<_>>())
            .unwrap()
            .into_iter()
            .map(|object| object.location.to_string())
            .collect();
        paths.sort();
        paths
    }

    pub fn ids(&self, path: &Path) -> Option<Vec<i64>> {
        let read = async { self.at.store.get(path).await?.bytes().await };
        let bytes = now(read).ok()?;
        Some(ids(bytes))
    }

    /// What a query reads that is planned now: the files at the places that the catalog names.
    pub fn listed(&self) -> Vec<Path> {
        let mut files = Vec::new();
        for partition in now(self.catalog.partitions("d", "t")).unwrap() {
            let folder = partition.location.trim_start_matches("memory://lake/");
            let folder = Path::parse(folder.trim_end_matches('/')).unwrap();
            let listed = now(self.at.store.list(Some(&folder)).try_collect::<Vec<_>>()).unwrap();
            let visible = listed
                .into_iter()
                .map(|object| object.location)
                .filter(|path| is_visible(&folder, path));
            files.extend(visible);
        }
        files
    }

    /// A query that reads these files sees each settled row once, and no late one twice.
    pub fn check(&self, files: &[Path], what: &str) {
        let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
        for file in files {
            let rows = self.ids(file);
            let rows =
                rows.unwrap_or_else(|| panic!("{what}: {file} is gone, which a query has listed"));
            for id in rows {
                *seen.entry(id).or_default() += 1;
            }
        }
        for id in self.settled.lock().unwrap().iter() {
            assert_eq!(seen.remove(id), Some(1), "{what}: row {id}");
        }
        for (id, times) in seen {
            assert_eq!(times, 1, "{what}: late row {id}");
            assert!(self.late.lock().unwrap().contains(&id), "{what}: row {id}");
        }
    }

    /// In the end every row is seen once, through the catalog and in the folders, and nothing is left aside.
    pub fn check_end(&self) {
        self.check(&self.listed(), "in the end");
        let mut all = self.settled.lock().unwrap().clone();
        all.extend(self.late.lock().unwrap().iter());
        let in_folders: Vec<i64> = self
            .files("t")
            .iter()
            .filter(|path| path.ends_with(".parquet"))
            .flat_map(|path| self.ids(&Path::parse(path).unwrap()).unwrap())
            .collect();
        assert_eq!(in_folders.len(), all.len(), "{:?}", self.files("t"));
        assert_eq!(in_folders.into_iter().collect::<BTreeSet<_>>(), all);
        assert_eq!(self.files("_tributary/compacted"), Vec::<String>::new());
        for partition in now(self.catalog.partitions("d", "t")).unwrap() {
            assert!(partition.location.starts_with(&format!("{URL}/t/")));
        }
    }

    /// A process that compacts the table through the catalog. Its owner counts as dead for the next.
    pub fn compaction(&self) -> Compaction {
        let (clock, log) = (self.clock.clone(), Arc::clone(&self.log));
        Compaction {
            lake: self.at.clone(),
            tables: vec![subject("t")],
            catalog: Some(Arc::new(self.catalog.clone())),
            writer: None,
            options: Options {
                target: 1 << 20,
                older_than: Duration::from_secs(3600),
                grace: GRACE,
                memory: 64 << 20,
                offline: false,
                takeover: false,
            },
            me: Owner {
                pid: u32::MAX >> 2,
                ..Owner::this_process()
            },
            clock: Arc::new(self.clock.clone()),
            sleep: Arc::new(move |time| {
                clock.advance(time);
                futures::future::ready(()).boxed()
            }),
            hook: Arc::new(NoHook),
            observe: Arc::new(move |event| {
                if let Event::LeftAlone {
                    table,
                    partition,
                    why,
                } = event
                {
                    log.lock()
                        .unwrap()
                        .push(format!("{table}/{partition}: {why}"));
                }
            }),
        }
    }

    pub fn offline(&self) -> Compaction {
        let mut compaction = self.compaction();
        compaction.options.offline = true;
        compaction
    }
}

pub fn subject(table: &str) -> Subject {
    Subject {
        spec: TableSpec::unknown(table),
        folder: table.to_string(),
        sort: Sort::Usual(Vec::new()),
        registered: Some(Registration {
            database: "d".into(),
            table: table.into(),
        }),
        tells_complete: false,
    }
}

/// What needs no waiting, since all is in memory.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing has to be waited for")
}

/// A file as the sink writes it.
pub fn file(ids: &[i64]) -> Vec<u8> {
    let names = ids
        .iter()
        .map(|id| (id % 3 > 0).then(|| format!("name {id}")));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as _, true),
        ("name", Arc::new(StringArray::from_iter(names)) as _, true),
    ]);
    file_of(&batch.unwrap())
}

pub fn file_of(batch: &RecordBatch) -> Vec<u8> {
    let spec = TableSpec {
        schema: batch.schema(),
        ..TableSpec::unknown("t")
    };
    let columns: Vec<usize> = (0..batch.num_columns()).collect();
    let mut file = ParquetFormat::of(&spec, &columns).unwrap().open().unwrap();
    file.write(batch).unwrap();
    file.finish().unwrap().concat()
}

pub fn ids(bytes: bytes::Bytes) -> Vec<i64> {
    batches(bytes)
        .iter()
        .flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

pub fn batches(bytes: bytes::Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let batches = reader.build().unwrap();
    batches.collect::<Result<_, _>>().unwrap()
}
