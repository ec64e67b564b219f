//! Columns that are in the keys of records, beside those in their values: `'value.fields-include' = 'EXCEPT_KEY'`.

use super::open::{Part, key_fields, single};
use super::{BadRecord, Decoded, Decoder, Reason};
use crate::error::Result;
use crate::source::Records;
use crate::sql::Table;
use arrow::array::{BooleanArray, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Decodes keys and values, and puts together what belongs together. A record without a key, or with one in which there is nothing to
/// decode, has NULL in the key's columns; one whose key is bad is bad, whatever its value is.
pub struct Keyed {
    key: Box<dyn Decoder>,
    value: Box<dyn Decoder>,
    schema: SchemaRef,
    /// For each column whether it is in the key, and its number there.
    places: Vec<(Part, usize)>,
    /// A column of the key that is NOT NULL.
    required: Option<String>,
}

impl Keyed {
    /// None where no column is in the key only.
    pub fn open(table: &Table, schema: &SchemaRef, required: &[bool]) -> Result<Option<Keyed>> {
        let in_key = key_fields(table);
        let mut key = Side::default();
        let mut value = Side::default();
        let mut places = Vec::new();
        let mut never_null = None;
        for (field, &required) in schema.fields().iter().zip(required) {
            let stored = in_key.iter().find(|(name, _)| name == field.name());
            let (part, side, field) = match stored {
                None => (Part::Value, &mut value, Arc::clone(field)),
                Some((name, stored)) => {
                    if required {
                        never_null.get_or_insert_with(|| name.to_string());
                    }
                    let field = Field::new(*stored, field.data_type().clone(), field.is_nullable());
                    (Part::Key, &mut key, Arc::new(field))
                }
            };
            places.push((part, side.fields.len()));
            side.fields.push(field);
            side.required.push(required);
        }
        if key.fields.is_empty() {
            return Ok(None);
        }
        Ok(Some(Keyed {
            key: key.open(table, Part::Key)?,
            value: value.open(table, Part::Value)?,
            schema: Arc::clone(schema),
            places,
            required: never_null,
        }))
    }

    /// Why no row can be made of a record, whatever its value is.
    fn faults(&self, records: &Records, keys: &Decoded, rows: &[Option<u32>]) -> Faults {
        let mut faults: Faults = keys
            .bad
            .iter()
            .map(|bad| (bad.record, (bad.reason, format!("key: {}", bad.error))))
            .collect();
        for pair in keys.origin.windows(2) {
            if pair[0] == pair[1] {
                let why = "key: it holds several rows".to_string();
                faults.insert(pair[0], (Reason::Malformed, why));
            }
        }
        if let Some(column) = &self.required {
            for record in (0..records.len()).filter(|record| rows[*record].is_none()) {
                let why = format!("column '{column}': the record has no key");
                faults
                    .entry(record as u32)
                    .or_insert((Reason::MissingValue, why));
            }
        }
        faults
    }
}

/// By record.
type Faults = BTreeMap<u32, (Reason, String)>;

#[derive(Default)]
struct Side {
    fields: Vec<FieldRef>,
    required: Vec<bool>,
}

impl Side {
    fn open(self, table: &Table, part: Part) -> Result<Box<dyn Decoder>> {
        single(
            table,
            part,
            Arc::new(Schema::new(self.fields)),
            &self.required,
        )
    }
}

impl Decoder for Keyed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn decode(&mut self, records: &Records) -> Result<Decoded> {
        let keys = self.key.decode(&Records {
            values: records.keys.clone(),
            has_value: records.has_key.clone(),
            offsets: records.offsets.clone(),
            ..Records::default()
        })?;
        let mut values = self.value.decode(records)?;
        let mut rows = vec![None; records.len()];
        for (row, &record) in (0..).zip(&keys.origin) {
            rows[record as usize] = Some(row);
        }
        let faults = self.faults(records, &keys, &rows);
        if !faults.is_empty() {
            let good = |record: &u32| !faults.contains_key(record);
            let kept: BooleanArray = values.origin.iter().map(|r| Some(good(r))).collect();
            let mut refused: Vec<u32> = values.origin.clone();
            refused.retain(|record| !good(record));
            refused.dedup();
            values.bad.extend(refused.iter().map(|record| {
                let (reason, error) = faults[record].clone();
                BadRecord {
                    record: *record,
                    reason,
                    error,
                }
            }));
            values.bad.sort_by_key(|bad| bad.record);
            values.batch = filter_record_batch(&values.batch, &kept)?;
            values.origin.retain(good);
        }
        let of_key = values.origin.iter().map(|record| rows[*record as usize]);
        let of_key = UInt32Array::from_iter(of_key);
        let columns = self.places.iter().map(|(part, column)| match part {
            Part::Value => Ok(Arc::clone(values.batch.column(*column))),
            Part::Key => take(keys.batch.column(*column), &of_key, None),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(values.origin.len()));
        let schema = Arc::clone(&self.schema);
        values.batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, schema, table};
    use super::*;
    use arrow::datatypes::DataType::{Int32, Utf8};

    const COLUMNS: [(&str, arrow::datatypes::DataType); 3] =
        [("k_id", Int32), ("name", Utf8), ("k_at", Utf8)];

    fn decoder(format: &str, more: &[(&str, &str)], required: [bool; 3]) -> Box<dyn Decoder> {
        let mut options = vec![
            ("key.format", format),
            ("key.fields", "k_at;k_id"),
            ("key.fields-prefix", "k_"),
            ("value.format", "json"),
            ("value.fields-include", "EXCEPT_KEY"),
        ];
        options.extend(more);
        let table = table(&COLUMNS, &options);
        super::super::open(&table, schema(&COLUMNS), &required).unwrap()
    }

    fn records(all: &[(Option<&str>, Option<&str>)]) -> Records {
        let mut records = Records::default();
        for (offset, (key, value)) in (0..).zip(all) {
            records.push(offset, -1, key.map(str::as_bytes), value.map(str::as_bytes));
        }
        records
    }

    #[test]
    fn key_and_value_of_a_record_are_one_row() {
        let all = records(&[
            (
                Some(r#"{"id":1,"at":"x"}"#),
                Some(r#"{"name":"a","k_id":9}"#),
            ),
            (None, Some(r#"{"name":"b"}"#)),
            (Some(r#"{"id":"one"}"#), Some(r#"{"name":"c"}"#)),
            (Some(r#"{"id":4}"#), Some(r#"[{"name":"d"},{"name":"e"}]"#)),
            (Some(r#"{"id":5}"#), None),
            (Some(r#"{"id":6}"#), Some("{")),
            (Some(r#"[{"id":7},{"id":8}]"#), Some(r#"{"name":"f"}"#)),
        ]);
        let decoded = decoder("json", &[], [false; 3]).decode(&all).unwrap();
        let expected = [
            r#"{"k_id":1,"name":"a","k_at":"x"}"#,
            r#"{"k_id":null,"name":"b","k_at":null}"#,
            r#"{"k_id":4,"name":"d","k_at":null}"#,
            r#"{"k_id":4,"name":"e","k_at":null}"#,
        ];
        assert_eq!(lines(&decoded), expected);
        assert_eq!(decoded.origin, [0, 1, 3, 3]);
        assert_eq!(decoded.nulls, 1);
        let bad: Vec<(u32, &str)> = decoded.bad.iter().map(|b| (b.record, &*b.error)).collect();
        assert_eq!(bad.iter().map(|b| b.0).collect::<Vec<_>>(), [2, 5, 6]);
        assert!(bad[0].1.starts_with("key: column 'id'"), "{bad:?}");
        assert!(!bad[1].1.starts_with("key:"), "{bad:?}");
        assert!(bad[2].1.contains("several rows"), "{bad:?}");
    }

    #[test]
    fn a_column_that_is_not_null_needs_a_key() {
        let all = records(&[
            (None, Some(r#"{"name":"a"}"#)),
            (Some(r#"{"id":2}"#), Some(r#"{"name":"b"}"#)),
            (Some(r#"{"at":"x"}"#), Some(r#"{"name":"c"}"#)),
        ]);
        let required = [true, false, false];
        let decoded = decoder("json", &[], required).decode(&all).unwrap();
        assert_eq!(lines(&decoded), [r#"{"k_id":2,"name":"b","k_at":null}"#]);
        let reasons: Vec<Reason> = decoded.bad.iter().map(|bad| bad.reason).collect();
        assert_eq!(reasons, [Reason::MissingValue; 2]);
        assert!(decoded.bad[0].error.contains("has no key"));
    }

    /// Columns of a line are in the order of `key.fields`.
    #[test]
    fn keys_have_options_of_their_own() {
        let all = records(&[(Some("y|3"), Some(r#"{"name":"a"}"#))]);
        let options = [("key.csv.field-delimiter", "|")];
        let decoded = decoder("csv", &options, [false; 3]).decode(&all).unwrap();
        let expected = [r#"{"k_id":3,"name":"a","k_at":"y"}"#];
        assert_eq!(lines(&decoded), expected);
    }

    #[test]
    fn a_raw_key_is_its_bytes() {
        let options = [
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("value.format", "raw"),
            ("value.fields-include", "EXCEPT_KEY"),
        ];
        let columns = [("v", Utf8), ("k", Utf8)];
        let table = table(&columns, &options);
        let mut decoder = super::super::open(&table, schema(&columns), &[false; 2]).unwrap();
        let all = records(&[(Some("a"), Some("1")), (None, Some("2"))]);
        let decoded = decoder.decode(&all).unwrap();
        let expected = [r#"{"v":"1","k":"a"}"#, r#"{"v":"2","k":null}"#];
        assert_eq!(lines(&decoded), expected);
    }
}
