//! The operations as chains of tensor operations, for any backend.

use burn::nn::RmsNorm;
use burn::tensor::{DType, Int, Tensor, activation};

use super::PrefixLayout;

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

pub(super) fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::gelu_approximate(x)
}

pub(super) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    swish(gate, 1.0) * up
}

/// Computes in f32 up to the weight, as transformers' `LlamaRMSNorm`; burn's norm divides in the
/// type of `x`.
pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, norm: &RmsNorm) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let scale = (x.clone().square().mean_dim(D - 1) + norm.epsilon).sqrt().recip();
    (x * scale).cast(dtype) * norm.gamma.val().unsqueeze()
}

/// Sines of the first half are negative.
pub(super) fn rotate(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let [first, second] = [0, half].map(|at| x.clone().narrow(2, at, half));
    x * cos + Tensor::cat(vec![second, first], 2) * sin
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
    // the query heads of a group are folded into tokens, so keys and values are not repeated
    let folded = heads / kv_heads * tokens;
    let q = q.mul_scalar(scale).reshape([rows, kv_heads, folded, width]);
    let dtype = q.dtype();
    let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32);
    let weights = of_scores(scores.reshape([rows, heads, tokens, keys])).cast(dtype);
    let mixed = weights.reshape([rows, kv_heads, folded, keys]).matmul(v);
    mixed.reshape([rows, heads, tokens, width]).swap_dims(1, 2)
}

/// Splits and joins tokens by tensor operations. This is used where shared attention has no
/// autodiff operation of its own, and as a reference in tests.
///
/// `attend` is [`attention`](super::attention) with the mask of prefixes, or with that of rows if
/// its last argument is true.
pub(super) fn shared_attention(
    [q, k, v]: [Tensor<3>; 3],
    prefix_of_row: Tensor<1, Int>,
    layout: PrefixLayout,
    attend: impl Fn(Tensor<4>, Tensor<4>, Tensor<4>, bool) -> Tensor<4>,
) -> Tensor<3> {
    let PrefixLayout { prefixes, before, rows, tokens, .. } = layout;
    let split = |x: Tensor<3>, at: usize, rows: usize, tokens: usize| -> Tensor<4> {
        let [_, heads, width] = x.dims();
        x.narrow(0, at, rows * tokens).reshape([rows, tokens, heads, width])
    };
    let heads = |x: Tensor<4>| x.swap_dims(1, 2);
    let flat = |x: Tensor<4>| -> Tensor<3> {
        let [rows, tokens, heads, width] = x.dims();
        x.reshape([rows * tokens, heads, width])
    };
    let of_prefixes = layout.of_prefixes();
    let [prefix_k, prefix_v] = [&k, &v].map(|x| split(x.clone(), 0, prefixes, before));
    let behind = |prefix: &Tensor<4>, x: Tensor<3>| {
        let own = split(x, of_prefixes, rows, tokens);
        heads(Tensor::cat(vec![prefix.clone().select(0, prefix_of_row.clone()), own], 1))
    };
    let (row_k, row_v) = (behind(&prefix_k, k), behind(&prefix_v, v));
    if q.dims()[0] == rows * tokens {
        return flat(attend(heads(split(q, 0, rows, tokens)), row_k, row_v, true));
    }
    let row_q = heads(split(q.clone(), of_prefixes, rows, tokens));
    let prefix_q = heads(split(q, 0, prefixes, before));
    let of_prefix = attend(prefix_q, heads(prefix_k), heads(prefix_v), false);
    Tensor::cat(vec![flat(of_prefix), flat(attend(row_q, row_k, row_v, true))], 0)
}
