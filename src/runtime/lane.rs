//! One lane: its own instance of every operator and sink, and the splits that it owns.

use super::books::Books;
use super::exchange::{Outbox, Parcel, Routes};
use super::letters::{Addresses, Letters};
use super::lookup::LaneLookup;
use super::scan::LaneScan;
use super::splits::{SplitNames, SplitReport, SplitView};
use crate::decode::Reason;
use crate::error::{Error, Result};
use crate::lookup::Lookup;
use crate::operator::watermark::SplitWatermark;
use crate::operator::{Operator, Output, exchange_keys, keys};
use crate::plan::{Graph, NodeId, Op};
use crate::sink::{Rejected, Sink, Staging};
use crate::source::{Poll, Reader};
use crate::time::{EventTime, Progress};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a record weighs beside its bytes, or a row of columns with them; about.
const RECORD_BYTES: usize = 64;

/// The state machines and sinks of one lane.
pub struct Lane {
    pub index: usize,
    lanes: usize,
    graph: Arc<Graph>,
    routes: Arc<Routes>,
    operators: Vec<Option<Box<dyn Operator>>>,
    lookups: BTreeMap<NodeId, LaneLookup>,
    scans: Vec<Option<LaneScan>>,
    /// The sinks by table; several INSERTs into one table share one.
    sinks: BTreeMap<String, Box<dyn Sink>>,
    splits: Vec<OwnedSplit>,
    outbox: Outbox,
    letters: Letters,
    books: Books,
}

/// A lane's own instances of what is outside.
#[derive(Default)]
pub struct Edge {
    /// The sinks by table.
    pub sinks: BTreeMap<String, Box<dyn Sink>>,
    /// The tables that lookup joins ask, by the joins' nodes.
    pub lookups: BTreeMap<NodeId, Box<dyn Lookup>>,
}

/// A split that this lane reads.
pub struct OwnedSplit {
    pub scan: NodeId,
    pub ordinal: i32,
    pub reader: Box<dyn Reader>,
    pub watermark: SplitWatermark,
}

/// What all lanes are told before a round.
pub struct Round {
    /// By the split's number.
    pub views: BTreeMap<i32, SplitView>,
    pub names: SplitNames,
    /// About how much of a split is taken.
    pub most_bytes: usize,
    pub now_ms: i64,
}

/// What a lane gives at a barrier.
pub struct LaneBarrier {
    pub states: Vec<(NodeId, crate::operator::StatePart)>,
    pub stagings: Vec<(String, Staging)>,
    pub books: Books,
}

impl Lane {
    pub fn new(
        index: usize,
        lanes: usize,
        graph: Arc<Graph>,
        routes: Arc<Routes>,
        edge: Edge,
        addresses: Arc<Addresses>,
        max_future_ms: i64,
    ) -> Result<Lane> {
        let Edge {
            sinks,
            lookups: asked,
        } = edge;
        let mut lookups = BTreeMap::new();
        for (id, table) in asked {
            lookups.insert(id, LaneLookup::new(&graph.nodes[id], table)?);
        }
        let mut operators = Vec::new();
        let mut scans = Vec::new();
        for node in &graph.nodes {
            let inputs: Vec<_> = node
                .inputs
                .iter()
                .map(|&input| Arc::clone(&graph.nodes[input].schema))
                .collect();
            operators.push(crate::operator::build(node, &inputs)?);
            scans.push(match &node.op {
                Op::Scan(scan) => Some(LaneScan::new(node, scan, max_future_ms)?),
                _ => None,
            });
        }
        Ok(Lane {
            index,
            lanes,
            graph,
            routes,
            operators,
            lookups,
            scans,
            sinks,
            splits: Vec::new(),
            outbox: (0..lanes).map(|_| Vec::new()).collect(),
            letters: Letters::new(addresses),
            books: Books::default(),
        })
    }

    pub fn own(&mut self, split: OwnedSplit) {
        self.splits.push(split);
    }

    /// Puts back what a checkpoint holds of an operator's state; the caller has chosen the rows of this lane.
    pub fn restore_operator(&mut self, node: NodeId, part: &str, rows: RecordBatch) -> Result<()> {
        match &mut self.operators[node] {
            Some(operator) => operator.restore(part, rows),
            None => Err(Error::bug(format!(
                "node '{}' has no state",
                self.graph.nodes[node].name
            ))),
        }
    }

    pub fn restore_sink(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        self.sink(table)?.restore(rows)
    }

    fn sink(&mut self, table: &str) -> Result<&mut Box<dyn Sink>> {
        self.sinks
            .get_mut(table)
            .ok_or_else(|| Error::bug(format!("lane has no sink for table '{table}'")))
    }

    /// The first step of a round: read, decode, and push as far as no exchange is needed.
    pub fn ingest(&mut self, round: &Round) -> Result<Vec<SplitReport>> {
        let mut reports = Vec::with_capacity(self.splits.len());
        for mut split in std::mem::take(&mut self.splits) {
            let mut finished = false;
            if let Some(view) = round.views.get(&split.ordinal).filter(|view| view.read) {
                let report = self.ingest_split(&mut split, view, round)?;
                finished = report.finished;
                reports.push(report);
            }
            if !finished {
                self.splits.push(split);
            }
        }
        self.write_letters(round.now_ms)?;
        Ok(reports)
    }

    fn ingest_split(
        &mut self,
        split: &mut OwnedSplit,
        view: &SplitView,
        round: &Round,
    ) -> Result<SplitReport> {
        let polled = split.reader.poll(round.most_bytes)?;
        let mut report = SplitReport {
            scan: split.scan,
            ordinal: split.ordinal,
            position: split.reader.position(),
            watermark: EventTime::NONE,
            read: size(&polled),
            at_end: false,
            answers: split.reader.answers(),
            finished: false,
            lag: split.reader.lag(),
        };
        let Some(scan) = self.scans[split.scan].as_mut() else {
            return Err(Error::bug("a split belongs to a node that is not a scan"));
        };
        let book = self
            .books
            .sources
            .entry(scan.table().to_string())
            .or_default();
        scan.reads(split.reader.file());
        let (watermark, letters) = (&mut split.watermark, &mut self.letters);
        let batch = match polled {
            Poll::Records(records) => Some(scan.records(&records, view, watermark, letters, book)?),
            Poll::Columns(columns) => Some(scan.columns(columns, view, watermark, letters, book)?),
            Poll::Pending { at_end } => {
                report.at_end = at_end;
                None
            }
            Poll::Finished => {
                report.at_end = true;
                report.finished = true;
                None
            }
        };
        report.watermark = split.watermark.0;
        if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
            self.emit(split.scan, vec![batch], &round.names, Some(split.ordinal))?;
        }
        Ok(report)
    }

    /// A later step of a round: the rows that came to this lane, then the watermarks of one stage. Every lane computes
    /// the same progress.
    pub fn advance(
        &mut self,
        stage: usize,
        inbox: Vec<Parcel>,
        progress: &[Progress],
        round: &Round,
    ) -> Result<Vec<Progress>> {
        // All rows of the first input stand before those of the second, whatever lane sent them.
        let mut inbox = inbox;
        inbox.sort_by_key(|parcel| (parcel.node, parcel.input));
        for parcel in inbox {
            let output = self.apply(parcel.node, parcel.input, parcel.batch)?;
            self.handle(parcel.node, output, &round.names, None)?;
        }
        let mut progress = progress.to_vec();
        for node in 0..self.graph.nodes.len() {
            if self.routes.stage[node] != stage || self.graph.nodes[node].inputs.is_empty() {
                continue;
            }
            let inputs: Vec<_> = self.graph.nodes[node]
                .inputs
                .iter()
                .map(|&input| progress[input])
                .collect();
            let Some(operator) = self.operators[node].as_mut() else {
                progress[node].advance_to(inputs[0]);
                continue;
            };
            let mut output = Output::default();
            let next = operator.on_watermark(&inputs, &mut output)?;
            progress[node].advance_to(next);
            self.handle(node, output, &round.names, None)?;
        }
        self.write_letters(round.now_ms)?;
        Ok(progress)
    }

    pub fn take_outbox(&mut self) -> Outbox {
        let empty = (0..self.lanes).map(|_| Vec::new()).collect();
        std::mem::replace(&mut self.outbox, empty)
    }

    /// Parcels for a later stage of this round.
    pub fn keep(&mut self, parcels: Vec<Parcel>) {
        self.outbox[self.index].extend(parcels);
    }

    fn apply(&mut self, node: NodeId, input: usize, batch: RecordBatch) -> Result<Output> {
        let rows = batch.num_rows() as u64;
        let mut output = Output::default();
        if let Some(lookup) = self.lookups.get_mut(&node) {
            lookup.on_batch(&batch, &mut output)?;
        } else if let Some(operator) = self.operators[node].as_mut() {
            operator.on_batch(input, batch, &mut output)?;
        } else {
            return Err(Error::bug(format!(
                "node '{}' is no operator",
                self.graph.nodes[node].name
            )));
        }
        let book = self.books.operators.entry(node).or_default();
        book.rows_in += rows;
        book.used += output.used;
        Ok(output)
    }

    /// `split` is the one that the rows come from, as long as they are on the lane that read it.
    fn handle(
        &mut self,
        node: NodeId,
        output: Output,
        names: &SplitNames,
        split: Option<i32>,
    ) -> Result<()> {
        let count = |rows: &[(RecordBatch, String)]| {
            let counts = rows.iter().map(|(rows, _)| rows.num_rows() as u64);
            counts.sum::<u64>()
        };
        let (late, refused) = (count(&output.late), count(&output.refused));
        if output.filtered + late + refused > 0 {
            let book = self.books.operators.entry(node).or_default();
            book.filtered += output.filtered;
            book.late += late;
            book.refused += refused;
        }
        let late = output.late.iter().map(|left| (Reason::Late, None, left));
        let origin = split.and_then(|split| names.origin(split));
        let refused = output.refused.iter();
        let refused = refused.map(|left| (Reason::Lookup, origin.clone(), left));
        for (reason, origin, (rows, why)) in late.chain(refused) {
            let who = (self.graph.nodes[node].name.as_str(), why.as_str());
            self.letters.left_out(reason, who, rows, names, origin)?;
        }
        self.emit(node, output.batches, names, split)
    }

    /// Takes a node's rows to all who read it: through operators at once, to the door of keyed ones, into sinks.
    fn emit(
        &mut self,
        node: NodeId,
        batches: Vec<RecordBatch>,
        names: &SplitNames,
        split: Option<i32>,
    ) -> Result<()> {
        let routes = Arc::clone(&self.routes);
        let graph = Arc::clone(&self.graph);
        let mut waiting: VecDeque<(NodeId, RecordBatch)> =
            batches.into_iter().map(|batch| (node, batch)).collect();
        while let Some((from, batch)) = waiting.pop_front() {
            for &(to, input) in &routes.consumers[from] {
                let op = &graph.nodes[to].op;
                if let Some(keys) = exchange_keys(op, input) {
                    let parts = keys::partition(batch.clone(), keys, self.lanes)?;
                    for (lane, part) in parts.into_iter().enumerate() {
                        if let Some(batch) = part {
                            self.outbox[lane].push(Parcel {
                                node: to,
                                input,
                                batch,
                            });
                        }
                    }
                } else if let Op::Sink(sink) = op {
                    let table = &sink.table.name;
                    for (rows, why) in self.write(table, batch.clone())? {
                        let origin = split.and_then(|split| names.origin(split));
                        self.letters.rejected(table, &why, &rows, origin)?;
                    }
                } else {
                    let mut output = self.apply(to, input, batch.clone())?;
                    let batches = std::mem::take(&mut output.batches);
                    self.handle(to, output, names, split)?;
                    waiting.extend(batches.into_iter().map(|batch| (to, batch)));
                }
            }
        }
        Ok(())
    }

    /// Writes rows into a table, and counts those that it cannot hold.
    fn write(&mut self, table: &str, rows: RecordBatch) -> Result<Rejected> {
        let rejected = self.sink(table)?.write(rows)?;
        for (rows, _) in &rejected {
            let count = self.books.rejected.entry(table.to_string()).or_default();
            *count += rows.num_rows() as u64;
        }
        Ok(rejected)
    }

    fn write_letters(&mut self, now_ms: i64) -> Result<()> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let day = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let day = day.format("%Y-%m-%d").to_string();
        let mut letters = self.letters.take(&day)?;
        // Again for those that come back from a source's own table: they go to the usual one, which gives none back.
        while !letters.is_empty() {
            for (table, rows) in letters {
                for (rows, why) in self.write(&table, rows)? {
                    self.letters.returned(&table, &why, &rows)?;
                }
            }
            letters = self.letters.take(&day)?;
        }
        for (key, count) in self.letters.take_counts() {
            *self.books.letters.entry(key).or_default() += count;
        }
        Ok(())
    }

    /// The lane's part of a barrier.
    pub fn barrier(&mut self, epoch: u64, close: bool) -> Result<LaneBarrier> {
        let mut states = Vec::new();
        for (node, operator) in self.operators.iter_mut().enumerate() {
            if let Some(operator) = operator {
                states.extend(operator.snapshot()?.into_iter().map(|part| (node, part)));
            }
        }
        let mut stagings = Vec::new();
        for (table, sink) in &mut self.sinks {
            stagings.push((table.clone(), sink.stage(epoch, close)?));
        }
        Ok(LaneBarrier {
            states,
            stagings,
            books: std::mem::take(&mut self.books),
        })
    }

    /// Bytes of state, by node.
    pub fn state_bytes(&self) -> impl Iterator<Item = (NodeId, usize)> {
        let operators = self.operators.iter().enumerate();
        operators.filter_map(|(node, operator)| Some((node, operator.as_ref()?.state_bytes())))
    }

    pub fn buffered_bytes(&self) -> usize {
        self.sinks.values().map(|sink| sink.buffered_bytes()).sum()
    }

    /// Shrinks the sink that holds the most, until what is left fits.
    pub fn shrink_to(&mut self, bytes: usize) -> Result<()> {
        let mut before = self.buffered_bytes();
        while before > bytes {
            let largest = self
                .sinks
                .values_mut()
                .max_by_key(|sink| sink.buffered_bytes());
            if let Some(sink) = largest {
                sink.shrink()?;
            }
            let after = self.buffered_bytes();
            if after >= before {
                break;
            }
            before = after;
        }
        Ok(())
    }
}

/// About how many bytes a reader gave; 0 only where it gave nothing.
fn size(polled: &Poll) -> usize {
    match polled {
        Poll::Records(records) => records.byte_size() + records.len() * RECORD_BYTES,
        Poll::Columns(columns) => columns.records() * RECORD_BYTES,
        Poll::Pending { .. } | Poll::Finished => 0,
    }
}
