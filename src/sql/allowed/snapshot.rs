//! FOR SYSTEM_TIME AS OF, which stands behind a table that is joined, and nowhere else.

use crate::sql::queries::{snapshot, version};
use crate::sql::refusal::{Parsed, Refusal};
use datafusion::sql::sqlparser::ast::{JoinConstraint, JoinOperator, Spanned, TableWithJoins};

const FORM: &str = "write JOIN c FOR SYSTEM_TIME AS OF o.proc ON o.c_id = c.id, where proc is a column AS PROCTIME() of the table o before it";

/// Refuses what is no lookup join among the members of a FROM clause.
pub fn check(joined: &TableWithJoins) -> Parsed<()> {
    if version(&joined.relation).is_some() {
        return Err(Refusal::new(
            joined.relation.span(),
            "FOR SYSTEM_TIME AS OF is for a table behind JOIN",
        )
        .hint(FORM));
    }
    for join in &joined.joins {
        if version(&join.relation).is_none() {
            continue;
        }
        let refuse = |message: &str| Err(Refusal::new(join.relation.span(), message).hint(FORM));
        if snapshot(&join.relation).is_none() {
            return refuse(
                "FOR SYSTEM_TIME AS OF takes a column of the table before it, as in Flink",
            );
        }
        match &join.join_operator {
            JoinOperator::Join(JoinConstraint::On(_))
            | JoinOperator::Inner(JoinConstraint::On(_))
            | JoinOperator::Left(JoinConstraint::On(_))
            | JoinOperator::LeftOuter(JoinConstraint::On(_)) => {}
            _ => return refuse("FOR SYSTEM_TIME AS OF is for JOIN and LEFT JOIN with ON"),
        }
    }
    Ok(())
}
