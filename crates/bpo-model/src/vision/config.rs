//! The configuration of vision towers that are vision transformers, with the defaults of
//! transformers (`models/clip/configuration_clip.py`, `models/siglip/configuration_siglip.py`).

use serde::Deserialize;

use crate::layers::Activation;

/// Configuration of a vision transformer. Missing keys have the defaults of its kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Keys")]
#[non_exhaustive]
pub struct VitConfig {
    /// CLIP or SigLIP.
    pub model_type: VitKind,
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
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// Epsilon of layer norms.
    pub layer_norm_eps: f64,
}

/// The kind of a vision transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum VitKind {
    /// CLIP's: a class token, and a layer norm before the first layer.
    #[default]
    #[serde(rename = "clip_vision_model")]
    Clip,
    /// SigLIP's: no class token, and a bias of the patches.
    #[serde(rename = "siglip_vision_model")]
    Siglip,
}

/// The keys of the file. `None` stands for a missing key.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Keys {
    #[serde(default)]
    model_type: VitKind,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_channels: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    hidden_act: Option<Activation>,
    layer_norm_eps: Option<f64>,
}

impl From<Keys> for VitConfig {
    fn from(keys: Keys) -> Self {
        let default = Self::of_kind(keys.model_type);
        Self {
            model_type: keys.model_type,
            hidden_size: keys.hidden_size.unwrap_or(default.hidden_size),
            intermediate_size: keys.intermediate_size.unwrap_or(default.intermediate_size),
            num_hidden_layers: keys.num_hidden_layers.unwrap_or(default.num_hidden_layers),
            num_attention_heads: keys.num_attention_heads.unwrap_or(default.num_attention_heads),
            num_channels: keys.num_channels.unwrap_or(default.num_channels),
            image_size: keys.image_size.unwrap_or(default.image_size),
            patch_size: keys.patch_size.unwrap_or(default.patch_size),
            hidden_act: keys.hidden_act.unwrap_or(default.hidden_act),
            layer_norm_eps: keys.layer_norm_eps.unwrap_or(default.layer_norm_eps),
        }
    }
}

impl VitConfig {
    /// The defaults of transformers: those of `CLIPVisionConfig` or `SiglipVisionConfig`.
    pub fn of_kind(kind: VitKind) -> Self {
        let clip = Self {
            model_type: kind,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        };
        match kind {
            VitKind::Clip => clip,
            VitKind::Siglip => {
                Self { patch_size: 16, hidden_act: Activation::GeluPytorchTanh, layer_norm_eps: 1e-6, ..clip }
            }
        }
    }

    /// Number of patches of an image.
    pub fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// Number of tokens within the tower: the patches, and the class token of CLIP.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.model_type == VitKind::Clip)
    }
}
