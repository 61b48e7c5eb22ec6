//! Groups pairs of similar length into steps, so that batches have little padding.

use bpo_pairs::PreferencePair;
use rand_chacha::ChaCha20Rng;

use crate::order::shuffle;

/// Maximum number of steps whose pairs are sorted together, as in `get_length_grouped_indices` of
/// transformers.
const STEPS: usize = 50;
/// Minimum number of parts that are sorted separately, so that epochs differ. There are fewer if
/// there are fewer steps. As in transformers.
const PARTS: usize = 4;

/// Sorts the pairs of a few steps by their length.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// Length of each pair's group, by the index of the pair.
    lengths: Vec<usize>,
    /// Number of pairs in a step.
    step: usize,
}

impl Buckets {
    pub(crate) fn new(pairs: &[PreferencePair], groups: &[Vec<usize>], step: usize) -> Self {
        let mut lengths = vec![0; pairs.len()];
        for group in groups {
            let longest = group.iter().map(|pair| length(&pairs[*pair])).max().unwrap_or_default();
            group.iter().for_each(|pair| lengths[*pair] = longest);
        }
        Self { lengths, step: step.max(1) }
    }

    /// Sorts the pairs of up to [`STEPS`] steps at a time and shuffles these steps. A step that is
    /// not full remains the last one. A group is split only at the end of a step or of a sorted
    /// part.
    pub(crate) fn arranged(&self, mut order: Vec<usize>, random: &mut ChaCha20Rng) -> Vec<usize> {
        let steps = (order.len() / self.step / PARTS).clamp(1, STEPS);
        for part in order.chunks_mut(self.step.saturating_mul(steps)) {
            // stable, so that pairs of a group stay together
            part.sort_by_key(|pair| std::cmp::Reverse(self.lengths[*pair]));
            let mut steps: Vec<Vec<usize>> = part.chunks_exact(self.step).map(<[usize]>::to_vec).collect();
            shuffle(&mut steps, random);
            part.iter_mut().zip(steps.into_iter().flatten()).for_each(|(place, pair)| *place = pair);
        }
        order
    }
}

/// Returns the number of characters of the prompt and of the longer answer, as an estimate of the
/// number of tokens.
fn length(pair: &PreferencePair) -> usize {
    let count = |text: &str| text.chars().count();
    let history: usize = pair.history.iter().map(|turn| count(&turn.prompt) + count(&turn.answer)).sum();
    let system = pair.system.as_deref().map_or(0, count);
    system + history + count(&pair.prompt) + count(&pair.chosen).max(count(&pair.rejected))
}
