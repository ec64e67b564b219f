//! Patience with a registry that is away: every question is repeated until it is answered, with growing pauses, and an outage is spoken of
//! twice.

use super::{Registry, SchemaText};
use crate::clock::Sleeper;
use crate::error::{Error, Kind, Result};
use crate::store::Voice;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub struct Patient {
    inner: Arc<dyn Registry>,
    /// Who waits, for messages.
    name: String,
    sleep: Sleeper,
    voice: Voice,
    away: AtomicBool,
}

impl Patient {
    pub fn new(inner: Arc<dyn Registry>, name: String, sleep: Sleeper, voice: Voice) -> Patient {
        Patient {
            inner,
            name,
            sleep,
            voice,
            away: AtomicBool::new(false),
        }
    }

    async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask().await {
                Err(error) if error.kind() == Kind::Retry => {
                    self.is_away(&error);
                    (self.sleep)(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => {
                    self.is_back();
                    return answer;
                }
            }
        }
    }

    fn is_away(&self, error: &Error) {
        if !self.away.swap(true, Ordering::SeqCst) {
            (self.voice)(&format!(
                "{}: {error}; records wait, and it is asked again until it answers",
                self.name
            ));
        }
    }

    fn is_back(&self) {
        if self.away.swap(false, Ordering::SeqCst) {
            (self.voice)(&format!("{}: the schema registry answers again", self.name));
        }
    }
}

#[async_trait]
impl Registry for Patient {
    async fn schema(&self, id: u32) -> Result<Option<SchemaText>> {
        self.until_answered(|| self.inner.schema(id)).await
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        self.until_answered(|| self.inner.register(subject, schema))
            .await
    }

    async fn find(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        self.until_answered(|| self.inner.find(subject, schema))
            .await
    }
}
