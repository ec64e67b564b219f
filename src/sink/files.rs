//! A table of files, on one lane: one open file for each partition that rows are coming for.
//!
//! Files stay open across epochs, so that frequent checkpoints do not make small files. An encoder cannot be
//! stored and resumed, so what an open file has taken since the last barrier is kept beside it, and carried
//! in the checkpoint. Two rules bound that: a file above [`CLOSE_AT_BARRIER`] closes at the next barrier; and since it will,
//! its rows need not be kept from the moment when it has grown that large. Where memory gets scarce before, a file is given up in
//! steps: its rows are encoded, then it is settled that it closes at the barrier, and at last it closes at once.

use super::encode::{Encoder, Format};
use super::options::{Rolling, TableSpec};
use super::parquet::ParquetFormat;
use super::partition::Partitioner;
use super::place::Place;
use super::text::TextFormat;
use super::text_files::TextFiles;
use super::{
    Carry, Rejected, Sink, SinkContext, Staging, Token, expect_columns, unholdable, upload,
};
use crate::error::{Error, Result};
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A file that is larger closes at a barrier: what is carried must stay small.
const CLOSE_AT_BARRIER: usize = 16 << 20;

/// Each open file costs buffers and compressors of its own. Beyond this many, the one that was idle longest closes.
const MOST_OPEN: usize = 128;

/// The filesystem connector.
pub(super) struct FileSink {
    table: TableSpec,
    layout: Layout,
    context: SinkContext,
    place: Arc<Place>,
    /// By partition. In the order of their names, so that the same calls do the same always.
    open: BTreeMap<String, OpenFile>,
    /// Files closed since the last barrier.
    closed: Vec<JoinHandle<Result<Token>>>,
    written: u64,
    checked_ms: i64,
}

/// What the options of the table ask for.
pub(super) struct Layout {
    partitioner: Partitioner,
    format: Box<dyn Format>,
    rolling: Rolling,
}

struct OpenFile {
    number: u64,
    encoder: Box<dyn Encoder>,
    rows: u64,
    opened_ms: i64,
    written_ms: i64,
    kept: Kept,
}

/// What has to be carried if the file is still open at the barrier.
enum Kept {
    /// The rows since the last barrier.
    Rows {
        batches: Vec<RecordBatch>,
        bytes: usize,
    },
    /// Nothing: the file will not be open then.
    ClosesAtBarrier,
}

impl Layout {
    pub fn of(table: &TableSpec) -> Result<Layout> {
        let partitioner = Partitioner::of(table)?;
        let columns = &partitioner.data_columns;
        let format_key = "format";
        let mut known = vec![
            "connector",
            format_key,
            Place::KEY,
            Partitioner::DEFAULT_NAME_KEY,
        ];
        known.extend(Rolling::KEYS);
        // A table may be read too, by this job or another: what only concerns its readers is theirs to judge.
        // When a partition is complete is not looked at here either.
        let mut elsewhere = vec![
            "source.",
            "tributary.",
            "sink.partition-commit.",
            "partition.time-extractor.",
        ];
        let format: Box<dyn Format> = match table.required(format_key)? {
            "parquet" => {
                known.extend(ParquetFormat::KEYS);
                Box::new(ParquetFormat::of(table, columns)?)
            }
            "json" => {
                known.extend(TextFormat::JSON_KEYS);
                elsewhere.extend(["json.fail-on-missing-field", "json.ignore-parse-errors"]);
                Box::new(TextFiles::of(table, TextFormat::json(table, columns)?)?)
            }
            "csv" => {
                known.extend(TextFormat::CSV_KEYS);
                elsewhere.extend(["csv.ignore-parse-errors", "csv.allow-comments"]);
                Box::new(TextFiles::of(table, TextFormat::csv(table, columns)?)?)
            }
            other => {
                let why = format!("'{other}' cannot be written; parquet, json and csv can");
                return Err(table.refuse(format_key, why));
            }
        };
        table.only(&known, &elsewhere)?;
        Place::check(table)?;
        Ok(Layout {
            rolling: Rolling::of(table)?,
            partitioner,
            format,
        })
    }
}

impl FileSink {
    pub fn open(table: &TableSpec, context: &SinkContext) -> Result<FileSink> {
        Ok(FileSink {
            layout: Layout::of(table)?,
            place: Arc::new(Place::of(table, context)?),
            table: table.clone(),
            context: context.clone(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            written: 0,
            checked_ms: i64::MIN,
        })
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<Rejected> {
        if batch.num_rows() == 0 {
            return Ok(Rejected::new());
        }
        let now = self.context.clock.now_ms();
        let (batch, mut rejected) = unholdable::apart(batch)?;
        let shares = self.layout.partitioner.split(&batch)?;
        rejected.extend(shares.rejected);
        let groups = shares.groups.into_iter();
        for (partition, rows) in groups.filter(|(_, rows)| rows.num_rows() > 0) {
            if !self.open.contains_key(&partition) {
                self.make_room()?;
                let file = OpenFile {
                    number: self.context.uploads.next_number(),
                    encoder: self.layout.format.open()?,
                    rows: 0,
                    opened_ms: now,
                    written_ms: now,
                    kept: Kept::Rows {
                        batches: Vec::new(),
                        bytes: 0,
                    },
                };
                self.open.insert(partition.clone(), file);
            }
            let Some(file) = self.open.get_mut(&partition) else {
                return Err(Error::bug("a file that was just opened is not open"));
            };
            let data = rows.project(&self.layout.partitioner.data_columns)?;
            file.append(rows, &data, now)
                .map_err(|error| error.at(format!("table '{}'", self.table.name)))?;
        }
        self.roll(now)?;
        Ok(rejected)
    }

    /// Closes files that the rolling policy wants closed. Where the clock was set back, they count anew from there.
    fn roll(&mut self, now: i64) -> Result<()> {
        self.checked_ms = self.checked_ms.min(now);
        for file in self.open.values_mut() {
            file.opened_ms = file.opened_ms.min(now);
            file.written_ms = file.written_ms.min(now);
        }
        let look_at_time = now.saturating_sub(self.checked_ms) >= self.layout.rolling.check_ms;
        if look_at_time {
            self.checked_ms = now;
        }
        let rolling = self.layout.rolling;
        self.close_where(|file| {
            let idle_ms = now - file.written_ms;
            file.encoder.size() >= rolling.file_size
                || look_at_time && now - file.opened_ms >= rolling.rollover_ms
                || look_at_time && rolling.inactivity_ms.is_some_and(|most| idle_ms >= most)
        })
    }

    fn close_where(&mut self, closes: impl Fn(&OpenFile) -> bool) -> Result<()> {
        for (partition, file) in self
            .open
            .extract_if(.., |_, file| closes(file))
            .collect::<Vec<_>>()
        {
            self.close(&partition, file)?;
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        if self.open.len() < MOST_OPEN {
            return Ok(());
        }
        let idle = self.open.iter().min_by_key(|(_, file)| file.written_ms);
        match idle.map(|(partition, _)| partition.clone()) {
            Some(partition) => self.close_one(&partition),
            None => Ok(()),
        }
    }

    fn close_one(&mut self, partition: &str) -> Result<()> {
        match self.open.remove(partition) {
            Some(file) => self.close(partition, file),
            None => Ok(()),
        }
    }

    /// Finishes a file and sends it off; waits while too much is under way.
    fn close(&mut self, partition: &str, file: OpenFile) -> Result<()> {
        let OpenFile {
            number,
            encoder,
            rows,
            ..
        } = file;
        let pieces = encoder
            .finish()
            .map_err(|error| error.at(format!("table '{}', closing a file", self.table.name)))?;
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let SinkContext {
            owner,
            lane,
            uploads,
            runtime,
            ..
        } = &self.context;
        let extension = self.layout.format.extension();
        let file_name = format!("part-{owner}-{lane}-{number}.{extension}");
        let name = match partition {
            "" => file_name,
            folder => format!("{folder}/{file_name}"),
        };
        let room = uploads.reserve(bytes);
        let place = self.place.clone();
        self.closed.push(runtime.spawn(async move {
            let staged = place.staged(&name);
            upload::put(&*place.store, &staged, pieces, place.in_parts)
                .await
                .map_err(|error| place.failed("uploading", &staged, error))?;
            drop(room);
            Ok(Token {
                name,
                rows,
                bytes: bytes as u64,
            })
        }));
        Ok(())
    }
}

impl OpenFile {
    fn append(&mut self, rows: RecordBatch, data: &RecordBatch, now: i64) -> Result<()> {
        self.encoder.write(data)?;
        self.rows += rows.num_rows() as u64;
        self.written_ms = now;
        if self.encoder.size() >= CLOSE_AT_BARRIER {
            self.kept = Kept::ClosesAtBarrier;
        }
        if let Kept::Rows { batches, bytes } = &mut self.kept {
            *bytes += slice_bytes(&rows);
            batches.push(rows);
        }
        Ok(())
    }

    fn kept_bytes(&self) -> usize {
        match self.kept {
            Kept::Rows { bytes, .. } => bytes,
            Kept::ClosesAtBarrier => 0,
        }
    }

    /// Both the rows that are kept and those that are not encoded yet are the last ones: they are the same, as far as they go.
    fn memory(&self) -> usize {
        let kept = self.kept_bytes().saturating_sub(self.encoder.pending());
        self.encoder.memory() + kept
    }

    /// Takes less memory and stays open. False when that would not help much.
    fn squeeze(&mut self) -> Result<bool> {
        let (pending, kept) = (self.encoder.pending(), self.kept_bytes());
        let rows = pending.max(kept);
        if 3 * rows < 2 * self.memory() {
            return Ok(false);
        }
        // What has to be carried is freed only by not carrying it.
        if 2 * kept > rows {
            self.kept = Kept::ClosesAtBarrier;
        }
        self.encoder.settle()?;
        Ok(true)
    }
}

impl Sink for FileSink {
    fn write(&mut self, batch: RecordBatch) -> Result<Rejected> {
        expect_columns(&self.table, &batch, false)?;
        self.written += batch.num_rows() as u64;
        self.append(&batch)
    }

    fn restore(&mut self, carried: RecordBatch) -> Result<()> {
        expect_columns(&self.table, &carried, true)?;
        match self.append(&carried)?.first() {
            None => Ok(()),
            // They had a place when they were written.
            Some((_, why)) => Err(Error::job(format!(
                "table '{}': a row of a file that is still open has no place in it any more: {why}; stop the job with its old text first, \
                 which closes its files, then start it with the new one",
                self.table.name
            ))),
        }
    }

    fn stage(&mut self, _epoch: u64, close: bool) -> Result<Staging> {
        self.roll(self.context.clock.now_ms())?;
        self.close_where(|file| close || matches!(file.kept, Kept::ClosesAtBarrier))?;
        let mut carry = Carry::default();
        for (partition, file) in &mut self.open {
            carry.open.push(file.number);
            carry.partitions.insert(partition.clone());
            if let Kept::Rows { batches, bytes } = &mut file.kept
                && !batches.is_empty()
            {
                *bytes = 0;
                carry.appended.push((file.number, std::mem::take(batches)));
            }
        }
        let tokens = std::mem::take(&mut self.closed)
            .into_iter()
            .map(|upload| {
                let ended = |error| Error::retry("an upload was broken off").caused_by(error);
                async move { upload.await.map_err(ended)? }.boxed()
            })
            .collect();
        Ok(Staging {
            tokens,
            carry,
            written: std::mem::take(&mut self.written),
        })
    }

    fn buffered_bytes(&self) -> usize {
        self.open.values().map(OpenFile::memory).sum()
    }

    fn shrink(&mut self) -> Result<()> {
        let largest = self.open.iter_mut().max_by_key(|(_, file)| file.memory());
        let Some((partition, file)) = largest else {
            return Ok(());
        };
        let place = |error: Error| error.at(format!("table '{}'", self.table.name));
        if file.squeeze().map_err(place)? {
            return Ok(());
        }
        let partition = partition.clone();
        self.close_one(&partition)
    }
}

/// What the rows themselves take; the buffers behind them may be shared with other slices of their batch.
pub(crate) fn slice_bytes(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}
