//! The shares of the kinds of errors.

use bpo_pairs::{item_seed, unit_interval};
use serde::{Deserialize, Serialize};

use super::ErrorKind;
use crate::InjectError;

/// Weights of the kinds of errors. The kind of an answer is drawn from its seed, among the kinds
/// that [fit](ErrorKind::fits) it, with these weights.
///
/// Without any weight in the settings, all errors are of the kind [`Free`](ErrorKind::Free), as in
/// the authors' code. If one weight is set, all others are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KindWeights {
    /// Weight of [`ErrorKind::ObjectAdded`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub object_added: f64,
    /// Weight of [`ErrorKind::ObjectRemoved`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub object_removed: f64,
    /// Weight of [`ErrorKind::ObjectSwapped`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub object_swapped: f64,
    /// Weight of [`ErrorKind::Attribute`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub attribute: f64,
    /// Weight of [`ErrorKind::Count`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub count: f64,
    /// Weight of [`ErrorKind::Position`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub position: f64,
    /// Weight of [`ErrorKind::Text`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub text: f64,
    /// Weight of [`ErrorKind::Free`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub free: f64,
}

/// Returns whether a weight is 0, for serde's `skip_serializing_if`.
fn is_none(weight: &f64) -> bool {
    *weight == 0.0
}

impl Default for KindWeights {
    fn default() -> Self {
        Self::none().with(ErrorKind::Free, 1.0)
    }
}

impl KindWeights {
    /// Returns weights of 0, to which [`with`](Self::with) adds others.
    pub fn none() -> Self {
        Self {
            object_added: 0.0,
            object_removed: 0.0,
            object_swapped: 0.0,
            attribute: 0.0,
            count: 0.0,
            position: 0.0,
            text: 0.0,
            free: 0.0,
        }
    }

    /// Sets the weight of one kind.
    #[must_use]
    pub fn with(mut self, kind: ErrorKind, weight: f64) -> Self {
        *self.place(kind) = weight;
        self
    }

    /// Returns the weight of one kind.
    pub fn get(&self, kind: ErrorKind) -> f64 {
        *self.clone().place(kind)
    }

    fn place(&mut self, kind: ErrorKind) -> &mut f64 {
        match kind {
            ErrorKind::ObjectAdded => &mut self.object_added,
            ErrorKind::ObjectRemoved => &mut self.object_removed,
            ErrorKind::ObjectSwapped => &mut self.object_swapped,
            ErrorKind::Attribute => &mut self.attribute,
            ErrorKind::Count => &mut self.count,
            ErrorKind::Position => &mut self.position,
            ErrorKind::Text => &mut self.text,
            ErrorKind::Free => &mut self.free,
        }
    }

    /// Returns the kinds with a weight above 0.
    pub fn used(&self) -> impl Iterator<Item = ErrorKind> + '_ {
        ErrorKind::ALL.into_iter().filter(|&kind| self.get(kind) > 0.0)
    }

    /// Checks that all weights are finite and not negative, and that one is above 0.
    ///
    /// # Errors
    /// Returns [`InjectError::Setting`].
    pub fn validate(&self) -> Result<(), InjectError> {
        let broken = |found: String| InjectError::Setting {
            key: "kinds",
            expected: "numbers from 0 to 1e9, of which one is above 0",
            found,
        };
        for kind in ErrorKind::ALL {
            let weight = self.get(kind);
            if !(0.0..=1e9).contains(&weight) {
                return Err(broken(format!("{weight} for {kind}")));
            }
        }
        if self.used().next().is_none() { Err(broken("only zeros".to_owned())) } else { Ok(()) }
    }

    /// Draws the kind of error for an answer from the seed of its request. Returns `None` if no kind
    /// with a weight fits the answer.
    pub fn draw(&self, answer: &str, seed: u64) -> Option<ErrorKind> {
        let fitting: Vec<ErrorKind> = self.used().filter(|kind| kind.fits(answer)).collect();
        let total: f64 = fitting.iter().map(|&kind| self.get(kind)).sum();
        let mut left = unit_interval(item_seed(seed, "error-kind")) * total;
        for &kind in &fitting {
            left -= self.get(kind);
            if left < 0.0 {
                return Some(kind);
            }
        }
        // rounding may leave a remainder
        fitting.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FITS_ALL: &str = "Two cups stand to the left of a sign that says \"STOP\".";

    #[test]
    fn settings_without_weights_are_free_and_one_weight_excludes_the_others() {
        assert_eq!(KindWeights::default().used().collect::<Vec<_>>(), [ErrorKind::Free]);
        let only: KindWeights = serde_json::from_str(r#"{"count": 2}"#).unwrap();
        assert_eq!(only, KindWeights::none().with(ErrorKind::Count, 2.0));
        assert_eq!(serde_json::to_string(&only).unwrap(), r#"{"count":2.0}"#);
        assert!(serde_json::from_str::<KindWeights>(r#"{"counts": 2}"#).is_err());
    }

    #[test]
    fn weights_that_cannot_be_drawn_from_are_refused() {
        let with = |weight| KindWeights::none().with(ErrorKind::Text, weight).validate();
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(with(bad).is_err(), "{bad}");
        }
        with(0.5).unwrap();
    }

    #[test]
    fn shares_follow_the_weights_among_the_kinds_that_fit() {
        let weights = KindWeights::none()
            .with(ErrorKind::Count, 3.0)
            .with(ErrorKind::Attribute, 2.0)
            .with(ErrorKind::Position, 5.0);
        let shares = |answer: &str| {
            let mut counts = [0.0_f64; 3];
            for seed in 0..20_000 {
                let kind = weights.draw(answer, seed).unwrap();
                let at = [ErrorKind::Count, ErrorKind::Attribute, ErrorKind::Position];
                counts[at.iter().position(|&known| known == kind).unwrap()] += 1.0 / 20_000.0;
            }
            counts
        };
        for (found, expected) in
            [(shares(FITS_ALL), [0.3, 0.2, 0.5]), (shares("Two red cups."), [0.6, 0.4, 0.0])]
        {
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 0.015, "{found} instead of {expected}");
            }
        }
        assert_eq!(KindWeights::none().with(ErrorKind::Count, 1.0).draw("A cup.", 0), None);
    }

    proptest! {
        #[test]
        fn only_weighted_kinds_that_fit_are_drawn(answer: String, seed: u64, given in prop::collection::vec(0_u8..3, 8)) {
            let weights = ErrorKind::ALL.into_iter().zip(given).fold(KindWeights::none(), |weights, (kind, weight)| {
                weights.with(kind, f64::from(weight))
            });
            match weights.draw(&answer, seed) {
                Some(kind) => prop_assert!(weights.get(kind) > 0.0 && kind.fits(&answer)),
                None => prop_assert!(weights.used().all(|kind| !kind.fits(&answer))),
            }
        }
    }
}
