//! Operators against models that work row by row.
//!
//! Rows arrive in rounds, as the engine brings them: every input's rows of a round, cut into batches anywhere and shared
//! out to lanes by key, then the watermark. Between rounds the job may stop and start again from its snapshots on
//! another number of lanes. None of this may show in what comes out.

#[path = "properties/changes.rs"]
mod changes;
#[path = "properties/engine.rs"]
mod engine;
#[path = "properties/join.rs"]
mod join;
#[path = "properties/over.rs"]
mod over;
#[path = "properties/window.rs"]
mod window;
