//! From statements to a graph of operators.
//!
//! [`Graph`] is the whole job: what is read, what is done, and where it lands, as nodes in an order in which
//! every node stands behind its inputs. Equal sub-queries are one node, so several INSERTs that read one table
//! (or one view) share its scan, its decoding and its computed columns; columns that nobody uses are not decoded.
//!
//! The graph is plain data: nothing is opened, and nothing in it depends on how many lanes will run it.

mod bind;
mod calls;
mod changes;
mod describe;
mod draft;
mod explain;
mod group;
mod hidden;
mod join;
mod lookup;
mod lower;
mod meaning;
mod merge;
mod origin;
mod over;
mod overlap;
mod prune;
mod rank;
mod rules;
mod scan;
mod script;
mod sink;
mod trouble;
mod unnest;
mod window;

#[cfg(test)]
pub(crate) mod tests;

pub use explain::{Format, explain};
pub use meaning::{Meaning, meanings};
pub use origin::Origin;
pub use script::plan;

use crate::time::EventTime;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

pub type NodeId = usize;

/// A planned job.
#[derive(Debug, Clone)]
pub struct Graph {
    /// `pipeline.name`, or the file's name without `.sql`.
    pub name: String,
    /// In topological order: every input of a node stands before it.
    pub nodes: Vec<Node>,
}

/// One step of the job.
#[derive(Debug, Clone)]
pub struct Node {
    pub inputs: Vec<NodeId>,
    pub op: Op,
    /// The columns that come out, hidden ones ([`crate::operator::hidden`]) last where the node passes them on.
    pub schema: SchemaRef,
    /// What a person calls it: the table, the view, or the kind of operator. Unique in the graph, and the same after a
    /// restart with the same text; across a change of the text nodes are known again by their [`Meaning`].
    pub name: String,
    /// `file:line:column` of the clause that it came from.
    pub place: String,
}

#[derive(Debug, Clone)]
pub enum Op {
    Scan(Scan),
    /// New columns out of the input's; hidden columns are passed on by expressions too.
    Project {
        exprs: Vec<Arc<dyn PhysicalExpr>>,
    },
    /// Keeps rows for which the predicate is true.
    Filter {
        predicate: Arc<dyn PhysicalExpr>,
    },
    Union,
    Window(WindowAggregate),
    Group(GroupAggregate),
    Rank(Rank),
    IntervalJoin(IntervalJoin),
    Over(OverAggregate),
    Unnest(Unnest),
    Lookup(LookupJoin),
    Sink(SinkTable),
}

/// Reads a table: decode, metadata columns, computed columns, watermark; in this order.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The table as declared, with its connector and format options.
    pub table: Arc<crate::sql::Table>,
    /// The physical columns to decode, a part of the table's, in its order.
    pub decoded: SchemaRef,
    /// For each decoded column whether NULL is refused (NOT NULL).
    pub required: Vec<bool>,
    /// Metadata columns to add behind the decoded ones.
    pub metadata: Vec<Metadata>,
    /// The node's columns (without the hidden ones), over the decoded and metadata columns.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// How event time is found, where the table has a WATERMARK.
    pub watermark: Option<Watermark>,
    /// Whether the rows carry hidden columns: a keyed operator is behind this scan.
    pub hidden: bool,
}

#[derive(Debug, Clone)]
pub struct Metadata {
    pub name: String,
    pub key: MetadataKey,
}

/// What a connector knows about a record beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataKey {
    Topic,
    Partition,
    Offset,
    /// TIMESTAMP_LTZ(3): the record's timestamp.
    Timestamp,
    TimestampType,
    /// MAP<STRING, BYTES>.
    Headers,
    /// `file.path` of the filesystem connector, and the three that follow.
    FilePath,
    FileName,
    FileSize,
    FileModificationTime,
    /// TIMESTAMP_LTZ(3): when the round began that read the record. No connector has it: PROCTIME() and its kin are it.
    Clock,
}

#[derive(Debug, Clone)]
pub struct Watermark {
    /// The event-time column as milliseconds since 1970 (Int64), over the decoded and metadata columns.
    pub rowtime: Arc<dyn PhysicalExpr>,
    /// The watermark's value for a row, milliseconds since 1970 (Int64), over the same columns.
    pub value: Arc<dyn PhysicalExpr>,
}

/// GROUP BY a window and keys. Its columns come out as: window_start, window_end, window_time, the keys, the aggregates;
/// a Project behind it makes the SELECT list.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    pub window: Window,
    /// Event time of a row, milliseconds since 1970 (Int64), over the input's columns.
    pub time: Arc<dyn PhysicalExpr>,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub aggregates: Vec<Aggregate>,
}

/// How rows are put into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Tumble {
        size_ms: i64,
        offset_ms: i64,
    },
    /// One begins at each slide; the size is a multiple of it.
    Hop {
        slide_ms: i64,
        size_ms: i64,
        offset_ms: i64,
    },
    /// From each start one ends at each step, up to the size, which is a multiple of it.
    Cumulate {
        step_ms: i64,
        size_ms: i64,
        offset_ms: i64,
    },
}

impl Window {
    /// Each window is made of whole slices of this length, and one ends with each slice.
    pub fn slice_ms(self) -> i64 {
        match self {
            Window::Tumble { size_ms, .. } => size_ms,
            Window::Hop { slide_ms, .. } => slide_ms,
            Window::Cumulate { step_ms, .. } => step_ms,
        }
    }

    pub fn size_ms(self) -> i64 {
        let (Window::Tumble { size_ms, .. }
        | Window::Hop { size_ms, .. }
        | Window::Cumulate { size_ms, .. }) = self;
        size_ms
    }

    pub fn offset_ms(self) -> i64 {
        let (Window::Tumble { offset_ms, .. }
        | Window::Hop { offset_ms, .. }
        | Window::Cumulate { offset_ms, .. }) = self;
        offset_ms
    }

    /// Where the window with this end begins.
    pub fn start_of(self, end: i64) -> i64 {
        match self {
            Window::Tumble { size_ms, .. } | Window::Hop { size_ms, .. } => {
                end.saturating_sub(size_ms)
            }
            Window::Cumulate {
                size_ms, offset_ms, ..
            } => {
                let into = end.saturating_sub(1).saturating_sub(offset_ms);
                end.saturating_sub(1)
                    .saturating_sub(into.rem_euclid(size_ms))
            }
        }
    }

    /// The end of the last window that the slice with this end belongs to.
    pub fn last_end(self, slice_end: i64) -> i64 {
        match self {
            Window::Tumble { .. } => slice_end,
            Window::Hop {
                slide_ms, size_ms, ..
            } => slice_end.saturating_add(size_ms - slide_ms),
            Window::Cumulate { size_ms, .. } => self.start_of(slice_end).saturating_add(size_ms),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Aggregate {
    pub function: Arc<AggregateFunctionExpr>,
    /// FILTER (WHERE ..), over the input's columns.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// GROUP BY keys without a window, whose results change. Its columns come out as: the keys, the aggregates, and the kind of change.
#[derive(Debug, Clone)]
pub struct GroupAggregate {
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub aggregates: Vec<Aggregate>,
}

/// The first rows of each partition in an order: ROW_NUMBER. Its columns come out as: the input's (without hidden ones), the number
/// where it is asked for, and the kind of change where results change.
#[derive(Debug, Clone)]
pub struct Rank {
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    pub order: Vec<OrderBy>,
    /// How many rows of each partition come out; None only while the job is planned.
    pub limit: Option<usize>,
    /// Whether the row's number comes out, as the last column that is seen.
    pub number: bool,
    /// Of rows that the order does not tell apart, the one that came last stands first: Flink's deduplication that keeps the last row.
    pub newest_first: bool,
    /// Whether rows that come in may take others back.
    pub input_changes: bool,
    pub gives: Gives,
}

/// One expression of an ORDER BY.
#[derive(Debug, Clone)]
pub struct OrderBy {
    pub expr: Arc<dyn PhysicalExpr>,
    pub options: SortOptions,
}

/// When a rank's rows come out.
#[derive(Debug, Clone)]
pub enum Gives {
    /// At once; they are taken back when others stand before them.
    Changes,
    /// Once, when the window ends that each partition belongs to: milliseconds since 1970 (Int64), over the input's columns.
    AtWindowEnd(Arc<dyn PhysicalExpr>),
    /// Once, when the watermark reaches their time; they are the first by this time, in milliseconds, and there is one for each partition.
    AtTime(Arc<dyn PhysicalExpr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

impl JoinKind {
    /// As a person says it.
    pub fn words(self) -> &'static str {
        match self {
            JoinKind::Inner => "inner",
            JoinKind::Left => "left outer",
            JoinKind::Right => "right outer",
            JoinKind::Full => "full outer",
        }
    }
}

/// A join of two inputs whose event times are near each other:
/// `lower_ms <= left.time - right.time <= upper_ms`. Its columns come out as: all of the left (without hidden ones), then all of the
/// right (without hidden ones).
#[derive(Debug, Clone)]
pub struct IntervalJoin {
    pub kind: JoinKind,
    pub left_keys: Vec<Arc<dyn PhysicalExpr>>,
    pub right_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Event times, milliseconds since 1970 (Int64), over each input's columns.
    pub left_time: Arc<dyn PhysicalExpr>,
    pub right_time: Arc<dyn PhysicalExpr>,
    pub lower_ms: i64,
    pub upper_ms: i64,
    /// What else the ON clause asks, over the output's columns.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// Aggregates OVER the rows before a row. Its columns come out as: all of the input (without hidden ones), then the calls.
#[derive(Debug, Clone)]
pub struct OverAggregate {
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Event time, milliseconds since 1970 (Int64), over the input's columns; None: rows come out as they arrive.
    pub time: Option<Arc<dyn PhysicalExpr>>,
    pub frame: Frame,
    pub calls: Vec<OverCall>,
}

/// Which rows count for a row, beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// All before it.
    AllRows,
    /// All before it, and all of the same moment.
    AllRange,
    /// So many before it.
    Rows(u64),
    /// Those that are older by no more than so many milliseconds, and all of the same moment.
    Range(i64),
}

impl Frame {
    /// Whether rows leave the frame again.
    pub fn slides(self) -> bool {
        matches!(self, Frame::Rows(_) | Frame::Range(_))
    }

    /// Whether a row is so old that what its frame would hold may be forgotten.
    pub fn has_passed(self, time: i64, watermark: i64) -> bool {
        matches!(self, Frame::Range(millis) if time.saturating_add(millis) < watermark)
    }

    /// Whether rows of one moment have one result.
    pub fn is_range(self) -> bool {
        matches!(self, Frame::AllRange | Frame::Range(_))
    }
}

/// One result of an OVER.
#[derive(Debug, Clone, PartialEq)]
pub struct OverCall {
    pub function: Running,
    /// None: COUNT(*).
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// As a person writes it.
    pub name: String,
}

/// An aggregate that gives its result row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    Count,
    CountDistinct,
    /// Over BIGINT, DOUBLE or DECIMAL.
    Sum,
    Min,
    Max,
    First,
    Last,
    /// How often each value was there.
    Collect,
}

/// One row for each element of an array or a map. Its columns come out as: those of the input that are kept, the elements' columns, the
/// number of the element where it is asked for; hidden columns last.
#[derive(Debug, Clone)]
pub struct Unnest {
    pub array: Arc<dyn PhysicalExpr>,
    /// The columns of the input that each element's row has too, by their places. The array itself is seldom one of them: it would be
    /// repeated for each of its own elements.
    pub keep: Vec<usize>,
    /// A row without elements comes out once, with NULLs.
    pub outer: bool,
    pub ordinality: bool,
}

/// Each row with the rows of another table that have its values in some columns at that moment. Its columns come out as: all of the
/// input, then the table's; hidden columns last.
#[derive(Debug, Clone)]
pub struct LookupJoin {
    /// The table as declared, with its connector and options.
    pub table: Arc<crate::sql::Table>,
    /// What is read of the rows that are found: a part of the table's physical columns, in its order. One that is not nullable is
    /// NOT NULL.
    pub read: SchemaRef,
    pub keys: Vec<LookupKey>,
    /// The table's columns as they come out, over those that are read.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// What else is asked, over the output's columns.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// A row that finds nothing comes out once, with NULLs.
    pub outer: bool,
}

/// One column by which rows are looked up.
#[derive(Debug, Clone)]
pub struct LookupKey {
    /// Which of the columns that are read.
    pub column: usize,
    /// What it has to be, over the input's columns, in the column's own type.
    pub value: Arc<dyn PhysicalExpr>,
}

impl PartialEq for LookupKey {
    fn eq(&self, other: &Self) -> bool {
        self.column == other.column && *self.value == *other.value
    }
}

/// Writes into a table.
#[derive(Debug, Clone)]
pub struct SinkTable {
    /// The table as declared, with its connector and format options. The node's input has exactly its columns, in its order, in the
    /// Arrow types of [`crate::sql::types`].
    pub table: Arc<crate::sql::Table>,
}

impl Gives {
    /// Whether rows are taken back.
    pub fn changes(&self) -> bool {
        matches!(self, Gives::Changes)
    }
}

impl Op {
    /// Whether rows are brought together by key, and remembered.
    pub fn is_keyed(&self) -> bool {
        matches!(
            self,
            Op::Window(_) | Op::Group(_) | Op::Rank(_) | Op::IntervalJoin(_) | Op::Over(_)
        )
    }

    /// The word for this kind of node in explain, metrics and the names of state.
    pub fn word(&self) -> &'static str {
        match self {
            Op::Scan(_) => "scan",
            Op::Project { .. } => "project",
            Op::Filter { .. } => "filter",
            Op::Union => "union",
            Op::Window(_) => "window",
            Op::Group(_) => "group",
            Op::Rank(_) => "rank",
            Op::IntervalJoin(_) => "interval join",
            Op::Over(_) => "over",
            Op::Unnest(_) => "unnest",
            Op::Lookup(_) => "lookup",
            Op::Sink(_) => "sink",
        }
    }
}

/// The start of the tumbling window that holds `at`.
pub fn tumble_start(at: EventTime, size_ms: i64, offset_ms: i64) -> EventTime {
    EventTime(at.0 - (at.0 - offset_ms).rem_euclid(size_ms))
}
