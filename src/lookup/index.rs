//! Which of the keys that were asked for a row has.

use crate::error::Result;
use crate::operator::keys::{EncodedKeys, KeyEncoder, null_keys};
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;

/// Keys by their bytes.
pub struct KeyIndex {
    encoder: KeyEncoder,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl KeyIndex {
    pub fn of(keys: &RecordBatch) -> Result<KeyIndex> {
        let types = keys.schema_ref().fields().iter();
        let types: Vec<_> = types.map(|field| field.data_type().clone()).collect();
        let encoder = KeyEncoder::new(&types)?;
        let encoded = encoder.encode(keys.columns(), keys.num_rows())?;
        let bytes = |row: usize| encoded.rows.bytes(row).into();
        let numbers = (0..keys.num_rows()).map(|row| (bytes(row), row as u32));
        Ok(KeyIndex {
            numbers: numbers.collect(),
            encoder,
        })
    }

    /// For each row the number of the key that it has in these columns, if it is one of them.
    pub fn numbers(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Option<u32>>> {
        let nulls = null_keys(columns);
        let EncodedKeys { rows: keys, .. } = self.encoder.encode(columns, rows)?;
        let number = |row: usize| match &nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => self.numbers.get(keys.bytes(row)).copied(),
        };
        Ok((0..rows).map(number).collect())
    }
}
