//! Keys as bytes, and which lane a key lives on.
//!
//! Key columns become arrow's row format: one run of bytes for each row, equal exactly where the keys are equal, NULLs
//! included. Guarantee: the bytes and the hash depend on the values alone, so a row finds the lane that holds its key's state
//! whether it comes from a source, from another lane or from a checkpoint.

use crate::error::{Error, Result};
use crate::operator::expr::evaluate_all;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// Shares a batch out to the lanes by the hash of its keys; None for a lane that gets no row. The order of rows within
/// a lane is kept. Without keys every row goes to the first lane. One lane costs nothing.
pub fn partition(
    batch: RecordBatch,
    keys: &[Arc<dyn PhysicalExpr>],
    lanes: usize,
) -> Result<Vec<Option<RecordBatch>>> {
    if lanes == 1 || keys.is_empty() || batch.num_rows() == 0 {
        return Ok(all_to(0, batch, lanes));
    }
    let columns = evaluate_all(keys, &batch)?;
    share_out(batch, &columns, lanes)
}

/// The same for a part of a checkpoint's state, whose first columns are its keys.
pub fn partition_columns(
    batch: RecordBatch,
    key_columns: usize,
    lanes: usize,
) -> Result<Vec<Option<RecordBatch>>> {
    if lanes == 1 || key_columns == 0 || batch.num_rows() == 0 {
        return Ok(all_to(0, batch, lanes));
    }
    let columns = batch.columns()[..key_columns].to_vec();
    share_out(batch, &columns, lanes)
}

/// The lane that a key with this hash lives on. The bits in the middle are used, because the hash tables behind it use
/// the lowest and the highest ones, and would be crowded if all keys of a lane agreed in them.
pub fn lane_of(hash: u64, lanes: usize) -> usize {
    let middle = (hash >> 24) & 0xffff_ffff;
    ((middle * lanes as u64) >> 32) as usize
}

/// Key columns to bytes and back.
pub struct KeyEncoder {
    /// None where there is no key column: every row has the same, empty, key.
    converter: Option<RowConverter>,
}

/// The keys of the rows of one batch.
pub struct EncodedKeys {
    pub rows: KeyRows,
    pub hashes: Vec<u64>,
}

/// Keys as bytes, one after another.
pub struct KeyRows {
    rows: Option<Rows>,
    len: usize,
}

impl KeyEncoder {
    pub fn new(types: &[DataType]) -> Result<Self> {
        if types.is_empty() {
            return Ok(KeyEncoder { converter: None });
        }
        let fields: Vec<_> = types
            .iter()
            .map(|key| SortField::new(key.clone()))
            .collect();
        let converter = RowConverter::new(fields)
            .map_err(|error| Error::job("these types cannot be keys").caused_by(error))?;
        Ok(KeyEncoder {
            converter: Some(converter),
        })
    }

    pub fn for_exprs(exprs: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<Self> {
        let types: datafusion::common::Result<Vec<_>> =
            exprs.iter().map(|expr| expr.data_type(schema)).collect();
        Self::new(&types?)
    }

    /// `len` is the number of rows, for the case that there are no columns to tell it.
    pub fn encode(&self, columns: &[ArrayRef], len: usize) -> Result<EncodedKeys> {
        let rows = match &self.converter {
            Some(converter) => Some(converter.convert_columns(columns)?),
            None => None,
        };
        let hashes = match &rows {
            Some(rows) => rows
                .iter()
                .map(|row| XxHash3_64::oneshot(row.data()))
                .collect(),
            None => vec![0; len],
        };
        Ok(EncodedKeys {
            rows: KeyRows { rows, len },
            hashes,
        })
    }

    /// A place to collect keys in.
    pub fn empty(&self) -> KeyRows {
        KeyRows {
            rows: self
                .converter
                .as_ref()
                .map(|converter| converter.empty_rows(0, 0)),
            len: 0,
        }
    }

    /// The key columns of the given rows, in the given order.
    pub fn decode(
        &self,
        keys: &KeyRows,
        order: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<ArrayRef>> {
        match (&self.converter, &keys.rows) {
            (Some(converter), Some(rows)) => {
                Ok(converter.convert_rows(order.into_iter().map(|row| rows.row(row)))?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The columns of rows that were kept as their bytes.
    pub fn decode_bytes<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>> {
        match &self.converter {
            Some(converter) => {
                let parser = converter.parser();
                let rows = rows.into_iter().map(|row| parser.parse(row));
                Ok(converter.convert_rows(rows)?)
            }
            None => Ok(Vec::new()),
        }
    }
}

impl KeyRows {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self, row: usize) -> &[u8] {
        match &self.rows {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }

    /// Adds one key of another collection of the same encoder.
    pub fn push(&mut self, from: &KeyRows, row: usize) {
        if let (Some(rows), Some(from)) = (&mut self.rows, &from.rows) {
            rows.push(from.row(row));
        }
        self.len += 1;
    }

    /// The bytes that it takes.
    pub fn size(&self) -> usize {
        self.rows.as_ref().map_or(0, Rows::size)
    }
}

/// Where any of the key columns is NULL; None when nowhere.
pub fn null_keys(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |nulls, column| {
        NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    })
}

/// A map from a key's hash, which needs no hashing any more.
pub type ByHash<V> = HashMap<u64, V, BuildHasherDefault<AlreadyHashed>>;

/// A hasher for numbers that are hashes.
#[derive(Default)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash3_64::oneshot(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn share_out(
    batch: RecordBatch,
    keys: &[ArrayRef],
    lanes: usize,
) -> Result<Vec<Option<RecordBatch>>> {
    let types: Vec<_> = keys.iter().map(|key| key.data_type().clone()).collect();
    let encoded = KeyEncoder::new(&types)?.encode(keys, batch.num_rows())?;
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); lanes];
    for (row, hash) in encoded.hashes.iter().enumerate() {
        rows_of[lane_of(*hash, lanes)].push(row as u32);
    }
    if let Some(lane) = rows_of
        .iter()
        .position(|rows| rows.len() == batch.num_rows())
    {
        return Ok(all_to(lane, batch, lanes));
    }
    let share = |rows: Vec<u32>| match rows.is_empty() {
        true => Ok(None),
        false => Ok(Some(take_record_batch(&batch, &UInt32Array::from(rows))?)),
    };
    rows_of.into_iter().map(share).collect()
}

fn all_to(lane: usize, batch: RecordBatch, lanes: usize) -> Vec<Option<RecordBatch>> {
    let mut shares = vec![None; lanes];
    if batch.num_rows() > 0 {
        shares[lane] = Some(batch);
    }
    shares
}

/// Marks the end of a chain of keys with one hash.
const NONE: u32 = u32::MAX;

/// Different keys, numbered as they come.
pub struct KeyNumbers {
    pub rows: KeyRows,
    /// The newest key with a hash; `older` leads to the others.
    newest: ByHash<u32>,
    older: Vec<u32>,
}

impl KeyNumbers {
    pub fn new(encoder: &KeyEncoder) -> Self {
        KeyNumbers {
            rows: encoder.empty(),
            newest: ByHash::default(),
            older: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a row's key, the next one for a key that was not there.
    pub fn number(&mut self, keys: &EncodedKeys, row: usize) -> usize {
        let key = keys.rows.bytes(row);
        let number = self.len() as u32;
        let newest = self.newest.entry(keys.hashes[row]).or_insert(NONE);
        let mut candidate = *newest;
        while candidate != NONE {
            if self.rows.bytes(candidate as usize) == key {
                return candidate as usize;
            }
            candidate = self.older[candidate as usize];
        }
        self.older.push(*newest);
        *newest = number;
        self.rows.push(&keys.rows, row);
        number as usize
    }

    /// The bytes that they take, roughly.
    pub fn size(&self) -> usize {
        self.rows.size()
            + self.newest.capacity() * size_of::<(u64, u32)>()
            + self.older.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int32Array, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int64Type};
    use datafusion::physical_expr::expressions::Column;

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("number", DataType::Int32, true),
            Field::new("row", DataType::Int64, false),
        ]);
        let name: StringArray = (0..rows)
            .map(|i| (i % 7 != 0).then(|| format!("key {}", i % 50)))
            .collect();
        let number: Int32Array = (0..rows)
            .map(|i| (i % 5 != 0).then_some(i as i32 % 3))
            .collect();
        let row = Int64Array::from_iter_values(0..rows);
        let columns: Vec<ArrayRef> = vec![Arc::new(name), Arc::new(number), Arc::new(row)];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn exprs() -> Vec<Arc<dyn PhysicalExpr>> {
        vec![
            Arc::new(Column::new("name", 0)),
            Arc::new(Column::new("number", 1)),
        ]
    }

    #[test]
    fn equal_keys_meet_on_one_lane_in_their_order() {
        for lanes in [2, 3, 8] {
            let shares = partition(batch(1_000), &exprs(), lanes).unwrap();
            assert!(
                shares.iter().all(Option::is_some),
                "1,000 rows leave no lane empty"
            );
            let shares: Vec<_> = shares.into_iter().flatten().collect();
            assert_eq!(
                shares.iter().map(RecordBatch::num_rows).sum::<usize>(),
                1_000
            );
            let mut lane_of_key = HashMap::new();
            for (lane, share) in shares.iter().enumerate() {
                let rows = share.column(2).as_primitive::<Int64Type>().values();
                assert!(rows.is_sorted());
                for row in rows {
                    let key = (row % 7 != 0, row % 50, row % 5 != 0, row % 3);
                    let key = (key.0.then_some(key.1), key.2.then_some(key.3));
                    assert_eq!(*lane_of_key.entry(key).or_insert(lane), lane);
                }
            }
        }
    }

    #[test]
    fn state_and_live_rows_find_the_same_lane() {
        let live = partition(batch(500), &exprs(), 4).unwrap();
        let state = partition_columns(batch(500), 2, 4).unwrap();
        assert_eq!(live, state);
        // A lane's rows, put together and shared out again, all stay there.
        let first = live[0].clone().unwrap();
        let twice = concat_batches(&first.schema(), [&first, &first]).unwrap();
        let again = partition_columns(twice.clone(), 2, 4).unwrap();
        assert_eq!(again, [Some(twice), None, None, None]);
    }

    #[test]
    fn one_lane_or_no_key_moves_the_batch_as_it_is() {
        let rows = batch(10);
        assert_eq!(
            partition(rows.clone(), &exprs(), 1).unwrap(),
            [Some(rows.clone())]
        );
        assert_eq!(
            partition(rows.clone(), &[], 2).unwrap(),
            [Some(rows.clone()), None]
        );
        assert_eq!(
            partition_columns(rows.clone(), 0, 2).unwrap(),
            [Some(rows), None]
        );
        assert_eq!(partition(batch(0), &exprs(), 2).unwrap(), [None, None]);
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        let encoder = KeyEncoder::new(&[DataType::Utf8]).unwrap();
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("patient-1"), None]));
        let keys = encoder.encode(std::slice::from_ref(&column), 2).unwrap();
        assert_eq!(keys.hashes[0], XxHash3_64::oneshot(keys.rows.bytes(0)));
        let back = encoder.decode(&keys.rows, [0, 1]).unwrap();
        assert_eq!(&back[0], &column);
        assert!(null_keys(&[column]).unwrap().is_null(1));
    }

    #[test]
    fn lanes_are_evenly_filled() {
        let mut counts = [0; 3];
        for i in 0..3_000u64 {
            counts[lane_of(XxHash3_64::oneshot(&i.to_le_bytes()), 3)] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1_100).contains(count)),
            "{counts:?}"
        );
    }
}
