//! Which file a row belongs to: `dt=2024-03-01/hour=07`, as Hive and Flink name the folders of a partitioned table.

use super::Rejected;
use super::options::TableSpec;
use crate::catalog::hive::NULL_PARTITION;
use crate::error::{Error, Result};
use crate::source::filesystem::unescaped;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::compute::{cast, partition, take_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

/// How many bytes the name of a folder on a local disk, and of each part of a key on most stores, can have at most.
const LONGEST_NAME: usize = 255;
/// The same for a whole key on S3.
const LONGEST_PATH: usize = 1024;
/// Room for the name of a file in its folder.
const FILE_NAME: usize = 128;

/// Cuts batches into the partitions of one table.
#[derive(Debug, Clone)]
pub(super) struct Partitioner {
    columns: Vec<PartitionColumn>,
    /// How long the folders of a row may be together.
    room: usize,
    /// The name for NULL and for the empty text.
    default_name: String,
    /// The other columns: those that are in the file.
    pub data_columns: Vec<usize>,
}

/// A batch by partition.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The rows of each folder, in their order.
    pub groups: Vec<(String, RecordBatch)>,
    /// Rows for which there can be no folder.
    pub rejected: Rejected,
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
        if let Some(hidden) = columns
            .iter()
            .find(|column| column.name.starts_with(['_', '.']))
        {
            return Err(Error::job(format!(
                "table '{}': readers pass over folders that begin with '_' or '.', so nobody would see the rows below '{}=..'; give the \
                 column in PARTITIONED BY another name",
                table.name, hidden.name
            )));
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
        let default_name = escaped(default_partition(table));
        for column in &columns {
            if column.name.len() + "=".len() + default_name.len() > LONGEST_NAME {
                return Err(Error::job(format!(
                    "table '{}': '{}={default_name}' is too long for a folder, which can have {LONGEST_NAME} bytes; shorten the column's \
                     name or '{}'",
                    table.name,
                    column.name,
                    Self::DEFAULT_NAME_KEY
                )));
            }
        }
        let path = table.get("path").map_or(0, str::len);
        Ok(Partitioner {
            columns,
            room: LONGEST_PATH.saturating_sub(FILE_NAME + path),
            default_name,
            data_columns,
        })
    }

    /// The batch by partition. A batch of one partition, as nearly all are, is not copied.
    pub fn split(&self, batch: &RecordBatch) -> Result<Shares> {
        let mut shares = Shares::default();
        if self.columns.is_empty() || batch.num_rows() == 0 {
            shares.groups.push((String::new(), batch.clone()));
            return Ok(shares);
        }
        let values = match self.values(batch) {
            Ok(values) => values,
            // A value without a text, such as a date beyond the calendar. The rows beside it have theirs.
            Err(error) if batch.num_rows() == 1 => {
                let why = format!("a partition column has no text: {error}");
                shares.rejected.push((batch.clone(), why));
                return Ok(shares);
            }
            Err(_) => {
                let half = batch.num_rows() / 2;
                for part in [
                    batch.slice(0, half),
                    batch.slice(half, batch.num_rows() - half),
                ] {
                    let part = self.split(&part)?;
                    shares.groups.extend(part.groups);
                    shares.rejected.extend(part.rejected);
                }
                return Ok(shares);
            }
        };
        let texts: Vec<&StringArray> = values.iter().map(|array| array.as_string()).collect();

        let mut groups: Vec<(String, Vec<Range<usize>>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut folder = String::new();
        for run in partition(&values)?.ranges() {
            folder.clear();
            if let Err(why) = self.folder(&texts, run.start, &mut folder) {
                shares
                    .rejected
                    .push((batch.slice(run.start, run.len()), why));
                continue;
            }
            match known.get(&folder) {
                Some(&group) => groups[group].1.push(run),
                None => {
                    known.insert(folder.clone(), groups.len());
                    groups.push((folder.clone(), vec![run]));
                }
            }
        }
        for (folder, runs) in groups {
            shares.groups.push((folder, rows_of(batch, &runs)?));
        }
        Ok(shares)
    }

    fn values(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = self.columns.iter();
        columns
            .map(|column| cast(batch.column(column.index), &DataType::Utf8))
            .collect()
    }

    /// The folder of one row, put behind `out`; or why there can be none.
    fn folder(&self, texts: &[&StringArray], row: usize, out: &mut String) -> Result<(), String> {
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
            let length = out.len() - start;
            if length > LONGEST_NAME {
                return Err(format!(
                    "the value of partition column '{}' makes a folder name of {length} bytes, and {LONGEST_NAME} is the most that stores \
                     allow; shorten it in the SELECT: {}",
                    column.name,
                    out[start..].chars().take(80).collect::<String>(),
                ));
            }
        }
        if out.len() > self.room {
            return Err(format!(
                "the values of the partition columns make a path of {} bytes, and the table's path leaves room for {}; shorten them in \
                 the SELECT",
                out.len(),
                self.room,
            ));
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

/// The name that stands for NULL, and for the empty text, in folders' names.
pub(crate) fn default_partition(table: &TableSpec) -> &str {
    table
        .get(Partitioner::DEFAULT_NAME_KEY)
        .unwrap_or(NULL_PARTITION)
}

/// The values that a partition's folder names, as they were in the rows: of `dt=a%2Fb/hour=07` they are `a/b` and `07`.
pub(crate) fn folder_values(folder: &str) -> Vec<String> {
    let values = folder.split('/').filter_map(|part| part.split_once('='));
    values.map(|(_, value)| unescaped(value)).collect()
}

pub(crate) fn escaped(text: &str) -> String {
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
    use arrow::array::{Date32Array, Int32Array, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn table(partitioned_by: &[&str]) -> TableSpec {
        TableSpec {
            schema: Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("dt", DataType::Utf8, true),
                Field::new("hour", DataType::Int32, true),
            ])),
            partitioned_by: partitioned_by.iter().map(|name| name.to_string()).collect(),
            ..TableSpec::unknown("t")
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
        assert!(split.rejected.is_empty());
        let got: Vec<(String, Vec<i64>)> = split
            .groups
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
    fn a_folder_gives_its_values_back() {
        for value in ["2024-03-01 07:15", "a/b=c%d", "../é\n", ""] {
            let folder = format!("dt={}/hour=7", escaped(value));
            assert_eq!(folder_values(&folder), [value, "7"]);
        }
        assert_eq!(folder_values(""), [""; 0]);
    }

    #[test]
    fn one_partition_is_not_copied() {
        let batch = batch(&[(1, Some("a"), 7), (2, Some("a"), 7)]);
        let split = Partitioner::of(&table(&["dt"]))
            .unwrap()
            .split(&batch)
            .unwrap()
            .groups;
        assert_eq!(split.len(), 1);
        assert!(
            split[0]
                .1
                .column(0)
                .to_data()
                .ptr_eq(&batch.column(0).to_data())
        );
    }

    fn ids(rows: &RecordBatch) -> Vec<i64> {
        let ids = rows.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        ids.values().to_vec()
    }

    /// The rows for which there is a folder, and those for which there is none, each with why.
    fn shared(
        partitioner: &Partitioner,
        batch: &RecordBatch,
    ) -> (Vec<i64>, Vec<(Vec<i64>, String)>) {
        let shares = partitioner.split(batch).unwrap();
        let taken = shares.groups.iter().flat_map(|(_, rows)| ids(rows));
        let rejected = shares
            .rejected
            .iter()
            .map(|(rows, why)| (ids(rows), why.clone()));
        (taken.collect(), rejected.collect())
    }

    #[test]
    fn a_row_without_a_possible_folder_is_given_back_alone() {
        // "dt=" and 252 bytes are just short enough, and an accent is two bytes.
        let (fits, long) = ("x".repeat(252), "é".repeat(127));
        let rows = [
            (1, Some("a"), 7),
            (2, Some(&*long), 7),
            (3, Some(&*fits), 7),
            (4, Some("a"), 7),
        ];
        let (taken, rejected) = shared(&Partitioner::of(&table(&["dt"])).unwrap(), &batch(&rows));
        assert_eq!(taken, [1, 4, 3]);
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].0, [2]);
        assert!(
            rejected[0]
                .1
                .contains("'dt' makes a folder name of 257 bytes"),
            "{}",
            rejected[0].1
        );
    }

    #[test]
    fn a_path_too_long_for_s3_is_no_folder_either() {
        let mut table = table(&["dt", "hour"]);
        let path = format!(
            "s3://bucket/{}",
            "p".repeat(LONGEST_PATH - FILE_NAME - 12 - 100)
        );
        let value = crate::sql::OptionValue {
            value: path,
            place: crate::sql::Place::default(),
        };
        table.options.entries.insert("path".into(), value);
        let (fits, long) = ("x".repeat(90), "x".repeat(91));
        let rows = [(1, Some(&*long), 7), (2, Some(&*fits), 7)];
        let (taken, rejected) = shared(&Partitioner::of(&table).unwrap(), &batch(&rows));
        assert_eq!(taken, [2]);
        assert!(
            rejected[0].1.contains("a path of 101 bytes"),
            "{}",
            rejected[0].1
        );
    }

    #[test]
    fn a_date_beyond_the_calendar_costs_only_its_row() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("day", DataType::Date32, true),
        ]));
        let days = Date32Array::from(vec![0, i32::MAX, 1, 1]);
        let ids = Int64Array::from(vec![1, 2, 3, 4]);
        let batch =
            RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(days)]).unwrap();
        let table = TableSpec {
            schema,
            partitioned_by: vec!["day".into()],
            ..table(&[])
        };
        let (taken, rejected) = shared(&Partitioner::of(&table).unwrap(), &batch);
        assert_eq!(taken, [1, 3, 4]);
        assert_eq!(rejected[0].0, [2]);
    }

    #[test]
    fn what_can_never_be_a_folder_is_refused() {
        let refused = |table: &TableSpec| Partitioner::of(table).unwrap_err().to_string();
        assert!(refused(&table(&["nope"])).contains("'nope'"));
        assert!(refused(&table(&["id", "dt", "hour"])).contains("every column"));
        let hidden = ["id", "_day"].map(|name| Field::new(name, DataType::Utf8, true));
        let hidden = TableSpec {
            schema: Arc::new(Schema::new(hidden.to_vec())),
            partitioned_by: vec!["_day".to_string()],
            ..table(&["dt"])
        };
        assert!(refused(&hidden).contains("readers pass over"));
        let mut default = table(&["dt"]);
        let value = crate::sql::OptionValue {
            value: "x".repeat(253),
            place: crate::sql::Place::default(),
        };
        default
            .options
            .entries
            .insert(Partitioner::DEFAULT_NAME_KEY.into(), value);
        assert!(refused(&default).contains("too long for a folder"));
    }
}
