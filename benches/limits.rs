//! How fast this machine can be at all: librdkafka consumes, one thread decodes JSON, one thread encodes Parquet, each alone, on
//! the patient records that `benches/peers/run` has loaded, which calls it.
//!
//!     cargo bench --profile release --bench limits -- BOOTSTRAP_SERVERS

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tributary::decode::{self, Decoder};
use tributary::source::Records;
use tributary::sql::{Options, Table};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TOPIC: &str = "patient_data";
const PATIENCE: Duration = Duration::from_secs(10);
/// Records in a run, as the engine has them.
const RUN: usize = 16 * 1024;
/// Runs that are decoded and encoded; all would take too much memory.
const RUNS: usize = 30;
const ROUNDS: usize = 3;

fn main() -> Fallible<()> {
    let Some(servers) = std::env::args().skip(1).find(|text| !text.starts_with('-')) else {
        println!("limits: left out, for it needs a Kafka that benches/peers/run has loaded");
        return Ok(());
    };
    println!("| limit, patient records | threads | million records/s |");
    println!("|---|---:|---:|");
    for threads in [1, 2] {
        best("librdkafka consumes", threads, || {
            on_threads(&servers, threads)
        })?;
    }

    let mut runs: Vec<Records> = Vec::new();
    consume(&servers, 0, 1, |payload| {
        if runs.last().is_none_or(|run| run.len() == RUN) {
            runs.push(Records::default());
        }
        if runs.len() <= RUNS
            && let Some(run) = runs.last_mut()
        {
            run.push(run.len() as i64, 0, None, Some(payload));
        }
    })?;
    runs.truncate(RUNS);
    let count: usize = runs.iter().map(Records::len).sum();
    let mut decoder = decoder()?;
    best("JSON is decoded", 1, || {
        let start = Instant::now();
        for run in &runs {
            black_box(decoder.decode(run)?);
        }
        Ok((count, start.elapsed()))
    })?;

    let batches = runs
        .iter()
        .map(|run| Ok(decoder.decode(run)?.batch))
        .collect::<Fallible<Vec<RecordBatch>>>()?;
    best("Parquet is encoded", 1, || {
        let start = Instant::now();
        black_box(encode(&batches)?);
        Ok((count, start.elapsed()))
    })
}

/// Other programs can only make a round slower.
fn best(
    what: &str,
    threads: usize,
    mut round: impl FnMut() -> Fallible<(usize, Duration)>,
) -> Fallible<()> {
    let mut rate = 0.0_f64;
    for _ in 0..ROUNDS {
        let (count, time) = round()?;
        rate = rate.max(count as f64 / time.as_secs_f64() / 1e6);
    }
    println!("| {what} | {threads} | {rate:.2} |");
    Ok(())
}

/// Each thread has a client of its own and its share of the partitions; the slowest decides.
fn on_threads(servers: &str, threads: usize) -> Fallible<(usize, Duration)> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|share| {
                scope.spawn(move || {
                    consume(servers, share, threads, |payload| {
                        black_box(payload);
                    })
                })
            })
            .collect();
        let (mut count, mut time) = (0, Duration::ZERO);
        for thread in running {
            let (some, took) = thread.join().expect("what it calls returns its errors")?;
            count += some;
            time = time.max(took);
        }
        Ok((count, time))
    })
}

/// Reads every `of`th partition to its end: how many records there were, and how long it took from the first connection.
fn consume(
    servers: &str,
    share: usize,
    of: usize,
    mut take: impl FnMut(&[u8]),
) -> Fallible<(usize, Duration)> {
    let start = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "limits")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.max.messages.kbytes", "65536")
        .set("queued.min.messages", "100000")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE)?;
    let topic = metadata.topics().first().ok_or("there is no such topic")?;
    let (mut assigned, mut count) = (TopicPartitionList::new(), 0);
    for partition in topic.partitions().iter().skip(share).step_by(of) {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition.id(), PATIENCE)?;
        assigned.add_partition_offset(TOPIC, partition.id(), Offset::Offset(low))?;
        count += usize::try_from(high - low)?;
    }
    consumer.assign(&assigned)?;
    for _ in 0..count {
        let message = consumer
            .poll(PATIENCE)
            .ok_or("nothing came for a while")??;
        take(message.payload().unwrap_or_default());
    }
    Ok((count, start.elapsed()))
}

/// All columns of a patient record.
fn decoder() -> Fallible<Box<dyn Decoder>> {
    let place = ["latitude", "longitude"].map(|name| Field::new(name, DataType::Float64, true));
    let columns = [
        ("id", DataType::Utf8),
        ("patient_id", DataType::Utf8),
        ("heart_rate", DataType::Int32),
        ("oxygen_saturation", DataType::Float64),
        ("vo2_max", DataType::Float64),
        ("location", DataType::Struct(place.to_vec().into())),
        ("emergency_alert", DataType::Boolean),
        (
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
    ];
    let options = Options::of([
        ("format", "json"),
        ("json.timestamp-format.standard", "ISO-8601"),
    ]);
    let table = Table::of(TOPIC, columns.iter().cloned(), options);
    let required = vec![false; columns.len()];
    let fields = columns.map(|(name, data_type)| Field::new(name, data_type, true));
    let schema = Arc::new(Schema::new(Vec::from(fields)));
    Ok(decode::open(&table, schema, &required)?)
}

/// One file, as the sink writes it: zstd(1), small dictionaries, and none for measurements.
fn encode(batches: &[RecordBatch]) -> Fallible<usize> {
    let measurements: [&[&str]; 4] = [
        &["oxygen_saturation"],
        &["vo2_max"],
        &["location", "latitude"],
        &["location", "longitude"],
    ];
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_page_size_limit(128 << 10);
    for path in measurements {
        let path = ColumnPath::new(path.iter().map(|&part| part.to_owned()).collect());
        properties = properties.set_column_dictionary_enabled(path, false);
    }
    let schema = batches.first().ok_or("the topic is empty")?.schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.len())
}
