//! `config.json` of a LLaVA-1.5 checkpoint, with transformers' defaults for what it leaves out.

use std::path::Path;

use serde::Deserialize;

use crate::error::ModelError;
use crate::family;
use crate::files::read_json;
use crate::processor::{PixelValues, Processor};

mod check;

/// The whole model. Keys of `config.json` that do not matter here are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[non_exhaustive]
pub struct LlavaConfig {
    /// The image encoder.
    pub vision_config: VisionConfig,
    /// The language model.
    pub text_config: TextConfig,
    /// Id that stands for one image feature in the token sequence. Files have this key or the next, or both: see
    /// [`image_token`](Self::image_token).
    #[serde(default)]
    pub image_token_id: Option<u32>,
    /// The same in older files.
    #[serde(default)]
    pub image_token_index: Option<u32>,
    /// The hidden state that is taken as image features; -2 is the last but one.
    #[serde(default = "defaults::feature_layer")]
    pub vision_feature_layer: FeatureLayer,
    /// Whether the class token is dropped from the features.
    #[serde(default)]
    pub vision_feature_select_strategy: FeatureSelect,
    /// Activation between the projector's two layers.
    #[serde(default = "defaults::gelu")]
    pub projector_hidden_act: Activation,
    /// Whether the projector's layers have biases.
    #[serde(default = "defaults::yes")]
    pub multimodal_projector_bias: bool,
    /// Whether the head is the embedding (older files say it in `text_config`).
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

/// One hidden state, or several that are concatenated (LLaVA-1.5 uses one).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a whole number or a list of them")]
pub enum FeatureLayer {
    /// Index into the hidden states: 0 is the embedding, negative counts from the end.
    One(i64),
    /// Indices whose states are concatenated along the feature dimension.
    Many(Vec<i64>),
}

impl std::fmt::Display for FeatureLayer {
    /// As in JSON.
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

/// Which tokens of the vision tower become image features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSelect {
    /// The patches, without the class token.
    #[default]
    Default,
    /// All tokens.
    Full,
}

/// Activation functions of the two towers and the projector, by their names in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
    /// `x * Phi(x)`, by the error function.
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(alias = "gelu_new", alias = "gelu_fast")]
    GeluPytorchTanh,
    /// `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// CLIP's vision transformer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct VisionConfig {
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Colour channels.
    pub num_channels: usize,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f64,
}

impl Default for VisionConfig {
    /// transformers' `CLIPVisionConfig`.
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// The Llama language model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct TextConfig {
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Heads of keys and values; as many as attention heads where absent.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` where absent.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// Activation of the gate.
    pub hidden_act: Activation,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// Whether the feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Begin of sequence.
    pub bos_token_id: Option<u32>,
    /// Base of the rotary frequencies (transformers 4).
    pub rope_theta: Option<f64>,
    /// Scaling of the rotary frequencies (transformers 4).
    pub rope_scaling: Option<RopeParameters>,
    /// Both in one (transformers 5).
    pub rope_parameters: Option<RopeParameters>,
}

impl Default for TextConfig {
    /// transformers' `LlamaConfig`, which is Vicuna-7B's shape.
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            hidden_act: Activation::Silu,
            attention_bias: false,
            mlp_bias: false,
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            rope_theta: None,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

/// Rotary position settings as transformers writes them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
#[serde(default)]
#[non_exhaustive]
pub struct RopeParameters {
    /// Base of the frequencies.
    pub rope_theta: Option<f64>,
    /// `default`, `linear` or `llama3`. Files have this key or the next, or both: see [`kind`](Self::kind).
    pub rope_type: Option<String>,
    /// The same in older files (`type`).
    #[serde(rename = "type")]
    pub legacy_type: Option<String>,
    /// How much longer the context is made.
    pub factor: Option<f64>,
    /// llama3: below this multiple of the old context's frequency nothing is kept.
    pub low_freq_factor: Option<f64>,
    /// llama3: above this multiple nothing is changed.
    pub high_freq_factor: Option<f64>,
    /// llama3: the old context.
    pub original_max_position_embeddings: Option<usize>,
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
    /// Reads `config.json` of a checkpoint directory and checks that the model is one that is built here.
    ///
    /// # Errors
    /// If the file cannot be read or asks for what is not supported; the error names the key.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        family::check(dir, &path)?;
        let config: Self = read_json(&path)?;
        config.check(&path)?;
        Ok(config)
    }

    /// Features of one image, each taking one position in the token sequence.
    pub fn image_tokens(&self) -> usize {
        let patches = self.vision_config.patches();
        match self.vision_feature_select_strategy {
            FeatureSelect::Default => patches,
            FeatureSelect::Full => patches + 1,
        }
    }

    /// Id that stands for one image feature; 32000 where the file does not say, as in transformers.
    pub fn image_token(&self) -> u32 {
        self.image_token_id.or(self.image_token_index).unwrap_or(32_000)
    }

    /// An id to pad with: any but the image token, whose places are counted.
    pub(crate) fn padding(&self) -> u32 {
        u32::from(self.image_token() == 0)
    }

    /// Checks that the processor's files are of the same checkpoint as this configuration.
    ///
    /// # Errors
    /// If it stands another id for the image, makes images of another size than the vision tower takes, or begins or ends
    /// answers with a token that the embedding has no row for.
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

    /// Hidden states that are concatenated to image features, as numbers of layers that have run.
    pub fn feature_layers(&self) -> Vec<usize> {
        let states = self.vision_config.num_hidden_layers as i64 + 1;
        let resolve = |index: &i64| (if *index < 0 { states + index } else { *index }) as usize;
        match &self.vision_feature_layer {
            FeatureLayer::One(index) => vec![resolve(index)],
            FeatureLayer::Many(indices) => indices.iter().map(resolve).collect(),
        }
    }

    /// Whether a module or weight takes part in what is computed, by its path: layers of the vision tower behind the last
    /// one whose hidden state is used do not.
    pub(crate) fn runs(&self, path: &str) -> bool {
        let used = self.feature_layers().into_iter().max().unwrap_or(0);
        let unused = used..self.vision_config.num_hidden_layers;
        let layer = path.strip_prefix("vision_tower.encoder.layers.").and_then(|rest| rest.split('.').next());
        layer.and_then(|layer| layer.parse().ok()).is_none_or(|layer| !unused.contains(&layer))
    }

    /// Whether a weight that a checkpoint has is one of CLIP's that LLaVA never runs: those behind the hidden states that are used.
    pub(crate) fn is_unused(&self, name: &str) -> bool {
        name.starts_with("vision_tower.post_layernorm.") || !self.runs(name)
    }

    /// Checks that pixels and token ids are ones that this model takes.
    ///
    /// # Errors
    /// If the image has another size than the vision tower takes, or an id is outside of the vocabulary: the checkpoint's
    /// processor files belong to another model.
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

    /// Whether the head is the embedding. Newer files say it at the top, older ones in `text_config`.
    pub fn is_tied(&self) -> bool {
        self.tie_word_embeddings || self.text_config.tie_word_embeddings
    }
}

impl VisionConfig {
    /// Patches of one image.
    pub fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }
}

impl TextConfig {
    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Rotary settings from wherever the file has them; `rope_theta` is always set.
    pub fn rope(&self) -> RopeParameters {
        let mut rope = self.rope_parameters.clone().or_else(|| self.rope_scaling.clone()).unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta).or(Some(10_000.0));
        rope
    }
}

impl RopeParameters {
    /// The kind of scaling, by whichever key says it.
    pub fn kind(&self) -> Option<&str> {
        self.rope_type.as_deref().or(self.legacy_type.as_deref())
    }
}
