//! The patches of images.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::checkpoint::WeightLoader;
use crate::vision::VitConfig;

/// A convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub(super) struct PatchEmbedding {
    /// `[hidden, channels, patch, patch]`
    weight: Param<Tensor<4>>,
    /// `[hidden]`
    bias: Option<Param<Tensor<1>>>,
}

impl PatchEmbedding {
    /// Loads `{name}.weight`, of the shape `[hidden, channels, patch, patch]`, and `{name}.bias` if
    /// there is one.
    pub(super) fn load(weights: &mut WeightLoader, name: &str, shape: [usize; 4], has_bias: bool) -> Self {
        Self {
            weight: weights.param(&format!("{name}.weight"), shape),
            bias: has_bias.then(|| weights.param(&format!("{name}.bias"), [shape[0]])),
        }
    }

    /// Loads the patches of CLIP or SigLIP.
    pub(super) fn of_vit(weights: &mut WeightLoader, vision: &VitConfig, has_bias: bool) -> Self {
        let shape = [vision.hidden_size, vision.num_channels, vision.patch_size, vision.patch_size];
        Self::load(weights, "vision_tower.embeddings.patch_embedding", shape, has_bias)
    }

    /// Side of a patch, in pixels.
    pub(super) fn side(&self) -> usize {
        self.weight.val().dims()[3]
    }

    /// Computes the convolution as a matrix product: `[images, channels, height, width]` to
    /// `[images, patches, hidden]`, with the patches row by row.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [images, channels, height, width] = pixels.dims();
        let kernel = self.weight.val();
        let [hidden, _, patch, _] = kernel.dims();
        let (rows, columns) = (height / patch, width / patch);
        let inner = channels * patch * patch;

        // the remainder of a side that is not a multiple of the patch is dropped, as in the
        // convolution
        let patches = pixels
            .slice([0..images, 0..channels, 0..rows * patch, 0..columns * patch])
            .reshape([images, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([images * rows * columns, inner])
            .matmul(kernel.reshape([hidden, inner]).transpose())
            .reshape([images, rows * columns, hidden]);
        match &self.bias {
            Some(bias) => patches + bias.val().unsqueeze::<3>(),
            None => patches,
        }
    }
}
