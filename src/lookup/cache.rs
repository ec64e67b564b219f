//! What was found, kept for the rows that ask for the same soon.
//!
//! Like Flink's partial cache: the rows of a key, also that there are none, for as long as the table's options allow. It is a lane's own,
//! is no state of the job, and begins empty at each start.

use super::Lookup;
use crate::clock::Clock;
use crate::error::Result;
use crate::operator::keys::{EncodedKeys, KeyEncoder};
use crate::operator::lookup::Found;
use crate::plan::LookupJoin;
use crate::runtime::millis;
use crate::sql::Options;
use crate::sql::connectors::mongodb::{
    CACHE, CACHE_ACCESSED, CACHE_MISSING, CACHE_ROWS, CACHE_WRITTEN, PARTIAL,
};
use arrow::array::UInt32Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// When a cache forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub rows: Option<u64>,
    pub after_write_ms: Option<i64>,
    pub after_access_ms: Option<i64>,
    /// Whether a key without a row is kept.
    pub missing: bool,
}

impl Limits {
    /// None for a table without a cache.
    pub fn of(options: &Options) -> Option<Limits> {
        (options.text(CACHE) == Some(PARTIAL)).then(|| Limits {
            rows: options.integer(CACHE_ROWS),
            after_write_ms: options.duration(CACHE_WRITTEN).map(millis),
            after_access_ms: options.duration(CACHE_ACCESSED).map(millis),
            missing: options.boolean(CACHE_MISSING).unwrap_or(true),
        })
    }
}

/// A table with a cache before it.
pub struct Cache {
    limits: Limits,
    table: Box<dyn Lookup>,
    clock: Arc<dyn Clock>,
    encoder: KeyEncoder,
    read: SchemaRef,
    entries: HashMap<Box<[u8]>, Entry>,
    /// The keys in the order in which they were asked for, by the numbers of their entries.
    order: BTreeMap<u64, Box<[u8]>>,
    next: u64,
    /// What all entries weigh.
    weight: u64,
}

/// What is kept of one key.
struct Entry {
    /// By themselves: they hold no larger answer in memory.
    rows: RecordBatch,
    written_ms: i64,
    accessed_ms: i64,
    number: u64,
}

impl Entry {
    /// A key without rows takes room too.
    fn weight(&self) -> u64 {
        (self.rows.num_rows() as u64).max(1)
    }
}

impl Cache {
    pub fn new(
        join: &LookupJoin,
        limits: Limits,
        table: Box<dyn Lookup>,
        clock: Arc<dyn Clock>,
    ) -> Result<Cache> {
        let types = join.keys.iter();
        let types = types.map(|key| join.read.field(key.column).data_type().clone());
        Ok(Cache {
            limits,
            table,
            clock,
            encoder: KeyEncoder::new(&types.collect::<Vec<_>>())?,
            read: Arc::clone(&join.read),
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            weight: 0,
        })
    }

    /// The rows of a key, if they are known and not too old.
    fn get(&mut self, key: &[u8], now_ms: i64) -> Option<RecordBatch> {
        let is_over =
            |since: i64, limit: Option<i64>| limit.is_some_and(|limit| now_ms - since >= limit);
        let entry = self.entries.get_mut(key)?;
        if is_over(entry.written_ms, self.limits.after_write_ms)
            || is_over(entry.accessed_ms, self.limits.after_access_ms)
        {
            self.remove(key);
            return None;
        }
        entry.accessed_ms = now_ms;
        if let Some(key) = self.order.remove(&entry.number) {
            self.order.insert(self.next, key);
            entry.number = self.next;
            self.next += 1;
        }
        Some(entry.rows.clone())
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.weight -= entry.weight();
            self.order.remove(&entry.number);
        }
    }

    fn put(&mut self, key: &[u8], rows: RecordBatch, now_ms: i64) {
        if rows.num_rows() == 0 && !self.limits.missing {
            return;
        }
        self.remove(key);
        let entry = Entry {
            rows,
            written_ms: now_ms,
            accessed_ms: now_ms,
            number: self.next,
        };
        self.weight += entry.weight();
        self.order.insert(self.next, key.into());
        self.entries.insert(key.into(), entry);
        self.next += 1;
        while self.limits.rows.is_some_and(|limit| self.weight > limit) {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
    }

    /// Forgets what nobody asks for any more, so that it takes no room. The oldest come first, so this ends soon.
    fn forget(&mut self, now_ms: i64) {
        let Some(limit) = self.limits.after_access_ms.or(self.limits.after_write_ms) else {
            return;
        };
        while let Some((_, oldest)) = self.order.first_key_value() {
            let oldest = oldest.clone();
            let since = self.entries.get(&oldest).map(|entry| entry.accessed_ms);
            if since.is_some_and(|since| now_ms - since < limit) {
                return;
            }
            self.order.pop_first();
            self.remove(&oldest);
        }
    }
}

impl Lookup for Cache {
    fn find(&mut self, keys: &RecordBatch) -> Result<Found> {
        let now_ms = self.clock.now_ms();
        self.forget(now_ms);
        let EncodedKeys { rows: encoded, .. } =
            self.encoder.encode(keys.columns(), keys.num_rows())?;
        let (mut parts, mut of_key, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for key in 0..keys.num_rows() {
            match self.get(encoded.bytes(key), now_ms) {
                Some(rows) => {
                    of_key.extend(std::iter::repeat_n(key as u32, rows.num_rows()));
                    parts.push(rows);
                }
                None => missing.push(key as u32),
            }
        }
        let mut unreadable = Vec::new();
        if !missing.is_empty() {
            let asked = take_record_batch(keys, &UInt32Array::from(missing.clone()))?;
            let found = self.table.find(&asked)?;
            let now_ms = self.clock.now_ms();
            let rows = found.by_key(missing.len());
            let bad: HashSet<u32> = found.unreadable.iter().map(|(bad, _)| *bad).collect();
            for (number, (key, rows)) in (0..).zip(missing.iter().zip(rows)) {
                // What cannot be read is asked for again: somebody may mend it.
                if bad.contains(&number) {
                    continue;
                }
                let rows = take_record_batch(&found.rows, &UInt32Array::from(rows))?;
                of_key.extend(std::iter::repeat_n(*key, rows.num_rows()));
                parts.push(rows.clone());
                self.put(encoded.bytes(*key as usize), rows, now_ms);
            }
            let bad = found.unreadable.into_iter();
            unreadable = bad.map(|(key, why)| (missing[key as usize], why)).collect();
        }
        Ok(Found {
            rows: concat_batches(&self.read, &parts)?,
            keys: of_key,
            unreadable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::{Customers, asked, found_names};
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Writes down which keys it was asked for.
    struct Overheard(Box<dyn Lookup>, Arc<Mutex<Vec<i64>>>);

    impl Lookup for Overheard {
        fn find(&mut self, keys: &RecordBatch) -> Result<Found> {
            let ids = super::super::suite::ids(keys);
            self.1.lock().unwrap().extend(ids);
            self.0.find(keys)
        }
    }

    struct Bench {
        cache: Cache,
        clock: ManualClock,
        asked: Arc<Mutex<Vec<i64>>>,
        customers: Customers,
    }

    impl Bench {
        fn new(limits: Limits) -> Bench {
            let customers = Customers::in_memory(&[(1, "a"), (2, "b"), (2, "bb"), (3, "c")]);
            let clock = ManualClock::at(1_000);
            let asked = Arc::default();
            let table = Box::new(Overheard(customers.open(), Arc::clone(&asked)));
            let cache = Cache::new(&customers.join, limits, table, Arc::new(clock.clone()));
            Bench {
                cache: cache.unwrap(),
                clock,
                asked,
                customers,
            }
        }

        /// What comes for these keys, and which of them the table was asked for.
        fn find(&mut self, keys: &[i64]) -> (Vec<String>, Vec<i64>) {
            let found = self.cache.find(&asked(keys)).unwrap();
            let asked = std::mem::take(&mut *self.asked.lock().unwrap());
            (found_names(keys, &found), asked)
        }
    }

    const ALL: Limits = Limits {
        rows: None,
        after_write_ms: None,
        after_access_ms: None,
        missing: true,
    };

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_found_is_not_asked_for_again_nor_that_nothing_was() {
        let mut bench = Bench::new(ALL);
        let expected = names(&["1 a", "2 b", "2 bb"]);
        assert_eq!(bench.find(&[2, 9, 1]), (expected.clone(), vec![2, 9, 1]));
        assert_eq!(bench.find(&[1, 2, 9]), (expected, vec![]));
        assert_eq!(
            bench.find(&[3, 2]),
            (names(&["2 b", "2 bb", "3 c"]), vec![3])
        );
        bench.customers.add(9, "late");
        assert_eq!(
            bench.find(&[9]),
            (vec![], vec![]),
            "it is still believed to be missing"
        );
    }

    #[test]
    fn a_missing_key_is_asked_for_again_where_the_table_says_so() {
        let mut bench = Bench::new(Limits {
            missing: false,
            ..ALL
        });
        assert_eq!(bench.find(&[9, 1]), (names(&["1 a"]), vec![9, 1]));
        bench.customers.add(9, "late");
        assert_eq!(bench.find(&[9, 1]), (names(&["1 a", "9 late"]), vec![9]));
    }

    #[test]
    fn time_makes_it_forget() {
        let second = Duration::from_secs(1);
        let mut written = Bench::new(Limits {
            after_write_ms: Some(3_000),
            ..ALL
        });
        let mut accessed = Bench::new(Limits {
            after_access_ms: Some(3_000),
            ..ALL
        });
        for bench in [&mut written, &mut accessed] {
            bench.find(&[1, 3]);
            for _ in 0..2 {
                bench.clock.advance(second);
                assert_eq!(bench.find(&[1]).1, [0; 0], "two seconds are not three");
            }
            bench.clock.advance(second);
        }
        assert_eq!(
            written.find(&[1, 3]).1,
            [1, 3],
            "however often it was asked for"
        );
        assert_eq!(
            accessed.find(&[1, 3]).1,
            [3],
            "the one was asked for all the while"
        );
        accessed.clock.advance(second * 9);
        accessed.find(&[2]);
        assert_eq!(
            (accessed.cache.entries.len(), accessed.cache.weight),
            (1, 2)
        );
        assert_eq!(accessed.cache.order.len(), 1);
    }

    #[test]
    fn the_key_that_was_not_asked_for_the_longest_makes_room() {
        let mut bench = Bench::new(Limits {
            rows: Some(3),
            ..ALL
        });
        bench.find(&[1]);
        bench.find(&[2]);
        bench.find(&[1]);
        assert_eq!(bench.find(&[3]).1, [3]);
        assert_eq!(bench.find(&[1, 3]).1, [0; 0], "the two rows of 2 had to go");
        assert_eq!(bench.find(&[2]).1, [2]);
        assert!(bench.cache.weight <= 3);
        let mut none = Bench::new(Limits {
            rows: Some(0),
            ..ALL
        });
        assert_eq!(none.find(&[1]), (names(&["1 a"]), vec![1]));
        assert_eq!(none.find(&[1]), (names(&["1 a"]), vec![1]));
    }
}
