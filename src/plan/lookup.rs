//! Lookup joins: `JOIN t FOR SYSTEM_TIME AS OF o.proc ON ..`, each row with what another table has for it at that moment.

use super::bind::Relation;
use super::draft::{Draft, Expr, Time, as_column, columns_read, move_columns};
use super::join::{Side, side_of};
use super::lower::{Lowering, shown};
use super::trouble::{Planned, Trouble, refused};
use super::{LookupJoin, LookupKey, NodeId, Op, Scan};
use crate::operator::guard::guarded;
use crate::sql::{Place, connectors};
use arrow::datatypes::{Field, Schema};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    self, Extension, JoinType, LogicalPlan, Operator, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, TryCastExpr};
use datafusion::physical_expr::{conjunction, split_conjunction};
use std::fmt;
use std::sync::Arc;

/// The node of the logical plan: a table as of a moment that each row of what stands before it names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    input: LogicalPlan,
    as_of: AsOf,
}

/// The column that names the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsOf {
    pub table: Option<String>,
    pub column: String,
    pub place: Place,
}

impl PartialOrd for Snapshot {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl Snapshot {
    pub fn plan(input: LogicalPlan, as_of: AsOf) -> LogicalPlan {
        let node = Arc::new(Snapshot { input, as_of });
        LogicalPlan::Extension(Extension { node })
    }

    /// The snapshot that a plan is, with another name or not.
    pub fn of(plan: &LogicalPlan) -> Option<&Snapshot> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => Snapshot::of(&alias.input),
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The node that the table is, if it is one and no query.
    fn table(&self) -> Option<NodeId> {
        match &self.input {
            LogicalPlan::TableScan(scan) => Some(scan.source.downcast_ref::<Relation>()?.node),
            _ => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for Snapshot {
    fn name(&self) -> &str {
        "FOR SYSTEM_TIME AS OF"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<logical_expr::Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Snapshot: {}", self.as_of.column)
    }

    fn with_exprs_and_inputs(
        &self,
        _: Vec<logical_expr::Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let as_of = self.as_of.clone();
        match inputs.pop() {
            Some(input) => Ok(Snapshot { input, as_of }),
            None => plan_err!("a snapshot has one input"),
        }
    }
}

impl Lowering {
    /// A join with a snapshot; `extra` are predicates of a WHERE around an inner one.
    pub fn lookup(
        &mut self,
        join: &logical_expr::Join,
        snapshot: &Snapshot,
        extra: Vec<logical_expr::Expr>,
    ) -> Planned<NodeId> {
        let place = snapshot.as_of.place.or(self.statement());
        let outer = match join.join_type {
            JoinType::Inner => false,
            JoinType::Left => true,
            other => return refused(place, format!("{other} lookup joins are not supported"), ""),
        };
        let (left, right) = (join.left.schema(), join.right.schema());
        let asked = join.filter.iter().cloned().chain(extra);
        let mut predicates: Vec<_> = asked.flat_map(split_conjunction_owned).collect();
        for (of_left, of_right) in &join.on {
            predicates.push(of_left.clone().eq(of_right.clone()));
        }
        // What an inner join asks of its left rows alone is asked before anything is looked up.
        let (before, rest): (Vec<_>, Vec<_>) = predicates
            .into_iter()
            .partition(|predicate| !outer && side_of(predicate, left, right) == Side::Left);
        let input = self.input(&join.left, before)?;
        self.expect_final(input, place, "a lookup join")?;
        self.expect_clock(&snapshot.as_of, left, input, place)?;
        let scan = self.looked_up(snapshot, place)?.clone();

        let both = left.join(right)?;
        let under = &self.drafts.nodes[input];
        let mut fields: Vec<Field> = under
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        let mut times = under.times.clone();
        let width = fields.len();
        for field in right.fields() {
            let nullable = field.is_nullable() || outer;
            fields.push(field.as_ref().clone().with_nullable(nullable));
        }
        times.resize(fields.len(), Time::Plain);
        let schema = Arc::new(Schema::new(fields));
        let mut conditions = Conditions {
            scan: &scan,
            schema: &schema,
            width,
            keys: Vec::new(),
            rest: Vec::new(),
        };
        for predicate in &rest {
            let predicate = self.free_expr(predicate, &both)?;
            let predicate = move_columns(&predicate, &schema, &|index| index)?;
            for part in split_conjunction(&predicate) {
                conditions.take(part)?;
            }
        }
        let Conditions { keys, rest, .. } = conditions;
        if keys.is_empty() {
            return refused(
                place,
                format!(
                    "a lookup in '{}' needs a column of it that equals something",
                    scan.table.name
                ),
                "for example ON o.customer_id = c.id; where the types differ, CAST the other side to the column's",
            );
        }
        let op = Op::Lookup(LookupJoin {
            table: Arc::clone(&scan.table),
            read: Arc::clone(&scan.decoded),
            keys,
            exprs: scan.exprs.clone(),
            filter: match rest.is_empty() {
                true => None,
                false => Some(guarded(conjunction(rest), &schema)?),
            },
            outer,
        });
        Ok(self.drafts.add(Draft {
            op,
            inputs: vec![input],
            schema,
            times,
            name: self.name("lookup"),
            place,
        }))
    }

    /// Refuses a moment that is not the one at which the row is there.
    fn expect_clock(
        &self,
        as_of: &AsOf,
        left: &DFSchema,
        input: NodeId,
        place: Place,
    ) -> Planned<()> {
        let table = as_of.table.as_deref().map(TableReference::bare);
        let named = Column::new(table, &as_of.column);
        let index = left
            .index_of_column(&named)
            .map_err(|error| Trouble::from(error).or_at(place))?;
        let node = &self.drafts.nodes[input];
        match node.times[index] {
            Time::Proctime => Ok(()),
            time => refused(
                place,
                format!(
                    "{} is not a column AS PROCTIME()",
                    shown(node.schema.field(index))
                ),
                match time {
                    Time::Rowtime => {
                        "a table is looked up as it is now: declare a column proc AS PROCTIME(), and write AS OF proc"
                    }
                    _ => "declare one in the table that is read, and pass it on unchanged",
                },
            ),
        }
    }

    /// The table of a snapshot as it would be read.
    fn looked_up(&self, snapshot: &Snapshot, place: Place) -> Planned<&Scan> {
        let node = snapshot.table().map(|node| &self.drafts.nodes[node].op);
        let Some(Op::Scan(scan)) = node else {
            return refused(
                place,
                "only a table can be looked up, not a query over it",
                "join the table itself, and ask for more in ON or WHERE",
            );
        };
        let table = &scan.table;
        let connector = table.options.get("connector").unwrap_or_default();
        if !connectors::looks_up(connector) {
            return refused(
                place,
                format!(
                    "rows cannot be looked up in '{}', a table of {connector}",
                    table.name
                ),
                "they can in tables of mongodb; two streams are joined with ON and a time interval",
            );
        }
        if let Some(metadata) = scan.metadata.first() {
            return refused(
                place,
                format!(
                    "the column '{}' of '{}' cannot be looked up",
                    metadata.name, table.name
                ),
                "metadata and clocks belong to rows that come in a stream; leave it out of the table",
            );
        }
        Ok(scan)
    }
}

/// What is asked of a pair of rows.
struct Conditions<'a> {
    scan: &'a Scan,
    /// The columns of both, those of the input first.
    schema: &'a Schema,
    /// How many the input has.
    width: usize,
    keys: Vec<LookupKey>,
    rest: Vec<Expr>,
}

impl Conditions<'_> {
    /// An equality of one of the table's own columns is a key; everything else is asked of what was found.
    fn take(&mut self, predicate: &Expr) -> Planned<()> {
        let key = match predicate.downcast_ref::<BinaryExpr>() {
            Some(equality) if *equality.op() == Operator::Eq => {
                let (one, other) = (equality.left(), equality.right());
                match self.key(one, other)? {
                    Some(key) => Some(key),
                    None => self.key(other, one)?,
                }
            }
            _ => None,
        };
        match key {
            Some(key) if self.keys.iter().all(|known| known.column != key.column) => {
                self.keys.push(key);
            }
            _ => self.rest.push(Arc::clone(predicate)),
        }
        Ok(())
    }

    fn key(&self, of_table: &Expr, value: &Expr) -> Planned<Option<LookupKey>> {
        let mut read = Vec::new();
        columns_read(value, &mut read);
        if read.iter().any(|&index| index >= self.width) {
            return Ok(None);
        }
        let stored = column_of(of_table, self.schema)
            .and_then(|index| index.checked_sub(self.width))
            .and_then(|index| as_column(&self.scan.exprs[index]));
        let Some(column) = stored else {
            return Ok(None);
        };
        let wanted = self.scan.decoded.field(column).data_type();
        if wanted.is_nested() {
            return Ok(None);
        }
        let given = value.data_type(self.schema)?;
        let value: Expr = if *wanted == given {
            match value.downcast_ref::<CastExpr>() {
                // A text that is no number is none of the column's values either.
                Some(cast) if wanted.is_signed_integer() && is_text(cast, self.schema) => {
                    Arc::new(TryCastExpr::new(Arc::clone(cast.expr()), wanted.clone()))
                }
                _ => Arc::clone(value),
            }
        } else if wanted.is_signed_integer() && given.is_signed_integer() {
            // A number that the column cannot hold is none of its values.
            Arc::new(TryCastExpr::new(Arc::clone(value), wanted.clone()))
        } else {
            return Ok(None);
        };
        Ok(Some(LookupKey { column, value }))
    }
}

fn is_text(cast: &CastExpr, schema: &Schema) -> bool {
    let from = cast.expr().data_type(schema);
    from.is_ok_and(|from| from.is_string())
}

/// The column that an expression is, maybe as a wider whole number: DataFusion makes both sides of an equality alike.
fn column_of(expr: &Expr, schema: &Schema) -> Option<usize> {
    if let Some(column) = as_column(expr) {
        return Some(column);
    }
    let cast = expr.downcast_ref::<CastExpr>()?;
    let (from, to) = (cast.expr().data_type(schema).ok()?, cast.cast_type());
    let is_wider = from.is_signed_integer()
        && to.is_signed_integer()
        && from.primitive_width() <= to.primitive_width();
    column_of(cast.expr(), schema).filter(|_| is_wider)
}
