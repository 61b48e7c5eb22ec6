//! Identity preference optimization.

use burn::tensor::Tensor;

use super::{Beta, Rewards};

/// Squared distance of the margin from a target, so that the margin does not grow without bound as
/// with the sigmoid loss.
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
    beta.square_divides(rewards.margins().sub_scalar(0.5).square())
}
