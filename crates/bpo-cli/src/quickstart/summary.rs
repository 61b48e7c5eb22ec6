//! `summary.json`: all results of a run.

use std::collections::BTreeMap;

use bpo::BpoError;
use bpo::eval::{
    Bootstrap, ChairDifferences, ChairItem, ChairMetric, ChairReport, Estimate, PopeReport, relative_change,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::evaluation::Scored;
use super::inputs::Inputs;

/// The metrics of the tables: name in the summary, and label.
pub const MAIN_METRICS: [(&str, &str); 5] = [
    ("chair_i", "CHAIR_i"),
    ("chair_s", "CHAIR_s"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("yes_no_accuracy", "yes/no"),
];

/// All results of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The inputs of the run.
    #[serde(flatten)]
    pub inputs: Inputs,
    /// Quality of the answers about weakened images.
    pub weakened: Weakened,
    /// Number of training pairs.
    pub pairs: usize,
    /// Number of optimizer steps of each training.
    pub steps: usize,
    /// Metrics by split. In JSON `held-out` is `held_out`.
    #[serde(serialize_with = "with_underscores")]
    pub splits: BTreeMap<&'static str, Split>,
    /// Run time in seconds, by part.
    pub seconds: BTreeMap<String, f64>,
}

fn with_underscores<S: Serializer>(
    splits: &BTreeMap<&'static str, Split>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(splits.iter().map(|(name, split)| (name.replace('-', "_"), split)))
}

/// The answers about weakened images. They should mention common objects instead of those in the
/// image.
#[derive(Clone, Debug, Serialize)]
pub struct Weakened {
    /// The distortion of the images.
    pub distortion: String,
    /// Remaining fraction of the image's signal power, from 0 to 1.
    pub alpha_bar: f64,
    /// Number of descriptions among the answers.
    pub answers: usize,
    /// CHAIR_i of these descriptions.
    pub chair_i: Option<f64>,
    /// Recall of these descriptions.
    pub recall: Option<f64>,
}

/// The metrics of each model on one split: `before`, `after` and those of other trainings.
#[derive(Clone, Debug, Serialize)]
pub struct Split {
    /// Metrics by model.
    #[serde(flatten)]
    pub models: BTreeMap<&'static str, Metrics>,
    /// Relative change of CHAIR_i from another model to `after`: -0.4 is 40 % less.
    pub change: BTreeMap<&'static str, Estimate>,
    /// Differences of another model from `after`: a share of 0.1 is ten points more than BPO's.
    pub differences: BTreeMap<&'static str, ChairDifferences>,
}

/// The metrics of one model on one split, by name: fractions from 0 to 1, and the number of words
/// per description. In JSON a metric is a number or `null`, and `intervals` has the 95 % bootstrap
/// intervals over the images.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<&'static str, Estimate>);

impl Metrics {
    /// The metrics of a model's answers about one split.
    pub fn new(scored: &Scored) -> Self {
        let chair = ChairReport::new(&scored.chair, Bootstrap::default());
        let presence = PopeReport::new(&scored.presence, Bootstrap::default());
        Self(BTreeMap::from([
            ("chair_i", chair.chair_i),
            ("chair_s", chair.chair_s),
            ("recall", chair.recall),
            ("precision", chair.precision),
            ("f1", chair.f1),
            ("words", chair.words),
            ("yes_no_accuracy", presence.accuracy),
            ("yes_no_f1", presence.f1),
            ("yes_ratio", presence.yes_ratio),
        ]))
    }

    /// A metric by its name.
    pub fn get(&self, name: &str) -> Estimate {
        self.0.get(name).copied().unwrap_or_default()
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len() + 1))?;
        for (name, estimate) in &self.0 {
            map.serialize_entry(name, &estimate.value)?;
        }
        let intervals: BTreeMap<_, _> =
            self.0.iter().map(|(name, Estimate { low, high, .. })| (name, [low, high])).collect();
        map.serialize_entry("intervals", &intervals)?;
        map.end()
    }
}

/// The relative changes of CHAIR_i from each of the other models to `after`, on the same images.
///
/// # Errors
/// Returns an error if the answers are about other images.
pub fn changes<'a>(
    after: &[ChairItem],
    others: impl IntoIterator<Item = (&'static str, &'a [ChairItem])>,
) -> Result<BTreeMap<&'static str, Estimate>, BpoError> {
    let change = |(name, before): (&'static str, &[ChairItem])| {
        Ok((name, relative_change(ChairMetric::ChairI, before, after, &Bootstrap::default())?))
    };
    others.into_iter().map(change).collect()
}

/// The differences of each of the other models from `after`, on the same images.
///
/// # Errors
/// Returns an error if the answers are about other images.
pub fn differences<'a>(
    after: &[ChairItem],
    others: impl IntoIterator<Item = (&'static str, &'a [ChairItem])>,
) -> Result<BTreeMap<&'static str, ChairDifferences>, BpoError> {
    let difference = |(name, other): (&'static str, &[ChairItem])| {
        Ok((name, ChairDifferences::new(after, other, &Bootstrap::default())?))
    };
    others.into_iter().map(difference).collect()
}
