//! Weighted sums of losses.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::numbers::{NUMBER, fits_f32};
use super::{Loss, LossError, LossInputs, LossProperties, PreferenceLoss};

/// A loss in a sum, with its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedLoss<L = Loss> {
    /// The weight.
    pub weight: f64,
    /// The loss.
    pub loss: L,
}

impl<L> WeightedLoss<L> {
    /// Creates a weighted loss.
    pub fn new(weight: f64, loss: L) -> Self {
        Self { weight, loss }
    }
}

/// A weighted sum of losses, `L = sum_i w_i L_i`, which may include custom losses. [`Loss::Sum`] is
/// a sum of built-in losses.
#[derive(Clone, Debug)]
pub struct WeightedSum {
    terms: Vec<WeightedLoss<Arc<dyn PreferenceLoss>>>,
}

impl WeightedSum {
    /// Creates a sum without terms.
    pub fn new() -> Self {
        Self { terms: Vec::new() }
    }

    /// Adds a loss with its weight.
    #[must_use]
    pub fn with(mut self, weight: f64, loss: impl PreferenceLoss + 'static) -> Self {
        self.terms.push(WeightedLoss::new(weight, Arc::new(loss)));
        self
    }
}

impl Default for WeightedSum {
    fn default() -> Self {
        Self::new()
    }
}

impl PreferenceLoss for WeightedSum {
    fn properties(&self) -> LossProperties {
        properties(&self.terms)
    }

    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
        forward(&self.terms, inputs)
    }

    fn validate(&self) -> Result<(), LossError> {
        validate(&self.terms)
    }

    fn name(&self) -> String {
        name(&self.terms)
    }
}

/// Returns the properties of a sum. A sum needs all inputs that one of its terms needs. It takes
/// margins if all terms that compare completions do, and a divergence if all terms do.
pub(super) fn properties<L: PreferenceLoss>(terms: &[WeightedLoss<L>]) -> LossProperties {
    let of: Vec<LossProperties> = terms.iter().map(|term| term.loss.properties()).collect();
    let any = |has: fn(&LossProperties) -> bool| of.iter().any(has);
    let mut comparing = of.iter().filter(|term| term.compares()).peekable();
    LossProperties {
        reference: any(|term| term.reference),
        rejected: any(|term| term.rejected),
        weakened: any(|term| term.weakened),
        contrast: any(|term| term.contrast),
        lengths: any(|term| term.lengths),
        statistics: any(|term| term.statistics),
        token_divergences: any(|term| term.token_divergences),
        changed_tokens: any(|term| term.changed_tokens),
        batch_wide: any(|term| term.batch_wide),
        takes_margins: any(|term| term.rejected)
            && of.iter().all(|term| !term.rejected || term.takes_margins),
        takes_divergence: of.iter().all(|term| term.takes_divergence),
        per_token: comparing.peek().is_some() && comparing.all(|term| term.per_token),
    }
}

/// Computes the sum of the terms, `[pairs]`. It is zero without terms, which [`validate`] refuses.
pub(super) fn forward<L: PreferenceLoss>(terms: &[WeightedLoss<L>], inputs: &LossInputs<'_>) -> Tensor<1> {
    let weighted = terms.iter().map(|term| term.loss.forward(inputs).mul_scalar(term.weight));
    weighted.reduce(|sum, term| sum + term).unwrap_or_else(|| inputs.policy.chosen.zeros_like())
}

pub(super) fn validate<L: PreferenceLoss>(terms: &[WeightedLoss<L>]) -> Result<(), LossError> {
    if terms.is_empty() {
        return Err(LossError::Setting {
            key: "loss.terms",
            expected: "at least one loss",
            found: "none".into(),
        });
    }
    terms.iter().try_for_each(|term| {
        LossError::check("loss.terms.weight", fits_f32(term.weight), NUMBER, term.weight)?;
        term.loss.validate()
    })
}

pub(super) fn name<L: PreferenceLoss>(terms: &[WeightedLoss<L>]) -> String {
    let terms: Vec<String> =
        terms.iter().map(|term| format!("{} {}", term.weight, term.loss.name())).collect();
    format!("sum ({})", terms.join(", "))
}
