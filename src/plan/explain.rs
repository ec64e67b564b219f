//! A graph for a person's eyes.

use super::{Frame, Gives, Graph, LookupJoin, Node, NodeId, Op, Rank, Scan, describe};
use crate::operator::hidden;
use crate::sql::Table;
use crate::sql::functions::type_name;
use arrow::datatypes::Schema;
use std::fmt::Write;

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tree below each sink; what several sinks share is drawn once, and named where it comes again.
    Text,
    Mermaid,
    Dot,
}

/// Draws a job's graph.
pub fn explain(graph: &Graph, format: Format) -> String {
    match format {
        Format::Text => text(graph),
        Format::Mermaid => mermaid(graph),
        Format::Dot => dot(graph),
    }
}

fn text(graph: &Graph) -> String {
    let mut out = format!("job {}\n", graph.name);
    let mut shown = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Sink(_)) {
            out.push('\n');
            tree(graph, id, 0, &mut shown, &mut out);
        }
    }
    out
}

fn tree(graph: &Graph, id: NodeId, depth: usize, shown: &mut [bool], out: &mut String) {
    let node = &graph.nodes[id];
    let indent = "  ".repeat(depth);
    // Writing into a String cannot fail.
    let _ = write!(out, "{indent}{}", title(node));
    if shown[id] {
        out.push_str(" (see above)\n");
        return;
    }
    shown[id] = true;
    let readers = graph
        .nodes
        .iter()
        .filter(|other| other.inputs.contains(&id))
        .count();
    if readers > 1 {
        let _ = write!(out, " (read {readers} times)");
    }
    out.push('\n');
    for line in details(graph, node) {
        let _ = writeln!(out, "{indent}    {line}");
    }
    for &input in &node.inputs {
        tree(graph, input, depth + 1, shown, out);
    }
}

/// What a node is called, with what it is where its name does not say so.
fn title(node: &Node) -> String {
    let word = node.op.word();
    let last = word.rsplit(' ').next().unwrap_or(word);
    match node.op {
        Op::Filter { .. } | Op::Union | Op::Window(_) | Op::IntervalJoin(_) | Op::Lookup(_)
            if node.name.contains(last) =>
        {
            node.name.clone()
        }
        _ => format!("{word} {}", node.name),
    }
}

/// What a node does, line by line.
fn details(graph: &Graph, node: &Node) -> Vec<String> {
    match &node.op {
        Op::Scan(scan) => scan_details(scan, &node.schema),
        Op::Project { exprs } => {
            let columns = exprs
                .iter()
                .zip(node.schema.fields())
                .filter(|(_, field)| !is_hidden(field.name()));
            columns
                .map(|(expr, field)| {
                    let expr = describe::expr(expr);
                    if &expr == field.name() {
                        expr
                    } else {
                        format!("{} = {expr}", field.name())
                    }
                })
                .collect::<Vec<_>>()
                .chunk_short()
        }
        Op::Filter { predicate } => vec![describe::expr(predicate)],
        Op::Union => Vec::new(),
        Op::Window(window) => {
            let words = describe::window(window.window, ", offset ");
            let mut lines = vec![format!("{words} by {}", time(&window.time))];
            if !window.keys.is_empty() {
                lines.push(format!(
                    "keys: {}",
                    list(window.keys.iter().map(describe::expr))
                ));
            }
            let aggregates = window
                .aggregates
                .iter()
                .map(|aggregate| aggregate.function.name().to_owned());
            lines.push(format!("gives: {}", list(aggregates)));
            lines
        }
        Op::Group(group) => {
            let keys = list(group.keys.iter().map(describe::expr));
            let gives = group.aggregates.iter();
            let gives = gives.map(|aggregate| aggregate.function.name().to_owned());
            vec![
                format!("keys: {keys}"),
                format!("gives: {}", list(gives)),
                "its rows change".to_owned(),
            ]
        }
        Op::Rank(rank) => rank_details(rank),
        Op::IntervalJoin(join) => {
            let kind = join.kind.words();
            let keys = join.left_keys.iter().zip(&join.right_keys);
            let keys = keys.map(|(l, r)| format!("{} = {}", describe::expr(l), describe::expr(r)));
            let names: Vec<&str> = node
                .inputs
                .iter()
                .map(|&i| graph.nodes[i].name.as_str())
                .collect();
            let mut lines = vec![
                format!("{kind} join of {}", names.join(" and ")),
                format!("keys: {}", list(keys)),
                format!(
                    "{} <= {} - {} <= {}",
                    describe::duration(join.lower_ms),
                    time(&join.left_time),
                    time(&join.right_time),
                    describe::duration(join.upper_ms)
                ),
            ];
            lines.extend(
                join.filter
                    .as_ref()
                    .map(|filter| format!("where {}", describe::expr(filter))),
            );
            lines
        }
        Op::Over(over) => {
            let order = match &over.time {
                Some(of) => time(of),
                None => "arrival".into(),
            };
            let mut lines = vec![format!("over {}, by {order}", frame(over.frame))];
            if !over.keys.is_empty() {
                lines.push(format!(
                    "keys: {}",
                    list(over.keys.iter().map(describe::expr))
                ));
            }
            let calls = over.calls.iter().map(|call| call.name.clone());
            lines.push(format!("gives: {}", list(calls)));
            lines
        }
        Op::Unnest(unnest) => vec![format!(
            "each element of {}{}{}",
            describe::expr(&unnest.array),
            if unnest.ordinality { ", numbered" } else { "" },
            if unnest.outer { ", or NULL" } else { "" }
        )],
        Op::Lookup(lookup) => lookup_details(lookup),
        Op::Sink(sink) => sink_details(&sink.table),
    }
}

fn rank_details(rank: &Rank) -> Vec<String> {
    let partition = list(rank.partition.iter().map(describe::expr));
    let number = if rank.number { ", numbered" } else { "" };
    let wait = match &rank.gives {
        Gives::Changes => "its rows change".to_owned(),
        Gives::AtWindowEnd(end) => format!("when the window ends: {}", time(end)),
        Gives::AtTime(at) => format!("when the watermark reaches {}", time(at)),
    };
    vec![
        format!("{}{number}", describe::first_rows(rank)),
        format!("keys: {partition}"),
        wait,
    ]
}

fn lookup_details(lookup: &LookupJoin) -> Vec<String> {
    let LookupJoin { read, keys, .. } = lookup;
    let kind = if lookup.outer { "left outer" } else { "inner" };
    let keys = keys.iter().map(|key| {
        let column = read.field(key.column).name();
        format!("{column} = {}", describe::expr(&key.value))
    });
    let fields = read.fields().iter();
    let fields = fields.map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
    let mut lines = vec![
        format!(
            "{kind} lookup in {}, {}",
            lookup.table.name,
            connector(&lookup.table)
        ),
        format!("keys: {}", list(keys)),
        format!("reads: {}", list(fields)),
    ];
    let filter = lookup.filter.as_ref();
    lines.extend(filter.map(|filter| format!("where {}", describe::expr(filter))));
    lines
}

/// Which rows an OVER counts for a row.
pub(super) fn frame(frame: Frame) -> String {
    match frame {
        Frame::AllRows => "all rows before".into(),
        Frame::AllRange => "all rows up to the same moment".into(),
        Frame::Rows(preceding) => format!("{preceding} rows before"),
        Frame::Range(millis) => format!("{} before", describe::duration(millis)),
    }
}

fn scan_details(scan: &Scan, schema: &Schema) -> Vec<String> {
    let mut lines = vec![connector(&scan.table)];
    let decoded = scan
        .decoded
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
    lines.push(format!("decodes: {}", list(decoded)));
    if !scan.metadata.is_empty() {
        lines.push(format!(
            "metadata: {}",
            list(scan.metadata.iter().map(|m| m.name.clone()))
        ));
    }
    for (expr, field) in scan.exprs.iter().zip(schema.fields()) {
        let text = describe::expr(expr);
        if &text != field.name() {
            lines.push(format!("{} = {text}", field.name()));
        }
    }
    match (&scan.watermark, &scan.table.watermark) {
        (Some(watermark), Some(clause)) => {
            lines.push(format!(
                "watermark: {} = {}",
                clause.column,
                time_text(&describe::expr(&watermark.value))
            ));
        }
        _ => lines.push("watermark: none".into()),
    }
    if scan.hidden {
        lines.push("rows carry their origin and watermark".into());
    }
    lines
}

fn sink_details(table: &Table) -> Vec<String> {
    let mut lines = vec![connector(table)];
    if !table.partitioned_by.is_empty() {
        lines.push(format!(
            "partitioned by: {}",
            table.partitioned_by.join(", ")
        ));
    }
    lines
}

/// The connector and where it reads or writes.
fn connector(table: &Table) -> String {
    let get = |key| table.options.get(key);
    let mut line = get("connector").unwrap_or("no connector").to_owned();
    for key in ["topic", "path", "collection"] {
        if let Some(value) = get(key) {
            let _ = write!(line, " {value}");
        }
    }
    if let Some(format) = get("value.format").or(get("format")) {
        let _ = write!(line, ", {format}");
    }
    line
}

/// An event time is a number of milliseconds inside; for a person it is the column.
pub(super) fn time(expr: &std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>) -> String {
    time_text(&describe::expr(expr))
}

fn time_text(text: &str) -> String {
    let Some(rest) = text.strip_prefix("CAST(") else {
        return text.to_owned();
    };
    let Some((inner, after)) = rest.split_once(" AS BIGINT)") else {
        return text.to_owned();
    };
    match after
        .strip_prefix(" - ")
        .and_then(|millis| millis.parse().ok())
    {
        Some(millis) => format!("{inner} - {}", describe::duration(millis)),
        None => format!("{inner}{after}"),
    }
}

fn is_hidden(name: &str) -> bool {
    [
        hidden::SPLIT,
        hidden::OFFSET,
        hidden::WATERMARK,
        hidden::KIND,
    ]
    .contains(&name)
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "nothing".into()
    } else {
        items.join(", ")
    }
}

trait ChunkShort {
    /// Short items together on lines of up to about a hundred letters; long ones alone.
    fn chunk_short(self) -> Vec<String>;
}

impl ChunkShort for Vec<String> {
    fn chunk_short(self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for item in self {
            match lines.last_mut() {
                Some(line) if line.len() + item.len() < 100 => {
                    line.push_str(", ");
                    line.push_str(&item);
                }
                _ => lines.push(item),
            }
        }
        lines
    }
}

fn label(graph: &Graph, node: &Node, line_break: &str) -> String {
    let mut lines = vec![title(node)];
    if !matches!(node.op, Op::Project { .. }) {
        lines.extend(details(graph, node));
    }
    let escaped = lines
        .iter()
        .map(|line| line.replace('"', "'").replace('<', "‹").replace('>', "›"));
    escaped.collect::<Vec<_>>().join(line_break)
}

fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    for (id, node) in graph.nodes.iter().enumerate() {
        let label = label(graph, node, "<br>");
        let _ = match node.op {
            Op::Scan(_) => writeln!(out, "  n{id}([\"{label}\"])"),
            Op::Sink(_) => writeln!(out, "  n{id}[(\"{label}\")]"),
            _ => writeln!(out, "  n{id}[\"{label}\"]"),
        };
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            let _ = writeln!(out, "  n{input} --> n{id}");
        }
    }
    out
}

fn dot(graph: &Graph) -> String {
    let mut out = String::from("digraph job {\n  rankdir=LR;\n  node [shape=box];\n");
    for (id, node) in graph.nodes.iter().enumerate() {
        let _ = writeln!(out, "  n{id} [label=\"{}\"];", label(graph, node, "\\n"));
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            let _ = writeln!(out, "  n{input} -> n{id};");
        }
    }
    out.push_str("}\n");
    out
}
