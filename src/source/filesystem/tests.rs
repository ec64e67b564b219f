use super::super::suite::{self, Bench};
use super::*;
use crate::decode::Reason;
use arrow::array::{AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use std::io::Write;
use std::path::{Path, PathBuf};

mod places;

/// A folder that goes away with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tributary-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Temporary(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written elsewhere and renamed, so that it is never seen half written.
        let hidden = path.with_file_name("_under_way");
        std::fs::write(&hidden, bytes).unwrap();
        std::fs::rename(hidden, path).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("dt", DataType::Utf8),
        field("id", DataType::Int64),
        field("name", DataType::Utf8),
        field("younger", DataType::Utf8),
    ]))
}

fn source(
    context: &SourceContext,
    folder: &Temporary,
    options: &[(&str, &str)],
) -> Result<FilesystemSource> {
    let mut all = vec![("connector", "filesystem"), ("path", folder.path())];
    all.extend(options);
    let parquet = options.contains(&("format", "parquet"));
    let schema = if parquet {
        schema()
    } else {
        Arc::new(Schema::empty())
    };
    let mut scan = suite::scan("t", schema, &all);
    if parquet {
        Arc::get_mut(&mut scan.table).unwrap().partitioned_by = vec!["dt".to_string()];
    }
    FilesystemSource::new(&scan, context)
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\": {n}}}\n")).collect()
}

fn parquet_file(path: &Path, rows: i32) {
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("unused", DataType::Int64, true),
        Field::new("id", DataType::Int32, true),
    ]);
    let names = StringArray::from_iter((0..rows).map(|n| Some(format!("name {n}"))));
    let unused = Int64Array::from_iter((0..rows).map(i64::from));
    let ids = Int32Array::from_iter(0..rows);
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(names), Arc::new(unused), Arc::new(ids)];
    write_parquet(
        path,
        &RecordBatch::try_new(Arc::new(schema), columns).unwrap(),
    );
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(bytes, 1).unwrap()
}

#[test]
fn text_keeps_the_contract() {
    let folder = Temporary::new();
    folder.write("b/two.json", lines(20).as_bytes());
    folder.write("a.json", lines(15).trim_end().as_bytes());
    folder.write("_hidden/three.json", lines(5).as_bytes());
    folder.write(".four.json", lines(5).as_bytes());
    let bench = Bench::new();
    suite::check(&bench, &mut || {
        Box::new(source(&bench.context(), &folder, &[("format", "json")]).unwrap())
    });
    let mut source = source(&bench.context(), &folder, &[("format", "json")]).unwrap();
    let names: Vec<_> = source
        .discover()
        .unwrap()
        .iter()
        .map(|split| split.topic.to_string())
        .collect();
    assert_eq!(
        names,
        ["a.json", "b/two.json"].map(|name| format!("{}/{name}", folder.path()))
    );
}

#[test]
fn a_reader_knows_its_file() {
    let folder = Temporary::new();
    folder.write("a.json", b"{\"n\": 1}\n");
    parquet_file(&folder.0.join("b.parquet"), 3);
    let bench = Bench::new();
    for (name, format) in [("a.json", "json"), ("b.parquet", "parquet")] {
        let mut source = source(&bench.context(), &folder, &[("format", format)]).unwrap();
        let splits = source.discover().unwrap();
        let split = splits.iter().find(|split| split.topic.ends_with(name));
        let file = source.open(split.unwrap(), None).unwrap().file().unwrap();
        let known = std::fs::metadata(folder.0.join(name)).unwrap();
        let modified = known.modified().unwrap();
        let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(file.size, known.len(), "{name}");
        assert_eq!(file.modified_ms as u128, modified.as_millis(), "{name}");
    }
}

#[test]
fn packed_text_reads_as_plain_text() {
    let text = lines(100_000);
    let bench = Bench::new();
    let all = |name: &str, bytes: &[u8]| {
        let folder = Temporary::new();
        folder.write(name, bytes);
        let mut source = source(&bench.context(), &folder, &[("format", "json")]).unwrap();
        let split = source.discover().unwrap().remove(0);
        let mut reader = source.open(&split, None).unwrap();
        let mut rows = Vec::new();
        while let Some(more) = suite::next(&bench, &mut *reader, 1 << 16) {
            rows.extend(more);
        }
        rows
    };
    let plain = all("a.json", text.as_bytes());
    assert_eq!(plain.len(), 100_000);
    assert_eq!(all("a.json.gz", &gzip(text.as_bytes())), plain);
    assert_eq!(all("a.json.zst", &zstd(text.as_bytes())), plain);
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    assert_eq!(
        all("a.json.gz", &[gzip(first), gzip(second)].concat()),
        plain
    );
    assert_eq!(
        all("a.json.zst", &[zstd(first), zstd(second)].concat()),
        plain
    );
}

/// The records of the one file of a table.
fn records(name: &str, bytes: &[u8], options: &[(&str, &str)], max_bytes: usize) -> Vec<String> {
    let folder = Temporary::new();
    folder.write(name, bytes);
    let bench = Bench::new();
    let mut source = source(&bench.context(), &folder, options).unwrap();
    let split = source.discover().unwrap().remove(0);
    let mut reader = source.open(&split, None).unwrap();
    let mut rows = Vec::new();
    loop {
        match reader.poll(max_bytes).unwrap() {
            Poll::Records(records) => {
                let values = (0..records.len()).map(|at| records.value(at).unwrap().to_vec());
                rows.extend(values.map(|value| String::from_utf8(value).unwrap()));
            }
            Poll::Pending { .. } => bench.waker.wait(Duration::from_secs(1)),
            Poll::Finished => return rows,
            Poll::Columns(_) => panic!("text has no columns"),
        }
    }
}

#[test]
fn a_quoted_field_goes_on_over_lines_and_pieces() {
    // Longer than a piece of the file that is read at once, and than a step of unpacking.
    let long = "line\r\nanother, \"\"quoted\"\"\n".repeat(20_000);
    let text = format!("1,\"{long}\"\r\n2,b\r\n3,\"x\"");
    let expected = [format!("1,\"{long}\""), "2,b".into(), "3,\"x\"".into()];
    let csv = [("format", "csv")];
    assert_eq!(records("a.csv", text.as_bytes(), &csv, 1), expected);
    let packed = gzip(text.as_bytes());
    assert_eq!(records("a.csv.gz", &packed, &csv, 1), expected);
    assert_eq!(records("a.csv", b"", &csv, 1), Vec::<String>::new());
}

#[test]
fn a_mark_at_the_beginning_is_no_text() {
    let marked = b"\xef\xbb\xbf1\n\xef\xbb\xbf2";
    for (format, name, file) in [
        ("csv", "a.csv", marked.to_vec()),
        ("json", "a.json.gz", gzip(marked)),
    ] {
        let found = records(name, &file, &[("format", format)], 1);
        assert_eq!(found, ["1", "\u{feff}2"], "{format}");
    }
    let raw = records("a", marked, &[("format", "raw")], 1);
    assert_eq!(raw, ["\u{feff}1", "\u{feff}2"]);
    for short in ["", "1", "12"] {
        let found = records("a.csv", short.as_bytes(), &[("format", "csv")], 1);
        assert_eq!(found.concat(), short);
    }
}

/// More than are open at a time, so some are opened when others have ended.
#[test]
fn many_files_keep_the_contract() {
    let folder = Temporary::new();
    for file in 0..(MOST_OPEN + 10) {
        folder.write(&format!("{file:03}.json"), lines(3).as_bytes());
    }
    let bench = Bench::new();
    suite::check(&bench, &mut || {
        Box::new(source(&bench.context(), &folder, &[("format", "json")]).unwrap())
    });
}

#[test]
fn a_packed_file_that_stops_short_is_an_error() {
    let bench = Bench::new();
    let text = lines(1000);
    for (name, bytes) in [
        ("a.gz", gzip(text.as_bytes())),
        ("a.zst", zstd(text.as_bytes())),
    ] {
        for cut in [1, bytes.len() / 2] {
            let folder = Temporary::new();
            folder.write(name, &bytes[..bytes.len() - cut]);
            let mut source = source(&bench.context(), &folder, &[("format", "raw")]).unwrap();
            let split = source.discover().unwrap().remove(0);
            let mut reader = source.open(&split, None).unwrap();
            let error = loop {
                match reader.poll(1 << 20) {
                    Ok(Poll::Finished) => {
                        panic!("{name} without its last {cut} bytes was read to an end")
                    }
                    Ok(Poll::Pending { .. }) => bench.waker.wait(Duration::from_secs(1)),
                    Ok(_) => {}
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn parquet_keeps_the_contract() {
    let folder = Temporary::new();
    parquet_file(&folder.0.join("dt=2024-01-01/a.parquet"), 20_000);
    parquet_file(&folder.0.join("dt=a%2Fb/b.parquet"), 10);
    let bench = Bench::new();
    suite::check(&bench, &mut || {
        Box::new(source(&bench.context(), &folder, &[("format", "parquet")]).unwrap())
    });
}

#[test]
fn parquet_gives_the_tables_columns() {
    let folder = Temporary::new();
    parquet_file(&folder.0.join("dt=a%2Fb/b.parquet"), 2);
    let bench = Bench::new();
    let mut source = source(&bench.context(), &folder, &[("format", "parquet")]).unwrap();
    let split = source.discover().unwrap().remove(0);
    let mut reader = source.open(&split, None).unwrap();
    let batch = loop {
        match reader.poll(1).unwrap() {
            Poll::Columns(columns) => break columns.batch,
            Poll::Pending { .. } => bench.waker.wait(Duration::from_secs(1)),
            _ => panic!("no rows"),
        }
    };
    assert_eq!(batch.schema(), schema());
    let shown = arrow::util::pretty::pretty_format_batches(&[batch])
        .unwrap()
        .to_string();
    assert!(shown.contains("| a/b | 1  | name 1 |         |"), "{shown}");
}

/// NULL where the table says NOT NULL, and a number too large for the table's type: each costs its record alone.
#[test]
fn a_parquet_row_that_does_not_fit_costs_only_itself() {
    let folder = Temporary::new();
    let rows = 10_000i64;
    let ids = Int64Array::from_iter((0..rows).map(|n| (n % 1000 != 7).then_some(n)));
    let sizes =
        Int64Array::from_iter((0..rows).map(|n| Some(if n == 9_001 { 1 << 40 } else { n })));
    let columns: [(&str, arrow::array::ArrayRef); 2] =
        [("id", Arc::new(ids)), ("size", Arc::new(sizes))];
    write_parquet(
        &folder.0.join("a.parquet"),
        &RecordBatch::try_from_iter(columns).unwrap(),
    );
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("size", DataType::Int32, true),
    ]));
    let options = [("path", folder.path()), ("format", "parquet")];
    let scan = suite::scan("t", Arc::clone(&schema), &options);
    let bench = Bench::new();
    let open = || FilesystemSource::new(&scan, &bench.context()).unwrap();
    suite::check(&bench, &mut || Box::new(open()));

    let mut source = open();
    let split = source.discover().unwrap().remove(0);
    let mut reader = source.open(&split, None).unwrap();
    let (mut read, mut bad) = (Vec::<i64>::new(), Vec::new());
    loop {
        match reader.poll(1).unwrap() {
            Poll::Columns(columns) => {
                assert_eq!(columns.batch.schema(), schema);
                let offset = |record: u32| columns.first_offset + i64::from(record);
                let ids = columns.batch.column(0).as_primitive::<Int64Type>();
                read.extend(ids.values());
                assert!(
                    columns
                        .origin
                        .iter()
                        .map(|at| offset(*at))
                        .eq(ids.values().iter().copied())
                );
                bad.extend(columns.bad.into_iter().map(|bad| {
                    let value = String::from_utf8(bad.value.unwrap()).unwrap();
                    (
                        columns.first_offset + i64::from(bad.record),
                        bad.reason,
                        bad.error,
                        value,
                    )
                }));
            }
            Poll::Pending { .. } => bench.waker.wait(Duration::from_secs(1)),
            Poll::Finished => break,
            Poll::Records(_) => panic!("Parquet has no records of bytes"),
        }
    }
    let fits = |n: &i64| n % 1000 != 7 && *n != 9_001;
    assert_eq!(read, (0..rows).filter(fits).collect::<Vec<_>>());
    assert_eq!(bad.len(), 11);
    let (offset, reason, error, value) = &bad[0];
    assert_eq!((*offset, *reason), (7, Reason::MissingValue));
    assert_eq!(error, "column 'id': NULL, but the column is NOT NULL");
    assert_eq!(value, r#"{"id":null,"size":7}"#);
    let (offset, reason, error, value) = &bad[9];
    assert_eq!((*offset, *reason), (9_001, Reason::Malformed));
    assert!(error.contains("column 'size'"), "{error}");
    assert_eq!(value, r#"{"id":9001,"size":1099511627776}"#);
}

/// No row of such a file can fit, so it is no fault of its rows.
#[test]
fn a_parquet_file_of_other_types_is_an_error() {
    let folder = Temporary::new();
    parquet_file(&folder.0.join("a.parquet"), 3);
    let inner = vec![Field::new("x", DataType::Int32, true)];
    let schema = Schema::new(vec![Field::new_struct("id", inner, true)]);
    let options = [("path", folder.path()), ("format", "parquet")];
    let scan = suite::scan("t", Arc::new(schema), &options);
    let bench = Bench::new();
    let mut source = FilesystemSource::new(&scan, &bench.context()).unwrap();
    let split = source.discover().unwrap().remove(0);
    let mut reader = source.open(&split, None).unwrap();
    let error = loop {
        match reader.poll(1) {
            Ok(Poll::Pending { .. }) => bench.waker.wait(Duration::from_secs(1)),
            Ok(_) => panic!("it was read"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("a.parquet") && error.contains("column 'id'"),
        "{error}"
    );
}

#[test]
fn a_file_that_comes_later_is_found() {
    let folder = Temporary::new();
    folder.write("a.json", b"1\n");
    let bench = Bench::new();
    let options = [("format", "json"), ("source.monitor-interval", "1 ms")];
    assert!(
        source(&bench.context(), &folder, &options)
            .unwrap()
            .bounded()
    );
    let mut source = source(&bench.unbounded(), &folder, &options).unwrap();
    assert!(!source.bounded());
    assert_eq!(source.discover().unwrap().len(), 1);
    folder.write("b.json", b"2\n");
    let found = loop {
        match source.discover().unwrap().as_slice() {
            [] => bench.waker.wait(Duration::from_secs(1)),
            found => break found.to_vec(),
        }
    };
    assert!(found[0].topic.ends_with("/b.json"));
    let mut reader = source.open(&found[0], None).unwrap();
    assert_eq!(suite::next(&bench, &mut *reader, 1).unwrap().len(), 1);
}

#[test]
fn a_file_that_is_gone_before_its_end_is_named() {
    let bench = Bench::new();
    let folder = Temporary::new();
    let mut source = source(&bench.context(), &folder, &[("format", "json")]).unwrap();
    let position = Position {
        offset: 7,
        finished: false,
    };
    let split = |name: &str| Split {
        topic: name.into(),
        partition: 0,
    };
    let gone = [(split("lake/a.json"), position), (split("b"), position)];
    let error = source.gone(&gone).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    for part in [
        "lake/a.json",
        "7 records",
        "1 more",
        "tributary.allow-dropped-state",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_file_that_ends_before_its_position_is_named() {
    let bench = Bench::new();
    let read = |name: &str, format: &str, offset: i64| {
        let folder = Temporary::new();
        folder.write("a.json", lines(3).as_bytes());
        folder.write("b.json.gz", &gzip(lines(3).as_bytes()));
        parquet_file(&folder.0.join("c.parquet"), 3);
        let mut source = source(&bench.context(), &folder, &[("format", format)]).unwrap();
        let splits = source.discover().unwrap();
        let split = splits.iter().find(|split| split.topic.ends_with(name));
        let position = Position {
            offset,
            finished: false,
        };
        let mut reader = source.open(split.unwrap(), Some(position)).unwrap();
        loop {
            match reader.poll(1) {
                Ok(Poll::Pending { .. }) => bench.waker.wait(Duration::from_secs(1)),
                Ok(Poll::Finished) => return None,
                Ok(_) => panic!("nothing is left to read of {name}"),
                Err(error) => return Some(error),
            }
        }
    };
    for (name, format) in [
        ("a.json", "json"),
        ("b.json.gz", "json"),
        ("c.parquet", "parquet"),
    ] {
        assert!(read(name, format, 3).is_none(), "{name}");
        let error = read(name, format, 4).unwrap();
        assert_eq!(error.exit_code(), 2, "{error}");
        for part in [name, "has 3 records", "4 of it were read"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn an_empty_packed_file_is_an_empty_file() {
    let bench = Bench::new();
    let folder = Temporary::new();
    let names = ["a.json.gz", "b.json.zst", "c.json.deflate"];
    names.iter().for_each(|name| folder.write(name, b""));
    let mut source = source(&bench.context(), &folder, &[("format", "json")]).unwrap();
    for split in source.discover().unwrap() {
        let mut reader = source.open(&split, None).unwrap();
        assert_eq!(suite::next(&bench, &mut *reader, 1), None);
        assert!(reader.position().finished);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let bench = Bench::new();
    let folder = Temporary::new();
    let refusal = |options: &[(&str, &str)]| {
        source(&bench.context(), &folder, options)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refusal(&[]).contains("'format'"));
    assert!(refusal(&[("format", "orc")]).contains("orc"));
    let packed = Temporary::new();
    packed.write("a.csv.bz2", b"BZh9");
    let mut source = source(&bench.context(), &packed, &[("format", "csv")]).unwrap();
    let split = source.discover().unwrap().remove(0);
    let error = source.open(&split, None).err().unwrap();
    assert!(error.exit_code() == 2 && error.to_string().contains("a.csv.bz2"));
    assert!(
        refusal(&[("format", "csv"), ("csv.quote-character", "<<")])
            .contains("'csv.quote-character'")
    );
    assert!(
        refusal(&[("format", "json"), ("source.monitor-interval", "often")]).contains("monitor")
    );
}
