//! A loss with the settings of its rewards.

use burn::tensor::Tensor;

use super::numbers::{AT_LEAST_0, fits_f32};
use super::tensors::{constant_like, without_tape};
use super::{
    Beta, Divergence, Loss, LossError, LossInputs, LossProperties, PairLogps, PreferenceLoss, Rewards,
    responsive_beta, responsiveness,
};

/// The objective of a training: a [loss](PreferenceLoss) and the settings of the implicit rewards.
///
/// ```
/// use bpo_dpo::loss::{Loss, Objective, PairLogps, PerPair};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let logps = |chosen: f32, rejected: f32| PairLogps::new(
///     Tensor::from_floats([chosen], &device),
///     Tensor::from_floats([rejected], &device),
/// );
/// let objective = Objective::new(Loss::Hinge, 0.1);
/// let (policy, reference) = (logps(-10.0, -14.0), logps(-12.0, -13.0));
/// let output = objective.forward(&policy, Some(&reference), &PerPair::default());
/// assert!((output.losses.into_scalar::<f32>() - 0.7).abs() < 1e-6);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Objective<L = Loss> {
    /// The loss.
    pub loss: L,
    /// The coefficient of the rewards. A larger one keeps the policy closer to the reference.
    pub beta: f64,
    /// The measure of the distance between policy and reference.
    pub divergence: Divergence,
    /// Whether to train without a reference, with `r = beta * log pi(y)`, as if the reference
    /// assigned the same probability to every completion. TRL's former `reference_free`.
    pub reference_free: bool,
    /// Weight, from 0 to 1, of the tokens of the longer completion that exceed the length of the
    /// shorter one. With `None` all tokens have the same weight. Liu et al., "Length
    /// Desensitization in Direct Preference Optimization" (arXiv 2409.06411); TRL's `ld_alpha`.
    /// [`Loss::Sft`] ignores it.
    pub ld_alpha: Option<f64>,
    /// Weight of the tokens in which the completions of a pair differ; all others have weight 1, and
    /// with `None` all. The weight of tokens of the chosen completion is the same for its weakened
    /// images. Divergences are not weighted.
    ///
    /// Dense DPO of Yu et al., "RLHF-V" (arXiv 2312.00849), and the segments of CHiP (arXiv
    /// 2501.16629): `dpo_token_weight` of their code. As there (`dpo_use_average False`), sums are
    /// not divided by the weights. [`Loss::Sft`] ignores it.
    pub changed_token_weight: Option<f64>,
    /// Whether to multiply the coefficient of each pair by the
    /// [responsiveness](responsiveness()) of the policy to the pairs of a call of
    /// [`forward`](Self::forward), which are those of one batch (HaNoRec, arXiv 2511.18740).
    pub responsiveness: bool,
}

/// Settings of each pair. All tensors are `[pairs]`, without an autodiff tape.
#[derive(Clone, Debug, Default)]
pub struct PerPair {
    /// Coefficients that replace [`Objective::beta`], except in the gaps of
    /// [`Objective::responsiveness`].
    pub beta: Option<Tensor<1>>,
    /// Margins between the rewards, in units of the reward: the offset of Amini et al., "Direct
    /// Preference Optimization with an Offset" (arXiv 2402.10571). For losses that [take
    /// margins](LossProperties::takes_margins).
    pub margin: Option<Tensor<1>>,
    /// Factors of the losses, for example the weights of WPO.
    pub weight: Option<Tensor<1>>,
}

/// The losses of the pairs of a batch, and the implicit rewards.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// The losses. `[pairs]`
    pub losses: Tensor<1>,
    /// Implicit rewards, without an autodiff tape: `beta * (log pi - log pi_ref)` for every
    /// divergence, as TRL reports them; `beta * log pi` without a reference; `beta * log pi / |y|`
    /// for a loss that compares log-probabilities [per token](LossProperties::per_token).
    pub rewards: Rewards,
}

impl<L: PreferenceLoss> Objective<L> {
    /// Creates an objective with the reward of DPO: reverse KL divergence, a reference, and the
    /// same weight for all tokens.
    pub fn new(loss: L, beta: f64) -> Self {
        Self {
            loss,
            beta,
            divergence: Divergence::default(),
            reference_free: false,
            ld_alpha: None,
            changed_token_weight: None,
            responsiveness: false,
        }
    }

    /// Sets [`divergence`](Self::divergence).
    #[must_use]
    pub fn with_divergence(self, divergence: Divergence) -> Self {
        Self { divergence, ..self }
    }

    /// Sets [`reference_free`](Self::reference_free).
    #[must_use]
    pub fn with_reference_free(self, reference_free: bool) -> Self {
        Self { reference_free, ..self }
    }

    /// Sets [`ld_alpha`](Self::ld_alpha).
    #[must_use]
    pub fn with_ld_alpha(self, ld_alpha: Option<f64>) -> Self {
        Self { ld_alpha, ..self }
    }

    /// Sets [`changed_token_weight`](Self::changed_token_weight).
    #[must_use]
    pub fn with_changed_token_weight(self, changed_token_weight: Option<f64>) -> Self {
        Self { changed_token_weight, ..self }
    }

    /// Sets [`responsiveness`](Self::responsiveness).
    #[must_use]
    pub fn with_responsiveness(self, responsiveness: bool) -> Self {
        Self { responsiveness, ..self }
    }

    /// Returns the properties of the loss in this objective. A
    /// [reference-free](Self::reference_free) objective needs no reference. With
    /// [`responsiveness`](Self::responsiveness) the loss of a pair depends on the other pairs.
    pub fn properties(&self) -> LossProperties {
        let properties = self.loss.properties();
        LossProperties {
            reference: properties.reference && !self.reference_free,
            changed_tokens: properties.changed_tokens || self.changed_token_weight.is_some(),
            batch_wide: properties.batch_wide || self.responsiveness,
            ..properties
        }
    }

    /// Computes the loss of each pair.
    ///
    /// # Shapes
    /// All tensors are `[pairs]`.
    ///
    /// # Panics
    /// Panics if an input that the [properties](Self::properties) require is missing: the
    /// reference, [lengths](PairLogps::lengths), [weakened](PairLogps::weakened) images,
    /// [contrasts](PairLogps::contrast), [statistics](PairLogps::statistics) or
    /// [divergences](PairLogps::divergences). Panics if `ld_alpha` is set and policy or reference have
    /// no [tails](PairLogps::tails), or `changed_token_weight` and they have no sums of
    /// [changed](PairLogps::changed) tokens.
    pub fn forward(
        &self,
        policy: &PairLogps,
        reference: Option<&PairLogps>,
        factors: &PerPair,
    ) -> LossOutput {
        assert!(
            reference.is_some() || !self.properties().reference,
            "{} needs the reference's log-probabilities",
            self.loss.name()
        );
        let reference = reference.filter(|_| !self.reference_free);
        let beta = factors.beta.clone().map_or(Beta::Shared(self.beta), Beta::PerPair);
        let compared = self.with_token_weights(policy);
        let reference = reference.map(|reference| self.with_token_weights(reference));
        let ratios = log_ratios(&compared, reference.as_ref());
        let scores = ratios.clone().map(|ratio| self.divergence.score(ratio));
        let beta = if self.responsiveness {
            let margins = scores.margins();
            let [pairs] = margins.dims();
            let gaps = without_tape(margins).mul_scalar(self.beta);
            Beta::PerPair(responsive_beta(&beta, responsiveness(gaps), pairs))
        } else {
            beta
        };
        let mut rewards = scores.map(|score| beta.times(score));
        if let Some(margin) = &factors.margin {
            let margin = constant_like(margin, &rewards.rejected);
            rewards.rejected = rewards.rejected + margin;
        }
        let inputs = LossInputs {
            policy: &compared,
            whole: policy,
            reference: reference.as_ref(),
            rewards: &rewards,
            beta: &beta,
        };
        let mut losses = self.loss.forward(&inputs);
        if let Some(weight) = &factors.weight {
            let weight = constant_like(weight, &losses);
            losses = losses * weight;
        }
        let rewards = if self.loss.properties().per_token {
            log_ratios(&compared, None).per_token(inputs.lengths())
        } else {
            ratios
        };
        LossOutput { losses, rewards: rewards.inner().map(|reward| beta.times(reward)) }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Returns [`LossError::Setting`] for a value outside its range, or [`LossError::Conflict`] for
    /// a setting that cannot be combined with the loss or another setting.
    pub fn validate(&self) -> Result<(), LossError> {
        self.loss.validate()?;
        self.divergence.validate()?;
        if let Some(alpha) = self.ld_alpha {
            LossError::check("ld_alpha", (0.0..=1.0).contains(&alpha), "from 0 to 1", alpha)?;
        }
        let conflict = |key, with, reason| Err(LossError::Conflict { key, with, reason });
        let loss = || format!("the loss {}", self.loss.name());
        let properties = self.loss.properties();
        if self.ld_alpha.is_some() && properties.weakened {
            return conflict("ld_alpha", loss(), "the loss compares a completion with itself");
        }
        if properties.contrast {
            let reason = "the loss compares the chosen completion with two others, which differ from it in other tokens";
            for (key, is_set) in [
                ("ld_alpha", self.ld_alpha.is_some()),
                ("changed_token_weight", self.changed_token_weight.is_some()),
            ] {
                if is_set {
                    return conflict(key, loss(), reason);
                }
            }
        }
        if let Some(weight) = self.changed_token_weight {
            let key = "changed_token_weight";
            LossError::check(key, weight >= 0.0 && fits_f32(weight), AT_LEAST_0, weight)?;
            if self.ld_alpha.is_some() {
                return conflict(key, "`ld_alpha`".to_owned(), "both weight the tokens of completions");
            }
            if !properties.rejected {
                return conflict(key, loss(), "the loss does not compare two completions");
            }
        }
        if self.responsiveness && !properties.takes_margins {
            let reason = "the loss is not a function of the difference between the rewards";
            return conflict("responsiveness", loss(), reason);
        }
        if self.responsiveness && self.reference_free {
            let with = "`reference_free`".to_owned();
            return conflict("responsiveness", with, "it measures the change from the reference");
        }
        if self.reference_free && properties.token_divergences {
            let reason =
                "its token term is the divergence from the reference; set `tok_beta` to 0 to leave it out";
            return conflict("reference_free", loss(), reason);
        }
        if self.divergence == Divergence::ReverseKl {
            return Ok(());
        }
        if !properties.takes_divergence {
            return conflict("divergence", loss(), "the loss is derived from reverse_kl");
        }
        if self.reference_free {
            let with = "`reference_free`".to_owned();
            return conflict("divergence", with, "there is no reference");
        }
        Ok(())
    }

    /// Returns the log-probabilities with [`ld_alpha`](Self::ld_alpha) or
    /// [`changed_token_weight`](Self::changed_token_weight) applied.
    fn with_token_weights(&self, logps: &PairLogps) -> PairLogps {
        if let Some(weight) = self.changed_token_weight {
            let changed = logps.changed.as_ref().expect("a weight of changed tokens needs their sums");
            let more =
                |sum: &Tensor<1>, part: &Tensor<1>| sum.clone() + part.clone().mul_scalar(weight - 1.0);
            let weakened = logps.weakened.iter().zip(&changed.weakened);
            return PairLogps {
                chosen: more(&logps.chosen, &changed.chosen),
                rejected: more(&logps.rejected, &changed.rejected),
                weakened: weakened.map(|(sum, part)| more(sum, part)).collect(),
                changed: None,
                ..logps.clone()
            };
        }
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
    /// Multiplies the weights by other weights, `[pairs]`.
    #[must_use]
    pub fn weighted(mut self, weight: Tensor<1>) -> Self {
        self.weight = Some(match self.weight {
            Some(other) => {
                let weight = constant_like(&weight, &other);
                other * weight
            }
            None => without_tape(weight),
        });
        self
    }
}

/// Returns `log pi - log pi_ref` of all completions.
fn log_ratios(policy: &PairLogps, reference: Option<&PairLogps>) -> Rewards {
    let ratio = |policy: &Tensor<1>, reference: Option<&Tensor<1>>| match reference {
        None => policy.clone(),
        Some(reference) => policy.clone() - constant_like(reference, policy),
    };
    Rewards {
        chosen: ratio(&policy.chosen, reference.map(|reference| &reference.chosen)),
        rejected: ratio(&policy.rejected, reference.map(|reference| &reference.rejected)),
        weakened: policy
            .weakened
            .iter()
            .enumerate()
            .map(|(form, policy)| ratio(policy, reference.and_then(|reference| reference.weakened.get(form))))
            .collect(),
        contrast: policy.contrast.as_ref().map(|policy| match reference {
            None => policy.clone(),
            Some(reference) => {
                let reference = reference.contrast.as_ref();
                let reference = reference.expect("a loss of contrasts needs those of the reference, too");
                policy
                    .as_ref()
                    .zip(reference.as_ref())
                    .map(|(policy, reference)| ratio(policy, Some(reference)))
            }
        }),
    }
}
