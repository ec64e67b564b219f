//! Calls and what they give, for the tests of every family.

use crate::plan::tests::evaluate;

/// Evaluates each call as a constant, and again row by row with its constants as columns.
pub fn check_calls(cases: &[(&str, &str)]) {
    for (call, expected) in cases {
        for as_columns in [false, true] {
            match evaluate(call, as_columns) {
                Ok(values) => {
                    assert!(
                        values.iter().all(|value| value == expected),
                        "{call} (columns: {as_columns}) is {values:?}, not {expected}"
                    );
                }
                Err(error) => panic!("{call} (columns: {as_columns}): {error}"),
            }
        }
    }
}

/// A call that fails, while it is planned or while it runs.
pub fn check_error(call: &str, part: &str) {
    match evaluate(call, false) {
        Ok(values) => panic!("{call} gives {values:?}"),
        Err(error) => assert!(error.contains(part), "{call}: {error}"),
    }
}

/// The page of the documentation names every function.
#[test]
fn the_documentation_lists_every_function() {
    let page = include_str!("../../../docs/functions.md");
    let mut names: Vec<String> = super::aggregates()
        .iter()
        .map(|f| f.name().to_owned())
        .collect();
    // These are not called by their names.
    const FORMS: [&str; 3] = ["floor_to", "ceil_to", "is_json"];
    let called = super::all().into_iter();
    for function in called.filter(|function| !FORMS.contains(&function.name())) {
        names.push(function.name().to_owned());
        names.extend(function.aliases().to_vec());
    }
    for name in names {
        assert!(
            page.contains(&name.to_uppercase()),
            "docs/functions.md lacks {name}"
        );
    }
}
