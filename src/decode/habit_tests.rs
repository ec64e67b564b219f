//! Habits change nothing: a decoder that has read other records reads each as one does that has read none.

use super::names::Habit;
use super::testing::{decoder, field, lines, records};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn columns() -> Vec<(&'static str, DataType)> {
    let inner = vec![field("a", DataType::Int32), field("b", DataType::Utf8)];
    vec![
        ("a", DataType::Int32),
        ("b", DataType::Utf8),
        ("c", DataType::Struct(inner.into())),
        ("d", DataType::List(field("item", DataType::Float64))),
    ]
}

/// An object, written in some way, whole or with a character too many or too few.
fn text() -> impl Strategy<Value = String> {
    let long = || " ".repeat(150);
    let blank = || {
        select(vec![
            String::new(),
            String::new(),
            " ".to_owned(),
            "\n  ".to_owned(),
            long(),
        ])
    };
    let name = select(vec![
        "a-name-that-is-longer-than-what-is-remembered-of-the-way-from-one-value-to-the-next-so-that-it-is-read-again-each-time-it-comes-along-in-a-record",
        "a",
        "b",
        "c",
        "d",
        "e",
        "\\u0061",
        "a\\\"",
        "",
    ]);
    let values = vec![
        "1",
        "-25e-1",
        "\"x\"",
        "\"7\"",
        "null",
        "true",
        "{\"a\": 1}",
        "{\"b\":\"y\", \"a\" :2}",
        "{}",
        "[1, 2.50]",
        "[]",
        "12345678901234567",
        "\"a \\\" text, longer than a word or two, {} of the processor\"",
    ];
    let member = (blank(), name, blank(), blank(), select(values), blank());
    let member =
        member.prop_map(|(a, name, b, c, value, d)| format!("{a}\"{name}\"{b}:{c}{value}{d}"));
    let object = prop::collection::vec(member, 0..6)
        .prop_map(|members| format!("{{{}}}", members.join(",")));
    (
        object,
        0..10,
        any::<Index>(),
        select(vec!["", ",", "{", "}", "\"", " "]),
    )
        .prop_map(|(mut text, chance, place, with)| {
            // All of it is ASCII.
            let at = place.index(text.len());
            if chance < 3 {
                text.replace_range(at..=at, with);
            }
            text
        })
}

/// What became of one record: its row, or why it has none.
type Judged = Result<String, String>;

fn judged(texts: &[&String], options: &[(&str, &str)]) -> Vec<Judged> {
    let decoded = decoder(&columns(), options)
        .decode(&records(texts))
        .unwrap();
    let mut judged = vec![Err("passed over".to_owned()); texts.len()];
    for (row, origin) in lines(&decoded).into_iter().zip(&decoded.origin) {
        judged[*origin as usize] = Ok(row);
    }
    for bad in decoded.bad {
        judged[bad.record as usize] = Err(bad.error);
    }
    judged
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_read_before_changes_nothing(
        texts in prop::collection::vec(text(), 1..6),
        order in prop::collection::vec(any::<Index>(), 1..30),
        lenient in any::<bool>(),
    ) {
        let options = [("format", "json"), ("json.ignore-parse-errors", "true")];
        let options = &options[..if lenient { 2 } else { 1 }];
        let sequence: Vec<&String> = order.iter().map(|index| index.get(&texts)).collect();
        let alone: Vec<Judged> = sequence.iter().flat_map(|text| judged(&[text], options)).collect();
        prop_assert_eq!(judged(&sequence, options), alone, "{:?}", sequence);
    }
}

#[test]
fn a_producer_without_habits_teaches_none() {
    let mut habit = Habit::default();
    let mut at = 0;
    for record in 0..100_000 {
        at = habit.learn(at, false, &format!(", \"{record}\": "), None);
    }
    assert!(habit.expected(0, false).is_none());
}

#[test]
fn a_field_that_comes_and_goes_is_expected_again() {
    let mut habit = Habit::default();
    let texts = ["{\"a\":", ",\"b\":", ",\"c\":"];
    let mut at = 0;
    for (field, text) in texts.iter().enumerate() {
        at = habit.learn(at, field == 0, text, Some(field));
    }
    // Without b: what is expected behind c is expected again, and b in the next record too.
    let behind_c = habit.learn(1, false, texts[2], Some(2));
    assert_eq!((at, behind_c), (3, 3));
    assert_eq!(
        habit.expected(1, false),
        Some((texts[1].as_bytes(), Some(1)))
    );
}
