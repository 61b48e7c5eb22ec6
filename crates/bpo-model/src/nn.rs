//! Small layers that both towers use.

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm};
use burn::tensor::activation::{gelu, gelu_approximate, relu};
use burn::tensor::{Device, Tensor};

use crate::config::Activation;
use crate::fused::swish;
use crate::weights::WeightLoader;

/// The function that a configuration names.
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::QuickGelu => swish(x, 1.702),
        Activation::Gelu => gelu(x),
        Activation::GeluPytorchTanh => gelu_approximate(x),
        Activation::Silu => swish(x, 1.0),
        Activation::Relu => relu(x),
    }
}

/// Takes `{name}.weight` and `{name}.bias`.
pub(crate) fn layer_norm(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> LayerNorm {
    let gamma = weights.param(&format!("{name}.weight"), [width]);
    let beta = weights.param(&format!("{name}.bias"), [width]);
    // the epsilon is private: build an empty one for it
    let mut norm = LayerNormConfig::new(1).with_epsilon(epsilon).init(&Device::default());
    norm.gamma = gamma;
    norm.beta = Some(beta);
    norm
}

/// Takes `{name}.weight`.
pub(crate) fn load_rms_norm(weights: &mut WeightLoader, name: &str, width: usize, epsilon: f64) -> RmsNorm {
    RmsNorm {
        gamma: Param::from_tensor(weights.tensor(&format!("{name}.weight"), [width])).set_require_grad(false),
        epsilon,
    }
}
