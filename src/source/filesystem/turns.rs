//! Who may have a file open.
//!
//! A folder may hold thousands of files, and an open one costs a connection and memory: of a Parquet file its largest row group. So only some
//! are open at a time. The others wait for their turn, and to the engine they are splits like any other that has nothing at this moment:
//! never idle, so the watermark stays where they are, and no row of theirs is late on account of their waiting.
//!
//! Where event times are aligned, the engine does not ask a file that ran ahead until the slowest has come closer, and the slowest may be one
//! that waits. So a file that was not asked for a whole round gives its turn away, and is opened again where it was when it is
//! asked again.

use super::super::{FileFacts, Poll, Position, Reader, Waker};
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// How many files of a source are open at most.
pub(super) const MOST_OPEN: usize = 64;
/// So many may be open however large they are, so that there is something to do for several lanes.
const FEW: usize = 4;

/// Where the next record of a file lies, as far as that is known: `record` begins at `byte`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub byte: u64,
    pub record: i64,
}

/// Reads an open file.
pub(super) trait FileReader: Reader {
    /// From where the file need only be read when it is opened again.
    fn place(&self) -> Place;
}

/// The turns of one source's files.
pub(super) struct Turns {
    /// Bytes that open files may take together.
    budget: usize,
    waker: Waker,
    /// Goes on with each asking, so that one can tell who was asked before whom.
    now: AtomicU64,
    open: Mutex<Vec<Arc<Turn>>>,
}

/// One file's turn: its reader while the file is open.
struct Turn {
    cost: usize,
    asked: AtomicU64,
    reader: Mutex<Option<Box<dyn FileReader>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub fn new(budget: usize, waker: Waker) -> Arc<Turns> {
        Arc::new(Turns {
            budget,
            waker,
            now: AtomicU64::new(1),
            open: Mutex::default(),
        })
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }

    fn has_room(&self, open: &[Arc<Turn>], cost: usize) -> bool {
        let taken: usize = open.iter().map(|turn| turn.cost).sum();
        open.len() < FEW || (open.len() < MOST_OPEN && taken + cost <= self.budget)
    }

    /// Lets a file be opened, if need be in place of others that nobody asks. `refused` are the moments when it was refused last: between the
    /// first of them and now the engine has gone through all files that it asks.
    fn admit(&self, turn: &Arc<Turn>, refused: &mut [u64; 2]) -> bool {
        let now = self.tick();
        let mut open = lock(&self.open);
        while !self.has_room(&open, turn.cost) {
            let asked = |turn: &Arc<Turn>| turn.asked.load(Ordering::Relaxed);
            let turns = open.iter().enumerate();
            match turns.map(|(at, turn)| (asked(turn), at)).min() {
                Some((asked, at)) if asked < refused[0] && open[at].give_up() => {
                    open.swap_remove(at);
                }
                rested => {
                    // There may be room in the next round, and nothing else may happen until then.
                    if rested.is_some_and(|(asked, _)| asked < refused[1]) || refused[1] == 0 {
                        self.waker.wake();
                    }
                    *refused = [refused[1], now];
                    return false;
                }
            }
        }
        *refused = [0, 0];
        turn.asked.store(now, Ordering::Relaxed);
        open.push(Arc::clone(turn));
        true
    }

    fn leave(&self, turn: &Arc<Turn>) {
        lock(&self.open).retain(|other| !Arc::ptr_eq(other, turn));
        self.waker.wake();
    }
}

impl Turn {
    /// Closes the file; false where it is being read after all.
    fn give_up(&self) -> bool {
        match self.reader.try_lock() {
            Ok(mut reader) => {
                *reader = None;
                true
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                *poisoned.into_inner() = None;
                true
            }
            Err(TryLockError::WouldBlock) => false,
        }
    }
}

/// Opens a file so that its next record is the one of this number, whose place may be known.
pub(super) type Opener = Box<dyn FnMut(i64, Place) -> Result<Box<dyn FileReader>> + Send>;

/// Reads a file when it is its turn.
pub(super) struct PatientReader {
    turns: Arc<Turns>,
    turn: Arc<Turn>,
    refused: [u64; 2],
    opener: Opener,
    file: FileFacts,
    position: Position,
    place: Place,
}

impl PatientReader {
    /// `cost` is about how much memory the file takes while it is open.
    pub fn new(
        turns: &Arc<Turns>,
        cost: usize,
        file: FileFacts,
        position: Position,
        opener: Opener,
    ) -> PatientReader {
        PatientReader {
            turns: Arc::clone(turns),
            turn: Arc::new(Turn {
                cost,
                asked: AtomicU64::new(0),
                reader: Mutex::default(),
            }),
            refused: [0, 0],
            opener,
            file,
            position,
            place: Place::default(),
        }
    }
}

impl Reader for PatientReader {
    fn poll(&mut self, max_bytes: usize) -> Result<Poll> {
        if self.position.finished {
            return Ok(Poll::Finished);
        }
        let turn = Arc::clone(&self.turn);
        let mut open = lock(&turn.reader);
        if open.is_none() && !self.turns.admit(&turn, &mut self.refused) {
            return Ok(Poll::Pending { at_end: false });
        }
        turn.asked.store(self.turns.tick(), Ordering::Relaxed);
        let reader = match &mut *open {
            Some(reader) => reader,
            closed => closed.insert((self.opener)(self.position.offset, self.place)?),
        };
        let polled = reader.poll(max_bytes)?;
        (self.position, self.place) = (reader.position(), reader.place());
        if self.position.finished {
            *open = None;
            drop(open);
            self.turns.leave(&turn);
        }
        Ok(polled)
    }

    fn position(&self) -> Position {
        self.position
    }

    fn file(&self) -> Option<FileFacts> {
        Some(self.file)
    }
}

impl Drop for PatientReader {
    fn drop(&mut self) {
        self.turns.leave(&self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Records;
    use std::sync::atomic::AtomicUsize;

    /// How many of the files of a test are open, and were at most; and how often one was opened.
    #[derive(Default)]
    struct Count {
        open: AtomicUsize,
        most: AtomicUsize,
        opened: AtomicUsize,
    }

    /// A file of ten records, each poll one; a place is the byte ten times as far.
    struct Ten(Arc<Count>, i64);

    impl Ten {
        fn open(count: &Arc<Count>, skip: i64, place: Place) -> Ten {
            assert_eq!(place.byte, 10 * skip.unsigned_abs());
            count.opened.fetch_add(1, Ordering::SeqCst);
            let open = count.open.fetch_add(1, Ordering::SeqCst) + 1;
            count.most.fetch_max(open, Ordering::SeqCst);
            Ten(Arc::clone(count), skip)
        }
    }

    impl Drop for Ten {
        fn drop(&mut self) {
            self.0.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Reader for Ten {
        fn poll(&mut self, _: usize) -> Result<Poll> {
            if self.1 == 10 {
                return Ok(Poll::Finished);
            }
            let mut records = Records::default();
            records.push(self.1, -1, None, Some(b"x"));
            self.1 += 1;
            Ok(Poll::Records(records))
        }

        fn position(&self) -> Position {
            Position {
                offset: self.1,
                finished: self.1 == 10,
            }
        }
    }

    impl FileReader for Ten {
        fn place(&self) -> Place {
            Place {
                byte: 10 * self.1.unsigned_abs(),
                record: self.1,
            }
        }
    }

    fn readers(files: usize, cost: usize, budget: usize) -> (Arc<Count>, Vec<PatientReader>) {
        let count = Arc::new(Count::default());
        let turns = Turns::new(budget, Waker::default());
        let facts = FileFacts {
            size: 100,
            modified_ms: 0,
        };
        let readers = (0..files).map(|_| {
            let count = Arc::clone(&count);
            let start = Position {
                offset: 0,
                finished: false,
            };
            let opener: Opener =
                Box::new(move |skip, place| Ok(Box::new(Ten::open(&count, skip, place))));
            PatientReader::new(&turns, cost, facts, start, opener)
        });
        let readers = readers.collect();
        (count, readers)
    }

    /// Asks all for whom `asks` is true, round by round, until all have ended; gives what each gave.
    fn read(readers: &mut [PatientReader], asks: impl Fn(&[i64], usize) -> bool) -> Vec<Vec<i64>> {
        let mut read = vec![Vec::new(); readers.len()];
        for _ in 0..100_000 {
            let at: Vec<i64> = readers
                .iter()
                .map(|reader| reader.position().offset)
                .collect();
            if readers.iter().all(|reader| reader.position().finished) {
                return read;
            }
            for (file, reader) in readers.iter_mut().enumerate() {
                if asks(&at, file)
                    && let Poll::Records(records) = reader.poll(1).unwrap()
                {
                    read[file].extend(records.offsets);
                }
            }
        }
        panic!("somebody waits for ever");
    }

    #[test]
    fn all_are_read_and_only_some_are_open() {
        for (files, cost, budget, most) in [
            (3, 1, 10, 3),
            (300, 0, 10, MOST_OPEN),
            (300, 1, 10, 10),
            (300, 100, 10, FEW),
        ] {
            let (count, mut readers) = readers(files, cost, budget);
            let read = read(&mut readers, |_, _| true);
            assert!(read.iter().all(|read| read.iter().copied().eq(0..10)));
            assert_eq!(count.most.load(Ordering::SeqCst), most, "{files} files");
            // Who is asked keeps its turn to the end.
            assert_eq!(count.opened.load(Ordering::SeqCst), files);
            assert_eq!(count.open.load(Ordering::SeqCst), 0);
        }
    }

    /// As the engine asks where times are aligned: nobody who is ahead of the slowest.
    #[test]
    fn who_is_not_asked_gives_its_turn_away_and_goes_on_where_it_was() {
        let (count, mut readers) = readers(50, 100, 10);
        let read = read(&mut readers, |at, file| {
            let slowest = at.iter().filter(|at| **at < 10).min();
            at[file] <= slowest.copied().unwrap_or(10)
        });
        assert!(read.iter().all(|read| read.iter().copied().eq(0..10)));
        assert_eq!(count.most.load(Ordering::SeqCst), FEW);
        assert!(count.opened.load(Ordering::SeqCst) > 50);
    }

    #[test]
    fn who_is_gone_leaves_room() {
        let (count, mut all) = readers(2 * FEW, 100, 10);
        all.iter_mut().for_each(|reader| drop(reader.poll(1)));
        let mut others = all.split_off(FEW);
        drop(all);
        assert_eq!(count.open.load(Ordering::SeqCst), 0);
        let read = read(&mut others, |_, _| true);
        assert!(read.iter().all(|read| read.len() == 10));
    }
}
