//! The threads that lanes work on, one for each, for as long as the engine lives: memory that a lane frees is then there for the same lane
//! again, which threads made for each step would not find.

use super::lane::Lane;
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

type Task = Box<dyn FnOnce() + Send>;

/// A step that every lane takes, with an input of its own.
type Step<I, T> = Arc<dyn Fn(&mut Lane, I) -> Result<T> + Send + Sync>;

/// Threads that wait for work, and end when this is dropped.
pub struct Workers(Vec<Sender<Task>>);

impl Workers {
    /// One thread for each lane; one lane alone works on the engine's own.
    pub fn new(lanes: usize) -> Result<Workers> {
        let mut workers = Vec::new();
        for lane in 0..if lanes == 1 { 0 } else { lanes } {
            let (tasks, waiting) = channel::<Task>();
            std::thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || waiting.into_iter().for_each(|task| task()))
                .map_err(|error| {
                    Error::retry("a lane's thread could not be started").caused_by(error)
                })?;
            workers.push(tasks);
        }
        Ok(Workers(workers))
    }

    /// Takes a step on every lane at the same time; the results are in the order of the lanes.
    pub fn step<I: Send + 'static, T: Send + 'static>(
        &self,
        lanes: &mut Vec<Lane>,
        inputs: Vec<I>,
        step: impl Fn(&mut Lane, I) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        if self.0.is_empty() {
            return lanes
                .iter_mut()
                .zip(inputs)
                .map(|(lane, input)| step(lane, input))
                .collect();
        }
        let step: Step<I, T> = Arc::new(step);
        let mut answers = Vec::with_capacity(lanes.len());
        for ((worker, mut lane), input) in self.0.iter().zip(lanes.drain(..)).zip(inputs) {
            let (answer, answered) = channel();
            let step = Arc::clone(&step);
            let task: Task = Box::new(move || {
                let result = catch_unwind(AssertUnwindSafe(|| step(&mut lane, input)));
                let _ = answer.send((lane, result));
            });
            worker.send(task).map_err(|_| gone())?;
            answers.push(answered);
        }
        let mut results = Vec::with_capacity(answers.len());
        for answered in answers {
            let (lane, result) = Receiver::recv(&answered).map_err(|_| gone())?;
            lanes.push(lane);
            results.push(result.unwrap_or_else(|_| Err(gone())));
        }
        results.into_iter().collect()
    }
}

fn gone() -> Error {
    Error::bug("a lane panicked; see the message above")
}
