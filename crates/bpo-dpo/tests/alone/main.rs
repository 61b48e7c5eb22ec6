//! Tests that must not share their process with a training that runs at the same time.
//!
//! - `dropout`: a device has one random generator for the whole process, which each step of each trainer seeds.
//! - `memory`: a global allocator counts what the whole process holds.

#![allow(unsafe_code, reason = "a global allocator is the only way to count what is held")]

mod dropout;
mod memory;
#[path = "../suite/toy.rs"]
#[expect(dead_code, reason = "shared with the suite, which needs more of it")]
mod toy;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this binary runs.
fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
