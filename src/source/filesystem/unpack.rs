//! Unpacks a file while it comes: by the ending of its name, as Flink does.

use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, ErrorKind, Write};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

/// How much is unpacked at once. A few bytes may stand for a thousand times as many, and those are all held until they are read.
const STEP: usize = 16 << 10;
/// Endings of what is packed in a way that is not known here.
const FOREIGN: [&str; 11] = [
    "bz2", "xz", "lz4", "lzma", "lzo", "snappy", "sz", "br", "z", "zip", "7z",
];

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
    /// With the two bytes of zlib before it, as Java writes it.
    Deflate,
}

impl Packing {
    pub fn of(name: &str) -> Result<Packing> {
        let (_, ending) = name.rsplit_once('.').unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Ok(Packing::Gzip),
            "zst" | "zstd" => Ok(Packing::Zstd),
            "deflate" => Ok(Packing::Deflate),
            foreign if FOREIGN.contains(&foreign) => Err(Error::job(format!(
                "file '{name}': '{ending}' cannot be unpacked; pack it as gz or zst, or unpack it first"
            ))),
            _ => Ok(Packing::None),
        }
    }
}

/// The file's bytes as they come, and unpacked as far as they were asked for.
pub(super) struct Unpacker {
    state: State,
    packed: Bytes,
    unpacked: Vec<u8>,
    /// Whether a byte came. A file without any is empty, though no program packs nothing into nothing.
    begun: bool,
}

enum State {
    None,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    /// And whether the bytes so far are whole frames.
    Zstd(zstd::stream::raw::Decoder<'static>, bool),
    /// And whether its end was seen.
    Deflate(Box<Decompress>, bool),
}

impl Unpacker {
    pub fn new(packing: Packing) -> io::Result<Unpacker> {
        Ok(Unpacker {
            state: match packing {
                Packing::None => State::None,
                Packing::Gzip => {
                    State::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new())))
                }
                Packing::Zstd => State::Zstd(zstd::stream::raw::Decoder::new()?, false),
                Packing::Deflate => State::Deflate(Box::new(Decompress::new(true)), false),
            },
            packed: Bytes::new(),
            unpacked: Vec::new(),
            begun: false,
        })
    }

    /// What was unpacked and not given up yet.
    pub fn bytes(&self) -> &[u8] {
        &self.unpacked
    }

    /// Gives up the first bytes, which were read.
    pub fn forget(&mut self, count: usize) {
        self.unpacked.drain(..count);
    }

    /// Takes the next piece of the file, once all of the one before was unpacked.
    pub fn push(&mut self, piece: Bytes) {
        self.begun |= !piece.is_empty();
        match self.state {
            State::None => self.unpacked.extend_from_slice(&piece),
            _ => self.packed = piece,
        }
    }

    /// Unpacks some more of what came; false where nothing is left of it.
    pub fn unpack(&mut self) -> io::Result<bool> {
        if self.packed.is_empty() {
            return Ok(false);
        }
        let step = &self.packed[..self.packed.len().min(STEP)];
        let used = match &mut self.state {
            State::None => step.len(),
            State::Gzip(decoder) => {
                decoder.write_all(step)?;
                self.unpacked.append(decoder.get_mut());
                step.len()
            }
            State::Zstd(decoder, whole) => {
                let mut input = InBuffer::around(step);
                let mut piece = [0; 64 << 10];
                loop {
                    let mut output = OutBuffer::around(&mut piece[..]);
                    let left = decoder.run(&mut input, &mut output)?;
                    *whole = left == 0;
                    let filled = output.pos();
                    self.unpacked.extend_from_slice(&piece[..filled]);
                    // Behind the end of a frame, another look would begin the next one.
                    if input.pos() == step.len() && (*whole || filled < piece.len()) {
                        break;
                    }
                }
                step.len()
            }
            State::Deflate(_, true) => {
                let what = "something stands behind the end of what is packed";
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            State::Deflate(decoder, ended) => {
                let mut piece = [0; 64 << 10];
                let mut used = 0;
                loop {
                    let before = (decoder.total_in(), decoder.total_out());
                    let rest = &step[used..];
                    let status = decoder.decompress(rest, &mut piece, FlushDecompress::None)?;
                    if before == (decoder.total_in(), decoder.total_out()) && !rest.is_empty() {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    let filled = usize::try_from(decoder.total_out() - before.1).unwrap_or(0);
                    self.unpacked.extend_from_slice(&piece[..filled]);
                    used += usize::try_from(decoder.total_in() - before.0).unwrap_or(0);
                    *ended = status == Status::StreamEnd;
                    // As long as it fills what it is given it may hold more, also of bytes that it has taken already.
                    if *ended || used == step.len() && filled < piece.len() {
                        break used;
                    }
                }
            }
        };
        self.packed.advance(used);
        Ok(true)
    }

    /// Fails where the file stops in the middle.
    pub fn end(&mut self) -> io::Result<()> {
        match &mut self.state {
            _ if !self.begun => Ok(()),
            State::None | State::Zstd(_, true) | State::Deflate(_, true) => Ok(()),
            State::Zstd(_, false) | State::Deflate(_, false) => {
                Err(ErrorKind::UnexpectedEof.into())
            }
            State::Gzip(decoder) => {
                decoder.try_finish()?;
                self.unpacked.append(decoder.get_mut());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks a file that comes in pieces of this size.
    fn unpacked(packing: Packing, file: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut unpacker = Unpacker::new(packing)?;
        let mut all = Vec::new();
        for piece in file.chunks(piece) {
            unpacker.push(Bytes::copy_from_slice(piece));
            while unpacker.unpack()? {}
            all.extend_from_slice(unpacker.bytes());
            let count = unpacker.bytes().len();
            unpacker.forget(count);
        }
        unpacker.end()?;
        all.extend_from_slice(unpacker.bytes());
        Ok(all)
    }

    #[test]
    fn a_file_is_what_was_packed_however_it_comes() {
        let text: String = (0..30_000).map(|n| format!("line {n}\n")).collect();
        let zeros = vec![b'0'; 3 << 20];
        for plain in [text.as_bytes(), &zeros, b"x", b""] {
            let zstd = zstd::stream::encode_all(plain, 1).unwrap();
            for (packing, file) in [
                (Packing::None, plain.to_vec()),
                (Packing::Gzip, gzip(plain)),
                (Packing::Zstd, zstd),
                (Packing::Deflate, deflate(plain)),
            ] {
                for piece in [7, 4096, 8 << 20] {
                    let found = unpacked(packing, &file, piece).unwrap();
                    assert!(found == plain, "{packing:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_spoilt_is_an_error() {
        let text: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let text = text.as_bytes();
        for (packing, file) in [
            (Packing::Gzip, gzip(text)),
            (Packing::Zstd, zstd::stream::encode_all(text, 1).unwrap()),
            (Packing::Deflate, deflate(text)),
        ] {
            let nothing = unpacked(packing, &[], 100).unwrap();
            assert!(nothing.is_empty(), "{packing:?}: an empty file is one");
            for left in [1, file.len() / 2, file.len() - 1] {
                assert!(
                    unpacked(packing, &file[..left], 100).is_err(),
                    "{packing:?}, {left} bytes"
                );
            }
            let mut garbage = file.clone();
            garbage.extend_from_slice(b"garbage behind it");
            assert!(unpacked(packing, &garbage, 100).is_err(), "{packing:?}");
            let mut spoilt = file.clone();
            spoilt[file.len() / 2] ^= 0xff;
            // zstd keeps no checksum by itself: then the text is another, or the file no zstd at all.
            let found = unpacked(packing, &spoilt, 100);
            assert!(found.is_err() || packing == Packing::Zstd, "{packing:?}");
        }
    }

    #[test]
    fn a_little_that_stands_for_much_is_unpacked_little_by_little() {
        for (packing, file) in [
            (Packing::Gzip, gzip(&vec![0; 256 << 20])),
            (Packing::Deflate, deflate(&vec![0; 256 << 20])),
        ] {
            let mut unpacker = Unpacker::new(packing).unwrap();
            unpacker.push(Bytes::from(file));
            let mut most = 0;
            while unpacker.unpack().unwrap() {
                most = most.max(unpacker.bytes().len());
                let count = unpacker.bytes().len();
                unpacker.forget(count);
            }
            unpacker.end().unwrap();
            assert!(most < 32 << 20, "{packing:?}: {most} bytes at once");
        }
    }

    #[test]
    fn the_ending_says_how_it_is_packed() {
        for (name, packing) in [
            ("./in/a.csv", Packing::None),
            ("a", Packing::None),
            ("./in.gz/a", Packing::None),
            ("a.csv.GZ", Packing::Gzip),
            ("a.zst", Packing::Zstd),
            ("a.deflate", Packing::Deflate),
        ] {
            assert_eq!(Packing::of(name).unwrap(), packing, "{name}");
        }
        for name in ["in/a.csv.bz2", "a.XZ"] {
            let error = Packing::of(name).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
