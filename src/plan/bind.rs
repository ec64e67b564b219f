//! From a query's tree to DataFusion's logical plan: names and types.
//!
//! What a job can name is its own tables and views and the functions of [`crate::sql::functions`]; nothing else
//! exists here, so nothing else has to be refused. The plan is typed with Flink's rules in three steps: literals
//! become INT where they fit, DataFusion makes operands agree, and casts become Flink's casts.

use super::NodeId;
use super::lookup::{AsOf, Snapshot};
use super::rules;
use super::unnest::{How, Unnesting};
use crate::sql::functions::{self, Bound, window_bound};
use crate::sql::{queries, types};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::datatype::DataTypeExt;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, Result, TableReference, plan_datafusion_err, plan_err};
use datafusion::functions_aggregate::planner::AggregateFunctionPlanner;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannedRelation, PlannerResult, RawAggregateExpr,
    RawFieldAccessExpr, RawWindowExpr, RelationPlanner, RelationPlannerContext, RelationPlanning,
    TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, GetFieldAccess, HigherOrderUDF, LogicalPlan,
    LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF, lit,
};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table or view that queries can name: columns, and the node that gives them.
#[derive(Debug)]
pub struct Relation {
    pub schema: SchemaRef,
    pub node: NodeId,
}

impl TableSource for Relation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Everything that names can stand for.
pub struct Binder {
    relations: BTreeMap<String, Arc<Relation>>,
    functions: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    options: Arc<ConfigOptions>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    type_planner: Arc<dyn TypePlanner>,
}

impl Binder {
    pub fn new() -> Binder {
        let mut options = ConfigOptions::new();
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        // NULL comes before every value.
        options.sql_parser.default_null_ordering = "nulls_min".to_owned();
        let mut by_name = BTreeMap::new();
        for function in functions::all() {
            for alias in function.aliases() {
                by_name.insert(alias.clone(), Arc::clone(&function));
            }
            by_name.insert(function.name().to_owned(), function);
        }
        Binder {
            relations: BTreeMap::new(),
            functions: by_name,
            aggregates: functions::aggregates()
                .into_iter()
                .map(|aggregate| (aggregate.name().to_lowercase(), aggregate))
                .collect(),
            options: Arc::new(options),
            expr_planners: vec![Arc::new(Forms), Arc::new(AggregateFunctionPlanner)],
            relation_planners: vec![Arc::new(Windows), Arc::new(Unnests), Arc::new(Snapshots)],
            type_planner: Arc::new(FlinkTypes),
        }
    }

    /// Makes a table or view known.
    pub fn define(&mut self, name: &str, relation: Relation) {
        self.relations.insert(name.to_owned(), Arc::new(relation));
    }

    /// The names of all functions and aggregates.
    pub fn callable(&self) -> impl Iterator<Item = &str> + Clone {
        self.functions
            .keys()
            .chain(self.aggregates.keys())
            .map(String::as_str)
    }

    pub fn options(&self) -> &Arc<ConfigOptions> {
        &self.options
    }

    /// A query as a typed plan.
    pub fn query(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let planner = SqlToRel::new(self);
        let statement = ast::Statement::Query(Box::new(query.clone()));
        let plan = planner.sql_statement_to_plan(statement)?;
        rules::typed(plan, &self.options)
    }

    /// Expressions over the columns of one relation, as a typed plan that computes them.
    pub fn expressions(
        &self,
        table: &str,
        relation: Relation,
        exprs: &[(&str, &ast::Expr)],
    ) -> Result<LogicalPlan> {
        let planner = SqlToRel::new(self);
        let scan = LogicalPlanBuilder::scan(TableReference::bare(table), Arc::new(relation), None)?;
        let schema = Arc::clone(scan.schema());
        let mut columns = Vec::with_capacity(exprs.len());
        for (name, expr) in exprs {
            let mut context = PlannerContext::new();
            let expr = planner.sql_to_expr((*expr).clone(), &schema, &mut context)?;
            columns.push(expr.alias(*name));
        }
        rules::typed(scan.project(columns)?.build()?, &self.options)
    }
}

impl ContextProvider for Binder {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.relations.get(name.table()) {
            Some(relation) => Ok(Arc::clone(relation) as Arc<dyn TableSource>),
            None => plan_err!("table '{name}' not found"),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.type_planner))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(&name.to_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_lowercase()).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        name.eq_ignore_ascii_case(functions::ROW_NUMBER)
            .then(functions::row_number)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The forms of SQL that are not written as a call.
#[derive(Debug)]
struct Forms;

fn call(name: &str, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
    let function = functions::named(name)
        .ok_or_else(|| plan_datafusion_err!("the function {name} does not exist"))?;
    Ok(PlannerResult::Planned(function.call(args)))
}

impl ExprPlanner for Forms {
    fn plan_array_literal(
        &self,
        items: Vec<Expr>,
        _: &DFSchema,
    ) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::make_array(items)))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let is_map = matches!(access.expr.get_type(schema)?, DataType::Map(_, _));
        Ok(PlannerResult::Planned(match access.field_access {
            GetFieldAccess::NamedStructField { name } if is_map => {
                functions::element_at(access.expr, lit(name))
            }
            GetFieldAccess::NamedStructField { name } => match name.try_as_str() {
                Some(Some(field)) => functions::field(access.expr, field),
                _ => return plan_err!("a field's name is a text"),
            },
            GetFieldAccess::ListIndex { key } => functions::element_at(access.expr, *key),
            GetFieldAccess::ListRange { .. } => {
                return plan_err!("a part of an ARRAY cannot be taken");
            }
        }))
    }

    fn plan_compound_identifier(
        &self,
        field: &arrow::datatypes::Field,
        qualifier: Option<&TableReference>,
        nested: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let field = nested
            .iter()
            .fold(column, |row, name| functions::field(row, name));
        Ok(PlannerResult::Planned(field))
    }

    /// DataFusion leaves casts out of the names that it gives to aggregates, so that AVG(x) and AVG(CAST(x AS DOUBLE)) would be
    /// called alike.
    fn plan_aggregate(
        &self,
        mut call: RawAggregateExpr,
    ) -> Result<PlannerResult<RawAggregateExpr>> {
        call.args = call.args.into_iter().map(named).collect();
        call.filter = call.filter.map(|filter| Box::new(named(*filter)));
        Ok(PlannerResult::Original(call))
    }

    /// COUNT(*) counts every row. Names as for aggregates.
    fn plan_window(&self, mut call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        #[expect(deprecated, reason = "DataFusion's planner still gives it")]
        let every = |expr: &Expr| matches!(expr, Expr::Wildcard { .. });
        let counts = call.args.is_empty() && call.func_def.name() == "count";
        call.args = match call.args.iter().any(every) || counts {
            true => vec![lit(1_i64)],
            false => call.args.into_iter().map(named).collect(),
        };
        Ok(PlannerResult::Original(call))
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        // DataFusion gives the whole text first.
        call("position", args.into_iter().rev().collect())
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let mut args = args;
        if let Some(Expr::Literal(unit, _)) = args.first()
            && let Some(Some(unit)) = unit.try_as_str()
        {
            args[0] = lit(unit.to_uppercase());
        }
        call("extract", args)
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        call("overlay", args)
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        call("substring", args)
    }
}

fn named(expr: Expr) -> Expr {
    let name = expr.to_string();
    if has_cast(&expr) {
        expr.alias(name)
    } else {
        expr
    }
}

fn has_cast(expr: &Expr) -> bool {
    let is_cast = |expr: &Expr| Ok(matches!(expr, Expr::Cast(_) | Expr::TryCast(_)));
    expr.exists(is_cast).unwrap_or(false)
}

/// Types as the parser of job files writes them.
#[derive(Debug)]
struct FlinkTypes;

impl TypePlanner for FlinkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        Ok(types::of_ast(sql_type).map(|data_type| data_type.into_nullable_field_ref()))
    }
}

/// `TABLE(TUMBLE(..))` and its like: the table with three more columns.
#[derive(Debug)]
struct Windows;

impl RelationPlanner for Windows {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(call) = queries::window(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(table_factor(call.table.clone()))?;
        let time = ast::Expr::Identifier(call.time.clone());
        let time = context.sql_to_expr(time, input.schema())?;
        let place = call.time.span.into();
        let mut columns: Vec<Expr> = input
            .schema()
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect();
        for (bound, name) in [
            (Bound::Start, "window_start"),
            (Bound::End, "window_end"),
            (Bound::Time, "window_time"),
        ] {
            columns.push(window_bound(time.clone(), call.window, bound, place).alias(name));
        }
        let plan = LogicalPlanBuilder::from(input).project(columns)?.build()?;
        let alias = call.alias.cloned();
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan, alias,
        ))))
    }
}

/// `t CROSS JOIN UNNEST(t.items) AS u(item)`: what stands before it, with the elements' columns behind.
#[derive(Debug)]
struct Unnests;

impl RelationPlanner for Unnests {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(unnest) = queries::unnest(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(unnest.left.clone())?;
        let array = context.sql_to_expr(unnest.array.clone(), input.schema())?;
        let columns = unnest.alias.iter().flat_map(|alias| &alias.columns);
        let how = How {
            outer: unnest.outer,
            ordinality: unnest.ordinality,
            alias: unnest.alias.map(|alias| alias.name.value.clone()),
            columns: columns.map(|column| column.name.value.clone()).collect(),
            place: ast::Spanned::span(unnest.array).into(),
        };
        let plan = Unnesting::plan(input, array, how)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan, None,
        ))))
    }
}

/// `t FOR SYSTEM_TIME AS OF o.proc`: the table, and the column of what stands before it, which a join finds there.
#[derive(Debug)]
struct Snapshots;

impl RelationPlanner for Snapshots {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(as_of) = queries::snapshot(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let as_of = AsOf {
            table: as_of.table.map(|table| table.value.clone()),
            column: as_of.column.value.clone(),
            place: as_of.table.unwrap_or(as_of.column).span.into(),
        };
        let mut table = relation;
        let alias = match &mut table {
            ast::TableFactor::Table { version, alias, .. } => {
                *version = None;
                alias.take()
            }
            _ => None,
        };
        let plan = Snapshot::plan(context.plan(table)?, as_of);
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan, alias,
        ))))
    }
}

fn table_factor(name: ast::Ident) -> ast::TableFactor {
    ast::TableFactor::Table {
        name: ast::ObjectName::from(vec![name]),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
