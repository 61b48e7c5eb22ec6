//! Attention by tiles of tokens: scores exist for one tile of one head at a time.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::kernels::{masked_softmax, softmax_backward};
use super::product::{FEW, Matrix, MatrixMut, Threads, narrow, product};
use super::{ascending, contiguous, values, values_mut, zeros};
use crate::kernels::ops::AttentionInputs;

/// Tokens of a tile.
const TILE: usize = 64;
/// Number of multiplications from which threads pay off.
const WORTH_THREADS: usize = 1 << 20;
/// A mask below this value hides a key; no score is as low.
const HIDES: f32 = -1e8;

/// The inputs of attention, and all sizes.
struct Inputs {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    mask: FlexTensor,
    /// Number of leading keys that each token may attend to, by row and token of the mask.
    visible: Vec<usize>,
    rows: usize,
    heads: usize,
    kv_heads: usize,
    tokens: usize,
    keys: usize,
    width: usize,
    scale: f32,
}

/// Computes `softmax(scale q k^T + mask) v`: `[rows, tokens, heads, width]`.
pub(super) fn attention(inputs: AttentionInputs<Flex>) -> FlexTensor {
    let inputs = Inputs::new(inputs);
    let Inputs { rows, heads, tokens, width, .. } = inputs;
    let mut out = zeros([rows, tokens, heads, width].into());
    let parts = values_mut(&mut out).chunks_mut((tokens * heads * width).max(1)).enumerate();
    let parts = parts.flat_map(|(row, out)| {
        let tiles = out.chunks_mut(TILE * heads * width).enumerate();
        tiles.map(move |(tile, out)| (row, tile * TILE, out))
    });
    let run = |(row, first, out): (usize, usize, &mut [f32])| inputs.mix(row, first, out);
    if inputs.multiplications() < WORTH_THREADS {
        parts.for_each(run);
    } else {
        parts.collect::<Vec<_>>().into_par_iter().for_each(run);
    }
    out
}

/// Computes the gradients of queries, keys and values from that of the output. Weights are computed
/// again.
pub(super) fn gradients(inputs: AttentionInputs<Flex>, grad: FlexTensor) -> [FlexTensor; 3] {
    let inputs = Inputs::new(inputs);
    let Inputs { rows, heads, kv_heads, tokens, keys, width, .. } = inputs;
    let grad = contiguous(grad);
    let grad = values(&grad);
    let mut of_q = zeros([rows, heads, tokens, width].into());
    let [mut of_k, mut of_v] = [(); 2].map(|()| zeros([rows, kv_heads, keys, width].into()));
    let of_group = (heads / kv_heads.max(1) * tokens * width).max(1);
    let of_head = (keys * width).max(1);
    values_mut(&mut of_q)
        .par_chunks_mut(of_group)
        .zip(values_mut(&mut of_k).par_chunks_mut(of_head))
        .zip(values_mut(&mut of_v).par_chunks_mut(of_head))
        .enumerate()
        .for_each(|(group, ((of_q, of_k), of_v))| inputs.back(group, grad, [of_q, of_k, of_v]));
    [of_q, of_k, of_v]
}

impl Inputs {
    fn new(AttentionInputs { q, k, v, mask, scale, .. }: AttentionInputs<Flex>) -> Self {
        let [q, k, v] = [q, k, v].map(ascending);
        let mask = contiguous(mask);
        let (queries, keys) = (q.shape(), k.shape());
        let (rows, heads, tokens, width) = (queries[0], queries[1], queries[2], queries[3]);
        let (kv_heads, keys) = (keys[1], keys[2]);
        let last = |mask: &[f32]| mask.iter().rposition(|added| *added > HIDES).map_or(keys, |last| last + 1);
        let visible = values(&mask).chunks(keys.max(1)).map(last).collect();
        Self { q, k, v, mask, visible, rows, heads, kv_heads, tokens, keys, width, scale: scale as f32 }
    }

    fn multiplications(&self) -> usize {
        2 * self.rows * self.heads * self.tokens * self.keys * self.width
    }

    /// The row of the mask of a token.
    fn mask_row(&self, row: usize, token: usize) -> usize {
        let shape = self.mask.shape();
        let place = |dim: usize, at: usize| if shape[dim] > 1 { at } else { 0 };
        place(0, row) * shape[2] + place(2, token)
    }

    /// Number of leading keys that hold everything that tokens attend to.
    fn seen_by(&self, row: usize, tokens: Range<usize>) -> usize {
        tokens.map(|token| self.visible[self.mask_row(row, token)]).max().unwrap_or(0)
    }

    /// The first keys of a head, or their values.
    fn keys_of<'a>(&self, x: &'a FlexTensor, row: usize, head: usize, keys: usize) -> Matrix<'a> {
        let [by_row, by_head, down, right] = strides(x);
        let start = x.layout().start_offset() + row * by_row + head * by_head;
        Matrix::new(&x.storage()[start..], [keys, self.width], [down, right])
    }

    /// Computes the attention weights of `count` queries, `[count, keys]`, into `weights`.
    fn weights(
        &self,
        row: usize,
        q: Matrix<'_>,
        k: Matrix<'_>,
        weights: &mut [f32],
        token_of: impl Fn(usize) -> usize + Sync,
    ) {
        let (count, keys) = (q.shape()[0], k.shape()[0]);
        match k.contiguous().filter(|_| self.tokens == 1 && FEW.contains(&count)) {
            Some(k) => narrow(weights, &q.scaled(self.scale), k, self.width, Threads::One),
            None => {
                let out = MatrixMut::new(weights, [count, keys], keys);
                product(out, q, k.transposed(), self.scale, false, Threads::One);
            }
        }
        let mask = values(&self.mask);
        masked_softmax(weights, keys, |query| {
            &mask[self.mask_row(row, token_of(query)) * self.keys..][..keys]
        });
    }

    /// Computes the output of a tile of tokens of a row, `[tokens, heads, width]`.
    fn mix(&self, row: usize, first: usize, out: &mut [f32]) {
        let Self { heads, kv_heads, width, .. } = *self;
        let tokens = out.len() / (heads * width);
        let per_group = heads / kv_heads;
        // the heads of a single token lie like the tokens of a head
        let (folded, count, stride) = match self.tokens {
            1 => (per_group, per_group, width),
            _ => (1, tokens, heads * width),
        };
        let keys = self.seen_by(row, first..first + tokens);
        let mut weights = vec![0.0; count * keys];
        for head in (0..heads).step_by(folded) {
            let [by_row, by_head, by_token, right] = strides(&self.q);
            let start = self.q.layout().start_offset() + row * by_row + head * by_head + first * by_token;
            let down = if folded > 1 { by_head } else { by_token };
            let q = Matrix::new(&self.q.storage()[start..], [count, width], [down, right]);
            let [k, v] = [&self.k, &self.v].map(|x| self.keys_of(x, row, head / per_group, keys));
            self.weights(row, q, k, &mut weights, |query| if folded > 1 { first } else { first + query });
            let out = MatrixMut::new(&mut out[head * width..], [count, width], stride);
            product(out, Matrix::new(&weights, [count, keys], [keys, 1]), v, 1.0, false, Threads::One);
        }
    }

    /// Computes the gradients of the queries of a group of heads, `[heads of the group, tokens,
    /// width]`, and of its keys and values, `[keys, width]`.
    fn back(&self, group: usize, grad: &[f32], [of_q, of_k, of_v]: [&mut [f32]; 3]) {
        let Self { heads, kv_heads, tokens, width, scale, .. } = *self;
        let (row, kv_head, per_group) = (group / kv_heads, group % kv_heads, heads / kv_heads);
        let [mut weights, mut slopes] = [(); 2].map(|()| vec![0.0; TILE.min(tokens) * self.keys]);
        for (of_q, head) in of_q.chunks_mut(tokens * width).zip(kv_head * per_group..) {
            for (of_q, first) in of_q.chunks_mut(TILE * width).zip((0..).step_by(TILE)) {
                let count = of_q.len() / width;
                let keys = self.seen_by(row, first..first + count);
                let [by_row, by_head, by_token, right] = strides(&self.q);
                let start = self.q.layout().start_offset() + row * by_row + head * by_head + first * by_token;
                let q = Matrix::new(&self.q.storage()[start..], [count, width], [by_token, right]);
                let grad = &grad[((row * tokens + first) * heads + head) * width..];
                let grad = Matrix::new(grad, [count, width], [heads * width, 1]);
                let [k, v] = [&self.k, &self.v].map(|x| self.keys_of(x, row, kv_head, keys));

                let (weights, slopes) = (&mut weights[..count * keys], &mut slopes[..count * keys]);
                self.weights(row, q, k, weights, |query| first + query);
                let one = Threads::One;
                product(MatrixMut::new(slopes, [count, keys], keys), grad, v.transposed(), 1.0, false, one);
                softmax_backward(&mut *slopes, weights, keys);

                let [weights, slopes] = [&*weights, slopes].map(|x| Matrix::new(x, [count, keys], [keys, 1]));
                product(MatrixMut::new(of_q, [count, width], width), slopes, k, scale, false, one);
                product(MatrixMut::new(of_k, [keys, width], width), slopes.transposed(), q, scale, true, one);
                product(
                    MatrixMut::new(of_v, [keys, width], width),
                    weights.transposed(),
                    grad,
                    1.0,
                    true,
                    one,
                );
            }
        }
    }
}

fn strides(x: &FlexTensor) -> [usize; 4] {
    std::array::from_fn(|dim| x.layout().strides()[dim].unsigned_abs())
}
