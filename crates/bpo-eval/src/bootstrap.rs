//! Percentile bootstrap over items (Efron, 1979): the sampling uncertainty of a metric.

use bpo_pairs::{Limits, OverLimit};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Settings of bootstrap intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Number of resamples, drawn with replacement. Default: 1000, this project's choice.
    #[serde(deserialize_with = "bounded")]
    pub resamples: usize,
    /// Confidence level, from 0 to 1. Default: 0.95.
    pub level: f64,
    /// Seed of the resampling. The same seed gives the same intervals. Default: 42.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1000, level: 0.95, seed: 42 }
    }
}

/// The value of a metric with its interval. All fields are `None` if the metric is undefined: a
/// share of an empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value on the original items.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Bootstrap {
    /// Sets the number of resamples.
    ///
    /// # Errors
    /// Returns [`OverLimit`] above [`Limits::resamples`].
    pub fn with_resamples(mut self, resamples: usize) -> Result<Self, OverLimit> {
        Limits::check("resamples", resamples, Limits::DEFAULT.resamples)?;
        self.resamples = resamples;
        Ok(self)
    }

    /// Sets the seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Estimates a metric of `items` items. `metric` gets the indices of the resampled items, which
    /// may repeat.
    ///
    /// Resamples in which the metric is undefined do not count in the interval.
    pub fn estimate(&self, items: usize, metric: impl Fn(&[usize]) -> Option<f64>) -> Estimate {
        let all: Vec<usize> = (0..items).collect();
        let value = metric(&all);
        if items == 0 || value.is_none() {
            return Estimate { value, low: None, high: None };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = vec![0; items];
        let mut values: Vec<f64> = (0..self.resamples)
            .filter_map(|_| {
                drawn.iter_mut().for_each(|index| *index = rng.random_range(0..items));
                metric(&drawn)
            })
            .collect();
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Estimate { value, low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
    }
}

fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bootstrap = Bootstrap::default().with_resamples(usize::deserialize(deserializer)?);
    bootstrap.map(|bootstrap| bootstrap.resamples).map_err(D::Error::custom)
}

/// The quantile, with linear interpolation between the two nearest values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean(values: &[f64]) -> impl Fn(&[usize]) -> Option<f64> + '_ {
        |items| Some(items.iter().map(|&item| values[item]).sum::<f64>() / items.len() as f64)
    }

    #[test]
    fn the_interval_of_a_mean_agrees_with_theory() {
        // 400 tosses of a fair coin have a standard error of 0.025.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let Estimate { value, low, high } = Bootstrap::default().estimate(400, mean(&values));
        assert_eq!(value, Some(0.5));
        assert!(
            (low.unwrap() - 0.451).abs() < 0.01 && (high.unwrap() - 0.549).abs() < 0.01,
            "{low:?} {high:?}"
        );
    }

    #[test]
    fn resamples_are_limited() {
        let error = Bootstrap::default().with_resamples(1_000_000_000).unwrap_err();
        assert_eq!(error.to_string(), "`resamples` is 1000000000, above the limit of 1000000");
        let read = |json: &str| serde_json::from_str::<Bootstrap>(json);
        assert_eq!(read(r#"{"resamples": 50}"#).unwrap().resamples, 50);
        assert!(read(r#"{"resamples": 1000000000}"#).is_err());
    }

    #[test]
    fn an_undefined_metric_has_no_interval() {
        assert_eq!(Bootstrap::default().estimate(0, |_| None), Estimate::default());
        assert_eq!(Bootstrap::default().estimate(3, |_| None), Estimate::default());
    }

    proptest! {
        #[test]
        fn intervals_stay_within_the_values(values in prop::collection::vec(-5.0..5.0f64, 1..40), seed: u64) {
            let bootstrap = Bootstrap::default().with_resamples(200).unwrap().with_seed(seed);
            let estimate = bootstrap.estimate(values.len(), mean(&values));
            prop_assert_eq!(estimate, bootstrap.estimate(values.len(), mean(&values)));
            let (value, low, high) = (estimate.value.unwrap(), estimate.low.unwrap(), estimate.high.unwrap());
            prop_assert!(low <= high);
            let (least, most) = values.iter().fold((5.0f64, -5.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
            prop_assert!(least - 1e-9 <= low && high <= most + 1e-9 && least - 1e-9 <= value && value <= most + 1e-9);
        }

        #[test]
        fn a_constant_has_an_interval_of_width_zero(value in -5.0..5.0f64, count in 1usize..30) {
            let values = vec![value; count];
            let estimate = Bootstrap::default().with_resamples(50).unwrap().estimate(count, mean(&values));
            prop_assert!((estimate.high.unwrap() - estimate.low.unwrap()).abs() < 1e-9);
        }
    }
}
