use super::super::complete::Rule;
use super::super::owed::MOST;
use super::*;
use crate::clock::ManualClock;
use crate::epoch::NoHook;
use crate::sink::{TableSpec, Token};
use crate::sql::Options;
use arrow::datatypes::Schema;

fn by_partition_time() -> Rule {
    let table = TableSpec {
        name: "t".into(),
        schema: Arc::new(Schema::empty()),
        partitioned_by: vec!["dt".into()],
        primary_key: vec![],
        metadata: Default::default(),
        options: Options::of(vec![
            ("connector", "filesystem"),
            ("sink.partition-commit.trigger", "partition-time"),
        ]),
    };
    Rule::of(&table).unwrap()
}

/// A keeper of one table, and what it says.
fn keeper() -> (Keeper, Arc<Mutex<Vec<String>>>) {
    let words: Arc<Mutex<Vec<String>>> = Arc::default();
    let said = Arc::clone(&words);
    let terms = Terms {
        complete: Some(by_partition_time()),
        success_file: Some("_SUCCESS".into()),
        ..Terms::default()
    };
    let duty = Duty {
        terms,
        registered: None,
    };
    let duties = Duties {
        tables: [("t".to_owned(), duty)].into(),
        crawlers: BTreeMap::new(),
    };
    let tools = Tools {
        catalog: None,
        publishers: BTreeMap::new(),
        guard: Arc::new(|_| futures::future::ready(Ok(())).boxed()),
        clock: Arc::new(ManualClock::at(0)),
        sleep: Arc::new(|_| futures::future::ready(()).boxed()),
        jitter: || 1.0,
        voice: Arc::new(move |text| said.lock().unwrap().push(text.to_owned())),
        hook: Arc::new(NoHook),
    };
    let (keeper, _worker) = Keeper::new(duties, tools);
    (keeper, words)
}

#[test]
fn of_each_table_each_thing_is_said_once() {
    let (mut keeper, words) = keeper();
    let mut owed = Owed::default();
    let mut epoch = 0;
    let mut publish = |folders: Vec<String>| {
        let token = |folder: String| Token {
            name: format!("{folder}/part-1.parquet"),
            rows: 1,
            bytes: 1,
        };
        let tokens: Vec<Token> = folders.into_iter().map(token).collect();
        let news = News {
            tokens: &tokens,
            ..News::default()
        };
        epoch += 1;
        owed = keeper.add(&owed, epoch, 0, &[("t".to_owned(), news)].into());
    };
    publish(vec!["dt=__HIVE_DEFAULT_PARTITION__".to_owned()]);
    // There is no time in their names either, which was said, and there are too many of them.
    for _ in 0..2 {
        publish((0..=MOST).map(|day| format!("dt=none-{day}")).collect());
    }
    let words = words.lock().unwrap();
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words[0].contains("__HIVE_DEFAULT_PARTITION__"), "{words:?}");
    assert!(words[1].contains("of the oldest"), "{words:?}");
}
