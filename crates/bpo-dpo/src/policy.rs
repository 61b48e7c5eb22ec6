//! What the trainer asks of a model: log-probabilities of completions.

use bpo_pairs::Turn;
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};

use crate::gradients::widen;
use crate::tensors::off_tape;

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

    /// Number of rows.
    pub(crate) fn completions(&self) -> usize {
        self.logps.dims()[0]
    }

    /// The same on no autodiff tape. `[completions]`
    pub(crate) fn detached_sum(&self) -> Tensor<1> {
        off_tape(self.sum())
    }

    /// Number of tokens of each completion, on no autodiff tape. `[completions]`
    pub fn counts(&self) -> Tensor<1> {
        off_tape(self.mask.clone().float().sum_dim(1).squeeze_dim::<1>(1))
    }
}

/// What the distribution over the vocabulary is like at each token, beside the token's own log-probability. All are
/// `[completions, tokens]`, as in the [`TokenLogps`] of the same pass, f32, zero at padding and on no autodiff tape.
#[derive(Clone, Debug)]
pub struct TokenStatistics {
    /// `-sum_v p_v log p_v`, in nats.
    pub entropy: Tensor<2>,
    /// Mean of the logits.
    pub mean_logit: Tensor<2>,
    /// `log sum_v p_v^2`, which WPO needs.
    pub log_sum_squares: Tensor<2>,
    /// 1 where the token is the likeliest one, else 0.
    pub top1: Tensor<2>,
}

impl TokenStatistics {
    /// Number of statistics.
    pub const COUNT: usize = 4;

    /// The statistics of single tokens, in the order of the fields.
    ///
    /// # Shapes
    /// - `logits`: `[tokens, vocab]`
    /// - `targets`: `[tokens, 1]`
    /// - output: `[tokens, 4]`, on no autodiff tape
    pub fn of_logits(logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
        let logits = widen(off_tape(logits));
        Self::of_logps(logits.clone(), log_softmax(logits, 1), targets)
    }

    /// The same where the log-probabilities of the whole vocabulary are there already. `[tokens, vocab]`
    pub fn of_logps(logits: Tensor<2>, logps: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
        let (logits, logps) = (widen(off_tape(logits)), widen(off_tape(logps)));
        let targets = off_tape(targets);
        let p = logps.clone().exp();
        let entropy = (p.clone() * logps).sum_dim(1).neg();
        let squares = p.square().sum_dim(1).log();
        let top1 = logits.clone().argmax(1).equal(targets).float().cast(logits.dtype());
        Tensor::cat(vec![entropy, logits.mean_dim(1), squares, top1], 1)
    }

    /// Takes the statistics of all completions apart. `[completions, tokens, 4]`
    pub fn unpack(statistics: Tensor<3>) -> Self {
        let part = |at: usize| statistics.clone().narrow(2, at, 1).squeeze_dim::<2>(2);
        Self { entropy: part(0), mean_logit: part(1), log_sum_squares: part(2), top1: part(3) }
    }
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
    /// [compares images](crate::loss::Loss::needs_weakened). The default is false: such groups never come.
    fn weakens(&self) -> bool {
        false
    }

    /// What each row of a batch is computed from, in the order of the rows, so that a
    /// [cached reference](crate::reference::LogpCache) sees when an image, a text or the tokenizer changed. The default
    /// does not say it; then only the texts themselves are compared.
    fn fingerprints(&self, batch: &Self::Batch) -> Option<Vec<RowFingerprint>> {
        let _ = batch;
        None
    }

    /// Number of tokens of each row of a batch, of those before the completion and of the image's too: for
    /// [`num_tokens`](crate::metrics::StepMetrics::num_tokens). The default does not say it; then that figure is left out.
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
