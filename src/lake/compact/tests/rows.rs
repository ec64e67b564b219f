//! The rows of the large files are those of the small ones, in the columns that the sink writes.

use super::super::rows::Sum;
use super::super::*;
use super::world::*;
use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray, TimestampMillisecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;

fn bytes(world: &World, path: &str) -> Bytes {
    let path = Path::parse(path).unwrap();
    now(async { world.at.store.get(&path).await.unwrap().bytes().await }).unwrap()
}

fn schema(bytes: Bytes) -> String {
    let reader = SerializedFileReader::new(bytes).unwrap();
    let mut text = Vec::new();
    print_schema(&mut text, reader.metadata().file_metadata().schema());
    String::from_utf8(text).unwrap()
}

/// Puts files into one partition and compacts it; the rows come back, file by file.
async fn compacted(files: &[Vec<u8>], change: impl FnOnce(&mut Compaction)) -> (World, Vec<Bytes>) {
    let world = World::new();
    world.register("dt=a");
    for (number, file) in files.iter().enumerate() {
        world.put(&format!("t/dt=a/part-{number}.parquet"), file.clone());
    }
    let mut compaction = world.compaction();
    change(&mut compaction);
    compaction.run().await.unwrap();
    let found = world.files("t/dt=a");
    let found = found.iter().map(|path| bytes(&world, path)).collect();
    (world, found)
}

fn in_order(files: &[Bytes]) -> Vec<i64> {
    files.iter().flat_map(|file| ids(file.clone())).collect()
}

#[tokio::test]
async fn rows_keep_their_order_or_are_sorted() {
    let files = [file(&[5, 1]), file(&[4, 2]), file(&[3])];
    let (_, found) = compacted(&files, |_| {}).await;
    assert_eq!(found.len(), 1);
    assert_eq!(in_order(&found), [5, 1, 4, 2, 3]);
    let by = |columns: &'static [&'static str]| {
        move |compaction: &mut Compaction| {
            let columns = columns.iter().map(|name| name.to_string());
            compaction.tables[0].sort = Sort::Usual(columns.collect());
        }
    };
    let (_, found) = compacted(&files, by(&["dt", "id"])).await;
    assert_eq!(in_order(&found), [1, 2, 3, 4, 5]);
    let (_, found) = compacted(&files, by(&["name", "id"])).await;
    assert_eq!(in_order(&found), [3, 1, 2, 4, 5], "NULL comes first");
}

#[tokio::test]
async fn more_than_fits_into_the_memory_is_sorted_on_disk() {
    let rows = 300_000;
    let wide = |part: i64| {
        let ids = (0..rows).map(|at| (at * 7_919 + part) % rows * 8 + part);
        let ids = Int64Array::from_iter_values(ids);
        let text = ids
            .values()
            .iter()
            .map(|id| format!("{:064}", id.wrapping_mul(0x9e37_79b9)));
        let text = StringArray::from_iter_values(text);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(ids) as ArrayRef, true),
            ("text", Arc::new(text) as ArrayRef, true),
        ]);
        file_of(&batch.unwrap())
    };
    let files: Vec<_> = (0..4).map(wide).collect();
    let (_, found) = compacted(&files, |compaction| {
        compaction.options.target = 20 << 20;
        compaction.tables[0].sort = Sort::Asked(vec!["id".into()]);
    })
    .await;
    let mut all = in_order(&found);
    assert!(all.is_sorted());
    all.dedup();
    assert_eq!(all.len() as i64, 4 * rows);
}

#[tokio::test]
async fn large_files_are_about_as_large_as_they_shall_be() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut noise = |first: i64| {
        let ids = Int64Array::from_iter_values(first..first + 10_000);
        let text = (0..10_000).map(|_| format!("{:032x}", random.u128(..)));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(ids) as ArrayRef, true),
            (
                "text",
                Arc::new(StringArray::from_iter_values(text)) as ArrayRef,
                true,
            ),
        ]);
        file_of(&batch.unwrap())
    };
    let files: Vec<_> = (0..9).map(|part| noise(part * 10_000)).collect();
    let (_, found) = compacted(&files, |_| {}).await;
    let sizes: Vec<usize> = found.iter().map(Bytes::len).collect();
    assert!((2..=3).contains(&sizes.len()), "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 3 << 19), "{sizes:?}");
    assert!(in_order(&found).is_sorted());
}

/// One row of every shape that the emergency job has.
fn shapes(id: i64) -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a"), None]);
    let place = StructArray::from(vec![(
        Arc::new(Field::new("latitude", DataType::Float64, true)),
        Arc::new(arrow::array::Float64Array::from(vec![51.5])) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![id]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![id]))),
        ("place", Arc::new(place)),
        ("tags", Arc::new(tags.finish())),
        ("ok", Arc::new(arrow::array::BooleanArray::from(vec![true]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn every_column_is_as_the_sink_writes_it() {
    let files = [file_of(&shapes(1)), file_of(&shapes(2))];
    let (_, found) = compacted(&files, |_| {}).await;
    assert_eq!(found.len(), 1);
    assert_eq!(schema(found[0].clone()), schema(files[0].clone().into()));
    let parts: Vec<_> = files
        .iter()
        .flat_map(|file| batches(file.clone().into()))
        .collect();
    let whole = concat_batches(&parts[0].schema(), &parts).unwrap();
    assert_eq!(batches(found[0].clone()), [whole]);
    let footer = SerializedFileReader::new(found[0].clone()).unwrap();
    let file = footer.metadata().file_metadata();
    assert_eq!(file.created_by(), Some("tributary"));
    assert!(file.key_value_metadata().is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn a_column_that_came_later_is_null_before() {
    let newer = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![2])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("more", Arc::new(Int32Array::from(vec![7])) as ArrayRef),
    ]);
    let files = [file(&[1]), file_of(&newer.unwrap())];
    let (_, found) = compacted(&files, |_| {}).await;
    let rows = batches(found[0].clone()).remove(0);
    assert_eq!(found.len(), 1);
    assert_eq!(rows["more"].null_count(), 1);
    assert_eq!(
        rows["id"].as_primitive::<Int64Type>().values().to_vec(),
        [1, 2]
    );
}

#[tokio::test]
async fn files_that_would_change_stay_as_they_are() {
    let plain = |batch: &RecordBatch| {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    // Milliseconds, and lists whose members have another name.
    let foreign = plain(&shapes(3));
    let files = [file_of(&shapes(1)), foreign.clone(), file_of(&shapes(2))];
    let (_, found) = compacted(&files, |_| {}).await;
    assert_eq!(found.len(), 2);
    assert!(found.contains(&Bytes::from(foreign.clone())));

    let (world, found) = compacted(&[foreign.clone(), foreign], |_| {}).await;
    assert_eq!(found.len(), 2);
    assert!(
        world.log.lock().unwrap()[0].contains("unlike"),
        "{:?}",
        world.log
    );

    let other =
        RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![7])) as ArrayRef)]);
    let files = [file(&[1]), file_of(&other.unwrap())];
    assert_eq!(compacted(&files, |_| {}).await.1.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_none_leaves_its_partition_alone() {
    let files = [
        file(&[1]),
        file(&[2]),
        b"no Parquet at all, but long enough".to_vec(),
    ];
    let (world, found) = compacted(&files, |_| {}).await;
    assert_eq!(found.len(), 3);
    let log = world.log.lock().unwrap();
    assert!(log[0].contains("part-2.parquet"), "{log:?}");
}

#[test]
fn the_sum_knows_rows_and_not_their_order() {
    let of = |rows: &[(i64, Option<&str>)]| {
        let mut sum = Sum::default();
        for row in rows {
            let batch = RecordBatch::try_from_iter_with_nullable([
                (
                    "id",
                    Arc::new(Int64Array::from(vec![row.0])) as ArrayRef,
                    true,
                ),
                (
                    "name",
                    Arc::new(StringArray::from(vec![row.1])) as ArrayRef,
                    true,
                ),
            ]);
            sum.add(&batch.unwrap()).unwrap();
        }
        sum
    };
    let (a, b, c) = ((1, Some("x")), (2, Some("y")), (1, None));
    assert_eq!(of(&[a, b, c]), of(&[c, a, b]));
    assert_ne!(of(&[a, b]), of(&[a, c]));
    assert_ne!(of(&[a, b]), of(&[(1, Some("y")), (2, Some("x"))]));
    assert_ne!(of(&[a, a, b]), of(&[a, b, b]));
    assert_ne!(of(&[a]), of(&[a, a]));
}
