//! When a partition is complete, by the rules that Flink commits partitions by.
//!
//! A partition's time has come when the watermark is past the time that its folders name (`partition-time`), or when its first file has been
//! visible for long enough (`process-time`), each with a delay; and for every partition when the input has ended. A partition that gets
//! files after that is complete once more when its time has come, which for `partition-time` is at once.

use crate::error::{Error, Result};
use crate::sink::{TableSpec, folder_values};
use crate::sql::connectors::filesystem::{DELAY, TIMESTAMP_FORMATTER, TIMESTAMP_PATTERN, TRIGGER};
use crate::sql::functions::{Pattern, Reading};
use crate::time::EventTime;
use chrono::{Days, Months, NaiveDate, NaiveDateTime, TimeDelta};

/// When the time of a table's partitions has come.
#[derive(Debug, Clone)]
pub struct Rule {
    trigger: Trigger,
    delay_ms: i64,
}

#[derive(Debug, Clone)]
enum Trigger {
    ProcessTime,
    PartitionTime(Extractor),
}

/// Reads the time of a partition from the names of its folders.
#[derive(Debug, Clone)]
struct Extractor {
    keys: Vec<String>,
    /// The text to read, with `$key` in place of each value; without one it is the first value.
    pattern: Option<String>,
    formatter: Option<Pattern>,
}

impl Rule {
    /// What the options of a table ask for.
    pub fn of(table: &TableSpec) -> Result<Rule> {
        let options = &table.options;
        let delay = options.duration(DELAY).unwrap_or_default();
        let trigger = match options.get(TRIGGER) {
            Some("partition-time") => Trigger::PartitionTime(Extractor::of(table)?),
            _ => Trigger::ProcessTime,
        };
        Ok(Rule {
            trigger,
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
        })
    }

    /// Whether a partition is incomplete for some time behind its first file.
    pub fn waits(&self) -> bool {
        self.delay_ms > 0 || matches!(self.trigger, Trigger::PartitionTime(_))
    }

    /// Whether the time of the partition in this folder has come, whose first file was published at `first_ms`. Fails where its time cannot be
    /// read from the folder's name.
    pub fn has_come(
        &self,
        folder: &str,
        first_ms: i64,
        now_ms: i64,
        watermark: EventTime,
    ) -> Result<bool> {
        if watermark == EventTime::END {
            return Ok(true);
        }
        match &self.trigger {
            // Without a delay nobody asks the clock, which may have been set back.
            Trigger::ProcessTime if self.delay_ms == 0 => Ok(true),
            Trigger::ProcessTime => Ok(now_ms > first_ms.saturating_add(self.delay_ms)),
            Trigger::PartitionTime(extractor) => {
                let time_ms = extractor.time_ms(folder)?;
                Ok(watermark.0 > time_ms.saturating_add(self.delay_ms))
            }
        }
    }
}

impl Extractor {
    fn of(table: &TableSpec) -> Result<Extractor> {
        let options = &table.options;
        let keys = table.partitioned_by.clone();
        let pattern = options.get(TIMESTAMP_PATTERN).map(str::to_owned);
        let formatter = options
            .get(TIMESTAMP_FORMATTER)
            .map(Pattern::compile)
            .transpose()
            .map_err(|why| table.refuse(TIMESTAMP_FORMATTER, why))?;
        Ok(Extractor {
            keys,
            pattern,
            formatter,
        })
    }

    fn time_ms(&self, folder: &str) -> Result<i64> {
        let values = folder_values(folder);
        let text = match &self.pattern {
            None => values.first().cloned().unwrap_or_default(),
            Some(pattern) => {
                let values = values.iter().map(String::as_str);
                filled(pattern, self.keys.iter().map(String::as_str).zip(values))
            }
        };
        let local = match &self.formatter {
            None => lenient(&text),
            Some(formatter) => formatter
                .parse(&text, Reading::Strict)
                .and_then(chrono::DateTime::from_timestamp_micros)
                .map(|at| at.naive_utc()),
        };
        match local {
            Some(local) => Ok(local.and_utc().timestamp_millis()),
            None => Err(Error::data(format!(
                "no time can be read from '{text}' for the partition '{folder}', so it will not count as complete; see \
                 '{TIMESTAMP_PATTERN}' and '{TIMESTAMP_FORMATTER}'"
            ))),
        }
    }
}

/// The pattern with values for keys, one after the other, as Flink does it.
fn filled<'a>(pattern: &str, values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    values.fold(pattern.to_owned(), |text, (key, value)| {
        text.replace(&format!("${key}"), value)
    })
}

/// `2024-03-01`, `2024-3-1 7:00:00`, `2024-03-01 24:00:00.5`: Flink's default, in which a number that is too large runs over into the next.
fn lenient(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = text
        .split_once(' ')
        .map_or((text, None), |(d, t)| (d, Some(t)));
    let [year, month, day] = numbers(date, '-', 10)?;
    let (clock, fraction) = match time {
        None => ([0; 3], "0"),
        Some(time) => {
            let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
            (numbers(clock, ':', 2)?, fraction)
        }
    };
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u32 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let months = i32::try_from(year)
        .ok()?
        .checked_mul(12)?
        .checked_add(month as i32 - 1)?;
    let first = NaiveDate::from_ymd_opt(months.div_euclid(12), 1, 1)?;
    let month = first.checked_add_months(Months::new(months.rem_euclid(12).unsigned_abs()))?;
    // A day 0 is the last of the month before.
    let day = month
        .checked_add_days(Days::new(u64::from(day)))?
        .pred_opt()?;
    let [hours, minutes, seconds] = clock.map(i64::from);
    let time = TimeDelta::seconds((hours * 60 + minutes) * 60 + seconds)
        + TimeDelta::milliseconds(i64::from(millis));
    day.and_hms_opt(0, 0, 0)?.checked_add_signed(time)
}

/// Three numbers with something between them; the first may have `longest` digits, the others two.
fn numbers(text: &str, between: char, longest: usize) -> Option<[u32; 3]> {
    let mut parts = text.split(between);
    let mut next = |most: usize| {
        let part = parts.next()?;
        let digits = part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse().ok().filter(|_| digits)
    };
    let found = [next(longest)?, next(2)?, next(2)?];
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Options;

    fn table(keys: &[&str], options: &[(&'static str, &'static str)]) -> TableSpec {
        TableSpec {
            partitioned_by: keys.iter().map(|key| (*key).to_owned()).collect(),
            primary_key: vec![],
            metadata: Default::default(),
            options: Options::of(options.iter().copied()),
            ..TableSpec::unknown("readings")
        }
    }

    fn ms(text: &str) -> i64 {
        let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
        at.and_utc().timestamp_millis()
    }

    fn rule(keys: &[&str], options: &[(&'static str, &'static str)]) -> Rule {
        let mut all = vec![("connector", "filesystem")];
        all.extend(options);
        Rule::of(&table(keys, &all)).unwrap()
    }

    #[test]
    fn by_the_clock_without_a_delay_its_time_has_come_at_once() {
        let rule = rule(&["dt"], &[]);
        assert!(rule.has_come("dt=x", 5, 5, EventTime::NONE).unwrap());
        // Also by a clock that was set back.
        assert!(rule.has_come("dt=x", 5, 3, EventTime::NONE).unwrap());
    }

    #[test]
    fn by_the_clock_a_delay_has_to_be_over() {
        let rule = rule(&["dt"], &[(DELAY, "1 h")]);
        let come = |now| rule.has_come("dt=x", 1_000, now, EventTime::NONE).unwrap();
        assert!(!come(1_000 + 3_600_000));
        assert!(come(1_001 + 3_600_000));
    }

    #[test]
    fn by_partition_time_the_watermark_has_to_be_past_it_and_the_delay() {
        let rule = rule(
            &["dt", "hour"],
            &[
                (TRIGGER, "partition-time"),
                (DELAY, "1 h"),
                (TIMESTAMP_PATTERN, "$dt $hour:00:00"),
            ],
        );
        let come = |watermark| {
            let folder = "dt=2024-03-01/hour=10";
            rule.has_come(folder, 0, i64::MAX, watermark).unwrap()
        };
        assert!(!come(EventTime::NONE));
        assert!(!come(EventTime(ms("2024-03-01 11:00:00"))));
        assert!(come(EventTime(ms("2024-03-01 11:00:00.001"))));
        assert!(come(EventTime::END));
    }

    #[test]
    fn at_the_end_of_the_input_all_is_complete() {
        for options in [
            &[(TRIGGER, "partition-time"), (DELAY, "1 d")][..],
            &[(DELAY, "1 d")],
        ] {
            let rule = rule(&["dt"], options);
            assert!(rule.has_come("dt=never", 0, 0, EventTime::END).unwrap());
        }
    }

    #[test]
    fn times_are_read_as_flink_reads_them() {
        let time = |options: &[(&'static str, &'static str)], folder: &str| {
            let mut all = vec![(TRIGGER, "partition-time")];
            all.extend(options);
            let rule = rule(&["dt", "hour"], &all);
            let Trigger::PartitionTime(extractor) = rule.trigger else {
                panic!("partition-time")
            };
            extractor.time_ms(folder).map_err(|error| error.to_string())
        };
        // The first value, where no pattern says more.
        let first = |value: &str| time(&[], &format!("dt={value}/hour=1")).ok();
        assert_eq!(first("2024-03-01"), Some(ms("2024-03-01 00:00:00")));
        assert_eq!(first("2024-3-1 7%3A5%3A9"), Some(ms("2024-03-01 07:05:09")));
        assert_eq!(
            first("2024-03-01 07%3A05%3A09.25"),
            Some(ms("2024-03-01 07:05:09.25"))
        );
        // A number that is too large runs over.
        assert_eq!(first("2024-03-32"), Some(ms("2024-04-01 00:00:00")));
        assert_eq!(first("2024-13-01"), Some(ms("2025-01-01 00:00:00")));
        assert_eq!(first("2024-03-00"), Some(ms("2024-02-29 00:00:00")));
        assert_eq!(
            first("2024-03-01 24%3A00%3A00"),
            Some(ms("2024-03-02 00:00:00"))
        );
        for wrong in [
            "20240301",
            "2024-03",
            "2024-003-01",
            "2024-03-01 7",
            "2024-03-01T07%3A00%3A00",
            "2024-03-01 07%3A00%3A00.",
            "-2024-03-01",
            "__HIVE_DEFAULT_PARTITION__",
        ] {
            assert_eq!(first(wrong), None, "{wrong}");
        }
        let error = time(&[], "dt=yesterday/hour=1").unwrap_err();
        assert!(
            error.contains("'yesterday'") && error.contains("dt=yesterday/hour=1"),
            "{error}"
        );

        let pattern = (TIMESTAMP_PATTERN, "$dt $hour:00:00");
        assert_eq!(
            time(&[pattern], "dt=2024-03-01/hour=7"),
            Ok(ms("2024-03-01 07:00:00"))
        );
        let compact = (TIMESTAMP_PATTERN, "$dt$hour");
        let formatter = (TIMESTAMP_FORMATTER, "yyyyMMddHH");
        assert_eq!(
            time(&[compact, formatter], "dt=20240301/hour=07"),
            Ok(ms("2024-03-01 07:00:00"))
        );
        assert!(time(&[compact, formatter], "dt=20240301/hour=7").is_err());
    }

    #[test]
    fn a_formatter_that_cannot_be_meant_is_refused_by_its_name() {
        let options = [
            ("connector", "filesystem"),
            (TRIGGER, "partition-time"),
            (TIMESTAMP_FORMATTER, "yyyy-MM-dd Z"),
        ];
        let text = Rule::of(&table(&["dt"], &options)).unwrap_err().to_string();
        assert!(
            text.contains("letter Z") && text.contains(TIMESTAMP_FORMATTER),
            "{text}"
        );
    }
}
