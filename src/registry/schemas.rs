//! The schemas that the records of one table were written with: asked for beside the lanes, and then known.

use super::patient::Patient;
use super::{Registry, SchemaText};
use crate::avro::Schema;
use crate::clock::{Clock, Sleeper};
use crate::error::{Error, Result};
use crate::source::Waker;
use crate::store::Voice;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many questions are under way at a time.
const AT_ONCE: usize = 8;
/// How long the answer holds that there is no schema, or none that can be read: somebody may restore it, or what it refers to.
const ABSENT_FOR_MS: i64 = 60_000;
/// How many such answers are remembered: garbage can have as many ids as there are.
const ABSENT_AT_MOST: usize = 10_000;

/// A schema, or why there is none.
pub type Found = Result<Arc<Schema>, String>;

/// For each id what was found.
pub type Written = Arc<BTreeMap<u32, Found>>;

/// What is around the one that asks.
pub struct Around {
    pub runtime: Handle,
    pub waker: Waker,
    pub clock: Arc<dyn Clock>,
    pub sleep: Sleeper,
    pub voice: Voice,
}

/// Shared by all readers of a table. Ends its questions when the last of them is gone.
pub struct Schemas {
    registry: Arc<dyn Registry>,
    name: String,
    around: Around,
    known: Arc<Mutex<Known>>,
    questions: Mutex<JoinSet<()>>,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    answers: HashMap<u32, Answer>,
    /// No waiting mends it.
    failed: Option<Error>,
}

enum Answer {
    Awaited,
    Schema(Arc<Schema>),
    Absent { since_ms: i64, why: String },
}

impl Schemas {
    /// `name` is who asks, for messages.
    pub fn new(registry: Arc<dyn Registry>, name: String, around: Around) -> Schemas {
        let patient = Patient::new(
            registry,
            name.clone(),
            around.sleep.clone(),
            around.voice.clone(),
        );
        Schemas {
            registry: Arc::new(patient),
            name,
            around,
            known: Arc::default(),
            questions: Mutex::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Puts what is known of these ids to what was known before, and says whether that is all of it. Until then the rest is asked for, and the
    /// waker is called when there is more. Never waits.
    pub fn gather(&self, ids: &BTreeSet<u32>, into: &mut BTreeMap<u32, Found>) -> Result<bool> {
        let mut known = lock(&self.known);
        if let Some(error) = &known.failed {
            return Err(error.again());
        }
        let now_ms = self.around.clock.now_ms();
        for id in ids {
            if into.contains_key(id) {
                continue;
            }
            match known.answers.get(id) {
                Some(Answer::Schema(schema)) => {
                    into.insert(*id, Ok(Arc::clone(schema)));
                }
                Some(Answer::Awaited) => {}
                Some(Answer::Absent { since_ms, why }) if now_ms - *since_ms < ABSENT_FOR_MS => {
                    into.insert(*id, Err(why.clone()));
                }
                Some(Answer::Absent { .. }) | None => {
                    known.answers.insert(*id, Answer::Awaited);
                    self.ask(*id);
                }
            }
        }
        let complete = into.len() == ids.len();
        if complete {
            known.forget_garbage();
        }
        Ok(complete)
    }

    fn ask(&self, id: u32) {
        let registry = Arc::clone(&self.registry);
        let (known, room) = (Arc::clone(&self.known), Arc::clone(&self.room));
        let (waker, clock) = (self.around.waker.clone(), Arc::clone(&self.around.clock));
        let name = self.name.clone();
        let question = async move {
            // It is never closed.
            let _turn = room.acquire().await;
            let answer = registry.schema(id).await;
            let found = answer.map(|text| match text {
                Some(text) => parsed(&text),
                None => Err("the schema registry does not have it".to_string()),
            });
            let mut known = lock(&known);
            match found {
                Ok(Ok(schema)) => {
                    known.answers.insert(id, Answer::Schema(Arc::new(schema)));
                }
                Ok(Err(why)) => {
                    let since_ms = clock.now_ms();
                    known.answers.insert(id, Answer::Absent { since_ms, why });
                }
                Err(error) => known.failed = Some(error.at(name)),
            }
            drop(known);
            waker.wake();
        };
        let mut questions = lock(&self.questions);
        // Those that are answered take no more room.
        while questions.try_join_next().is_some() {}
        questions.spawn_on(question, &self.around.runtime);
    }
}

impl Known {
    /// Forgets that there was no schema, where there is too much of that.
    fn forget_garbage(&mut self) {
        let absent = |answer: &Answer| matches!(answer, Answer::Absent { .. });
        if self.answers.len() > ABSENT_AT_MOST
            && self
                .answers
                .values()
                .filter(|answer| absent(answer))
                .count()
                > ABSENT_AT_MOST
        {
            self.answers.retain(|_, answer| !absent(answer));
        }
    }
}

fn parsed(text: &SchemaText) -> Result<Schema, String> {
    match text.kind.as_str() {
        "AVRO" => Schema::parse(&text.text, &text.references),
        other => Err(format!("it is a schema of {other}, and not of Avro")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "schemas_tests.rs"]
mod tests;
