//! What lies in the lake, once it is published: reading it.
//!
//! Guarantee: only what any reader of the lake would see is read. Nothing in a folder or file whose name begins with `_` or
//! `.` is: neither what is staged, nor what belongs to other tools.

#[cfg(test)]
mod catalog_tests;
mod catalogued;
pub mod compact;
mod conform;
mod nulls;
mod partitions;
mod print;
pub mod query;
mod registry;
pub mod tables;
mod visible;
