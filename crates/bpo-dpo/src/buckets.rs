//! Pairs of like length in the same step, so that little of a batch is padding.

use bpo_pairs::PreferencePair;
use rand_chacha::ChaCha20Rng;

use crate::order::shuffle;

/// Steps whose pairs are sorted together, at most (transformers' `get_length_grouped_indices`).
const STEPS: usize = 50;
/// Pairs are sorted in this many parts at least, where there are as many steps, so that epochs differ (there, too).
const PARTS: usize = 4;

/// Sorts the pairs of a few steps by their length.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// Of each pair that of its group, by the pair's index.
    lengths: Vec<usize>,
    /// Pairs in a step.
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

    /// Of pairs in random order those of up to fifty steps are sorted, and these steps shuffled; one that is not full stays the last.
    /// Groups are torn where a step or such a part ends, and nowhere else.
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

/// Characters of what comes before the answers and of the longer one. Which tokens they become is the policy's affair.
fn length(pair: &PreferencePair) -> usize {
    let count = |text: &str| text.chars().count();
    let history: usize = pair.history.iter().map(|turn| count(&turn.prompt) + count(&turn.answer)).sum();
    let system = pair.system.as_deref().map_or(0, count);
    system + history + count(&pair.prompt) + count(&pair.chosen).max(count(&pair.rejected))
}
