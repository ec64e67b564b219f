//! A Kafka topic as the target of epochs.

use super::super::rows::{Mark, Shaped, Share, Shares, Target};
use super::fault::on_a_thread;
use super::line::{Line, ONE_RECORD, Opened};
use super::options::Settings;
use super::records::{Bounds, Encoder};
use super::schemas::Schemas;
use super::tail;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::sink::{RecordLimits, SinkContext, TableSpec};
use arrow::array::{Int8Array, RecordBatch};
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

pub struct KafkaTarget {
    settings: Arc<Settings>,
    encoder: Encoder,
    schemas: Schemas,
    limits: RecordLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Option<Arc<Line>>,
    mark: Option<Mark>,
    /// How large a batch may be, where the topic takes less than the client would send.
    most_batch: Option<usize>,
}

impl KafkaTarget {
    pub fn of(table: &TableSpec, context: &SinkContext) -> Result<KafkaTarget> {
        let encoder = Encoder::of(table)?;
        Ok(KafkaTarget {
            settings: Arc::new(Settings::of(table, &context.job)?),
            schemas: Schemas::of(&table.name, &encoder, context)?,
            encoder,
            limits: context.limits.clone(),
            clock: Arc::clone(&context.clock),
            state: Mutex::default(),
        })
    }

    async fn open_line(&self, most_batch: Option<usize>) -> Result<Opened> {
        let settings = Arc::clone(&self.settings);
        let runtime = Handle::current();
        on_a_thread(move || Line::open(settings, most_batch, &runtime)).await
    }

    async fn produce(&self, line: &Arc<Line>, mark: &Mark, rows: &mut Shares<'_>) -> Result<()> {
        let begun = Arc::clone(line);
        on_a_thread(move || begun.begin()).await?;
        while let Some(share) = rows.next().await {
            let Share { lane, rows } = share?;
            let stamped = rows.into_iter().map(|batch| self.schemas.stamp(batch));
            let rows = try_join_all(stamped).await?;
            let share = Share { lane, rows };
            let (line, mark) = (Arc::clone(line), mark.clone());
            on_a_thread(move || line.send(&share, &mark)).await?;
        }
        let (line, mark) = (Arc::clone(line), mark.clone());
        on_a_thread(move || line.finish(&mark)).await
    }
}

impl Target for KafkaTarget {
    fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped> {
        let Settings {
            table,
            topic,
            most_bytes,
            codec,
            ..
        } = &*self.settings;
        let limits = self.limits.of(table);
        let bounds = Bounds {
            most_bytes: match codec {
                None => limits.bytes.min(*most_bytes),
                Some(_) => *most_bytes,
            },
            packed: codec.map(|codec| (codec, limits.bytes)),
            overhead: self.settings.overhead(),
            times: limits.times(self.clock.now_ms()),
            where_to: format!("topic '{topic}'"),
        };
        self.encoder.shape(rows, kinds, &bounds)
    }

    fn reduce(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        self.encoder.reduce(rows)
    }

    fn open(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut state = self.state.lock().await;
            if state.line.is_some() {
                return Ok(());
            }
            self.schemas.announce().await?;
            let mut opened = self.open_line(state.most_batch).await?;
            let batch = opened.limits.map(|limits| limits.bytes);
            if let Some(most) = batch.filter(|most| self.settings.exceeds(*most))
                && state.most_batch.is_none()
            {
                state.most_batch = Some(most);
                opened = self.open_line(state.most_batch).await?;
            }
            match opened.limits {
                Some(limits) => self.limits.learn(&self.settings.table, limits),
                // Without the right to ask, the client's own limit has to do.
                None => tracing::debug!(
                    table = self.settings.table,
                    "what the topic takes is not known"
                ),
            }
            state.line = Some(Arc::new(opened.line));
            // Without transactions the topic knows nothing: then only what this process has delivered is known.
            if self.settings.is_exact() {
                state.mark = opened.mark;
            }
            Ok(())
        }
        .boxed()
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>>> {
        async move { Ok(self.state.lock().await.mark.clone()) }.boxed()
    }

    fn holds<'a>(&'a self, mark: &'a Mark, since_ms: i64) -> BoxFuture<'a, Result<bool>> {
        async move {
            let state = self.state.lock().await;
            let line = state.line.clone().ok_or_else(closed)?;
            if !self.settings.is_exact() {
                return Ok(false);
            }
            let (settings, mark) = (Arc::clone(&self.settings), mark.clone());
            on_a_thread(move || {
                let reader = line.reader.as_ref().ok_or_else(tail::without_reader)?;
                tail::holds(&settings, reader, &mark, since_ms)
            })
            .await
        }
        .boxed()
    }

    fn deliver<'a>(&'a self, mark: &'a Mark, mut rows: Shares<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut state = self.state.lock().await;
            // Taken out: only where all went well is it used again.
            let line = state.line.take().ok_or_else(closed)?;
            let produced = self.produce(&line, mark, &mut rows).await;
            if line.was_too_large() {
                state.most_batch = Some(ONE_RECORD);
            }
            if let Err(error) = &produced {
                // The next line ends the transaction as it begins, and whoever fenced this one has done so; else none may follow.
                let is_last = !matches!(error.kind(), Kind::Retry | Kind::Fenced);
                // Letting go of a broken line can take a moment.
                on_a_thread(move || {
                    if is_last {
                        line.abort();
                    }
                    drop(line);
                    Ok(())
                })
                .await?;
            } else {
                state.line = Some(line);
            }
            produced?;
            state.mark = Some(mark.clone());
            Ok(())
        }
        .boxed()
    }
}

fn closed() -> Error {
    Error::bug("a Kafka table was used before it was opened")
}
