//! The training loop.

mod errors;

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
    let (policy, summary) = trainer.train(pairs.to_vec(), &mut observer)?;
    Ok((policy, summary, steps))
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.inner().into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

#[test]
fn loss_starts_at_ln_2_and_decreases() {
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
fn pairs_are_weighted_by_kind() {
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
fn weight_of_a_missing_kind_is_an_error() {
    let weights = [(CompletionKind::from("mllm_hal".to_owned()), 2.0)].into();
    let error = train(config().with_kind_weights(weights), &pairs()).expect_err("misspelt");
    assert!(matches!(&error, DpoError::UnknownKind { kind, .. } if kind.as_str() == "mllm_hal"), "{error}");
    assert!(error.to_string().ends_with("there are: mllm-hal"), "{error}");
}

/// SimPO compares log-probabilities per token, so its rewards are per token, too.
#[test]
fn simpo_metrics_are_computed_per_token() {
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
fn collator_with_a_wrong_number_of_lengths_is_an_error() {
    let collate = ToyCollate { forgetful: true, ..ToyCollate::default() };
    let trainer =
        Trainer::new(config().with_batch_size(10), Toy::untouched(), collate, None).expect("a trainer");
    let error = trainer.train(pairs(), &mut ()).map(drop).expect_err("one length is missing");
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
fn wpo_weights_pairs_by_their_likelihood() {
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
    let error = trainer.train(pairs(), &mut ()).expect_err("nothing to weigh by");
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
fn shared_prompts_equal_separate_prompts() {
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

/// A loss that compares nothing needs neither the reference nor the rejected completions. The
/// training is the same as with them.
#[test]
fn loss_without_comparison_trains_without_reference_and_rejected() {
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
        assert!(none.iter().all(|metric| metric.is_nan()) && alone.logps_rejected.is_nan(), "{alone:?}");
    }
    let weights = |toy: &Toy| values(toy.head.lora_b.val().flatten::<1>(0, 1));
    weights(&found).into_iter().zip(weights(&expected)).for_each(|(found, expected)| near(found, expected));
}

#[test]
fn only_trainable_parameters_change() {
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
fn reference_does_not_change() {
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
fn learning_rate_follows_the_schedule() {
    let (_, _, steps) =
        train(config().with_warmup_ratio(0.3).with_max_steps(Some(10)), &pairs()).expect("trained");
    let rates: Vec<f64> = steps.iter().map(|step| step.learning_rate / 0.02).collect();
    assert_eq!(rates.len(), 10);
    assert_eq!(rates[..4], [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    assert!(rates[4..].iter().zip(&rates[3..]).all(|(later, earlier)| later < earlier));
}

#[test]
fn observer_receives_the_plan_and_every_step() {
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
    trainer.train(pairs(), &mut seen).expect("trained");
    assert_eq!((seen.total, seen.steps), (6, vec![1, 2, 3, 4, 5, 6]));
    let logged = MetricsLog::<StepMetrics>::read(&dir.path().join("metrics.jsonl")).expect("metrics");
    assert_eq!(logged.iter().map(|metrics| metrics.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
