use super::*;
use crate::plan::plan;
use crate::sql::parse;

/// The meanings of a job over these tables, by name.
fn of(queries: &str) -> BTreeMap<String, Meaning> {
    let kafka = |topic: &str| {
        format!(
            "WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json');"
        )
    };
    let files = |name: &str| {
        format!(
            "CREATE TABLE {name} (k STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '/lake/{name}', 'format' = 'json');"
        )
    };
    let columns = "(k STRING, n INT, m INT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)";
    let text = format!(
        "CREATE TABLE t {columns} {} CREATE TABLE u {columns} {} {} {} {}\n{queries}",
        kafka("t"),
        kafka("u"),
        files("a"),
        files("b"),
        files("c"),
    );
    let graph = plan(&parse("job.sql", &text, &|_| None).unwrap(), "test").unwrap();
    let named = |(id, meaning): (NodeId, Meaning)| (graph.nodes[id].name.clone(), meaning);
    meanings(&graph).into_iter().map(named).collect()
}

const SUMS: &str = "SELECT k, SUM(n) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k";

fn only(queries: &str) -> Meaning {
    let all = of(queries);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_values().next().unwrap()
}

#[test]
fn the_place_of_a_query_changes_nothing() {
    let alone = only(&format!("INSERT INTO a {SUMS};"));
    assert_eq!(
        alone.does,
        "tumble 1 min by ts; keys: k STRING; gives: SUM(CAST(n AS BIGINT)) of BIGINT; from t"
    );
    assert_eq!(only(&format!("INSERT INTO b {SUMS};")), alone);
    let other = "SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, k";
    let first = of(&format!("INSERT INTO a {SUMS}; INSERT INTO a {other};"));
    let second = of(&format!("INSERT INTO a {other}; INSERT INTO a {SUMS};"));
    assert_eq!(first["a window"], alone);
    assert_eq!(second["a window 2"], alone);
    assert_eq!(first["a window 2"], second["a window"]);
}

/// Another query over the same view lets the plan compute the view once for both, and read more columns.
#[test]
fn what_else_the_job_does_changes_nothing() {
    let view =
        "CREATE VIEW v AS SELECT k, n * 2 + m AS n, UPPER(note) AS note, ts FROM t WHERE m > 1;";
    let sums = SUMS.replace("TABLE t,", "TABLE v,");
    let alone = only(&format!("{view} INSERT INTO a {sums};"));
    let more = of(&format!(
        "{view} INSERT INTO b SELECT note, n FROM v WHERE n > 7; INSERT INTO a {sums};"
    ));
    assert_eq!(more["a window"], alone);
}

#[test]
fn a_change_before_a_node_is_in_its_lineage_only() {
    let with = |condition: &str| {
        let view = format!("CREATE VIEW v AS SELECT * FROM t WHERE m > {condition};");
        only(&format!(
            "{view} INSERT INTO a {};",
            SUMS.replace("TABLE t,", "TABLE v,")
        ))
    };
    let (one, two) = (with("1"), with("2"));
    assert_eq!(one.does, two.does);
    assert_ne!(one.lineage, two.lineage);
    assert_eq!(with("1"), one);
}

#[test]
fn what_a_window_does_is_in_its_words() {
    let base = only(&format!("INSERT INTO a {SUMS};"));
    for (from, to) in [
        ("SUM(n)", "MAX(n)"),
        ("SUM(n)", "SUM(m)"),
        ("SUM(n)", "SUM(n) FILTER (WHERE m > 1)"),
        ("SUM(n)", "COUNT(DISTINCT n)"),
        ("'1' MINUTE", "'2' MINUTE"),
        ("TABLE t,", "TABLE u,"),
        ("SELECT k,", "SELECT UPPER(k),"),
    ] {
        let mut query = SUMS.replace(from, to);
        if to.contains("UPPER") {
            query = query.replace("window_end, k", "window_end, UPPER(k)");
        }
        let changed = only(&format!("INSERT INTO a {query};"));
        assert_ne!(changed.does, base.does, "{to}");
        assert_ne!(changed.lineage, base.lineage, "{to}");
    }
    let distinct = |column: &str| {
        let view = format!("CREATE VIEW v AS SELECT k, {column} AS x, ts FROM t;");
        let query = SUMS
            .replace("SUM(n)", "COUNT(DISTINCT x)")
            .replace("TABLE t,", "TABLE v,");
        only(&format!("{view} INSERT INTO a {query};")).does
    };
    assert_ne!(
        distinct("n"),
        distinct("note"),
        "the types of arguments tell state apart"
    );
}

/// COUNT asks a constant nothing; what another aggregate holds of one is of no use for another one.
#[test]
fn constants_are_told_apart_where_they_are_not_just_counted() {
    let does = |call: &str| only(&format!("INSERT INTO a {};", SUMS.replace("SUM(n)", call))).does;
    assert_eq!(does("COUNT(1)"), does("COUNT(*)"));
    for call in ["SUM(1)", "AVG(1)", "MIN(1)", "MAX(1)"] {
        assert_ne!(does(call), does(&call.replace('1', "2")), "{call}");
    }
}

/// What it holds of them was given by the query before it, and another one would never take it back.
#[test]
fn the_first_of_rows_that_change_belong_to_the_query_that_gives_them() {
    let table = "CREATE TABLE d (k STRING, n BIGINT) WITH ('connector' = 'print');";
    let first = |rows: &str| {
        let numbered = format!("SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC) AS r FROM ({rows})");
        let query = format!("INSERT INTO d SELECT k, n FROM ({numbered}) WHERE r <= 2;");
        let all = of(&format!("{table} {query}"));
        let mut ranks = all
            .into_values()
            .filter(|rank| rank.does.starts_with("the first"));
        ranks.next().unwrap().does
    };
    let counts = "SELECT k, COUNT(*) AS n FROM t GROUP BY k";
    let base = first(counts);
    assert_eq!(first(counts), base);
    for changed in [
        "SELECT k, COUNT(m) AS n FROM t GROUP BY k",
        "SELECT k, COUNT(*) AS n FROM t WHERE m > 1 GROUP BY k",
        "SELECT k, COUNT(*) AS n FROM t GROUP BY k HAVING COUNT(*) > 1",
        "SELECT k, COUNT(*) + 1 AS n FROM t GROUP BY k",
    ] {
        assert_ne!(first(changed), base, "{changed}");
    }
    // Rows that only come are good for any query that reads them.
    let plain = |condition: &str| {
        first(&format!(
            "SELECT k, CAST(n AS BIGINT) AS n FROM t WHERE {condition}"
        ))
    };
    assert_eq!(plain("m > 1"), plain("m > 2"));
}

#[test]
fn what_a_join_does_is_in_its_words() {
    let query = |kind: &str, minutes: u32, more: &str| {
        format!(
            "INSERT INTO a SELECT t.k, u.m FROM t {kind} JOIN u ON t.k = u.k AND u.ts BETWEEN t.ts AND t.ts + INTERVAL '{minutes}' MINUTE{more};"
        )
    };
    let base = only(&query("LEFT", 5, ""));
    assert_eq!(
        base.does,
        "left outer join; keys: k STRING = k STRING; -5 min <= ts - ts <= 0 s; left: k STRING, ts TIMESTAMP(3); right: k STRING, m INT, \
         ts TIMESTAMP(3); from t and u"
    );
    for changed in [
        query("RIGHT", 5, ""),
        query("LEFT", 6, ""),
        query("LEFT", 5, " AND t.n < u.n"),
    ] {
        let changed = only(&changed);
        assert_ne!(changed.does, base.does);
        assert_ne!(changed.lineage, base.lineage);
    }
    // Another column has to be kept.
    let wider = only(&query("LEFT", 5, "").replace("u.m", "u.m + t.n"));
    assert_ne!(wider.does, base.does);
}

#[test]
fn a_union_is_known_by_its_tables() {
    let view = "CREATE VIEW v AS SELECT k, n, ts FROM t UNION ALL SELECT k, m, ts FROM u;";
    let all = of(&format!(
        "{view} INSERT INTO a {};",
        SUMS.replace("TABLE t,", "TABLE v,")
    ));
    assert_eq!(all.len(), 2, "{all:?}");
    let union = all
        .values()
        .find(|meaning| meaning.does.starts_with("union"))
        .unwrap();
    assert_eq!(union.does, "union; from t, u");
    assert!(all["a window"].does.ends_with("from t, u"));
}
