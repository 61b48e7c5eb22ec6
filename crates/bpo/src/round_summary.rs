//! The table of the rounds in a directory.

use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::Path;

use bpo_dpo::{EvalMetrics, LogRecord, MetricsLog, StepMetrics};
use bpo_pairs::format::jsonl::read_pairs_with;
use bpo_pairs::{CompletionKind, PreferencePair, count_words};
use serde::Serialize;

use crate::error::BpoError;
use crate::ledger::Manifest;
use crate::media::RowNames;
use crate::rounds::{PREFIX as ROUND_PREFIX, RoundsError, round_dir};
use crate::stage::Stage;

/// The counts and the last metrics of a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoundSummary {
    /// Number of the round, counted from 0.
    pub round: usize,
    /// Whether the training of the round is complete.
    pub finished: bool,
    /// Number of answers of the weaken stage, the model's own included, once they are all there.
    pub weakened: Option<usize>,
    /// Number of answers with injected errors, once they are all there.
    pub injected: Option<usize>,
    /// Number of pairs, once they are made.
    pub pairs: Option<usize>,
    /// Mean number of words of the chosen answers of these pairs.
    pub chosen_words: Option<f64>,
    /// Mean number of words of the rejected answers of these pairs.
    pub rejected_words: Option<f64>,
    /// Mean number of words of those rejected answers that are about weakened images.
    pub weakened_words: Option<f64>,
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

/// Reads the summaries of all rounds in a directory, in order.
///
/// # Errors
/// Returns [`RoundsError::Missing`] if there is no round, or an error if a file cannot be read.
pub fn read_rounds(out: &Path) -> Result<Vec<RoundSummary>, BpoError> {
    let entries = match fs::read_dir(out) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        entries => entries
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(BpoError::io("read the directory", out))?,
    };
    let number = |entry: &DirEntry| -> Option<usize> {
        let round = entry.file_name().to_str()?.strip_prefix(ROUND_PREFIX)?.parse().ok()?;
        let is_name = round_dir(out, round).file_name() == Some(&entry.file_name());
        (is_name && entry.path().is_dir()).then_some(round)
    };
    let mut rounds: Vec<usize> = entries.iter().filter_map(number).collect();
    if rounds.is_empty() {
        return Err(RoundsError::Missing { path: out.to_owned() }.into());
    }
    rounds.sort_unstable();
    rounds.into_iter().map(|round| RoundSummary::read(round, &round_dir(out, round))).collect()
}

impl RoundSummary {
    fn read(round: usize, dir: &Path) -> Result<Self, BpoError> {
        let manifest = Manifest::read(&dir.join("manifest.json"))?.unwrap_or_default();
        let entry = |stage| manifest.stages.get(&stage).and_then(|entry| entry.finished.as_ref());
        let done = |stage| entry(stage).map(|summary| summary.done);
        let path = dir.join("pairs.jsonl");
        let pairs = match entry(Stage::Pair) {
            Some(_) if path.exists() => {
                read_pairs_with(&path, &RowNames::beside(&path).read_options())?.pairs
            }
            _ => Vec::new(),
        };
        let words = |answer: fn(&PreferencePair) -> &str| {
            mean(pairs.iter().map(|pair| count_words(answer(pair)) as f64))
        };
        let of_weakened = pairs.iter().filter(|pair| pair.kind == CompletionKind::ImageWeakened);
        let steps: Vec<StepMetrics> = read_metrics(&dir.join("metrics.jsonl"))?;
        let last = &steps[steps.len() - steps.len().div_ceil(10)..];
        let metric =
            |value: fn(&StepMetrics) -> f64| mean(last.iter().map(value).filter(|value| !value.is_nan()));
        Ok(Self {
            round,
            finished: entry(Stage::Train).is_some(),
            weakened: done(Stage::Weaken),
            injected: done(Stage::Inject),
            pairs: done(Stage::Pair),
            chosen_words: words(|pair| &pair.chosen),
            rejected_words: words(|pair| &pair.rejected),
            weakened_words: mean(of_weakened.map(|pair| count_words(&pair.rejected) as f64)),
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
