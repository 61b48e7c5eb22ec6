//! The interface between the trainer and a model.

use bpo_pairs::History;
use burn::module::Module;

use crate::loss::{TokenDivergences, TokenLogps, TokenStatistics};

/// The state of the adapters of a policy in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// Adapters are applied, as in the policy.
    On,
    /// Adapters are not applied, as in the reference.
    Off,
}

/// Images and a prompt with its completions, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptGroup {
    /// Paths of the images, relative to the image root, in the order of the conversation. Empty for
    /// a text without an image.
    pub images: Vec<String>,
    /// The way in which the collator must weaken the images, less than [`Collate::weakenings`];
    /// `None` for images as they are.
    pub weakened: Option<usize>,
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
    /// SHA-256 of the preprocessed pixels of the images. Zeros without an image.
    pub image: [u8; 32],
    /// SHA-256 of all token ids, including those of the prompt.
    pub tokens: [u8; 32],
}

/// Prepares batches for a policy: tokenizes texts, and loads and preprocesses images.
///
/// The trainer calls [`check`](Self::check) for every group before the first step, then
/// [`collate`](Self::collate) for each batch. [`Trainer::train`](crate::Trainer::train) calls it on
/// a separate thread, so there the collator and its batches must be [`Send`].
pub trait Collate {
    /// The input of [`Policy::token_logps`].
    type Batch;
    /// The error if a group cannot be prepared, for example because its image is missing or its
    /// prompt too long.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Prepares groups for one forward pass. The rows are in the order of [`TokenLogps`].
    ///
    /// The batch is used for both the policy and the reference, so its tensors must not be on an
    /// autodiff device. It is prepared during an earlier step, so a batch in host memory saves
    /// device memory.
    ///
    /// # Errors
    /// Returns an error that names the group if a group cannot be prepared.
    fn collate(&mut self, groups: &[PromptGroup]) -> Result<Self::Batch, Self::Error>;

    /// Returns the number of ways in which the collator weakens the images of
    /// [weakened](PromptGroup::weakened) groups, which some losses
    /// [need](crate::loss::LossProperties::weakened). Each pair then has one group for each of them.
    /// The default is 0: the collator receives no such groups.
    fn weakenings(&self) -> usize {
        0
    }

    /// Returns the fingerprints of the rows of a batch, in order. A [cached
    /// reference](crate::LogpCache) uses them to detect a changed image, text or tokenizer. The
    /// default is `None`: the cache compares only the texts.
    fn fingerprints(&self, batch: &Self::Batch) -> Option<Vec<RowFingerprint>> {
        let _ = batch;
        None
    }

    /// Returns the token ids of the completion of each row of a batch, as many as the tokens of the
    /// row in [`TokenLogps`], for
    /// [`changed_token_weight`](crate::DpoConfig::changed_token_weight). The default is `None`: that
    /// setting is an error.
    fn completions(&self, batch: &Self::Batch) -> Option<Vec<Vec<u32>>> {
        let _ = batch;
        None
    }

    /// Returns the number of tokens of each row of a batch, prompt and image included, for
    /// [`num_tokens`](crate::StepMetrics::num_tokens). The default is `None`: the metric is not
    /// reported.
    fn lengths(&self, batch: &Self::Batch) -> Option<Vec<usize>> {
        let _ = batch;
        None
    }

    /// Returns whether the collator uses the [system texts](PromptGroup::system) of groups. If not,
    /// the trainer logs a warning when pairs have system texts. The default is true.
    fn takes_system(&self) -> bool {
        true
    }

    /// Checks whether a group can be prepared. The trainer checks every group before the first
    /// step, so this should be fast: read only the header of an image. A group that passes may
    /// still fail in [`collate`](Self::collate).
    ///
    /// The default prepares the group.
    ///
    /// # Errors
    /// Returns an error if the group cannot be prepared.
    fn check(&mut self, group: &PromptGroup) -> Result<(), Self::Error> {
        self.collate(std::slice::from_ref(group)).map(drop)
    }

    /// [Checks](Self::check) several groups, and returns the results in order. The default checks
    /// them one by one. An implementation may use several threads.
    fn check_groups(&mut self, groups: &[PromptGroup]) -> Vec<Result<(), Self::Error>> {
        groups.iter().map(|group| self.check(group)).collect()
    }
}

/// A model that can be trained. It computes the log-probabilities of completions.
///
/// It returns log-probabilities instead of logits, so that an implementation can compute its output
/// layer only at the tokens of completions, and each image and prompt once per group.
pub trait Policy: Module {
    /// A batch; see [`Collate::Batch`].
    type Batch;

    /// Returns the log-probabilities of every completion in the batch.
    ///
    /// For the policy, the trainer calls it with [`Adapters::On`] on the module in training, under
    /// autodiff. For the reference, the trainer calls it with [`Adapters::Off`] on the
    /// [`Module::valid`] of the module before training, in which parameters that are trained
    /// without an adapter have their initial values.
    ///
    /// Dropout and noise must be off for the reference and in evaluations, which do not use an
    /// autodiff device. What is [drawn](Self::draws) on the device of the module is the same in a
    /// resumed run. If it changes the output of a new adapter, as noise on the adapter does,
    /// [`reference_differs`](crate::DpoConfig::reference_differs) must be set.
    fn token_logps(&self, batch: &Self::Batch, adapters: Adapters) -> TokenLogps;

    /// Returns [`token_logps`](Self::token_logps) with statistics of the distribution at each
    /// token. The default returns no statistics: metrics that need them are not reported, and a
    /// loss or weighting that needs them is an error.
    fn token_statistics(
        &self,
        batch: &Self::Batch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        (self.token_logps(batch, adapters), None)
    }

    /// Returns the number of tokens that [`token_divergences`](Self::token_divergences) compares
    /// the probabilities of. The default is `None`: the policy has no such function, and a loss that
    /// needs divergences is an error before the first step, as it is for a reference with another
    /// number.
    fn vocabulary(&self) -> Option<usize> {
        None
    }

    /// Returns [`token_logps`](Self::token_logps) of policy and reference with the divergence
    /// between their distributions at each token, for losses that [need
    /// it](crate::loss::LossProperties::token_divergences). `self` has its adapters on; `adapters`
    /// are those of the reference, which is not on an autodiff device. If `statistics` is true, the
    /// result has those of the policy.
    ///
    /// Both models are in one call, so that an implementation can compute the distributions in
    /// parts. The default returns `None`.
    fn token_divergences(
        &self,
        batch: &Self::Batch,
        reference: &Self,
        adapters: Adapters,
        statistics: bool,
    ) -> Option<TokenDivergences> {
        let _ = (batch, reference, adapters, statistics);
        None
    }

    /// Returns whether forward passes in training draw random numbers on the device of the module,
    /// as dropout and noise do. The device is then seeded before each of them. The default is true.
    ///
    /// Most backends have one random generator for the whole process, so on [several
    /// devices](crate::Trainer::with_devices) such calls of [`token_logps`](Self::token_logps),
    /// [`token_statistics`](Self::token_statistics) and
    /// [`token_divergences`](Self::token_divergences) do not overlap.
    fn draws(&self) -> bool {
        true
    }

    /// Returns a batch equal to `batch` with intermediate results that policy and reference share,
    /// for example the image features of a frozen vision tower.
    ///
    /// If the reference is the policy with its adapters off, the trainer calls it once per batch
    /// and uses the result in both passes. It is not called in evaluations. The default returns
    /// `None`.
    fn shared(&self, batch: &Self::Batch) -> Option<Self::Batch> {
        let _ = batch;
        None
    }
}
