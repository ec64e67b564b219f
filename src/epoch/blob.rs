//! Rows in blobs: Arrow IPC streams, compressed with LZ4, several behind each other in one object.
//!
//! Each segment is complete by itself and says in its schema which version of the format it has. A checkpoint names a segment by blob,
//! offset and length.

use super::store::EpochStore;
use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, new_empty_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use std::sync::Arc;

/// The key in a segment's schema under which its version stands.
const VERSION_KEY: &str = "tributary.version";
const VERSION: &str = "1";
/// A blob ends when it is larger than this, which bounds the memory that writing a checkpoint takes.
const BLOB_BYTES: usize = 32 * 1024 * 1024;

/// A place in a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub blob: String,
    pub offset: u64,
    pub bytes: u64,
}

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

    /// Appends batches of one schema as one segment.
    pub async fn append(&mut self, batches: Vec<RecordBatch>) -> Result<Segment> {
        if self.bytes.len() >= BLOB_BYTES {
            self.flush().await?;
        }
        // Compressing is work for a thread that serves no network.
        let buffer = std::mem::take(&mut self.bytes);
        let offset = buffer.len();
        let written = tokio::task::spawn_blocking(move || write_batches(buffer, &batches)).await;
        self.bytes =
            written.map_err(|error| Error::bug("writing a state blob").caused_by(error))??;
        Ok(Segment {
            blob: format!("{}-{}", self.prefix, self.blobs),
            offset: offset as u64,
            bytes: (self.bytes.len() - offset) as u64,
        })
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

/// Appends batches of one schema to a buffer, as one segment.
pub(super) fn write_batches(mut buffer: Vec<u8>, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let Some(first) = batches.first() else {
        return Err(Error::bug("a state blob without a schema"));
    };
    let mut metadata = first.schema().metadata().clone();
    metadata.insert(VERSION_KEY.to_string(), VERSION.to_string());
    let schema = Schema::new_with_metadata(first.schema().fields().clone(), metadata);
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(&mut buffer, &schema, options)?;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let columns = batch.columns().iter().map(compact).collect::<Result<_>>()?;
        writer.write(&RecordBatch::try_new(batch.schema(), columns)?)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(buffer)
}

/// Reads a segment; `place` says where it lies, for messages.
pub(super) fn read_batches(place: &str, bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let unreadable =
        |error| Error::data(format!("{place} cannot be read as Arrow")).caused_by(error);
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
        let bytes = write_batches(before, &parts).unwrap();
        let read = read_batches("state/1", Bytes::from(bytes).slice(15..)).unwrap();
        assert_eq!(read, parts[..2]);
    }

    #[test]
    fn a_kept_row_does_not_keep_the_bytes_of_others() {
        let texts: Vec<_> = (0..1000)
            .map(|n| format!("{n} is the number of this row, and here is its text"))
            .collect();
        let texts: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
        let one = write_batches(vec![], &[batch(&texts).slice(7, 1)]).unwrap();
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
