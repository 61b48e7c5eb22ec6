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
        let d_in = config.vision_config.hidden_size * config.feature_layers().len();
        let d_out = config.text_config.hidden_size;
        let bias = config.multimodal_projector_bias;
        let norm = |epsilon, weights: &mut WeightLoader| {
            layer_norm(weights, &format!("{PROJECTOR}.projector_layernorm"), d_in, epsilon)
        };
        Self {
            projector_layernorm: config.projector_layernorm_eps.map(|epsilon| norm(epsilon, weights)),
            linear_1: Linear::load(weights, &format!("{PROJECTOR}.linear_1"), d_in, d_out, bias),
            linear_2: Linear::load(weights, &format!("{PROJECTOR}.linear_2"), d_out, d_out, bias),
            act: config.projector_hidden_act,
        }
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
        let values = self.forward(values.reshape([count, rows / count, width]), adapters);
        let values = values.flatten::<2>(0, 1);
        PackedFeatures::new(values, images.iter().map(|image| image.tokens()))
    }

    /// Maps `[images, tokens, vision hidden]` to `[images, tokens, text hidden]`.
    fn forward(&self, features: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let dtype = features.dtype();
        // a trained copy is in f32, and may be one of the two linears only
        let apply =
            |linear: &Linear, x: Tensor<3>| linear.forward(x.cast(linear.weight.base().dtype()), adapters);
        let features = match &self.projector_layernorm {
            Some(norm) => normed(norm, features),
            None => features,
        };
        let hidden = activate(apply(&self.linear_1, features), self.act);
        apply(&self.linear_2, hidden).cast(dtype)
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }
}
