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
    /// Loads the weight, and the bias if there is one.
    pub(super) fn load(weights: &mut WeightLoader, vision: &VitConfig, has_bias: bool) -> Self {
        const NAME: &str = "vision_tower.embeddings.patch_embedding";
        let (hidden, patch) = (vision.hidden_size, vision.patch_size);
        let shape = [hidden, vision.num_channels, patch, patch];
        Self {
            weight: weights.param(&format!("{NAME}.weight"), shape),
            bias: has_bias.then(|| weights.param(&format!("{NAME}.bias"), [hidden])),
        }
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
