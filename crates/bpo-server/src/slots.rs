//! Bounds on the memory of requests: few are prepared at a time, and their bodies are counted.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of the bodies of all requests under way. A larger single body is sent alone.
const BODY_BYTES: usize = 512 << 20;

/// Slots for the preparation of requests, one for each processor, and a budget of bytes for their
/// bodies.
///
/// Hundreds of requests can be under way, and decoded images of all of them may not fit into memory.
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: usize,
    bytes: usize,
}

impl Slots {
    pub fn new() -> Self {
        let free = std::thread::available_parallelism().map_or(1, usize::from);
        Self { state: Mutex::new(State { free, bytes: 0 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, is_blocked: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.lock(), |state| is_blocked(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares a body in a free slot, and waits until the budget has room for it. The budget is
    /// free again when the guard is dropped.
    pub fn prepare<E>(&self, prepare: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Body<'_>, E> {
        self.wait_while(|state| state.free == 0).free -= 1;
        // frees the slot if `prepare` panics, too
        let slot = Slot(self);
        let bytes = prepare()?;
        self.wait_while(|state| state.bytes > 0 && state.bytes + bytes.len() > BODY_BYTES).bytes +=
            bytes.len();
        drop(slot);
        Ok(Body { slots: self, bytes })
    }
}

/// A slot in use.
struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.changed.notify_all();
    }
}

/// The body of a request under way.
pub(crate) struct Body<'a> {
    slots: &'a Slots,
    bytes: Vec<u8>,
}

impl Body<'_> {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.slots.lock().bytes -= self.bytes.len();
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_bytes_are_given_back() {
        let slots = Slots::new();
        let state = || {
            let state = slots.lock();
            (state.free, state.bytes)
        };
        let (free, _) = state();
        let body = slots.prepare(|| Ok::<_, ()>(vec![7; 10])).unwrap();
        assert_eq!(state(), (free, 10));
        assert_eq!(body.bytes().len(), 10);
        drop(body);
        assert!(slots.prepare(|| Err(())).is_err());
        assert_eq!(state(), (free, 0));
    }
}
