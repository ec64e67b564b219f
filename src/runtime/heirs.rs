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
        heirs.settle(graph, left, meanings, true);
        heirs.settle(graph, left, meanings, false);
        heirs
    }

    /// Brings together who does the same. Where that is so of everything before them too, it does not matter who of several gets whose
    /// state.
    fn settle(
        &mut self,
        graph: &Graph,
        left: &BTreeMap<String, Meaning>,
        meanings: &BTreeMap<NodeId, Meaning>,
        in_all: bool,
    ) {
        fn key(meaning: &Meaning, in_all: bool) -> (&str, &str) {
            (&meaning.does, if in_all { &meaning.lineage } else { "" })
        }
        let taken: BTreeSet<NodeId> = self.0.values().copied().collect();
        let mut alike: BTreeMap<_, (Vec<String>, Vec<NodeId>)> = BTreeMap::new();
        for (name, meaning) in left.iter().filter(|(name, _)| !self.0.contains_key(*name)) {
            alike
                .entry(key(meaning, in_all))
                .or_default()
                .0
                .push(name.clone());
        }
        for (id, meaning) in meanings.iter().filter(|(id, _)| !taken.contains(id)) {
            alike.entry(key(meaning, in_all)).or_default().1.push(*id);
        }
        for (names, mut ids) in alike.into_values() {
            if in_all || (names.len(), ids.len()) == (1, 1) {
                // Both in the order of names, so that one that was not renamed finds itself.
                ids.sort_by_key(|id| &graph.nodes[*id].name);
                self.0.extend(names.into_iter().zip(ids));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::{Ledger, Owner, SplitState, VERSION};
    use crate::plan;
    use crate::source::Position;
    use crate::sql::parse;
    use crate::time::Progress;
    use arrow::array::{Int64Array, RecordBatch};
    use std::sync::Arc;

    /// A job that counts the rows of `t` that a condition lets pass, once for each condition, all into one table.
    fn job(queries: &[&str]) -> Graph {
        let mut text =
            String::from("CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'blackhole');");
        for table in ["t", "u"] {
            text.push_str(&format!(
                "CREATE TABLE {table} (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kafka', \
                 'topic' = '{table}', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json');"
            ));
        }
        for query in queries {
            let (aggregate, from) = query.split_once(" of ").unwrap();
            let (table, condition) = from.split_once(" where ").unwrap();
            text.push_str(&format!(
                "INSERT INTO o SELECT k, {aggregate} FROM TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
                 WHERE {condition} GROUP BY window_start, window_end, k;"
            ));
        }
        plan::plan(&parse("job.sql", &text, &|_| None).unwrap(), "test").unwrap()
    }

    /// A checkpoint of a job, with state of each of its windows.
    fn left_by(graph: &Graph) -> (Checkpoint, Vec<LoadedState>) {
        let meanings = plan::meanings(graph).into_iter();
        let named: BTreeMap<_, _> = meanings
            .map(|(id, meaning)| (graph.nodes[id].name.clone(), meaning))
            .collect();
        let windows = named.keys().filter(|name| name.contains("window"));
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as _)])
            .unwrap();
        let states = windows.map(|name| LoadedState {
            node: name.clone(),
            part: "groups".into(),
            key_columns: 0,
            rows: vec![rows.clone()],
        });
        let states = states.collect();
        let split = SplitState {
            topic: "x".into(),
            partition: 0,
            position: Position {
                offset: 5,
                finished: false,
            },
            progress: Progress::START,
        };
        let tables = graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Scan(scan) => Some((
                scan.table.name.clone(),
                SourceState {
                    splits: vec![split.clone()],
                },
            )),
            _ => None,
        });
        let checkpoint = Checkpoint {
            version: VERSION,
            job: "test".into(),
            epoch: 7,
            owner: Owner::this_process(),
            committed_at_ms: 0,
            interval_ms: 0,
            released: false,
            sources: tables.collect(),
            progress: BTreeMap::new(),
            nodes: Some(named),
            state: Vec::new(),
            sinks: BTreeMap::new(),
            ledger: Ledger::default(),
            catalog: Default::default(),
        };
        (checkpoint, states)
    }

    /// For each window of the job before, the window that goes on with its state; and what is said of the others.
    fn heirs(before: &[&str], now: &[&str]) -> (Vec<Option<String>>, String) {
        let (old, new) = (job(before), job(now));
        let (checkpoint, states) = left_by(&old);
        let meanings = plan::meanings(&new);
        let heirs = Heirs::find(&new, &meanings, Some(&checkpoint));
        let name = |id: NodeId| new.nodes[id].name.clone();
        let found = states
            .iter()
            .map(|state| heirs.of(&state.node).map(name))
            .collect();
        let check = |allowed| heirs.check_dropped(&new, &meanings, &checkpoint, &states, allowed);
        check(true).unwrap();
        (
            found,
            check(false)
                .err()
                .map_or(String::new(), |error| error.to_string()),
        )
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| Some(name.to_string())).collect()
    }

    const LOW: &str = "SUM(n) of t where n < 5";
    const HIGH: &str = "SUM(n) of t where n > 5";

    #[test]
    fn state_goes_with_its_query_wherever_that_stands() {
        assert_eq!(
            heirs(&[LOW, HIGH], &[LOW, HIGH]),
            (some(&["o window", "o window 2"]), String::new())
        );
        assert_eq!(
            heirs(&[LOW, HIGH], &[HIGH, LOW]),
            (some(&["o window 2", "o window"]), String::new())
        );
        let more = ["COUNT(*) of u where n > 1", LOW, HIGH];
        assert_eq!(
            heirs(&[LOW, HIGH], &more),
            (some(&["o window 2", "o window 3"]), String::new())
        );
    }

    #[test]
    fn what_stands_before_an_operator_may_change() {
        let higher = "SUM(n) of t where n > 6";
        assert_eq!(
            heirs(&[LOW, HIGH], &[higher, LOW]),
            (some(&["o window 2", "o window"]), String::new())
        );
        assert_eq!(
            heirs(&[HIGH], &[higher]),
            (some(&["o window"]), String::new())
        );
    }

    #[test]
    fn between_two_that_changed_nobody_can_tell() {
        let (found, said) = heirs(
            &[LOW, HIGH],
            &["SUM(n) of t where n < 4", "SUM(n) of t where n > 6"],
        );
        assert_eq!(found, [None, None]);
        assert!(said.contains("cannot be told"), "{said}");
    }

    #[test]
    fn a_query_that_is_gone_or_does_something_else_is_named() {
        let (found, said) = heirs(&[LOW, HIGH], &[HIGH]);
        assert_eq!(found, [None, Some("o window".into())]);
        assert!(
            said.contains("the state of 'o window', 2 rows, which did: tumble 1 min"),
            "{said}"
        );
        assert!(
            said.contains("tributary.allow-dropped-state=true"),
            "{said}"
        );

        let (found, said) = heirs(&[LOW], &["MAX(n) of t where n < 5"]);
        assert_eq!(found, [None]);
        let (did, does) = (
            "gives: SUM(CAST(n AS BIGINT)) of BIGINT",
            "gives: MAX(n) of INT",
        );
        assert!(
            said.contains(did) && said.contains(does) && said.contains("job.sql:"),
            "{said}"
        );
    }

    #[test]
    fn a_table_that_is_not_read_any_more_is_named() {
        let (_, said) = heirs(&["SUM(n) of u where n < 5", LOW], &[LOW]);
        assert!(said.contains("how far table 'u' was read"), "{said}");
    }

    /// As it was before checkpoints kept what nodes do.
    #[test]
    fn without_words_names_have_to_do() {
        let graph = job(&[LOW, HIGH]);
        let (mut checkpoint, _) = left_by(&graph);
        checkpoint.nodes = None;
        let heirs = Heirs::find(&graph, &plan::meanings(&graph), Some(&checkpoint));
        assert!(
            graph
                .nodes
                .iter()
                .enumerate()
                .all(|(id, node)| heirs.of(&node.name) == Some(id))
        );
    }

    #[test]
    fn books_follow_their_operators() {
        let (old, new) = (job(&[LOW, HIGH]), job(&[HIGH]));
        let heirs = Heirs::find(&new, &plan::meanings(&new), Some(&left_by(&old).0));
        let book = |rows_in| OperatorBook {
            rows_in,
            used: rows_in,
            ..OperatorBook::default()
        };
        let books = [
            ("o window", book(1)),
            ("o window 2", book(20)),
            ("gone", book(3)),
        ];
        let books = books.map(|(name, book)| (name.to_string(), book)).into();
        let renamed = heirs.books(&new, books);
        // What the first counted stays in the whole, under the name that is left.
        assert_eq!(renamed["o window"].rows_in, 21);
        assert_eq!(renamed["gone"].rows_in, 3);
    }
}
