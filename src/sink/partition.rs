//! Which file a row belongs to: `dt=2024-03-01/hour=07`, as Hive and Flink name the folders of a partitioned table.

use super::options::TableSpec;
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::compute::{cast, partition, take_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

/// What a folder on a local disk, and each part of a key on most stores, can be called at most.
const LONGEST_NAME: usize = 255;

/// Cuts batches into the partitions of one table.
#[derive(Debug, Clone)]
pub(super) struct Partitioner {
    table: String,
    columns: Vec<PartitionColumn>,
    /// The name for NULL and for the empty text.
    default_name: String,
    /// The other columns: those that are in the file.
    pub data_columns: Vec<usize>,
}

#[derive(Debug, Clone)]
struct PartitionColumn {
    index: usize,
    name: String,
}

impl Partitioner {
    pub const DEFAULT_NAME_KEY: &str = "partition.default-name";

    pub fn of(table: &TableSpec) -> Result<Partitioner> {
        let mut columns = Vec::new();
        for name in &table.partitioned_by {
            let Some((index, field)) = table.schema.column_with_name(name) else {
                return Err(Error::job(format!(
                    "table '{}': PARTITIONED BY names '{name}', which is not a column of it",
                    table.name
                )));
            };
            if !can_name_a_folder(field.data_type()) {
                return Err(Error::job(format!(
                    "table '{}': PARTITIONED BY '{name}': a {} cannot name a folder; \
                     make it a STRING, for example with DATE_FORMAT",
                    table.name,
                    field.data_type()
                )));
            }
            columns.push(PartitionColumn {
                index,
                name: escaped(name),
            });
        }
        let data_columns: Vec<usize> = (0..table.schema.fields().len())
            .filter(|index| columns.iter().all(|column| column.index != *index))
            .collect();
        if data_columns.is_empty() {
            return Err(Error::job(format!(
                "table '{}': every column is in PARTITIONED BY, so its files would be empty; leave one out",
                table.name
            )));
        }
        let default_name = table
            .get(Self::DEFAULT_NAME_KEY)
            .unwrap_or("__HIVE_DEFAULT_PARTITION__");
        Ok(Partitioner {
            table: table.name.clone(),
            columns,
            default_name: escaped(default_name),
            data_columns,
        })
    }

    /// The batch by partition, rows in their order. A batch of one partition, as nearly all are, is not copied.
    pub fn split(&self, batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        if self.columns.is_empty() || batch.num_rows() == 0 {
            return Ok(vec![(String::new(), batch.clone())]);
        }
        let values: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| cast(batch.column(column.index), &DataType::Utf8))
            .collect::<Result<_, _>>()?;
        let texts: Vec<&StringArray> = values.iter().map(|array| array.as_string()).collect();

        let mut groups: Vec<(String, Vec<Range<usize>>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut folder = String::new();
        for run in partition(&values)?.ranges() {
            folder.clear();
            self.folder(&texts, run.start, &mut folder)?;
            match known.get(&folder) {
                Some(&group) => groups[group].1.push(run),
                None => {
                    known.insert(folder.clone(), groups.len());
                    groups.push((folder.clone(), vec![run]));
                }
            }
        }
        groups
            .into_iter()
            .map(|(folder, runs)| Ok((folder, rows_of(batch, &runs)?)))
            .collect()
    }

    /// The folder of one row, put behind `out`.
    fn folder(&self, texts: &[&StringArray], row: usize, out: &mut String) -> Result<()> {
        for (column, text) in self.columns.iter().zip(texts) {
            if !out.is_empty() {
                out.push('/');
            }
            let start = out.len();
            out.push_str(&column.name);
            out.push('=');
            match text.is_valid(row).then(|| text.value(row)) {
                Some(value) if !value.is_empty() => escape(value, out),
                _ => out.push_str(&self.default_name),
            }
            if out.len() - start > LONGEST_NAME {
                return Err(Error::data(format!(
                    "table '{}': the value of partition column '{}' makes a folder name of {} bytes, and {LONGEST_NAME} is the \
                     most that stores allow; shorten it in the SELECT: {}",
                    self.table,
                    column.name,
                    out.len() - start,
                    out[start..].chars().take(80).collect::<String>(),
                )));
            }
        }
        Ok(())
    }
}

fn can_name_a_folder(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8 | DataType::Boolean | DataType::Date32
        )
}

/// The rows of some runs. One run is a view of the batch.
fn rows_of(batch: &RecordBatch, runs: &[Range<usize>]) -> Result<RecordBatch> {
    if let [run] = runs {
        return Ok(batch.slice(run.start, run.len()));
    }
    let rows = runs.iter().cloned().flatten();
    let indices: UInt32Array = rows
        .map(|row| {
            u32::try_from(row)
                .map_err(|_| Error::bug("a batch has more than four thousand million rows"))
        })
        .collect::<Result<Vec<u32>>>()?
        .into();
    Ok(take_record_batch(batch, &indices)?)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out);
    out
}

/// Hive's escaping, which Flink and Spark share: control characters and those that mean something in a path.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        let special = matches!(
            c,
            '\0'..='\x1f'
                | '\x7f'
                | '"'
                | '#'
                | '%'
                | '\''
                | '*'
                | '/'
                | ':'
                | '='
                | '?'
                | '\\'
                | '{'
                | '['
                | ']'
                | '^'
        );
        if special {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Options;
    use arrow::array::{Int32Array, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn table(partitioned_by: &[&str]) -> TableSpec {
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("dt", DataType::Utf8, true),
                Field::new("hour", DataType::Int32, true),
            ])),
            partitioned_by: partitioned_by.iter().map(|name| name.to_string()).collect(),
            options: Options::default(),
        }
    }

    fn batch(rows: &[(i64, Option<&str>, i32)]) -> RecordBatch {
        RecordBatch::try_new(
            table(&[]).schema,
            vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
                Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1))),
                Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.2))),
            ],
        )
        .unwrap()
    }

    fn check(rows: &[(i64, Option<&str>, i32)], expected: &[(&str, &[i64])]) {
        let split = Partitioner::of(&table(&["dt", "hour"]))
            .unwrap()
            .split(&batch(rows))
            .unwrap();
        let got: Vec<(String, Vec<i64>)> = split
            .into_iter()
            .map(|(folder, rows)| {
                let ids = rows.column(0).as_primitive::<arrow::datatypes::Int64Type>();
                (folder, ids.values().to_vec())
            })
            .collect();
        let expected: Vec<(String, Vec<i64>)> = expected
            .iter()
            .map(|(folder, ids)| (folder.to_string(), ids.to_vec()))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn rows_keep_their_order_in_each_partition() {
        check(
            &[
                (1, Some("a"), 7),
                (2, Some("b"), 7),
                (3, Some("a"), 7),
                (4, Some("a"), 8),
            ],
            &[
                ("dt=a/hour=7", &[1, 3]),
                ("dt=b/hour=7", &[2]),
                ("dt=a/hour=8", &[4]),
            ],
        );
    }

    #[test]
    fn null_and_empty_are_one_partition() {
        check(
            &[
                (1, None, 7),
                (2, Some(""), 7),
                (3, Some("x"), 7),
                (4, None, 7),
            ],
            &[
                ("dt=__HIVE_DEFAULT_PARTITION__/hour=7", &[1, 2, 4]),
                ("dt=x/hour=7", &[3]),
            ],
        );
    }

    #[test]
    fn special_characters_are_escaped() {
        check(
            &[
                (1, Some("2024-03-01 07:15"), 0),
                (2, Some("a/b=c%d"), 0),
                (3, Some("../é\n"), 0),
            ],
            &[
                ("dt=2024-03-01 07%3A15/hour=0", &[1]),
                ("dt=a%2Fb%3Dc%25d/hour=0", &[2]),
                ("dt=..%2Fé%0A/hour=0", &[3]),
            ],
        );
    }

    #[test]
    fn one_partition_is_not_copied() {
        let batch = batch(&[(1, Some("a"), 7), (2, Some("a"), 7)]);
        let split = Partitioner::of(&table(&["dt"]))
            .unwrap()
            .split(&batch)
            .unwrap();
        assert_eq!(split.len(), 1);
        assert!(
            split[0]
                .1
                .column(0)
                .to_data()
                .ptr_eq(&batch.column(0).to_data())
        );
    }

    #[test]
    fn what_cannot_be_a_folder_is_refused() {
        let long = "x".repeat(300);
        let partitioner = Partitioner::of(&table(&["dt"])).unwrap();
        let error = partitioner
            .split(&batch(&[(1, Some(&long), 7)]))
            .unwrap_err();
        assert!(error.to_string().contains("table 't'"), "{error}");
        assert!(
            Partitioner::of(&table(&["nope"]))
                .unwrap_err()
                .to_string()
                .contains("'nope'")
        );
        assert!(Partitioner::of(&table(&["id", "dt", "hour"])).is_err());
    }
}
