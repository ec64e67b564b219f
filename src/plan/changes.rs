//! Results that change: which nodes give them, by which key, and who can take them.
//!
//! Nothing of this is written down in the nodes: it follows from what they do. The column that says what a row does to the result
//! ([`hidden::KIND`]) is added when the graph is finished.

use super::draft::{Draft, Drafts, Expr, as_column, column};
use super::lower::Lowering;
use super::rank::{FORM, UNBOUNDED};
use super::rules::cast_target;
use super::trouble::{Planned, refused};
use super::{NodeId, Op, Rank, SinkTable};
use crate::error::Result;
use crate::operator::changes::{self, Kind};
use crate::sink;
use crate::sql::refusal::refuse;
use crate::sql::{Insert, Place, Table};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Columns whose values are those of one row of the result.
type Key = BTreeSet<usize>;

impl Draft {
    /// Whether what it gives changes, where `input` says it of the inputs.
    fn changes(&self, mut input: impl FnMut(NodeId) -> bool) -> bool {
        match &self.op {
            Op::Group(_) => true,
            Op::Rank(rank) => rank.gives.changes(),
            Op::Scan(_)
            | Op::Window(_)
            | Op::IntervalJoin(_)
            | Op::Over(_)
            | Op::Unnest(_)
            | Op::Lookup(_) => false,
            Op::Project { .. } | Op::Filter { .. } | Op::Union | Op::Sink(_) => {
                self.inputs.iter().any(|id| input(*id))
            }
        }
    }
}

impl Drafts {
    /// For each node whether what it gives changes.
    fn changing(&self) -> Vec<bool> {
        let mut changing: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            changing.push(node.changes(|input| changing[input]));
        }
        changing
    }

    pub fn changes(&self, node: NodeId) -> bool {
        self.nodes[node].changes(|input| self.changes(input))
    }

    /// The first node on the way to the sources that makes the result of this one change.
    fn cause(&self, node: NodeId) -> NodeId {
        let changing = self.nodes[node]
            .inputs
            .iter()
            .find(|input| self.changes(**input));
        match (&self.nodes[node].op, changing) {
            (Op::Group(_) | Op::Rank(_), _) | (_, None) => node,
            (_, Some(input)) => self.cause(*input),
        }
    }

    /// The keys of a result that changes. The rows about one of them come from one lane.
    fn keys(&self, id: NodeId) -> Vec<Key> {
        let node = &self.nodes[id];
        match &node.op {
            Op::Group(group) => vec![(0..group.keys.len()).collect()],
            Op::Rank(rank) => {
                let partition = rank.partition.iter().filter_map(as_column);
                let partition: Key = partition.collect();
                let below = self.keys(node.inputs[0]).into_iter();
                // Rows about one key of the input stay on one lane only where they stay in one partition.
                let mut keys: Vec<Key> = below
                    .filter(|key| rank.input_changes && partition.is_subset(key))
                    .collect();
                let mut own = partition;
                if rank.limit != Some(1) {
                    own.insert(self.schema(node.inputs[0]).fields().len());
                }
                keys.push(own);
                keys
            }
            Op::Project { exprs } => {
                let schema = self.schema(node.inputs[0]);
                let place = |column: &usize| {
                    let is_it = |expr| same_values(expr, schema) == Some(*column);
                    exprs.iter().position(is_it)
                };
                let keys = self.keys(node.inputs[0]).into_iter();
                keys.filter_map(|key| key.iter().map(place).collect())
                    .collect()
            }
            Op::Filter { .. } => self.keys(node.inputs[0]),
            Op::Scan(_)
            | Op::Window(_)
            | Op::IntervalJoin(_)
            | Op::Over(_)
            | Op::Unnest(_)
            | Op::Lookup(_)
            | Op::Union
            | Op::Sink(_) => Vec::new(),
        }
    }

    /// Whether the rows of two nodes never have the same primary key, since a column of it is another constant in each.
    fn differ(&self, first: NodeId, second: NodeId, table: &Table) -> bool {
        let constant = |node: NodeId, name: &String| {
            let node = &self.nodes[node];
            let Op::Project { exprs } = &node.op else {
                return None;
            };
            let expr = exprs.get(node.schema.index_of(name).ok()?)?;
            Some(expr.downcast_ref::<Literal>()?.value().clone())
        };
        table.primary_key.iter().any(|name| {
            let both = constant(first, name).zip(constant(second, name));
            both.is_some_and(|(one, other)| one != other)
        })
    }

    /// The same nodes, with a column that says the kind of each change where there are changes.
    pub fn with_kinds(self) -> Drafts {
        let changing = self.changing();
        let mut next = Drafts::default();
        let mut moved: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for (id, mut node) in self.nodes.into_iter().enumerate() {
            for input in &mut node.inputs {
                let final_rows = !changing[*input];
                *input = moved[*input];
                if changing[id] && final_rows && matches!(node.op, Op::Union) {
                    *input = next.as_inserts(*input, &node.name);
                }
            }
            if changing[id] {
                let fields = node.schema.fields().iter().cloned();
                let fields = fields.chain([Arc::new(changes::field())]);
                node.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                if let Op::Project { exprs } = &mut node.op {
                    let input = next.schema(node.inputs[0]);
                    exprs.push(column(input, input.fields().len() - 1));
                }
            }
            next.nodes.push(node);
            moved.push(next.nodes.len() - 1);
        }
        next
    }

    /// A node's rows, which are only added, as changes.
    fn as_inserts(&mut self, input: NodeId, reader: &str) -> NodeId {
        let node = self.nodes[input].clone();
        let columns = 0..node.schema.fields().len();
        let mut exprs: Vec<Expr> = columns.map(|index| column(&node.schema, index)).collect();
        let insert = ScalarValue::Int8(Some(Kind::Insert as i8));
        exprs.push(Arc::new(Literal::new(insert)));
        let fields = node.schema.fields().iter().cloned();
        let fields = fields.chain([Arc::new(changes::field())]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.add(Draft {
            op: Op::Project { exprs },
            inputs: vec![input],
            schema,
            name: format!("{reader} input"),
            ..node
        })
    }
}

/// Refuses two INSERTs that write one result that changes under the same keys. A row that moves from the one to the other is taken back by
/// the one and given by the other, in no order that holds: the row that is taken back last would be gone for good.
pub fn check_rivals(drafts: &Drafts, path: &str) -> Result<()> {
    for sink in &drafts.nodes {
        let Op::Sink(SinkTable { table }) = &sink.op else {
            continue;
        };
        let connector = table.options.get("connector").unwrap_or_default();
        if table.primary_key.is_empty() || matches!(connector, "print" | "blackhole") {
            continue;
        }
        let inputs = match &drafts.nodes[sink.inputs[0]] {
            node if matches!(node.op, Op::Union) => node.inputs.as_slice(),
            _ => continue,
        };
        for (at, &first) in inputs.iter().enumerate() {
            for &second in &inputs[at + 1..] {
                let rivals = drafts.changes(first)
                    && drafts.changes(second)
                    && drafts.cause(first) == drafts.cause(second)
                    && !drafts.differ(first, second, table);
                if rivals {
                    let place = drafts.nodes[second].place;
                    let message = format!(
                        "{} is written by two INSERTs from one result that changes, and a row can move from the one to the other",
                        table.name
                    );
                    let hint = "make them one INSERT, with CASE for what differs; or give each a constant of its own in a column of the PRIMARY KEY";
                    return Err(refuse(path, place, message, hint));
                }
            }
        }
    }
    Ok(())
}

/// The column whose values an expression gives, maybe in a wider type.
fn same_values(expr: &Expr, schema: &Schema) -> Option<usize> {
    if let Some(column) = as_column(expr) {
        return Some(column);
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let [value] = call.args() else { return None };
    let keeps = call.name() == "not_null"
        || cast_target(call.fun()).is_some_and(|to| {
            let from = value.data_type(schema).unwrap_or(DataType::Null);
            let to_wider = from.is_signed_integer() && to == "BIGINT";
            to_wider || (from == DataType::Utf8 && to == "STRING")
        });
    same_values(value, schema).filter(|_| keeps)
}

impl Lowering {
    /// Refuses rows that change where they cannot be taken.
    pub fn expect_final(&self, node: NodeId, place: Place, who: &str) -> Planned<()> {
        if !self.drafts.changes(node) {
            return Ok(());
        }
        self.expect_bound(node)?;
        refused(
            place,
            format!("{who} cannot take rows that change, {}", self.blame(node)),
            "group by a window, so that each result comes once; or write what changes into a table of its own",
        )
    }

    /// A number without a bound is the first thing to tell.
    fn expect_bound(&self, node: NodeId) -> Planned<()> {
        let cause = &self.drafts.nodes[self.drafts.cause(node)];
        match &cause.op {
            Op::Rank(Rank { limit: None, .. }) => refused(cause.place, UNBOUNDED, FORM),
            _ => Ok(()),
        }
    }

    fn blame(&self, node: NodeId) -> String {
        let cause = &self.drafts.nodes[self.drafts.cause(node)];
        let what = match &cause.op {
            Op::Rank(_) => "a ROW_NUMBER without a window",
            _ => "a GROUP BY without a window",
        };
        format!("and these do: {what} is at {}", cause.place)
    }

    /// Refuses a table that cannot hold the rows of an INSERT because they change. `node` gives the table's columns.
    pub fn check_sink(&self, insert: &Insert, table: &Table, node: NodeId) -> Planned<()> {
        if !self.drafts.changes(node) {
            return Ok(());
        }
        self.expect_bound(node)?;
        let connector = table.options.get("connector").unwrap_or_default();
        if !sink::takes_changes(table) {
            return refused(
                insert.place,
                format!(
                    "{}, a table of {connector}, only takes rows for good, {}",
                    table.name,
                    self.blame(node)
                ),
                "write into a table of upsert-kafka or mongodb with a PRIMARY KEY, or group by a window, so that each result comes once",
            );
        }
        if table.primary_key.is_empty() || matches!(connector, "print" | "blackhole") {
            return Ok(());
        }
        let schema = self.drafts.schema(node);
        let primary = table.primary_key.iter();
        let primary: Key = primary
            .filter_map(|name| schema.index_of(name).ok())
            .collect();
        let keys = self.drafts.keys(node);
        if keys.iter().any(|key| key.is_subset(&primary)) {
            return Ok(());
        }
        let names = |key: &Key| {
            let names = key.iter().map(|at| schema.field(*at).name().as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let hint = match keys.first() {
            Some(key) => format!("its rows are told apart by ({})", names(key)),
            None => "nothing tells its rows apart: select the columns of the GROUP BY, or the ROW_NUMBER, too".to_owned(),
        };
        refused(
            insert.place,
            format!(
                "the query can have several rows for one PRIMARY KEY ({}) of {}",
                table.primary_key.join(", "),
                table.name
            ),
            hint,
        )
    }
}
