//! The world of one execution: queues for sources and sinks, a clock that stands still, and processes that die.

use crate::catalog::definition::Registered;
use crate::catalog::keeper::{self, Duties, Keeper, Tools};
use crate::catalog::memory::MemoryCatalog;
use crate::catalog::{Catalog, CrawlerSpec, Definition};
use crate::cli::Job;
use crate::clock::{Clock, ManualClock};
use crate::epoch::{self, Claim, Coordinator, EpochStore, Mode, NoHook, Owner};
use crate::error::{Error, Result};
use crate::lookup::{Lookup, memory::MemoryLookup};
use crate::plan::{Graph, LookupJoin, Op, Scan};
use crate::registry;
use crate::runtime::{Connections, Engine, Parts, ask_sources, millis};
use crate::sink::{self, Publisher, Sink, SinkContext, TableSpec, Uploads};
use crate::source::{self, Source, SourceContext, Waker};
use crate::sql::{OptionValue, Options, Place};
use crate::store::Located;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A moment well after the event times that people write into cases.
const NOW_MS: i64 = 1_800_000_000_000;
const MEMORY: usize = 64 << 20;

pub struct World {
    job: Job,
    runtime: Runtime,
    clock: ManualClock,
    edge: Arc<Edge>,
    store: Located,
    catalog: MemoryCatalog,
    owners: usize,
    process: Option<Process>,
}

/// What dies in a crash.
struct Process {
    engine: Engine,
    coordinator: Coordinator,
}

/// What a reader sees at the end.
pub struct Seen {
    pub tables: BTreeMap<String, Vec<String>>,
    pub dead_letters: Vec<String>,
    /// The partitions that the catalog knows.
    pub catalog: Vec<String>,
    pub success_files: Vec<String>,
}

struct Edge {
    sources: SourceContext,
    sinks: std::sync::Mutex<SinkContext>,
}

impl Edge {
    fn sinks(&self) -> SinkContext {
        self.sinks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

impl Connections for Edge {
    fn source(&self, scan: &Scan) -> Result<Box<dyn Source>> {
        Ok(Box::new(
            self.sources
                .memory
                .source(&scan.table.name, &self.sources)?,
        ))
    }

    fn lookup(&self, join: &LookupJoin) -> Result<Box<dyn Lookup>> {
        let table = self.sources.memory.table(&join.table.name);
        Ok(Box::new(MemoryLookup::new(join, table)?))
    }

    fn sink(&self, table: &TableSpec, lane: usize) -> Result<Box<dyn Sink>> {
        sink::open(&in_memory(table), &self.sinks().on_lane(lane))
    }

    fn publisher(&self, table: &TableSpec) -> Result<Arc<dyn Publisher>> {
        sink::publisher(&in_memory(table), &self.sinks())
    }
}

/// The same table, kept in memory.
fn in_memory(table: &TableSpec) -> TableSpec {
    let memory = OptionValue {
        value: "memory".to_string(),
        place: Place::default(),
    };
    let entries = BTreeMap::from([("connector".to_string(), memory)]);
    TableSpec {
        options: Options { entries },
        ..table.clone()
    }
}

/// A case writes records as text: those that would need a schema registry are JSON there.
fn without_registries(graph: &Graph) -> Arc<Graph> {
    let mut graph = graph.clone();
    for node in &mut graph.nodes {
        if let Op::Scan(scan) = &mut node.op
            && scan.table.options.get("format") == Some(registry::FORMAT)
            && let Some(format) = Arc::make_mut(&mut scan.table)
                .options
                .entries
                .get_mut("format")
        {
            format.value = "json".to_string();
        }
    }
    Arc::new(graph)
}

impl World {
    /// A world for a job, with the partitions that its tables have.
    pub fn new(mut job: Job, partitions: &[(String, i32)]) -> Result<World> {
        job.graph = without_registries(&job.graph);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::retry("cannot start a runtime").caused_by(error))?;
        let clock = ManualClock::at(NOW_MS);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let stores: sink::StoreOpener =
            Arc::new(|url| Err(Error::bug(format!("a case opened '{url}'"))));
        let sources = SourceContext {
            bounded: false,
            share: crate::source::Share::default(),
            memory_budget: MEMORY,
            waker: Waker::default(),
            runtime: runtime.handle().clone(),
            clock: Arc::clone(&shared),
            memory: source::memory::MemoryTables::default(),
            stores: Arc::clone(&stores),
            registries: registry::none(),
        };
        let sinks = SinkContext {
            job: job.settings.name.clone(),
            owner: String::new(),
            lane: 0,
            stores,
            checkpoints: String::new(),
            runtime: runtime.handle().clone(),
            clock: shared,
            uploads: Uploads::with_limit(MEMORY),
            limits: sink::RecordLimits::default(),
            registries: registry::none(),
            memory: sink::memory::MemoryTables::default(),
        };
        let read = job.graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Scan(scan) => Some(scan.table.name.clone()),
            _ => None,
        });
        for table in read {
            let declared = partitions.iter().filter(|(name, _)| *name == table);
            let count = declared.map(|(_, count)| *count).max().unwrap_or(1);
            sources
                .memory
                .table(&table)
                .splits(usize::try_from(count).unwrap_or(1));
        }
        Ok(World {
            job,
            runtime,
            clock,
            edge: Arc::new(Edge {
                sources,
                sinks: std::sync::Mutex::new(sinks),
            }),
            store: Located {
                store: Arc::new(InMemory::new()),
                path: object_store::path::Path::default(),
                url: "memory".to_string(),
            },
            catalog: MemoryCatalog::default(),
            owners: 0,
            process: None,
        })
    }

    /// A process starts: it takes the job over and recovers the last epoch.
    pub fn start(&mut self, lanes: usize) -> Result<()> {
        self.owners += 1;
        let me = Owner {
            id: format!("owner-{}", self.owners),
            ..Owner::this_process()
        };
        if let Ok(mut sinks) = self.edge.sinks.lock() {
            sinks.owner.clone_from(&me.id);
        }
        let mut publishers: BTreeMap<String, Arc<dyn Publisher>> = BTreeMap::new();
        for table in &self.job.tables {
            publishers.insert(table.name.clone(), self.edge.publisher(table)?);
        }
        let store = EpochStore::new(self.store.clone(), self.job.settings.name.clone());
        let claim = Claim {
            store: &store,
            me: &me,
            interval: Duration::from_secs(1),
            mode: Mode::Takeover,
            clock: &self.clock,
            sleep: &crate::clock::sleeper(),
            notify: &|_| {},
        };
        let claimed = self.runtime.block_on(claim.run())?;
        let recovered =
            self.runtime
                .block_on(epoch::recover(&store, &claimed, &publishers, &NoHook))?;
        let connections = Arc::clone(&self.edge) as Arc<dyn Connections>;
        let waker = Waker::default();
        let engine = Engine::new(
            Parts {
                graph: Arc::clone(&self.job.graph),
                sources: ask_sources(
                    &self.job.graph,
                    &claimed.checkpoint,
                    connections.as_ref(),
                    &waker,
                )?,
                connections,
                tables: self.job.tables.clone(),
                letters: self.job.letters.clone(),
                clock: Arc::new(self.clock.clone()),
                lanes,
                max_future_ms: millis(self.job.settings.max_future),
                idle_timeout_ms: self.job.settings.idle_timeout.map_or(0, millis),
                max_drift_ms: millis(self.job.settings.max_drift),
                sink_memory: MEMORY,
                allow_dropped_state: self.job.settings.allow_dropped_state,
                waker,
            },
            Some(recovered),
        )?;
        let clock = Arc::new(self.clock.clone());
        let keeper = self.keeper(&store, &me, &publishers)?;
        let mut coordinator =
            Coordinator::new(store, &claimed, publishers, clock, Arc::new(NoHook));
        if let Some(keeper) = keeper {
            coordinator = coordinator.with_keeper(keeper);
        }
        self.process = Some(Process {
            engine,
            coordinator,
        });
        self.settle()
    }

    /// Who tells the catalog, where the job has to do with one. Every crawler is there, and none ends its run.
    fn keeper(
        &self,
        store: &EpochStore,
        me: &Owner,
        publishers: &BTreeMap<String, Arc<dyn Publisher>>,
    ) -> Result<Option<Keeper>> {
        let duties = Duties::of(self.job.judged(), &self.job.registered)?;
        if duties.tables.is_empty() {
            return Ok(None);
        }
        for name in duties.crawlers.keys() {
            let crawler = CrawlerSpec {
                name: name.clone(),
                ..CrawlerSpec::default()
            };
            self.runtime
                .block_on(self.catalog.create_crawler(&crawler))?;
        }
        let tools = Tools {
            catalog: Some(Arc::new(self.catalog.clone())),
            publishers: publishers.clone(),
            guard: keeper::guard(store, &me.id),
            clock: Arc::new(self.clock.clone()),
            sleep: Arc::new(|_| Box::pin(std::future::pending())),
            jitter: || 1.0,
            voice: Arc::new(|_| {}),
            hook: Arc::new(NoHook),
        };
        Ok(Some(Keeper::start(duties, tools, self.runtime.handle())))
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .ok_or_else(|| Error::bug("no process runs"))
    }

    pub fn feed(&self, table: &str, partition: i32, records: &[Option<String>]) -> Result<()> {
        let queue = self.queue(table)?;
        for record in records {
            let value = record.as_ref().map(|text| text.as_bytes());
            queue.push(usize::try_from(partition).unwrap_or(0), None, value, NOW_MS);
        }
        Ok(())
    }

    /// The input ends: a reader that comes to its end does not wait for more.
    pub fn end(&self, table: &str) -> Result<()> {
        self.queue(table)?.end();
        Ok(())
    }

    /// What stands for a table that the job reads.
    fn queue(&self, table: &str) -> Result<source::memory::MemoryTable> {
        let read = self.job.graph.nodes.iter().any(|node| match &node.op {
            Op::Scan(scan) => scan.table.name == table,
            Op::Lookup(join) => join.table.name == table,
            _ => false,
        });
        if !read {
            return Err(Error::job(format!(
                "the case feeds '{table}', which the job does not read"
            )));
        }
        Ok(self.edge.sources.memory.table(table))
    }

    pub fn advance_clock(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Rounds until nothing moves any more.
    pub fn settle(&mut self) -> Result<()> {
        let process = self.process()?;
        while process.engine.round()? > 0 || process.engine.opening() {}
        Ok(())
    }

    pub fn epoch(&mut self) -> Result<()> {
        self.barrier(false)
    }

    fn barrier(&mut self, close: bool) -> Result<()> {
        let process = self
            .process
            .as_mut()
            .ok_or_else(|| Error::bug("no process runs"))?;
        let epoch = process.coordinator.next_epoch();
        let (mut barrier, positions) = process.engine.barrier(epoch, close)?;
        barrier.released = close;
        let committed = self.runtime.block_on(process.coordinator.commit(barrier))?;
        process.engine.committed(&positions, &committed.ledger);
        Ok(())
    }

    /// The process dies with all that it had in memory, and another starts.
    pub fn crash(&mut self, lanes: usize) -> Result<()> {
        self.process = None;
        self.start(lanes)
    }

    /// The end: with `ends` all inputs end too. Then everything is published, and looked at.
    pub fn finish(mut self, ends: bool) -> Result<Seen> {
        if ends {
            for table in self
                .process()?
                .engine
                .scans()
                .map(|scan| scan.table.clone())
                .collect::<Vec<_>>()
            {
                self.edge.sources.memory.table(&table).end();
            }
            self.settle()?;
            if !self.process()?.engine.finished() {
                return Err(Error::bug(
                    "the inputs have ended, but the engine waits for more",
                ));
            }
        }
        self.barrier(true)?;
        let catalog = self.registered()?;
        let seen = self.edge.sinks().memory;
        let mut success_files = Vec::new();
        let mut tables = BTreeMap::new();
        let mut dead_letters = Vec::new();
        for table in &self.job.tables {
            let mut rows = super::held::Held::of(&self.job.graph, &table.name);
            for batch in seen.rows(&table.name) {
                rows.take(&batch)?;
            }
            let mut rows = rows.finish()?;
            rows.sort();
            let marks = seen.marks(&table.name).into_iter();
            success_files
                .extend(marks.map(|file| json!({"table": table.name, "file": file}).to_string()));
            if table.name == sink::dead_letters::NAME {
                dead_letters = rows.iter().map(|row| letter(row)).collect::<Result<_>>()?;
            } else {
                tables.insert(table.name.clone(), rows);
            }
        }
        Ok(Seen {
            tables,
            dead_letters,
            catalog,
            success_files,
        })
    }

    /// Each partition that the catalog knows: its table there, and the values of its keys.
    fn registered(&self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for Registered { definition, .. } in &self.job.registered {
            let Definition { database, name, .. } = definition;
            let known = self.catalog.partitions(database, name);
            for partition in self.runtime.block_on(known)? {
                let mut row = serde_json::Map::new();
                row.insert("table".into(), format!("{database}.{name}").into());
                let keys = definition.partition_keys.iter().map(|key| key.name.clone());
                let values = partition.values.into_iter().map(Value::from);
                row.extend(keys.zip(values));
                rows.push(Value::Object(row).to_string());
            }
        }
        Ok(rows)
    }
}

/// The columns of a dead letter that a case names: not the bytes, which binary columns would show in hexadecimal digits, nor the text.
fn letter(row: &str) -> Result<String> {
    let mut value: serde_json::Value = serde_json::from_str(row)
        .map_err(|error| Error::bug("a row is no JSON").caused_by(error))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| {
            ["reason", "source", "topic", "partition", "offset"].contains(&name.as_str())
        });
    }
    Ok(value.to_string())
}
