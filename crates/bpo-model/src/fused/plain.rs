//! The same as chains of tensor operations, for any backend.

use burn::nn::RmsNorm;
use burn::tensor::{DType, Tensor, activation};

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

/// In f32 up to the weight, as transformers' `LlamaRMSNorm`; burn's divides in the type of `x`.
pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, norm: &RmsNorm) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let scale = (x.clone().square().mean_dim(D - 1) + norm.epsilon).sqrt().recip();
    (x * scale).cast(dtype) * norm.gamma.val().unsqueeze()
}

pub(super) fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let [_, _, _, width] = x.dims();
    let (first, second) = (x.clone().narrow(3, 0, width / 2), x.clone().narrow(3, width / 2, width / 2));
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    x * cos + turned * sin
}

pub(super) fn adapted(x: Tensor<2>, w: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f64) -> Tensor<2> {
    x.clone().matmul(w) + x.matmul(a).mul_scalar(scale).matmul(b)
}

/// `of_scores` is [`softmax`], or another form of it.
pub(super) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    scale: f64,
    of_scores: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let ([rows, heads, tokens, width], [_, kv_heads, keys, _]) = (q.dims(), k.dims());
    // query heads of one group stand below each other, so keys and values are never repeated
    let folded = heads / kv_heads * tokens;
    let q = q.mul_scalar(scale).reshape([rows, kv_heads, folded, width]);
    let dtype = q.dtype();
    let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32);
    let weights = of_scores(scores.reshape([rows, heads, tokens, keys])).cast(dtype);
    let mixed = weights.reshape([rows, kv_heads, folded, keys]).matmul(v);
    mixed.reshape([rows, heads, tokens, width]).swap_dims(1, 2)
}
