//! What a training refuses, skips or leaves out.

use super::*;

#[test]
fn policy_that_differs_from_its_reference_is_an_error() {
    let trainer = |config| Trainer::new(config, Toy::adapted(), ToyCollate::default(), None).expect("valid");
    let error = trainer(config()).train(pairs(), &mut ()).expect_err("an adapter that does something");
    let DpoError::InitialMismatch { margin, .. } = &error else { panic!("{error}") };
    assert!(*margin > 1e-4);
    assert!(error.to_string().contains("reference_differs"), "{error}");
    trainer(config().with_reference_differs(true)).train(pairs(), &mut ()).expect("meant so");
}

/// Dropout in an adapter has no effect while the adapter is zero. Any other dropout is an error.
#[test]
fn dropout_outside_a_new_adapter_is_an_error() {
    let train = |policy: Toy| {
        let trainer = Trainer::new(config().with_max_steps(Some(1)), policy, ToyCollate::default(), None);
        trainer.expect("valid").train(pairs(), &mut ())
    };
    let error = train(Toy { dropout: 0.5, ..Toy::untouched() }).expect_err("dropout");
    assert!(matches!(error, DpoError::InitialMismatch { .. }), "{error}");
    assert!(error.to_string().contains("dropout is on"), "{error}");
    train(Toy { lora_dropout: 0.5, ..Toy::untouched() }).expect("trained");
}

#[test]
fn unusable_pairs_are_skipped_with_a_reason() {
    let long = "a ".repeat(13) + "a";
    let mut mixed = pairs();
    mixed.insert(1, pair(100, "missing", "what is there", "a", "b"));
    // the group of pairs 0, 2 and 6 loses only this one
    mixed.push(pair(101, "a", "what is there", "a", &long));
    let (policy, summary, _) = train(config(), &mixed).expect("trained");
    let skipped: Vec<_> = summary.skipped.iter().map(|one| (one.id.as_str(), one.detail.as_str())).collect();
    assert_eq!(
        skipped,
        [("100", "cannot read missing: entity not found"), ("101", "completion of 14 words")]
    );
    assert_eq!(summary.pairs, 10);
    let (expected, ..) = train(config(), &pairs()).expect("trained");
    assert_eq!(save_trainable(&policy).expect("bytes"), save_trainable(&expected).expect("bytes"));
}

#[test]
fn unusable_pair_without_validation_is_an_error() {
    let bad = [pair(100, "missing", "what is there", "a", "b")];
    let error = train(config().with_validate_pairs(false), &bad).expect_err("cannot be collated");
    assert!(matches!(&error, DpoError::Collate { pairs, .. } if *pairs == ["100"]), "{error}");
    let error = train(config(), &bad).expect_err("nothing left");
    assert!(matches!(&error, DpoError::NoPairs { skipped } if skipped.len() == 1), "{error}");
    assert!(error.to_string().contains("1 skipped; the first, 100: "), "{error}");
}

#[test]
fn non_finite_step_is_skipped() {
    let mut bad = pairs();
    bad.push(pair(100, "nan", "what is there", "a", "b"));
    let (policy, summary, steps) = train(config().with_batch_size(1), &bad).expect("trained");
    assert_eq!(summary.skipped_steps, 2);
    let skipped: Vec<_> = steps.iter().filter(|step| step.skipped).collect();
    assert!(skipped.len() == 2 && skipped.iter().all(|step| step.loss.is_nan()));
    let bytes = save_trainable(&policy).expect("bytes");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    for (name, tensor) in tensors.iter() {
        let mut elements =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        assert!(elements.all(f32::is_finite), "{name}");
    }
}

#[test]
fn too_many_non_finite_steps_are_an_error() {
    let bad: Vec<_> = (0..6).map(|id| pair(id, "nan", &format!("question {id}"), "a", "b")).collect();
    // fewer steps than the limit, and not one of them made
    let two = config().with_batch_size(1).with_max_skipped(3).with_max_steps(Some(2));
    assert!(matches!(train(two, &bad), Err(DpoError::NotFinite { count: 2, step: 2, .. })));
    let error = train(config().with_batch_size(1).with_max_skipped(3), &bad).expect_err("all bad");
    let DpoError::NotFinite { count: 3, step: 3, pairs } = &error else { panic!("{error}") };
    assert_eq!(pairs.len(), 1);
}

/// Each setting fits f32, and their product does not.
#[test]
fn non_finite_parameters_are_not_saved() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config().with_warmup_ratio(0.0).with_learning_rate(3e38).with_weight_decay(10.0);
    let new = |config: DpoConfig, dir: Option<&std::path::Path>| {
        Trainer::new(config, Toy::untouched(), ToyCollate::default(), dir).expect("valid")
    };
    let one = config.clone().with_max_steps(Some(1));
    let error = new(one, Some(dir.path())).train(pairs(), &mut ()).expect_err("not finite");
    let DpoError::NotFiniteTensors { step: Some(1), names } = &error else { panic!("{error}") };
    assert!(names.iter().any(|name| name == "projector.weight"), "{names:?}");
    assert!(error.to_string().contains("after step 1"), "{error}");
    let left = std::fs::read_dir(dir.path().join("checkpoints")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a checkpoint was written");
    // steps after it are left out one by one, and the first of too many names itself
    let more = config.with_max_skipped(2).with_max_steps(Some(9)).with_save_every(100);
    let error = new(more, None).train(pairs(), &mut ()).expect_err("not finite");
    assert!(matches!(error, DpoError::NotFinite { count: 2, step: 3, .. }), "{error}");
}

#[test]
fn policy_without_trainable_parameters_is_an_error() {
    let frozen = Toy::untouched().no_grad();
    let error = Trainer::new(config(), frozen, ToyCollate::default(), None).expect_err("all frozen");
    assert!(matches!(error, DpoError::NothingToTrain), "{error}");
    // but a policy that is only not in training is put there
    Trainer::new(config(), Toy::untouched().valid(), ToyCollate::default(), None).expect("trainable");
}
