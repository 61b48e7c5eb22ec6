//! Supervised fine-tuning on the chosen completions.

use burn::tensor::Tensor;

use super::tensors::like;
use super::{PairLengths, PairLogps};

/// Negative log-likelihood per token of the chosen completion.
///
/// ```text
/// L = -log pi(y_w) / |y_w|
/// ```
///
/// Where
/// - `y_w`: the chosen completion,
/// - `|y_w|`: its number of tokens, the end token included.
///
/// As a small term next to a preference loss it keeps the chosen answers likely: Pang et al.,
/// "Iterative Reasoning Preference Optimization" (arXiv 2404.19733), equation 1. On its own it is
/// the baseline of a preference loss. TRL's `sft` loss averages over all tokens of a batch instead,
/// so that long answers count more.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn sft_loss(policy: &PairLogps, lengths: &PairLengths) -> Tensor<1> {
    policy.chosen.clone().neg() / like(&lengths.chosen, &policy.chosen)
}
