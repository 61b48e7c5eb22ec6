//! LLaVA-1.5's projector: two linears with a GELU between.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::LlavaConfig;
use crate::checkpoint::WeightLoader;
use crate::layers::Activation;
use crate::layers::activate;
use crate::lora::{Adapters, Linear};

/// Maps image features to the language model's width.
#[derive(Module, Debug)]
pub struct Projector {
    /// From the vision tower's width to the language model's.
    pub linear_1: Linear,
    /// Within the language model's width.
    pub linear_2: Linear,
    #[module(skip)]
    act: Activation,
}

impl Projector {
    /// Loads the weights whose names begin with `name`.
    pub(crate) fn load(weights: &mut WeightLoader, name: &str, config: &LlavaConfig) -> Self {
        let d_in = config.vision_config.hidden_size * config.feature_layers().len();
        let d_out = config.text_config.hidden_size;
        let bias = config.multimodal_projector_bias;
        Self {
            linear_1: Linear::load(weights, &format!("{name}.linear_1"), d_in, d_out, bias),
            linear_2: Linear::load(weights, &format!("{name}.linear_2"), d_out, d_out, bias),
            act: config.projector_hidden_act,
        }
    }

    /// Projects `[images, tokens, vision hidden]` to `[images, tokens, text hidden]`.
    pub(crate) fn forward(&self, features: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let dtype = features.dtype();
        // a trained copy is in f32, and may be one of the two linears only
        let apply =
            |linear: &Linear, x: Tensor<3>| linear.forward(x.cast(linear.weight.base().dtype()), adapters);
        let hidden = activate(apply(&self.linear_1, features), self.act);
        apply(&self.linear_2, hidden).cast(dtype)
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }
}
