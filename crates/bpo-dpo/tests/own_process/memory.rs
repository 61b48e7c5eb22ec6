//! Memory does not grow with the number of training steps, so autodiff keeps no graph alive.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use crate::toy::{Toy, ToyCollate};
use bpo_dpo::{
    Adapters, Control, DpoConfig, LogpCache, PairBatches, Reference, ReferenceSync, StepMetrics, Trainer,
    Weighting,
};
use bpo_pairs::PreferencePair;
use burn::module::Module;

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
fn fifty_steps_use_the_memory_of_ten() {
    let _alone = crate::lock_process();
    let pairs = crate::toy::pairs();
    let config = DpoConfig::default().with_learning_rate(0.01).with_max_steps(Some(60));
    let accumulating = config
        .clone()
        .with_batch_size(2)
        .with_gradient_accumulation_steps(4)
        .with_weighting(Some(Weighting::Wpo));
    let moving = config.clone().with_reference_sync(Some(ReferenceSync::new(2, 0.6)));
    let cached = || {
        let mut cache = LogpCache::new(Default::default());
        let (toy, mut collate) = (Toy::untouched().valid(), ToyCollate::default());
        cache
            .fill(
                std::slice::from_ref(&toy),
                Adapters::Off,
                &mut collate,
                batches(&config, &pairs),
                |_, _| Ok(()),
            )
            .expect("filled");
        Reference::Cached(cache)
    };
    for (name, config, reference) in [
        ("plain", config.clone().with_batch_size(5), Reference::AdaptersOff),
        ("gradient_accumulation_steps", accumulating, Reference::AdaptersOff),
        ("cached", config.clone().with_batch_size(5), cached()),
        ("moving", moving.with_batch_size(5), Reference::Frozen(Toy::untouched())),
        ("evaluated", config.clone().with_batch_size(5).with_eval_every(5), Reference::AdaptersOff),
    ] {
        let before = HELD.load(Ordering::Relaxed);
        let mut held = Vec::with_capacity(64);
        let mut observer = |_: &StepMetrics| {
            held.push(HELD.load(Ordering::Relaxed) - before);
            Control::Continue
        };
        let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None).expect("valid");
        let trainer = trainer.with_reference(reference).with_eval_pairs(pairs[..3].to_vec());
        trainer.train(pairs.clone(), &mut observer).expect("trained");
        // the same batches come again every two steps; whether the next batch is there already differs
        // from step to step, and changes the least or the most bytes, but memory that grows changes both
        let bounds = |steps: std::ops::Range<usize>| {
            let held = &held[steps];
            [held.iter().min().copied().expect("steps"), held.iter().max().copied().expect("steps")]
        };
        let (early, late) = (bounds(5..30), bounds(35..60));
        println!("{name}: {early:?} bytes after few steps, {late:?} after many");
        let growth = (late[0] - early[0]).min(late[1] - early[1]);
        assert!(50 * growth <= early[0], "{name}: {early:?} bytes after few steps, {late:?} after many");
    }
}

fn batches<'a>(config: &DpoConfig, pairs: &'a [PreferencePair]) -> PairBatches<'a> {
    PairBatches { pairs, loss: config.objective().properties(), size: config.batch_size }
}
