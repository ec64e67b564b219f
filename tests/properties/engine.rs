//! The part of the engine that drives one node, with everything that may vary in the hands of the test.

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tributary::operator::{self, Operator, Output, StatePart, hidden, keys};
use tributary::plan::{Aggregate, Node, Op};
use tributary::time::{EventTime, Progress};

/// One row of an input: key, event time, value, and its number in the test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub key: Option<u8>,
    pub time: i64,
    pub value: Option<i64>,
    pub id: i64,
    /// The source's watermark just before it.
    pub watermark: i64,
}

/// A row as proptest draws it: its time is `advance` after the last one, less `back`.
#[derive(Debug, Clone)]
pub struct Draw {
    pub key: Option<u8>,
    pub advance: i64,
    pub back: i64,
    pub value: Option<i64>,
}

pub fn draws(max_back: i64, rows: usize) -> impl Strategy<Value = Vec<Draw>> {
    let key = prop_oneof![1 => Just(None), 9 => (0u8..3).prop_map(Some)];
    let value = prop_oneof![1 => Just(None), 5 => (0i64..3).prop_map(Some)];
    let draw = (key, 0i64..5, 0..max_back, value).prop_map(|(key, advance, back, value)| Draw {
        key,
        advance,
        back,
        value,
    });
    prop::collection::vec(draw, 0..rows)
}

/// One input's source: a single split whose watermark is `bound` behind its newest row.
pub struct Source {
    bound: i64,
    unit: i64,
    clock: i64,
    next_id: i64,
    pub watermark: i64,
}

impl Source {
    pub fn new(bound: i64, unit: i64, first_id: i64) -> Self {
        Source {
            bound,
            unit,
            clock: 0,
            next_id: first_id,
            watermark: i64::MIN,
        }
    }

    pub fn rows(&mut self, draws: &[Draw]) -> Vec<Row> {
        draws.iter().map(|draw| self.row(draw)).collect()
    }

    fn row(&mut self, draw: &Draw) -> Row {
        self.clock += draw.advance * self.unit;
        let time = self.clock - draw.back * self.unit;
        let row = Row {
            key: draw.key,
            time,
            value: draw.value,
            id: self.next_id,
            watermark: self.watermark,
        };
        self.next_id += 1;
        self.watermark = self.watermark.max(time - self.bound * self.unit);
        row
    }
}

pub fn schema() -> SchemaRef {
    let mut fields = vec![
        Arc::new(Field::new("key", DataType::Utf8, true)),
        Arc::new(Field::new("time", DataType::Int64, false)),
        Arc::new(Field::new("value", DataType::Int64, true)),
        Arc::new(Field::new("id", DataType::Int64, false)),
    ];
    fields.extend(hidden::fields());
    Arc::new(Schema::new(fields))
}

pub fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &schema()).unwrap())
}

pub fn key_text(key: Option<u8>) -> String {
    key.map(|key| format!("key {key}")).unwrap_or_default()
}

pub fn batch(rows: &[Row]) -> RecordBatch {
    let keys = rows.iter().map(|row| row.key.map(|_| key_text(row.key)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.collect::<StringArray>()),
        Arc::new(
            rows.iter()
                .map(|row| Some(row.time))
                .collect::<Int64Array>(),
        ),
        Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|_| Some(0)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|row| Some(row.watermark))
                .collect::<Int64Array>(),
        ),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// How an engine treats the rows of one round, and what happens after it.
#[derive(Debug, Clone)]
pub struct Treatment {
    /// Cuts the rows of an input into batches of this size.
    pub batch: usize,
    pub after: After,
}

#[derive(Debug, Clone)]
pub enum After {
    Nothing,
    /// A checkpoint, and on it goes.
    Snapshot,
    /// A checkpoint, then a start from it on so many lanes; told the progress before the state, or after it.
    Restart {
        lanes: usize,
        progress_first: bool,
    },
}

pub fn treatments(rounds: usize) -> impl Strategy<Value = Vec<Treatment>> {
    let after = prop_oneof![
        3 => Just(After::Nothing),
        1 => Just(After::Snapshot),
        2 => (1usize..4, any::<bool>())
            .prop_map(|(lanes, progress_first)| After::Restart { lanes, progress_first }),
    ];
    let treatment = (1usize..20, after).prop_map(|(batch, after)| Treatment { batch, after });
    prop::collection::vec(treatment, rounds)
}

/// One node of a job on several lanes.
pub struct Engine {
    node: Node,
    inputs: Vec<SchemaRef>,
    lanes: Vec<Box<dyn Operator>>,
    /// What the last snapshot of each lane has under numbers.
    held: Vec<BTreeMap<(&'static str, u64), RecordBatch>>,
    progress: Vec<Progress>,
    /// How far the node's output has come.
    pub announced: Progress,
    pub out: Vec<String>,
    pub out_batches: Vec<RecordBatch>,
    pub late: Vec<String>,
}

impl Engine {
    pub fn new(op: Op, schema: SchemaRef, inputs: Vec<SchemaRef>, lanes: usize) -> Self {
        let node = Node {
            inputs: (0..inputs.len()).collect(),
            op,
            schema,
            name: "node".to_string(),
            place: "job.sql:1:1".to_string(),
        };
        let progress = vec![Progress::START; inputs.len()];
        let mut engine = Engine {
            node,
            inputs,
            lanes: Vec::new(),
            held: Vec::new(),
            progress,
            announced: Progress::START,
            out: Vec::new(),
            out_batches: Vec::new(),
            late: Vec::new(),
        };
        engine.start(lanes);
        engine
    }

    fn start(&mut self, lanes: usize) {
        let build = || operator::build(&self.node, &self.inputs).unwrap().unwrap();
        self.lanes = (0..lanes).map(|_| build()).collect();
        self.held = vec![BTreeMap::new(); lanes];
    }

    /// The whole state: what the operators give, and what they gave before and only name.
    fn snapshot(&mut self) -> Vec<(StatePart, RecordBatch)> {
        let mut parts = Vec::new();
        for (lane, held) in self.lanes.iter_mut().zip(&mut self.held) {
            let mut before = std::mem::take(held);
            for part in lane.snapshot().unwrap() {
                let key = part.id.map(|id| (part.name, id));
                let rows = part.rows.clone();
                let rows = rows.unwrap_or_else(|| before.remove(&key.unwrap()).unwrap());
                held.extend(key.map(|key| (key, rows.clone())));
                parts.push((part, rows));
            }
        }
        parts
    }

    pub fn send(&mut self, input: usize, rows: &[Row], size: usize) {
        for rows in rows.chunks(size) {
            self.send_batch(input, batch(rows));
        }
    }

    pub fn send_batch(&mut self, input: usize, batch: RecordBatch) {
        let keys = operator::exchange_keys(&self.node.op, input).unwrap();
        let shares = keys::partition(batch, keys, self.lanes.len()).unwrap();
        let mut out = Output::default();
        for (lane, share) in self.lanes.iter_mut().zip(shares) {
            if let Some(share) = share {
                lane.on_batch(input, share, &mut out).unwrap();
            }
        }
        self.collect(out);
    }

    pub fn watermark(&mut self, progress: &[Progress]) {
        self.progress = progress.to_vec();
        let mut out = Output::default();
        for lane in &mut self.lanes {
            // After a restart an operator may not remember a moment when an idle input held nobody back; the engine does.
            self.announced
                .advance_to(lane.on_watermark(progress, &mut out).unwrap());
        }
        self.collect(out);
    }

    pub fn end(&mut self) {
        self.last_watermark();
        assert!(self.snapshot().is_empty(), "nothing is kept after the end");
    }

    /// The end for a node that remembers what came out, for the next run.
    pub fn last_watermark(&mut self) {
        let end = vec![Progress::at(EventTime::END); self.inputs.len()];
        self.watermark(&end);
    }

    pub fn after(&mut self, after: &After) {
        match after {
            After::Nothing => {}
            After::Snapshot => {
                self.snapshot();
            }
            After::Restart {
                lanes,
                progress_first,
            } => {
                let parts = self.snapshot();
                self.start(*lanes);
                let progress = self.progress.clone();
                let told = (self.out.len(), self.announced);
                if *progress_first {
                    self.watermark(&progress);
                }
                for (part, rows) in parts {
                    let shares = keys::partition_columns(rows, part.key_columns, *lanes).unwrap();
                    for (lane, share) in self.lanes.iter_mut().zip(shares) {
                        if let Some(share) = share {
                            lane.restore(part.name, share).unwrap();
                        }
                    }
                }
                if !progress_first {
                    self.watermark(&progress);
                }
                assert_eq!(
                    (self.out.len(), self.announced),
                    told,
                    "a restart tells nothing new"
                );
            }
        }
    }

    pub fn state_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.state_bytes()).sum()
    }

    fn collect(&mut self, out: Output) {
        for batch in out.batches {
            assert!(batch.num_rows() > 0 && batch.schema() == self.node.schema);
            self.out.extend(lines(&batch));
            self.out_batches.push(batch);
        }
        for (batch, why) in out.late {
            assert!(!why.is_empty() && batch.schema() == self.inputs[0]);
            self.late.extend(lines(&batch.project(&[3]).unwrap()));
        }
    }
}

/// Each row as text.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let line = |row| {
        columns
            .iter()
            .map(|column| column.value(row).to_string())
            .collect::<Vec<_>>()
    };
    (0..batch.num_rows())
        .map(|row| line(row).join(" | "))
        .collect()
}

pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

pub fn aggregate(
    function: Arc<AggregateUDF>,
    argument: Arc<dyn PhysicalExpr>,
    distinct: bool,
    filter: Option<Arc<dyn PhysicalExpr>>,
) -> Aggregate {
    let function = AggregateExprBuilder::new(function, vec![argument])
        .schema(schema())
        .alias("a")
        .with_distinct(distinct)
        .build()
        .unwrap();
    Aggregate {
        function: Arc::new(function),
        filter,
    }
}
