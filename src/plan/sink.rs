//! INSERT INTO: a query's rows as rows of a table.

use super::draft::{Draft, Expr, Time, column};
use super::lower::Lowering;
use super::trouble::{Planned, refused};
use super::{NodeId, Op, SinkTable};
use crate::sql::functions::{fits, not_null, physical_cast, type_name};
use crate::sql::{ColumnKind, Insert, Table};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{LogicalPlan, lit};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Spanned};
use std::sync::Arc;

/// A column of a table that is written.
struct Target<'a> {
    name: &'a str,
    data_type: &'a DataType,
    not_null: bool,
}

impl Lowering {
    /// The rows of an INSERT, with exactly the columns that the table stores, in its order and its types.
    pub fn insert(
        &mut self,
        insert: &Insert,
        table: &Table,
        plan: &LogicalPlan,
    ) -> Planned<NodeId> {
        let node = self.plan(plan)?;
        let schema = Arc::clone(self.drafts.schema(node));
        let targets = targets(table);
        let filled: Vec<&str> = if insert.columns.is_empty() {
            targets.iter().map(|target| target.name).collect()
        } else {
            insert.columns.iter().map(String::as_str).collect()
        };
        if filled.len() != schema.fields().len() {
            let message = format!(
                "the query gives {} columns, but {} has {} to fill",
                schema.fields().len(),
                table.name,
                filled.len()
            );
            return refused(
                insert.place,
                message,
                format!("the columns are: {}", filled.join(", ")),
            );
        }
        let mut columns = Vec::with_capacity(targets.len());
        let mut times = Vec::with_capacity(targets.len());
        for target in &targets {
            let value = match filled.iter().position(|name| *name == target.name) {
                Some(index) => {
                    times.push(self.drafts.nodes[node].times[index]);
                    self.fitted(insert, table, target, column(&schema, index), index, node)?
                }
                None if target.not_null => {
                    let message = format!(
                        "{}.{} is NOT NULL, but is not filled",
                        table.name, target.name
                    );
                    return refused(
                        insert.place,
                        message,
                        "name it in INSERT INTO and give it a value",
                    );
                }
                None => {
                    times.push(Time::Plain);
                    let null = ScalarValue::try_from(target.data_type)?;
                    Arc::new(Literal::new(null)) as Expr
                }
            };
            columns.push((target.name.to_owned(), value));
        }
        let row = self
            .drafts
            .project(node, columns, times, self.name("row"), insert.place)?;
        self.check_sink(insert, table, row)?;
        Ok(row)
    }

    /// One value in the type of its column.
    fn fitted(
        &self,
        insert: &Insert,
        table: &Table,
        target: &Target,
        value: Expr,
        index: usize,
        node: NodeId,
    ) -> Planned<Expr> {
        let schema = self.drafts.schema(node);
        let given = value.data_type(schema)?;
        if !fits(&given, target.data_type) {
            let to = type_name(target.data_type);
            let message = format!(
                "column '{}' of {} is {to}, but the query gives {}",
                target.name,
                table.name,
                type_name(&given)
            );
            return refused(
                item_place(insert, index),
                message,
                format!("CAST(.. AS {to})"),
            );
        }
        let value: Expr = if given.is_null() {
            Arc::new(Literal::new(ScalarValue::try_from(target.data_type)?))
        } else {
            physical_cast(value, schema, target.data_type, &self.options)?
        };
        if !target.not_null || !value.nullable(schema)? {
            return Ok(value);
        }
        let checked = not_null(lit(0), &format!("{}.{}", table.name, target.name));
        let datafusion::logical_expr::Expr::ScalarFunction(checked) = checked else {
            return refused(insert.place, "NOT NULL cannot be checked", "");
        };
        let options = Arc::clone(&self.options);
        Ok(Arc::new(ScalarFunctionExpr::try_new(
            checked.func,
            vec![value],
            schema,
            options,
        )?))
    }

    /// The node that writes a table.
    pub fn sink(
        &mut self,
        table: &Arc<Table>,
        inputs: Vec<NodeId>,
        place: crate::sql::Place,
    ) -> NodeId {
        let input = self.union(inputs, &format!("{} union", table.name));
        let draft = Draft {
            op: Op::Sink(SinkTable {
                table: Arc::clone(table),
            }),
            inputs: vec![input],
            schema: Arc::clone(self.drafts.schema(input)),
            times: self.drafts.nodes[input].times.clone(),
            name: table.name.clone(),
            place,
        };
        self.drafts.add(draft)
    }
}

fn targets(table: &Table) -> Vec<Target<'_>> {
    table
        .columns
        .iter()
        .filter_map(|declared| match &declared.kind {
            ColumnKind::Physical {
                data_type,
                not_null,
            } => Some(Target {
                name: &declared.name,
                data_type,
                not_null: *not_null,
            }),
            ColumnKind::Metadata {
                data_type,
                is_virtual: false,
                ..
            } => Some(Target {
                name: &declared.name,
                data_type,
                not_null: false,
            }),
            _ => None,
        })
        .collect()
}

/// Where the expression for a column stands in the INSERT's query.
fn item_place(insert: &Insert, index: usize) -> crate::sql::Place {
    let mut body = insert.query.body.as_ref();
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let place = match body {
        SetExpr::Select(select) => {
            let all = select.projection.iter().take(index + 1);
            let no_star = all.clone().all(|item| {
                !matches!(
                    item,
                    SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
                )
            });
            select
                .projection
                .get(index)
                .filter(|_| no_star)
                .map(|item| item.span().into())
        }
        _ => None,
    };
    place.map_or(insert.place, |place: crate::sql::Place| {
        place.or(insert.place)
    })
}
