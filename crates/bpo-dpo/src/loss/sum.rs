//! Several losses at once.

use serde::{Deserialize, Serialize};

use super::{Loss, LossOutput, rewards};
use crate::logps::PairLogps;

/// A loss in a sum, and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Its factor.
    pub weight: f64,
    /// What is weighted.
    pub loss: Loss,
}

/// The weighted sum of losses, `L = sum_i w_i L_i`, as in MPO (Wang et al., arXiv 2411.10442, equation 1) and in TRL's lists
/// of `loss_type` and `loss_weights`. Rewards do not depend on the loss.
///
/// # Shapes
/// All tensors are `[pairs]`.
pub fn weighted_sum(terms: &[Term], policy: &PairLogps, reference: &PairLogps, beta: f64) -> LossOutput {
    let weighted = terms
        .iter()
        .map(|Term { weight, loss }| loss.forward(policy, reference, beta).losses.mul_scalar(*weight));
    // without a term the loss is zero; `Loss::validate` refuses that
    let losses = weighted.reduce(|sum, term| sum + term).unwrap_or_else(|| policy.chosen.zeros_like());
    let (chosen_rewards, rejected_rewards) = rewards(policy, reference, beta);
    LossOutput { losses, chosen_rewards, rejected_rewards }
}
