//! What the compiler does not check: the shape of the source tree and of the documentation.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether a file is a module that only tests have.
fn is_test(path: &Path) -> bool {
    let declares = |parent: &Path, name: &str| {
        let text = fs::read_to_string(parent).unwrap_or_default();
        // Between the two lines another attribute may stand.
        text.split("#[cfg(test)]\n").skip(1).any(|rest| {
            let item = rest.lines().find(|line| !line.starts_with("#["));
            item.is_some_and(|item| {
                item == format!("mod {name};") || item == format!("pub(crate) mod {name};")
            })
        })
    };
    let name = path.file_stem().unwrap().to_string_lossy().to_string();
    let folder = path.parent().unwrap();
    let parents = [folder.join("mod.rs"), folder.with_extension("rs")];
    let of_folder = folder.file_name().unwrap().to_string_lossy().to_string();
    let grandparents = [
        folder.parent().unwrap().join("mod.rs"),
        folder.parent().unwrap().with_extension("rs"),
    ];
    let sibling = name
        .strip_suffix("_tests")
        .map(|tested| folder.join(format!("{tested}.rs")));
    parents.iter().any(|parent| declares(parent, &name))
        || grandparents
            .iter()
            .any(|parent| declares(parent, &of_folder))
        || sibling.is_some_and(|tested| tested.exists())
}

/// The part of a file before its unit tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let long: Vec<String> = files(&root().join("src"), "rs")
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > 600).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn operators_know_nothing_of_the_world() {
    let forbidden = [
        "tokio",
        "rdkafka",
        "object_store",
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant",
        "fastrand",
    ];
    for path in files(&root().join("src/operator"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for word in forbidden {
            assert!(
                !before_tests(&text).contains(word),
                "{} mentions {word}",
                path.display()
            );
        }
    }
}

#[test]
fn every_module_opens_with_what_it_is_for() {
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        if is_test(&path) {
            continue;
        }
        assert!(
            text.starts_with("//!"),
            "{} does not say what it is for",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_to_do_and_nothing_unwraps_outside_tests() {
    let marks = [
        ["to", "do!("].concat(),
        ["FIX", "ME"].concat(),
        ["unimple", "mented!("].concat(),
        [".unw", "rap()"].concat(),
    ];
    for path in files(&root().join("src"), "rs") {
        if is_test(&path) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for mark in &marks {
            assert!(
                !before_tests(&text).contains(mark.as_str()),
                "{} has {mark}",
                path.display()
            );
        }
    }
}

/// The words behind each place where `text` has `before`, up to `end`.
fn words<'a>(text: &'a str, before: &str, end: char) -> Vec<&'a str> {
    let mut found: Vec<_> = text
        .split(before)
        .skip(1)
        .filter_map(|rest| rest.split(end).next())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn the_policy_allows_what_glue_is_asked_and_nothing_else() {
    let code = fs::read_to_string(root().join("src/catalog/glue.rs")).unwrap();
    let policy = fs::read_to_string(root().join("infra/aws/policy.json")).unwrap();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    // Each call names its action where it fails.
    let called = words(&code, "failed(\"", '"');
    assert!(called.contains(&"GetTables"), "{called:?}");
    assert_eq!(words(&policy, "\"glue:", '"'), called);
    for action in words(&policy, "\"Action\": ", '\n') {
        for action in action.split('"').filter(|word| word.contains(':')) {
            assert!(page.contains(action), "docs/operations.md lacks {action}");
        }
    }
    for action in called {
        let action = format!("glue:{action}");
        assert!(page.contains(&action), "docs/operations.md lacks {action}");
    }
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            let there = page.parent().unwrap().join(file).exists();
            assert!(
                there,
                "{}: the link to {target} leads nowhere",
                page.display()
            );
        }
    }
}
