//! Rows in blobs: Arrow IPC streams, compressed with LZ4, several behind each other in one object.
//!
//! Each segment is complete by itself and says in its schema which version of the format it has. A checkpoint names a segment by blob,
//! offset and length.

use super::store::{BEGIN_ANEW, EpochStore};
use crate::error::{Error, Result};
use crate::sink::slice_bytes;
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, new_empty_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// The key in a segment's schema under which its version stands.
const VERSION_KEY: &str = "tributary.version";
const VERSION: &str = "1";
/// A blob ends when it is larger than this, in the middle of what is being written if need be: so writing a checkpoint takes about
/// this much memory, however large it is.
const BLOB_BYTES: usize = 8 << 20;
/// About how many bytes of rows are compressed at a time.
const STEP_BYTES: usize = 1 << 20;

/// A place in a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub blob: String,
    pub offset: u64,
    pub bytes: u64,
    /// What [`checksum`] says of the bytes. Epochs from before it was kept do not say.
    pub xxh3: Option<String>,
}

/// Tells damaged bytes from whole ones: Arrow would panic at the one, or take it for other rows.
pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}

/// Rows of one schema that are still to be written. What is written is let go of.
pub(super) struct Rows(VecDeque<RecordBatch>);

/// Appends segments to blobs named `<prefix>-0`, `<prefix>-1`, and so on: few objects, however many segments.
pub(super) struct Pack<'a> {
    store: &'a EpochStore,
    prefix: String,
    blobs: usize,
    bytes: Vec<u8>,
}

impl<'a> Pack<'a> {
    pub fn new(store: &'a EpochStore, prefix: String) -> Self {
        Pack {
            store,
            prefix,
            blobs: 0,
            bytes: Vec::new(),
        }
    }

    /// Appends rows, as one segment or as several behind each other, each with the number of its rows.
    pub async fn append(&mut self, mut rows: Rows) -> Result<Vec<(Segment, u64)>> {
        let mut segments = Vec::new();
        while !rows.is_empty() {
            if self.bytes.len() >= BLOB_BYTES {
                self.flush().await?;
            }
            // Compressing is work for a thread that serves no network.
            let buffer = std::mem::take(&mut self.bytes);
            let (offset, before) = (buffer.len(), rows.count());
            let written = tokio::task::spawn_blocking(move || {
                let buffer = write_batches(buffer, &mut rows, BLOB_BYTES)?;
                let xxh3 = checksum(&buffer[offset..]);
                Ok::<_, Error>((buffer, rows, xxh3))
            });
            let written = written.await;
            let xxh3;
            (self.bytes, rows, xxh3) =
                written.map_err(|error| Error::bug("writing a state blob").caused_by(error))??;
            let segment = Segment {
                blob: format!("{}-{}", self.prefix, self.blobs),
                offset: offset as u64,
                bytes: (self.bytes.len() - offset) as u64,
                xxh3: Some(xxh3),
            };
            segments.push((segment, before - rows.count()));
        }
        Ok(segments)
    }

    /// Returns when everything that was appended is durable.
    pub async fn finish(mut self) -> Result<()> {
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let name = format!("{}-{}", self.prefix, self.blobs);
        self.blobs += 1;
        self.store
            .put_blob(&name, std::mem::take(&mut self.bytes).into())
            .await
    }
}

impl Rows {
    pub fn new(batches: Vec<RecordBatch>) -> Rows {
        Rows(
            batches
                .into_iter()
                .filter(|batch| batch.num_rows() > 0)
                .collect(),
        )
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// The next rows, about [`STEP_BYTES`] of them.
    fn step(&mut self) -> Option<RecordBatch> {
        let batch = self.0.pop_front()?;
        let steps = slice_bytes(&batch).div_ceil(STEP_BYTES).max(1);
        let rows = batch.num_rows().div_ceil(steps);
        if rows < batch.num_rows() {
            self.0
                .push_front(batch.slice(rows, batch.num_rows() - rows));
        }
        Some(batch.slice(0, rows))
    }
}

/// Rows as one segment by itself.
pub(crate) fn write_rows(batches: Vec<RecordBatch>) -> Result<Bytes> {
    let schema = batches.first().map(RecordBatch::schema);
    let mut rows = Rows::new(batches);
    if let (true, Some(schema)) = (rows.is_empty(), schema) {
        rows.0.push_back(RecordBatch::new_empty(schema));
    }
    Ok(write_batches(Vec::new(), &mut rows, usize::MAX)?.into())
}

/// The rows of such a segment; `place` says where it lies, for messages.
pub(crate) fn read_rows(place: &str, bytes: Bytes) -> Result<Vec<RecordBatch>> {
    read_batches(place, bytes)
}

/// Appends rows to a buffer, as one segment, until there are no more or the buffer has this many bytes.
fn write_batches(mut buffer: Vec<u8>, rows: &mut Rows, limit: usize) -> Result<Vec<u8>> {
    let Some(first) = rows.0.front() else {
        return Err(Error::bug("a state blob without a schema"));
    };
    let mut metadata = first.schema().metadata().clone();
    metadata.insert(VERSION_KEY.to_string(), VERSION.to_string());
    let schema = Schema::new_with_metadata(first.schema().fields().clone(), metadata);
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(&mut buffer, &schema, options)?;
    while writer.get_ref().len() < limit
        && let Some(batch) = rows.step()
    {
        let columns = batch.columns().iter().map(compact).collect::<Result<_>>()?;
        writer.write(&RecordBatch::try_new(batch.schema(), columns)?)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(buffer)
}

/// Reads a segment; `place` says where it lies, for messages.
pub(super) fn read_batches(place: &str, bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let unreadable = |error| {
        Error::job(format!(
            "{place} is damaged and cannot be read as Arrow: bring it back as it was, or {BEGIN_ANEW}"
        ))
        .caused_by(error)
    };
    let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None).map_err(unreadable)?;
    let mut metadata = reader.schema().metadata().clone();
    match metadata.remove(VERSION_KEY).as_deref() {
        Some(VERSION) => {}
        version => {
            return Err(Error::job(format!(
                "{place} has format version {}, and this Tributary knows {VERSION}: run the version that wrote it",
                version.unwrap_or("none")
            )));
        }
    }
    let schema = Arc::new(Schema::new_with_metadata(
        reader.schema().fields().clone(),
        metadata,
    ));
    let batches: Vec<_> = reader.collect::<Result<_, _>>().map_err(unreadable)?;
    batches
        .into_iter()
        .map(|batch: RecordBatch| {
            Ok(RecordBatch::try_new(
                Arc::clone(&schema),
                batch.columns().to_vec(),
            )?)
        })
        .collect()
}

/// Lets go of bytes that no row of the array uses: the IPC writer writes whole buffers of string views, and a few kept rows can hang on
/// to all the bytes of a fetch.
fn compact(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        other if array.is_empty() => new_empty_array(other),
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::Struct(fields) if !fields.is_empty() => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(compact).collect::<Result<_>>()?;
            Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                array.nulls().cloned(),
            )?)
        }
        DataType::List(field) => {
            let array = array.as_list::<i32>();
            let (start, end) = (array.offsets()[0], array.offsets()[array.len()]);
            let offsets: ScalarBuffer<i32> = array
                .offsets()
                .iter()
                .map(|offset| offset - start)
                .collect();
            let offsets = OffsetBuffer::new(offsets);
            let values = compact(&array.values().slice(start as usize, (end - start) as usize))?;
            let nulls = array.nulls().cloned();
            Arc::new(ListArray::try_new(
                Arc::clone(field),
                offsets,
                values,
                nulls,
            )?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::Field;

    fn batch(texts: &[Option<&str>]) -> RecordBatch {
        let texts = StringViewArray::from(texts.to_vec());
        let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
        let pair = StructArray::from(vec![
            (
                Arc::new(Field::new("text", DataType::Utf8View, true)),
                Arc::new(texts.clone()) as ArrayRef,
            ),
            (
                Arc::new(Field::new("n", DataType::Int64, false)),
                Arc::new(numbers),
            ),
        ]);
        let mut list = arrow::array::ListBuilder::new(arrow::array::StringViewBuilder::new());
        for text in &texts {
            list.append_value([text, Some("the same long text in every row")]);
        }
        let columns: [(&str, ArrayRef); 3] = [
            ("text", Arc::new(texts)),
            ("pair", Arc::new(pair)),
            ("list", Arc::new(list.finish())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let metadata = [("kept".to_string(), "yes".to_string())].into();
        let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
        batch.with_schema(schema).unwrap()
    }

    fn write(before: Vec<u8>, batches: &[RecordBatch]) -> Vec<u8> {
        write_batches(before, &mut Rows::new(batches.to_vec()), usize::MAX).unwrap()
    }

    #[test]
    fn segments_come_back_as_they_were() {
        let whole = batch(&[
            Some("a"),
            None,
            Some("a text that is too long to be kept in its view"),
            Some(""),
        ]);
        let parts = [whole.slice(0, 1), whole.slice(1, 3), whole.slice(0, 0)];
        let before = b"another segment".to_vec();
        let bytes = write(before, &parts);
        let read = read_batches("state/1", Bytes::from(bytes).slice(15..)).unwrap();
        assert_eq!(read, parts[..2]);
    }

    #[tokio::test]
    async fn rows_of_more_than_a_blob_lie_in_several_segments() {
        // Numbers that LZ4 cannot make smaller.
        let numbers = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let numbers = Int64Array::from_iter_values((0..1 << 20).map(|_| random.i64(..)));
            RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
        };
        let batches = [numbers(1), numbers(2)];
        let store = EpochStore::new(crate::store::open("memory://segments").unwrap(), "j");
        let mut pack = Pack::new(&store, "state/7-me/snapshot".into());
        let segments = pack.append(Rows::new(batches.to_vec())).await.unwrap();
        pack.finish().await.unwrap();
        let mut read = Vec::new();
        let mut blobs = Vec::new();
        for (segment, rows) in &segments {
            assert!(segment.bytes < (BLOB_BYTES + 2 * STEP_BYTES) as u64);
            let (place, bytes) = store.get_segment(segment).await.unwrap();
            let batches = read_batches(&place, bytes).unwrap();
            let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(found as u64, *rows);
            read.extend(batches);
            blobs.push(segment.blob.as_str());
        }
        assert_eq!(blobs, ["state/7-me/snapshot-0", "state/7-me/snapshot-1"]);
        let schema = read[0].schema();
        assert_eq!(
            arrow::compute::concat_batches(&schema, &read).unwrap(),
            arrow::compute::concat_batches(&schema, &batches).unwrap()
        );
    }

    #[test]
    fn a_kept_row_does_not_keep_the_bytes_of_others() {
        let texts: Vec<_> = (0..1000)
            .map(|n| format!("{n} is the number of this row, and here is its text"))
            .collect();
        let texts: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
        let one = write(vec![], &[batch(&texts).slice(7, 1)]);
        assert!(one.len() < 4096, "{} bytes", one.len());
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = Vec::new();
        let rows = batch(&[]);
        StreamWriter::try_new(&mut bytes, &rows.schema())
            .unwrap()
            .finish()
            .unwrap();
        let error = read_batches("state/1", bytes.into()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
