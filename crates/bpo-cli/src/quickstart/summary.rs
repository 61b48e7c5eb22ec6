//! `summary.json`: all figures of a run.

use std::collections::BTreeMap;

use bpo::BpoError;
use bpo::eval::{Bootstrap, ChairItem, ChairMetric, ChairReport, Estimate, PopeReport, relative_change};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::begun::Begun;
use super::evaluation::Scored;

/// The figures that tables show first: name, label.
pub const MAIN_FIGURES: [(&str, &str); 5] = [
    ("chair_i", "CHAIR_i"),
    ("chair_s", "CHAIR_s"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("yes_no_accuracy", "yes/no"),
];

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What decides about pictures and model.
    #[serde(flatten)]
    pub begun: Begun,
    /// What the answers about weakened images are like.
    pub weakened: Weakened,
    /// Pairs trained on.
    pub pairs: usize,
    /// Optimizer steps of each training.
    pub steps: usize,
    /// What was found, by split; in JSON `held-out` is `held_out`.
    #[serde(serialize_with = "with_underscores")]
    pub splits: BTreeMap<&'static str, Split>,
    /// What took how long.
    pub seconds: BTreeMap<String, f64>,
}

fn with_underscores<S: Serializer>(
    splits: &BTreeMap<&'static str, Split>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(splits.iter().map(|(name, split)| (name.replace('-', "_"), split)))
}

/// The answers about weakened images, which should name what is common and not what is there.
#[derive(Clone, Debug, Serialize)]
pub struct Weakened {
    /// What was done to the images.
    pub distortion: String,
    /// How much of the image's power is left, from 0 to 1.
    pub alpha_bar: f64,
    /// Descriptions among the answers.
    pub answers: usize,
    /// Of these.
    pub chair_i: Option<f64>,
    /// Of these.
    pub recall: Option<f64>,
}

/// The figures of each model on one split: `before`, `after` and those of other trainings.
#[derive(Clone, Debug, Serialize)]
pub struct Split {
    /// By the model's name.
    #[serde(flatten)]
    pub models: BTreeMap<&'static str, Figures>,
    /// CHAIR_i of `after` relative to that of another model, -0.4 for 40 % less.
    pub change: BTreeMap<&'static str, Estimate>,
}

/// The figures of one model on one split, by name: shares from 0 to 1, and the words of a description. In JSON a figure is
/// a number, `null` where there is none, and `intervals` has the 95 % bootstrap intervals over the images.
#[derive(Clone, Debug)]
pub struct Figures(BTreeMap<&'static str, Estimate>);

impl Figures {
    /// Of a model's answers about one split.
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

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Estimate {
        self.0.get(name).copied().unwrap_or_default()
    }
}

impl Serialize for Figures {
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

/// CHAIR_i of `after` relative to each of the other models on the same images.
///
/// # Errors
/// If the answers are not about the same images.
pub fn changes<'a>(
    after: &[ChairItem],
    others: impl IntoIterator<Item = (&'static str, &'a [ChairItem])>,
) -> Result<BTreeMap<&'static str, Estimate>, BpoError> {
    let change = |(name, before): (&'static str, &[ChairItem])| {
        Ok((name, relative_change(ChairMetric::ChairI, before, after, &Bootstrap::default())?))
    };
    others.into_iter().map(change).collect()
}
