//! The attention masks of rows that continue prefixes.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Decoder;
use super::layer::DecoderLayer;

/// Added to scores that must not count. It is finite, so that a row of them does not become NaN.
const BLOCKED: f32 = -1e30;

/// The attention masks of a forward pass, `[rows, 1, tokens, keys]`: that of layers whose tokens
/// attend to all earlier tokens, and that of layers with a sliding window.
#[derive(Clone, Debug)]
pub(crate) struct Masks {
    full: Option<Tensor<4>>,
    /// `None` if no token has more tokens before it than the window holds.
    sliding: Option<Tensor<4>>,
}

impl Masks {
    /// Computes the masks that `decoder` needs. See [`causal_mask`] for the arguments.
    pub(crate) fn new(
        decoder: &Decoder,
        lens: &[usize],
        [prefix_width, past, tokens]: [usize; 3],
        hidden: &[Vec<usize>],
        device: &Device,
    ) -> Self {
        let mask = |window| causal_mask(lens, [prefix_width, past, tokens], window, hidden, device);
        let longest = lens.iter().max().unwrap_or(&0) + past + tokens;
        let window = decoder.window.filter(|window| *window < longest);
        let all_slide = window.is_some() && decoder.layers.iter().all(|layer| layer.slides);
        Self { full: (!all_slide).then(|| mask(None)), sliding: window.map(|window| mask(Some(window))) }
    }

    /// The mask of a layer.
    pub(super) fn of(&self, layer: &DecoderLayer) -> &Tensor<4> {
        let own = if layer.slides { self.sliding.as_ref() } else { None };
        own.or(self.full.as_ref()).expect("there is a mask for each kind of layer")
    }

    /// Whether the mask of a layer hides nothing but later tokens and padding.
    pub(super) fn is_causal(&self, layer: &DecoderLayer) -> bool {
        !layer.slides || self.sliding.is_none()
    }

    /// Applies a function to each mask.
    pub(super) fn map(&self, of: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        let [full, sliding] = [&self.full, &self.sliding].map(|mask| mask.clone().map(&of));
        Self { full, sliding }
    }
}

/// Computes the mask of right-padded rows that follow right-padded prefixes.
///
/// Row `r` attends to the first `lens[r]` of `prefix_width` prefix positions, to all `past` tokens
/// after them, and to its own `tokens` up to each token itself; with a window, only to the last
/// `window` of these. It does not attend to the positions in `hidden[r]`; positions that do not
/// exist are ignored. Padding at the end of a row needs no mask, because no earlier token attends to
/// it.
///
/// # Shapes
/// - output: `[rows, 1, tokens, prefix_width + past + tokens]`
pub(crate) fn causal_mask(
    lens: &[usize],
    [prefix_width, past, tokens]: [usize; 3],
    window: Option<usize>,
    hidden: &[Vec<usize>],
    device: &Device,
) -> Tensor<4> {
    let keys = prefix_width + past + tokens;
    let mut mask = vec![BLOCKED; lens.len() * tokens * keys];
    for (at, allowed) in mask.chunks_mut(keys.max(1)).enumerate() {
        let (row, token) = (at / tokens, at % tokens);
        let len = lens[row].min(prefix_width);
        // the first token in the window, counted without the padding of the prefix
        let first = window.map_or(0, |window| (len + past + token + 1).saturating_sub(window));
        allowed[first.min(len)..len].fill(0.0);
        allowed[prefix_width + first.saturating_sub(len)..=prefix_width + past + token].fill(0.0);
        for &place in hidden.get(row).into_iter().flatten().filter(|place| **place < keys) {
            allowed[place] = BLOCKED;
        }
    }
    Tensor::from_data(TensorData::new(mask, [lens.len(), 1, tokens, keys]), (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that each token of a row attends to.
    fn seen(lens: &[usize], sizes: [usize; 3], window: Option<usize>) -> Vec<Vec<usize>> {
        let mask = causal_mask(lens, sizes, window, &[], &Device::flex());
        let keys = sizes.iter().sum();
        let values = mask.into_data().iter::<f32>().collect::<Vec<_>>();
        let of_token = |row: &[f32]| (0..keys).filter(|key| row[*key] == 0.0).collect();
        values.chunks(keys).map(of_token).collect()
    }

    #[test]
    fn a_window_counts_tokens_and_no_padding() {
        // three of four places of the prefix, one token in the past, two new ones
        let sizes = [4, 1, 2];
        assert_eq!(seen(&[3], sizes, None), [vec![0, 1, 2, 4, 5], vec![0, 1, 2, 4, 5, 6]]);
        assert_eq!(seen(&[3], sizes, Some(4)), [vec![1, 2, 4, 5], vec![2, 4, 5, 6]]);
        assert_eq!(seen(&[3], sizes, Some(2)), [vec![4, 5], vec![5, 6]]);
        assert_eq!(seen(&[3, 0], sizes, Some(1)), [[5], [6], [5], [6]]);
        assert_eq!(seen(&[3, 1], sizes, Some(99)), seen(&[3, 1], sizes, None));
    }
}
