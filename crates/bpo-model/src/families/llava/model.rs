//! LLaVA's projector: two linears with an activation between; in ViP-LLaVA after a layer norm.

use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::config::LlavaConfig;
use crate::checkpoint::WeightLoader;
use crate::input::ImageLayout;
use crate::layers::{Activation, activate, layer_norm, normed};
use crate::lora::{Adapters, Linear};
use crate::vlm::{PROJECTOR, PackedFeatures};

/// Maps image features to the language model's width.
#[derive(Module, Debug)]
pub struct LlavaProjector {
    /// Normalizes image features, in ViP-LLaVA.
    projector_layernorm: Option<LayerNorm>,
    /// From the vision tower's width to the language model's.
    pub linear_1: Linear,
    /// Within the language model's width.
    pub linear_2: Linear,
    #[module(skip)]
    act: Activation,
}

impl LlavaProjector {
    /// Loads the weights.
    pub(super) fn load(weights: &mut WeightLoader, config: &LlavaConfig) -> Self {
        let norm = config.projector_layernorm_eps.map(|epsilon| {
            let width = config.vision_config.hidden_size * config.feature_layers().len();
            layer_norm(weights, &format!("{PROJECTOR}.projector_layernorm"), width, epsilon)
        });
        let [linear_1, linear_2] = config.projector_linears(weights);
        Self { projector_layernorm: norm, linear_1, linear_2, act: config.projector_hidden_act }
    }

    /// Projects each feature to one image token.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        let (values, count) = (features.values(), features.images());
        let [rows, width] = values.dims();
        // every image has as many features
        let values = values.reshape([count, rows / count, width]);
        let values = match &self.projector_layernorm {
            Some(norm) => normed(norm, values),
            None => values,
        };
        let values = project_features([&self.linear_1, &self.linear_2], self.act, values, adapters);
        let values = values.flatten::<2>(0, 1);
        PackedFeatures::new(values, images.iter().map(|image| image.tokens()))
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }
}

impl LlavaConfig {
    /// Loads the two linears of the projector.
    pub(crate) fn projector_linears(&self, weights: &mut WeightLoader) -> [Linear; 2] {
        let d_in = self.vision_config.hidden_size * self.feature_layers().len();
        let d_out = self.text_config.hidden_size;
        let bias = self.multimodal_projector_bias;
        [("linear_1", d_in), ("linear_2", d_out)]
            .map(|(name, d_in)| Linear::load(weights, &format!("{PROJECTOR}.{name}"), d_in, d_out, bias))
    }
}

/// Maps `[images, tokens, vision hidden]` to `[images, tokens, text hidden]` by two linears with an
/// activation between.
pub(crate) fn project_features(
    linears: [&Linear; 2],
    act: Activation,
    features: Tensor<3>,
    adapters: Adapters,
) -> Tensor<3> {
    let dtype = features.dtype();
    // a trained copy is in f32, and may be one of the two linears only
    let apply =
        |linear: &Linear, x: Tensor<3>| linear.forward(x.cast(linear.weight.base().dtype()), adapters);
    let hidden = activate(apply(linears[0], features), act);
    apply(linears[1], hidden).cast(dtype)
}
