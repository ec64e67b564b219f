//! What a query may consist of. Everything that is not listed here is refused at its place: sqlparser knows many dialects, and
//! DataFusion drops parts of some of them without a word.

mod expressions;
mod snapshot;
mod unnest;

use super::Place;
use super::queries::{function_name, normalise_window};
use super::refusal::Refusal;
use datafusion::sql::sqlparser::ast::*;
use std::ops::ControlFlow;

/// Walks over a query or an expression, refuses what is not allowed, and brings window functions into their agreed form.
pub struct Allowed {
    /// Where the whole begins: the place of what has none of its own.
    begin: Place,
    relations: Vec<(String, Place)>,
    looked_up: Vec<(String, Place)>,
    ctes: Vec<String>,
    /// Whether the expression that is looked at is the call of a window function in FROM.
    in_window: bool,
    depth: usize,
}

type Checked = ControlFlow<Refusal>;

/// Deeper expressions could exhaust the stack of whoever walks over them.
const MAX_DEPTH: usize = 400;

/// Likewise for chains of UNION ALL.
const MAX_UNIONS: usize = 200;

const CHANGELOG: &str = "its result would have to be taken back when more rows come";

impl Allowed {
    pub fn new(begin: Place) -> Allowed {
        Allowed {
            begin,
            relations: Vec::new(),
            looked_up: Vec::new(),
            ctes: Vec::new(),
            in_window: false,
            depth: 0,
        }
    }

    /// The tables and views that were read, and those that rows were looked up in, without the query's own CTEs.
    #[expect(clippy::type_complexity, reason = "two of the same")]
    pub fn into_relations(self) -> (Vec<(String, Place)>, Vec<(String, Place)>) {
        let Allowed {
            mut relations,
            mut looked_up,
            ctes,
            ..
        } = self;
        for named in [&mut relations, &mut looked_up] {
            named.retain(|(name, _)| !ctes.contains(name));
        }
        (relations, looked_up)
    }

    fn refuse(&self, at: impl Into<Place>, message: impl Into<String>, hint: &str) -> Checked {
        let place: Place = at.into();
        ControlFlow::Break(Refusal::new(place.or(self.begin), message).hint(hint))
    }

    /// Goes down the left side of a chain of UNIONs step by step: whoever walks over it afterwards does so by recursion.
    fn set_expr(&self, mut body: &SetExpr) -> Checked {
        for _ in 0..MAX_UNIONS {
            let (op, quantifier, left, right) = match body {
                SetExpr::Select(_) | SetExpr::Query(_) => return ControlFlow::Continue(()),
                SetExpr::SetOperation {
                    left,
                    op,
                    set_quantifier,
                    right,
                } => (op, set_quantifier, left, right),
                other => return self.refuse(other.span(), "a query begins with SELECT", ""),
            };
            match (op, quantifier) {
                (SetOperator::Union, SetQuantifier::All) => self.set_expr(right)?,
                (SetOperator::Union, _) => {
                    return self.refuse(
                        right.span(),
                        "UNION without ALL is not supported",
                        "write UNION ALL, which keeps equal rows",
                    );
                }
                _ => return self.refuse(right.span(), format!("{op} is not supported"), CHANGELOG),
            }
            body = left;
        }
        self.refuse(
            self.begin,
            "too many UNIONs in one query",
            "give a name to a part of them with CREATE VIEW",
        )
    }

    fn joins(&self, joined: &TableWithJoins) -> Checked {
        if let Err(refusal) = snapshot::check(joined) {
            return self.refuse(refusal.place, refusal.message, &refusal.hint);
        }
        for join in &joined.joins {
            let at = join.relation.span();
            let constraint = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint)
                | JoinOperator::CrossJoin(constraint) => constraint,
                _ => {
                    return self.refuse(
                        at,
                        "this kind of join is not supported",
                        "JOIN, LEFT JOIN, RIGHT JOIN and FULL JOIN are",
                    );
                }
            };
            if join.global {
                return self.refuse(at, "GLOBAL joins are not supported", "");
            }
            if let JoinConstraint::Using(_) | JoinConstraint::Natural = constraint {
                return self.refuse(
                    at,
                    "USING and NATURAL are not supported",
                    "write the condition out: ON a.id = b.id AND ..",
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn alias(&self, alias: Option<&TableAlias>) -> Checked {
        match alias {
            Some(TableAlias {
                name, at: Some(_), ..
            }) => self.refuse(name.span, "AT is not supported here", ""),
            Some(TableAlias { columns, .. })
                if columns.iter().any(|column| column.data_type.is_some()) =>
            {
                self.refuse(
                    alias
                        .map(|alias| alias.name.span)
                        .unwrap_or(columns[0].name.span),
                    "an alias gives names, not types",
                    "",
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn table_factor(&mut self, factor: &mut TableFactor) -> Checked {
        let at = factor.span();
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let Some(plain) = function_name(name) else {
                    return self.refuse(
                        at,
                        format!("{name}: a table's name has no dots in it"),
                        "catalogues and databases are not supported: use a plain name",
                    );
                };
                let named = match version {
                    None => &mut self.relations,
                    Some(_) => &mut self.looked_up,
                };
                named.push((plain.value.clone(), plain.span.into()));
                let alias = alias.clone();
                self.alias(alias.as_ref())
            }
            TableFactor::Derived {
                lateral: false,
                alias,
                sample: None,
                ..
            } => self.alias(alias.as_ref()),
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                self.joins(table_with_joins)?;
                self.alias(alias.as_ref())
            }
            TableFactor::TableFunction {
                expr: Expr::Function(function),
                alias,
            } => {
                let at = Place::from(function.name.span()).or(self.begin);
                match normalise_window(function, at) {
                    Ok(read) => self.relations.push(read),
                    Err(refusal) => return ControlFlow::Break(refusal),
                }
                self.in_window = true;
                self.alias(alias.as_ref())
            }
            // Only `unnest::normalise` makes it.
            TableFactor::UNNEST { alias, .. } => {
                let alias = alias.clone();
                self.alias(alias.as_ref())
            }
            _ => self.refuse(
                at,
                "this is not supported in FROM",
                "a table, a view, a sub-query or a TUMBLE window is",
            ),
        }
    }
}

impl VisitorMut for Allowed {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &mut Query) -> Checked {
        if let Some(with) = &query.with {
            if with.recursive {
                return self.refuse(
                    with.with_token.0.span,
                    "WITH RECURSIVE is not supported",
                    "",
                );
            }
            for cte in &with.cte_tables {
                if cte.from.is_some() || cte.materialized.is_some() {
                    return self.refuse(cte.alias.name.span, "MATERIALIZED is not supported", "");
                }
                self.ctes.push(cte.alias.name.value.clone());
            }
        }
        if let Some(order) = &query.order_by {
            return self.refuse(
                order.span(),
                "ORDER BY is not supported",
                "the rows of a stream have no end to be sorted before; sort where they are read",
            );
        }
        if let Some(limit) = &query.limit_clause {
            return self.refuse(
                limit.span(),
                "LIMIT and OFFSET are not supported",
                CHANGELOG,
            );
        }
        if query.fetch.is_some() {
            return self.refuse(query.body.span(), "FETCH is not supported", CHANGELOG);
        }
        if !query.locks.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return self.refuse(
                query.body.span(),
                "the query ends with something that is not Flink SQL",
                "",
            );
        }
        self.set_expr(&query.body)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Checked {
        let at = select.select_token.0.span;
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::On(_)) => return self.refuse(at, "DISTINCT ON is not supported", ""),
            Some(_) => {
                return self.refuse(
                    at,
                    "SELECT DISTINCT is not supported",
                    "group by the columns in a window",
                );
            }
        }
        for item in &select.projection {
            let options = match item {
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => continue,
                SelectItem::Wildcard(options) => options,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(_),
                    options,
                ) => options,
                _ => return self.refuse(item.span(), "this is not supported in SELECT", ""),
            };
            let WildcardAdditionalOptions {
                wildcard_token: _,
                opt_ilike,
                opt_exclude,
                opt_except,
                opt_replace,
                opt_rename,
                opt_alias,
            } = options;
            if opt_ilike.is_some()
                || opt_exclude.is_some()
                || opt_except.is_some()
                || opt_replace.is_some()
                || opt_rename.is_some()
                || opt_alias.is_some()
            {
                return self.refuse(item.span(), "'*' stands alone", "name the columns");
            }
        }
        if let GroupByExpr::All(_) = &select.group_by {
            return self.refuse(at, "GROUP BY ALL is not supported", "name the columns");
        }
        if let GroupByExpr::Expressions(_, modifiers) = &select.group_by
            && !modifiers.is_empty()
        {
            return self.refuse(
                select.group_by.span(),
                "GROUP BY .. WITH is not supported",
                "",
            );
        }
        if select.from.is_empty() {
            return self.refuse(
                at,
                "SELECT without FROM is not supported",
                "rows come from a table: see the connector 'datagen'",
            );
        }
        let foreign = select.top.is_some()
            || !select.optimizer_hints.is_empty()
            || select.select_modifiers.is_some()
            || select.exclude.is_some()
            || select.into.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || select.flavor != SelectFlavor::Standard;
        if foreign {
            return self.refuse(at, "this SELECT has a clause that is not Flink SQL", "");
        }
        if let Err(refusal) = unnest::normalise(&mut select.from) {
            return self.refuse(refusal.place, refusal.message, &refusal.hint);
        }
        select.from.iter().try_for_each(|joined| self.joins(joined))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Checked {
        wrap_window(factor);
        self.table_factor(factor)
    }

    fn post_visit_table_factor(&mut self, _: &mut TableFactor) -> Checked {
        self.in_window = false;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Checked {
        self.depth += 1;
        if self.depth > MAX_DEPTH || expressions::is_deep_chain(expr, MAX_DEPTH) {
            return self.refuse(
                self.begin,
                "an expression is nested too deeply",
                "give a name to a part of it with CREATE VIEW",
            );
        }
        match expressions::check(expr, self.in_window) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Refusal {
                place,
                message,
                hint,
            }) => self.refuse(place, message, &hint),
        }
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> Checked {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// `FROM TUMBLE(..)` is `FROM TABLE(TUMBLE(..))`.
fn wrap_window(factor: &mut TableFactor) {
    let TableFactor::Table {
        name,
        alias,
        args: Some(TableFunctionArgs {
            args,
            settings: None,
        }),
        ..
    } = factor
    else {
        return;
    };
    let function = Function {
        name: name.clone(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: std::mem::take(args),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    };
    *factor = TableFactor::TableFunction {
        expr: Expr::Function(function),
        alias: alias.take(),
    };
}
