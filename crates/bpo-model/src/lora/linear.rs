//! A linear layer whose adapter is never multiplied out.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Adapters;
use crate::weights::WeightLoader;

/// `y = x W + b`, and with an adapter on `W`: `y = x W + b + s (x A) B`.
///
/// burn's own form of LoRA computes `W + s A B` first, which costs a second copy of `W` and a dense gradient. The two
/// are equal in exact arithmetic. The factors are in f32 whatever the type of `W`, as half precision loses the updates of
/// a usual learning rate. `A` and `B` are burn's [`LoraAdapter`](burn::module::LoraAdapter) either way, so
/// that burn's tools for adapters keep working.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_in, d_out]`
    pub weight: Param<Tensor<2>>,
    /// `[d_out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Takes `{name}.weight` (stored `[d_out, d_in]`) and, if asked, `{name}.bias`.
    pub fn load(weights: &mut WeightLoader, name: &str, d_in: usize, d_out: usize, bias: bool) -> Self {
        let weight = weights.tensor(&format!("{name}.weight"), [d_out, d_in]).transpose();
        Self {
            weight: Param::from_tensor(weight).set_require_grad(false),
            bias: bias.then(|| weights.param(&format!("{name}.bias"), [d_out])),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x`: `[..., d_in]`
    /// - output: `[..., d_out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let mut shape = x.dims();
        let d_in = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let x: Tensor<2> = x.reshape([rows, d_in]);

        let mut y = x.clone().matmul(self.weight.base());
        if let Some(lora) = self.weight.adapter().filter(|_| adapters == Adapters::On) {
            let (a, b) = (lora.a.val(), lora.b.val());
            let delta = x.cast(a.dtype()).matmul(a).matmul(b).mul_scalar(lora.scale);
            let dtype = y.dtype();
            y = y + delta.cast(dtype);
        }
        if let Some(bias) = &self.bias {
            y = y + bias.val().unsqueeze();
        }
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }
}
