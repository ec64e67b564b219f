//! Only columns that somebody uses.
//!
//! From the sinks backwards each node learns which of its columns are read, down to what a scan decodes. What goes into a
//! window or a join is narrowed to what it needs, because it travels between lanes or is kept.

mod joins;

use super::draft::{Draft, Drafts, Expr, Time, as_column, column, columns_read, move_columns};
use super::merge::reproject;
use super::{
    Aggregate, Gives, GroupAggregate, NodeId, Op, OrderBy, OverAggregate, OverCall, Rank, Scan,
    Unnest, Watermark, WindowAggregate,
};
use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use std::collections::BTreeSet;
use std::sync::Arc;

type Used = BTreeSet<usize>;

/// The same graph without the columns that nobody reads.
pub fn pruned(drafts: &Drafts) -> Result<Drafts> {
    let mut used = vec![Used::new(); drafts.nodes.len()];
    for (id, node) in drafts.nodes.iter().enumerate().rev() {
        for (number, &input) in node.inputs.iter().enumerate() {
            let needs = needs(drafts, node, number, &used[id]);
            used[input].extend(needs);
        }
    }
    let mut pruning = Pruning {
        old: drafts,
        used,
        next: Drafts::default(),
        moved: Vec::new(),
    };
    for id in 0..drafts.nodes.len() {
        pruning.node(id)?;
    }
    Ok(pruning.next)
}

/// The columns of one input that a node needs, to give the columns `used` of its own.
fn needs(drafts: &Drafts, node: &Draft, number: usize, used: &Used) -> Used {
    let mut read = Vec::new();
    let width = |input: usize| drafts.schema(node.inputs[input]).fields().len();
    match &node.op {
        Op::Scan(_) => {}
        Op::Project { exprs } => used
            .iter()
            .for_each(|&i| columns_read(&exprs[i], &mut read)),
        Op::Filter { predicate } => {
            columns_read(predicate, &mut read);
            read.extend(used);
        }
        Op::Union => read.extend(used),
        Op::Window(window) => {
            columns_read(&window.time, &mut read);
            window
                .keys
                .iter()
                .for_each(|key| columns_read(key, &mut read));
            let first = BOUNDS + window.keys.len();
            read_by_aggregates(&window.aggregates, first, used, &mut read);
        }
        Op::Group(group) => {
            let keys = group.keys.iter();
            keys.for_each(|key| columns_read(key, &mut read));
            read_by_aggregates(&group.aggregates, group.keys.len(), used, &mut read);
        }
        Op::Rank(rank) => {
            let number = width(0);
            read.extend(used.iter().filter(|&&i| i != number));
            let order = rank.order.iter().map(|by| &by.expr);
            let exprs = rank.partition.iter().chain(order).chain(rank_time(rank));
            exprs.for_each(|expr| columns_read(expr, &mut read));
        }
        Op::IntervalJoin(join) => {
            let left = width(0);
            let mut both: Vec<usize> = used.iter().copied().collect();
            join.filter
                .iter()
                .for_each(|filter| columns_read(filter, &mut both));
            let (keys, time) = if number == 0 {
                read.extend(both.into_iter().filter(|&i| i < left));
                (&join.left_keys, &join.left_time)
            } else {
                read.extend(both.into_iter().filter(|&i| i >= left).map(|i| i - left));
                (&join.right_keys, &join.right_time)
            };
            keys.iter()
                .chain([time])
                .for_each(|expr| columns_read(expr, &mut read));
        }
        Op::Over(over) => {
            read.extend(used.iter().filter(|&&i| i < width(0)));
            let calls = kept_calls(over, width(0), used).map(|i| &over.calls[i]);
            let arguments = calls.filter_map(|call| call.argument.as_ref());
            let exprs = over.keys.iter().chain(&over.time).chain(arguments);
            exprs.for_each(|expr| columns_read(expr, &mut read));
            // COUNT(*) alone reads nothing, and a batch without columns would have no length of its own.
            if read.is_empty() {
                read.push(0);
            }
        }
        Op::Unnest(unnest) => {
            read.extend(used.iter().filter(|&&i| i < width(0)));
            columns_read(&unnest.array, &mut read);
        }
        Op::Lookup(lookup) => {
            let values = lookup.keys.iter().map(|key| &key.value);
            let exprs = values.chain(&lookup.filter);
            exprs.for_each(|expr| columns_read(expr, &mut read));
            read.extend(used);
            read.retain(|&i| i < width(0));
            // Constants alone read nothing, and a batch without columns would have no length of its own.
            if read.is_empty() {
                read.push(0);
            }
        }
        Op::Sink(_) => read.extend(0..width(0)),
    }
    read.into_iter().collect()
}

/// The columns that a window gives before its keys.
const BOUNDS: usize = 3;

/// What a rank's rows wait for.
fn rank_time(rank: &Rank) -> Option<&Expr> {
    match &rank.gives {
        Gives::Changes => None,
        Gives::AtWindowEnd(time) | Gives::AtTime(time) => Some(time),
    }
}

/// The aggregates that somebody reads; the first of them is column `first`.
fn kept_aggregates(
    aggregates: &[Aggregate],
    first: usize,
    used: &Used,
) -> impl Iterator<Item = usize> {
    (0..aggregates.len()).filter(move |i| used.contains(&(first + i)))
}

fn read_by_aggregates(aggregates: &[Aggregate], first: usize, used: &Used, read: &mut Vec<usize>) {
    for aggregate in kept_aggregates(aggregates, first, used).map(|i| &aggregates[i]) {
        let args = aggregate.function.expressions();
        args.iter().for_each(|arg| columns_read(arg, read));
        let filter = aggregate.filter.iter();
        filter.for_each(|filter| columns_read(filter, read));
    }
}

/// The calls of an OVER that somebody reads.
fn kept_calls<'a>(
    over: &'a OverAggregate,
    first: usize,
    used: &'a Used,
) -> impl Iterator<Item = usize> + 'a {
    (0..over.calls.len()).filter(move |i| used.contains(&(first + i)))
}

struct Pruning<'a> {
    old: &'a Drafts,
    used: Vec<Used>,
    next: Drafts,
    /// For each old node its new one, and for each of its columns the new place, where it is still there.
    moved: Vec<(NodeId, Vec<Option<usize>>)>,
}

impl Pruning<'_> {
    fn node(&mut self, id: NodeId) -> Result<()> {
        let node = self.old.nodes[id].clone();
        let used: Vec<usize> = self.used[id].iter().copied().collect();
        let width = node.schema.fields().len();
        let (new, columns) = match &node.op {
            Op::Scan(scan) => self.scan(&node, scan, used)?,
            Op::Project { exprs } => {
                let (input, places) = self.moved[node.inputs[0]].clone();
                let exprs = used
                    .iter()
                    .map(|&i| self.over(&exprs[i], input, &places))
                    .collect::<Result<Vec<_>>>()?;
                let names: Vec<String> = used
                    .iter()
                    .map(|&i| node.schema.field(i).name().clone())
                    .collect();
                let times = used.iter().map(|&i| node.times[i]).collect();
                let like = Draft { times, ..node };
                (
                    reproject(&names, exprs, input, like, &mut self.next)?,
                    places_of(&used, width),
                )
            }
            Op::Filter { predicate } => {
                let (input, places) = self.moved[node.inputs[0]].clone();
                let predicate = self.over(predicate, input, &places)?;
                let under = &self.next.nodes[input];
                let (schema, times) = (Arc::clone(&under.schema), under.times.clone());
                let op = Op::Filter { predicate };
                (
                    self.next.add(Draft {
                        op,
                        inputs: vec![input],
                        schema,
                        times,
                        ..node
                    }),
                    places,
                )
            }
            Op::Union => {
                let inputs = node
                    .inputs
                    .iter()
                    .map(|&input| self.narrowed(input, &used, &node, "input"));
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let fields = used.iter().map(|&i| node.schema.field(i).clone());
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                let times = used.iter().map(|&i| node.times[i]).collect();
                (
                    self.next.add(Draft {
                        inputs,
                        schema,
                        times,
                        ..node
                    }),
                    places_of(&used, width),
                )
            }
            Op::Window(window) => self.window(&node, window, &self.used[id].clone())?,
            Op::Group(group) => self.group(&node, group, &self.used[id].clone())?,
            Op::Rank(rank) => self.rank(&node, rank, &self.used[id].clone())?,
            Op::IntervalJoin(join) => self.join(&node, join, &self.used[id].clone())?,
            Op::Over(over) => self.over_aggregate(&node, over, &self.used[id].clone())?,
            Op::Unnest(unnest) => self.unnest(&node, unnest, &self.used[id].clone())?,
            Op::Lookup(lookup) => self.lookup(&node, lookup, &self.used[id].clone())?,
            Op::Sink(_) => {
                let all: Vec<usize> = (0..width).collect();
                let input = self.narrowed(node.inputs[0], &all, &node, "input")?;
                let schema = Arc::clone(self.next.schema(input));
                (
                    self.next.add(Draft {
                        inputs: vec![input],
                        schema,
                        ..node
                    }),
                    places_of(&all, width),
                )
            }
        };
        self.moved.push((new, columns));
        Ok(())
    }

    /// An expression over an input's new columns.
    fn over(&self, expr: &Expr, input: NodeId, places: &[Option<usize>]) -> Result<Expr> {
        // Every column that an expression reads was asked for, so it has a place.
        move_columns(expr, self.next.schema(input), &|index| {
            places[index].unwrap_or_default()
        })
    }

    /// An input with just these of its old columns: a projection of its own where it has more.
    fn narrowed(
        &mut self,
        input: NodeId,
        wanted: &[usize],
        reader: &Draft,
        what: &str,
    ) -> Result<NodeId> {
        let (new, places) = self.moved[input].clone();
        let exprs: Vec<Expr> = wanted
            .iter()
            .map(|&index| column(self.next.schema(new), places[index].unwrap_or_default()))
            .collect();
        let width = self.next.schema(new).fields().len();
        if super::draft::is_identity(&exprs, width) {
            return Ok(new);
        }
        let under = &self.next.nodes[new];
        let indices = exprs.iter().filter_map(as_column);
        let times: Vec<Time> = indices.clone().map(|i| under.times[i]).collect();
        let names: Vec<String> = indices
            .map(|i| under.schema.field(i).name().clone())
            .collect();
        let name = format!("{} {what}", reader.name);
        let like = Draft {
            times,
            name,
            place: reader.place,
            ..under.clone()
        };
        reproject(&names, exprs, new, like, &mut self.next)
    }

    /// The only input of a node with what it reads: the old columns that are left, and where each of all the old ones is.
    fn read_input(
        &mut self,
        node: &Draft,
        used: &Used,
    ) -> Result<(NodeId, Vec<usize>, Vec<Option<usize>>)> {
        let wanted: Vec<usize> = needs(self.old, node, 0, used).into_iter().collect();
        let input = self.narrowed(node.inputs[0], &wanted, node, "input")?;
        let places = places_of(&wanted, self.old.schema(node.inputs[0]).fields().len());
        Ok((input, wanted, places))
    }

    fn scan(
        &mut self,
        node: &Draft,
        scan: &Scan,
        used: Vec<usize>,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        // A batch without columns would have no length of its own.
        let used = if used.is_empty() && !scan.exprs.is_empty() {
            vec![0]
        } else {
            used
        };
        let mut read = Vec::new();
        used.iter()
            .for_each(|&i| columns_read(&scan.exprs[i], &mut read));
        if let Some(watermark) = &scan.watermark {
            columns_read(&watermark.rowtime, &mut read);
            columns_read(&watermark.value, &mut read);
        }
        let read: Used = read.into_iter().collect();
        let decoded_before = scan.decoded.fields().len();
        let kept: Vec<usize> = read.iter().copied().collect();
        let (decoded, metadata): (Vec<usize>, Vec<usize>) =
            kept.iter().partition(|&&i| i < decoded_before);
        let metadata: Vec<_> = metadata
            .into_iter()
            .map(|i| scan.metadata[i - decoded_before].clone())
            .collect();
        let fields = decoded
            .iter()
            .map(|&i| scan.decoded.field(i).clone())
            .collect::<Vec<_>>();
        let extra = metadata.iter().map(|metadata| {
            arrow::datatypes::Field::new(&metadata.name, metadata.key.data_type(), true)
        });
        let base = Schema::new(fields.iter().cloned().chain(extra).collect::<Vec<_>>());
        let place = |old: usize| kept.iter().position(|&i| i == old).unwrap_or_default();
        let over = |expr: &Expr| move_columns(expr, &base, &place);
        let exprs = used
            .iter()
            .map(|&i| over(&scan.exprs[i]))
            .collect::<Result<Vec<_>>>()?;
        let watermark = match &scan.watermark {
            None => None,
            Some(watermark) => Some(Watermark {
                rowtime: over(&watermark.rowtime)?,
                value: over(&watermark.value)?,
            }),
        };
        let names: Vec<String> = used
            .iter()
            .map(|&i| node.schema.field(i).name().clone())
            .collect();
        let schema = super::draft::project_schema(&names, &exprs, &base)?;
        let new = Scan {
            table: Arc::clone(&scan.table),
            decoded: Arc::new(Schema::new(fields)),
            required: decoded.iter().map(|&i| scan.required[i]).collect(),
            metadata,
            exprs,
            watermark,
            hidden: false,
        };
        let times = used.iter().map(|&i| node.times[i]).collect();
        let draft = Draft {
            op: Op::Scan(new),
            schema,
            times,
            ..node.clone()
        };
        Ok((
            self.next.add(draft),
            places_of(&used, node.schema.fields().len()),
        ))
    }

    fn window(
        &mut self,
        node: &Draft,
        window: &WindowAggregate,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let (input, _, places) = self.read_input(node, used)?;
        let over = |expr: &Expr| self.over(expr, input, &places);
        let keys = window.keys.iter().map(over).collect::<Result<Vec<_>>>()?;
        let first = BOUNDS + keys.len();
        let aggregates = self.aggregates(&window.aggregates, first, used, input, &places)?;
        let kept: Vec<usize> = (0..first)
            .chain(kept_aggregates(&window.aggregates, first, used).map(|i| first + i))
            .collect();
        let new = WindowAggregate {
            window: window.window,
            time: over(&window.time)?,
            keys,
            aggregates,
        };
        Ok(self.with_columns(node, Op::Window(new), input, &kept))
    }

    /// The aggregates that somebody reads, over an input's new columns.
    fn aggregates(
        &self,
        aggregates: &[Aggregate],
        first: usize,
        used: &Used,
        input: NodeId,
        places: &[Option<usize>],
    ) -> Result<Vec<Aggregate>> {
        let over = |expr: &Expr| self.over(expr, input, places);
        let kept = kept_aggregates(aggregates, first, used).map(|i| &aggregates[i]);
        let moved = kept.map(|aggregate| {
            let args = aggregate.function.expressions();
            let args = args.iter().map(over).collect::<Result<Vec<_>>>()?;
            let function =
                AggregateExprBuilder::new(Arc::new(aggregate.function.fun().clone()), args)
                    .schema(Arc::clone(self.next.schema(input)))
                    .alias(aggregate.function.name())
                    .with_distinct(aggregate.function.is_distinct())
                    .build()?;
            Ok(Aggregate {
                function: Arc::new(function),
                filter: aggregate.filter.as_ref().map(over).transpose()?,
            })
        });
        moved.collect()
    }

    fn group(
        &mut self,
        node: &Draft,
        group: &GroupAggregate,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let (input, _, places) = self.read_input(node, used)?;
        let keys = group.keys.iter();
        let keys = keys.map(|key| self.over(key, input, &places));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let first = keys.len();
        let aggregates = self.aggregates(&group.aggregates, first, used, input, &places)?;
        let kept: Vec<usize> = (0..first)
            .chain(kept_aggregates(&group.aggregates, first, used).map(|i| first + i))
            .collect();
        let op = Op::Group(GroupAggregate { keys, aggregates });
        Ok(self.with_columns(node, op, input, &kept))
    }

    fn rank(
        &mut self,
        node: &Draft,
        rank: &Rank,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let width = self.old.schema(node.inputs[0]).fields().len();
        let (input, wanted, places) = self.read_input(node, used)?;
        let over = |expr: &Expr| self.over(expr, input, &places);
        let order = rank.order.iter().map(|by| {
            Ok(OrderBy {
                expr: over(&by.expr)?,
                options: by.options,
            })
        });
        let number = used.contains(&width);
        let new = Rank {
            partition: rank.partition.iter().map(over).collect::<Result<_>>()?,
            order: order.collect::<Result<_>>()?,
            number,
            gives: match &rank.gives {
                Gives::Changes => Gives::Changes,
                Gives::AtWindowEnd(time) => Gives::AtWindowEnd(over(time)?),
                Gives::AtTime(time) => Gives::AtTime(over(time)?),
            },
            ..rank.clone()
        };
        let kept: Vec<usize> = wanted.into_iter().chain(number.then_some(width)).collect();
        Ok(self.with_columns(node, Op::Rank(new), input, &kept))
    }

    /// A node over another input, with these of the columns that it gave before.
    fn with_columns(
        &mut self,
        node: &Draft,
        op: Op,
        input: NodeId,
        kept: &[usize],
    ) -> (NodeId, Vec<Option<usize>>) {
        let fields = kept.iter().map(|&i| node.schema.field(i).clone());
        let draft = Draft {
            op,
            inputs: vec![input],
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            times: kept.iter().map(|&i| node.times[i]).collect(),
            ..node.clone()
        };
        let places = places_of(kept, node.schema.fields().len());
        (self.next.add(draft), places)
    }

    fn over_aggregate(
        &mut self,
        node: &Draft,
        over: &OverAggregate,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let width = self.old.schema(node.inputs[0]).fields().len();
        let (input, wanted, places) = self.read_input(node, used)?;
        let move_to = |expr: &Expr| self.over(expr, input, &places);
        let mut calls = Vec::new();
        for call in kept_calls(over, width, used).map(|i| &over.calls[i]) {
            calls.push(OverCall {
                argument: call.argument.as_ref().map(move_to).transpose()?,
                ..call.clone()
            });
        }
        let kept = wanted.iter().copied();
        let kept: Vec<usize> = kept
            .chain(kept_calls(over, width, used).map(|i| width + i))
            .collect();
        let new = OverAggregate {
            keys: over.keys.iter().map(move_to).collect::<Result<_>>()?,
            time: over.time.as_ref().map(move_to).transpose()?,
            frame: over.frame,
            calls,
        };
        Ok(self.with_columns(node, Op::Over(new), input, &kept))
    }

    fn unnest(
        &mut self,
        node: &Draft,
        unnest: &Unnest,
        used: &Used,
    ) -> Result<(NodeId, Vec<Option<usize>>)> {
        let width = self.old.schema(node.inputs[0]).fields().len();
        let (input, wanted, places) = self.read_input(node, used)?;
        let array = self.over(&unnest.array, input, &places)?;
        let op = Op::Unnest(Unnest {
            array,
            ..unnest.clone()
        });
        // The elements come out as they are.
        let elements = width..node.schema.fields().len();
        let kept: Vec<usize> = wanted.iter().copied().chain(elements).collect();
        Ok(self.with_columns(node, op, input, &kept))
    }
}

/// Where each old column is, when these are kept in this order.
fn places_of(kept: &[usize], width: usize) -> Vec<Option<usize>> {
    (0..width)
        .map(|old| kept.iter().position(|&i| i == old))
        .collect()
}
