//! LLaVA-1.5's projector: two linears with a GELU between.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use crate::config::{Activation, LlavaConfig};
use crate::lora::{Adapters, Linear};
use crate::nn::activate;
use crate::weights::WeightLoader;

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
    /// Takes the projector's weights, whose names begin with `name`.
    pub fn load(weights: &mut WeightLoader, name: &str, config: &LlavaConfig) -> Self {
        let d_in = config.vision_config.hidden_size * config.feature_layers().len();
        let d_out = config.text_config.hidden_size;
        let bias = config.multimodal_projector_bias;
        Self {
            linear_1: Linear::load(weights, &format!("{name}.linear_1"), d_in, d_out, bias),
            linear_2: Linear::load(weights, &format!("{name}.linear_2"), d_out, d_out, bias),
            act: config.projector_hidden_act,
        }
    }

    /// `[images, tokens, vision hidden]` to `[images, tokens, text hidden]`.
    pub fn forward(&self, features: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let dtype = features.dtype();
        let features = features.cast(self.linear_1.weight.base().dtype());
        let hidden = activate(self.linear_1.forward(features, adapters), self.act);
        self.linear_2.forward(hidden, adapters).cast(dtype)
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }

    /// A copy with parameters of its own that require gradients, in f32 as the adapters are.
    pub(crate) fn trainable(self) -> Self {
        let own = |linear: Linear| Linear {
            weight: Param::from_tensor(linear.weight.base().cast(DType::F32)),
            bias: linear.bias.map(|bias| Param::from_tensor(bias.val().cast(DType::F32))),
            dropout: linear.dropout,
        };
        Self { linear_1: own(self.linear_1), linear_2: own(self.linear_2), act: self.act }
    }
}
