//! A MongoDB collection as the target of epochs.

use super::batch::Batches;
use super::document::{Encoder, Stored};
use super::line::{Claim, Server};
use super::options::Settings;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::sink::rows::{Mark, Shaped, Shares, Target};
use crate::sink::{SinkContext, TableSpec};
use arrow::array::{Int8Array, RecordBatch};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

pub struct MongoTarget {
    settings: Arc<Settings>,
    encoder: Encoder,
    owner: String,
    clock: Arc<dyn Clock>,
    server: OnceCell<Server>,
    /// None before it is opened, and again after any failure.
    claim: Mutex<Option<Claim>>,
}

impl MongoTarget {
    pub fn of(table: &TableSpec, context: &SinkContext) -> Result<MongoTarget> {
        Ok(MongoTarget {
            settings: Arc::new(Settings::of(table, &context.job)?),
            encoder: Encoder::of(table)?,
            owner: context.owner.clone(),
            clock: Arc::clone(&context.clock),
            server: OnceCell::new(),
            claim: Mutex::new(None),
        })
    }

    async fn server(&self) -> Result<&Server> {
        let made = || Server::of(Arc::clone(&self.settings));
        self.server.get_or_try_init(made).await
    }

    /// Writes the rows, then the mark. All but the mark can be done any number of times.
    async fn write(&self, claim: &Claim, mark: &Mark, mut rows: Shares<'_>) -> Result<Claim> {
        let server = self.server().await?;
        let begun = claim.begin(mark);
        // What is written from here on has to be known of, also where nobody comes to the end of it.
        server.mark(&self.owner, &begun).await?;
        let now = self.clock.now_ms();
        let mut batches = Batches::new(&self.settings, mark, begun.after, now);
        while let Some(share) = rows.next().await {
            let share = share?;
            for rows in &share.rows {
                let stored = Stored::of(rows)?;
                for row in 0..rows.num_rows() {
                    if let Some(batch) = batches.add(&stored, row, share.lane)? {
                        server.deliver(&self.owner, &batch).await?;
                    }
                }
            }
        }
        if let Some(batch) = batches.finish() {
            server.deliver(&self.owner, &batch).await?;
        }
        let delivered = begun.end();
        server.mark(&self.owner, &delivered).await?;
        Ok(delivered)
    }
}

impl Target for MongoTarget {
    fn shape(&self, rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<Shaped> {
        self.encoder.shape(rows, kinds)
    }

    fn reduce(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        self.encoder.reduce(rows)
    }

    fn open(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut claim = self.claim.lock().await;
            if claim.is_none() {
                let server = self.server().await?;
                server.prepare().await?;
                *claim = Some(server.claim(&self.owner).await?);
            }
            Ok(())
        }
        .boxed()
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>>> {
        async move {
            let claim = self.claim.lock().await;
            Ok(claim.as_ref().and_then(|claim| claim.mark.clone()))
        }
        .boxed()
    }

    /// Rows that are written again stay as they are, so nobody has to look for them.
    fn holds<'a>(&'a self, _mark: &'a Mark, _since_ms: i64) -> BoxFuture<'a, Result<bool>> {
        futures::future::ready(Ok(false)).boxed()
    }

    fn deliver<'a>(&'a self, mark: &'a Mark, rows: Shares<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut held = self.claim.lock().await;
            // Taken out: only where all went well is it used again.
            let claim = held
                .take()
                .ok_or_else(|| Error::bug("a MongoDB table was used before it was opened"))?;
            *held = Some(self.write(&claim, mark, rows).await?);
            Ok(())
        }
        .boxed()
    }
}
