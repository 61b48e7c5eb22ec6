//! Preference losses: pure functions of log-probabilities.
//!
//! Each loss has a file with its equation; [`Loss`] selects one. To add a loss: a file with a function from two
//! [`PairLogps`] to a [`LossOutput`], a variant here, and its rows of the golden table in `tests/suite/loss.rs`.

mod sft;
mod sigmoid;
mod sum;

pub use sft::sft_loss;
pub use sigmoid::sigmoid_loss;
pub use sum::{Term, weighted_sum};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::logps::PairLogps;

/// What a loss gives for each pair, unreduced.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// The loss. `[pairs]`
    pub losses: Tensor<1>,
    /// Implicit reward of the chosen completion, `beta * (log pi - log pi_ref)`; on no autodiff tape. `[pairs]`
    pub chosen_rewards: Tensor<1>,
    /// Implicit reward of the rejected completion; on no autodiff tape. `[pairs]`
    pub rejected_rewards: Tensor<1>,
}

/// Which loss to minimize, with the settings that only it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Loss {
    /// The loss of the DPO paper, see [`sigmoid_loss`].
    Sigmoid {
        /// Probability that a preference is the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// The likelihood of the chosen completions alone, see [`sft_loss`].
    Sft,
    /// Several losses at once, see [`weighted_sum`].
    Sum {
        /// At least one.
        terms: Vec<Term>,
    },
}

impl Default for Loss {
    /// The sigmoid loss without smoothing, as BPO trains with it (arXiv 2403.08730).
    fn default() -> Self {
        Self::Sigmoid { label_smoothing: 0.0 }
    }
}

impl Loss {
    /// The loss of each pair.
    ///
    /// # Shapes
    /// All tensors are `[pairs]`.
    ///
    /// # Panics
    /// If the loss is or holds [`Sft`](Self::Sft) and the policy's log-probabilities have no
    /// [`lengths`](PairLogps::lengths); those from [`PairLogps::of_tokens`] have.
    pub fn forward(&self, policy: &PairLogps, reference: &PairLogps, beta: f64) -> LossOutput {
        match self {
            Self::Sigmoid { label_smoothing } => sigmoid_loss(policy, reference, beta, *label_smoothing),
            Self::Sft => sft_loss(policy, reference, beta),
            Self::Sum { terms } => weighted_sum(terms, policy, reference, beta),
        }
    }

    /// Whether the loss depends on the rejected completions and on the reference. If not, the trainer computes neither.
    pub fn compares(&self) -> bool {
        match self {
            Self::Sigmoid { .. } => true,
            Self::Sft => false,
            Self::Sum { terms } => terms.iter().any(|term| term.loss.compares()),
        }
    }

    /// The loss of a pair while the policy still equals its reference; `None` if it depends on the pair.
    pub fn at_reference(&self) -> Option<f64> {
        match self {
            Self::Sigmoid { .. } => Some(std::f64::consts::LN_2),
            Self::Sft => None,
            Self::Sum { terms } => {
                terms.iter().map(|Term { weight, loss }| Some(weight * loss.at_reference()?)).sum()
            }
        }
    }

    /// The sigmoid loss with a term of weight `weight` that keeps the chosen answers likely. It needs
    /// [`lengths`](PairLogps::lengths).
    pub fn sigmoid_with_sft(weight: f64) -> Self {
        Self::Sum {
            terms: vec![Term { weight: 1.0, loss: Self::default() }, Term { weight, loss: Self::Sft }],
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`DpoError::Setting`] for a setting outside its range.
    pub fn validate(&self) -> Result<(), DpoError> {
        match self {
            Self::Sigmoid { label_smoothing } if !(0.0..0.5).contains(label_smoothing) => {
                Err(DpoError::Setting {
                    key: "loss.label_smoothing",
                    expected: "at least 0 and less than 0.5",
                    found: label_smoothing.to_string(),
                })
            }
            Self::Sigmoid { .. } | Self::Sft => Ok(()),
            Self::Sum { terms } if terms.is_empty() => Err(DpoError::Setting {
                key: "loss.terms",
                expected: "at least one loss",
                found: "none".into(),
            }),
            Self::Sum { terms } => terms.iter().try_for_each(|Term { weight, loss }| {
                if !weight.is_finite() {
                    return Err(DpoError::Setting {
                        key: "loss.terms.weight",
                        expected: "a finite number",
                        found: weight.to_string(),
                    });
                }
                loss.validate()
            }),
        }
    }
}

/// Implicit rewards of both completions. They are for reading, so they leave the tape.
fn rewards(policy: &PairLogps, reference: &PairLogps, beta: f64) -> (Tensor<1>, Tensor<1>) {
    let policy = policy.clone().inner();
    let reference = reference.clone().inner();
    (
        (policy.chosen - reference.chosen).mul_scalar(beta),
        (policy.rejected - reference.rejected).mul_scalar(beta),
    )
}
