//! The whole process, on folders of its own: small jobs that are killed at named steps, started again, and changed between two starts.

#[path = "process/changed.rs"]
mod changed;
#[path = "process/letters.rs"]
mod letters;
#[path = "process/place.rs"]
mod place;
#[path = "process/sources.rs"]
mod sources;
