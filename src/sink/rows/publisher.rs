//! From the staged rows of an epoch to their target, once.

use super::staged::{Folder, Name};
use super::{Mark, Share, Shares, Target};
use crate::clock::Sleeper;
use crate::epoch::BEGIN_ANEW;
use crate::error::{Error, Kind, Result};
use crate::sink::{Publisher, SinkContext, TableSpec, Token};
use crate::store::Voice;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The first pause in an outage; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How far the clocks of the store and of the target may be apart.
const CLOCKS_APART_MS: i64 = 3_600_000;

/// Delivers what the lanes of one table staged.
pub struct RowPublisher {
    table: String,
    owner: String,
    target: Arc<dyn Target>,
    folder: Folder,
    sleep: Sleeper,
    voice: Voice,
    away: AtomicBool,
    /// The mark as it was seen or set last; None before it was looked at.
    known: Mutex<Option<Option<Mark>>>,
}

/// What an epoch has to be delivered of.
struct Staged<'a> {
    mark: Mark,
    names: Vec<Name>,
    tokens: &'a [Token],
}

impl RowPublisher {
    pub fn new(
        table: &TableSpec,
        target: Arc<dyn Target>,
        context: &SinkContext,
    ) -> Result<RowPublisher> {
        Ok(RowPublisher {
            table: table.name.clone(),
            owner: context.owner.clone(),
            folder: Folder::of(table, context)?,
            target,
            sleep: crate::clock::sleeper(),
            voice: Arc::new(|text| tracing::warn!("{text}")),
            away: AtomicBool::new(false),
            known: Mutex::new(None),
        })
    }

    /// The same with a sleeper and a voice of the caller's.
    #[cfg(test)]
    pub fn with(self, sleep: Sleeper, voice: Voice) -> RowPublisher {
        RowPublisher {
            sleep,
            voice,
            ..self
        }
    }

    /// Does one thing until it is done, however long the target is away; any other failure comes back.
    async fn until_done<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt().await {
                Ok(value) => {
                    if self.away.swap(false, Ordering::SeqCst) {
                        (self.voice)(&format!("table '{}' takes rows again", self.table));
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == Kind::Retry => {
                    if !self.away.swap(true, Ordering::SeqCst) {
                        (self.voice)(&format!(
                            "table '{}' takes no rows now; trying again until it does: {error}",
                            self.table
                        ));
                    }
                    (self.sleep)(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self) -> Result<()> {
        self.target.open().await?;
        let mark = self.target.mark().await?;
        let mut known = self.known.lock().await;
        known.get_or_insert(mark);
        Ok(())
    }

    async fn deliver(&self, staged: &Staged<'_>) -> Result<()> {
        self.target.open().await?;
        let mark = &staged.mark;
        let found = self.target.mark().await?;
        let mut known = self.known.lock().await;
        if found.as_ref() == Some(mark) {
            *known = Some(found);
            return Ok(());
        }
        // Marks expire; another process would have left its own.
        let lost = found.is_none() && matches!(*known, Some(Some(_)));
        if let Some(before) = known.as_ref()
            && *before != found
            && !lost
        {
            return Err(Error::fenced(format!(
                "table '{}': another process delivers to it now: the last epoch there is {}, and this process knows of {}",
                self.table,
                in_words(found.as_ref()),
                in_words(before.as_ref())
            )));
        }
        // What this process staged itself nobody else can have delivered while its marks are there.
        let unknown = lost || (found.is_none() && mark.owner != self.owner);
        if unknown && self.was_delivered(staged).await? {
            return Ok(());
        }
        self.target.deliver(mark, self.shares(staged)).await?;
        *known = Some(Some(mark.clone()));
        Ok(())
    }

    /// Whether an epoch of an older owner was delivered whose mark was lost. Its blobs are removed only behind that, and where they are
    /// all there its rows have to be looked for.
    async fn was_delivered(&self, staged: &Staged<'_>) -> Result<bool> {
        let mut since: Option<i64> = None;
        for name in staged.names.iter().filter(|name| name.number.is_some()) {
            match self.folder.written_ms(name).await? {
                None => return Ok(true),
                Some(at) => since = Some(since.map_or(at, |since| since.min(at))),
            }
        }
        let Some(since) = since else {
            return Ok(true);
        };
        self.target
            .holds(&staged.mark, since - CLOCKS_APART_MS)
            .await
    }

    /// The rows, read one blob after the other.
    fn shares<'a>(&'a self, staged: &'a Staged<'_>) -> Shares<'a> {
        let named = staged.names.iter().zip(staged.tokens);
        stream::iter(named)
            .then(move |(name, token)| async move {
                let rows = self.folder.read(name).await?.ok_or_else(|| {
                    Error::data(format!(
                        "table '{}': {} committed rows are lost: '{}' is not among the staged rows in the checkpoint folder; bring it \
                         back, or {BEGIN_ANEW}",
                        self.table, token.rows, token.name
                    ))
                })?;
                Ok(Share {
                    lane: name.lane,
                    rows,
                })
            })
            .boxed()
    }

    async fn publish_all(&self, tokens: &[Token]) -> Result<()> {
        let mut parsed = tokens.iter().map(Name::of);
        let Some((mark, first)) = parsed.next().transpose()? else {
            return Ok(());
        };
        let mut names = vec![first];
        for next in parsed {
            let (other, name) = next?;
            if other != mark {
                return Err(Error::bug(format!(
                    "table '{}': rows of epochs {mark} and {other} are to be published together",
                    self.table
                )));
            }
            names.push(name);
        }
        let staged = Staged {
            mark,
            names,
            tokens,
        };
        self.until_done(|| self.deliver(&staged)).await?;
        self.folder.delete(&staged.names).await
    }
}

fn in_words(mark: Option<&Mark>) -> String {
    mark.map_or("none".to_string(), Mark::to_string)
}

impl Publisher for RowPublisher {
    fn open(&self) -> BoxFuture<'_, Result<()>> {
        self.until_done(|| RowPublisher::open(self)).boxed()
    }

    fn publish<'a>(&'a self, tokens: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        self.publish_all(tokens).boxed()
    }

    fn discard_except<'a>(&'a self, keep: &'a [Token]) -> BoxFuture<'a, Result<()>> {
        async move {
            let names = keep.iter().map(|token| Ok(Name::of(token)?.1));
            let names = names.collect::<Result<Vec<Name>>>()?;
            let gone = self.folder.keep(&names).await?;
            if gone > 0 {
                tracing::info!(
                    table = self.table,
                    blobs = gone,
                    "discarding rows that no epoch names"
                );
            }
            Ok(())
        }
        .boxed()
    }
}
