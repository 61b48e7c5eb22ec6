//! Work shared among threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does the pieces of work from 0 to `count` on up to `threads` threads, each taking the next when it is free, and tells of
/// each on this one, in the order in which they end. What that fails with ends it behind the pieces that are begun.
pub(crate) fn each<T: Send, E>(
    threads: NonZero<usize>,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    mut done: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let work = &work;
    thread::scope(|scope| {
        // short, so that an error is known before much more is done
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut started = 0;
        for _ in 0..threads.get().min(count) {
            let (sender, next) = (sender.clone(), &next);
            let worker = move || {
                let pieces = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < count);
                // nobody listens any more behind an error
                while pieces().is_some_and(|index| sender.send((index, work(index))).is_ok()) {}
            };
            if thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break; // the system gives no more
            }
            started += 1;
        }
        drop(sender);
        match started {
            0 => (0..count).try_for_each(|index| done(index, work(index))),
            _ => receiver.iter().try_for_each(|(index, result)| done(index, result)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> NonZero<usize> {
        NonZero::new(count).unwrap()
    }

    #[test]
    fn each_piece_is_done_once() {
        for count in [0, 1, 2, 100] {
            for workers in [1, 3, 200] {
                let mut seen = vec![0; count];
                let told: Result<(), ()> = each(
                    threads(workers),
                    count,
                    |index| index * 2,
                    |index, double| {
                        assert_eq!(double, index * 2);
                        seen[index] += 1;
                        Ok(())
                    },
                );
                told.unwrap();
                assert_eq!(seen, vec![1; count]);
            }
        }
    }

    #[test]
    fn an_error_ends_it_soon() {
        let begun = AtomicUsize::new(0);
        let told = each(threads(2), 10_000, |_| begun.fetch_add(1, Ordering::SeqCst), |_, _| Err("enough"));
        assert_eq!(told, Err("enough"));
        assert!(begun.into_inner() < 10);
    }
}
