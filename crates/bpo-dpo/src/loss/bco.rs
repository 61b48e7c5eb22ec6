//! Binary classifier optimization, for pairs.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::Rewards;

/// Loss of a binary classifier whose logit is the reward. Chosen completions are positive and
/// rejected ones negative.
///
/// ```text
/// L = -log sigmoid(r_w) - log sigmoid(-r_l)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion.
///
/// Jung et al., "Binary Classifier Optimization for Large Language Model Alignment" (arXiv
/// 2404.04656), without the shift of the rewards. TRL's `bco_pair`; a term of
/// [MPO](super::Loss::mpo).
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn bco_loss(rewards: &Rewards) -> Tensor<1> {
    (log_sigmoid(rewards.chosen.clone()) + log_sigmoid(rewards.rejected.clone().neg())).neg()
}
