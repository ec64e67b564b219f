//! Made-up rows: Flink's `datagen` connector.
//!
//! Row number i is a function of the seed (`tributary.seed`) and of i alone, so a replay from any position gives the same
//! rows; this is stricter than Flink, whose random values differ from run to run. Times follow the row number at the
//! table's rate from [`FIRST_TIME_MS`], and not the clock, for the same reason.

mod rows;
mod rules;

use super::{Columns, Poll, Position, Positions, Reader, Source, SourceContext, Split, Waker};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::plan::Scan;
use crate::sql::ColumnKind;
use rows::Rows;
use rules::Options;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// 2024-01-01 00:00:00, the time of row 0.
pub const FIRST_TIME_MS: i64 = 1_704_067_200_000;

const DAY_MS: i64 = 86_400_000;
const MAX_ROWS: i64 = 8192;

/// Makes rows by rule.
pub struct DatagenSource {
    plan: Arc<Rows>,
    discovered: bool,
    waker: Waker,
    runtime: tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
}

impl DatagenSource {
    pub fn new(scan: &Scan, context: &SourceContext) -> Result<Self> {
        let table = &scan.table;
        let options = Options { table };
        let per_second = options.number("rows-per-second")?.unwrap_or(10_000);
        if per_second < 1 {
            return Err(options.error("rows-per-second", "must be at least 1"));
        }
        let mut count = options.number::<i64>("number-of-rows")?;
        for column in &table.columns {
            if let (ColumnKind::Physical { .. }, Some(length)) =
                (&column.kind, options.sequence(&column.name)?)
            {
                count = Some(count.map_or(length.1, |count| count.min(length.1)));
            }
        }
        if context.bounded && count.is_none() {
            return Err(Error::job(format!(
                "table '{}' never ends: set 'number-of-rows', or run without --bounded",
                table.name
            )));
        }
        let columns = scan
            .decoded
            .fields()
            .iter()
            .enumerate()
            .map(|(salt, field)| {
                let rule = options.rule(field.name(), field.data_type(), salt)?;
                if rule.null_rate > 0.0 && !field.is_nullable() {
                    let key = format!("fields.{}.null-rate", field.name());
                    return Err(options.error(&key, "must be 0, since the column is NOT NULL"));
                }
                Ok(rule)
            })
            .collect::<Result<_>>()?;
        Ok(DatagenSource {
            plan: Arc::new(Rows {
                table: table.name.as_str().into(),
                schema: Arc::clone(&scan.decoded),
                columns,
                seed: options.number("tributary.seed")?.unwrap_or(0),
                per_second,
                count,
            }),
            discovered: false,
            waker: context.waker.clone(),
            runtime: context.runtime.clone(),
            clock: Arc::clone(&context.clock),
        })
    }
}

impl Source for DatagenSource {
    fn discover(&mut self) -> Result<Vec<Split>> {
        if std::mem::replace(&mut self.discovered, true) {
            return Ok(Vec::new());
        }
        Ok(vec![Split {
            topic: Arc::clone(&self.plan.table),
            partition: 0,
        }])
    }

    fn open(&mut self, _split: &Split, from: Option<Position>) -> Result<Box<dyn Reader>> {
        let next = from.map_or(0, |from| from.offset);
        Ok(Box::new(DatagenReader {
            plan: Arc::clone(&self.plan),
            next,
            first: next,
            started_ms: self.clock.now_ms(),
            clock: Arc::clone(&self.clock),
            alarm: Alarm {
                set: Arc::default(),
                waker: self.waker.clone(),
                runtime: self.runtime.clone(),
            },
        }))
    }

    fn acknowledge(&mut self, _positions: &Positions) {}

    fn bounded(&self) -> bool {
        self.plan.count.is_some()
    }
}

struct DatagenReader {
    plan: Arc<Rows>,
    next: i64,
    /// Where this reader began, from which its rate is counted.
    first: i64,
    started_ms: i64,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
}

impl DatagenReader {
    fn finished(&self) -> bool {
        self.plan.count.is_some_and(|count| self.next >= count)
    }
}

impl Reader for DatagenReader {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        if self.finished() {
            return Ok(Poll::Finished);
        }
        let elapsed = self.clock.now_ms().saturating_sub(self.started_ms).max(0);
        // One more than the time that has passed allows, so that the first row comes at once.
        let due = i128::from(elapsed) * i128::from(self.plan.per_second) / 1000 + 1;
        let due = i64::try_from(due)
            .unwrap_or(i64::MAX)
            .saturating_add(self.first);
        let row_bytes = 16 * self.plan.columns.len().max(1);
        let room = i64::try_from(max_bytes / row_bytes)
            .unwrap_or(MAX_ROWS)
            .clamp(1, MAX_ROWS);
        let end = self
            .plan
            .count
            .unwrap_or(i64::MAX)
            .min(due)
            .min(self.next.saturating_add(room));
        if end <= self.next {
            self.alarm
                .ring_in(1000 / u64::try_from(self.plan.per_second).unwrap_or(1));
            return Ok(Poll::Pending { at_end: true });
        }
        let first_offset = self.next;
        let batch = self.plan.batch(first_offset, end)?;
        self.next = end;
        Ok(Poll::Columns(Columns::all(batch, first_offset)))
    }

    fn position(&self) -> Position {
        Position {
            offset: self.next,
            finished: self.finished(),
        }
    }
}

/// Wakes the engine after a while; at most one is under way.
struct Alarm {
    set: Arc<AtomicBool>,
    waker: Waker,
    runtime: tokio::runtime::Handle,
}

impl Alarm {
    fn ring_in(&self, ms: u64) {
        if self.set.swap(true, Ordering::AcqRel) {
            return;
        }
        let (set, waker) = (Arc::clone(&self.set), self.waker.clone());
        self.runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms.max(1))).await;
            set.store(false, Ordering::Release);
            waker.wake();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::source::suite::{self, Bench};
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("size", DataType::Float64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ]))
    }

    const OPTIONS: &[(&str, &str)] = &[
        ("connector", "datagen"),
        ("rows-per-second", "1000000"),
        ("number-of-rows", "100"),
        ("fields.id.kind", "sequence"),
        ("fields.id.start", "7"),
        ("fields.id.end", "1000"),
        ("fields.name.length", "5"),
        ("fields.name.null-rate", "0.2"),
        ("fields.size.min", "1"),
        ("fields.size.max", "2"),
        ("fields.at.max-past", "5 s"),
    ];

    #[test]
    fn keeps_the_contract() {
        let bench = Bench::new();
        let clock = ManualClock::at(0);
        let scan = suite::scan("t", schema(), OPTIONS);
        suite::check(&bench, &mut || {
            let mut context = bench.context();
            context.clock = Arc::new(clock.clone());
            let source = DatagenSource::new(&scan, &context).unwrap();
            Box::new(suite::Later(Box::new(source), clock.clone()))
        });
    }

    #[test]
    fn rows_come_at_the_rate_and_follow_the_rules() {
        let bench = Bench::new();
        let clock = ManualClock::at(0);
        let mut context = bench.context();
        context.clock = Arc::new(clock.clone());
        let mut options = OPTIONS.to_vec();
        options[1].1 = "10";
        let scan = suite::scan("t", schema(), &options);
        let mut source = DatagenSource::new(&scan, &context).unwrap();
        let split = source.discover().unwrap().remove(0);
        let mut reader = source.open(&split, None).unwrap();
        let rows = |reader: &mut Box<dyn Reader>| match reader.poll(1 << 20).unwrap() {
            Poll::Columns(columns) => Some(columns.batch),
            _ => None,
        };
        assert_eq!(rows(&mut reader).unwrap().num_rows(), 1);
        assert!(rows(&mut reader).is_none());
        clock.advance(Duration::from_secs(2));
        let batch = rows(&mut reader).unwrap();
        assert_eq!(batch.num_rows(), 20);
        let ids = batch.column(0).as_primitive::<Int64Type>();
        assert_eq!((ids.value(0), ids.value(19)), (8, 27));
        let sizes = batch.column(2).as_primitive::<Float64Type>();
        assert!(
            sizes
                .iter()
                .flatten()
                .all(|size| (1.0..=2.0).contains(&size))
        );
        clock.advance(Duration::from_secs(60));
        assert_eq!(rows(&mut reader).unwrap().num_rows(), 79);
        assert!(matches!(reader.poll(1 << 20).unwrap(), Poll::Finished));
    }

    #[test]
    fn a_rule_that_cannot_be_is_refused() {
        let refusal = |options: &[(&str, &str)]| {
            let scan = suite::scan("t", schema(), options);
            DatagenSource::new(&scan, &Bench::new().unbounded())
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refusal(&[("fields.size.min", "x")]).contains("'fields.size.min'"));
        assert!(refusal(&[("fields.id.kind", "sequence")]).contains("'fields.id.start'"));
        assert!(refusal(&[("fields.size.min", "9"), ("fields.size.max", "1")]).contains("greater"));
        let required = Schema::new(vec![Field::new("size", DataType::Float64, false)]);
        let options = [("number-of-rows", "1"), ("fields.size.null-rate", "0.1")];
        let scan = suite::scan("t", Arc::new(required), &options);
        let refused = DatagenSource::new(&scan, &Bench::new().context());
        assert!(refused.err().unwrap().to_string().contains("NOT NULL"));
        let endless = DatagenSource::new(&suite::scan("t", schema(), &[]), &Bench::new().context());
        assert!(endless.err().unwrap().to_string().contains("never ends"));
    }
}
