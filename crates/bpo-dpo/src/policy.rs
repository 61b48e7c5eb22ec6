//! What the trainer asks of a model: log-probabilities of completions.

use bpo_pairs::sft::Turn;
use burn::module::Module;
use burn::tensor::{Bool, Tensor};

use crate::gradients::widen;

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
pub struct Group {
    /// Path of the image, relative to the image root.
    pub image: String,
    /// Annotated turns before the prompt, oldest first.
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// Its 1..k completions.
    pub completions: Vec<String>,
}

/// Log-probabilities of completion tokens.
///
/// Rows are the completions of all groups, in order: first the completions of the first group, and so on.
#[derive(Clone, Debug)]
pub struct TokenLogps {
    /// Log-probability of each token given all before it, in nats. `[completions, tokens]`, zero where `mask` is false.
    pub logps: Tensor<2>,
    /// True at tokens of the completion (its end token included), false at padding. `[completions, tokens]`
    pub mask: Tensor<2, Bool>,
}

impl TokenLogps {
    /// Sum over the tokens of each completion, in nats; in f32 if the log-probabilities are in half precision.
    /// `[completions]`
    pub fn sum(&self) -> Tensor<1> {
        widen(self.logps.clone()).sum_dim(1).squeeze_dim::<1>(1)
    }

    /// Number of tokens of each completion, on no autodiff tape. `[completions]`
    pub fn counts(&self) -> Tensor<1> {
        let counts = self.mask.clone().float().sum_dim(1).squeeze_dim::<1>(1);
        if counts.is_autodiff() { counts.inner() } else { counts }
    }
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
    fn collate(&mut self, groups: &[Group]) -> Result<Self::Batch, Self::Error>;

    /// Whether a group can be used. The trainer asks for every group before the first step.
    ///
    /// The default collates the group; an implementor can do with less, for instance not decode the whole image.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn check(&mut self, group: &Group) -> Result<(), Self::Error> {
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
    fn token_logps(&self, batch: &Self::Batch, adapters: Adapters) -> TokenLogps;
}
