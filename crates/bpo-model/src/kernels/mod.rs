//! Operations on activations: loops of our own on flex, its own functions on LibTorch, and chains
//! of tensor operations on other backends.
//!
//! A chain reads and writes its tensors once for each of its operations, and keeps intermediate
//! results for the backward pass. Device, type and shape decide which form is used, never what else
//! is running. Tests compare the forms.

#[cfg(any(feature = "flex", feature = "tch"))]
mod autodiff;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "tch")]
#[allow(deprecated, reason = "LibTorch is, in burn 0.22")]
mod libtorch;
#[cfg(any(feature = "flex", feature = "tch"))]
#[allow(deprecated, reason = "LibTorch is, in burn 0.22")]
mod ops;
mod plain;
#[cfg(any(feature = "flex", feature = "tch"))]
mod shared;

#[cfg(feature = "dpo")]
use bpo_dpo::TokenStatistics;
use burn::nn::RmsNorm;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::decoder::RopeTables;

/// Calls the function of the same name if the backend of the first tensor has one.
macro_rules! fused {
    ($function:ident($first:expr $(, $tensor:expr)* $(; $value:expr)*)) => {
        #[cfg(any(feature = "flex", feature = "tch"))]
        if is_fused(&$first) {
            let first = $first.into_dispatch();
            let output = <burn::backend::Dispatch as ops::FusedOps>::$function(
                first $(, $tensor.into_dispatch())* $(, $value)*
            );
            return Tensor::from_dispatch(output);
        }
    };
}

/// Computes `softmax(scores + mask)` over the keys.
///
/// # Shapes
/// - `scores`: `[rows, heads, tokens, keys]`, f32
/// - `mask`: `[rows, 1, tokens, keys]`, f32; one row and token may stand for all
fn softmax(scores: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
    fused!(fused_softmax(scores, mask));
    plain::softmax(scores, mask)
}

/// Computes `x - log(sum(exp(x)))` over the last dimension of `[rows, width]`, in f32.
pub(crate) fn log_softmax(x: Tensor<2>) -> Tensor<2> {
    fused!(fused_log_softmax(x));
    plain::log_softmax(x)
}

/// Computes [`TokenStatistics::of_logps`], without autodiff: f32 `[tokens, vocab]` twice and
/// `[tokens, 1]` to `[tokens, 4]`.
#[cfg(feature = "dpo")]
pub(crate) fn token_statistics(logits: Tensor<2>, logps: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let [Ok(logits), Ok(logps)] =
        [&logits, &logps].map(|x| off_tape(x.clone()).try_into_primitive::<burn::backend::Flex>())
    {
        let found: Tensor<2> = Tensor::from_primitive::<burn::backend::Flex>(flex::statistics(logits, logps));
        let top1 = found.clone().narrow(1, 3, 1).equal(off_tape(targets).float()).float();
        return Tensor::cat(vec![found.narrow(1, 0, 3), top1], 1);
    }
    TokenStatistics::of_logps(logits, logps, targets)
}

#[cfg(all(feature = "dpo", feature = "flex"))]
fn off_tape<K: burn::tensor::kind::Autodiff>(x: Tensor<2, K>) -> Tensor<2, K> {
    if x.is_autodiff() { x.inner() } else { x }
}

/// Computes `x * sigmoid(beta * x)`: SiLU for 1, CLIP's GELU for 1.702.
pub(crate) fn swish<const D: usize>(x: Tensor<D>, beta: f64) -> Tensor<D> {
    fused!(fused_swish(x; beta));
    plain::swish(x, beta)
}

/// Computes the tanh approximation of GELU (Hendrycks and Gimpel, 2016, arXiv 1606.08415):
/// `x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub(crate) fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    fused!(fused_gelu_tanh(x));
    plain::gelu_tanh(x)
}

/// Computes `silu(gate) * up` (Shazeer, 2020, arXiv 2002.05202). Both are `[.., width]`.
pub(crate) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    fused!(fused_swiglu(gate, up));
    plain::swiglu(gate, up)
}

/// Computes `x / sqrt(mean(x^2) + epsilon) * gamma` over the last dimension (Zhang and Sennrich,
/// 2019, arXiv 1910.07467). `[.., width]`
pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, norm: &RmsNorm) -> Tensor<D> {
    if norm.gamma.dtype() == x.dtype() {
        fused!(fused_rms_norm(x, norm.gamma.val(); norm.epsilon));
    }
    plain::rms_norm(x, norm)
}

/// Applies rotary positions to queries or keys, `[tokens, heads, head_dim]`.
#[cfg_attr(
    not(any(feature = "flex", feature = "tch")),
    allow(unused_variables, reason = "chains find it themselves")
)]
pub(crate) fn rotate(x: Tensor<3>, tables: &RopeTables) -> Tensor<3> {
    // reading a matrix for each token must pay off
    const HEADS: usize = 16;
    let RopeTables { cos, sin, back, turns } = tables.clone();
    if let Some(turns) = turns.filter(|_| x.dims()[1] >= HEADS) {
        return x.matmul(turns);
    }
    fused!(fused_rotate(x, cos, sin, back));
    plain::rotate(x, cos, sin)
}

/// Prepares tables for use in many layers.
pub(crate) fn with_turns(tables: &RopeTables) -> RopeTables {
    #[cfg(feature = "tch")]
    if has_turns(&tables.cos) {
        return RopeTables { turns: Some(turns(tables)), ..tables.clone() };
    }
    tables.clone()
}

/// Whether rotary positions are applied by matrix products, on this device and in this type.
#[cfg_attr(not(feature = "tch"), allow(unused_variables, reason = "it is on no device of LibTorch"))]
pub(crate) fn has_turns<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "tch")]
    if x.dtype() != DType::F32 {
        return libtorch::is_on_gpu(x);
    }
    false
}

/// The rotation of each token as a matrix, `[tokens, head_dim, head_dim]`: on a GPU, one product is
/// faster than operations on halves.
#[cfg(feature = "tch")]
fn turns(tables: &RopeTables) -> Tensor<3> {
    let RopeTables { cos, sin, .. } = tables;
    let width = cos.dims()[2];
    let same: Tensor<2> = Tensor::<2>::eye(width, &cos.device()).cast(cos.dtype());
    let halves = [width / 2, 0].map(|at| same.clone().narrow(0, at, width / 2));
    let swapped = Tensor::cat(halves.into(), 0);
    same.unsqueeze::<3>() * cos.clone() + swapped.unsqueeze::<3>() * sin.clone()
}

/// Computes `x w`: `[.., tokens, d_in]` and `[d_in, d_out]` to `[.., tokens, d_out]`.
///
/// For a single token per row, as in decoding, the sum may have another order than for more tokens.
pub(crate) fn product<const D: usize>(x: Tensor<D>, w: Tensor<2>) -> Tensor<D> {
    let single = is_single(&x);
    by_rows(x, |x| product_of_rows(x, w, single))
}

/// Whether each row has one token.
pub(crate) fn is_single<const D: usize>(x: &Tensor<D>) -> bool {
    D > 2 && x.dims()[D - 2] == 1
}

#[cfg_attr(not(any(feature = "flex", feature = "tch")), allow(unused_variables, reason = "chains take any"))]
fn product_of_rows(x: Tensor<2>, w: Tensor<2>, single: bool) -> Tensor<2> {
    // the weights may be quantized
    if w.dtype() == x.dtype() {
        fused!(fused_product(x, w; single));
    }
    x.matmul(w)
}

/// Computes `x w + (scale x a) b`, without a gradient for `w`: `[.., d_in]`, `[d_in, d_out]`,
/// `[d_in, rank]` and `[rank, d_out]` to `[.., d_out]`.
pub(crate) fn adapted<const D: usize>(
    x: Tensor<D>,
    w: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
) -> Tensor<D> {
    by_rows(x, |x| adapted_rows(x, w, a, b, scale))
}

fn adapted_rows(x: Tensor<2>, w: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f64) -> Tensor<2> {
    if [&w, &a, &b].iter().all(|factor| factor.dtype() == x.dtype()) {
        fused!(fused_adapted(x, w, a, b; scale));
    }
    plain::adapted(x, w, a, b, scale)
}

/// Applies a function of a matrix to all rows of `x`.
fn by_rows<const D: usize>(x: Tensor<D>, of: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<D> {
    if D == 2 {
        // `x` is a matrix; a reshape would be one more operation on the tape
        return Tensor::from_dispatch(of(Tensor::from_dispatch(x.into_dispatch())).into_dispatch());
    }
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let y = of(x.reshape([rows, shape[D - 1]]));
    shape[D - 1] = y.dims()[1];
    y.reshape(shape)
}

/// Computes `softmax(scale q k^T + mask) v`, with several query heads per key-value head. Scores
/// are always in f32.
///
/// # Shapes
/// - `q`: `[rows, heads, tokens, width]`
/// - `k`, `v`: `[rows, kv heads, keys, width]`
/// - `mask`: as for [`softmax`], or [`prepared`]
/// - output: `[rows, tokens, heads, width]`
pub(crate) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: Option<&Tensor<4>>,
    scale: f64,
) -> Tensor<4> {
    let mask = mask.cloned().unwrap_or_else(|| unmasked(k.dims()[2], &k.device()));
    fused!(fused_attention(q, k, v, mask; scale));
    plain::attention(q, k, v, scale, |scores| softmax(scores, mask))
}

/// Converts a mask to the form that attention uses on its device in a type, for many layers at
/// once. The original works as well.
#[cfg_attr(not(any(feature = "flex", feature = "tch")), allow(unused_variables, reason = "chains take any"))]
pub(crate) fn prepared(mask: Tensor<4>, dtype: DType) -> Tensor<4> {
    fused!(fused_mask(mask; dtype));
    mask
}

/// The layout of tokens: those of prefixes, then those of rows that continue prefixes, in one
/// dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrefixLayout {
    pub(crate) prefixes: usize,
    /// Tokens of each prefix.
    pub(crate) before: usize,
    pub(crate) rows: usize,
    /// Tokens of each row.
    pub(crate) tokens: usize,
    /// Whether no prefix is padded.
    #[cfg_attr(
        not(any(feature = "flex", feature = "tch")),
        allow(dead_code, reason = "chains read the mask")
    )]
    pub(crate) full: bool,
    /// Whether the masks hide nothing but later tokens and padding.
    #[cfg_attr(
        not(any(feature = "flex", feature = "tch")),
        allow(dead_code, reason = "chains read the mask")
    )]
    pub(crate) causal: bool,
    /// Rows per prefix, where all prefixes have the same number and rows are in the order of
    /// prefixes.
    #[cfg_attr(
        not(any(feature = "flex", feature = "tch")),
        allow(dead_code, reason = "chains take an index")
    )]
    pub(crate) each: Option<usize>,
    /// The factor of scores.
    pub(crate) scale: f64,
}

impl PrefixLayout {
    /// Tokens of all prefixes together.
    pub(crate) fn of_prefixes(&self) -> usize {
        self.prefixes * self.before
    }
}

/// Computes [`attention`] of prefixes to themselves, and of rows to their prefix and themselves.
/// Queries may be those of rows only.
///
/// # Shapes
/// - queries, keys and values: `[tokens, heads, width]`, with fewer heads of keys and values
/// - masks: of prefixes, `[prefixes, 1, before, before]`; and of rows, `[rows, 1, tokens, before +
///   tokens]`. They hide later tokens and the padding of prefixes, and, unless the layout is causal,
///   other tokens. One row may stand for all.
/// - `prefix_of_row`: `[rows]`
/// - output: as the queries
pub(crate) fn shared_attention(
    [q, k, v]: [Tensor<3>; 3],
    [prefix_mask, row_mask]: [&Tensor<4>; 2],
    prefix_of_row: &Tensor<1, Int>,
    layout: PrefixLayout,
) -> Tensor<3> {
    let (prefix_mask, row_mask) = (prefix_mask.clone(), row_mask.clone());
    let prefix_of_row = prefix_of_row.clone();
    fused!(fused_shared_attention(q, k, v, prefix_mask, row_mask, prefix_of_row; layout));
    plain::shared_attention([q, k, v], prefix_of_row, layout, |q, k, v, of_rows| {
        attention(q, k, v, Some(if of_rows { &row_mask } else { &prefix_mask }), layout.scale)
    })
}

/// A mask of zeros.
fn unmasked(keys: usize, device: &Device) -> Tensor<4> {
    Tensor::zeros([1, 1, 1, keys], (device, DType::F32))
}

/// Whether the backend has functions of its own for this type: f32 on flex, all types on LibTorch.
pub(crate) fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    match code_for(x) {
        Some(Code::F32) => x.dtype() == DType::F32,
        Some(Code::AnyFloat) => true,
        None => false,
    }
}

/// Whether the backend has functions of its own. Values that are f32 whatever the model's type, as
/// scores and logits, use them.
pub(crate) fn has_code<const D: usize>(x: &Tensor<D>) -> bool {
    code_for(x).is_some()
}

/// The types that a backend has functions of its own for.
#[allow(dead_code, reason = "there may be no backend of a kind")]
enum Code {
    F32,
    AnyFloat,
}

/// The function of the tensor's backend.
#[cfg(any(feature = "flex", feature = "tch"))]
fn code_for<const D: usize>(x: &Tensor<D>) -> Option<Code> {
    use burn::backend::DispatchTensorKind as Kind;

    fn of(kind: &Kind) -> Option<Code> {
        match kind {
            #[cfg(feature = "flex")]
            Kind::Flex(_) => Some(Code::F32),
            #[cfg(feature = "tch")]
            Kind::LibTorch(_) => Some(Code::AnyFloat),
            Kind::Autodiff(inner) => of(inner),
            #[allow(unreachable_patterns, reason = "there may be no other backend")]
            _ => None,
        }
    }
    of(&x.clone().into_dispatch().kind)
}

/// No backend has functions of its own.
#[cfg(not(any(feature = "flex", feature = "tch")))]
fn code_for<const D: usize>(_: &Tensor<D>) -> Option<Code> {
    None
}

#[cfg(all(test, any(feature = "flex", feature = "tch")))]
mod tests;
