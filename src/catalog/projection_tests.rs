use super::*;
use crate::catalog;
use std::collections::BTreeMap;

/// 2024-03-10 15:30:00 UTC.
const NOW_MS: i64 = 1_710_084_600_000;

fn table(keys: &[&str], properties: &[(&str, &str)]) -> Definition {
    let mut parameters = BTreeMap::from([("projection.enabled".to_owned(), "TRUE".to_owned())]);
    parameters.extend(
        properties
            .iter()
            .map(|(key, value)| (format!("projection.{key}"), (*value).to_owned())),
    );
    Definition {
        database: "d".into(),
        name: "t".into(),
        columns: Vec::new(),
        partition_keys: keys
            .iter()
            .map(|key| catalog::Column {
                name: (*key).to_owned(),
                hive_type: "string".into(),
                comment: None,
            })
            .collect(),
        location: "s3://b/t/".into(),
        parameters,
        format: catalog::Format::Parquet,
    }
}

fn values(properties: &[(&str, &str)]) -> Result<Vec<String>> {
    let projection = Projection::of(&table(&["k"], properties))?.unwrap();
    Ok(projection.columns[0].values(NOW_MS)?.unwrap())
}

#[track_caller]
fn check(properties: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(values(properties).unwrap(), expected);
}

#[test]
fn values_are_counted_out() {
    check(&[("k.type", " Enum "), ("k.values", "a, b")], &["a", " b"]);
    let number = ("k.type", "integer");
    check(
        &[number, ("k.range", "8, 12"), ("k.digits", "2")],
        &["08", "09", "10", "11", "12"],
    );
    check(
        &[number, ("k.range", "-1,5"), ("k.interval", "3")],
        &["-1", "2", "5"],
    );
    check(&[number, ("k.range", "2,1")], &[]);
    check(
        &[
            number,
            ("k.range", "9223372036854775806,9223372036854775807"),
        ],
        &["9223372036854775806", "9223372036854775807"],
    );
    let date = ("k.type", "date");
    check(
        &[
            date,
            ("k.format", "yyyy-MM-dd"),
            ("k.range", "2024-03-08,NOW"),
        ],
        &["2024-03-08", "2024-03-09", "2024-03-10"],
    );
    check(
        &[
            date,
            ("k.format", "yyyy/MM"),
            ("k.range", "NOW-2MONTHS,NOW+1MONTH"),
        ],
        &["2024/01", "2024/02", "2024/03", "2024/04"],
    );
    check(
        &[
            date,
            ("k.format", "yyyyMMdd'T'HH"),
            ("k.range", "NOW - 2 HOURS, NOW"),
            ("k.interval.unit", "hours"),
        ],
        &["20240310T13", "20240310T14", "20240310T15"],
    );
    check(
        &[
            date,
            ("k.format", "yyyy"),
            ("k.range", "2020,2024"),
            ("k.interval", "2"),
            ("k.interval.unit", "YEARS"),
        ],
        &["2020", "2022", "2024"],
    );
    check(
        &[
            date,
            ("k.format", "yyyy-MM-dd"),
            ("k.range", "2024-01-31,2024-04-30"),
            ("k.interval.unit", "MONTHS"),
        ],
        &["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"],
    );
}

#[test]
fn a_location_follows_from_the_values() {
    let keys = [("dt.type", "injected"), ("hour.type", "injected")];
    let mut table = table(&["dt", "hour"], &keys);
    let at = |table: &Definition| {
        let projection = Projection::of(table).unwrap().unwrap();
        assert_eq!(projection.columns[0].values(NOW_MS).unwrap(), None);
        projection.location(&["2024-03-01", "07"])
    };
    assert_eq!(at(&table), "s3://b/t/dt=2024-03-01/hour=07");
    table.parameters.insert(
        "storage.location.template".into(),
        "s3://b/${hour}/x-${dt}/".into(),
    );
    assert_eq!(at(&table), "s3://b/07/x-2024-03-01/");
    table.parameters.remove("projection.enabled");
    assert!(Projection::of(&table).unwrap().is_none());
}

#[test]
fn what_athena_refuses_is_refused() {
    for (properties, why) in [
        (vec![], "'projection.k.type' is missing"),
        (vec![("k.type", "dates")], "is none of"),
        (vec![("k.type", "enum")], "'projection.k.values' is missing"),
        (
            vec![("k.type", "integer"), ("k.range", "1")],
            "two values with a comma",
        ),
        (
            vec![("k.type", "integer"), ("k.range", "1,x")],
            "two whole numbers",
        ),
        (
            vec![
                ("k.type", "integer"),
                ("k.range", "1,2"),
                ("k.interval", "0"),
            ],
            "above 0",
        ),
        (
            vec![("k.type", "integer"), ("k.range", "0,9999999999")],
            "more than 1000000 values",
        ),
        (
            vec![
                ("k.type", "date"),
                ("k.format", "yyyy-ww"),
                ("k.range", "2020,NOW"),
            ],
            "has 'ww'",
        ),
        (
            vec![
                ("k.type", "date"),
                ("k.format", "yyyy-MM-dd"),
                ("k.range", "2020,NOW"),
            ],
            "does not have the form of 'format'",
        ),
        (
            vec![
                ("k.type", "date"),
                ("k.format", "yyyy-MM-dd"),
                ("k.range", "NOW-3,NOW"),
            ],
            "NOW-3DAYS",
        ),
        (
            vec![
                ("k.type", "date"),
                ("k.format", "yyyy"),
                ("k.range", "2020,NOW"),
            ],
            "'projection.k.interval.unit' is missing",
        ),
    ] {
        let error = values(&properties).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(why), "{error}");
    }
}
