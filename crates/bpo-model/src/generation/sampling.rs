//! Draws the next token from logits as transformers' logits processors do: temperature, top-k,
//! top-p.

use std::collections::BinaryHeap;

use bpo_pairs::Sampling;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The draws of one sequence. They depend on its own seed only, never on the other rows of the
/// batch.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Starts the draws of one sequence.
    pub(super) fn new(sampling: &Sampling) -> Self {
        Self { sampling: sampling.clone(), rng: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// Draws the id of the next token. With temperature 0 this is the most likely token, the first
    /// of equals.
    pub(super) fn draw(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return argmax(logits);
        }
        if self.sampling.top_k == 0 && self.sampling.top_p >= 1.0 {
            return self.draw_of_all(logits);
        }
        let mut ranked = Ranked::of(logits, self.sampling.temperature);
        let top_k = if self.sampling.top_k > 0 { self.sampling.top_k } else { usize::MAX };
        let total = ranked.total(top_k);
        let (kept, count) = if self.sampling.top_p < 1.0 {
            ranked.nucleus(self.sampling.top_p * total, top_k)
        } else {
            (total, top_k)
        };
        let mut left = self.rng.random::<f64>() * kept;
        let mut last = 0;
        for place in 0..count {
            let Some((id, weight)) = ranked.get(place) else { break };
            left -= weight;
            if left < 0.0 {
                return id;
            }
            last = id;
        }
        // only rounding is left
        last
    }

    /// Draws from all tokens. Their order does not matter, so nothing is sorted.
    fn draw_of_all(&mut self, logits: &[f32]) -> u32 {
        let (best, least) = best_and_least(logits, self.sampling.temperature);
        let drawable = logits.iter().enumerate().filter(|(_, logit)| f64::from(**logit) >= least);
        let weight = |logit| weight(logit, best, self.sampling.temperature);
        let weights: Vec<_> = drawable.map(|(id, logit)| (id as u32, weight(*logit))).collect();
        let mut left = self.rng.random::<f64>() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
        let drawn = weights.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.or(weights.last()).map_or(0, |(id, _)| *id)
    }
}

/// The largest logit, and the smallest that can be drawn: a token with less than 2^-54 of the
/// weight of the largest is never drawn.
fn best_and_least(logits: &[f32], temperature: f64) -> (f64, f64) {
    let best = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    (best, best - 54.0 * std::f64::consts::LN_2 * temperature)
}

/// The weight of a token relative to the most likely one.
fn weight(logit: f32, best: f64, temperature: f64) -> f64 {
    ((f64::from(logit) - best) / temperature).exp()
}

/// Tokens by falling probability, the first of equals first. They are sorted only as far as they
/// are asked for.
struct Ranked {
    /// Logits and ids as [keys](key).
    rest: BinaryHeap<u64>,
    found: Vec<(u32, f64)>,
    best: f64,
    temperature: f64,
}

impl Ranked {
    /// Takes the tokens that can be drawn.
    fn of(logits: &[f32], temperature: f64) -> Self {
        let (best, least) = best_and_least(logits, temperature);
        let drawable =
            |(id, logit): (usize, &f32)| (f64::from(*logit) >= least).then(|| key(*logit, id as u32));
        let rest = logits.iter().enumerate().filter_map(drawable).collect::<Vec<_>>().into();
        Self { rest, found: Vec::new(), best, temperature }
    }

    /// The token at a place and its weight; the first has weight 1.
    fn get(&mut self, place: usize) -> Option<(u32, f64)> {
        while self.found.len() <= place {
            let (logit, id) = of_key(self.rest.pop()?);
            self.found.push((id, self.weight(logit)));
        }
        Some(self.found[place])
    }

    fn weight(&self, logit: f32) -> f64 {
        weight(logit, self.best, self.temperature)
    }

    /// The sum of the first `count` weights.
    fn total(&mut self, count: usize) -> f64 {
        if count < self.rest.len() {
            (0..count).map_while(|place| self.get(place)).map(|(_, weight)| weight).sum()
        } else {
            self.rest.iter().map(|key| self.weight(of_key(*key).0)).sum()
        }
    }

    /// The shortest prefix whose weights sum up to `wanted`, of at most `count` tokens. Returns the
    /// sum and the length.
    fn nucleus(&mut self, wanted: f64, count: usize) -> (f64, usize) {
        let mut sum = 0.0;
        for place in 0..count {
            let Some((_, weight)) = self.get(place) else { return (sum, place) };
            sum += weight;
            if sum >= wanted {
                return (sum, place + 1);
            }
        }
        (sum, count)
    }
}

/// A number that orders tokens: larger for a larger logit, and for a smaller id.
fn key(logit: f32, id: u32) -> u64 {
    let bits = logit.to_bits();
    // the bits of negative numbers are in reverse order
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!id)
}

fn of_key(key: u64) -> (f32, u32) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    (f32::from_bits(bits), !(key as u32))
}

fn argmax(logits: &[f32]) -> u32 {
    let better =
        |best: (usize, f32), (id, logit): (usize, f32)| if logit > best.1 { (id, logit) } else { best };
    logits.iter().copied().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(&sampling);
        (0..n).map(|_| sampler.draw(logits)).collect()
    }

    fn warm() -> Sampling {
        Sampling::default().with_temperature(1.0)
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(draws(Sampling::default(), &[0.0, 3.0, 3.0, -1.0], 2), [1, 1]);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let drawn = draws(warm().with_seed(3), &logits, 20_000);
        for (id, share) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            let found = drawn.iter().filter(|d| **d == id).count() as f64 / 20_000.0;
            // five standard deviations
            assert!(
                (found - share).abs() < 5.0 * (share * (1.0 - share) / 20_000f64).sqrt(),
                "{id}: {found}"
            );
        }
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses_the_mass() {
        // 0.5, 0.3, 0.2
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let kept = |top_p| {
            let mut ids = draws(warm().with_top_p(top_p), &logits, 500);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(kept(0.4), [0]);
        assert_eq!(kept(0.6), [0, 1]);
        assert_eq!(kept(1.0), [0, 1, 2]);
    }

    /// Draws by summing over all tokens in a given order.
    fn drawn_of_all(sampling: &Sampling, logits: &[f32], order: &[usize]) -> u32 {
        let best = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let weights = order.iter().map(|id| ((f64::from(logits[*id]) - best) / sampling.temperature).exp());
        let weights: Vec<f64> = weights.collect();
        let mut left = ChaCha8Rng::seed_from_u64(sampling.seed).random::<f64>() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        order[drawn.unwrap()] as u32
    }

    proptest! {
        #[test]
        fn tokens_that_are_never_drawn_change_nothing(
            logits in prop::collection::vec(-60f32..60.0, 1..200), temperature in 0.01..3.0, seed: u64,
        ) {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            let sampling = warm().with_temperature(temperature).with_seed(seed);
            prop_assert_eq!(Sampler::new(&sampling).draw(&logits), drawn_of_all(&sampling, &logits, &order));
            // top-k with k as large as the vocabulary
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            let sampling = sampling.with_top_k(logits.len());
            prop_assert_eq!(Sampler::new(&sampling).draw(&logits), drawn_of_all(&sampling, &logits, &order));
        }

        #[test]
        fn keys_have_the_order_of_logits(a in -9f32..9.0, b in -9f32..9.0, ids: (u32, u32)) {
            prop_assert_eq!(of_key(key(a, ids.0)), (a, ids.0));
            let expected = a.total_cmp(&b).then(ids.1.cmp(&ids.0));
            prop_assert_eq!(key(a, ids.0).cmp(&key(b, ids.1)), expected);
        }

        #[test]
        fn a_draw_is_one_of_the_top_k(logits in prop::collection::vec(-20f32..20.0, 1..40), k in 1usize..5, seed: u64) {
            let drawn = Sampler::new(&warm().with_top_k(k).with_seed(seed)).draw(&logits);
            let better = logits.iter().filter(|logit| **logit > logits[drawn as usize]).count();
            prop_assert!(better < k);
        }
    }
}
