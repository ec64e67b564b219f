//! What every table must do that rows are looked up in, as one suite.

use super::Lookup;
use super::memory::MemoryLookup;
use crate::operator::lookup::Found;
use crate::plan::{LookupJoin, LookupKey};
use crate::source::memory::MemoryTable;
use crate::sql::{Options, Table};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::expressions::Column;
use std::sync::Arc;

/// Somewhere customers are kept, with their numbers, names and cities.
pub trait Place {
    fn add(&self, customers: &[(i64, &str, Option<&str>)]);
    fn open(&self, join: &LookupJoin) -> Box<dyn Lookup>;
    fn options(&self) -> Options;

    /// A join that reads some columns, by some of them.
    fn join(&self, read: &[&str], keys: &[&str]) -> LookupJoin {
        join(self.options(), &[], read, keys)
    }
}

pub fn join(options: Options, primary: &[&str], read: &[&str], keys: &[&str]) -> LookupJoin {
    let types = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("city", DataType::Utf8),
    ];
    let mut table = Table::of("customers", types.clone(), options);
    table.primary_key = primary.iter().map(ToString::to_string).collect();
    let fields = types.into_iter().filter(|(name, _)| read.contains(name));
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let read = Schema::new(fields.collect::<Vec<_>>());
    let key = |(place, name): (usize, &&str)| LookupKey {
        column: read.index_of(name).unwrap(),
        value: Arc::new(Column::new(name, place)),
    };
    LookupJoin {
        table: Arc::new(table),
        keys: keys.iter().enumerate().map(key).collect(),
        exprs: Vec::new(),
        filter: None,
        outer: false,
        read: Arc::new(read),
    }
}

/// Customers in memory, found by their number.
pub struct Customers {
    pub join: LookupJoin,
    table: MemoryTable,
}

impl Customers {
    pub fn in_memory(customers: &[(i64, &str)]) -> Customers {
        let options = Options::of([("connector", "memory"), ("format", "json")]);
        let new = Customers {
            join: join(options, &[], &["id", "name"], &["id"]),
            table: MemoryTable::default(),
        };
        customers.iter().for_each(|(id, name)| new.add(*id, name));
        new
    }

    pub fn add(&self, id: i64, name: &str) {
        let record = format!(r#"{{"id":{id},"name":"{name}"}}"#);
        self.table.push(0, None, Some(record.as_bytes()), 0);
    }

    pub fn open(&self) -> Box<dyn Lookup> {
        Box::new(MemoryLookup::new(&self.join, self.table.clone()).unwrap())
    }
}

/// Keys of one column.
pub fn asked(ids: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap()
}

pub fn ids(keys: &RecordBatch) -> Vec<i64> {
    keys.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// `number name` of what was found, sorted; each row must have the key that it is said to have.
pub fn found_names(keys: &[i64], found: &Found) -> Vec<String> {
    assert_eq!(found.keys.len(), found.rows.num_rows());
    let ids = found.rows["id"].as_primitive::<Int64Type>();
    let names = found.rows["name"].as_string::<i32>();
    let mut shown: Vec<String> = (0..found.rows.num_rows())
        .map(|row| {
            assert_eq!(keys[found.keys[row] as usize], ids.value(row));
            let name = names.is_valid(row).then(|| names.value(row));
            format!("{} {}", ids.value(row), name.unwrap_or("-"))
        })
        .collect();
    shown.sort();
    shown
}

pub fn passes(place: &dyn Place) {
    all_rows_of_all_keys_come_and_no_others(place);
    several_columns_are_one_key(place);
    only_what_is_read_comes(place);
    there_may_be_many_keys(place);
}

fn all_rows_of_all_keys_come_and_no_others(place: &dyn Place) {
    place.add(&[
        (1, "a", None),
        (2, "b", None),
        (2, "bb", Some("x")),
        (3, "c", None),
    ]);
    let mut table = place.open(&place.join(&["id", "name"], &["id"]));
    let keys = [2, 77, 1];
    let found = table.find(&asked(&keys)).unwrap();
    assert_eq!(found_names(&keys, &found), ["1 a", "2 b", "2 bb"]);
    assert!(found.unreadable.is_empty());
    let none = table.find(&asked(&[77])).unwrap();
    assert_eq!(none.rows.num_rows(), 0);
    assert_eq!(none.rows.schema().fields().len(), 2);
    place.add(&[(77, "late", None)]);
    let found = table.find(&asked(&[77])).unwrap();
    assert_eq!(found_names(&[77], &found), ["77 late"], "as it is now");
}

fn several_columns_are_one_key(place: &dyn Place) {
    place.add(&[
        (10, "p", Some("y")),
        (10, "q", Some("z")),
        (10, "r", None),
        (11, "s", Some("y")),
    ]);
    let mut table = place.open(&place.join(&["id", "name", "city"], &["city", "id"]));
    let cities: ArrayRef = Arc::new(StringArray::from(vec!["y", "z", "z"]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![10, 10, 11]));
    let keys = [("city", cities, true), ("id", ids, true)];
    let keys = RecordBatch::try_from_iter_with_nullable(keys).unwrap();
    let found = table.find(&keys).unwrap();
    assert_eq!(found_names(&[10, 10, 11], &found), ["10 p", "10 q"]);
    let names = found.rows["name"].as_string::<i32>();
    for (row, key) in found.keys.iter().enumerate() {
        assert_eq!(names.value(row), ["p", "q"][*key as usize]);
    }
}

fn only_what_is_read_comes(place: &dyn Place) {
    place.add(&[(20, "a", Some("w"))]);
    let mut table = place.open(&place.join(&["name", "city"], &["city"]));
    let cities: ArrayRef = Arc::new(StringArray::from(vec!["w"]));
    let keys = RecordBatch::try_from_iter_with_nullable([("city", cities, true)]).unwrap();
    let found = table.find(&keys).unwrap();
    assert_eq!(found.rows.num_rows(), 1);
    let names: Vec<String> = found
        .rows
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, ["name", "city"]);
}

fn there_may_be_many_keys(place: &dyn Place) {
    let names: Vec<String> = (0..2_500).map(|id| format!("n{id}")).collect();
    let customers = names.iter().enumerate();
    let customers: Vec<_> = customers
        .map(|(id, name)| (1_000 + id as i64, name.as_str(), None))
        .collect();
    place.add(&customers);
    let mut table = place.open(&place.join(&["id", "name"], &["id"]));
    let keys: Vec<i64> = (1_000..4_000).collect();
    let found = table.find(&asked(&keys)).unwrap();
    assert_eq!(found_names(&keys, &found).len(), 2_500);
}

/// Customers in memory as such a place.
struct InMemory(MemoryTable);

impl Place for InMemory {
    fn add(&self, customers: &[(i64, &str, Option<&str>)]) {
        for (id, name, city) in customers {
            let record = serde_json::json!({"id": id, "name": name, "city": city});
            self.0.push(0, None, Some(record.to_string().as_bytes()), 0);
        }
    }

    fn open(&self, join: &LookupJoin) -> Box<dyn Lookup> {
        Box::new(MemoryLookup::new(join, self.0.clone()).unwrap())
    }

    fn options(&self) -> Options {
        Options::of([("connector", "memory"), ("format", "json")])
    }
}

#[test]
fn a_table_in_memory_passes() {
    passes(&InMemory(MemoryTable::default()));
}

#[test]
fn in_memory_a_primary_key_has_one_row_the_last() {
    let place = InMemory(MemoryTable::default());
    place.add(&[(1, "a", None), (2, "b", None), (1, "aa", None)]);
    let mut table = place.open(&join(place.options(), &["id"], &["id", "name"], &["id"]));
    let found = table.find(&asked(&[1, 2])).unwrap();
    assert_eq!(found_names(&[1, 2], &found), ["1 aa", "2 b"]);
}
