//! Work on several devices whose results are taken in order.

use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use crate::policy::Policy;

/// Calls `work` for each item with one of the policies, and passes each result to `each`, in the
/// order of the items.
///
/// `policies` has the same policy on one or several devices. Item `i` is for policy `i` modulo their
/// number. Each policy has a thread of its own if there are several. `items` and `each` run on the
/// calling thread. Items are taken before they are needed: at most two for each policy whose results
/// `each` has not had.
///
/// # Panics
/// If there is no policy, or `work` panics.
///
/// # Errors
/// Returns the first error of `items`, after the results of all earlier items were taken, or the
/// first error of `each`.
pub fn map_on_devices<P, T, R, E>(
    policies: &[P],
    items: impl Iterator<Item = Result<T, E>>,
    work: impl Fn(&P, T) -> R + Sync,
    mut each: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    P: Policy,
    T: Send,
    R: Send,
{
    assert!(!policies.is_empty(), "there is no policy");
    if let [policy] = policies {
        return items.into_iter().try_for_each(|item| each(work(policy, item?)));
    }
    let work = &work;
    thread::scope(|scope| {
        let start = |policy: P| {
            let (items, received) = sync_channel::<T>(1);
            let (results, done) = sync_channel(1);
            let thread = scope.spawn(move || {
                for item in received {
                    if results.send(work(&policy, item)).is_err() {
                        break;
                    }
                }
            });
            (Device { items, done }, thread)
        };
        let (devices, threads): (Vec<_>, Vec<_>) = policies.iter().cloned().map(start).unzip();
        let result = in_order(&devices, items, &mut each);
        drop(devices);
        // all threads, before the panic of one is passed on
        let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        match ended.into_iter().find_map(Result::err) {
            None => result,
            Some(cause) => panic::resume_unwind(cause),
        }
    })
}

/// The thread of one device.
struct Device<T, R> {
    items: SyncSender<T>,
    done: Receiver<R>,
}

/// Gives each device one item after another, and takes results in the same order. Ends early if a thread
/// has ended.
fn in_order<T, R, E>(
    devices: &[Device<T, R>],
    items: impl Iterator<Item = Result<T, E>>,
    each: &mut impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let (mut given, mut taken) = (0, 0);
    let mut take = |taken: &mut usize| -> Result<bool, E> {
        let Ok(result) = devices[*taken % devices.len()].done.recv() else { return Ok(false) };
        *taken += 1;
        each(result).map(|()| true)
    };
    let mut failed = Ok(());
    for item in items {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                failed = Err(error);
                break;
            }
        };
        // one that is computed and one that waits
        if given - taken == 2 * devices.len() && !take(&mut taken)? {
            return Ok(());
        }
        if devices[given % devices.len()].items.send(item).is_err() {
            return Ok(());
        }
        given += 1;
    }
    while taken < given {
        if !take(&mut taken)? {
            return Ok(());
        }
    }
    failed
}
