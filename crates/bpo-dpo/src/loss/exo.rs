//! Efficient exact optimization.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

use super::Rewards;

/// Reverse KL divergence of the preference of the policy from the annotated one, which has the
/// probability `1 - eps`.
///
/// ```text
/// q = sigmoid(r_w - r_l)
/// L = q * (log q - log(1 - eps)) + (1 - q) * (log(1 - q) - log eps)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion,
/// - `eps`: `label_smoothing`, above 0; the paper takes 1e-3.
///
/// Ji et al., "Towards Efficient Exact Optimization of Language Model Alignment" (arXiv
/// 2402.00856), equation 16 for two completions. TRL's `exo_pair`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn exo_loss(rewards: &Rewards, label_smoothing: f64) -> Tensor<1> {
    let side = |margins: Tensor<1>, target: f64| {
        sigmoid(margins.clone()) * log_sigmoid(margins).sub_scalar(target.ln())
    };
    let margins = rewards.margins();
    side(margins.clone(), 1.0 - label_smoothing) + side(margins.neg(), label_smoothing)
}
