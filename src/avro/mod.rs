//! Avro, as far as reading and writing share it: schemas, and the bytes of values.
//!
//! Written by hand, since each record has to be judged alone: a batch decoder that breaks in the middle of a record has spoilt the rows
//! before it. The tests compare it with `arrow-avro`, which is somebody else's.

mod bytes;
mod columns;
mod defaults;
mod rules;
mod schema;
mod wire;

pub use bytes::{Broken, Cursor, put_bytes, put_long};
pub use columns::{fits, of_columns};
pub use defaults::encode_default;
pub use rules::keeps_the_rules;
pub use schema::{Definition, Field, Meaning, Schema, Type, is_name};
pub use wire::{HEAD, ID_AT, head, parts};
