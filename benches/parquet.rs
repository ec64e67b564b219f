//! How fast one thread turns batches into Parquet, and how large the files are, for the readings of the emergency job.
//!
//!     cargo bench --bench parquet [-- ROWS]
//!
//! First Parquet alone, for choices of compression and dictionary; then the whole sink, with its partitions, its rows kept
//! for the checkpoint and its uploads into a store in memory.

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;
use tributary::clock::SystemClock;
use tributary::sink::memory::MemoryTables;
use tributary::sink::{self, RecordLimits, SinkContext, TableSpec, Uploads};
use tributary::sql::{OptionValue, Options, Place};

const BATCH: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = std::env::args()
        .skip(1)
        .find_map(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let batches = readings(rows, false)?;
    println!("{rows} readings, one thread\n");
    println!(
        "{:<44} {:>10} {:>9} {:>9}",
        "Parquet alone", "rows/s", "MB/s out", "bytes/row"
    );
    let zstd = |level| ZstdLevel::try_new(level).map(Compression::ZSTD);
    for (name, compression) in [
        ("uncompressed", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("zstd(1)", zstd(1)?),
        ("zstd(3)", zstd(3)?),
        ("zstd(6)", zstd(6)?),
    ] {
        for (dictionary, limit) in [
            ("no dictionary", 0),
            ("dictionary to 128 KiB", 128 << 10),
            ("dictionary to 1 MiB", 1 << 20),
        ] {
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_dictionary_enabled(limit > 0)
                .set_dictionary_page_size_limit(limit.max(1));
            measure(&format!("{name}, {dictionary}"), rows, || {
                alone(&batches, properties.clone())
            })?;
        }
    }
    println!();
    println!(
        "{:<44} {:>10} {:>9} {:>9}",
        "the whole sink", "rows/s", "MB/s out", "bytes/row"
    );
    for compression in ["snappy", "zstd(1)", "zstd(3)"] {
        measure(compression, rows, || whole(&batches, compression))?;
    }
    let mixed = readings(rows, true)?;
    measure("zstd(1), rows of two hours mixed", rows, || {
        whole(&mixed, "zstd(1)")
    })?;
    Ok(())
}

/// The best of three.
fn measure(
    name: &str,
    rows: usize,
    run: impl Fn() -> Result<u64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..3 {
        let start = Instant::now();
        bytes = run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (rows, bytes) = (rows as f64, bytes as f64);
    let (speed, throughput) = (rows / best, bytes / best / 1e6);
    println!(
        "{name:<44} {speed:>10.0} {throughput:>9.0} {:>9.1}",
        bytes / rows
    );
    Ok(())
}

fn alone(
    batches: &[RecordBatch],
    properties: WriterPropertiesBuilder,
) -> Result<u64, Box<dyn Error>> {
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties.build()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.len() as u64)
}

fn whole(batches: &[RecordBatch], compression: &str) -> Result<u64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    let store = Arc::new(InMemory::new());
    let options = [
        ("connector", "filesystem"),
        ("format", "parquet"),
        ("path", "lake/patient_data"),
        ("tributary.parquet.compression", compression),
    ];
    let entry = |(key, value): (&str, &str)| {
        (
            key.to_string(),
            OptionValue {
                value: value.to_string(),
                place: Place::default(),
            },
        )
    };
    let table = TableSpec {
        name: "patient_data".to_string(),
        schema: batches[0].schema(),
        partitioned_by: vec!["dt".to_string(), "hour".to_string()],
        primary_key: vec![],
        metadata: Default::default(),
        options: Options {
            entries: options.into_iter().map(entry).collect(),
        },
    };
    let context = SinkContext {
        job: "bench".to_string(),
        owner: "bench".to_string(),
        lane: 0,
        stores: Arc::new(move |url| Ok((store.clone(), Path::from(url)))),
        runtime: runtime.handle().clone(),
        clock: Arc::new(SystemClock),
        checkpoints: "checkpoints".to_string(),
        uploads: Uploads::with_limit(64 << 20),
        limits: RecordLimits::default(),
        registries: tributary::registry::none(),
        memory: MemoryTables::default(),
    };
    let mut sink = sink::open(&table, &context)?;
    for batch in batches {
        sink.write(batch.clone())?;
    }
    let staging = sink.stage(1, true)?;
    let tokens = runtime.block_on(futures::future::try_join_all(staging.tokens))?;
    Ok(tokens.iter().map(|token| token.bytes).sum())
}

/// Readings as the job's producer makes them: a new id each, 10,000 patients, a reading every 10 ms. Mixed: of each two
/// rows that follow each other one belongs to the next hour, or none, or both.
fn readings(rows: usize, mixed: bool) -> Result<Vec<RecordBatch>, Box<dyn Error>> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..rows)
        .step_by(BATCH)
        .map(|start| {
            let numbers = start..rows.min(start + BATCH);
            let mut double = |from: f64, width: f64| -> ArrayRef {
                Arc::new(Float64Array::from_iter_values(
                    numbers.clone().map(|_| from + random.f64() * width),
                ))
            };
            let (oxygen, vo2) = (double(80.0, 20.0), double(15.0, 35.0));
            let (latitude, longitude) = (double(51.5, 0.1), double(-0.1, 0.1));
            let field = |name| Arc::new(Field::new(name, DataType::Float64, true));
            let location = StructArray::from(vec![
                (field("latitude"), latitude),
                (field("longitude"), longitude),
            ]);
            let mut text = |of: &dyn Fn(&mut fastrand::Rng, usize) -> String| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(
                    numbers.clone().map(|i| of(&mut random, i)),
                ))
            };
            let id = text(&|random, _| uuid(random));
            let patient = text(&|random, i| {
                format!(
                    "{}-{}",
                    if i % 2 == 0 { "ANDROID" } else { "IOS" },
                    random.u32(..10_000)
                )
            });
            let dt = text(&|_, _| "2024-03-01".to_string());
            let hour = text(&|random, i| {
                let late = usize::from(mixed && random.bool());
                format!("{:02}", (i / 360_000 + late) % 24)
            });
            let heart_rate = numbers
                .clone()
                .map(|_| random.i32(50..=200))
                .collect::<Int32Array>();
            let alert = numbers
                .clone()
                .map(|_| Some(random.u8(..10) == 0))
                .collect::<BooleanArray>();
            let timestamp = TimestampMicrosecondArray::from_iter_values(
                numbers
                    .clone()
                    .map(|i| 1_709_251_200_000_000 + 10_000 * i as i64),
            );
            Ok(RecordBatch::try_from_iter_with_nullable([
                ("id", id, true),
                ("patient_id", patient, true),
                ("heart_rate", Arc::new(heart_rate) as ArrayRef, true),
                ("oxygen_saturation", oxygen, true),
                ("vo2_max", vo2, true),
                ("location", Arc::new(location), true),
                ("emergency_alert", Arc::new(alert), true),
                ("timestamp", Arc::new(timestamp), true),
                ("dt", dt, true),
                ("hour", hour, true),
            ])?)
        })
        .collect()
}

fn uuid(random: &mut fastrand::Rng) -> String {
    let hex = format!("{:032x}", random.u128(..));
    let mut text = String::with_capacity(36);
    for (start, end) in [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)] {
        let separator = if start > 0 { "-" } else { "" };
        // Writing into a String cannot fail.
        let _ = write!(text, "{separator}{}", &hex[start..end]);
    }
    text
}
