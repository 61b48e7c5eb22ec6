//! Supervised fine-tuning on the chosen completions.

use burn::tensor::Tensor;

use super::tensors::constant_like;
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
/// As an additional term of a preference loss it keeps the chosen answers likely: Pang et al.,
/// "Iterative Reasoning Preference Optimization" (arXiv 2404.19733), equation 1. Alone it is a
/// baseline for preference losses. TRL's `sft` loss averages over all tokens of a batch instead, so
/// that long answers have more weight.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn sft_loss(policy: &PairLogps, lengths: &PairLengths) -> Tensor<1> {
    policy.chosen.clone().neg() / constant_like(&lengths.chosen, &policy.chosen)
}
