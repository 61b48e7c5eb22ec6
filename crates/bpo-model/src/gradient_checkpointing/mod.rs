//! Parts of a model whose backward pass computes their forward pass again, so that between them nothing but their inputs is kept.

#[cfg(any(feature = "flex", feature = "tch", feature = "cube"))]
mod tape;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

/// What a part computes of its input, on the tape that the input is on.
pub(crate) type Forward<M> = Arc<dyn Fn(&M, Tensor<2>) -> Tensor<2> + Send + Sync>;

/// `forward(module, x)`, of which only `x` is kept for the backward pass.
///
/// `forward` must give the same each time: nothing in it may be random. What it takes beside module and input gets no gradient.
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
    // on no tape
    forward(module, x)
}
