//! Identity preference optimization.

use burn::tensor::Tensor;

use super::{Beta, Rewards};

/// Squared distance of the margin from where it should be, which does not grow for ever as that of the sigmoid loss.
///
/// ```text
/// L = (h - 1 / (2 beta))^2,  h = r_w / beta - r_l / beta
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion, [a token](Rewards::per_token) on average,
/// - `beta`: the paper's `tau`.
///
/// Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences" (arXiv 2310.12036),
/// equation 17. Its authors average over the tokens, as TRL's `ipo` does, whose comment says so.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn ipo_loss(rewards: &Rewards, beta: &Beta) -> Tensor<1> {
    beta.square_divides(rewards.margins().sub_scalar(0.5).square())
}
