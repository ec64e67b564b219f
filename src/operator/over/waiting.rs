//! Rows that wait for the watermark, until they come out in the order of their event time.

use crate::error::Result;
use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use std::collections::{BTreeMap, HashMap};

/// Rows in the batches in which they came.
pub struct Waiting {
    schema: SchemaRef,
    parcels: HashMap<u64, Parcel>,
    /// By event time, and by arrival where that is the same: the parcel, and the row in it.
    order: BTreeMap<(i64, u64), (u64, u32)>,
    /// How many rows, and how many parcels, have come.
    rows: u64,
    arrived: u64,
}

struct Parcel {
    rows: RecordBatch,
    /// For each row its place in the order, until it is gone.
    places: Vec<Option<(i64, u64)>>,
    /// For each row the watermark at which it was taken in.
    taken_at: Vec<i64>,
    left: usize,
}

/// Rows whose time has come, in their order.
pub struct Due {
    pub rows: RecordBatch,
    pub times: Vec<i64>,
}

impl Waiting {
    pub fn new(schema: SchemaRef) -> Waiting {
        Waiting {
            schema,
            parcels: HashMap::new(),
            order: BTreeMap::new(),
            rows: 0,
            arrived: 0,
        }
    }

    pub fn add(&mut self, rows: RecordBatch, times: &[i64], taken_at: Vec<i64>) {
        let first = self.rows;
        self.rows += times.len() as u64;
        let places = times.iter().zip(first..);
        let places = places.map(|(time, number)| Some((*time, number))).collect();
        self.keep(Parcel {
            left: times.len(),
            rows,
            places,
            taken_at,
        });
    }

    fn keep(&mut self, parcel: Parcel) {
        self.arrived += 1;
        for (row, place) in parcel.places.iter().enumerate() {
            if let Some(place) = place {
                self.order.insert(*place, (self.arrived, row as u32));
            }
        }
        if parcel.left > 0 {
            self.parcels.insert(self.arrived, parcel);
        }
    }

    /// Takes rows out that are not newer than the watermark and were taken in before it was reached: about `limit` of them, but
    /// those of one moment together.
    pub fn take(&mut self, watermark: i64, limit: usize) -> Result<Option<Due>> {
        let mut due: Vec<((i64, u64), (u64, u32))> = Vec::new();
        for (place, at) in self.order.range(..=(watermark, u64::MAX)) {
            let more = due.len() < limit || due.last().is_some_and(|last| last.0.0 == place.0);
            if !more {
                break;
            }
            let taken_at = self.parcels[&at.0].taken_at[at.1 as usize];
            if taken_at < watermark {
                due.push((*place, *at));
            }
        }
        if due.is_empty() {
            return Ok(None);
        }
        let times = due.iter().map(|((time, _), _)| *time).collect();
        let rows = self.gather(due.iter().map(|(_, at)| *at))?;
        for (place, _) in due {
            // A parcel that was packed anew has them at other places.
            if let Some((parcel, row)) = self.order.remove(&place) {
                self.release(parcel, row)?;
            }
        }
        Ok(Some(Due { rows, times }))
    }

    fn gather(&self, rows: impl Iterator<Item = (u64, u32)>) -> Result<RecordBatch> {
        let (mut batches, mut known) = (Vec::new(), HashMap::new());
        let mut places = Vec::new();
        for (parcel, row) in rows {
            let at = *known.entry(parcel).or_insert_with(|| {
                batches.push(&self.parcels[&parcel].rows);
                batches.len() - 1
            });
            places.push((at, row as usize));
        }
        if batches.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        Ok(interleave_record_batch(&batches, &places)?)
    }

    /// One row of a parcel is gone. A parcel with few rows left is packed anew, so that these do not keep the others' memory.
    fn release(&mut self, number: u64, row: u32) -> Result<()> {
        let Some(parcel) = self.parcels.get_mut(&number) else {
            return Ok(());
        };
        parcel.places[row as usize] = None;
        parcel.left -= 1;
        let few = parcel.places.len() > 64 && parcel.left * 4 < parcel.places.len();
        if parcel.left > 0 && !few {
            return Ok(());
        }
        let Some(parcel) = self.parcels.remove(&number) else {
            return Ok(());
        };
        if parcel.left > 0 {
            let all = parcel.places.iter().enumerate();
            let kept: Vec<u32> = all
                .filter(|(_, place)| place.is_some())
                .map(|(row, _)| row as u32)
                .collect();
            let taken_at = kept.iter().map(|row| parcel.taken_at[*row as usize]);
            let places = kept.iter().map(|row| parcel.places[*row as usize]);
            self.keep(Parcel {
                left: parcel.left,
                places: places.collect(),
                taken_at: taken_at.collect(),
                rows: take_record_batch(&parcel.rows, &UInt32Array::from(kept.clone()))?,
            });
        }
        Ok(())
    }

    /// All that wait, in their order, with their times and the watermarks at which they were taken in.
    pub fn all(&self) -> Result<(RecordBatch, Int64Array, Int64Array)> {
        let rows = self.gather(self.order.values().copied())?;
        let times = self.order.keys().map(|(time, _)| *time);
        let taken_at = self.order.values();
        let taken_at = taken_at.map(|(parcel, row)| self.parcels[parcel].taken_at[*row as usize]);
        Ok((
            rows,
            Int64Array::from_iter_values(times),
            Int64Array::from_iter_values(taken_at),
        ))
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The bytes that it takes, roughly.
    pub fn size(&self) -> usize {
        let parcels = self.parcels.values();
        let rows = parcels.map(|parcel| parcel.rows.get_array_memory_size());
        rows.sum::<usize>() + self.order.len() * 64
    }
}
