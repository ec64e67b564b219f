//! Lookup joins: rows, each with the rows that another table has for it.
//!
//! What the table has is found outside ([`crate::lookup`]), for an operator asks nobody. So it works in two steps: it says which keys
//! the rows of a batch ask for, and it joins the batch with what was found for these. It remembers nothing from batch to batch.
//!
//! Guarantee: the rows come out in their order, each with all that was found for it and passes the filter; one that finds nothing comes
//! out with NULLs, where the join is outer, and is counted as filtered where not. A key with a NULL finds nothing.

use crate::error::Result;
use crate::operator::expr::{batch_of, evaluate_all, evaluate_predicate, visible_schema};
use crate::operator::keys::{KeyEncoder, KeyNumbers, null_keys};
use crate::operator::{Output, hidden};
use crate::plan::LookupJoin;
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// About how many pairs are put together into one batch.
const PAIRS: usize = 8192;

/// Joins batches with what was found for them.
pub struct LookupJoinOperator {
    values: Vec<Arc<dyn PhysicalExpr>>,
    encoder: KeyEncoder,
    /// The columns of keys.
    key: SchemaRef,
    /// What comes out of a row that was found.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    outer: bool,
    schema: SchemaRef,
    visible: SchemaRef,
}

/// The keys that the rows of a batch ask for.
pub struct Asked {
    /// Each once, none with a NULL; a column for each key of the join, named as in the table.
    pub keys: RecordBatch,
    /// For each row the number of its key.
    of_row: Vec<Option<u32>>,
}

/// What a table has for keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The columns that are read, of all the rows.
    pub rows: RecordBatch,
    /// For each row the number of the key that it has.
    pub keys: Vec<u32>,
    /// Keys of which a row is not what the table declares, and what is wrong with it.
    pub unreadable: Vec<(u32, String)>,
}

impl Found {
    /// Nothing at all.
    pub fn nothing(read: &SchemaRef) -> Found {
        Found {
            rows: RecordBatch::new_empty(Arc::clone(read)),
            keys: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// The rows of each of so many keys, in their order.
    pub fn by_key(&self, keys: usize) -> Vec<Vec<u32>> {
        let mut rows = vec![Vec::new(); keys];
        for (row, key) in self.keys.iter().enumerate() {
            rows[*key as usize].push(row as u32);
        }
        rows
    }
}

/// Rows of a batch, and what may be joined with each.
#[derive(Default)]
struct Candidates {
    rows: Vec<u32>,
    pairs: Vec<(u32, u32)>,
}

impl LookupJoinOperator {
    pub fn new(spec: &LookupJoin, schema: SchemaRef) -> Result<Self> {
        let fields = spec
            .keys
            .iter()
            .map(|key| spec.read.field(key.column).clone());
        let key = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let types = key.fields().iter().map(|field| field.data_type().clone());
        Ok(LookupJoinOperator {
            values: spec.keys.iter().map(|key| Arc::clone(&key.value)).collect(),
            encoder: KeyEncoder::new(&types.collect::<Vec<_>>())?,
            key,
            exprs: spec.exprs.clone(),
            filter: spec.filter.clone(),
            outer: spec.outer,
            visible: visible_schema(&schema),
            schema,
        })
    }

    /// Which keys the rows of a batch ask for.
    pub fn ask(&self, batch: &RecordBatch) -> Result<Asked> {
        let columns = evaluate_all(&self.values, batch)?;
        let nulls = null_keys(&columns);
        let encoded = self.encoder.encode(&columns, batch.num_rows())?;
        let mut numbers = KeyNumbers::new(&self.encoder);
        let (mut first, mut of_row) = (Vec::new(), Vec::with_capacity(batch.num_rows()));
        for row in 0..batch.num_rows() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                of_row.push(None);
                continue;
            }
            let known = numbers.len();
            let number = numbers.number(&encoded, row);
            if number == known {
                first.push(row as u32);
            }
            of_row.push(Some(number as u32));
        }
        let first = UInt32Array::from(first);
        let keys = columns.iter().map(|column| Ok(take(column, &first, None)?));
        let keys = batch_of(&self.key, keys.collect::<Result<_>>()?, first.len())?;
        Ok(Asked { keys, of_row })
    }

    /// Joins a batch with what was found for the keys that it asked for.
    pub fn join(
        &self,
        batch: &RecordBatch,
        asked: &Asked,
        found: &Found,
        out: &mut Output,
    ) -> Result<()> {
        let columns = evaluate_all(&self.exprs, &found.rows)?;
        let of_key = found.by_key(asked.keys.num_rows());
        let unreadable: BTreeMap<u32, &str> = found
            .unreadable
            .iter()
            .map(|(key, why)| (*key, why.as_str()))
            .collect();
        let mut refused: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut candidates = Candidates::default();
        for (row, key) in asked.of_row.iter().enumerate() {
            let row = row as u32;
            if let Some(why) = key.and_then(|key| unreadable.get(&key)) {
                refused.entry(why).or_default().push(row);
                continue;
            }
            candidates.rows.push(row);
            let rows = key.map_or(&[][..], |key| of_key[key as usize].as_slice());
            candidates
                .pairs
                .extend(rows.iter().map(|found| (row, *found)));
            if candidates.pairs.len().max(candidates.rows.len()) >= PAIRS {
                self.emit(batch, &columns, std::mem::take(&mut candidates), out)?;
            }
        }
        self.emit(batch, &columns, candidates, out)?;
        for (why, rows) in refused {
            let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
            out.refused.push((rows, why.to_owned()));
        }
        Ok(())
    }

    /// The rows of some candidates that come out, in their order.
    fn emit(
        &self,
        batch: &RecordBatch,
        columns: &[ArrayRef],
        candidates: Candidates,
        out: &mut Output,
    ) -> Result<()> {
        let Candidates { rows, pairs } = candidates;
        let passed = self.passed(batch, columns, &pairs)?;
        let passes = |pair: usize| {
            let passed = passed.as_ref();
            passed.is_none_or(|passed| passed.is_valid(pair) && passed.value(pair))
        };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut pair = 0;
        for row in rows {
            let before = left.len();
            while pair < pairs.len() && pairs[pair].0 == row {
                if passes(pair) {
                    left.push(row);
                    right.push(Some(pairs[pair].1));
                }
                pair += 1;
            }
            if left.len() == before && self.outer {
                left.push(row);
                right.push(None);
            }
            match left.len() > before {
                true => out.used += 1,
                false => out.filtered += 1,
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let count = left.len();
        let (left, right) = (UInt32Array::from(left), UInt32Array::from(right));
        let visible = hidden::visible(batch.schema_ref());
        let (own, carried) = batch.columns().split_at(visible);
        let repeated = |column: &ArrayRef| Ok(take(column, &left, None)?);
        let mut all: Vec<ArrayRef> = own.iter().map(repeated).collect::<Result<_>>()?;
        for column in columns {
            // Nothing can be taken from an empty column, not even NULL.
            all.push(match column.is_empty() {
                true => new_null_array(column.data_type(), count),
                false => take(column, &right, None)?,
            });
        }
        if self.visible.fields().len() < self.schema.fields().len() {
            for column in carried {
                all.push(repeated(column)?);
            }
        }
        out.batches.push(batch_of(&self.schema, all, count)?);
        Ok(())
    }

    /// Which pairs pass the filter; None for all.
    fn passed(
        &self,
        batch: &RecordBatch,
        columns: &[ArrayRef],
        pairs: &[(u32, u32)],
    ) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else {
            return Ok(None);
        };
        let left = UInt32Array::from_iter_values(pairs.iter().map(|(left, _)| *left));
        let right = UInt32Array::from_iter_values(pairs.iter().map(|(_, right)| *right));
        let visible = hidden::visible(batch.schema_ref());
        let own = batch.columns()[..visible].iter();
        let own = own.map(|column| Ok(take(column, &left, None)?));
        let theirs = columns.iter().map(|column| Ok(take(column, &right, None)?));
        let all = own.chain(theirs).collect::<Result<_>>()?;
        let pairs = batch_of(&self.visible, all, pairs.len())?;
        Ok(Some(evaluate_predicate(filter, &pairs)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LookupKey;
    use crate::sql::{Options, Table};
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

    fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(name, index))
    }

    /// orders(id, customer, hidden..) with customers(id, name), by customer = id.
    fn operator(outer: bool, filter: Option<Arc<dyn PhysicalExpr>>) -> LookupJoinOperator {
        let long = |name| Field::new(name, DataType::Int64, true);
        let name = Field::new("name", DataType::Utf8, true);
        let spec = LookupJoin {
            table: Arc::new(Table::of("customers", [], Options::default())),
            read: Arc::new(Schema::new(vec![long("id"), name.clone()])),
            keys: vec![LookupKey {
                column: 0,
                value: column("customer", 1),
            }],
            exprs: vec![column("name", 1)],
            filter,
            outer,
        };
        let mut fields = vec![
            Arc::new(long("id")),
            Arc::new(long("customer")),
            Arc::new(name),
        ];
        fields.extend(hidden::fields());
        LookupJoinOperator::new(&spec, Arc::new(Schema::new(fields))).unwrap()
    }

    fn orders(customers: &[Option<i64>]) -> RecordBatch {
        let count = customers.len();
        let long = |name| Arc::new(Field::new(name, DataType::Int64, true));
        let mut fields = vec![long("id"), long("customer")];
        fields.extend(hidden::fields());
        let ids = Int64Array::from_iter_values(0..count as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids.clone()),
            Arc::new(Int64Array::from(customers.to_vec())),
            Arc::new(arrow::array::Int32Array::from(vec![7; count])),
            Arc::new(ids.clone()),
            Arc::new(ids),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn found(rows: &[(u32, i64, &str)]) -> Found {
        let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let names = StringArray::from_iter_values(rows.iter().map(|row| row.2));
        let columns: [(&str, ArrayRef, bool); 2] =
            [("id", Arc::new(ids), true), ("name", Arc::new(names), true)];
        Found {
            rows: RecordBatch::try_from_iter_with_nullable(columns).unwrap(),
            keys: rows.iter().map(|row| row.0).collect(),
            unreadable: Vec::new(),
        }
    }

    /// Each row as `id name`, and its hidden offset must be its own.
    fn shown(out: &Output) -> Vec<String> {
        let mut shown = Vec::new();
        for batch in &out.batches {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let offsets = batch.column_by_name(hidden::OFFSET).unwrap();
            assert_eq!(ids.values(), offsets.as_primitive::<Int64Type>().values());
            let names = batch.column(2).as_string::<i32>();
            for row in 0..batch.num_rows() {
                let name = names.is_valid(row).then(|| names.value(row));
                shown.push(format!("{} {}", ids.value(row), name.unwrap_or("-")));
            }
        }
        shown
    }

    #[test]
    fn each_key_is_asked_for_once_and_null_never() {
        let operator = operator(false, None);
        let asked = operator
            .ask(&orders(&[Some(5), None, Some(6), Some(5)]))
            .unwrap();
        let keys = asked.keys.column(0).as_primitive::<Int64Type>();
        assert_eq!(keys.values(), &[5, 6]);
        assert_eq!(asked.keys.schema().field(0).name(), "id");
        assert_eq!(asked.of_row, [Some(0), None, Some(1), Some(0)]);
    }

    #[test]
    fn rows_come_in_their_order_with_all_that_was_found() {
        let batch = orders(&[Some(5), None, Some(6), Some(7), Some(5)]);
        // Key 0 is 5, 1 is 6, 2 is 7.
        let found = found(&[(2, 7, "g"), (0, 5, "a"), (0, 5, "b")]);
        for (outer, expected, counts) in [
            (false, &["0 a", "0 b", "3 g", "4 a", "4 b"][..], (3, 2)),
            (
                true,
                &["0 a", "0 b", "1 -", "2 -", "3 g", "4 a", "4 b"][..],
                (5, 0),
            ),
        ] {
            let operator = operator(outer, None);
            let asked = operator.ask(&batch).unwrap();
            let mut out = Output::default();
            operator.join(&batch, &asked, &found, &mut out).unwrap();
            assert_eq!(shown(&out), expected);
            assert_eq!((out.used, out.filtered), counts);
        }
    }

    #[test]
    fn a_pair_that_does_not_pass_the_filter_is_none() {
        let b = Arc::new(Literal::new(ScalarValue::from("b")));
        let filter = Arc::new(BinaryExpr::new(column("name", 2), Operator::Eq, b));
        let batch = orders(&[Some(5), Some(6)]);
        let found = found(&[(0, 5, "a"), (0, 5, "b"), (1, 6, "c")]);
        for (outer, expected) in [(false, &["0 b"][..]), (true, &["0 b", "1 -"][..])] {
            let operator = operator(outer, Some(filter.clone()));
            let asked = operator.ask(&batch).unwrap();
            let mut out = Output::default();
            operator.join(&batch, &asked, &found, &mut out).unwrap();
            assert_eq!(shown(&out), expected);
        }
    }

    #[test]
    fn a_row_whose_match_cannot_be_read_is_refused_with_the_reason() {
        let batch = orders(&[Some(5), Some(6), Some(5)]);
        let found = Found {
            unreadable: vec![(0, "'name' is a document".into())],
            ..found(&[(1, 6, "c")])
        };
        let operator = operator(true, None);
        let asked = operator.ask(&batch).unwrap();
        let mut out = Output::default();
        operator.join(&batch, &asked, &found, &mut out).unwrap();
        assert_eq!(shown(&out), ["1 c"]);
        let [(rows, why)] = out.refused.as_slice() else {
            panic!("{:?}", out.refused)
        };
        assert_eq!((rows.num_rows(), why.as_str()), (2, "'name' is a document"));
        assert_eq!(out.used + out.filtered + 2, 3);
    }

    #[test]
    fn many_pairs_are_several_batches_and_nothing_found_is_none() {
        let batch = orders(&[Some(5); 3]);
        let many: Vec<_> = (0..5_000).map(|_| (0, 5, "a")).collect();
        let operator = operator(true, None);
        let asked = operator.ask(&batch).unwrap();
        let mut out = Output::default();
        operator
            .join(&batch, &asked, &found(&many), &mut out)
            .unwrap();
        assert_eq!(shown(&out).len(), 15_000);
        assert_eq!((out.batches.len(), out.used), (2, 3));

        let mut out = Output::default();
        let nothing = Found::nothing(&found(&[]).rows.schema());
        operator.join(&batch, &asked, &nothing, &mut out).unwrap();
        assert_eq!(shown(&out), ["0 -", "1 -", "2 -"]);
    }
}
