//! Attention of prefixes and of the rows that continue them, in terms of attention. Keys and values
//! of a prefix are stored once, and copied to its rows only while these are computed.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Slice};

use super::PrefixLayout;
use super::ops::{AttentionInputs, FusedGradients, FusedOps};

/// The inputs; see [`fused_shared_attention`](FusedOps::fused_shared_attention).
#[derive(Clone, Debug)]
pub(super) struct SharedInputs<B: Backend> {
    pub(super) q: FloatTensor<B>,
    pub(super) k: FloatTensor<B>,
    pub(super) v: FloatTensor<B>,
    pub(super) prefix_mask: FloatTensor<B>,
    pub(super) row_mask: FloatTensor<B>,
    pub(super) prefix_of_row: IntTensor<B>,
    pub(super) layout: PrefixLayout,
}

/// What the backend saves of prefixes and of rows, besides inputs and output.
#[derive(Clone, Debug)]
pub(super) struct SavedForBackward<B: Backend> {
    prefixes: Vec<FloatTensor<B>>,
    rows: Vec<FloatTensor<B>>,
}

/// Computes the output, `[tokens, heads, width]`.
pub(super) fn attention<B: FusedOps + FusedGradients>(
    inputs: &SharedInputs<B>,
) -> (FloatTensor<B>, SavedForBackward<B>) {
    let (of_rows, rows) = B::attention_with_saved(inputs.rows());
    let of_rows = flat::<B>(of_rows);
    match inputs.prefixes() {
        None => (of_rows, SavedForBackward { prefixes: Vec::new(), rows }),
        Some(inputs_of_prefixes) => {
            let (of_prefixes, prefixes) = B::attention_with_saved(inputs_of_prefixes);
            (B::float_cat(vec![flat::<B>(of_prefixes), of_rows], 0), SavedForBackward { prefixes, rows })
        }
    }
}

/// Computes the gradients of queries, keys and values from the gradient of the output.
pub(super) fn gradients<B: FusedOps + FusedGradients>(
    inputs: &SharedInputs<B>,
    output: &FloatTensor<B>,
    saved: SavedForBackward<B>,
    grad: &FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let PrefixLayout { prefixes, before, rows, tokens, .. } = inputs.layout;
    let behind = |x: &FloatTensor<B>| split::<B>(x, inputs.first_query(), [rows, tokens]);
    let of_rows = B::attention_gradients(inputs.rows(), behind(output), saved.rows, behind(grad));
    let [of_q, of_k, of_v] = of_rows.map(|gradient| B::float_swap_dims(gradient, 1, 2));
    // each row's gradients of its prefix are added to those of the prefix
    let of_own = |x: &FloatTensor<B>| flat::<B>(along::<B>(x.clone(), 1, before, tokens));
    let own = [of_own(&of_k), of_own(&of_v)];
    let of_prefix = |sum: FloatTensor<B>, of_rows: FloatTensor<B>| {
        let of_rows = along::<B>(of_rows, 1, 0, before);
        flat::<B>(inputs.add_to_prefixes(sum, of_rows))
    };
    let (of_q, sums) = match inputs.prefixes() {
        None => {
            let (shape, device, dtype) = (inputs.k.shape(), inputs.k.device(), inputs.k.dtype());
            let shape = [prefixes, before, shape[1], shape[2]];
            (flat::<B>(of_q), [(); 2].map(|()| B::float_zeros(shape.into(), &device, dtype.into())))
        }
        Some(inputs_of_prefixes) => {
            let first = |x: &FloatTensor<B>| split::<B>(x, 0, [prefixes, before]);
            let gradients =
                B::attention_gradients(inputs_of_prefixes, first(output), saved.prefixes, first(grad));
            let [prefix_q, sum_k, sum_v] = gradients.map(|gradient| B::float_swap_dims(gradient, 1, 2));
            let of_q = B::float_cat(vec![flat::<B>(prefix_q), flat::<B>(of_q)], 0);
            (of_q, [sum_k, sum_v])
        }
    };
    let [sum_k, sum_v] = sums;
    let [own_k, own_v] = own;
    let of_k = B::float_cat(vec![of_prefix(sum_k, of_k), own_k], 0);
    let of_v = B::float_cat(vec![of_prefix(sum_v, of_v), own_v], 0);
    [of_q, of_k, of_v]
}

impl<B: FusedOps + FusedGradients> SharedInputs<B> {
    /// Attention of prefixes to themselves, if their queries are present.
    fn prefixes(&self) -> Option<AttentionInputs<B>> {
        let PrefixLayout { prefixes, before, causal, scale, .. } = self.layout;
        let of = |x: &FloatTensor<B>| heads::<B>(split::<B>(x, 0, [prefixes, before]));
        (self.first_query() > 0).then(|| AttentionInputs {
            q: of(&self.q),
            k: of(&self.k),
            v: of(&self.v),
            mask: self.prefix_mask.clone(),
            causal,
            scale,
        })
    }

    /// Attention of rows to their prefix and themselves.
    fn rows(&self) -> AttentionInputs<B> {
        let PrefixLayout { prefixes, before, rows, tokens, full, causal, scale, .. } = self.layout;
        let behind = |x: &FloatTensor<B>| {
            let prefix = split::<B>(x, 0, [prefixes, before]);
            let own = split::<B>(x, prefixes * before, [rows, tokens]);
            heads::<B>(self.behind_prefixes(prefix, own))
        };
        AttentionInputs {
            q: heads::<B>(split::<B>(&self.q, self.first_query(), [rows, tokens])),
            k: behind(&self.k),
            v: behind(&self.v),
            mask: self.row_mask.clone(),
            causal: causal && full,
            scale,
        }
    }

    /// Joins the tokens of each row's prefix and its own: `[rows, before + tokens, heads, width]`.
    fn behind_prefixes(&self, prefix: FloatTensor<B>, own: FloatTensor<B>) -> FloatTensor<B> {
        let PrefixLayout { prefixes, before, rows, tokens, each, .. } = self.layout;
        let Some(each) = each else {
            return B::float_cat(vec![B::float_select(prefix, 0, self.prefix_of_row.clone()), own], 1);
        };
        // LibTorch copies this once
        let shape = own.shape();
        let (heads, width) = (shape[2], shape[3]);
        let prefix = B::float_reshape(prefix, [prefixes, 1, before, heads, width].into());
        let prefix = B::float_expand(prefix, [prefixes, each, before, heads, width].into());
        let own = B::float_reshape(own, [prefixes, each, tokens, heads, width].into());
        B::float_reshape(B::float_cat(vec![prefix, own], 2), [rows, before + tokens, heads, width].into())
    }

    /// Adds the gradients of rows, `[rows, before, heads, width]`, to those of their prefixes,
    /// `[prefixes, before, heads, width]`.
    fn add_to_prefixes(&self, prefix: FloatTensor<B>, of_rows: FloatTensor<B>) -> FloatTensor<B> {
        let PrefixLayout { prefixes, before, each, .. } = self.layout;
        let Some(each) = each else {
            let index = self.prefix_of_row.clone();
            return B::float_select_assign(prefix, 0, index, of_rows, IndexingUpdateOp::Add);
        };
        let shape = prefix.shape();
        let of_rows = B::float_reshape(of_rows, [prefixes, each, before, shape[2], shape[3]].into());
        B::float_add(prefix, B::float_reshape(B::float_sum_dim(of_rows, 1), shape))
    }

    /// The index of the first query of rows: after those of prefixes, if these are present.
    fn first_query(&self) -> usize {
        self.q.shape()[0] - self.layout.rows * self.layout.tokens
    }
}

/// Takes rows of tokens from `[tokens, heads, width]`, from `at` on: `[rows, tokens, heads,
/// width]`.
fn split<B: Backend>(x: &FloatTensor<B>, at: usize, [rows, tokens]: [usize; 2]) -> FloatTensor<B> {
    let shape = x.shape();
    let part = along::<B>(x.clone(), 0, at, rows * tokens);
    B::float_reshape(part, [rows, tokens, shape[1], shape[2]].into())
}

/// Joins rows to `[tokens, heads, width]`.
fn flat<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    B::float_reshape(x, [shape[0] * shape[1], shape[2], shape[3]].into())
}

/// Swaps `[rows, tokens, heads, width]` to the order that attention takes.
fn heads<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(x, 1, 2)
}

/// Takes `count` entries of a dimension, from `at` on.
fn along<B: Backend>(x: FloatTensor<B>, dim: usize, at: usize, count: usize) -> FloatTensor<B> {
    let shape = x.shape();
    if shape[dim] == count {
        return x;
    }
    let slices: Vec<_> = (0..shape.num_dims())
        .map(|each| {
            let places = if each == dim { at..at + count } else { 0..shape[each] };
            Slice::from(places)
        })
        .collect();
    B::float_slice(x, &slices)
}
