//! The progress of a run, and the check that a run can resume from it.

use std::collections::BTreeSet;
use std::path::Path;

use bpo_pairs::{PreferencePair, Skipped, TextHasher};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Criterion, DpoConfig};
use crate::data::Data;
use crate::error::{ConfigChange, DpoError};
use crate::metrics::EvalMetrics;

/// The progress of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the state of a trainer: an object with `step`")]
#[non_exhaustive]
pub struct TrainerState {
    /// Number of optimizer steps done.
    pub step: usize,
    /// Number of complete epochs.
    pub epoch: usize,
    /// Number of pairs done in the current epoch.
    pub cursor: usize,
    /// Number of steps skipped because a loss or gradient was not finite, or no pair could be
    /// prepared.
    pub skipped: usize,
    /// Number of consecutive skipped steps up to the last step.
    pub skipped_in_a_row: usize,
    /// Pairs that passed the check and could not be prepared; see
    /// [`Training::run`](crate::Training::run).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_pairs: Vec<Skipped>,
    /// Number of tokens so far; see [`num_tokens`](crate::StepMetrics::num_tokens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// The best evaluation so far by [`keep_best`](DpoConfig::keep_best), or by the loss if that is
    /// not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Number of evaluations after the best one.
    #[serde(default)]
    pub evaluations_since_best: usize,
    /// The settings of the run.
    pub config: DpoConfig,
    /// [Name](crate::loss::PreferenceLoss::name) of a custom loss that replaces the loss of the
    /// settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_loss: Option<String>,
    /// Fingerprint of the pairs to train on; see [`fingerprint_pairs`].
    pub pairs: String,
    /// Fingerprint of the pairs to evaluate on.
    #[serde(default)]
    pub eval_pairs: String,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Best {
    /// Number of optimizer steps before the evaluation.
    pub step: usize,
    /// Value of the criterion.
    pub value: f64,
}

impl TrainerState {
    /// Creates the state before the first step.
    pub(crate) fn start(config: DpoConfig, custom_loss: Option<String>, data: &Data) -> Self {
        Self {
            step: 0,
            epoch: 0,
            cursor: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            skipped_pairs: Vec::new(),
            tokens: None,
            best: None,
            evaluations_since_best: 0,
            config,
            custom_loss,
            pairs: fingerprint_pairs(&data.pairs),
            eval_pairs: fingerprint_pairs(&data.eval_pairs),
        }
    }

    /// Returns the progress of `recorded` with the settings of this state. Evaluations by another
    /// criterion or on other pairs are reset.
    pub(crate) fn resume(self, recorded: Self) -> Self {
        let comparable =
            recorded.config.keep_best == self.config.keep_best && recorded.eval_pairs == self.eval_pairs;
        let (best, evaluations_since_best) =
            if comparable { (recorded.best, recorded.evaluations_since_best) } else { (None, 0) };
        let Self { config, eval_pairs, .. } = self;
        Self { best, evaluations_since_best, config, eval_pairs, ..recorded }
    }

    /// Checks that the state is possible for a run with this number of pairs and steps.
    ///
    /// # Errors
    /// Returns [`DpoError::Damaged`] if it is not.
    pub(crate) fn check_range(&self, path: &Path, pairs: usize, total_steps: usize) -> Result<(), DpoError> {
        let damaged = |reason| Err(DpoError::Damaged { path: path.to_owned(), reason });
        if self.cursor >= pairs {
            return damaged(format!("its position is pair {} of {pairs}", self.cursor));
        }
        if self.step > total_steps {
            return damaged(format!("its position is step {} of {total_steps}", self.step));
        }
        Ok(())
    }

    /// Returns the number of passes through the data, in fractions of an epoch.
    pub(crate) fn epochs(&self, pairs: usize) -> f64 {
        self.epoch as f64 + self.cursor as f64 / pairs as f64
    }

    /// Records an evaluation. Returns whether it is the best so far.
    pub(crate) fn record_evaluation(&mut self, metrics: &EvalMetrics) -> bool {
        let criterion = self.config.keep_best.unwrap_or(Criterion::Loss);
        let value = criterion.value(metrics);
        // NaN is never better
        let better = !value.is_nan() && self.best.is_none_or(|best| criterion.is_better(value, best.value));
        if better {
            self.best = Some(Best { step: metrics.step, value });
        }
        self.evaluations_since_best = if better { 0 } else { self.evaluations_since_best + 1 };
        better
    }

    /// Returns whether [`patience`](DpoConfig::patience) consecutive evaluations were not better
    /// than the best one.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.config.patience.is_some_and(|patience| self.evaluations_since_best >= patience)
    }

    /// Records a step that used `taken` of the `pairs` of an epoch.
    pub(crate) fn advance(&mut self, taken: usize, pairs: usize, finite: bool) {
        self.step += 1;
        self.cursor += taken;
        if self.cursor == pairs {
            self.epoch += 1;
            self.cursor = 0;
        }
        self.skipped += usize::from(!finite);
        self.skipped_in_a_row = if finite { 0 } else { self.skipped_in_a_row + 1 };
    }
}

/// Checks that a run can resume from a checkpoint: the pairs, the loss and the settings that affect
/// the steps must be the same.
///
/// # Errors
/// Returns [`DpoError::ConfigChanged`] with all changed settings, or [`DpoError::DataChanged`] if
/// the pairs differ.
pub fn check_same_run(path: &Path, recorded: &TrainerState, current: &TrainerState) -> Result<(), DpoError> {
    let mut changes = changes(&recorded.config, &current.config)
        .map_err(|source| DpoError::Json { path: path.to_owned(), source })?;
    if recorded.custom_loss != current.custom_loss {
        let name =
            |state: &TrainerState| state.custom_loss.clone().unwrap_or_else(|| state.config.loss.to_string());
        changes.push(ConfigChange { key: "loss".into(), old: name(recorded), new: name(current) });
    }
    if !changes.is_empty() {
        return Err(DpoError::ConfigChanged { path: path.to_owned(), changes });
    }
    if recorded.pairs != current.pairs {
        let (expected, found) = (recorded.pairs.clone(), current.pairs.clone());
        return Err(DpoError::DataChanged { path: path.to_owned(), expected, found });
    }
    Ok(())
}

/// Returns the SHA-256 fingerprint of pairs and their order, in hexadecimal.
pub fn fingerprint_pairs(pairs: &[PreferencePair]) -> String {
    let mut texts = TextHasher::default();
    for pair in pairs {
        texts.add(&pair.id);
        texts.add(&pair.images.len().to_string());
        pair.images.iter().for_each(|image| texts.add(image));
        texts.add(&pair.history.len().to_string());
        for turn in &pair.history {
            texts.add(&turn.prompt);
            texts.add(&turn.answer);
        }
        texts.add(&pair.prompt);
        texts.add(&pair.chosen);
        texts.add(&pair.rejected);
        texts.add(pair.kind.as_str());
        for (name, value) in [("margin", pair.margin), ("beta", pair.beta)] {
            value.iter().for_each(|value| texts.add(&format!("{name} {value}")));
        }
        // only if there is a system text, so that other pairs keep their fingerprint
        if let Some(system) = &pair.system {
            texts.add("system");
            texts.add(system);
        }
        // likewise
        if pair.contrast_answer.is_some() || !pair.contrast_images.is_empty() {
            texts.add("contrast");
            texts.add(&pair.contrast_images.len().to_string());
            pair.contrast_images.iter().for_each(|image| texts.add(image));
            texts.add(pair.contrast_answer.as_deref().unwrap_or_default());
        }
    }
    texts.fingerprint().to_string()
}

fn changes(recorded: &DpoConfig, current: &DpoConfig) -> Result<Vec<ConfigChange>, serde_json::Error> {
    let recorded = serde_json::to_value(recorded)?;
    // a float may change in its last bit in JSON, so `current` is also converted to JSON and back
    let current: Value = serde_json::from_slice(&serde_json::to_vec(current)?)?;
    // an optional setting that is not set may be missing
    let keys =
        [&recorded, &current].into_iter().filter_map(Value::as_object).flat_map(|settings| settings.keys());
    let affects_steps = |key: &&String| !DpoConfig::AFFECTS_NO_STEP.contains(&key.as_str());
    let keys = keys.filter(affects_steps).collect::<BTreeSet<_>>();
    let differing = keys.into_iter().filter(|key| recorded[*key] != current[*key]);
    Ok(differing
        .map(|key| ConfigChange {
            key: key.clone(),
            old: recorded[key].to_string(),
            new: current[key].to_string(),
        })
        .collect())
}
