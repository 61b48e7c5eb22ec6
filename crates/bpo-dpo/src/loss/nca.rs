//! Noise contrastive alignment.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::Rewards;

/// Loss that compares each completion with the reference, so that the likelihood of the chosen one
/// does not decrease with that of the rejected one.
///
/// ```text
/// L = -log sigmoid(r_w) - 1/2 log sigmoid(-r_w) - 1/2 log sigmoid(-r_l)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards" (arXiv
/// 2402.05369), the pairwise NCA. TRL's `nca_pair`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn nca_loss(rewards: &Rewards) -> Tensor<1> {
    let wrong = log_sigmoid(rewards.chosen.clone().neg()) + log_sigmoid(rewards.rejected.clone().neg());
    (log_sigmoid(rewards.chosen.clone()) + wrong.mul_scalar(0.5)).neg()
}
