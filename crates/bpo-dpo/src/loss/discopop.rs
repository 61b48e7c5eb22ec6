//! A loss discovered by a language model.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

use super::Rewards;

/// Log-ratio modulated loss: logistic where the margin is negative, exponential where it is
/// positive.
///
/// ```text
/// m = r_w - r_l,  s = sigmoid(m / tau)
/// L = -(1 - s) * log sigmoid(m) + s * exp(-m)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion,
/// - `tau`: temperature of the transition between the two; 0.05 in the paper.
///
/// Lu et al., "Discovering Preference Optimization Algorithms with and for Large Language Models"
/// (arXiv 2406.08414), equation 5. TRL's `discopop`, which becomes NaN below a margin of -88 in
/// f32; here `s * exp(-m)` is one exponential.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn discopop_loss(rewards: &Rewards, tau: f64) -> Tensor<1> {
    let margins = rewards.margins();
    let modulation = margins.clone().div_scalar(tau);
    let logistic = sigmoid(modulation.clone().neg()) * log_sigmoid(margins.clone());
    (log_sigmoid(modulation) - margins).exp() - logistic
}
