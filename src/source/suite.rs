//! What every source must keep to, whatever it reads from.

use super::memory::MemoryTables;
use super::{Poll, Position, Positions, Reader, Source, SourceContext, Split, Waker};
use crate::clock::{ManualClock, SystemClock};
use crate::error::Result;
use crate::plan::Scan;
use crate::sql::{Options, Table};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use std::time::Duration;

/// How often a test waits for a wake before it gives up; the wait itself ends at the wake.
const WAITS: usize = 200;
const WAIT: Duration = Duration::from_millis(200);

/// What a source needs around it.
pub struct Bench {
    runtime: tokio::runtime::Runtime,
    pub waker: Waker,
    pub memory: MemoryTables,
}

impl Bench {
    pub fn new() -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Bench {
            runtime,
            waker: Waker::default(),
            memory: MemoryTables::default(),
        }
    }

    /// A context for a bounded read.
    pub fn context(&self) -> SourceContext {
        SourceContext {
            bounded: true,
            share: crate::source::Share::default(),
            memory_budget: 16 << 20,
            waker: self.waker.clone(),
            runtime: self.runtime.handle().clone(),
            clock: Arc::new(SystemClock),
            memory: self.memory.clone(),
            stores: Arc::new(|path| {
                let store = object_store::local::LocalFileSystem::new();
                let path = object_store::path::Path::from_absolute_path(path)
                    .map_err(|error| crate::error::Error::job("path").caused_by(error))?;
                Ok((Arc::new(store), path))
            }),
            registries: crate::registry::none(),
        }
    }

    pub fn unbounded(&self) -> SourceContext {
        SourceContext {
            bounded: false,
            ..self.context()
        }
    }
}

/// A scan that decodes all physical columns of a table with these options.
pub fn scan(table: &str, schema: SchemaRef, options: &[(&str, &str)]) -> Scan {
    let columns = schema.fields().iter();
    let columns = columns.map(|field| (field.name().as_str(), field.data_type().clone()));
    let options = Options::of(options.iter().copied());
    Scan {
        table: Arc::new(Table::of(table, columns, options)),
        required: vec![false; schema.fields().len()],
        decoded: schema,
        metadata: Vec::new(),
        exprs: Vec::new(),
        watermark: None,
        hidden: false,
    }
}

/// One row as read: its offset and everything in it, as text.
pub type Row = (i64, String);

/// What is there now: rows, or nothing because the split ended. Waits while it is pending.
pub fn next(bench: &Bench, reader: &mut dyn Reader, max_bytes: usize) -> Option<Vec<Row>> {
    for _ in 0..WAITS {
        match reader.poll(max_bytes).unwrap() {
            Poll::Pending { .. } => bench.waker.wait(WAIT),
            Poll::Finished => return None,
            poll => return Some(rows(&poll)),
        }
    }
    panic!("nothing came, and nothing ended");
}

/// Polls until the reader says that it stands at the end of what there is, and gives what came before.
pub fn to_the_end(bench: &Bench, reader: &mut dyn Reader) -> Vec<Row> {
    let mut read = Vec::new();
    for _ in 0..WAITS {
        match reader.poll(1 << 20).unwrap() {
            Poll::Pending { at_end: true } | Poll::Finished => return read,
            Poll::Pending { at_end: false } => bench.waker.wait(WAIT),
            poll => read.extend(rows(&poll)),
        }
    }
    panic!("the reader never said that it is at the end");
}

fn rows(poll: &Poll) -> Vec<Row> {
    match poll {
        Poll::Records(records) => {
            assert!(!records.is_empty(), "a run without records");
            let text = |record| format!("{:?}={:?}", records.key(record), records.value(record));
            (0..records.len())
                .map(|record| (records.offsets[record], text(record)))
                .collect()
        }
        Poll::Columns(columns) => {
            assert!(columns.records() > 0, "a run without records");
            let offset = |record: u32| columns.first_offset + i64::from(record);
            let text = |row| format!("{:?}", columns.batch.slice(row, 1).columns());
            let rows = columns.origin.iter().enumerate();
            let rows = rows.map(|(row, record)| (offset(*record), text(row)));
            let bad = columns
                .bad
                .iter()
                .map(|bad| (offset(bad.record), format!("{bad:?}")));
            let mut all: Vec<Row> = rows.chain(bad).collect();
            all.sort();
            all
        }
        Poll::Pending { .. } | Poll::Finished => Vec::new(),
    }
}

/// The rows up to the end, and the position behind each poll.
fn read(bench: &Bench, reader: &mut dyn Reader, max_bytes: usize) -> (Vec<Row>, Vec<Position>) {
    let mut all = Vec::new();
    let mut positions = vec![reader.position()];
    while let Some(rows) = next(bench, reader, max_bytes) {
        for (offset, _) in &rows {
            assert!(
                *offset >= positions.last().unwrap().offset,
                "an offset before the position"
            );
        }
        let position = reader.position();
        assert_eq!(
            position.offset,
            rows.last().unwrap().0 + 1,
            "the position is behind the rows"
        );
        positions.push(position);
        all.extend(rows);
    }
    assert!(
        all.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "offsets go up"
    );
    assert!(reader.position().finished, "the end is in the position");
    assert!(
        matches!(reader.poll(max_bytes).unwrap(), Poll::Finished),
        "the end stays"
    );
    positions.push(reader.position());
    (all, positions)
}

/// Checks a source whose data stands still; `open` opens it anew, as after a restart, for a bounded read.
pub fn check(bench: &Bench, open: &mut dyn FnMut() -> Box<dyn Source>) {
    let mut source = open();
    assert!(source.bounded());
    let splits = source.discover().unwrap();
    assert!(!splits.is_empty(), "there is something to read");
    assert!(
        source.discover().unwrap().is_empty(),
        "a split is found once"
    );
    let mut total = 0;
    for split in &splits {
        let mut reader = source.open(split, None).unwrap();
        let (all, positions) = read(bench, &mut *reader, 64);
        drop(reader);
        total += all.len();
        let every = (positions.len() / 7).max(1);
        for at in positions.iter().step_by(every).chain(positions.last()) {
            let mut again = open();
            assert_eq!(again.discover().unwrap(), splits);
            let mut reader = again.open(split, Some(*at)).unwrap();
            assert_eq!(reader.position().offset, at.offset);
            let rest: Vec<Row> = all
                .iter()
                .filter(|row| row.0 >= at.offset)
                .cloned()
                .collect();
            assert_eq!(
                read(bench, &mut *reader, 1 << 20).0,
                rest,
                "the rest from {at:?}"
            );
        }
    }
    assert!(total > 10, "enough data to tell");
    let ends = splits.into_iter().map(|split| {
        (
            split,
            Position {
                offset: 1,
                finished: false,
            },
        )
    });
    source.acknowledge(&ends.collect());
}

/// A source whose clock moves with every poll.
pub struct Later(pub Box<dyn Source>, pub ManualClock);

impl Source for Later {
    fn discover(&mut self) -> Result<Vec<Split>> {
        self.0.discover()
    }

    fn open(&mut self, split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        Ok(Box::new(LaterReader(
            self.0.open(split, from)?,
            self.1.clone(),
        )))
    }

    fn acknowledge(&mut self, positions: &Positions) {
        self.0.acknowledge(positions);
    }

    fn bounded(&self) -> bool {
        self.0.bounded()
    }
}

struct LaterReader(Box<dyn Reader>, ManualClock);

impl Reader for LaterReader {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        self.1.advance(Duration::from_millis(1));
        self.0.poll(max_bytes)
    }

    fn position(&self) -> Position {
        self.0.position()
    }
}

mod memory {
    use super::*;

    fn fill(bench: &Bench) {
        let table = bench.memory.table("t");
        for n in 0..30 {
            let value = format!("value {n}");
            table.push(n % 2, Some(b"key"), Some(value.as_bytes()), n as i64);
        }
    }

    fn source(bench: &Bench, context: &SourceContext) -> Box<dyn Source> {
        Box::new(bench.memory.source("t", context).unwrap())
    }

    #[test]
    fn keeps_the_contract() {
        let bench = Bench::new();
        fill(&bench);
        check(&bench, &mut || source(&bench, &bench.context()));
    }

    #[test]
    fn a_push_wakes_and_a_failure_comes_once() {
        let bench = Bench::new();
        fill(&bench);
        let mut source = source(&bench, &bench.unbounded());
        assert!(!source.bounded());
        let split = source.discover().unwrap().remove(0);
        let mut reader = source.open(&split, None).unwrap();
        assert_eq!(to_the_end(&bench, &mut *reader).len(), 15);
        let table = bench.memory.table("t");
        std::thread::scope(|scope| {
            scope.spawn(|| table.push(0, None, Some(b"late"), 0));
            assert_eq!(next(&bench, &mut *reader, 1).unwrap().len(), 1);
        });
        table.fail(0, "the wire was cut");
        assert!(reader.poll(1).is_err());
        table.end();
        assert!(matches!(reader.poll(1).unwrap(), Poll::Finished));
        assert!(source.bounded());
    }
}
