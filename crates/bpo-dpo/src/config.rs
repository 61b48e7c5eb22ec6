//! Settings of a training run.

mod validate;

use std::collections::BTreeMap;

use bpo_pairs::{CompletionKind, PreferencePair};
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::loss::{Divergence, Loss, Objective, PerPair, PreferenceLoss};
use crate::metrics::EvalMetrics;
use crate::optimizer::{LrGroup, PathOptimizer};
use crate::reference::ReferenceSync;
use crate::schedule::Schedule;

/// Default of [`DpoConfig::initial_tolerance`], for f32.
pub const INITIAL_TOLERANCE: f64 = 1e-4;

/// The metric that decides which evaluation is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Criterion {
    /// The lowest loss.
    Loss,
    /// The largest mean margin of the rewards.
    Margins,
    /// The largest fraction of pairs whose chosen completion has the higher reward.
    Accuracies,
}

impl Criterion {
    pub(crate) fn value(self, metrics: &EvalMetrics) -> f64 {
        match self {
            Self::Loss => metrics.loss,
            Self::Margins => metrics.rewards_margins,
            Self::Accuracies => metrics.rewards_accuracies,
        }
    }

    pub(crate) fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::Loss => value < than,
            Self::Margins | Self::Accuracies => value > than,
        }
    }
}

/// Weights of pairs that are computed in each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Weighting {
    /// The weights of WPO; see [`wpo_weights`](crate::loss::wpo_weights).
    Wpo,
}

/// Settings of a training run. The defaults are those of the BPO authors' training script for
/// LLaVA-1.5 (Pi et al., arXiv 2403.08730).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DpoConfig {
    /// The loss. Default: sigmoid without label smoothing (the BPO script).
    pub loss: Loss,
    /// Coefficient of the implicit rewards: the strength of the pull towards the reference.
    /// Default: 0.1 (the BPO script, and TRL).
    pub beta: f64,
    /// Measure of the distance from the reference. Default: reverse KL, as in DPO.
    pub divergence: Divergence,
    /// Trains without a reference; see [`Objective::reference_free`]. Default: false.
    pub reference_free: bool,
    /// Lets a reference that is [a model of its own](crate::Reference::Frozen) follow the policy
    /// (TR-DPO). Default: none, a fixed reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_sync: Option<ReferenceSync>,
    /// Weight of the tokens behind the shorter completion's length; see [`Objective::ld_alpha`].
    /// Default: none, all tokens alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// Target margin of the rewards per unit of a pair's own [margin](PreferencePair::margin), the
    /// difference of its answers' scores. Pairs without a margin have none. Default: 0, no margins.
    /// See [`PerPair::margin`].
    pub margin_scale: f64,
    /// Factors of the losses of pairs by the kind of their rejected completion (`mllm-hal`,
    /// `llm-hal`, ...). Default: none, a factor of 1.
    pub kind_weights: BTreeMap<CompletionKind, f64>,
    /// Further factors of the losses, computed in each step. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighting: Option<Weighting>,
    /// Peak learning rate. Default: 2e-6 (the BPO script).
    pub learning_rate: f64,
    /// Parameters with a peak learning rate of their own. Default: none; the BPO script trains the
    /// projector at the same rate as the adapter.
    pub lr_groups: Vec<LrGroup>,
    /// Schedule of the learning rate. Default: cosine (the BPO script).
    pub schedule: Schedule,
    /// Fraction of all steps that is warm-up. Default: 0.03 (the BPO script).
    pub warmup_ratio: f64,
    /// Passes through all pairs. Default: 2 (the BPO script).
    pub epochs: usize,
    /// Number of optimizer steps, in place of `epochs`. Default: none.
    pub max_steps: Option<usize>,
    /// Pairs in one forward pass. Default: 4 (the BPO script).
    pub batch_size: usize,
    /// Forward passes in one optimizer step. Default: 1 (the BPO script).
    pub gradient_accumulation_steps: usize,
    /// Puts pairs of similar length into the same step, so that batches have less padding, as
    /// `group_by_length` of transformers: sorts the pairs of up to 50 steps, and of at most a
    /// quarter of an epoch, by their number of characters, and shuffles these steps. Default: false
    /// (as transformers).
    pub group_by_length: bool,
    /// Limit of the gradient's global norm; 0 for none. Default: 1 (transformers, and so the BPO
    /// script).
    pub max_grad_norm: f64,
    /// Weight decay of AdamW. Default: 0 (the BPO script).
    pub weight_decay: f64,
    /// Decay of the first moment. Default: 0.9 (torch and transformers).
    pub adam_beta1: f64,
    /// Decay of the second moment. Default: 0.999 (torch and transformers).
    pub adam_beta2: f64,
    /// Term in AdamW's denominator. Default: 1e-8 (torch and transformers).
    pub adam_epsilon: f64,
    /// Seed of the order of the pairs, of the evaluation split and of dropout. Default: 42
    /// (transformers).
    pub seed: u64,
    /// Steps between checkpoints; the last step always has one. Default: 100 (ours).
    pub save_every: usize,
    /// Minutes between checkpoints, whatever `save_every` is. Default: 10 (ours).
    pub save_minutes: f64,
    /// Number of checkpoints to keep. Default: 2 (ours).
    pub keep_checkpoints: usize,
    /// Fraction of the pairs to evaluate on in place of training: whole groups of one image and
    /// prompt, drawn with the seed. Default: 0.
    pub eval_fraction: f64,
    /// Steps between evaluations; the last step always has one. Default: 100 (ours).
    pub eval_every: usize,
    /// Steps between calls of the [sampler](crate::Trainer::with_sampler), which is also called
    /// after the last step. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_every: Option<usize>,
    /// Keeps the best checkpoint and returns its parameters at the end. Default: none, those of the
    /// last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<Criterion>,
    /// Ends the training after this many evaluations in a row that are no better than the best by
    /// `keep_best`, or by the loss if that is not set. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Accepts that policy and reference differ before the first step, because the reference is
    /// another model or the adapter is already trained. Default: false, a difference is an error.
    pub reference_differs: bool,
    /// Tolerance of the check before the first step that policy and reference are equal. Default:
    /// none, which is [`INITIAL_TOLERANCE`]; the `bpo` crate widens it for a model that is not f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_tolerance: Option<f64>,
    /// Skipped steps in a row after which training ends with an error. A step is skipped if its
    /// loss or gradient is not finite, or none of its pairs can be prepared. Default: 5 (ours).
    pub max_skipped: usize,
    /// Computes the metrics that need the whole distribution at each token: entropy, mean logits
    /// and accuracy. Default: true (as TRL).
    pub statistics: bool,
    /// Checks every pair before the first step, and skips those that the collator refuses, then or
    /// during the run. If false, such a pair is an error. Default: true (ours).
    pub validate_pairs: bool,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            loss: Loss::default(),
            beta: 0.1,
            divergence: Divergence::default(),
            reference_free: false,
            reference_sync: None,
            ld_alpha: None,
            margin_scale: 0.0,
            kind_weights: BTreeMap::new(),
            weighting: None,
            learning_rate: 2e-6,
            lr_groups: Vec::new(),
            schedule: Schedule::Cosine,
            warmup_ratio: 0.03,
            epochs: 2,
            max_steps: None,
            batch_size: 4,
            gradient_accumulation_steps: 1,
            group_by_length: false,
            max_grad_norm: 1.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            seed: 42,
            save_every: 100,
            save_minutes: 10.0,
            keep_checkpoints: 2,
            eval_fraction: 0.0,
            eval_every: 100,
            sample_every: None,
            keep_best: None,
            patience: None,
            reference_differs: false,
            initial_tolerance: None,
            max_skipped: 5,
            statistics: true,
            validate_pairs: true,
        }
    }
}

macro_rules! with {
    ($($method:ident $field:ident: $type:ty),* $(,)?) => {
        impl DpoConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $method(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

with! {
    with_loss loss: Loss,
    with_beta beta: f64,
    with_divergence divergence: Divergence,
    with_reference_free reference_free: bool,
    with_reference_sync reference_sync: Option<ReferenceSync>,
    with_ld_alpha ld_alpha: Option<f64>,
    with_margin_scale margin_scale: f64,
    with_weighting weighting: Option<Weighting>,
    with_kind_weights kind_weights: BTreeMap<CompletionKind, f64>,
    with_learning_rate learning_rate: f64,
    with_lr_groups lr_groups: Vec<LrGroup>,
    with_schedule schedule: Schedule,
    with_warmup_ratio warmup_ratio: f64,
    with_epochs epochs: usize,
    with_max_steps max_steps: Option<usize>,
    with_batch_size batch_size: usize,
    with_gradient_accumulation_steps gradient_accumulation_steps: usize,
    with_group_by_length group_by_length: bool,
    with_max_grad_norm max_grad_norm: f64,
    with_weight_decay weight_decay: f64,
    with_adam_beta1 adam_beta1: f64,
    with_adam_beta2 adam_beta2: f64,
    with_adam_epsilon adam_epsilon: f64,
    with_seed seed: u64,
    with_save_every save_every: usize,
    with_save_minutes save_minutes: f64,
    with_keep_checkpoints keep_checkpoints: usize,
    with_eval_fraction eval_fraction: f64,
    with_eval_every eval_every: usize,
    with_sample_every sample_every: Option<usize>,
    with_keep_best keep_best: Option<Criterion>,
    with_patience patience: Option<usize>,
    with_reference_differs reference_differs: bool,
    with_initial_tolerance initial_tolerance: Option<f64>,
    with_max_skipped max_skipped: usize,
    with_statistics statistics: bool,
    with_validate_pairs validate_pairs: bool,
}

impl DpoConfig {
    /// The objective with the built-in [`loss`](Self::loss).
    pub fn objective(&self) -> Objective {
        self.objective_with(self.loss.clone())
    }

    /// The objective with another loss.
    pub fn objective_with<L: PreferenceLoss>(&self, loss: L) -> Objective<L> {
        Objective::new(loss, self.beta)
            .with_divergence(self.divergence)
            .with_reference_free(self.reference_free)
            .with_ld_alpha(self.ld_alpha)
    }

    /// Returns whether evaluations decide on the result or on the end of training, so that pairs to
    /// evaluate on are needed.
    pub fn needs_evaluations(&self) -> bool {
        self.keep_best.is_some() || self.patience.is_some()
    }

    /// Settings of single pairs, on the device of their log-probabilities.
    pub(crate) fn factors(&self, pairs: &[&PreferencePair], logps: &Tensor<1>) -> PerPair {
        let column = |is_set: bool, of: &dyn Fn(&PreferencePair) -> f64| {
            is_set.then(|| {
                let values: Vec<f64> = pairs.iter().map(|pair| of(pair)).collect();
                let data = TensorData::new(values, [pairs.len()]);
                Tensor::from_data(data, (&logps.device().inner(), logps.dtype()))
            })
        };
        let weight = |pair: &PreferencePair| self.kind_weights.get(&pair.kind).copied().unwrap_or(1.0);
        PerPair {
            beta: column(pairs.iter().any(|pair| pair.beta.is_some()), &|pair| {
                pair.beta.unwrap_or(self.beta)
            }),
            margin: column(self.margin_scale != 0.0, &|pair| {
                self.margin_scale * pair.margin.unwrap_or_default()
            }),
            weight: column(!self.kind_weights.is_empty(), &weight),
        }
    }

    /// Pairs in one optimizer step.
    pub fn pairs_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.gradient_accumulation_steps)
    }

    /// The optimizer's settings.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig::new()
            .with_beta_1(self.adam_beta1 as f32)
            .with_beta_2(self.adam_beta2 as f32)
            .with_epsilon(self.adam_epsilon as f32)
            .with_weight_decay(self.weight_decay as f32)
    }

    /// The optimizer of a training with these settings.
    pub fn optimizer(&self) -> PathOptimizer {
        PathOptimizer::new(&self.adamw(), self.learning_rate, self.lr_groups.clone())
    }

    /// Checks that each learning-rate group has parameters of a policy.
    ///
    /// # Errors
    /// [`DpoError::EmptyGroup`] for the first group without parameters.
    pub fn check_groups<M: Module>(&self, policy: &M) -> Result<(), DpoError> {
        self.optimizer().check_groups(policy)
    }

    /// Keys of the settings that affect no step, but decide which step is the last one and whose
    /// parameters are the result. They are also in [`AFFECTS_NO_STEP`](Self::AFFECTS_NO_STEP).
    pub const AFFECTS_ONLY_RESULT: [&'static str; 3] = ["eval_every", "keep_best", "patience"];

    /// Keys of the settings that affect no step: training may resume with other values of these.
    pub const AFFECTS_NO_STEP: [&'static str; 12] = [
        "save_every",
        "save_minutes",
        "keep_checkpoints",
        "eval_every",
        "sample_every",
        "keep_best",
        "patience",
        "reference_differs",
        "initial_tolerance",
        "max_skipped",
        "statistics",
        "validate_pairs",
    ];
}
