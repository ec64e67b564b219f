//! What every target of epochs must pass, wherever its rows go.

use super::memory::{MemoryTarget, MemoryTopic};
use super::{RowPublisher, RowSink, Target};
use crate::error::{Error, Kind};
use crate::operator::changes;
use crate::sink::testing::{Row, World};
use crate::sink::{Publisher, Sink, Token};
use arrow::array::{AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{Int64Type, Schema};
use futures::FutureExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::{Arc, Mutex};

const FIRST: [Row; 3] = [(1, "a", "x"), (2, "b", "y"), (3, "c", "x")];
const SECOND: [Row; 2] = [(4, "d", "x"), (5, "e", "z")];
const STAGED: &str = "checkpoints/job/staged/t";

/// A target under test, and what anybody sees of it.
pub trait Place {
    fn world(&self) -> &World;

    /// As a new process has it.
    fn target(&self, owner: &str) -> Arc<dyn Target>;

    /// `id,name,dt`, sorted.
    fn shown(&self) -> Vec<String>;

    /// As time does with it.
    fn forget_mark(&self);

    /// Whether it keeps a mark at all. Without one a new process repeats what it cannot know.
    fn is_exact(&self) -> bool {
        true
    }
}

struct InMemory {
    world: World,
    topic: MemoryTopic,
}

impl InMemory {
    fn new(topic: MemoryTopic) -> InMemory {
        InMemory {
            world: World::in_memory("memory", ""),
            topic,
        }
    }
}

impl Place for InMemory {
    fn world(&self) -> &World {
        &self.world
    }

    fn target(&self, _owner: &str) -> Arc<dyn Target> {
        Arc::new(MemoryTarget::new(&self.topic))
    }

    fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self.topic.rows().iter().flat_map(lines).collect();
        shown.sort();
        shown
    }

    fn forget_mark(&self) {
        self.topic.forget_mark();
    }
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
    (0..batch.num_rows())
        .map(|row| format!("{},{},{}", ids.value(row), text(1, row), text(2, row)))
        .collect()
}

fn expected(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|(id, name, dt)| format!("{id},{name},{dt}"))
        .collect()
}

fn both() -> Vec<String> {
    [expected(&FIRST), expected(&SECOND)].concat()
}

/// A process: its sink on one lane, and its publisher.
struct Process<'a> {
    place: &'a dyn Place,
    sink: RowSink,
    publisher: RowPublisher,
    said: Arc<Mutex<Vec<String>>>,
}

impl<'a> Process<'a> {
    fn start(place: &'a dyn Place, owner: &str) -> Process<'a> {
        let world = place.world();
        let context = world.context(owner);
        let said = Arc::new(Mutex::new(Vec::new()));
        let voice = {
            let said = Arc::clone(&said);
            Arc::new(move |text: &str| said.lock().unwrap().push(text.to_string()))
        };
        let at_once: crate::clock::Sleeper = Arc::new(|_| futures::future::ready(()).boxed());
        let publisher = RowPublisher::new(&world.table, place.target(owner), &context);
        Process {
            place,
            sink: RowSink::open(&world.table, place.target(owner), &context).unwrap(),
            publisher: publisher.unwrap().with(at_once, voice),
            said,
        }
    }

    /// The same, and it keeps out whoever was there before.
    fn opened(place: &'a dyn Place, owner: &str) -> Process<'a> {
        let process = Process::start(place, owner);
        let world = place.world();
        world.wait(Publisher::open(&process.publisher)).unwrap();
        process
    }

    fn stage(&mut self, epoch: u64, rows: &[Row]) -> Vec<Token> {
        let world = self.place.world();
        assert!(self.sink.write(world.rows(rows)).unwrap().is_empty());
        let mut staging = self.sink.stage(epoch, false).unwrap();
        assert_eq!(staging.written, rows.len() as u64);
        let tokens = world.tokens(&mut staging).unwrap();
        let named: u64 = tokens.iter().map(|token| token.rows).sum();
        assert_eq!(named, rows.len() as u64);
        tokens
    }

    fn publish(&self, tokens: &[Token]) -> Result<(), Error> {
        self.place.world().wait(self.publisher.publish(tokens))
    }

    /// As whoever is the owner does it, where somebody else was let in meanwhile.
    fn publish_as_owner(&self, tokens: &[Token]) -> Result<(), Error> {
        match self.publish(tokens) {
            Err(error) if error.kind() == Kind::Fenced => self.publish(tokens),
            published => published,
        }
    }
}

/// All of it, for one kind of target.
pub fn passes(new: &dyn Fn() -> Box<dyn Place>) {
    rows_are_seen_once_and_only_when_published(&*new());
    a_crash_between_commit_and_publish_loses_nothing(&*new());
    what_was_delivered_is_not_delivered_again(new);
    a_mark_that_expires_meanwhile_stops_nobody(&*new());
    an_old_owner_shows_nothing_any_more(&*new());
    what_no_epoch_names_is_discarded(&*new());
    lost_rows_are_told(&*new());
}

fn rows_are_seen_once_and_only_when_published(place: &dyn Place) {
    let mut process = Process::opened(place, "o1");
    let first = process.stage(1, &FIRST);
    assert!(place.shown().is_empty());
    process.publish(&first).unwrap();
    process.publish(&first).unwrap();
    assert_eq!(place.shown(), expected(&FIRST));
    let nothing = process.stage(2, &[]);
    assert!(nothing.is_empty());
    let second = process.stage(3, &SECOND);
    process.publish(&second).unwrap();
    assert_eq!(place.shown(), both());
    assert!(place.world().files(STAGED).is_empty());
}

fn a_crash_between_commit_and_publish_loses_nothing(place: &dyn Place) {
    let tokens = Process::opened(place, "o1").stage(1, &FIRST);
    let mut next = Process::opened(place, "o2");
    next.publish(&tokens).unwrap();
    let world = place.world();
    world.wait(next.publisher.discard_except(&tokens)).unwrap();
    assert_eq!(place.shown(), expected(&FIRST));
    let second = next.stage(3, &SECOND);
    next.publish(&second).unwrap();
    assert_eq!(place.shown(), both());
}

/// Whether it died before its blobs were removed or behind that, and whether the mark is still there or not.
fn what_was_delivered_is_not_delivered_again(new: &dyn Fn() -> Box<dyn Place>) {
    for (removed, marked) in [(true, true), (false, true), (true, false), (false, false)] {
        let place = new();
        if !removed && !place.is_exact() {
            continue;
        }
        let world = place.world();
        let mut process = Process::opened(&*place, "o1");
        let first = process.stage(1, &FIRST);
        let blobs: Vec<_> = world.files(STAGED).into_iter().collect();
        let kept: Vec<_> = blobs.iter().map(|path| world.bytes(path)).collect();
        process.publish(&first).unwrap();
        drop(process);
        if !removed {
            for (path, bytes) in blobs.iter().zip(kept) {
                let path = Path::parse(path).unwrap();
                world.wait(world.store.put(&path, bytes.into())).unwrap();
            }
        }
        if !marked {
            place.forget_mark();
        }
        let what = format!("blobs removed {removed}, mark there {marked}");
        let mut next = Process::opened(&*place, "o2");
        next.publish(&first).unwrap();
        assert_eq!(place.shown(), expected(&FIRST), "{what}");
        assert!(world.files(STAGED).is_empty(), "{what}");
        let second = next.stage(3, &SECOND);
        next.publish(&second).unwrap();
        assert_eq!(place.shown(), both(), "{what}");
    }
}

/// As after a week without rows.
fn a_mark_that_expires_meanwhile_stops_nobody(place: &dyn Place) {
    let mut process = Process::opened(place, "o1");
    let first = process.stage(1, &FIRST);
    process.publish(&first).unwrap();
    place.forget_mark();
    let second = process.stage(2, &SECOND);
    process.publish_as_owner(&second).unwrap();
    assert_eq!(place.shown(), both());
}

fn an_old_owner_shows_nothing_any_more(place: &dyn Place) {
    if !place.is_exact() {
        return;
    }
    let mut old = Process::opened(place, "o1");
    let first = old.stage(1, &FIRST);
    let blob = place.world().files(STAGED).remove(0);
    let bytes = place.world().bytes(&blob);
    let mut new = Process::opened(place, "o2");
    new.publish(&first).unwrap();
    // It wakes up, and the rows that it wants to show are there already.
    let put = || {
        let path = Path::parse(&blob).unwrap();
        let world = place.world();
        world
            .wait(world.store.put(&path, bytes.clone().into()))
            .unwrap();
    };
    put();
    old.publish_as_owner(&first).unwrap();
    assert_eq!(place.shown(), expected(&FIRST));
    // The right owner goes on, although the old one has kept it out for a moment.
    let second = new.stage(3, &SECOND);
    new.publish_as_owner(&second).unwrap();
    assert_eq!(place.shown(), both());
    let late = Process::start(place, "o1").stage(2, &FIRST);
    put();
    let error = old.publish_as_owner(&late).unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    assert_eq!(place.shown(), both());
}

fn what_no_epoch_names_is_discarded(place: &dyn Place) {
    let mut process = Process::opened(place, "o1");
    let named = process.stage(1, &FIRST);
    process.stage(2, &SECOND);
    assert_eq!(place.world().files(STAGED).len(), 2);
    let next = Process::opened(place, "o2");
    let world = place.world();
    world.wait(next.publisher.discard_except(&named)).unwrap();
    assert_eq!(world.files(STAGED).len(), 1);
    next.publish(&named).unwrap();
    world.wait(next.publisher.discard_except(&named)).unwrap();
    assert_eq!(place.shown(), expected(&FIRST));
}

fn lost_rows_are_told(place: &dyn Place) {
    if !place.is_exact() {
        return;
    }
    let mut process = Process::opened(place, "o1");
    let first = process.stage(1, &FIRST);
    process.publish(&first).unwrap();
    let second = process.stage(2, &SECOND);
    let world = place.world();
    for path in world.files(STAGED) {
        let path = Path::parse(path).unwrap();
        world.wait(world.store.delete(&path)).unwrap();
    }
    let next = Process::opened(place, "o2");
    let error = next.publish(&second).unwrap_err();
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains("2 committed rows"), "{error}");
    assert_eq!(place.shown(), expected(&FIRST));
}

#[test]
fn a_target_in_memory_passes() {
    passes(&|| Box::new(InMemory::new(MemoryTopic::steady())));
}

#[test]
fn whichever_call_fails_each_row_is_there_once_and_the_job_goes_on() {
    for after_effect in [false, true] {
        for call in 0.. {
            let place = InMemory::new(MemoryTopic::failing(call, after_effect));
            let mut process = Process::opened(&place, "o1");
            let first = process.stage(1, &FIRST);
            process.publish(&first).unwrap();
            let second = process.stage(2, &SECOND);
            let mut next = Process::opened(&place, "o2");
            next.publish(&second).unwrap();
            let third = next.stage(4, &[(6, "f", "x")]);
            next.publish(&third).unwrap();
            let all = [both(), expected(&[(6, "f", "x")])].concat();
            assert_eq!(place.shown(), all, "call {call}, {after_effect}");
            let said = [
                process.said.lock().unwrap().len(),
                next.said.lock().unwrap().len(),
            ];
            if !place.topic.has_failed() {
                assert_eq!(said, [0, 0]);
                assert!(call >= 8, "two processes open, look and deliver");
                break;
            }
            // An outage is spoken of when it begins and when it is over.
            assert_eq!(said.iter().sum::<usize>(), 2, "call {call}");
        }
    }
}

#[test]
fn many_rows_are_written_before_the_barrier_and_keep_their_order() {
    let place = InMemory::new(MemoryTopic::steady());
    let mut process = Process::opened(&place, "o1");
    let world = place.world();
    let long: &'static str = "x".repeat(3 << 20).leak();
    for id in 0..4 {
        process.sink.write(world.rows(&[(id, long, "x")])).unwrap();
    }
    assert!(process.sink.buffered_bytes() < 8 << 20);
    process.sink.shrink().unwrap();
    assert_eq!(process.sink.buffered_bytes(), 0);
    let mut staging = process.sink.stage(1, true).unwrap();
    let tokens = world.tokens(&mut staging).unwrap();
    assert_eq!((staging.written, tokens.len()), (4, 2));
    process.publish(&tokens).unwrap();
    let ids = place.topic.rows();
    let ids = ids.iter().flat_map(|batch| {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        ids.values().to_vec()
    });
    assert_eq!(ids.collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn the_hidden_column_is_taken_off() {
    let place = InMemory::new(MemoryTopic::steady());
    let mut process = Process::opened(&place, "o1");
    let world = place.world();
    let rows = world.rows(&FIRST);
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(changes::field()));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int8Array::from(vec![
        changes::Kind::Insert as i8;
        3
    ])));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    process.sink.write(rows).unwrap();
    let tokens = world
        .tokens(&mut process.sink.stage(1, true).unwrap())
        .unwrap();
    process.publish(&tokens).unwrap();
    assert_eq!(place.shown(), expected(&FIRST));
}
