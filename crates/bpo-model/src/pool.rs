//! The thread that a forward pass runs on.

use burn::tensor::Device;

/// Runs `work` on a thread of rayon's pool if the device computes in that pool and has no autodiff.
/// Each operation wakes other threads of the pool; a caller outside of the pool would have to be
/// woken again after each operation.
///
/// A thread of the pool that waits takes other work, which may be another forward pass. So `work`
/// must not hold a lock that other work waits for, as the tape of autodiff does.
pub(crate) fn in_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if computes_in_pool(device) {
        // runs in place if this thread is in the pool
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
        // a thread of the pool stays where it is
        let nested = in_pool(&plain, || (rayon::current_thread_index(), thread(&plain)));
        assert_eq!(nested.0, nested.1);
    }
}
