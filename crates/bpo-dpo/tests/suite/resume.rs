//! A run that was stopped gives the bits of one that was not.

use std::fs;
use std::path::Path;

use bpo_dpo::{
    CheckpointDir, Control, DpoConfig, DpoError, StepMetrics, TrainOutput, Trainer, save_trainable,
};

use crate::toy::{Toy, ToyCollate, pairs};

fn config(accumulation: usize) -> DpoConfig {
    DpoConfig::default()
        .with_learning_rate(0.02)
        .with_batch_size(1)
        .with_gradient_accumulation_steps(accumulation)
        .with_epochs(2)
}

/// Trains until a step, in what could be a process of its own: nothing is kept but the directory.
fn train_until(config: &DpoConfig, dir: &Path, stop: usize) -> (Vec<u8>, TrainOutput) {
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), Some(dir));
    let mut observer =
        |metrics: &StepMetrics| if metrics.step == stop { Control::Stop } else { Control::Continue };
    let (policy, summary) = trainer.expect("valid").train(pairs(), &mut observer).expect("trained");
    (save_trainable(&policy).expect("bytes"), summary)
}

fn files(dir: &Path) -> (String, Vec<u8>) {
    let (_, checkpoint) = CheckpointDir::new(dir).load_newest(|_, _| Ok(())).expect("readable").expect("one");
    (fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics"), checkpoint.optimizer)
}

#[test]
fn resumed_run_equals_uninterrupted_run() {
    // 10 pairs: 10 steps an epoch with accumulation 1, 3 with 4 (the last of 2 pairs)
    let cases = [(1, false, vec![1, 9, 10, 11]), (4, false, vec![1, 2, 3, 4]), (1, true, vec![3, 11])];
    for (accumulation, group_by_length, stops) in cases {
        let config = config(accumulation).with_group_by_length(group_by_length);
        let whole = tempfile::tempdir().expect("a directory");
        let (expected, summary) = train_until(&config, whole.path(), usize::MAX);
        assert!(summary.is_finished() && summary.resumed_from.is_none());
        for stop in stops {
            let dir = tempfile::tempdir().expect("a directory");
            let (stopped, summary) = train_until(&config, dir.path(), stop);
            assert_eq!(summary.steps, stop);
            assert!(!summary.is_finished());
            assert_ne!(stopped, expected);
            let (found, summary) = train_until(&config, dir.path(), usize::MAX);
            assert_eq!(summary.resumed_from, Some(stop));
            assert!(summary.is_finished());
            assert!(found == expected, "parameters after a stop at {stop}");
            assert!(files(dir.path()) == files(whole.path()), "files after a stop at {stop}");
        }
    }
}

#[test]
fn run_killed_between_checkpoints_equals_uninterrupted_run() {
    let config = config(1).with_save_every(4);
    let whole = tempfile::tempdir().expect("a directory");
    let (expected, _) = train_until(&config, whole.path(), usize::MAX);

    let dir = tempfile::tempdir().expect("a directory");
    train_until(&config, dir.path(), 7);
    // as if the process had died after step 7: its checkpoint is gone, its metrics are not
    fs::remove_dir_all(CheckpointDir::new(dir.path()).path(7)).expect("removed");
    let (found, summary) = train_until(&config, dir.path(), usize::MAX);
    assert_eq!(summary.resumed_from, Some(4));
    assert!(found == expected);
    assert!(files(dir.path()) == files(whole.path()));
}

#[test]
fn checkpoints_are_written_after_save_minutes() {
    let dir = tempfile::tempdir().expect("a directory");
    train_until(&config(1).with_save_minutes(1e-9), dir.path(), 3);
    assert!([2, 3].iter().all(|step| CheckpointDir::new(dir.path()).path(*step).exists()));
}

#[test]
fn finished_run_returns_its_result_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (expected, _) = train_until(&config(4), dir.path(), usize::MAX);
    let before = files(dir.path());
    let (found, summary) = train_until(&config(4), dir.path(), usize::MAX);
    assert_eq!(summary.resumed_from, Some(6));
    assert!(summary.last.is_none() && found == expected && files(dir.path()) == before);
}

#[test]
fn checkpoint_of_another_run_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    train_until(&config(4), dir.path(), 2);
    let train = |config: DpoConfig, pairs: &[_]| {
        Trainer::new(config, Toy::untouched(), ToyCollate::default(), Some(dir.path()))
            .expect("valid")
            .train(pairs.to_vec(), &mut ())
            .expect_err("another run")
    };
    let error = train(config(4).with_seed(43), &pairs());
    assert!(matches!(&error, DpoError::ConfigChanged { changes, .. } if changes[0].key == "seed"), "{error}");
    let error = train(config(4), &pairs()[..9]);
    assert!(matches!(error, DpoError::DataChanged { .. }), "{error}");
}
