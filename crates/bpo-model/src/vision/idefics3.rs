//! Idefics3's vision transformer: SigLIP's layers, with positions that are interpolated to the patches
//! of a tile of any size. SmolVLM has the same.
//!
//! It runs as transformers' `Idefics3VisionTransformer` (`models/idefics3/modeling_idefics3.py`).

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::VitConfig;
use super::encoder::Encoder;
use super::patches::PatchEmbedding;
use crate::checkpoint::WeightLoader;
use crate::layers::{layer_norm, normed};
use crate::lora::{Adapters, Linear};
use crate::vlm::ids;

/// The image encoder with the norm after its last layer.
#[derive(Module, Debug)]
pub struct Idefics3Vision {
    embeddings: Embeddings,
    encoder: Encoder,
    post_layernorm: LayerNorm,
}

/// Patches and positions.
#[derive(Module, Debug)]
struct Embeddings {
    patch_embedding: PatchEmbedding,
    /// `[side * side, hidden]`, for a square of positions.
    position_embedding: Param<Tensor<2>>,
    #[module(skip)]
    side: usize,
}

impl Idefics3Vision {
    /// Loads the weights.
    pub(crate) fn load(weights: &mut WeightLoader, vision: &VitConfig) -> Self {
        let (hidden, patches) = (vision.hidden_size, vision.patches());
        Self {
            embeddings: Embeddings {
                patch_embedding: PatchEmbedding::of_vit(weights, vision, true),
                position_embedding: weights
                    .param("vision_tower.embeddings.position_embedding.weight", [patches, hidden]),
                side: vision.image_size / vision.patch_size,
            },
            encoder: Encoder::load(weights, vision, vision.num_hidden_layers),
            post_layernorm: layer_norm(weights, "vision_tower.post_layernorm", hidden, vision.layer_norm_eps),
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.encoder.linears_mut()
    }

    /// Computes image features, before the projector.
    ///
    /// # Shapes
    /// - `pixels`: `[tiles, channels, height, width]`, normalized
    /// - output: `[tiles, patches, hidden]`, with the patches of a tile row by row
    pub(crate) fn forward(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        let x = self.embeddings.forward(pixels);
        let last = self.encoder.layers_run();
        normed(&self.post_layernorm, self.encoder.states(x, &[last], adapters))
    }
}

impl Embeddings {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [_, _, height, width] = pixels.dims();
        let patch = self.patch_embedding.side();
        let patches = self.patch_embedding.forward(pixels);
        let positions = positions([height / patch, width / patch], self.side);
        let table = self.position_embedding.val();
        let device = table.device();
        patches + table.select(0, ids(&positions, &device)).unsqueeze::<3>()
    }
}

/// The position of each patch of a tile, row by row, in a square of `side` times `side` positions.
/// `patches` are the rows and columns of patches.
fn positions(patches: [usize; 2], side: usize) -> Vec<u32> {
    let [rows, columns] = patches.map(|patches| buckets(patches, side));
    rows.iter().flat_map(|row| columns.iter().map(move |column| (row * side + column) as u32)).collect()
}

/// The bucket of each of `patches` patches along an axis, of `count` buckets.
///
/// A patch is in the bucket that its beginning lies in, with the rounding of f32 in torch: where the
/// beginning of a patch and of a bucket coincide, the rounding decides.
fn buckets(patches: usize, count: usize) -> Vec<usize> {
    let boundaries = boundaries(count);
    let step = 1.0 / patches as f32;
    let bucket = |patch: usize| {
        let start = (patch as f32 * step).min((1.0_f64 - 1e-6) as f32);
        boundaries.partition_point(|boundary| *boundary <= start)
    };
    (0..patches).map(bucket).collect()
}

/// The boundaries between `count` buckets of the range from 0 to 1: `torch.arange(1 / count, 1.0, 1 /
/// count)` on a CPU, which computes runs of 16 numbers in vectors of 8.
fn boundaries(count: usize) -> Vec<f32> {
    const VECTOR: usize = 8;
    let step = 1.0 / count as f64;
    let len = ((1.0 - step) / step).ceil() as usize;
    let in_vectors = len - len % (2 * VECTOR);
    let boundary = |i: usize| {
        let first = if i < in_vectors { i - i % VECTOR } else { i };
        let base = (step + step * first as f64) as f32;
        (f64::from(base) + (i - first) as f64 * step) as f32
    };
    (0..len).map(boundary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_take_the_positions_at_their_places() {
        assert_eq!(positions([2, 3], 4), [0, 1, 2, 8, 9, 10]);
        assert_eq!(buckets(10, 4), [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(buckets(8, 27), [0, 3, 6, 10, 13, 16, 20, 23]);
        // the published checkpoints have as many patches as positions
        for count in [26, 27, 32] {
            assert_eq!(buckets(count, count), (0..count).collect::<Vec<_>>());
        }
        // for other counts the rounding of torch puts some patches into the bucket before
        let expected =
            [0, 1, 2, 3, 4, 4, 6, 7, 8, 8, 9, 10, 11, 12, 14, 14, 16, 17, 17, 19, 19, 21, 22, 22, 24];
        assert_eq!(buckets(25, 25), expected);
    }

    /// The digest is that of torch 2.9's `bucketize` for all counts to 128.
    #[test]
    fn buckets_are_those_of_torch() {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for count in 1..=128 {
            for patches in 1..=128 {
                for bucket in buckets(patches, count) {
                    digest = (digest ^ bucket as u64).wrapping_mul(0x100_0000_01b3);
                }
            }
        }
        assert_eq!(digest, 0x4db2_e360_a4c2_d6a2);
    }
}
