//! The tasks that wait for a thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue that several threads take tasks from.
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    tasks: VecDeque<T>,
    is_closed: bool,
}

impl<T> Inbox<T> {
    pub fn new() -> Self {
        let state = State { tasks: VecDeque::new(), is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task for one thread.
    pub fn put(&self, task: T) {
        self.lock().tasks.push_back(task);
        self.changed.notify_one();
    }

    /// Returns a task, or `None` if there is none and the inbox is closed.
    pub fn take(&self) -> Option<T> {
        let state = self.changed.wait_while(self.lock(), |state| state.tasks.is_empty() && !state.is_closed);
        state.unwrap_or_else(PoisonError::into_inner).tasks.pop_front()
    }
}

/// Closes an inbox when it is dropped, so that the threads end even after a panic.
pub(super) struct CloseOnDrop<'a, T>(pub &'a Inbox<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}
