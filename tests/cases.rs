//! Golden jobs: every case in `tests/sql` and `jobs/tests`, each executed in all the ways of the runner.

use std::path::{Path, PathBuf};
use tributary::testing::run_file;

fn check(folder: &str) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "case")
            })
            .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has no case");
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| run_file(file, false).err())
        .map(|error| error.to_string())
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        files.len(),
        failures.join("\n")
    );
}

#[test]
fn golden_jobs_give_what_they_should_in_every_way() {
    check("tests/sql");
}

#[test]
fn the_cases_beside_our_jobs_pass() {
    check("jobs/tests");
}

/// A runner that accepts everything would prove nothing.
#[test]
fn a_case_with_a_wrong_expectation_fails() {
    let folder = std::env::temp_dir().join(format!("tributary-case-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let right = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/tumble.case");
    let wrong = folder.join("wrong.case");
    let text = std::fs::read_to_string(right).unwrap();
    std::fs::write(&wrong, text.replace("\"total\":27", "\"total\":28")).unwrap();
    let error = run_file(&wrong, false).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        error.contains("output per_minute") && error.contains("\"total\":28"),
        "{error}"
    );
}
