//! Jobs tested as data: the runner behind `tributary test`, for a user's jobs and for the engine itself.
//!
//! A case is a text file: a job, what arrives, and what must be seen in its tables at the end. The runner executes it many
//! ways: as it stands, record by record, in batches of random sizes, on several lanes, with a crash after every step, and with another
//! number of lanes after each crash. The expectation is one. Sources and sinks are queues in memory; decoding, planning, operators,
//! epochs and recovery are the real ones.

mod case;
mod compare;
mod held;
mod runner;
mod world;

pub use case::Case;
pub use runner::{Outcome, run_file};
