//! The settings of a run: one TOML file.
//!
//! Every key has a default but three paths: `model.path`, `data.path`, `data.images`. Defaults are the recipe of the BPO
//! authors (Pi et al., ECCV 2024, arXiv 2403.08730) where they have one.

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

use crate::device::{DeviceSpec, Dtype};
use crate::error::BpoError;
use crate::stage::Stage;
use crate::stages::Shard;
use affects::Affects;

/// How far loss and margins may be off before the first step in bf16 and f16: summed log-probabilities of hundreds of tokens
/// are rounded by as much; a wrong reference is off by more (ours).
pub const HALF_PRECISION_TOLERANCE: f64 = 0.25;

/// Settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunConfig {
    /// The recipe that gives the values of what is not set: see [`Preset`]. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Where tensors are computed. Default: `flex` (ours).
    pub device: DeviceSpec,
    /// Seed of weakening, injection and the adapter's first values. Default: 42, as the order of the training data has
    /// it in `train.seed` (the default of transformers).
    pub seed: Seed,
    /// The checkpoint.
    pub model: ModelSection,
    /// The annotated data.
    pub data: DataSection,
    /// How image-weakened answers are made.
    pub weaken: WeakenSection,
    /// How error-injected answers are made.
    pub inject: InjectSection,
    /// Which pairs are kept.
    pub filter: PairFilter,
    /// The adapter.
    #[cfg(feature = "model")]
    pub lora: LoraConfig,
    /// The adapter. A build without the feature `model` keeps the table as it is written.
    #[cfg(not(feature = "model"))]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub lora: toml::Table,
    /// Training of the weights themselves, instead of an adapter. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_finetune: Option<FullFinetuneSection>,
    /// What the policy is held to.
    pub reference: ReferenceSection,
    /// Weakened images for losses that compare images.
    pub conditional: ConditionalSection,
    /// Training.
    #[cfg(feature = "model")]
    pub train: DpoConfig,
    /// Training. A build without the feature `model` keeps the table as it is written.
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

/// A seed; TOML holds up to 2^63 - 1.
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
    /// A Hugging Face LLaVA-1.5 directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A PEFT adapter that belongs to the model: it answers with it, training goes on from it, and the reference is the model with it,
    /// as TRL has it. Rank, scale and targets are the adapter's. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Type of weights and activations. Default: f32 (ours; the authors train in bf16). With another,
    /// `train.initial_tolerance` is [`HALF_PRECISION_TOLERANCE`] unless it is set.
    pub dtype: Dtype,
    /// Longest sequence trained on, image features included. Default: 2048 (the BPO script).
    pub max_length: usize,
    /// The backward pass computes each layer of the language model again: less memory, more time, the same results. Default: false.
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
    /// LLaVA's visual-instruction JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The directory that image paths are relative to, and do not lead out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Pairs that training is evaluated on, as JSON lines or in the authors' JSON, beside those that `train.eval_fraction` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_pairs: Option<PathBuf>,
    /// What an image may take.
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

/// `[weaken]`: the model answers about an image it can barely see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WeakenSection {
    /// What is done to the image, or several such, each for an answer of its own. Default: `diffusion-noise:step=900` (the BPO
    /// script).
    pub distortion: Distortions,
    /// Answers for each distortion of an image. Default: 1 (the BPO script).
    pub samples: usize,
    /// The part of the stage that this process works on, for several processes that share the work. Default: none, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Fraction of the annotated answer's words that the model continues, from 0 to less than 1. With a
    /// distortion that [removes the image](bpo_distort::NoImage) and a half, the answers are the
    /// rejected answers of MPO (Wang et al., arXiv 2411.10442, section 3.1), from annotated answers
    /// instead of the model's own. Default: 0, none.
    pub prefix_fraction: f64,
    /// Contrast decoding with the clean image. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Sampling temperature. Default: 0.2 (the BPO script).
    pub temperature: f64,
    /// Nucleus mass. Default: 1, all tokens (ours).
    pub top_p: f64,
    /// Longest answer in tokens. Default: 1024 (the BPO script).
    pub max_new_tokens: usize,
    /// Answers made at a time; a batch is four times as many. Default: 8 (ours).
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
    /// Answers of each sample.
    pub fn variants(&self) -> usize {
        self.distortion.len().saturating_mul(self.samples)
    }
}

/// `[inject]`: the annotated answer is rewritten with errors in it, by a text model where there is a `server`, and
/// otherwise by swapping in what is common in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InjectSection {
    /// Answers rewritten at a time. Default: 16 (ours).
    pub batch_size: usize,
    /// Most words swapped in one answer, where there is no server. Default: 3 (ours).
    pub max_edits: usize,
    /// The part of the stage that this process works on, for several processes that share the work. Default: none, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// How a server's model is asked; of use with one.
    pub llm: LlmInjectorConfig,
    /// An OpenAI-compatible server.
    #[cfg(feature = "server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
    /// An OpenAI-compatible server. A build without the feature `server` keeps the table as it is
    /// written, and cannot ask the server.
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

/// `[reference]`: what the policy is held to. By default that is the model itself, with its adapters off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReferenceSection {
    /// Another LLaVA-1.5 directory, of the same tokenizer and template. `train.reference_differs` must say so where it gives
    /// other log-probabilities than the model at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A PEFT adapter that belongs to the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// A file for its log-probabilities. They are computed before training, where the file does not have them yet, and no step
    /// computes them then. Files can be shared by runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl ReferenceSection {
    /// The stages whose results each key affects.
    const AFFECTS: Affects = &[("path", &[Stage::Train]), ("adapter", &[Stage::Train]), ("cache", &[])];
}

/// `[conditional]`: how images are weakened for losses that compare images (`conditional`, of mDPO).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConditionalSection {
    /// What is done to the image. Default: `diffusion-noise:step=900`, as in weakening (ours; the authors of mDPO crop).
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
    /// The settings of training as it gets them.
    ///
    /// Off f32 a `train.initial_tolerance` that is not set becomes [`HALF_PRECISION_TOLERANCE`]. With dropout on an adapter that training
    /// goes on from, policy and reference differ at the start.
    #[cfg(feature = "model")]
    pub fn train_settings(&self) -> DpoConfig {
        let default = match self.model.dtype {
            Dtype::F32 => None,
            Dtype::Bf16 | Dtype::F16 => Some(HALF_PRECISION_TOLERANCE),
        };
        let train = self.train.clone().with_initial_tolerance(self.train.initial_tolerance.or(default));
        // dropout changes what an adapter gives, if it is not fresh
        let drops = self.model.adapter.is_some() && self.lora.lora_dropout > 0.0;
        let differs = train.reference_differs || drops;
        train.with_reference_differs(differs)
    }

    /// The adapter of the reference, where it has one: its own, or that of the model where the reference is no other model.
    pub fn reference_adapter(&self) -> Option<&Path> {
        let ReferenceSection { path, adapter, .. } = &self.reference;
        let of_model = self.model.adapter.as_ref().filter(|_| path.is_none());
        adapter.as_ref().or(of_model).map(PathBuf::as_path)
    }

    /// The name of what training makes in a run directory: `adapter`, or `model` where the weights themselves are trained.
    pub fn result_name(&self) -> &'static str {
        if self.full_finetune.is_some() { "model" } else { "adapter" }
    }

    /// The checkpoint's directory.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn model_path(&self) -> Result<&Path, BpoError> {
        Required::Model.get(self)
    }

    /// The annotated data.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn data_path(&self) -> Result<&Path, BpoError> {
        Required::Data.get(self)
    }

    /// The image root.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn images_path(&self) -> Result<&Path, BpoError> {
        Required::Images.get(self)
    }

    /// The same settings with paths that do not depend on the working directory.
    ///
    /// # Errors
    /// [`BpoError::Io`] if there is no working directory.
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
    fn defaults_are_valid_and_the_authors() {
        let config = RunConfig::default();
        config.validate().unwrap();
        assert_eq!(config.weaken.distortion.to_string(), "diffusion-noise:step=900");
        assert_eq!((config.weaken.temperature, config.weaken.max_new_tokens), (0.2, 1024));
        assert_eq!((config.inject.llm.temperature, config.inject.llm.top_p), (0.8, 0.95));
        assert_eq!(config.filter.max_words, 350);
    }

    #[test]
    #[cfg(feature = "model")]
    fn defaults_of_training_are_the_authors() {
        let config = RunConfig::default();
        assert_eq!((config.lora.r, config.lora.lora_alpha), (32, 256.0));
        assert_eq!((config.train.learning_rate, config.train.beta, config.train.epochs), (2e-6, 0.1, 2));
    }

    #[test]
    #[cfg(feature = "model")]
    fn half_precision_widens_a_tolerance_that_nobody_set() {
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
