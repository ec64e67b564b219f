//! Tributary: events from Kafka, joined and windowed by event time, landed exactly once as partitioned Parquet.
//!
//! # The life of one event
//!
//! A job is a `.sql` file. [`sql`] reads it, [`config`] takes its settings, and [`plan`] turns it into a graph of
//! operators. [`runtime`] runs that graph in rounds, on one lane for each core:
//!
//! 1. A [`source`] has the event as bytes, in a split (a Kafka partition, say) at a position.
//! 2. [`decode`] turns the bytes into columns. A record that is no good becomes a dead letter.
//! 3. An [`operator`] finds its event time and the watermark, computes columns, drops it or keeps it. Where rows of one key must
//!    meet (a window, a join), they change lanes first. A [`lookup`] finds what another table has for it.
//! 4. A [`sink`] writes it into a file that nobody sees yet.
//! 5. At the next barrier, [`epoch`] makes everything durable and commits it with one create-only object; then the file becomes visible.
//!
//! [`store`] is where files and epochs lie: a local folder or a bucket; [`aws`] says who we are there, and [`mongo`] how a MongoDB is spoken to. [`catalog`] is told of the tables and partitions. [`registry`] has the schemas of records that are [`avro`]. [`lake`] reads what is published. [`http`] tells how it goes.
//! [`generate`] makes events to try it with, and [`testing`] runs jobs as data. [`cli`] is the command.
//! Only [`clock`] knows what time it is; [`time`] is the time that events carry, [`calendar`] which times have dates; every failure is an [`error`] of one of six kinds.

pub mod cli;
pub mod config;
pub mod sql;

pub mod plan;
pub mod runtime;

pub mod source;

pub mod decode;

pub mod avro;
pub mod registry;

pub mod operator;

pub mod lookup;

pub mod sink;

pub mod epoch;
pub mod store;

pub mod aws;
pub mod mongo;

pub mod catalog;

pub mod lake;

pub mod http;

pub mod generate;
pub mod testing;

pub mod calendar;
pub mod clock;
pub mod error;
pub mod time;
