//! What a lane counts, until a barrier puts it into the job's ledger.

use crate::decode::Reason;
use crate::epoch::{OperatorBook, SourceBook};
use crate::plan::NodeId;
use std::collections::BTreeMap;

/// What a lane counted since the last barrier.
#[derive(Debug, Default)]
pub struct Books {
    /// By the table that is read.
    pub sources: BTreeMap<String, SourceBook>,
    pub operators: BTreeMap<NodeId, OperatorBook>,
    /// Rows that a table could not hold, by table.
    pub rejected: BTreeMap<String, u64>,
    /// By source, or late operator, and reason.
    pub letters: BTreeMap<(String, Reason), u64>,
}

impl SourceBook {
    pub fn add(&mut self, more: &SourceBook) {
        self.records += more.records;
        self.decoded += more.decoded;
        self.null += more.null;
        self.malformed += more.malformed;
        self.ignored += more.ignored;
        self.rows += more.rows;
        self.accepted += more.accepted;
        self.refused += more.refused;
    }
}

impl OperatorBook {
    pub fn add(&mut self, more: &OperatorBook) {
        self.rows_in += more.rows_in;
        self.used += more.used;
        self.filtered += more.filtered;
        self.late += more.late;
        self.refused += more.refused;
    }
}
