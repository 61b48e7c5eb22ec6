//! The losses against TRL's own values.

mod properties;

use std::fs;

use bpo_dpo::loss::{
    Contrasted, Divergence, Loss, Objective, PairLengths, PairLogps, PairRows, PairTails, PerPair,
    PreferenceLoss, Rewards, WeightedLoss, sigmoid_loss,
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
fn sft_loss_weighted_by_tokens_equals_trl() {
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
fn weighted_likelihood_equals_weights_times_likelihood() {
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
fn invalid_loss_settings_are_errors() {
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
fn small_exponents_do_not_lose_precision() {
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
