//! Tests that must not share their process with another training.
//!
//! - `dropout`: all trainers of a process share the random generator of a device, and each step
//!   seeds it.
//! - `memory`: a global allocator counts the memory of the whole process.

#![allow(unsafe_code, reason = "a global allocator is the only way to count what is held")]

mod dropout;
mod memory;
#[path = "../suite/toy.rs"]
#[expect(dead_code, reason = "shared with the suite, which needs more of it")]
mod toy;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this binary runs.
fn lock_process() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
