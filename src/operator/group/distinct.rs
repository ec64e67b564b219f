//! DISTINCT in a GROUP BY: which values each key has had.
//!
//! They lie one by one beside all others, and not in what the aggregates hold, so a batch costs what it has, and a checkpoint what is
//! new, however many values a key has. Of each batch only the rows with a value that is new to their key are left to the aggregate, which
//! then need not know that it is DISTINCT. NULL is no value.

use crate::error::{Error, Result};
use crate::operator::Snapshot;
use crate::operator::keys::{KeyEncoder, KeyNumbers};
use crate::operator::pages::Pages;
use crate::operator::state;
use crate::operator::window::feed::Feed;
use crate::plan::Aggregate;
use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use std::sync::Arc;

/// The name of this part of the state: keys, then a column for each DISTINCT aggregate. A row is a value of one of them, whose column is
/// the only one that is not NULL.
pub(super) const PART: &str = "values";

/// The aggregate as it is over values that all differ.
pub(super) fn plain(aggregate: &Aggregate, input: &SchemaRef) -> Result<Aggregate> {
    let function = &aggregate.function;
    if !function.is_distinct() {
        return Ok(aggregate.clone());
    }
    let plain = AggregateExprBuilder::new(Arc::new(function.fun().clone()), function.expressions())
        .schema(Arc::clone(input))
        .alias(function.name())
        .build()?;
    Ok(Aggregate {
        function: Arc::new(plain),
        filter: aggregate.filter.clone(),
    })
}

/// The values that were there.
pub(super) struct Values {
    /// The DISTINCT ones by their place among all aggregates, and the types of their values.
    aggregates: Vec<usize>,
    types: Vec<DataType>,
    /// The columns of [`PART`] to bytes and back.
    encoder: KeyEncoder,
    known: KeyNumbers,
    pages: Pages,
    /// The columns of [`PART`].
    state: Vec<Field>,
    key_columns: usize,
}

impl Values {
    /// `keys` are the columns of the state with the keys.
    pub fn new(keys: &[Field], aggregates: &[Aggregate], input: &SchemaRef) -> Result<Self> {
        let mut columns = keys.to_vec();
        let (mut places, mut types) = (Vec::new(), Vec::new());
        for (place, aggregate) in aggregates.iter().enumerate() {
            if !aggregate.function.is_distinct() {
                continue;
            }
            let arguments = aggregate.function.expressions();
            let [value] = arguments.as_slice() else {
                return Err(Error::bug(format!(
                    "{} is DISTINCT over several columns",
                    aggregate.function.name()
                )));
            };
            let data_type = value.data_type(input)?;
            let name = format!("value_{}", places.len());
            columns.push(state::column(name, &data_type));
            places.push(place);
            types.push(data_type);
        }
        let all = columns.iter().map(|column| column.data_type().clone());
        let encoder = KeyEncoder::new(&all.collect::<Vec<_>>())?;
        Ok(Values {
            aggregates: places,
            types,
            known: KeyNumbers::new(&encoder),
            encoder,
            pages: Pages::default(),
            state: columns,
            key_columns: keys.len(),
        })
    }

    /// Leaves to each DISTINCT aggregate only the rows with a value that is new to their key. `feeds` are those of all aggregates.
    pub fn only_new(&mut self, keys: &[ArrayRef], feeds: &mut [Feed]) -> Result<()> {
        for (own, place) in self.aggregates.iter().enumerate() {
            let feed = &mut feeds[*place];
            let values = &feed.arguments[0];
            let mut columns = keys.to_vec();
            for (other, data_type) in self.types.iter().enumerate() {
                columns.push(match other == own {
                    true => Arc::clone(values),
                    false => new_null_array(data_type, values.len()),
                });
            }
            let rows = self.encoder.encode(&columns, values.len())?;
            let nulls = values.logical_nulls();
            let counts = |row: usize| {
                let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                let filter = feed.filter.as_ref();
                let is_out = filter.is_some_and(|is_in| is_in.is_null(row) || !is_in.value(row));
                if is_null || is_out {
                    return false;
                }
                let next = self.known.len();
                let is_new = self.known.number(&rows, row) == next;
                if is_new {
                    self.pages.touch(next);
                }
                is_new
            };
            let new: Vec<bool> = (0..values.len()).map(counts).collect();
            feed.filter = Some(BooleanArray::from(new));
        }
        Ok(())
    }

    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let (known, encoder, fields) = (&self.known, &self.encoder, &self.state);
        self.pages.parts(PART, self.key_columns, |numbers| {
            let numbers = numbers.start..numbers.end.min(known.len());
            state::rows_of(fields, encoder.decode(&known.rows, numbers)?)
        })
    }

    pub fn restore(&mut self, rows: &RecordBatch) -> Result<()> {
        state::expect_columns(PART, rows, &self.state)?;
        let values = self.encoder.encode(rows.columns(), rows.num_rows())?;
        for row in 0..rows.num_rows() {
            let number = self.known.number(&values, row);
            self.pages.touch(number);
        }
        Ok(())
    }

    /// The bytes that they take, roughly.
    pub fn size(&self) -> usize {
        self.known.size()
    }
}
