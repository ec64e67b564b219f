//! A whole script: tables, views and INSERTs, one behind the other.

use super::bind::{Binder, Relation};
use super::calls::prepared_query;
use super::draft::Drafts;
use super::lower::{Lowering, renamed};
use super::trouble::{Planned, Trouble};
use super::{Graph, Node, Op, changes, hidden, merge, overlap, prune, rank};
use crate::error::{Error, Result};
use crate::sql::refusal::refuse;
use crate::sql::{Place, Script, Table};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Spanned, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans a job. `name` is the job's name, as [`crate::config::Settings`] knows it.
pub fn plan(script: &Script, name: &str) -> Result<Graph> {
    let planning = Planning::new(script)?;
    if script.inserts.is_empty() {
        return Err(Error::job(format!(
            "{}: the job has no INSERT INTO, so it would do nothing",
            script.path
        )));
    }
    let drafts = planning.inserts()?;
    overlap::check(&drafts, &script.path)?;
    let finished = merge::merged(drafts)
        .and_then(|drafts| prune::pruned(&drafts))
        .and_then(merge::merged)
        .map_err(|error| Error::bug("the graph could not be simplified").caused_by(error))?;
    rank::check_limits(&finished, &script.path)?;
    overlap::check_bounds(&finished, &script.path)?;
    changes::check_rivals(&finished, &script.path)?;
    let finished = hidden::with_hidden(finished).with_kinds();
    Ok(graph(finished, name, &script.path))
}

/// A script of which tables and views are known.
pub(super) struct Planning<'a> {
    script: &'a Script,
    binder: Binder,
    lowering: Lowering,
}

impl<'a> Planning<'a> {
    pub(super) fn new(script: &'a Script) -> Result<Planning<'a>> {
        let binder = Binder::new();
        let lowering = Lowering::new(Arc::clone(binder.options()));
        let mut planning = Planning {
            script,
            binder,
            lowering,
        };
        for table in &script.tables {
            planning.table(table)?;
        }
        for view in &script.views {
            planning.lowering.enter(&view.name, view.place);
            let planned = planning.query(&view.query).and_then(|plan| {
                let first_new = planning.lowering.drafts.nodes.len();
                let node = planning.lowering.plan(&plan)?;
                let names: Vec<String> = if view.columns.is_empty() {
                    plan.schema()
                        .fields()
                        .iter()
                        .map(|field| field.name().clone())
                        .collect()
                } else {
                    view.columns.clone()
                };
                let draft = &mut planning.lowering.drafts.nodes[node];
                if node >= first_new {
                    draft.name.clone_from(&view.name);
                }
                if names.len() != draft.schema.fields().len() {
                    let message = format!(
                        "the view names {} columns, but its query gives {}",
                        names.len(),
                        draft.schema.fields().len()
                    );
                    return super::trouble::refused(view.place, message, "");
                }
                Ok(Relation {
                    schema: renamed(&draft.schema, names.into_iter()),
                    node,
                })
            });
            match planned {
                Ok(relation) => planning.binder.define(&view.name, relation),
                Err(trouble) => return Err(planning.error(trouble, &view.query, view.place)),
            }
        }
        Ok(planning)
    }

    fn table(&mut self, table: &Arc<Table>) -> Result<()> {
        self.lowering.enter(&table.name, table.place);
        match self.lowering.scan(table, &self.binder) {
            Ok(node) => {
                let schema = Arc::clone(self.lowering.drafts.schema(node));
                self.binder.define(&table.name, Relation { schema, node });
                Ok(())
            }
            Err(trouble) => Err(trouble.into_error(&self.script.path, table.place)),
        }
    }

    /// A query's logical plan.
    pub(super) fn query(&self, query: &Query) -> Planned<LogicalPlan> {
        Ok(self.binder.query(&prepared_query(query, &self.binder)?)?)
    }

    /// The first expression of a projection, with what is constant computed.
    #[cfg(test)]
    pub(super) fn folded(
        &self,
        projection: &datafusion::logical_expr::Projection,
    ) -> Planned<super::draft::Expr> {
        self.lowering
            .free_expr(&projection.expr[0], projection.input.schema())
    }

    fn inserts(mut self) -> Result<Drafts> {
        // Several INSERTs into one table are one sink, which writes the rows of all.
        let mut by_table: BTreeMap<usize, (Place, Vec<usize>)> = BTreeMap::new();
        for insert in &self.script.inserts {
            let known = self
                .script
                .tables
                .iter()
                .position(|table| table.name == insert.table);
            let Some(index) = known else {
                let message = format!("there is no table '{}' to write", insert.table);
                return Err(refuse(
                    &self.script.path,
                    insert.place,
                    message,
                    "declare it with CREATE TABLE",
                ));
            };
            let table = &self.script.tables[index];
            self.lowering.enter(&table.name, insert.place);
            let planned = self
                .query(&insert.query)
                .and_then(|plan| self.lowering.insert(insert, table, &plan));
            match planned {
                Ok(node) => {
                    by_table
                        .entry(index)
                        .or_insert((insert.place, Vec::new()))
                        .1
                        .push(node);
                }
                Err(trouble) => return Err(self.error(trouble, &insert.query, insert.place)),
            }
        }
        for (index, (place, inputs)) in by_table {
            self.lowering
                .sink(&self.script.tables[index], inputs, place);
        }
        Ok(self.lowering.drafts)
    }

    /// The error for the user, with the nearest place that is known.
    fn error(&self, trouble: Trouble, query: &Query, statement: Place) -> Error {
        let place = trouble
            .place()
            .or_else(|| self.locate(&trouble, query))
            .unwrap_or(statement);
        trouble.into_error(&self.script.path, place)
    }

    /// DataFusion often does not say where an expression stands that has a wrong type. So the query is planned again with one
    /// column of its SELECT at a time: the one that alone gives the same trouble is to blame, and else its WHERE.
    fn locate(&self, trouble: &Trouble, query: &Query) -> Option<Place> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let fails = |projection: Vec<SelectItem>, keep_where: bool| {
            let mut select = select.clone();
            select.projection = projection;
            if !keep_where {
                select.selection = None;
            }
            let mut query = query.clone();
            *query.body = SetExpr::Select(select);
            self.query(&query)
                .err()
                .is_some_and(|other| other.words() == trouble.words())
        };
        let one = || {
            let one = Expr::Value(Value::Number("1".into(), false).with_empty_span());
            vec![SelectItem::UnnamedExpr(one)]
        };
        if let Some(selection) = &select.selection
            && fails(one(), true)
            && !fails(one(), false)
        {
            return Some(selection.span().into()).filter(|place: &Place| place.line > 0);
        }
        let item = select
            .projection
            .iter()
            .find(|item| fails(vec![(*item).clone()], false))?;
        Some(item.span().into()).filter(|place: &Place| place.line > 0)
    }
}

fn graph(drafts: Drafts, name: &str, path: &str) -> Graph {
    let mut taken: Vec<String> = Vec::new();
    let mut nodes = Vec::with_capacity(drafts.nodes.len());
    // Tables that are read keep their names whatever else is called so; then tables that are written.
    let order = |op: &Op| match op {
        Op::Scan(_) => 0,
        Op::Sink(_) => 1,
        _ => 2,
    };
    let mut by_rank: Vec<usize> = (0..drafts.nodes.len()).collect();
    by_rank.sort_by_key(|&id| order(&drafts.nodes[id].op));
    let mut names = vec![String::new(); drafts.nodes.len()];
    for id in by_rank {
        let wanted = &drafts.nodes[id].name;
        let free = (1..)
            .map(|n| {
                if n == 1 {
                    wanted.clone()
                } else {
                    format!("{wanted} {n}")
                }
            })
            .find(|name| !taken.contains(name))
            .unwrap_or_else(|| wanted.clone());
        taken.push(free.clone());
        names[id] = free;
    }
    for (draft, name) in drafts.nodes.into_iter().zip(names) {
        nodes.push(Node {
            inputs: draft.inputs,
            op: draft.op,
            schema: draft.schema,
            name,
            place: format!("{path}:{}", draft.place),
        });
    }
    Graph {
        name: name.to_owned(),
        nodes,
    }
}
