//! Pairs as burn's data loaders give them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bpo_pairs::record::PreferencePair;
use burn::data::dataloader::batcher::Batcher;
use burn::tensor::Device;

use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::forward::Prepared;
use crate::policy::Collate;

/// Has a collator prepare pairs, for [`burn::data::dataloader::DataLoaderBuilder`].
///
/// Collators give plain tensors wherever they like, so the device of the loader does not matter; a policy moves its batch.
/// burn's shuffling tears questions apart, and then their images and prompts are computed more than once: give a loader
/// that does not shuffle the pairs in [`DataOrder::epoch`](crate::order::DataOrder::epoch) to avoid it.
pub struct PairBatcher<C> {
    config: DpoConfig,
    collate: Mutex<C>,
}

impl<C> PairBatcher<C> {
    /// A batcher for the [`DpoLearner`](super::DpoLearner) of the same settings.
    pub fn new(config: DpoConfig, collate: C) -> Self {
        Self { config, collate: Mutex::new(collate) }
    }
}

impl<C> Batcher<PreferencePair, PairBatch<C::Batch>> for PairBatcher<C>
where
    C: Collate + Send,
{
    fn batch(&self, pairs: Vec<PreferencePair>, _device: &Device) -> PairBatch<C::Batch> {
        // what a collator keeps is a cache at most
        let mut collate = self.collate.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = match self.config.objective().needs_weakened() && !collate.weakens() {
            true => Err(DpoError::NothingWeakened),
            false => Prepared::new(&self.config, &mut *collate, &pairs.iter().collect::<Vec<_>>()),
        };
        PairBatch { pairs, prepared: prepared.map(Arc::new).map_err(Arc::new) }
    }
}

/// Pairs that are prepared for a forward pass, or why they cannot be. Clones share what was prepared.
pub struct PairBatch<B> {
    pairs: Vec<PreferencePair>,
    prepared: Result<Arc<Prepared<B>>, Arc<DpoError>>,
}

impl<B> PairBatch<B> {
    /// The pairs.
    pub fn pairs(&self) -> &[PreferencePair] {
        &self.pairs
    }

    /// Why they could not be prepared. Training that meets such a batch ends with this error.
    pub fn error(&self) -> Option<&DpoError> {
        self.prepared.as_ref().err().map(Arc::as_ref)
    }

    pub(super) fn prepared(&self) -> Result<&Prepared<B>, Arc<DpoError>> {
        self.prepared.as_ref().map(Arc::as_ref).map_err(Arc::clone)
    }
}

// derived, both would ask it of `B` too

impl<B> Clone for PairBatch<B> {
    fn clone(&self) -> Self {
        Self { pairs: self.pairs.clone(), prepared: self.prepared.clone() }
    }
}

impl<B> fmt::Debug for PairBatch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.pairs.iter().map(|pair| &pair.id).collect();
        f.debug_struct("PairBatch").field("pairs", &ids).field("error", &self.error()).finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for PairBatcher<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairBatcher").field("config", &self.config).finish_non_exhaustive()
    }
}
