//! Closed files on their way to the store, and the bound on how many bytes may be under way.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// From here on a file goes to a cloud in parts, several at a time.
const MULTIPART: usize = 16 << 20;
const PART: usize = 8 << 20;
const PARTS_AT_A_TIME: usize = 4;

/// What all sinks of a process share: the memory for files that are being uploaded, and the numbers of files.
///
/// A lane that closes a file waits here while too many bytes are under way, so a slow store holds the lanes back and
/// memory does not grow.
#[derive(Debug, Clone)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    in_flight: Mutex<usize>,
    freed: Condvar,
    next_number: AtomicU64,
}

impl Uploads {
    pub fn with_limit(bytes: usize) -> Uploads {
        Uploads(Arc::new(Shared {
            limit: bytes,
            in_flight: Mutex::new(0),
            freed: Condvar::new(),
            next_number: AtomicU64::new(0),
        }))
    }

    /// Bytes under way now.
    pub fn in_flight(&self) -> usize {
        *self.0.lock()
    }

    /// A number that no other file of this process has.
    pub(super) fn next_number(&self) -> u64 {
        self.0.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until there is room. A file that is larger than all the room goes alone.
    pub(super) fn reserve(&self, bytes: usize) -> Reservation {
        let mut in_flight = self.0.lock();
        while !has_room(*in_flight, bytes, self.0.limit) {
            in_flight = self
                .0
                .freed
                .wait(in_flight)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *in_flight += bytes;
        Reservation {
            shared: self.0.clone(),
            bytes,
        }
    }
}

/// Alone a file always has room, or one that is larger than the limit would wait for ever.
fn has_room(in_flight: usize, bytes: usize, limit: usize) -> bool {
    in_flight == 0 || in_flight + bytes <= limit
}

impl Shared {
    /// A number is whole even where a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one file, given back when dropped.
pub(super) struct Reservation {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.shared.lock() -= self.bytes;
        self.shared.freed.notify_all();
    }
}

/// Puts a file into the store. It is durable when this returns.
pub(crate) async fn put(
    store: &dyn ObjectStore,
    to: &Path,
    file: Vec<Bytes>,
    in_parts: bool,
) -> object_store::Result<()> {
    let bytes: usize = file.iter().map(Bytes::len).sum();
    if in_parts && bytes > MULTIPART {
        put_parts(store, to, file).await
    } else {
        store.put(to, PutPayload::from_iter(file)).await.map(|_| ())
    }
}

async fn put_parts(
    store: &dyn ObjectStore,
    to: &Path,
    file: Vec<Bytes>,
) -> object_store::Result<()> {
    let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(to).await?, PART);
    for piece in file {
        if let Err(error) = upload.wait_for_capacity(PARTS_AT_A_TIME).await {
            // What failed is the upload; that its remains cannot be removed either adds nothing.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.put(piece);
    }
    upload.finish().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn there_is_room_below_the_limit_and_for_one_alone() {
        assert!(has_room(0, 100, 10));
        assert!(has_room(4, 6, 10));
        assert!(!has_room(4, 7, 10));
        assert!(!has_room(10, 1, 10));
    }

    #[test]
    fn a_file_waits_until_another_is_done() {
        let uploads = Uploads::with_limit(10);
        let first = uploads.reserve(8);
        let others: Vec<_> = (0..4)
            .map(|_| {
                let uploads = uploads.clone();
                std::thread::spawn(move || {
                    let _room = uploads.reserve(6);
                    uploads.in_flight()
                })
            })
            .collect();
        drop(first);
        for other in others {
            assert_eq!(other.join().unwrap(), 6, "each was alone");
        }
        assert_eq!(uploads.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_large_file_arrives_whole_in_parts() {
        let store = InMemory::new();
        let path = Path::from("a/large");
        let file: Vec<Bytes> = (0..20).map(|i| Bytes::from(vec![i; 1 << 20])).collect();
        put(&store, &path, file.clone(), true).await.unwrap();
        assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == file.concat());
    }
}
