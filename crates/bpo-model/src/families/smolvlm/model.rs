//! The connector: squares of neighbouring patches become one feature each, and a linear maps them to
//! the language model's width.
//!
//! It runs as transformers' `Idefics3Connector` (`models/idefics3/modeling_idefics3.py`).

use burn::module::Module;

use super::config::SmolVlmConfig;
use crate::checkpoint::WeightLoader;
use crate::families::pixel_shuffle::pixel_shuffle;
use crate::input::ImageLayout;
use crate::lora::{Adapters, Linear};
use crate::vlm::{PROJECTOR, PackedFeatures};

/// Maps image features to the language model's width.
#[derive(Module, Debug)]
pub struct SmolVlmProjector {
    modality_projection: Projection,
    /// Side of the squares of patches that become one feature.
    #[module(skip)]
    scale: usize,
}

/// A linear without a bias, under transformers' name.
#[derive(Module, Debug)]
struct Projection {
    proj: Linear,
}

impl SmolVlmProjector {
    /// Loads the weights.
    pub(super) fn load(weights: &mut WeightLoader, config: &SmolVlmConfig) -> Self {
        let scale = config.scale_factor;
        let d_in = config.vision_config.hidden_size * scale * scale;
        let name = format!("{PROJECTOR}.modality_projection.proj");
        let proj = Linear::load(weights, &name, d_in, config.text_config.hidden_size, false);
        Self { modality_projection: Projection { proj }, scale }
    }

    /// Projects the features of images whose tiles are squares of one size.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        let values = features.values();
        let [rows, _] = values.dims();
        let tiles: usize = images.iter().map(|image| image.tiles()).sum();
        let shuffled = pixel_shuffle(values, tiles, (rows / tiles).isqrt(), self.scale);
        let (proj, dtype) = (&self.modality_projection.proj, shuffled.dtype());
        // a trained copy is in f32
        let projected = proj.forward(shuffled.cast(proj.weight.base().dtype()), adapters).cast(dtype);
        PackedFeatures::new(projected, images.iter().map(|image| image.tokens()))
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 1] {
        [&mut self.modality_projection.proj]
    }
}
