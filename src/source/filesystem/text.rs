//! Reads a text file record by record, as it comes or compressed.

use super::super::{FileFacts, Poll, Position, Reader, Records, Waker};
use super::records::{Quoting, Splitter, without_break};
use super::{File, Opening};
use crate::error::{Error, Result};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use std::io::Write;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, channel};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

/// The most records in one run.
const MAX_RECORDS: usize = 16 * 1024;
/// A record longer than this is a quote that was never closed, or no text at all.
const MAX_RECORD: usize = 64 << 20;

pub(super) struct TextReader {
    file: File,
    chunks: Receiver<object_store::Result<Bytes>>,
    unpacked: Unpacker,
    splitter: Splitter,
    /// Where in the unpacked bytes the next record begins.
    start: usize,
    /// Records before this one were read earlier.
    skip: i64,
    next: i64,
    /// No more bytes will come.
    drained: bool,
    finished: bool,
}

impl TextReader {
    pub fn open(opening: Opening, quoting: Option<Quoting>) -> Result<Self> {
        let unpacked = Unpacker::of(&opening.file)?;
        Ok(TextReader {
            file: opening.file.clone(),
            skip: opening.skip,
            chunks: fetch(opening),
            unpacked,
            splitter: Splitter::new(quoting),
            start: 0,
            next: 0,
            drained: false,
            finished: false,
        })
    }

    fn take(&mut self, records: &mut Records, length: usize) {
        let record = &self.unpacked.bytes()[self.start..self.start + length];
        if self.next >= self.skip {
            records.push(self.next, -1, None, Some(without_break(record)));
        }
        self.next += 1;
        self.start += length;
    }

    /// Gets the next bytes, if they are there; false when there is nothing to look at yet.
    fn advance(&mut self) -> Result<bool> {
        self.unpacked.forget(self.start);
        self.start = 0;
        if self.unpacked.bytes().len() > MAX_RECORD {
            return Err(self.error(format!(
                "record {} is longer than {} MiB; is a quote never closed?",
                self.next,
                MAX_RECORD >> 20
            )));
        }
        match self.chunks.try_recv() {
            Ok(Ok(chunk)) => {
                let unpacked = self.unpacked.push(&chunk);
                unpacked.map_err(|error| self.error("it cannot be unpacked").caused_by(error))?;
                Ok(true)
            }
            Ok(Err(error)) => {
                let place = format!("file '{}' cannot be read", self.file.name);
                Err(Error::retry(place).caused_by(error))
            }
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => {
                let ended = self.unpacked.end();
                ended.map_err(|error| self.error("it ends too early").caused_by(error))?;
                self.drained = true;
                Ok(true)
            }
        }
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::data(format!("file '{}': {what}", self.file.name))
    }
}

impl Reader for TextReader {
    fn file(&self) -> Option<FileFacts> {
        Some(self.file.facts())
    }

    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        let mut records = Records::default();
        while !self.finished && records.len() < MAX_RECORDS && records.byte_size() < max_bytes {
            let pending = &self.unpacked.bytes()[self.start..];
            if let Some(length) = self.splitter.record(pending) {
                self.take(&mut records, length);
            } else if self.drained {
                // The last record may end without a line break.
                let length = pending.len();
                self.splitter.reset();
                match length {
                    0 => self.finished = true,
                    length => self.take(&mut records, length),
                }
            } else if !self.advance()? {
                break;
            }
        }
        Ok(match (records.is_empty(), self.finished) {
            (false, _) => Poll::Records(records),
            (true, true) => Poll::Finished,
            (true, false) => Poll::Pending { at_end: false },
        })
    }

    fn position(&self) -> Position {
        Position {
            offset: self.next.max(self.skip),
            finished: self.finished,
        }
    }
}

/// Reads the file ahead in pieces: one in the channel and one under way.
fn fetch(opening: Opening) -> Receiver<object_store::Result<Bytes>> {
    let (sender, chunks) = channel(1);
    let Opening {
        store,
        file,
        waker,
        budget,
        runtime,
        ..
    } = opening;
    let piece = (budget / 3).clamp(64 << 10, 4 << 20) as u64;
    runtime.spawn(async move {
        let wake = Wake(waker);
        let mut from = 0;
        while from < file.size {
            let to = file.size.min(from + piece);
            let chunk = store.get_range(&file.path, from..to).await;
            let failed = chunk.is_err();
            // Nobody listens any more once the reader is gone.
            if sender.send(chunk).await.is_err() || failed {
                return;
            }
            wake.0.wake();
            from = to;
        }
        drop(sender);
    });
    chunks
}

/// Wakes the engine when it is dropped, which is behind the channel's end.
struct Wake(Waker);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// The file's bytes, unpacked as they come.
struct Unpacker {
    packing: Packing,
    bytes: Vec<u8>,
}

enum Packing {
    None,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    /// And whether the bytes so far are whole frames.
    Zstd(zstd::stream::raw::Decoder<'static>, bool),
}

impl Unpacker {
    fn of(file: &File) -> Result<Self> {
        let extension = file.name.rsplit('.').next().unwrap_or_default();
        let packing = match extension.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => {
                Packing::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new())))
            }
            "zst" | "zstd" => {
                let decoder = zstd::stream::raw::Decoder::new().map_err(|error| {
                    Error::data(format!("file '{}' cannot be unpacked", file.name)).caused_by(error)
                })?;
                Packing::Zstd(decoder, true)
            }
            "bz2" | "xz" | "deflate" | "lz4" | "snappy" => {
                return Err(Error::job(format!(
                    "file '{}': '{extension}' cannot be unpacked; use gz or zst, or unpack it first",
                    file.name
                )));
            }
            _ => Packing::None,
        };
        Ok(Unpacker {
            packing,
            bytes: Vec::new(),
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        match &mut self.packing {
            Packing::None => self.bytes.extend_from_slice(chunk),
            Packing::Gzip(decoder) => {
                decoder.write_all(chunk)?;
                self.bytes.append(decoder.get_mut());
            }
            Packing::Zstd(decoder, whole) => {
                let mut input = InBuffer::around(chunk);
                let mut piece = [0; 64 << 10];
                loop {
                    let mut output = OutBuffer::around(&mut piece[..]);
                    let left = decoder.run(&mut input, &mut output)?;
                    *whole = left == 0;
                    let filled = output.pos();
                    self.bytes.extend_from_slice(&piece[..filled]);
                    if input.pos() == chunk.len() && filled < piece.len() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Fails where the file stops in the middle.
    fn end(&mut self) -> std::io::Result<()> {
        match &mut self.packing {
            Packing::None | Packing::Zstd(_, true) => Ok(()),
            Packing::Zstd(_, false) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Packing::Gzip(decoder) => {
                decoder.try_finish()?;
                self.bytes.append(decoder.get_mut());
                Ok(())
            }
        }
    }

    /// Gives up the first bytes, which were read.
    fn forget(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
}
