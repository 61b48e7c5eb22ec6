//! Seeds and random numbers, equal on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::normals::Normals;

/// Rest of the ChaCha key. A change of it changes every distorted image, so it contains a version.
const DOMAIN: [u8; 16] = *b"bpo-distort/v1\0\0";

/// Key of the draws from ranges. It is separate, so that a range gives the same image as the value
/// drawn from it.
const DRAWS: [u8; 16] = *b"bpo-distort/draw";

/// Key of the choice of a second image.
const OTHERS: [u8; 16] = *b"bpo-distort/othr";

/// Chooses the second image of an item: an index below `count`, the number of candidates.
///
/// Returns 0 without candidates. The choice depends only on the seed of the item and `count`.
///
/// ```
/// assert_eq!(bpo_distort::choose_other(7, 100), bpo_distort::choose_other(7, 100));
/// assert!(bpo_distort::choose_other(7, 3) < 3);
/// ```
pub fn choose_other(item_seed: u64, count: usize) -> usize {
    Stream(StageSeed::new(item_seed, 0).rng(OTHERS)).below(count)
}

/// The seed of one stage of a distortion: the seed of the item and the index of the stage in the
/// sequence.
///
/// Both are part of the key of a ChaCha8 stream, so every stage has its own stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StageSeed {
    item: u64,
    stage: u64,
}

impl StageSeed {
    /// The seed of the stage at index `stage` (from 0) for an item.
    pub fn new(item: u64, stage: usize) -> Self {
        Self { item, stage: stage as u64 }
    }

    fn rng(self, domain: [u8; 16]) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.item.to_le_bytes());
        key[8..16].copy_from_slice(&self.stage.to_le_bytes());
        key[16..].copy_from_slice(&domain);
        ChaCha8Rng::from_seed(key)
    }

    /// An infinite stream of standard-normal deviates.
    pub(crate) fn normals(self) -> Normals {
        Normals::new(self.rng(DOMAIN))
    }

    /// The random bits of the stage. [`normals`](Self::normals) uses the same bits, so a stage uses
    /// one of the two.
    pub(crate) fn stream(self) -> Stream {
        Stream(self.rng(DOMAIN))
    }

    /// The random bits for the ranges of the stage.
    pub(crate) fn draws(self) -> Stream {
        Stream(self.rng(DRAWS))
    }
}

/// A stream of random bits and integers.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number below `count`. Its distribution is uniform up to `count` in 2^64.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// `count` different numbers below `total`, in random order.
    pub(crate) fn choose(&mut self, count: usize, total: usize) -> Vec<usize> {
        let count = count.min(total);
        let mut numbers: Vec<usize> = (0..total).collect();
        for place in 0..count {
            let from = place + self.below(total - place);
            numbers.swap(place, from);
        }
        numbers.truncate(count);
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_uniform() {
        let mut counts = [0; 24];
        let mut stream = StageSeed::new(5, 0).stream();
        for _ in 0..24_000 {
            let order = stream.choose(4, 4);
            let smaller = |at: usize| order[at + 1..].iter().filter(|other| **other < order[at]).count();
            counts[smaller(0) * 6 + smaller(1) * 2 + smaller(2)] += 1;
        }
        // 1000 each, with a standard deviation of 31.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(stream.choose(9, 2).len(), 2);
        assert!(stream.choose(0, 9).is_empty() && stream.choose(3, 0).is_empty());
    }

    #[test]
    fn streams_differ_by_item_and_stage() {
        let first = |item, stage| StageSeed::new(item, stage).normals().next();
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(0, 1), first(1, 0));
    }
}
