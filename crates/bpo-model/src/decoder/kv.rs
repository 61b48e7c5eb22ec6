//! Keys and values of earlier tokens: none, collected, or a cache of fixed size.

use burn::tensor::{DType, Device, Tensor};

/// Provides the keys and values that a layer attends to.
pub(crate) trait KvStore {
    /// Takes the keys and values of new tokens and returns all that they may attend to, earlier
    /// ones first.
    ///
    /// # Shapes
    /// - `k`, `v`: `[rows, kv heads, tokens, head_dim]`
    /// - output: `[rows, kv heads, keys, head_dim]`
    fn extend(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>);
}

/// No earlier keys and values: tokens attend to each other only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoKv;

impl KvStore for NoKv {
    fn extend(&mut self, _layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        (k, v)
    }
}

/// As [`NoKv`], and keeps keys and values by layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct CollectKv {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
}

impl KvStore for CollectKv {
    fn extend(&mut self, _layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        self.layers.push((k.clone(), v.clone()));
        (k, v)
    }
}

impl CollectKv {
    /// Keys and values of a layer, `[rows, kv heads, tokens, head_dim]`.
    pub(crate) fn layer(&self, layer: usize) -> (Tensor<4>, Tensor<4>) {
        self.layers[layer].clone()
    }
}

/// A cache of fixed size that is written in place.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// By layer. A layer is taken out while it is written, so that the backend sees one owner and
    /// writes in place.
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    filled: usize,
}

impl KvCache {
    /// Creates a cache for `capacity` tokens of `rows` sequences.
    pub(crate) fn new(
        layers: usize,
        [rows, kv_heads, capacity, head_dim]: [usize; 4],
        dtype: DType,
        device: &Device,
    ) -> Self {
        let empty = || Tensor::zeros([rows, kv_heads, capacity, head_dim], (device, dtype));
        Self { layers: (0..layers).map(|_| Some((empty(), empty()))).collect(), filled: 0 }
    }

    /// Turns it into a cache of `rows` rows with room for `capacity` tokens, of which `filled` are
    /// there: the pieces in `placed`, taken from this cache or from `others`.
    pub(crate) fn rearrange(
        &mut self,
        rows: usize,
        [capacity, filled]: [usize; 2],
        placed: &[Placed],
        others: &CollectKv,
    ) {
        for (number, layer) in self.layers.iter_mut().enumerate() {
            let Some((k, v)) = layer.take() else { continue };
            let other = placed.iter().any(|piece| piece.from_others).then(|| others.layer(number));
            let (other_k, other_v) = other.unzip();
            let moved = |own: Tensor<4>, other: Option<Tensor<4>>| {
                let [_, heads, _, width] = own.dims();
                let empty = Tensor::zeros([rows, heads, capacity, width], (&own.device(), own.dtype()));
                placed.iter().fold(empty, |cache, piece| {
                    let from = if piece.from_others { other.as_ref().unwrap_or(&own) } else { &own };
                    let (row, tokens) = (piece.from, piece.tokens.clone());
                    let (to, count) = (piece.to, tokens.len());
                    let values = from.clone().slice([row..row + 1, 0..heads, tokens, 0..width]);
                    cache.slice_assign([to..to + 1, 0..heads, piece.at..piece.at + count, 0..width], values)
                })
            };
            *layer = Some((moved(k, other_k), moved(v, other_v)));
        }
        self.filled = filled;
    }

    /// Records that a forward pass has written `tokens` more tokens in every layer.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.filled += tokens;
    }
}

/// Tokens that move from one row to another.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Whether they come from the rows that were collected separately.
    pub(crate) from_others: bool,
    /// Their row in the source.
    pub(crate) from: usize,
    /// Their places in the source.
    pub(crate) tokens: std::ops::Range<usize>,
    /// Their row in the new cache.
    pub(crate) to: usize,
    /// The place of the first of them in the new cache.
    pub(crate) at: usize,
}

impl KvStore for KvCache {
    fn extend(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [rows, heads, tokens, width] = k.dims();
        let end = self.filled + tokens;
        let written = [0..rows, 0..heads, self.filled..end, 0..width];
        let (all_k, all_v) = self.layers[layer].take().expect("a layer is put back after each use");
        let all_k = all_k.slice_assign(written.clone(), k);
        let all_v = all_v.slice_assign(written, v);
        let (k, v) = (all_k.clone().narrow(2, 0, end), all_v.clone().narrow(2, 0, end));
        self.layers[layer] = Some((all_k, all_v));
        (k, v)
    }
}
