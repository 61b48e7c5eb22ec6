//! The loss of the DPO paper.

use burn::tensor::activation::log_sigmoid;

use super::{LossOutput, rewards};
use crate::logps::PairLogps;

/// Sigmoid loss, the negative log-likelihood of the preferences under the Bradley-Terry model.
///
/// ```text
/// h = (log pi(y_w) - log pi_ref(y_w)) - (log pi(y_l) - log pi_ref(y_l))
/// L = -(1 - eps) * log sigmoid(beta * h) - eps * log sigmoid(-beta * h)
/// ```
///
/// Where
/// - `y_w`, `y_l`: the chosen and the rejected completion,
/// - `pi`, `pi_ref`: the policy and its reference,
/// - `beta`: how strongly the policy is held to the reference,
/// - `eps`: `label_smoothing`, the probability that a preference is the wrong way round.
///
/// With `eps = 0` it is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), which
/// BPO uses (arXiv 2403.08730); `eps > 0` is conservative DPO (Mitchell, <https://ericmitchell.ai/cdpo.pdf>).
/// TRL's `sigmoid` loss ignores its `label_smoothing`; the original DPO code does not.
///
/// `log sigmoid` is computed without overflow for any finite `h`.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn sigmoid_loss(
    policy: &PairLogps,
    reference: &PairLogps,
    beta: f64,
    label_smoothing: f64,
) -> LossOutput {
    let chosen = policy.chosen.clone() - reference.chosen.clone();
    let rejected = policy.rejected.clone() - reference.rejected.clone();
    let logits = (chosen - rejected).mul_scalar(beta);
    let kept = log_sigmoid(logits.clone()).mul_scalar(label_smoothing - 1.0);
    let losses = match label_smoothing {
        0.0 => kept,
        eps => kept - log_sigmoid(logits.neg()).mul_scalar(eps),
    };
    let (chosen_rewards, rejected_rewards) = rewards(policy, reference, beta);
    LossOutput { losses, chosen_rewards, rejected_rewards }
}
