//! What one aggregate of an OVER remembers of one key.

use super::values::{AnyType, Bags, Bytes, Codec, Column, Reader, Value, bag_of};
use crate::error::{Error, Result};
use crate::operator::expr::evaluate;
use crate::operator::state;
use crate::plan::{OverCall, Running};
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One aggregate, ready to run.
pub struct Call {
    function: Running,
    argument: Option<Arc<dyn PhysicalExpr>>,
    pub codec: Codec,
    /// Whether rows leave the frame again.
    sliding: bool,
}

/// What one aggregate remembers of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    Count(i64),
    /// The sum, and of how many values.
    Sum(Value, i64),
    /// The one value that is the result, where no row leaves the frame.
    One(Option<Bytes>),
    /// The values in the frame, in their order.
    Queue(VecDeque<Bytes>),
    /// How often each value is in the frame.
    Bag(BTreeMap<Bytes, i64>),
}

/// A column of results, while it grows.
pub enum Results<'a> {
    Plain(Column<'a>),
    Bags(Bags<'a>),
}

impl Call {
    pub fn new(call: &OverCall, sliding: bool, input: &Schema) -> Result<Call> {
        let data_type = match &call.argument {
            Some(argument) => Some(argument.data_type(input)?),
            None => None,
        };
        let codec = match (call.function, data_type) {
            (Running::Count, None) => Codec::Every,
            (Running::Count, Some(_)) => Codec::Present,
            (Running::Sum, Some(number)) => Codec::Number(number),
            (_, Some(data_type)) => Codec::Any(AnyType::new(&data_type)?),
            (other, None) => {
                return Err(Error::bug(format!("{other:?} is planned without argument")));
            }
        };
        Ok(Call {
            function: call.function,
            argument: call.argument.clone(),
            codec,
            sliding,
        })
    }

    pub fn reader(&self, batch: &RecordBatch) -> Result<Reader> {
        let column = match &self.argument {
            Some(argument) => Some(evaluate(argument, batch)?),
            None => None,
        };
        self.codec.reader(column)
    }

    /// What a key begins with.
    pub fn fresh(&self) -> Held {
        use Running::{Collect, Count, CountDistinct, First, Last, Max, Min, Sum};
        match (self.function, self.sliding) {
            (Count, _) => Held::Count(0),
            (Sum, _) => Held::Sum(Value::Null, 0),
            (Collect | CountDistinct, _) | (Min | Max, true) => Held::Bag(BTreeMap::new()),
            (Min | Max | First | Last, false) => Held::One(None),
            (First | Last, true) => Held::Queue(VecDeque::new()),
        }
    }

    /// A row comes into the frame. NULL counts for nothing, as in Flink also for FIRST_VALUE and LAST_VALUE.
    pub fn add(&self, held: &mut Held, value: &Value) {
        match (held, value) {
            (_, Value::Null) => {}
            (Held::Count(count), _) => *count += 1,
            (Held::Sum(sum, of), value) => {
                *sum = plus(sum, value);
                *of += 1;
            }
            (Held::One(one), Value::Bytes(bytes)) => {
                let wins = match (self.function, one.as_ref()) {
                    (_, None) | (Running::Last, _) => true,
                    (Running::Min, Some(best)) => bytes < best,
                    (Running::Max, Some(best)) => bytes > best,
                    _ => false,
                };
                if wins {
                    *one = Some(Arc::clone(bytes));
                }
            }
            (Held::Queue(queue), Value::Bytes(bytes)) => queue.push_back(Arc::clone(bytes)),
            (Held::Bag(bag), Value::Bytes(bytes)) => {
                *bag.entry(Arc::clone(bytes)).or_insert(0) += 1;
            }
            _ => {}
        }
    }

    /// The oldest row leaves the frame.
    pub fn remove(&self, held: &mut Held, value: &Value) {
        match (held, value) {
            (_, Value::Null) => {}
            (Held::Count(count), _) => *count -= 1,
            (Held::Sum(sum, of), value) => {
                *of -= 1;
                // What rounding left behind goes with the last value.
                *sum = if *of == 0 {
                    Value::Null
                } else {
                    minus(sum, value)
                };
            }
            (Held::Queue(queue), _) => {
                queue.pop_front();
            }
            (Held::Bag(bag), Value::Bytes(bytes)) => {
                if let Some(count) = bag.get_mut(bytes) {
                    *count -= 1;
                    if *count == 0 {
                        bag.remove(bytes);
                    }
                }
            }
            _ => {}
        }
    }

    pub fn results(&self) -> Results<'_> {
        match (self.function, &self.codec) {
            (Running::Collect, Codec::Any(any)) => Results::Bags(any.bags()),
            (Running::CountDistinct, _) => Results::Plain(Column::Whole(Vec::new())),
            _ => Results::Plain(self.codec.column()),
        }
    }

    pub fn give(&self, held: &Held, results: &mut Results<'_>) {
        match (held, results) {
            (Held::Bag(bag), Results::Bags(bags)) => bags.push(bag),
            (Held::Count(count), Results::Plain(column)) => column.push(&Value::Whole(*count)),
            (Held::Sum(sum, _), Results::Plain(column)) => column.push(sum),
            (Held::One(one), Results::Plain(column)) => column.push_bytes(one.as_ref()),
            (Held::Queue(queue), Results::Plain(column)) => {
                column.push_bytes(match self.function {
                    Running::First => queue.front(),
                    _ => queue.back(),
                })
            }
            (Held::Bag(bag), Results::Plain(column)) => match self.function {
                Running::CountDistinct => column.push(&Value::Whole(bag.len() as i64)),
                Running::Min => column.push_bytes(bag.first_key_value().map(|(value, _)| value)),
                _ => column.push_bytes(bag.last_key_value().map(|(value, _)| value)),
            },
            _ => {}
        }
    }

    /// Whether what it remembers is all in the rows of the frame, so that these are enough to restore it.
    pub fn follows_from_frame(&self) -> bool {
        self.sliding && !matches!(self.function, Running::Count | Running::Sum)
    }

    /// The columns of its state, numbered from `first`.
    pub fn state_columns(&self, first: usize) -> Vec<Field> {
        let types = match self.function {
            _ if self.follows_from_frame() => vec![],
            Running::Count => vec![DataType::Int64],
            Running::Sum => vec![self.codec.data_type(), DataType::Int64],
            Running::Collect | Running::CountDistinct => {
                vec![AnyType::bag_type(&self.codec.data_type(), DataType::Int64)]
            }
            _ => vec![self.codec.data_type()],
        };
        let named = types.iter().enumerate();
        named
            .map(|(at, data_type)| state::column(format!("state_{}", first + at), data_type))
            .collect()
    }

    /// Its state for many keys, column by column.
    pub fn save<'k>(&self, all: impl Iterator<Item = &'k Held> + Clone) -> Result<Vec<ArrayRef>> {
        if self.follows_from_frame() {
            return Ok(Vec::new());
        }
        let mut counts = Column::Whole(Vec::new());
        if let (Running::Collect | Running::CountDistinct, Codec::Any(any)) =
            (self.function, &self.codec)
        {
            let mut bags = any.bags();
            for held in all {
                if let Held::Bag(bag) = held {
                    bags.push(bag);
                }
            }
            return Ok(vec![bags.finish(DataType::Int64)?]);
        }
        let mut values = self.codec.column();
        for held in all {
            match held {
                Held::Count(count) => values.push(&Value::Whole(*count)),
                Held::Sum(sum, of) => {
                    values.push(sum);
                    counts.push(&Value::Whole(*of));
                }
                Held::One(one) => values.push_bytes(one.as_ref()),
                Held::Queue(_) | Held::Bag(_) => {}
            }
        }
        let mut columns = vec![values.finish()?];
        if self.function == Running::Sum {
            columns.push(counts.finish()?);
        }
        Ok(columns)
    }

    /// What [`Call::save`] wrote, key by key.
    pub fn load(&self, columns: &[ArrayRef], keys: usize) -> Result<Vec<Held>> {
        let fresh = self.fresh();
        if self.follows_from_frame() {
            return Ok(vec![fresh; keys]);
        }
        if let (Held::Bag(_), Codec::Any(any)) = (&fresh, &self.codec) {
            let bags = (0..keys).map(|key| Ok(Held::Bag(bag_of(&columns[0], key, any)?)));
            return bags.collect();
        }
        let values = self.codec.reread(&columns[0])?;
        let loaded = (0..keys).map(|key| match (&fresh, values.read(key)) {
            (Held::Count(_), Value::Whole(count)) => Held::Count(count),
            (Held::Sum(..), sum) => {
                Held::Sum(sum, columns[1].as_primitive::<Int64Type>().value(key))
            }
            (Held::One(_), Value::Bytes(bytes)) => Held::One(Some(bytes)),
            _ => fresh.clone(),
        });
        Ok(loaded.collect())
    }
}

impl Results<'_> {
    pub fn finish(self) -> Result<ArrayRef> {
        match self {
            Results::Plain(column) => column.finish(),
            Results::Bags(bags) => bags.finish(DataType::Int32),
        }
    }
}

/// Whole numbers wrap, as in Java.
fn plus(sum: &Value, value: &Value) -> Value {
    match (sum, value) {
        (Value::Whole(a), Value::Whole(b)) => Value::Whole(a.wrapping_add(*b)),
        (Value::Real(a), Value::Real(b)) => Value::Real(a + b),
        (Value::Exact(a), Value::Exact(b)) => Value::Exact(a.wrapping_add(*b)),
        (_, value) => value.clone(),
    }
}

fn minus(sum: &Value, value: &Value) -> Value {
    match (sum, value) {
        (Value::Whole(a), Value::Whole(b)) => Value::Whole(a.wrapping_sub(*b)),
        (Value::Real(a), Value::Real(b)) => Value::Real(a - b),
        (Value::Exact(a), Value::Exact(b)) => Value::Exact(a.wrapping_sub(*b)),
        (sum, _) => sum.clone(),
    }
}
