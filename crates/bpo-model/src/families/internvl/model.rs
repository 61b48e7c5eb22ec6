//! The projector: squares of neighbouring patches become one feature each, and a layer norm and two
//! linears map them to the language model's width.
//!
//! It runs as `pixel_shuffle` and `InternVLMultiModalProjector` of transformers
//! (`models/internvl/modeling_internvl.py`).

use burn::module::Module;
use burn::nn::LayerNorm;

use super::config::InternVlConfig;
use crate::checkpoint::WeightLoader;
use crate::families::llava::project_features;
use crate::families::pixel_shuffle::pixel_shuffle;
use crate::input::ImageLayout;
use crate::layers::{Activation, layer_norm, normed};
use crate::lora::{Adapters, Linear};
use crate::vlm::{PROJECTOR, PackedFeatures};

/// Epsilon of the layer norm. No file has this key.
const EPSILON: f64 = 1e-5;

/// Maps image features to the language model's width.
#[derive(Module, Debug)]
pub struct InternVlProjector {
    /// Normalizes the features of a square of patches.
    layer_norm: LayerNorm,
    /// From the features of a square of patches to the language model's width.
    pub linear_1: Linear,
    /// Within the language model's width.
    pub linear_2: Linear,
    #[module(skip)]
    act: Activation,
    /// Patches along a side of a tile.
    #[module(skip)]
    side: usize,
    /// Side of the squares of patches that become one feature.
    #[module(skip)]
    square: usize,
}

impl InternVlProjector {
    /// Loads the weights.
    pub(super) fn load(weights: &mut WeightLoader, config: &InternVlConfig) -> Self {
        let square = config.square();
        let (inner, outer) =
            (config.vision_config.hidden_size * square * square, config.text_config.hidden_size);
        let name = |part: &str| format!("{PROJECTOR}.{part}");
        Self {
            layer_norm: layer_norm(weights, &name("layer_norm"), inner, EPSILON),
            linear_1: Linear::load(weights, &name("linear_1"), inner, outer, true),
            linear_2: Linear::load(weights, &name("linear_2"), outer, outer, true),
            act: config.projector_hidden_act,
            side: config.vision_config.side(),
            square,
        }
    }

    /// Projects the features of tiles.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        let tiles: usize = images.iter().map(|image| image.tiles()).sum();
        let squares = pixel_shuffle(features.values(), tiles, self.side, self.square);
        let squares = normed(&self.layer_norm, squares).unsqueeze::<3>();
        let values = project_features([&self.linear_1, &self.linear_2], self.act, squares, adapters);
        PackedFeatures::new(values.flatten::<2>(0, 1), images.iter().map(|image| image.tokens()))
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }
}
