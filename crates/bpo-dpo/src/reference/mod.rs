//! The reference model that the policy is compared with.

mod cache;
mod sync;

pub use cache::{LogpCache, PairBatches};
pub use sync::ReferenceSync;
pub(crate) use sync::{check_follows, follow};

use std::sync::Arc;

use bpo_pairs::PreferencePair;
use burn::tensor::Device;

use crate::error::DpoError;
use crate::loss::{TokenDivergences, TokenLogps};
use crate::order::GroupBatch;
use crate::policy::{Adapters, Policy};

/// The source of the reference's log-probabilities.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Reference<P> {
    /// The policy before training with its adapters off. It shares the frozen parameters with the
    /// policy.
    #[default]
    AdaptersOff,
    /// The policy before training with its adapters, for a policy that continues an adapter or has
    /// trained weights in place of adapters. It shares the frozen parameters with the policy. It
    /// may be [updated](ReferenceSync) towards the policy.
    Start,
    /// Another model, including its adapters. It is not trained, but it may be
    /// [updated](ReferenceSync) towards the policy.
    Frozen(P),
    /// Log-probabilities that were computed before training. No step computes them.
    Cached(LogpCache),
}

impl<P: Policy> Reference<P> {
    /// Checks that a loss that needs [divergences](LossProperties::token_divergences) gets them
    /// from the policy and this reference.
    ///
    /// # Errors
    /// Returns [`DpoError::NoDivergences`], [`DpoError::CacheWithoutDistributions`] or
    /// [`DpoError::Vocabulary`].
    pub(crate) fn check_divergences(&self, policy: &P) -> Result<(), DpoError> {
        let expected = policy.vocabulary().ok_or(DpoError::NoDivergences)?;
        match self {
            Self::AdaptersOff | Self::Start => Ok(()),
            Self::Cached(_) => Err(DpoError::CacheWithoutDistributions),
            Self::Frozen(model) => match model.vocabulary() {
                Some(found) if found == expected => Ok(()),
                Some(found) => Err(DpoError::Vocabulary { expected, found }),
                None => Err(DpoError::NoDivergences),
            },
        }
    }
}

/// The reference of a run.
pub(crate) enum ReferenceLogps<P> {
    /// The policy before training.
    Start(P, Adapters),
    /// Another model.
    Other(P),
    Cache(Arc<LogpCache>),
}

impl<P: Policy> ReferenceLogps<P> {
    /// Creates the reference of a policy before training. Its tensors are not on an autodiff
    /// device.
    pub(crate) fn new(reference: Reference<P>, policy: &P) -> Self {
        match reference {
            Reference::AdaptersOff => Self::Start(policy.valid(), Adapters::Off),
            Reference::Start => Self::Start(policy.valid(), Adapters::On),
            Reference::Frozen(model) => Self::Other(model.valid()),
            Reference::Cached(cache) => Self::Cache(Arc::new(cache)),
        }
    }

    /// Returns the log-probabilities of the completions of a batch, without an autodiff tape.
    pub(crate) fn token_logps(
        &self,
        batch: &GroupBatch,
        inputs: &P::Batch,
        pairs: &[&PreferencePair],
        policy: &P,
    ) -> Result<TokenLogps, DpoError> {
        match self {
            Self::Start(model, adapters) => Ok(model.token_logps(inputs, *adapters)),
            Self::Other(model) => Ok(model.token_logps(inputs, Adapters::On)),
            Self::Cache(cache) => {
                let device = policy.devices().into_iter().next().unwrap_or_default().inner();
                cache.token_logps(batch, pairs, &device)
            }
        }
    }

    /// Returns the log-probabilities of `policy` and of the reference, with the divergences between
    /// them. `None` if the policy has no such function, or for a cache.
    pub(crate) fn token_divergences(
        &self,
        inputs: &P::Batch,
        policy: &P,
        statistics: bool,
    ) -> Option<TokenDivergences> {
        let (reference, adapters) = match self {
            Self::Start(model, adapters) => (model, *adapters),
            Self::Other(model) => (model, Adapters::On),
            Self::Cache(_) => return None,
        };
        policy.token_divergences(inputs, reference, adapters, statistics)
    }

    /// Returns whether the reference is the policy with its adapters off.
    pub(crate) fn is_policy(&self) -> bool {
        matches!(self, Self::Start(_, Adapters::Off))
    }

    /// Returns the model, unless it is the policy with its adapters off.
    pub(crate) fn model(&self) -> Option<&P> {
        match self {
            Self::Start(model, Adapters::On) | Self::Other(model) => Some(model),
            _ => None,
        }
    }

    /// Returns the model to change it, unless it is the policy with its adapters off.
    pub(crate) fn model_mut(&mut self) -> Option<&mut P> {
        match self {
            Self::Start(model, Adapters::On) | Self::Other(model) => Some(model),
            _ => None,
        }
    }

    /// Copies the reference to a device. `policy` is a copy of the policy before training on that
    /// device.
    pub(crate) fn fork(&self, policy: &P, device: &Device) -> Self {
        match self {
            // shares the frozen parameters with the policy
            Self::Start(_, adapters) => Self::Start(policy.valid(), *adapters),
            Self::Other(model) => Self::Other(model.clone().fork(device)),
            Self::Cache(cache) => Self::Cache(Arc::clone(cache)),
        }
    }
}
