//! Who is behind whom, and which rows change lanes.

use crate::operator::exchange_keys;
use crate::plan::{Graph, NodeId};
use arrow::record_batch::RecordBatch;

/// The plan as a lane needs it: for each node, who takes its rows, and in which stage it works.
pub struct Routes {
    /// For each node the nodes that read it, with the number of their input.
    pub consumers: Vec<Vec<(NodeId, usize)>>,
    /// How many exchanges stand before a node.
    pub stage: Vec<usize>,
    /// One more than the largest stage.
    pub stages: usize,
}

impl Routes {
    pub fn new(graph: &Graph) -> Routes {
        let mut consumers = vec![Vec::new(); graph.nodes.len()];
        let mut stage = vec![0; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            for (input, &from) in node.inputs.iter().enumerate() {
                consumers[from].push((id, input));
            }
            let before = node.inputs.iter().map(|&input| stage[input]).max();
            let keyed = exchange_keys(&node.op, 0).is_some();
            stage[id] = before.unwrap_or(0) + usize::from(keyed);
        }
        let stages = stage.iter().max().map_or(1, |last| last + 1);
        Routes {
            consumers,
            stage,
            stages,
        }
    }
}

/// A batch on its way to a keyed operator.
pub struct Parcel {
    pub node: NodeId,
    pub input: usize,
    pub batch: RecordBatch,
}

/// What a lane has for each lane, itself included.
pub type Outbox = Vec<Vec<Parcel>>;

/// Hands every lane what the others have for it. The order is that of the sending lanes, so that it does not depend on which
/// was faster.
pub fn exchange(outboxes: Vec<Outbox>, lanes: usize) -> Vec<Vec<Parcel>> {
    let mut inboxes: Vec<Vec<Parcel>> = (0..lanes).map(|_| Vec::new()).collect();
    for outbox in outboxes {
        for (to, parcels) in outbox.into_iter().enumerate() {
            inboxes[to].extend(parcels);
        }
    }
    inboxes
}
