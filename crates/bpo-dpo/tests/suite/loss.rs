//! The losses against TRL's own values, against finite differences, and where they could overflow.

use std::fs;

use bpo_dpo::loss::{
    Divergence, Loss, Objective, PairLengths, PairLogps, PairRows, PairTails, PerPair, PreferenceLoss,
    Rewards, WeightedLoss, sigmoid_loss,
};
use bpo_dpo::{DpoConfig, TokenLogps, Weighting};
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::json;

use crate::trl::{Golden, Row, root};

fn values(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data_dtype(DType::F64).try_into_vec().expect("f64")
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(error < 1e-5, "{what}: {found}, expected {expected}");
    }
}

fn in_f64(values: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F64))
}

/// Numbers of tokens of the golden completions, from TRL's mask: all chosen, then all rejected.
fn golden_lengths() -> Vec<f64> {
    let bytes = fs::read(root().join("trl/batch.safetensors")).expect("the golden batch");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mask = tensors.tensor("completion_mask").expect("a mask");
    let row = |row: &[u8]| row.chunks_exact(8).filter(|value| value[0] == 1).count() as f64;
    mask.data().chunks_exact(8 * mask.shape()[1]).map(row).collect()
}

/// TRL's log-probabilities. Those of length desensitization are discounted already.
fn logps(row: &Row, model: &str) -> PairLogps {
    let device = Device::flex();
    let tensor = |values: &[f64]| in_f64(values, &device).cast(DType::F32);
    let lengths = golden_lengths();
    let (chosen, rejected) = lengths.split_at(lengths.len() / 2);
    PairLogps {
        lengths: Some(PairLengths { chosen: tensor(chosen), rejected: tensor(rejected) }),
        ..PairLogps::new(
            tensor(&row.numbers(&format!("{model}_chosen"))),
            tensor(&row.numbers(&format!("{model}_rejected"))),
        )
    }
}

#[test]
fn losses_rewards_and_weights_equal_trl() {
    let golden = Golden::open();
    let mut compared = 0;
    for row in golden.computed().filter(|row| !row.has_sft()) {
        let what = format!("{:?}", row.settings);
        let objective = golden.objective(row).with_ld_alpha(None);
        let mut factors = PerPair::default();
        if row.is_weighted() {
            // every loss has the same weights, which another one tells with and without them
            let is_sigmoid = row.settings["loss_type"] == json!(["sigmoid"]);
            let weights = golden.weights(if is_sigmoid { "nca_pair" } else { "sigmoid" });
            factors = factors.weighted(in_f64(&weights, &Device::flex()));
        }
        let output = objective.forward(&logps(row, "policy"), Some(&logps(row, "ref")), &factors);
        assert_close(&values(output.losses.clone()), &row.numbers("per_sequence_loss"), &what);
        assert_close(&values(output.losses.mean()), &[row.number("loss").expect("a loss")], &what);
        assert_close(&values(output.rewards.chosen), &row.numbers("reward_chosen"), &what);
        assert_close(&values(output.rewards.rejected), &row.numbers("reward_rejected"), &what);
        compared += 1;
    }
    assert_eq!(compared, 80);
}

/// TRL's likelihood term is a mean over the tokens of the batch, bpo's is a mean over the tokens of
/// each pair. Weighted by the number of tokens, they are equal.
#[test]
fn the_likelihood_equals_that_of_trl_by_tokens() {
    let golden = Golden::open();
    let is_plain = |row: &&Row| row.is_sft() && row.settings.len() == 1;
    // the likelihood is that of all tokens, which only the rows without length desensitization have
    let plain = golden.computed().find(is_plain).expect("a row of the likelihood");
    let mut compared = 0;
    for row in golden.computed().filter(|row| row.has_sft()) {
        let what = format!("{:?}", row.settings);
        let of = |loss: Loss, row: &Row| {
            let mut objective = golden.objective(row).with_ld_alpha(None);
            objective.loss = loss;
            objective.forward(&logps(row, "policy"), Some(&logps(row, "ref")), &PerPair::default())
        };
        let lengths = logps(plain, "policy").lengths.expect("lengths").chosen;
        let likelihood = (of(Loss::Sft, plain).losses * lengths.clone()).sum() / lengths.sum();
        let loss = match golden.objective(row).loss {
            Loss::Sum { terms } => {
                assert_eq!(Loss::Sum { terms: terms.clone() }, Loss::mpo());
                let others = terms.into_iter().filter(|term| term.loss != Loss::Sft).collect();
                of(Loss::Sum { terms: others }, row).losses.mean() + likelihood
            }
            _ => likelihood,
        };
        assert_close(&values(loss), &[row.number("loss").expect("a loss")], &what);
        let rewards = of(Loss::Sft, row).rewards;
        assert_close(&values(rewards.chosen), &row.numbers("reward_chosen"), &what);
        assert_close(&values(rewards.rejected), &row.numbers("reward_rejected"), &what);
        compared += 1;
    }
    assert_eq!(compared, 7);
}

/// TRL also weights the likelihood, but its backward pass fails. The expected value is the weights
/// times the likelihood.
#[test]
fn what_fails_in_trl_is_computed() {
    let golden = Golden::open();
    let weights = in_f64(&golden.weights("sigmoid"), &Device::flex());
    let failed: Vec<&Row> = golden.failed().collect();
    assert_eq!(failed.len(), 1);
    for row in failed {
        assert!(row.is_sft() && row.is_weighted());
        let objective = golden.objective(row);
        let plain = golden.unweighted(row);
        let of =
            |factors| objective.forward(&logps(plain, "policy"), Some(&logps(plain, "ref")), &factors).losses;
        let weighted = of(PerPair::default().weighted(weights.clone()));
        let expected = of(PerPair::default()).cast(DType::F64) * weights.clone();
        assert_close(&values(weighted), &values(expected), "weighted likelihood");
        let config = DpoConfig::default().with_loss(objective.loss).with_weighting(Some(Weighting::Wpo));
        config.validate().expect("taken");
    }
}

/// What TRL refuses for a reason is refused here; what it refuses for its implementation is not.
#[test]
fn refused_settings_are_refused() {
    let golden = Golden::open();
    let mut refused = 0;
    for row in golden.refused() {
        let Objective { loss, beta, divergence, ld_alpha, .. } = golden.objective(row);
        let config = DpoConfig::default()
            .with_loss(loss)
            .with_beta(beta)
            .with_divergence(divergence)
            .with_ld_alpha(ld_alpha)
            // of sorted losses: weights of pairs have no meaning there
            .with_weighting(row.is_weighted().then_some(Weighting::Wpo));
        config.validate().expect_err(&format!("{:?}", row.settings));
        refused += 1;
    }
    assert_eq!(refused, 24);
    for row in golden.computed() {
        golden.objective(row).validate().unwrap_or_else(|error| panic!("{:?}: {error}", row.settings));
    }
}

/// Near 1 the alpha divergence is near the reverse KL divergence, in f32 too.
#[test]
fn small_exponents_do_not_cancel() {
    let ratios = [-40.0f64, -3.0, -0.7, 1e-3, 0.2, 5.0, 38.0];
    for distance in [2e-6, -1e-5, 1e-4, -1e-3, 0.02, -0.5, 0.9] {
        let divergence = Divergence::AlphaDivergence { alpha: 1.0 + distance };
        let found = values(divergence.score(in_f64(&ratios, &Device::flex()).cast(DType::F32)));
        let expected: Vec<f64> = ratios.iter().map(|ratio| (ratio * distance).exp_m1() / distance).collect();
        assert_close(&found, &expected, &format!("{divergence:?}"));
    }
}

const CHOSEN: [f64; 5] = [-3.0, -40.0, -7.5, -52.0, -1.0];
const REJECTED: [f64; 5] = [-5.0, -31.0, -7.1, -49.0, -20.0];
const CHOSEN_TOKENS: [f64; 5] = [3.0, 20.0, 1.0, 40.0, 2.0];
const REJECTED_TOKENS: [f64; 5] = [4.0, 12.0, 3.0, 31.0, 9.0];

fn with_parts(chosen: Tensor<1>, rejected: Tensor<1>) -> PairLogps {
    let device = Device::flex();
    let lengths =
        PairLengths { chosen: in_f64(&CHOSEN_TOKENS, &device), rejected: in_f64(&REJECTED_TOKENS, &device) };
    let tails =
        PairTails { chosen: chosen.clone().mul_scalar(0.25), rejected: rejected.clone().mul_scalar(0.125) };
    PairLogps { lengths: Some(lengths), tails: Some(tails), ..PairLogps::new(chosen, rejected) }
}

fn reference() -> PairLogps {
    let device = Device::flex();
    with_parts(
        in_f64(&[-4.0, -38.0, -7.4, -51.0, -3.0], &device),
        in_f64(&[-4.5, -33.0, -7.5, -50.0, -17.0], &device),
    )
}

/// Every loss, with every other setting at least once.
fn objectives() -> Vec<Objective> {
    let label_smoothing = 0.1;
    let losses = [
        Loss::default(),
        Loss::Sigmoid { label_smoothing },
        Loss::SigmoidNorm { label_smoothing },
        Loss::Hinge,
        Loss::Ipo,
        Loss::ExoPair { label_smoothing },
        Loss::NcaPair,
        Loss::Robust { label_smoothing },
        Loss::BcoPair,
        Loss::SppoHard,
        Loss::Aot { label_smoothing },
        Loss::AotUnpaired { label_smoothing },
        Loss::ApoZero,
        Loss::ApoDown,
        Loss::Discopop { tau: 0.05 },
        Loss::Simpo { gamma: 0.4, label_smoothing },
        Loss::Sft,
        Loss::mpo(),
    ];
    let divergences = [
        Divergence::ReverseKl,
        Divergence::ForwardKl,
        Divergence::JsDivergence,
        Divergence::AlphaDivergence { alpha: 0.4 },
        Divergence::AlphaDivergence { alpha: 1.3 },
    ];
    let mut all = Vec::new();
    for loss in losses {
        for divergence in divergences {
            all.push(Objective::new(loss.clone(), 0.3).with_divergence(divergence));
        }
        all.push(Objective::new(loss.clone(), 0.3).with_ld_alpha(Some(0.4)));
        all.push(Objective::new(loss, 0.05).with_reference_free(true));
    }
    all.retain(|objective| objective.validate().is_ok());
    all
}

fn factors() -> PerPair {
    let device = Device::flex();
    let mut factors = PerPair::default().weighted(in_f64(&[1.0, 0.5, 2.0, 0.0, 1.5], &device));
    factors.beta = Some(in_f64(&[0.1, 0.2, 0.3, 0.15, 0.06], &device));
    factors
}

#[test]
fn gradients_equal_finite_differences() {
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    let step = 1e-5;
    let mut checked = 0;
    for objective in objectives() {
        for factors in [PerPair::default(), factors()] {
            let (chosen, rejected) =
                (in_f64(&CHOSEN, &device).require_grad(), in_f64(&REJECTED, &device).require_grad());
            let policy = with_parts(chosen.clone(), rejected.clone());
            let losses = objective.forward(&policy, Some(&reference()), &factors).losses;
            let gradients = losses.sum().backward();
            let loss = |chosen: &[f64], rejected: &[f64]| {
                let policy = with_parts(in_f64(chosen, &plain), in_f64(rejected, &plain));
                values(objective.forward(&policy, Some(&reference()), &factors).losses).iter().sum::<f64>()
            };
            let moved = |values: &[f64], at: usize, by: f64| {
                let mut values = values.to_vec();
                values[at] += by;
                values
            };
            let slope = |up: f64, down: f64| (up - down) / (2.0 * step);
            for at in 0..CHOSEN.len() {
                let expected = [
                    slope(
                        loss(&moved(&CHOSEN, at, step), &REJECTED),
                        loss(&moved(&CHOSEN, at, -step), &REJECTED),
                    ),
                    slope(
                        loss(&CHOSEN, &moved(&REJECTED, at, step)),
                        loss(&CHOSEN, &moved(&REJECTED, at, -step)),
                    ),
                ];
                let found = [&chosen, &rejected]
                    .map(|logps| logps.grad(&gradients).map_or(0.0, |gradient| values(gradient)[at]));
                for (found, expected) in found.into_iter().zip(expected) {
                    let error = (found - expected).abs() / expected.abs().max(1e-2);
                    assert!(error < 1e-5, "{objective:?} {at}: {found}, expected {expected}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 1000);
}

/// A NaN would be skipped by the trainer, and training would never recover from where it came from.
#[test]
fn extreme_log_probabilities_stay_finite() {
    let device = Device::flex().autodiff();
    let extreme = || Tensor::<1>::from_floats([-1e4, 0.0, -200.0, -1.0, -90.0], &device).require_grad();
    let other = || Tensor::<1>::from_floats([-0.0, -1e4, -1.0, -200.0, -0.5], &device).require_grad();
    for mut objective in objectives() {
        objective.beta = 1.0;
        let (chosen, rejected) = (extreme(), other());
        let policy = with_parts(chosen.clone(), rejected.clone());
        let reference = with_parts(chosen.clone().inner() * 0.5, rejected.clone().inner() * 0.5);
        let output = objective.forward(&policy, Some(&reference), &PerPair::default());
        let gradients = output.losses.clone().sum().backward();
        let mut all = values(output.losses);
        for logps in [&chosen, &rejected] {
            all.extend(logps.grad(&gradients).map(values).unwrap_or_default());
        }
        assert!(all.iter().all(|value| value.is_finite()), "{objective:?}: {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// But for the losses that sort, a pair's loss is its own.
    #[test]
    fn a_pairs_loss_does_not_depend_on_the_others(
        pairs in prop::collection::vec(prop::array::uniform6(0.0..1.0), 2..6),
    ) {
        let device = Device::flex();
        let column = |at: &[usize], part: usize, least: f64, most: f64| {
            let value = |at: &usize| least + (most - least) * pairs[*at][part];
            in_f64(&at.iter().map(value).collect::<Vec<f64>>(), &device)
        };
        let batch = |at: &[usize], first: usize| PairLogps {
            lengths: Some(PairLengths { chosen: column(at, 4, 1.0, 40.0), rejected: column(at, 5, 1.0, 40.0) }),
            tails: Some(PairTails { chosen: column(at, first, -30.0, 0.0), rejected: column(at, 5, 0.0, 0.0) }),
            ..PairLogps::new(column(at, first, -60.0, 0.0), column(at, first + 1, -60.0, 0.0))
        };
        let all: Vec<usize> = (0..pairs.len()).collect();
        for objective in objectives().into_iter().filter(|objective| !objective.loss.properties().batch_wide) {
            let of = |at: &[usize]| {
                values(objective.forward(&batch(at, 0), Some(&batch(at, 2)), &PerPair::default()).losses)
            };
            let together = of(&all);
            for at in all.iter().copied() {
                prop_assert_eq!(of(&[at])[0].to_bits(), together[at].to_bits());
            }
        }
    }
}

#[test]
fn a_policy_that_is_its_reference_has_no_rewards() {
    for objective in objectives().into_iter().filter(|objective| objective.properties().reference) {
        let output = objective.forward(&reference(), Some(&reference()), &factors());
        assert_eq!(values(output.rewards.chosen), [0.0; 5], "{objective:?}");
        assert_eq!(values(output.rewards.rejected), [0.0; 5], "{objective:?}");
    }
    let output =
        Objective::new(Loss::default(), 0.1).forward(&reference(), Some(&reference()), &PerPair::default());
    assert_close(&values(output.losses), &[std::f64::consts::LN_2; 5], "ln 2");
}

#[test]
fn rewards_carry_no_tape() {
    let device = Device::flex().autodiff();
    let tracked = || Tensor::<1>::ones([5], &device).require_grad();
    for objective in objectives() {
        let (policy, reference) = (with_parts(tracked(), tracked()), with_parts(tracked(), tracked()));
        let output = objective.forward(&policy, Some(&reference), &PerPair::default());
        assert!(output.losses.is_tracked());
        assert!(!output.rewards.chosen.is_autodiff() && !output.rewards.rejected.is_autodiff());
    }
}

/// What belongs to single pairs is the same as the setting for all of them.
#[test]
fn what_each_pair_has_equals_what_all_have() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    for objective in objectives() {
        let forward = |objective: &Objective, factors| {
            let output = objective.forward(&policy, Some(&reference()), &factors);
            [output.losses, output.rewards.chosen, output.rewards.rejected].map(values)
        };
        let beta = |beta: f64| PerPair { beta: Some(in_f64(&[beta; 5], &device)), ..PerPair::default() };
        let expected = forward(&objective, PerPair::default());
        let mut other = objective.clone();
        other.beta = 7.0;
        let found = forward(&other, beta(objective.beta));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, &format!("{objective:?}"));
        }
    }
}

#[test]
fn margins_move_the_point_of_rest() {
    let device = Device::flex();
    let rewards = || Rewards::new(in_f64(&[0.5, -1.0], &device), in_f64(&[0.2, 1.0], &device));
    let logps = PairLogps::new(rewards().chosen, rewards().rejected);
    let zeros = PairLogps::new(in_f64(&[0.0; 2], &device), in_f64(&[0.0; 2], &device));
    let factors = PerPair { margin: Some(in_f64(&[0.3, -2.0], &device)), ..PerPair::default() };
    let output = Objective::new(Loss::default(), 1.0).forward(&logps, Some(&zeros), &factors);
    assert_close(&values(output.losses), &[std::f64::consts::LN_2; 2], "as far apart as they shall be");
    assert_close(&values(output.rewards.rejected), &[0.2, 1.0], "rewards are reported as they are");
    assert!(
        Loss::sigmoid_with_sft(1.0).properties().takes_margins && !Loss::mpo().properties().takes_margins
    );
    assert!(!Loss::Sft.properties().takes_margins && Loss::mdpo().properties().takes_margins);
}

#[test]
fn length_normalization_divides_rewards() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    let of = |loss| {
        values(Objective::new(loss, 0.1).forward(&policy, Some(&reference()), &PerPair::default()).losses)
    };
    let expected: Vec<f64> = (0..5)
        .map(|i| {
            let ratio = |logps: &[f64; 5], reference: Tensor<1>| logps[i] - values(reference)[i];
            let margin = 0.1
                * (ratio(&CHOSEN, reference().chosen) / CHOSEN_TOKENS[i]
                    - ratio(&REJECTED, reference().rejected) / REJECTED_TOKENS[i]);
            (-margin).exp().ln_1p()
        })
        .collect();
    assert_close(&of(Loss::SigmoidNorm { label_smoothing: 0.0 }), &expected, "sigmoid_norm");
    assert_close(&of(Loss::Sft), &[1.0, 2.0, 7.5, 1.3, 0.5], "nats a token");
}

#[test]
fn sums_weigh_their_terms() {
    let device = Device::flex();
    let policy = with_parts(in_f64(&CHOSEN, &device), in_f64(&REJECTED, &device));
    let of = |loss: &Loss| {
        let objective = Objective::new(loss.clone(), 0.1);
        values(objective.forward(&policy, Some(&reference()), &PerPair::default()).losses)
    };
    let expected: Vec<f64> =
        of(&Loss::default()).iter().zip(of(&Loss::Sft)).map(|(sigmoid, sft)| sigmoid + 0.5 * sft).collect();
    let sum = Loss::sigmoid_with_sft(0.5);
    assert_close(&of(&sum), &expected, "sum");
    let nothing = Loss::Sum { terms: Vec::new() };
    assert!(nothing.validate().is_err());
    assert_eq!(of(&nothing), [0.0; 5]);
    let broken = WeightedLoss::new(1.0, Loss::Sigmoid { label_smoothing: 2.0 });
    assert!(Loss::Sum { terms: vec![broken] }.validate().is_err());
}

#[test]
fn lengths_and_tails_are_those_of_the_mask() {
    let device = Device::flex().autodiff();
    let tokens = TokenLogps {
        logps: Tensor::from_floats([[-1.0, -2.0, -4.0], [-3.0, 0.0, 0.0], [-5.0, -6.0, 0.0]], &device),
        mask: Tensor::from_data([[true, true, true], [true, false, false], [true, true, false]], &device),
    };
    let rows = PairRows::new(vec![0, 1], vec![1, 2]);
    let logps = PairLogps::with_tails(&tokens, &rows);
    assert_eq!((values(logps.chosen), values(logps.rejected)), (vec![-7.0, -3.0], vec![-3.0, -11.0]));
    let lengths = logps.lengths.expect("lengths");
    assert!(!lengths.chosen.is_autodiff());
    assert_eq!((values(lengths.chosen), values(lengths.rejected)), (vec![3.0, 1.0], vec![1.0, 2.0]));
    let tails = logps.tails.expect("tails");
    assert_eq!((values(tails.chosen), values(tails.rejected)), (vec![-6.0, 0.0], vec![0.0, -6.0]));
}

#[test]
fn pairs_share_completions() {
    let sums = Tensor::from_floats([1.0, 2.0, 3.0], &Device::flex());
    let rows = PairRows::new(vec![0, 0], vec![2, 1]);
    let logps = PairLogps::select(sums, &rows);
    assert_eq!(values(logps.chosen), [1.0, 1.0]);
    assert_eq!(values(logps.rejected), [3.0, 2.0]);
}

#[test]
fn losses_are_named_by_their_type() {
    let parse = |text: &str| serde_json::from_str::<Loss>(text);
    assert_eq!(parse(r#"{"type": "sigmoid"}"#).expect("valid"), Loss::default());
    let smoothed = parse(r#"{"type": "sigmoid", "label_smoothing": 0.1}"#).expect("valid");
    assert_eq!(smoothed, Loss::Sigmoid { label_smoothing: 0.1 });
    for objective in objectives() {
        let value = serde_json::to_value(&objective.loss).expect("a loss is JSON");
        assert_eq!(value["type"], objective.loss.type_name());
        assert_eq!(serde_json::from_value::<Loss>(value).expect("its own text"), objective.loss);
    }
    assert!(parse(r#"{"type": "sigmoid", "smoothing": 0.1}"#).is_err());
    assert!(parse(r#"{"type": "none"}"#).is_err());
    assert_eq!("hinge".parse::<Loss>().expect("a name"), Loss::Hinge);
    assert_eq!("mpo".parse::<Loss>().expect("a name"), Loss::mpo());
    for unknown in ["sum", "dpo", ""] {
        let error = unknown.parse::<Loss>().expect_err("no loss of its own").to_string();
        assert!(error.contains("sigmoid_norm") && error.contains(unknown), "{error}");
    }
    for loss in [
        Loss::Sigmoid { label_smoothing: 0.5 },
        Loss::Sigmoid { label_smoothing: f64::NAN },
        Loss::ExoPair { label_smoothing: 0.0 },
        Loss::Discopop { tau: 0.0 },
        Loss::Simpo { gamma: f64::INFINITY, label_smoothing: 0.0 },
    ] {
        assert!(loss.validate().is_err(), "{loss:?}");
    }
}

#[test]
fn smoothing_follows_the_equation() {
    let device = Device::flex();
    let margins = [-400.0, -3.0, 0.0, 0.7, 90.0];
    let log_sigmoid = |x: f64| if x > 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() };
    for eps in [0.0, 0.1, 0.49] {
        let rewards = Rewards::new(in_f64(&margins, &device), in_f64(&[0.0; 5], &device));
        let expected = margins.map(|margin| -(1.0 - eps) * log_sigmoid(margin) - eps * log_sigmoid(-margin));
        assert_close(&values(sigmoid_loss(&rewards, eps)), &expected, "smoothing");
    }
}
