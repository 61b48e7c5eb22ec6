//! Seeds, and random numbers that are the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::normals::Normals;

/// Fills the rest of the ChaCha key. Changing it changes every distorted image, so it carries a version.
const DOMAIN: [u8; 16] = *b"bpo-distort/v1\0\0";

/// The same for what ranges are drawn with, so that a range and its drawn value give the same image.
const DRAWS: [u8; 16] = *b"bpo-distort/draw";

/// The same for the choice of another image for the item.
const OTHERS: [u8; 16] = *b"bpo-distort/othr";

/// Seed of one item of a set: an image by its path in a folder, a sample by its id.
///
/// The first eight bytes, little-endian, of SHA-256 over `bpo-seed`, the seed of the set (eight bytes, little-endian) and
/// the name. So an item's randomness depends on neither its place in the set nor on what else is in it.
///
/// ```
/// assert_eq!(bpo_distort::item_seed(0, "cat-0"), 0xf56d_dc31_fedc_ae7b);
/// assert_ne!(bpo_distort::item_seed(1, "cat-0"), bpo_distort::item_seed(0, "cat-0"));
/// ```
pub fn item_seed(seed: u64, name: impl AsRef<[u8]>) -> u64 {
    let digest = Sha256::new()
        .chain_update(b"bpo-seed")
        .chain_update(seed.to_le_bytes())
        .chain_update(name)
        .finalize();
    digest.iter().take(8).rev().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

/// The bits that another image is chosen with for the item with this seed.
pub(crate) fn others(item: u64) -> Stream {
    Stream(StageSeed::new(item, 0).rng(OTHERS))
}

/// What the randomness of one stage of a distortion depends on: the seed of the item and the place of the
/// stage in its sequence.
///
/// Together they are the key of a ChaCha8 stream, so no two stages share one.
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

    /// An endless stream of standard-normal deviates.
    pub(crate) fn normals(self) -> Normals {
        Normals::new(self.rng(DOMAIN))
    }

    /// The stage's random bits; the deviates are made of the same, so a stage takes the one or the other.
    pub(crate) fn stream(self) -> Stream {
        Stream(self.rng(DOMAIN))
    }

    /// The bits that the stage's ranges are drawn with.
    pub(crate) fn draws(self) -> Stream {
        Stream(self.rng(DRAWS))
    }
}

/// Random bits, and whole numbers made of them.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number below `count`: the high half of a product, off by less than `count` in 2^64.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// The first `count` of the numbers below `total` in a random order.
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
    fn each_choice_has_the_same_chance() {
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
    fn items_and_stages_have_streams_of_their_own() {
        let first = |item, stage| StageSeed::new(item, stage).normals().next();
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(0, 1), first(1, 0));
    }
}
