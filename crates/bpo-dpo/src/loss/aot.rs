//! Alignment by optimal transport.

use burn::tensor::Tensor;

use super::tensors::constant_like;
use super::{Beta, PairLogps, Rewards, sigmoid_loss};

/// Sigmoid loss between sorted values: pushes the distribution of the policy's margins above that
/// of the reference's.
///
/// ```text
/// a = sort(beta * (log pi(y_w) - log pi(y_l)))
/// b = sort(beta * (log pi_ref(y_w) - log pi_ref(y_l)))
/// L = -(1 - eps) * log sigmoid(a - b) - eps * log sigmoid(b - a)
/// ```
///
/// Where
/// - `y_w`, `y_l`: the chosen and the rejected completion,
/// - `eps`: `label_smoothing`; without a reference `b` is zero.
///
/// Melnyk et al., "Distributional Preference Alignment of LLMs via Optimal Transport" (arXiv
/// 2406.05882), paired. TRL's `aot`. A pair's loss depends on the other pairs of its batch; values
/// are in the sorted order, not in that of the pairs.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn aot_loss(
    policy: &PairLogps,
    reference: Option<&PairLogps>,
    beta: &Beta,
    label_smoothing: f64,
) -> Tensor<1> {
    let margins = |logps: &PairLogps| beta.times(logps.chosen.clone() - logps.rejected.clone()).sort(0);
    let policy = margins(policy);
    let reference = match reference {
        Some(reference) => constant_like(&margins(reference), &policy),
        None => policy.zeros_like(),
    };
    sigmoid_loss(&Rewards::new(policy, reference), label_smoothing)
}

/// Sigmoid loss between sorted values: pushes the distribution of the chosen completions' rewards
/// above that of the rejected ones'.
///
/// ```text
/// L = -(1 - eps) * log sigmoid(sort(r_w) - sort(r_l)) - eps * log sigmoid(sort(r_l) - sort(r_w))
/// ```
///
/// Where
/// - `r_w`, `r_l`: rewards of the chosen and the rejected completions,
/// - `eps`: `label_smoothing`.
///
/// Unpaired AOT (arXiv 2406.05882), TRL's `aot_unpaired`. Values are in the sorted order, as in
/// [`aot_loss`].
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn aot_unpaired_loss(rewards: &Rewards, label_smoothing: f64) -> Tensor<1> {
    let sorted = Rewards::new(rewards.chosen.clone().sort(0), rewards.rejected.clone().sort(0));
    sigmoid_loss(&sorted, label_smoothing)
}
