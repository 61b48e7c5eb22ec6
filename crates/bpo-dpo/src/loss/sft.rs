//! Supervised fine-tuning on the chosen completions.

use burn::tensor::Tensor;

use super::{LossOutput, rewards};
use crate::logps::PairLogps;

/// Negative log-likelihood of the chosen completion, a token on average.
///
/// ```text
/// L = -log pi(y_w) / |y_w|
/// ```
///
/// Where
/// - `y_w`: the chosen completion,
/// - `|y_w|`: its number of tokens, the end token included.
///
/// As a small term beside a preference loss it keeps the chosen answers likely: Pang et al., "Iterative Reasoning
/// Preference Optimization" (arXiv 2404.19733), equation 1. On its own it is the control that a preference loss has to
/// beat. TRL's `sft` loss averages over all tokens of a batch instead, so that long answers count more.
///
/// # Shapes
/// All tensors are `[pairs]`.
///
/// # Panics
/// If the policy's log-probabilities have no [`lengths`](PairLogps::lengths).
pub fn sft_loss(policy: &PairLogps, reference: &PairLogps, beta: f64) -> LossOutput {
    let lengths = policy.lengths.as_ref().expect("the loss of a token needs the lengths of the completions");
    let lengths = match policy.chosen.is_autodiff() {
        true => Tensor::from_inner(lengths.chosen.clone()),
        false => lengths.chosen.clone(),
    };
    let losses = policy.chosen.clone().neg() / lengths.cast(policy.chosen.dtype());
    let (chosen_rewards, rejected_rewards) = rewards(policy, reference, beta);
    LossOutput { losses, chosen_rewards, rejected_rewards }
}
