//! UNNEST behind a table, brought into the form that `sql::queries` promises.

use crate::sql::queries::function_name;
use crate::sql::refusal::{Parsed, Refusal};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, Spanned, TableFactor,
    TableFunctionArgs, TableWithJoins, Value,
};

const FORM: &str =
    "write CROSS JOIN UNNEST(items) AS u(item), or LEFT JOIN UNNEST(items) AS u(item) ON TRUE";

/// Brings every UNNEST of a FROM clause into the agreed form.
pub fn normalise(from: &mut Vec<TableWithJoins>) -> Parsed<()> {
    // `FROM t, UNNEST(..)` is a cross join.
    let mut at = 1;
    while at < from.len() {
        if !is_unnest(&from[at].relation) {
            at += 1;
            continue;
        }
        let TableWithJoins { relation, joins } = from.remove(at);
        from[at - 1].joins.push(Join {
            relation,
            global: false,
            join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
        });
        from[at - 1].joins.extend(joins);
    }
    from.iter_mut().try_for_each(nested)
}

fn is_unnest(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Table { name, args: Some(_), .. }
        if function_name(name).is_some_and(|name| name.value.eq_ignore_ascii_case("UNNEST")))
}

/// What stands before an UNNEST becomes one member with it.
fn nested(joined: &mut TableWithJoins) -> Parsed<()> {
    while let Some(at) = joined
        .joins
        .iter()
        .position(|join| is_unnest(&join.relation))
    {
        let behind = joined.joins.split_off(at + 1);
        let Some(join) = joined.joins.pop() else {
            return Ok(());
        };
        let before = TableWithJoins {
            relation: joined.relation.clone(),
            joins: std::mem::take(&mut joined.joins),
        };
        let relation = match before.joins.is_empty() {
            true => before.relation,
            false => nest(before),
        };
        joined.relation = nest(TableWithJoins {
            relation,
            joins: vec![unnest(join)?],
        });
        joined.joins = behind;
    }
    Ok(())
}

fn nest(joined: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin {
        table_with_joins: Box::new(joined),
        alias: None,
    }
}

fn unnest(join: Join) -> Parsed<Join> {
    let place = join.relation.span();
    let refuse = |message: &str| Err(Refusal::new(place, message).hint(FORM));
    let always = |constraint: &JoinConstraint| match constraint {
        JoinConstraint::On(Expr::Value(value)) => value.value == Value::Boolean(true),
        JoinConstraint::None => true,
        _ => false,
    };
    let join_operator = match &join.join_operator {
        JoinOperator::CrossJoin(JoinConstraint::None) => join.join_operator.clone(),
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) if always(constraint) => {
            JoinOperator::CrossJoin(JoinConstraint::None)
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint)
            if always(constraint) =>
        {
            JoinOperator::Left(JoinConstraint::None)
        }
        _ => return refuse("UNNEST is joined with CROSS JOIN, or with LEFT JOIN .. ON TRUE"),
    };
    let TableFactor::Table {
        alias,
        args: Some(TableFunctionArgs { args, .. }),
        with_ordinality,
        ..
    } = join.relation
    else {
        return refuse("UNNEST is no table");
    };
    let array = match <[FunctionArg; 1]>::try_from(args) {
        Ok([FunctionArg::Unnamed(FunctionArgExpr::Expr(array))]) => array,
        _ => return refuse("UNNEST takes one array or map"),
    };
    if with_ordinality && matches!(join_operator, JoinOperator::Left(_)) {
        return refuse(
            "LEFT JOIN UNNEST .. WITH ORDINALITY is not supported: Flink 2.2 fails on it",
        );
    }
    Ok(Join {
        relation: TableFactor::UNNEST {
            alias,
            array_exprs: vec![array],
            with_offset: false,
            with_offset_alias: None,
            with_ordinality,
        },
        global: false,
        join_operator,
    })
}
