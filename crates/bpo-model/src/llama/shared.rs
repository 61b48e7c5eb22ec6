//! Rows behind prefixes that several of them share. Both go through the layers side by side, and gradients flow back through both.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::Llama;
use super::layer::DecoderLayer;
use super::rope::RopeTables;
use crate::fused::rms_norm;
use crate::lora::Adapters;
use crate::recompute::recomputed;

/// Where tokens are and what they see.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Of the tokens' positions.
    pub(crate) tables: RopeTables,
    /// `[rows, 1, tokens, keys]`; for rows behind a prefix the keys are the prefix's and their own.
    pub(crate) mask: Tensor<4>,
}

/// Prefixes and the rows behind them.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) prefix: Places,
    pub(crate) rows: Places,
    /// `[rows]`: which prefix each row continues.
    pub(crate) prefix_of_row: Tensor<1, Int>,
    pub(crate) adapters: Adapters,
}

impl Places {
    fn off_tape(&self) -> Self {
        let RopeTables { cos, sin } = self.tables.clone();
        let tables = RopeTables { cos: cos.inner(), sin: sin.inner() };
        Self { tables, mask: self.mask.clone().inner() }
    }
}

impl Shared {
    fn off_tape(&self) -> Self {
        Self {
            prefix: self.prefix.off_tape(),
            rows: self.rows.off_tape(),
            prefix_of_row: self.prefix_of_row.clone().inner(),
            adapters: self.adapters,
        }
    }

    /// Both through a layer; of prefixes before the `last` one only, as behind it nobody looks at them.
    ///
    /// # Shapes
    /// - `prefix`: `[prefixes, tokens, hidden]`
    /// - `rows`: `[rows, tokens, hidden]`
    fn layer(
        &self,
        layer: &DecoderLayer,
        prefix: Tensor<3>,
        rows: Tensor<3>,
        last: bool,
    ) -> (Option<Tensor<3>>, Tensor<3>) {
        let Places { tables, mask } = &self.prefix;
        let mut kept = None;
        let prefix = if last {
            kept = Some(layer.keys_and_values(prefix, tables, self.adapters));
            None
        } else {
            let mut keep = |k: Tensor<4>, v: Tensor<4>| kept.insert((k, v)).clone();
            Some(layer.forward(prefix, tables, mask, &mut keep, self.adapters))
        };
        let Places { tables, mask } = &self.rows;
        let mut extend = |k: Tensor<4>, v: Tensor<4>| match &kept {
            None => (k, v),
            Some((prefix_k, prefix_v)) => {
                let behind = |prefix: &Tensor<4>, own: Tensor<4>| {
                    Tensor::cat(vec![prefix.clone().select(0, self.prefix_of_row.clone()), own], 2)
                };
                (behind(prefix_k, k), behind(prefix_v, v))
            }
        };
        (prefix, layer.forward(rows, tables, mask, &mut extend, self.adapters))
    }
}

impl Llama {
    /// Runs the decoder layers and the last norm.
    ///
    /// Where it is to `recompute`, the backward pass computes each layer again, and nothing is kept between forward and backward pass
    /// but the layers' inputs.
    ///
    /// # Shapes
    /// - `prefix`: `[prefixes, tokens, hidden]`
    /// - `rows`, and the output: `[rows, tokens, hidden]`
    pub(crate) fn forward_shared(
        &self,
        prefix: Tensor<3>,
        rows: Tensor<3>,
        shared: Shared,
        recompute: bool,
    ) -> Tensor<3> {
        let rows = match recompute && rows.device().is_autodiff() {
            true => self.layers_again(prefix, rows, shared),
            false => {
                let (mut prefix, mut rows) = (prefix, rows);
                for (number, layer) in self.layers.iter().enumerate() {
                    let last = number + 1 == self.layers.len();
                    let (next, behind) = shared.layer(layer, prefix.clone(), rows, last);
                    (prefix, rows) = (next.unwrap_or(prefix), behind);
                }
                rows
            }
        };
        rms_norm(rows, &self.norm)
    }

    fn layers_again(&self, prefix: Tensor<3>, rows: Tensor<3>, shared: Shared) -> Tensor<3> {
        let ([prefixes, before, hidden], [count, tokens, _]) = (prefix.dims(), rows.dims());
        let (of_prefix, of_rows) = (prefixes * before, count * tokens);
        let pack = move |prefix: Tensor<3>, rows: Tensor<3>| -> Tensor<2> {
            let [prefix, rows] = [prefix.reshape([of_prefix, hidden]), rows.reshape([of_rows, hidden])];
            Tensor::cat(vec![prefix, rows], 0)
        };
        let shared = Arc::new([shared.off_tape(), shared]);
        let mut x = pack(prefix, rows);
        for (number, layer) in self.layers.iter().enumerate() {
            let (last, shared) = (number + 1 == self.layers.len(), Arc::clone(&shared));
            let forward = move |layer: &DecoderLayer, x: Tensor<2>| {
                let shared = &shared[usize::from(x.device().is_autodiff())];
                let prefix = x.clone().narrow(0, 0, of_prefix).reshape([prefixes, before, hidden]);
                let rows = x.narrow(0, of_prefix, of_rows).reshape([count, tokens, hidden]);
                match shared.layer(layer, prefix, rows, last) {
                    (Some(prefix), rows) => pack(prefix, rows),
                    (None, rows) => rows.reshape([of_rows, hidden]),
                }
            };
            x = recomputed(layer, x, Arc::new(forward));
        }
        x.reshape([count, tokens, hidden])
    }
}
