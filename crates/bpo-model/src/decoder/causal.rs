//! The attention mask of rows that continue prefixes.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to scores that must not count. It is finite, so that a row of them does not become NaN.
const BLOCKED: f32 = -1e30;

/// Computes the mask of right-padded rows that follow right-padded prefixes.
///
/// Row `r` attends to the first `prefix_lens[r]` of `prefix_width` prefix positions, to all `past`
/// tokens after them, and to its own `tokens` up to each token itself. It does not attend to the
/// positions in `hidden[r]`; positions that do not exist are ignored. Padding at the end of a row
/// needs no mask, because no earlier token attends to it.
///
/// # Shapes
/// - output: `[rows, 1, tokens, prefix_width + past + tokens]`
pub(crate) fn causal_mask(
    prefix_lens: &[usize],
    prefix_width: usize,
    past: usize,
    tokens: usize,
    hidden: &[Vec<usize>],
    device: &Device,
) -> Tensor<4> {
    let keys = prefix_width + past + tokens;
    let mut mask = vec![BLOCKED; prefix_lens.len() * tokens * keys];
    for (at, allowed) in mask.chunks_mut(keys.max(1)).enumerate() {
        let (row, token) = (at / tokens, at % tokens);
        allowed[..prefix_lens[row].min(prefix_width)].fill(0.0);
        allowed[prefix_width..=prefix_width + past + token].fill(0.0);
        for &place in hidden.get(row).into_iter().flatten().filter(|place| **place < keys) {
            allowed[place] = BLOCKED;
        }
    }
    Tensor::from_data(TensorData::new(mask, [prefix_lens.len(), 1, tokens, keys]), (device, DType::F32))
}
