//! Work that is divided between this thread and another one, with a bounded queue between them.
//!
//! Items arrive in the order in which they were sent. A panic of the other thread continues in this
//! one.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use crate::error::PairsError;

/// Number of batches that wait in a queue. One that is being made and one in use come on top.
const QUEUED: usize = 8;
/// Bytes of the items of a batch. A queue takes a lock for each batch.
const BATCH_BYTES: usize = 64 << 10;

/// Calls `produce` in another thread, and `each` in this one with every item that `produce` sends, and
/// returns what `produce` returns. After an error of `each`, sending fails. `path` is the file that is
/// read, for errors.
///
/// # Errors
/// Returns the first error of `each`, or else that of `produce`, which comes after all its items.
/// Returns an error if no thread can be started.
pub(crate) fn read_ahead<T: Send, R: Send>(
    path: &Path,
    produce: impl FnOnce(&mut Batches<T>) -> Result<R, PairsError> + Send,
    each: &mut dyn FnMut(T) -> Result<(), PairsError>,
) -> Result<R, PairsError> {
    scope(|scope| {
        // the receiver is dropped before the thread is awaited, even if `each` panics: the thread ends
        let (queue, batches) = sync_channel(QUEUED);
        let work = move || {
            let mut all = Batches { path: path.to_owned(), queue, batch: Vec::new(), bytes: 0 };
            let produced = produce(&mut all);
            // a receiver that has stopped needs no rest
            let _ = all.flush();
            produced
        };
        let thread = Builder::new().name("read".to_owned());
        let thread = thread.spawn_scoped(scope, work).map_err(PairsError::io("read", path))?;
        let used = batches.iter().flatten().try_for_each(each);
        drop(batches);
        let produced = thread.join();
        used.and_then(|()| produced.unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Sends items in batches.
#[derive(Debug)]
pub(crate) struct Batches<T> {
    path: PathBuf,
    queue: SyncSender<Vec<T>>,
    batch: Vec<T>,
    bytes: usize,
}

impl<T> Batches<T> {
    /// Sends an item. `bytes` is the size of its text. The queue holds a few hundred kilobytes of
    /// text, or a few items if they are larger.
    ///
    /// # Errors
    /// Returns an error if no more items are taken.
    pub(crate) fn send(&mut self, item: T, bytes: usize) -> Result<(), PairsError> {
        self.batch.push(item);
        // an item without text takes memory too
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(size_of::<T>());
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), PairsError> {
        self.bytes = 0;
        let next = Vec::with_capacity(self.batch.len());
        let sent = self.queue.send(std::mem::replace(&mut self.batch, next));
        sent.map_err(|_| stopped("read", &self.path))
    }
}

/// Sends items to another thread, which changes a state with each of them.
#[derive(Debug)]
pub(crate) struct Behind<'scope, T, S> {
    path: &'scope Path,
    queue: Option<SyncSender<T>>,
    thread: Option<ScopedJoinHandle<'scope, Result<S, PairsError>>>,
}

impl<'scope, T: Send + 'scope, S: Send + 'scope> Behind<'scope, T, S> {
    /// Starts a thread that calls `each` with `state` and every item. At most `queued` items wait for
    /// it. `path` is the file that is written, for errors.
    ///
    /// # Errors
    /// Returns an error if no thread can be started.
    pub(crate) fn start(
        scope: &'scope Scope<'scope, '_>,
        path: &'scope Path,
        queued: usize,
        mut state: S,
        each: impl Fn(&mut S, T) -> Result<(), PairsError> + Send + 'scope,
    ) -> Result<Self, PairsError> {
        let (queue, items): (_, Receiver<T>) = sync_channel(queued);
        let work = move || items.iter().try_for_each(|item| each(&mut state, item)).map(|()| state);
        let thread = Builder::new().name("write".to_owned());
        let thread = thread.spawn_scoped(scope, work).map_err(PairsError::io("write", path))?;
        Ok(Self { path, queue: Some(queue), thread: Some(thread) })
    }

    /// Sends an item, and waits while the queue is full.
    ///
    /// # Errors
    /// Returns the error of `each` for an earlier item.
    pub(crate) fn send(&mut self, item: T) -> Result<(), PairsError> {
        if self.queue.as_ref().is_some_and(|queue| queue.send(item).is_ok()) {
            return Ok(());
        }
        self.join()?;
        Err(stopped("write", self.path))
    }

    /// Waits until all items are used, and returns the state, or `None` after an error that was
    /// returned already.
    ///
    /// # Errors
    /// Returns the error of `each`.
    pub(crate) fn join(&mut self) -> Result<Option<S>, PairsError> {
        self.queue = None;
        let joined = self.thread.take().map(ScopedJoinHandle::join);
        joined.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).transpose()
    }

    /// Waits until all items are used, and returns the state.
    ///
    /// # Errors
    /// Returns the error of `each`.
    pub(crate) fn finish(mut self) -> Result<S, PairsError> {
        self.join()?.ok_or_else(|| stopped("write", self.path))
    }
}

/// Returns the error of sending to a thread that has ended. Its place is taken by the reason.
fn stopped(action: &'static str, path: &Path) -> PairsError {
    PairsError::io(action, path)(io::ErrorKind::BrokenPipe.into())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const PATH: &str = "a.json";

    fn failure(action: &'static str) -> PairsError {
        PairsError::io(action, Path::new(PATH))(io::ErrorKind::Other.into())
    }

    /// Reads `count` items of a batch each, then ends with `end`, and stops at the item `stop`.
    fn read(
        count: usize,
        end: impl FnOnce() -> Result<char, PairsError> + Send,
        stop: usize,
    ) -> (Vec<usize>, Result<char, PairsError>) {
        let mut items = Vec::new();
        let produce = |batches: &mut Batches<usize>| {
            (0..count).try_for_each(|item| batches.send(item, BATCH_BYTES))?;
            end()
        };
        let done = read_ahead(Path::new(PATH), produce, &mut |item| {
            items.push(item);
            if item == stop { Err(failure("use")) } else { Ok(()) }
        });
        (items, done)
    }

    #[test]
    fn items_come_in_order_and_before_the_error_of_the_reader() {
        let (items, done) = read(100, || Ok('x'), usize::MAX);
        assert_eq!((items, done.unwrap()), ((0..100).collect(), 'x'));
        let (items, done) = read(100, || Err(failure("read")), usize::MAX);
        assert_eq!((items.len(), done.unwrap_err().to_string()), (100, failure("read").to_string()));
        // items that do not fill a batch
        let produce = |batches: &mut Batches<usize>| {
            batches.send(7, 1)?;
            Err::<(), _>(failure("read"))
        };
        let mut items = Vec::new();
        let each = &mut |item| {
            items.push(item);
            Ok(())
        };
        assert!(read_ahead(Path::new(PATH), produce, each).is_err());
        assert_eq!(items, [7]);
    }

    #[test]
    fn an_error_of_the_consumer_stops_the_reader() {
        // without an end, the reader stops when an item is not taken
        let (items, done) = read(usize::MAX, || Ok('x'), 3);
        assert_eq!((items, done.unwrap_err().to_string()), (vec![0, 1, 2, 3], failure("use").to_string()));
        // the error of the consumer is that of an earlier item
        let (_, done) = read(1, || Err(failure("read")), 0);
        assert_eq!(done.unwrap_err().to_string(), failure("use").to_string());
        let (_, done) = read(1, || panic!("after the end"), 0);
        assert_eq!(done.unwrap_err().to_string(), failure("use").to_string());
    }

    #[test]
    fn panics_continue_in_this_thread() {
        let message = |work: &mut dyn FnMut()| {
            let panic = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
            panic.downcast_ref::<&str>().map(|text| (*text).to_owned())
        };
        let reading = message(&mut || drop(read(3, || panic!("reading"), usize::MAX)));
        assert_eq!(reading.as_deref(), Some("reading"));
        let using = message(&mut || {
            let produce = |batches: &mut Batches<usize>| {
                (0..usize::MAX).try_for_each(|item| batches.send(item, BATCH_BYTES))
            };
            let _ = read_ahead(Path::new(PATH), produce, &mut |_| panic!("using"));
        });
        assert_eq!(using.as_deref(), Some("using"));
        let writing = message(&mut || {
            scope(|scope| {
                let mut behind =
                    Behind::start(scope, Path::new(PATH), 1, (), |(), _: u8| panic!("writing")).unwrap();
                while behind.send(1).is_ok() {}
            });
        });
        assert_eq!(writing.as_deref(), Some("writing"));
    }

    #[test]
    fn items_change_the_state_until_one_fails() {
        let sum = |most: u32| {
            scope(|scope| {
                let add = move |sum: &mut u32, item: u32| {
                    *sum += item;
                    if *sum > most { Err(failure("write")) } else { Ok(()) }
                };
                let mut behind = Behind::start(scope, Path::new(PATH), 2, 0, add)?;
                let sent = (0..100).try_for_each(|item| behind.send(item));
                if sent.is_err() {
                    // the error was returned, so there is neither another one nor a state
                    assert_eq!(behind.join().unwrap(), None);
                    assert!(behind.send(1).is_err());
                }
                sent.and_then(|()| behind.finish())
            })
        };
        assert_eq!(sum(u32::MAX).unwrap(), 4950);
        for most in [0, 4949] {
            assert_eq!(sum(most).unwrap_err().to_string(), failure("write").to_string());
        }
    }
}
