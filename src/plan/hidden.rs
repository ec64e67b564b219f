//! Hidden columns: from the scans to the first operator behind them that judges what is late, and nowhere else.

use super::draft::{Draft, Drafts, Expr, column};
use super::{NodeId, Op};
use crate::operator::hidden;
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// The finished graph's nodes: the same, with hidden columns where they are needed.
pub fn with_hidden(drafts: Drafts) -> Drafts {
    let carries = carriers(&drafts);
    let mut next = Drafts::default();
    let mut moved: Vec<NodeId> = Vec::with_capacity(drafts.nodes.len());
    for (id, mut node) in drafts.nodes.into_iter().enumerate() {
        // A projection takes what it names; it needs no other input.
        let wants = judges(&node.op) || carries[id] || matches!(node.op, Op::Project { .. });
        for input in &mut node.inputs {
            let strip = carries[*input] && !wants;
            *input = moved[*input];
            if strip {
                *input = without_hidden(&mut next, *input, &node.name);
            }
        }
        if carries[id] {
            add_hidden(&mut node, &next);
        }
        next.nodes.push(node);
        moved.push(next.nodes.len() - 1);
    }
    next
}

/// Whether an operator judges each row by the watermark in force just before it.
fn judges(op: &Op) -> bool {
    match op {
        Op::Window(_) | Op::IntervalJoin(_) => true,
        Op::Rank(rank) => !rank.gives.changes(),
        Op::Over(over) => over.time.is_some(),
        _ => false,
    }
}

/// Which nodes pass hidden columns on: those that can, and have such an operator behind them.
fn carriers(drafts: &Drafts) -> Vec<bool> {
    let mut can = Vec::with_capacity(drafts.nodes.len());
    for node in &drafts.nodes {
        can.push(match node.op {
            Op::Scan(_) => true,
            Op::Project { .. } | Op::Filter { .. } | Op::Union | Op::Unnest(_) | Op::Lookup(_) => {
                node.inputs.iter().all(|&input| can[input])
            }
            Op::Window(_)
            | Op::IntervalJoin(_)
            | Op::Group(_)
            | Op::Rank(_)
            | Op::Over(_)
            | Op::Sink(_) => false,
        });
    }
    let mut carries = vec![false; drafts.nodes.len()];
    for (id, node) in drafts.nodes.iter().enumerate().rev() {
        let asks = carries[id] || judges(&node.op);
        for &input in &node.inputs {
            carries[input] |= asks && can[input];
        }
    }
    carries
}

fn add_hidden(node: &mut Draft, next: &Drafts) {
    let visible = node.schema.fields().iter().cloned();
    node.schema = Arc::new(Schema::new(
        visible.chain(hidden::fields()).collect::<Vec<_>>(),
    ));
    match &mut node.op {
        Op::Scan(scan) => scan.hidden = true,
        Op::Project { exprs } => {
            let input = next.schema(node.inputs[0]);
            let width = input.fields().len();
            exprs.extend((width - hidden::COUNT..width).map(|index| column(input, index)));
        }
        _ => {}
    }
}

/// A projection of a node's visible columns; one for all who ask.
fn without_hidden(drafts: &mut Drafts, input: NodeId, reader: &str) -> NodeId {
    let node = drafts.nodes[input].clone();
    let visible = node.schema.fields().len() - hidden::COUNT;
    let exprs: Vec<Expr> = (0..visible)
        .map(|index| column(&node.schema, index))
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(node.schema.fields()[..visible].to_vec()));
    let name = format!("{reader} input");
    drafts.add(Draft {
        op: Op::Project { exprs },
        inputs: vec![input],
        schema,
        name,
        ..node
    })
}
