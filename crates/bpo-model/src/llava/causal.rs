//! Who may attend to whom.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to scores that must not count. Finite, so that no row of them becomes NaN.
const BLOCKED: f32 = -1e30;

/// The mask of right-padded rows that follow right-padded prefixes.
///
/// Row `r` sees the first `prefix_lens[r]` of `prefix_width` prefix positions, all of `past` tokens after them, and
/// of its own `tokens` those up to itself. Padding behind a row's end needs no mask: nothing before it looks there.
///
/// # Shapes
/// - output: `[rows, 1, tokens, prefix_width + past + tokens]`
pub fn causal_mask(
    prefix_lens: &[usize],
    prefix_width: usize,
    past: usize,
    tokens: usize,
    device: &Device,
) -> Tensor<4> {
    let keys = prefix_width + past + tokens;
    let mut mask = Vec::with_capacity(prefix_lens.len() * tokens * keys);
    for prefix_len in prefix_lens {
        for token in 0..tokens {
            mask.extend((0..keys).map(|key| {
                let seen =
                    if key < prefix_width { key < *prefix_len } else { key - prefix_width <= past + token };
                if seen { 0.0 } else { BLOCKED }
            }));
        }
    }
    Tensor::from_data(TensorData::new(mask, [prefix_lens.len(), 1, tokens, keys]), (device, DType::F32))
}
