//! Records that carry the id of a schema wait here until the schema is known.
//!
//! A decorator of sources: a run of records is held back while the registry is asked, and the split says that there is more to come. Its position
//! stays in front of what is held, so a crash in an outage loses nothing; the other splits go on. What comes out has its schemas with it,
//! so that decoders ask nobody.

use super::{FileFacts, Poll, Position, Positions, Reader, Records, Source, SourceContext, Split};
use crate::avro;
use crate::error::{Error, Result};
use crate::registry::{Around, FORMAT, Found, RecordPart, Schemas, Settings};
use crate::sql::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct Registered {
    inner: Box<dyn Source>,
    schemas: Arc<Schemas>,
}

/// The source of a table whose records are written with the schemas of a registry.
pub fn with_schemas(
    inner: Box<dyn Source>,
    table: &Table,
    context: &SourceContext,
) -> Result<Box<dyn Source>> {
    let settings = Settings::of(&table.options, "", RecordPart::Value).map_err(|wrong| {
        Error::job(format!(
            "table '{}', option '{FORMAT}.{}': {}",
            table.name, wrong.option, wrong.what
        ))
    })?;
    let around = Around {
        runtime: context.runtime.clone(),
        waker: context.waker.clone(),
        clock: Arc::clone(&context.clock),
        sleep: crate::clock::sleeper(),
        voice: Arc::new(|text| tracing::warn!("{text}")),
    };
    let registry = (context.registries)(&settings)?;
    let name = format!("table '{}'", table.name);
    Ok(Box::new(Registered {
        inner,
        schemas: Arc::new(Schemas::new(registry, name, around)),
    }))
}

impl Source for Registered {
    fn discover(&mut self) -> Result<Vec<Split>> {
        self.inner.discover()
    }

    fn renamed(&self, split: Split) -> Split {
        self.inner.renamed(split)
    }

    fn restored(&mut self) {
        self.inner.restored();
    }

    fn gone(&mut self, splits: &[(Split, Position)]) -> Result<()> {
        self.inner.gone(splits)
    }

    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Waiting {
            inner: self.inner.open(split, from)?,
            schemas: Arc::clone(&self.schemas),
            held: None,
        }))
    }

    fn acknowledge(&mut self, positions: &Positions) {
        self.inner.acknowledge(positions);
    }

    fn bounded(&self) -> bool {
        self.inner.bounded()
    }
}

/// Reads one split.
struct Waiting {
    inner: Box<dyn Reader>,
    schemas: Arc<Schemas>,
    held: Option<Held>,
}

/// Records that wait for their schemas.
struct Held {
    records: Records,
    ids: BTreeSet<u32>,
    found: BTreeMap<u32, Found>,
    /// In front of the first of them.
    position: Position,
}

impl Held {
    fn new(records: Records, position: Position) -> Held {
        let values = (0..records.len()).filter_map(|record| records.value(record));
        let ids = values.filter_map(|value| avro::parts(value).ok().map(|(id, _)| id));
        Held {
            ids: ids.collect(),
            found: BTreeMap::new(),
            records,
            position,
        }
    }
}

impl Reader for Waiting {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        let mut held = match self.held.take() {
            Some(held) => held,
            None => {
                let position = self.inner.position();
                match self.inner.poll(max_bytes)? {
                    Poll::Records(records) => Held::new(records, position),
                    other => return Ok(other),
                }
            }
        };
        if !self.schemas.gather(&held.ids, &mut held.found)? {
            self.held = Some(held);
            return Ok(Poll::Pending { at_end: false });
        }
        let mut records = held.records;
        records.schemas = Arc::new(held.found);
        Ok(Poll::Records(records))
    }

    fn position(&self) -> Position {
        match &self.held {
            Some(held) => held.position,
            None => self.inner.position(),
        }
    }

    fn lag(&self) -> Option<u64> {
        let waiting = self.held.as_ref().map_or(0, |held| held.records.len());
        self.inner.lag().map(|lag| lag + waiting as u64)
    }

    fn file(&self) -> Option<FileFacts> {
        self.inner.file()
    }

    fn answers(&self) -> bool {
        self.held.is_none() && self.inner.answers()
    }
}

#[cfg(test)]
#[path = "registered_tests.rs"]
mod tests;
