//! What the trainer asks of a model: log-probabilities of completions.

use bpo_pairs::Turn;
use burn::module::Module;

use crate::loss::{TokenLogps, TokenStatistics};

/// Whether a policy's adapters take part in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// The policy that is trained.
    On,
    /// The model as it was before training: the reference.
    Off,
}

/// One image and prompt with its completions, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptGroup {
    /// Path of the image, relative to the image root.
    pub image: String,
    /// Whether the image is to be weakened, see [`Collate::weakens`].
    pub weakened: bool,
    /// The system text before the conversation, if there is one.
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// Its 1..k completions.
    pub completions: Vec<String>,
}

/// What one row of a batch is computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFingerprint {
    /// SHA-256 of the pixels as the model gets them.
    pub image: [u8; 32],
    /// SHA-256 of the token ids, of those before the completion too.
    pub tokens: [u8; 32],
}

/// Turns groups into what the policy takes: tokens, pixels, masks.
pub trait Collate {
    /// What [`Policy::token_logps`] takes.
    type Batch;
    /// What can be wrong with a group (image missing, prompt too long, ...).
    type Error: std::error::Error + Send + Sync + 'static;

    /// Prepares groups for one forward pass. Row order is that of [`TokenLogps`].
    ///
    /// The batch serves the policy and the reference, so its tensors are plain ones (not on an autodiff device).
    ///
    /// # Errors
    /// If any group cannot be used; the error names it.
    fn collate(&mut self, groups: &[PromptGroup]) -> Result<Self::Batch, Self::Error>;

    /// Whether it weakens the images of [weakened](PromptGroup::weakened) groups: what a loss needs that
    /// [compares images](crate::loss::LossProperties::weakened). The default is false: such groups never come.
    fn weakens(&self) -> bool {
        false
    }

    /// What each row of a batch is computed from, in the order of the rows, so that a
    /// [cached reference](crate::LogpCache) sees when an image, a text or the tokenizer changed. The default
    /// does not say it; then only the texts themselves are compared.
    fn fingerprints(&self, batch: &Self::Batch) -> Option<Vec<RowFingerprint>> {
        let _ = batch;
        None
    }

    /// Number of tokens of each row of a batch, of those before the completion and of the image's too: for
    /// [`num_tokens`](crate::StepMetrics::num_tokens). The default does not say it; then that figure is left out.
    fn lengths(&self, batch: &Self::Batch) -> Option<Vec<usize>> {
        let _ = batch;
        None
    }

    /// Whether it reads the [system texts](PromptGroup::system) of groups. One that does not leaves them out, and the trainer warns of
    /// it. The default is true.
    fn takes_system(&self) -> bool {
        true
    }

    /// Whether a group can be used. The trainer asks for every group before the first step.
    ///
    /// The default collates the group; an implementor can do with less, for instance not decode the whole image.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn check(&mut self, group: &PromptGroup) -> Result<(), Self::Error> {
        self.collate(std::slice::from_ref(group)).map(drop)
    }
}

/// A model that gives log-probabilities of completions, and is trained by them.
///
/// It gives log-probabilities, not logits, so that an implementor can compute its head for completion tokens only and
/// each image and prompt once per group.
pub trait Policy: Module {
    /// A prepared batch.
    type Batch;

    /// Log-probabilities of every completion in the batch.
    ///
    /// Called on the module in training (under autodiff) with [`Adapters::On`] for the policy, and with
    /// [`Adapters::Off`] for the reference, on the [`Module::valid`] of the module as it was before training: so
    /// parameters that are trained without an adapter have their first values there.
    ///
    /// What is random in training, as dropout is, must be left out of the reference and out of evaluations, which are on no
    /// device with autodiff, and must not change what a fresh adapter gives. Drawn on the module's device it is the same in a
    /// run that was stopped and taken up.
    fn token_logps(&self, batch: &Self::Batch, adapters: Adapters) -> TokenLogps;

    /// The same with statistics of each token's distribution, for policies that have them. The default has none; then
    /// figures that need them are left out, and a weighting that does is an error.
    fn token_statistics(
        &self,
        batch: &Self::Batch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        (self.token_logps(batch, adapters), None)
    }

    /// A batch that gives the same as `batch` and has in it what is the same with adapters and without, computed once: features
    /// of images, say, whose tower is frozen.
    ///
    /// Called on the module in training, not in an evaluation, where the reference is the policy with its adapters off; both
    /// passes of the step then take what it gives. The default gives none.
    fn shared(&self, batch: &Self::Batch) -> Option<Self::Batch> {
        let _ = batch;
        None
    }
}
