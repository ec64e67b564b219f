//! From rows to the bytes of a file, held in memory until the file is closed.

use crate::error::Result;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use std::io::Write;

/// One open file. Its rows have the columns of the table without those of its partition.
pub(crate) trait Encoder: Send {
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// How large the file would be, about, if it were closed now.
    fn size(&self) -> usize;

    /// Bytes of memory held.
    fn memory(&self) -> usize;

    /// The part of that which is rows as they came: the last ones, not encoded yet.
    fn pending(&self) -> usize {
        0
    }

    /// Encodes the pending rows now, which takes less memory, and makes a worse file if done often.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// The whole file.
    fn finish(self: Box<Self>) -> Result<Vec<Bytes>>;
}

/// Makes encoders for the files of one table.
pub(crate) trait Format: Send + Sync {
    fn open(&self) -> Result<Box<dyn Encoder>>;

    /// How file names end.
    fn extension(&self) -> &'static str;
}

/// A growing file in pieces: no byte is moved again while it grows, as in one vector it would be.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    full: Vec<Bytes>,
    full_bytes: usize,
    last: Vec<u8>,
}

const PIECE: usize = 1 << 20;

impl Pieces {
    pub fn len(&self) -> usize {
        self.full_bytes + self.last.len()
    }

    pub fn capacity(&self) -> usize {
        self.full_bytes + self.last.capacity()
    }

    pub fn finish(mut self) -> Vec<Bytes> {
        self.seal();
        self.full
    }

    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.full_bytes += self.last.len();
            self.full.push(Bytes::from(std::mem::take(&mut self.last)));
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.last.len() + bytes.len() > PIECE {
            self.seal();
        }
        self.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_bytes_in_order() {
        let mut pieces = Pieces::default();
        let mut expected = Vec::new();
        for (byte, length) in [
            (1u8, 10),
            (2, PIECE),
            (3, 0),
            (4, PIECE - 5),
            (5, 7),
            (6, 3 * PIECE),
        ] {
            let bytes = vec![byte; length];
            pieces.write_all(&bytes).unwrap();
            expected.extend(bytes);
        }
        assert_eq!(pieces.len(), expected.len());
        assert_eq!(pieces.finish().concat(), expected);
    }
}
