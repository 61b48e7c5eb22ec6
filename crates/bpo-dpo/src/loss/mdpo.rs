//! The terms that mDPO adds to DPO: a preference between images, and an anchor for the chosen
//! completion.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::Rewards;
use super::rewards::mean_of;

/// Conditional preference loss: increases the likelihood of the chosen completion for its image
/// relative to a weakened one.
///
/// ```text
/// L = -log sigmoid(r(m, y_w) - r(m', y_w))
/// ```
///
/// Where
/// - `r(m, y_w)`: reward of the chosen completion for the image `m`,
/// - `m'`: the image weakened; the authors keep a random crop of up to a fifth of it.
///
/// If images are weakened in several ways, the loss is the mean over these. That is ours.
///
/// Wang et al., "mDPO: Conditional Preference Optimization for Multimodal Large Language Models"
/// (arXiv 2406.11839); agrees with `mdpo_trainer.py` of their code.
///
/// # Shapes
/// All tensors are `[pairs]`.
///
/// # Panics
/// Panics if there are no rewards for [weakened](Rewards::weakened) images.
pub fn conditional_loss(rewards: &Rewards) -> Tensor<1> {
    let losses =
        rewards.weakened.iter().map(|weakened| log_sigmoid(rewards.chosen.clone() - weakened.clone()).neg());
    mean_of(losses).expect("a conditional preference needs rewards for weakened images")
}

/// Anchor loss: keeps the reward of the chosen completion above `delta`, so that its likelihood
/// does not decrease with that of the rejected one.
///
/// ```text
/// L = -log sigmoid(r_w - delta)
/// ```
///
/// Where
/// - `r_w`: reward of the chosen completion.
///
/// From mDPO (arXiv 2406.11839), where `delta` is 0; agrees with `mdpo_trainer.py` of its code.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn anchor_loss(rewards: &Rewards, delta: f64) -> Tensor<1> {
    log_sigmoid(rewards.chosen.clone().sub_scalar(delta)).neg()
}
