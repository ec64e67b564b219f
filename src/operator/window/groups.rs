//! The groups of one window: keys to group numbers, and the accumulators that hold the groups' values.

use super::feed::Feed;
use crate::error::Result;
use crate::operator::keys::{EncodedKeys, KeyEncoder, KeyNumbers};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

/// Groups that a snapshot writes, or leaves as they are, together.
pub(super) const PAGE: usize = 4096;

pub(in crate::operator) struct Groups {
    /// A group's number is that of its key.
    keys: KeyNumbers,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// What the accumulators held at the last snapshot. Taking their state empties them; it is put back when
    /// the window is touched next, so that a snapshot of a window that rests costs nothing.
    drained: Option<Drained>,
    /// For each [`PAGE`] of groups, the number under which a snapshot has all that is in it.
    pub pages: Vec<Option<u64>>,
    /// The group of each row of the batch at hand, kept for its memory.
    group_of_row: Vec<usize>,
}

struct Drained {
    groups: usize,
    /// The state columns of each accumulator.
    states: Vec<Vec<ArrayRef>>,
}

impl Groups {
    pub fn new<'a>(
        encoder: &KeyEncoder,
        functions: impl Iterator<Item = &'a Arc<AggregateFunctionExpr>>,
    ) -> Result<Self> {
        Ok(Groups {
            keys: KeyNumbers::new(encoder),
            accumulators: functions.map(accumulator).collect::<Result<_>>()?,
            drained: None,
            pages: Vec::new(),
            group_of_row: Vec::new(),
        })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Counts rows in. `feeds` holds exactly the rows of `selected`, or of the whole batch where that is None.
    pub fn update(
        &mut self,
        keys: &EncodedKeys,
        selected: Option<&[u32]>,
        feeds: &[Feed],
    ) -> Result<()> {
        self.refill()?;
        self.find_groups(keys, selected);
        for (accumulator, feed) in self.accumulators.iter_mut().zip(feeds) {
            accumulator.update_batch(
                &feed.arguments,
                &self.group_of_row,
                feed.filter.as_ref(),
                self.keys.len(),
            )?;
        }
        Ok(())
    }

    /// Merges state that a snapshot held. `states` has the columns of all aggregates, `widths` says how many belong to each.
    pub fn merge(
        &mut self,
        keys: &EncodedKeys,
        selected: &[u32],
        states: &[ArrayRef],
        widths: &[usize],
    ) -> Result<()> {
        self.refill()?;
        self.find_groups(keys, Some(selected));
        let mut rest = states;
        for (accumulator, width) in self.accumulators.iter_mut().zip(widths) {
            let (own, others) = rest.split_at(*width);
            accumulator.merge_batch(own, &self.group_of_row, self.keys.len())?;
            rest = others;
        }
        Ok(())
    }

    /// The state columns of all aggregates, a row for each group. The groups go on holding what they held.
    pub fn state(&mut self) -> Result<Vec<ArrayRef>> {
        let drained = match self.drained.take() {
            Some(drained) => drained,
            None => {
                let states = self
                    .accumulators
                    .iter_mut()
                    .map(|held| Ok(held.state(EmitTo::All)?));
                Drained {
                    groups: self.keys.len(),
                    states: states.collect::<Result<_>>()?,
                }
            }
        };
        let columns = drained.states.iter().flatten().cloned().collect();
        self.drained = Some(drained);
        Ok(columns)
    }

    /// The key columns, a row for each group, in the order of [`Groups::state`].
    pub fn keys(&self, encoder: &KeyEncoder) -> Result<Vec<ArrayRef>> {
        encoder.decode(&self.keys.rows, 0..self.keys.len())
    }

    /// The results, a row for each group, in the order of [`Groups::state`]. The groups hold nothing afterwards.
    pub fn results(mut self) -> Result<Vec<ArrayRef>> {
        self.refill()?;
        let results = self
            .accumulators
            .iter_mut()
            .map(|held| Ok(held.evaluate(EmitTo::All)?));
        results.collect()
    }

    /// The end of the window: key columns and results, in the order of the keys.
    pub fn finish(mut self, encoder: &KeyEncoder) -> Result<Vec<ArrayRef>> {
        self.refill()?;
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_unstable_by(|a, b| {
            self.keys
                .rows
                .bytes(*a as usize)
                .cmp(self.keys.rows.bytes(*b as usize))
        });
        let mut columns =
            encoder.decode(&self.keys.rows, order.iter().map(|group| *group as usize))?;
        let order = UInt32Array::from(order);
        for accumulator in &mut self.accumulators {
            columns.push(take(&accumulator.evaluate(EmitTo::All)?, &order, None)?);
        }
        Ok(columns)
    }

    /// The bytes that it takes, roughly.
    pub fn size(&self) -> usize {
        let drained = self
            .drained
            .iter()
            .flat_map(|drained| drained.states.iter().flatten());
        self.keys.size()
            + self.group_of_row.capacity() * size_of::<usize>()
            + self
                .accumulators
                .iter()
                .map(|held| held.size())
                .sum::<usize>()
            + drained
                .map(|column| column.get_array_memory_size())
                .sum::<usize>()
    }

    /// Puts back what a snapshot took out.
    fn refill(&mut self) -> Result<()> {
        let Some(drained) = self.drained.take() else {
            return Ok(());
        };
        let all: Vec<usize> = (0..drained.groups).collect();
        for (accumulator, states) in self.accumulators.iter_mut().zip(&drained.states) {
            accumulator.merge_batch(states, &all, drained.groups)?;
        }
        Ok(())
    }

    fn find_groups(&mut self, keys: &EncodedKeys, selected: Option<&[u32]>) {
        let mut group_of_row = std::mem::take(&mut self.group_of_row);
        group_of_row.clear();
        match selected {
            Some(rows) => {
                group_of_row.extend(rows.iter().map(|row| self.keys.number(keys, *row as usize)))
            }
            None => {
                group_of_row.extend((0..keys.hashes.len()).map(|row| self.keys.number(keys, row)))
            }
        }
        self.pages.resize(self.keys.len().div_ceil(PAGE), None);
        for group in &group_of_row {
            self.pages[group / PAGE] = None;
        }
        self.group_of_row = group_of_row;
    }
}

/// The vectorised accumulator of a function, or one small accumulator for each group where it has none.
fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}
