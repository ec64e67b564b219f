//! A file's columns as the table's: found by their names, whatever the case of their letters, and read as the catalog's types.
//!
//! What Athena refuses to read as the catalog's type is refused here too, with the file's name: else a query would answer here and
//! fail there. What a file lacks is NULL in it.

use crate::error::{Error, Result};
use crate::sql::types::flink_name;
use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray,
    TimestampMillisecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value that does not fit is an error, and not NULL.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: arrow::util::display::FormatOptions::new(),
};

/// Refuses a file of which one of these columns cannot be read as the table's.
pub fn check(file: &Schema, table: &Schema) -> Result<()> {
    for wanted in table.fields() {
        if let Some((_, found)) = find(file.fields(), wanted.name())
            && !readable(found.data_type(), wanted.data_type())
        {
            return Err(Error::data(format!(
                "column '{}' is {} in the catalog and {} in the file, and Athena reads no such file (HIVE_BAD_DATA): \
                 change the table's column, or write the file anew",
                wanted.name(),
                flink_name(wanted.data_type()),
                flink_name(found.data_type())
            )));
        }
    }
    Ok(())
}

/// The field with this name: a catalog's names are lower case, and a file's may not be.
fn find<'a>(fields: &'a Fields, name: &str) -> Option<(usize, &'a FieldRef)> {
    fields.find(name).or_else(|| {
        let mut fields = fields.iter().enumerate();
        fields.find(|(_, field)| field.name().eq_ignore_ascii_case(name))
    })
}

fn readable(file: &DataType, table: &DataType) -> bool {
    use DataType::*;
    match (file, table) {
        (file, table) if file == table => true,
        (Null, _) => true,
        (Dictionary(_, values), table) => readable(values, table),
        // The small ones are all INT32 in a file: whether a value fits is seen when it is read.
        (Int8 | Int16 | Int32 | UInt8 | UInt16, Int8 | Int16 | Int32 | Int64) => true,
        (UInt32, Int64) | (Float32, Float64) => true,
        (Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView, Utf8 | Binary) => true,
        (FixedSizeBinary(_), Binary) => true,
        (Decimal128(digits, scale), Decimal128(most, finest)) => {
            let whole = |digits: u8, scale: i8| i16::from(digits) - i16::from(scale);
            finest >= scale && whole(*most, *finest) >= whole(*digits, *scale)
        }
        (Timestamp(_, _), Timestamp(_, _)) => true,
        (List(file) | LargeList(file) | FixedSizeList(file, _), List(table)) => {
            readable(file.data_type(), table.data_type())
        }
        (Map(file, _), Map(table, _)) => match (file.data_type(), table.data_type()) {
            // By their places: some writers call them otherwise.
            (Struct(file), Struct(table)) => file
                .iter()
                .zip(table)
                .all(|(file, table)| readable(file.data_type(), table.data_type())),
            _ => false,
        },
        (Struct(file), Struct(table)) => table.iter().all(|wanted| {
            find(file, wanted.name())
                .is_none_or(|(_, found)| readable(found.data_type(), wanted.data_type()))
        }),
        _ => false,
    }
}

/// A column of a file as the table's type.
fn conform(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let from = column.data_type();
    if from == to {
        return Ok(Arc::clone(column));
    }
    match (from, to) {
        (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Millisecond, None)) => {
            milliseconds(column, *unit)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let found = column.as_struct();
            let columns = fields
                .iter()
                .map(|field| match find(found.fields(), field.name()) {
                    Some((index, _)) => conform(found.column(index), field.data_type()),
                    None => Ok(new_null_array(field.data_type(), found.len())),
                });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let nulls = found.nulls().cloned();
            let whole = StructArray::try_new(fields.clone(), columns, nulls)?;
            Ok(Arc::new(whole))
        }
        (DataType::List(_), DataType::List(item)) => {
            let found = column.as_list::<i32>();
            let values = conform(found.values(), item.data_type())?;
            let (offsets, nulls) = (found.offsets().clone(), found.nulls().cloned());
            let whole = ListArray::try_new(Arc::clone(item), offsets, values, nulls)?;
            Ok(Arc::new(whole))
        }
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), DataType::List(_)) => {
            let list = DataType::List(Arc::clone(item));
            conform(&cast_with_options(column, &list, &STRICT)?, to)
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let found = column.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::CastError("a map without entries".to_owned()));
            };
            let columns = found.entries().columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| conform(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let inside = StructArray::try_new(fields.clone(), columns, None)?;
            let (offsets, nulls) = (found.offsets().clone(), found.nulls().cloned());
            let entries = Arc::clone(entries);
            let whole = MapArray::try_new(entries, offsets, inside, nulls, *sorted)?;
            Ok(Arc::new(whole))
        }
        _ => cast_with_options(column, to, &STRICT),
    }
}

/// Athena shows the instant without its zone, and rounds to the nearest millisecond.
fn milliseconds(column: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef, ArrowError> {
    let numbers = cast_with_options(column, &DataType::Int64, &STRICT)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let rounded = |part: i64| move |number: i64| number.saturating_add(part / 2).div_euclid(part);
    let found: TimestampMillisecondArray = match unit {
        TimeUnit::Second => numbers.try_unary(|seconds| {
            let overflow = || ArrowError::ComputeError(format!("{seconds} s is no time"));
            seconds.checked_mul(1_000).ok_or_else(overflow)
        })?,
        TimeUnit::Millisecond => numbers.unary(|number| number),
        TimeUnit::Microsecond => numbers.unary(rounded(1_000)),
        TimeUnit::Nanosecond => numbers.unary(rounded(1_000_000)),
    };
    Ok(Arc::new(found))
}

/// Lets a query's expressions over the table be computed over a file.
#[derive(Debug)]
pub struct ByName;

impl PhysicalExprAdapterFactory for ByName {
    fn create(
        &self,
        table: SchemaRef,
        file: SchemaRef,
    ) -> PlanResult<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(Adapter { table, file }))
    }
}

#[derive(Debug)]
struct Adapter {
    table: SchemaRef,
    file: SchemaRef,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expression: Arc<dyn PhysicalExpr>) -> PlanResult<Arc<dyn PhysicalExpr>> {
        let in_file = |part: Arc<dyn PhysicalExpr>| {
            let column = part.downcast_ref::<Column>();
            let wanted = column.and_then(|column| self.table.fields().find(column.name()));
            match wanted {
                Some((_, wanted)) => Ok(Transformed::yes(self.column(wanted)?)),
                None => Ok(Transformed::no(part)),
            }
        };
        expression.transform(in_file).data()
    }
}

impl Adapter {
    fn column(&self, wanted: &FieldRef) -> PlanResult<Arc<dyn PhysicalExpr>> {
        let to = wanted.data_type();
        let Some((index, found)) = find(self.file.fields(), wanted.name()) else {
            return Ok(Arc::new(Literal::new(ScalarValue::try_from(to)?)));
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(found.name(), index));
        let from = found.data_type();
        Ok(if from == to {
            column
        } else if to.is_nested() || matches!(to, DataType::Timestamp(_, _)) {
            Arc::new(ReadAs {
                column,
                to: Arc::clone(wanted),
            })
        } else {
            // Statistics of a file are of use through a cast.
            Arc::new(CastExpr::new(column, to.clone(), Some(STRICT)))
        })
    }
}

/// A column as another type, by [`conform`].
#[derive(Debug, Clone)]
struct ReadAs {
    column: Arc<dyn PhysicalExpr>,
    to: FieldRef,
}

impl PartialEq for ReadAs {
    fn eq(&self, other: &ReadAs) -> bool {
        self.column.eq(&other.column) && self.to == other.to
    }
}

impl Eq for ReadAs {}

impl Hash for ReadAs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
    }
}

impl fmt::Display for ReadAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}", self.column, flink_name(self.to.data_type()))
    }
}

impl PhysicalExpr for ReadAs {
    fn return_field(&self, _: &Schema) -> PlanResult<FieldRef> {
        Ok(Arc::new(Field::clone(&self.to)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> PlanResult<ColumnarValue> {
        let column = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(conform(&column, self.to.data_type())?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> PlanResult<Arc<dyn PhysicalExpr>> {
        let column = children.into_iter().next();
        Ok(Arc::new(ReadAs {
            column: column.unwrap_or_else(|| Arc::clone(&self.column)),
            to: Arc::clone(&self.to),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAST({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::hive::data_type;
    use arrow::array::{Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use arrow::util::pretty::pretty_format_columns;

    fn shown(column: ArrayRef, hive: &str) -> String {
        let found = conform(&column, &data_type(hive).unwrap()).unwrap();
        assert_eq!(found.data_type(), &data_type(hive).unwrap());
        let text = pretty_format_columns("c", &[found]).unwrap().to_string();
        let lines = text.lines().skip(3).filter(|line| line.starts_with('|'));
        let cells = lines.map(|line| line.trim_matches(['|', ' ']));
        cells.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn values_become_the_tables() {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        assert_eq!(shown(Arc::clone(&ints), "bigint"), "1; ");
        let times = TimestampMicrosecondArray::from(vec![1_499, 1_500, -500, -501]);
        let times: ArrayRef = Arc::new(times.with_timezone("Europe/Berlin"));
        assert_eq!(
            shown(times, "timestamp"),
            "1970-01-01T00:00:00.001; 1970-01-01T00:00:00.002; 1970-01-01T00:00:00; 1969-12-31T23:59:59.999"
        );
        let cents = Decimal128Array::from(vec![125]).with_precision_and_scale(5, 2);
        assert_eq!(shown(Arc::new(cents.unwrap()), "decimal(8,4)"), "1.2500");

        let place = |name: &str, values: ArrayRef| -> ArrayRef {
            let field = Arc::new(Field::new(name, values.data_type().clone(), true));
            Arc::new(StructArray::from(vec![(field, values)]))
        };
        // Fields by name and not by place; what is not there is NULL.
        assert_eq!(
            shown(place("Lat", ints), "struct<tag:string,lat:bigint>"),
            "{tag: , lat: 1}; {tag: , lat: }"
        );
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let mut keys = arrow::array::MapBuilder::new(
            None,
            arrow::array::StringBuilder::new(),
            arrow::array::Int32Builder::new(),
        );
        keys.keys().append_value("x");
        keys.values().append_value(7);
        keys.append(true).unwrap();
        assert_eq!(
            shown(Arc::new(keys.finish()), "map<string,bigint>"),
            "{x: 7}"
        );
        assert_eq!(shown(words, "binary"), "61");
    }

    #[test]
    fn what_athena_cannot_read_is_refused() {
        let refusal = |file: DataType, hive: &str| {
            let file = Schema::new(vec![Field::new("A", file, true)]);
            let table = Schema::new(vec![Field::new("a", data_type(hive).unwrap(), true)]);
            check(&file, &table).err().map(|error| error.to_string())
        };
        assert_eq!(
            refusal(DataType::Utf8, "int").unwrap(),
            "column 'a' is INT in the catalog and STRING in the file, and Athena reads no such file (HIVE_BAD_DATA): change the \
             table's column, or write the file anew"
        );
        assert!(refusal(DataType::Int64, "int").is_some());
        assert!(refusal(DataType::Int32, "string").is_some());
        assert!(refusal(DataType::Decimal128(5, 2), "decimal(5,3)").is_some());
        let list = |item| DataType::List(Arc::new(Field::new("element", item, true)));
        assert!(refusal(list(DataType::Utf8), "array<int>").is_some());
        assert_eq!(refusal(list(DataType::Int16), "array<int>"), None);
        assert_eq!(refusal(DataType::Float32, "double"), None);
        let inside = |name| DataType::Struct(vec![Field::new(name, DataType::Utf8, true)].into());
        assert!(refusal(inside("X"), "struct<x:int>").is_some());
        assert_eq!(refusal(inside("y"), "struct<x:int>"), None);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let large: ArrayRef = Arc::new(Int32Array::from(vec![300]));
        assert!(conform(&large, &DataType::Int8).is_err());
        let late: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(vec![i64::MAX]));
        assert!(conform(&late, &data_type("timestamp").unwrap()).is_err());
    }
}
