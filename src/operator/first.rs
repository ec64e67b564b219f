//! The first row of each key by event time, once and for good: `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY time) = 1`.
//!
//! Guarantee: for each key one row comes out, the one with the smallest event time, of equal ones that which came first; it comes out when the
//! watermark reaches its time, since nothing earlier can come then. A row that is earlier than the watermark in force just before it is
//! late. Later rows of a key are used up; that the key was there is remembered.

use crate::error::{Error, Result};
use crate::operator::expr::visible_schema;
use crate::operator::expr::{batch_of, evaluate_all, evaluate_millis, row_watermarks, visible};
use crate::operator::keys::KeyEncoder;
use crate::operator::pages::Pages;
use crate::operator::state::{self, unknown_part};
use crate::operator::{Operator, Output, Snapshot, hidden};
use crate::plan::{Gives, Rank};
use crate::time::{EventTime, Progress};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The name of its state: the key's columns, the row's time, whether it came out, and its columns, which are NULL then.
const PART: &str = "first";

/// Keeps the earliest row of each key until it is sure.
pub struct FirstRows {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    input: SchemaRef,
    schema: SchemaRef,
    number: bool,
    watermark_column: Option<usize>,
    encoder: KeyEncoder,
    rows: KeyEncoder,
    /// The columns of [`PART`].
    state: Vec<Field>,
    numbers: HashMap<Arc<[u8]>, usize>,
    entries: Vec<Entry>,
    /// The rows that wait, by time and number of their key.
    waiting: BTreeSet<(i64, usize)>,
    pages: Pages,
    bytes: usize,
    current: Progress,
}

struct Entry {
    key: Arc<[u8]>,
    time: i64,
    /// None: it came out.
    row: Option<Box<[u8]>>,
}

/// A row whose time has come, and its key.
type Due = (EventTime, Arc<[u8]>, Box<[u8]>);

impl FirstRows {
    pub fn new(spec: &Rank, schema: SchemaRef, inputs: &[SchemaRef]) -> Result<Self> {
        let ([input], Gives::AtTime(time)) = (inputs, &spec.gives) else {
            return Err(Error::bug(
                "the first row of a key has one input and a time",
            ));
        };
        let watermark_column = hidden::watermark(input);
        let input = visible_schema(input);
        let mut columns = Vec::new();
        for (at, key) in spec.partition.iter().enumerate() {
            columns.push(state::column(format!("key_{at}"), &key.data_type(&input)?));
        }
        columns.push(state::column("time", &DataType::Int64));
        columns.push(state::column("done", &DataType::Boolean));
        for (at, field) in input.fields().iter().enumerate() {
            columns.push(state::column(format!("row_{at}"), field.data_type()));
        }
        let types = input.fields().iter().map(|field| field.data_type().clone());
        Ok(FirstRows {
            keys: spec.partition.clone(),
            time: time.clone(),
            number: spec.number,
            schema,
            watermark_column,
            encoder: KeyEncoder::for_exprs(&spec.partition, &input)?,
            rows: KeyEncoder::new(&types.collect::<Vec<_>>())?,
            input,
            state: columns,
            numbers: HashMap::new(),
            entries: Vec::new(),
            waiting: BTreeSet::new(),
            pages: Pages::default(),
            bytes: 0,
            current: Progress::START,
        })
    }

    /// Offers a row for its key.
    fn offer(&mut self, key: &[u8], time: i64, row: &[u8]) {
        let Some(&at) = self.numbers.get(key) else {
            return self.enter(key, time, Some(row));
        };
        let entry = &mut self.entries[at];
        if let Some(held) = entry.row.as_mut().filter(|_| time < entry.time) {
            self.waiting.remove(&(entry.time, at));
            self.waiting.insert((time, at));
            self.bytes = self.bytes + row.len() - held.len();
            *held = row.into();
            entry.time = time;
            self.pages.touch(at);
        }
    }

    /// A key that was not there.
    fn enter(&mut self, key: &[u8], time: i64, row: Option<&[u8]>) {
        let at = self.entries.len();
        let key: Arc<[u8]> = key.into();
        self.numbers.insert(Arc::clone(&key), at);
        self.bytes += key.len() + row.map_or(0, <[u8]>::len);
        if row.is_some() {
            self.waiting.insert((time, at));
        }
        let row = row.map(Into::into);
        self.entries.push(Entry { key, time, row });
        self.pages.touch(at);
    }

    fn emit(&self, rows: &[Box<[u8]>], out: &mut Output) -> Result<()> {
        let mut columns = self.rows.decode_bytes(rows.iter().map(AsRef::as_ref))?;
        if self.number {
            columns.push(Arc::new(Int64Array::from(vec![1; rows.len()])));
        }
        out.batches
            .push(batch_of(&self.schema, columns, rows.len())?);
        Ok(())
    }
}

impl Operator for FirstRows {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let times = evaluate_millis(&self.time, &batch)?;
        let watermarks = row_watermarks(&batch, self.watermark_column)?;
        let keys = evaluate_all(&self.keys, &batch)?;
        let keys = self.encoder.encode(&keys, batch.num_rows())?.rows;
        let seen = visible(&batch, &self.input)?;
        let rows = self.rows.encode(seen.columns(), seen.num_rows())?.rows;
        let announced = self.current.watermark.0;
        let (mut late, mut timeless) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let watermark = watermarks.as_ref();
            let watermark = watermark.map_or(announced, |own| own.value(row).max(announced));
            if times.is_null(row) {
                timeless.push(row as u32);
            } else if times.value(row) < watermark {
                late.push(row as u32);
            } else {
                out.used += 1;
                self.offer(keys.bytes(row), times.value(row), rows.bytes(row));
            }
        }
        for (rows, why) in [
            (late, "the watermark had passed its time already"),
            (
                timeless,
                "the event time is NULL, so it is not before or behind other rows",
            ),
        ] {
            if !rows.is_empty() {
                let rows = take_record_batch(&batch, &UInt32Array::from(rows))?;
                out.late.push((rows, why.to_owned()));
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], out: &mut Output) -> Result<Progress> {
        self.current.advance_to(Progress::combine(progress));
        let mut due: Vec<Due> = Vec::new();
        while let Some(&(time, at)) = self.waiting.first()
            && time <= self.current.watermark.0
        {
            self.waiting.pop_first();
            let entry = &mut self.entries[at];
            if let Some(row) = entry.row.take() {
                self.bytes -= row.len();
                due.push((EventTime(time), Arc::clone(&entry.key), row));
            }
            self.pages.touch(at);
        }
        if due.is_empty() {
            return Ok(self.current);
        }
        // By time, and then by key, however the keys came to their numbers.
        due.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let rows: Vec<_> = due.into_iter().map(|(_, _, row)| row).collect();
        self.emit(&rows, out)?;
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let (entries, encoder, rows) = (&self.entries, &self.encoder, &self.rows);
        let (input, state) = (&self.input, &self.state);
        self.pages.parts(PART, self.keys.len(), |numbers| {
            let page = &entries[numbers.start..numbers.end.min(entries.len())];
            let mut columns = encoder.decode_bytes(page.iter().map(|entry| entry.key.as_ref()))?;
            let times = page.iter().map(|entry| entry.time);
            columns.push(Arc::new(Int64Array::from_iter_values(times)));
            let done: BooleanArray = page.iter().map(|entry| Some(entry.row.is_none())).collect();
            columns.push(Arc::new(done));
            // Rows that wait are spread over the page; the others have no values.
            let waiting = page.iter().filter_map(|entry| entry.row.as_deref());
            let mut next = 0u32;
            let places: UInt32Array = page
                .iter()
                .map(|entry| {
                    let at = entry.row.as_ref().map(|_| next);
                    next += u32::from(at.is_some());
                    at
                })
                .collect();
            let held = rows.decode_bytes(waiting)?;
            for (at, field) in input.fields().iter().enumerate() {
                let column: ArrayRef = match held.get(at) {
                    Some(column) if !column.is_empty() => {
                        arrow::compute::take(column, &places, None)?
                    }
                    _ => arrow::array::new_null_array(field.data_type(), page.len()),
                };
                columns.push(column);
            }
            state::rows_of_len(state, columns, page.len())
        })
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        if part != PART {
            return Err(unknown_part("the first row of a key", part));
        }
        state::expect_columns(part, &rows, &self.state)?;
        let (keys, rest) = rows.columns().split_at(self.keys.len());
        let keys = self.encoder.encode(keys, rows.num_rows())?.rows;
        let times = rest[0].as_primitive::<Int64Type>();
        let done = rest[1].as_boolean();
        let held = self.rows.encode(&rest[2..], rows.num_rows())?.rows;
        for row in 0..rows.num_rows() {
            let waits = !done.value(row);
            self.enter(
                keys.bytes(row),
                times.value(row),
                waits.then(|| held.bytes(row)),
            );
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.entries.capacity() * (size_of::<Entry>() + size_of::<(usize, usize)>())
    }
}
