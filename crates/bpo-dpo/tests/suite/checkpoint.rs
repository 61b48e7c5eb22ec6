//! Checkpoints on disk.

use std::fs;
use std::path::Path;

use bpo_dpo::{
    Checkpoint, CheckpointDir, Control, Criterion, DpoConfig, DpoError, ReferenceSync, StepMetrics,
    TrainOutput, Trainer, Weighting, check_same_run, fingerprint_pairs, save_trainable,
};
use bpo_pairs::CompletionKind;
use serde_json::json;

use crate::toy::{Toy, ToyCollate, pairs};

fn checkpoint(step: usize, config: &DpoConfig) -> Checkpoint {
    let state = json!({
        "step": step, "epoch": 0, "cursor": 4, "skipped": 0, "skipped_in_a_row": 0,
        "config": config, "pairs": fingerprint_pairs(&pairs()),
    });
    let bytes = save_trainable(&Toy::adapted()).expect("bytes");
    let state = serde_json::from_value(state).expect("a state");
    Checkpoint { state, trainable: bytes.clone(), optimizer: bytes, reference: None }
}

#[test]
fn newest_checkpoint_is_loaded_and_old_ones_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let checkpoints = CheckpointDir::new(dir.path());
    assert!(checkpoints.load_newest(|_, _| Ok(())).expect("nothing there").is_none());
    for step in [5, 10, 1_000_000] {
        checkpoints.save(&checkpoint(step, &DpoConfig::default()), 2).expect("saved");
    }
    let (path, loaded) = checkpoints.load_newest(|_, _| Ok(())).expect("readable").expect("one there");
    assert!(path.ends_with("checkpoints/step-1000000"), "{}", path.display());
    assert_eq!(loaded, checkpoint(1_000_000, &DpoConfig::default()));
    let mut left: Vec<_> = fs::read_dir(dir.path().join("checkpoints"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["step-000010", "step-1000000"]);
}

const FILES: [&str; 4] =
    ["trainable.safetensors", "optimizer.safetensors", "trainer_state.json", "checksums.json"];

/// Ways in which a file can be damaged.
fn damages(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() * 2 / 3] ^= 1;
    let cut = bytes[..bytes.len() - 1].to_vec();
    let mut nan = bytes.to_vec();
    let end = nan.len() - 4;
    nan[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    vec![None, Some(Vec::new()), Some(cut), Some(flipped), Some(nan)]
}

fn damage(path: &Path, damaged: Option<&Vec<u8>>) {
    match damaged {
        None => fs::remove_file(path).expect("removed"),
        Some(bytes) => fs::write(path, bytes).expect("written"),
    }
}

#[test]
fn damaged_checkpoints_are_ignored() {
    for file in FILES {
        for case in 0..5 {
            let dir = tempfile::tempdir().expect("a directory");
            let checkpoints = CheckpointDir::new(dir.path());
            let oldest = checkpoints.save(&checkpoint(5, &DpoConfig::default()), 3).expect("saved");
            let newest = checkpoints.save(&checkpoint(10, &DpoConfig::default()), 3).expect("saved");
            let damaged = damages(&fs::read(newest.join(file)).expect("bytes")).swap_remove(case);
            damage(&newest.join(file), damaged.as_ref());
            let (_, loaded) = checkpoints.load_newest(|_, _| Ok(())).expect("readable").expect("one whole");
            assert_eq!(loaded.state.step, 5, "{file}");
            assert!(matches!(checkpoints.load(10), Err(DpoError::Damaged { .. })), "{file}");
            // the step can be written again
            checkpoints.save(&checkpoint(10, &DpoConfig::default()), 3).expect("saved");
            assert_eq!(
                checkpoints.load_newest(|_, _| Ok(())).expect("readable").expect("one").1.state.step,
                10
            );
            // without an intact one there is an error that names the newest
            for path in [&oldest, &newest] {
                damage(&path.join(file), damaged.as_ref());
            }
            let error = checkpoints.load_newest(|_, _| Ok(())).expect_err("none is intact");
            assert!(matches!(&error, DpoError::NoIntactCheckpoint { count: 2, .. }), "{error}");
            assert!(error.to_string().contains("step-000010"), "{error}");
        }
    }
}

/// Neither a FIFO, which would be waited for, nor a file larger than it was written is read.
#[cfg(unix)]
#[test]
fn a_checkpoint_with_a_fifo_or_a_grown_file_is_damaged() {
    for file in FILES {
        let dir = tempfile::tempdir().expect("a directory");
        let checkpoints = CheckpointDir::new(dir.path());
        let path = checkpoints.save(&checkpoint(5, &DpoConfig::default()), 3).expect("saved").join(file);
        fs::remove_file(&path).expect("removed");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("run").success());
        let error = checkpoints.load(5).expect_err("a FIFO");
        assert!(matches!(&error, DpoError::Damaged { reason, .. } if reason == "it is a FIFO"), "{error}");
        fs::remove_file(&path).expect("removed");
        fs::File::create(&path).and_then(|file| file.set_len(1 << 31)).expect("a sparse file");
        let error = checkpoints.load(5).expect_err("grown");
        assert!(
            matches!(&error, DpoError::Damaged { reason, .. } if reason.contains("more than")),
            "{error}"
        );
    }
}

/// Trains until a step, with a checkpoint after each.
fn train(config: &DpoConfig, dir: &Path, stop: usize) -> Result<(Vec<u8>, TrainOutput), DpoError> {
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), Some(dir))?;
    let mut observer =
        |metrics: &StepMetrics| if metrics.step == stop { Control::Stop } else { Control::Continue };
    let (policy, output) = trainer.with_eval_pairs(pairs()[..3].to_vec()).train(pairs(), &mut observer)?;
    Ok((save_trainable(&policy)?, output))
}

fn run_config() -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.02).with_save_every(1).with_eval_every(2)
}

#[test]
fn run_resumes_from_the_last_intact_checkpoint() {
    let whole = tempfile::tempdir().expect("a directory");
    let (expected, _) = train(&run_config(), whole.path(), usize::MAX).expect("trained");
    for file in FILES {
        let dir = tempfile::tempdir().expect("a directory");
        train(&run_config(), dir.path(), 4).expect("trained");
        let newest = CheckpointDir::new(dir.path()).path(4).join(file);
        let flipped = damages(&fs::read(&newest).expect("bytes")).swap_remove(3);
        damage(&newest, flipped.as_ref());
        let (found, output) = train(&run_config(), dir.path(), usize::MAX).expect("trained");
        assert_eq!(output.resumed_from, Some(3), "{file}");
        assert!(found == expected, "{file}");
        let metrics = |dir: &Path| fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics");
        assert_eq!(metrics(dir.path()), metrics(whole.path()), "{file}");
    }
}

#[test]
fn state_out_of_range_is_damaged() {
    for (cursor, step) in [(10, 3), (11, 3), (4, 99)] {
        let dir = tempfile::tempdir().expect("a directory");
        train(&run_config(), dir.path(), 3).expect("trained");
        let checkpoints = CheckpointDir::new(dir.path());
        let mut checkpoint = checkpoints.load(3).expect("intact");
        (checkpoint.state.cursor, checkpoint.state.step) = (cursor, step);
        checkpoints.save(&checkpoint, 9).expect("saved");
        let result = train(&run_config(), dir.path(), usize::MAX);
        if step == 3 {
            // it took the place of the third
            assert_eq!(result.expect("trained").1.resumed_from, Some(2));
        } else {
            assert_eq!(result.expect("trained").1.resumed_from, Some(3));
        }
    }
}

#[test]
fn damaged_best_checkpoint_resets_the_best_evaluation() {
    let config = run_config().with_epochs(4).with_keep_best(Some(Criterion::Margins));
    let dir = tempfile::tempdir().expect("a directory");
    let best = train(&config, dir.path(), 5).expect("trained").1.best.expect("an evaluation");
    assert_eq!(best.step, 4);
    let path = CheckpointDir::new(dir.path()).path(best.step).join("trainable.safetensors");
    damage(&path, damages(&fs::read(&path).expect("bytes")).swap_remove(3).as_ref());
    let output = train(&config, dir.path(), usize::MAX).expect("trained").1;
    assert_eq!(output.resumed_from, Some(5));
    assert!(output.best.expect("a later one").step > 5);
}

#[test]
fn changed_settings_are_named() {
    let path = std::path::Path::new("checkpoints/step-000005");
    let config = DpoConfig::default().with_learning_rate(1.1e-6);
    let then = checkpoint(5, &config).state;
    let with = |config: DpoConfig| checkpoint(5, &config).state;
    check_same_run(path, &then, &with(config.clone().with_save_every(7).with_keep_checkpoints(9)))
        .expect("the same course");

    let error = check_same_run(path, &then, &with(config.clone().with_beta(0.3).with_epochs(5)))
        .expect_err("changed");
    let DpoError::ConfigChanged { changes, .. } = &error else { panic!("{error}") };
    let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["beta", "epochs"]);
    assert!(error.to_string().contains("`beta` was 0.1 and is now 0.3"), "{error}");

    // settings that were not set, and so are not in the file
    for (key, now) in [
        ("ld_alpha", config.clone().with_ld_alpha(Some(0.5))),
        ("weighting", config.clone().with_weighting(Some(Weighting::Wpo))),
        ("reference_sync", config.clone().with_reference_sync(Some(ReferenceSync::default()))),
        ("max_steps", config.clone().with_max_steps(Some(3))),
    ] {
        let now = with(now);
        for (then, now) in [(&then, &now), (&now, &then)] {
            let error = check_same_run(path, then, now).expect_err("changed");
            let DpoError::ConfigChanged { changes, .. } = &error else { panic!("{error}") };
            assert_eq!(changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }

    let mut other = with(config);
    other.pairs = fingerprint_pairs(&pairs()[1..]);
    assert!(matches!(check_same_run(path, &then, &other), Err(DpoError::DataChanged { .. })));
    // what a pair weighs may depend on its kind
    let mut of_another_kind = pairs();
    of_another_kind[0].kind = CompletionKind::ErrorInjected;
    assert_ne!(fingerprint_pairs(&of_another_kind), fingerprint_pairs(&pairs()));
}

/// Directories of older versions go on only where the fingerprint of their pairs stays as it is.
#[test]
fn fingerprint_includes_the_system_text_only_if_set() {
    let mut some = pairs();
    assert_eq!(fingerprint_pairs(&some), "51e37a83b370a74be9ebef8a00b41159c5b1c312908f6da4605d5f689388111f");
    some[0].system = Some("be brief".to_owned());
    let with = fingerprint_pairs(&some);
    some[0].system = Some("be long".to_owned());
    assert_ne!(fingerprint_pairs(&some), with);
    some[0].system = None;
    assert_eq!(fingerprint_pairs(&some), fingerprint_pairs(&pairs()));
    assert_ne!(fingerprint_pairs(&some), with);
}
