//! `config.json` of a LLaVA checkpoint, with the defaults of transformers.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::model::LlavaProjector;
use super::preprocess::LlavaPreprocessor;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::families::check::{check_placeholder, check_tiles};
use crate::families::{Family, FamilySpec, Projector};
use crate::input::{ImageInput, ImageLayout};
use crate::json::read_json;
use crate::layers::Activation;
use crate::processor::{PixelValues, Preprocess, ProcessorError, TextProcessor};
use crate::vision::{FeatureStates, TowerSizes, TowerTokens, VisionTower, VitConfig, VitKind};

/// The configuration of a model. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[non_exhaustive]
pub struct LlavaConfig {
    /// The image encoder.
    pub vision_config: VitConfig,
    /// The language model.
    pub text_config: DecoderConfig,
    /// Token id of an image feature. Files have this key, `image_token_index`, or both: see
    /// [`image_token`](Self::image_token).
    #[serde(default)]
    pub image_token_id: Option<u32>,
    /// Token id of an image feature in older files.
    #[serde(default)]
    pub image_token_index: Option<u32>,
    /// The hidden state that gives the image features; -2 is the last but one.
    #[serde(default = "defaults::feature_layer")]
    pub vision_feature_layer: FeatureLayer,
    /// Whether the first token of the vision tower, CLIP's class token, is dropped.
    #[serde(default)]
    pub vision_feature_select_strategy: FeatureSelect,
    /// Activation between the projector's two linears.
    #[serde(default = "defaults::gelu")]
    pub projector_hidden_act: Activation,
    /// Whether the projector's layers have biases.
    #[serde(default = "defaults::yes")]
    pub multimodal_projector_bias: bool,
    /// Whether the embedding is the head.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Epsilon of the layer norm before the projector. `None` except for ViP-LLaVA.
    #[serde(skip)]
    pub projector_layernorm_eps: Option<f64>,
}

/// One hidden state, or several that are concatenated. LLaVA uses one, ViP-LLaVA several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a whole number or a list of them")]
pub enum FeatureLayer {
    /// Index into the hidden states: 0 is the embedding, negative indices count from the end.
    One(i64),
    /// Indices of hidden states that are concatenated along the feature dimension.
    Many(Vec<i64>),
}

impl std::fmt::Display for FeatureLayer {
    /// Writes the index or list as in JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(index) => index.fmt(f),
            Self::Many(indices) => {
                let indices: Vec<_> = indices.iter().map(i64::to_string).collect();
                write!(f, "[{}]", indices.join(", "))
            }
        }
    }
}

/// The tokens of the vision tower that become image features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSelect {
    /// Every token but the first: the patches of CLIP, without its class token.
    #[default]
    Default,
    /// Every token.
    Full,
}

mod defaults {
    use super::{Activation, FeatureLayer};

    pub fn feature_layer() -> FeatureLayer {
        FeatureLayer::One(-2)
    }

    pub fn gelu() -> Activation {
        Activation::Gelu
    }

    pub fn yes() -> bool {
        true
    }
}

impl LlavaConfig {
    /// Reads a `config.json` of the family and checks that the model is supported.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let config: Self = read_json(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// Number of features of an image. Each takes one position in the token sequence.
    pub fn image_tokens(&self) -> usize {
        let tokens = self.vision_config.tokens();
        match self.vision_feature_select_strategy {
            FeatureSelect::Default => tokens.saturating_sub(1),
            FeatureSelect::Full => tokens,
        }
    }

    /// Token id of an image feature. Default: 32000, as in transformers.
    pub fn image_token(&self) -> u32 {
        self.image_token_id.or(self.image_token_index).unwrap_or(32_000)
    }

    /// The layout of every image.
    pub fn layout(&self) -> ImageLayout {
        ImageLayout::plain(self.image_token(), self.image_tokens())
    }

    /// The input of an image whose pixels are normalized and have the size that the vision tower
    /// takes.
    pub fn input(&self, pixels: PixelValues) -> ImageInput {
        ImageInput::new(vec![pixels], self.layout())
    }

    /// The hidden states that are concatenated to image features, as numbers of layers that have
    /// run.
    pub fn feature_layers(&self) -> Vec<usize> {
        let states = self.vision_config.num_hidden_layers as i64 + 1;
        let resolve = |index: &i64| (if *index < 0 { states + index } else { *index }) as usize;
        match &self.vision_feature_layer {
            FeatureLayer::One(index) => vec![resolve(index)],
            FeatureLayer::Many(indices) => indices.iter().map(resolve).collect(),
        }
    }
}

impl Family for LlavaConfig {
    fn spec(&self) -> &'static FamilySpec {
        if self.projector_layernorm_eps.is_some() { &super::VIP_SPEC } else { &super::LLAVA }
    }

    fn decoder(&self) -> &DecoderConfig {
        &self.text_config
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.image_token())
    }

    /// Newer files say so at the top level, older ones in `text_config`.
    fn is_tied(&self) -> bool {
        self.tie_word_embeddings || self.text_config.tie_word_embeddings
    }

    fn vision_tower(&self, weights: &mut WeightLoader) -> Option<VisionTower> {
        let drops_first = self.vision_feature_select_strategy == FeatureSelect::Default;
        let features = FeatureStates { layers: self.feature_layers(), drops_first };
        Some(VisionTower::load(weights, &self.vision_config, features))
    }

    fn projector(&self, weights: &mut WeightLoader) -> Option<Projector> {
        Some(Projector::Llava(LlavaProjector::load(weights, self)))
    }

    fn preprocessor(&self, dir: &Path, _text: &TextProcessor) -> Result<Arc<dyn Preprocess>, ProcessorError> {
        Ok(Arc::new(LlavaPreprocessor::from_dir(dir, self)?))
    }

    fn check_image(&self, image: &ImageInput) -> Result<(), ModelError> {
        let vision = &self.vision_config;
        check_tiles(image, 1, [vision.num_channels, vision.image_size, vision.image_size])?;
        check_placeholder(image, self.image_tokens())
    }

    /// Layers of the vision tower after the last used hidden state do not run, nor does SigLIP's
    /// pooling head.
    fn runs(&self, path: &str) -> bool {
        if self.vision_config.model_type == VitKind::Siglip && path.starts_with("vision_tower.head.") {
            return false;
        }
        let used = self.feature_layers().into_iter().max().unwrap_or(0);
        let unused = used..self.vision_config.num_hidden_layers;
        let layer = path.strip_prefix("vision_tower.encoder.layers.").and_then(|rest| rest.split('.').next());
        layer.and_then(|layer| layer.parse().ok()).is_none_or(|layer| !unused.contains(&layer))
    }

    /// Checkpoints have all weights of the vision tower, also those after the used hidden states.
    fn is_unused(&self, path: &str) -> bool {
        path.starts_with("vision_tower.post_layernorm.") || !self.runs(path)
    }

    fn tower_sizes(&self) -> TowerSizes {
        let (vision, layers) = (&self.vision_config, self.feature_layers());
        TowerSizes {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            heads: vision.num_attention_heads,
            layers: layers.iter().copied().max().unwrap_or(0),
            tokens: TowerTokens::PerTile(vision.tokens()),
            features: vision.hidden_size * layers.len(),
        }
    }
}
