//! Seeds of stages and items, equal on all platforms.

use sha2::{Digest, Sha256};

/// Returns the seed of one item of a stage, which depends only on `stage_seed` and `id`, not on the
/// position of the item or on other items.
///
/// The seed is the first eight bytes, read as little-endian, of the SHA-256 digest of `bpo-seed`,
/// `stage_seed` (eight bytes, little-endian) and `id`.
pub fn item_seed(stage_seed: u64, id: impl AsRef<[u8]>) -> u64 {
    let digest = Sha256::new()
        .chain_update(b"bpo-seed")
        .chain_update(stage_seed.to_le_bytes())
        .chain_update(id)
        .finalize();
    digest.iter().take(8).rev().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

/// Returns the seed of one stage of a run, so that the stages of a run draw independent random
/// numbers.
pub fn stage_seed(run_seed: u64, stage: &str) -> u64 {
    item_seed(run_seed, format!("stage/{stage}"))
}

/// Returns the seed of the distortion of an image of an item, from the seed of its first image and
/// the number of the image, counted from 0.
pub fn image_seed(first: u64, number: usize) -> u64 {
    if number == 0 { first } else { item_seed(first, format!("image {number}")) }
}

/// Returns the number from 0 up to, but not including, 1 that a seed stands for. It is a multiple of
/// 2^-53, because an `f64` has 53 bits.
pub fn unit_interval(seed: u64) -> f64 {
    (seed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_pinned() {
        // printf 'bpo-seed\0\0\0\0\0\0\0\0cat-0' | sha256sum
        assert_eq!(item_seed(0, "cat-0"), 0xf56d_dc31_fedc_ae7b);
        assert_ne!(item_seed(1, "cat-0"), item_seed(0, "cat-0"));
        assert_ne!(stage_seed(0, "weaken"), stage_seed(0, "inject"));
        assert_eq!((image_seed(5, 0), image_seed(5, 2)), (5, item_seed(5, "image 2")));
        assert_eq!((unit_interval(0), unit_interval(1 << 63)), (0.0, 0.5));
        assert!(unit_interval(u64::MAX) < 1.0);
    }
}
