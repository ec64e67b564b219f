//! How values of a writer's schema become values of columns: Avro's rules of schema resolution, by which old and new records lie in one
//! table.
//!
//! Fields are found by their names. What no column wants is stepped over; a column that the writer did not have takes the default
//! of the table's own schema, or NULL. Numbers become wider ones, texts and bytes each other. Beyond the rules: an enum is a text, and
//! times are brought to the precision of their column.

use crate::avro::{self, Definition, Meaning, Schema, Type};
use crate::sql::types::flink_name;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

/// How a value is read. What it is read into, the column knows.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Fixed(usize),
    Enum(Vec<String>),
    /// Microseconds of the day.
    Time,
    Timestamp(Rescale),
    /// The number of bytes, where that is fixed.
    Decimal {
        size: Option<usize>,
        scale: i32,
    },
    Array(Box<Plan>),
    Map(Box<Plan>),
    Row(RowPlan),
    Union(Vec<Plan>),
    /// Whoever meets such a value is told this.
    Misfit(String),
}

/// From the written unit of a time to that of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescale {
    By(i64),
    /// The rest is cut off.
    Down(i64),
}

/// How a record becomes a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPlan {
    /// For each field of the record, in its order.
    pub steps: Vec<Step>,
    /// The columns that the record does not have.
    pub missing: Vec<(usize, Option<Instead>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Skip(Type),
    /// Into the column of this number.
    Read(usize, Plan),
}

/// A default as bytes, as if it had been written.
#[derive(Debug, Clone, PartialEq)]
pub struct Instead {
    pub schema: Arc<Schema>,
    pub bytes: Vec<u8>,
    pub plan: Plan,
}

/// The table's own schema at some place, where the user has given one.
type Own<'a> = Option<(&'a Arc<Schema>, &'a Type)>;

/// Whether a column is known by the name of a field.
type Names<'a> = &'a dyn Fn(&Field, &avro::Field) -> bool;

impl RowPlan {
    /// From a schema to these columns, which the user's `own` schema may know more about.
    pub fn of(
        writer: &Schema,
        columns: &Fields,
        own: Option<&Arc<Schema>>,
    ) -> Result<RowPlan, String> {
        let own = own.map(|own| (own, &own.root));
        match writer.record(&writer.root) {
            Some(fields) => row(writer, fields, columns, own),
            None => Err(format!(
                "it is {}, and a row is a record",
                writer.describe(&writer.root)
            )),
        }
    }
}

fn row(
    writer: &Schema,
    fields: &[avro::Field],
    columns: &Fields,
    own: Own,
) -> Result<RowPlan, String> {
    let own_field = |column: &str| {
        let (schema, of) = own?;
        let field = schema
            .record(of)?
            .iter()
            .find(|field| field.name == column)?;
        Some((schema, field))
    };
    let named = |column: &Field, field: &avro::Field| *column.name() == field.name;
    let also_named = |column: &Field, field: &avro::Field| {
        own_field(column.name()).is_some_and(|(_, own)| own.aliases.contains(&field.name))
    };
    let mut found = vec![false; columns.len()];
    let mut column_of = vec![None; fields.len()];
    // A column's own name is looked for everywhere before its other ones are: a record may have both.
    let ways: [Names; 2] = [&named, &also_named];
    for is_of in ways {
        for (field, column_of) in fields.iter().zip(&mut column_of) {
            if column_of.is_none() {
                let mut columns = columns.iter().enumerate();
                *column_of = columns
                    .find(|(at, column)| !found[*at] && is_of(column, field))
                    .map(|(at, _)| at);
                column_of.iter().for_each(|at: &usize| found[*at] = true);
            }
        }
    }
    let steps = fields.iter().zip(column_of).map(|(field, column)| {
        let Some(column) = column else {
            return Step::Skip(field.of.clone());
        };
        let target = columns[column].data_type();
        let own = own_field(columns[column].name()).map(|(own, field)| (own, &field.of));
        Step::Read(column, plan(writer, &field.of, target, own))
    });
    let steps = steps.collect();
    let missing = (0..columns.len()).filter(|column| !found[*column]);
    let missing = missing.map(|column| {
        let Some((schema, field)) = own_field(columns[column].name()) else {
            return Ok((column, None));
        };
        let Some(default) = &field.default else {
            return Ok((column, None));
        };
        let mut bytes = Vec::new();
        avro::encode_default(schema, &field.of, default, &mut bytes)?;
        let target = columns[column].data_type();
        let default = Instead {
            schema: Arc::clone(schema),
            bytes,
            plan: plan(schema, &field.of, target, Some((schema, &field.of))),
        };
        Ok((column, Some(default)))
    });
    Ok(RowPlan {
        missing: missing.collect::<Result<_, String>>()?,
        steps,
    })
}

fn plan(writer: &Schema, of: &Type, target: &DataType, own: Own) -> Plan {
    use DataType as To;
    let misfit = || {
        Plan::Misfit(format!(
            "the record's schema has {} here, which cannot be read as {}",
            writer.describe(of),
            flink_name(target)
        ))
    };
    match (of, target) {
        (Type::Union(branches), _) => Plan::Union(
            branches
                .iter()
                .map(|branch| plan(writer, branch, target, own))
                .collect(),
        ),
        (Type::Null, _) => Plan::Null,
        (Type::Boolean, To::Boolean) => Plan::Boolean,
        (
            Type::Int(_),
            To::Int8 | To::Int16 | To::Int32 | To::Int64 | To::Float32 | To::Float64,
        )
        | (Type::Int(Meaning::Plain | Meaning::Date), To::Date32)
        | (Type::Int(Meaning::Plain | Meaning::Time(_)), To::Time32(_)) => Plan::Int,
        (Type::Long(_), To::Int64 | To::Float32 | To::Float64) => Plan::Long,
        (Type::Long(Meaning::Time(_)), To::Time32(_)) => Plan::Time,
        (Type::Long(Meaning::Timestamp(from)), To::Timestamp(to, _)) => {
            Plan::Timestamp(rescale(*from, *to))
        }
        // As Flink takes it.
        (Type::Long(Meaning::Plain), To::Timestamp(to, _)) => {
            Plan::Timestamp(rescale(TimeUnit::Millisecond, *to))
        }
        (Type::Float, To::Float32 | To::Float64) => Plan::Float,
        (Type::Double, To::Float64) => Plan::Double,
        (Type::String, To::Utf8 | To::Binary)
        | (Type::Bytes(Meaning::Plain), To::Utf8)
        | (Type::Bytes(_), To::Binary) => Plan::Bytes,
        (Type::Bytes(meaning), To::Decimal128(_, scale)) => {
            decimal(None, *meaning, *scale).unwrap_or_else(misfit)
        }
        (Type::Array(item), To::List(to)) => {
            let own = inner(own, |of| match of {
                Type::Array(item) => Some(item),
                _ => None,
            });
            Plan::Array(Box::new(plan(writer, item, to.data_type(), own)))
        }
        (Type::Map(value), To::Map(entries, _)) => {
            let own = inner(own, |of| match of {
                Type::Map(value) => Some(value),
                _ => None,
            });
            match entries.data_type() {
                To::Struct(pair) if pair.len() == 2 => {
                    Plan::Map(Box::new(plan(writer, value, pair[1].data_type(), own)))
                }
                _ => misfit(),
            }
        }
        (Type::Named(number), _) => match (&writer.named(*number).definition, target) {
            (Definition::Record(fields), To::Struct(columns)) => {
                let own = inner(own, Some);
                match row(writer, fields, columns, own) {
                    Ok(plan) => Plan::Row(plan),
                    Err(what) => Plan::Misfit(what),
                }
            }
            (Definition::Enum(symbols), To::Utf8) => Plan::Enum(symbols.clone()),
            (Definition::Fixed { size, .. }, To::Binary) => Plan::Fixed(*size),
            (Definition::Fixed { size, meaning }, To::Decimal128(_, scale)) => {
                decimal(Some(*size), *meaning, *scale).unwrap_or_else(misfit)
            }
            _ => misfit(),
        },
        _ => misfit(),
    }
}

/// Deeper into the table's own schema, past the null of a union.
fn inner<'a>(own: Own<'a>, deeper: impl Fn(&'a Type) -> Option<&'a Type>) -> Own<'a> {
    let (schema, of) = own?;
    let found = match of {
        Type::Union(branches) => branches.iter().find_map(|branch| match branch {
            Type::Null => None,
            other => deeper(other),
        }),
        other => deeper(other),
    };
    Some((schema, found?))
}

/// Bytes that do not say what they are have the scale of their column, as in Flink; those that say it in another way are no such number.
fn decimal(size: Option<usize>, meaning: Meaning, column_scale: i8) -> Option<Plan> {
    let scale = match meaning {
        Meaning::Decimal { scale, .. } => scale,
        Meaning::Unclear(_) => return None,
        _ => i32::from(column_scale),
    };
    Some(Plan::Decimal { size, scale })
}

fn rescale(from: TimeUnit, to: TimeUnit) -> Rescale {
    let per_second = |unit| match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let (from, to): (i64, i64) = (per_second(from), per_second(to));
    match to >= from {
        true => Rescale::By(to / from),
        false => Rescale::Down(from / to),
    }
}
