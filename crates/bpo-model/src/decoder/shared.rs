//! Rows that continue prefixes, where several rows may share one prefix. All tokens pass through
//! the layers together, those of prefixes first, and gradients flow back through all of them.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::layer::DecoderLayer;
use super::rope::RopeTables;
use super::{Decoder, Deepstack, Masks};
use crate::gradient_checkpointing::recomputed;
use crate::kernels::{PrefixLayout, prepared, rms_norm, shared_attention, with_turns};
use crate::lora::Adapters;

/// Positions and masks of the tokens.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Rotary tables of all tokens' positions.
    pub(crate) tables: RopeTables,
    /// Masks of prefixes, `[prefixes, 1, tokens, tokens]`; one row may stand for all.
    pub(crate) prefix_masks: Masks,
    /// Masks of rows, `[rows, 1, tokens, keys]`; the keys are those of the prefix, then the row's
    /// own.
    pub(crate) row_masks: Masks,
    /// `[rows]`: the prefix that each row continues.
    pub(crate) prefix_of_row: Tensor<1, Int>,
    pub(crate) layout: PrefixLayout,
    pub(crate) adapters: Adapters,
}

impl Shared {
    fn off_tape(&self) -> Self {
        Self {
            tables: self.tables.off_tape(),
            prefix_masks: self.prefix_masks.map(Tensor::inner),
            row_masks: self.row_masks.map(Tensor::inner),
            prefix_of_row: self.prefix_of_row.clone().inner(),
            ..self.clone()
        }
    }

    /// Runs a layer on `[tokens, hidden]`. After the `last` layer nothing reads prefixes, so its
    /// output has the tokens of rows only.
    fn layer(&self, layer: &DecoderLayer, x: Tensor<2>, last: bool) -> Tensor<2> {
        let masks = [&self.prefix_masks, &self.row_masks];
        let causal = masks.iter().all(|masks| masks.is_causal(layer));
        let (masks, layout) = (masks.map(|masks| masks.of(layer)), PrefixLayout { causal, ..self.layout });
        let mut attend = |qkv| shared_attention(qkv, masks, &self.prefix_of_row, layout);
        let from = if last { self.layout.of_prefixes() } else { 0 };
        layer.forward(x, &self.tables, from, &mut attend, self.adapters)
    }
}

impl Decoder {
    /// Runs the decoder layers and the last norm.
    ///
    /// With `gradient_checkpointing`, only the input of each layer is kept between the forward and
    /// the backward pass, and the backward pass computes each layer again.
    ///
    /// # Shapes
    /// - `prefix`: `[prefixes, tokens, hidden]`
    /// - `deepstack`: of the tokens of `prefix`
    /// - `rows`, and the output: `[rows, tokens, hidden]`
    pub(crate) fn forward_shared(
        &self,
        prefix: Tensor<3>,
        deepstack: &Deepstack,
        rows: Tensor<3>,
        shared: Shared,
        gradient_checkpointing: bool,
    ) -> Tensor<3> {
        let shape = rows.dims();
        let [prefix, rows] = [prefix, rows].map(|x| {
            let [count, tokens, hidden] = x.dims();
            x.reshape([count * tokens, hidden])
        });
        let mut x = Tensor::cat(vec![prefix, rows], 0);
        let dtype = x.dtype();
        let [prefix_masks, row_masks] =
            [&shared.prefix_masks, &shared.row_masks].map(|masks| masks.map(|mask| prepared(mask, dtype)));
        let shared = Shared { tables: with_turns(&shared.tables), prefix_masks, row_masks, ..shared };

        let last = |number: usize| number + 1 == self.layers.len();
        if gradient_checkpointing && x.device().is_autodiff() {
            let shared = Arc::new([shared.off_tape(), shared]);
            for (number, layer) in self.layers.iter().enumerate() {
                let (last, shared) = (last(number), Arc::clone(&shared));
                let forward = move |layer: &DecoderLayer, x: Tensor<2>| {
                    shared[usize::from(x.device().is_autodiff())].layer(layer, x, last)
                };
                x = recomputed(layer, x, Arc::new(forward));
                // nothing reads prefixes behind the last layer
                x = if last { x } else { deepstack.add(number, x) };
            }
        } else {
            for (number, layer) in self.layers.iter().enumerate() {
                x = shared.layer(layer, x, last(number));
                x = if last(number) { x } else { deepstack.add(number, x) };
            }
        }
        rms_norm(x, &self.norm).reshape(shape)
    }
}
