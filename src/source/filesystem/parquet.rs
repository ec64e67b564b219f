//! Reads a Parquet file: the columns that the job uses, in the types that the table declares.

use super::super::{BadRow, Columns, FileFacts, Poll, Position, Reader, Waker};
use super::files::shortened;
use super::fit::fit;
use super::shape::Shape;
use super::turns::{FileReader, Place};
use super::{File, Opening};
use crate::decode::Reason;
use crate::decode::dead_letters::rows_as_json;
use crate::error::{Error, Result};
use crate::store::{ParquetObject, unreadable};
use arrow::array::{Array, new_null_array};
use arrow::compute::concat_batches;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use futures::StreamExt;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use std::sync::Arc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Rows in one batch.
const BATCH_ROWS: usize = 8192;

pub(super) struct ParquetReader {
    file: FileFacts,
    batches: Receiver<Result<Columns>>,
    next: i64,
    finished: bool,
}

impl ParquetReader {
    pub fn open(opening: Opening, shape: Shape) -> Result<Self> {
        let (sender, batches) = channel(1);
        let (next, file) = (opening.skip, opening.file.facts());
        let runtime = opening.runtime.clone();
        runtime.spawn(async move {
            let waker = opening.waker.clone();
            let name = Arc::clone(&opening.file.name);
            if let Err(error) = read(opening, &shape, &sender).await {
                let _ = sender.send(Err(error.at(format!("file '{name}'")))).await;
            }
            drop(sender);
            waker.wake();
        });
        Ok(ParquetReader {
            file,
            batches,
            next,
            finished: false,
        })
    }
}

impl Reader for ParquetReader {
    fn file(&self) -> Option<FileFacts> {
        Some(self.file)
    }

    fn poll(&mut self, _max_bytes: usize) -> Result<Poll> {
        match self.batches.try_recv() {
            Ok(columns) => {
                let columns = columns?;
                self.next = columns.first_offset + count(columns.records());
                Ok(Poll::Columns(columns))
            }
            Err(TryRecvError::Empty) => Ok(Poll::Pending { at_end: false }),
            Err(TryRecvError::Disconnected) => {
                self.finished = true;
                Ok(Poll::Finished)
            }
        }
    }

    fn position(&self) -> Position {
        Position {
            offset: self.next,
            finished: self.finished,
        }
    }
}

impl FileReader for ParquetReader {
    /// Its rows are found by their numbers.
    fn place(&self) -> Place {
        Place::default()
    }
}

/// Decodes ahead of the reader, one batch in the channel and one under way.
async fn read(opening: Opening, shape: &Shape, batches: &Sender<Result<Columns>>) -> Result<()> {
    let Opening {
        store,
        file,
        skip,
        waker,
        ..
    } = opening;
    let reader = ParquetObject {
        store,
        path: file.path.clone(),
        size: file.size,
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .map_err(unreadable)?;
    let records = builder.metadata().file_metadata().num_rows();
    if records < skip {
        return Err(shortened(skip, records));
    }
    let wanted = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| {
            shape.schema.index_of(field.name()).is_ok() && !shape.is_in_path(field.name())
        });
    let roots: Vec<usize> = wanted.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let mut next = skip;
    let skip = usize::try_from(skip).unwrap_or(0);
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let builder = if skip > 0 {
        builder.with_offset(skip)
    } else {
        builder
    };
    let mut stream = builder.build().map_err(unreadable)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(unreadable)?;
        if batch.num_rows() == 0 {
            continue;
        }
        let columns = judged(&batch, next, shape, &file)?;
        next += count(batch.num_rows());
        // Nobody listens any more once the reader is gone.
        if send(batches, columns, &waker).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn send(
    batches: &Sender<Result<Columns>>,
    columns: Columns,
    waker: &Waker,
) -> Result<(), ()> {
    batches.send(Ok(columns)).await.map_err(|_| ())?;
    waker.wake();
    Ok(())
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The rows of a batch as the table's. A row that does not fit costs only itself; a file of which no row could fit, by the types of
/// its columns or by its path, is an error.
fn judged(batch: &RecordBatch, first_offset: i64, shape: &Shape, file: &File) -> Result<Columns> {
    if let Ok(batch) = fitted(batch, shape, file) {
        return Ok(Columns::all(batch, first_offset));
    }
    // Where there is no row, only types and path are left to be wrong.
    fitted(&batch.slice(0, 0), shape, file).map_err(|unfit| unfit.error)?;
    let mut good = Vec::new();
    let mut columns = Columns {
        batch: RecordBatch::new_empty(Arc::clone(&shape.schema)),
        origin: Vec::new(),
        first_offset,
        bad: Vec::new(),
    };
    judge(
        batch,
        0,
        &|batch| fitted(batch, shape, file),
        &mut good,
        &mut columns,
    );
    columns.batch = concat_batches(&shape.schema, &good)?;
    Ok(columns)
}

/// Halves what does not fit, until the rows that do not fit are alone.
fn judge(
    batch: &RecordBatch,
    first: u32,
    fitted: &dyn Fn(&RecordBatch) -> Result<RecordBatch, Unfit>,
    good: &mut Vec<RecordBatch>,
    columns: &mut Columns,
) {
    let rows = batch.num_rows();
    match fitted(batch) {
        Ok(batch) => {
            good.push(batch);
            columns.origin.extend((first..).take(rows));
        }
        Err(unfit) if rows == 1 => columns.bad.push(BadRow {
            record: first,
            reason: unfit.reason,
            error: unfit.error.to_string(),
            value: rows_as_json(batch).ok().and_then(|mut rows| rows.pop()),
        }),
        Err(_) => {
            let half = rows / 2;
            judge(&batch.slice(0, half), first, fitted, good, columns);
            judge(
                &batch.slice(half, rows - half),
                first + half as u32,
                fitted,
                good,
                columns,
            );
        }
    }
}

/// Why rows are not the table's.
struct Unfit {
    reason: Reason,
    error: Error,
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Unfit {
            reason: Reason::Malformed,
            error,
        }
    }
}

/// The file's columns as the table's: by name, cast, with what the path says; a column that the file does not have is
/// NULL, as it is for rows that are older than the column.
fn fitted(batch: &RecordBatch, shape: &Shape, file: &File) -> Result<RecordBatch, Unfit> {
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(shape.schema.fields().len());
    for field in shape.schema.fields() {
        let column = if shape.is_in_path(field.name()) {
            shape.in_path(field, &file.name, rows)?
        } else {
            match batch.column_by_name(field.name()) {
                Some(column) => fit(column, field)?,
                None => new_null_array(field.data_type(), rows),
            }
        };
        if !field.is_nullable() && column.null_count() > 0 {
            let name = field.name();
            return Err(Unfit {
                reason: Reason::MissingValue,
                error: Error::data(format!("column '{name}': NULL, but the column is NOT NULL")),
            });
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(&shape.schema), columns, &options).map_err(
        |error| {
            Error::data("its columns are not the table's")
                .caused_by(error)
                .into()
        },
    )
}
