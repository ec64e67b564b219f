//! The engine's edge in a real process: servers, files, and the machine's clock.

use super::job::Job;
use crate::catalog::Catalog;
use crate::catalog::glue::GlueCatalog;
use crate::catalog::keeper::{Duties, Guard, Keeper, Tools};
use crate::clock::Clock;
use crate::epoch::{Hook, Owner};
use crate::error::Result;
use crate::lookup::{self, Lookup, LookupContext};
use crate::plan::{LookupJoin, Scan};
use crate::registry;
use crate::runtime::{Connections, Stop};
use crate::sink::{self, Publisher, Sink, SinkContext, TableSpec, Uploads};
use crate::source::{self, Source, SourceContext, Waker};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tracing::warn;

pub struct Outside {
    sources: SourceContext,
    lookups: LookupContext,
    sinks: SinkContext,
}

impl Outside {
    pub fn new(
        job: &Job,
        bounded: bool,
        owner: &Owner,
        waker: Waker,
        runtime: Handle,
        clock: Arc<dyn Clock>,
        stop: &Stop,
    ) -> Outside {
        let encryption = job.settings.encryption.clone();
        let stores: sink::StoreOpener = Arc::new(move |url| {
            let located = crate::store::open_with(url, &encryption)?;
            Ok((located.store, located.path))
        });
        Outside {
            sources: SourceContext {
                bounded,
                share: job.share.clone(),
                memory_budget: job.memory() / 16 / job.sources().max(1),
                waker,
                runtime: runtime.clone(),
                clock: Arc::clone(&clock),
                memory: source::memory::MemoryTables::default(),
                stores: Arc::clone(&stores),
                registries: registry::over_http(),
            },
            lookups: LookupContext {
                runtime: runtime.clone(),
                clock: Arc::clone(&clock),
                stopped: {
                    let stop = stop.clone();
                    Arc::new(move || stop.asked())
                },
                memory: source::memory::MemoryTables::default(),
                servers: lookup::Servers::default(),
            },
            sinks: SinkContext {
                job: job.settings.name.clone(),
                owner: owner.id.clone(),
                lane: 0,
                stores,
                checkpoints: job.settings.checkpoint_dir.clone(),
                runtime,
                clock,
                uploads: Uploads::with_limit(job.memory() / 16),
                limits: sink::RecordLimits::default(),
                registries: registry::over_http(),
                memory: sink::memory::MemoryTables::default(),
            },
        }
    }
}

impl Connections for Outside {
    fn source(&self, scan: &Scan) -> Result<Box<dyn Source>> {
        source::open(scan, &self.sources)
    }

    fn lookup(&self, join: &LookupJoin) -> Result<Box<dyn Lookup>> {
        lookup::open(join, &self.lookups)
    }

    fn sink(&self, table: &TableSpec, lane: usize) -> Result<Box<dyn Sink>> {
        sink::open(table, &self.sinks.on_lane(lane))
    }

    fn publisher(&self, table: &TableSpec) -> Result<Arc<dyn Publisher>> {
        sink::publisher(table, &self.sinks)
    }
}

/// Has the catalog told of what the job publishes, and success files written; nothing where no table asks for it.
pub fn keeper(
    job: &Job,
    guard: Guard,
    publishers: &BTreeMap<String, Arc<dyn Publisher>>,
    clock: &Arc<dyn Clock>,
    hook: &Arc<dyn Hook>,
    runtime: &Handle,
) -> Result<Option<Keeper>> {
    let duties = Duties::of(job.judged(), &job.registered)?;
    if duties.tables.is_empty() {
        return Ok(None);
    }
    let glue = || Arc::new(GlueCatalog::default()) as Arc<dyn Catalog>;
    let tools = Tools {
        catalog: duties.ask_the_catalog().then(glue),
        publishers: publishers.clone(),
        guard,
        clock: Arc::clone(clock),
        sleep: crate::clock::sleeper(),
        jitter: fastrand::f64,
        voice: Arc::new(|text| warn!("{text}")),
        hook: Arc::clone(hook),
    };
    Ok(Some(Keeper::start(duties, tools, runtime)))
}
