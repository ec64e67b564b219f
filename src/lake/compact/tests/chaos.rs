//! Compaction dies, stores and catalogs fail, rows come and queries go on: each row is seen once at every moment.

use super::super::*;
use super::world::*;
use crate::catalog::Partition;
use crate::clock::SystemClock;
use crate::epoch::{NoHook, Point};
use crate::store::{Effect, Flaky};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

/// Looks at every step as a reader through the catalog, goes on with queries that were planned before, and dies when it is time.
struct Reader {
    world: World,
    queries: Mutex<Vec<(i64, Vec<Path>)>>,
    /// Steps to live.
    dies_in: AtomicUsize,
    /// The step to die at, and how many times it is passed before.
    dies_at: Option<(Step, AtomicUsize)>,
    /// A late file comes every so many steps.
    late_every: usize,
    steps: AtomicUsize,
}

impl Reader {
    fn of(world: &World) -> Reader {
        Reader {
            world: world.clone(),
            queries: Mutex::default(),
            dies_in: AtomicUsize::new(usize::MAX),
            dies_at: None,
            late_every: usize::MAX,
            steps: AtomicUsize::new(0),
        }
    }

    fn look(&self, what: &str) {
        let now = self.world.clock.now_ms();
        let mut queries = self.queries.lock().unwrap();
        let grace = i64::try_from(GRACE.as_millis()).unwrap();
        queries.retain(|(began, _)| now - began < grace);
        queries.push((now, self.world.listed()));
        // The oldest ones, and the newest.
        let some = queries.len().min(3);
        for (_, files) in queries.iter().take(some).chain(queries.last()) {
            self.world.check(files, what);
        }
    }
}

impl Hook<Step> for Reader {
    fn at(&self, step: Step) -> Result<()> {
        let steps = self.steps.fetch_add(1, Ordering::SeqCst);
        if steps % self.late_every == self.late_every - 1 {
            let id = 1_000_000 + self.world.late.lock().unwrap().len() as i64;
            self.world
                .publish_late("dt=a", &format!("late-{id}.parquet"), &[id]);
        }
        self.look(step.name());
        let dead = || Err(Error::retry(format!("died {}", step.name())));
        if self.dies_in.fetch_sub(1, Ordering::SeqCst) == 0 {
            return dead();
        }
        match &self.dies_at {
            Some((at, times)) if *at == step && times.fetch_sub(1, Ordering::SeqCst) == 0 => dead(),
            _ => Ok(()),
        }
    }
}

/// Two partitions that are worth it, one that is not.
fn lake() -> World {
    let world = World::new();
    for at in 0..4 {
        world.publish("dt=a", &format!("part-{at}.parquet"), &[at, at + 100]);
    }
    for at in 0..3 {
        world.publish("dt=b%3Ac", &format!("part-{at}.parquet"), &[at + 200]);
    }
    world.publish("dt=one", "part-0.parquet", &[300]);
    world.put("t/dt=a/_SUCCESS", Vec::new());
    world
}

async fn run(world: &World, hook: Reader) -> Result<Report> {
    let mut compaction = world.compaction();
    compaction.hook = Arc::new(hook);
    compaction.run().await
}

async fn run_to_the_end(world: &World) {
    run(world, Reader::of(world)).await.unwrap();
    world.check_end();
    let report = run(world, Reader::of(world)).await.unwrap();
    assert!(report.is_empty(), "nothing is left to do: {report:?}");
}

#[tokio::test]
async fn readers_see_each_row_once_while_files_become_few() {
    let world = lake();
    let saved = run(&world, Reader::of(&world)).await.unwrap();
    world.check_end();
    let saved = &saved["t"];
    assert_eq!(
        (saved.partitions, saved.files_before, saved.files_after),
        (2, 7, 2)
    );
    assert_eq!(world.files("t").len(), 4, "{:?}", world.files("t"));
    assert!(world.clock.now_ms() > SystemClock.now_ms() + 24 * 3_600_000 + 1_100_000);
}

#[tokio::test]
async fn a_death_at_any_step_loses_and_repeats_nothing() {
    for &step in Step::ALL {
        let mut reached = 0;
        for times in 0..3 {
            let world = lake();
            let mut hook = Reader::of(&world);
            hook.late_every = 5;
            hook.dies_at = Some((step, AtomicUsize::new(times)));
            match run(&world, hook).await {
                Ok(_) => {}
                Err(error) => {
                    assert!(error.to_string().contains("died"), "{step:?}: {error}");
                    reached += 1;
                }
            }
            run_to_the_end(&world).await;
        }
        assert!(reached > 0, "{step:?} is never reached");
    }
}

/// Every call of the store in turn fails, before or after its effect.
#[tokio::test]
async fn a_failure_of_any_call_loses_and_repeats_nothing() {
    let flaky = |world: &World, call, effect| {
        let flaky = Flaky::new(Arc::clone(&world.at.store), call, 1, effect);
        let mut compaction = world.compaction();
        compaction.lake.store = Arc::new(flaky.clone());
        compaction.hook = Arc::new(Reader::of(world));
        (flaky, compaction)
    };
    let (counter, compaction) = flaky(&lake(), usize::MAX, Effect::Lost);
    compaction.run().await.unwrap();
    let calls = counter.calls();
    assert!(calls > 50, "{calls}");
    for call in 0..calls {
        for effect in [Effect::Lost, Effect::Done] {
            println!("call {call} of {calls} fails, its effect is {effect:?}");
            let world = lake();
            let (_, compaction) = flaky(&world, call, effect);
            let first = compaction.run().await;
            if let Err(error) = &first {
                assert_eq!(error.exit_code(), 1, "{error}");
            }
            run_to_the_end(&world).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any files, any number of deaths at any moments, late rows all the while.
    #[test]
    fn whatever_happens_each_row_is_seen_once(
        partitions in prop::collection::vec(prop::collection::vec(1usize..40, 1..12), 1..4),
        deaths in prop::collection::vec(0usize..60, 0..5),
        late_every in 1usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut next = 0;
            for (at, files) in partitions.iter().enumerate() {
                for (number, rows) in files.iter().enumerate() {
                    let ids: Vec<i64> = (next..next + *rows as i64).collect();
                    next += *rows as i64;
                    let folder = ["dt=a", "dt=b%3Ac", "dt=d"][at];
                    world.publish(folder, &format!("part-{number}.parquet"), &ids);
                }
            }
            world.register("dt=a");
            for steps in deaths {
                let mut hook = Reader::of(&world);
                hook.late_every = late_every;
                hook.dies_in = AtomicUsize::new(steps);
                if let Err(error) = run(&world, hook).await {
                    assert!(error.to_string().contains("died"), "{error}");
                }
            }
            run(&world, Reader::of(&world)).await.unwrap();
            world.check_end();
        });
    }
}

/// Nobody reads: the same without a catalog, and without the time for queries.
#[tokio::test]
async fn offline_a_death_at_any_step_loses_and_repeats_nothing() {
    struct DieAt(Step, AtomicUsize);
    impl Hook<Step> for DieAt {
        fn at(&self, step: Step) -> Result<()> {
            match step == self.0 && self.1.fetch_sub(1, Ordering::SeqCst) == 0 {
                true => Err(Error::retry("died")),
                false => Ok(()),
            }
        }
    }
    for &step in Step::ALL {
        for times in 0..3 {
            let world = lake();
            let began = world.clock.now_ms();
            let mut compaction = world.offline();
            compaction.catalog = None;
            compaction.hook = Arc::new(DieAt(step, AtomicUsize::new(times)));
            let _ = compaction.run().await;
            let mut compaction = world.offline();
            compaction.catalog = None;
            compaction.run().await.unwrap();
            world.check_end();
            assert_eq!(world.files("t").len(), 4, "{step:?}");
            assert_eq!(world.clock.now_ms(), began, "nobody is waited for");
        }
    }
}

/// A run that died with the catalog leading aside goes on only with that catalog.
#[tokio::test]
async fn what_a_catalog_began_no_offline_run_ends() {
    let world = lake();
    let mut hook = Reader::of(&world);
    hook.dies_at = Some((Step::AfterMoved, AtomicUsize::new(0)));
    run(&world, hook).await.unwrap_err();
    let mut compaction = world.offline();
    compaction.catalog = None;
    let error = compaction.run().await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("d.t"), "{error}");
    world.check(&world.listed(), "after the refusal");
    run_to_the_end(&world).await;
}

#[tokio::test]
async fn only_one_process_compacts_a_lake() {
    let world = lake();
    let mut living = world.compaction();
    living.me = Owner::this_process();
    living.hook = Arc::new(Reader {
        dies_at: Some((Step::AfterMoved, AtomicUsize::new(0))),
        ..Reader::of(&world)
    });
    living.run().await.unwrap_err();

    let error = world.compaction().run().await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    let pid = std::process::id().to_string();
    for part in [URL, pid.as_str(), "moved", "--takeover"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let mut taking = world.compaction();
    taking.options.takeover = true;
    taking.run().await.unwrap();
    world.check_end();
}

/// Is frozen at a step until another process has done the rest.
struct Overtaken(World, Mutex<Option<Step>>);

impl Hook<Step> for Overtaken {
    fn at(&self, step: Step) -> Result<()> {
        let mut at = self.1.lock().unwrap();
        if *at == Some(step) {
            *at = None;
            let mut other = self.0.compaction();
            other.options.takeover = true;
            now(other.run()).unwrap();
        }
        Ok(())
    }
}

/// Before it leads a partition to a folder that is gone by now, it looks whose run it is.
#[tokio::test]
async fn a_frozen_process_leads_nobody_astray() {
    let world = lake();
    let mut compaction = world.compaction();
    let step = Mutex::new(Some(Step::BeforeAside));
    compaction.hook = Arc::new(Overtaken(world.clone(), step));
    let error = compaction.run().await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    world.check_end();
}

/// A process that was frozen finds another at work, whatever number of the journal it comes to.
#[tokio::test]
async fn a_frozen_process_goes_no_further() {
    for &step in Step::ALL {
        let world = lake();
        // The merging has a task of its own, for which the other process would have to wait.
        if matches!(
            step,
            Step::AfterClaim | Step::DuringMerge | Step::AfterMerge
        ) {
            continue;
        }
        let mut compaction = world.compaction();
        compaction.hook = Arc::new(Overtaken(world.clone(), Mutex::new(Some(step))));
        match compaction.run().await {
            Ok(_) => assert_eq!(step, Step::AfterDone),
            Err(error) => assert_eq!(error.exit_code(), 3, "{step:?}: {error}"),
        }
        world.compaction().run().await.unwrap();
        world.check_end();
    }
}

/// What nobody has seen is no reason to wait for a process that may live; what readers are led to is.
#[tokio::test]
async fn a_run_that_only_merged_is_given_up() {
    for step in [
        Step::AfterClaim,
        Step::DuringMerge,
        Step::AfterMerge,
        Step::AfterMoved,
    ] {
        let world = lake();
        let mut living = world.compaction();
        living.me = Owner::this_process();
        living.hook = Arc::new(Reader {
            dies_at: Some((step, AtomicUsize::new(0))),
            ..Reader::of(&world)
        });
        living.run().await.unwrap_err();
        living.give_up().await.unwrap();
        let next = world.compaction().run().await;
        if step == Step::AfterMoved {
            assert_eq!(next.unwrap_err().exit_code(), 3);
        } else {
            next.unwrap();
            world.check_end();
        }
        // It has no more to do with the next one's run.
        living.give_up().await.unwrap();
        world.check(&world.listed(), step.name());
    }
}

/// What nobody is at work on any more, and leads to a folder that may be gone.
#[tokio::test]
async fn a_stray_partition_is_brought_home() {
    let world = lake();
    let stray = Partition {
        values: vec!["a".into()],
        location: format!("{URL}/_tributary/compacted/gone/t/dt=a"),
    };
    now(world.catalog.move_partition(&world.definition(), &stray)).unwrap();
    world.compaction().run().await.unwrap();
    world.check_end();
    run_to_the_end(&world).await;
}

/// Whoever removes rows meanwhile does not get them back.
#[tokio::test]
async fn files_that_somebody_removes_do_not_come_back() {
    for step in [Step::AfterReady, Step::AfterMoved, Step::AfterReturned] {
        struct Remove(World, Step);
        impl Hook<Step> for Remove {
            fn at(&self, step: Step) -> Result<()> {
                if step == self.1 {
                    for path in self.0.files("t/dt=a") {
                        now(self.0.at.store.delete(&Path::parse(path).unwrap())).unwrap();
                    }
                }
                Ok(())
            }
        }
        let world = lake();
        let mut compaction = world.compaction();
        compaction.hook = Arc::new(Remove(world.clone(), step));
        compaction.run().await.unwrap();
        world.settled.lock().unwrap().retain(|id| *id >= 200);
        world.check_end();
    }
}

/// A run that died while it copied, and somebody who removed a file since: a person has to look.
#[tokio::test]
async fn what_is_left_half_copied_is_named() {
    struct Halfway(World);
    impl Hook<Step> for Halfway {
        fn at(&self, step: Step) -> Result<()> {
            if step == Step::AfterRecord {
                let aside = self.0.files("_tributary/compacted");
                let large = aside.iter().find(|path| path.contains("/dt=a/")).unwrap();
                let name = large.rsplit('/').next().unwrap();
                self.0.put(&format!("t/dt=a/{name}"), b"half".to_vec());
                let small = self.0.path("t/dt=a/part-0.parquet");
                now(self.0.at.store.delete(&small)).unwrap();
            }
            Ok(())
        }
    }
    let world = lake();
    let mut compaction = world.compaction();
    compaction.hook = Arc::new(Halfway(world.clone()));
    compaction.run().await.unwrap();
    let log = world.log.lock().unwrap().join("\n");
    assert!(log.contains("died left compacted-"), "{log}");
}

#[tokio::test]
async fn without_a_hook_it_is_the_same() {
    let world = lake();
    let mut compaction = world.compaction();
    compaction.hook = Arc::new(NoHook);
    compaction.run().await.unwrap();
    world.check_end();
}
