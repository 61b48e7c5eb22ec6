//! `config.json` of a LLaVA-1.5 checkpoint, with the defaults of transformers.

use std::path::Path;

use serde::Deserialize;

use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::families::FamilySpec;
use crate::json::read_json;
use crate::layers::Activation;
use crate::processor::{PixelValues, Processor};
use crate::vision::ClipConfig;

/// The configuration of a model. Unknown keys of `config.json` are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[non_exhaustive]
pub struct LlavaConfig {
    /// The image encoder.
    pub vision_config: ClipConfig,
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
    /// Whether the class token is dropped from the features.
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
}

/// One hidden state, or several that are concatenated. LLaVA-1.5 uses one.
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
    /// The patches, without the class token.
    #[default]
    Default,
    /// The class token and the patches.
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
    /// Reads `config.json` of a checkpoint directory and checks that the model is supported.
    ///
    /// # Errors
    /// [`ModelError::NoConfig`], [`ModelError::Family`], [`ModelError::OriginalLlava`],
    /// [`ModelError::Quantized`], [`ModelError::Json`], [`ModelError::Unsupported`] or
    /// [`ModelError::OverLimit`]. The error names the key.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        FamilySpec::of_checkpoint(dir)?;
        let path = dir.join("config.json");
        let config: Self = read_json(&path)?;
        config.check(&path)?;
        Ok(config)
    }

    /// The names of the family.
    pub fn spec(&self) -> &'static FamilySpec {
        &super::SPEC
    }

    /// Number of features of an image. Each takes one position in the token sequence.
    pub fn image_tokens(&self) -> usize {
        let patches = self.vision_config.patches();
        match self.vision_feature_select_strategy {
            FeatureSelect::Default => patches,
            FeatureSelect::Full => patches + 1,
        }
    }

    /// Token id of an image feature. Default: 32000, as in transformers.
    pub fn image_token(&self) -> u32 {
        self.image_token_id.or(self.image_token_index).unwrap_or(32_000)
    }

    /// An id to pad with: any except the image token, which is counted.
    pub(crate) fn padding(&self) -> u32 {
        u32::from(self.image_token() == 0)
    }

    /// Checks that the processor's files belong to the same checkpoint as this configuration.
    ///
    /// # Errors
    /// [`ModelError::ImageToken`], [`ModelError::ImageSize`] or [`ModelError::TokenOutside`].
    pub fn check_processor(&self, processor: &Processor) -> Result<(), ModelError> {
        let found = processor.text.special().image.id;
        if found != self.image_token() {
            return Err(ModelError::ImageToken { expected: self.image_token(), found });
        }
        let probe = processor.image.process(&image::RgbImage::new(2, 2))?;
        let special = processor.text.special();
        let ids: Vec<_> = special.bos.iter().chain([&special.end]).map(|token| token.id).collect();
        self.check_input(&ids, Some(&probe))
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

    /// Whether a module or weight takes part in the computation, by its path. Layers of the vision
    /// tower after the last used hidden state do not.
    pub(crate) fn runs(&self, path: &str) -> bool {
        let used = self.feature_layers().into_iter().max().unwrap_or(0);
        let unused = used..self.vision_config.num_hidden_layers;
        let layer = path.strip_prefix("vision_tower.encoder.layers.").and_then(|rest| rest.split('.').next());
        layer.and_then(|layer| layer.parse().ok()).is_none_or(|layer| !unused.contains(&layer))
    }

    /// Whether LLaVA never runs a weight of CLIP: those after the used hidden states.
    pub(crate) fn is_unused(&self, name: &str) -> bool {
        name.starts_with("vision_tower.post_layernorm.") || !self.runs(name)
    }

    /// Checks that pixels and token ids fit this model.
    ///
    /// # Errors
    /// [`ModelError::ImageSize`] if the image has another size than the vision tower takes;
    /// [`ModelError::TokenOutside`] for an id outside of the vocabulary.
    pub fn check_input(&self, ids: &[u32], pixels: Option<&PixelValues>) -> Result<(), ModelError> {
        let vision = &self.vision_config;
        let expected = [vision.num_channels, vision.image_size, vision.image_size];
        let found = pixels.map(|pixels| [pixels.channels, pixels.height, pixels.width]);
        if let Some(found) = found.filter(|found| *found != expected) {
            return Err(ModelError::ImageSize { expected, found });
        }
        let vocab = self.text_config.vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab && **id != self.image_token()) {
            Some(id) => Err(ModelError::TokenOutside { id: *id, vocab }),
            None => Ok(()),
        }
    }

    /// Whether the embedding is the head. Newer files say so at the top level, older ones in
    /// `text_config`.
    pub fn is_tied(&self) -> bool {
        self.tie_word_embeddings || self.text_config.tie_word_embeddings
    }
}
