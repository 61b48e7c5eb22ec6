//! The coefficient of the rewards.

use burn::tensor::Tensor;

use super::tensors::like;

/// The coefficient `beta` of the rewards.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per batch")]
pub enum Beta {
    /// One coefficient for all pairs.
    Shared(f64),
    /// One coefficient per pair, on no autodiff tape. `[pairs]`
    PerPair(Tensor<1>),
}

impl Beta {
    /// `beta * values`. `[pairs]`
    pub fn times(&self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Shared(beta) => values.mul_scalar(*beta),
            Self::PerPair(beta) => {
                let beta = like(beta, &values);
                values * beta
            }
        }
    }

    /// `values / beta^2`. `[pairs]`
    pub(crate) fn square_divides(&self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Shared(beta) => values.div_scalar(beta * beta),
            Self::PerPair(beta) => {
                let beta = like(beta, &values);
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
