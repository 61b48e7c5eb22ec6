//! The settings of a run, as one TOML file.
//!
//! These keys have no default: `model.path`, `data.path`, `data.images`, `base_url` and `model` of
//! `[inject.server]`, and `path` of an entry of `train.lr_groups`. Every other key has one.
//! Defaults follow the recipe of the BPO authors (Pi et al., ECCV 2024, arXiv 2403.08730) where it
//! gives a value. Defaults marked "ours" are not from the authors.

#[cfg(feature = "model")]
mod adapter;
mod affects;
mod changes;
mod distortions;
mod full_finetune;
mod preset;
mod read;
mod required;
mod resolve;
mod validate;
#[cfg(feature = "model")]
mod validate_training;

use std::path::{Path, PathBuf};

use bpo_distort::{DiffusionNoise, Distortion, ImageLimits, diffusion};
#[cfg(feature = "model")]
use bpo_dpo::DpoConfig;
use bpo_inject::LlmInjectorConfig;
#[cfg(feature = "model")]
use bpo_model::LoraConfig;
use bpo_pairs::{Contrast, PairFilter};
#[cfg(feature = "server")]
use bpo_server::OpenAiConfig;
use serde::{Deserialize, Serialize};

pub use changes::Change;
pub(crate) use changes::stage_settings;
pub use distortions::Distortions;
pub use full_finetune::FullFinetuneSection;
pub use preset::Preset;
pub use required::{Missing, Required};
pub use resolve::Settings;
pub(crate) use validate::{check_temperature, check_top_p};

use crate::device::{DeviceSpec, Dtype};
use crate::error::BpoError;
use crate::stage::Stage;
use crate::stages::Shard;
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
    /// Device on which tensors are computed. Default: `flex` (ours).
    pub device: DeviceSpec,
    /// Seed of weakening, injection and the initial values of the adapter. Default: 42, the default
    /// of transformers, as for `train.seed`, which orders the training data.
    pub seed: Seed,
    /// The checkpoint.
    pub model: ModelSection,
    /// The annotated data.
    pub data: DataSection,
    /// Image weakening.
    pub weaken: WeakenSection,
    /// Error injection.
    pub inject: InjectSection,
    /// Filter of preference pairs.
    pub filter: PairFilter,
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
        ("seed", &[Stage::Weaken, Stage::Inject, Stage::Train]),
        ("filter", &[Stage::Pair]),
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

/// `[model]`: the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSection {
    /// Hugging Face LLaVA-1.5 directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// PEFT adapter of the model. Default: none.
    ///
    /// The model answers with this adapter, training continues it, and the reference is the model
    /// with the adapter, as in TRL. Rank, scale and target modules are those of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Data type of weights and activations. Default: f32 (ours; the authors train in bf16). With
    /// another type, `train.initial_tolerance` defaults to [`HALF_PRECISION_TOLERANCE`].
    pub dtype: Dtype,
    /// Maximum sequence length for training, in tokens, including image features. Default: 2048
    /// (the BPO script).
    pub max_length: usize,
    /// Whether the backward pass recomputes each layer of the language model. This needs less
    /// memory and more time, and gives the same results. Default: false.
    pub gradient_checkpointing: bool,
}

impl ModelSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[
        ("path", &[Stage::Weaken, Stage::Train]),
        ("adapter", &[Stage::Weaken, Stage::Train]),
        ("dtype", &[Stage::Weaken, Stage::Train]),
        ("max_length", &[Stage::Train]),
        ("gradient_checkpointing", &[]),
    ];
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: None, adapter: None, dtype: Dtype::F32, max_length: 2048, gradient_checkpointing: false }
    }
}

/// `[data]`: the annotated data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSection {
    /// LLaVA's visual-instruction JSON file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Image root: the directory that image paths are relative to. Paths that lead out of it are
    /// rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Pairs to evaluate on during training, as JSON lines or in the JSON format of the authors.
    /// They are added to those that `train.eval_fraction` holds out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_pairs: Option<PathBuf>,
    /// Limits on image files.
    pub limits: ImageLimits,
}

impl DataSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[
        ("path", &[Stage::Weaken, Stage::Inject]),
        ("images", &[Stage::Weaken, Stage::Train]),
        ("eval_pairs", &[Stage::Train]),
        ("limits", &[Stage::Weaken, Stage::Train]),
    ];
}

/// `[weaken]`: answers of the model about a weakened image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WeakenSection {
    /// Distortion of the image, or several, each of which gives its own answers. Default:
    /// `diffusion-noise:step=900` (the BPO script).
    pub distortion: Distortions,
    /// Number of answers for each distortion of an image. Default: 1 (the BPO script).
    pub samples: usize,
    /// Part of the stage that this process works on, if several processes share the work. Default:
    /// none, the whole stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Fraction of the annotated answer's words that the model continues, at least 0 and less than
    /// 1. Default: 0, none.
    ///
    /// With 0.5 and a distortion that [removes the image](bpo_distort::NoImage), the answers are
    /// made like the rejected answers of MPO (Wang et al., arXiv 2411.10442, section 3.1), but from
    /// annotated answers instead of the model's own.
    pub prefix_fraction: f64,
    /// Contrastive decoding with the clean image. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Sampling temperature. Default: 0.2 (the BPO script).
    pub temperature: f64,
    /// Nucleus sampling: probability mass of the tokens to sample from. Default: 1, all tokens
    /// (ours).
    pub top_p: f64,
    /// Maximum length of an answer, in tokens. Default: 1024 (the BPO script).
    pub max_new_tokens: usize,
    /// Number of answers generated at the same time. Default: 8 (ours).
    ///
    /// The stage passes four times as many requests to the model in one call.
    pub batch_size: usize,
}

impl WeakenSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[
        ("distortion", &[Stage::Weaken]),
        ("samples", &[Stage::Weaken]),
        ("shard", &[Stage::Weaken]),
        ("prefix_fraction", &[Stage::Weaken]),
        ("contrast", &[Stage::Weaken]),
        ("temperature", &[Stage::Weaken]),
        ("top_p", &[Stage::Weaken]),
        ("max_new_tokens", &[Stage::Weaken]),
        ("batch_size", &[Stage::Weaken]),
    ];
}

impl Default for WeakenSection {
    fn default() -> Self {
        Self {
            distortion: Distortion::from(DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }).into(),
            samples: 1,
            shard: None,
            prefix_fraction: 0.0,
            contrast: None,
            temperature: 0.2,
            top_p: 1.0,
            max_new_tokens: 1024,
            batch_size: 8,
        }
    }
}

impl WeakenSection {
    /// Returns the number of answers of each sample.
    pub fn variants(&self) -> usize {
        self.distortion.len().saturating_mul(self.samples)
    }
}

/// `[inject]`: the annotated answer is rewritten with errors. A language model rewrites it if
/// `server` is set. Otherwise words are swapped for others that are common in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InjectSection {
    /// Number of answers rewritten in one batch. Default: 16 (ours).
    pub batch_size: usize,
    /// Maximum number of words swapped in one answer, without a server. Default: 3 (ours).
    pub max_edits: usize,
    /// Part of the stage that this process works on, if several processes share the work. Default:
    /// none, the whole stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Prompts and sampling of the language model. Used only with a server.
    pub llm: LlmInjectorConfig,
    /// OpenAI-compatible server. Default: none.
    #[cfg(feature = "server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
    /// OpenAI-compatible server. A build without the feature `server` keeps the table unchanged and
    /// cannot use the server.
    #[cfg(not(feature = "server"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<toml::Table>,
}

impl InjectSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[
        ("batch_size", &[Stage::Inject]),
        ("max_edits", &[Stage::Inject]),
        ("shard", &[Stage::Inject]),
        ("llm", &[Stage::Inject]),
        ("server", &[Stage::Inject]),
    ];
}

impl Default for InjectSection {
    fn default() -> Self {
        Self { batch_size: 16, max_edits: 3, shard: None, llm: LlmInjectorConfig::default(), server: None }
    }
}

/// `[reference]`: the reference model. By default it is the model with its adapters off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReferenceSection {
    /// Another LLaVA-1.5 directory with the same tokenizer and chat template. If its
    /// log-probabilities differ from the model's at the start, `train.reference_differs` must be
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// PEFT adapter of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// File for the log-probabilities of the reference. Log-probabilities that the file does not
    /// have are computed before training, so no training step computes them. Several runs can share
    /// a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl ReferenceSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[("path", &[Stage::Train]), ("adapter", &[Stage::Train]), ("cache", &[])];
}

/// `[conditional]`: weakening of images for losses that compare images (`conditional`, of mDPO).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConditionalSection {
    /// Distortion of the image. Default: `diffusion-noise:step=900`, as in `[weaken]` (ours; the
    /// authors of mDPO crop).
    pub distortion: Distortion,
}

impl ConditionalSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[("distortion", &[Stage::Train])];
}

impl Default for ConditionalSection {
    fn default() -> Self {
        Self { distortion: DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }.into() }
    }
}

impl RunConfig {
    /// Returns the settings that the trainer gets.
    ///
    /// In bf16 and f16, `train.initial_tolerance` defaults to [`HALF_PRECISION_TOLERANCE`]. If
    /// training continues an adapter with dropout, `train.reference_differs` is set, because policy
    /// and reference then differ at the start.
    #[cfg(feature = "model")]
    pub fn train_settings(&self) -> DpoConfig {
        let default = match self.model.dtype {
            Dtype::F32 => None,
            Dtype::Bf16 | Dtype::F16 => Some(HALF_PRECISION_TOLERANCE),
        };
        let train = self.train.clone().with_initial_tolerance(self.train.initial_tolerance.or(default));
        // dropout does not change the output of a fresh adapter, which is zero
        let drops = self.model.adapter.is_some() && self.lora.lora_dropout > 0.0;
        let differs = train.reference_differs || drops;
        train.with_reference_differs(differs)
    }

    /// Returns the adapter of the reference: its own adapter, or that of the model if the reference
    /// is not another model.
    pub fn reference_adapter(&self) -> Option<&Path> {
        let ReferenceSection { path, adapter, .. } = &self.reference;
        let of_model = self.model.adapter.as_ref().filter(|_| path.is_none());
        adapter.as_ref().or(of_model).map(PathBuf::as_path)
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

    /// Makes all paths absolute, so that they do not depend on the working directory.
    ///
    /// # Errors
    /// Returns [`BpoError::Io`] if there is no working directory.
    pub fn with_absolute_paths(mut self) -> Result<Self, BpoError> {
        let paths = [
            &mut self.model.path,
            &mut self.model.adapter,
            &mut self.data.path,
            &mut self.data.images,
            &mut self.data.eval_pairs,
            &mut self.reference.path,
            &mut self.reference.adapter,
            &mut self.reference.cache,
        ];
        for path in paths.into_iter().flatten() {
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
