//! Owners that freeze at a step, are replaced, and come back as if nothing had happened.

use super::super::*;
use super::numbers::{Process, TABLES, expected, visible};
use super::{live, memory};
use crate::error::{Kind, Result};
use crate::store::Located;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Freezes once at a step, when it is armed, until it is told to go on.
struct Freeze {
    armed: Arc<AtomicBool>,
    step: Step,
    frozen: mpsc::Sender<()>,
    thaw: Mutex<mpsc::Receiver<()>>,
}

impl Hook for Freeze {
    fn at(&self, step: Step) -> Result<()> {
        if step == self.step && self.armed.swap(false, Ordering::SeqCst) {
            self.frozen.send(()).unwrap();
            self.thaw.lock().unwrap().recv().unwrap();
        }
        Ok(())
    }
}

/// What was published becomes one file, as compaction makes it. It leaves alone what the latest epoch names, because the next start
/// publishes that again.
async fn compact(at: &Located) {
    let latest = EpochStore::new(at.folder("checkpoints"), "numbers")
        .latest()
        .await
        .unwrap()
        .unwrap();
    for table in TABLES {
        let mut rows = visible(at, table).await;
        let folder = at.child(&format!("published/{table}"));
        let files: Vec<_> = at.store.list(Some(&folder)).try_collect().await.unwrap();
        let named = &latest.sinks[table].tokens;
        let named: Vec<_> = named
            .iter()
            .map(|token| at.child(&format!("published/{}", token.name)))
            .collect();
        for file in files {
            if named.contains(&file.location) {
                let bytes = at
                    .store
                    .get(&file.location)
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap();
                let kept: Vec<i64> = serde_json::from_slice(&bytes).unwrap();
                rows.retain(|row| !kept.contains(row));
            } else {
                at.store.delete(&file.location).await.unwrap();
            }
        }
        let path = at.child(&format!("published/{table}/compacted.json"));
        at.store
            .put(&path, serde_json::to_vec(&rows).unwrap().into())
            .await
            .unwrap();
    }
}

/// The owner freezes at a step of its second epoch. A newcomer takes the job over and ends it; then the owner goes on.
async fn come_back(step: Step, compacted: bool) {
    let at = memory();
    let (frozen, is_frozen) = mpsc::channel();
    let (thaw, thawed) = mpsc::channel();
    let armed = Arc::new(AtomicBool::new(false));
    let hook = Freeze {
        armed: Arc::clone(&armed),
        step,
        frozen,
        thaw: Mutex::new(thawed),
    };
    let mut old = Process::start(&at, &at, Arc::new(hook)).await.unwrap();
    old.epoch(12, false).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    let old = tokio::spawn(async move {
        let second = old.epoch(20, false).await.map(drop);
        (second, old.epoch(1, false).await.map(drop))
    });
    tokio::task::spawn_blocking(move || is_frozen.recv())
        .await
        .unwrap()
        .unwrap();

    live(&at, &at, Arc::new(NoHook)).await.unwrap();
    if compacted {
        compact(&at).await;
    }
    let before = [visible(&at, TABLES[0]).await, visible(&at, TABLES[1]).await];
    assert_eq!(before, TABLES.map(|table| expected(table, 40)));

    thaw.send(()).unwrap();
    let (second, third) = old.await.unwrap();
    let published_late = matches!(step, Step::BeforePublish | Step::DuringPublish) && compacted;
    let too_early = matches!(
        step,
        Step::BeforeState | Step::AfterState | Step::BeforeCommit | Step::AfterCommit
    );
    if published_late || too_early {
        assert_eq!(second.unwrap_err().kind(), Kind::Fenced, "{step}");
    } else {
        second.unwrap();
        assert_eq!(third.unwrap_err().kind(), Kind::Fenced, "{step}");
    }
    let after = [visible(&at, TABLES[0]).await, visible(&at, TABLES[1]).await];
    assert_eq!(after, before, "frozen {step}, compacted: {compacted}");
    // The zombie's expiry, too, left alone what the newcomer needs.
    Process::start(&at, &at, Arc::new(NoHook))
        .await
        .unwrap()
        .epoch(0, true)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_publishes_nothing_wrong() {
    let steps = Step::of_epochs().skip_while(|step| *step != Step::BeforeState);
    for step in steps {
        for compacted in [false, true] {
            println!("frozen {step}, compacted: {compacted}");
            come_back(step, compacted).await;
        }
    }
}
