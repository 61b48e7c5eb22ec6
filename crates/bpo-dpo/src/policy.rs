//! The interface between the trainer and a model.

use bpo_pairs::History;
use burn::module::Module;

use crate::loss::{TokenLogps, TokenStatistics};

/// Whether a policy's adapters take part in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// Adapters on: the policy.
    On,
    /// Adapters off: the reference.
    Off,
}

/// One image and prompt with its completions, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptGroup {
    /// Path of the image, relative to the image root.
    pub image: String,
    /// Whether the image is to be weakened; see [`Collate::weakens`].
    pub weakened: bool,
    /// The system text before the conversation, if there is one.
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    pub history: History,
    /// The prompt.
    pub prompt: String,
    /// Completions of the prompt, at least one.
    pub completions: Vec<String>,
}

/// Fingerprint of the inputs of one row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFingerprint {
    /// SHA-256 of the preprocessed pixels.
    pub image: [u8; 32],
    /// SHA-256 of all token ids, those of the prompt included.
    pub tokens: [u8; 32],
}

/// Prepares batches for a policy: tokenizes texts, loads and preprocesses images.
///
/// The trainer calls [`check`](Self::check) for every group before the first step, then
/// [`collate`](Self::collate) for each batch, in another thread than the one that computes
/// ([`Trainer::train`](crate::Trainer::train)). For that the collator and its batches must be
/// [`Send`].
pub trait Collate {
    /// The input of [`Policy::token_logps`].
    type Batch;
    /// Why a group cannot be prepared: image missing, prompt too long, ...
    type Error: std::error::Error + Send + Sync + 'static;

    /// Prepares groups for one forward pass. The rows are in the order of [`TokenLogps`].
    ///
    /// The batch serves the policy and the reference, so its tensors must not be on an autodiff
    /// device. It is prepared ahead of its step, so a batch in the host's memory leaves the
    /// device's memory to the present one.
    ///
    /// # Errors
    /// If a group cannot be prepared; the error names it.
    fn collate(&mut self, groups: &[PromptGroup]) -> Result<Self::Batch, Self::Error>;

    /// Whether the collator can weaken the images of [weakened](PromptGroup::weakened) groups,
    /// which a loss that [compares images](crate::loss::LossProperties::weakened) needs. The
    /// default is false; then there are no such groups.
    fn weakens(&self) -> bool {
        false
    }

    /// Fingerprints of the rows of a batch, in order. With them a [cached
    /// reference](crate::LogpCache) detects a changed image, text or tokenizer. The default is
    /// `None`; then the cache compares the texts alone.
    fn fingerprints(&self, batch: &Self::Batch) -> Option<Vec<RowFingerprint>> {
        let _ = batch;
        None
    }

    /// Number of tokens of each row of a batch, prompt and image included, for
    /// [`num_tokens`](crate::StepMetrics::num_tokens). The default is `None`; then that metric is
    /// left out.
    fn lengths(&self, batch: &Self::Batch) -> Option<Vec<usize>> {
        let _ = batch;
        None
    }

    /// Whether the collator uses the [system texts](PromptGroup::system) of groups. The trainer
    /// warns of one that leaves them out. The default is true.
    fn takes_system(&self) -> bool {
        true
    }

    /// Checks whether a group can be prepared. The trainer checks every group before the first
    /// step, so this should be cheap: read the header of an image, decode no pixels. A group that
    /// passes may still fail in [`collate`](Self::collate).
    ///
    /// The default collates the group.
    ///
    /// # Errors
    /// Why the group cannot be prepared.
    fn check(&mut self, group: &PromptGroup) -> Result<(), Self::Error> {
        self.collate(std::slice::from_ref(group)).map(drop)
    }

    /// [Checks](Self::check) several groups, and gives their results in order. The default checks
    /// one after the other; an implementation may use several threads.
    fn check_groups(&mut self, groups: &[PromptGroup]) -> Vec<Result<(), Self::Error>> {
        groups.iter().map(|group| self.check(group)).collect()
    }
}

/// A model that can be trained: it gives log-probabilities of completions.
///
/// It gives log-probabilities rather than logits, so that an implementation can compute its head at
/// completion tokens only, and each image and prompt once per group.
pub trait Policy: Module {
    /// A batch; see [`Collate::Batch`].
    type Batch;

    /// Log-probabilities of every completion in the batch.
    ///
    /// The trainer calls it with [`Adapters::On`] on the module in training, under autodiff, for
    /// the policy. For the reference it calls it with [`Adapters::Off`] on the [`Module::valid`] of
    /// the module before training, in which parameters that are trained without an adapter have
    /// their initial values.
    ///
    /// Dropout must be off for the reference and in evaluations, which are on no autodiff device,
    /// and must not change the output of a fresh adapter. Drawn on the module's device it is the
    /// same in a resumed run.
    fn token_logps(&self, batch: &Self::Batch, adapters: Adapters) -> TokenLogps;

    /// [`token_logps`](Self::token_logps) with statistics of each token's distribution. The default
    /// gives none; then metrics that need them are left out, and a loss or weighting that needs
    /// them is an error.
    fn token_statistics(
        &self,
        batch: &Self::Batch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        (self.token_logps(batch, adapters), None)
    }

    /// A batch equal to `batch` that holds intermediate results which policy and reference share,
    /// for instance the image features of a frozen vision tower.
    ///
    /// The trainer calls it once per batch, if the reference is the policy with its adapters off,
    /// and gives the result to both passes. It does not call it in evaluations. The default gives
    /// `None`.
    fn shared(&self, batch: &Self::Batch) -> Option<Self::Batch> {
        let _ = batch;
        None
    }
}
