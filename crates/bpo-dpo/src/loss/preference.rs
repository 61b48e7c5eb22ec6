//! The interface of a preference loss.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Beta, LossError, PairLengths, PairLogps, PairStatistics, Rewards};

/// A preference loss: one value per pair from the log-probabilities of its completions.
///
/// [`Loss`](super::Loss) is the set of built-in losses. A loss of your own implements this trait
/// and runs in an [`Objective`](super::Objective), in a [`WeightedSum`](super::WeightedSum) and in
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
    /// What the loss needs, and what it can be combined with.
    fn properties(&self) -> LossProperties;

    /// The loss of each pair, on the autodiff tape of the policy's log-probabilities. `[pairs]`
    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1>;

    /// Checks the settings of the loss. The default accepts all.
    ///
    /// # Errors
    /// [`LossError`] for a setting that cannot be used.
    fn validate(&self) -> Result<(), LossError> {
        Ok(())
    }

    /// Name and settings, for messages. Checkpoints record it, and a run resumes only with a loss
    /// that has the same name. The default is the [`Debug`] form.
    fn name(&self) -> String {
        format!("{self:?}")
    }
}

/// What a loss needs, and what it can be combined with. The trainer computes nothing that the loss
/// does not need.
///
/// There is no default, so that an implementor states each property or starts from
/// [`PAIRWISE`](Self::PAIRWISE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the properties are independent of each other")]
pub struct LossProperties {
    /// Needs the reference's log-probabilities.
    pub reference: bool,
    /// Needs the rejected completions.
    pub rejected: bool,
    /// Needs the chosen completions' log-probabilities given a weakened image:
    /// [`PairLogps::weakened`] and [`Rewards::weakened`].
    pub weakened: bool,
    /// Needs the completions' numbers of tokens: [`LossInputs::lengths`].
    pub lengths: bool,
    /// Needs statistics of the policy's distribution at each token: [`LossInputs::statistics`].
    pub statistics: bool,
    /// The loss of a pair depends on the other pairs of its batch, so it has no weight of its own.
    pub batch_wide: bool,
    /// Is a function of the difference of the rewards, so that a [margin](super::PerPair::margin)
    /// can be added to it.
    pub takes_margins: bool,
    /// Is defined for rewards under any [`Divergence`](super::Divergence), not only the reverse KL
    /// divergence.
    pub takes_divergence: bool,
    /// Compares the log-probabilities per token, without a reference. The reported rewards are per
    /// token, too.
    pub per_token: bool,
}

impl LossProperties {
    /// Compares the rewards of the chosen and the rejected completion, and nothing else.
    pub const PAIRWISE: Self = Self {
        reference: true,
        rejected: true,
        weakened: false,
        lengths: false,
        statistics: false,
        batch_wide: false,
        takes_margins: false,
        takes_divergence: false,
        per_token: false,
    };

    /// Whether the loss compares a completion with anything: another completion, another image or
    /// the reference.
    pub(crate) fn compares(&self) -> bool {
        self.reference || self.rejected || self.weakened
    }
}

/// The inputs of a loss. All tensors are `[pairs]`.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs<'a> {
    /// The policy's log-probabilities, with [length desensitization](super::Objective::ld_alpha)
    /// applied.
    pub policy: &'a PairLogps,
    /// The policy's log-probabilities of all tokens, without length desensitization.
    pub whole: &'a PairLogps,
    /// The reference's log-probabilities, with length desensitization applied; `None` without a
    /// reference.
    pub reference: Option<&'a PairLogps>,
    /// The implicit rewards. A margin is added to those of the rejected completions.
    pub rewards: &'a Rewards,
    /// The coefficient of the rewards.
    pub beta: &'a Beta,
}

impl LossInputs<'_> {
    /// Numbers of tokens of the completions.
    ///
    /// # Panics
    /// If there are none. The trainer always gives them; a loop of your own must for a loss with
    /// [`LossProperties::lengths`].
    pub fn lengths(&self) -> &PairLengths {
        self.whole.lengths.as_ref().expect("the loss needs the lengths of the completions")
    }

    /// Statistics of the policy's distribution, summed over the tokens of each completion.
    ///
    /// # Panics
    /// If there are none. The trainer gives them to a loss with [`LossProperties::statistics`].
    pub fn statistics(&self) -> &PairStatistics {
        self.whole.statistics.as_ref().expect("the loss needs statistics of the policy's distribution")
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
