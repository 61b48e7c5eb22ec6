//! CHiP, which compares answers, images and the distributions of policy and reference.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use bpo_dpo::loss::{
    ChangedTokens, Divergence, Loss, Objective, PairDivergences, PairLogps, PairRows, PerPair, WeightedLoss,
};
use bpo_dpo::{
    Adapters, Control, DpoConfig, DpoError, LogpCache, Policy, Reference, StepMetrics, TokenLogps, Trainer,
    token_divergence,
};
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde::Deserialize;

use crate::toy::{Toy, ToyBatch, ToyCollate, pairs};

fn chip() -> Loss {
    "chip".parse().expect("a name")
}

fn in_f64<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, DType::F64))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-9, "{what} {at}: {found}, expected {expected}");
    }
}

/// What `tools/golden/chip.py` recorded. Rows are the chosen, the rejected and the weakened ones.
#[derive(Deserialize)]
struct Golden {
    beta: f64,
    shape: [usize; 3],
    lengths: Vec<usize>,
    targets: Vec<i32>,
    policy: Vec<f64>,
    reference: Vec<f64>,
    divergences: Vec<f64>,
    changed: BTreeMap<String, Vec<Vec<(usize, usize)>>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    tok_beta: f64,
    /// Of the changed tokens.
    weight: Option<f64>,
    losses: Vec<f64>,
    /// Of the policy's logits.
    gradient: Vec<f64>,
}

impl Golden {
    fn open() -> Self {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chip.json"));
        serde_json::from_str(&fs::read_to_string(path).expect("the golden file")).expect("its form")
    }

    fn rows(&self) -> PairRows {
        let pairs = self.shape[0] / 3;
        let part = |at: usize| (at * pairs..(at + 1) * pairs).collect();
        PairRows { weakened: vec![part(2)], ..PairRows::new(part(0), part(1)) }
    }

    fn changed(&self) -> ChangedTokens {
        let of = |name: &str| -> Vec<Vec<Range<usize>>> {
            let pairs = self.changed[name].iter();
            pairs.map(|ranges| ranges.iter().map(|(start, end)| *start..*end).collect()).collect()
        };
        ChangedTokens { chosen: of("chosen"), rejected: of("rejected") }
    }

    /// Log-probabilities of the whole vocabulary and of the targets.
    fn logps(&self, logits: Tensor<3>) -> (Tensor<2>, TokenLogps) {
        let [rows, tokens, vocab] = self.shape;
        let mask: Vec<bool> =
            self.lengths.iter().flat_map(|length| (0..tokens).map(move |at| at < *length)).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [rows, tokens]), &logits.device());
        let targets =
            TensorData::new(self.targets.iter().map(|id| i64::from(*id)).collect(), [rows * tokens, 1]);
        let targets: Tensor<2, Int> = Tensor::from_data(targets, &logits.device());
        let all = log_softmax(logits.reshape([rows * tokens, vocab]), 1);
        let logps = all.clone().gather(1, targets).reshape([rows, tokens]);
        let logps = logps.mask_fill(mask.clone().bool_not(), 0.0);
        (all, TokenLogps { logps, mask })
    }
}

#[test]
fn losses_and_gradients_equal_the_equations() {
    let golden = Golden::open();
    let [rows, tokens, _] = golden.shape;
    let of_reference = in_f64(&golden.reference, golden.shape, &Device::flex());
    let (all_of_reference, reference) = golden.logps(of_reference);
    let sums = |tokens: &TokenLogps| PairLogps::with_changed(tokens, &golden.rows(), &golden.changed());
    let reference = sums(&reference);
    for case in &golden.cases {
        let logits = in_f64(&golden.policy, golden.shape, &Device::flex().autodiff()).require_grad();
        let (all, policy) = golden.logps(logits.clone());
        let divergences = token_divergence(all_of_reference.clone(), all).reshape([rows, tokens]);
        let divergences = divergences.mask_fill(policy.mask.clone().bool_not(), 0.0);
        assert_close(&values(divergences.clone().sum_dim(1)), &golden.divergences, "divergence of row");
        let divergences = Some(PairDivergences::new(divergences, &golden.rows()));
        let policy = PairLogps { divergences, ..sums(&policy) };
        let objective = Objective::new(Loss::Chip { tok_beta: case.tok_beta }, golden.beta)
            .with_changed_token_weight(case.weight);
        let losses = objective.forward(&policy, Some(&reference), &PerPair::default()).losses;
        assert_close(&values(losses.clone()), &case.losses, "loss of pair");
        let gradient = logits.grad(&losses.sum().backward()).expect("a gradient");
        assert_close(&values(gradient), &case.gradient, "gradient");
    }
    assert_eq!(golden.cases.len(), 5);
}

const COLUMNS: [[f64; 3]; 5] =
    [[-3.0, -40.0, -7.5], [-5.0, -31.0, -7.1], [-6.0, -39.0, -90.0], [0.3, 4.0, 0.0], [2.0, 0.1, 30.0]];

/// The reference's log-probabilities, and the policy's with its divergences.
fn logps(columns: [Tensor<1>; 5]) -> PairLogps {
    let [chosen, rejected, weakened, of_chosen, of_rejected] = columns;
    let divergences = Some(PairDivergences { chosen: of_chosen, rejected: of_rejected });
    PairLogps { weakened: vec![weakened], divergences, ..PairLogps::new(chosen, rejected) }
}

#[test]
fn gradients_equal_finite_differences() {
    let plain = Device::flex();
    let reference = logps(COLUMNS.map(|column| in_f64(&column, [3], &plain).mul_scalar(0.8)));
    let (device, step) = (plain.clone().autodiff(), 1e-5);
    let beta = in_f64(&[0.05, 0.2, 0.1], [3], &plain);
    let per_pair = PerPair { beta: Some(beta), ..PerPair::default() };
    let sum =
        Loss::Sum { terms: vec![WeightedLoss::new(0.7, chip()), WeightedLoss::new(1.5, Loss::default())] };
    for loss in [chip(), Loss::Chip { tok_beta: 3.0 }, Loss::Chip { tok_beta: 0.0 }, sum] {
        let objective = Objective::new(loss, 0.1);
        for factors in [PerPair::default(), per_pair.clone()] {
            let tracked = COLUMNS.map(|column| in_f64(&column, [3], &device).require_grad());
            let output = objective.forward(&logps(tracked.clone()), Some(&reference), &factors);
            let gradients = output.losses.sum().backward();
            for (at, column) in tracked.iter().enumerate() {
                let found = column.grad(&gradients).map_or(vec![0.0; 3], values);
                for (i, found) in found.into_iter().enumerate() {
                    let moved = |by: f64| {
                        let mut columns = COLUMNS;
                        columns[at][i] += by;
                        let policy = logps(columns.map(|column| in_f64(&column, [3], &plain)));
                        values(objective.forward(&policy, Some(&reference), &factors).losses)[i]
                    };
                    // no gradient reaches the divergence of the chosen completion
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    let expected = if at == 3 { 0.0 } else { slope };
                    assert!((found - expected).abs() < 1e-7, "{objective:?} {at}: {found}, {expected}");
                }
            }
        }
    }
}

fn config(loss: Loss) -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.05).with_loss(loss).with_epochs(20).with_batch_size(4)
}

fn train<P: Policy<Batch = ToyBatch>>(
    config: &DpoConfig,
    policy: P,
    reference: Reference<P>,
    devices: usize,
) -> Result<Vec<StepMetrics>, DpoError> {
    let mut steps = Vec::new();
    let mut observer = |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        Control::Continue
    };
    let trainer = Trainer::new(config.clone(), policy, ToyCollate::default(), None)?;
    let trainer = trainer.with_reference(reference).with_devices(vec![Device::flex(); devices - 1]);
    trainer.train(pairs(), &mut observer)?;
    Ok(steps)
}

#[test]
fn training_increases_all_preferences() {
    let steps = train(&config(chip()), Toy::untouched(), Reference::AdaptersOff, 1).expect("trained");
    let (first, last) = (&steps[0], steps.last().expect("a step"));
    assert!((first.loss - LN_2).abs() < 1e-6, "{first:?}");
    assert!(last.loss < 0.9 * first.loss, "{last:?}");
    assert!(last.rewards_margins > 0.1 && last.rewards_chosen - last.rewards_weakened > 0.1, "{last:?}");
    // the token term counts
    let without = Loss::Chip { tok_beta: 0.0 };
    let without = train(&config(without), Toy::untouched(), Reference::AdaptersOff, 1).expect("trained");
    let last_without = without.last().expect("a step");
    assert!((last.loss - last_without.loss).abs() > 1e-6 * last.loss, "{last:?}");
    let statistics =
        train(&config(chip()).with_statistics(false), Toy::untouched(), Reference::AdaptersOff, 1);
    for (with, without) in steps.iter().zip(statistics.expect("trained")) {
        assert!(with.entropy.is_finite() && without.entropy.is_nan());
        assert_eq!(with.loss.to_bits(), without.loss.to_bits());
    }
}

#[test]
fn any_model_and_number_of_devices_trains() {
    let config = config(chip()).with_eval_fraction(0.3).with_eval_every(4).with_epochs(3);
    let one = train(&config, Toy::untouched(), Reference::AdaptersOff, 1).expect("trained");
    for (reference, devices) in
        [(Reference::AdaptersOff, 2), (Reference::Start, 1), (Reference::Frozen(Toy::untouched()), 3)]
    {
        let found = train(&config, Toy::untouched(), reference, devices).expect("trained");
        assert_eq!(found.len(), one.len());
        for (found, expected) in found.iter().zip(&one) {
            assert!((found.loss - expected.loss).abs() < 1e-5, "{found:?}, expected {expected:?}");
        }
    }
    let error = train(&config, Toy::untouched(), Reference::Frozen(Toy::adapted()), 1).expect_err("refused");
    assert!(matches!(error, DpoError::InitialMismatch { .. }), "{error}");
}

/// A policy without distributions.
#[derive(Module, Debug)]
struct Plain {
    toy: Toy,
}

impl Policy for Plain {
    type Batch = ToyBatch;

    fn token_logps(&self, batch: &ToyBatch, adapters: Adapters) -> TokenLogps {
        self.toy.token_logps(batch, adapters)
    }
}

#[test]
fn what_has_no_distributions_is_refused_before_the_first_step() {
    let error = train(&config(chip()), Plain { toy: Toy::untouched() }, Reference::AdaptersOff, 1);
    assert!(matches!(error.expect_err("refused"), DpoError::NoDivergences));
    let cache = || Reference::Cached(LogpCache::new(Default::default()));
    let error = train(&config(chip()), Toy::untouched(), cache(), 1).expect_err("refused");
    assert!(matches!(error, DpoError::CacheWithoutDistributions), "{error}");
    assert!(error.to_string().contains("`tok_beta`"), "{error}");
    // its empty cache is the next error
    let error = train(&config(Loss::Chip { tok_beta: 0.0 }), Toy::untouched(), cache(), 1);
    assert!(matches!(error.expect_err("refused"), DpoError::NotInReference { .. }));
    let mut wide = Toy::untouched().valid();
    let [width, words] = wide.head.weight.val().dims();
    wide.head.weight = Param::from_tensor(Tensor::zeros([width, words + 1], &Device::flex()));
    let error = train(&config(chip()), Toy::untouched(), Reference::Frozen(wide), 1).expect_err("refused");
    assert!(matches!(error, DpoError::Vocabulary { expected, found } if found == expected + 1), "{error}");
}

#[test]
fn settings_without_effect_are_refused() {
    let config = config(chip());
    for (config, key) in [
        (config.clone().with_reference_free(true), "`reference_free`"),
        (config.clone().with_ld_alpha(Some(0.5)), "`ld_alpha`"),
        (config.clone().with_divergence(Divergence::ForwardKl), "`divergence`"),
        (config.clone().with_margin_scale(1.0), "`margin_scale`"),
        (config.clone().with_changed_token_weight(Some(-1.0)), "`changed_token_weight`"),
        (config.clone().with_loss(Loss::Chip { tok_beta: -0.1 }), "`loss.tok_beta`"),
        (config.clone().with_loss(Loss::Chip { tok_beta: f64::NAN }), "`loss.tok_beta`"),
    ] {
        let error = config.validate().expect_err("refused").to_string();
        assert!(error.contains(key), "{error}");
    }
    // without the token term, there may be no reference
    config.with_loss(Loss::Chip { tok_beta: 0.0 }).with_reference_free(true).validate().expect("valid");
    assert_eq!(chip(), Loss::Chip { tok_beta: 0.1 });
    assert_eq!(chip().to_string(), "chip");
}

#[test]
fn changed_tokens_are_weighted() {
    let train = |config: &DpoConfig, collate: ToyCollate, reference| {
        let mut steps = Vec::new();
        let trainer =
            Trainer::new(config.clone(), Toy::untouched(), collate, None)?.with_reference(reference);
        trainer.train(pairs(), &mut |metrics: &StepMetrics| {
            steps.push(metrics.clone());
            Control::Continue
        })?;
        Ok::<_, DpoError>(steps)
    };
    let own = || train(&config(chip()), ToyCollate::default(), Reference::AdaptersOff).expect("trained");
    let of = |weight: f64| {
        let config = config(chip()).with_changed_token_weight(Some(weight));
        train(&config, ToyCollate::default(), Reference::AdaptersOff).expect("trained")
    };
    let close = |one: &[StepMetrics], other: &[StepMetrics]| {
        one.iter().zip(other).map(|(a, b)| (a.loss - b.loss).abs()).fold(0.0, f64::max) < 1e-6
    };
    let (plain, weighted) = (own(), of(4.0));
    assert!(close(&plain, &of(1.0)) && !close(&plain, &weighted));
    assert!((weighted[0].loss - LN_2).abs() < 1e-6, "{:?}", weighted[0]);
    // log-probabilities are reported as they are, and the larger weight increases the margin
    assert!((weighted[0].logps_chosen - plain[0].logps_chosen).abs() < 1e-5);
    let margins = [&weighted, &plain].map(|steps| steps.last().expect("a step").rewards_margins);
    assert!(margins[0] > margins[1], "{margins:?}");

    let config = config(Loss::default()).with_changed_token_weight(Some(2.0));
    let silent = ToyCollate { silent: true, ..ToyCollate::default() };
    let error = train(&config, silent, Reference::AdaptersOff).expect_err("refused");
    assert!(matches!(error, DpoError::NoCompletionTokens), "{error}");
    for (config, with) in [
        (config.clone().with_ld_alpha(Some(0.5)), "`ld_alpha`"),
        (config.clone().with_loss(Loss::Conditional), "the loss conditional"),
        (config.with_loss(Loss::Sft), "the loss sft"),
    ] {
        let error = config.validate().expect_err("refused").to_string();
        assert!(error.contains("`changed_token_weight`") && error.contains(with), "{error}");
    }
}
