//! The first rows of each partition in an order: `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= n`.
//!
//! Guarantee: behind each batch the rows given so far say, taken together, which rows are the first ones of all that hold. Of rows that are
//! only added, no more than the first `n` are kept; of rows that may be taken back, all, since one behind them may move up. Rows that the
//! order does not tell apart stand as they came, and where rows are taken back, in the order of their values: there, which one
//! came first depends on how batches are cut.
//!
//! Partitions that belong to a window say nothing until the watermark reaches its last millisecond; then its first rows come out, once and for
//! good, and a row that comes later is late.

mod shelf;

use crate::error::{Error, Result};
use crate::operator::changes::{self, Kind};
use crate::operator::expr::{
    batch_of, evaluate_all, evaluate_millis, row_watermarks, visible, visible_schema,
};
use crate::operator::keys::KeyEncoder;
use crate::operator::state::{self, unknown_part};
use crate::operator::{Operator, Output, Snapshot, hidden};
use crate::plan::{Gives, Rank};
use crate::time::{EventTime, Progress};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::PhysicalExpr;
use shelf::{Shelf, Stored};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The name of its state: the partition's columns, the row's, when it came and how often it is there.
const PART: &str = "rows";

/// Keeps the rows that may be among the first ones of their partition.
pub struct TopRows {
    spec: Rank,
    limit: usize,
    input: SchemaRef,
    schema: SchemaRef,
    watermark_column: Option<usize>,
    partition_keys: KeyEncoder,
    /// The order's columns to bytes that compare as the rows do; None where there is no order.
    order: RowConverter,
    rows: KeyEncoder,
    /// The columns of [`PART`].
    state: Vec<Field>,
    partitions: HashMap<Arc<[u8]>, Partition>,
    shelf: Shelf,
    /// The partitions of each open window, by its end.
    windows: BTreeMap<i64, BTreeSet<Arc<[u8]>>>,
    arrivals: u64,
    current: Progress,
}

/// The rows of a partition, in their order: the bytes of the order and of what decides between equals, and where the row lies.
#[derive(Default)]
struct Partition(BTreeMap<Box<[u8]>, usize>);

/// A partition, and what its first rows were.
type Before = (Arc<[u8]>, Vec<Arc<[u8]>>);

/// What comes out, until it is a batch.
#[derive(Default)]
struct Emitted {
    rows: Vec<Arc<[u8]>>,
    numbers: Vec<i64>,
    kinds: Vec<Kind>,
}

impl Emitted {
    fn push(&mut self, row: Arc<[u8]>, number: usize, kind: Kind) {
        self.rows.push(row);
        self.numbers.push(number as i64 + 1);
        self.kinds.push(kind);
    }
}

impl TopRows {
    pub fn new(spec: &Rank, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let ([input], Some(limit)) = (inputs, spec.limit) else {
            return Err(Error::bug("ROW_NUMBER needs one input and a limit"));
        };
        let watermark_column = hidden::watermark(input);
        let input = visible_schema(input);
        let mut columns = Vec::new();
        for (at, key) in spec.partition.iter().enumerate() {
            columns.push(state::column(format!("key_{at}"), &key.data_type(&input)?));
        }
        for (at, field) in input.fields().iter().enumerate() {
            columns.push(state::column(format!("row_{at}"), field.data_type()));
        }
        columns.push(state::column("arrival", &DataType::Int64));
        columns.push(state::column("copies", &DataType::Int64));
        let order = spec
            .order
            .iter()
            .map(|by| {
                let field = SortField::new_with_options(by.expr.data_type(&input)?, by.options);
                Ok(field)
            })
            .collect::<Result<Vec<_>>>()?;
        let order = RowConverter::new(order)
            .map_err(|error| Error::job("these types have no order").caused_by(error))?;
        let types = input.fields().iter().map(|field| field.data_type().clone());
        Ok(TopRows {
            limit,
            schema,
            watermark_column,
            partition_keys: KeyEncoder::for_exprs(&spec.partition, &input)?,
            order,
            rows: KeyEncoder::new(&types.collect::<Vec<_>>())?,
            state: columns,
            spec: spec.clone(),
            input,
            partitions: HashMap::new(),
            shelf: Shelf::default(),
            windows: BTreeMap::new(),
            arrivals: 0,
            current: Progress::START,
        })
    }

    /// The end of a window, where the partitions belong to windows.
    fn window_end(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        match &self.spec.gives {
            Gives::AtWindowEnd(end) => Some(end),
            _ => None,
        }
    }

    /// Adds rows, or takes them back, and remembers of each partition what its first rows were before. Rows in windows have no before.
    fn apply(
        &mut self,
        batch: &RecordBatch,
        kinds: Option<&[Kind]>,
        known: Option<(&Int64Array, &Int64Array)>,
    ) -> Result<Vec<Before>> {
        let count = batch.num_rows();
        let partitions = evaluate_all(&self.spec.partition, batch)?;
        let partitions = self.partition_keys.encode(&partitions, count)?.rows;
        let order: Vec<_> = self.spec.order.iter().map(|by| by.expr.clone()).collect();
        let order = self.order.convert_columns(&evaluate_all(&order, batch)?)?;
        let rows = self.rows.encode(batch.columns(), count)?.rows;
        let ends = self.window_end().map(|end| evaluate_millis(end, batch));
        let ends = ends.transpose()?;

        let mut before: Vec<Before> = Vec::new();
        let mut seen: BTreeSet<Arc<[u8]>> = BTreeSet::new();
        for row in 0..count {
            let (arrival, copies) = match known {
                Some((arrivals, copies)) => (arrivals.value(row) as u64, copies.value(row)),
                None => (self.arrivals + 1, 1),
            };
            self.arrivals = self.arrivals.max(arrival);
            let partition: Arc<[u8]> = match self.partitions.get_key_value(partitions.bytes(row)) {
                Some((partition, _)) => Arc::clone(partition),
                None => partitions.bytes(row).into(),
            };
            let place = self.place(order.row(row).data(), arrival, rows.bytes(row));
            if self.spec.input_changes || known.is_some() || self.belongs(&partition, &place) {
                if known.is_none() && ends.is_none() && seen.insert(Arc::clone(&partition)) {
                    before.push((Arc::clone(&partition), self.first(&partition)));
                }
                let stored = Stored {
                    partition: Arc::clone(&partition),
                    row: rows.bytes(row).into(),
                    place_bytes: place.len(),
                    arrival,
                    copies,
                };
                match kinds.map_or(Kind::Insert, |kinds| kinds[row]).adds() {
                    true => self.add(place, stored),
                    false => self.take_back(&place, &partition)?,
                }
                if let Some(ends) = &ends {
                    let window = self.windows.entry(ends.value(row)).or_default();
                    window.insert(partition);
                }
            }
        }
        Ok(before)
    }

    /// Where a row stands in its partition. The order's bytes end by themselves, so that nothing behind them confuses it.
    fn place(&self, order: &[u8], arrival: u64, row: &[u8]) -> Box<[u8]> {
        let mut place = Vec::with_capacity(order.len() + row.len().max(8));
        place.extend_from_slice(order);
        match (self.spec.input_changes, self.spec.newest_first) {
            (true, _) => place.extend_from_slice(row),
            (false, false) => place.extend_from_slice(&arrival.to_be_bytes()),
            (false, true) => place.extend_from_slice(&(!arrival).to_be_bytes()),
        }
        place.into()
    }

    /// Whether a row that is never taken back can be among the first ones.
    fn belongs(&self, partition: &Arc<[u8]>, place: &[u8]) -> bool {
        let held = self.partitions.get(partition);
        held.is_none_or(|Partition(rows)| {
            rows.len() < self.limit
                || rows
                    .last_key_value()
                    .is_some_and(|(last, _)| place < last.as_ref())
        })
    }

    fn add(&mut self, place: Box<[u8]>, stored: Stored) {
        let Partition(rows) = self
            .partitions
            .entry(Arc::clone(&stored.partition))
            .or_default();
        if let Some(&at) = rows.get(&place) {
            self.shelf.add_copies(at, stored.copies);
            return;
        }
        rows.insert(place, self.shelf.put(stored));
        if !self.spec.input_changes
            && rows.len() > self.limit
            && let Some((_, at)) = rows.pop_last()
        {
            self.shelf.remove(at);
        }
    }

    fn take_back(&mut self, place: &[u8], partition: &Arc<[u8]>) -> Result<()> {
        let rows = self.partitions.get_mut(partition);
        let Some((Partition(rows), at)) = rows.and_then(|rows| {
            let at = rows.0.get(place).copied()?;
            Some((rows, at))
        }) else {
            return Err(Error::bug("a row is taken back that was never given"));
        };
        if self.shelf.add_copies(at, -1) == 0 {
            rows.remove(place);
            self.shelf.remove(at);
            if rows.is_empty() {
                self.partitions.remove(partition);
            }
        }
        Ok(())
    }

    /// The first rows of a partition, as they are now.
    fn first(&self, partition: &Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let mut first = Vec::new();
        let rows = self.partitions.get(partition);
        for at in rows.iter().flat_map(|Partition(rows)| rows.values()) {
            let Some(stored) = self.shelf.get(*at) else {
                continue;
            };
            for _ in 0..stored.copies {
                if first.len() == self.limit {
                    return first;
                }
                first.push(Arc::clone(&stored.row));
            }
        }
        first
    }

    /// How a partition's first rows changed: what is gone before what is there now.
    fn difference(&self, old: &[Arc<[u8]>], new: &[Arc<[u8]>], out: &mut Emitted) {
        if self.spec.number || self.limit == 1 {
            // Each number is a row of the result.
            let differ = |at: &usize| old.get(*at) != new.get(*at);
            for at in (0..old.len()).filter(differ) {
                let kind = match at < new.len() {
                    true => Kind::UpdateBefore,
                    false => Kind::Delete,
                };
                out.push(Arc::clone(&old[at]), at, kind);
            }
            for at in (0..new.len()).filter(differ) {
                let kind = match at < old.len() {
                    true => Kind::UpdateAfter,
                    false => Kind::Insert,
                };
                out.push(Arc::clone(&new[at]), at, kind);
            }
            return;
        }
        let mut stay: HashMap<&Arc<[u8]>, usize> = HashMap::new();
        for row in new {
            *stay.entry(row).or_default() += 1;
        }
        let mut gone = Vec::new();
        for row in old {
            match stay.get_mut(row) {
                Some(count) if *count > 0 => *count -= 1,
                _ => gone.push(row),
            }
        }
        for row in gone {
            out.push(Arc::clone(row), 0, Kind::Delete);
        }
        for row in new {
            if let Some(count) = stay.get_mut(row).filter(|count| **count > 0) {
                *count -= 1;
                out.push(Arc::clone(row), 0, Kind::Insert);
            }
        }
    }

    fn emit(&self, emitted: Emitted, out: &mut Output) -> Result<()> {
        let count = emitted.rows.len();
        if count == 0 {
            return Ok(());
        }
        let rows = emitted.rows.iter().map(AsRef::as_ref);
        let mut columns = self.rows.decode_bytes(rows)?;
        if self.spec.number {
            columns.push(Arc::new(Int64Array::from(emitted.numbers)));
        }
        if self.window_end().is_none() {
            columns.push(changes::column(emitted.kinds));
        }
        out.batches.push(batch_of(&self.schema, columns, count)?);
        Ok(())
    }

    /// The rows whose window has not fired; the others are handed back.
    fn in_time(&self, batch: RecordBatch, out: &mut Output) -> Result<RecordBatch> {
        let Some(end) = self.window_end() else {
            return Ok(batch);
        };
        let announced = self.current.watermark.0;
        let ends = evaluate_millis(end, &batch)?;
        let watermarks = row_watermarks(&batch, self.watermark_column)?;
        let mut late: BTreeMap<Option<i64>, Vec<u32>> = BTreeMap::new();
        let mut kept: Vec<u32> = Vec::new();
        for row in 0..batch.num_rows() {
            let watermark = watermarks.as_ref();
            let watermark = watermark.map_or(announced, |own| own.value(row).max(announced));
            match ends.is_valid(row).then(|| ends.value(row)) {
                Some(end) if end - 1 > watermark => kept.push(row as u32),
                end => late.entry(end).or_default().push(row as u32),
            }
        }
        for (end, rows) in &late {
            let why = match end {
                Some(end) => {
                    format!(
                        "the window that ends at {} had fired already",
                        EventTime(*end)
                    )
                }
                None => "the event time is NULL, so there is no window".to_owned(),
            };
            let rows = UInt32Array::from(rows.clone());
            out.late.push((take_record_batch(&batch, &rows)?, why));
        }
        match late.is_empty() {
            true => Ok(batch),
            false => Ok(take_record_batch(&batch, &UInt32Array::from(kept))?),
        }
    }
}

impl Operator for TopRows {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let batch = self.in_time(batch, out)?;
        out.used += batch.num_rows() as u64;
        let (kinds, batch) = changes::split(&batch)?;
        let batch = visible(&batch, &self.input)?;
        let before = self.apply(&batch, kinds.as_deref(), None)?;
        let mut emitted = Emitted::default();
        for (partition, old) in before {
            self.difference(&old, &self.first(&partition), &mut emitted);
        }
        self.emit(emitted, out)
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        self.current.advance_to(Progress::combine(progress));
        while let Some((end, _)) = self.windows.first_key_value()
            && *end - 1 <= self.current.watermark.0
            && let Some((_, partitions)) = self.windows.pop_first()
        {
            let mut emitted = Emitted::default();
            for partition in partitions {
                self.difference(&[], &self.first(&partition), &mut emitted);
                let rows = self.partitions.remove(&partition);
                for at in rows.into_iter().flat_map(|rows| rows.0.into_values()) {
                    self.shelf.remove(at);
                }
            }
            self.emit(emitted, out)?;
        }
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let keys = self.spec.partition.len();
        let (partitions, rows) = (&self.partition_keys, &self.rows);
        self.shelf.parts(PART, keys, |stored| {
            let bytes = stored.iter().map(|stored| stored.partition.as_ref());
            let mut columns: Vec<ArrayRef> = partitions.decode_bytes(bytes)?;
            columns.extend(rows.decode_bytes(stored.iter().map(|stored| stored.row.as_ref()))?);
            let arrivals = stored.iter().map(|stored| stored.arrival as i64);
            columns.push(Arc::new(Int64Array::from_iter_values(arrivals)));
            let copies = stored.iter().map(|stored| stored.copies);
            columns.push(Arc::new(Int64Array::from_iter_values(copies)));
            state::rows_of(&self.state, columns)
        })
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        if part != PART {
            return Err(unknown_part("a ROW_NUMBER", part));
        }
        state::expect_columns(part, &rows, &self.state)?;
        let keys = self.spec.partition.len();
        let width = self.input.fields().len();
        let columns = rows.columns()[keys..keys + width].to_vec();
        let batch = batch_of(&self.input, columns, rows.num_rows())?;
        let numbers = |at: usize| rows.column(at).as_primitive::<Int64Type>().clone();
        let (arrivals, copies) = (numbers(keys + width), numbers(keys + width + 1));
        self.apply(&batch, None, Some((&arrivals, &copies)))
            .map(drop)
    }

    fn state_bytes(&self) -> usize {
        self.shelf.bytes() + self.partitions.capacity() * size_of::<(usize, Partition)>()
    }
}
