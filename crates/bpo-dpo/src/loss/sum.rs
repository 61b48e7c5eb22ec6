//! Several losses at once.

use serde::{Deserialize, Serialize};

use super::{Loss, LossOutput};
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
///
/// # Panics
/// If there is no term.
pub fn weighted_sum(terms: &[Term], policy: &PairLogps, reference: &PairLogps, beta: f64) -> LossOutput {
    let mut outputs = terms.iter().map(|Term { weight, loss }| {
        let output = loss.forward(policy, reference, beta);
        LossOutput { losses: output.losses.mul_scalar(*weight), ..output }
    });
    let first = outputs.next().expect("a sum of losses has at least one term");
    outputs.fold(first, |sum, term| LossOutput { losses: sum.losses + term.losses, ..sum })
}
