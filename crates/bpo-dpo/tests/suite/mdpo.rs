//! Losses that compare images.

use bpo_dpo::loss::{Divergence, Loss, Objective, PairLogps, PerPair, PreferenceLoss, WeightedLoss};
use bpo_dpo::{Control, DpoConfig, DpoError, GroupBatch, Reference, StepMetrics, Trainer};
use burn::tensor::{DType, Device, Tensor, TensorData};

use std::f64::consts::LN_2;

use crate::toy::{Toy, ToyCollate, pairs};

const CHOSEN: [f64; 3] = [-3.0, -40.0, -7.5];
const REJECTED: [f64; 3] = [-5.0, -31.0, -7.1];
const WEAKENED: [f64; 3] = [-6.0, -39.0, -90.0];
const REFERENCE: [[f64; 3]; 3] = [[-4.0, -38.0, -7.4], [-4.5, -33.0, -7.5], [-5.0, -41.0, -30.0]];

fn in_f64(values: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F64))
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn logps(columns: [Tensor<1>; 3]) -> PairLogps {
    let [chosen, rejected, weakened] = columns;
    PairLogps { weakened: vec![weakened], ..PairLogps::new(chosen, rejected) }
}

fn forward(loss: Loss, columns: [&[f64; 3]; 3]) -> Vec<f64> {
    let device = Device::flex();
    let policy = logps(columns.map(|column| in_f64(column, &device)));
    let reference = logps(REFERENCE.map(|column| in_f64(&column, &device)));
    values(Objective::new(loss, 0.1).forward(&policy, Some(&reference), &PerPair::default()).losses)
}

fn log_sigmoid(x: f64) -> f64 {
    if x > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() }
}

/// `losses` of `mdpo_trainer.py`, written out.
#[test]
fn mdpo_equals_the_sum_of_its_three_losses() {
    let ratio = |policy: &[f64; 3], model: usize, i: usize| 0.1 * (policy[i] - REFERENCE[model][i]);
    let found = forward(Loss::mdpo(), [&CHOSEN, &REJECTED, &WEAKENED]);
    for (i, found) in found.into_iter().enumerate() {
        let (chosen, rejected) = (ratio(&CHOSEN, 0, i), ratio(&REJECTED, 1, i));
        let weakened = ratio(&WEAKENED, 2, i);
        let expected = -log_sigmoid(chosen - rejected) - log_sigmoid(chosen - weakened) - log_sigmoid(chosen);
        assert!((found - expected).abs() < 1e-9 * expected, "{found}, expected {expected}");
    }
    let anchored = forward(Loss::Anchor { delta: 0.5 }, [&CHOSEN, &REJECTED, &WEAKENED]);
    assert!((anchored[0] + log_sigmoid(ratio(&CHOSEN, 0, 0) - 0.5)).abs() < 1e-12);
}

#[test]
fn gradients_equal_finite_differences() {
    let device = Device::flex().autodiff();
    let step = 1e-5;
    for divergence in [Divergence::ReverseKl, Divergence::JsDivergence] {
        let objective = Objective::new(Loss::mdpo(), 0.1).with_divergence(divergence);
        let reference = logps(REFERENCE.map(|column| in_f64(&column, &Device::flex())));
        let columns = [CHOSEN, REJECTED, WEAKENED];
        let tracked = columns.map(|column| in_f64(&column, &device).require_grad());
        let output = objective.forward(&logps(tracked.clone()), Some(&reference), &PerPair::default());
        let gradients = output.losses.sum().backward();
        for (at, column) in tracked.iter().enumerate() {
            let found = values(column.grad(&gradients).expect("a gradient"));
            for i in 0..3 {
                let moved = |by: f64| {
                    let mut columns = columns;
                    columns[at][i] += by;
                    let policy = logps(columns.map(|column| in_f64(&column, &Device::flex())));
                    values(objective.forward(&policy, Some(&reference), &PerPair::default()).losses)[i]
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                assert!((found[i] - expected).abs() < 1e-7, "{}, expected {expected}", found[i]);
            }
        }
    }
}

/// Ours: mDPO has one weakened image.
#[test]
fn several_weakened_images_count_as_their_mean() {
    let device = Device::flex();
    let of = |loss: &Loss, forms: &[&[f64; 3]]| {
        let all = |own: &[f64; 3], chosen: &[f64; 3], rejected: &[f64; 3]| {
            let weakened = forms
                .iter()
                .map(|form| in_f64(&std::array::from_fn::<_, 3, _>(|i| form[i] + own[i]), &device));
            let logps = PairLogps::new(in_f64(chosen, &device), in_f64(rejected, &device));
            PairLogps { weakened: weakened.collect(), ..logps }
        };
        let policy = all(&[0.0; 3], &CHOSEN, &REJECTED);
        let reference = all(&[0.7, -2.0, 0.1], &REFERENCE[0], &REFERENCE[1]);
        let objective = Objective::new(loss.clone(), 0.1);
        values(objective.forward(&policy, Some(&reference), &PerPair::default()).losses)
    };
    let other = [-9.0, -41.0, -3.0];
    let alone = [&WEAKENED, &other].map(|form| of(&Loss::Conditional, &[form]));
    let both = of(&Loss::Conditional, &[&WEAKENED, &other]);
    for i in 0..3 {
        assert!((both[i] - (alone[0][i] + alone[1][i]) / 2.0).abs() < 1e-12, "{both:?}, {alone:?}");
    }
    for loss in [Loss::Conditional, Loss::mdpo(), Loss::Chip { tok_beta: 0.0 }] {
        let (once, twice) = (of(&loss, &[&WEAKENED]), of(&loss, &[&WEAKENED, &WEAKENED]));
        assert!(once.iter().zip(&twice).all(|(once, twice)| (once - twice).abs() < 1e-12), "{loss:?}");
    }
}

#[test]
fn batch_has_each_chosen_completion_with_its_weakened_image() {
    let pairs = pairs();
    let batch = GroupBatch::for_loss(Loss::mdpo().properties(), 2, &pairs);
    let rows: Vec<(&[String], Option<usize>, &str)> = batch
        .groups
        .iter()
        .flat_map(|group| {
            group.completions.iter().map(|text| (group.images.as_slice(), group.weakened, text.as_str()))
        })
        .collect();
    for (i, pair) in pairs.iter().enumerate() {
        let images = pair.images.as_slice();
        assert_eq!(rows[batch.rows.chosen[i]], (images, None, pair.chosen.as_str()));
        assert_eq!(rows[batch.rows.rejected[i]], (images, None, pair.rejected.as_str()));
        for form in 0..2 {
            assert_eq!(rows[batch.rows.weakened[form][i]], (images, Some(form), pair.chosen.as_str()));
        }
    }
    let alone = GroupBatch::for_loss(Loss::Conditional.properties(), 1, &pairs);
    assert_eq!(alone.rows.rejected, alone.rows.chosen);
    assert!(GroupBatch::for_loss(Loss::default().properties(), 2, &pairs).rows.weakened.is_empty());
}

/// Without rejected completions, or with nothing to compare with at all.
#[test]
fn each_term_of_mdpo_trains_alone() {
    let anchor = Loss::Anchor { delta: 0.0 };
    let regularized =
        Loss::Sum { terms: vec![WeightedLoss::new(1.0, Loss::Sft), WeightedLoss::new(1.0, anchor.clone())] };
    for (loss, start) in [(Loss::Conditional, LN_2), (anchor, LN_2), (regularized, f64::NAN)] {
        let name = loss.type_name();
        let config = DpoConfig::default().with_learning_rate(0.05).with_loss(loss.clone()).with_epochs(20);
        let mut steps = Vec::new();
        let mut observer = |metrics: &StepMetrics| {
            steps.push(metrics.clone());
            Control::Continue
        };
        let train = |toy, reference, observer: &mut dyn FnMut(&StepMetrics) -> Control| {
            let mut observer = |metrics: &StepMetrics| observer(metrics);
            let trainer = Trainer::new(config.clone(), toy, ToyCollate::default(), None).expect("valid");
            trainer.with_reference(reference).train(pairs(), &mut observer).map(|(_, summary)| summary)
        };
        let summary = train(Toy::untouched(), Reference::AdaptersOff, &mut observer);
        summary.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (first, last) = (&steps[0], steps.last().expect("a step"));
        assert!(start.is_nan() || (first.loss - start).abs() < 1e-5, "{name}: {first:?}");
        assert!(last.loss < first.loss && last.rewards_chosen.is_finite(), "{name}: {last:?}");
        assert!(last.rewards_rejected.is_nan() && last.logps_rejected.is_nan(), "{name}: {last:?}");
        assert_eq!(last.rewards_weakened.is_finite(), loss.properties().weakened, "{name}: {last:?}");
        // a wrong reference shows here, too
        let error = train(Toy::untouched(), Reference::Frozen(Toy::adapted()), &mut |_| Control::Continue);
        let error = error.expect_err("refused");
        assert!(
            matches!(error, DpoError::InitialMismatch { margin, .. } if margin > 1e-4),
            "{name}: {error}"
        );
    }
}

#[test]
fn training_increases_the_effect_of_the_image() {
    let config = DpoConfig::default().with_learning_rate(0.05).with_loss(Loss::mdpo()).with_epochs(20);
    let train = |collate: ToyCollate| {
        let mut steps = Vec::new();
        let mut observer = |metrics: &StepMetrics| {
            steps.push(metrics.clone());
            Control::Continue
        };
        let trainer = Trainer::new(config.clone(), Toy::untouched(), collate, None).expect("valid");
        trainer.train(pairs(), &mut observer).map(|_| steps)
    };
    let steps = train(ToyCollate::default()).expect("trained");
    assert!((steps[0].loss - 3.0 * std::f64::consts::LN_2).abs() < 1e-5, "{:?}", steps[0]);
    let last = steps.last().expect("a step");
    assert!(last.rewards_chosen - last.rewards_weakened > 0.2 && last.rewards_margins > 0.2, "{last:?}");
    let two = train(ToyCollate { more_weakened: 1, ..ToyCollate::default() }).expect("trained");
    assert!((two[0].loss - 3.0 * std::f64::consts::LN_2).abs() < 1e-5, "{:?}", two[0]);
    let last = two.last().expect("a step");
    assert!(last.rewards_chosen - last.rewards_weakened > 0.2 && last.loss != steps[steps.len() - 1].loss);
    assert!(two[0].num_tokens > steps[0].num_tokens, "one more row for each pair");
    let mut some = pairs();
    some[3].images = vec!["glaring".into()];
    let train_on = |config: &DpoConfig| {
        let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), None);
        trainer.expect("valid").train(some.clone(), &mut ()).expect("trained").1
    };
    let skipped = train_on(&config).skipped;
    assert_eq!(skipped.iter().map(|skipped| skipped.id.as_str()).collect::<Vec<_>>(), ["3"]);
    assert!(train_on(&config.clone().with_loss(Loss::default())).skipped.is_empty());
    let error = train(ToyCollate { unweakened: true, ..ToyCollate::default() }).expect_err("refused");
    assert!(matches!(error, DpoError::NothingWeakened), "{error}");
    let desensitized = config.clone().with_ld_alpha(Some(0.5)).validate().expect_err("refused").to_string();
    assert!(desensitized.contains("`ld_alpha`"), "{desensitized}");
}
