//! What an OVER remembers, key by key, and its state as tables.
//!
//! The keys stand on shelves by their hash. A shelf with many keys is a part of the state of its own, which is not written again
//! while none of its keys is touched.

use super::held::{Call, Held};
use super::values::Value;
use crate::error::Result;
use crate::operator::keys::{EncodedKeys, KeyEncoder};
use crate::operator::state;
use crate::operator::{Snapshot, StatePart};
use crate::plan::Frame;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// The part of the state with a row for each key: keys, the event time of its newest row that came out, what the aggregates remember.
pub const KEYS: &str = "keys";
/// The part with a row for each row of a sliding frame, oldest first: keys, its event time, what the aggregates read of it.
pub const FRAMES: &str = "frames";

const SHELVES: usize = 64;

/// So many keys and rows make a shelf a part of its own.
const LARGE: usize = 256;

/// Nothing of this key has come out yet.
pub const NEVER: i64 = i64::MIN;

/// What is remembered of one key.
pub struct Key {
    bytes: Arc<[u8]>,
    pub held: Vec<Held>,
    /// The rows of a sliding frame, oldest first.
    frame: VecDeque<(i64, Vec<Value>)>,
    /// The event time of the newest row that came out.
    newest: i64,
    /// The event times of rows that wait, each with the least watermark at which one of them was taken in. Kept for sliding frames.
    pub waiting: BTreeMap<i64, i64>,
}

#[derive(Default)]
struct Shelf {
    keys: Vec<Key>,
    places: HashMap<Arc<[u8]>, usize, ahash::RandomState>,
    /// The number under which the state has all that is here.
    saved: Option<u64>,
}

/// All keys.
pub struct Keyed {
    pub encoder: KeyEncoder,
    frame: Frame,
    shelves: Vec<Shelf>,
    saves: u64,
    key_columns: usize,
    keys_state: Vec<Field>,
    frames_state: Vec<Field>,
}

impl Key {
    /// A row comes out: what is too old for its frame leaves it, and then the row itself counts.
    pub fn add(&mut self, calls: &[Call], frame: Frame, time: i64, values: Vec<Value>) {
        let stays = |oldest: i64, rows: usize| match frame {
            Frame::Rows(preceding) => rows as u64 <= preceding,
            Frame::Range(millis) => oldest >= time.saturating_sub(millis),
            Frame::AllRows | Frame::AllRange => true,
        };
        while let Some((oldest, _)) = self.frame.front()
            && !stays(*oldest, self.frame.len())
            && let Some((_, values)) = self.frame.pop_front()
        {
            for ((call, held), value) in calls.iter().zip(&mut self.held).zip(&values) {
                call.remove(held, value);
            }
        }
        for ((call, held), value) in calls.iter().zip(&mut self.held).zip(&values) {
            call.add(held, value);
        }
        self.newest = self.newest.max(time);
        if frame.slides() {
            self.frame.push_back((time, values));
        }
    }

    /// A row that is not newer than this is late at a watermark: rows of its key have come out that should have come behind it.
    pub fn floor(&self, watermark: i64) -> i64 {
        let came_out = |(_, taken_at): &(&i64, &i64)| **taken_at < watermark;
        let mut due = self.waiting.range(..=watermark).rev();
        due.find(came_out)
            .map_or(self.newest, |(time, _)| self.newest.max(*time))
    }

    /// Whether no row that is still to come has any of its rows in its frame. The oldest that is not late is a range behind the
    /// watermark, and its frame begins a range before it.
    fn is_over(&self, frame: Frame, watermark: i64) -> bool {
        let Frame::Range(millis) = frame else {
            return false;
        };
        let end = self.newest.saturating_add(millis.saturating_mul(2));
        // Of a key whose rows were all late nothing came out and nothing will: there is nothing to remember.
        self.waiting.is_empty() && (self.newest == NEVER || end < watermark)
    }
}

impl Shelf {
    fn key(&mut self, bytes: &[u8], calls: &[Call]) -> &mut Key {
        let place = match self.places.get(bytes) {
            Some(place) => *place,
            None => {
                let bytes: Arc<[u8]> = bytes.into();
                self.keys.push(Key {
                    bytes: Arc::clone(&bytes),
                    held: calls.iter().map(Call::fresh).collect(),
                    frame: VecDeque::new(),
                    newest: NEVER,
                    waiting: BTreeMap::new(),
                });
                self.saved = None;
                self.places.insert(bytes, self.keys.len() - 1);
                self.keys.len() - 1
            }
        };
        &mut self.keys[place]
    }

    fn forget(&mut self, gone: impl Fn(&Key) -> bool) {
        let before = self.keys.len();
        self.keys.retain(|key| !gone(key));
        if self.keys.len() < before {
            let all = self.keys.iter().enumerate();
            self.places = all
                .map(|(place, key)| (Arc::clone(&key.bytes), place))
                .collect();
            self.saved = None;
        }
    }
}

impl Keyed {
    pub fn new(calls: &[Call], encoder: KeyEncoder, frame: Frame, key_types: &[DataType]) -> Keyed {
        let keys = key_types.iter().enumerate();
        let keys: Vec<Field> = keys
            .map(|(at, data_type)| state::column(format!("key_{at}"), data_type))
            .collect();
        let (mut keys_state, mut frames_state) = (keys.clone(), keys);
        keys_state.push(state::column("newest", &DataType::Int64));
        frames_state.push(state::column("time", &DataType::Int64));
        let mut states = 0;
        for (at, call) in calls.iter().enumerate() {
            let columns = call.state_columns(states);
            states += columns.len();
            keys_state.extend(columns);
            let value = call.codec.data_type();
            frames_state.push(state::column(format!("value_{at}"), &value));
        }
        Keyed {
            encoder,
            frame,
            shelves: (0..SHELVES).map(|_| Shelf::default()).collect(),
            saves: 0,
            key_columns: key_types.len(),
            keys_state,
            frames_state,
        }
    }

    /// What is remembered of a row's key, about to be changed.
    pub fn touch(&mut self, calls: &[Call], keys: &EncodedKeys, row: usize) -> &mut Key {
        let shelf = &mut self.shelves[shelf_of(keys.hashes[row])];
        shelf.saved = None;
        shelf.key(keys.rows.bytes(row), calls)
    }

    /// The same where nothing changes that the state has.
    pub fn look(&mut self, calls: &[Call], keys: &EncodedKeys, row: usize) -> &mut Key {
        self.shelves[shelf_of(keys.hashes[row])].key(keys.rows.bytes(row), calls)
    }

    /// Forgets keys whose frames are over.
    pub fn forget(&mut self, watermark: i64) {
        let frame = self.frame;
        for shelf in &mut self.shelves {
            shelf.forget(|key| key.is_over(frame, watermark));
        }
    }

    pub fn snapshot(&mut self, calls: &[Call]) -> Result<Snapshot> {
        let mut parts = Snapshot::new();
        let mut small: [Vec<RecordBatch>; 2] = Default::default();
        let names = match self.frame.slides() {
            true => &[KEYS, FRAMES][..],
            false => &[KEYS][..],
        };
        let mut shelves = std::mem::take(&mut self.shelves);
        for shelf in &mut shelves {
            let size: usize = shelf.keys.iter().map(|key| 1 + key.frame.len()).sum();
            let (large, known) = (size >= LARGE, shelf.saved.is_some());
            if large && !known {
                self.saves += names.len() as u64;
                shelf.saved = Some(self.saves);
            }
            for (at, name) in names.iter().enumerate() {
                let rows = match (known, at) {
                    (true, _) => None,
                    (false, 0) => Some(self.table_of_keys(calls, shelf)?),
                    (false, _) => Some(self.table_of_frames(calls, shelf)?),
                };
                match (shelf.saved, rows) {
                    (Some(number), rows) => parts.push(StatePart {
                        name,
                        id: Some(number - at as u64),
                        rows,
                        key_columns: self.key_columns,
                    }),
                    (None, Some(rows)) if rows.num_rows() > 0 => small[at].push(rows),
                    (None, _) => {}
                }
            }
        }
        self.shelves = shelves;
        for (name, tables) in names.iter().zip(small) {
            if let Some(first) = tables.first() {
                parts.push(StatePart {
                    name,
                    id: None,
                    rows: Some(concat_batches(&first.schema(), &tables)?),
                    key_columns: self.key_columns,
                });
            }
        }
        Ok(parts)
    }

    fn table_of_keys(&self, calls: &[Call], shelf: &Shelf) -> Result<RecordBatch> {
        let keys = shelf.keys.iter();
        let mut columns = self
            .encoder
            .decode_bytes(keys.clone().map(|key| key.bytes.as_ref()))?;
        let newest = keys.clone().map(|key| key.newest);
        columns.push(Arc::new(Int64Array::from_iter_values(newest)));
        for (at, call) in calls.iter().enumerate() {
            columns.extend(call.save(keys.clone().map(|key| &key.held[at]))?);
        }
        state::rows_of(&self.keys_state, columns)
    }

    fn table_of_frames(&self, calls: &[Call], shelf: &Shelf) -> Result<RecordBatch> {
        let keys = shelf.keys.iter();
        let rows = keys.flat_map(|key| key.frame.iter().map(move |row| (key, row)));
        let bytes = rows.clone().map(|(key, _)| key.bytes.as_ref());
        let mut columns = self.encoder.decode_bytes(bytes)?;
        let times = rows.clone().map(|(_, (time, _))| *time);
        columns.push(Arc::new(Int64Array::from_iter_values(times)));
        for (at, call) in calls.iter().enumerate() {
            let mut column = call.codec.column();
            rows.clone()
                .for_each(|(_, (_, values))| column.push(&values[at]));
            columns.push(column.finish()?);
        }
        state::rows_of(&self.frames_state, columns)
    }

    /// Takes a part of the state back; false where it has no such part.
    pub fn restore(&mut self, calls: &[Call], part: &str, rows: &RecordBatch) -> Result<bool> {
        let columns = match part {
            KEYS => &self.keys_state,
            FRAMES if self.frame.slides() => &self.frames_state,
            _ => return Ok(false),
        };
        state::expect_columns(part, rows, columns)?;
        let (keys, rest) = rows.columns().split_at(self.key_columns);
        let keys = self.encoder.encode(keys, rows.num_rows())?;
        let times = rest[0].as_primitive::<Int64Type>().clone();
        match part {
            KEYS => self.restore_keys(calls, &keys, &times, &rest[1..])?,
            _ => self.restore_frames(calls, &keys, &times, &rest[1..])?,
        }
        Ok(true)
    }

    fn restore_keys(
        &mut self,
        calls: &[Call],
        keys: &EncodedKeys,
        newest: &Int64Array,
        mut states: &[ArrayRef],
    ) -> Result<()> {
        let mut loaded = Vec::with_capacity(calls.len());
        for call in calls {
            let (own, rest) = states.split_at(call.state_columns(0).len());
            loaded.push(call.load(own, newest.len())?);
            states = rest;
        }
        for row in 0..newest.len() {
            let key = self.touch(calls, keys, row);
            key.newest = newest.value(row);
            for ((call, held), loaded) in calls.iter().zip(&mut key.held).zip(&loaded) {
                if !call.follows_from_frame() {
                    held.clone_from(&loaded[row]);
                }
            }
        }
        Ok(())
    }

    fn restore_frames(
        &mut self,
        calls: &[Call],
        keys: &EncodedKeys,
        times: &Int64Array,
        columns: &[ArrayRef],
    ) -> Result<()> {
        let readers = calls.iter().zip(columns);
        let readers = readers
            .map(|(call, column)| call.codec.reread(column))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..times.len() {
            let values: Vec<Value> = readers.iter().map(|reader| reader.read(row)).collect();
            let key = self.touch(calls, keys, row);
            for ((call, held), value) in calls.iter().zip(&mut key.held).zip(&values) {
                if call.follows_from_frame() {
                    call.add(held, value);
                }
            }
            key.frame.push_back((times.value(row), values));
        }
        Ok(())
    }

    /// The bytes that it takes, roughly: judged by some keys of each shelf, since this is asked for often.
    pub fn size(&self) -> usize {
        const SAMPLE: usize = 64;
        let of_key = |key: &Key| {
            let bags = key.held.iter().map(|held| match held {
                Held::Bag(bag) => bag.len() * 64,
                Held::Queue(queue) => queue.len() * 16,
                _ => size_of::<Held>(),
            });
            key.bytes.len()
                + size_of::<Key>()
                + key.frame.len() * (1 + key.held.len()) * size_of::<Value>()
                + bags.sum::<usize>()
                + key.waiting.len() * 32
        };
        let of_shelf = |shelf: &Shelf| {
            let some = &shelf.keys[..shelf.keys.len().min(SAMPLE)];
            let size: usize = some.iter().map(of_key).sum();
            size * shelf.keys.len() / some.len().max(1)
        };
        self.shelves.iter().map(of_shelf).sum()
    }
}

fn shelf_of(hash: u64) -> usize {
    // The highest six bits: see SHELVES. Lanes are told apart by those in the middle.
    (hash >> 58) as usize
}
