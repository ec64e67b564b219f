use super::*;
use crate::sink::TableSpec;
use crate::sql::Options;
use arrow::datatypes::Schema;
use std::sync::Arc;

const HOUR_MS: i64 = 3_600_000;

fn tokens(partitions: &[&str]) -> Vec<Token> {
    let token = |partition: &&str| Token {
        name: match *partition {
            "" => "part-1.parquet".to_owned(),
            folder => format!("{folder}/part-1.parquet"),
        },
        rows: 1,
        bytes: 1,
    };
    partitions.iter().map(token).collect()
}

fn rule(options: &[(&'static str, &'static str)]) -> Rule {
    let mut all = vec![("connector", "filesystem")];
    all.extend(options);
    let table = TableSpec {
        name: "t".into(),
        schema: Arc::new(Schema::empty()),
        partitioned_by: vec!["dt".into()],
        primary_key: vec![],
        metadata: Default::default(),
        options: Options::of(all),
    };
    Rule::of(&table).unwrap()
}

fn by_partition_time() -> Rule {
    rule(&[
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 d"),
    ])
}

/// One table, told of epoch after epoch.
struct Told {
    owed: Owed,
    terms: BTreeMap<String, Terms>,
    epoch: u64,
    warnings: Vec<String>,
}

impl Told {
    fn with(terms: Terms) -> Told {
        let mut told = Told {
            owed: Owed::default(),
            terms: [("t".to_owned(), terms)].into(),
            epoch: 0,
            warnings: Vec::new(),
        };
        // The first epoch only finds out that whatever is there has to be registered.
        told.epoch(&[], &[], None, 0);
        told.done(What::RegisteredEverything { table: "t".into() });
        told
    }

    fn epoch(&mut self, published: &[&str], open: &[&str], watermark: Option<i64>, now_ms: i64) {
        self.epoch += 1;
        let tokens = tokens(published);
        let news = News {
            tokens: &tokens,
            open: open.iter().map(|folder| (*folder).to_owned()).collect(),
            watermark: watermark.map(EventTime),
        };
        let news = [("t".to_owned(), news)].into();
        let warnings = self.owed.add(self.epoch, now_ms, &self.terms, &news);
        self.warnings
            .extend(warnings.into_iter().map(|warning| warning.text));
    }

    fn done(&mut self, what: What) {
        let behind = self.epoch;
        self.owed.settle(&Done { behind, what });
    }

    fn table(&self) -> &OwedTable {
        &self.owed.tables["t"]
    }

    fn register(&self) -> Vec<&str> {
        self.table().register.keys().map(String::as_str).collect()
    }

    fn incomplete(&self) -> Vec<&str> {
        self.table().incomplete.keys().map(String::as_str).collect()
    }

    fn success(&self) -> Vec<&str> {
        self.table().success.keys().map(String::as_str).collect()
    }
}

fn registered() -> Terms {
    Terms {
        registered_as: Some("db.t".into()),
        ..Terms::default()
    }
}

fn with_success_file(rule: Rule) -> Terms {
    Terms {
        complete: Some(rule),
        success_file: Some("_SUCCESS".into()),
        ..Terms::default()
    }
}

#[test]
fn a_partition_is_owed_until_it_is_registered() {
    let mut told = Told::with(registered());
    told.epoch(&["dt=a", "dt=b", "dt=a"], &["dt=c"], None, 0);
    assert_eq!(told.register(), ["dt=a", "dt=b"]);
    let partitions = vec!["dt=a".to_owned()];
    told.done(What::Registered {
        table: "t".into(),
        partitions,
    });
    assert_eq!(told.register(), ["dt=b"]);
    // More files in it: it may have been dropped meanwhile, and asking again is cheap.
    told.epoch(&["dt=a"], &[], None, 0);
    assert_eq!(told.register(), ["dt=a", "dt=b"]);
}

#[test]
fn what_came_later_than_it_was_done_stays_owed() {
    let mut told = Told::with(with_success_file(rule(&[])));
    told.epoch(&["dt=a"], &[], None, 0);
    let early = Done {
        behind: told.epoch,
        what: What::Succeeded {
            table: "t".into(),
            partition: "dt=a".into(),
        },
    };
    told.epoch(&["dt=a"], &[], None, 0);
    told.owed.settle(&early);
    assert_eq!(
        told.success(),
        ["dt=a"],
        "its later files have no success file behind them"
    );
}

#[test]
fn the_first_time_and_under_a_new_name_everything_is_to_be_registered() {
    let mut told = Told {
        owed: Owed::default(),
        terms: [("t".to_owned(), registered())].into(),
        epoch: 0,
        warnings: Vec::new(),
    };
    told.epoch(&["dt=a"], &[], None, 0);
    assert_eq!(told.table().everything, Some(1));
    told.epoch(&["dt=b"], &[], None, 0);
    assert_eq!(told.table().everything, Some(1));
    told.owed.settle(&Done {
        behind: 1,
        what: What::RegisteredEverything { table: "t".into() },
    });
    assert_eq!(
        (told.table().everything, told.register()),
        (None, vec!["dt=b"])
    );
    told.terms.get_mut("t").unwrap().registered_as = Some("other.t".into());
    told.epoch(&[], &[], None, 0);
    assert_eq!(
        (told.table().everything, told.register()),
        (Some(3), vec![])
    );
}

#[test]
fn however_long_the_catalog_is_away_little_is_remembered() {
    let mut told = Told::with(registered());
    let mut largest = 0;
    for at in 0..3 * MOST {
        told.epoch(&[&format!("dt={at}")], &[], None, 0);
        largest = largest.max(told.register().len());
    }
    assert_eq!(largest, MOST);
    assert!(told.table().everything.is_some());
    assert!(serde_json::to_vec(&told.owed).unwrap().len() < 64 * MOST);
    told.done(What::RegisteredEverything { table: "t".into() });
    assert_eq!(told.table().unregistered(), Some(0));
}

#[test]
fn a_partition_is_complete_when_its_time_has_come_and_none_of_its_files_is_open() {
    let mut told = Told::with(with_success_file(by_partition_time()));
    let day = |days: i64| Some(1_709_251_200_000 + days * 24 * HOUR_MS);
    told.epoch(&["dt=2024-03-01", "dt=2024-03-02"], &[], day(0), 0);
    assert_eq!(told.incomplete(), ["dt=2024-03-01", "dt=2024-03-02"]);
    // The watermark has to be past the day, not at its end.
    told.epoch(&[], &[], day(1), 0);
    assert_eq!(told.success(), [""; 0]);
    told.epoch(&[], &["dt=2024-03-01"], day(2), 0);
    assert_eq!(told.success(), [""; 0]);
    told.epoch(&[], &[], day(2), 0);
    assert_eq!(told.success(), ["dt=2024-03-01"]);
    assert_eq!(told.incomplete(), ["dt=2024-03-02"]);
}

#[test]
fn a_complete_partition_that_gets_rows_is_complete_once_more_when_they_are_visible() {
    let mut told = Told::with(with_success_file(rule(&[])));
    told.epoch(&["dt=a"], &[], None, 0);
    assert_eq!(told.success(), ["dt=a"]);
    // Nobody has written the file yet, and now a row waits in an open one.
    told.epoch(&[], &["dt=a"], None, 0);
    assert_eq!((told.success(), told.incomplete()), (vec![], vec!["dt=a"]));
    told.epoch(&["dt=a"], &[], None, 0);
    let partition = "dt=a".to_owned();
    told.done(What::Succeeded {
        table: "t".into(),
        partition,
    });
    assert_eq!((told.success(), told.incomplete()), (vec![], vec![]));
    told.epoch(&["dt=a"], &[], None, 0);
    assert_eq!(told.success(), ["dt=a"]);
}

#[test]
fn by_the_clock_the_delay_counts_from_the_first_file() {
    let delay = rule(&[("sink.partition-commit.delay", "1 h")]);
    let mut told = Told::with(with_success_file(delay));
    told.epoch(&["dt=a"], &[], None, 5);
    told.epoch(&["dt=a"], &[], None, 5 + HOUR_MS);
    assert_eq!(told.incomplete(), ["dt=a"]);
    told.epoch(&[], &[], None, 6 + HOUR_MS);
    assert_eq!(told.success(), ["dt=a"]);
}

#[test]
fn a_partition_without_a_time_is_complete_at_the_end_only_and_that_is_said() {
    let mut told = Told::with(with_success_file(by_partition_time()));
    told.epoch(
        &["dt=__HIVE_DEFAULT_PARTITION__"],
        &[],
        Some(i64::MAX - 1),
        0,
    );
    assert_eq!(told.incomplete(), ["dt=__HIVE_DEFAULT_PARTITION__"]);
    assert!(
        told.warnings[0].contains("'dt=__HIVE_DEFAULT_PARTITION__'"),
        "{:?}",
        told.warnings
    );
    told.epoch(&[], &[], Some(i64::MAX), 0);
    assert_eq!(told.success(), ["dt=__HIVE_DEFAULT_PARTITION__"]);
}

#[test]
fn partitions_that_never_become_complete_are_given_up_one_day_the_oldest_first() {
    let mut told = Told::with(with_success_file(by_partition_time()));
    for at in 0..MOST as i64 + 2 {
        told.epoch(&[&format!("dt={at}")], &[], None, at);
    }
    assert_eq!(told.incomplete().len(), MOST);
    assert!(!told.incomplete().contains(&"dt=1") && told.incomplete().contains(&"dt=2"));
    assert!(
        told.warnings.iter().any(|text| text.contains("oldest")),
        "{:?}",
        told.warnings.last()
    );
}

#[test]
fn a_crawler_is_owed_a_start_by_the_newest_files() {
    let check = |start: CrawlerStart, published: &[&str], watermark: i64, expected: Option<u64>| {
        let mut told = Told::with(Terms {
            complete: Some(by_partition_time()),
            crawler: Some(("c".into(), start)),
            ..Terms::default()
        });
        told.epoch(published, &[], Some(watermark), 0);
        assert_eq!(
            told.owed.crawlers["c"].start, expected,
            "{start:?} {published:?}"
        );
    };
    check(CrawlerStart::NewFiles, &[], i64::MAX, None);
    check(CrawlerStart::NewFiles, &["dt=2024-03-01"], 0, Some(2));
    check(CrawlerStart::NewFiles, &[""], 0, Some(2));
    check(CrawlerStart::PartitionCommit, &["dt=2024-03-01"], 0, None);
    check(
        CrawlerStart::PartitionCommit,
        &["dt=2024-03-01"],
        i64::MAX,
        Some(2),
    );
    check(CrawlerStart::Never, &["dt=2024-03-01"], i64::MAX, None);
}

#[test]
fn a_start_serves_the_files_before_it() {
    let mut told = Told::with(Terms {
        crawler: Some(("c".into(), CrawlerStart::NewFiles)),
        ..Terms::default()
    });
    let started = |at_ms| What::Started {
        crawler: "c".into(),
        at_ms,
    };
    told.epoch(&[""], &[], None, 0);
    let early = Done {
        behind: told.epoch,
        what: started(500),
    };
    told.epoch(&[""], &[], None, 0);
    told.owed.settle(&early);
    let crawler = &told.owed.crawlers["c"];
    assert_eq!((crawler.start, crawler.started_ms), (Some(3), Some(500)));
    told.done(started(900));
    let crawler = &told.owed.crawlers["c"];
    assert_eq!((crawler.start, crawler.started_ms), (None, Some(900)));
}

#[test]
fn what_the_job_no_longer_asks_for_is_forgotten() {
    let mut told = Told::with(Terms {
        crawler: Some(("c".into(), CrawlerStart::NewFiles)),
        complete: Some(by_partition_time()),
        success_file: Some("_SUCCESS".into()),
        registered_as: Some("db.t".into()),
    });
    told.epoch(&["dt=2024-03-01"], &[], None, 0);
    told.terms.insert("t".into(), Terms::default());
    told.epoch(&[], &[], None, 0);
    assert_eq!(told.table(), &OwedTable::default());
    assert!(told.owed.crawlers.is_empty());
    told.terms.clear();
    told.epoch(&[], &[], None, 0);
    assert!(told.owed.is_empty());
}

#[test]
fn what_is_owed_survives_being_written_down() {
    let mut told = Told::with(Terms {
        crawler: Some(("c".into(), CrawlerStart::NewFiles)),
        complete: Some(by_partition_time()),
        success_file: Some("_SUCCESS".into()),
        registered_as: Some("db.t".into()),
    });
    told.epoch(&["dt=2024-03-01"], &[], None, 7);
    told.epoch(&["dt=2024-03-02"], &["dt=2024-03-03"], None, 8);
    let text = serde_json::to_string(&told.owed).unwrap();
    assert_eq!(
        serde_json::from_str::<Owed>(&text).unwrap(),
        told.owed,
        "{text}"
    );
    assert_eq!(serde_json::to_string(&Owed::default()).unwrap(), "{}");
}
