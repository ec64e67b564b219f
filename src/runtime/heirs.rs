//! Which node of the job goes on with what a node of the checkpoint left, where the job's text was changed between two runs.
//!
//! Guarantee: a node gets only what a node that did the same left. What nobody can go on with is never dropped in silence.

use crate::epoch::{Checkpoint, LoadedState, OperatorBook, SourceState};
use crate::error::{Error, Result};
use crate::plan::{Graph, Meaning, NodeId, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The nodes of a job by the names that they, or those that did the same, have in the checkpoint.
#[derive(Debug, Default)]
pub struct Heirs(BTreeMap<String, NodeId>);

impl Heirs {
    /// First those before which nothing was changed either. Then those that do the same though something before them was changed, where
    /// there is only one such on both sides: between several nobody could say whose state is whose.
    pub fn find(
        graph: &Graph,
        meanings: &BTreeMap<NodeId, Meaning>,
        checkpoint: Option<&Checkpoint>,
    ) -> Heirs {
        let Some(checkpoint) = checkpoint else {
            return Heirs::default();
        };
        let all = graph.nodes.iter().enumerate();
        let Some(left) = &checkpoint.nodes else {
            return Heirs(all.map(|(id, node)| (node.name.clone(), id)).collect());
        };
        // A table that is read is known by its name.
        let scans = all.filter(|(_, node)| matches!(node.op, Op::Scan(_)));
        let mut heirs = Heirs(scans.map(|(id, node)| (node.name.clone(), id)).collect());
        heirs.settle(graph, left, meanings, true, |meaning| {
            (&meaning.does, Some(&meaning.lineage))
        });
        heirs.settle(graph, left, meanings, false, |meaning| {
            (&meaning.does, None)
        });
        heirs
    }

    /// Brings together who is alike by this key; `many` if it does not matter who of several gets whose state.
    fn settle<'a, K: Ord>(
        &mut self,
        graph: &Graph,
        left: &'a BTreeMap<String, Meaning>,
        meanings: &'a BTreeMap<NodeId, Meaning>,
        many: bool,
        key: impl Fn(&'a Meaning) -> K,
    ) {
        let taken: BTreeSet<NodeId> = self.0.values().copied().collect();
        let mut alike: BTreeMap<K, (Vec<&String>, Vec<NodeId>)> = BTreeMap::new();
        for (name, meaning) in left.iter().filter(|(name, _)| !self.0.contains_key(*name)) {
            alike.entry(key(meaning)).or_default().0.push(name);
        }
        for (id, meaning) in meanings.iter().filter(|(id, _)| !taken.contains(id)) {
            alike.entry(key(meaning)).or_default().1.push(*id);
        }
        for (names, mut ids) in alike.into_values() {
            if many || (names.len(), ids.len()) == (1, 1) {
                // Both in the order of names, so that one that was not renamed finds itself.
                ids.sort_by_key(|id| &graph.nodes[*id].name);
                self.0.extend(names.into_iter().cloned().zip(ids));
            }
        }
    }

    pub fn of(&self, name: &str) -> Option<NodeId> {
        self.0.get(name).copied()
    }

    /// The books under the names that their operators have now. Those of operators that are gone stay: they are a part of the whole.
    pub fn books(
        &self,
        graph: &Graph,
        books: BTreeMap<String, OperatorBook>,
    ) -> BTreeMap<String, OperatorBook> {
        let mut renamed: BTreeMap<String, OperatorBook> = BTreeMap::new();
        for (name, book) in books {
            let name = self
                .of(&name)
                .map_or(name, |id| graph.nodes[id].name.clone());
            renamed.entry(name).or_default().add(&book);
        }
        renamed
    }

    /// Says what the job has no place for, and refuses to go on without it unless that is allowed.
    pub fn check_dropped(
        &self,
        graph: &Graph,
        meanings: &BTreeMap<NodeId, Meaning>,
        checkpoint: &Checkpoint,
        states: &[LoadedState],
        allowed: bool,
    ) -> Result<()> {
        let mut dropped = String::new();
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for state in states.iter().filter(|state| self.of(&state.node).is_none()) {
            let count: usize = state.rows.iter().map(|batch| batch.num_rows()).sum();
            *rows.entry(&state.node).or_default() += count;
        }
        for (name, count) in rows {
            // Writing into a String cannot fail.
            let _ = write!(dropped, "\n  the state of '{name}', {count} rows");
            let Some(meaning) = checkpoint.nodes.as_ref().and_then(|nodes| nodes.get(name)) else {
                continue;
            };
            let _ = write!(dropped, ", which did: {}", meaning.does);
            let taken: BTreeSet<NodeId> = self.0.values().copied().collect();
            for (id, candidate) in meanings.iter().filter(|(id, _)| !taken.contains(id)) {
                let node = &graph.nodes[*id];
                if candidate.does == meaning.does {
                    let _ = write!(
                        dropped,
                        "\n    '{}' does the same, and more than one query before it was changed: which state is whose cannot be told",
                        node.name
                    );
                } else if node.name == name || candidate.lineage == meaning.lineage {
                    let _ = write!(
                        dropped,
                        "\n    '{}' ({}) now does: {}",
                        node.name, node.place, candidate.does
                    );
                }
            }
        }
        let read = |table: &str| {
            graph
                .nodes
                .iter()
                .any(|node| matches!(&node.op, Op::Scan(scan) if scan.table.name == table))
        };
        let begun = |state: &SourceState| {
            state
                .splits
                .iter()
                .any(|split| split.position.offset > 0 || split.position.finished)
        };
        for (table, _) in checkpoint
            .sources
            .iter()
            .filter(|(table, state)| !read(table) && begun(state))
        {
            let _ = write!(
                dropped,
                "\n  how far table '{table}' was read, which the job does not read any more"
            );
        }
        if dropped.is_empty() {
            return Ok(());
        }
        if allowed {
            tracing::warn!("the job was changed, and goes on without:{dropped}");
            return Ok(());
        }
        Err(Error::job(format!(
            "the job was changed since epoch {}, and has no place for what that keeps:{dropped}\n  \
             hint: take the change back; or run the old job file with --bounded first, which closes every window; or start with \
             -D tributary.allow-dropped-state=true to go on without it; or start afresh with another 'execution.checkpointing.dir' and lake",
            checkpoint.epoch
        )))
    }
}
