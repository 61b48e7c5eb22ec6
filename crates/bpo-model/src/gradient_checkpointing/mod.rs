//! Gradient checkpointing: keeps each layer's input and recomputes the rest in the backward pass.

#[cfg(any(feature = "flex", feature = "tch", feature = "cube"))]
mod tape;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

/// The forward pass of a part, on the same tape as its input.
pub(crate) type Forward<M> = Arc<dyn Fn(&M, Tensor<2>) -> Tensor<2> + Send + Sync>;

/// Computes `forward(module, x)` and keeps only `x` for the backward pass.
///
/// `forward` must be deterministic. Tensors that it captures get no gradient.
pub(crate) fn recomputed<M: Module + 'static>(module: &M, x: Tensor<2>, forward: Forward<M>) -> Tensor<2> {
    #[cfg(any(feature = "flex", feature = "tch", feature = "cube"))]
    macro_rules! on {
        ($backend:ty) => {
            if let Ok(x) = x.clone().try_into_primitive::<burn::backend::Autodiff<$backend>>() {
                return tape::on_tape::<$backend, M>(module, x, forward);
            }
        };
    }
    #[cfg(feature = "flex")]
    on!(burn::backend::Flex);
    #[cfg(feature = "tch")]
    #[allow(deprecated, reason = "LibTorch is, in burn 0.22")]
    {
        on!(burn::backend::LibTorch);
    }
    #[cfg(feature = "cube")]
    on!(burn::backend::Cube);
    // without autodiff
    forward(module, x)
}
