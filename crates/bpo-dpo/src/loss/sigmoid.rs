//! The loss of the DPO paper.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::Rewards;

/// Sigmoid loss, the negative log-likelihood of the preferences under the Bradley-Terry model.
///
/// ```text
/// L = -(1 - eps) * log sigmoid(r_w - r_l) - eps * log sigmoid(r_l - r_w)
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completion,
/// - `eps`: `label_smoothing`, the probability that a preference is labelled the wrong way round.
///
/// With `eps = 0` it is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv
/// 2305.18290), which BPO uses (arXiv 2403.08730); `eps > 0` is conservative DPO (Mitchell,
/// <https://ericmitchell.ai/cdpo.pdf>). TRL's `sigmoid` loss ignores its `label_smoothing`; the
/// original DPO code does not.
///
/// With rewards [per token](Rewards::per_token) it is TRL's `sigmoid_norm`, the length-normalized
/// DPO of Tülu 3 (arXiv 2411.15124).
///
/// `log sigmoid` is computed without overflow for any finite margin.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn sigmoid_loss(rewards: &Rewards, label_smoothing: f64) -> Tensor<1> {
    let margins = rewards.margins();
    let kept = log_sigmoid(margins.clone()).mul_scalar(label_smoothing - 1.0);
    match label_smoothing {
        0.0 => kept,
        eps => kept - log_sigmoid(margins.neg()).mul_scalar(eps),
    }
}
