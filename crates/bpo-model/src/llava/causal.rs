//! Who may attend to whom.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to scores that must not count. Finite, so that no row of them becomes NaN.
const BLOCKED: f32 = -1e30;

/// The mask of right-padded rows that follow right-padded prefixes.
///
/// Row `r` sees the first `prefix_lens[r]` of `prefix_width` prefix positions, all of `past` tokens after them, and
/// of its own `tokens` those up to itself. Of its keys it does not see those whose places are in `hidden[r]`; what is not there
/// hides nothing. Padding behind a row's end needs no mask: nothing before it looks there.
///
/// # Shapes
/// - output: `[rows, 1, tokens, prefix_width + past + tokens]`
pub fn causal_mask(
    prefix_lens: &[usize],
    prefix_width: usize,
    past: usize,
    tokens: usize,
    hidden: &[Vec<usize>],
    device: &Device,
) -> Tensor<4> {
    let keys = prefix_width + past + tokens;
    let mut mask = vec![BLOCKED; prefix_lens.len() * tokens * keys];
    for (at, seen) in mask.chunks_mut(keys.max(1)).enumerate() {
        let (row, token) = (at / tokens, at % tokens);
        seen[..prefix_lens[row].min(prefix_width)].fill(0.0);
        seen[prefix_width..=prefix_width + past + token].fill(0.0);
        for &place in hidden.get(row).into_iter().flatten().filter(|place| **place < keys) {
            seen[place] = BLOCKED;
        }
    }
    Tensor::from_data(TensorData::new(mask, [prefix_lens.len(), 1, tokens, keys]), (device, DType::F32))
}
