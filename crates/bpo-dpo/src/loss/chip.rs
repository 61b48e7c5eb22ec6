//! CHiP: preferences between answers, images and tokens in one logit.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::tensors::constant_like;
use super::{Beta, PairDivergences, Rewards};

/// The loss of CHiP: the logit of DPO, plus a preference for the image over a weakened one, minus
/// the difference between the divergences of both completions from the reference.
///
/// ```text
/// L = -log sigmoid(r(m, y_w) - r(m, y_l) + r(m, y_w) - r(m', y_w)
///                  - beta tok_beta (KL(m, y_l) - stop_gradient(KL(m, y_w))))
/// ```
///
/// Where
/// - `r(m, y)`: reward of a completion for the image `m`; `y_w`, `y_l`: the chosen and the rejected
///   completion; `m'`: the image weakened, with diffusion noise of step 500 in the authors' code,
/// - `KL(m, y)`: divergence of the policy's distributions from the reference's, summed over the
///   tokens of the completion, see [`PairDivergences`]. This term is that of TDPO2 (Zeng et al.,
///   arXiv 2404.11999).
///
/// Fu et al., "CHiP: Cross-modal Hierarchical Direct Preference Optimization for Multimodal LLMs"
/// (arXiv 2501.16629); agrees with `chip_loss` of `trainers.py` in their code. Its weight of the tokens
/// in which the completions differ is
/// [`Objective::changed_token_weight`](super::Objective::changed_token_weight).
///
/// If images are weakened in several ways, `r(m', y_w)` is the mean over these. That is ours.
///
/// `divergences` may be `None` if `tok_beta` is 0.
///
/// # Shapes
/// All tensors are `[pairs]`.
///
/// # Panics
/// Panics if there are no rewards for [weakened](Rewards::weakened) images.
pub fn chip_loss(
    rewards: &Rewards,
    divergences: Option<&PairDivergences>,
    beta: &Beta,
    tok_beta: f64,
) -> Tensor<1> {
    let weakened = rewards.mean_weakened().expect("CHiP needs rewards for weakened images");
    let logits = rewards.margins() + rewards.chosen.clone() - weakened;
    let logits = match divergences {
        None => logits,
        Some(PairDivergences { chosen, rejected }) => {
            let chosen = constant_like(chosen, rejected);
            let excess = (rejected.clone() - chosen).cast(logits.dtype());
            logits - beta.times(excess).mul_scalar(tok_beta)
        }
    };
    log_sigmoid(logits).neg()
}
