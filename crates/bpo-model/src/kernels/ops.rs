//! The operations of backends.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use burn::tensor::DType;

use super::PrefixLayout;

/// Each operation computes the function of the same name in the [module](super).
#[backend_extension(Flex: cfg(feature = "flex"), LibTorch: cfg(feature = "tch"), Autodiff)]
pub(super) trait FusedOps: Backend {
    /// `[rows, heads, tokens, keys]` and `[rows, 1, tokens, keys]`; one row or token may stand for
    /// all.
    fn fused_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[rows, width]`
    fn fused_log_softmax(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[..]`
    fn fused_swish(x: FloatTensor<Self>, beta: f64) -> FloatTensor<Self>;
    /// `[..]`
    fn fused_gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[.., width]` both
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[.., width]` and `[width]`
    fn fused_rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// `[tokens, heads, width]`, and three tables `[tokens, 1, width]`; `back` has the sines of the
    /// opposite angles.
    fn fused_rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// `[rows, d_in]` and `[d_in, d_out]`. `single` says that each row is one token, for which
    /// there may be a faster product.
    fn fused_product(x: FloatTensor<Self>, w: FloatTensor<Self>, single: bool) -> FloatTensor<Self>;
    /// `[rows, d_in]`, `[d_in, d_out]`, `[d_in, rank]` and `[rank, d_out]`. `w` gets no gradient.
    fn fused_adapted(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
    /// `[rows, heads, tokens, width]`, twice `[rows, kv heads, keys, width]`, and `[rows, 1,
    /// tokens, keys]` (one row or token may stand for all) to `[rows, tokens, heads, width]`.
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
    /// `[tokens, heads, width]`, twice `[tokens, kv heads, width]`, `[prefixes, 1, before,
    /// before]`, `[rows, 1, tokens, keys]` and `[rows]`.
    fn fused_shared_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        prefix_mask: FloatTensor<Self>,
        row_mask: FloatTensor<Self>,
        prefix_of_row: IntTensor<Self>,
        layout: PrefixLayout,
    ) -> FloatTensor<Self>;
    /// Computes [`prepared`](super::prepared) of `[rows, 1, tokens, keys]`.
    fn fused_mask(mask: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self>;
}

/// Gradients of inputs, from what the forward pass saved and the gradient of its output.
pub(super) trait FusedGradients: Backend {
    fn fused_softmax_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
    fn fused_log_softmax_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
    fn fused_swish_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>, beta: f64) -> FloatTensor<Self>;
    fn fused_gelu_tanh_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradients of `gate` and `up`.
    fn fused_swiglu_gradients(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];
    /// The gradient of `x`.
    fn fused_rms_norm_gradient(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    /// `y + x w`
    fn add_product(y: FloatTensor<Self>, x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The output, and what the backend saves for the backward pass.
    fn attention_with_saved(inputs: AttentionInputs<Self>) -> (FloatTensor<Self>, Vec<FloatTensor<Self>>);
    /// The gradients of queries, keys and values.
    fn attention_gradients(
        inputs: AttentionInputs<Self>,
        output: FloatTensor<Self>,
        saved: Vec<FloatTensor<Self>>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];
}

/// The inputs of attention; see [`fused_attention`](FusedOps::fused_attention).
#[derive(Clone, Debug)]
pub(super) struct AttentionInputs<B: Backend> {
    pub(super) q: FloatTensor<B>,
    pub(super) k: FloatTensor<B>,
    pub(super) v: FloatTensor<B>,
    pub(super) mask: FloatTensor<B>,
    /// Whether the mask is causal: the tokens are the last of the keys, and each attends to all
    /// keys up to itself.
    #[cfg_attr(not(feature = "tch"), allow(dead_code, reason = "flex sees it in the mask"))]
    pub(super) causal: bool,
    pub(super) scale: f64,
}

/// Computes `x w + (s x a) b`, and `s x a`, scaled at rank width.
pub(super) fn adapted<B: FusedOps + FusedGradients>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let narrow = B::float_mul_scalar(B::fused_product(x.clone(), a, false), scale.into());
    (B::add_product(B::fused_product(x, w, false), narrow.clone(), b), narrow)
}
