//! The settings of a run, as one TOML file.
//!
//! These keys have no default: `model.path`, `data.path`, `data.images`, `base_url` and `model` of
//! `[weaken.server]`, `[judge.server]` and `[inject.server]`, and `path` of an entry of `train.lr_groups`. Every other key has one.
//! Defaults follow the recipe of the BPO authors (Pi et al., ECCV 2024, arXiv 2403.08730) where it
//! gives a value. Defaults marked "ours" are not from the authors.

#[cfg(feature = "model")]
mod adapter;
mod affects;
mod answers;
mod changes;
mod chosen;
mod distortions;
mod full_finetune;
mod judge;
mod preset;
mod read;
mod required;
mod resolve;
mod sections;
mod validate;
#[cfg(feature = "model")]
mod validate_training;

use std::path::{Path, PathBuf};

#[cfg(feature = "model")]
use bpo_dpo::DpoConfig;
#[cfg(feature = "model")]
use bpo_model::LoraConfig;
use bpo_pairs::{PairFilter, PairSelection};
use serde::{Deserialize, Serialize};

pub(crate) use affects::may_change_until_finished;
pub use answers::{InjectSection, SentFormat, SentImages, WeakenSection};
pub use changes::Change;
pub(crate) use changes::{REFUSALS, stage_settings};
pub(crate) use chosen::CHOSEN;
pub use chosen::{ChosenAnswer, TruthSection};
pub use distortions::Distortions;
pub use full_finetune::FullFinetuneSection;
pub use judge::{JudgeMethod, JudgeSection};
pub use preset::Preset;
pub use required::{Missing, Required};
pub use resolve::Settings;
pub use sections::{ConditionalSection, DataSection, ModelSection, ReferenceSection, VideoSection};
pub(crate) use validate::{check_temperature, check_top_p};
#[cfg(feature = "model")]
pub(crate) use validate_training::NO_DISTRIBUTIONS;

use crate::device::Devices;
#[cfg(feature = "model")]
use crate::device::Dtype;
use crate::error::BpoError;
use crate::hub::HubModel;
use crate::stage::Stage;
use affects::Affects;

/// Default of `train.initial_tolerance` in bf16 and f16 (ours).
///
/// It bounds the deviation of loss and reward margins before the first step. Rounding of
/// log-probabilities summed over hundreds of tokens stays below it, and a wrong reference exceeds
/// it.
pub const HALF_PRECISION_TOLERANCE: f64 = 0.25;

/// Settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunConfig {
    /// The recipe that gives the values of settings that are not set. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Device on which tensors are computed, or several separated by commas. Default: `flex` (ours).
    pub device: Devices,
    /// Seed of weakening, injection, the selection of pairs and the initial values of the adapter.
    /// Default: 42, the default of transformers, as for `train.seed`, which orders the training data.
    pub seed: Seed,
    /// Number of rounds of `bpo run`; see [`run_rounds`](crate::run_rounds). Default: one run without
    /// rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// The chosen answers of the pairs. Default: `annotated` (BPO).
    #[serde(skip_serializing_if = "ChosenAnswer::is_annotated")]
    pub chosen: ChosenAnswer,
    /// The checkpoint.
    pub model: ModelSection,
    /// The annotated data.
    pub data: DataSection,
    /// The objects in the images, for `chosen = "revised"`.
    #[serde(skip_serializing_if = "TruthSection::is_empty")]
    pub truth: TruthSection,
    /// Image weakening.
    pub weaken: WeakenSection,
    /// Scores of answers by a judge.
    pub judge: JudgeSection,
    /// Error injection.
    pub inject: InjectSection,
    /// Filter of preference pairs.
    pub filter: PairFilter,
    /// Selection of preference pairs.
    pub pair: PairSelection,
    /// The LoRA adapter.
    #[cfg(feature = "model")]
    pub lora: LoraConfig,
    /// The LoRA adapter. A build without the feature `model` keeps the table unchanged.
    #[cfg(not(feature = "model"))]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub lora: toml::Table,
    /// Training of the model's weights instead of an adapter. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_finetune: Option<FullFinetuneSection>,
    /// The reference model.
    pub reference: ReferenceSection,
    /// Weakened images for losses that compare images.
    pub conditional: ConditionalSection,
    /// Training.
    #[cfg(feature = "model")]
    pub train: DpoConfig,
    /// Training. A build without the feature `model` keeps the table unchanged.
    #[cfg(not(feature = "model"))]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub train: toml::Table,
}

impl RunConfig {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[
        ("preset", &[]),
        ("device", &[]),
        ("rounds", &[]),
        (CHOSEN, &[Stage::Weaken, Stage::Judge, Stage::Pair]),
        ("seed", &[Stage::Weaken, Stage::Judge, Stage::Inject, Stage::Pair, Stage::Train]),
        ("filter", &[Stage::Pair]),
        ("pair", &[Stage::Pair]),
        ("lora", &[Stage::Train]),
        ("full_finetune", &[Stage::Train]),
        ("train", &[Stage::Train]),
    ];
}

/// A random seed. TOML can hold values up to 2^63 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Default for Seed {
    fn default() -> Self {
        Self(42)
    }
}

impl RunConfig {
    /// Returns the settings that the trainer gets.
    ///
    /// In bf16 and f16, `train.initial_tolerance` defaults to [`HALF_PRECISION_TOLERANCE`]. If
    /// training continues an adapter with dropout, or adapters have noise, `train.reference_differs`
    /// is set, because policy and reference then differ at the start.
    #[cfg(feature = "model")]
    pub fn train_settings(&self) -> DpoConfig {
        let default = match self.model.dtype {
            Dtype::F32 => None,
            Dtype::Bf16 | Dtype::F16 => Some(HALF_PRECISION_TOLERANCE),
        };
        let train = self.train.clone().with_initial_tolerance(self.train.initial_tolerance.or(default));
        // dropout does not change the output of a fresh adapter, which is zero
        let drops = self.model.adapter.is_some() && self.lora.lora_dropout > 0.0;
        let differs = train.reference_differs || drops || self.lora.lora_noise > 0.0;
        train.with_reference_differs(differs)
    }

    /// Returns the adapter of the reference: its own adapter, or that of the model if the reference
    /// is not another model.
    pub fn reference_adapter(&self) -> Option<&Path> {
        let ReferenceSection { path, adapter, .. } = &self.reference;
        let of_model = self.model.adapter.as_ref().filter(|_| path.is_none());
        adapter.as_ref().or(of_model).map(PathBuf::as_path)
    }

    /// Returns whether a run with these settings has a stage. Without annotated answers in the pairs, no
    /// errors are injected, and a judge is asked only for pairs that need scores.
    pub(crate) fn has_stage(&self, stage: Stage) -> bool {
        match stage {
            Stage::Judge => self.judges(),
            Stage::Inject => self.chosen.has_annotated(),
            _ => true,
        }
    }

    /// Returns the name of the training result in a run directory: `adapter`, or `model` for full
    /// fine-tuning.
    pub fn result_name(&self) -> &'static str {
        if self.full_finetune.is_some() { "model" } else { "adapter" }
    }

    /// Returns the directory of the checkpoint.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] if `model.path` is not set.
    pub fn model_path(&self) -> Result<&Path, BpoError> {
        Required::Model.get(self)
    }

    /// Returns the file of the annotated data.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] if `data.path` is not set.
    pub fn data_path(&self) -> Result<&Path, BpoError> {
        Required::Data.get(self)
    }

    /// Returns the image root.
    ///
    /// # Errors
    /// Returns [`BpoError::NotSet`] if `data.images` is not set.
    pub fn images_path(&self) -> Result<&Path, BpoError> {
        Required::Images.get(self)
    }

    /// Makes all paths absolute, so that they do not depend on the working directory. Models that are
    /// [names](HubModel::of_path) on a hub are unchanged.
    ///
    /// # Errors
    /// Returns [`BpoError::Io`] if there is no working directory.
    pub fn with_absolute_paths(mut self) -> Result<Self, BpoError> {
        let is_local = |path: &&mut PathBuf| HubModel::of_path(path).is_none();
        let models = [&mut self.model.path, &mut self.reference.path, &mut self.inject.model];
        let paths = [
            &mut self.model.adapter,
            &mut self.data.path,
            &mut self.data.images,
            &mut self.data.eval_pairs,
            &mut self.reference.adapter,
            &mut self.reference.cache,
            &mut self.inject.llm.templates.path,
            &mut self.judge.prompts,
        ];
        let paths = paths.into_iter().flatten().chain(self.truth.paths_mut());
        for path in models.into_iter().flatten().filter(is_local).chain(paths) {
            *path = std::path::absolute(&*path).map_err(BpoError::io("find", path))?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_equal_the_authors() {
        let config = RunConfig::default();
        config.validate().unwrap();
        assert_eq!(config.weaken.distortion.to_string(), "diffusion-noise:step=900");
        assert_eq!((config.weaken.temperature, config.weaken.max_new_tokens), (0.2, 1024));
        assert_eq!((config.inject.llm.temperature, config.inject.llm.top_p), (0.8, 0.95));
        assert_eq!(config.filter.max_words, 350);
    }

    #[test]
    #[cfg(feature = "model")]
    fn training_defaults_equal_the_authors() {
        let config = RunConfig::default();
        assert_eq!((config.lora.r, config.lora.lora_alpha), (32, 256.0));
        assert_eq!((config.train.learning_rate, config.train.beta, config.train.epochs), (2e-6, 0.1, 2));
    }

    #[test]
    #[cfg(feature = "model")]
    fn noise_on_adapters_changes_the_first_loss() {
        let mut config = RunConfig::default();
        config.model.gradient_checkpointing = true;
        config.lora.lora_noise = 0.05;
        config.validate().unwrap();
        assert!(config.train_settings().reference_differs);
    }

    #[test]
    #[cfg(feature = "model")]
    fn half_precision_increases_the_default_tolerance() {
        let mut config = RunConfig::default();
        assert_eq!(config.train_settings(), config.train);
        config.model.dtype = Dtype::Bf16;
        assert_eq!(config.train_settings().initial_tolerance, Some(HALF_PRECISION_TOLERANCE));
        for set in [0.01, bpo_dpo::INITIAL_TOLERANCE] {
            config.train.initial_tolerance = Some(set);
            assert_eq!(config.train_settings(), config.train);
        }
    }
}
