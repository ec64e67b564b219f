//! Rows that take others back: the changelog of a result that changes.
//!
//! A row of such a stream says in its last column, [`hidden::KIND`], what it does to the result. A change of a row is two rows: the old one
//! is taken back, the new one put in its place; both are always there, the old one first. Guarantee: all rows about one key of the result
//! come in their order from one lane, so that the last of them is what holds.

use crate::error::{Error, Result};
use crate::operator::hidden;
use arrow::array::{ArrayRef, AsArray, Int8Array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// What a row does to the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there from now on.
    Insert = 0,
    /// It is gone; what holds in its place follows.
    UpdateBefore = 1,
    /// It is there in the place of one that was taken back.
    UpdateAfter = 2,
    /// It is gone.
    Delete = 3,
}

impl Kind {
    /// The kind that a number stands for.
    pub fn of(number: i8) -> Result<Kind> {
        [
            Kind::Insert,
            Kind::UpdateBefore,
            Kind::UpdateAfter,
            Kind::Delete,
        ]
        .into_iter()
        .find(|kind| *kind as i8 == number)
        .ok_or_else(|| Error::bug(format!("{number} is no kind of change")))
    }

    /// Whether the row is in the result from now on, or not any more.
    pub fn adds(self) -> bool {
        matches!(self, Kind::Insert | Kind::UpdateAfter)
    }

    /// As Flink prints it.
    pub fn sign(self) -> &'static str {
        match self {
            Kind::Insert => "+I",
            Kind::UpdateBefore => "-U",
            Kind::UpdateAfter => "+U",
            Kind::Delete => "-D",
        }
    }
}

/// The field of the column of kinds.
pub fn field() -> Field {
    Field::new(hidden::KIND, DataType::Int8, false)
}

/// The column that says these kinds.
pub fn column(kinds: impl IntoIterator<Item = Kind>) -> ArrayRef {
    let numbers = kinds.into_iter().map(|kind| kind as i8);
    Arc::new(Int8Array::from_iter_values(numbers))
}

/// The kinds of a batch's rows, and the rows without them. None: each row is an insert.
pub fn split(batch: &RecordBatch) -> Result<(Option<Vec<Kind>>, RecordBatch)> {
    let schema = batch.schema();
    let Some((at, field)) = schema.column_with_name(hidden::KIND) else {
        return Ok((None, batch.clone()));
    };
    let column = batch.column(at);
    let Some(numbers) = column.as_primitive_opt::<Int8Type>() else {
        return Err(Error::bug(format!(
            "the hidden column {} is {}",
            hidden::KIND,
            field.data_type()
        )));
    };
    let kinds = numbers.values().iter().map(|number| Kind::of(*number));
    let kinds = kinds.collect::<Result<_>>()?;
    Ok((Some(kinds), without(batch, at)?))
}

fn without(batch: &RecordBatch, at: usize) -> Result<RecordBatch> {
    let others = |column: &usize| *column != at;
    let kept: Vec<usize> = (0..batch.num_columns()).filter(others).collect();
    let fields = kept
        .iter()
        .map(|column| batch.schema_ref().fields()[*column].clone());
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = kept.iter().map(|column| batch.column(*column).clone());
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        schema,
        columns.collect(),
        &options,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_as_they_were_put_in() {
        let kinds = [
            Kind::Insert,
            Kind::UpdateBefore,
            Kind::UpdateAfter,
            Kind::Delete,
        ];
        let schema = Schema::new(vec![Field::new("a", DataType::Int8, false), field()]);
        let columns = vec![column(kinds), column(kinds)];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let (found, rows) = split(&batch).unwrap();
        assert_eq!(found.as_deref(), Some(&kinds[..]));
        assert_eq!((rows.num_columns(), rows.num_rows()), (1, 4));
        assert_eq!(split(&rows).unwrap(), (None, rows.clone()));
        assert!(Kind::of(4).is_err());
    }
}
