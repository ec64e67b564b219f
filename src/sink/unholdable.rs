//! Rows that no file and no text can hold: those with times that have no date. They would be written as an error in the place of a value, or
//! as NULL, or end the job again and again.

use super::Rejected;
use crate::calendar;
use crate::error::{Error, Result};
use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

/// Takes such rows out of a batch. One without them, as nearly all are, is not copied.
pub(super) fn apart(batch: &RecordBatch) -> Result<(RecordBatch, Rejected)> {
    let (mut good, mut rejected) = (batch.clone(), Rejected::new());
    // Each turn takes out what is wrong in one column.
    while let Some((column, found)) = calendar::beyond(&good) {
        let found = BooleanArray::from(found);
        let why = why(&good, column);
        rejected.push((filter_record_batch(&good, &found)?, why));
        good = filter_record_batch(&good, &arrow::compute::not(&found)?)?;
    }
    Ok((good, rejected))
}

/// Refuses a batch that has such a row.
pub(super) fn refuse(batch: &RecordBatch) -> Result<()> {
    match calendar::beyond(batch) {
        None => Ok(()),
        Some((column, _)) => Err(Error::data(why(batch, column))),
    }
}

fn why(batch: &RecordBatch, column: usize) -> String {
    format!(
        "column '{}': the time has no date: it is beyond the years -262143 and 262142",
        batch.schema_ref().field(column).name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn each_row_goes_with_its_reason() {
        let (good, bad) = (0, i64::MAX);
        let times = |times: [i64; 4]| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from(times.to_vec()))
        };
        let rows = RecordBatch::try_from_iter([
            (
                "id",
                Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef,
            ),
            ("one", times([good, bad, good, bad])),
            ("two", times([good, bad, bad, good])),
        ])
        .unwrap();
        let ids = |rows: &RecordBatch| rows["id"].as_primitive::<Int64Type>().values().to_vec();
        let (kept, rejected) = apart(&rows).unwrap();
        assert_eq!(ids(&kept), [1]);
        assert_eq!(rejected.len(), 2);
        assert_eq!(ids(&rejected[0].0), [2, 4]);
        assert!(rejected[0].1.contains("column 'one'"), "{}", rejected[0].1);
        assert_eq!(ids(&rejected[1].0), [3]);
        assert!(rejected[1].1.contains("column 'two'"), "{}", rejected[1].1);
        assert!(refuse(&rows).is_err() && refuse(&kept).is_ok());
    }
}
