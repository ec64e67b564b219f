//! UNNEST: one row for each element of an array or a map.

use crate::error::{Error, Result};
use crate::operator::expr::{batch_of, evaluate};
use crate::operator::state::unknown_part;
use crate::operator::{Operator, Output, Snapshot, hidden};
use crate::plan::Unnest;
use crate::time::Progress;
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::ops::Range;
use std::sync::Arc;

/// As many rows come out at a time: each has its own copy of what is kept of its row.
const MOST_ROWS: usize = 8192;

/// Repeats rows, with an element each.
pub struct UnnestRows {
    array: Arc<dyn PhysicalExpr>,
    keep: Vec<usize>,
    outer: bool,
    ordinality: bool,
    schema: SchemaRef,
    current: Progress,
}

/// Which row and which element each row that comes out is made of.
#[derive(Default)]
struct Places {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    numbers: Vec<Option<i32>>,
    /// How many rows had no element, and are gone.
    without: u64,
}

impl UnnestRows {
    pub fn new(spec: &Unnest, schema: SchemaRef) -> Self {
        UnnestRows {
            array: spec.array.clone(),
            keep: spec.keep.clone(),
            outer: spec.outer,
            ordinality: spec.ordinality,
            schema,
            current: Progress::START,
        }
    }

    /// Some of the rows that come out.
    fn rows(
        &self,
        batch: &RecordBatch,
        elements: &ArrayRef,
        places: &Places,
        piece: Range<usize>,
    ) -> Result<RecordBatch> {
        let count = piece.len();
        let rows = UInt32Array::from(places.rows[piece.clone()].to_vec());
        let repeated = |column: &ArrayRef| Ok(take(column, &rows, None)?);
        let kept = self.keep.iter().map(|&at| repeated(batch.column(at)));
        let mut columns: Vec<ArrayRef> = kept.collect::<Result<_>>()?;
        let picked = UInt32Array::from(places.elements[piece.clone()].to_vec());
        let picked = take(elements, &picked, None)?;
        match picked.as_struct_opt() {
            Some(fields) => columns.extend(columns_of(fields)?),
            None => columns.push(picked),
        }
        if self.ordinality {
            columns.push(Arc::new(Int32Array::from(places.numbers[piece].to_vec())));
        }
        if hidden::visible(&self.schema) < self.schema.fields().len() {
            for column in &batch.columns()[hidden::visible(&batch.schema())..] {
                columns.push(repeated(column)?);
            }
        }
        batch_of(&self.schema, columns, count)
    }

    fn places(&self, array: &ArrayRef, offsets: &[i32], elements: &ArrayRef) -> Places {
        // An element that is a ROW and NULL is not there, as in Flink.
        let rows = elements
            .as_struct_opt()
            .filter(|_| array.as_map_opt().is_none());
        let is_there = |at: i32| rows.is_none_or(|rows| rows.is_valid(at as usize));
        let mut places = Places::default();
        for row in 0..array.len() {
            let before = places.rows.len();
            let (start, end) = match array.is_valid(row) {
                true => (offsets[row], offsets[row + 1]),
                false => (0, 0),
            };
            for at in (start..end).filter(|at| is_there(*at)) {
                places.rows.push(row as u32);
                places.elements.push(Some(at as u32));
                places.numbers.push(Some(at - start + 1));
            }
            if places.rows.len() > before {
                continue;
            }
            if self.outer {
                places.rows.push(row as u32);
                places.elements.push(None);
                places.numbers.push(None);
            } else {
                places.without += 1;
            }
        }
        places
    }
}

impl Operator for UnnestRows {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        let array = evaluate(&self.array, &batch)?;
        let (places, elements) = if let Some(lists) = array.as_list_opt::<i32>() {
            (
                self.places(&array, lists.value_offsets(), lists.values()),
                lists.values().clone(),
            )
        } else if let Some(maps) = array.as_map_opt() {
            let entries: ArrayRef = Arc::new(maps.entries().clone());
            (self.places(&array, maps.value_offsets(), &entries), entries)
        } else {
            return Err(Error::bug(format!(
                "UNNEST is planned over {}",
                array.data_type()
            )));
        };
        out.filtered += places.without;
        out.used += batch.num_rows() as u64 - places.without;
        for first in (0..places.rows.len()).step_by(MOST_ROWS) {
            let piece = first..(first + MOST_ROWS).min(places.rows.len());
            out.batches
                .push(self.rows(&batch, &elements, &places, piece)?);
        }
        Ok(())
    }

    fn on_watermark(&mut self, progress: &[Progress], _out: &mut Output) -> Result<Progress> {
        self.current.advance_to(Progress::combine(progress));
        Ok(self.current)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::new())
    }

    fn restore(&mut self, part: &str, _rows: RecordBatch) -> Result<()> {
        Err(unknown_part("an UNNEST", part))
    }

    fn state_bytes(&self) -> usize {
        0
    }
}

/// The fields of rows; NULL where the row is.
fn columns_of(rows: &StructArray) -> Result<Vec<ArrayRef>> {
    let with_nulls = |column: &ArrayRef| {
        let nulls = arrow::buffer::NullBuffer::union(column.nulls(), rows.nulls());
        let data = column.to_data().into_builder().nulls(nulls).build()?;
        Ok(arrow::array::make_array(data))
    };
    rows.columns().iter().map(with_nulls).collect()
}
