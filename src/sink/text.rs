//! Lines of text: a JSON object each, or CSV, as Flink writes them into files and records.

use super::options::TableSpec;
use super::unholdable;
use crate::error::{Error, Result};
use crate::sql::csv::CsvOptions;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, PrimitiveArray, StringArray,
};
use arrow::compute::cast;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, make_encoder,
};
use arrow::record_batch::RecordBatch;
use std::io::Write;
use std::sync::{Arc, LazyLock};

/// How the lines of one table are written.
#[derive(Debug, Clone)]
pub(super) enum TextFormat {
    Json {
        timestamps: Timestamps,
        explicit_nulls: bool,
    },
    Csv {
        delimiter: u8,
        quote: u8,
        null: String,
    },
}

/// `json.timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamps {
    /// `2024-03-01 07:15:00.123`
    Sql,
    /// `2024-03-01T07:15:00.123`
    Iso,
}

impl Timestamps {
    fn without_zone(self) -> String {
        let separator = if self == Timestamps::Sql { ' ' } else { 'T' };
        format!("%Y-%m-%d{separator}%H:%M:%S%.f")
    }

    /// TIMESTAMP_LTZ is told in UTC, with a Z, whatever the session's zone.
    fn with_zone(self) -> String {
        self.without_zone() + "Z"
    }
}

const TIMESTAMPS: &str = "json.timestamp-format.standard";
const IGNORE_NULLS: &str = "json.encode.ignore-null-fields";
const DELIMITER: &str = "csv.field-delimiter";
const QUOTE: &str = "csv.quote-character";
const NO_QUOTE: &str = "csv.disable-quote-character";
const ESCAPE: &str = "csv.escape-character";
const NULL: &str = "csv.null-literal";

impl TextFormat {
    pub const JSON_KEYS: [&str; 2] = [TIMESTAMPS, IGNORE_NULLS];
    pub const CSV_KEYS: [&str; 4] = [DELIMITER, QUOTE, ESCAPE, NULL];

    /// For files with these columns of the table.
    pub fn json(table: &TableSpec, columns: &[usize]) -> Result<TextFormat> {
        refuse_types(table, columns, "json", &|data_type| {
            matches!(data_type, DataType::Binary)
        })?;
        let timestamps = match table.get(TIMESTAMPS) {
            None | Some("SQL") => Timestamps::Sql,
            Some("ISO-8601") => Timestamps::Iso,
            Some(other) => {
                return Err(table.refuse(TIMESTAMPS, format!("'{other}' is not SQL or ISO-8601")));
            }
        };
        let explicit_nulls = !table.flag(IGNORE_NULLS)?.unwrap_or(false);
        Ok(TextFormat::Json {
            timestamps,
            explicit_nulls,
        })
    }

    /// For files with these columns of the table.
    pub fn csv(table: &TableSpec, columns: &[usize]) -> Result<TextFormat> {
        refuse_types(table, columns, "csv", &|data_type| {
            data_type.is_nested() || matches!(data_type, DataType::Binary)
        })?;
        let options = CsvOptions::of(|name| table.get(&format!("csv.{name}")))
            .map_err(|wrong| table.refuse(&format!("csv.{}", wrong.option), wrong.what))?;
        if options.escape.is_some() {
            // It would have to stand before itself too, in every field, which no writer of CSV does.
            return Err(table.refuse(
                ESCAPE,
                "is only for tables that are read: without it quotes are doubled, which everybody reads; remove it",
            ));
        }
        // They are ASCII where fields are quoted.
        let byte = |char: char| u8::try_from(char).ok();
        let quote = options.quote.and_then(byte);
        Ok(TextFormat::Csv {
            delimiter: byte(options.delimiter).unwrap_or(b','),
            quote: quote.ok_or_else(|| {
                table.refuse(NO_QUOTE, "is only for tables that are read; remove it")
            })?,
            null: options.null.unwrap_or_default(),
        })
    }
}

impl TextFormat {
    /// Each row by itself, without a line's end. Fails where one of them cannot be a text.
    pub fn rows(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        unholdable::refuse(rows)?;
        let mut text = Vec::new();
        let mut records = BinaryBuilder::with_capacity(rows.num_rows(), 0);
        if rows.num_columns() == 0 {
            let nothing = match self {
                TextFormat::Json { .. } => "{}",
                TextFormat::Csv { .. } => "",
            };
            (0..rows.num_rows()).for_each(|_| records.append_value(nothing));
            return Ok(records.finish());
        }
        match self {
            // A line break inside a value is written as an escape, so lines are rows.
            TextFormat::Json { .. } => {
                self.lines(rows, &mut text)?;
                let lines = text.split(|byte| *byte == b'\n');
                let lines = lines.filter(|line| !line.is_empty());
                lines.for_each(|line| records.append_value(line));
            }
            TextFormat::Csv { .. } => {
                let rows = spelled(rows)?;
                for row in 0..rows.num_rows() {
                    text.clear();
                    self.lines(&rows.slice(row, 1), &mut text)?;
                    records.append_value(text.strip_suffix(b"\n").unwrap_or(&text));
                }
            }
        }
        let records = records.finish();
        if records.len() != rows.num_rows() {
            return Err(Error::bug(format!(
                "{} rows became {} lines",
                rows.num_rows(),
                records.len()
            )));
        }
        Ok(records)
    }

    /// Rows as lines, each with its end.
    pub fn lines(&self, rows: &RecordBatch, to: &mut impl Write) -> Result<()> {
        self.with_header(rows, to, false)
    }

    /// The names of the columns, where they can stand in a line of their own.
    pub fn header(&self, rows: &RecordBatch, to: &mut impl Write) -> Result<()> {
        match self {
            TextFormat::Json { .. } => Ok(()),
            TextFormat::Csv { .. } => self.with_header(&rows.slice(0, 0), to, true),
        }
    }

    fn with_header(&self, rows: &RecordBatch, to: &mut impl Write, header: bool) -> Result<()> {
        match self {
            TextFormat::Json {
                timestamps,
                explicit_nulls,
            } => {
                let mut writer = JsonBuilder::new()
                    .with_explicit_nulls(*explicit_nulls)
                    .with_timestamp_format(timestamps.without_zone())
                    .with_timestamp_tz_format(timestamps.with_zone())
                    .with_encoder_factory(Arc::new(Words))
                    .build::<_, LineDelimited>(to);
                writer.write(rows)?;
                writer.finish()?;
            }
            TextFormat::Csv {
                delimiter,
                quote,
                null,
            } => {
                let builder = CsvBuilder::new()
                    .with_header(header)
                    .with_delimiter(*delimiter)
                    .with_quote(*quote)
                    .with_null(null.clone())
                    .with_timestamp_format(Timestamps::Sql.without_zone())
                    .with_timestamp_tz_format(Timestamps::Sql.with_zone());
                builder.build(to).write(&spelled(rows)?)?;
            }
        }
        Ok(())
    }
}

/// NaN and the infinities, for which JSON has no numbers: texts, as Jackson writes them.
#[derive(Debug)]
struct Words;

/// How all other numbers are written.
static NUMBERS: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

impl EncoderFactory for Words {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        match array.data_type() {
            DataType::Float32 => Floats::encoder(field, array.as_primitive::<Float32Type>()),
            DataType::Float64 => Floats::encoder(field, array.as_primitive::<Float64Type>()),
            _ => Ok(None),
        }
    }
}

/// A column in which some values are no numbers.
struct Floats<'a, T: ArrowPrimitiveType> {
    values: &'a PrimitiveArray<T>,
    numbers: NullableEncoder<'a>,
}

impl<'a, T: ArrowPrimitiveType<Native: Into<f64>>> Floats<'a, T> {
    fn encoder(
        field: &'a FieldRef,
        values: &'a PrimitiveArray<T>,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if values
            .values()
            .iter()
            .all(|&value| value.into().is_finite())
        {
            return Ok(None);
        }
        let numbers = make_encoder(field, values, &NUMBERS)?;
        let floats = Box::new(Floats { values, numbers });
        Ok(Some(NullableEncoder::new(floats, values.nulls().cloned())))
    }
}

impl<T: ArrowPrimitiveType<Native: Into<f64>>> Encoder for Floats<'_, T> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let value: f64 = self.values.value(index).into();
        match value {
            f64::INFINITY => out.extend_from_slice(br#""Infinity""#),
            f64::NEG_INFINITY => out.extend_from_slice(br#""-Infinity""#),
            value if value.is_nan() => out.extend_from_slice(br#""NaN""#),
            _ => self.numbers.encode(index, out),
        }
    }
}

/// The rows with the infinities as Java spells them, for CSV; everything else in it is written in the same way by all.
fn spelled(rows: &RecordBatch) -> Result<RecordBatch> {
    if !rows.columns().iter().any(has_infinity) {
        return Ok(rows.clone());
    }
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(rows.columns());
    let columns = fields.map(|(field, column)| {
        let column: ArrayRef = if has_infinity(column) {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter();
            Arc::new(texts.map(|text| text.map(javas)).collect::<StringArray>())
        } else {
            Arc::clone(column)
        };
        Ok((field.name(), column, field.is_nullable()))
    });
    let columns: Vec<_> = columns.collect::<Result<_>>()?;
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn has_infinity(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float32 => {
            let mut values = column.as_primitive::<Float32Type>().values().iter();
            values.any(|value| value.is_infinite())
        }
        DataType::Float64 => {
            let mut values = column.as_primitive::<Float64Type>().values().iter();
            values.any(|value| value.is_infinite())
        }
        _ => false,
    }
}

fn javas(number: &str) -> &str {
    match number {
        "inf" => "Infinity",
        "-inf" => "-Infinity",
        other => other,
    }
}

fn refuse_types(
    table: &TableSpec,
    columns: &[usize],
    format: &str,
    refused: &dyn Fn(&DataType) -> bool,
) -> Result<()> {
    for &column in columns {
        let field = table.schema.field(column);
        if contains(field.data_type(), refused) {
            return Err(Error::job(format!(
                "table '{}': column '{}' is a {}, which a {format} file cannot hold here; leave it out, \
                 turn it into a STRING, or write Parquet",
                table.name,
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(())
}

/// Whether the type, or one inside it, is such a type.
fn contains(data_type: &DataType, such: &dyn Fn(&DataType) -> bool) -> bool {
    such(data_type)
        || match data_type {
            DataType::List(item) | DataType::Map(item, _) => contains(item.data_type(), such),
            DataType::Struct(fields) => {
                fields.iter().any(|field| contains(field.data_type(), such))
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{OptionValue, Options, Place};
    use arrow::array::{Float32Array, Float64Array, Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema, TimeUnit};

    fn table(options: &[(&str, &str)]) -> TableSpec {
        let entry = |(key, value): &(&str, &str)| {
            (
                key.to_string(),
                OptionValue {
                    value: value.to_string(),
                    place: Place::default(),
                },
            )
        };
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("name", DataType::Utf8, true),
                Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
                Field::new(
                    "utc",
                    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                    true,
                ),
            ])),
            partitioned_by: vec![],
            primary_key: vec![],
            metadata: Default::default(),
            options: Options {
                entries: options.iter().map(entry).collect(),
            },
        }
    }

    fn written(format: TextFormat) -> String {
        let rows = RecordBatch::try_new(
            table(&[]).schema,
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("a,\"b\""), None])),
                Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), Some(0)])),
                Arc::new(TimestampMillisecondArray::from(vec![1_500, 0]).with_timezone("UTC")),
            ],
        )
        .unwrap();
        let mut lines = Vec::new();
        format.lines(&rows, &mut lines).unwrap();
        format.lines(&rows.slice(1, 1), &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    }

    const ALL: [usize; 4] = [0, 1, 2, 3];

    #[test]
    fn json_lines() {
        let second =
            r#"{"id":null,"name":null,"at":"1970-01-01 00:00:00","utc":"1970-01-01 00:00:00Z"}"#;
        assert_eq!(
            written(TextFormat::json(&table(&[]), &ALL).unwrap()),
            format!(
                "{}\n{second}\n{second}\n",
                r#"{"id":1,"name":"a,\"b\"","at":"1970-01-01 00:00:01.500","utc":"1970-01-01 00:00:01.500Z"}"#
            )
        );
        let other = table(&[(TIMESTAMPS, "ISO-8601"), (IGNORE_NULLS, "true")]);
        let text = written(TextFormat::json(&other, &ALL).unwrap());
        assert!(
            text.ends_with("{\"at\":\"1970-01-01T00:00:00\",\"utc\":\"1970-01-01T00:00:00Z\"}\n"),
            "{text}"
        );
    }

    #[test]
    fn csv_lines() {
        let second = ",,1970-01-01 00:00:00,1970-01-01 00:00:00Z";
        assert_eq!(
            written(TextFormat::csv(&table(&[]), &ALL).unwrap()),
            format!(
                "{}\n{second}\n{second}\n",
                "1,\"a,\"\"b\"\"\",1970-01-01 00:00:01.500,1970-01-01 00:00:01.500Z"
            )
        );
        let other = table(&[(DELIMITER, ";"), (NULL, "n/a"), (ESCAPE, "'"), (QUOTE, "'")]);
        let text = written(TextFormat::csv(&other, &ALL).unwrap());
        assert!(text.starts_with("1;a,\"b\";1970"), "{text}");
        assert!(
            text.ends_with("\nn/a;n/a;1970-01-01 00:00:00;1970-01-01 00:00:00Z\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_written_as_csv_is_read_again() {
        use crate::decode::testing;
        let columns = [("a", DataType::Utf8), ("b", DataType::Utf8)];
        let texts = [
            ("a,b", "say \"hi\""),
            ("\\", "\\\""),
            ("two\nlines\r\n", "'quoted'"),
            ("\"", "\"\""),
            (" a ", "#;\t"),
        ];
        for options in [
            &[][..],
            &[(DELIMITER, ";"), (QUOTE, "'")],
            &[(ESCAPE, "\"")],
        ] {
            let rows = RecordBatch::try_new(
                testing::schema(&columns),
                vec![
                    Arc::new(StringArray::from_iter_values(texts.map(|row| row.0))),
                    Arc::new(StringArray::from_iter_values(texts.map(|row| row.1))),
                ],
            );
            let rows = rows.unwrap();
            let mut table = table(options);
            table.schema = rows.schema();
            let format = TextFormat::csv(&table, &[0, 1]).unwrap();
            let records = format.rows(&rows).unwrap();
            let records: Vec<&str> = records
                .iter()
                .map(|record| std::str::from_utf8(record.unwrap()).unwrap())
                .collect();
            let options: Vec<_> = [("format", "csv")].iter().chain(options).copied().collect();
            let decoded = testing::decoder(&columns, &options)
                .decode(&testing::records(records))
                .unwrap();
            assert_eq!(decoded.batch, rows, "{options:?}");
        }
        for (option, value) in [(ESCAPE, "\\"), (NO_QUOTE, "true")] {
            let error = TextFormat::csv(&table(&[(option, value)]), &ALL).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
    }

    #[test]
    fn what_is_no_number_is_a_word() {
        use crate::decode::testing;
        let columns = [("d", DataType::Float64), ("f", DataType::Float32)];
        let doubles = [Some(f64::NAN), Some(1.5), Some(f64::INFINITY), None];
        let floats = [Some(f32::NEG_INFINITY), None, Some(2.0), Some(f32::NAN)];
        let rows = RecordBatch::try_new(
            testing::schema(&columns),
            vec![
                Arc::new(Float64Array::from_iter(doubles)),
                Arc::new(Float32Array::from_iter(floats)),
            ],
        );
        let rows = rows.unwrap();
        let mut table = table(&[(NULL, "n/a")]);
        table.schema = rows.schema();
        let json = [
            r#"{"d":"NaN","f":"-Infinity"}"#,
            r#"{"d":1.5,"f":null}"#,
            r#"{"d":"Infinity","f":2.0}"#,
            r#"{"d":null,"f":"NaN"}"#,
        ];
        let csv = ["NaN,-Infinity", "1.5,n/a", "Infinity,2.0", "n/a,NaN"];
        let (as_json, as_csv) = (("format", "json"), ("format", "csv"));
        for (format, expected, options) in [
            (TextFormat::json(&table, &[0, 1]), json, &[as_json][..]),
            (
                TextFormat::csv(&table, &[0, 1]),
                csv,
                &[as_csv, (NULL, "n/a")][..],
            ),
        ] {
            let records = format.unwrap().rows(&rows).unwrap();
            let records: Vec<&str> = records
                .iter()
                .map(|record| std::str::from_utf8(record.unwrap()).unwrap())
                .collect();
            assert_eq!(records, expected);
            let decoded = testing::decoder(&columns, options)
                .decode(&testing::records(records))
                .unwrap();
            assert_eq!(decoded.batch, rows, "{options:?}");
        }
    }

    #[test]
    fn a_time_without_a_date_is_no_text() {
        let times = TimestampMillisecondArray::from(vec![0, i64::MAX]);
        let rows = RecordBatch::try_from_iter([("at", Arc::new(times) as _)]).unwrap();
        let format = TextFormat::Json {
            timestamps: Timestamps::Sql,
            explicit_nulls: true,
        };
        assert_eq!(format.rows(&rows.slice(0, 1)).unwrap().len(), 1);
        let error = format.rows(&rows).unwrap_err();
        assert!(error.to_string().contains("'at'"), "{error}");
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused() {
        let mut nested = table(&[]);
        nested.schema = Arc::new(Schema::new(vec![Field::new_list(
            "l",
            Field::new("item", DataType::Binary, true),
            true,
        )]));
        for result in [
            TextFormat::json(&nested, &[0]),
            TextFormat::csv(&nested, &[0]),
        ] {
            assert!(result.unwrap_err().to_string().contains("column 'l'"));
        }
        let error = TextFormat::csv(&table(&[(DELIMITER, "ab")]), &ALL).unwrap_err();
        assert!(error.to_string().contains(DELIMITER), "{error}");
    }
}
