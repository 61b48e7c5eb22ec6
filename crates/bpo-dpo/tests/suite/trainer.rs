//! The training loop.

use bpo_dpo::loss::{Loss, PairLogps, PreferenceLoss, WeightedLoss, wpo_weights};
use bpo_dpo::{
    Adapters, Collate, Control, DpoConfig, DpoError, GroupBatch, MetricsLog, Observer, Policy, RunPlan,
    Schedule, StepMetrics, TokenLogps, TrainOutput, Trainer, Weighting, save_trainable,
};
use bpo_pairs::{CompletionKind, PreferencePair};
use burn::module::Module;
use burn::tensor::{DType, Tensor};

use crate::toy::{Toy, ToyBatch, ToyCollate, pair, pairs};

fn config() -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.02).with_warmup_ratio(0.0)
}

fn train(
    config: DpoConfig,
    pairs: &[PreferencePair],
) -> Result<(Toy, TrainOutput, Vec<StepMetrics>), DpoError> {
    let mut steps = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        Control::Continue
    };
    let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None)?;
    let (policy, summary) = trainer.train(pairs, &mut observer)?;
    Ok((policy, summary, steps))
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.inner().into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

#[test]
fn the_loss_starts_at_ln_2_and_falls() {
    let (_, summary, steps) =
        train(config().with_epochs(20).with_schedule(Schedule::Constant), &pairs()).expect("trained");
    let first = &steps[0];
    assert!((first.loss - std::f64::consts::LN_2).abs() < 1e-6, "{first:?}");
    assert_eq!((first.rewards_margins, first.rewards_accuracies), (0.0, 0.0));
    let last = summary.last.expect("a step");
    assert!(last.loss < 0.3, "{last:?}");
    assert!(last.rewards_margins > 0.5 && last.rewards_accuracies == 1.0, "{last:?}");
    assert_eq!(summary.steps, 60);
    assert_eq!(last.epoch, 20.0);
}

#[test]
fn pairs_weigh_by_their_kind() {
    let mut pairs = pairs();
    pairs[9].kind = CompletionKind::ErrorInjected;
    let first = |weight: f64, pairs: &[PreferencePair]| {
        let config = config()
            .with_batch_size(10)
            .with_max_grad_norm(f64::MAX)
            .with_kind_weights([(CompletionKind::ErrorInjected, weight)].into());
        train(config, pairs).expect("trained").2.swap_remove(0)
    };
    let ln_2 = std::f64::consts::LN_2;
    assert!((first(3.0, &pairs).loss - 1.2 * ln_2).abs() < 1e-6);
    let none = first(0.0, &pairs);
    // the first of nine pairs is of that kind then, and weighs as the others do
    let without = {
        let mut pairs = pairs[..9].to_vec();
        pairs[0].kind = CompletionKind::ErrorInjected;
        first(1.0, &pairs)
    };
    assert!((none.loss - 0.9 * ln_2).abs() < 1e-6);
    assert!(
        (none.grad_norm - 0.9 * without.grad_norm).abs() < 1e-5 * without.grad_norm,
        "{none:?} {without:?}"
    );
}

#[test]
fn a_weight_for_a_kind_that_no_pair_has_is_refused() {
    let weights = [(CompletionKind::from("mllm_hal".to_owned()), 2.0)].into();
    let error = train(config().with_kind_weights(weights), &pairs()).expect_err("misspelt");
    assert!(matches!(&error, DpoError::UnknownKind { kind, .. } if kind.as_str() == "mllm_hal"), "{error}");
    assert!(error.to_string().ends_with("there are: mllm-hal"), "{error}");
}

/// SimPO compares means over tokens, and that is what its figures are of.
#[test]
fn figures_are_of_what_the_loss_compares() {
    let config = config().with_loss(Loss::Simpo { gamma: 0.5, label_smoothing: 0.0 }).with_beta(2.0);
    let (_, _, steps) = train(config.with_batch_size(1), &pairs()).expect("trained");
    for step in &steps {
        let expected = [
            (2.0 * step.logps_chosen / step.lengths_chosen, step.rewards_chosen),
            (2.0 * step.logps_rejected / step.lengths_rejected, step.rewards_rejected),
        ];
        for (expected, found) in expected {
            assert!((expected - found).abs() < 1e-5 * expected.abs(), "{step:?}");
        }
        // the loss of these very rewards
        let margin = step.rewards_margins - 0.5;
        assert!(((-margin).exp().ln_1p() - step.loss).abs() < 1e-5, "{step:?}");
    }
}

/// A prompt with each of its completions, in each pair, as TRL counts.
#[test]
fn tokens_are_counted() {
    let words = |text: &str| text.split(' ').count();
    let pairs = pairs();
    let of = |pair: &PreferencePair| 2 * words(&pair.prompt) + words(&pair.chosen) + words(&pair.rejected);
    let expected: usize = pairs.iter().map(of).sum();
    for accumulation in [1, 2] {
        let config =
            config().with_batch_size(3).with_gradient_accumulation_steps(accumulation).with_epochs(2);
        let (_, summary, steps) = train(config, &pairs).expect("trained");
        assert_eq!(steps[steps.len() / 2 - 1].num_tokens, Some(expected));
        assert_eq!(summary.last.expect("a step").num_tokens, Some(2 * expected));
    }
    let (_, _, steps) = train(config().with_loss(Loss::Sft).with_batch_size(10), &pairs).expect("trained");
    let chosen: usize = pairs.iter().map(|pair| words(&pair.prompt) + words(&pair.chosen)).sum();
    assert_eq!(steps[0].num_tokens, Some(chosen));
}

#[test]
fn a_collator_that_miscounts_is_told() {
    let collate = ToyCollate { forgetful: true, ..ToyCollate::default() };
    let trainer =
        Trainer::new(config().with_batch_size(10), Toy::untouched(), collate, None).expect("a trainer");
    let error = trainer.train(&pairs(), &mut ()).map(drop).expect_err("one length is missing");
    assert!(matches!(&error, DpoError::Rows { expected, found, .. } if *expected == *found + 1), "{error}");
}

/// A policy that tells nothing of its tokens.
#[derive(Module, Debug)]
struct Silent {
    toy: Toy,
}

impl Policy for Silent {
    type Batch = ToyBatch;

    fn token_logps(&self, batch: &ToyBatch, adapters: Adapters) -> TokenLogps {
        self.toy.token_logps(batch, adapters)
    }
}

#[test]
fn wpo_weighs_pairs_by_their_likelihood() {
    let config = config().with_batch_size(10).with_weighting(Some(Weighting::Wpo));
    let (_, _, steps) = train(config.clone(), &pairs()).expect("trained");
    let batch = GroupBatch::new(&pairs());
    let inputs = ToyCollate::default().collate(&batch.groups).expect("collated");
    let (tokens, statistics) = Toy::untouched().valid().token_statistics(&inputs, Adapters::On);
    let weights = wpo_weights(&tokens, &statistics.expect("statistics"), &batch.rows);
    let mean: f64 = weights.into_data_dtype(DType::F64).iter::<f64>().sum::<f64>() / 10.0;
    assert!(mean > 0.0 && mean < 0.9);
    assert!((steps[0].loss - mean * std::f64::consts::LN_2).abs() < 1e-6, "{:?}", steps[0]);

    let silent = Silent { toy: Toy::untouched() };
    let trainer = Trainer::new(config, silent, ToyCollate::default(), None).expect("valid");
    let error = trainer.train(&pairs(), &mut ()).expect_err("nothing to weigh by");
    assert!(matches!(error, DpoError::NoStatistics), "{error}");
}

#[test]
fn four_batches_of_one_equal_one_of_four() {
    let run = |batch_size, accumulation| {
        let config = config().with_batch_size(batch_size).with_gradient_accumulation_steps(accumulation);
        train(config, &pairs()).expect("trained")
    };
    let (_, _, expected) = run(4, 1);
    // 3 and 4 do not divide 10: the last batches of an epoch are smaller
    for (batch_size, accumulation) in [(1, 4), (2, 2)] {
        let (_, _, found) = run(batch_size, accumulation);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            for (found, expected) in [
                (found.loss, expected.loss),
                (found.grad_norm, expected.grad_norm),
                (found.rewards_margins, expected.rewards_margins),
                (found.logps_chosen, expected.logps_chosen),
            ] {
                assert!(
                    (found - expected).abs() < 1e-5 * expected.abs().max(0.1),
                    "{found}, expected {expected}"
                );
            }
            assert_eq!(found.pairs, expected.pairs);
        }
    }
}

#[test]
fn sharing_a_prompt_changes_nothing() {
    let (toy, pairs) = (Toy::adapted(), pairs());
    let logps = |pairs: &[PreferencePair]| {
        let batch = GroupBatch::new(pairs);
        let inputs = ToyCollate::default().collate(&batch.groups).expect("collated");
        PairLogps::select(toy.token_logps(&inputs, Adapters::On).sum(), &batch.rows)
    };
    let together = logps(&pairs);
    let (chosen, rejected) = (values(together.chosen), values(together.rejected));
    for (index, pair) in pairs.iter().enumerate() {
        let alone = logps(std::slice::from_ref(pair));
        assert!((values(alone.chosen)[0] - chosen[index]).abs() < 1e-5);
        assert!((values(alone.rejected)[0] - rejected[index]).abs() < 1e-5);
    }
}

/// A loss that compares nothing needs no reference and no rejected completions, and trains the
/// same.
#[test]
fn what_a_loss_does_not_need_changes_nothing() {
    let run = |loss| train(config().with_epochs(3).with_loss(loss), &pairs()).expect("trained");
    let all =
        Loss::Sum { terms: vec![WeightedLoss::new(1.0, Loss::Sft), WeightedLoss::new(0.0, Loss::default())] };
    assert!(all.properties().rejected && !Loss::Sft.properties().rejected);
    let ((expected, _, whole), (found, _, alone)) = (run(all), run(Loss::Sft));
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(0.1), "{found}, expected {expected}");
    };
    for (alone, whole) in alone.iter().zip(&whole) {
        near(alone.loss, whole.loss);
        near(alone.grad_norm, whole.grad_norm);
        near(alone.logps_chosen, whole.logps_chosen);
        let none =
            [alone.rewards_chosen, alone.rewards_rejected, alone.rewards_margins, alone.rewards_accuracies];
        assert!(none.iter().all(|figure| figure.is_nan()) && alone.logps_rejected.is_nan(), "{alone:?}");
    }
    let weights = |toy: &Toy| values(toy.head.lora_b.val().flatten::<1>(0, 1));
    weights(&found).into_iter().zip(weights(&expected)).for_each(|(found, expected)| near(found, expected));
}

#[test]
fn only_trainable_parameters_move() {
    let before = Toy::untouched();
    let (after, ..) = train(config(), &pairs()).expect("trained");
    assert_eq!(after.embedding.val().to_data(), before.embedding.val().to_data());
    assert_eq!(after.head.weight.val().to_data(), before.head.weight.val().to_data());
    for (before, after) in [
        (&before.projector.weight, &after.projector.weight),
        (&before.head.lora_a, &after.head.lora_a),
        (&before.head.lora_b, &after.head.lora_b),
    ] {
        assert_ne!(before.val().to_data(), after.val().to_data());
    }
}

/// The projector is trained without an adapter, so the reference must keep its first values.
#[test]
fn the_reference_never_moves() {
    let (trained, _, steps) = train(config().with_batch_size(10).with_epochs(3), &pairs()).expect("trained");
    let pairs = pairs();
    let batch = GroupBatch::new(&pairs);
    let inputs = ToyCollate::default().collate(&batch.groups).expect("collated");
    let logps = |toy: &Toy, adapters| {
        let logps = PairLogps::select(toy.token_logps(&inputs, adapters).sum(), &batch.rows);
        values(logps.chosen).iter().sum::<f64>() / pairs.len() as f64
    };
    let reference = logps(&Toy::untouched().valid(), Adapters::Off);
    assert!((logps(&trained.valid(), Adapters::Off) - reference).abs() > 1e-3, "the projector moved");
    for step in steps {
        let expected = 0.1 * (step.logps_chosen - reference);
        assert!((step.rewards_chosen - expected).abs() < 1e-5, "{} {expected}", step.rewards_chosen);
    }
}

#[test]
fn the_rate_follows_the_schedule() {
    let (_, _, steps) =
        train(config().with_warmup_ratio(0.3).with_max_steps(Some(10)), &pairs()).expect("trained");
    let rates: Vec<f64> = steps.iter().map(|step| step.learning_rate / 0.02).collect();
    assert_eq!(rates.len(), 10);
    assert_eq!(rates[..4], [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    assert!(rates[4..].iter().zip(&rates[3..]).all(|(later, earlier)| later < earlier));
}

#[test]
fn a_policy_unlike_its_reference_is_an_error() {
    let trainer = |config| Trainer::new(config, Toy::adapted(), ToyCollate::default(), None).expect("valid");
    let error = trainer(config()).train(&pairs(), &mut ()).expect_err("an adapter that does something");
    let DpoError::InitialMismatch { margin, .. } = &error else { panic!("{error}") };
    assert!(*margin > 1e-4);
    assert!(error.to_string().contains("reference_differs"), "{error}");
    trainer(config().with_reference_differs(true)).train(&pairs(), &mut ()).expect("meant so");
}

/// Dropout in an adapter has no effect while the adapter is zero. Any other dropout is an error.
#[test]
fn dropout_that_is_left_on_is_an_error() {
    let train = |policy: Toy| {
        let trainer = Trainer::new(config().with_max_steps(Some(1)), policy, ToyCollate::default(), None);
        trainer.expect("valid").train(&pairs(), &mut ())
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
fn without_vetting_an_unusable_pair_is_an_error() {
    let bad = [pair(100, "missing", "what is there", "a", "b")];
    let error = train(config().with_validate_pairs(false), &bad).expect_err("cannot be collated");
    assert!(matches!(&error, DpoError::Collate { pairs, .. } if *pairs == ["100"]), "{error}");
    let error = train(config(), &bad).expect_err("nothing left");
    assert!(matches!(&error, DpoError::NoPairs { skipped } if skipped.len() == 1), "{error}");
    assert!(error.to_string().contains("1 skipped; the first, 100: "), "{error}");
}

#[test]
fn a_step_that_is_not_finite_is_left_out() {
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
fn too_many_such_steps_are_an_error() {
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
fn what_is_not_finite_is_not_saved() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config().with_warmup_ratio(0.0).with_learning_rate(3e38).with_weight_decay(10.0);
    let new = |config: DpoConfig, dir: Option<&std::path::Path>| {
        Trainer::new(config, Toy::untouched(), ToyCollate::default(), dir).expect("valid")
    };
    let one = config.clone().with_max_steps(Some(1));
    let error = new(one, Some(dir.path())).train(&pairs(), &mut ()).expect_err("not finite");
    let DpoError::NotFiniteTensors { step: Some(1), names } = &error else { panic!("{error}") };
    assert!(names.iter().any(|name| name == "projector.weight"), "{names:?}");
    assert!(error.to_string().contains("after step 1"), "{error}");
    let left = std::fs::read_dir(dir.path().join("checkpoints")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a checkpoint was written");
    // steps after it are left out one by one, and the first of too many names itself
    let more = config.with_max_skipped(2).with_max_steps(Some(9)).with_save_every(100);
    let error = new(more, None).train(&pairs(), &mut ()).expect_err("not finite");
    assert!(matches!(error, DpoError::NotFinite { count: 2, step: 3, .. }), "{error}");
}

#[test]
fn nothing_to_train_is_an_error() {
    let frozen = Toy::untouched().no_grad();
    let error = Trainer::new(config(), frozen, ToyCollate::default(), None).expect_err("all frozen");
    assert!(matches!(error, DpoError::NothingToTrain), "{error}");
    // but a policy that is only not in training is put there
    Trainer::new(config(), Toy::untouched().valid(), ToyCollate::default(), None).expect("trainable");
}

#[test]
fn an_observer_sees_the_plan_and_every_step() {
    #[derive(Default)]
    struct Seen {
        total: usize,
        steps: Vec<usize>,
    }
    impl Observer for Seen {
        fn on_start(&mut self, plan: &RunPlan<'_>) {
            assert_eq!((plan.done_steps, plan.pairs, plan.skipped.len()), (0, 10, 0));
            self.total = plan.total_steps;
        }
        fn on_step(&mut self, metrics: &StepMetrics) -> Control {
            self.steps.push(metrics.step);
            Control::Continue
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    let trainer =
        Trainer::new(config(), Toy::untouched(), ToyCollate::default(), Some(dir.path())).expect("valid");
    trainer.train(&pairs(), &mut seen).expect("trained");
    assert_eq!((seen.total, seen.steps), (6, vec![1, 2, 3, 4, 5, 6]));
    let logged = MetricsLog::<StepMetrics>::read(&dir.path().join("metrics.jsonl")).expect("metrics");
    assert_eq!(logged.iter().map(|metrics| metrics.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
