//! How fast records become columns: `cargo bench --bench decode`. One thread; the best of several rounds, because other
//! processes can only make a round slower.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tributary::source::Records;
use tributary::sql::{Column, ColumnKind, OptionValue, Options, Place, Table};

const RECORDS: usize = 20_000;
const ROUNDS: usize = 15;

fn main() {
    let records = patient_records();
    let schema = patient_schema();
    let bytes = records.byte_size();
    println!("{RECORDS} patient records of {} bytes", bytes / RECORDS);

    let mut all = decoder(&schema);
    report("all columns", bytes, || {
        let decoded = all.decode(&records).expect("no option asks to fail");
        assert_eq!(decoded.batch.num_rows(), RECORDS);
        black_box(decoded);
    });
    let few: SchemaRef = Arc::new(schema.project(&[1, 2]).expect("two of its columns"));
    let mut two = decoder(&few);
    report("patient_id and heart_rate only", bytes, || {
        black_box(two.decode(&records).expect("no option asks to fail"));
    });

    let mut lines = Vec::with_capacity(bytes + RECORDS);
    for at in 0..records.len() {
        lines.extend_from_slice(records.values.get(at));
        lines.push(b'\n');
    }
    report("arrow-json, all columns", bytes, || {
        let builder = arrow::json::ReaderBuilder::new(schema.clone()).with_batch_size(RECORDS);
        let mut decoder = builder
            .build_decoder()
            .expect("types that arrow-json knows");
        decoder.decode(&lines).expect("good records");
        let batch = decoder.flush().expect("good records").expect("some rows");
        assert_eq!(batch.num_rows(), RECORDS);
        black_box(batch);
    });
}

fn report(what: &str, bytes: usize, mut round: impl FnMut()) {
    round();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed());
    }
    let seconds = best.as_secs_f64();
    let records = RECORDS as f64 / seconds / 1e6;
    println!(
        "{what:32} {records:6.2} M records/s {:8.0} MB/s",
        bytes as f64 / seconds / 1e6
    );
}

/// Records like those of the emergency job, in the order and with the spaces that Python writes.
fn patient_records() -> Records {
    let mut random = fastrand::Rng::with_seed(1);
    let mut records = Records::default();
    let mut text = String::new();
    for at in 0..RECORDS {
        text.clear();
        let id = uuid::Builder::from_random_bytes(random.u128(..).to_ne_bytes()).into_uuid();
        let kind = if at % 2 == 0 { "IOS" } else { "ANDROID" };
        let (patient, heart_rate) = (random.u32(0..10_000), random.u32(50..200));
        let (oxygen, vo2) = (80.0 + 20.0 * random.f64(), 15.0 + 35.0 * random.f64());
        let (latitude, longitude) = (51.5 + random.f64() / 10.0, -0.1 + random.f64() / 10.0);
        let alert = random.u8(0..10) == 0;
        let (second, micros) = (at / 100 % 60, at % 100 * 10_000);
        write!(
            text,
            r#"{{"id": "{id}", "patient_id": "{kind}-{patient}", "heart_rate": {heart_rate}, "oxygen_saturation": {oxygen}, "vo2_max": {vo2}, "location": {{"latitude": {latitude}, "longitude": {longitude}}}, "emergency_alert": {alert}, "timestamp": "2024-03-01T00:00:{second:02}.{micros:06}"}}"#
        )
        .expect("a String takes everything");
        records.push(at as i64, 0, None, Some(text.as_bytes()));
    }
    records
}

fn patient_schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let place = ["latitude", "longitude"].map(|name| field(name, DataType::Float64));
    Arc::new(Schema::new(vec![
        field("id", DataType::Utf8),
        field("patient_id", DataType::Utf8),
        field("heart_rate", DataType::Int32),
        field("oxygen_saturation", DataType::Float64),
        field("vo2_max", DataType::Float64),
        field("location", DataType::Struct(place.to_vec().into())),
        field("emergency_alert", DataType::Boolean),
        field(
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
    ]))
}

fn decoder(schema: &SchemaRef) -> Box<dyn tributary::decode::Decoder> {
    let place = Place::default();
    let columns = patient_schema();
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        kind: ColumnKind::Physical {
            data_type: field.data_type().clone(),
            not_null: false,
        },
        comment: None,
        place,
    };
    let option = |(key, value): (&str, &str)| {
        (
            key.to_owned(),
            OptionValue {
                value: value.to_owned(),
                place,
            },
        )
    };
    let options = [
        ("format", "json"),
        ("json.timestamp-format.standard", "ISO-8601"),
    ];
    let table = Table {
        name: "patient_readings".to_owned(),
        columns: columns.fields().iter().map(column).collect(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Options {
            entries: options.map(option).into(),
        },
        comment: None,
        place,
    };
    let required = vec![false; schema.fields().len()];
    tributary::decode::open(&table, schema.clone(), &required).expect("the options are right")
}
