//! Conversion of tensors with and without an autodiff tape.

use burn::tensor::kind::Autodiff;
use burn::tensor::{DType, FloatDType, Tensor};

/// Returns the tensor without its autodiff tape.
pub(crate) fn without_tape<const D: usize, K: Autodiff>(tensor: Tensor<D, K>) -> Tensor<D, K> {
    if tensor.is_autodiff() { tensor.inner() } else { tensor }
}

/// Converts a tensor in half precision to f32, because half precision is too small for long sums
/// and large squares.
pub(crate) fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// Returns a constant with the element type of another tensor, on an autodiff device if the other
/// tensor is on one.
pub(super) fn constant_like(constant: &Tensor<1>, other: &Tensor<1>) -> Tensor<1> {
    let constant = without_tape(constant.clone()).cast(other.dtype());
    if other.is_autodiff() { Tensor::from_inner(constant) } else { constant }
}
