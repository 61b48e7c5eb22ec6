//! The interface of a preference loss.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Beta, LossError, PairDivergences, PairLengths, PairLogps, PairStatistics, Rewards};

/// A preference loss, which computes one value per pair from the log-probabilities of its
/// completions.
///
/// [`Loss`](super::Loss) is the set of built-in losses. A custom loss implements this trait and can
/// be used in an [`Objective`](super::Objective), in a [`WeightedSum`](super::WeightedSum) and in
/// the trainer ([`Trainer::with_loss`](crate::Trainer::with_loss)).
///
/// ```
/// use bpo_dpo::loss::{LossInputs, LossProperties, Objective, PairLogps, PerPair, PreferenceLoss};
/// use burn::tensor::{Device, Tensor};
///
/// /// The squared hinge loss: `L = max(0, 1 - (r_w - r_l))^2`.
/// #[derive(Debug)]
/// struct SquaredHinge;
///
/// impl PreferenceLoss for SquaredHinge {
///     fn properties(&self) -> LossProperties {
///         LossProperties { takes_margins: true, ..LossProperties::PAIRWISE }
///     }
///
///     fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
///         inputs.rewards.margins().neg().add_scalar(1.0).clamp_min(0.0).square()
///     }
/// }
///
/// let values = |value: f32| Tensor::from_floats([value], &Device::flex());
/// let policy = PairLogps::new(values(-10.0), values(-14.0));
/// let reference = PairLogps::new(values(-12.0), values(-13.0));
/// let objective = Objective::new(SquaredHinge, 0.1);
/// let output = objective.forward(&policy, Some(&reference), &PerPair::default());
/// assert!((output.losses.into_scalar::<f32>() - 0.49).abs() < 1e-6);
/// ```
pub trait PreferenceLoss: Debug + Send + Sync {
    /// Returns the inputs that the loss needs, and the settings that it can be combined with.
    fn properties(&self) -> LossProperties;

    /// Computes the loss of each pair, `[pairs]`, on the autodiff tape of the log-probabilities of
    /// the policy.
    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1>;

    /// Checks the settings of the loss. The default accepts all settings.
    ///
    /// # Errors
    /// Returns [`LossError`] for an invalid setting.
    fn validate(&self) -> Result<(), LossError> {
        Ok(())
    }

    /// Returns the name of the loss with its settings. Checkpoints record it, and a run resumes
    /// only with a loss of the same name. The default is the [`Debug`] form.
    fn name(&self) -> String {
        format!("{self:?}")
    }
}

/// The inputs that a loss needs, and the settings that it can be combined with. The trainer does
/// not compute inputs that the loss does not need.
///
/// There is no default, so that an implementor sets each property or starts with
/// [`PAIRWISE`](Self::PAIRWISE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the properties are independent of each other")]
pub struct LossProperties {
    /// Whether the loss needs the log-probabilities of the reference.
    pub reference: bool,
    /// Whether the loss needs the rejected completions.
    pub rejected: bool,
    /// Whether the loss needs the log-probabilities of the chosen completions given a weakened
    /// image: [`PairLogps::weakened`] and [`Rewards::weakened`].
    pub weakened: bool,
    /// Whether the loss needs the log-probabilities of the
    /// [contrast](bpo_pairs::PreferencePair::contrast) of each pair: [`PairLogps::contrast`] and
    /// [`Rewards::contrast`]. Pairs without one are then skipped.
    pub contrast: bool,
    /// Whether the loss needs the numbers of tokens of the completions: [`LossInputs::lengths`].
    pub lengths: bool,
    /// Whether the loss needs statistics of the distribution of the policy at each token:
    /// [`LossInputs::statistics`].
    pub statistics: bool,
    /// Whether the loss needs the divergence between the distributions of policy and reference at
    /// each token: [`LossInputs::divergences`]. It then also needs the
    /// [reference](Self::reference), as a model that computes distributions.
    pub token_divergences: bool,
    /// Whether the log-probabilities of the tokens in which the completions of a pair differ are
    /// needed: [`PairLogps::changed`].
    /// [`Objective::changed_token_weight`](super::Objective::changed_token_weight) needs them for
    /// any loss.
    pub changed_tokens: bool,
    /// Whether the loss of a pair depends on the other pairs of its batch. The trainer then never
    /// splits a batch, and pairs cannot be weighted by a loss with this property.
    pub batch_wide: bool,
    /// Whether the loss is a function of the difference between the rewards, so that a
    /// [margin](super::PerPair::margin) can be added to it.
    pub takes_margins: bool,
    /// Whether the loss is defined for rewards of any [`Divergence`](super::Divergence), not only
    /// of the reverse KL divergence.
    pub takes_divergence: bool,
    /// Whether the loss compares log-probabilities per token, without a reference. The reported
    /// rewards are then also per token.
    pub per_token: bool,
}

impl LossProperties {
    /// The properties of a loss that only compares the rewards of the chosen and the rejected
    /// completion.
    pub const PAIRWISE: Self = Self {
        reference: true,
        rejected: true,
        weakened: false,
        contrast: false,
        lengths: false,
        statistics: false,
        token_divergences: false,
        changed_tokens: false,
        batch_wide: false,
        takes_margins: false,
        takes_divergence: false,
        per_token: false,
    };

    /// Returns whether the loss compares a completion with another completion, another image or the
    /// reference.
    pub(crate) fn compares(&self) -> bool {
        self.reference || self.rejected || self.weakened || self.contrast
    }
}

/// The inputs of a loss. All tensors are `[pairs]`.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs<'a> {
    /// The policy's log-probabilities, with [length desensitization](super::Objective::ld_alpha) or
    /// the [weight of changed tokens](super::Objective::changed_token_weight) applied.
    pub policy: &'a PairLogps,
    /// The policy's log-probabilities of all tokens, with the same weight for each.
    pub whole: &'a PairLogps,
    /// The reference's log-probabilities, with the same applied; `None` without a reference.
    pub reference: Option<&'a PairLogps>,
    /// The implicit rewards. Margins have been added to the rewards of the rejected completions.
    pub rewards: &'a Rewards,
    /// The coefficient of the rewards.
    pub beta: &'a Beta,
}

impl LossInputs<'_> {
    /// Returns the numbers of tokens of the completions.
    ///
    /// # Panics
    /// Panics if there are no lengths. The trainer always provides them. Other training loops must
    /// provide them for a loss with [`LossProperties::lengths`].
    pub fn lengths(&self) -> &PairLengths {
        self.whole.lengths.as_ref().expect("the loss needs the lengths of the completions")
    }

    /// Returns the statistics of the policy's distribution, summed over the tokens of each
    /// completion.
    ///
    /// # Panics
    /// Panics if there are no statistics. The trainer provides them for a loss with
    /// [`LossProperties::statistics`].
    pub fn statistics(&self) -> &PairStatistics {
        self.whole.statistics.as_ref().expect("the loss needs statistics of the policy's distribution")
    }

    /// Returns the divergences from the reference, summed over the tokens of each completion.
    ///
    /// # Panics
    /// Panics if there are no divergences. The trainer provides them for a loss with
    /// [`LossProperties::token_divergences`].
    pub fn divergences(&self) -> &PairDivergences {
        self.whole.divergences.as_ref().expect("the loss needs the divergences from the reference")
    }
}

macro_rules! forward_to_inner {
    ($($pointer:ident),*) => {$(
        impl<L: PreferenceLoss + ?Sized> PreferenceLoss for $pointer<L> {
            fn properties(&self) -> LossProperties {
                (**self).properties()
            }

            fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
                (**self).forward(inputs)
            }

            fn validate(&self) -> Result<(), LossError> {
                (**self).validate()
            }

            fn name(&self) -> String {
                (**self).name()
            }
        }
    )*};
}

forward_to_inner!(Arc, Box);
