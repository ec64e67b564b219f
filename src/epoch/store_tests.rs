use super::*;
use crate::epoch::{Owner, SinkState, StateRef};
use crate::sink::Token;
use crate::store::{Effect, Flaky, open};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;

fn memory() -> EpochStore {
    let at = open(&format!("memory://{}/checkpoints", uuid::Uuid::new_v4())).unwrap();
    EpochStore::new(at, "emergency")
}

fn over(store: Arc<dyn ObjectStore>) -> EpochStore {
    let at = Located {
        store,
        path: Path::from("checkpoints"),
        url: "flaky://checkpoints".into(),
    };
    EpochStore::new(at, "emergency")
}

/// The kept fixture under another number and owner.
fn checkpoint(epoch: u64, owner: &str) -> Checkpoint {
    let owner = Owner {
        id: owner.to_string(),
        ..fixture().owner
    };
    Checkpoint {
        epoch,
        owner,
        state: vec![],
        sinks: Default::default(),
        ..fixture()
    }
}

/// A checkpoint as version 1 writes it. Never change the file: it stands for all those that users have.
fn fixture() -> Checkpoint {
    serde_json::from_slice(include_bytes!("../../tests/fixtures/checkpoint-v1.json")).unwrap()
}

#[test]
fn the_kept_checkpoint_of_version_1_can_be_read_and_is_written_as_it_is() {
    let fixture = fixture();
    assert_eq!(
        (fixture.version, fixture.job.as_str(), fixture.epoch),
        (1, "emergency", 7)
    );
    assert_eq!(
        fixture.sources["patient_readings"].splits[0]
            .position
            .offset,
        1042
    );
    assert_eq!(fixture.sinks["breaches"].carried[0].rows, 3);
    let written = serde_json::to_value(&fixture).unwrap();
    let kept: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../tests/fixtures/checkpoint-v1.json")).unwrap();
    assert_eq!(written, kept);
}

#[test]
fn the_kept_blob_of_version_1_can_be_read() {
    let bytes = Bytes::from_static(include_bytes!("../../tests/fixtures/state-v1.arrows"));
    let batches = crate::epoch::blob::read_batches("the fixture", bytes).unwrap();
    let table = arrow::util::pretty::pretty_format_batches(&batches)
        .unwrap()
        .to_string();
    let rows = ["| p1  | 3 |", "| p2  |   |"];
    assert!(rows.iter().all(|row| table.contains(row)), "{table}");
}

#[tokio::test]
async fn the_latest_epoch_is_found_with_and_without_the_hint() {
    let store = memory();
    assert_eq!(store.latest().await.unwrap(), None);
    for epoch in 1..=5 {
        store.commit(&checkpoint(epoch, "a")).await.unwrap();
    }
    let latest = async || store.latest().await.unwrap().map(|found| found.epoch);
    assert_eq!(latest().await, Some(5));
    let hint = store.at.child("latest");
    let hints: [&[u8]; 5] = [
        br#"{"version":1,"epoch":2}"#,
        br#"{"version":1,"epoch":77}"#,
        br#"{"version":2,"epoch":1}"#,
        b"not JSON",
        br#"{"version":1,"epoch":18446744073709551615}"#,
    ];
    for text in hints {
        store
            .at
            .store
            .put(&hint, Bytes::from_static(text).into())
            .await
            .unwrap();
        assert_eq!(latest().await, Some(5), "{}", String::from_utf8_lossy(text));
    }
    store.at.store.delete(&hint).await.unwrap();
    assert_eq!(latest().await, Some(5));
}

/// Also when the first ones were cleaned up by hand, and there is no hint.
#[tokio::test]
async fn among_very_many_epochs_the_latest_takes_few_listings() {
    let memory = Arc::new(InMemory::new());
    let flaky = Arc::new(Flaky::new(Arc::clone(&memory), usize::MAX, 1, Effect::Lost));
    let store = over(Arc::clone(&flaky) as Arc<dyn ObjectStore>);
    let (first, last) = (30_001, 100_000);
    for epoch in first..last {
        memory
            .put(&store.epoch_path(epoch), Bytes::new().into())
            .await
            .unwrap();
    }
    let json = serde_json::to_vec(&checkpoint(last, "a")).unwrap();
    memory
        .put(&store.epoch_path(last), json.into())
        .await
        .unwrap();
    assert_eq!(store.latest().await.unwrap().unwrap().epoch, last);
    assert!(flaky.calls() < 30, "{} calls", flaky.calls());
}

#[tokio::test]
async fn an_epoch_has_one_owner_and_the_other_is_told_who() {
    let store = memory();
    store.commit(&checkpoint(1, "a")).await.unwrap();
    store.commit(&checkpoint(1, "a")).await.unwrap();
    let error = store.commit(&checkpoint(1, "b")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert!(
        error.to_string().contains("host station-4, pid 4711"),
        "{error}"
    );
    store.commit(&checkpoint(2, "b")).await.unwrap();
    let error = store
        .check_not_fenced(&checkpoint(1, "a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    store.check_not_fenced(&checkpoint(2, "b")).await.unwrap();
}

/// Whichever call of a commit fails, before or after its effect, the owner learns the truth: also when the number is another's.
#[tokio::test]
async fn a_lost_answer_does_not_change_whose_an_epoch_is() {
    for call in 0..4 {
        for effect in [Effect::Lost, Effect::Done] {
            let memory = Arc::new(InMemory::new());
            let sure = over(Arc::clone(&memory) as Arc<dyn ObjectStore>);
            let flaky = over(Arc::new(Flaky::new(memory, call, 1, effect)));
            flaky.commit(&checkpoint(1, "a")).await.unwrap();
            assert_eq!(
                sure.read(1).await.unwrap().unwrap().owner.id,
                "a",
                "call {call}, {effect:?}"
            );
            sure.commit(&checkpoint(2, "b")).await.unwrap();
            let flaky = over(Arc::new(Flaky::new(
                Arc::clone(&sure.at.store),
                call,
                1,
                effect,
            )));
            let error = flaky.commit(&checkpoint(2, "a")).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Fenced, "call {call}, {effect:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_an_error_that_can_be_retried() {
    let store = over(Arc::new(Flaky::new(
        Arc::new(InMemory::new()),
        0,
        usize::MAX,
        Effect::Lost,
    )));
    let error = store.commit(&checkpoint(1, "a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Retry);
    assert!(error.to_string().contains("flaky://checkpoints"), "{error}");
}

#[tokio::test]
async fn what_is_not_this_jobs_or_not_this_version_is_refused() {
    let store = memory();
    store.commit(&checkpoint(1, "a")).await.unwrap();
    let other = EpochStore::new(store.at.clone(), "retail");
    let error = other.latest().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().contains("belongs to job \"emergency\""),
        "{error}"
    );

    let newer = serde_json::json!({"version": 2, "something": "else"}).to_string();
    store
        .at
        .store
        .put(&store.epoch_path(2), newer.into())
        .await
        .unwrap();
    let error = store.latest().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("format version 2"), "{error}");
}

/// A job that began anew would write into a full lake what it has already.
#[tokio::test]
async fn epochs_that_are_gone_are_missed() {
    let store = memory();
    store.commit(&checkpoint(1, "a")).await.unwrap();
    let epoch = store.epoch_path(1);
    store.at.store.delete(&epoch).await.unwrap();
    let error = store.latest().await.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    for word in [
        store.url(),
        "epoch 1",
        "Bring `epochs/` back",
        "another lake",
    ] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_epoch_is_named() {
    let store = memory();
    store.commit(&checkpoint(1, "a")).await.unwrap();
    let path = store.epoch_path(1);
    let whole = store.get(&path).await.unwrap().unwrap();
    for length in [0, whole.len() / 2] {
        let part = whole.slice(..length);
        store.at.store.put(&path, part.into()).await.unwrap();
        let error = store.latest().await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(path.as_ref()), "{error}");
        assert!(error.to_string().contains("another lake"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_segment_is_told_before_it_is_read() {
    let store = memory();
    let whole: Vec<u8> = (0..100).collect();
    let mut segment = Segment {
        blob: "state/1-a/snapshot-0".into(),
        offset: 20,
        bytes: 80,
        xxh3: Some(checksum(&whole[20..])),
    };
    let put = async |bytes: Vec<u8>| store.put_blob("state/1-a/snapshot-0", bytes.into()).await;
    put(whole.clone()).await.unwrap();
    assert_eq!(store.get_segment(&segment).await.unwrap().1, whole[20..]);
    let mut changed = whole.clone();
    changed[99] ^= 1;
    for damaged in [&changed[..], &whole[..50], &whole[..10]] {
        put(damaged.to_vec()).await.unwrap();
        let error = store.get_segment(&segment).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        for word in [store.url(), "snapshot-0, bytes 20 to 100", "another lake"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
    // What an epoch from before says nothing of is taken as it is.
    segment.xxh3 = None;
    put(changed.clone()).await.unwrap();
    assert_eq!(store.get_segment(&segment).await.unwrap().1, changed[20..]);
}

#[tokio::test]
async fn only_blobs_that_the_latest_two_epochs_name_are_kept() {
    let store = memory();
    let blob = |epoch, owner| format!("{}/snapshot-0", EpochStore::blob_folder(epoch, owner));
    let with = |epoch, owner: &str, blobs: &[String]| {
        let state = blobs.iter().map(|blob| StateRef {
            blob: blob.clone(),
            ..fixture().state[0].clone()
        });
        Checkpoint {
            state: state.collect(),
            ..checkpoint(epoch, owner)
        }
    };
    let all = [
        blob(1, "a"),
        blob(2, "a"),
        blob(3, "dead"),
        blob(3, "a"),
        blob(4, "b"),
    ];
    for name in &all {
        store
            .put_blob(name, Bytes::from_static(b"x"))
            .await
            .unwrap();
    }
    store.commit(&with(1, "a", &all[..1])).await.unwrap();
    store.commit(&with(2, "a", &all[1..2])).await.unwrap();
    let third = with(3, "a", &all[3..4]);
    store.commit(&third).await.unwrap();
    store.expire(&third).await.unwrap();
    for (name, kept) in all.iter().zip([false, true, false, true, true]) {
        assert_eq!(store.get_blob(name).await.is_ok(), kept, "{name}");
    }
    assert_eq!(store.read(1).await.unwrap().unwrap().epoch, 1);
    let error = store.get_blob(&all[0]).await.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
}

/// What the reader of an epoch needs is in it: a token, as sinks make them.
#[tokio::test]
async fn an_epoch_comes_back_as_it_was_committed() {
    let store = memory();
    let token = Token {
        name: "a \"name\" with / and ü".into(),
        rows: 3,
        bytes: 4,
    };
    let sink = SinkState {
        tokens: vec![token],
        carried: vec![],
    };
    let committed = Checkpoint {
        epoch: 1,
        sinks: [("t".to_string(), sink)].into(),
        ..fixture()
    };
    store.commit(&committed).await.unwrap();
    assert_eq!(store.read(1).await.unwrap(), Some(committed));
}
