//! What is compacted, and what is left alone.

use super::super::*;
use super::world::*;
use crate::catalog::Partition;
use crate::catalog::owed::OwedTable;
use crate::epoch::{CarriedRef, Checkpoint, EpochStore, Ledger, SinkState, VERSION};
use crate::sink::Token;
use crate::sql::Options as TableOptions;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ipc::writer::StreamWriter;
use std::collections::HashMap;

/// Three partitions of three files each.
fn lake() -> World {
    let world = World::new();
    for (at, folder) in ["dt=a", "dt=b", "dt=c"].into_iter().enumerate() {
        for number in 0..3 {
            let id = (at * 10 + number) as i64;
            world.publish(folder, &format!("part-{number}.parquet"), &[id]);
        }
    }
    world
}

/// How many files each partition has once the table was compacted, and what was said.
async fn compacted(world: &World, compaction: Compaction) -> (Vec<usize>, Vec<String>) {
    compaction.run().await.unwrap();
    world.check_end();
    let files = ["t/dt=a", "t/dt=b", "t/dt=c"].map(|folder| world.files(folder).len());
    (files.to_vec(), world.log.lock().unwrap().clone())
}

fn table() -> TableSpec {
    TableSpec {
        schema: Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("dt", DataType::Utf8, true),
        ])),
        partitioned_by: vec!["dt".into()],
        primary_key: vec![],
        metadata: Default::default(),
        options: TableOptions::default(),
        ..TableSpec::unknown("t")
    }
}

fn writer(world: &World) -> Writer {
    Writer {
        store: EpochStore::new(world.at.folder("checkpoints"), "job"),
        tables: vec![table()],
        may_be_new: false,
    }
}

/// A blob as docs/checkpoint-format.md describes it.
fn segment(dt: &str) -> Vec<u8> {
    let version = HashMap::from([("tributary.version".to_string(), "1".to_string())]);
    let schema = Arc::new(table().schema.as_ref().clone().with_metadata(version));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1])),
        Arc::new(StringArray::from(vec![dt])),
    ];
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
    writer
        .write(&RecordBatch::try_new(schema, columns).unwrap())
        .unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// An epoch that shows a file in `shown`, and carries rows of `carried`.
async fn commit(store: &EpochStore, epoch: u64, shown: &str, carried: &str) {
    let bytes = segment(carried);
    let blob = format!("state/{epoch}");
    let part = CarriedRef {
        lane: 0,
        file: 0,
        blob: blob.clone(),
        offset: 0,
        rows: 1,
        bytes: bytes.len() as u64,
        xxh3: None,
    };
    store.put_blob(&blob, bytes.into()).await.unwrap();
    let token = Token {
        name: format!("{shown}/part-2.parquet"),
        rows: 1,
        bytes: 1,
    };
    let sink = SinkState {
        tokens: vec![token],
        carried: vec![part],
    };
    let checkpoint = Checkpoint {
        version: VERSION,
        job: "job".into(),
        epoch,
        owner: Owner::this_process(),
        committed_at_ms: 0,
        interval_ms: 10_000,
        released: false,
        sources: BTreeMap::new(),
        progress: BTreeMap::new(),
        nodes: None,
        state: Vec::new(),
        sinks: BTreeMap::from([("t".to_string(), sink)]),
        ledger: Ledger::default(),
        catalog: Default::default(),
    };
    store.commit(&checkpoint).await.unwrap();
}

#[tokio::test]
async fn what_the_latest_epoch_names_or_carries_is_left_alone() {
    let world = lake();
    let mut compaction = world.compaction();
    let writer = writer(&world);
    commit(&writer.store, 1, "dt=c", "c").await;
    commit(&writer.store, 2, "dt=a", "b").await;
    compaction.writer = Some(writer);
    let (files, log) = compacted(&world, compaction).await;
    assert_eq!(files, [3, 3, 1]);
    assert_eq!(
        log,
        [
            "t/dt=a: the job is still writing it",
            "t/dt=b: the job is still writing it"
        ]
    );
}

#[tokio::test]
async fn what_the_job_waits_for_to_be_complete_is_left_alone() {
    let world = lake();
    let mut compaction = world.compaction();
    let writer = writer(&world);
    commit(&writer.store, 1, "dt=c", "c").await;
    let mut next = writer.store.latest().await.unwrap().unwrap();
    next.epoch = 2;
    let incomplete = BTreeMap::from([("dt=b".to_string(), 0)]);
    next.catalog.tables = BTreeMap::from([(
        "t".to_string(),
        OwedTable {
            incomplete,
            ..OwedTable::default()
        },
    )]);
    writer.store.commit(&next).await.unwrap();
    compaction.writer = Some(writer);
    let (files, log) = compacted(&world, compaction).await;
    assert_eq!(files, [1, 3, 3]);
    assert!(log[0].starts_with("t/dt=b: "), "{log:?}");
}

#[tokio::test]
async fn a_job_without_an_epoch_is_no_job() {
    let world = lake();
    let mut compaction = world.compaction();
    compaction.writer = Some(writer(&world));
    let error = compaction.run().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().contains("no epoch of job 'job'"),
        "{error}"
    );
    let mut compaction = world.offline();
    compaction.writer = Some(Writer {
        may_be_new: true,
        ..writer(&world)
    });
    assert_eq!(compacted(&world, compaction).await.0, [1, 1, 1]);
}

#[tokio::test]
async fn files_that_are_staged_still_stay() {
    let world = lake();
    world.put("_tributary/staged/job/t/part-0.parquet", file(&[0]));
    let (files, _) = compacted(&world, world.compaction()).await;
    assert_eq!(files, [2, 2, 2]);
    assert!(
        world
            .files("t/dt=a")
            .contains(&"lake/t/dt=a/part-0.parquet".to_string())
    );
}

#[tokio::test]
async fn young_partitions_are_left_alone_unless_the_job_tells() {
    let world = lake();
    let mut compaction = world.compaction();
    compaction.options.older_than = Duration::from_secs(48 * 3600);
    let (files, log) = compacted(&world, compaction).await;
    assert_eq!(files, [3, 3, 3]);
    assert!(log[0].contains("--older-than"), "{log:?}");

    let mut compaction = world.compaction();
    compaction.options.older_than = Duration::from_secs(48 * 3600);
    compaction.tables[0].tells_complete = true;
    assert_eq!(compacted(&world, compaction).await.0, [1, 1, 1]);
}

#[tokio::test]
async fn a_partition_that_the_catalog_has_elsewhere_is_left_alone() {
    let world = lake();
    let elsewhere = Partition {
        values: vec!["b".into()],
        location: "memory://other/t/dt=b".into(),
    };
    now(world
        .catalog
        .move_partition(&world.definition(), &elsewhere))
    .unwrap();
    world.compaction().run().await.unwrap();
    assert_eq!(world.files("t/dt=b").len(), 3);
    assert_eq!(world.files("t/dt=a").len(), 1);
    let log = world.log.lock().unwrap();
    assert_eq!(
        log[..],
        ["t/dt=b: the catalog does not have it in this place"]
    );
}

/// Why a table is not compacted while it is read.
async fn refused(world: &World, compaction: &Compaction) -> String {
    let error = compaction.run().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--offline"), "{error}");
    std::mem::take(&mut *world.log.lock().unwrap()).remove(0)
}

#[tokio::test]
async fn what_no_catalog_can_swap_wants_to_be_offline() {
    let world = lake();
    let mut compaction = world.compaction();
    compaction.catalog = None;
    let why = refused(&world, &compaction).await;
    assert_eq!(
        why,
        "t/: it is not registered in a catalog, so it wants --offline"
    );

    let mut compaction = world.compaction();
    compaction.tables[0].registered = None;
    assert!(
        refused(&world, &compaction)
            .await
            .contains("not registered")
    );

    compaction.tables[0].registered = Some(Registration {
        database: "d".into(),
        table: "other".into(),
    });
    assert!(
        refused(&world, &compaction)
            .await
            .contains("no table d.other")
    );

    let mut definition = world.definition();
    definition
        .parameters
        .insert("projection.enabled".into(), "TRUE".into());
    now(world.catalog.update_table(&definition)).unwrap();
    let compaction = world.compaction();
    assert!(refused(&world, &compaction).await.contains("projected"));
    assert_eq!(compacted(&world, world.offline()).await.0, [1, 1, 1]);
}

#[tokio::test]
async fn where_there_is_no_table_there_is_nothing_to_do() {
    let world = World::new();
    let mut compaction = world.offline();
    compaction.tables.clear();
    assert!(compaction.run().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_survey_changes_nothing() {
    let world = lake();
    let before = world.files("");
    let survey = world.compaction().survey().await.unwrap();
    let saved = &survey.estimate(1 << 20)["t"];
    assert_eq!(
        (saved.partitions, saved.files_before, saved.files_after),
        (3, 9, 3)
    );
    assert_eq!(world.files(""), before);
}
