//! Layers that the language model and vision towers share.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

use crate::checkpoint::WeightLoader;
use crate::kernels::{gelu_tanh, rms_norm, swiglu, swish};
use crate::lora::{Adapters, Linear};
use crate::vlm::module_enum;

/// Activation functions, with their names in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, the activation of CLIP.
    QuickGelu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(alias = "gelu_new", alias = "gelu_fast")]
    GeluPytorchTanh,
    /// `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// Applies the activation that a configuration names.
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::QuickGelu => swish(x, 1.702),
        Activation::Gelu => gelu(x),
        Activation::GeluPytorchTanh => gelu_tanh(x),
        Activation::Silu => swish(x, 1.0),
        Activation::Relu => relu(x),
    }
}

/// A gated feed-forward layer, `down(act(gate(x)) * up(x))`; with SiLU it is SwiGLU.
#[derive(Module, Debug)]
pub(crate) struct GatedMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    act: Activation,
}

impl GatedMlp {
    /// Loads the three linears, of the widths `[hidden, inner]`, from below `name`.
    pub(crate) fn load(
        weights: &mut WeightLoader,
        name: &str,
        [hidden, inner]: [usize; 2],
        bias: bool,
        act: Activation,
    ) -> Self {
        let mut linear =
            |part: &str, d_in, d_out| Linear::load(weights, &format!("{name}.{part}"), d_in, d_out, bias);
        Self {
            gate_proj: linear("gate_proj", hidden, inner),
            up_proj: linear("up_proj", hidden, inner),
            down_proj: linear("down_proj", inner, hidden),
            act,
        }
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 3] {
        [&mut self.gate_proj, &mut self.up_proj, &mut self.down_proj]
    }

    /// Applies the layer to `[.., hidden]`.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let gate = self.gate_proj.forward(x.clone(), adapters);
        let up = self.up_proj.forward(x, adapters);
        let gated = match self.act {
            Activation::Silu => swiglu(gate, up),
            other => activate(gate, other) * up,
        };
        self.down_proj.forward(gated, adapters)
    }
}

/// A layer norm or an RMS norm.
#[derive(Clone, Debug)]
pub(crate) enum Norm {
    /// A layer norm.
    Layer(LayerNorm),
    /// An RMS norm.
    Rms(RmsNorm),
}

module_enum!(Norm { Layer, Rms });

impl Norm {
    /// Loads a layer norm, as [`layer_norm`] does.
    pub(crate) fn layer(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> Self {
        Self::Layer(layer_norm(weights, name, width, epsilon))
    }

    /// Loads an RMS norm, as [`load_rms_norm`] does.
    pub(crate) fn rms(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> Self {
        Self::Rms(load_rms_norm(weights, name, width, epsilon))
    }

    /// Applies the norm to the last dimension, in f32. The result has the type of `x`, whichever
    /// type the weights have.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => normed(norm, x),
            Self::Rms(norm) => {
                let dtype = x.dtype();
                rms_norm(x.cast(norm.gamma.dtype()), norm).cast(dtype)
            }
        }
    }
}

/// Loads `{name}.weight` and `{name}.bias`.
pub(crate) fn layer_norm(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> LayerNorm {
    let gamma = weights.param(&format!("{name}.weight"), [width]);
    let beta = weights.param(&format!("{name}.bias"), [width]);
    // the epsilon is private, so an empty norm is built with it
    let mut norm = LayerNormConfig::new(1).with_epsilon(epsilon).init(&Device::default());
    norm.gamma = gamma;
    norm.beta = Some(beta);
    norm
}

/// Applies the norm in f32 whatever the type of `x`; burn computes mean and variance in bf16.
pub(crate) fn normed<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    if dtype == DType::F32 {
        return norm.forward(x);
    }
    let wide = |param: &Param<Tensor<1>>| Param::initialized(param.id, param.val().cast(DType::F32));
    let mut norm = norm.clone();
    (norm.gamma, norm.beta) = (wide(&norm.gamma), norm.beta.as_ref().map(wide));
    norm.forward(x.cast(DType::F32)).cast(dtype)
}

/// Loads `{name}.weight`.
pub(crate) fn load_rms_norm(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> RmsNorm {
    RmsNorm {
        gamma: Param::from_tensor(weights.tensor(&format!("{name}.weight"), [width])).set_require_grad(false),
        epsilon,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, FloatDType, Tolerance};

    use super::*;

    /// The only rounding is to the type of the result.
    #[test]
    fn norms_are_in_f32() {
        let device = Device::default();
        let mut weights = WeightLoader::random(1, FloatDType::F32, &device);
        let layer = layer_norm(&mut weights, "norm", 64, 1e-5);
        let rms = load_rms_norm(&mut weights, "norm", 64, 1e-5);
        for dtype in
            [FloatDType::BF16, FloatDType::F16].into_iter().filter(|dtype| device.supports_dtype(*dtype))
        {
            let x: Tensor<2> = Tensor::random([5, 64], Distribution::Normal(3.0, 0.1), &device);
            let x = x.cast(dtype);
            let wide = x.clone().cast(FloatDType::F32);
            let half = |param: &Param<Tensor<1>>| Param::from_tensor(param.val().cast(dtype));
            let mut narrow = layer.clone();
            (narrow.gamma, narrow.beta) = (half(&layer.gamma), layer.beta.as_ref().map(half));
            let unit = if dtype == FloatDType::F16 { 2f32.powi(-11) } else { 2f32.powi(-8) };
            // the weights are rounded as well
            let near = Tolerance::rel_abs(3.0 * unit, 3.0 * unit);
            let found = normed(&narrow, x.clone()).cast(FloatDType::F32).into_data();
            found.assert_approx_eq::<f32>(&normed(&layer, wide.clone()).into_data(), near);
            let narrow = RmsNorm { gamma: half(&rms.gamma), epsilon: rms.epsilon };
            let found = rms_norm(x, &narrow).cast(FloatDType::F32).into_data();
            found.assert_approx_eq::<f32>(&rms_norm(wide, &rms).into_data(), near);
        }
    }
}
