//! A registry in memory, for tests. It can be away, or refuse who asks.

use super::{Registry, SchemaText};
use crate::avro::Schema;
use crate::error::{Error, Result};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones are the same registry.
#[derive(Clone, Default)]
pub struct MemoryRegistry(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By the id less one.
    schemas: Vec<SchemaText>,
    subjects: BTreeMap<String, Vec<u32>>,
    backward: BTreeSet<String>,
    away: bool,
    forbidden: bool,
    asked: usize,
}

impl MemoryRegistry {
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    pub fn set_forbidden(&self, forbidden: bool) {
        self.state().forbidden = forbidden;
    }

    /// From now on a subject takes only what can read its last version.
    pub fn keep_backward(&self, subject: &str) {
        self.state().backward.insert(subject.to_string());
    }

    /// How many questions have come.
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    /// Puts a schema there, and says its id.
    pub fn put(&self, schema: SchemaText) -> u32 {
        self.state().put(schema)
    }

    pub fn put_avro(&self, text: &str) -> u32 {
        self.put(avro(text))
    }

    /// Puts what a schema refers to beside it.
    pub fn put_reference(&self, id: u32, text: &str) {
        let at = usize::try_from(id).unwrap() - 1;
        self.state().schemas[at].references.push(text.to_string());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asks(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.asked += 1;
        if state.away {
            return Err(Error::retry("the schema registry does not answer"));
        }
        if state.forbidden {
            return Err(Error::job("the schema registry does not know who asks"));
        }
        Ok(state)
    }
}

fn avro(text: &str) -> SchemaText {
    SchemaText {
        kind: "AVRO".to_string(),
        text: text.to_string(),
        references: Vec::new(),
    }
}

impl State {
    fn put(&mut self, schema: SchemaText) -> u32 {
        let known = self.schemas.iter().position(|known| *known == schema);
        let at = known.unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        });
        u32::try_from(at + 1).unwrap()
    }

    fn of(&self, id: u32) -> Option<&SchemaText> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// Whether records of the subject's last version can be read with this schema.
    fn reads_the_last(&self, subject: &str, schema: &str) -> bool {
        let Some(last) = self.subjects.get(subject).and_then(|ids| ids.last()) else {
            return true;
        };
        let parsed = |text: &str| Schema::parse(text, &[]).unwrap();
        let (old, new) = (parsed(&self.of(*last).unwrap().text), parsed(schema));
        let old_fields = old.record(&old.root).unwrap();
        new.record(&new.root).unwrap().iter().all(|field| {
            match old_fields.iter().find(|old| old.name == field.name) {
                Some(was) => old.describe(&was.of) == new.describe(&field.of),
                None => field.default.is_some(),
            }
        })
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn schema(&self, id: u32) -> Result<Option<SchemaText>> {
        Ok(self.asks()?.of(id).cloned())
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let mut state = self.asks()?;
        if state.backward.contains(subject) && !state.reads_the_last(subject, schema) {
            return Err(Error::job(format!(
                "subject '{subject}' has versions that the schema is not compatible with"
            )));
        }
        let id = state.put(avro(schema));
        let ids = state.subjects.entry(subject.to_string()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        Ok(id)
    }

    async fn find(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let state = self.asks()?;
        let ids = state.subjects.get(subject).into_iter().flatten();
        let is = |id: &u32| state.of(*id).is_some_and(|known| known.text == schema);
        Ok(ids.copied().find(is))
    }
}
