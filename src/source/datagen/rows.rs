//! The values of the rows.

use super::rules::{Kind, Rule};
use super::{DAY_MS, FIRST_TIME_MS};
use crate::error::{Error, Result};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, SchemaRef, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// What the rows are.
pub(super) struct Rows {
    pub table: Arc<str>,
    pub schema: SchemaRef,
    pub columns: Vec<Rule>,
    pub seed: u64,
    pub per_second: i64,
    /// How many there are in all, where there is an end.
    pub count: Option<i64>,
}

impl Rows {
    pub fn batch(&self, from: i64, to: i64) -> Result<RecordBatch> {
        let columns = self.schema.fields().iter().zip(&self.columns);
        let arrays = columns
            .map(|(field, rule)| self.column(field.data_type(), rule, from, to))
            .collect::<Result<Vec<_>>>()?;
        let rows = usize::try_from(to - from).unwrap_or(0);
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            arrays,
            &options,
        )?)
    }

    fn column(&self, to_type: &DataType, rule: &Rule, from: i64, to: i64) -> Result<ArrayRef> {
        let range = from..to;
        let whole = |row| self.value(rule, row, Rule::whole);
        let time = |row| self.value(rule, row, |rule, row, random| self.time(rule, row, random));
        Ok(match to_type {
            DataType::Boolean => Arc::new(BooleanArray::from_iter(
                range.map(|row| self.value(rule, row, |_, _, random| random.bool())),
            )),
            DataType::Int8 => numbers::<Int8Type>(range, |row| whole(row).map(|v| v as i8)),
            DataType::Int16 => numbers::<Int16Type>(range, |row| whole(row).map(|v| v as i16)),
            DataType::Int32 => numbers::<Int32Type>(range, |row| whole(row).map(|v| v as i32)),
            DataType::Int64 => numbers::<Int64Type>(range, whole),
            DataType::Float32 => numbers::<Float32Type>(range, |row| {
                self.value(rule, row, Rule::real).map(|value| value as f32)
            }),
            DataType::Float64 => {
                numbers::<Float64Type>(range, |row| self.value(rule, row, Rule::real))
            }
            DataType::Decimal128(precision, scale) => Arc::new(
                Decimal128Array::from_iter(range.map(|row| {
                    let value = self.value(rule, row, Rule::real)?;
                    Some((value * 10f64.powi(i32::from(*scale))).round() as i128)
                }))
                .with_precision_and_scale(*precision, *scale)?,
            ),
            DataType::Utf8 => Arc::new(StringArray::from_iter(
                range.map(|row| self.value(rule, row, Rule::text)),
            )),
            DataType::Binary => {
                Arc::new(BinaryArray::from_iter(range.map(|row| {
                    self.value(rule, row, Rule::text).map(String::into_bytes)
                })))
            }
            DataType::Date32 => numbers::<Date32Type>(range, |row| {
                time(row).map(|ms| ms.div_euclid(DAY_MS) as i32)
            }),
            DataType::Time32(TimeUnit::Millisecond) => {
                numbers::<Time32MillisecondType>(range, |row| {
                    time(row).map(|ms| ms.rem_euclid(DAY_MS) as i32)
                })
            }
            DataType::Timestamp(unit, zone) => {
                let zone = zone.clone();
                match unit {
                    TimeUnit::Microsecond => Arc::new(
                        PrimitiveArray::<TimestampMicrosecondType>::from_iter(
                            range.map(|row| time(row).map(|ms| ms * 1000)),
                        )
                        .with_timezone_opt(zone),
                    ),
                    TimeUnit::Nanosecond => Arc::new(
                        PrimitiveArray::<TimestampNanosecondType>::from_iter(
                            range.map(|row| time(row).map(|ms| ms * 1_000_000)),
                        )
                        .with_timezone_opt(zone),
                    ),
                    _ => Arc::new(
                        PrimitiveArray::<TimestampMillisecondType>::from_iter(range.map(time))
                            .with_timezone_opt(zone),
                    ),
                }
            }
            other => return Err(Error::bug(format!("datagen has no rule for {other}"))),
        })
    }

    /// One value, or NULL as often as the column wants it.
    fn value<T>(
        &self,
        rule: &Rule,
        row: i64,
        make: impl FnOnce(&Rule, i64, &mut fastrand::Rng) -> T,
    ) -> Option<T> {
        // Odd multipliers spread neighbouring rows and columns over the generator's whole range.
        let spread = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ rule.salt.wrapping_mul(0xD1B5_4A32_D192_ED03)
            ^ self.seed.wrapping_mul(0xA24B_AED4_963E_E407);
        let mut random = fastrand::Rng::with_seed(spread);
        let null = random.f64() < rule.null_rate;
        (!null).then(|| make(rule, row, &mut random))
    }

    fn time(&self, rule: &Rule, row: i64, random: &mut fastrand::Rng) -> i64 {
        let ms = i128::from(row) * 1000 / i128::from(self.per_second);
        let at = FIRST_TIME_MS.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        match rule.kind {
            Kind::Random { max_past_ms, .. } => at.saturating_sub(random.i64(0..=max_past_ms)),
            Kind::Sequence { .. } => at,
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(
    rows: std::ops::Range<i64>,
    value: impl Fn(i64) -> Option<T::Native>,
) -> ArrayRef
where
    PrimitiveArray<T>: FromIterator<Option<T::Native>>,
{
    Arc::new(rows.map(value).collect::<PrimitiveArray<T>>())
}

impl Rule {
    fn whole(&self, row: i64, random: &mut fastrand::Rng) -> i64 {
        match &self.kind {
            Kind::Sequence { start } => start + row,
            Kind::Random { min, max, .. } => random.i64(min.whole..=max.whole),
        }
    }

    fn real(&self, row: i64, random: &mut fastrand::Rng) -> f64 {
        match &self.kind {
            Kind::Sequence { start } => (start + row) as f64,
            Kind::Random { min, max, .. } => {
                let share = random.f64();
                min.real * (1.0 - share) + max.real * share
            }
        }
    }

    /// Hex digits, as in Flink.
    fn text(&self, row: i64, random: &mut fastrand::Rng) -> String {
        match &self.kind {
            Kind::Sequence { start } => (start + row).to_string(),
            Kind::Random { length, .. } => (0..*length)
                .map(|_| char::from_digit(random.u32(0..16), 16).unwrap_or('0'))
                .collect(),
        }
    }
}
