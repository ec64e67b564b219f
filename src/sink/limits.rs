//! How large a record may be that goes to a table, as its publisher has learnt it from the server, for the lanes that make records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// By table. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RecordLimits(Arc<Mutex<BTreeMap<String, usize>>>);

impl RecordLimits {
    pub(super) fn learn(&self, table: &str, bytes: usize) {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limits.insert(table.to_string(), bytes);
    }

    pub(super) fn of(&self, table: &str) -> Option<usize> {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(table).copied()
    }
}
