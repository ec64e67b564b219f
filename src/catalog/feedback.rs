//! Tables that are written where their own rows come from: the job would read again what it wrote, without an end.

use super::definition::Job;
use super::preflight::{Findings, folder};
use crate::plan::{Graph, NodeId, Op, Scan};
use crate::sink::dead_letters;
use crate::sql::options::DEAD_LETTERS;
use crate::sql::refusal::Refusal;
use crate::sql::{Place, Table};
use crate::store::below;
use std::collections::BTreeSet;

/// Refuses tables whose files would be read by what writes them.
pub fn find(job: Job<'_>, found: &mut Findings) {
    for written in job.tables {
        let Some(target) = folder(&written.options) else {
            continue;
        };
        let outer = sources(job.graph, &written.name)
            .into_iter()
            .find(|table| folder(&table.options).is_some_and(|folder| is_read(&target, &folder)));
        let Some(outer) = outer else { continue };
        let place = job
            .declared(written)
            .map_or(Place::default(), |table| table.option_place("path"));
        let message = format!(
            "the table '{}' is written within the folder that '{}' is read from, so the job would read again what it wrote, without an end",
            written.name, outer.name
        );
        let hint = match written.name.as_str() {
            dead_letters::NAME => {
                "say with 'tributary.dead-letters.path' where they shall lie instead"
            }
            _ => "give each a folder of its own, side by side",
        };
        found.refused.push(Refusal::new(place, message).hint(hint));
    }
}

/// Whether who reads the files of `folder` reads those of `target` too: names that begin with `_` or `.` are passed over.
fn is_read(target: &str, folder: &str) -> bool {
    below(target, folder)
        .is_some_and(|below| !below.split('/').any(|name| name.starts_with(['_', '.'])))
}

/// The tables whose rows, or dead letters, come to a table that is written.
fn sources<'a>(graph: &'a Graph, table: &str) -> Vec<&'a Table> {
    let sinks = graph.nodes.iter().enumerate();
    let sinks =
        sinks.filter(|(_, node)| matches!(&node.op, Op::Sink(sink) if sink.table.name == table));
    let mut ahead: Vec<NodeId> = sinks.map(|(id, _)| id).collect();
    let mut before: BTreeSet<NodeId> = ahead.iter().copied().collect();
    while let Some(id) = ahead.pop() {
        ahead.extend(
            graph.nodes[id]
                .inputs
                .iter()
                .filter(|id| before.insert(**id)),
        );
    }
    let scans = graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(id, node)| match &node.op {
            Op::Scan(scan) if before.contains(&id) || letters(scan) == table => Some(&*scan.table),
            _ => None,
        });
    scans.collect()
}

/// The table that takes the dead letters of a scan.
fn letters(scan: &Scan) -> &str {
    scan.table
        .options
        .get(DEAD_LETTERS)
        .unwrap_or(dead_letters::NAME)
}
