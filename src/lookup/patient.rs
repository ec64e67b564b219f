//! Waiting for an answer, however long it takes, but no longer than the process shall run.

use super::Stopped;
use crate::clock::Sleeper;
use crate::error::{Error, Kind, Result};
use crate::store::Voice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first pause in an outage; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a server that has always answered gets to do so once more when the process shall stop: a job that is stopped in good order
/// looks up what its last rows need.
const GRACE: Duration = Duration::from_secs(5);
/// How often somebody who waits looks whether it shall stop.
const GLANCE: Duration = Duration::from_millis(20);

/// Asks until there is an answer. Those who ask the same server share one, which speaks for them all.
pub struct Patient {
    stopped: Stopped,
    sleep: Sleeper,
    voice: Voice,
    away: AtomicBool,
}

impl Patient {
    pub fn new(stopped: Stopped) -> Patient {
        Patient {
            stopped,
            sleep: crate::clock::sleeper(),
            voice: Arc::new(|text| tracing::warn!("{text}")),
            away: AtomicBool::new(false),
        }
    }

    /// Asks again while the failure is one that passes, which is said once, and once more when it has passed. `place` says who is asked.
    pub async fn until_answered<T, F>(&self, place: &str, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut failed = false;
        loop {
            let grace = if failed { Duration::ZERO } else { GRACE };
            match self.unless_stopped(place, grace, ask()).await? {
                Ok(answer) => {
                    if self.away.swap(false, Ordering::SeqCst) {
                        (self.voice)(&format!("{place} answers again"));
                    }
                    return Ok(answer);
                }
                Err(error) if error.kind() == Kind::Retry => {
                    failed = true;
                    if !self.away.swap(true, Ordering::SeqCst) {
                        (self.voice)(&format!(
                            "{place} does not answer, and the rows that ask it wait; trying again until it does: {error}"
                        ));
                    }
                    let pause_now = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    self.unless_stopped(place, Duration::ZERO, (self.sleep)(pause_now))
                        .await?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn unless_stopped<T>(
        &self,
        place: &str,
        grace: Duration,
        what: impl Future<Output = T>,
    ) -> Result<T> {
        let stop = async {
            while !(self.stopped)() {
                (self.sleep)(GLANCE).await;
            }
            if !grace.is_zero() {
                (self.sleep)(grace).await;
            }
        };
        tokio::select! {
            biased;
            done = what => Ok(done),
            () = stop => Err(Error::stopped(format!("stopping while {place} has not answered"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    /// Someone who never sleeps, and what is heard of it.
    fn patient(stopped: Stopped) -> (Patient, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&heard);
        let patient = Patient {
            stopped,
            sleep: Arc::new(|_| Box::pin(tokio::task::yield_now())),
            voice: Arc::new(move |text| said.lock().unwrap().push(text.to_string())),
            away: AtomicBool::new(false),
        };
        (patient, heard)
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn an_outage_is_told_once_and_its_end_too() {
        let (patient, heard) = patient(Arc::new(|| false));
        let asked = AtomicUsize::new(0);
        let answer = wait(patient.until_answered("the table", || async {
            match asked.fetch_add(1, Ordering::SeqCst) {
                3 => Ok(7),
                _ => Err(Error::retry("away")),
            }
        }));
        assert_eq!(answer.unwrap(), 7);
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(heard[0].contains("does not answer") && heard[0].contains("away"));
        assert_eq!(heard[1], "the table answers again");
    }

    #[test]
    fn what_does_not_pass_comes_back_at_once() {
        let (patient, heard) = patient(Arc::new(|| false));
        let answer: Result<()> =
            wait(patient.until_answered("the table", || async { Err(Error::job("no right")) }));
        assert_eq!(answer.unwrap_err().kind(), Kind::Job);
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn a_stop_ends_the_wait_and_a_ready_answer_comes_before_it() {
        let (stopping, _) = patient(Arc::new(|| true));
        let answer: Result<()> = wait(stopping.until_answered("the table", std::future::pending));
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), Kind::Stopped);
        assert!(error.to_string().contains("the table"), "{error}");
        let away: Result<()> =
            wait(stopping.until_answered("the table", || async { Err(Error::retry("away")) }));
        assert_eq!(away.unwrap_err().kind(), Kind::Stopped);
        let ready = wait(stopping.until_answered("the table", || async { Ok(1) }));
        assert_eq!(ready.unwrap(), 1);
    }
}
