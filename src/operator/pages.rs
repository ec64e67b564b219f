//! State that is numbered from 0 on, cut into pages: a snapshot writes again only the pages in which something has changed.

use crate::error::Result;
use crate::operator::{Snapshot, StatePart};
use arrow::record_batch::RecordBatch;
use std::ops::Range;

/// How many numbers a page has.
pub(super) const PAGE: usize = 4096;

/// Which pages an earlier snapshot has as they are.
#[derive(Default)]
pub(super) struct Pages {
    /// For each page the number under which it was saved.
    saved: Vec<Option<u64>>,
    /// How many were saved, for their numbers.
    saves: u64,
}

impl Pages {
    /// Something under this number is new, or another, or gone.
    pub fn touch(&mut self, number: usize) {
        let page = number / PAGE;
        if page >= self.saved.len() {
            self.saved.resize(page + 1, None);
        }
        self.saved[page] = None;
    }

    /// The parts of a snapshot: `rows` gives what lies under the numbers of a page, no rows where there is nothing.
    pub fn parts(
        &mut self,
        name: &'static str,
        key_columns: usize,
        mut rows: impl FnMut(Range<usize>) -> Result<RecordBatch>,
    ) -> Result<Snapshot> {
        let mut parts = Snapshot::new();
        for page in 0..self.saved.len() {
            let part = |id, rows| StatePart {
                name,
                id,
                rows,
                key_columns,
            };
            if let Some(id) = self.saved[page] {
                parts.push(part(Some(id), None));
                continue;
            }
            let rows = rows(page * PAGE..(page + 1) * PAGE)?;
            if rows.num_rows() == 0 {
                continue;
            }
            self.saves += 1;
            self.saved[page] = Some(self.saves);
            parts.push(part(Some(self.saves), Some(rows)));
        }
        Ok(parts)
    }
}
