//! SymMPO: preferences between answers for two images, in both directions.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::{Beta, Contrasted, Rewards};

/// The loss of SymMPO: DPO's preference between answers, the preference for the right answer for each
/// of two images over the answer for the other one, an anchor for both right answers, and a penalty
/// for preferences of different strength.
///
/// ```text
/// L = -log sigmoid(r(m, y_w) - r(m, y_l))
///     - lambda (log sigmoid(r(m, y_w) - r(m, y')) + log sigmoid(r(m', y') - r(m', y_w)))
///     - log sigmoid(r(m, y_w)) - log sigmoid(r(m', y'))
///     + consistency (D1 - D2)^2
/// D1 = (r(m, y_w) - r(m, y')) / beta,  D2 = (r(m', y') - r(m', y_w)) / beta
/// ```
///
/// Where
/// - `r(m, y)`: reward of an answer for the images `m`; `y_w`, `y_l`: the chosen and the rejected
///   completion,
/// - `m'`, `y'`: the other images and their answer: the [contrast](bpo_pairs::PreferencePair::contrast)
///   of the pair.
///
/// Liu et al., "Mitigating Hallucination Through Theory-Consistent Symmetric Multimodal Preference
/// Optimization" (arXiv 2506.11712); agrees with `trainers.py` of their code (github.com/Liuwq-bit/SymMPO).
///
/// # Shapes
/// All tensors are `[pairs]`.
///
/// # Panics
/// Panics if there are no rewards of [contrasts](Rewards::contrast).
pub fn symmpo_loss(rewards: &Rewards, beta: &Beta, lambda: f64, consistency: f64) -> Tensor<1> {
    let margins = rewards.contrast_margins();
    let (Some([here, there]), Some(Contrasted { both, .. })) = (margins, &rewards.contrast) else {
        panic!("SymMPO needs rewards of contrasts");
    };
    let preference = |margin: Tensor<1>| log_sigmoid(margin).neg();
    let between_images = preference(here.clone()) + preference(there.clone());
    let anchors = preference(rewards.chosen.clone()) + preference(both.clone());
    let difference = beta.divide_by_square((here - there).square());
    preference(rewards.margins())
        + between_images.mul_scalar(lambda)
        + anchors
        + difference.mul_scalar(consistency)
}
