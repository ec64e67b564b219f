use super::*;
use crate::clock::ManualClock;
use crate::store::open;
use std::sync::{Arc, Mutex};

/// A claim with a clock that only waiting moves, and a world in which something can happen at a given second.
struct World {
    store: EpochStore,
    clock: ManualClock,
    said: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let at = open(&format!("memory://{}/checkpoints", uuid::Uuid::new_v4())).unwrap();
        World {
            store: EpochStore::new(at, "emergency"),
            clock: ManualClock::at(0),
            said: Arc::default(),
        }
    }

    /// Claims; `events` are epochs that another process commits when so many seconds were waited.
    async fn claim(&self, mode: Mode, events: Vec<(i64, Checkpoint)>) -> Result<Claimed> {
        let me = Owner::this_process();
        let (clock, store) = (self.clock.clone(), self.store.clone());
        let events = Arc::new(Mutex::new(events));
        let sleep: Sleeper = Arc::new(move |time| {
            let (clock, store, events) = (clock.clone(), store.clone(), Arc::clone(&events));
            Box::pin(async move {
                clock.advance(time);
                let now = clock.now_ms() / 1000;
                let due: Vec<_> = events
                    .lock()
                    .unwrap()
                    .extract_if(.., |(at, _)| *at <= now)
                    .collect();
                for (_, checkpoint) in due {
                    store.commit(&checkpoint).await.unwrap();
                }
            })
        });
        let said = Arc::clone(&self.said);
        let claim = Claim {
            store: &self.store,
            me: &me,
            interval: Duration::from_secs(5),
            mode,
            clock: &self.clock,
            sleep: &sleep,
            notify: &move |text| said.lock().unwrap().push(text),
        };
        claim.run().await
    }

    fn waited(&self) -> i64 {
        self.clock.now_ms() / 1000
    }
}

/// An owner of whom nobody here can say whether it lives.
fn remote() -> Owner {
    Owner {
        id: "remote".into(),
        host: "elsewhere".into(),
        boot_id: "other".into(),
        pid: 7,
        started: 1,
    }
}

fn epoch(epoch: u64, owner: &Owner) -> Checkpoint {
    Checkpoint {
        epoch,
        interval_ms: 5000,
        ..empty("emergency", owner)
    }
}

#[tokio::test]
async fn a_new_job_is_claimed_at_once() {
    let world = World::new();
    let claimed = world.claim(Mode::Normal, vec![]).await.unwrap();
    assert_eq!((claimed.checkpoint.epoch, claimed.previous), (1, None));
    assert_eq!(
        world.store.latest().await.unwrap(),
        Some(claimed.checkpoint)
    );
}

#[tokio::test]
async fn a_crash_on_this_machine_restarts_at_once_with_everything_that_was_committed() {
    let world = World::new();
    let dead = Owner {
        id: "dead".into(),
        started: 1,
        ..Owner::this_process()
    };
    let mut last = epoch(1, &dead);
    last.ledger.sinks.insert("lake".into(), Default::default());
    world.store.commit(&last).await.unwrap();
    let claimed = world.claim(Mode::Normal, vec![]).await.unwrap();
    assert_eq!(world.waited(), 0);
    assert_eq!(
        (claimed.checkpoint.epoch, claimed.checkpoint.ledger),
        (2, last.ledger.clone())
    );
    assert_eq!(claimed.previous, Some(last));
}

#[tokio::test]
async fn an_orderly_end_is_followed_at_once_and_is_not_inherited() {
    let world = World::new();
    world
        .store
        .commit(&Checkpoint {
            released: true,
            ..epoch(1, &remote())
        })
        .await
        .unwrap();
    let claimed = world.claim(Mode::Normal, vec![]).await.unwrap();
    assert_eq!((world.waited(), claimed.checkpoint.released), (0, false));
}

#[tokio::test]
async fn a_stale_heart_is_waited_for_three_intervals_saying_so() {
    let world = World::new();
    world.store.commit(&epoch(1, &remote())).await.unwrap();
    world.claim(Mode::Normal, vec![]).await.unwrap();
    assert_eq!(world.waited(), 15);
    let said = world.said.lock().unwrap().join("\n");
    assert!(
        said.contains("last run by host elsewhere, pid 7 (epoch 1)")
            && said.contains("waiting 15 s"),
        "{said}"
    );
}

#[tokio::test]
async fn a_short_interval_is_given_ten_seconds() {
    let world = World::new();
    world
        .store
        .commit(&Checkpoint {
            interval_ms: 100,
            ..epoch(1, &remote())
        })
        .await
        .unwrap();
    world.claim(Mode::Normal, vec![]).await.unwrap();
    assert_eq!(world.waited(), 10);
}

#[tokio::test]
async fn a_heart_that_beats_is_left_alone() {
    let world = World::new();
    world.store.commit(&epoch(1, &remote())).await.unwrap();
    let error = world
        .claim(Mode::Normal, vec![(14, epoch(2, &remote()))])
        .await
        .unwrap_err();
    assert_eq!((error.exit_code(), world.waited()), (3, 14));
    assert!(
        error
            .to_string()
            .contains("run by host elsewhere, pid 7, which committed epoch 2"),
        "{error}"
    );
    // A live process on this machine is no different: it may be told apart from a dead one, not from a frozen one.
    let world = World::new();
    world
        .store
        .commit(&epoch(1, &Owner::this_process()))
        .await
        .unwrap();
    world
        .claim(Mode::Normal, vec![(1, epoch(2, &Owner::this_process()))])
        .await
        .unwrap_err();
}

#[tokio::test]
async fn an_owner_that_stops_while_it_is_waited_for_is_followed() {
    let world = World::new();
    world.store.commit(&epoch(1, &remote())).await.unwrap();
    let end = Checkpoint {
        released: true,
        ..epoch(2, &remote())
    };
    let claimed = world.claim(Mode::Normal, vec![(3, end)]).await.unwrap();
    assert_eq!((world.waited(), claimed.checkpoint.epoch), (3, 3));
}

#[tokio::test]
async fn standing_by_outlasts_every_beat() {
    let world = World::new();
    world.store.commit(&epoch(1, &remote())).await.unwrap();
    let beats = (2..40)
        .map(|n| (n as i64 * 5, epoch(n, &remote())))
        .collect();
    let claimed = world.claim(Mode::Standby, beats).await.unwrap();
    assert_eq!(
        (world.waited(), claimed.checkpoint.epoch),
        (39 * 5 + 15, 40)
    );
    let said = world.said.lock().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("standing by"), "{said:?}");
}

#[tokio::test]
async fn a_takeover_asks_nobody() {
    let world = World::new();
    world.store.commit(&epoch(1, &remote())).await.unwrap();
    let claimed = world.claim(Mode::Takeover, vec![]).await.unwrap();
    assert_eq!((world.waited(), claimed.checkpoint.epoch), (0, 2));
    let error = world.store.commit(&epoch(2, &remote())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
}

/// Many that claim the same stale job at the same time: one gets it, the others are told who.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_claims_has_one_winner() {
    let world = Arc::new(World::new());
    world
        .store
        .commit(&Checkpoint {
            released: true,
            ..epoch(1, &remote())
        })
        .await
        .unwrap();
    let rivals: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let sleep: Sleeper = Arc::new(|_| Box::pin(std::future::ready(())));
                let mut seen = world.store.latest().await.unwrap().unwrap();
                // All saw the same epoch, however they are scheduled.
                seen.epoch = 1;
                let claim = Claim {
                    store: &world.store,
                    me: &Owner::this_process(),
                    interval: Duration::from_secs(5),
                    mode: Mode::Normal,
                    clock: &world.clock,
                    sleep: &sleep,
                    notify: &|_| {},
                };
                world.store.commit(&claim.next(Some(&seen))).await
            })
        })
        .collect();
    let mut won = 0;
    for rival in rivals {
        match rival.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert_eq!(error.kind(), Kind::Fenced),
        }
    }
    assert_eq!(won, 1);
}
