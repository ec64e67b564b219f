//! Files of text: lines one behind the other, as they are or packed.

use super::encode::{Encoder, Format, Pieces};
use super::options::TableSpec;
use super::text::TextFormat;
use crate::error::{Error, Result};
use crate::sql::connectors::filesystem::{CSV_HEADER, TEXT_COMPRESSION};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use std::io::{self, Write};

/// About what packing takes beside what it has packed.
const GZIP_MEMORY: usize = 320 << 10;
const ZSTD_MEMORY: usize = 1 << 20;
/// As for the pages of Parquet: most of the gain for little time.
const ZSTD_LEVEL: i32 = 1;

/// How the text files of one table are written.
#[derive(Debug, Clone)]
pub(super) struct TextFiles {
    format: TextFormat,
    compression: Compression,
    header: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl TextFiles {
    pub fn of(table: &TableSpec, format: TextFormat) -> Result<TextFiles> {
        let compression = match table.options.text(TEXT_COMPRESSION).unwrap_or("none") {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            other => {
                let why = format!("'{other}' is none of none, gzip, zstd");
                return Err(table.refuse(TEXT_COMPRESSION, why));
            }
        };
        Ok(TextFiles {
            format,
            compression,
            header: table.flag(CSV_HEADER)?.unwrap_or(false),
        })
    }
}

impl Format for TextFiles {
    fn open(&self) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(TextEncoder {
            format: self.format.clone(),
            owes_header: self.header,
            packed: Packed::new(self.compression).map_err(not_packed)?,
        }))
    }

    fn extension(&self) -> &'static str {
        match (&self.format, self.compression) {
            (TextFormat::Json { .. }, Compression::None) => "json",
            (TextFormat::Json { .. }, Compression::Gzip) => "json.gz",
            (TextFormat::Json { .. }, Compression::Zstd) => "json.zst",
            (TextFormat::Csv { .. }, Compression::None) => "csv",
            (TextFormat::Csv { .. }, Compression::Gzip) => "csv.gz",
            (TextFormat::Csv { .. }, Compression::Zstd) => "csv.zst",
        }
    }
}

struct TextEncoder {
    format: TextFormat,
    owes_header: bool,
    packed: Packed,
}

impl Encoder for TextEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if std::mem::take(&mut self.owes_header) {
            self.format.header(rows, &mut self.packed)?;
        }
        self.format.lines(rows, &mut self.packed)
    }

    fn size(&self) -> usize {
        self.packed.pieces().len()
    }

    fn memory(&self) -> usize {
        let packing = match self.packed {
            Packed::None(_) => 0,
            Packed::Gzip(_) => GZIP_MEMORY,
            Packed::Zstd(_) => ZSTD_MEMORY,
        };
        self.packed.pieces().capacity() + packing
    }

    fn finish(self: Box<Self>) -> Result<Vec<Bytes>> {
        Ok(self.packed.finish().map_err(not_packed)?.finish())
    }
}

/// Memory takes all bytes, so nothing can be in the way.
fn not_packed(error: io::Error) -> Error {
    Error::bug("text could not be packed").caused_by(error)
}

/// A growing file, packed while it grows.
enum Packed {
    None(Pieces),
    Gzip(flate2::write::GzEncoder<Pieces>),
    Zstd(zstd::stream::write::Encoder<'static, Pieces>),
}

impl Packed {
    fn new(compression: Compression) -> io::Result<Packed> {
        let pieces = Pieces::default();
        Ok(match compression {
            Compression::None => Packed::None(pieces),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                Packed::Gzip(flate2::write::GzEncoder::new(pieces, level))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(pieces, ZSTD_LEVEL)?;
                // Who reads can tell a spoilt file by it.
                encoder.include_checksum(true)?;
                Packed::Zstd(encoder)
            }
        })
    }

    fn pieces(&self) -> &Pieces {
        match self {
            Packed::None(pieces) => pieces,
            Packed::Gzip(encoder) => encoder.get_ref(),
            Packed::Zstd(encoder) => encoder.get_ref(),
        }
    }

    fn finish(self) -> io::Result<Pieces> {
        match self {
            Packed::None(pieces) => Ok(pieces),
            Packed::Gzip(encoder) => encoder.finish(),
            Packed::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Packed::None(pieces) => pieces.write(bytes),
            Packed::Gzip(encoder) => encoder.write(bytes),
            Packed::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Nothing is pushed through: a file is read when it is whole, and is smaller so.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Options;
    use arrow::array::{Int64Array, StringArray};
    use std::io::Read;
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let ids = (0..5_000).collect::<Int64Array>();
        let names = StringArray::from_iter_values((0..5_000).map(|n| format!("a, \"b\"\n{n}")));
        let columns: [(&str, arrow::array::ArrayRef); 2] =
            [("id", Arc::new(ids)), ("the name", Arc::new(names))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn files(format: &str, options: &[(&str, &str)]) -> TextFiles {
        let table = TableSpec {
            schema: rows().schema(),
            options: Options::of(options.iter().copied()),
            ..TableSpec::unknown("t")
        };
        let format = match format {
            "json" => TextFormat::json(&table, &[0, 1]),
            _ => TextFormat::csv(&table, &[0, 1]),
        };
        TextFiles::of(&table, format.unwrap()).unwrap()
    }

    /// The bytes of a file that is written in three steps.
    fn written(files: &TextFiles) -> Vec<u8> {
        let rows = rows();
        let mut encoder = files.open().unwrap();
        for (from, count) in [(0, 1), (1, 1_999), (2_000, 3_000)] {
            encoder.write(&rows.slice(from, count)).unwrap();
        }
        assert!(encoder.memory() >= encoder.size());
        encoder.finish().unwrap().concat()
    }

    #[test]
    fn what_is_packed_is_what_would_have_been_written() {
        for format in ["json", "csv"] {
            let plain = files(format, &[]);
            assert_eq!(plain.extension(), format);
            let plain = written(&plain);
            let gzip = files(format, &[(TEXT_COMPRESSION, "gzip")]);
            assert_eq!(gzip.extension(), format!("{format}.gz"));
            let gzip = written(&gzip);
            let mut text = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(gzip.as_slice());
            decoder.read_to_end(&mut text).unwrap();
            assert!(text == plain && gzip.len() < plain.len() / 2);
            let zstd = files(format, &[(TEXT_COMPRESSION, "zstd")]);
            assert_eq!(zstd.extension(), format!("{format}.zst"));
            let zstd = written(&zstd);
            let text = zstd::stream::decode_all(zstd.as_slice()).unwrap();
            assert!(text == plain && zstd.len() < plain.len() / 2);
        }
    }

    #[test]
    fn each_file_of_csv_has_one_header_where_the_table_wants_it() {
        let text = String::from_utf8(written(&files("csv", &[(CSV_HEADER, "true")]))).unwrap();
        assert!(
            text.starts_with("id,the name\n0,\"a, \"\"b\"\"\n0\"\n1,"),
            "{}",
            &text[..60]
        );
        assert_eq!(text.matches("the name").count(), 1);
        let without = String::from_utf8(written(&files("csv", &[]))).unwrap();
        assert_eq!(text.strip_prefix("id,the name\n"), Some(without.as_str()));
    }
}
