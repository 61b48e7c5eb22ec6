//! The hinge loss of SLiC.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::Rewards;

/// Hinge loss on the margin of the rewards.
///
/// ```text
/// L = max(0, 1 - (r_w - r_l))
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// Zhao et al., "SLiC-HF" (arXiv 2305.10425), with the rewards of DPO as in Liu et al.,
/// "Statistical Rejection Sampling Improves Preference Optimization" (arXiv 2309.06657). TRL's
/// `hinge`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn hinge_loss(rewards: &Rewards) -> Tensor<1> {
    relu(rewards.margins().neg().add_scalar(1.0))
}
