//! The configuration of InternVL's vision tower, with the defaults of transformers
//! (`models/internvl/configuration_internvl.py`).

use serde::{Deserialize, Deserializer};

use crate::layers::Activation;

/// Configuration of InternVL's vision transformer. Missing keys have the defaults of transformers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, expecting = "an object")]
#[non_exhaustive]
pub struct InternVlVisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Number of colour channels.
    pub num_channels: usize,
    /// Height and width of a tile, in pixels. Files have one number for both, or a list.
    #[serde(deserialize_with = "height_and_width")]
    pub image_size: [usize; 2],
    /// Height and width of a patch, in pixels. Files have one number for both, or a list.
    #[serde(deserialize_with = "height_and_width")]
    pub patch_size: [usize; 2],
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// The norms before attention and before the feed-forward layers.
    pub norm_type: InternVlNorm,
    /// Epsilon of these norms, and of the norm after the last layer.
    pub layer_norm_eps: f64,
    /// Whether the projections to queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether queries and keys are normalized over all heads.
    pub use_qk_norm: bool,
    /// Whether there is a learned position for the class token and each patch.
    pub use_absolute_position_embeddings: bool,
    /// Whether there is no norm after the last layer. Image features are not pooled in either case.
    pub use_mean_pooling: bool,
}

/// The kind of a norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InternVlNorm {
    /// A layer norm.
    #[default]
    LayerNorm,
    /// An RMS norm.
    RmsNorm,
}

impl Default for InternVlVisionConfig {
    /// transformers' `InternVLVisionConfig`.
    fn default() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            num_channels: 3,
            image_size: [448; 2],
            patch_size: [14; 2],
            hidden_act: Activation::Gelu,
            norm_type: InternVlNorm::LayerNorm,
            layer_norm_eps: 1e-6,
            attention_bias: false,
            use_qk_norm: false,
            use_absolute_position_embeddings: true,
            use_mean_pooling: true,
        }
    }
}

impl InternVlVisionConfig {
    /// Patches along a side of a tile. Tiles and patches are squares.
    pub(crate) fn side(&self) -> usize {
        self.image_size[0] / self.patch_size[0]
    }

    /// Number of tokens of a tile within the tower: the class token and the patches.
    pub fn tokens(&self) -> usize {
        1 + self.side() * self.side()
    }
}

/// Reads one number for both, or a list of both.
fn height_and_width<'de, D: Deserializer<'de>>(file: D) -> Result<[usize; 2], D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or [height, width]")]
    enum Sides {
        One(usize),
        Both([usize; 2]),
    }
    Sides::deserialize(file).map(|sides| match sides {
        Sides::One(side) => [side; 2],
        Sides::Both(sides) => sides,
    })
}
