//! The thread that a pass through the model runs on.

use burn::tensor::Device;

/// Does the work on a thread of rayon's pool if the device computes in that pool and has no autodiff: each operation there wakes other
/// threads, and one that comes from outside has to be woken itself when they are done.
///
/// A thread that waits in the pool takes other work meanwhile, which may be a pass through a model as well. So none may hold what
/// another one waits for, as a tape would.
pub(crate) fn in_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if computes_in_pool(device) {
        // in place if this is such a thread
        rayon::scope(|_| work())
    } else {
        work()
    }
}

fn computes_in_pool(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns, reason = "there may be no other backend")]
        _ => false,
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn work_off_the_tape_is_done_in_the_pool() {
        let thread = |device: &Device| in_pool(device, rayon::current_thread_index);
        let plain = Device::flex();
        assert_eq!(rayon::current_thread_index(), None);
        assert_eq!(thread(&plain.clone().autodiff()), None);
        assert!(thread(&plain).is_some());
        // who is in it already stays where it is
        let nested = in_pool(&plain, || (rayon::current_thread_index(), thread(&plain)));
        assert_eq!(nested.0, nested.1);
    }
}
