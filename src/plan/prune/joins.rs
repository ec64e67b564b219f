//! What joins need of their inputs, and of the tables that they look rows up in.

use super::{Pruning, Used, needs, places_of};
use crate::plan::draft::{Draft, Expr, columns_read, move_columns};
use crate::plan::{IntervalJoin, LookupJoin, LookupKey, NodeId, Op};
use arrow::datatypes::Schema;
use datafusion::common::Result;
use std::sync::Arc;

impl Pruning<'_> {
    pub fn join(
        &mut self,
        node: &Draft,
        join: &IntervalJoin,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let left_width = self.old.schema(node.inputs[0]).fields().len();
        let left: Vec<usize> = needs(self.old, node, 0, used).into_iter().collect();
        let right: Vec<usize> = needs(self.old, node, 1, used).into_iter().collect();
        let inputs = vec![
            self.narrowed(node.inputs[0], &left, node, "left")?,
            self.narrowed(node.inputs[1], &right, node, "right")?,
        ];
        let right_width = self.old.schema(node.inputs[1]).fields().len();
        let (of_left, of_right) = (places_of(&left, left_width), places_of(&right, right_width));
        let over_left = |expr: &Expr| self.over(expr, inputs[0], &of_left);
        let over_right = |expr: &Expr| self.over(expr, inputs[1], &of_right);
        let kept: Vec<usize> = left
            .iter()
            .copied()
            .chain(right.iter().map(|&i| left_width + i))
            .collect();
        let places = places_of(&kept, left_width + right_width);
        let fields = kept.iter().map(|&i| node.schema.field(i).clone());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let filter = join.filter.as_ref().map(|filter| {
            move_columns(filter, &schema, &|index| places[index].unwrap_or_default())
        });
        let new = IntervalJoin {
            left_keys: join
                .left_keys
                .iter()
                .map(over_left)
                .collect::<Result<_>>()?,
            right_keys: join
                .right_keys
                .iter()
                .map(over_right)
                .collect::<Result<_>>()?,
            left_time: over_left(&join.left_time)?,
            right_time: over_right(&join.right_time)?,
            filter: filter.transpose()?,
            ..join.clone()
        };
        let times = kept.iter().map(|&i| node.times[i]).collect();
        let draft = Draft {
            op: Op::IntervalJoin(new),
            inputs,
            schema,
            times,
            ..node.clone()
        };
        Ok((self.next.add(draft), places))
    }

    pub fn lookup(
        &mut self,
        node: &Draft,
        lookup: &LookupJoin,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let width = self.old.schema(node.inputs[0]).fields().len();
        let (input, wanted, places) = self.read_input(node, used)?;
        let mut asked = Vec::new();
        lookup
            .filter
            .iter()
            .for_each(|filter| columns_read(filter, &mut asked));
        let comes_out = |i: &usize| used.contains(&(width + i)) || asked.contains(&(width + i));
        let given: Vec<usize> = (0..lookup.exprs.len()).filter(comes_out).collect();

        // Of the rows that are found: what comes out is made of, and the keys.
        let mut read: Vec<usize> = lookup.keys.iter().map(|key| key.column).collect();
        given
            .iter()
            .for_each(|&i| columns_read(&lookup.exprs[i], &mut read));
        let read: Used = read.into_iter().collect();
        let read: Vec<usize> = read.into_iter().collect();
        let fields = read.iter().map(|&i| lookup.read.field(i).clone());
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let of_read = places_of(&read, lookup.read.fields().len());
        let moved = |index: usize| of_read[index].unwrap_or_default();
        let exprs = given
            .iter()
            .map(|&i| move_columns(&lookup.exprs[i], &schema, &moved));
        let keys = lookup.keys.iter().map(|key| {
            Ok(LookupKey {
                column: moved(key.column),
                value: self.over(&key.value, input, &places)?,
            })
        });

        let kept: Vec<usize> = wanted
            .iter()
            .copied()
            .chain(given.iter().map(|&i| width + i))
            .collect();
        let output = Schema::new(
            kept.iter()
                .map(|&i| node.schema.field(i).clone())
                .collect::<Vec<_>>(),
        );
        let of_kept = places_of(&kept, node.schema.fields().len());
        let over_output = |filter: &Expr| {
            move_columns(filter, &output, &|index| of_kept[index].unwrap_or_default())
        };
        let new = LookupJoin {
            keys: keys.collect::<Result<_>>()?,
            exprs: exprs.collect::<Result<_>>()?,
            filter: lookup.filter.as_ref().map(over_output).transpose()?,
            read: Arc::new(schema),
            ..lookup.clone()
        };
        Ok(self.with_columns(node, Op::Lookup(new), input, &kept))
    }
}
