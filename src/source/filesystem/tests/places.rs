//! Folders that are not there, or are spelled in another way.

use super::*;
#[test]
fn a_folder_that_is_not_there_is_refused() {
    let bench = Bench::new();
    let folder = Temporary::new();
    let discover = |below: &str, options: &[(&str, &str)]| {
        let path = format!("{}/{below}", folder.path());
        let mut all = vec![("path", path.as_str()), ("format", "json")];
        all.extend(options);
        let scan = suite::scan("t", Arc::new(Schema::empty()), &all);
        let mut source = FilesystemSource::new(&scan, &bench.unbounded()).unwrap();
        source.discover().map(|splits| splits.len())
    };
    let refused = |below: &str, options: &[(&str, &str)], why: &str| {
        let error = discover(below, options).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        for part in ["table 't'", folder.path(), below, why] {
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    let watched = [("source.monitor-interval", "1 h")];
    refused("none", &[], "does not exist");
    assert_eq!(discover("none", &watched).unwrap(), 0);
    for pattern in ["*.json", "a?.json", "{a,b}"] {
        refused(pattern, &[], "patterns are not supported");
        refused(pattern, &watched, "patterns are not supported");
    }
    assert_eq!(discover("", &[]).unwrap(), 0);
    folder.write("in{1}/a.json", b"1\n");
    assert_eq!(discover("in{1}", &[]).unwrap(), 1);
}

#[test]
fn a_file_keeps_its_position_when_its_folder_is_spelled_in_another_way() {
    let here = std::env::current_dir().unwrap();
    let here = here.to_str().unwrap();
    let bench = Bench::new();
    let renamed = |path: &str, name: &str| {
        let options = [("path", path), ("format", "json")];
        let scan = suite::scan("t", Arc::new(Schema::empty()), &options);
        let context = SourceContext {
            stores: Arc::new(|path| {
                let located = crate::store::open(path)?;
                Ok((located.store, located.path))
            }),
            ..bench.context()
        };
        let split = Split {
            topic: name.into(),
            partition: 0,
        };
        let source = FilesystemSource::new(&scan, &context).unwrap();
        source.renamed(split).topic.to_string()
    };
    let file = "dt=a%2Fb/c.json";
    let url = format!("file://{here}/in");
    let absolute = format!("{here}/in/");
    let spellings = ["in", "./in", "x/../in/", absolute.as_str(), url.as_str()];
    for new in spellings {
        let expected = format!("{}/{file}", new.trim_end_matches('/'));
        for old in spellings {
            let name = format!("{}/{file}", old.trim_end_matches('/'));
            assert_eq!(renamed(new, &name), expected, "{old} to {new}");
        }
        assert_eq!(renamed(new, "in2/c.json"), "in2/c.json");
    }
    assert_eq!(
        renamed("memory://m/in", "memory://m/other/a"),
        "memory://m/other/a"
    );
}
