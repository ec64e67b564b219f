//! Compaction as a whole: dying at every step, every fault of the store, readers and writers meanwhile.

mod chaos;
mod choice;
mod rows;
mod world;
