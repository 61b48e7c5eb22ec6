//! The connector: squares of neighbouring patches become one feature each, and a linear maps them to
//! the language model's width.
//!
//! It runs as transformers' `Idefics3Connector` (`models/idefics3/modeling_idefics3.py`).

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::SmolVlmConfig;
use crate::checkpoint::WeightLoader;
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
        let shuffled = shuffled(values, tiles, (rows / tiles).isqrt(), self.scale);
        let (proj, dtype) = (&self.modality_projection.proj, shuffled.dtype());
        // a trained copy is in f32
        let projected = proj.forward(shuffled.cast(proj.weight.base().dtype()), adapters).cast(dtype);
        PackedFeatures::new(projected, images.iter().map(|image| image.tokens()))
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 1] {
        [&mut self.modality_projection.proj]
    }
}

/// Puts the features of squares of patches side by side (pixel shuffle).
///
/// # Shapes
/// - `values`: `[tiles * side * side, width]`, the patches of each tile row by row
/// - output: `[tiles * (side / scale)^2, scale * scale * width]`
pub(crate) fn shuffled(values: Tensor<2>, tiles: usize, side: usize, scale: usize) -> Tensor<2> {
    let [_, width] = values.dims();
    let squares = side / scale;
    values
        // the columns of a square and their features stay together
        .reshape([tiles * squares, scale, squares, scale * width])
        .swap_dims(1, 2)
        .reshape([tiles * squares * squares, scale * scale * width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Two tiles of 4 x 4 patches, whose features are their numbers.
    #[test]
    fn a_square_of_patches_becomes_one_feature() {
        let values: Vec<f32> = (0..32).map(|patch| patch as f32).collect();
        let values = Tensor::from_data(TensorData::new(values, [32, 1]), &Device::default());
        let found = shuffled(values, 2, 4, 2);
        assert_eq!(found.dims(), [8, 4]);
        let expected = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
        let expected: Vec<_> =
            expected.iter().chain(&expected.map(|patch| patch + 16)).map(|x| *x as f32).collect();
        assert_eq!(found.into_data().try_into_vec::<f32>().unwrap(), expected);
    }
}
