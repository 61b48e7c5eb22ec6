//! SymMPO, which compares the answers of a pair with those for other images.

use std::f64::consts::LN_2;
use std::fs;
use std::path::PathBuf;

use bpo_dpo::loss::{
    Contrasted, Divergence, Loss, Objective, PairLogps, PerPair, PreferenceLoss, WeightedLoss,
};
use bpo_dpo::{
    Adapters, Collate, Control, DpoConfig, DpoError, GroupBatch, LogpCache, PairBatches, Policy, Reference,
    StepMetrics, TrainOutput, Trainer, fingerprint_pairs, validate_pairs,
};
use bpo_pairs::{PreferencePair, SkipReason};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;

use crate::toy::{Toy, ToyCollate, pairs};

fn in_f64(values: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F64))
}

fn values(tensor: Tensor<1>) -> Vec<f64> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn logps(columns: [Tensor<1>; 5]) -> PairLogps {
    let [chosen, rejected, answer, images, both] = columns;
    PairLogps { contrast: Some(Contrasted { answer, images, both }), ..PairLogps::new(chosen, rejected) }
}

/// What `tools/golden/symmpo.py` recorded: columns of each kind of log-probability.
#[derive(Deserialize)]
struct Golden {
    policy: [Vec<f64>; 5],
    reference: [Vec<f64>; 5],
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    beta: Vec<f64>,
    lambda: f64,
    consistency: f64,
    losses: Vec<f64>,
    gradient: [Vec<f64>; 5],
}

fn golden() -> Golden {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/symmpo.json");
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        // burn's backward pass rounds the divisor beta^2 to f32
        assert!((found - expected).abs() < 1e-8, "{what} {at}: {found}, expected {expected}");
    }
}

#[test]
fn losses_and_gradients_equal_the_recorded_ones() {
    let Golden { policy, reference, cases } = golden();
    let (plain, device) = (Device::flex(), Device::flex().autodiff());
    let reference = logps(reference.map(|column| in_f64(&column, &plain)));
    for Case { beta, lambda, consistency, losses, gradient } in &cases {
        let loss = Loss::Symmpo { lambda: *lambda, consistency: *consistency };
        let tracked = policy.clone().map(|column| in_f64(&column, &device).require_grad());
        let mut ways = vec![(1.0, PerPair { beta: Some(in_f64(beta, &plain)), ..PerPair::default() })];
        // the same coefficient for all pairs as one number
        ways.extend((beta.iter().all(|one| *one == beta[0])).then(|| (beta[0], PerPair::default())));
        for (beta, factors) in ways {
            let objective = Objective::new(loss.clone(), beta);
            let found = objective.forward(&logps(tracked.clone()), Some(&reference), &factors).losses;
            assert_close(&values(found.clone()), losses, "loss of pair");
            let gradients = found.sum().backward();
            for (column, expected) in tracked.iter().zip(gradient) {
                assert_close(&values(column.grad(&gradients).expect("a gradient")), expected, "gradient");
            }
        }
    }
    assert_eq!(cases.len(), 4);
}

#[test]
fn gradients_equal_finite_differences() {
    let Golden { policy: columns, reference, .. } = golden();
    let (plain, device, step) = (Device::flex(), Device::flex().autodiff(), 1e-5);
    let reference = logps(reference.map(|column| in_f64(&column, &plain)));
    let sum = Loss::Sum {
        terms: vec![WeightedLoss::new(0.7, Loss::symmpo()), WeightedLoss::new(1.5, Loss::default())],
    };
    for loss in [Loss::symmpo(), Loss::Symmpo { lambda: 3.0, consistency: 0.2 }, sum] {
        let objective = Objective::new(loss, 0.1);
        let factors = PerPair::default();
        let tracked = columns.clone().map(|column| in_f64(&column, &device).require_grad());
        let output = objective.forward(&logps(tracked.clone()), Some(&reference), &factors);
        let gradients = output.losses.sum().backward();
        for (at, column) in tracked.iter().enumerate() {
            let found = values(column.grad(&gradients).expect("a gradient"));
            for (i, found) in found.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut columns = columns.clone();
                    columns[at][i] += by;
                    let policy = logps(columns.map(|column| in_f64(&column, &plain)));
                    values(objective.forward(&policy, Some(&reference), &factors).losses)[i]
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                assert!((found - expected).abs() < 1e-7, "{objective:?} {at}: {found}, {expected}");
            }
        }
    }
}

/// The pairs of the toy, each with other images and the answer of another pair of the same question
/// about them. The last pair has none.
fn contrasted() -> Vec<PreferencePair> {
    let with = |mut pair: PreferencePair, image: &str, answer: &str| {
        pair.contrast_images = vec![image.to_owned()];
        pair.contrast_answer = Some(answer.to_owned());
        pair.check_contrast().expect("usable");
        pair
    };
    let mut all: Vec<_> = pairs()
        .into_iter()
        .map(|pair| match pair.id.as_str() {
            "0" | "2" | "6" => with(pair, "b", "three cups"),
            "1" | "8" => with(pair, "a", "a dog on a mat"),
            "3" => with(pair, "g", "green"),
            "4" => with(pair, "h", "nobody is there"),
            "5" => with(pair, "i", "a horse"),
            "7" => with(pair, "k", "a beach"),
            _ => pair,
        })
        .collect();
    // two answers of one question about the same other image
    all[2].contrast_answer = Some("two plates".into());
    all
}

#[test]
fn batch_has_the_answers_for_both_images() {
    let mut pairs = contrasted();
    let loss = Loss::symmpo().properties();
    assert_eq!(GroupBatch::for_loss(loss, 0, &pairs).rows.contrast, None, "the last pair has no contrast");
    pairs.pop();
    let batch = GroupBatch::for_loss(loss, 0, &pairs);
    let rows: Vec<(&[String], &str, &str)> = batch
        .groups
        .iter()
        .flat_map(|group| {
            let row = |text| (group.images.as_slice(), group.prompt.as_str(), text);
            group.completions.iter().map(move |text| row(text.as_str()))
        })
        .collect();
    let contrast = batch.rows.contrast.as_ref().expect("rows of contrasts");
    for (i, pair) in pairs.iter().enumerate() {
        let (images, answer) = pair.contrast().expect("a contrast");
        let (own, prompt) = (pair.images.as_slice(), pair.prompt.as_str());
        assert_eq!(rows[batch.rows.chosen[i]], (own, prompt, pair.chosen.as_str()));
        assert_eq!(rows[batch.rows.rejected[i]], (own, prompt, pair.rejected.as_str()));
        assert_eq!(rows[contrast.answer[i]], (own, prompt, answer));
        assert_eq!(rows[contrast.images[i]], (images, prompt, pair.chosen.as_str()));
        assert_eq!(rows[contrast.both[i]], (images, prompt, answer));
    }
    // one group for the images of the contrasts of a question: 0, 2 and 6 share theirs
    let of_question = |id: usize| contrast.both[id];
    assert_eq!(of_question(0), of_question(6));
    let groups = batch.groups.iter().filter(|group| group.images == ["b"]).count();
    assert_eq!(groups, 2, "the question about `b`, and the contrast of the question about `a`");
    // a loss without rejected completions has the others
    let alone = bpo_dpo::loss::LossProperties { rejected: false, ..loss };
    let alone = GroupBatch::for_loss(alone, 0, &pairs);
    assert_eq!(alone.rows.rejected, alone.rows.chosen);
    assert!(alone.completions() < batch.completions());
    assert!(GroupBatch::for_loss(Loss::default().properties(), 0, &pairs).rows.contrast.is_none());
}

#[test]
fn rows_of_a_batch_equal_those_of_separate_passes() {
    let mut pairs = contrasted();
    pairs.pop();
    let loss = Loss::symmpo().properties();
    let of = |pairs: &[PreferencePair]| {
        let batch = GroupBatch::for_loss(loss, 0, pairs);
        let inputs = ToyCollate::default().collate(&batch.groups).expect("collated");
        let tokens = Toy::adapted().valid().token_logps(&inputs, Adapters::On);
        let PairLogps { chosen, rejected, contrast, .. } = PairLogps::of_tokens(&tokens, &batch.rows);
        let Contrasted { answer, images, both } = contrast.expect("a contrast");
        [chosen, rejected, answer, images, both].map(values)
    };
    let together = of(&pairs);
    for (i, pair) in pairs.iter().enumerate() {
        let alone = of(std::slice::from_ref(pair));
        for (together, alone) in together.iter().zip(&alone) {
            assert!((together[i] - alone[0]).abs() < 1e-5, "{together:?}, {alone:?}");
        }
    }
}

fn config(loss: Loss) -> DpoConfig {
    DpoConfig::default().with_learning_rate(0.05).with_loss(loss).with_epochs(20).with_batch_size(4)
}

fn train_on(
    config: &DpoConfig,
    pairs: Vec<PreferencePair>,
    reference: Reference<Toy>,
    devices: usize,
) -> Result<(Vec<StepMetrics>, TrainOutput), DpoError> {
    let mut steps = Vec::new();
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), None)?;
    let trainer = trainer.with_reference(reference).with_devices(vec![Device::flex(); devices - 1]);
    let (_, output) = trainer.train(pairs, &mut |metrics: &StepMetrics| {
        steps.push(metrics.clone());
        Control::Continue
    })?;
    Ok((steps, output))
}

#[test]
fn training_increases_all_preferences() {
    let (steps, output) =
        train_on(&config(Loss::symmpo()), contrasted(), Reference::AdaptersOff, 1).expect("trained");
    // an epoch has steps of 4, 4 and 1 pairs
    let (first, last) = (&steps[0], &steps[steps.len() - 3..]);
    let mean = |of: fn(&StepMetrics) -> f64| {
        last.iter().map(|step| of(step) * step.pairs as f64).sum::<f64>() / output.pairs as f64
    };
    assert!((first.loss - 4.0 * LN_2).abs() < 1e-5, "{first:?}");
    assert!(mean(|step| step.loss) < 0.9 * first.loss, "{last:?}");
    let margins = (mean(|step| step.rewards_margins), mean(|step| step.rewards_contrast_margins));
    assert!(margins.0 > 0.1 && margins.1 > 0.1, "{margins:?}");
    let accuracies = (first.rewards_contrast_accuracies, mean(|step| step.rewards_contrast_accuracies));
    assert!(accuracies.1 > 0.5 && accuracies.0 == 0.0, "{accuracies:?}");
    // the pair without a contrast
    let skipped: Vec<_> = output.skipped.iter().map(|one| (one.id.as_str(), one.reason)).collect();
    assert_eq!(skipped, [("9", SkipReason::NoContrast)]);
    assert!(output.skipped[0].detail.contains("--contrast"), "{}", output.skipped[0].detail);
    assert_eq!(output.pairs, 9);

    let dpo = train_on(&config(Loss::default()), contrasted(), Reference::AdaptersOff, 1).expect("trained");
    let without = train_on(&config(Loss::default()), pairs(), Reference::AdaptersOff, 1).expect("trained");
    assert_eq!(dpo.1.skipped, []);
    for (with, without) in dpo.0.iter().zip(&without.0) {
        assert_eq!(with.loss.to_bits(), without.loss.to_bits(), "another loss ignores contrasts");
        assert!(with.rewards_contrast_margins.is_nan());
    }
    let tokens = |steps: &[StepMetrics]| steps.last().and_then(|step| step.num_tokens).expect("counted");
    assert!(tokens(&steps) > 2 * tokens(&dpo.0), "three more rows for each pair");
    let json = serde_json::to_string(&last[0]).expect("JSON");
    assert!(json.contains(r#""rewards/contrast_margins":"#), "{json}");
    assert!(!serde_json::to_string(&dpo.0[0]).expect("JSON").contains("contrast"));
}

/// The pairs of a step on several devices, with each kind of reference.
#[test]
fn any_reference_and_number_of_devices_gives_the_same_training() {
    let config = config(Loss::symmpo()).with_eval_fraction(0.3).with_eval_every(4).with_epochs(3);
    let train = |reference, devices| train_on(&config, contrasted(), reference, devices).expect("trained").0;
    let one = train(Reference::AdaptersOff, 1);
    let cache = {
        let pairs = contrasted();
        let mut cache = LogpCache::new(Default::default());
        let batches = PairBatches { pairs: &pairs, loss: config.objective().properties(), size: 3 };
        let (models, mut collate) = ([Toy::untouched().valid()], ToyCollate::default());
        let skipped = cache.fill(&models, Adapters::Off, &mut collate, batches, |_, _| Ok(()));
        assert_eq!(skipped.expect("filled").len(), 1, "the pair without a contrast");
        cache
    };
    // 9 pairs of 6 questions: 8 different chosen and 9 other answers, and those for the other images
    assert!(cache.len() > 2 * pairs().len());
    for (reference, devices) in [
        (Reference::AdaptersOff, 2),
        (Reference::Start, 1),
        (Reference::Frozen(Toy::untouched()), 3),
        (Reference::Cached(cache.clone()), 1),
        (Reference::Cached(cache), 2),
    ] {
        let found = train(reference, devices);
        assert_eq!(found.len(), one.len());
        for (found, expected) in found.iter().zip(&one) {
            assert!((found.loss - expected.loss).abs() < 1e-5, "{found:?}, expected {expected:?}");
            let margins = [found, expected].map(|step| step.rewards_contrast_margins);
            assert!((margins[0] - margins[1]).abs() < 1e-5, "{margins:?}");
        }
    }
    let empty = Reference::Cached(LogpCache::new(Default::default()));
    let error = train_on(&config, contrasted(), empty, 1).expect_err("refused");
    assert!(matches!(error, DpoError::NotInReference { .. }), "{error}");
    let wrong = Reference::Frozen(Toy::adapted());
    let error = train_on(&config, contrasted(), wrong, 1).expect_err("refused");
    assert!(matches!(error, DpoError::InitialMismatch { .. }), "{error}");
}

#[test]
fn pairs_without_a_usable_contrast_are_skipped() {
    let mut some = contrasted();
    some[0].contrast_images = vec!["missing".into()];
    some[1].contrast_answer = Some(some[1].rejected.clone());
    some[3].contrast_images.push("h".into());
    some[7].contrast_answer = Some("word ".repeat(20).trim_end().into());
    let reasons = |skipped: &[bpo_pairs::Skipped]| {
        let mut reasons: Vec<_> = skipped.iter().map(|one| (one.id.clone(), one.reason)).collect();
        reasons.sort();
        reasons
    };
    let expected = [
        ("0", SkipReason::PairRefused),
        ("1", SkipReason::Identical),
        ("3", SkipReason::Malformed),
        ("7", SkipReason::PairRefused),
        ("9", SkipReason::NoContrast),
    ]
    .map(|(id, reason)| (id.to_owned(), reason));
    let loss = Loss::symmpo().properties();
    let (kept, skipped) = validate_pairs(&mut ToyCollate::default(), loss, some.clone());
    assert_eq!((kept.len(), reasons(&skipped)), (5, expected.to_vec()));
    let short = config(Loss::symmpo()).with_epochs(1);
    let (_, output) = train_on(&short, some, Reference::AdaptersOff, 1).expect("trained");
    assert_eq!(reasons(&output.skipped), expected);
    // also without a check of the collator
    let unchecked = short.clone().with_validate_pairs(false);
    let (_, output) = train_on(&unchecked, contrasted(), Reference::AdaptersOff, 1).expect("trained");
    assert_eq!(reasons(&output.skipped), [("9".to_owned(), SkipReason::NoContrast)]);

    let error = train_on(&short, pairs(), Reference::AdaptersOff, 1).expect_err("no pair");
    let DpoError::NoPairs { skipped } = &error else { panic!("{error}") };
    assert!(skipped.len() == 10 && error.to_string().contains("contrast_images"), "{error}");
    // a checkpoint is of the pairs with their contrasts
    assert_ne!(fingerprint_pairs(&pairs()), fingerprint_pairs(&contrasted()));
}

#[test]
fn settings_without_effect_are_refused() {
    let config = config(Loss::symmpo());
    config.validate().expect("valid");
    config.clone().with_reference_free(true).validate().expect("valid");
    for (config, key) in [
        (config.clone().with_ld_alpha(Some(0.5)), "`ld_alpha`"),
        (config.clone().with_changed_token_weight(Some(2.0)), "`changed_token_weight`"),
        (config.clone().with_divergence(Divergence::ForwardKl), "`divergence`"),
        (config.clone().with_margin_scale(1.0), "`margin_scale`"),
        (config.clone().with_responsiveness(true), "`responsiveness`"),
        (config.clone().with_loss(Loss::Symmpo { lambda: -0.1, consistency: 0.0 }), "`loss.lambda`"),
        (config.clone().with_loss(Loss::Symmpo { lambda: 0.5, consistency: f64::NAN }), "`loss.consistency`"),
    ] {
        let error = config.validate().expect_err("refused").to_string();
        assert!(error.contains(key), "{error}");
    }
    assert_eq!("symmpo".parse::<Loss>().expect("a name"), Loss::Symmpo { lambda: 0.5, consistency: 1e-4 });
    assert_eq!(Loss::symmpo().to_string(), "symmpo");
}
