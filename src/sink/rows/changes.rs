//! Rows that change what was there: what is left to do for a target that knows the last row of each key.

use crate::error::{Error, Result};
use crate::operator::changes::Kind;
use crate::operator::hidden;
use arrow::array::{Array, AsArray, BooleanArray, Int8Array, RecordBatch};
use arrow::compute::filter_record_batch;
use std::collections::HashSet;

/// The rows that do something, and which of them delete: what was there before an update is of no concern where a key is written over.
pub fn effects(
    rows: RecordBatch,
    kinds: Option<&Int8Array>,
) -> Result<(RecordBatch, Option<BooleanArray>)> {
    let Some(kinds) = kinds else {
        return Ok((rows, None));
    };
    let kept = kinds.values().iter().copied();
    let kept = kept.map(|kind| Some(kind != Kind::UpdateBefore as i8));
    let left = kinds.values().iter().copied();
    let left = left.filter(|kind| *kind != Kind::UpdateBefore as i8);
    let deletes = BooleanArray::from_iter(left.map(|kind| Some(kind == Kind::Delete as i8)));
    let rows = filter_record_batch(&rows, &BooleanArray::from_iter(kept))?;
    Ok((rows, Some(deletes)))
}

/// Refuses all but new rows: the planner does not let others come to a table that can only be added to.
pub fn only_new(rows: RecordBatch, kinds: Option<&Int8Array>) -> Result<RecordBatch> {
    let is_new = |kinds: &Int8Array| {
        kinds
            .values()
            .iter()
            .all(|kind| *kind == Kind::Insert as i8)
    };
    match kinds.is_none_or(is_new) {
        true => Ok(rows),
        false => Err(Error::bug(format!(
            "rows that change what was there came to a table that can only be added to ('{}' is not 0)",
            hidden::KIND
        ))),
    }
}

/// Of stored rows with the same first column, which are bytes, the last one each.
pub fn last_of_each(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut seen: HashSet<Option<Vec<u8>>> = HashSet::new();
    let mut reduced = Vec::with_capacity(batches.len());
    for batch in batches.iter().rev() {
        let keys = batch.column(0).as_binary::<i32>();
        let mut last: Vec<bool> = (0..batch.num_rows())
            .rev()
            .map(|row| seen.insert(keys.is_valid(row).then(|| keys.value(row).to_vec())))
            .collect();
        last.reverse();
        reduced.push(filter_record_batch(batch, &BooleanArray::from(last))?);
    }
    reduced.reverse();
    Ok(reduced)
}
