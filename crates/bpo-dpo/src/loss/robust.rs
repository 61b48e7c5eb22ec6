//! Provably robust DPO.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::Rewards;

/// The sigmoid loss without the bias of wrong labels.
///
/// ```text
/// L = (-(1 - eps) * log sigmoid(r_w - r_l) + eps * log sigmoid(r_l - r_w)) / (1 - 2 eps)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion,
/// - `eps`: `label_smoothing`, the probability that a preference is labelled the wrong way round,
///   below 1/2.
///
/// Chowdhury et al., "Provably Robust DPO" (arXiv 2403.00409). TRL's `robust`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn robust_loss(rewards: &Rewards, label_smoothing: f64) -> Tensor<1> {
    let margins = rewards.margins();
    let right = log_sigmoid(margins.clone()).mul_scalar(label_smoothing - 1.0);
    let flipped = log_sigmoid(margins.neg()).mul_scalar(label_smoothing);
    (right + flipped).div_scalar(1.0 - 2.0 * label_smoothing)
}
