//! Near-duplicates among pairs, found by MinHash (Broder, 1997) with locality-sensitive hashing.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use bpo_pairs::PreferencePair;

/// Number of hash functions of a signature.
const HASHES: usize = 32;
/// Hashes of one band. Pairs that agree in all hashes of a band are compared. Of pairs with a
/// similarity of 0.8, 98.5 % agree in a band of 4 of 32 hashes.
const BAND: usize = 4;
/// Least number of equal hashes of near-duplicates: an estimated similarity of 0.8.
const EQUAL: usize = 26;
/// Number of words of a shingle.
const SHINGLE: usize = 3;
/// Number of examples.
const EXAMPLES: usize = 10;

type Signature = [u32; HASHES];

/// Finds pairs that are nearly the same as an earlier one.
#[derive(Default)]
pub(super) struct Duplicates {
    signatures: Vec<Signature>,
    ids: Vec<String>,
    /// The first pair with each band.
    bands: HashMap<(usize, [u32; BAND]), usize>,
    pub(super) found: usize,
    /// The ids of the first near-duplicates, and of the earlier pairs.
    pub(super) examples: Vec<[String; 2]>,
}

impl Duplicates {
    pub(super) fn add(&mut self, pair: &PreferencePair) {
        let signature = signature(pair);
        let place = self.signatures.len();
        let mut earlier = None;
        for (band, hashes) in signature.as_chunks::<BAND>().0.iter().enumerate() {
            let first = *self.bands.entry((band, *hashes)).or_insert(place);
            let is_near = || {
                let pairs = self.signatures[first].iter().zip(&signature);
                pairs.filter(|(a, b)| a == b).count() >= EQUAL
            };
            if earlier.is_none() && first < place && is_near() {
                earlier = Some(first);
            }
        }
        if let Some(earlier) = earlier {
            self.found += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push([pair.id.clone(), self.ids[earlier].clone()]);
            }
        }
        self.signatures.push(signature);
        self.ids.push(pair.id.clone());
    }
}

/// The smallest hash of all shingles, for each hash function.
fn signature(pair: &PreferencePair) -> Signature {
    // the bounds keep shingles from reaching from one text into the next
    let texts = [&pair.prompt, &pair.chosen, &pair.rejected].map(|text| text.to_lowercase());
    let mut words = Vec::new();
    for text in &texts {
        words.extend(bpo_pairs::words(text));
        words.push("\n");
    }
    // without random state, so that results are the same in each run
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut smallest = [u32::MAX; HASHES];
    for shingle in words.windows(SHINGLE.min(words.len())) {
        let hash = hasher.hash_one(shingle);
        // two halves make any number of hash functions (Kirsch and Mitzenmacher, 2006)
        let (first, second) = (hash as u32, (hash >> 32) as u32 | 1);
        for (number, least) in (0..).zip(&mut smallest) {
            *least = (*least).min(mixed(first.wrapping_add(second.wrapping_mul(number))));
        }
    }
    smallest
}

/// Spreads the bits of a hash (the finalizer of MurmurHash3).
fn mixed(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair;
    use super::*;

    fn found(texts: &[(String, String)]) -> usize {
        let mut duplicates = Duplicates::default();
        for (id, (chosen, rejected)) in texts.iter().enumerate() {
            duplicates.add(&pair(id, chosen, rejected));
        }
        duplicates.found
    }

    fn text(seed: usize, words: usize) -> String {
        (0..words).map(|number| format!("w{} ", (seed * 7919 + number * 31) % 5003)).collect()
    }

    #[test]
    fn equal_and_nearly_equal_pairs_are_found() {
        let (chosen, rejected) = (text(1, 60), text(2, 60));
        let changed = rejected.replacen("w", "v", 1);
        let other = (text(3, 60), text(4, 60));
        let texts =
            [(chosen.clone(), rejected.clone()), (chosen.clone(), changed), other, (chosen, rejected)];
        assert_eq!(found(&texts), 2);
    }

    #[test]
    fn different_pairs_are_not_found() {
        let texts: Vec<_> = (0..200).map(|seed| (text(2 * seed, 40), text(2 * seed + 1, 40))).collect();
        assert_eq!(found(&texts), 0);
    }

    #[test]
    fn similarity_is_estimated() {
        // of n words that follow each other, the first half is shared
        let halves = |shared: usize| {
            let (a, b) = (text(10, 100), text(11, 100));
            let words: Vec<&str> = a.split(' ').take(shared).chain(b.split(' ').skip(shared)).collect();
            (words.join(" "), a)
        };
        let (mixed, whole) = halves(50);
        let texts = [(whole.clone(), String::new()), (mixed, String::new())];
        assert_eq!(found(&texts), 0, "half of the shingles differ");
        let (mixed, _) = halves(97);
        assert_eq!(found(&[(whole, String::new()), (mixed, String::new())]), 1);
    }

    #[test]
    fn short_answers_are_compared() {
        let texts = [("Yes".into(), "No".into()), ("Yes".into(), "No".into()), ("No".into(), "Yes".into())];
        assert_eq!(found(&texts), 1);
        assert_eq!(found(&[(String::new(), String::new())]), 0);
    }
}
