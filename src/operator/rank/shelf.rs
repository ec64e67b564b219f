//! Rows under numbers, so that a snapshot finds them page by page.

use crate::error::Result;
use crate::operator::Snapshot;
use crate::operator::pages::Pages;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// A row that is kept.
pub struct Stored {
    pub partition: Arc<[u8]>,
    pub row: Arc<[u8]>,
    /// What its place in the order of its partition takes.
    pub place_bytes: usize,
    /// Counted on this lane; only the order within a partition means something.
    pub arrival: u64,
    /// How many rows with these values there are.
    pub copies: i64,
}

impl Stored {
    fn bytes(&self) -> usize {
        self.row.len() + self.place_bytes
    }
}

/// All rows that are kept. Numbers that are free are given again.
#[derive(Default)]
pub struct Shelf {
    rows: Vec<Option<Stored>>,
    free: Vec<usize>,
    pages: Pages,
    bytes: usize,
}

impl Shelf {
    pub fn put(&mut self, stored: Stored) -> usize {
        let at = self.free.pop().unwrap_or(self.rows.len());
        if at == self.rows.len() {
            self.rows.push(None);
        }
        self.bytes += stored.bytes();
        self.rows[at] = Some(stored);
        self.pages.touch(at);
        at
    }

    pub fn get(&self, at: usize) -> Option<&Stored> {
        self.rows.get(at).and_then(Option::as_ref)
    }

    /// How many there are afterwards.
    pub fn add_copies(&mut self, at: usize, more: i64) -> i64 {
        self.pages.touch(at);
        let Some(stored) = self.rows.get_mut(at).and_then(Option::as_mut) else {
            return 0;
        };
        stored.copies += more;
        stored.copies
    }

    pub fn remove(&mut self, at: usize) {
        if let Some(stored) = self.rows.get_mut(at).and_then(Option::take) {
            self.bytes -= stored.bytes();
            self.free.push(at);
            self.pages.touch(at);
        }
    }

    /// The parts of a snapshot, of each page the rows that lie in it.
    pub fn parts(
        &mut self,
        name: &'static str,
        key_columns: usize,
        table: impl Fn(&[&Stored]) -> Result<RecordBatch>,
    ) -> Result<Snapshot> {
        let rows = &self.rows;
        self.pages.parts(name, key_columns, |numbers| {
            let page = &rows[numbers.start..numbers.end.min(rows.len())];
            let stored: Vec<&Stored> = page.iter().flatten().collect();
            table(&stored)
        })
    }

    /// All that is kept, with where it stands.
    pub fn bytes(&self) -> usize {
        self.bytes + self.rows.capacity() * size_of::<Option<Stored>>()
    }
}
