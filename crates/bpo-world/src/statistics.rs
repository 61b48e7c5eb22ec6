//! Probabilities of objects, colours and numbers.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::kind::{Colour, Kind, Place};

/// Probabilities from which scenes are sampled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Weights of two, three and four kinds in a scene.
    pub kinds: [f64; 3],
    /// Probability that a kind belongs to the place of the scene.
    pub of_place: f64,
    /// Probability that a kind adds its companion, if the scene has room for it. `None`: companions
    /// never appear together.
    pub companion: Option<f64>,
    /// Probability of the usual colour. The other colours are equally likely.
    pub usual_colour: f64,
    /// Probability of the usual count. The other counts from 1 to 3 are equally likely.
    pub usual_count: f64,
}

impl Statistics {
    /// The usual world: strong co-occurrence of companions, places, colours and counts.
    pub fn usual() -> Self {
        Self {
            kinds: [0.2, 0.1, 0.7],
            of_place: 0.92,
            companion: Some(0.88),
            usual_colour: 0.9,
            usual_count: 0.85,
        }
    }

    /// The counterfactual world: no companions, about half of the kinds from other places, mostly
    /// unusual colours.
    ///
    /// At least one kind of each scene belongs to its place.
    pub fn counter() -> Self {
        Self { kinds: [0.3, 0.4, 0.3], of_place: 0.4, companion: None, usual_colour: 0.25, usual_count: 0.5 }
    }

    /// The world without co-occurrence: kinds, colours and counts are independent. Training a
    /// vision tower on it teaches no prior.
    pub fn uniform() -> Self {
        Self {
            kinds: [0.0, 0.0, 1.0],
            of_place: 0.25,
            companion: Some(0.0),
            usual_colour: 0.125,
            usual_count: 1.0 / 3.0,
        }
    }

    /// The usual world with fewer exceptions, for texts without pictures. Training a language model
    /// on them gives it a strong text prior.
    pub fn text_only() -> Self {
        Self { of_place: 0.96, companion: Some(0.97), usual_colour: 0.95, ..Self::usual() }
    }

    /// The kinds of a scene at this place, two to four, all different.
    pub(crate) fn sample_kinds(&self, place: Place, rng: &mut ChaCha8Rng) -> Vec<Kind> {
        let wanted = 2 + weighted(&self.kinds, rng);
        let mut kinds: Vec<Kind> = Vec::with_capacity(wanted);
        while kinds.len() < wanted {
            // The first kind always belongs to the place, so that the place is informative.
            let of_same_place = kinds.is_empty() || rng.random_bool(self.of_place);
            let fits = |kind: &&Kind| {
                let apart = self.companion.is_some() || !kinds.contains(&kind.companion());
                (kind.place() == place) == of_same_place && !kinds.contains(kind) && apart
            };
            let candidates: Vec<Kind> = Kind::ALL.iter().filter(fits).copied().collect();
            let Some(kind) = candidates.choose(rng).copied() else { continue };
            kinds.push(kind);
            let brings = self.companion.is_some_and(|probability| rng.random_bool(probability));
            if brings && kinds.len() < wanted && !kinds.contains(&kind.companion()) {
                kinds.push(kind.companion());
            }
        }
        kinds
    }

    /// The colour of all objects of one kind.
    pub(crate) fn sample_colour(&self, kind: Kind, rng: &mut ChaCha8Rng) -> Colour {
        let usual = kind.usual_colour();
        if rng.random_bool(self.usual_colour) {
            return usual;
        }
        let others: Vec<Colour> = Colour::ALL.iter().copied().filter(|colour| *colour != usual).collect();
        others[rng.random_range(0..others.len())]
    }

    /// The number of objects of one kind, from 1 to 3.
    pub(crate) fn sample_count(&self, kind: Kind, rng: &mut ChaCha8Rng) -> u8 {
        let usual = kind.usual_count();
        if rng.random_bool(self.usual_count) {
            return usual;
        }
        let others: Vec<u8> = (1..=3).filter(|count| *count != usual).collect();
        others[rng.random_range(0..others.len())]
    }
}

/// An index with a probability in proportion to its weight.
fn weighted(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Group, Scene};

    const MANY: u64 = 4000;

    fn scenes(statistics: &Statistics) -> Vec<Scene> {
        (0..MANY).map(|seed| Scene::sample(statistics, seed)).collect()
    }

    fn share<'a, T: 'a>(items: impl IntoIterator<Item = T>, holds: impl Fn(&T) -> bool) -> f64 {
        let (mut all, mut held) = (0.0, 0.0);
        for item in items {
            all += 1.0;
            held += f64::from(u8::from(holds(&item)));
        }
        held / all
    }

    fn pairs(scenes: &[Scene]) -> impl Iterator<Item = (&Scene, Group)> {
        scenes.iter().flat_map(|scene| scene.groups().into_iter().map(move |group| (scene, group)))
    }

    #[test]
    fn the_usual_world_has_the_documented_probabilities() {
        let scenes = scenes(&Statistics::usual());
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 0.03, "{found}, not {expected}");
        near(share(pairs(&scenes), |(scene, group)| scene.has(group.kind.companion())), 0.92);
        near(share(pairs(&scenes), |(_, group)| group.colour == group.kind.usual_colour()), 0.9);
        near(share(pairs(&scenes), |(scene, group)| group.kind.place() == scene.place), 0.96);
        near(pairs(&scenes).count() as f64 / MANY as f64, 3.5);
    }

    #[test]
    fn the_counterfactual_world_has_no_companions() {
        let scenes = scenes(&Statistics::counter());
        assert!(pairs(&scenes).all(|(scene, group)| !scene.has(group.kind.companion())));
        assert!(
            scenes.iter().all(|scene| scene.groups().iter().any(|group| group.kind.place() == scene.place))
        );
        let usual = share(pairs(&scenes), |(_, group)| group.colour == group.kind.usual_colour());
        assert!((usual - 0.25).abs() < 0.03, "{usual}");
        let elsewhere = share(pairs(&scenes), |(scene, group)| group.kind.place() != scene.place);
        assert!((elsewhere - 0.46).abs() < 0.03, "{elsewhere}");
    }
}
