//! A table that is read: what is decoded, what is computed, how event time is found.

use super::bind::{Binder, Relation};
use super::calls::prepared_expr;
use super::draft::{Draft, Expr, Time, as_column, column, replace_columns};
use super::join::interval_millis;
use super::lower::{Lowering, is_millis};
use super::trouble::{Planned, Trouble, refused};
use super::window::as_millis;
use super::{Metadata, MetadataKey, NodeId, Op, Scan, Watermark};
use crate::operator::guard::guarded;
use crate::operator::operation::Operation;
use crate::sql::functions::{physical_cast, type_name};
use crate::sql::refusal::did_you_mean;
use crate::sql::{Column, ColumnKind, Place, Table};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::{LogicalPlan, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::sql::sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;

impl MetadataKey {
    const ALL: [(&'static str, MetadataKey); 10] = [
        ("topic", MetadataKey::Topic),
        ("partition", MetadataKey::Partition),
        ("offset", MetadataKey::Offset),
        ("timestamp", MetadataKey::Timestamp),
        ("timestamp-type", MetadataKey::TimestampType),
        ("headers", MetadataKey::Headers),
        ("file.path", MetadataKey::FilePath),
        ("file.name", MetadataKey::FileName),
        ("file.size", MetadataKey::FileSize),
        ("file.modification-time", MetadataKey::FileModificationTime),
    ];

    /// The key that a job names it by.
    pub fn of(name: &str) -> Option<MetadataKey> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, key)| *key)
    }

    /// The type in which a source gives it.
    pub fn data_type(self) -> DataType {
        match self {
            MetadataKey::Topic
            | MetadataKey::TimestampType
            | MetadataKey::FilePath
            | MetadataKey::FileName => DataType::Utf8,
            MetadataKey::Partition => DataType::Int32,
            MetadataKey::Offset | MetadataKey::FileSize => DataType::Int64,
            MetadataKey::Timestamp | MetadataKey::FileModificationTime | MetadataKey::Clock => {
                DataType::Timestamp(TimeUnit::Millisecond, Some(crate::sql::types::UTC.into()))
            }
            MetadataKey::Headers => {
                let key = Field::new("key", DataType::Utf8, false);
                let value = Field::new("value", DataType::Binary, true);
                let pair = DataType::Struct(vec![key, value].into());
                DataType::Map(Arc::new(Field::new("entries", pair, false)), false)
            }
        }
    }
}

impl Lowering {
    /// The node that reads a table.
    pub fn scan(&mut self, table: &Arc<Table>, binder: &Binder) -> Planned<NodeId> {
        let (decoded, required, metadata) = stored(table)?;
        let fields =
            decoded
                .fields()
                .iter()
                .cloned()
                .chain(metadata.iter().map(|metadata| {
                    Arc::new(Field::new(&metadata.name, metadata.key.data_type(), true))
                }));
        let base: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut computed = self.computed(table, &base, binder)?;

        let (mut names, mut exprs) = (Vec::new(), Vec::new());
        for declared in &table.columns {
            let stored = || {
                base.index_of(&declared.name)
                    .map(|index| column(&base, index))
            };
            let expr = match &declared.kind {
                ColumnKind::Physical { .. } => stored().map_err(arrow_trouble)?,
                ColumnKind::Metadata { data_type, .. } => {
                    let value = stored().map_err(arrow_trouble)?;
                    physical_cast(value, &base, data_type, &self.options)?
                }
                ColumnKind::Computed { expr } if clock(expr).is_some() => {
                    let value = stored().map_err(arrow_trouble)?;
                    let zone = clock(expr).is_some_and(|clock| clock != "LOCALTIMESTAMP");
                    let data_type = DataType::Timestamp(
                        TimeUnit::Millisecond,
                        zone.then(|| crate::sql::types::UTC.into()),
                    );
                    physical_cast(value, &base, &data_type, &self.options)?
                }
                ColumnKind::Computed { .. } => match computed.remove(&declared.name) {
                    Some(expr) => expr,
                    None => continue,
                },
            };
            names.push(declared.name.clone());
            exprs.push(expr);
        }
        let schema = super::draft::project_schema(&names, &exprs, &base)?;
        let mut times: Vec<Time> = table.columns.iter().map(time_of).collect();
        times.truncate(exprs.len());
        let watermark = match &table.watermark {
            None => None,
            Some(_) => {
                let rowtime = self.rowtime(table, &schema)?;
                times[rowtime] = Time::Rowtime;
                Some(self.watermark(table, binder, &schema, &exprs, rowtime)?)
            }
        };
        Ok(self.drafts.add(Draft {
            op: Op::Scan(Scan {
                table: Arc::clone(table),
                decoded,
                required,
                metadata,
                exprs,
                watermark,
                hidden: false,
            }),
            inputs: Vec::new(),
            schema,
            times,
            name: table.name.clone(),
            place: table.place,
        }))
    }

    /// Computed columns, over what is stored.
    fn computed(
        &self,
        table: &Table,
        base: &SchemaRef,
        binder: &Binder,
    ) -> Planned<BTreeMap<String, Expr>> {
        let mut computed = BTreeMap::new();
        for declared in &table.columns {
            if let ColumnKind::Computed { expr } = &declared.kind
                && clock(expr).is_none()
            {
                let expr = self.table_expr(&table.name, base, &declared.name, expr, binder);
                let expr = expr.map_err(|trouble| trouble.or_at(declared.place))?;
                computed.insert(declared.name.clone(), expr);
            }
        }
        Ok(computed)
    }

    /// One expression of a CREATE TABLE, over the columns of a schema.
    fn table_expr(
        &self,
        table: &str,
        schema: &SchemaRef,
        name: &str,
        expr: &datafusion::sql::sqlparser::ast::Expr,
        binder: &Binder,
    ) -> Planned<Expr> {
        let expr = prepared_expr(expr, binder)?;
        let relation = Relation {
            schema: Arc::clone(schema),
            node: 0,
        };
        let plan = binder.expressions(table, relation, &[(name, &expr)])?;
        let LogicalPlan::Projection(projection) = plan else {
            return refused(
                Place::default(),
                "this is not an expression over the table's columns",
                "",
            );
        };
        let expr = self.free_expr(&projection.expr[0], projection.input.schema())?;
        let expr = replace_columns(&expr, &|index| column(schema, index))?;
        Ok(guarded(expr, schema)?)
    }

    /// Which column the watermark is about.
    fn rowtime(&self, table: &Table, schema: &Schema) -> Planned<usize> {
        let Some(clause) = &table.watermark else {
            return refused(table.place, "no watermark", "");
        };
        let Ok(rowtime) = schema.index_of(&clause.column) else {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let hint = did_you_mean(&clause.column, names.collect::<Vec<_>>());
            return refused(
                clause.place,
                format!("there is no column '{}'", clause.column),
                hint,
            );
        };
        let data_type = schema.field(rowtime).data_type();
        if is_millis(data_type) {
            return Ok(rowtime);
        }
        let name = &clause.column;
        let hint = match data_type {
            DataType::Timestamp(_, _) | DataType::Utf8 => format!(
                "add a column event_time AS CAST(`{name}` AS TIMESTAMP(3)) and declare the WATERMARK FOR event_time"
            ),
            DataType::Int64 => format!("add a column event_time AS TO_TIMESTAMP_LTZ(`{name}`, 3)"),
            _ => String::new(),
        };
        let message = format!(
            "the event time '{name}' is {}, but must be TIMESTAMP(3)",
            type_name(data_type)
        );
        refused(clause.place, message, hint)
    }

    fn watermark(
        &self,
        table: &Table,
        binder: &Binder,
        schema: &SchemaRef,
        exprs: &[Expr],
        rowtime: usize,
    ) -> Planned<Watermark> {
        let Some(clause) = &table.watermark else {
            return refused(table.place, "no watermark", "");
        };
        let value = self.table_expr(&table.name, schema, &clause.column, &clause.expr, binder);
        let value = value.map_err(|trouble| trouble.or_at(clause.place))?;
        let data_type = value.data_type(schema)?;
        if !is_millis(&data_type) {
            let message = format!(
                "the watermark is {}, but must be TIMESTAMP(3)",
                type_name(&data_type)
            );
            return refused(
                clause.place,
                message,
                "for example ts - INTERVAL '5' SECOND",
            );
        }
        let inline = |expr: &Expr| replace_columns(expr, &|index| Arc::clone(&exprs[index]));
        Ok(Watermark {
            rowtime: as_millis(Arc::clone(&exprs[rowtime])),
            value: inline(&quick_millis(&value))?,
        })
    }
}

/// The function of the clock that a computed column is, if it is just that.
fn clock(expr: &ast::Expr) -> Option<&'static str> {
    const CLOCKS: [&str; 5] = [
        "PROCTIME",
        "CURRENT_TIMESTAMP",
        "CURRENT_ROW_TIMESTAMP",
        "NOW",
        "LOCALTIMESTAMP",
    ];
    let ast::Expr::Function(call) = expr else {
        return None;
    };
    let empty = match &call.args {
        ast::FunctionArguments::None => true,
        ast::FunctionArguments::List(list) => list.args.is_empty(),
        ast::FunctionArguments::Subquery(_) => false,
    };
    let name = call.name.to_string().to_uppercase();
    CLOCKS
        .into_iter()
        .find(|clock| empty && *clock == name && call.over.is_none())
}

fn time_of(column: &Column) -> Time {
    match &column.kind {
        ColumnKind::Computed { expr } if clock(expr) == Some("PROCTIME") => Time::Proctime,
        _ => Time::Plain,
    }
}

type Stored = (SchemaRef, Vec<bool>, Vec<Metadata>);

/// What the format and the connector give: columns to decode, whether each is NOT NULL, and metadata.
fn stored(table: &Table) -> Planned<Stored> {
    let (mut decoded, mut required, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    for Column {
        name, kind, place, ..
    } in &table.columns
    {
        match kind {
            ColumnKind::Physical {
                data_type,
                not_null,
            } => {
                decoded.push(Field::new(name, data_type.clone(), !not_null));
                required.push(*not_null);
            }
            ColumnKind::Metadata { key, .. } => match MetadataKey::of(key) {
                Some(key) => metadata.push(Metadata {
                    name: name.clone(),
                    key,
                }),
                None => {
                    let known = MetadataKey::ALL.iter().map(|(known, _)| *known);
                    let message = format!("the connector has no metadata '{key}'");
                    return refused(*place, message, did_you_mean(key, known));
                }
            },
            ColumnKind::Computed { expr } if clock(expr).is_some() => metadata.push(Metadata {
                name: name.clone(),
                key: MetadataKey::Clock,
            }),
            ColumnKind::Computed { .. } => {}
        }
    }
    Ok((Arc::new(Schema::new(decoded)), required, metadata))
}

/// A moment as a number of milliseconds; a constant interval is subtracted from the number, which is much quicker than to
/// subtract it by the calendar, and the same in UTC.
fn quick_millis(value: &Expr) -> Expr {
    if let Some(binary) = value.downcast_ref::<BinaryExpr>()
        && matches!(binary.op(), Operator::Plus | Operator::Minus)
        && let Some(interval) = binary.right().downcast_ref::<Literal>()
        && let Some(millis) = interval_millis(interval.value())
    {
        let moment = quick_millis(binary.left());
        return Arc::new(Operation::moved(moment, *binary.op(), millis));
    }
    as_millis(Arc::clone(value))
}

fn arrow_trouble(error: arrow::error::ArrowError) -> Trouble {
    Trouble::from(datafusion::common::DataFusionError::from(error))
}

/// An expression that costs nothing: a column, a constant, or a field of a ROW.
pub fn is_cheap(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if as_column(expr).is_some() || expr.is::<Literal>() {
        return true;
    }
    expr.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|call| {
            crate::sql::functions::is_field(call.fun()) && call.args().iter().all(is_cheap)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, TimestampMillisecondArray};
    use arrow::datatypes::{Int64Type, IntervalMonthDayNano};
    use arrow::record_batch::RecordBatch;
    use datafusion::common::ScalarValue;

    #[test]
    fn a_watermark_never_wraps() {
        let times = Arc::new(TimestampMillisecondArray::from(vec![i64::MIN, 7_000]));
        let batch = RecordBatch::try_from_iter([("ts", times as _)]).unwrap();
        let interval = IntervalMonthDayNano::new(0, 0, 5_000_000_000);
        let interval = Literal::new(ScalarValue::IntervalMonthDayNano(Some(interval)));
        let ts = column(&batch.schema(), 0);
        let value: Expr = Arc::new(BinaryExpr::new(ts, Operator::Minus, Arc::new(interval)));
        let millis = quick_millis(&value).evaluate(&batch).unwrap();
        let millis = millis.into_array(2).unwrap();
        assert_eq!(
            millis.as_primitive::<Int64Type>().values(),
            &[i64::MIN, 2_000]
        );
    }
}
