//! Keys and values of earlier tokens: none, or a cache that grows in place.

use burn::tensor::{DType, Device, Tensor};

/// Gives a layer the keys and values it attends to.
pub trait KvStore {
    /// Takes the new tokens' keys and values and gives all that they may attend to, earlier ones first.
    ///
    /// # Shapes
    /// - `k`, `v`: `[rows, kv heads, tokens, head_dim]`
    /// - output: `[rows, kv heads, keys, head_dim]`
    fn extend(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>);
}

/// Tokens attend to themselves only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKv;

impl KvStore for NoKv {
    fn extend(&mut self, _layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        (k, v)
    }
}

/// As [`NoKv`], and keeps what passes: the keys and values of a prefix, by layer.
#[derive(Clone, Debug, Default)]
pub struct CollectKv {
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
pub struct KvCache {
    /// By layer; taken out while it is written, so that the backend sees one owner and writes in place.
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    filled: usize,
}

impl KvCache {
    /// Room for `capacity` tokens of `rows` sequences.
    pub fn new(
        layers: usize,
        [rows, kv_heads, capacity, head_dim]: [usize; 4],
        dtype: DType,
        device: &Device,
    ) -> Self {
        let empty = || Tensor::zeros([rows, kv_heads, capacity, head_dim], (device, dtype));
        Self { layers: (0..layers).map(|_| Some((empty(), empty()))).collect(), filled: 0 }
    }

    /// Makes it one of `rows` with room for `capacity` tokens, `filled` of them there: what `placed` names, taken from what was in it
    /// or from `others`.
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

    /// Tells that a forward pass has written `tokens` more in every layer.
    pub fn advance(&mut self, tokens: usize) {
        self.filled += tokens;
    }
}

/// Tokens of a row that go somewhere else.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Whether they come from rows that were collected apart.
    pub(crate) from_others: bool,
    /// Their row there.
    pub(crate) from: usize,
    /// Their places there.
    pub(crate) tokens: std::ops::Range<usize>,
    /// Their row in the new cache.
    pub(crate) to: usize,
    /// The place of the first there.
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
