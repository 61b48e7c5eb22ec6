//! The table of the rounds in a directory.

use std::path::{Path, PathBuf};

use bpo_dpo::{EvalMetrics, LogRecord, MetricsLog, StepMetrics};
use bpo_pairs::format::jsonl::read_pairs_with;
use bpo_pairs::{PreferencePair, count_words};
use serde::Serialize;

use crate::error::BpoError;
use crate::ledger::Manifest;
use crate::media::RowNames;
use crate::rounds::round_dir;
use crate::stage::Stage;

/// The counts and the last metrics of a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoundSummary {
    /// Number of the round, counted from 0.
    pub round: usize,
    /// Whether the result of the round is written.
    pub finished: bool,
    /// Number of answers about weakened images.
    pub weakened: usize,
    /// Number of answers with injected errors.
    pub injected: usize,
    /// Number of pairs.
    pub pairs: usize,
    /// Mean number of words of the chosen answers of these pairs.
    pub chosen_words: Option<f64>,
    /// Mean number of words of the rejected answers of these pairs.
    pub rejected_words: Option<f64>,
    /// Number of training steps.
    pub steps: usize,
    /// Loss in the last tenth of the steps.
    pub loss: Option<f64>,
    /// Margin of the rewards in the last tenth of the steps. The reference is the model that the round
    /// started from.
    pub margins: Option<f64>,
    /// Share of the pairs in the last tenth of the steps whose chosen answer has the higher reward.
    pub accuracies: Option<f64>,
    /// Log-probability of the chosen answers in the last tenth of the steps, in nats.
    pub logps_chosen: Option<f64>,
    /// The last evaluation on pairs that are not trained on.
    pub evaluation: Option<EvalMetrics>,
}

/// Reads the summaries of all rounds in a directory.
///
/// # Errors
/// Returns [`BpoError::NotRounds`] if there is no round, or an error if a file cannot be read.
pub fn read_rounds(out: &Path) -> Result<Vec<RoundSummary>, BpoError> {
    let dirs: Vec<PathBuf> =
        (0..).map(|round| round_dir(out, round)).take_while(|dir| dir.is_dir()).collect();
    if dirs.is_empty() {
        return Err(BpoError::NotRounds { path: out.to_owned() });
    }
    dirs.iter().enumerate().map(|(round, dir)| RoundSummary::read(round, dir)).collect()
}

impl RoundSummary {
    fn read(round: usize, dir: &Path) -> Result<Self, BpoError> {
        let manifest = Manifest::read(&dir.join("manifest.json"))?.unwrap_or_default();
        let entry = |stage| manifest.stages.get(&stage).and_then(|entry| entry.finished.as_ref());
        let done = |stage| entry(stage).map_or(0, |summary| summary.done);
        let path = dir.join("pairs.jsonl");
        let pairs = match entry(Stage::Pair) {
            Some(_) => read_pairs_with(&path, &RowNames::beside(&path).read_options())?.pairs,
            None => Vec::new(),
        };
        let words = |answer: fn(&PreferencePair) -> &str| {
            mean(pairs.iter().map(|pair| count_words(answer(pair)) as f64))
        };
        let steps: Vec<StepMetrics> = read_metrics(&dir.join("metrics.jsonl"))?;
        let last = &steps[steps.len() - steps.len().div_ceil(10)..];
        let metric =
            |value: fn(&StepMetrics) -> f64| mean(last.iter().map(value).filter(|value| !value.is_nan()));
        Ok(Self {
            round,
            finished: entry(Stage::Train).is_some(),
            weakened: done(Stage::Weaken),
            injected: done(Stage::Inject),
            pairs: pairs.len(),
            chosen_words: words(|pair| &pair.chosen),
            rejected_words: words(|pair| &pair.rejected),
            steps: steps.len(),
            loss: metric(|step| step.loss),
            margins: metric(|step| step.rewards_margins),
            accuracies: metric(|step| step.rewards_accuracies),
            logps_chosen: metric(|step| step.logps_chosen),
            evaluation: read_metrics(&dir.join("eval.jsonl"))?.pop(),
        })
    }
}

/// Reads a log of metrics. A file that does not exist has none.
fn read_metrics<F: LogRecord>(path: &Path) -> Result<Vec<F>, BpoError> {
    if path.exists() { Ok(MetricsLog::read(path)?) } else { Ok(Vec::new()) }
}

/// Returns the mean, or `None` without values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
