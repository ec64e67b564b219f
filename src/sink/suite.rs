//! What every sink must pass, whatever it writes and wherever.

mod rolling;

use super::merged::{self, Merged};
use super::testing::{FlakyStore, Row, World, parquet_rows};
use super::{Carry, Token};
use crate::error::Kind;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FIRST: [Row; 3] = [(1, "a", "x"), (2, "b", "y"), (3, "c", "x")];
const SECOND: [Row; 2] = [(4, "d", "x"), (5, "e", "z 1:2")];

fn shown(rows: &[Row]) -> Vec<String> {
    let escape = |dt: &str| dt.replace(':', "%3A");
    rows.iter()
        .map(|(id, name, dt)| format!("{id},{name},{}", escape(dt)))
        .collect()
}

fn both() -> Vec<Row> {
    [&FIRST[..], &SECOND[..]].concat()
}

/// Every world in which rows can be read back. Memory tables do not escape, since they have no folders.
fn worlds() -> Vec<(String, World)> {
    let mut worlds = vec![];
    for format in ["parquet", "json", "csv"] {
        worlds.push((
            format!("{format} in memory"),
            World::in_memory("filesystem", format),
        ));
        worlds.push((format!("{format} on disk"), World::local(format)));
        let like_s3 = Arc::new(FlakyStore::failing(-1, false));
        worlds.push((
            format!("{format} like S3"),
            World::new("filesystem", format, like_s3),
        ));
    }
    worlds.push(("memory".into(), World::in_memory("memory", "")));
    worlds
}

fn expect_shown(name: &str, world: &World, rows: &[Row]) {
    let got: Vec<String> = world
        .shown()
        .iter()
        .map(|line| line.replace(':', "%3A"))
        .collect();
    assert_eq!(got, shown(rows), "{name}");
}

fn rows_of(tokens: &[Token]) -> u64 {
    tokens.iter().map(|token| token.rows).sum()
}

fn carried(carry: &Carry) -> Vec<RecordBatch> {
    carry
        .appended
        .iter()
        .flat_map(|(_, batches)| batches.clone())
        .collect()
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

#[test]
fn rows_are_seen_once_and_only_when_published() {
    for (name, world) in worlds() {
        let (mut sink, publisher) = (world.sink("o1"), world.publisher());
        sink.write(world.rows(&FIRST)).unwrap();
        expect_shown(&name, &world, &[]);
        let mut staging = sink.stage(1, false).unwrap();
        let first = world.tokens(&mut staging).unwrap();
        assert_eq!(staging.written, 3, "{name}");
        assert_eq!(
            rows_of(&first) + count(&carried(&staging.carry)),
            3,
            "{name}"
        );
        expect_shown(&name, &world, &[]);
        world.wait(publisher.publish(&first)).unwrap();
        world.wait(publisher.publish(&first)).unwrap();

        sink.write(world.rows(&SECOND)).unwrap();
        let mut staging = sink.stage(2, true).unwrap();
        let second = world.tokens(&mut staging).unwrap();
        assert_eq!(staging.written, 2, "{name}");
        assert!(
            staging.carry.open.is_empty() && staging.carry.appended.is_empty(),
            "{name}"
        );
        assert_eq!(rows_of(&first) + rows_of(&second), 5, "{name}");
        world.wait(publisher.publish(&second)).unwrap();
        world.wait(publisher.publish(&second)).unwrap();
        expect_shown(&name, &world, &both());
        assert!(world.files("lake/_tributary").is_empty(), "{name}");
        assert_eq!(world.memory.staged("t"), 0, "{name}");
    }
}

/// Wherever they lie: what no disk could name must not be in a bucket or in memory either, or a case would prove nothing of a job.
#[test]
fn a_row_without_a_possible_folder_is_given_back_and_counted() {
    for (name, mut world) in worlds() {
        world.table.partitioned_by = vec!["dt".into()];
        let mut sink = world.sink("o1");
        let long = "x".repeat(300).leak();
        let rejected = sink
            .write(world.rows(&[FIRST[0], (7, "g", long), FIRST[2]]))
            .unwrap();
        assert_eq!(rejected.len(), 1, "{name}");
        assert_eq!(rejected[0].0, world.rows(&[(7, "g", long)]), "{name}");
        assert!(rejected[0].1.contains("'dt'"), "{name}: {}", rejected[0].1);
        let mut staging = sink.stage(1, true).unwrap();
        assert_eq!(staging.written, 3, "{name}");
        let tokens = world.tokens(&mut staging).unwrap();
        assert_eq!(rows_of(&tokens), 2, "{name}");
        world.wait(world.publisher().publish(&tokens)).unwrap();
        expect_shown(&name, &world, &[FIRST[0], FIRST[2]]);
    }
}

/// Also in memory, for the same reason.
#[test]
fn a_time_without_a_date_is_given_back_and_counted() {
    for (name, mut world) in worlds() {
        let mut fields = world.table.schema.fields().to_vec();
        let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        fields.push(Arc::new(Field::new("at", millis, true)));
        world.table.schema = Arc::new(Schema::new(fields));
        let rows = |rows: &[Row], times: Vec<Option<i64>>| {
            let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
            let texts = |of: fn(&Row) -> &'static str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
            };
            let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
            let columns = vec![
                Arc::new(ids) as ArrayRef,
                texts(|row| row.1),
                texts(|row| row.2),
                Arc::new(times),
            ];
            RecordBatch::try_new(world.table.schema.clone(), columns).unwrap()
        };
        let mut sink = world.sink("o1");
        let rejected = sink
            .write(rows(&FIRST, vec![Some(0), Some(i64::MAX), None]))
            .unwrap();
        assert_eq!(rejected.len(), 1, "{name}");
        assert_eq!(
            rejected[0].0,
            rows(&FIRST[1..2], vec![Some(i64::MAX)]),
            "{name}"
        );
        assert!(rejected[0].1.contains("'at'"), "{name}: {}", rejected[0].1);
        let mut staging = sink.stage(1, true).unwrap();
        assert_eq!(staging.written, 3, "{name}");
        let tokens = world.tokens(&mut staging).unwrap();
        assert_eq!(rows_of(&tokens), 2, "{name}");
        world.wait(world.publisher().publish(&tokens)).unwrap();
    }
}

#[test]
fn a_crash_before_the_commit_shows_nothing_twice() {
    for (name, world) in worlds() {
        let (mut sink, publisher) = (world.sink("o1"), world.publisher());
        sink.write(world.rows(&FIRST)).unwrap();
        let mut committed = sink.stage(1, false).unwrap();
        let tokens = world.tokens(&mut committed).unwrap();
        // Epoch 1 is committed but not published; epoch 2 is staged but not committed.
        sink.write(world.rows(&SECOND)).unwrap();
        let mut lost = sink.stage(2, true).unwrap();
        world.tokens(&mut lost).unwrap();
        drop(sink);

        world.wait(publisher.publish(&tokens)).unwrap();
        world.wait(publisher.discard_except(&tokens)).unwrap();
        assert!(world.files("lake/_tributary").is_empty(), "{name}");
        assert_eq!(world.memory.staged("t"), 0, "{name}");
        let mut sink = world.sink("o2");
        let carried_in = carried(&committed.carry);
        for batch in &carried_in {
            sink.restore(batch.clone()).unwrap();
        }
        let mut staging = sink.stage(2, false).unwrap();
        assert_eq!(staging.written, 0, "{name}: restored rows are not new");
        assert_eq!(
            count(&carried(&staging.carry)) + rows_of(&world.tokens(&mut staging).unwrap()),
            count(&carried_in),
            "{name}: the first carry after a restart is complete"
        );
        sink.write(world.rows(&SECOND)).unwrap();
        let mut staging = sink.stage(3, true).unwrap();
        assert_eq!(staging.written, 2, "{name}");
        let tokens = world.tokens(&mut staging).unwrap();
        assert_eq!(rows_of(&tokens), 2 + count(&carried_in), "{name}");
        world.wait(publisher.publish(&tokens)).unwrap();
        expect_shown(&name, &world, &both());
    }
}

#[test]
fn a_crash_between_commit_and_publish_loses_nothing() {
    for (name, world) in worlds() {
        let mut sink = world.sink("o1");
        sink.write(world.rows(&both())).unwrap();
        let mut staging = sink.stage(1, true).unwrap();
        let tokens = world.tokens(&mut staging).unwrap();
        drop(sink);
        let publisher = world.publisher();
        world.wait(publisher.discard_except(&tokens)).unwrap();
        expect_shown(&name, &world, &[]);
        world.wait(publisher.publish(&tokens)).unwrap();
        expect_shown(&name, &world, &both());
    }
}

#[test]
fn whichever_call_fails_publishing_again_shows_each_row_once() {
    for after_effect in [false, true] {
        for call in 0.. {
            let store = Arc::new(FlakyStore::failing(call, after_effect));
            let world = World::new("filesystem", "parquet", store.clone());
            let mut sink = world.sink("o1");
            sink.write(world.rows(&both())).unwrap();
            let mut staging = sink.stage(1, true).unwrap();
            let publisher = world.publisher();
            let tokens = match world.tokens(&mut staging) {
                Ok(tokens) => tokens,
                Err(error) => {
                    // The epoch is given up: the next start discards and reads the rows again.
                    assert_eq!(error.kind(), Kind::Retry, "{error}");
                    world.wait(publisher.discard_except(&[])).unwrap();
                    let mut sink = world.sink("o2");
                    sink.write(world.rows(&both())).unwrap();
                    world.tokens(&mut sink.stage(1, true).unwrap()).unwrap()
                }
            };
            if let Err(error) = world.wait(publisher.publish(&tokens)) {
                assert_eq!(error.kind(), Kind::Retry, "{error}");
                world.wait(publisher.publish(&tokens)).unwrap();
            }
            world.wait(publisher.discard_except(&[])).unwrap();
            expect_shown(&format!("call {call}, {after_effect}"), &world, &both());
            assert!(world.files("lake/_tributary").is_empty());
            if !store.has_failed() {
                assert!(call >= 9, "three files are put, copied and deleted");
                break;
            }
        }
    }
}

#[test]
fn a_lost_file_and_another_file_are_told_and_nothing_is_overwritten() {
    let like_s3 = Arc::new(FlakyStore::failing(-1, false));
    for world in [
        World::local("parquet"),
        World::in_memory("filesystem", "parquet"),
        World::new("filesystem", "parquet", like_s3),
    ] {
        let mut sink = world.sink("o1");
        sink.write(world.rows(&FIRST[..1])).unwrap();
        let mut staging = sink.stage(1, true).unwrap();
        let tokens = world.tokens(&mut staging).unwrap();
        let final_path = format!("lake/t/{}", tokens[0].name);

        let publisher = world.publisher();
        let location = Path::parse(&final_path).unwrap();
        world
            .wait(world.store.put(&location, "somebody else's".into()))
            .unwrap();
        let error = world.wait(publisher.publish(&tokens)).unwrap_err();
        assert_eq!(error.kind(), Kind::Bug);
        assert_eq!(world.bytes(&final_path), "somebody else's");
        assert_eq!(
            world.files("lake/_tributary").len(),
            1,
            "the staged file is kept"
        );

        world.wait(world.store.delete(&location)).unwrap();
        world.wait(publisher.discard_except(&[])).unwrap();
        let error = world.wait(publisher.publish(&tokens)).unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        let message = error.to_string();
        assert!(message.contains(&final_path) && message.contains("lake/_tributary/staged/job/t/"));
    }
}

#[test]
fn a_file_that_compaction_merged_is_not_lost() {
    let world = World::local("parquet");
    let mut sink = world.sink("o1");
    sink.write(world.rows(&FIRST)).unwrap();
    let tokens = world.tokens(&mut sink.stage(1, true).unwrap()).unwrap();
    let publisher = world.publisher();
    world.wait(publisher.publish(&tokens)).unwrap();
    for token in &tokens {
        let shown = Path::parse(format!("lake/t/{}", token.name)).unwrap();
        world.wait(world.store.delete(&shown)).unwrap();
    }
    let record = |table: &str, version: u32| {
        let names = tokens.iter().map(|token| token.name.clone());
        let record = Merged {
            version,
            tables: [(table.to_string(), names.collect())].into(),
        };
        let path = merged::records(&Path::from("lake")).join("run.json");
        let json = serde_json::to_vec(&record).unwrap();
        world.wait(world.store.put(&path, json.into())).unwrap();
    };
    record("other", merged::VERSION);
    let error = world.wait(publisher.publish(&tokens)).unwrap_err();
    assert_eq!(error.kind(), Kind::Data, "{error}");
    record("t", merged::VERSION);
    world.wait(publisher.publish(&tokens)).unwrap();
    expect_shown("merged", &world, &[]);
    record("t", merged::VERSION + 1);
    let error = world.wait(publisher.publish(&tokens)).unwrap_err();
    assert_eq!(error.kind(), Kind::Job, "{error}");
}

#[test]
fn jobs_that_share_a_lake_leave_each_others_files_alone() {
    let world = World::local("parquet");
    let mut sink = world.sink("o1");
    sink.write(world.rows(&FIRST)).unwrap();
    let tokens = world.tokens(&mut sink.stage(1, true).unwrap()).unwrap();
    let mut other = world.context("o2");
    other.job = "other".into();
    let others = super::publisher(&world.table, &other).unwrap();
    world.wait(others.discard_except(&[])).unwrap();
    world.wait(world.publisher().publish(&tokens)).unwrap();
    expect_shown("shared", &world, &[FIRST[0], FIRST[1], FIRST[2]]);
}

#[test]
fn two_sinks_of_one_table_make_different_files() {
    let world = World::local("parquet");
    let context = world.context("o1");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let mut sink = super::open(&world.table, &context).unwrap();
        sink.write(world.rows(&FIRST[..1])).unwrap();
        tokens.extend(world.tokens(&mut sink.stage(1, true).unwrap()).unwrap());
    }
    world.wait(world.publisher().publish(&tokens)).unwrap();
    expect_shown("twice", &world, &[FIRST[0], FIRST[0]]);
}

#[test]
fn a_reader_sees_only_whole_published_files() {
    let world = World::local("parquet");
    let folder = world.folder.as_ref().unwrap().0.join("lake/t");
    let published = Arc::new(Mutex::new(HashSet::new()));
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (published, done) = (published.clone(), done.clone());
        move || {
            loop {
                let last = done.load(Ordering::SeqCst);
                let mut rows = 0;
                for file in files_below(&folder) {
                    let name = file.file_name().unwrap().to_string_lossy().to_string();
                    assert!(
                        published.lock().unwrap().contains(&name),
                        "{name} is not published"
                    );
                    rows += count(&parquet_rows(std::fs::read(&file).unwrap().into()));
                }
                if last {
                    return rows;
                }
            }
        }
    });
    let (mut sink, publisher) = (world.sink("o1"), world.publisher());
    for epoch in 0..40 {
        sink.write(world.rows(&both())).unwrap();
        let tokens = world
            .tokens(&mut sink.stage(epoch, epoch % 2 == 1).unwrap())
            .unwrap();
        for token in &tokens {
            let name = token.name.rsplit('/').next().unwrap().to_string();
            published.lock().unwrap().insert(name);
        }
        world.wait(publisher.publish(&tokens)).unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert_eq!(reader.join().unwrap(), 200);
}

/// Every file, whatever its name: a reader may glob as it likes.
fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn what_a_sink_does_not_know_is_refused_with_its_place() {
    let check = |connector: &str, key: &str, value: &str, expected: &str| {
        let mut world = World::in_memory(connector, "parquet");
        world.set(key, value);
        let error = match super::open(&world.table, &world.context("o1")) {
            Ok(_) => panic!("'{key}' = '{value}' was taken"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), Kind::Job);
        assert!(error.to_string().contains(expected), "{error}");
        let checked = super::check(&world.table).unwrap_err();
        assert_eq!(checked.to_string(), error.to_string());
    };
    check(
        "filesystem",
        "auto-compaction",
        "true",
        "'auto-compaction' (line 3, column 5)",
    );
    check("filesystem", "format", "orc", "parquet, json and csv");
    check("filesystem", "path", "s3://bucket", "a folder of its own");
    check(
        "filesystem",
        "sink.rolling-policy.file-size",
        "big",
        "'big' is not a size",
    );
    check(
        "filesystem",
        "tributary.parquet.compression",
        "zstd:99",
        "zstd:1 to zstd:22",
    );
    check(
        "filesystem",
        "tributary.parquet.compresion",
        "snappy",
        "does not know it",
    );
    check("print", "standard-error", "perhaps", "'true' or 'false'");
    check("print", "colour", "red", "'colour'");
    check("jdbc", "connector", "jdbc", "cannot be written to");
}

#[test]
fn carried_rows_of_a_changed_table_are_refused() {
    let world = World::in_memory("filesystem", "parquet");
    let old = world.rows(&FIRST).project(&[0, 2]).unwrap();
    let error = world.sink("o1").restore(old.clone()).unwrap_err();
    assert_eq!(error.kind(), Kind::Job);
    assert_eq!(world.sink("o1").write(old).unwrap_err().kind(), Kind::Bug);
}
