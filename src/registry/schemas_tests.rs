//! Schemas are asked for once, however long that takes.

use super::super::memory::MemoryRegistry;
use super::*;
use crate::clock::ManualClock;
use crate::error::Kind;
use std::time::Duration;

const WAITS: usize = 200;
const WAIT: Duration = Duration::from_millis(200);

struct Bench {
    runtime: tokio::runtime::Runtime,
    registry: MemoryRegistry,
    clock: ManualClock,
    waker: Waker,
    said: Arc<Mutex<Vec<String>>>,
    /// How often somebody has paused.
    pauses: Arc<Mutex<usize>>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            registry: MemoryRegistry::default(),
            clock: ManualClock::at(0),
            waker: Waker::default(),
            said: Arc::default(),
            pauses: Arc::default(),
        }
    }

    fn schemas(&self) -> Schemas {
        let (said, pauses) = (Arc::clone(&self.said), Arc::clone(&self.pauses));
        let around = Around {
            runtime: self.runtime.handle().clone(),
            waker: self.waker.clone(),
            clock: Arc::new(self.clock.clone()),
            sleep: Arc::new(move |_| {
                *lock(&pauses) += 1;
                Box::pin(tokio::task::yield_now())
            }),
            voice: Arc::new(move |text| lock(&said).push(text.to_string())),
        };
        Schemas::new(Arc::new(self.registry.clone()), "table 't'".into(), around)
    }

    /// What becomes of ids once all are answered.
    fn wait(&self, schemas: &Schemas, ids: &[u32]) -> Result<BTreeMap<u32, Found>> {
        let ids = ids.iter().copied().collect();
        let mut found = BTreeMap::new();
        for _ in 0..WAITS {
            if schemas.gather(&ids, &mut found)? {
                return Ok(found);
            }
            self.waker.wait(WAIT);
        }
        panic!("nobody answered");
    }
}

#[test]
fn a_schema_is_asked_for_once_and_each_id_judged_by_itself() {
    let bench = Bench::new();
    let good = bench.registry.put_avro(r#""int""#);
    let bad = bench.registry.put_avro(r#""nonsense""#);
    let foreign = bench.registry.put(SchemaText {
        kind: "PROTOBUF".into(),
        text: "message M {}".into(),
        references: vec![],
    });
    let schemas = bench.schemas();
    for _ in 0..3 {
        let found = bench.wait(&schemas, &[good, bad, foreign, 99]).unwrap();
        assert!(found[&good].is_ok());
        let why = |id| found[&id].clone().unwrap_err();
        assert!(why(bad).contains("no type 'nonsense'"));
        assert!(why(foreign).contains("PROTOBUF"));
        assert!(why(99).contains("does not have it"));
    }
    assert_eq!(bench.registry.asked(), 4);
    // Who restores a schema need not start the job again.
    while bench
        .registry
        .put_avro(&format!(r#"["null","int","{}"]"#, bench.registry.asked()))
        < 99
    {
        let _ = bench.runtime.block_on(bench.registry.schema(1));
    }
    assert!(bench.wait(&schemas, &[99]).unwrap()[&99].is_err());
    bench.clock.advance(Duration::from_secs(61));
    let why = bench.wait(&schemas, &[99]).unwrap()[&99].clone();
    assert!(!why.unwrap_err().contains("does not have it"));
}

#[test]
fn a_reference_that_is_missing_may_come_back() {
    let bench = Bench::new();
    let refers = bench
        .registry
        .put_avro(r#"{"type":"array","items":"other"}"#);
    let schemas = bench.schemas();
    let found = bench.wait(&schemas, &[refers]).unwrap();
    assert!(found[&refers].clone().unwrap_err().contains("'other'"));
    bench
        .registry
        .put_reference(refers, r#"{"type":"record","name":"other","fields":[]}"#);
    assert!(bench.wait(&schemas, &[refers]).unwrap()[&refers].is_err());
    bench.clock.advance(Duration::from_secs(61));
    assert!(bench.wait(&schemas, &[refers]).unwrap()[&refers].is_ok());
}

#[test]
fn an_outage_is_waited_out_and_spoken_of_twice() {
    let bench = Bench::new();
    let id = bench.registry.put_avro(r#""int""#);
    bench.registry.set_away(true);
    let schemas = bench.schemas();
    let mut found = BTreeMap::new();
    assert!(!schemas.gather(&[id].into(), &mut found).unwrap());
    while *lock(&bench.pauses) < 5 {
        std::thread::yield_now();
    }
    assert!(!schemas.gather(&[id].into(), &mut found).unwrap());
    bench.registry.set_away(false);
    assert!(bench.wait(&schemas, &[id]).unwrap()[&id].is_ok());
    let said = lock(&bench.said).clone();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("table 't'") && said[0].contains("does not answer"));
    assert!(said[1].contains("answers again"));
}

#[test]
fn who_is_not_allowed_to_ask_is_told() {
    let bench = Bench::new();
    bench.registry.set_forbidden(true);
    let error = bench.wait(&bench.schemas(), &[1]).unwrap_err();
    assert_eq!(error.kind(), Kind::Job);
    assert!(error.to_string().contains("table 't'"), "{error}");
}

#[test]
fn questions_end_with_who_asked() {
    let bench = Bench::new();
    bench.registry.set_away(true);
    let schemas = bench.schemas();
    let known = Arc::downgrade(&schemas.known);
    assert!(!schemas.gather(&[1].into(), &mut BTreeMap::new()).unwrap());
    drop(schemas);
    while known.upgrade().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn garbage_is_not_remembered_for_ever() {
    let bench = Bench::new();
    let schemas = bench.schemas();
    let many: Vec<u32> = (1..=ABSENT_AT_MOST as u32 + 5).collect();
    let found = bench.wait(&schemas, &many).unwrap();
    assert!(found.len() == many.len() && found.values().all(|found| found.is_err()));
    assert!(lock(&schemas.known).answers.is_empty());
}
