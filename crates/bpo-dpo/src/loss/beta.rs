//! The coefficient `beta` of the rewards.

use burn::tensor::Tensor;

use super::tensors::constant_like;

/// The coefficient `beta` of the rewards.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per batch")]
pub enum Beta {
    /// One coefficient for all pairs.
    Shared(f64),
    /// One coefficient per pair, `[pairs]`, without an autodiff tape.
    PerPair(Tensor<1>),
}

impl Beta {
    /// Returns `beta * values`, `[pairs]`.
    pub fn times(&self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Shared(beta) => values.mul_scalar(*beta),
            Self::PerPair(beta) => {
                let beta = constant_like(beta, &values);
                values * beta
            }
        }
    }

    /// Returns `values / beta^2`, `[pairs]`.
    pub(crate) fn divide_by_square(&self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Shared(beta) => values.div_scalar(beta * beta),
            Self::PerPair(beta) => {
                let beta = constant_like(beta, &values);
                values / beta.square()
            }
        }
    }
}

impl From<f64> for Beta {
    fn from(beta: f64) -> Self {
        Self::Shared(beta)
    }
}

impl From<Tensor<1>> for Beta {
    fn from(beta: Tensor<1>) -> Self {
        Self::PerPair(beta)
    }
}
