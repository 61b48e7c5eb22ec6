//! A loss with all that it is computed under.

use burn::tensor::Tensor;

use super::rewards::like;
use super::{Beta, Divergence, Inputs, Loss, Rewards};
use crate::error::DpoError;
use crate::logps::{PairLengths, PairLogps};
use crate::tensors::off_tape;

/// What is minimized: a loss, how strongly the policy is held to the reference, and how that is measured.
///
/// ```
/// use bpo_dpo::logps::PairLogps;
/// use bpo_dpo::loss::{Loss, Objective, PerPair};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let logps = |chosen: f32, rejected: f32| PairLogps::new(
///     Tensor::from_floats([chosen], &device),
///     Tensor::from_floats([rejected], &device),
/// );
/// let objective = Objective::new(Loss::Hinge, 0.1);
/// let output = objective.forward(&logps(-10.0, -14.0), Some(&logps(-12.0, -13.0)), &PerPair::default());
/// assert!((output.losses.into_scalar::<f32>() - 0.7).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Objective {
    /// The loss.
    pub loss: Loss,
    /// How strongly the policy is held to the reference.
    pub beta: f64,
    /// How the distance from the reference is measured.
    pub divergence: Divergence,
    /// The reference counts every completion as equally likely, so that there is none: `r = beta * log pi(y)`. TRL's
    /// `reference_free` of old.
    pub reference_free: bool,
    /// How much the tokens of the longer completion count that lie behind the length of the shorter one, from 0 to 1;
    /// `None` as much as the others. Liu et al., "Length Desensitization in Direct Preference Optimization"
    /// (arXiv 2409.06411); TRL's `ld_alpha`. The likelihood in [`Loss::Sft`] is that of all tokens.
    pub ld_alpha: Option<f64>,
}

/// What only some pairs have, each `[pairs]` and on no autodiff tape.
#[derive(Clone, Debug, Default)]
pub struct PerPair {
    /// Coefficients instead of [`Objective::beta`].
    pub beta: Option<Tensor<1>>,
    /// Margins that the rewards shall have, in units of the reward: the offset of Amini et al., "Direct Preference
    /// Optimization with an Offset" (arXiv 2402.10571). For losses that [take margins](Loss::takes_margins).
    pub margin: Option<Tensor<1>>,
    /// What the losses are multiplied by, as the weights of WPO.
    pub weight: Option<Tensor<1>>,
}

/// What a loss gives for each pair, unreduced.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// The loss. `[pairs]`
    pub losses: Tensor<1>,
    /// Implicit rewards, `beta * (log pi - log pi_ref)` whatever the divergence, as TRL reports them; without a reference
    /// `beta * log pi`, and where the loss [compares that a token](Loss::compares_likelihoods), `beta * log pi / |y|`. On no
    /// autodiff tape.
    pub rewards: Rewards,
}

impl Objective {
    /// A loss under DPO's own reward.
    pub fn new(loss: Loss, beta: f64) -> Self {
        Self { loss, beta, divergence: Divergence::default(), reference_free: false, ld_alpha: None }
    }

    /// The same with another divergence.
    #[must_use]
    pub fn with_divergence(self, divergence: Divergence) -> Self {
        Self { divergence, ..self }
    }

    /// The same with or without a reference.
    #[must_use]
    pub fn with_reference_free(self, reference_free: bool) -> Self {
        Self { reference_free, ..self }
    }

    /// The same with another weight of the tokens behind the shorter completion's length.
    #[must_use]
    pub fn with_ld_alpha(self, ld_alpha: Option<f64>) -> Self {
        Self { ld_alpha, ..self }
    }

    /// Whether the loss depends on the rejected completions. If not, the trainer does not compute them.
    pub fn needs_rejected(&self) -> bool {
        self.loss.needs_rejected()
    }

    /// Whether the loss depends on what the chosen completions are worth for a weakened image.
    pub fn needs_weakened(&self) -> bool {
        self.loss.needs_weakened()
    }

    /// Whether it depends on the reference. If not, the trainer does not compute it.
    pub fn needs_reference(&self) -> bool {
        !self.reference_free && self.loss.needs_reference()
    }

    /// The loss of each pair.
    ///
    /// # Shapes
    /// All tensors are `[pairs]`.
    ///
    /// # Panics
    /// If there is no reference and the objective [needs one](Self::needs_reference); if the policy's log-probabilities
    /// have no [`lengths`](PairLogps::lengths) and the loss is a mean over tokens; if they or the reference's have no
    /// [`tails`](PairLogps::tails) and there is an `ld_alpha`; if they have none for
    /// [`weakened`](PairLogps::weakened) images and the loss [needs them](Loss::needs_weakened).
    pub fn forward(
        &self,
        policy: &PairLogps,
        reference: Option<&PairLogps>,
        factors: &PerPair,
    ) -> LossOutput {
        assert!(
            reference.is_some() || !self.needs_reference(),
            "{} needs the reference's log-probabilities",
            self.loss.name()
        );
        let reference = reference.filter(|_| !self.reference_free);
        let beta = factors.beta.clone().map_or(Beta::Shared(self.beta), Beta::PerPair);
        let compared = self.desensitized(policy);
        let reference = reference.map(|reference| self.desensitized(reference));
        let ratios = log_ratios(&compared, reference.as_ref());
        let mut rewards = ratios.clone().map(|ratio| beta.times(self.divergence.score(ratio)));
        if let Some(margin) = &factors.margin {
            let margin = like(margin, &rewards.rejected);
            rewards.rejected = rewards.rejected + margin;
        }
        let inputs = Inputs {
            whole: policy,
            policy: &compared,
            reference: reference.as_ref(),
            rewards: &rewards,
            beta: &beta,
        };
        let mut losses = self.loss.forward(&inputs);
        if let Some(weight) = &factors.weight {
            let weight = like(weight, &losses);
            losses = losses * weight;
        }
        let rewards = match self.loss.compares_likelihoods() {
            true => log_ratios(&compared, None).per_token(lengths(policy)),
            false => ratios,
        };
        LossOutput { losses, rewards: rewards.inner().map(|reward| beta.times(reward)) }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`DpoError::Setting`] for a setting outside its range, or that does not go with the loss.
    pub fn validate(&self) -> Result<(), DpoError> {
        self.loss.validate()?;
        self.divergence.validate()?;
        if let Some(alpha) = self.ld_alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(DpoError::Setting {
                key: "ld_alpha",
                expected: "from 0 to 1",
                found: alpha.to_string(),
            });
        }
        let conflict = |key, with, reason| Err(DpoError::Conflict { key, with, reason });
        let loss = || format!("the loss {}", self.loss);
        if self.ld_alpha.is_some() && self.needs_weakened() {
            return conflict("ld_alpha", loss(), "it compares a completion with itself");
        }
        let is_plain = self.divergence == Divergence::ReverseKl;
        if !is_plain && !self.loss.takes_divergence() {
            return conflict("divergence", loss(), "it is derived from reverse_kl");
        }
        if self.reference_free && !is_plain {
            return conflict(
                "divergence",
                "`reference_free`".to_owned(),
                "there is no reference to be distant from",
            );
        }
        Ok(())
    }

    /// Log-probabilities with less of the tokens behind the shorter completion's length.
    fn desensitized(&self, logps: &PairLogps) -> PairLogps {
        let Some(alpha) = self.ld_alpha else { return logps.clone() };
        let tails = logps.tails.as_ref().expect("length desensitization needs the tails of the completions");
        let less = |sum: &Tensor<1>, tail: &Tensor<1>| sum.clone() + tail.clone().mul_scalar(alpha - 1.0);
        PairLogps {
            chosen: less(&logps.chosen, &tails.chosen),
            rejected: less(&logps.rejected, &tails.rejected),
            tails: None,
            ..logps.clone()
        }
    }
}

impl PerPair {
    /// Multiplies the weights by others. `[pairs]`
    #[must_use]
    pub fn weighted(mut self, weight: Tensor<1>) -> Self {
        self.weight = Some(match self.weight {
            Some(other) => {
                let weight = like(&weight, &other);
                other * weight
            }
            None => off_tape(weight),
        });
        self
    }
}

/// `log pi - log pi_ref` of both completions.
fn log_ratios(policy: &PairLogps, reference: Option<&PairLogps>) -> Rewards {
    let ratio = |policy: &Tensor<1>, reference: Option<&Tensor<1>>| match reference {
        None => policy.clone(),
        Some(reference) => policy.clone() - like(reference, policy),
    };
    Rewards {
        chosen: ratio(&policy.chosen, reference.map(|reference| &reference.chosen)),
        rejected: ratio(&policy.rejected, reference.map(|reference| &reference.rejected)),
        weakened: policy
            .weakened
            .as_ref()
            .map(|policy| ratio(policy, reference.and_then(|reference| reference.weakened.as_ref()))),
    }
}

/// The lengths, which some losses cannot do without.
pub(super) fn lengths(logps: &PairLogps) -> &PairLengths {
    logps.lengths.as_ref().expect("the loss of a token needs the lengths of the completions")
}
