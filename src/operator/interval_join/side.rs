//! The rows of one input that the other may still match.
//!
//! Rows lie in chunks, as the batches brought them, and are found through entries in buckets of event time: by the hash of
//! the key within a bucket. What has expired goes bucket by bucket; a chunk goes with its last row, and when more than half of
//! what lies in the chunks is dead, what lives is moved together.

use crate::error::Result;
use crate::operator::keys::{ByHash, EncodedKeys, KeyEncoder, KeyRows};
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave, take, take_record_batch};
use arrow::record_batch::RecordBatch;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Marks the end of a chain of entries with one hash.
const NONE: u32 = u32::MAX;

/// Small chunks are joined with their neighbours up to this many rows; so many dead rows are not worth moving the living.
const CHUNK: usize = 8192;

/// A bucket is at least this long, so that exact joins on time do not make one for each millisecond.
const MIN_BUCKET_MS: i64 = 1_000;

pub(super) struct Side {
    /// In the order of their rows' numbers.
    chunks: Vec<Chunk>,
    next_id: u64,
    /// By event time divided by the length of a bucket.
    buckets: BTreeMap<i64, Bucket>,
    bucket_ms: i64,
    entries: usize,
    /// How many parts were saved, for their numbers.
    saves: u64,
    /// On an outer side: the rows that had no match when they came, by time and by their place in the bucket.
    unmatched: Option<BinaryHeap<Reverse<(i64, u32)>>>,
}

/// New rows, and what became of them already.
pub(super) struct Arrivals<'a> {
    pub batch: RecordBatch,
    pub keys: EncodedKeys,
    pub times: &'a Int64Array,
    pub matched: &'a [bool],
    /// Whether the row can still be matched.
    pub keep: &'a [bool],
}

/// Kept rows, in the order in which they came.
pub(super) struct Contents {
    pub keys: Vec<ArrayRef>,
    pub batch: RecordBatch,
    pub times: Vec<i64>,
    pub matched: Vec<bool>,
}

/// Rows with consecutive numbers from `first`.
struct Chunk {
    first: u64,
    batch: RecordBatch,
    keys: KeyRows,
    times: Vec<i64>,
    matched: Vec<bool>,
    live: usize,
    /// What the last snapshot said of it, while that is still true.
    saved: Option<Saved>,
}

struct Saved {
    id: u64,
    /// The time of its earliest row.
    from: i64,
    /// When rows up to this time have expired it says too much: one of them comes out padded, and must not do so again.
    until: i64,
}

#[derive(Default)]
struct Bucket {
    /// The newest entry with a hash; `older` leads to the others.
    newest: ByHash<u32>,
    entries: Vec<Entry>,
}

struct Entry {
    id: u64,
    time: i64,
    older: u32,
}

impl Side {
    /// `span_ms` is the length of the join's interval.
    pub fn new(outer: bool, span_ms: i64) -> Self {
        Side {
            chunks: Vec::new(),
            next_id: 0,
            buckets: BTreeMap::new(),
            bucket_ms: (span_ms / 2).max(MIN_BUCKET_MS),
            entries: 0,
            saves: 0,
            unmatched: outer.then(BinaryHeap::new),
        }
    }

    /// Adds the kept rows with this key and a time between the two, ends included, to `found`.
    pub fn find(&self, hash: u64, key: &[u8], from: i64, to: i64, found: &mut Vec<u64>) {
        if from > to {
            return;
        }
        let buckets = self.bucket_of(from)..=self.bucket_of(to);
        for (_, bucket) in self.buckets.range(buckets) {
            let mut at = bucket.newest.get(&hash).copied().unwrap_or(NONE);
            while at != NONE {
                let entry = &bucket.entries[at as usize];
                if (from..=to).contains(&entry.time) && self.key(entry.id) == key {
                    found.push(entry.id);
                }
                at = entry.older;
            }
        }
    }

    pub fn mark_matched(&mut self, id: u64) {
        if self.unmatched.is_none() {
            return;
        }
        let chunk = self.chunk_of(id);
        let chunk = &mut self.chunks[chunk];
        let matched = &mut chunk.matched[(id - chunk.first) as usize];
        if !std::mem::replace(matched, true) {
            chunk.saved = None;
        }
    }

    /// Keeps the rows that can still be matched.
    pub fn add(&mut self, arrivals: Arrivals, encoder: &KeyEncoder) -> Result<()> {
        let Arrivals {
            batch,
            keys,
            times,
            matched,
            keep,
        } = arrivals;
        let kept: Vec<usize> = (0..keep.len()).filter(|row| keep[*row]).collect();
        if kept.is_empty() {
            return Ok(());
        }
        for (id, row) in (self.next_id..).zip(&kept) {
            self.index(id, keys.hashes[*row], times.value(*row), matched[*row]);
        }
        let (own, batch) = if kept.len() == batch.num_rows() {
            (keys.rows, batch)
        } else {
            let mut own = encoder.empty();
            kept.iter().for_each(|row| own.push(&keys.rows, *row));
            let keep = BooleanArray::from(keep.to_vec());
            (own, filter_record_batch(&batch, &keep)?)
        };
        let chunk = Chunk {
            first: self.next_id,
            batch,
            keys: own,
            times: kept.iter().map(|row| times.value(*row)).collect(),
            matched: kept.iter().map(|row| matched[*row]).collect(),
            live: kept.len(),
            saved: None,
        };
        self.next_id += kept.len() as u64;
        self.chunks.push(chunk);
        self.join_small_chunks()
    }

    /// The columns of the given rows, in the given order.
    pub fn columns(&self, ids: impl Iterator<Item = u64>) -> Result<Vec<ArrayRef>> {
        let mut used: Vec<&Chunk> = Vec::new();
        let mut place_of_chunk = vec![usize::MAX; self.chunks.len()];
        let mut places = Vec::with_capacity(ids.size_hint().0);
        for id in ids {
            let chunk = self.chunk_of(id);
            if place_of_chunk[chunk] == usize::MAX {
                place_of_chunk[chunk] = used.len();
                used.push(&self.chunks[chunk]);
            }
            places.push((
                place_of_chunk[chunk],
                (id - self.chunks[chunk].first) as usize,
            ));
        }
        let Some(first) = used.first() else {
            return Ok(Vec::new());
        };
        if used.len() == 1 {
            let rows: UInt32Array = places.iter().map(|(_, row)| *row as u32).collect();
            let columns = first.batch.columns().iter();
            return Ok(columns
                .map(|column| take(column, &rows, None))
                .collect::<Result<_, _>>()?);
        }
        let column = |at: usize| {
            let parts: Vec<&dyn Array> = used
                .iter()
                .map(|chunk| chunk.batch.column(at).as_ref())
                .collect();
            interleave(&parts, &places)
        };
        Ok((0..first.batch.num_columns())
            .map(column)
            .collect::<Result<_, _>>()?)
    }

    /// On an outer side: the rows up to this time that never matched, each told once.
    pub fn expired_unmatched(&mut self, limit: i64) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(unmatched) = &mut self.unmatched
            && let Some(Reverse((time, _))) = unmatched.peek()
            && *time <= limit
            && let Some(Reverse((time, entry))) = unmatched.pop()
        {
            if let Some(bucket) = self.buckets.get(&self.bucket_of(time)) {
                let id = bucket.entries[entry as usize].id;
                let chunk = &self.chunks[self.chunk_of(id)];
                if !chunk.matched[(id - chunk.first) as usize] {
                    expired.push(id);
                }
            }
        }
        expired
    }

    /// Forgets the rows up to this time; those whose bucket holds later ones too go with them.
    pub fn forget_until(&mut self, limit: i64, encoder: &KeyEncoder) -> Result<()> {
        let mut forgot = false;
        while let Some((number, _)) = self.buckets.first_key_value()
            && number
                .saturating_add(1)
                .saturating_mul(self.bucket_ms)
                .saturating_sub(1)
                <= limit
            && let Some((_, bucket)) = self.buckets.pop_first()
        {
            self.entries -= bucket.entries.len();
            let mut chunk = 0;
            for entry in &bucket.entries {
                let holds = |chunk: &Chunk| {
                    (chunk.first..chunk.first + chunk.keys.len() as u64).contains(&entry.id)
                };
                if !self.chunks.get(chunk).is_some_and(holds) {
                    chunk = self.chunk_of(entry.id);
                }
                self.chunks[chunk].live -= 1;
            }
            forgot = true;
        }
        if forgot {
            self.chunks.retain(|chunk| chunk.live > 0);
            let stored: usize = self.chunks.iter().map(|chunk| chunk.keys.len()).sum();
            if stored > 2 * self.entries + CHUNK {
                self.move_together(encoder)?;
            }
        }
        Ok(())
    }

    /// Everything later than `limit`, which is all that can still be matched, in parts that share their columns with what is kept. Of a part
    /// that is as it was at the last call only its number; `exact` says that it must not hold what has expired since either.
    pub fn contents(
        &mut self,
        limit: i64,
        exact: bool,
        encoder: &KeyEncoder,
    ) -> Result<Vec<(u64, Option<Contents>)>> {
        let mut parts = Vec::with_capacity(self.chunks.len());
        for chunk in &mut self.chunks {
            let holds = |saved: &&Saved| limit < saved.until && !(exact && saved.from <= limit);
            if let Some(saved) = chunk.saved.as_ref().filter(holds) {
                parts.push((saved.id, None));
                continue;
            }
            chunk.saved = None;
            let Some(contents) = chunk.contents(limit, encoder)? else {
                continue;
            };
            let alone = contents.times.iter().zip(&contents.matched);
            let alone = alone.filter(|(_, matched)| self.unmatched.is_some() && !**matched);
            let until = alone.map(|(time, _)| *time).min().unwrap_or(i64::MAX);
            let from = contents.times.iter().copied().min().unwrap_or(i64::MAX);
            self.saves += 1;
            let id = self.saves;
            chunk.saved = Some(Saved { id, from, until });
            parts.push((id, Some(contents)));
        }
        Ok(parts)
    }

    /// The bytes that it takes, roughly.
    pub fn size(&self) -> usize {
        let chunk = |chunk: &Chunk| {
            let each = size_of::<i64>() + size_of::<bool>();
            chunk.batch.get_array_memory_size() + chunk.keys.size() + chunk.times.len() * each
        };
        let bucket = |bucket: &Bucket| {
            bucket.newest.capacity() * size_of::<(u64, u32)>()
                + bucket.entries.capacity() * size_of::<Entry>()
        };
        self.chunks.iter().map(chunk).sum::<usize>()
            + self.buckets.values().map(bucket).sum::<usize>()
            + self.unmatched.as_ref().map_or(0, BinaryHeap::capacity) * size_of::<(i64, u32)>()
    }

    fn bucket_of(&self, time: i64) -> i64 {
        time.div_euclid(self.bucket_ms)
    }

    fn chunk_of(&self, id: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= id) - 1
    }

    fn key(&self, id: u64) -> &[u8] {
        let chunk = &self.chunks[self.chunk_of(id)];
        chunk.keys.bytes((id - chunk.first) as usize)
    }

    fn index(&mut self, id: u64, hash: u64, time: i64, matched: bool) {
        let bucket = self
            .buckets
            .entry(time.div_euclid(self.bucket_ms))
            .or_default();
        let entry = bucket.entries.len() as u32;
        let older = bucket.newest.insert(hash, entry).unwrap_or(NONE);
        bucket.entries.push(Entry { id, time, older });
        self.entries += 1;
        if let Some(unmatched) = &mut self.unmatched
            && !matched
        {
            unmatched.push(Reverse((time, entry)));
        }
    }

    /// Joins the newest chunks while the last is not much smaller than the one before it, so that each row is copied
    /// a few times at most, and small batches do not stay small chunks.
    fn join_small_chunks(&mut self) -> Result<()> {
        while let [.., before, last] = self.chunks.as_mut_slice() {
            let (rows, more) = (before.keys.len(), last.keys.len());
            let adjacent = before.first + rows as u64 == last.first;
            if !adjacent || rows + more > CHUNK || more < rows / 2 {
                break;
            }
            before.batch = concat_batches(&before.batch.schema(), [&before.batch, &last.batch])?;
            (0..more).for_each(|row| before.keys.push(&last.keys, row));
            before.times.append(&mut last.times);
            before.matched.append(&mut last.matched);
            before.live += last.live;
            before.saved = None;
            self.chunks.pop();
        }
        Ok(())
    }

    /// Moves the living rows into new chunks, bucket by bucket, and numbers them anew.
    fn move_together(&mut self, encoder: &KeyEncoder) -> Result<()> {
        let Some(schema) = self.chunks.first().map(|chunk| chunk.batch.schema()) else {
            return Ok(());
        };
        let entries = self.buckets.values().flat_map(|bucket| &bucket.entries);
        let ids: Vec<u64> = entries.map(|entry| entry.id).collect();
        let mut chunks = Vec::with_capacity(ids.len() / CHUNK + 1);
        let mut first = 0;
        for ids in ids.chunks(CHUNK) {
            let batch = RecordBatch::try_new(schema.clone(), self.columns(ids.iter().copied())?)?;
            let mut keys = encoder.empty();
            let (mut times, mut matched) = (Vec::new(), Vec::new());
            for id in ids {
                let chunk = &self.chunks[self.chunk_of(*id)];
                let row = (id - chunk.first) as usize;
                keys.push(&chunk.keys, row);
                times.push(chunk.times[row]);
                matched.push(chunk.matched[row]);
            }
            chunks.push(Chunk {
                first,
                batch,
                keys,
                times,
                matched,
                live: ids.len(),
                saved: None,
            });
            first += ids.len() as u64;
        }
        let entries = self
            .buckets
            .values_mut()
            .flat_map(|bucket| &mut bucket.entries);
        for (id, entry) in (0..).zip(entries) {
            entry.id = id;
        }
        self.chunks = chunks;
        self.next_id = first;
        Ok(())
    }
}

impl Chunk {
    fn contents(&self, limit: i64, encoder: &KeyEncoder) -> Result<Option<Contents>> {
        let rows: Vec<usize> = (0..self.times.len())
            .filter(|row| self.times[*row] > limit)
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let batch = if rows.len() == self.times.len() {
            self.batch.clone()
        } else {
            let rows: UInt32Array = rows.iter().map(|row| *row as u32).collect();
            take_record_batch(&self.batch, &rows)?
        };
        Ok(Some(Contents {
            keys: encoder.decode(&self.keys, rows.iter().copied())?,
            batch,
            times: rows.iter().map(|row| self.times[*row]).collect(),
            matched: rows.iter().map(|row| self.matched[*row]).collect(),
        }))
    }
}
