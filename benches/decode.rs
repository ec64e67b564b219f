//! How fast JSON becomes columns, beside arrow-json, on records of many shapes: `cargo bench --profile release --bench decode [-- NAME]`.
//! One thread; the two take turns, and of each the best round counts, because other processes can only make a round slower.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tributary::decode::Decoder;
use tributary::source::Records;
use tributary::sql::{Options, Table};

/// About so many bytes are decoded in a round, as one batch.
const BYTES: usize = 6 << 20;
const ROUNDS: usize = 9;

/// Writes the JSON text of a value.
type Write1 = fn(&mut fastrand::Rng, &mut String);

struct Shape {
    name: &'static str,
    fields: Vec<(String, DataType, Write1)>,
    /// Columns that the job uses; all of them where there are none.
    used: Vec<usize>,
    /// How many of a hundred fields are there.
    present: u32,
    shuffled: bool,
}

fn main() {
    println!("| records | bytes each | M records/s | MB/s | arrow-json, M records/s | ratio |");
    println!("|---|---:|---:|---:|---:|---:|");
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    for shape in shapes().iter().filter(|shape| shape.name.contains(&wanted)) {
        shape.measure();
    }
}

impl Shape {
    fn new(name: &'static str, fields: Vec<(String, DataType, Write1)>) -> Shape {
        Shape {
            name,
            fields,
            used: Vec::new(),
            present: 100,
            shuffled: false,
        }
    }

    fn measure(&self) {
        let records = self.records();
        let schema = self.schema();
        let (count, bytes) = (records.len(), records.byte_size());
        let mut lines = Vec::with_capacity(bytes + count);
        for at in 0..count {
            lines.extend_from_slice(records.values.get(at));
            lines.push(b'\n');
        }
        let mut ours = self.decoder(&schema);
        let decoded = ours.decode(&records).expect("no option asks to fail");
        let expected = by_arrow(&schema, &lines, count);
        assert_eq!(decoded.batch, expected, "{}: both must agree", self.name);
        let (mut best, mut best_of_arrow) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            best = best.min(timed(|| {
                black_box(ours.decode(&records).expect("no option asks to fail"));
            }));
            best_of_arrow = best_of_arrow.min(timed(|| {
                black_box(by_arrow(&schema, &lines, count));
            }));
        }
        let rate = |time: Duration| count as f64 / time.as_secs_f64() / 1e6;
        println!(
            "| {} | {} | {:.2} | {:.0} | {:.2} | {:.1} |",
            self.name,
            bytes / count,
            rate(best),
            bytes as f64 / best.as_secs_f64() / 1e6,
            rate(best_of_arrow),
            best_of_arrow.as_secs_f64() / best.as_secs_f64(),
        );
    }

    fn records(&self) -> Records {
        let mut random = fastrand::Rng::with_seed(1);
        let mut records = Records::default();
        let mut text = String::new();
        let mut order: Vec<usize> = (0..self.fields.len()).collect();
        while records.byte_size() < BYTES {
            if self.shuffled {
                random.shuffle(&mut order);
            }
            text.clear();
            text.push('{');
            for &at in &order {
                if random.u32(0..100) >= self.present {
                    continue;
                }
                let (name, _, write) = &self.fields[at];
                let comma = if text.len() > 1 { ", " } else { "" };
                write!(text, "{comma}\"{name}\": ").expect("a String takes everything");
                write(&mut random, &mut text);
            }
            text.push('}');
            records.push(records.len() as i64, 0, None, Some(text.as_bytes()));
        }
        records
    }

    fn schema(&self) -> SchemaRef {
        let field = |at: usize| {
            let (name, data_type, _) = &self.fields[at];
            Field::new(name, data_type.clone(), true)
        };
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let used = if self.used.is_empty() {
            &all
        } else {
            &self.used
        };
        Arc::new(Schema::new(
            used.iter().map(|at| field(*at)).collect::<Vec<_>>(),
        ))
    }

    fn decoder(&self, schema: &SchemaRef) -> Box<dyn Decoder> {
        let columns = self.fields.iter();
        let columns = columns.map(|(name, data_type, _)| (name.as_str(), data_type.clone()));
        let options = Options::of([
            ("format", "json"),
            ("json.timestamp-format.standard", "ISO-8601"),
        ]);
        let table = Table::of("t", columns, options);
        let required = vec![false; schema.fields().len()];
        tributary::decode::open(&table, schema.clone(), &required).expect("the options are right")
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn by_arrow(schema: &SchemaRef, lines: &[u8], count: usize) -> arrow::array::RecordBatch {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(count);
    let mut decoder = builder
        .build_decoder()
        .expect("types that arrow-json knows");
    decoder.decode(lines).expect("good records");
    decoder.flush().expect("good records").expect("some rows")
}

fn shapes() -> Vec<Shape> {
    let many = |count: usize, write: Write1, data_type: DataType| {
        let field = |at: usize| (format!("column_{at}"), data_type.clone(), write);
        (0..count).map(field).collect::<Vec<_>>()
    };
    let named = |fields: Vec<(&str, DataType, Write1)>| {
        let fields = fields.into_iter();
        fields
            .map(|(name, data_type, write)| (name.to_owned(), data_type, write))
            .collect()
    };
    let mixed = || {
        let mut fields = many(10, word, DataType::Utf8);
        fields
            .extend((10..20).map(|at| (format!("column_{at}"), DataType::Int64, whole as Write1)));
        fields.extend(
            (20..30).map(|at| (format!("column_{at}"), DataType::Float64, double as Write1)),
        );
        fields
    };
    vec![
        Shape::new("patient readings", patient()),
        Shape {
            used: vec![1, 2],
            ..Shape::new("patient readings, 2 of 8 columns", patient())
        },
        Shape::new(
            "small",
            named(vec![
                ("k", DataType::Utf8, word),
                ("n", DataType::Int64, whole),
                ("ok", DataType::Boolean, truth),
            ]),
        ),
        Shape::new("wide: 200 whole numbers", many(200, whole, DataType::Int64)),
        Shape::new("30 columns of three types", mixed()),
        Shape {
            used: vec![3, 17],
            ..Shape::new("30 fields, 2 of them used", mixed())
        },
        Shape {
            shuffled: true,
            ..Shape::new("30 columns, in any order", mixed())
        },
        Shape {
            present: 20,
            ..Shape::new("30 columns, a fifth of them there", mixed())
        },
        Shape::new("doubles of 17 digits", many(12, double, DataType::Float64)),
        Shape::new("long texts", many(2, long_text, DataType::Utf8)),
        Shape::new("texts with escapes", many(6, escaped, DataType::Utf8)),
        Shape::new(
            "times",
            many(6, time, DataType::Timestamp(TimeUnit::Microsecond, None)),
        ),
        Shape::new(
            "arrays",
            many(
                3,
                array,
                DataType::List(Arc::new(Field::new("item", DataType::Int64, true))),
            ),
        ),
        Shape::new(
            "rows in rows",
            named(vec![("outer", nested_type(4), nested)]),
        ),
    ]
}

/// Records like those of the emergency job, in the order and with the blanks that Python writes.
fn patient() -> Vec<(String, DataType, Write1)> {
    let place = ["latitude", "longitude"].map(|name| Field::new(name, DataType::Float64, true));
    let fields: [(&str, DataType, Write1); 8] = [
        ("id", DataType::Utf8, |random, out| {
            let id = uuid::Builder::from_random_bytes(random.u128(..).to_ne_bytes()).into_uuid();
            write!(out, "\"{id}\"").expect("a String takes everything");
        }),
        ("patient_id", DataType::Utf8, |random, out| {
            let kind = if random.bool() { "IOS" } else { "ANDROID" };
            write!(out, "\"{kind}-{}\"", random.u32(0..10_000)).expect("a String takes everything");
        }),
        ("heart_rate", DataType::Int32, |random, out| {
            write!(out, "{}", random.u32(50..200)).expect("a String takes everything");
        }),
        ("oxygen_saturation", DataType::Float64, |random, out| {
            write!(out, "{}", 80.0 + 20.0 * random.f64()).expect("a String takes everything");
        }),
        ("vo2_max", DataType::Float64, |random, out| {
            write!(out, "{}", 15.0 + 35.0 * random.f64()).expect("a String takes everything");
        }),
        (
            "location",
            DataType::Struct(place.to_vec().into()),
            |random, out| {
                let (latitude, longitude) =
                    (51.5 + random.f64() / 10.0, -0.1 + random.f64() / 10.0);
                write!(
                    out,
                    "{{\"latitude\": {latitude}, \"longitude\": {longitude}}}"
                )
                .expect("a String takes everything");
            },
        ),
        ("emergency_alert", DataType::Boolean, |random, out| {
            out.push_str(if random.u8(0..10) == 0 {
                "true"
            } else {
                "false"
            });
        }),
        (
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            time,
        ),
    ];
    fields
        .map(|(name, data_type, write)| (name.to_owned(), data_type, write))
        .into()
}

fn word(random: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    out.extend((0..random.usize(3..12)).map(|_| random.lowercase()));
    out.push('"');
}

fn whole(random: &mut fastrand::Rng, out: &mut String) {
    write!(out, "{}", random.i64(-1_000_000..1_000_000)).expect("a String takes everything");
}

fn double(random: &mut fastrand::Rng, out: &mut String) {
    write!(out, "{}", 100.0 * random.f64()).expect("a String takes everything");
}

fn truth(random: &mut fastrand::Rng, out: &mut String) {
    write!(out, "{}", random.bool()).expect("a String takes everything");
}

fn long_text(random: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    out.extend((0..2_000).map(|_| random.alphanumeric()));
    out.push('"');
}

fn escaped(random: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    for _ in 0..4 {
        out.extend((0..random.usize(3..12)).map(|_| random.lowercase()));
        out.push_str(
            random
                .choice(["\\n", "\\\"", "\\u00e9"])
                .expect("there are three"),
        );
    }
    out.push('"');
}

fn time(random: &mut fastrand::Rng, out: &mut String) {
    let (minute, second, micros) = (
        random.u32(0..60),
        random.u32(0..60),
        random.u32(0..1_000_000),
    );
    write!(out, "\"2024-03-01T10:{minute:02}:{second:02}.{micros:06}\"")
        .expect("a String takes everything");
}

fn array(random: &mut fastrand::Rng, out: &mut String) {
    out.push('[');
    for at in 0..random.usize(0..20) {
        out.push_str(if at > 0 { ", " } else { "" });
        whole(random, out);
    }
    out.push(']');
}

fn nested_type(depth: usize) -> DataType {
    let inner = match depth {
        0 => DataType::Int64,
        _ => nested_type(depth - 1),
    };
    let fields = vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("inner", inner, true),
    ];
    DataType::Struct(fields.into())
}

fn nested(random: &mut fastrand::Rng, out: &mut String) {
    for _ in 0..=4 {
        out.push_str("{\"name\": ");
        word(random, out);
        out.push_str(", \"inner\": ");
    }
    whole(random, out);
    out.push_str("}}}}}");
}
