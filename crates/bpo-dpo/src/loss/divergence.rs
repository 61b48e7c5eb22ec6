//! Measures of the distance from the reference.

use std::f64::consts::LN_2;

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use serde::{Deserialize, Serialize};

use super::LossError;
use super::builtin::without_settings;
use super::numbers::{NUMBER, fits_f32};

/// Maximum exponent, for which f32 still holds the square of the result. In TRL it is 80, and
/// forward KL has no limit.
const MAX_EXPONENT: f64 = 40.0;
/// If `alpha` differs from 1 by less, the alpha divergence is computed as the reverse KL
/// divergence, as in TRL.
const ALPHA_IS_ONE: f64 = 1e-6;

/// An f-divergence between policy and reference. The reward is `beta * f'(t)` with `t = pi(y) /
/// pi_ref(y)`: Wang et al., "Beyond Reverse KL" (arXiv 2309.16240). TRL has the same four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Divergence {
    /// `f'(t) = log t`: DPO.
    #[default]
    #[serde(deserialize_with = "without_settings")]
    ReverseKl,
    /// `f'(t) = 1 - 1 / t`.
    #[serde(deserialize_with = "without_settings")]
    ForwardKl,
    /// Jensen-Shannon: `f'(t) = log 2 + log(t / (t + 1))`.
    #[serde(deserialize_with = "without_settings")]
    JsDivergence,
    /// `f'(t) = (t^(alpha - 1) - 1) / (alpha - 1)`: between the forward (0) and the reverse (1) KL
    /// divergence.
    AlphaDivergence {
        /// The order of the divergence.
        #[serde(default = "half")]
        alpha: f64,
    },
}

fn half() -> f64 {
    0.5
}

impl Divergence {
    /// Returns `f'(t)` for `log t = log pi(y) - log pi_ref(y)`, `[pairs]`. Exponents are clamped at
    /// 40.
    pub fn score(self, log_ratio: Tensor<1>) -> Tensor<1> {
        match self {
            Self::ReverseKl => log_ratio,
            Self::ForwardKl => power(log_ratio, -1.0),
            Self::JsDivergence => log_sigmoid(log_ratio).add_scalar(LN_2),
            Self::AlphaDivergence { alpha } if (alpha - 1.0).abs() < ALPHA_IS_ONE => log_ratio,
            Self::AlphaDivergence { alpha } => power(log_ratio, alpha - 1.0),
        }
    }

    pub(crate) fn validate(self) -> Result<(), LossError> {
        match self {
            Self::AlphaDivergence { alpha } if !fits_f32(alpha) => Err(LossError::Setting {
                key: "divergence.alpha",
                expected: NUMBER,
                found: alpha.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// Returns `(t^exponent - 1) / exponent`.
fn power(log_ratio: Tensor<1>, exponent: f64) -> Tensor<1> {
    let x = log_ratio.mul_scalar(exponent).clamp_max(MAX_EXPONENT);
    // e^x - 1 = tanh(x / 2) (e^x + 1) does not cancel for a small exponent
    let grown = x.clone().div_scalar(2.0).tanh() * x.exp().add_scalar(1.0);
    grown.div_scalar(exponent)
}
