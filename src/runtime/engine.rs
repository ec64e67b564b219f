//! The engine: all lanes and the splits they read, one round after the other.

use super::books::Books;
use super::exchange::{self, Routes};
use super::heirs::Heirs;
use super::lane::{Edge, Lane, LaneBarrier, OwnedSplit, Round};
use super::letters::Addresses;
use super::splits::{Asking, Habits, ScanSplits, SplitNames};
use super::workers::Workers;
use crate::clock::Clock;
use crate::epoch::{Barrier, Checkpoint, Ledger, NodeState, Recovered};
use crate::error::{Error, Result};
use crate::lookup::Lookup;
use crate::operator::keys;
use crate::plan::{self, Graph, LookupJoin, Meaning, Node, NodeId, Op, Scan};
use crate::sink::{Publisher, Sink, TableSpec};
use crate::source::{Positions, Source, Waker};
use crate::time::{EventTime, Progress};
use std::collections::BTreeMap;
use std::sync::Arc;

/// About how much of a split is taken in one round: enough to pay for the steps, little enough to stay in the caches.
const ROUND_BYTES: usize = 2 << 20;
/// The same until something came: much may wait by then, and whether a job works should be known at once.
const FIRST_ROUND_BYTES: usize = 64 << 10;

/// The edge of the engine: what it reads from and writes to. A test gives it queues.
pub trait Connections: Send + Sync {
    fn source(&self, scan: &Scan) -> Result<Box<dyn Source>>;
    fn lookup(&self, join: &LookupJoin) -> Result<Box<dyn Lookup>>;
    fn sink(&self, table: &TableSpec, lane: usize) -> Result<Box<dyn Sink>>;
    fn publisher(&self, table: &TableSpec) -> Result<Arc<dyn Publisher>>;
}

/// What an engine is made of.
pub struct Parts {
    pub graph: Arc<Graph>,
    pub connections: Arc<dyn Connections>,
    /// The sources, which look for their splits already: see [`ask_sources`].
    pub sources: BTreeMap<NodeId, Asking>,
    /// The tables that are written, the dead letters among them.
    pub tables: Vec<TableSpec>,
    pub letters: Addresses,
    pub clock: Arc<dyn Clock>,
    pub lanes: usize,
    pub max_future_ms: i64,
    pub idle_timeout_ms: i64,
    /// How far, in event time, one split may run ahead of the slowest.
    pub max_drift_ms: i64,
    /// Bytes for rows in open files.
    pub sink_memory: usize,
    /// Whether state may be left behind that the job has no place for.
    pub allow_dropped_state: bool,
    /// Ends the engine's nap.
    pub waker: Waker,
}

/// Has every source look for its splits and open them where the checkpoint has them, while whoever starts the job does something else.
pub fn ask_sources(
    graph: &Graph,
    checkpoint: &Checkpoint,
    connections: &dyn Connections,
    waker: &Waker,
) -> Result<BTreeMap<NodeId, Asking>> {
    let mut sources = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Op::Scan(scan) = &node.op {
            let source = connections.source(scan)?;
            let restored = checkpoint.sources.get(&scan.table.name);
            sources.insert(id, Asking::begin(source, restored, waker.clone()));
        }
    }
    Ok(sources)
}

pub struct Engine {
    parts: Parts,
    routes: Arc<Routes>,
    lanes: Vec<Lane>,
    workers: Workers,
    /// By node.
    scans: BTreeMap<NodeId, ScanSplits>,
    names: SplitNames,
    /// What the nodes do, by which the next start knows them again.
    meanings: BTreeMap<NodeId, Meaning>,
    progress: Vec<Progress>,
    /// The same as a checkpoint holds it: how far the rows themselves had come. A bounded input that has ended may have more when the
    /// job runs again.
    kept: Vec<Progress>,
    ledger: Ledger,
    /// Whether anything was read yet.
    begun: bool,
}

impl Engine {
    /// Makes the lanes and puts back what the last epoch holds.
    pub fn new(mut parts: Parts, recovered: Option<Recovered>) -> Result<Engine> {
        let routes = Arc::new(Routes::new(&parts.graph));
        let addresses = Arc::new(parts.letters.clone());
        let mut lanes = Vec::with_capacity(parts.lanes);
        for index in 0..parts.lanes {
            let mut edge = Edge::default();
            for table in &parts.tables {
                let sink = parts.connections.sink(table, index)?;
                edge.sinks.insert(table.name.clone(), sink);
            }
            for (id, node) in parts.graph.nodes.iter().enumerate() {
                if let Op::Lookup(join) = &node.op {
                    let lookup = parts.connections.lookup(join);
                    let lookup = lookup.map_err(|error| error.at(&node.place))?;
                    edge.lookups.insert(id, lookup);
                }
            }
            lanes.push(Lane::new(
                index,
                parts.lanes,
                Arc::clone(&parts.graph),
                Arc::clone(&routes),
                edge,
                Arc::clone(&addresses),
                parts.max_future_ms,
            )?);
        }
        let checkpoint = recovered
            .as_ref()
            .and_then(|recovered| recovered.checkpoint.as_ref());
        let meanings = plan::meanings(&parts.graph);
        let heirs = Heirs::find(&parts.graph, &meanings, checkpoint);
        let progress = restored_progress(&parts.graph, checkpoint, &heirs);
        let mut scans = BTreeMap::new();
        for (id, node) in parts.graph.nodes.iter().enumerate() {
            let Op::Scan(scan) = &node.op else { continue };
            let Some(source) = parts.sources.remove(&id) else {
                return Err(Error::bug(format!(
                    "the source of table '{}' was not asked",
                    scan.table.name
                )));
            };
            let options = &scan.table.options;
            let timeout = options.duration("scan.watermark.idle-timeout");
            let drift = options.duration("scan.watermark.alignment.max-drift");
            let habits = Habits {
                timed: scan.watermark.is_some(),
                idle_timeout_ms: timeout.map_or(parts.idle_timeout_ms, millis),
                group: options
                    .get("scan.watermark.alignment.group")
                    .unwrap_or_default()
                    .to_string(),
                max_drift_ms: drift.map_or(parts.max_drift_ms, millis),
                may_drop: parts.allow_dropped_state,
            };
            let name = scan.table.name.clone();
            scans.insert(id, ScanSplits::new(name, source, habits, progress[id]));
        }
        let mut ledger = checkpoint
            .map(|checkpoint| checkpoint.ledger.clone())
            .unwrap_or_default();
        ledger.operators = heirs.books(&parts.graph, ledger.operators);
        let mut engine = Engine {
            parts,
            routes,
            workers: Workers::new(lanes.len())?,
            lanes,
            scans,
            names: SplitNames::default(),
            meanings,
            kept: progress.clone(),
            progress,
            ledger,
            begun: false,
        };
        if let Some(recovered) = recovered {
            engine.restore(recovered, &heirs)?;
            // Operators learn how far they had come before they see a row.
            let round = Arc::new(engine.prepare());
            engine.propagate(&round)?;
        }
        Ok(engine)
    }

    fn restore(&mut self, recovered: Recovered, heirs: &Heirs) -> Result<()> {
        let lanes = self.lanes.len();
        if let Some(checkpoint) = &recovered.checkpoint {
            let allowed = self.parts.allow_dropped_state;
            let graph = &self.parts.graph;
            heirs.check_dropped(
                graph,
                &self.meanings,
                checkpoint,
                &recovered.states,
                allowed,
            )?;
        }
        for state in recovered.states {
            let Some(node) = heirs.of(&state.node) else {
                continue;
            };
            for batch in state.rows {
                let parts = keys::partition_columns(batch, state.key_columns, lanes)?;
                for (lane, rows) in parts.into_iter().enumerate() {
                    if let Some(rows) = rows {
                        self.lanes[lane].restore_operator(node, &state.part, rows)?;
                    }
                }
            }
        }
        for (table, parts) in recovered.carried {
            if !parts.is_empty() && !self.parts.tables.iter().any(|known| known.name == table) {
                return Err(Error::job(format!(
                    "the checkpoint carries rows of table '{table}', which the job does not write any more: put its INSERT back, stop \
                     the job in good order, and take it out then"
                )));
            }
            for (part, rows) in parts {
                // Parts of one file go to one lane, so that they become one file again.
                self.lanes[(part.lane + part.file as usize) % lanes].restore_sink(&table, rows)?;
            }
        }
        Ok(())
    }

    /// Reads what is there and takes it as far as it goes; says about how many bytes that were.
    pub fn round(&mut self) -> Result<usize> {
        self.discover()?;
        let round = Arc::new(self.prepare());
        let told = Arc::clone(&round);
        let reports = self.on_lanes(move |lane| lane.ingest(&told))?;
        let mut read = 0;
        for report in reports.into_iter().flatten() {
            read += report.read;
            if let Some(scan) = self.scans.get_mut(&report.scan) {
                scan.report(&report, round.now_ms);
            }
        }
        let mut changed = false;
        for (&node, scan) in &mut self.scans {
            let next = scan.progress(round.now_ms);
            if next != self.progress[node] {
                self.progress[node].advance_to(next);
                changed = true;
            }
        }
        self.begun |= read > 0;
        if read > 0 || changed {
            self.propagate(&round)?;
            self.give_memory_back()?;
        }
        Ok(read)
    }

    /// Whether anything was read yet.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Whether some source still asks its server for the first time.
    pub fn opening(&self) -> bool {
        self.scans.values().any(ScanSplits::opening)
    }

    /// Whether every source has come to its end, and the operators know: windows have fired, joins have padded.
    pub fn finished(&self) -> bool {
        let mut scans = self.scans.keys();
        scans.all(|&node| self.progress[node].watermark == EventTime::END)
    }

    fn discover(&mut self) -> Result<()> {
        let now_ms = self.parts.clock.now_ms();
        for (&node, scan) in &mut self.scans {
            let mut next = i32::try_from(self.names.0.len()).unwrap_or(i32::MAX);
            for found in scan.discover(&mut next, self.lanes.len(), now_ms)? {
                Arc::make_mut(&mut self.names.0).push((scan.table.as_str().into(), found.split));
                if let Some(reader) = found.reader {
                    self.lanes[found.lane].own(OwnedSplit {
                        scan: node,
                        ordinal: found.ordinal,
                        reader,
                        watermark: found.watermark,
                    });
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self) -> Round {
        let now_ms = self.parts.clock.now_ms();
        // While a split has shown nothing yet, nobody knows who is ahead; then the others stay near where they began.
        let mut bases: BTreeMap<String, (Option<EventTime>, Option<EventTime>)> = BTreeMap::new();
        for scan in self.scans.values() {
            let (slowest, first) = bases.entry(scan.group.clone()).or_default();
            *slowest = [*slowest, scan.slowest()].into_iter().flatten().min();
            *first = [*first, scan.first()].into_iter().flatten().min();
        }
        let views = self.scans.values_mut().flat_map(|scan| {
            let base = match bases.get(&scan.group) {
                Some((Some(EventTime::NONE), first)) => *first,
                Some((slowest, _)) => *slowest,
                None => None,
            };
            scan.views(base, now_ms)
        });
        Round {
            views: views.map(|view| (view.ordinal, view)).collect(),
            names: self.names.clone(),
            most_bytes: match self.begun {
                true => ROUND_BYTES,
                false => FIRST_ROUND_BYTES,
            },
            now_ms,
        }
    }

    /// Takes a step without input on every lane.
    fn on_lanes<T: Send + 'static>(
        &mut self,
        step: impl Fn(&mut Lane) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let inputs = vec![(); self.lanes.len()];
        self.workers
            .step(&mut self.lanes, inputs, move |lane, ()| step(lane))
    }

    fn propagate(&mut self, round: &Arc<Round>) -> Result<()> {
        for stage in 0..self.routes.stages {
            let outboxes = self
                .lanes
                .iter_mut()
                .map(|lane| lane.take_outbox())
                .collect();
            let mut inboxes = exchange::exchange(outboxes, self.lanes.len());
            let progress = self.progress.clone();
            let told = Arc::clone(round);
            // Parcels for later stages wait in the outbox again.
            let mut now = Vec::with_capacity(inboxes.len());
            for (lane, inbox) in inboxes.iter_mut().enumerate() {
                let (due, later) = std::mem::take(inbox)
                    .into_iter()
                    .partition::<Vec<_>, _>(|parcel| self.routes.stage[parcel.node] <= stage);
                self.lanes[lane].keep(later);
                now.push(due);
            }
            let results = self
                .workers
                .step(&mut self.lanes, now, move |lane, inbox| {
                    lane.advance(stage, inbox, &progress, &told)
                })?;
            if let Some(progress) = results.into_iter().next() {
                self.progress = progress;
            }
        }
        for (kept, &now) in self.kept.iter_mut().zip(&self.progress) {
            if now.watermark != EventTime::END {
                kept.advance_to(now);
            }
        }
        Ok(())
    }

    /// When files hold too much: down to three quarters, so that it is not to be done again for the next few rows.
    fn give_memory_back(&mut self) -> Result<()> {
        if self.buffered_bytes() > self.parts.sink_memory {
            let each = self.parts.sink_memory / 4 * 3 / self.lanes.len();
            self.on_lanes(move |lane| lane.shrink_to(each))?;
        }
        Ok(())
    }

    /// The gap between two rounds becomes an epoch. With `close` every file is closed too.
    pub fn barrier(
        &mut self,
        epoch: u64,
        close: bool,
    ) -> Result<(Barrier, BTreeMap<String, Positions>)> {
        let lanes = self.on_lanes(move |lane| lane.barrier(epoch, close))?;
        let mut states = Vec::new();
        let mut sinks: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (
            lane,
            LaneBarrier {
                states: parts,
                stagings,
                books,
            },
        ) in lanes.into_iter().enumerate()
        {
            states.extend(parts.into_iter().map(|(node, part)| NodeState {
                node: self.parts.graph.nodes[node].name.clone(),
                lane,
                part,
            }));
            for (table, staging) in stagings {
                sinks.entry(table).or_default().push(staging);
            }
            self.add(books);
        }
        let names = self.parts.graph.nodes.iter().map(|node| node.name.clone());
        let progress = names.zip(self.kept.iter().copied()).collect();
        let sources = self
            .scans
            .values()
            .map(|scan| (scan.table.clone(), scan.state()));
        let positions = self
            .scans
            .values()
            .map(|scan| (scan.table.clone(), scan.positions()));
        let barrier = Barrier {
            epoch,
            sources: sources.collect(),
            progress,
            nodes: self.meanings(),
            watermarks: self.watermarks(),
            states,
            sinks,
            ledger: self.ledger.clone(),
            released: false,
        };
        Ok((barrier, positions.collect()))
    }

    fn meanings(&self) -> BTreeMap<String, Meaning> {
        let named = |(&node, meaning): (&NodeId, &Meaning)| {
            (self.parts.graph.nodes[node].name.clone(), meaning.clone())
        };
        self.meanings.iter().map(named).collect()
    }

    /// How far the rows have come that each table is written from. Dead letters have no time of their own but the end.
    fn watermarks(&self) -> BTreeMap<String, EventTime> {
        let none = if self.finished() {
            EventTime::END
        } else {
            EventTime::NONE
        };
        let tables = self.parts.tables.iter();
        let mut watermarks: BTreeMap<_, _> =
            tables.map(|table| (table.name.clone(), none)).collect();
        for (node, progress) in self.nodes() {
            if let Op::Sink(sink) = &node.op {
                watermarks.insert(sink.table.name.clone(), progress.watermark);
            }
        }
        watermarks
    }

    /// An epoch is published: tells the servers, for lag tools, and takes over its books.
    pub fn committed(&mut self, positions: &BTreeMap<String, Positions>, ledger: &Ledger) {
        for scan in self.scans.values_mut() {
            if let Some(positions) = positions.get(&scan.table)
                && let Some(source) = scan.source()
            {
                source.acknowledge(positions);
            }
        }
        self.ledger.sinks.clone_from(&ledger.sinks);
    }

    fn add(&mut self, books: Books) {
        for (table, book) in books.sources {
            self.ledger.sources.entry(table).or_default().add(&book);
        }
        for (node, book) in books.operators {
            let name = self.parts.graph.nodes[node].name.clone();
            self.ledger.operators.entry(name).or_default().add(&book);
        }
        for (table, count) in books.rejected {
            self.ledger.sinks.entry(table).or_default().rejected += count;
        }
        for ((source, reason), count) in books.letters {
            let by_reason = self.ledger.letters.entry(source).or_default();
            *by_reason.entry(reason.word().to_string()).or_default() += count;
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The nodes of the plan, each with how far it has come.
    pub fn nodes(&self) -> impl Iterator<Item = (&Node, Progress)> {
        self.parts
            .graph
            .nodes
            .iter()
            .zip(self.progress.iter().copied())
    }

    pub fn scans(&self) -> impl Iterator<Item = &ScanSplits> {
        self.scans.values()
    }

    /// Bytes of state by the operator's name.
    pub fn state_bytes(&self) -> BTreeMap<String, usize> {
        let mut bytes = BTreeMap::new();
        for (node, size) in self.lanes.iter().flat_map(|lane| lane.state_bytes()) {
            *bytes
                .entry(self.parts.graph.nodes[node].name.clone())
                .or_default() += size;
        }
        bytes
    }

    pub fn buffered_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.buffered_bytes()).sum()
    }
}

/// How far each node had come; what is not known follows from its inputs.
fn restored_progress(
    graph: &Graph,
    checkpoint: Option<&Checkpoint>,
    heirs: &Heirs,
) -> Vec<Progress> {
    let mut restored = vec![Progress::START; graph.nodes.len()];
    for (name, progress) in checkpoint
        .iter()
        .flat_map(|checkpoint| &checkpoint.progress)
    {
        if let Some(node) = heirs.of(name) {
            restored[node] = *progress;
        }
    }
    restored
}

/// A duration in milliseconds.
pub fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
