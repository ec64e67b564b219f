//! What is done with rows: pure, synchronous state machines.
//!
//! An [`Operator`] takes batches and watermarks and gives batches. It does no I/O, reads no clock
//! and draws no random number, so the same calls give the same rows always: in a test, in a
//! replay, after a crash. It keeps its state in columns and hands them out as a [`Snapshot`].
//!
//! How rows are told apart: the hidden columns of [`hidden`] travel at the end of a batch that came
//! straight from a source, up to the first keyed operator. They say where the row came from, and
//! which watermark was in force just before it, so that lateness is judged row by row, as Flink
//! does, although rows travel in batches.

pub mod changes;
mod expr;
pub mod first;
pub mod group;
pub mod guard;
pub mod interval_join;
pub mod keys;
pub mod lookup;
pub mod operation;
pub mod over;
mod pages;
pub mod project;
pub mod rank;
mod state;
pub mod union;
pub mod unnest;
pub mod watermark;
pub mod window;

use crate::error::Result;
use crate::plan::{Gives, Node, Op};
use crate::time::Progress;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Columns that no job sees.
pub mod hidden {
    use crate::sql::names::HIDDEN;
    use arrow::datatypes::{DataType, Field, FieldRef, Schema};
    use std::sync::Arc;

    /// Int32: which split the row came from, an index into the engine's list of splits.
    pub const SPLIT: &str = HIDDEN[0];
    /// Int64: the Kafka offset, or the record's number in its file.
    pub const OFFSET: &str = HIDDEN[1];
    /// Int64, never NULL: the source's watermark just before this row, in milliseconds.
    pub const WATERMARK: &str = HIDDEN[2];
    /// Int8: what a row does to the result (see `changes::Kind`). The last column, and only where results change; never beside
    /// the others, which end before the first operator that changes its mind.
    pub const KIND: &str = HIDDEN[3];

    /// Those that say where a row came from, in the order in which they stand at the end of a batch.
    pub fn fields() -> Vec<FieldRef> {
        [
            (SPLIT, DataType::Int32),
            (OFFSET, DataType::Int64),
            (WATERMARK, DataType::Int64),
        ]
        .map(|(name, data_type)| Arc::new(Field::new(name, data_type, false)))
        .to_vec()
    }

    /// How many there are.
    pub const COUNT: usize = 3;

    /// How many columns stand before the hidden ones: all of them, where there are none.
    pub fn visible(schema: &Schema) -> usize {
        schema
            .fields()
            .iter()
            .position(|field| HIDDEN.contains(&field.name().as_str()))
            .unwrap_or(schema.fields().len())
    }

    /// Where the watermark of each row is found, if the rows carry one.
    pub fn watermark(schema: &Schema) -> Option<usize> {
        schema
            .fields()
            .iter()
            .position(|field| field.name() == WATERMARK)
    }
}

/// The operator for a node of the plan, fresh and without state; None for scans and sinks, which are not operators, and for lookup
/// joins, which have to be told what was found.
/// `inputs` are the schemas of the node's inputs, hidden columns included.
pub fn build(node: &Node, inputs: &[SchemaRef]) -> Result<Option<Box<dyn Operator>>> {
    let schema = &node.schema;
    let operator: Result<Box<dyn Operator>> = match &node.op {
        Op::Scan(_) | Op::Sink(_) | Op::Lookup(_) => return Ok(None),
        Op::Project { exprs } => Ok(Box::new(project::Project::new(
            exprs.clone(),
            schema.clone(),
        ))),
        Op::Filter { predicate } => Ok(Box::new(project::Filter::new(predicate.clone()))),
        Op::Union => Ok(Box::new(union::Union::new(inputs.len(), schema.clone()))),
        Op::Window(spec) => window::Windows::new(spec, schema.clone(), inputs)
            .map(|operator| Box::new(operator) as Box<dyn Operator>),
        Op::Group(spec) => group::GroupAggregate::new(spec, schema.clone(), inputs)
            .map(|operator| Box::new(operator) as Box<dyn Operator>),
        Op::Rank(spec) if matches!(spec.gives, Gives::AtTime(_)) => {
            first::FirstRows::new(spec, schema.clone(), inputs)
                .map(|operator| Box::new(operator) as Box<dyn Operator>)
        }
        Op::Rank(spec) => rank::TopRows::new(spec, schema.clone(), inputs)
            .map(|operator| Box::new(operator) as Box<dyn Operator>),
        Op::IntervalJoin(spec) => {
            interval_join::IntervalJoinOperator::new(spec, schema.clone(), inputs)
                .map(|operator| Box::new(operator) as Box<dyn Operator>)
        }
        Op::Over(spec) => over::Over::new(spec, schema.clone(), inputs)
            .map(|operator| Box::new(operator) as Box<dyn Operator>),
        Op::Unnest(spec) => Ok(Box::new(unnest::UnnestRows::new(spec, schema.clone()))),
    };
    let place = format!("{}: {}", node.place, node.name);
    match operator {
        Ok(operator) => Ok(Some(Box::new(Placed { operator, place }))),
        Err(error) => Err(error.at(place)),
    }
}

/// The keys by which rows must be sent to lanes before they reach this input of a node; None where any lane will do.
pub fn exchange_keys(op: &Op, input: usize) -> Option<&[Arc<dyn PhysicalExpr>]> {
    match op {
        Op::Scan(_) | Op::Sink(_) | Op::Project { .. } | Op::Filter { .. } | Op::Union => None,
        Op::Unnest(_) | Op::Lookup(_) => None,
        Op::Over(over) => Some(&over.keys),
        Op::Window(window) => Some(&window.keys),
        Op::Group(group) => Some(&group.keys),
        Op::Rank(rank) => Some(&rank.partition),
        Op::IntervalJoin(join) if input == 0 => Some(&join.left_keys),
        Op::IntervalJoin(join) => Some(&join.right_keys),
    }
}

/// A state machine over batches. One instance lives on each lane and sees the keys of that lane.
pub trait Operator: Send {
    /// Takes a batch that arrived at input number `input`.
    fn on_batch(&mut self, input: usize, batch: RecordBatch, out: &mut Output) -> Result<()>;

    /// Learns how far each input has come, after every row that came before it; `progress` has one
    /// entry for each input and none ever goes back. Returns how far this operator's own output has
    /// come: no row that it emits later is older than that.
    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress>;

    /// The whole state, or what is new of it: see [`StatePart::id`]. Cheap where it can share columns; later calls on the operator do not
    /// change it.
    fn snapshot(&mut self) -> Result<Snapshot>;

    /// Puts state back into a fresh instance. Called once for each part of each old lane's snapshot, with
    /// only the rows whose keys belong to this lane, before any batch.
    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()>;

    /// Bytes of state held, for the memory budget and the metrics.
    fn state_bytes(&self) -> usize;
}

/// An operator's state as named tables; one may come in several parts with its name.
pub type Snapshot = Vec<StatePart>;

/// Rows of one table of an operator's state. When the job starts again on another number of lanes, each row goes to
/// the lane that its keys belong to.
#[derive(Debug, Clone)]
pub struct StatePart {
    pub name: &'static str,
    /// A number for rows that may stay as they are, so that they need not be written again: later snapshots of the same operator may say
    /// no more than it.
    pub id: Option<u64>,
    /// None: the rows that an earlier snapshot gave under this number, which every snapshot in between had, too.
    pub rows: Option<RecordBatch>,
    /// How many of the first columns are the key; 0 sends every row to the first lane.
    pub key_columns: usize,
}

/// What an operator gives back from one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for the operators behind it, in order.
    pub batches: Vec<RecordBatch>,
    /// Rows that came too late, as they arrived (hidden columns included), each batch with the sentence that says
    /// what they were late for.
    pub late: Vec<(RecordBatch, String)>,
    /// Rows that cannot go on, since what they need cannot be read; likewise.
    pub refused: Vec<(RecordBatch, String)>,
    /// Rows of the batch that went on or into the state, counted where that happens.
    pub used: u64,
    /// Rows that a predicate dropped.
    pub filtered: u64,
}

/// Says in every error where in the job file the operator comes from.
struct Placed {
    operator: Box<dyn Operator>,
    place: String,
}

impl Operator for Placed {
    fn on_batch(&mut self, input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        self.operator
            .on_batch(input, batch, out)
            .map_err(|error| error.at(&self.place))
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        self.operator
            .on_watermark(progress, out)
            .map_err(|error| error.at(&self.place))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        self.operator
            .snapshot()
            .map_err(|error| error.at(&self.place))
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        self.operator
            .restore(part, rows)
            .map_err(|error| error.at(&self.place))
    }

    fn state_bytes(&self) -> usize {
        self.operator.state_bytes()
    }
}
