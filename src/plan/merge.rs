//! Fewer nodes: projections that follow each other become one.
//!
//! Nothing is computed twice for it: an expression that costs something stays where it is when it is used more than once, or
//! by more than one reader.

use super::draft::{
    Draft, Drafts, Expr, as_column, columns_read, is_identity, project_schema, replace_columns,
};
use super::scan::is_cheap;
use super::{NodeId, Op};
use datafusion::common::Result;
use std::sync::Arc;

/// The nodes that are behind a sink, in their order, with their inputs' new numbers.
pub fn live(drafts: Drafts) -> Drafts {
    let mut alive = vec![false; drafts.nodes.len()];
    for (id, node) in drafts.nodes.iter().enumerate().rev() {
        if alive[id] || matches!(node.op, Op::Sink(_)) {
            alive[id] = true;
            for &input in &node.inputs {
                alive[input] = true;
            }
        }
    }
    let mut moved = vec![0; drafts.nodes.len()];
    let mut kept = Drafts::default();
    for (id, mut node) in drafts.nodes.into_iter().enumerate() {
        if alive[id] {
            node.inputs
                .iter_mut()
                .for_each(|input| *input = moved[*input]);
            moved[id] = kept.nodes.len();
            kept.nodes.push(node);
        }
    }
    kept
}

/// How many nodes read each node.
fn readers(drafts: &Drafts) -> Vec<usize> {
    let mut readers = vec![0; drafts.nodes.len()];
    for node in &drafts.nodes {
        for &input in &node.inputs {
            readers[input] += 1;
        }
    }
    readers
}

/// The same graph with projections merged, until nothing changes.
pub fn merged(drafts: Drafts) -> Result<Drafts> {
    let mut drafts = live(drafts);
    loop {
        let before = drafts.nodes.len();
        let (next, changed) = merge_once(&drafts)?;
        drafts = live(next);
        if !changed && drafts.nodes.len() == before {
            return Ok(drafts);
        }
    }
}

fn merge_once(drafts: &Drafts) -> Result<(Drafts, bool)> {
    let readers = readers(drafts);
    let mut next = Drafts::default();
    let mut moved: Vec<NodeId> = Vec::with_capacity(drafts.nodes.len());
    let mut changed = false;
    for node in &drafts.nodes {
        let mut node = node.clone();
        let alone = node
            .inputs
            .first()
            .is_some_and(|&input| readers[input] == 1);
        node.inputs
            .iter_mut()
            .for_each(|input| *input = moved[*input]);
        let under = node.inputs.first().map(|&input| next.nodes[input].clone());
        let id = match (&node.op, under) {
            (Op::Project { exprs }, _)
                if is_identity(exprs, next.schema(node.inputs[0]).fields().len())
                    && keeps_names(&node, &next) =>
            {
                changed = true;
                node.inputs[0]
            }
            (
                Op::Project { exprs },
                Some(Draft {
                    op: Op::Project { exprs: inner },
                    inputs,
                    ..
                }),
            ) if can_inline(exprs, &inner, alone) => {
                changed = true;
                let exprs = inline(exprs, &inner)?;
                next.add(Draft {
                    op: Op::Project { exprs },
                    inputs,
                    ..node
                })
            }
            (Op::Filter { predicate }, Some(under)) => match &under.op {
                // Rows are dropped before anything is computed of them.
                Op::Project { exprs: inner } if alone && reads_only_cheap(predicate, inner) => {
                    changed = true;
                    let predicate = inline(std::slice::from_ref(predicate), inner)?.remove(0);
                    let input = under.inputs[0];
                    let filter = Draft {
                        op: Op::Filter { predicate },
                        inputs: vec![input],
                        schema: Arc::clone(next.schema(input)),
                        times: next.nodes[input].times.clone(),
                        name: node.name,
                        place: node.place,
                    };
                    let filter = next.add(filter);
                    next.add(Draft {
                        inputs: vec![filter],
                        ..under
                    })
                }
                _ => next.add(node),
            },
            _ => next.add(node),
        };
        moved.push(id);
    }
    Ok((next, changed))
}

/// A projection that only gives other names stays where names are seen: in front of a sink.
fn keeps_names(node: &Draft, drafts: &Drafts) -> bool {
    let under = drafts.schema(node.inputs[0]);
    node.schema
        .fields()
        .iter()
        .zip(under.fields())
        .all(|(a, b)| a.name() == b.name())
}

fn inline(exprs: &[Expr], inner: &[Expr]) -> Result<Vec<Expr>> {
    exprs
        .iter()
        .map(|expr| replace_columns(expr, &|index| Arc::clone(&inner[index])))
        .collect()
}

fn can_inline(exprs: &[Expr], inner: &[Expr], alone: bool) -> bool {
    let mut uses = vec![0; inner.len()];
    for expr in exprs {
        let mut read = Vec::new();
        columns_read(expr, &mut read);
        read.into_iter().for_each(|index| uses[index] += 1);
    }
    let costly = inner
        .iter()
        .zip(&uses)
        .filter(|(expr, uses)| **uses > 0 && !is_cheap(expr));
    costly.into_iter().all(|(_, uses)| alone && *uses == 1)
}

fn reads_only_cheap(predicate: &Expr, inner: &[Expr]) -> bool {
    let mut read = Vec::new();
    columns_read(predicate, &mut read);
    read.into_iter()
        .all(|index| as_column(&inner[index]).is_some() || is_cheap(&inner[index]))
}

/// The schema of a projection over another input.
pub fn reproject(
    names: &[String],
    exprs: Vec<Expr>,
    input: NodeId,
    like: Draft,
    drafts: &mut Drafts,
) -> Result<NodeId> {
    let schema = project_schema(names, &exprs, drafts.schema(input))?;
    Ok(drafts.add(Draft {
        op: Op::Project { exprs },
        inputs: vec![input],
        schema,
        ..like
    }))
}
