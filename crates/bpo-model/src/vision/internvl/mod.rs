//! InternVL's vision transformer (Chen et al., 2023, arXiv 2312.14238), as transformers'
//! `InternVLVisionModel` (`models/internvl/modeling_internvl.py`) runs it: a class token, a position
//! for each token, and a learned scale of the output of attention and of each feed-forward layer.

mod config;
mod layer;

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::patches::PatchEmbedding;
use crate::checkpoint::WeightLoader;
use crate::layers::{layer_norm, normed};
use crate::lora::{Adapters, Linear};
pub use config::{InternVlNorm, InternVlVisionConfig};
use layer::Layer;

/// The image encoder. Fields have the names of transformers.
#[derive(Module, Debug)]
pub struct InternVlVision {
    embeddings: Embeddings,
    encoder: Encoder,
    /// After the last layer, in towers without mean pooling.
    layernorm: Option<LayerNorm>,
}

/// The class token, patches and positions.
#[derive(Module, Debug)]
struct Embeddings {
    /// `[1, 1, hidden]`
    cls_token: Param<Tensor<3>>,
    patch_embeddings: PatchEmbeddings,
    /// `[1, 1 + patches, hidden]`
    position_embeddings: Option<Param<Tensor<3>>>,
}

/// The convolution under transformers' name.
#[derive(Module, Debug)]
struct PatchEmbeddings {
    projection: PatchEmbedding,
}

/// The layers in order, under transformers' name.
#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Layer>,
}

impl InternVlVision {
    /// Loads the weights.
    pub(crate) fn load(weights: &mut WeightLoader, vision: &InternVlVisionConfig) -> Self {
        const EMBEDDINGS: &str = "vision_tower.embeddings";
        let hidden = vision.hidden_size;
        let patches = format!("{EMBEDDINGS}.patch_embeddings.projection");
        let shape = [hidden, vision.num_channels, vision.patch_size[0], vision.patch_size[1]];
        let layer = |number| Layer::load(weights, &format!("vision_tower.encoder.layer.{number}"), vision);
        let encoder = Encoder { layer: (0..vision.num_hidden_layers).map(layer).collect() };
        Self {
            embeddings: Embeddings {
                cls_token: weights.param(&format!("{EMBEDDINGS}.cls_token"), [1, 1, hidden]),
                patch_embeddings: PatchEmbeddings {
                    projection: PatchEmbedding::load(weights, &patches, shape, true),
                },
                position_embeddings: vision.use_absolute_position_embeddings.then(|| {
                    let name = format!("{EMBEDDINGS}.position_embeddings");
                    weights.param(&name, [1, vision.tokens(), hidden])
                }),
            },
            encoder,
            layernorm: (!vision.use_mean_pooling)
                .then(|| layer_norm(weights, "vision_tower.layernorm", hidden, vision.layer_norm_eps)),
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.encoder.layer.iter_mut().flat_map(Layer::linears_mut)
    }

    /// Computes image features, before the projector.
    ///
    /// # Shapes
    /// - `pixels`: `[tiles, channels, side, side]`, normalized
    /// - output: `[tiles, patches, hidden]`, with the patches of a tile row by row
    pub(crate) fn forward(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        let mut x = self.embeddings.forward(pixels);
        for layer in &self.encoder.layer {
            x = layer.forward(x, adapters);
        }
        // the class token is no image feature
        let patches = x.dims()[1] - 1;
        let x = x.narrow(1, 1, patches);
        match &self.layernorm {
            Some(norm) => normed(norm, x),
            None => x,
        }
    }
}

impl Embeddings {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patches = self.patch_embeddings.projection.forward(pixels);
        let [tiles, _, hidden] = patches.dims();
        let x = Tensor::cat(vec![self.cls_token.val().expand([tiles, 1, hidden]), patches], 1);
        match &self.position_embeddings {
            Some(positions) => x + positions.val(),
            None => x,
        }
    }
}
