//! Tensors on and off the autodiff tape.

use burn::tensor::kind::Autodiff;
use burn::tensor::{DType, FloatDType, Tensor};

/// The tensor without its autodiff tape.
pub(crate) fn off_tape<const D: usize, K: Autodiff>(tensor: Tensor<D, K>) -> Tensor<D, K> {
    if tensor.is_autodiff() { tensor.inner() } else { tensor }
}

/// The tensor in f32 if it is in half precision, which holds neither long sums nor large squares.
pub(crate) fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
        _ => tensor,
    }
}

/// A constant with the element type of another tensor, on an autodiff device if that one is.
pub(super) fn like(constant: &Tensor<1>, other: &Tensor<1>) -> Tensor<1> {
    let constant = off_tape(constant.clone()).cast(other.dtype());
    if other.is_autodiff() { Tensor::from_inner(constant) } else { constant }
}
