//! GROUP BY without a window: a result for each key, which changes with every row.
//!
//! Guarantee: behind each batch the rows given so far say, taken together, what the aggregates are over all rows that came. A batch changes a
//! key's result at most once; where it stays the same nothing is said, as in Flink. So the cuts between batches change how many
//! steps are seen, and not where they lead.
//!
//! What an accumulator holds for a key lies as bytes beside all the others. A batch takes out what its keys have, adds its rows to it, and
//! puts it back: that costs what the batch has, however many keys there are. The values of DISTINCT, of which a key can have many, lie apart.

mod distinct;

use crate::error::{Error, Result};
use crate::operator::changes::{self, Kind};
use crate::operator::expr::{batch_of, evaluate_all};
use crate::operator::keys::{EncodedKeys, KeyEncoder, KeyNumbers};
use crate::operator::pages::Pages;
use crate::operator::state::{self, unknown_part};
use crate::operator::window::feed::Compiled;
use crate::operator::window::groups::Groups;
use crate::operator::{Operator, Output, Snapshot};
use crate::plan;
use crate::time::Progress;
use arrow::array::{ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use distinct::Values;
use std::collections::HashSet;
use std::sync::Arc;

/// The name of its state: keys, then the columns of every aggregate's state.
const PART: &str = "keys";

/// Aggregates rows by key, for good.
pub struct GroupAggregate {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Compiled>,
    /// What the aggregates with DISTINCT have had.
    values: Values,
    /// How many columns of state each aggregate has.
    widths: Vec<usize>,
    encoder: KeyEncoder,
    /// Columns of state to bytes and back.
    states: KeyEncoder,
    /// Results to bytes, to see whether one has changed.
    results: KeyEncoder,
    /// The columns of [`PART`].
    state: Vec<Field>,
    schema: SchemaRef,
    table: Table,
    pages: Pages,
}

/// The keys by number, and what the aggregates hold for each.
struct Table {
    keys: KeyNumbers,
    held: Vec<Box<[u8]>>,
    held_bytes: usize,
}

/// The keys of a batch, those first that were there before it.
struct Touched {
    /// The first row of each key.
    rows: Vec<u32>,
    numbers: Vec<usize>,
    /// How many were there before.
    known: usize,
}

impl GroupAggregate {
    pub fn new(
        spec: &plan::GroupAggregate,
        schema: SchemaRef,
        inputs: &[SchemaRef],
    ) -> Result<Self> {
        let [input] = inputs else {
            return Err(Error::bug(format!(
                "GROUP BY has one input, not {}",
                inputs.len()
            )));
        };
        let aggregates: Vec<_> = spec
            .aggregates
            .iter()
            .map(|aggregate| Compiled::new(&distinct::plain(aggregate, input)?))
            .collect::<Result<_>>()?;
        let mut columns = Vec::new();
        for (at, key) in spec.keys.iter().enumerate() {
            columns.push(state::column(format!("key_{at}"), &key.data_type(input)?));
        }
        let values = Values::new(&columns, &spec.aggregates, input)?;
        let held: Vec<DataType> = aggregates
            .iter()
            .flat_map(|aggregate| aggregate.state.clone())
            .collect();
        for (at, held) in held.iter().enumerate() {
            columns.push(state::column(format!("state_{at}"), held));
        }
        let results = schema.fields()[spec.keys.len()..]
            .iter()
            .take(aggregates.len());
        let results: Vec<_> = results.map(|field| field.data_type().clone()).collect();
        let encoder = KeyEncoder::for_exprs(&spec.keys, input)?;
        Ok(GroupAggregate {
            keys: spec.keys.clone(),
            widths: aggregates.iter().map(|held| held.state.len()).collect(),
            aggregates,
            values,
            table: Table {
                keys: KeyNumbers::new(&encoder),
                held: Vec::new(),
                held_bytes: 0,
            },
            encoder,
            states: KeyEncoder::new(&held)?,
            results: KeyEncoder::new(&results)?,
            state: columns,
            schema,
            pages: Pages::default(),
        })
    }

    /// Accumulators that hold what the known keys of a batch have.
    fn taken_out(&self, keys: &EncodedKeys, touched: &Touched) -> Result<Groups> {
        let functions = self.aggregates.iter().map(|compiled| &compiled.function);
        let mut groups = Groups::new(&self.encoder, functions)?;
        if touched.known > 0 {
            let held = touched.numbers[..touched.known].iter();
            let held = held.map(|number| self.table.held[*number].as_ref());
            let states = self.states.decode_bytes(held)?;
            groups.merge(keys, &touched.rows[..touched.known], &states, &self.widths)?;
        }
        Ok(groups)
    }

    /// The results of no keys, which some accumulators cannot give.
    fn no_results(&self) -> Vec<ArrayRef> {
        let results = self.schema.fields()[self.keys.len()..].iter();
        let results = results.take(self.aggregates.len());
        results
            .map(|field| new_empty_array(field.data_type()))
            .collect()
    }

    /// What the keys of a batch changed to: the old results of those that were there, then the new ones of all.
    fn changed(
        &self,
        keys: &[ArrayRef],
        touched: &Touched,
        old: Vec<ArrayRef>,
        new: Vec<ArrayRef>,
        out: &mut Output,
    ) -> Result<()> {
        let (known, all) = (touched.known, touched.rows.len());
        let before = self.results.encode(&old, known)?.rows;
        let after = self.results.encode(&new, all)?.rows;
        let mut order = Vec::with_capacity(known + all);
        let mut kinds = Vec::with_capacity(known + all);
        for at in 0..all {
            if at < known {
                if before.bytes(at) == after.bytes(at) {
                    continue;
                }
                order.extend([at as u32, (known + at) as u32]);
                kinds.extend([Kind::UpdateBefore, Kind::UpdateAfter]);
            } else {
                order.push((known + at) as u32);
                kinds.push(Kind::Insert);
            }
        }
        if order.is_empty() {
            return Ok(());
        }
        let key_rows = order.iter().map(|at| match *at as usize {
            at if at < known => touched.rows[at],
            at => touched.rows[at - known],
        });
        let key_rows = UInt32Array::from_iter_values(key_rows);
        let order = UInt32Array::from(order);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for key in keys {
            columns.push(take(key, &key_rows, None)?);
        }
        for (old, new) in old.iter().zip(&new) {
            let both = concat(&[old.as_ref(), new.as_ref()])?;
            columns.push(take(&both, &order, None)?);
        }
        columns.push(changes::column(kinds));
        out.batches
            .push(batch_of(&self.schema, columns, order.len())?);
        Ok(())
    }

    /// Keeps what the aggregates hold, by the keys' numbers.
    fn put_back(&mut self, numbers: &[usize], states: &[ArrayRef]) -> Result<()> {
        let states = self.states.encode(states, numbers.len())?;
        for (at, number) in numbers.iter().enumerate() {
            self.table.put(*number, states.rows.bytes(at));
            self.pages.touch(*number);
        }
        Ok(())
    }
}

impl Table {
    fn touch(&mut self, keys: &EncodedKeys, rows: usize) -> Touched {
        let before = self.keys.len();
        let mut touched = Touched {
            rows: Vec::new(),
            numbers: Vec::new(),
            known: 0,
        };
        let mut new = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for row in 0..rows {
            let number = self.keys.number(keys, row);
            if !seen.insert(number) {
                continue;
            }
            let (rows, numbers) = match number < before {
                true => (&mut touched.rows, &mut touched.numbers),
                false => (&mut new.0, &mut new.1),
            };
            rows.push(row as u32);
            numbers.push(number);
        }
        touched.known = touched.rows.len();
        touched.rows.extend(new.0);
        touched.numbers.extend(new.1);
        touched
    }

    fn put(&mut self, number: usize, held: &[u8]) {
        if number >= self.held.len() {
            self.held.resize_with(number + 1, Box::default);
        }
        self.held_bytes += held.len();
        self.held_bytes -= self.held[number].len();
        self.held[number] = held.into();
    }

    fn size(&self) -> usize {
        self.keys.size() + self.held.capacity() * size_of::<Box<[u8]>>() + self.held_bytes
    }
}

impl Operator for GroupAggregate {
    fn on_batch(&mut self, _input: usize, batch: RecordBatch, out: &mut Output) -> Result<()> {
        out.used += batch.num_rows() as u64;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = evaluate_all(&self.keys, &batch)?;
        let keys = self.encoder.encode(&columns, batch.num_rows())?;
        let touched = self.table.touch(&keys, batch.num_rows());
        let feeds = self.aggregates.iter().map(|held| held.feed(&batch));
        let mut feeds = feeds.collect::<Result<Vec<_>>>()?;
        self.values.only_new(&columns, &mut feeds)?;

        let old = match touched.known {
            0 => self.no_results(),
            _ => self.taken_out(&keys, &touched)?.results()?,
        };
        // The groups have the order of `touched`: first what is merged, then what is new.
        let mut groups = self.taken_out(&keys, &touched)?;
        groups.update(&keys, None, &feeds)?;
        let states = groups.state()?;
        self.put_back(&touched.numbers, &states)?;
        self.changed(&columns, &touched, old, groups.results()?, out)
    }

    fn on_watermark(&mut self, progress: &[Progress], _out: &mut Output) -> Result<Progress> {
        Ok(Progress::combine(progress))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let (table, encoder, states) = (&self.table, &self.encoder, &self.states);
        let mut parts = self.pages.parts(PART, self.keys.len(), |numbers| {
            let numbers = numbers.start..numbers.end.min(table.keys.len());
            let mut columns = encoder.decode(&table.keys.rows, numbers.clone())?;
            let held = table.held[numbers.clone()].iter().map(AsRef::as_ref);
            columns.extend(states.decode_bytes(held)?);
            state::rows_of_len(&self.state, columns, numbers.len())
        })?;
        parts.extend(self.values.snapshot()?);
        Ok(parts)
    }

    fn restore(&mut self, part: &str, rows: RecordBatch) -> Result<()> {
        match part {
            PART => {}
            distinct::PART => return self.values.restore(&rows),
            _ => return Err(unknown_part("a GROUP BY", part)),
        }
        state::expect_columns(part, &rows, &self.state)?;
        let (keys, states) = rows.columns().split_at(self.keys.len());
        let keys = self.encoder.encode(keys, rows.num_rows())?;
        let numbers: Vec<_> = (0..rows.num_rows())
            .map(|row| self.table.keys.number(&keys, row))
            .collect();
        self.put_back(&numbers, states)
    }

    fn state_bytes(&self) -> usize {
        self.table.size() + self.values.size()
    }
}

#[cfg(test)]
mod tests;
