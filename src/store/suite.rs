//! What every store keeps, checked for each of them with the same calls.

use super::*;
use crate::clock::Sleeper;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutMode, PutPayload};
use std::time::Duration;

fn bytes(text: &str) -> PutPayload {
    PutPayload::from(text.as_bytes().to_vec())
}

async fn read(at: &Located, name: &str) -> String {
    let got = at
        .store
        .get(&at.child(name))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    String::from_utf8(got.to_vec()).unwrap()
}

async fn names(at: &Located) -> Vec<String> {
    let objects: Vec<_> = at.store.list(Some(&at.path)).try_collect().await.unwrap();
    let mut names: Vec<_> = objects
        .into_iter()
        .map(|object| object.location.to_string())
        .collect();
    names.sort();
    let prefix = format!("{}/", at.path);
    names
        .into_iter()
        .map(|name| name.strip_prefix(&prefix).unwrap().to_string())
        .collect()
}

async fn check(at: Located) {
    let store = &at.store;
    assert_eq!(names(&at).await, Vec::<String>::new());
    let missing = store.get(&at.child("a/none")).await.unwrap_err();
    assert!(is_missing(&missing), "{missing}");

    // Put, overwrite, create.
    store.put(&at.child("a/1"), bytes("one")).await.unwrap();
    store.put(&at.child("a/1"), bytes("two")).await.unwrap();
    assert_eq!(read(&at, "a/1").await, "two");
    let name = at.child("a/2");
    store
        .put_opts(&name, bytes("first"), PutMode::Create.into())
        .await
        .unwrap();
    let second = store
        .put_opts(&name, bytes("second"), PutMode::Create.into())
        .await
        .unwrap_err();
    assert!(
        matches!(second, object_store::Error::AlreadyExists { .. }),
        "{second}"
    );
    assert_eq!(read(&at, "a/2").await, "first");

    // Parts of it.
    let part = GetOptions {
        range: Some(GetRange::Bounded(1..3)),
        ..GetOptions::default()
    };
    assert_eq!(
        &store
            .get_opts(&name, part)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()[..],
        b"ir"
    );
    assert_eq!(store.head(&name).await.unwrap().size, 5);

    // Lists: all below, only behind a name.
    assert_eq!(names(&at).await, ["a/1", "a/2"]);
    let behind: Vec<_> = store
        .list_with_offset(Some(&at.child("a")), &at.child("a/1"))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(behind.len(), 1);
    assert_eq!(behind[0].location, at.child("a/2"));

    // Copies and renames, also twice, as publishing does after a crash.
    for _ in 0..2 {
        store
            .copy(&at.child("a/2"), &at.child("b/dt=2024-01-01/x.parquet"))
            .await
            .unwrap();
    }
    assert_eq!(read(&at, "b/dt=2024-01-01/x.parquet").await, "first");
    store
        .rename(&at.child("a/2"), &at.child("b/dt=2024-01-01/x.parquet"))
        .await
        .unwrap();
    let missing = store
        .copy(&at.child("a/2"), &at.child("b/y"))
        .await
        .unwrap_err();
    assert!(is_missing(&missing), "{missing}");
    assert_eq!(names(&at).await, ["a/1", "b/dt=2024-01-01/x.parquet"]);

    // A copy does not change when its original is written again.
    store.copy(&at.child("a/1"), &at.child("c")).await.unwrap();
    store.put(&at.child("a/1"), bytes("three")).await.unwrap();
    assert_eq!(read(&at, "c").await, "two");

    // Parts, the second handed over before the first.
    let mut upload = store.put_multipart(&at.child("d")).await.unwrap();
    let large = vec![b'x'; 5 * 1024 * 1024];
    let first = upload.put_part(large.clone().into());
    let second = upload.put_part(bytes("end"));
    second.await.unwrap();
    first.await.unwrap();
    assert!(!names(&at).await.contains(&"d".to_string()));
    upload.complete().await.unwrap();
    let whole = read(&at, "d").await;
    assert_eq!(
        (whole.len(), &whole[large.len()..]),
        (large.len() + 3, "end")
    );

    // Deleting many.
    let all: Vec<_> = names(&at)
        .await
        .iter()
        .map(|name| Ok(at.child(name)))
        .collect();
    let deleted: Vec<_> = store
        .delete_stream(stream::iter(all).boxed())
        .collect()
        .await;
    assert_eq!(deleted.iter().filter(|one| one.is_ok()).count(), 4);
    assert_eq!(names(&at).await, Vec::<String>::new());
}

/// Threads that create the same names at the same time: each name has one winner, and it is the winner's bytes that are read.
async fn race(at: Located) {
    for round in 0..10 {
        let name = format!("race/{round}");
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (at, name) = (at.clone(), name.clone());
                tokio::spawn(async move {
                    let path = at.child(&name);
                    let text = bytes(&racer.to_string());
                    let put = at.store.put_opts(&path, text, PutMode::Create.into());
                    (racer, put.await)
                })
            })
            .collect();
        let mut winners = vec![];
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(_)) => winners.push(racer.to_string()),
                (_, Err(error)) => assert!(
                    matches!(error, object_store::Error::AlreadyExists { .. }),
                    "{error}"
                ),
            }
        }
        assert_eq!(winners, [read(&at, &name).await]);
    }
}

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn local() -> (tempfile::TempDir, Located) {
    let folder = tempfile::tempdir().unwrap();
    let located = open(&format!("{}/new/lake", folder.path().display())).unwrap();
    (folder, located)
}

/// A new folder in the bucket that the environment names, or a word that there is none.
fn served(
    cloud: &Cloud,
    server: &str,
    bucket: &str,
    open: fn(&str) -> Arc<dyn ObjectStore>,
) -> Option<Located> {
    if std::env::var(server).is_err() {
        println!("left out: {} ({server} is not set)", cloud.name);
        return None;
    }
    let bucket = std::env::var(bucket).expect("the bucket is named beside the server");
    let folder = fresh();
    Some(Located {
        store: open(&bucket),
        url: format!("{}://{bucket}/{folder}", cloud.scheme),
        path: Path::from(folder),
    })
}

pub(crate) fn s3() -> Option<Located> {
    let bucket = "TRIBUTARY_TEST_BUCKET";
    served(&s3::S3, "TRIBUTARY_TEST_S3", bucket, s3::test_bucket)
}

fn google() -> Option<Located> {
    let bucket = "TRIBUTARY_TEST_GCS_BUCKET";
    served(&gs::GOOGLE, "TRIBUTARY_TEST_GCS", bucket, gs::test_bucket)
}

fn azure() -> Option<Located> {
    let container = "TRIBUTARY_TEST_AZURE_CONTAINER";
    let open = az::test_container;
    served(&az::AZURE, "TRIBUTARY_TEST_AZURE", container, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn local_folder() {
    let (_folder, at) = local();
    check(at.clone()).await;
    race(at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let at = open(&format!("memory://{}/lake", fresh())).unwrap();
    check(at.clone()).await;
    race(at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_bucket() {
    if let Some(at) = s3() {
        cloud(at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn google_bucket() {
    if let Some(at) = google() {
        cloud(at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_container() {
    if let Some(at) = azure() {
        cloud(at).await;
    }
}

async fn cloud(at: Located) {
    check(at.clone()).await;
    race(at.clone()).await;
    // Several objects, some of which are gone: repeating is harmless.
    at.store.put(&at.child("there"), bytes("x")).await.unwrap();
    let paths: Vec<_> = ["gone", "never", "there"].map(|name| at.child(name)).into();
    let deleted = at
        .store
        .delete_stream(stream::iter(paths.clone()).map(Ok).boxed());
    let mut deleted: Vec<Path> = deleted.try_collect().await.unwrap();
    deleted.sort();
    assert_eq!(deleted, paths);
    // A copy that is not to overwrite does not, where the cloud has such copies.
    at.store.put(&at.child("a"), bytes("a")).await.unwrap();
    at.store.put(&at.child("b"), bytes("b")).await.unwrap();
    let copied = at
        .store
        .copy_if_not_exists(&at.child("a"), &at.child("b"))
        .await;
    assert!(
        matches!(
            copied,
            Err(object_store::Error::AlreadyExists { .. }
                | object_store::Error::NotSupported { .. }
                | object_store::Error::NotImplemented { .. })
        ),
        "{copied:?}"
    );
    assert_eq!(read(&at, "b").await, "b");
}

/// A bucket that is not there is an error at once, with what to do, whatever is done with it.
async fn missing(store: Arc<dyn ObjectStore>, says: &str) {
    let at = Located {
        store,
        ..open("memory://x/y").unwrap()
    };
    let path = at.child("x");
    let listed: object_store::Result<Vec<_>> = at.store.list(Some(&at.path)).try_collect().await;
    let create = at
        .store
        .put_opts(&path, bytes("x"), PutMode::Create.into())
        .await;
    for error in [
        at.store.get(&path).await.unwrap_err(),
        at.store.put(&path, bytes("x")).await.unwrap_err(),
        listed.unwrap_err(),
        create.unwrap_err(),
    ] {
        let error = at.explain(&path, error);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_exist() {
    if s3().is_some() {
        let says = "there is no bucket \"tributary-none\"";
        missing(s3::test_bucket("tributary-none"), says).await;
    }
    if google().is_some() {
        let says = "there is no bucket \"tributary-none\"";
        missing(gs::test_bucket("tributary-none"), says).await;
    }
    if azure().is_some() {
        let says = "there is no container \"tributary-none\"";
        missing(az::test_container("tributary-none"), says).await;
    }
}

fn no_waiting() -> Sleeper {
    Arc::new(|_: Duration| Box::pin(std::future::ready(())))
}

/// A memory store whose nth call fails, three times in a row, behind a patient one.
fn patient(
    first: usize,
    effect: Effect,
    said: &Arc<Mutex<Vec<String>>>,
) -> (Flaky<InMemory>, Located) {
    let flaky = Flaky::new(Arc::new(InMemory::new()), first, 3, effect);
    let said = Arc::clone(said);
    let voice = Arc::new(move |text: &str| said.lock().unwrap().push(text.to_string()));
    let store = Arc::new(Retrying::with(
        flaky.clone(),
        &s3::S3,
        "lake",
        no_waiting(),
        voice,
    ));
    (
        flaky,
        Located {
            store,
            path: Path::from("lake"),
            url: "s3://lake/lake".into(),
        },
    )
}

/// Whichever call fails, whether or not it had its effect, the caller sees what it would have seen; but a creation and a rename may meet
/// their own first attempt.
#[tokio::test]
async fn patience_hides_every_outage() {
    let work = |at: Located| async move {
        let store = &at.store;
        store.put(&at.child("a"), bytes("one")).await.unwrap();
        assert_eq!(read(&at, "a").await, "one");
        store.put(&at.child("b"), bytes("two")).await.unwrap();
        store.put(&at.child("c"), bytes("three")).await.unwrap();
        assert_eq!(names(&at).await, ["a", "b", "c"]);
        store.copy(&at.child("a"), &at.child("d")).await.unwrap();
        let mut upload = store.put_multipart(&at.child("e")).await.unwrap();
        upload.put_part(bytes("fo")).await.unwrap();
        upload.put_part(bytes("ur")).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(read(&at, "e").await, "four");
        store.list_with_delimiter(Some(&at.path)).await.unwrap();
        let paths = ["a", "b"].map(|name| Ok(at.child(name)));
        let deleted: Vec<_> = store
            .delete_stream(stream::iter(paths).boxed())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(deleted.len(), 2);
        assert_eq!(names(&at).await, ["c", "d", "e"]);
    };
    let said = Arc::default();
    let (flaky, at) = patient(usize::MAX, Effect::Lost, &said);
    work(at).await;
    assert_eq!(*said.lock().unwrap(), Vec::<String>::new());
    for call in 0..flaky.calls() {
        for effect in [Effect::Lost, Effect::Done] {
            println!("call {call} fails, its effect is {effect:?}");
            let said = Arc::default();
            work(patient(call, effect, &said).1).await;
            let said = said.lock().unwrap();
            // One word when it begins and one when it is over. (An answer in between, that the upload is gone, ends an outage too.)
            assert!(matches!(said.len(), 2 | 4), "{said:?}");
            for outage in said.chunks(2) {
                assert!(
                    outage[0].starts_with("s3://lake does not answer; trying again until it does"),
                    "{said:?}"
                );
                assert_eq!(outage[1], "s3://lake answers again");
            }
        }
    }
}
