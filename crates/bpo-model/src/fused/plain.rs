//! The same as chains of tensor operations, for any backend.

use burn::tensor::{Tensor, activation};

pub(super) fn softmax(scores: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
    activation::softmax(scores + mask, 3)
}

pub(super) fn log_softmax(x: Tensor<2>) -> Tensor<2> {
    activation::log_softmax(x, 1)
}

pub(super) fn swish<const D: usize>(x: Tensor<D>, beta: f64) -> Tensor<D> {
    let gate = if beta == 1.0 { x.clone() } else { x.clone().mul_scalar(beta) };
    x * activation::sigmoid(gate)
}

pub(super) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    swish(gate, 1.0) * up
}

pub(super) fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [_, _, _, width] = x.dims();
    let (first, second) = (x.clone().narrow(3, 0, width / 2), x.clone().narrow(3, width / 2, width / 2));
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    x * cos + turned * sin
}
