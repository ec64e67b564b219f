//! Rows that change what was there: what is left to do for a target that knows the last row of each key.

use crate::error::{Error, Result};
use crate::operator::changes::Kind;
use crate::operator::hidden;
use arrow::array::{Array, AsArray, BooleanArray, Int8Array, RecordBatch};
use arrow::compute::filter_record_batch;
use std::collections::HashSet;

/// Which rows delete, for a target in which the last row of a key holds. So do those that say what was there before an update: a filter on
/// the way may have dropped what came in its place; where that is still there, it is the later row.
pub fn deletes(kinds: Option<&Int8Array>) -> Option<BooleanArray> {
    let is_delete = |kind: &i8| *kind == Kind::Delete as i8 || *kind == Kind::UpdateBefore as i8;
    let deletes = |kinds: &Int8Array| kinds.values().iter().map(is_delete).map(Some).collect();
    kinds.map(deletes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_an_update_goes_unless_something_comes_in_its_place() {
        use Kind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let kinds = [Insert, UpdateBefore, UpdateAfter, Delete].map(|kind| kind as i8);
        let found = deletes(Some(&Int8Array::from(kinds.to_vec()))).unwrap();
        assert_eq!(found, BooleanArray::from(vec![false, true, false, true]));
        assert!(deletes(None).is_none());
    }
}
