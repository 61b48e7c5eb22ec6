//! `config.json` of Idefics3 and SmolVLM, with the defaults of transformers
//! (`models/idefics3/configuration_idefics3.py`, `models/smolvlm/configuration_smolvlm.py`).

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::model::SmolVlmProjector;
use super::preprocess::SmolVlmPreprocessor;
use super::{IDEFICS3, SMOLVLM};
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::families::check::{check_placeholder, check_tiles};
use crate::families::{Family, FamilySpec, Projector};
use crate::input::ImageInput;
use crate::json::read_json;
use crate::layers::Activation;
use crate::processor::{Preprocess, ProcessorError, TextProcessor};
use crate::vision::{Idefics3Vision, TowerSizes, TowerTokens, VisionTower, VitConfig, VitKind};

/// The configuration of a model. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[non_exhaustive]
pub struct SmolVlmConfig {
    /// The class in transformers, by `model_type`.
    #[serde(skip)]
    pub kind: SmolVlmKind,
    /// The image encoder.
    #[serde(default)]
    pub vision_config: SmolVlmVisionConfig,
    /// The language model.
    pub text_config: DecoderConfig,
    /// Token id of an image feature.
    #[serde(default = "defaults::image_token")]
    pub image_token_id: u32,
    /// Side of the squares of patches that become one feature.
    #[serde(default = "defaults::scale_factor")]
    pub scale_factor: usize,
    /// Whether the embedding is the head.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

/// The classes of transformers that have this architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmolVlmKind {
    /// Idefics3 and SmolVLM: `model_type` is `idefics3`.
    Idefics3,
    /// SmolVLM2: `model_type` is `smolvlm`.
    #[default]
    SmolVlm,
}

/// Configuration of Idefics3's vision transformer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct SmolVlmVisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Number of colour channels.
    pub num_channels: usize,
    /// Side of the square of pixels that has a position for each patch. Tiles may have another side.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// Epsilon of layer norms.
    pub layer_norm_eps: f64,
}

impl Default for SmolVlmVisionConfig {
    /// transformers' `Idefics3VisionConfig` and `SmolVLMVisionConfig`.
    fn default() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 16,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::GeluPytorchTanh,
            layer_norm_eps: 1e-6,
        }
    }
}

mod defaults {
    pub fn image_token() -> u32 {
        128_257
    }

    pub fn scale_factor() -> usize {
        2
    }
}

impl SmolVlmVisionConfig {
    /// The sizes of the vision transformer's layers.
    pub(super) fn vit(&self) -> VitConfig {
        VitConfig {
            model_type: VitKind::Siglip,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_channels: self.num_channels,
            image_size: self.image_size,
            patch_size: self.patch_size,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
        }
    }
}

impl SmolVlmConfig {
    /// Reads a `config.json` of the family and checks that the model is supported.
    pub(super) fn read(path: &Path, kind: SmolVlmKind) -> Result<Self, ModelError> {
        let config = Self { kind, ..read_json(path)? };
        config.check(path)?;
        Ok(config)
    }

    /// Number of image tokens of a square tile with the given side in pixels. `None` where its
    /// patches do not make up whole squares of `scale_factor`.
    pub fn tile_tokens(&self, side: usize) -> Option<usize> {
        let patches = side / self.vision_config.patch_size;
        let squares = patches / self.scale_factor;
        if squares == 0 || !patches.is_multiple_of(self.scale_factor) {
            return None;
        }
        squares.checked_mul(squares)
    }

    /// Whether the tokenizer's files may name the tokens of an image's placeholder.
    pub(super) fn names_tokens(&self) -> bool {
        self.kind == SmolVlmKind::SmolVlm
    }
}

impl Family for SmolVlmConfig {
    fn spec(&self) -> &'static FamilySpec {
        match self.kind {
            SmolVlmKind::Idefics3 => &IDEFICS3,
            SmolVlmKind::SmolVlm => &SMOLVLM,
        }
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
        Some(VisionTower::Idefics3(Idefics3Vision::load(weights, &self.vision_config.vit())))
    }

    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector> {
        Some(Projector::SmolVlm(SmolVlmProjector::load(weights, self)))
    }

    fn preprocessor(&self, dir: &Path, text: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(SmolVlmPreprocessor::from_dir(dir, self, text)?))
    }

    /// Every tile has the side of the first, and all are squares.
    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError> {
        let side = image.tiles.first().map_or(0, |tile| tile.height);
        let tiles = image.layout.tiles();
        check_tiles(image, tiles, [self.vision_config.num_channels, side, side])?;
        check_placeholder(image, tiles * self.tile_tokens(side).unwrap_or(0))
    }

    fn tower_sizes(&self) -> TowerSizes {
        let vision = &self.vision_config;
        TowerSizes {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            heads: vision.num_attention_heads,
            layers: vision.num_hidden_layers,
            // tiles may have another side than `image_size`
            tokens: TowerTokens::PerImageToken(self.scale_factor * self.scale_factor),
            features: vision.hidden_size,
        }
    }
}
