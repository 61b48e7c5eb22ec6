//! Dropout that the device draws, in a run that is stopped and resumed.

use std::fs;
use std::path::Path;

use bpo_dpo::{Control, DpoConfig, StepMetrics, Trainer, save_trainable};

use crate::toy::{Toy, ToyCollate, pairs};

fn train(lora_dropout: f64, config: &DpoConfig, dir: &Path, stop: usize) -> (Vec<u8>, String) {
    let policy = Toy { lora_dropout, ..Toy::untouched() };
    let trainer = Trainer::new(config.clone(), policy, ToyCollate::default(), Some(dir));
    let mut observer =
        |metrics: &StepMetrics| if metrics.step == stop { Control::Stop } else { Control::Continue };
    let (policy, _) = trainer.expect("valid").train(pairs(), &mut observer).expect("trained");
    let metrics = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics");
    (save_trainable(&policy).expect("bytes"), metrics)
}

#[test]
fn resumed_run_with_dropout_equals_uninterrupted_run() {
    let _alone = crate::lock_process();
    let config = DpoConfig::default()
        .with_learning_rate(0.02)
        .with_batch_size(2)
        .with_gradient_accumulation_steps(2)
        .with_epochs(4);
    let whole = |p, config: &DpoConfig| {
        let dir = tempfile::tempdir().expect("a directory");
        train(p, config, dir.path(), usize::MAX)
    };
    let expected = whole(0.3, &config);
    assert!(whole(0.3, &config) == expected, "once more");
    assert!(whole(0.0, &config) != expected, "no dropout");
    assert!(whole(0.3, &config.clone().with_seed(7)).0 != expected.0, "another seed");
    for stop in [1, 5, 6] {
        let dir = tempfile::tempdir().expect("a directory");
        train(0.3, &config, dir.path(), stop);
        assert!(train(0.3, &config, dir.path(), usize::MAX) == expected, "after a stop at {stop}");
    }
}
