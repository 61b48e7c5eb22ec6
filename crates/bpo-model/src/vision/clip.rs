//! CLIP's vision transformer (Radford et al., 2021, arXiv 2103.00020), as transformers'
//! `CLIPVisionModel` (`models/clip/modeling_clip.py`) runs it.

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::encoder::Encoder;
use super::patches::PatchEmbedding;
use super::{FeatureStates, VitConfig};
use crate::checkpoint::WeightLoader;
use crate::layers::{layer_norm, normed};
use crate::lora::{Adapters, Linear};

/// The image encoder, up to the last layer whose hidden state is used.
#[derive(Module, Debug)]
pub struct ClipVision {
    embeddings: Embeddings,
    pre_layrnorm: LayerNorm,
    encoder: Encoder,
    #[module(skip)]
    features: FeatureStates,
}

/// Patches, class token and positions.
#[derive(Module, Debug)]
struct Embeddings {
    /// `[hidden]`
    class_embedding: Param<Tensor<1>>,
    patch_embedding: PatchEmbedding,
    /// `[1 + patches, hidden]`
    position_embedding: Param<Tensor<2>>,
}

impl ClipVision {
    /// Loads the weights. Layers after the last used one are not loaded.
    pub(crate) fn load(weights: &mut WeightLoader, vision: &VitConfig, features: FeatureStates) -> Self {
        let hidden = vision.hidden_size;
        Self {
            embeddings: Embeddings {
                class_embedding: weights.param("vision_tower.embeddings.class_embedding", [hidden]),
                patch_embedding: PatchEmbedding::of_vit(weights, vision, false),
                position_embedding: weights
                    .param("vision_tower.embeddings.position_embedding.weight", [vision.tokens(), hidden]),
            },
            pre_layrnorm: layer_norm(weights, "vision_tower.pre_layrnorm", hidden, vision.layer_norm_eps),
            encoder: Encoder::load(weights, vision, features.layers_run()),
            features,
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.encoder.linears_mut()
    }

    /// Computes image features, before the projector.
    ///
    /// # Shapes
    /// - `pixels`: `[images, channels, side, side]`, normalized
    /// - output: `[images, tokens, hidden x feature layers]`
    pub(crate) fn forward(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        let x = normed(&self.pre_layrnorm, self.embeddings.forward(pixels));
        self.features.selected(self.encoder.states(x, &self.features.layers, adapters))
    }
}

impl Embeddings {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patches = self.patch_embedding.forward(pixels);
        let [images, _, hidden] = patches.dims();
        let class = self.class_embedding.val().reshape([1, 1, hidden]).expand([images, 1, hidden]);
        Tensor::cat(vec![class, patches], 1) + self.position_embedding.val().unsqueeze::<3>()
    }
}
