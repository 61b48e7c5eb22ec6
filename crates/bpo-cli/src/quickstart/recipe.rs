//! The size of the quickstart and its settings.

use std::path::Path;

use bpo::distort::{DiffusionNoise, Distortion};
use bpo::dpo::LrGroup;
use bpo::dpo::loss::Loss;
use bpo::{DeviceSpec, RunConfig, Seed};

use super::splits::Splits;

/// Weight of the SFT term on the chosen answers in the loss.
pub const SFT_WEIGHT: f64 = 3.5;
/// Maximum length of an answer in tokens. The longest annotation is shorter.
pub const MAX_NEW_TOKENS: usize = 40;
/// Number of questions answered at a time.
pub const BATCH: usize = 64;

/// Numbers of images.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// For preference data.
    pub train: u64,
    /// In each evaluation split.
    pub evaluation: u64,
}

const FULL: Size = Size { train: 1024, evaluation: 250 };

impl Size {
    /// A fraction of the full size, with at least 8 images each.
    pub fn scaled(fraction: f64) -> Self {
        let scaled = |full: f64| (full * fraction).ceil().max(8.0) as u64;
        Self { train: scaled(FULL.train as f64), evaluation: scaled(FULL.evaluation as f64) }
    }

    /// Whether this is less than the full size.
    pub fn is_partial(self) -> bool {
        self.train < FULL.train
    }
}

/// The settings of the run: the authors' method, with learning rates for a model of a million
/// parameters, noise that hides small images, and an SFT term on the chosen answers.
pub fn config(base: &Path, splits: &Splits, seed: u64, device: DeviceSpec) -> RunConfig {
    let mut config = RunConfig::default();
    config.device = device.into();
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
        // the report does not use them
        .with_statistics(false);
    config
}
