//! How large the demonstration is, and its settings.

use std::path::Path;

use bpo::distort::{DiffusionNoise, Distortion};
use bpo::dpo::LrGroup;
use bpo::dpo::loss::Loss;
use bpo::{DeviceSpec, RunConfig, Seed};

use super::splits::Splits;

/// Weight of the likelihood of the chosen answer in the loss.
pub const SFT_WEIGHT: f64 = 3.5;
/// Longest answer in tokens; the longest annotation has fewer.
pub const MAX_NEW_TOKENS: usize = 40;
/// Questions answered at a time.
pub const BATCH: usize = 64;

/// Numbers of images.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// To make preference data of.
    pub train: u64,
    /// Of each split that is evaluated on.
    pub evaluation: u64,
}

const WHOLE: Size = Size { train: 1024, evaluation: 250 };

impl Size {
    /// A part of the whole demonstration.
    pub fn scaled(part: f64) -> Self {
        let scaled = |whole: f64| (whole * part).ceil().max(8.0) as u64;
        Self { train: scaled(WHOLE.train as f64), evaluation: scaled(WHOLE.evaluation as f64) }
    }

    /// Whether it is less than the whole demonstration.
    pub fn is_part(self) -> bool {
        self.train < WHOLE.train
    }
}

/// The settings of the run: the authors' method, with rates that fit a model of a million parameters, noise that hides
/// small pictures, and a term that keeps the chosen answers likely.
pub fn config(base: &Path, splits: &Splits, seed: u64, device: DeviceSpec) -> RunConfig {
    let mut config = RunConfig::default();
    config.device = device;
    config.seed = Seed(seed);
    config.model.path = Some(base.to_owned());
    config.data.path = Some(splits.train.data.clone());
    config.data.images = Some(splits.train.images.clone());
    config.weaken.distortion = Distortion::from(DiffusionNoise { step: 999.into() }).into();
    config.weaken.temperature = 0.7;
    config.weaken.max_new_tokens = MAX_NEW_TOKENS;
    config.weaken.batch_size = BATCH;
    config.lora.r = 16;
    config.lora.lora_alpha = 32.0;
    config.train = config
        .train
        .with_seed(seed)
        .with_loss(Loss::sigmoid_with_sft(SFT_WEIGHT))
        .with_beta(0.2)
        .with_learning_rate(1.5e-3)
        .with_lr_groups(vec![LrGroup { path: "trained_projector".into(), learning_rate: 2e-4 }])
        .with_warmup_ratio(0.1)
        .with_epochs(1)
        .with_batch_size(16)
        // no figure of the report needs them
        .with_statistics(false);
    config
}
