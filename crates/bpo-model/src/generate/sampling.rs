//! Draws the next token from logits, as transformers' logits processors do: temperature, top-k, top-p.

use bpo_inject::Sampling;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One sequence's draws. Its randomness depends on its own seed only, never on what else is in the batch.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Starts the draws of one sequence.
    pub fn new(sampling: &Sampling) -> Self {
        Self { sampling: sampling.clone(), rng: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// The next token's id. The first of equals wins when greedy.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return argmax(logits);
        }
        let mut order = self.candidates(logits);
        // ties by id, so that the order is one and the same everywhere
        order.sort_unstable_by(|a, b| {
            logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b))
        });
        if self.sampling.top_k > 0 {
            order.truncate(self.sampling.top_k);
        }
        let Some(best) = order.first().map(|id| f64::from(logits[*id as usize])) else { return 0 };
        let weight = |id: &u32| ((f64::from(logits[*id as usize]) - best) / self.sampling.temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        if self.sampling.top_p < 1.0 {
            weights.truncate(nucleus(&weights, self.sampling.top_p));
        }
        let mut left = self.rng.random::<f64>() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        order[drawn.unwrap_or(weights.len() - 1)]
    }

    /// Ids of the tokens whose weight a sum of all weights can feel, so that not the whole vocabulary has to be sorted.
    fn candidates(&self, logits: &[f32]) -> Vec<u32> {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // below 2^-54 of the likeliest one's, which leaves a sum of f64 that begins with that as it is
        let least = f64::from(best) - 54.0 * std::f64::consts::LN_2 * self.sampling.temperature;
        let felt = |(id, logit): (usize, &f32)| (f64::from(*logit) >= least).then_some(id as u32);
        logits.iter().enumerate().filter_map(felt).collect()
    }
}

/// How many of the sorted weights make up at least `top_p` of all; one at least.
fn nucleus(weights: &[f64], top_p: f64) -> usize {
    let wanted = top_p * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum >= wanted
    });
    reached.map_or(weights.len(), |last| last + 1)
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
    fn greedy_takes_the_first_best() {
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

    /// Sorted as a whole, in the plain way.
    fn drawn_of_all(sampling: &Sampling, logits: &[f32]) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let best = f64::from(logits[order[0]]);
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
            let sampling = warm().with_temperature(temperature).with_seed(seed);
            prop_assert_eq!(Sampler::new(&sampling).draw(&logits), drawn_of_all(&sampling, &logits));
        }

        #[test]
        fn a_draw_is_one_of_the_top_k(logits in prop::collection::vec(-20f32..20.0, 1..40), k in 1usize..5, seed: u64) {
            let drawn = Sampler::new(&warm().with_top_k(k).with_seed(seed)).draw(&logits);
            let better = logits.iter().filter(|logit| **logit > logits[drawn as usize]).count();
            prop_assert!(better < k);
        }
    }
}
