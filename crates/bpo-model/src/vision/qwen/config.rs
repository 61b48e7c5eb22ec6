//! The configuration of the vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

use crate::layers::Activation;

/// The vision tower of a Qwen-VL model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QwenVisionConfig {
    /// Number of layers.
    pub depth: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Frames of a patch. A still image fills all of them.
    pub temporal_patch_size: usize,
    /// Side of the square of patches that becomes one image token.
    pub spatial_merge_size: usize,
    /// Width of image tokens: that of the language model.
    pub out_hidden_size: usize,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Base of the rotary frequencies of rows and columns.
    pub rope_theta: f64,
    /// Whether the feed-forward layers have a gate, and norms are RMS norms (Qwen2.5-VL).
    pub gated: bool,
    /// Attention in windows, if the tower has it (Qwen2.5-VL).
    pub windows: Option<WindowConfig>,
    /// The learned table of positions, if the tower has it (Qwen3-VL): its side.
    pub position_side: Option<usize>,
    /// Layers whose hidden states are added to the first layers of the language model, ascending
    /// (Qwen3-VL).
    pub deepstack_layers: Vec<usize>,
}

/// Attention in windows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowConfig {
    /// Side of a window, in image tokens.
    pub side: usize,
    /// Layers whose patches attend to all patches of their image.
    pub full_layers: Vec<usize>,
}

impl QwenVisionConfig {
    /// Patches of an image token.
    pub fn merged(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Width of the features of an image token, before the projector.
    pub(crate) fn feature_width(&self) -> usize {
        self.hidden_size * self.merged() * (1 + self.deepstack_layers.len())
    }
}
