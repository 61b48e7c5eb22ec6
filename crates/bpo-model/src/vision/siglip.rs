//! SigLIP's vision transformer (Zhai et al., 2023, arXiv 2303.15343), as transformers'
//! `SiglipVisionModel` (`models/siglip/modeling_siglip.py`) runs it.
//!
//! Its hidden states are those before `post_layernorm`, so that norm and the pooling head after it
//! take no part.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::encoder::Encoder;
use super::patches::PatchEmbedding;
use super::{FeatureStates, VitConfig};
use crate::checkpoint::WeightLoader;
use crate::lora::{Adapters, Linear};

/// The image encoder, up to the last layer whose hidden state is used.
#[derive(Module, Debug)]
pub struct SiglipVision {
    embeddings: Embeddings,
    encoder: Encoder,
    #[module(skip)]
    features: FeatureStates,
}

/// Patches and positions. There is no class token.
#[derive(Module, Debug)]
struct Embeddings {
    patch_embedding: PatchEmbedding,
    /// `[patches, hidden]`
    position_embedding: Param<Tensor<2>>,
}

impl SiglipVision {
    /// Loads the weights. Layers after the last used one are not loaded.
    pub(crate) fn load(weights: &mut WeightLoader, vision: &VitConfig, features: FeatureStates) -> Self {
        let positions = [vision.patches(), vision.hidden_size];
        Self {
            embeddings: Embeddings {
                patch_embedding: PatchEmbedding::of_vit(weights, vision, true),
                position_embedding: weights
                    .param("vision_tower.embeddings.position_embedding.weight", positions),
            },
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
        let patches = self.embeddings.patch_embedding.forward(pixels);
        let x = patches + self.embeddings.position_embedding.val().unsqueeze::<3>();
        self.features.selected(self.encoder.states(x, &self.features.layers, adapters))
    }
}
