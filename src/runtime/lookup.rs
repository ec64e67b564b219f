//! A lookup join on one lane: the operator, and the table that it asks.

use crate::error::Error;
use crate::error::Result;
use crate::lookup::Lookup;
use crate::operator::Output;
use crate::operator::lookup::{Found, LookupJoinOperator};
use crate::plan::{Node, Op};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// Asks for what the operator needs, and tells it.
pub struct LaneLookup {
    operator: LookupJoinOperator,
    table: Box<dyn Lookup>,
    read: SchemaRef,
    place: String,
}

impl LaneLookup {
    pub fn new(node: &Node, table: Box<dyn Lookup>) -> Result<LaneLookup> {
        let place = format!("{}: {}", node.place, node.name);
        let Op::Lookup(spec) = &node.op else {
            return Err(Error::bug(format!("{place} looks nothing up")));
        };
        let operator = LookupJoinOperator::new(spec, Arc::clone(&node.schema));
        Ok(LaneLookup {
            operator: operator.map_err(|error| error.at(&place))?,
            table,
            read: Arc::clone(&spec.read),
            place,
        })
    }

    /// Joins a batch with what the table has now. While its server is away the lane waits.
    pub fn on_batch(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        self.try_batch(batch, out)
            .map_err(|error| error.at(&self.place))
    }

    fn try_batch(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let asked = self.operator.ask(batch)?;
        let found = match asked.keys.num_rows() {
            0 => Found::nothing(&self.read),
            _ => self.table.find(&asked.keys)?,
        };
        self.operator.join(batch, &asked, &found, out)
    }
}
