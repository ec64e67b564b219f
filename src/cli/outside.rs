//! The engine's edge in a real process: servers, files, and the machine's clock.

use super::run::Options;
use crate::clock::Clock;
use crate::epoch::Owner;
use crate::error::Result;
use crate::plan::Scan;
use crate::runtime::Connections;
use crate::sink::{self, Publisher, Sink, SinkContext, TableSpec, Uploads};
use crate::source::{self, Source, SourceContext, Waker};
use std::sync::Arc;
use tokio::runtime::Handle;

pub struct Outside {
    sources: SourceContext,
    sinks: SinkContext,
}

impl Outside {
    pub fn new(
        job: &str,
        sources: usize,
        options: &Options,
        owner: &Owner,
        waker: Waker,
        runtime: Handle,
        clock: Arc<dyn Clock>,
    ) -> Outside {
        let stores: sink::StoreOpener = Arc::new(|url| {
            let located = crate::store::open(url)?;
            Ok((located.store, located.path))
        });
        Outside {
            sources: SourceContext {
                bounded: options.bounded,
                memory_budget: options.memory / 16 / sources.max(1),
                waker,
                runtime: runtime.clone(),
                clock: Arc::clone(&clock),
                memory: source::memory::MemoryTables::default(),
                stores: Arc::clone(&stores),
            },
            sinks: SinkContext {
                job: job.to_string(),
                owner: owner.id.clone(),
                lane: 0,
                stores,
                runtime,
                clock,
                uploads: Uploads::with_limit(options.memory / 16),
                memory: sink::memory::MemoryTables::default(),
            },
        }
    }
}

impl Connections for Outside {
    fn source(&self, scan: &Scan) -> Result<Box<dyn Source>> {
        source::open(scan, &self.sources)
    }

    fn sink(&self, table: &TableSpec, lane: usize) -> Result<Box<dyn Sink>> {
        sink::open(table, &self.sinks.on_lane(lane))
    }

    fn publisher(&self, table: &TableSpec) -> Result<Arc<dyn Publisher>> {
        sink::publisher(table, &self.sinks)
    }
}
