//! Where the values of a written column come from, as far as the plan tells: folders are named after some of them.

use super::draft::{Expr, as_column};
use super::rules::cast_target;
use super::{Graph, NodeId, Op};
use crate::operator::hidden;
use arrow::datatypes::DataType;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Literal};

/// How a value comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `DATE_FORMAT(.., pattern)`.
    Formatted(String),
    /// `EXTRACT(unit FROM ..)`.
    Extracted(String),
    /// The same for every row.
    Constant,
    /// Anything.
    Unknown,
}

impl Graph {
    /// The origins of a column of a table that is written: one for each way on which rows come there, equal ones once.
    pub fn origins(&self, table: &str, column: &str) -> Vec<Origin> {
        let mut found = Found::default();
        for node in &self.nodes {
            if let Op::Sink(sink) = &node.op
                && sink.table.name == table
            {
                for &input in &node.inputs {
                    match self.nodes[input].schema.index_of(column) {
                        Ok(index) => self.follow(input, index, &mut found),
                        Err(_) => found.push(Origin::Unknown),
                    }
                }
            }
        }
        found.0
    }

    /// Goes towards the sources from a column that a node gives.
    fn follow(&self, id: NodeId, column: usize, found: &mut Found) {
        let node = &self.nodes[id];
        match &node.op {
            Op::Project { exprs } => match exprs.get(column) {
                Some(expr) => self.judge(expr, Some(node.inputs[0]), found),
                None => found.push(Origin::Unknown),
            },
            // What a scan computes is computed of columns that come from outside.
            Op::Scan(scan) => match scan.exprs.get(column) {
                Some(expr) => self.judge(expr, None, found),
                None => found.push(Origin::Unknown),
            },
            Op::Filter { .. } | Op::Union | Op::Sink(_) => {
                for &input in &node.inputs {
                    self.follow(input, column, found);
                }
            }
            Op::Window(window) => {
                // The window's three columns stand before the keys.
                match column.checked_sub(3).and_then(|key| window.keys.get(key)) {
                    Some(key) => self.judge(key, Some(node.inputs[0]), found),
                    None => found.push(Origin::Unknown),
                }
            }
            Op::Group(group) => match group.keys.get(column) {
                Some(key) => self.judge(key, Some(node.inputs[0]), found),
                None => found.push(Origin::Unknown),
            },
            Op::Unnest(unnest) => match unnest.keep.get(column) {
                Some(&column) => self.follow(node.inputs[0], column, found),
                None => found.push(Origin::Unknown),
            },
            Op::Rank(_) | Op::Over(_) | Op::Lookup(_) => {
                let width = hidden::visible(&self.nodes[node.inputs[0]].schema);
                match column < width {
                    true => self.follow(node.inputs[0], column, found),
                    false => found.push(Origin::Unknown),
                }
            }
            Op::IntervalJoin(_) => {
                let left = hidden::visible(&self.nodes[node.inputs[0]].schema);
                match column.checked_sub(left) {
                    None => self.follow(node.inputs[0], column, found),
                    Some(column) => self.follow(node.inputs[1], column, found),
                }
            }
        }
    }

    /// What an expression gives, over the columns of a node if there is one.
    fn judge(&self, expr: &Expr, input: Option<NodeId>, found: &mut Found) {
        if let (Some(column), Some(input)) = (as_column(expr), input) {
            return self.follow(input, column, found);
        }
        if let Some(cast) = expr.downcast_ref::<CastExpr>()
            && cast.cast_type().is_integer()
        {
            return self.judge(cast.expr(), input, found);
        }
        if expr.is::<Literal>() {
            return found.push(Origin::Constant);
        }
        let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else {
            return found.push(Origin::Unknown);
        };
        let constant = |index: usize| {
            let literal = call.args().get(index)?.downcast_ref::<Literal>()?;
            literal.value().try_as_str().flatten().map(str::to_owned)
        };
        let origin = match (call.name(), call.args()) {
            ("not_null", [value]) => return self.judge(value, input, found),
            ("date_format", _) => constant(1).map(Origin::Formatted),
            ("extract", _) => constant(0).map(Origin::Extracted),
            (_, [value]) => match cast_target(call.fun()).as_deref() {
                Some("TINYINT" | "SMALLINT" | "INT" | "BIGINT") => {
                    return self.judge(value, input, found);
                }
                Some("STRING") => {
                    let schema = input.map(|input| &self.nodes[input].schema);
                    let from = schema.and_then(|schema| value.data_type(schema).ok());
                    let is_date = from == Some(DataType::Date32);
                    is_date.then(|| Origin::Formatted("yyyy-MM-dd".to_owned()))
                }
                _ => None,
            },
            _ => None,
        };
        found.push(origin.unwrap_or(Origin::Unknown));
    }
}

/// Each origin once.
#[derive(Default)]
struct Found(Vec<Origin>);

impl Found {
    fn push(&mut self, origin: Origin) {
        if !self.0.contains(&origin) {
            self.0.push(origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::plan;

    const TABLES: &str = "
        CREATE TABLE o (id STRING, code STRING, n INT, at TIMESTAMP(3), WATERMARK FOR at AS at)
          WITH ('connector' = 'datagen');
        CREATE TABLE w (id STRING, dt STRING, `hour` INT, day DATE NOT NULL)
          PARTITIONED BY (dt, `hour`, day) WITH ('connector' = 'filesystem', 'path' = 'w', 'format' = 'parquet');";

    #[track_caller]
    fn check(sql: &str, column: &str, expected: &[Origin]) {
        let script = crate::sql::parse("job.sql", &format!("{TABLES}{sql}"), &|_| None).unwrap();
        let graph = plan(&script, "test").unwrap();
        assert_eq!(graph.origins("w", column), expected, "{sql}");
    }

    fn formatted(pattern: &str) -> Origin {
        Origin::Formatted(pattern.to_owned())
    }

    #[test]
    fn the_pattern_is_found_behind_views_unions_and_windows() {
        let plain = "INSERT INTO w SELECT id, DATE_FORMAT(at, 'yyyy-MM-dd'), CAST(EXTRACT(HOUR FROM at) AS INT), CAST(at AS DATE) FROM o;";
        check(plain, "dt", &[formatted("yyyy-MM-dd")]);
        check(plain, "hour", &[Origin::Extracted("HOUR".into())]);
        check(plain, "day", &[Origin::Unknown]);
        check(plain, "id", &[Origin::Unknown]);
        check(
            "CREATE VIEW v AS SELECT *, DATE_FORMAT(at, 'yyyyMM') AS month_text FROM o WHERE n > 1;
             INSERT INTO w SELECT id, month_text, 7, CAST(at AS DATE) FROM v WHERE n > 2;
             INSERT INTO w SELECT id, DATE_FORMAT(at, 'yyyy-MM'), 7, CAST(at AS DATE) FROM o;",
            "dt",
            &[formatted("yyyyMM"), formatted("yyyy-MM")],
        );
        check(
            "INSERT INTO w SELECT id, CAST(CAST(at AS DATE) AS STRING), n, CAST(at AS DATE) FROM o
             UNION ALL SELECT id, code, n, CAST(at AS DATE) FROM o;",
            "dt",
            &[formatted("yyyy-MM-dd"), Origin::Unknown],
        );
        check(
            "CREATE VIEW v AS SELECT *, DATE_FORMAT(at, 'yyyyMM') AS month_text FROM o;
             INSERT INTO w SELECT id, month_text, n, CAST(window_start AS DATE)
             FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(at), INTERVAL '1' MINUTE))
             GROUP BY id, n, month_text, window_start, window_end;",
            "dt",
            &[formatted("yyyyMM")],
        );
        check(
            "INSERT INTO w SELECT a.id, b.m, 7, CAST(a.at AS DATE) FROM o a
             JOIN (SELECT id, at, DATE_FORMAT(at, 'HH') AS m FROM o) b ON a.id = b.id AND a.at BETWEEN b.at AND b.at + INTERVAL '1' MINUTE;",
            "dt",
            &[formatted("HH")],
        );
        check(plain, "nothing", &[Origin::Unknown]);
    }

    #[test]
    fn a_constant_is_one_value() {
        check(
            "INSERT INTO w SELECT id, 'all', 7, CAST(at AS DATE) FROM o;",
            "dt",
            &[Origin::Constant],
        );
    }
}
