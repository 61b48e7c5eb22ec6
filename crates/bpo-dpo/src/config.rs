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

/// The metric by which the best evaluation is chosen.
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

/// A method that computes a weight for each pair in each step.
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
    /// Coefficient of the implicit rewards. A larger one keeps the policy closer to the reference.
    /// Default: 0.1 (the BPO script, and TRL).
    pub beta: f64,
    /// Measure of the distance from the reference. Default: reverse KL, as in DPO.
    pub divergence: Divergence,
    /// Whether to train without a reference; see [`Objective::reference_free`]. Default: false.
    pub reference_free: bool,
    /// Updates of a [separate reference model](crate::Reference::Frozen) towards the policy
    /// (TR-DPO). Default: none, the reference is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_sync: Option<ReferenceSync>,
    /// Weight of the tokens of the longer completion that exceed the length of the shorter one; see
    /// [`Objective::ld_alpha`]. Default: none, all tokens have the same weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// Weight of the tokens in which the two completions differ; see
    /// [`Objective::changed_token_weight`]. Default: none, all tokens have the same weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_token_weight: Option<f64>,
    /// Whether to multiply the coefficient of each pair by the
    /// [responsiveness](crate::loss::responsiveness()) of the policy to its batch of
    /// [`batch_size`](Self::batch_size) pairs, which must be at least 3 (HaNoRec, arXiv
    /// 2511.18740). Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub responsiveness: bool,
    /// Target margin of the rewards per unit of the [margin](PreferencePair::margin) of a pair,
    /// which is the difference between the scores of its answers. The target margin of pairs
    /// without a margin is 0. Default: 0, no target margins. See [`PerPair::margin`].
    pub margin_scale: f64,
    /// Factors of the losses of pairs by the kind of their rejected completion (`mllm-hal`,
    /// `llm-hal`, ...). Default: none, a factor of 1.
    pub kind_weights: BTreeMap<CompletionKind, f64>,
    /// Additional factors of the losses, computed in each step. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighting: Option<Weighting>,
    /// Peak learning rate. Default: 2e-6 (the BPO script).
    pub learning_rate: f64,
    /// Groups of parameters with another peak learning rate. Default: none; the BPO script trains
    /// the projector at the same rate as the adapter.
    pub lr_groups: Vec<LrGroup>,
    /// Schedule of the learning rate. Default: cosine (the BPO script).
    pub schedule: Schedule,
    /// Fraction of all steps that is warm-up. Default: 0.03 (the BPO script).
    pub warmup_ratio: f64,
    /// Number of passes through all pairs. Default: 2 (the BPO script).
    pub epochs: usize,
    /// Number of optimizer steps, in place of `epochs`. Default: none.
    pub max_steps: Option<usize>,
    /// Number of pairs in one forward pass. Default: 4 (the BPO script).
    pub batch_size: usize,
    /// Number of forward passes in one optimizer step. Default: 1 (the BPO script).
    pub gradient_accumulation_steps: usize,
    /// Whether pairs of similar length are put into the same step, so that batches have less
    /// padding. As with `group_by_length` of transformers, the pairs of up to 50 steps, and of at
    /// most a quarter of an epoch, are sorted by their number of characters, and these steps are
    /// shuffled. Default: false (as in transformers).
    pub group_by_length: bool,
    /// Maximum global norm of the gradient; 0 for no limit. Default: 1 (transformers, and so the
    /// BPO script).
    pub max_grad_norm: f64,
    /// Weight decay of AdamW. Default: 0 (the BPO script).
    pub weight_decay: f64,
    /// Decay of the first moment. Default: 0.9 (torch and transformers).
    pub adam_beta1: f64,
    /// Decay of the second moment. Default: 0.999 (torch and transformers).
    pub adam_beta2: f64,
    /// Term in the denominator of AdamW. Default: 1e-8 (torch and transformers).
    pub adam_epsilon: f64,
    /// Seed of the order of the pairs, of the evaluation split, and of dropout and noise. Default: 42
    /// (transformers).
    pub seed: u64,
    /// Number of steps between checkpoints. The last step always has one. Default: 100 (ours).
    pub save_every: usize,
    /// Number of minutes between checkpoints, in addition to `save_every`. Default: 10 (ours).
    pub save_minutes: f64,
    /// Number of checkpoints to keep. Default: 2 (ours).
    pub keep_checkpoints: usize,
    /// Fraction of the pairs to evaluate on instead of training on them: whole groups of one image
    /// and prompt, drawn with the seed. Default: 0.
    pub eval_fraction: f64,
    /// Number of steps between evaluations. The last step always has one. Default: 100 (ours).
    pub eval_every: usize,
    /// Number of steps between calls of the [sampler](crate::Trainer::with_sampler), which is also
    /// called after the last step. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_every: Option<usize>,
    /// Criterion of the best evaluation, whose checkpoint is kept and whose parameters are returned
    /// at the end. Default: none, the parameters of the last step are returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<Criterion>,
    /// Number of consecutive evaluations without an improvement after which training ends. They are
    /// compared by `keep_best`, or by the loss if it is not set. Default: none, training does not
    /// end early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Whether policy and reference may differ before the first step, because the reference is
    /// another model or the adapter is already trained. Default: false, a difference is an error.
    pub reference_differs: bool,
    /// Tolerance of the check that policy and reference are equal before the first step. Default:
    /// none, which is [`INITIAL_TOLERANCE`]. The `bpo` crate uses a larger one for models that are
    /// not in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_tolerance: Option<f64>,
    /// Number of consecutive skipped steps after which training ends with an error. A step is
    /// skipped if its loss or gradient is not finite, or none of its pairs can be prepared.
    /// Default: 5 (ours).
    pub max_skipped: usize,
    /// Whether to compute the metrics that need the whole distribution at each token: entropy, mean
    /// logits and accuracy. Default: true (as in TRL).
    pub statistics: bool,
    /// Whether to write the metrics as event files of TensorBoard, too: to `tensorboard/` in the run
    /// directory. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// Whether to check every pair before the first step and to skip pairs that the collator cannot
    /// prepare, then or during the run. If false, such a pair is an error. Default: true (ours).
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
            changed_token_weight: None,
            responsiveness: false,
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
            tensorboard: false,
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
    with_changed_token_weight changed_token_weight: Option<f64>,
    with_responsiveness responsiveness: bool,
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
    with_tensorboard tensorboard: bool,
    with_validate_pairs validate_pairs: bool,
}

impl DpoConfig {
    /// Returns the objective with the built-in [`loss`](Self::loss).
    pub fn objective(&self) -> Objective {
        self.objective_with(self.loss.clone())
    }

    /// Returns the objective with another loss.
    pub fn objective_with<L: PreferenceLoss>(&self, loss: L) -> Objective<L> {
        Objective::new(loss, self.beta)
            .with_divergence(self.divergence)
            .with_reference_free(self.reference_free)
            .with_ld_alpha(self.ld_alpha)
            .with_changed_token_weight(self.changed_token_weight)
            .with_responsiveness(self.responsiveness)
    }

    /// Returns whether evaluations decide on the result or on the end of training, so that pairs to
    /// evaluate on are needed.
    pub fn needs_evaluations(&self) -> bool {
        self.keep_best.is_some() || self.patience.is_some()
    }

    /// Returns the settings of each pair, on the device of `logps`.
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

    /// Returns the number of pairs in one optimizer step.
    pub fn pairs_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.gradient_accumulation_steps)
    }

    /// Returns the settings of AdamW.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig::new()
            .with_beta_1(self.adam_beta1 as f32)
            .with_beta_2(self.adam_beta2 as f32)
            .with_epsilon(self.adam_epsilon as f32)
            .with_weight_decay(self.weight_decay as f32)
    }

    /// Returns the optimizer of a training with these settings.
    pub fn optimizer(&self) -> PathOptimizer {
        PathOptimizer::new(&self.adamw(), self.learning_rate, self.lr_groups.clone())
    }

    /// Checks that each learning-rate group has at least one trainable parameter of a policy.
    ///
    /// # Errors
    /// Returns [`DpoError::EmptyGroup`] for the first group without parameters.
    pub fn check_groups<M: Module>(&self, policy: &M) -> Result<(), DpoError> {
        self.optimizer().check_groups(policy)
    }

    /// Keys of the settings that affect no step, but decide which step is the last one and whose
    /// parameters are the result. They are also in [`AFFECTS_NO_STEP`](Self::AFFECTS_NO_STEP).
    pub const AFFECTS_ONLY_RESULT: [&'static str; 3] = ["eval_every", "keep_best", "patience"];

    /// Keys of the settings that do not affect the steps. Training can resume with other values of
    /// them.
    pub const AFFECTS_NO_STEP: [&'static str; 13] = [
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
        "tensorboard",
        "validate_pairs",
    ];
}
