//! What a record may be that goes to a table, as its publisher has learnt it from the server, for the lanes that make records.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

/// By table. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RecordLimits(Arc<Mutex<BTreeMap<String, Limits>>>);

/// What the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// How large a record may be.
    pub bytes: usize,
    /// How far the time of a record may be behind the server's, and ahead of it.
    pub behind_ms: i64,
    pub ahead_ms: i64,
}

impl Limits {
    /// Everything is taken.
    pub const NONE: Limits = Limits {
        bytes: usize::MAX,
        behind_ms: i64::MAX,
        ahead_ms: i64::MAX,
    };

    /// The times, in milliseconds since 1970, that a record may have now. No server takes one before that year.
    pub fn times(self, now_ms: i64) -> RangeInclusive<i64> {
        let first = now_ms.saturating_sub(self.behind_ms).max(0);
        first..=now_ms.saturating_add(self.ahead_ms)
    }
}

impl RecordLimits {
    pub(super) fn learn(&self, table: &str, limits: Limits) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(table.to_string(), limits);
    }

    /// Nothing is limited as long as nothing was learnt.
    pub(super) fn of(&self, table: &str) -> Limits {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(table).copied().unwrap_or(Limits::NONE)
    }
}
