//! What a node does, in words and as a hash: by it a checkpoint's state finds its node again.
//!
//! A node's name says where it stands in the file, so an INSERT that is moved, taken out or given another table renames nodes that do
//! what they did. These words do not depend on the place, nor on which other queries read the same tables. They are kept in
//! checkpoints: to write the same thing in other words is to change docs/checkpoint-format.md.

use super::describe::{self, duration};
use super::explain::{frame, list, time};
use super::{
    Aggregate, Gives, Graph, IntervalJoin, Node, NodeId, Op, OverAggregate, Rank, WindowAggregate,
};
use crate::operator::hidden;
use crate::sql::functions::type_name;
use arrow::datatypes::Schema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// What a node that remembers something does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// What it does itself, over which columns of which tables. State of one such node is state that another can go on with, though
    /// what stands before it (a WHERE, a threshold in a view) may differ.
    pub does: String,
    /// A hash of that and of everything before it, down to the tables.
    pub lineage: String,
}

/// The meanings of a graph's nodes that remember something from row to row: keyed ones, and unions, which know how far they
/// had come.
pub fn meanings(graph: &Graph) -> BTreeMap<NodeId, Meaning> {
    let mut known: Vec<Lineage> = Vec::with_capacity(graph.nodes.len());
    let mut meanings = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let lineage = Lineage::of(node, graph, &known);
        let tables = |input: usize| list(known[node.inputs[input]].tables.iter().cloned());
        let does = match &node.op {
            Op::Window(window) => {
                let input = &graph.nodes[node.inputs[0]].schema;
                Some(format!(
                    "{}; from {}",
                    words_of_window(window, input),
                    tables(0)
                ))
            }
            Op::IntervalJoin(join) => {
                let [left, right] =
                    [0, 1].map(|input| graph.nodes[node.inputs[input]].schema.as_ref());
                let words = words_of_join(join, left, right);
                Some(format!("{words}; from {} and {}", tables(0), tables(1)))
            }
            Op::Group(group) => {
                let input = &graph.nodes[node.inputs[0]].schema;
                let keys = list(group.keys.iter().map(|key| typed(key, input)));
                let gives = words_of_aggregates(&group.aggregates, input);
                Some(format!(
                    "group; keys: {keys}; gives: {gives}; from {}",
                    tables(0)
                ))
            }
            Op::Rank(rank) => {
                let input = &graph.nodes[node.inputs[0]].schema;
                Some(format!(
                    "{}; from {}",
                    words_of_rank(rank, input, &known[node.inputs[0]]),
                    tables(0)
                ))
            }
            Op::Over(over) => {
                let input = &graph.nodes[node.inputs[0]].schema;
                Some(format!(
                    "{}; from {}",
                    words_of_over(over, input),
                    tables(0)
                ))
            }
            Op::Union => Some(format!(
                "union; from {}",
                list(lineage.tables.iter().cloned())
            )),
            _ => None,
        };
        if let Some(does) = does {
            let hash = lineage.rows.clone();
            meanings.insert(
                id,
                Meaning {
                    does,
                    lineage: hash,
                },
            );
        }
        known.push(lineage);
    }
    meanings
}

fn words_of_window(window: &WindowAggregate, input: &Schema) -> String {
    format!(
        "{} by {}; keys: {}; gives: {}",
        describe::window(window.window, " with offset "),
        time(&window.time),
        list(window.keys.iter().map(|key| typed(key, input))),
        words_of_aggregates(&window.aggregates, input),
    )
}

fn words_of_aggregates(aggregates: &[Aggregate], input: &Schema) -> String {
    list(
        aggregates
            .iter()
            .map(|aggregate| words_of_aggregate(aggregate, input)),
    )
}

/// With the limit, although rows that may be taken back are all kept: what a larger one would have given before was never given. Of rows
/// that may be taken back also which ones they are: another query before it would never take back those that are held.
fn words_of_rank(rank: &Rank, input: &Schema, lineage: &Lineage) -> String {
    let end = match &rank.gives {
        Gives::Changes if rank.input_changes => {
            format!("of rows that change ({})", lineage.whole())
        }
        Gives::Changes => "as they come".to_owned(),
        Gives::AtWindowEnd(_) => "of each window".to_owned(),
        Gives::AtTime(_) => "once".to_owned(),
    };
    format!(
        "{} {end}; keys: {}; columns: {}",
        describe::first_rows(rank),
        list(rank.partition.iter().map(|key| typed(key, input))),
        columns_of(input),
    )
}

fn words_of_aggregate(aggregate: &Aggregate, input: &Schema) -> String {
    let name = aggregate.function.name();
    let columns = aggregate.function.expressions();
    let columns = columns.iter().filter(|argument| !argument.is::<Literal>());
    let types: Vec<String> = columns.map(|argument| type_of(argument, input)).collect();
    match types.is_empty() {
        true => name.to_owned(),
        false => format!("{name} of {}", types.join(", ")),
    }
}

fn words_of_over(over: &OverAggregate, input: &Schema) -> String {
    let order = over.time.as_ref().map_or("arrival".into(), time);
    let calls = over.calls.iter().map(|call| match &call.argument {
        Some(argument) => format!("{} of {}", call.name, type_of(argument, input)),
        None => call.name.clone(),
    });
    // Rows that wait are kept with all their columns.
    let columns = match over.time {
        Some(_) => format!("; columns: {}", columns_of(input)),
        None => String::new(),
    };
    format!(
        "over {} by {order}; keys: {}; gives: {}{columns}",
        frame(over.frame),
        list(over.keys.iter().map(|key| typed(key, input))),
        list(calls),
    )
}

fn words_of_join(join: &IntervalJoin, left: &Schema, right: &Schema) -> String {
    let keys = join.left_keys.iter().zip(&join.right_keys);
    let keys = keys.map(|(l, r)| format!("{} = {}", typed(l, left), typed(r, right)));
    let filter = join.filter.as_ref();
    format!(
        "{} join; keys: {}; {} <= {} - {} <= {}{}; left: {}; right: {}",
        join.kind.words(),
        list(keys),
        duration(join.lower_ms),
        time(&join.left_time),
        time(&join.right_time),
        duration(join.upper_ms),
        filter.map_or(String::new(), |filter| format!(
            "; where {}",
            describe::expr(filter)
        )),
        columns_of(left),
        columns_of(right),
    )
}

fn columns_of(schema: &Schema) -> String {
    let fields = schema.fields()[..hidden::visible(schema)].iter();
    list(fields.map(|field| format!("{} {}", field.name(), type_name(field.data_type()))))
}

fn typed(expr: &Arc<dyn PhysicalExpr>, input: &Schema) -> String {
    format!("{} {}", describe::expr(expr), type_of(expr, input))
}

/// The type that an expression has; what a plan could not say stays open, and is the same in each such plan.
fn type_of(expr: &Arc<dyn PhysicalExpr>, input: &Schema) -> String {
    expr.data_type(input)
        .map_or_else(|_| "?".to_owned(), |data_type| type_name(&data_type))
}

/// Hashes of what a node gives: each follows from the tables' columns and from what was done to them. How the plan cut that into nodes
/// changes none of them.
struct Lineage {
    tables: BTreeSet<String>,
    /// Which rows.
    rows: String,
    /// What each column is.
    columns: Vec<String>,
}

impl Lineage {
    /// One hash for the rows and their columns.
    fn whole(&self) -> String {
        let mut parts = vec![self.rows.clone()];
        parts.extend(self.columns.iter().cloned());
        hash_all("rows", &parts)
    }

    fn of(node: &Node, graph: &Graph, known: &[Lineage]) -> Lineage {
        let inputs: Vec<&Lineage> = node.inputs.iter().map(|&input| &known[input]).collect();
        let tables = inputs
            .iter()
            .flat_map(|input| input.tables.iter().cloned())
            .collect();
        let width = node.schema.fields().len();
        // The columns of what a node makes anew.
        let made = |rows: &str| {
            (0..width)
                .map(|at| hash(&["column", rows, &at.to_string()]))
                .collect()
        };
        let first = inputs.first();
        match &node.op {
            Op::Scan(scan) => {
                let name = scan.table.name.as_str();
                let read: Vec<String> = scan
                    .decoded
                    .fields()
                    .iter()
                    .map(|field| hash(&[name, field.name(), &type_name(field.data_type())]))
                    .chain(
                        scan.metadata
                            .iter()
                            .map(|column| hash(&[name, &format!("{:?}", column.key)])),
                    )
                    .collect();
                let watermark = scan
                    .watermark
                    .as_ref()
                    .map(|watermark| digest(&watermark.value, &read));
                let exprs = scan.exprs.iter().map(|expr| digest(expr, &read));
                Lineage {
                    tables: [name.to_owned()].into(),
                    rows: hash(&["scan", name, &watermark.unwrap_or_default()]),
                    columns: exprs.collect(),
                }
            }
            Op::Project { exprs } => Lineage {
                tables,
                rows: first.map_or_else(String::new, |input| input.rows.clone()),
                columns: exprs
                    .iter()
                    .map(|expr| digest(expr, columns(first)))
                    .collect(),
            },
            Op::Filter { predicate } => Lineage {
                tables,
                rows: hash(&["where", rows(first), &digest(predicate, columns(first))]),
                columns: columns(first).to_vec(),
            },
            Op::Union => {
                let mut parts = vec!["union"];
                parts.extend(inputs.iter().map(|input| input.rows.as_str()));
                let of_column = |at: usize| {
                    let each = inputs
                        .iter()
                        .map(|input| input.columns.get(at).map_or("", String::as_str));
                    hash(&each.collect::<Vec<_>>())
                };
                Lineage {
                    tables,
                    rows: hash(&parts),
                    columns: (0..width).map(of_column).collect(),
                }
            }
            Op::Window(window) => {
                let own = columns(first);
                let mut parts = vec![
                    format!("{:?}", window.window),
                    rows(first).to_owned(),
                    digest(&window.time, own),
                ];
                parts.extend(window.keys.iter().map(|key| digest(key, own)));
                parts.extend(digests_of_aggregates(&window.aggregates, own));
                let rows = hash_all("window", &parts);
                Lineage {
                    tables,
                    columns: made(&rows),
                    rows,
                }
            }
            Op::Group(group) => {
                let own = columns(first);
                let mut parts = vec![rows(first).to_owned()];
                parts.extend(group.keys.iter().map(|key| digest(key, own)));
                parts.extend(digests_of_aggregates(&group.aggregates, own));
                let rows = hash_all("group", &parts);
                Lineage {
                    tables,
                    columns: made(&rows),
                    rows,
                }
            }
            Op::Rank(rank) => {
                let own = columns(first);
                let mut parts = vec![describe::first_rows(rank), rows(first).to_owned()];
                parts.extend(rank.partition.iter().map(|key| digest(key, own)));
                parts.extend(rank.order.iter().map(|by| digest(&by.expr, own)));
                let rows = hash_all("rank", &parts);
                let visible = hidden::visible(&graph.nodes[node.inputs[0]].schema);
                let mut columns = own[..visible.min(own.len())].to_vec();
                columns.push(hash(&["number", &rows]));
                Lineage {
                    tables,
                    columns,
                    rows,
                }
            }
            Op::IntervalJoin(join) => {
                let (left, right) = (columns(first), columns(inputs.get(1)));
                let visible =
                    |input: usize| hidden::visible(&graph.nodes[node.inputs[input]].schema);
                let both = [
                    &left[..visible(0).min(left.len())],
                    &right[..visible(1).min(right.len())],
                ]
                .concat();
                let mut parts = vec![
                    join.kind.words().to_owned(),
                    format!("{} {}", join.lower_ms, join.upper_ms),
                    rows(first).to_owned(),
                    rows(inputs.get(1)).to_owned(),
                    digest(&join.left_time, left),
                    digest(&join.right_time, right),
                ];
                parts.extend(join.left_keys.iter().map(|key| digest(key, left)));
                parts.extend(join.right_keys.iter().map(|key| digest(key, right)));
                parts.extend(join.filter.iter().map(|filter| digest(filter, &both)));
                Lineage {
                    tables,
                    rows: hash_all("join", &parts),
                    columns: both,
                }
            }
            Op::Over(over) => {
                let own = columns(first);
                let mut parts = vec![format!("{:?}", over.frame), rows(first).to_owned()];
                parts.extend(over.time.iter().map(|time| digest(time, own)));
                parts.extend(over.keys.iter().map(|key| digest(key, own)));
                for call in &over.calls {
                    parts.push(format!("{:?}", call.function));
                    parts.extend(call.argument.iter().map(|argument| digest(argument, own)));
                }
                let visible = hidden::visible(&graph.nodes[node.inputs[0]].schema);
                let passed = own[..visible.min(own.len())].to_vec();
                with_made(tables, passed, node, hash_all("over", &parts))
            }
            Op::Unnest(unnest) => {
                let own = columns(first);
                let parts = [
                    rows(first).to_owned(),
                    digest(&unnest.array, own),
                    format!("{} {}", unnest.outer, unnest.ordinality),
                ];
                let passed = unnest.keep.iter().filter_map(|&at| own.get(at).cloned());
                with_made(tables, passed.collect(), node, hash_all("unnest", &parts))
            }
            Op::Lookup(lookup) => {
                let name = lookup.table.name.as_str();
                let own = columns(first);
                let read = lookup.read.fields().iter();
                let read =
                    read.map(|field| hash(&[name, field.name(), &type_name(field.data_type())]));
                let read: Vec<String> = read.collect();
                let visible = hidden::visible(&graph.nodes[node.inputs[0]].schema);
                let mut both = own[..visible.min(own.len())].to_vec();
                both.extend(lookup.exprs.iter().map(|expr| digest(expr, &read)));
                let mut parts = vec![format!("{name} {}", lookup.outer), rows(first).to_owned()];
                for key in &lookup.keys {
                    parts.extend([read[key.column].clone(), digest(&key.value, own)]);
                }
                parts.extend(lookup.filter.iter().map(|filter| digest(filter, &both)));
                Lineage {
                    tables: tables.into_iter().chain([name.to_owned()]).collect(),
                    rows: hash_all("lookup", &parts),
                    columns: both,
                }
            }
            Op::Sink(_) => Lineage {
                tables,
                rows: String::new(),
                columns: Vec::new(),
            },
        }
    }
}

fn digests_of_aggregates(aggregates: &[Aggregate], columns: &[String]) -> Vec<String> {
    let mut parts = Vec::new();
    for Aggregate { function, filter } in aggregates {
        let name = function.fun().name();
        parts.push(format!("{name} {}", function.is_distinct()));
        let arguments = function.expressions();
        parts.extend(arguments.iter().map(|argument| digest(argument, columns)));
        parts.extend(filter.iter().map(|filter| digest(filter, columns)));
    }
    parts
}

/// Columns of the input that are passed on, and others behind them that the node makes.
fn with_made(tables: BTreeSet<String>, passed: Vec<String>, node: &Node, rows: String) -> Lineage {
    let made = 0..node.schema.fields().len() - passed.len();
    let made = made.map(|at| hash(&["column", &rows, &at.to_string()]));
    let columns = passed.iter().cloned().chain(made).collect();
    Lineage {
        tables,
        rows,
        columns,
    }
}

fn rows<'a>(input: Option<&&'a Lineage>) -> &'a str {
    input.map_or("", |input| input.rows.as_str())
}

fn columns<'a>(input: Option<&&'a Lineage>) -> &'a [String] {
    input.map_or(&[], |input| input.columns.as_slice())
}

/// An expression's hash out of those of the columns that it reads. It follows the expression's tree, so that it is the same whether a
/// part of it was computed by a node before or not.
fn digest(expr: &Arc<dyn PhysicalExpr>, columns: &[String]) -> String {
    if let Some(column) = expr.downcast_ref::<Column>() {
        // Hidden columns have no lineage: they say where a row came from.
        return columns.get(column.index()).cloned().unwrap_or_default();
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        let value = literal.value();
        return hash(&[&describe::expr(expr), &type_name(&value.data_type())]);
    }
    let parts = expr
        .children()
        .into_iter()
        .map(|part| digest(part, columns));
    let parts: Vec<Arc<dyn PhysicalExpr>> = parts
        .map(|part| Arc::new(Column::new(&part, 0)) as Arc<dyn PhysicalExpr>)
        .collect();
    let text = match Arc::clone(expr).with_new_children(parts) {
        Ok(outermost) => describe::expr(&outermost),
        Err(_) => describe::expr(expr),
    };
    hash(&[&text])
}

fn hash_all(kind: &str, parts: &[String]) -> String {
    let mut all = vec![kind];
    all.extend(parts.iter().map(String::as_str));
    hash(&all)
}

/// The lengths stand with the parts, so that no two lists of them are alike.
fn hash(parts: &[&str]) -> String {
    let text: String = parts
        .iter()
        .map(|part| format!("{} {part}\n", part.len()))
        .collect();
    format!("{:016x}", XxHash3_64::oneshot(text.as_bytes()))
}

#[cfg(test)]
#[path = "meaning_tests.rs"]
mod tests;
