//! Reads a text file record by record, as it comes or compressed.

use super::super::{FileFacts, Poll, Position, Reader, Records, Waker};
use super::files::shortened;
use super::records::{Quoting, Splitter, without_break};
use super::turns::{FileReader, Place};
use super::unpack::{Packing, Unpacker};
use super::{File, Opening};
use crate::error::{Error, Result};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, channel};

/// The most records in one run.
const MAX_RECORDS: usize = 16 * 1024;
/// A record longer than this is a quote that was never closed, or no text at all.
const MAX_RECORD: usize = 64 << 20;
/// What some programs put before UTF-8, and what is no part of the first field.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a text file holds.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub quoting: Option<Quoting>,
    /// Bytes for themselves, so that none is taken for a mark.
    pub raw: bool,
}

pub(super) struct TextReader {
    file: File,
    packing: Packing,
    chunks: Receiver<object_store::Result<Bytes>>,
    unpacked: Unpacker,
    splitter: Splitter,
    /// Where in the unpacked bytes the next record begins.
    start: usize,
    /// Where in the file the unpacked bytes begin, if it is not packed.
    at: u64,
    /// Whether a mark may stand here, at the beginning of the file.
    may_be_marked: bool,
    /// Records before this one were read earlier.
    skip: i64,
    next: i64,
    /// No more bytes will come.
    drained: bool,
    finished: bool,
}

impl TextReader {
    pub fn open(opening: Opening, text: &Text) -> Result<Self> {
        let packing = Packing::of(&opening.file.name)?;
        let unpacked = Unpacker::new(packing).map_err(|error| {
            Error::data(format!("file '{}' cannot be unpacked", opening.file.name)).caused_by(error)
        })?;
        // Packed bytes can only be read from their beginning.
        let Place { byte, record } = match packing {
            Packing::None => opening.known,
            _ => Place::default(),
        };
        Ok(TextReader {
            file: opening.file.clone(),
            packing,
            skip: opening.skip,
            chunks: fetch(opening, byte),
            unpacked,
            splitter: Splitter::new(text.quoting.clone()),
            start: 0,
            at: byte,
            may_be_marked: byte == 0 && !text.raw,
            next: record,
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
        self.at += self.start as u64;
        self.start = 0;
        if self.unpacked.bytes().len() > MAX_RECORD {
            return Err(self.error(format!(
                "record {} is longer than {} MiB; is a quote never closed?",
                self.next,
                MAX_RECORD >> 20
            )));
        }
        let more = self.unpacked.unpack();
        if more.map_err(|error| self.error("it cannot be unpacked").caused_by(error))? {
            return Ok(true);
        }
        match self.chunks.try_recv() {
            Ok(Ok(chunk)) => {
                self.unpacked.push(chunk);
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

    /// Steps over the mark at the beginning of the file; false while it cannot be told whether there is one.
    fn unmarked(&mut self) -> bool {
        if self.may_be_marked {
            let bytes = self.unpacked.bytes();
            if bytes.len() < BYTE_ORDER_MARK.len() && !self.drained {
                return false;
            }
            self.may_be_marked = false;
            if bytes.starts_with(BYTE_ORDER_MARK) {
                self.start = BYTE_ORDER_MARK.len();
            }
        }
        true
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
            if !self.unmarked() {
                if !self.advance()? {
                    break;
                }
                continue;
            }
            let pending = &self.unpacked.bytes()[self.start..];
            if let Some(length) = self.splitter.record(pending) {
                self.take(&mut records, length);
            } else if self.drained {
                // The last record may end without a line break.
                let length = pending.len();
                self.splitter.reset();
                match length {
                    0 if self.next < self.skip => {
                        let place = format!("file '{}'", self.file.name);
                        return Err(shortened(self.skip, self.next).at(place));
                    }
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

impl FileReader for TextReader {
    fn place(&self) -> Place {
        match self.packing {
            Packing::None => Place {
                byte: self.at + self.start as u64,
                record: self.next,
            },
            _ => Place::default(),
        }
    }
}

/// Reads the file ahead in pieces, from this byte: one in the channel and one under way.
fn fetch(opening: Opening, mut from: u64) -> Receiver<object_store::Result<Bytes>> {
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
