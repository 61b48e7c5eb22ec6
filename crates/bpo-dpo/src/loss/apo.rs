//! Anchored preference optimization.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::Rewards;

/// Loss that increases the likelihood of chosen completions and decreases that of rejected ones,
/// for chosen answers that are better than those of the model.
///
/// ```text
/// L = 1 - sigmoid(r_w) + sigmoid(r_l)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions" (arXiv
/// 2408.06266), equation 7. TRL's `apo_zero`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn apo_zero_loss(rewards: &Rewards) -> Tensor<1> {
    sigmoid(rewards.chosen.clone()).neg().add_scalar(1.0) + sigmoid(rewards.rejected.clone())
}

/// Loss that decreases the likelihood of both completions, more so of the rejected one, for chosen
/// answers that are worse than those of the model.
///
/// ```text
/// L = sigmoid(r_w) + 1 - sigmoid(r_w - r_l)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// arXiv 2408.06266, equation 8. TRL's `apo_down`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn apo_down_loss(rewards: &Rewards) -> Tensor<1> {
    sigmoid(rewards.chosen.clone()) + sigmoid(rewards.margins()).neg().add_scalar(1.0)
}
