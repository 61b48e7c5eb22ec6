//! `config.json` of InternVL, with the defaults of transformers
//! (`models/internvl/configuration_internvl.py`).

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::INTERNVL;
use super::model::InternVlProjector;
use super::preprocess::InternVlPreprocessor;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::families::check::{check_placeholder, check_tiles};
use crate::families::llava::{FeatureLayer, FeatureSelect};
use crate::families::{Family, FamilySpec, Projector, VlmConfig};
use crate::input::ImageInput;
use crate::json::{from_value, read_json};
use crate::layers::Activation;
use crate::processor::{Preprocess, ProcessorError, TextProcessor};
use crate::vision::{InternVlVision, InternVlVisionConfig, TowerSizes, TowerTokens, VisionTower};

/// The configuration of a model. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[non_exhaustive]
pub struct InternVlConfig {
    /// The image encoder.
    #[serde(default)]
    pub vision_config: InternVlVisionConfig,
    /// The language model.
    pub text_config: DecoderConfig,
    /// Token id of an image feature.
    #[serde(default = "defaults::image_token")]
    pub image_token_id: u32,
    /// The inverse of the side of the squares of patches that become one feature.
    #[serde(default = "defaults::downsample_ratio")]
    pub downsample_ratio: f64,
    /// Activation between the projector's two linears.
    #[serde(default = "defaults::gelu")]
    pub projector_hidden_act: Activation,
    /// The hidden state that gives the image features. Only -1, the last, is supported.
    #[serde(default = "defaults::feature_layer")]
    pub vision_feature_layer: FeatureLayer,
    /// Whether the class token is dropped. Only `default` is supported, which drops it.
    #[serde(default)]
    pub vision_feature_select_strategy: FeatureSelect,
    /// Whether the embedding is the head, in files without a head.
    #[serde(default = "defaults::yes")]
    pub tie_word_embeddings: bool,
}

mod defaults {
    use super::{Activation, FeatureLayer};

    pub fn image_token() -> u32 {
        151_667
    }

    pub fn downsample_ratio() -> f64 {
        0.5
    }

    pub fn gelu() -> Activation {
        Activation::Gelu
    }

    pub fn feature_layer() -> FeatureLayer {
        FeatureLayer::One(-1)
    }

    pub fn yes() -> bool {
        true
    }
}

impl InternVlConfig {
    /// Reads a `config.json` of the family and checks that the model is supported.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let mut json: Map<String, Value> = read_json(path)?;
        if let Some(text) = json.get_mut("text_config").and_then(Value::as_object_mut) {
            text.entry("model_type").or_insert(json!("qwen2"));
        }
        let config: Self = from_value(&json.into(), path, "")?;
        config.check(path)?;
        Ok(config)
    }

    /// Side of the squares of patches that become one feature.
    pub(super) fn square(&self) -> usize {
        (1.0 / self.downsample_ratio).round() as usize
    }

    /// Number of image tokens of a tile.
    pub fn tile_tokens(&self) -> usize {
        let squares = self.vision_config.side() / self.square();
        squares * squares
    }
}

impl Family for InternVlConfig {
    fn spec(&self) -> &'static FamilySpec {
        &INTERNVL
    }

    fn decoder(&self) -> &DecoderConfig {
        &self.text_config
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.image_token_id)
    }

    fn is_tied(&self) -> bool {
        self.tie_word_embeddings || self.text_config.tie_word_embeddings
    }

    fn vision_tower(&self, weights: &mut WeightLoader) -> Option<VisionTower> {
        Some(VisionTower::InternVl(InternVlVision::load(weights, &self.vision_config)))
    }

    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector> {
        Some(Projector::InternVl(InternVlProjector::load(weights, self)))
    }

    fn preprocessor(&self, dir: &Path, text: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(InternVlPreprocessor::from_dir(dir, self, text)?))
    }

    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError> {
        let ([height, width], tiles) = (self.vision_config.image_size, image.layout.tiles());
        check_tiles(image, tiles, [self.vision_config.num_channels, height, width])?;
        check_placeholder(image, tiles * self.tile_tokens())
    }

    /// The embedding of masked patches is for training the tower alone.
    fn is_unused(&self, path: &str) -> bool {
        path == "vision_tower.embeddings.mask_token"
    }

    fn tower_sizes(&self) -> TowerSizes {
        let vision = &self.vision_config;
        TowerSizes {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            heads: vision.num_attention_heads,
            layers: vision.num_hidden_layers,
            tokens: TowerTokens::PerTile(vision.tokens()),
            features: vision.hidden_size,
        }
    }
}

impl From<InternVlConfig> for VlmConfig {
    fn from(config: InternVlConfig) -> Self {
        Self::InternVl(config)
    }
}
