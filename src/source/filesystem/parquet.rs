//! Reads a Parquet file: the columns that the job uses, in the types that the table declares.

use super::super::{Poll, Position, Reader, Waker};
use super::{Columns, File, Opening};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::FieldRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Rows in one batch.
const BATCH_ROWS: usize = 8192;

pub(super) struct ParquetReader {
    batches: Receiver<Result<RecordBatch>>,
    next: i64,
    finished: bool,
}

impl ParquetReader {
    pub fn open(opening: Opening, columns: Columns) -> Result<Self> {
        let (sender, batches) = channel(1);
        let next = opening.skip;
        let runtime = opening.runtime.clone();
        runtime.spawn(async move {
            let waker = opening.waker.clone();
            let name = Arc::clone(&opening.file.name);
            if let Err(error) = read(opening, &columns, &sender).await {
                let _ = sender.send(Err(error.at(format!("file '{name}'")))).await;
            }
            drop(sender);
            waker.wake();
        });
        Ok(ParquetReader {
            batches,
            next,
            finished: false,
        })
    }
}

impl Reader for ParquetReader {
    fn poll(&mut self, _max_bytes: usize) -> Result<Poll> {
        match self.batches.try_recv() {
            Ok(batch) => {
                let batch = batch?;
                let first_offset = self.next;
                self.next += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
                Ok(Poll::Columns {
                    batch,
                    first_offset,
                })
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

/// Decodes ahead of the reader, one batch in the channel and one under way.
async fn read(
    opening: Opening,
    columns: &Columns,
    batches: &Sender<Result<RecordBatch>>,
) -> Result<()> {
    let Opening {
        store,
        file,
        skip,
        waker,
        ..
    } = opening;
    let reader = Remote {
        store,
        path: file.path.clone(),
        size: file.size,
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .map_err(remote)?;
    let wanted = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| {
            columns.schema.index_of(field.name()).is_ok()
                && !columns.partitioned_by.contains(field.name())
        });
    let roots: Vec<usize> = wanted.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let skip = usize::try_from(skip).unwrap_or(0);
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let builder = if skip > 0 {
        builder.with_offset(skip)
    } else {
        builder
    };
    let mut stream = builder.build().map_err(remote)?;
    while let Some(batch) = stream.next().await {
        let batch = arrange(&batch.map_err(remote)?, columns, &file)?;
        if batch.num_rows() == 0 {
            continue;
        }
        // Nobody listens any more once the reader is gone.
        if send(batches, batch, &waker).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn send(
    batches: &Sender<Result<RecordBatch>>,
    batch: RecordBatch,
    waker: &Waker,
) -> Result<(), ()> {
    batches.send(Ok(batch)).await.map_err(|_| ())?;
    waker.wake();
    Ok(())
}

/// A file on a store, as the Parquet library wants to see it.
struct Remote {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for Remote {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store
            .get_range(&self.path, range)
            .map_err(ParquetError::from)
            .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        async move { Ok(store.get_ranges(&path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        async move {
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// A store that does not answer may be asked again; a file that is none is not worth it.
fn remote(error: ParquetError) -> Error {
    match error {
        ParquetError::External(_) => Error::retry("it cannot be read").caused_by(error),
        error => Error::data("it is no Parquet file that can be read").caused_by(error),
    }
}

/// The file's columns as the table's: by name, cast, with what the path says; a column that the file does not have is
/// NULL, as it is for rows that are older than the column.
fn arrange(batch: &RecordBatch, columns: &Columns, file: &File) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let arranged = columns.schema.fields().iter().map(|field| {
        let column = if columns.partitioned_by.contains(field.name()) {
            in_path(field, columns, file, rows)?
        } else {
            match batch.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => return Ok(new_null_array(field.data_type(), rows)),
            }
        };
        cast(&column, field)
    });
    let arranged = arranged.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(&columns.schema), arranged, &options)
        .map_err(|error| Error::data("its columns are not the table's").caused_by(error))
}

fn cast(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, field.data_type(), &strict).map_err(|error| {
        Error::data(format!(
            "column '{}' is {} in it, which does not fit the table's {}",
            field.name(),
            column.data_type(),
            field.data_type()
        ))
        .caused_by(error)
    })
}

fn in_path(field: &FieldRef, columns: &Columns, file: &File, rows: usize) -> Result<ArrayRef> {
    let value = file.partition_value(field.name()).ok_or_else(|| {
        Error::data(format!(
            "its path has no '{}=...', by which the table is partitioned",
            field.name()
        ))
    })?;
    let null = value == *columns.default_partition || value == "__HIVE_DEFAULT_PARTITION__";
    let one = cast(
        &(Arc::new(StringArray::from(vec![(!null).then_some(value)])) as ArrayRef),
        field,
    )?;
    let all = arrow::array::UInt32Array::from(vec![0; rows]);
    debug_assert_eq!(one.len(), 1);
    Ok(arrow::compute::take(&one, &all, None)?)
}
