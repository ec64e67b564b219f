//! Tables in which rows are looked up while a job runs.
//!
//! A [`Lookup`] is one table for one lookup join on one lane. The lane gives it the keys that a batch of rows asks for, all at once, and
//! waits for the answer: no row goes on before it is known what was found for it, and nothing is remembered in a checkpoint.
//!
//! Guarantee: what is found for a key are exactly the rows whose columns equal it, at one moment between question and answer (or, with a
//! cache, at one that is not further back than the table's options allow). A server that is away delays, and is told of once; rows are
//! never given up for it.

mod cache;
mod index;
pub mod memory;
mod mongo;
mod patient;
#[cfg(test)]
mod suite;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::operator::lookup::Found;
use crate::plan::LookupJoin;
use crate::source::memory::MemoryTables;
use arrow::record_batch::RecordBatch;
use cache::{Cache, Limits};
pub use mongo::Servers;
use std::sync::Arc;
use tokio::runtime::Handle;

/// One table that a lane asks.
pub trait Lookup: Send {
    /// The rows that have one of these keys. Each key is there once, none has a NULL, and there is one at least; their columns are those
    /// of the join's keys, in its order.
    fn find(&mut self, keys: &RecordBatch) -> Result<Found>;
}

/// Whether somebody has asked the process to stop.
pub type Stopped = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the lookups of one process share.
#[derive(Clone)]
pub struct LookupContext {
    pub runtime: Handle,
    pub clock: Arc<dyn Clock>,
    pub stopped: Stopped,
    /// The tables with `'connector' = 'memory'`, fed by a test.
    pub memory: MemoryTables,
    pub servers: Servers,
}

/// Opens the table that a join asks, and looks whether it is there.
pub fn open(join: &LookupJoin, context: &LookupContext) -> Result<Box<dyn Lookup>> {
    let options = &join.table.options;
    let table: Box<dyn Lookup> = match options.get("connector") {
        Some("mongodb") => Box::new(mongo::MongoLookup::open(join, context)?),
        Some("memory") => {
            let table = context.memory.table(&join.table.name);
            Box::new(memory::MemoryLookup::new(join, table)?)
        }
        _ => {
            return Err(Error::bug(format!(
                "table '{}' cannot be looked up",
                join.table.name
            )));
        }
    };
    Ok(match Limits::of(options) {
        None => table,
        Some(limits) => {
            let clock = Arc::clone(&context.clock);
            Box::new(Cache::new(join, limits, table, clock)?)
        }
    })
}
