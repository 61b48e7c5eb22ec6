//! Settings of a training run.

use burn::optim::AdamWConfig;
use serde::{Deserialize, Serialize};

use crate::error::DpoError;
use crate::loss::Loss;
use crate::optimizer::LrGroup;
use crate::schedule::Schedule;

/// How far loss and margins may be from those of an untouched adapter where nothing else is set (ours, for f32).
pub const STEP_ZERO_TOLERANCE: f64 = 1e-4;

/// Settings of a training run. The defaults are the recipe of the BPO authors (Pi et al., arXiv 2403.08730) for
/// LLaVA-1.5, from their released training script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DpoConfig {
    /// What is minimized. Default: sigmoid without label smoothing (the BPO script).
    pub loss: Loss,
    /// How strongly the policy is held to the reference. Default: 0.1 (the BPO script; also TRL's).
    pub beta: f64,
    /// Peak learning rate. Default: 2e-6 (the BPO script).
    pub learning_rate: f64,
    /// Parameters with a peak learning rate of their own. Default: none; the BPO script trains the projector at the
    /// same rate as the adapter.
    pub lr_groups: Vec<LrGroup>,
    /// Course of the learning rate. Default: cosine (the BPO script).
    pub schedule: Schedule,
    /// Part of all steps that is warm-up. Default: 0.03 (the BPO script).
    pub warmup_ratio: f64,
    /// How often all pairs are gone through. Default: 2 (the BPO script).
    pub epochs: usize,
    /// Number of optimizer steps, instead of `epochs`. Default: none.
    pub max_steps: Option<usize>,
    /// Pairs in one forward pass. Default: 4 (the BPO script).
    pub batch_size: usize,
    /// Forward passes in one optimizer step. Default: 1 (the BPO script).
    pub accumulation: usize,
    /// Limit of the gradient's norm; 0 for none. Default: 1 (the default of transformers, which the script keeps).
    pub max_grad_norm: f64,
    /// Decay of AdamW. Default: 0 (the BPO script).
    pub weight_decay: f64,
    /// Decay of the first moment. Default: 0.9 (torch and transformers).
    pub adam_beta1: f64,
    /// Decay of the second moment. Default: 0.999 (torch and transformers).
    pub adam_beta2: f64,
    /// Term in AdamW's denominator. Default: 1e-8 (torch and transformers).
    pub adam_epsilon: f64,
    /// Decides the order of the data. Default: 42 (the default of transformers).
    pub seed: u64,
    /// Steps between checkpoints; the last step always has one. Default: 100 (ours).
    pub save_every: usize,
    /// Minutes after which there is a checkpoint even so. Default: 10 (ours).
    pub save_minutes: f64,
    /// How many checkpoints are kept. Default: 2 (ours).
    pub keep_checkpoints: usize,
    /// The adapter is already trained, so the first loss is not that of an untouched one. Default: false.
    pub pretrained_adapter: bool,
    /// How far loss and margins may be from those of an untouched adapter before the first step. Default: none, which is
    /// [`STEP_ZERO_TOLERANCE`]; the `bpo` crate widens it where the model is not f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_zero_tolerance: Option<f64>,
    /// Steps in a row whose loss or gradient is not finite, after which training ends with an error; until then they
    /// are left out. Default: 5 (ours).
    pub max_skipped: usize,
    /// Ask the collator for every group before the first step, and set aside what it refuses. Default: true (ours).
    pub vet: bool,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            loss: Loss::default(),
            beta: 0.1,
            learning_rate: 2e-6,
            lr_groups: Vec::new(),
            schedule: Schedule::Cosine,
            warmup_ratio: 0.03,
            epochs: 2,
            max_steps: None,
            batch_size: 4,
            accumulation: 1,
            max_grad_norm: 1.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            seed: 42,
            save_every: 100,
            save_minutes: 10.0,
            keep_checkpoints: 2,
            pretrained_adapter: false,
            step_zero_tolerance: None,
            max_skipped: 5,
            vet: true,
        }
    }
}

macro_rules! with {
    ($($method:ident $field:ident: $type:ty),* $(,)?) => {
        impl DpoConfig {
            $(
                #[doc = concat!("The same settings with another [`", stringify!($field), "`](Self::", stringify!($field), ").")]
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
    with_learning_rate learning_rate: f64,
    with_lr_groups lr_groups: Vec<LrGroup>,
    with_schedule schedule: Schedule,
    with_warmup_ratio warmup_ratio: f64,
    with_epochs epochs: usize,
    with_max_steps max_steps: Option<usize>,
    with_batch_size batch_size: usize,
    with_accumulation accumulation: usize,
    with_max_grad_norm max_grad_norm: f64,
    with_weight_decay weight_decay: f64,
    with_adam_beta1 adam_beta1: f64,
    with_adam_beta2 adam_beta2: f64,
    with_adam_epsilon adam_epsilon: f64,
    with_seed seed: u64,
    with_save_every save_every: usize,
    with_save_minutes save_minutes: f64,
    with_keep_checkpoints keep_checkpoints: usize,
    with_pretrained_adapter pretrained_adapter: bool,
    with_step_zero_tolerance step_zero_tolerance: Option<f64>,
    with_max_skipped max_skipped: usize,
    with_vet vet: bool,
}

impl DpoConfig {
    /// Checks each setting.
    ///
    /// # Errors
    /// [`DpoError::Setting`] for the first outside its range.
    pub fn validate(&self) -> Result<(), DpoError> {
        self.loss.validate()?;
        for (key, value) in
            [("beta", self.beta), ("adam_epsilon", self.adam_epsilon), ("save_minutes", self.save_minutes)]
        {
            check(key, value > 0.0 && value.is_finite(), "a finite number above 0", value)?;
        }
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("weight_decay", self.weight_decay),
            ("step_zero_tolerance", self.step_zero_tolerance.unwrap_or_default()),
        ] {
            check(key, value >= 0.0 && value.is_finite(), "a finite number, at least 0", value)?;
        }
        for group in &self.lr_groups {
            let rate = group.learning_rate;
            check(
                "lr_groups.learning_rate",
                rate >= 0.0 && rate.is_finite(),
                "a finite number, at least 0",
                rate,
            )?;
        }
        for (key, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            check(key, (0.0..1.0).contains(&value), "at least 0 and less than 1", value)?;
        }
        check("warmup_ratio", (0.0..=1.0).contains(&self.warmup_ratio), "from 0 to 1", self.warmup_ratio)?;
        for (key, value) in [
            ("epochs", self.epochs),
            ("max_steps", self.max_steps.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("accumulation", self.accumulation),
            ("save_every", self.save_every),
            ("keep_checkpoints", self.keep_checkpoints),
            ("max_skipped", self.max_skipped),
        ] {
            check(key, value > 0, "at least 1", value)?;
        }
        Ok(())
    }

    /// Pairs in one optimizer step.
    pub fn pairs_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulation)
    }

    /// The optimizer's settings.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig::new()
            .with_beta_1(self.adam_beta1 as f32)
            .with_beta_2(self.adam_beta2 as f32)
            .with_epsilon(self.adam_epsilon as f32)
            .with_weight_decay(self.weight_decay as f32)
    }

    /// These settings without those that change nothing in what is learned, so that a run can go on with others.
    pub(crate) fn course(&self) -> Self {
        let Self {
            save_every,
            save_minutes,
            keep_checkpoints,
            pretrained_adapter,
            step_zero_tolerance,
            max_skipped,
            vet,
            ..
        } = Self::default();
        Self {
            save_every,
            save_minutes,
            keep_checkpoints,
            pretrained_adapter,
            step_zero_tolerance,
            max_skipped,
            vet,
            ..self.clone()
        }
    }
}

fn check(
    key: &'static str,
    holds: bool,
    expected: &'static str,
    found: impl std::fmt::Display,
) -> Result<(), DpoError> {
    match holds {
        true => Ok(()),
        false => Err(DpoError::Setting { key, expected, found: found.to_string() }),
    }
}
