//! `config.json` of a language model without images, with the defaults of transformers.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::preprocess::NoImages;
use super::{LLAMA, MISTRAL, QWEN2, QWEN3};
use crate::checkpoint::WeightLoader;
use crate::decoder::{DecoderConfig, DecoderKind};
use crate::error::ModelError;
use crate::families::check::Check;
use crate::families::{Family, FamilySpec, Projector, VlmConfig};
use crate::input::ImageInput;
use crate::json::{from_value, read_json};
use crate::processor::{Preprocess, ProcessorError, TextProcessor};
use crate::vision::{TowerSizes, TowerTokens, VisionTower};

/// The configuration of a language model without images. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextConfig {
    /// The language model. Its keys are at the top level of the file.
    pub text_config: DecoderConfig,
}

impl TextConfig {
    /// Creates the configuration of a language model.
    pub fn new(text_config: DecoderConfig) -> Self {
        Self { text_config }
    }

    /// Reads a `config.json` and checks that the model is supported.
    pub(super) fn read(path: &Path, model_type: &str) -> Result<Self, ModelError> {
        let mut json: Map<String, Value> = read_json(path)?;
        // a file without the key names the class of the model instead
        json.entry("model_type").or_insert_with(|| model_type.into());
        let config: DecoderConfig = from_value(&json.into(), path, "")?;
        Check { path }.decoder(&config, "")?;
        Ok(Self::new(config))
    }
}

impl Family for TextConfig {
    fn spec(&self) -> &'static FamilySpec {
        match self.text_config.model_type {
            DecoderKind::Llama => &LLAMA,
            DecoderKind::Mistral => &MISTRAL,
            DecoderKind::Qwen2 => &QWEN2,
            DecoderKind::Qwen3 => &QWEN3,
        }
    }

    fn decoder(&self) -> &DecoderConfig {
        &self.text_config
    }

    fn image_token(&self) -> Option<u32> {
        None
    }

    fn is_tied(&self) -> bool {
        self.text_config.tie_word_embeddings
    }

    fn vision_tower(&self, _: &mut WeightLoader) -> Option<VisionTower> {
        None
    }

    fn projector(&self, _: &mut WeightLoader) -> Option<Projector> {
        None
    }

    fn preprocessor(&self, _: &Path, _: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(NoImages))
    }

    fn check_image(&self, _: &ImageInput) -> Result<(), ModelError> {
        Err(ProcessorError::NoImages.into())
    }

    fn tower_sizes(&self) -> TowerSizes {
        TowerSizes {
            hidden: 0,
            intermediate: 0,
            heads: 0,
            layers: 0,
            tokens: TowerTokens::PerTile(0),
            features: 0,
        }
    }
}

impl From<TextConfig> for VlmConfig {
    fn from(config: TextConfig) -> Self {
        Self::Text(config)
    }
}
