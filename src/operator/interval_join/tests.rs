//! What comes out of a join, and what its snapshots say, row by row.

use super::*;
use arrow::array::StringArray;
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_expr::expressions::Column;

type Row = (Option<&'static str>, Option<i64>);

fn schema() -> SchemaRef {
    let fields = [("key", DataType::Utf8), ("time", DataType::Int64)];
    Arc::new(Schema::new(
        fields.map(|(name, of)| Field::new(name, of, true)).to_vec(),
    ))
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &schema()).unwrap())
}

fn spec(kind: JoinKind, lower_ms: i64, upper_ms: i64) -> IntervalJoin {
    IntervalJoin {
        kind,
        left_keys: vec![column("key")],
        right_keys: vec![column("key")],
        left_time: column("time"),
        right_time: column("time"),
        lower_ms,
        upper_ms,
        filter: None,
    }
}

fn join(kind: JoinKind, lower_ms: i64, upper_ms: i64) -> IntervalJoinOperator {
    let names = ["lk", "lt", "rk", "rt"];
    let types = [
        DataType::Utf8,
        DataType::Int64,
        DataType::Utf8,
        DataType::Int64,
    ];
    let fields = names
        .into_iter()
        .zip(types)
        .map(|(name, of)| Field::new(name, of, true));
    let out = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let spec = spec(kind, lower_ms, upper_ms);
    IntervalJoinOperator::new(&spec, out, &[schema(), schema()]).unwrap()
}

fn send(join: &mut IntervalJoinOperator, input: usize, rows: &[Row]) -> String {
    let keys: StringArray = rows.iter().map(|row| row.0).collect();
    let times: Int64Array = rows.iter().map(|row| row.1).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times)];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let mut out = Output::default();
    join.on_batch(input, batch, &mut out).unwrap();
    shown(&out)
}

fn reach(join: &mut IntervalJoinOperator, at: EventTime) -> (String, EventTime) {
    let mut out = Output::default();
    let reached = join.on_watermark(&[Progress::at(at); 2], &mut out).unwrap();
    (shown(&out), reached.watermark)
}

/// The rows of an output, `a 1 a 2` for a pair.
fn shown(out: &Output) -> String {
    let table = pretty_format_batches(&out.batches).unwrap().to_string();
    let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let words = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells
            .map(|cell| if cell.is_empty() { "-" } else { cell })
            .collect::<Vec<_>>()
            .join(" ")
    };
    rows.map(words).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_row_is_padded_when_nothing_can_match_it_and_not_before() {
    // left - right in [-10, 5]: a left row waits for right rows up to 10 later.
    let mut join = join(JoinKind::Left, -10, 5);
    assert_eq!(
        send(
            &mut join,
            0,
            &[(Some("a"), Some(100)), (Some("b"), Some(100))]
        ),
        ""
    );
    assert_eq!(
        send(
            &mut join,
            1,
            &[(Some("a"), Some(110)), (Some("a"), Some(111))]
        ),
        "a 100 a 110"
    );
    assert_eq!(
        reach(&mut join, EventTime(110)),
        (String::new(), EventTime(99))
    );
    assert_eq!(
        reach(&mut join, EventTime(111)),
        ("b 100 - -".into(), EventTime(100))
    );
    assert_eq!(
        reach(&mut join, EventTime::END),
        (String::new(), EventTime::END)
    );
}

#[test]
fn a_late_row_meets_what_is_kept_and_leaves_no_trace() {
    let mut join = join(JoinKind::Full, 0, 10);
    send(&mut join, 1, &[(Some("a"), Some(100))]);
    assert_eq!(reach(&mut join, EventTime(105)).0, "");
    // Too old to wait for anybody: padded at once, or matched at once.
    let late = [
        (Some("a"), Some(99)),
        (Some("a"), Some(103)),
        (Some("a"), Some(120)),
    ];
    assert_eq!(send(&mut join, 0, &late), "a 103 a 100, a 99 - -");
    assert_eq!(reach(&mut join, EventTime(111)).0, "");
    assert_eq!(reach(&mut join, EventTime::END).0, "a 120 - -");
    assert!(join.snapshot().unwrap().is_empty());
}

#[test]
fn a_snapshot_says_only_what_is_new() {
    let mut join = join(JoinKind::Left, -10, 5);
    let whole = |join: &mut IntervalJoinOperator| {
        let parts = join.snapshot().unwrap().into_iter();
        parts.map(|part| part.rows.is_some()).collect::<Vec<_>>()
    };
    send(
        &mut join,
        0,
        &[(Some("a"), Some(100)), (Some("b"), Some(103))],
    );
    assert_eq!(
        (whole(&mut join), whole(&mut join)),
        (vec![true], vec![false])
    );
    send(&mut join, 1, &[(Some("a"), Some(105))]);
    assert_eq!(whole(&mut join), [true, true], "one has found its match");
    reach(&mut join, EventTime(113));
    assert_eq!(
        whole(&mut join),
        [false, false],
        "what expired was told before"
    );
    assert_eq!(reach(&mut join, EventTime(114)).0, "b 103 - -");
    assert_eq!(
        whole(&mut join),
        [false],
        "a padded row must not come again"
    );
}

#[test]
fn what_expired_ahead_of_an_input_that_was_idle_does_not_come_back() {
    let mut join = join(JoinKind::Inner, -10, 5);
    let rows = [(Some("a"), Some(100)), (Some("a"), Some(120))];
    send(&mut join, 0, &rows);
    assert_eq!(join.snapshot().unwrap().len(), 1);
    let left = Progress::at(EventTime(115));
    for idle in [true, false] {
        let right = Progress {
            watermark: EventTime(90),
            idle,
        };
        let mut out = Output::default();
        join.on_watermark(&[left, right], &mut out).unwrap();
    }
    let mut kept = || {
        let parts = join.snapshot().unwrap();
        parts[0].rows.as_ref().map(RecordBatch::num_rows)
    };
    assert_eq!(kept(), Some(1), "a start from here is at 90, not at 115");
    assert_eq!(kept(), None);
}

#[test]
fn rows_without_key_or_time_match_nothing() {
    let mut join = join(JoinKind::Full, -10, 10);
    assert_eq!(
        send(&mut join, 0, &[(None, Some(1)), (Some("a"), None)]),
        "- 1 - -, a - - -"
    );
    assert_eq!(
        send(&mut join, 1, &[(None, Some(1)), (Some("a"), Some(1))]),
        "- - - 1"
    );
    assert_eq!(reach(&mut join, EventTime::END).0, "- - a 1");
}

#[test]
fn the_inner_join_holds_its_watermark_back_as_flink_does() {
    let mut one = join(JoinKind::Inner, -10, 5);
    assert_eq!(reach(&mut one, EventTime(100)).1, EventTime(90));
    let mut other = join(JoinKind::Inner, 3, 8);
    assert_eq!(reach(&mut other, EventTime(100)).1, EventTime(92));
    let mut idle = join(JoinKind::Inner, 0, 0);
    let progress = [
        Progress::at(EventTime(7)),
        Progress {
            watermark: EventTime(3),
            idle: true,
        },
    ];
    let reached = idle
        .on_watermark(&progress, &mut Output::default())
        .unwrap();
    assert_eq!(reached, Progress::at(EventTime(7)));
}

#[test]
fn keys_of_different_types_are_refused() {
    let mut spec = spec(JoinKind::Inner, 0, 0);
    spec.right_keys = vec![column("time")];
    let refused = IntervalJoinOperator::new(&spec, schema(), &[schema(), schema()]);
    assert_eq!(refused.err().unwrap().kind(), crate::error::Kind::Job);
}
