//! Training must hold no more memory after many steps than after few: autodiff keeps what anything keeps alive.
#![allow(unsafe_code, reason = "a global allocator is the only way to count what is held")]

#[path = "suite/toy.rs"]
#[expect(dead_code, reason = "shared with the other tests, which need more of it")]
mod toy;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use bpo_dpo::metrics::StepMetrics;
use bpo_dpo::observer::Control;
use bpo_dpo::{DpoConfig, Trainer};

struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn fifty_steps_hold_what_ten_hold() {
    let mut held = Vec::with_capacity(64);
    let mut observer = |_: &StepMetrics| {
        held.push(HELD.load(Ordering::Relaxed));
        Control::Continue
    };
    let config = DpoConfig::default().with_learning_rate(0.01).with_batch_size(5).with_max_steps(Some(60));
    let trainer =
        Trainer::new(config, toy::Toy::untouched(), toy::ToyCollate::default(), None).expect("valid");
    trainer.train(&toy::pairs(), &mut observer).expect("trained");
    // the same batches come again every two steps, so the peaks of ten steps are comparable
    let peak = |steps: std::ops::Range<usize>| held[steps].iter().max().copied().expect("steps");
    let (early, late) = (peak(5..15), peak(50..60));
    // one kept step would be some ten kilobytes; a leak of fifty would be far more
    assert!(late - early < 4096, "{early} bytes after few steps, {late} after many");
}
