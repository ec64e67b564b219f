//! Which rows have times that no calendar shows: 64 bits of milliseconds reach a thousand times further than dates can be written.
//!
//! Who writes rows as text, or brings their times to another precision, asks here first. In a column in which all is well that costs one look at
//! its values.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use chrono::{DateTime, Utc};
use std::ops::RangeInclusive;

/// The times that have a date, in milliseconds since 1970.
fn millis() -> RangeInclusive<i64> {
    DateTime::<Utc>::MIN_UTC.timestamp_millis()..=DateTime::<Utc>::MAX_UTC.timestamp_millis()
}

/// Whether a time in milliseconds has a date.
pub fn shows(at_ms: i64) -> bool {
    millis().contains(&at_ms)
}

/// The first column that has such a time, and for each row whether it is one with it.
pub fn beyond(rows: &RecordBatch) -> Option<(usize, Vec<bool>)> {
    let columns = rows.columns().iter().enumerate();
    columns
        .filter_map(|(at, column)| Some((at, in_column(column)?)))
        .next()
}

/// For each row whether it has such a time, also inside other values; nothing where no row has.
fn in_column(column: &dyn Array) -> Option<Vec<bool>> {
    let found = match column.data_type() {
        // Days and nanoseconds are few enough, or small.
        DataType::Date32 => {
            let day_ms = 86_400_000;
            let (first, last) = (millis().start() / day_ms, millis().end() / day_ms);
            let days = column.as_primitive::<Date32Type>().values();
            outside(days.iter().map(|day| i64::from(*day)), first..=last)
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            let seconds = millis().start() / 1_000..=millis().end() / 1_000;
            let values = column.as_primitive::<TimestampSecondType>().values();
            outside(values.iter().copied(), seconds)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let values = column.as_primitive::<TimestampMillisecondType>().values();
            outside(values.iter().copied(), millis())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = millis().start() * 1_000..=millis().end() * 1_000;
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            outside(values.iter().copied(), micros)
        }
        DataType::Struct(_) => {
            let fields = column.as_struct().columns().iter();
            let found = fields.filter_map(|field| in_column(field));
            found.reduce(|one, other| one.iter().zip(&other).map(|(a, b)| a | b).collect())
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            in_column(list.values()).map(|found| in_each(list.value_offsets(), &found))
        }
        DataType::Map(..) => {
            let map = column.as_map();
            in_column(map.entries()).map(|found| in_each(map.value_offsets(), &found))
        }
        _ => None,
    };
    // What stands in the place of a NULL means nothing.
    let mut found = found?;
    if let Some(nulls) = column.nulls() {
        let valid = nulls.iter();
        found
            .iter_mut()
            .zip(valid)
            .for_each(|(found, valid)| *found &= valid);
    }
    found.contains(&true).then_some(found)
}

/// For each value whether it is outside; nothing where none is. The first look has no branches, so that the processor takes many at once.
fn outside(
    values: impl Iterator<Item = i64> + Clone,
    inside: RangeInclusive<i64>,
) -> Option<Vec<bool>> {
    let (first, last) = (*inside.start(), *inside.end());
    let is_outside = |value: i64| (value < first) | (value > last);
    let any = values
        .clone()
        .fold(false, |any, value| any | is_outside(value));
    any.then(|| values.map(is_outside).collect())
}

/// From the elements of lists to the lists.
fn in_each(offsets: &[i32], found: &[bool]) -> Vec<bool> {
    let lists = offsets.windows(2);
    lists
        .map(|ends| found[ends[0] as usize..ends[1] as usize].contains(&true))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, Date32Array, Int64Array, ListBuilder, StructArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampMillisecondBuilder,
    };
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn found(column: impl Array + 'static) -> Option<Vec<bool>> {
        in_column(&column)
    }

    #[test]
    fn what_the_calendar_shows_is_what_chrono_shows() {
        assert!(shows(*millis().start()) && shows(*millis().end()));
        for at in [*millis().start() - 1, *millis().end() + 1] {
            assert!(!shows(at) && DateTime::from_timestamp_millis(at).is_none());
        }
        let (first, last) = (*millis().start(), *millis().end());
        let millis = TimestampMillisecondArray::from(vec![first, last]);
        assert_eq!(found(millis), None);
        let micros = TimestampMicrosecondArray::from(vec![i64::MIN, first * 1_000, last * 1_000]);
        assert_eq!(found(micros), Some(vec![true, false, false]));
        let days = Date32Array::from(vec![i32::MAX, 0, (last / 86_400_000) as i32]);
        assert_eq!(found(days), Some(vec![true, false, false]));
        assert_eq!(found(Int64Array::from(vec![i64::MAX])), None);
    }

    #[test]
    fn a_null_is_no_time_and_a_slice_has_its_own_rows() {
        let times = TimestampMillisecondArray::from(vec![Some(i64::MAX), Some(0), None, Some(0)]);
        assert_eq!(found(times.slice(0, 2)), Some(vec![true, false]));
        assert_eq!(found(times.slice(1, 3)), None);
        let hidden = TimestampMillisecondArray::new(
            vec![i64::MAX, 0].into(),
            Some(vec![false, true].into()),
        );
        assert_eq!(found(hidden), None);
    }

    #[test]
    fn times_inside_other_values_are_found() {
        let mut lists = ListBuilder::new(TimestampMillisecondBuilder::new());
        lists.append_value([Some(1), None]);
        lists.append_value([]);
        lists.append_value([Some(1), Some(i64::MIN)]);
        lists.append_null();
        let lists = lists.finish();
        assert_eq!(found(lists.clone()), Some(vec![false, false, true, false]));
        assert_eq!(found(lists.slice(2, 2)), Some(vec![true, false]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, 0, 0, i64::MAX]));
        let lists: ArrayRef = Arc::new(lists);
        let field = |name: &str, column: &ArrayRef| {
            Arc::new(Field::new(name, column.data_type().clone(), true))
        };
        let row = StructArray::from(vec![
            (field("times", &times), times),
            (field("lists", &lists), lists),
        ]);
        assert_eq!(found(row), Some(vec![false, false, true, true]));
    }
}
