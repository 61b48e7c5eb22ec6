//! CLIP's vision transformer (Radford et al., 2021, arXiv 2103.00020), as transformers'
//! `CLIPVisionModel` runs it.

mod config;
mod encoder;

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use crate::checkpoint::WeightLoader;
use crate::layers::{layer_norm, normed};
use crate::lora::{Adapters, Linear};
pub use config::ClipConfig;
use encoder::{Encoder, EncoderLayer};

/// The image encoder, up to the last layer whose hidden state is used.
#[derive(Module, Debug)]
pub struct ClipVision {
    embeddings: Embeddings,
    pre_layrnorm: LayerNorm,
    encoder: Encoder,
    #[module(skip)]
    feature_layers: Vec<usize>,
    #[module(skip)]
    keep_class: bool,
}

/// Patches, class token and positions.
#[derive(Module, Debug)]
struct Embeddings {
    /// `[hidden]`
    class_embedding: Param<Tensor<1>>,
    /// `[hidden, channels, patch, patch]`
    patch_embedding: Param<Tensor<4>>,
    /// `[1 + patches, hidden]`
    position_embedding: Param<Tensor<2>>,
}

impl ClipVision {
    /// Loads the weights. Layers after the last used one are not loaded.
    /// The features are the hidden states after `feature_layers` layers, concatenated, without the
    /// class token unless `keep_class`.
    pub(crate) fn load(
        weights: &mut WeightLoader,
        vision: &ClipConfig,
        feature_layers: Vec<usize>,
        keep_class: bool,
    ) -> Self {
        let (hidden, patch) = (vision.hidden_size, vision.patch_size);
        let used = feature_layers.iter().copied().max().unwrap_or(0);
        Self {
            embeddings: Embeddings {
                class_embedding: weights.param("vision_tower.embeddings.class_embedding", [hidden]),
                patch_embedding: weights.param(
                    "vision_tower.embeddings.patch_embedding.weight",
                    [hidden, vision.num_channels, patch, patch],
                ),
                position_embedding: weights.param(
                    "vision_tower.embeddings.position_embedding.weight",
                    [vision.patches() + 1, hidden],
                ),
            },
            pre_layrnorm: layer_norm(weights, "vision_tower.pre_layrnorm", hidden, vision.layer_norm_eps),
            encoder: Encoder {
                layers: (0..used)
                    .map(|i| EncoderLayer::load(weights, &format!("vision_tower.encoder.layers.{i}"), vision))
                    .collect(),
            },
            feature_layers,
            keep_class,
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.encoder.layers.iter_mut().flat_map(EncoderLayer::linears_mut)
    }

    /// Computes image features, before the projector.
    ///
    /// # Shapes
    /// - `pixels`: `[images, channels, side, side]`, normalized
    /// - output: `[images, tokens, hidden x feature layers]`
    pub(crate) fn forward(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        let mut hidden = normed(&self.pre_layrnorm, self.embeddings.forward(pixels));
        let mut states = vec![(0, hidden.clone())];
        for (i, layer) in self.encoder.layers.iter().enumerate() {
            hidden = layer.forward(hidden, adapters);
            if self.feature_layers.contains(&(i + 1)) {
                states.push((i + 1, hidden.clone()));
            }
        }
        let picked = |layer: &usize| {
            let state = states.iter().find(|(i, _)| i == layer).map(|(_, state)| state.clone());
            state.expect("every feature layer has run")
        };
        let features: Vec<_> = self.feature_layers.iter().map(picked).collect();
        let features = Tensor::cat(features, 2);
        if self.keep_class {
            return features;
        }
        let [_, tokens, _] = features.dims();
        features.narrow(1, 1, tokens - 1)
    }
}

impl Embeddings {
    /// Computes the patch convolution as a matrix product: its stride is its kernel size.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [images, channels, height, width] = pixels.dims();
        let kernel = self.patch_embedding.val();
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
        let class = self.class_embedding.val().reshape([1, 1, hidden]).expand([images, 1, hidden]);
        Tensor::cat(vec![class, patches], 1) + self.position_embedding.val().unsqueeze::<3>()
    }
}
