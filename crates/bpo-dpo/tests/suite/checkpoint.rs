//! Checkpoints on disk.

use std::fs;

use bpo_dpo::{
    Checkpoint, CheckpointDir, DpoConfig, DpoError, ReferenceSync, Weighting, check_same_run,
    fingerprint_pairs, save_trainable,
};
use bpo_pairs::CompletionKind;
use serde_json::json;

use crate::toy::{Toy, pairs};

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
fn the_newest_is_loaded_and_old_ones_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let checkpoints = CheckpointDir::new(dir.path());
    assert!(checkpoints.load_newest().expect("nothing there").is_none());
    for step in [5, 10, 1_000_000] {
        checkpoints.save(&checkpoint(step, &DpoConfig::default()), 2).expect("saved");
    }
    let (path, loaded) = checkpoints.load_newest().expect("readable").expect("one there");
    assert!(path.ends_with("checkpoints/step-1000000"), "{}", path.display());
    assert_eq!(loaded, checkpoint(1_000_000, &DpoConfig::default()));
    let mut left: Vec<_> = fs::read_dir(dir.path().join("checkpoints"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["step-000010", "step-1000000"]);
}

#[test]
fn broken_ones_are_passed_over() {
    for file in ["trainable.safetensors", "optimizer.safetensors", "trainer_state.json"] {
        for cut in [true, false] {
            let dir = tempfile::tempdir().expect("a directory");
            let checkpoints = CheckpointDir::new(dir.path());
            checkpoints.save(&checkpoint(5, &DpoConfig::default()), 3).expect("saved");
            let newest = checkpoints.save(&checkpoint(10, &DpoConfig::default()), 3).expect("saved");
            let path = newest.join(file);
            if cut {
                let bytes = fs::read(&path).expect("bytes");
                fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
            } else {
                fs::remove_file(&path).expect("removed");
            }
            let (_, loaded) = checkpoints.load_newest().expect("readable").expect("one whole");
            assert_eq!(loaded.state.step, 5, "{file}");
            // and the step can be written again
            checkpoints.save(&checkpoint(10, &DpoConfig::default()), 3).expect("saved");
            assert_eq!(checkpoints.load_newest().expect("readable").expect("one").1.state.step, 10);
        }
    }
}

#[test]
fn what_changed_is_named() {
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
fn a_fingerprint_has_the_system_text_only_where_there_is_one() {
    let mut some = pairs();
    assert_eq!(fingerprint_pairs(&some), "33930e6e7917c5f99638a4d13de2f092170d0ff25107c7cfc36952901461c66f");
    some[0].system = Some("be brief".to_owned());
    let with = fingerprint_pairs(&some);
    some[0].system = Some("be long".to_owned());
    assert_ne!(fingerprint_pairs(&some), with);
    some[0].system = None;
    assert_eq!(fingerprint_pairs(&some), fingerprint_pairs(&pairs()));
    assert_ne!(fingerprint_pairs(&some), with);
}
