//! What drives the operators: rounds.
//!
//! A job runs on *lanes*, one for each core. Every lane has its own instance of each operator and sink of the plan,
//! and owns some of the splits. The engine works in rounds:
//!
//! 1. every lane polls its splits, decodes, finds watermarks, and pushes the rows through the operators that need no
//!    exchange, down to the sinks or to the doors of keyed operators;
//! 2. stage by stage, the rows at those doors change lanes by the hash of their keys, and the keyed operators take them;
//! 3. the watermarks of all splits together go through the operators, in the order of the plan.
//!
//! Between two rounds nothing is under way. So a barrier is just such a gap: every operator is asked for its state, every
//! sink stages, and a task beside the lanes makes the epoch durable, commits and publishes it while the next rounds run.
//!
//! Guarantee: the rows that operators see, and their order, follow from what the readers returned in each round
//! and from nothing else: no lock, queue or thread decides it.

mod books;
mod engine;
mod exchange;
mod heirs;
mod lane;
mod letters;
mod lookup;
mod run;
mod scan;
mod splits;
mod workers;

pub use engine::{Connections, Engine, Parts, ask_sources, millis};
pub use letters::Addresses;
pub use run::{Event, Finish, Run, Stop};
