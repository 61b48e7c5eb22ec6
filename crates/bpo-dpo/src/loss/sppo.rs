//! Self-play preference optimization with hard preferences.

use burn::tensor::Tensor;

use super::{Beta, Rewards};

/// Squared distances of both log-ratios from their targets, `1 / (2 beta)` above and below zero.
///
/// ```text
/// L = (r_w / beta - 1 / (2 beta))^2 + (r_l / beta + 1 / (2 beta))^2
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// Wu et al., "Self-Play Preference Optimization" (arXiv 2405.00675), equation 4.7 with probability
/// 1 of the chosen completion. TRL's `sppo_hard`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn sppo_loss(rewards: &Rewards, beta: &Beta) -> Tensor<1> {
    let chosen = rewards.chosen.clone().sub_scalar(0.5).square();
    let rejected = rewards.rejected.clone().add_scalar(0.5).square();
    beta.divide_by_square(chosen + rejected)
}
