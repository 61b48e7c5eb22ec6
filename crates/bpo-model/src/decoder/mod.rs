//! The language model: Llama (Touvron et al., 2023), as transformers' `LlamaModel` runs it, and its
//! relatives with biases, attention windows, norms of queries and keys, or multimodal rotary
//! positions (`MistralModel`, `Qwen2Model`).

mod attention;
mod causal;
mod config;
mod deepstack;
mod kv;
mod layer;
mod positions;
mod rope;
mod shared;

pub(crate) use causal::Masks;
#[cfg(test)]
pub(crate) use causal::causal_mask;
pub(crate) use config::SLIDING_LAYER;
pub use config::{DecoderConfig, DecoderKind, RopeParameters};
pub(crate) use deepstack::Deepstack;
pub(crate) use kv::Placed;
pub(crate) use kv::{CollectKv, KvCache, KvStore, NoKv};
pub(crate) use positions::{Position, Positions};
pub(crate) use rope::{Rope, RopeTables};
pub(crate) use shared::Shared;

use burn::module::{Module, Param};
use burn::nn::RmsNorm;
use burn::tensor::{Int, Tensor};

use crate::checkpoint::WeightLoader;
use crate::kernels::{attention, prepared, rms_norm, with_turns};
use crate::layers::load_rms_norm;
use crate::lora::{Adapters, Linear};
use layer::DecoderLayer;

/// The embedding, the decoder layers and the last norm. The head belongs to
/// [`Vlm`](crate::Vlm).
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab, hidden]`
    pub embed_tokens: Param<Tensor<2>>,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    /// Number of tokens that a token attends to in layers with a sliding window.
    #[module(skip)]
    window: Option<usize>,
}

impl Decoder {
    /// Loads the language model's weights.
    pub(crate) fn load(weights: &mut WeightLoader, config: &DecoderConfig) -> Self {
        let hidden = config.hidden_size;
        Self {
            embed_tokens: weights.param("language_model.embed_tokens.weight", [config.vocab_size, hidden]),
            layers: (0..config.num_hidden_layers)
                .map(|number| DecoderLayer::load(weights, number, config))
                .collect(),
            norm: load_rms_norm(weights, "language_model.norm", hidden, config.rms_norm_eps),
            window: (0..config.num_hidden_layers).find_map(|number| config.window(number)),
        }
    }

    /// Embeds token ids: `[n]` to `[n, hidden]`.
    pub(crate) fn embed(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        self.embed_tokens.val().select(0, ids)
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(DecoderLayer::linears_mut)
    }

    /// Runs the decoder layers and the last norm.
    ///
    /// # Shapes
    /// - `x`: `[rows, tokens, hidden]`
    /// - `deepstack`: of the tokens of `x`
    /// - `tables`: of the positions of all rows' tokens, `[rows * tokens, 1, head_dim]`
    /// - `masks`: `[rows, 1, tokens, keys]`, added to the scores; `keys` counts the tokens in `kv`
    ///   and the new ones
    /// - output: `[rows, tokens, hidden]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        deepstack: &Deepstack,
        tables: &RopeTables,
        masks: &Masks,
        kv: &mut impl KvStore,
        adapters: Adapters,
    ) -> Tensor<3> {
        let all = self.layers.len();
        rms_norm(self.first_layers(x, deepstack, tables, masks, (kv, all), adapters), &self.norm)
    }

    /// The attention of the last token of one row to all of its tokens, in the layer with an index: the
    /// softmax of the scores, as the mean over heads. Later layers are not run, and no other scores are kept.
    ///
    /// # Shapes
    /// - `x`: `[1, tokens, hidden]`; `deepstack`, `tables` and `masks` as in [`forward`](Self::forward)
    /// - output: `[tokens]`, in f32
    pub(crate) fn last_attention(
        &self,
        x: Tensor<3>,
        deepstack: &Deepstack,
        tables: &RopeTables,
        masks: &Masks,
        layer: usize,
        adapters: Adapters,
    ) -> Tensor<1> {
        let [_, tokens, hidden] = x.dims();
        let x = self.first_layers(x, deepstack, tables, masks, (&mut NoKv, layer), adapters);
        let layer = &self.layers[layer];
        let mask = masks.of(layer).clone().narrow(2, tokens - 1, 1).reshape([1, 1, tokens]);
        layer.last_attention(x.reshape([tokens, hidden]), tables, mask, adapters)
    }

    /// Runs the first `count` decoder layers. See [`forward`](Self::forward) for the other arguments.
    fn first_layers(
        &self,
        mut x: Tensor<3>,
        deepstack: &Deepstack,
        tables: &RopeTables,
        masks: &Masks,
        (kv, count): (&mut impl KvStore, usize),
        adapters: Adapters,
    ) -> Tensor<3> {
        let [rows, tokens, _] = x.dims();
        let split = |x: Tensor<3>| {
            let [_, heads, width] = x.dims();
            x.reshape([rows, tokens, heads, width]).swap_dims(1, 2)
        };
        let (dtype, scale) = (x.dtype(), tables.score_scale());
        let masks = masks.map(|mask| prepared(mask, dtype));
        let tables = &with_turns(tables);
        for (i, layer) in self.layers.iter().take(count).enumerate() {
            let mask = masks.of(layer);
            let mut attend = |[q, k, v]: [Tensor<3>; 3]| {
                let shape = q.dims();
                let (k, v) = kv.extend(i, split(k), split(v));
                attention(split(q), k, v, Some(mask), scale).reshape(shape)
            };
            x = deepstack.add(i, layer.forward(x, tables, 0, &mut attend, adapters));
        }
        x
    }
}
