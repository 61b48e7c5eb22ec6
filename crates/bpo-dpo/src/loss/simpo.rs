//! Simple preference optimization.

use burn::tensor::Tensor;

use super::{Beta, PairLengths, PairLogps, Rewards, sigmoid_loss};

/// Sigmoid loss of the policy's own log-probabilities per token, with a target margin. It has no
/// reference.
///
/// ```text
/// L = -(1 - eps) * log sigmoid(m) - eps * log sigmoid(-m)
/// m = beta * (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma
/// ```
///
/// Where
/// - `y_w`, `y_l`: the chosen and the rejected completion, `|y|` their numbers of tokens,
/// - `gamma`: the target margin,
/// - `eps`: `label_smoothing`.
///
/// Meng et al., "SimPO: Simple Preference Optimization with a Reference-Free Reward" (arXiv
/// 2405.14734), equation 6. Its `beta` is larger than DPO's, 2 and more. TRL's `simpo` in its CPO
/// trainer.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn simpo_loss(
    policy: &PairLogps,
    lengths: &PairLengths,
    beta: &Beta,
    gamma: f64,
    label_smoothing: f64,
) -> Tensor<1> {
    let likelihood = Rewards::new(policy.chosen.clone(), policy.rejected.clone()).per_token(lengths);
    let chosen = beta.times(likelihood.chosen).sub_scalar(gamma);
    sigmoid_loss(&Rewards::new(chosen, beta.times(likelihood.rejected)), label_smoothing)
}
