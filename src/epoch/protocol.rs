//! The protocol as a whole: a small job dies at every step, meets every fault of the store, and comes back as a zombie. What is visible
//! must be the rows of committed epochs, each once.

mod numbers;
mod zombie;

use super::*;
use crate::error::{Kind, Result};
use crate::store::{Effect, Flaky, Located, open};
use futures::TryStreamExt;
use numbers::{Process, TABLES, expected, visible};
use object_store::ObjectStore;
use std::sync::Arc;

/// The job from start to orderly end, started again whenever it dies. Counts how often it did.
async fn run(first: &Located, at: &Located, hook: Arc<dyn Hook>) -> usize {
    let mut deaths = 0;
    let (mut place, mut hook) = (first, hook);
    loop {
        match live(place, at, Arc::clone(&hook)).await {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), Kind::Retry, "{error}"),
        }
        deaths += 1;
        assert!(deaths < 3);
        (place, hook) = (at, Arc::new(NoHook));
    }
    for table in TABLES {
        assert_eq!(visible(at, table).await, expected(table, 40), "{table}");
        let staged = at.child(&format!("staged/{table}"));
        let staged: Vec<_> = at.store.list(Some(&staged)).try_collect().await.unwrap();
        assert_eq!(staged, [], "{table}");
    }
    let last = EpochStore::new(at.folder("checkpoints"), "numbers")
        .latest()
        .await
        .unwrap()
        .unwrap();
    assert!(last.released && last.sinks.values().all(|sink| sink.tokens.is_empty()));
    let book = last.ledger.sinks["all"];
    assert_eq!((book.written, book.published, book.carried), (40, 40, 0));
    deaths
}

async fn live(at: &Located, sure: &Located, hook: Arc<dyn Hook>) -> Result<()> {
    let mut process = Process::start(at, sure, hook).await?;
    while process.position < 40 {
        process.epoch((40 - process.position).min(9), false).await?;
    }
    process.epoch(0, true).await?;
    Ok(())
}

fn memory() -> Located {
    open(&format!("memory://{}/lake", uuid::Uuid::new_v4())).unwrap()
}

#[tokio::test]
async fn state_that_stays_is_written_once_and_outlives_its_epoch() {
    let at = memory();
    let store = EpochStore::new(at.folder("checkpoints"), "numbers");
    let mut process = Process::start(&at, &at, Arc::new(NoHook)).await.unwrap();
    let mut blobs = Vec::new();
    for _ in 0..4 {
        process.epoch(3, false).await.unwrap();
        let state = store.latest().await.unwrap().unwrap().state;
        blobs.extend(state.into_iter().filter(|state| state.part == "began"));
    }
    blobs.dedup();
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    // The next owner finds it, and what it needs beside it.
    Process::start(&at, &at, Arc::new(NoHook)).await.unwrap();
}

async fn die_at_every_step(places: impl Fn() -> Located, times: u32) {
    for step in Step::of_epochs() {
        let mut reached = 0;
        for nth in 1..=times {
            let at = places();
            println!("dies {step}, time {nth}");
            let hook = Arc::new(DieAt::new(step, nth));
            reached += run(&at, &at, hook).await;
        }
        assert!(reached > 0, "{step} was never reached");
    }
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing() {
    die_at_every_step(memory, 6).await;
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing_in_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = || {
        open(&format!(
            "{}/{}",
            folder.path().display(),
            uuid::Uuid::new_v4()
        ))
        .unwrap()
    };
    die_at_every_step(place, 2).await;
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing_on_s3() {
    if crate::store::test_place().is_some() {
        die_at_every_step(|| crate::store::test_place().unwrap(), 2).await;
    }
}

/// Every call in turn fails, before or after its effect. Either the protocol gets over it, or the job ends and its next start does.
#[tokio::test]
async fn a_failure_of_any_call_loses_and_repeats_nothing() {
    let flaky = |at: &Located, call, effect| {
        let flaky = Flaky::new(Arc::clone(&at.store), call, 1, effect);
        (
            flaky.clone(),
            Located {
                store: Arc::new(flaky),
                ..at.clone()
            },
        )
    };
    let at = memory();
    let (counter, place) = flaky(&at, usize::MAX, Effect::Lost);
    run(&place, &at, Arc::new(NoHook)).await;
    let calls = counter.calls();
    assert!(calls > 50, "{calls}");
    for call in 0..calls {
        for effect in [Effect::Lost, Effect::Done] {
            println!("call {call} of {calls} fails, its effect is {effect:?}");
            let at = memory();
            let (_, place) = flaky(&at, call, effect);
            run(&place, &at, Arc::new(NoHook)).await;
        }
    }
}

/// Rows that a sink lost on the way are found before anybody relies on the epoch.
#[tokio::test]
async fn an_epoch_whose_books_do_not_balance_is_not_committed() {
    let at = memory();
    let mut process = Process::start(&at, &at, Arc::new(NoHook)).await.unwrap();
    process.epoch(6, false).await.unwrap();
    process.files.get_mut(&("all", 0)).unwrap().rows.pop();
    let error = process.epoch(9, false).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Bug, "{error}");
    assert!(error.to_string().contains("sink all"), "{error}");
    assert_eq!(
        Process::start(&at, &at, Arc::new(NoHook))
            .await
            .unwrap()
            .position,
        6
    );
}
