//! Jobs, and the graphs or refusals that they give.

use super::script::Planning;
use super::{Format, Graph, explain, plan};
use crate::sql::functions::type_name;
use crate::sql::{Script, parse};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

fn script(path: &str, text: &str) -> crate::error::Result<Script> {
    parse(path, text, &|_| None)
}

fn planned(path: &str, text: &str) -> crate::error::Result<Graph> {
    plan(&script(path, text)?, "test")
}

/// The values of an expression over three rows, as text; its constants can be columns of these rows.
pub(crate) fn evaluate(expr: &str, as_columns: bool) -> Result<Vec<String>, String> {
    const ROWS: usize = 3;
    let text = format!(
        "CREATE TABLE t (x INT) WITH ('connector' = 'datagen');\nCREATE VIEW v AS SELECT {expr} AS result FROM t;"
    );
    let script = script("test.sql", &text).map_err(|error| error.to_string())?;
    let planning = Planning::new(&script).map_err(|error| error.to_string())?;
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("x".into(), Arc::new(Int32Array::from(vec![1; ROWS])))];
    let LogicalPlan::Projection(projection) = planning
        .query(&script.views[0].query)
        .map_err(|trouble| trouble.words())?
    else {
        return Err("not a projection".into());
    };
    let expr = if as_columns {
        let context = PhysicalPlanningContext::default();
        let (schema, props) = (projection.input.schema(), ExecutionProps::new());
        let expr = projection.expr[0].clone().unalias_nested().data;
        let expr = create_physical_expr(&expr, schema, &props, &context);
        with_columns(expr.map_err(|error| error.to_string())?, ROWS, &mut columns)
    } else {
        let expr = planning.folded(&projection);
        expr.map_err(|trouble| trouble.words())?
    };
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(ROWS));
    let batch =
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).unwrap();
    let value = expr.evaluate(&batch).map_err(|error| error.to_string())?;
    let array = value.into_array(ROWS).map_err(|error| error.to_string())?;
    Ok(shown(&array))
}

/// Replaces every constant by a column, except units, which must be constants.
fn with_columns(
    expr: Arc<dyn PhysicalExpr>,
    rows: usize,
    columns: &mut Vec<(String, ArrayRef)>,
) -> Arc<dyn PhysicalExpr> {
    let replaced = expr.transform_down(|expr| {
        if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
            && [
                "extract",
                "timestampdiff",
                "timestampadd",
                "json_object",
                "json_array",
            ]
            .contains(&call.name())
        {
            let mut args = call.args().to_vec();
            for arg in args.iter_mut().skip(1) {
                *arg = with_columns(Arc::clone(arg), rows, columns);
            }
            let expr = Arc::clone(&expr).with_new_children(args)?;
            return Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump));
        }
        let Some(literal) = expr.downcast_ref::<Literal>() else {
            return Ok(Transformed::no(expr));
        };
        let array = literal.value().to_array_of_size(rows)?;
        let name = format!("c{}", columns.len());
        let column = Column::new(&name, columns.len());
        columns.push((name, array));
        Ok(Transformed::new(
            Arc::new(column) as Arc<dyn PhysicalExpr>,
            true,
            TreeNodeRecursion::Jump,
        ))
    });
    replaced.unwrap().data
}

fn shown(array: &ArrayRef) -> Vec<String> {
    if array.data_type() == &DataType::Boolean {
        let values = array.as_boolean().iter();
        return values
            .map(|value| value.map_or("NULL".into(), |value| value.to_string()))
            .collect();
    }
    let texts = crate::sql::functions::to_text(array).unwrap();
    texts
        .as_string::<i32>()
        .iter()
        .map(|value| value.unwrap_or("NULL").to_owned())
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan")
}

/// Whether goldens are written anew instead of compared: `UPDATE_GOLDENS=1 cargo test plan::`.
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDENS").is_some()
}

fn compare(path: &Path, actual: &str) {
    if updating() {
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let differs = expected
        .lines()
        .zip(actual.lines())
        .position(|(a, b)| a != b);
    panic!(
        "{} differs, first in line {}; UPDATE_GOLDENS=1 writes it anew.\n{actual}",
        path.display(),
        differs.map_or(
            expected.lines().count().min(actual.lines().count()),
            |line| line
        ) + 1
    );
}

/// A file of cases: `#### title`, the statements, `----`, and the graph or the refusal.
fn check_cases(file: &str) {
    check_file(&folder().join(file), |sql| match planned("job.sql", sql) {
        Ok(graph) => explain(&graph, Format::Text),
        Err(error) => error.to_string(),
    });
}

/// Holds each case of a file to what comes of its job. Before each stand the statements of the `tables.sql` beside it, in one line, so
/// the case itself begins in line 2.
pub(crate) fn check_file(path: &Path, result: impl Fn(&str) -> String) {
    let tables = std::fs::read_to_string(path.with_file_name("tables.sql")).unwrap();
    let tables: Vec<&str> = tables
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    let tables = tables.join(" ");
    let text = std::fs::read_to_string(path).unwrap();
    let mut actual = String::new();
    let (head, cases) = text.split_once("#### ").unwrap();
    actual.push_str(head);
    for case in cases.split("#### ") {
        let (title, rest) = case.split_once('\n').unwrap();
        let sql = rest.split("\n----\n").next().unwrap().trim_end();
        let result = result(&format!("{tables}\n{sql}\n"));
        actual.push_str(&format!(
            "#### {title}\n{sql}\n----\n{}\n\n",
            result.trim_end()
        ));
    }
    compare(path, &actual);
}

#[test]
fn refusals_name_the_place_and_the_way_out() {
    check_cases("refusals.txt");
}

#[test]
fn small_jobs_have_the_graphs_that_they_should() {
    check_cases("graphs.txt");
}

fn emergency() -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs/emergency.sql");
    let text = std::fs::read_to_string(path).unwrap();
    planned("jobs/emergency.sql", &text).unwrap()
}

#[test]
fn the_emergency_job_shares_what_it_can() {
    let begin = Instant::now();
    let graph = emergency();
    println!("planned in {:?}", begin.elapsed());
    let named = |word: &str| {
        graph
            .nodes
            .iter()
            .filter(|node| node.op.word() == word)
            .count()
    };
    assert_eq!(named("scan"), 2);
    assert_eq!(named("sink"), 6);
    assert_eq!(named("interval join"), 1, "alerts come of the same join");
    let flags = graph
        .nodes
        .iter()
        .filter(|node| node.name == "flagged")
        .count();
    assert_eq!(flags, 1, "the thresholds are computed once");
    compare(
        &folder().join("emergency.txt"),
        &explain(&graph, Format::Text),
    );
    compare(
        &folder().join("emergency.mermaid"),
        &explain(&graph, Format::Mermaid),
    );
}

/// A checkpoint's state finds its node by these: where they change without a change of the job, running jobs can no more be updated.
#[test]
fn what_checkpoints_say_of_the_emergency_job_stays_as_it_is() {
    let graph = emergency();
    let mut text = String::new();
    for (id, meaning) in super::meanings(&graph) {
        let name = &graph.nodes[id].name;
        text.push_str(&format!(
            "{name}\n  {}\n  {}\n",
            meaning.does, meaning.lineage
        ));
    }
    compare(&folder().join("emergency.meanings.txt"), &text);
}

/// What the runtime relies on, whatever the job.
#[test]
fn graphs_keep_their_promises() {
    let graph = emergency();
    for (id, node) in graph.nodes.iter().enumerate() {
        assert!(
            node.inputs.iter().all(|&input| input < id),
            "{}: inputs stand before",
            node.name
        );
        let same_name = graph
            .nodes
            .iter()
            .filter(|other| other.name == node.name)
            .count();
        assert_eq!(same_name, 1, "the name {} is unique", node.name);
        assert!(
            node.place.starts_with("jobs/emergency.sql:"),
            "{}",
            node.place
        );
        let inputs: Vec<_> = node
            .inputs
            .iter()
            .map(|&input| &graph.nodes[input].schema)
            .collect();
        if let super::Op::Project { exprs } = &node.op {
            for (expr, field) in exprs.iter().zip(node.schema.fields()) {
                assert_eq!(
                    &expr.data_type(inputs[0]).unwrap(),
                    field.data_type(),
                    "{}",
                    node.name
                );
            }
            assert_eq!(exprs.len(), node.schema.fields().len());
        }
        let hidden = crate::operator::hidden::fields();
        let has_hidden = node.schema.fields().ends_with(&hidden);
        match &node.op {
            super::Op::Scan(scan) => {
                assert_eq!(scan.hidden, has_hidden);
                let width = scan.exprs.len() + if has_hidden { hidden.len() } else { 0 };
                assert_eq!(node.schema.fields().len(), width);
            }
            super::Op::Window(_) | super::Op::IntervalJoin(_) => {
                assert!(
                    inputs
                        .iter()
                        .all(|schema| schema.fields().ends_with(&hidden))
                );
                assert!(!has_hidden);
            }
            super::Op::Sink(sink) => {
                let given: Vec<_> = inputs[0]
                    .fields()
                    .iter()
                    .map(|field| (field.name().clone(), type_name(field.data_type())))
                    .collect();
                let declared: Vec<_> = sink
                    .table
                    .columns
                    .iter()
                    .filter_map(|column| match &column.kind {
                        crate::sql::ColumnKind::Physical { data_type, .. } => {
                            Some((column.name.clone(), type_name(data_type)))
                        }
                        _ => None,
                    })
                    .collect();
                assert_eq!(given, declared, "{}", node.name);
            }
            _ => {}
        }
    }
}

/// Runs a projection of the emergency job over rows.
fn project(graph: &Graph, name: &str, batch: &RecordBatch) -> RecordBatch {
    let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
    let super::Op::Project { exprs } = &node.op else {
        panic!("{name} is not a projection")
    };
    let columns = exprs.iter().map(|expr| {
        expr.evaluate(batch)
            .unwrap()
            .into_array(batch.num_rows())
            .unwrap()
    });
    RecordBatch::try_new(Arc::clone(&node.schema), columns.collect()).unwrap()
}

#[test]
fn the_expressions_of_the_emergency_job_give_what_they_should() {
    use arrow::array::{
        BooleanArray, Float64Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray,
    };
    let graph = emergency();
    let flagged = graph
        .nodes
        .iter()
        .find(|node| node.name == "flagged")
        .unwrap();
    let input = &graph.nodes[flagged.inputs[0]].schema;
    let location = |x: f64, y: f64| -> ArrayRef {
        let fields = vec![
            Arc::new(Field::new("latitude", DataType::Float64, true)),
            Arc::new(Field::new("longitude", DataType::Float64, true)),
        ];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![x; 3])),
            Arc::new(Float64Array::from(vec![y; 3])),
        ];
        Arc::new(StructArray::new(fields.into(), arrays, None))
    };
    let columns: Vec<ArrayRef> = input
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "heart_rate" => Arc::new(Int32Array::from(vec![Some(181), Some(54), None])),
                "oxygen_saturation" => Arc::new(Float64Array::from(vec![87.9, 88.0, 99.0])),
                "vo2_max" => Arc::new(Float64Array::from(vec![17.0, 30.0, 30.0])),
                "emergency_alert" => {
                    Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))
                }
                "location" => location(51.51, -0.12),
                "event_time" => Arc::new(TimestampMillisecondArray::from(vec![0, 1, 2])),
                "timestamp" => arrow::compute::cast(
                    &TimestampMillisecondArray::from(vec![0, 1, 2]),
                    field.data_type(),
                )
                .unwrap(),
                _ if field.data_type() == &DataType::Int32 => {
                    Arc::new(Int32Array::from(vec![0; 3]))
                }
                _ if field.data_type() == &DataType::Int64 => {
                    Arc::new(Int64Array::from(vec![0; 3]))
                }
                _ => Arc::new(StringArray::from(vec!["x"; 3])),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(input), columns).unwrap();
    let flagged = project(&graph, "flagged", &batch);
    let reasons = shown(flagged.column_by_name("reasons").unwrap());
    assert_eq!(
        reasons,
        [
            "[heart_rate_high, oxygen_low, vo2_low, alert]",
            "[heart_rate_low]",
            "[]"
        ]
    );
    let breaches = project(&graph, "breach_events", &flagged);
    assert_eq!(
        shown(breaches.column_by_name("severity").unwrap()),
        ["3", "1", "0"]
    );

    // A degree of latitude is 111.195 km on this sphere.
    let distance = evaluate(
        "ROUND(2 * 6371.0088 * ASIN(SQRT(POWER(SIN(RADIANS(51.0 - 50.0) / 2), 2)
           + COS(RADIANS(50.0)) * COS(RADIANS(51.0)) * POWER(SIN(RADIANS(1.0 - 1.0) / 2), 2))), 3)",
        true,
    );
    assert_eq!(distance.unwrap(), ["111.195"; 3]);
}
