//! The settings of a run: one TOML file.
//!
//! Every key has a default but three paths: `model.path`, `data.path`, `data.images`. Defaults are the recipe of the BPO
//! authors (Pi et al., ECCV 2024, arXiv 2403.08730) where they have one.

mod changes;
mod distortions;
mod full;
mod read;

use std::path::{Path, PathBuf};

use bpo_distort::{DiffusionNoise, Distortion, Limits, diffusion};
use bpo_dpo::DpoConfig;
use bpo_inject::{LlmInjectorConfig, OpenAiConfig};
use bpo_model::LoraConfig;
use bpo_pairs::filter::PairFilter;
use bpo_pairs::recipe::Contrast;
use serde::{Deserialize, Serialize};

pub use changes::{Change, Stage, changes};
pub use distortions::Distortions;
pub use full::FullSection;

use crate::device::{DeviceSpec, Dtype};
use crate::error::BpoError;

/// How far loss and margins may be off before the first step in bf16 and f16: summed log-probabilities of hundreds of tokens
/// are rounded by as much; a wrong reference is off by more (ours).
pub const HALF_PRECISION_TOLERANCE: f64 = 0.25;

/// Most answers for one distortion of an image; more is a slip of the pen (ours).
const MOST_SAMPLES: usize = 1000;

/// Settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunConfig {
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
    pub lora: LoraConfig,
    /// Training of the weights themselves, instead of an adapter. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<FullSection>,
    /// What the policy is held to.
    pub reference: ReferenceSection,
    /// Weakened images for losses that compare images.
    pub conditional: ConditionalSection,
    /// Training.
    pub train: DpoConfig,
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
    /// Type of weights and activations. Default: f32 (ours; the authors train in bf16). With another,
    /// `train.step_zero_tolerance` is [`HALF_PRECISION_TOLERANCE`] unless it is set.
    pub dtype: Dtype,
    /// Longest sequence trained on, image features included. Default: 2048 (the BPO script).
    pub max_length: usize,
    /// The backward pass computes each layer of the language model again: less memory, more time, the same results. Default: false.
    pub recompute: bool,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: None, dtype: Dtype::F32, max_length: 2048, recompute: false }
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
    /// Pairs that training is evaluated on, as JSON lines or in the authors' JSON, beside those that `train.eval_part` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_pairs: Option<PathBuf>,
    /// What an image may take.
    pub limits: Limits,
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
    /// Part of the annotated answer's words that the model is given to go on from, from 0 to less than 1. Default: 0, nothing.
    pub begun: f64,
    /// Contrast decoding with the clean image. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Sampling temperature. Default: 0.2 (the BPO script).
    pub temperature: f64,
    /// Nucleus mass. Default: 1, all tokens (ours).
    pub top_p: f64,
    /// Longest answer in tokens. Default: 1024 (the BPO script).
    pub max_new_tokens: usize,
    /// Answers made at a time; those of four times as many are written together. Default: 8 (ours).
    pub batch_size: usize,
}

impl Default for WeakenSection {
    fn default() -> Self {
        Self {
            distortion: Distortion::from(DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }).into(),
            samples: 1,
            begun: 0.0,
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
    /// How a server's model is asked; of use with one.
    pub llm: LlmInjectorConfig,
    /// An OpenAI-compatible server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
}

impl Default for InjectSection {
    fn default() -> Self {
        Self { batch_size: 16, max_edits: 3, llm: LlmInjectorConfig::default(), server: None }
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

/// `[conditional]`: how images are weakened for losses that compare images (`conditional`, of mDPO).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConditionalSection {
    /// What is done to the image. Default: `diffusion-noise:step=900`, as in weakening (ours; the authors of mDPO crop).
    pub distortion: Distortion,
}

impl Default for ConditionalSection {
    fn default() -> Self {
        Self { distortion: DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }.into() }
    }
}

impl RunConfig {
    /// Checks the settings that belong to no library.
    ///
    /// # Errors
    /// [`BpoError::Setting`] for the first that cannot work, [`BpoError::Conflict`] for the first that another one leaves
    /// nothing to do, and what the training settings say of themselves.
    pub fn validate(&self) -> Result<(), BpoError> {
        let check = |key: &'static str, holds, expected, found: String| match holds {
            true => Ok(()),
            false => Err(BpoError::Setting { key: key.into(), expected, found }),
        };
        for (key, seed) in [("seed", self.seed.0), ("train.seed", self.train.seed)] {
            check(key, i64::try_from(seed).is_ok(), "below 2^63", seed.to_string())?;
        }
        for (key, value) in [
            ("model.max_length", self.model.max_length),
            ("weaken.samples", self.weaken.samples),
            ("weaken.max_new_tokens", self.weaken.max_new_tokens),
            ("weaken.batch_size", self.weaken.batch_size),
            ("inject.batch_size", self.inject.batch_size),
            ("inject.max_edits", self.inject.max_edits),
            ("filter.max_words", self.filter.max_words),
        ] {
            check(key, value > 0, "at least 1", value.to_string())?;
        }
        let conditional = &self.conditional.distortion;
        let alone = !conditional.needs_other() && !conditional.needs_model();
        let expected = "of families that weaken one image, and no features of it";
        check("conditional.distortion", alone, expected, conditional.to_string())?;
        let samples = self.weaken.samples;
        check("weaken.samples", samples <= MOST_SAMPLES, "at most 1000", samples.to_string())?;
        let begun = self.weaken.begun;
        check("weaken.begun", (0.0..1.0).contains(&begun), "at least 0 and less than 1", begun.to_string())?;
        if let Some(Contrast { alpha, plausibility, .. }) = self.weaken.contrast {
            let key = "weaken.contrast.alpha";
            check(key, (0.0..=100.0).contains(&alpha), "from 0 to 100", alpha.to_string())?;
            let key = "weaken.contrast.plausibility";
            check(key, (0.0..=1.0).contains(&plausibility), "from 0 to 1", plausibility.to_string())?;
        }
        self.check_unused()?;
        if let Some(full) = &self.full {
            let parts = "true for the language model, the projector or the vision tower";
            check("full", full.is_any(), parts, "false for all".to_owned())?;
            let f32 = "f32 where weights are trained in full: small updates are lost in half precision";
            check("model.dtype", self.model.dtype == Dtype::F32, f32, self.model.dtype.to_string())?;
        }
        self.lora.validate().map_err(|error| BpoError::in_table("lora", error))?;
        for (key, value) in [
            ("weaken.temperature", self.weaken.temperature),
            ("inject.llm.temperature", self.inject.llm.temperature),
        ] {
            check(key, value >= 0.0 && value.is_finite(), "a finite number, at least 0", value.to_string())?;
        }
        for (key, value) in [("weaken.top_p", self.weaken.top_p), ("inject.llm.top_p", self.inject.llm.top_p)]
        {
            check(key, value > 0.0 && value <= 1.0, "above 0 and at most 1", value.to_string())?;
        }
        if let Some(server) = &self.inject.server {
            server.validate().map_err(|source| BpoError::Server { source })?;
        }
        Ok(self.train.validate()?)
    }

    /// Refuses settings that others leave nothing to do: unread, they would be taken for granted.
    fn check_unused(&self) -> Result<(), BpoError> {
        let conflict = |key: &'static str, with: String, reason| {
            Err(BpoError::Conflict { key: key.into(), with, reason })
        };
        if self.full.is_some() && self.lora != LoraConfig::default() {
            return conflict("lora", "`full`".to_owned(), "weights are trained, and there are no adapters");
        }
        if self.model.recompute && self.full.is_none() && self.lora.lora_dropout > 0.0 {
            let reason = "what it leaves out is another part each time that it is computed";
            return conflict("model.recompute", "`lora.lora_dropout`".to_owned(), reason);
        }
        if self.full.is_none() && self.train.moving_reference.is_some() {
            let reason = "their factors do not mix as the weights would; train the weights ([full], --full)";
            return conflict("train.moving_reference", "adapters".to_owned(), reason);
        }
        let ReferenceSection { path, adapter, cache } = &self.reference;
        let references =
            [("reference.path", path), ("reference.adapter", adapter), ("reference.cache", cache)];
        match references.into_iter().find(|(_, path)| path.is_some()) {
            Some((key, _)) if !self.train.objective().needs_reference() => {
                let with = match self.train.reference_free {
                    true => "`train.reference_free`".to_owned(),
                    false => format!("the loss {}", self.train.loss),
                };
                conflict(key, with, "nothing is compared with a reference")
            }
            _ => Ok(()),
        }
    }

    /// The settings of training as it gets them.
    ///
    /// Off f32 a `train.step_zero_tolerance` that is not set becomes [`HALF_PRECISION_TOLERANCE`].
    pub fn train_settings(&self) -> DpoConfig {
        let default = match self.model.dtype {
            Dtype::F32 => None,
            Dtype::Bf16 | Dtype::F16 => Some(HALF_PRECISION_TOLERANCE),
        };
        self.train.clone().with_step_zero_tolerance(self.train.step_zero_tolerance.or(default))
    }

    /// The name of what training makes in a run directory: `adapter`, or `model` where the weights themselves are trained.
    pub fn result_name(&self) -> &'static str {
        if self.full.is_some() { "model" } else { "adapter" }
    }

    /// The checkpoint's directory.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn model_path(&self) -> Result<&Path, BpoError> {
        self.model.path.as_deref().ok_or(BpoError::NotSet { key: "model.path", flag: "--model" })
    }

    /// The annotated data.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn data_path(&self) -> Result<&Path, BpoError> {
        self.data.path.as_deref().ok_or(BpoError::NotSet { key: "data.path", flag: "--data" })
    }

    /// The image root.
    ///
    /// # Errors
    /// [`BpoError::NotSet`].
    pub fn images_path(&self) -> Result<&Path, BpoError> {
        self.data.images.as_deref().ok_or(BpoError::NotSet { key: "data.images", flag: "--images" })
    }

    /// The same settings with paths that do not depend on the working directory.
    ///
    /// # Errors
    /// [`BpoError::Io`] if there is no working directory.
    pub fn with_absolute_paths(mut self) -> Result<Self, BpoError> {
        let paths = [
            &mut self.model.path,
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
        assert_eq!((config.lora.r, config.lora.lora_alpha, config.filter.max_words), (32, 256.0, 350));
        assert_eq!((config.train.learning_rate, config.train.beta, config.train.epochs), (2e-6, 0.1, 2));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Break = fn(&mut RunConfig);
        let broken: [(&str, Break); 12] = [
            ("reference.path", |config| {
                config.train.loss = bpo_dpo::loss::Loss::Sft;
                config.reference.path = Some("other".into());
            }),
            ("reference.adapter", |config| {
                config.train.reference_free = true;
                config.reference.adapter = Some("other".into());
            }),
            ("train.divergence", |config| {
                config.train.loss = bpo_dpo::loss::Loss::Sft;
                config.train.divergence = bpo_dpo::loss::Divergence::ForwardKl;
            }),
            ("model.recompute", |config| {
                config.model.recompute = true;
                config.lora.lora_dropout = 0.1;
            }),
            ("weaken.begun", |config| config.weaken.begun = 1.0),
            ("weaken.samples", |config| config.weaken.samples = usize::MAX),
            ("weaken.contrast.alpha", |config| {
                let mut contrast = Contrast::new(bpo_pairs::recipe::Sign::Away);
                contrast.alpha = -1.0;
                config.weaken.contrast = Some(contrast);
            }),
            ("conditional.distortion", |config| config.conditional.distortion = "no-image".parse().unwrap()),
            ("weaken.batch_size", |config| config.weaken.batch_size = 0),
            ("weaken.top_p", |config| config.weaken.top_p = f64::NAN),
            ("lora.r", |config| config.lora.r = 0),
            ("train.beta", |config| config.train.beta = -1.0),
        ];
        for (key, break_it) in broken {
            let mut config = RunConfig::default();
            break_it(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn half_precision_widens_a_tolerance_that_nobody_set() {
        let mut config = RunConfig::default();
        assert_eq!(config.train_settings(), config.train);
        config.model.dtype = Dtype::Bf16;
        assert_eq!(config.train_settings().step_zero_tolerance, Some(HALF_PRECISION_TOLERANCE));
        for set in [0.01, bpo_dpo::STEP_ZERO_TOLERANCE] {
            config.train.step_zero_tolerance = Some(set);
            assert_eq!(config.train_settings(), config.train);
        }
    }

    #[test]
    fn a_path_that_is_not_given_names_its_flag() {
        let error = RunConfig::default().model_path().unwrap_err().to_string();
        assert!(error.contains("model.path") && error.contains("--model"), "{error}");
    }
}
