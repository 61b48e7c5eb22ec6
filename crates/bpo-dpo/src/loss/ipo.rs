//! Identity preference optimization.

use burn::tensor::Tensor;

use super::{Beta, Rewards};

/// Squared distance of the margin from a target. Unlike with the sigmoid loss, the margin does not
/// grow without bound.
///
/// ```text
/// L = (h - 1 / (2 beta))^2,  h = r_w / beta - r_l / beta
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion, [per
///   token](Rewards::per_token),
/// - `beta`: the paper's `tau`.
///
/// Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences"
/// (arXiv 2310.12036), equation 17. The mean over tokens follows TRL's `ipo`, which refers to the
/// paper's authors.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn ipo_loss(rewards: &Rewards, beta: &Beta) -> Tensor<1> {
    beta.divide_by_square(rewards.margins().sub_scalar(0.5).square())
}
