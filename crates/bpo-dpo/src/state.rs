//! The progress of a run, and whether a run can resume from it.

use std::collections::BTreeSet;
use std::path::Path;

use bpo_pairs::{PreferencePair, Skipped, TextHasher};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Criterion, DpoConfig};
use crate::data::Data;
use crate::error::{Change, DpoError};
use crate::metrics::EvalMetrics;

/// Progress of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the state of a trainer: an object with `step`")]
#[non_exhaustive]
pub struct TrainerState {
    /// Optimizer steps done.
    pub step: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Pairs done in the epoch after them.
    pub cursor: usize,
    /// Steps skipped because a loss or gradient was not finite, or no pair could be prepared.
    pub skipped: usize,
    /// Skipped steps in a row, up to the last step.
    pub skipped_in_a_row: usize,
    /// Pairs that passed the check and could not be prepared; see
    /// [`Training::run`](crate::Training::run).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_pairs: Vec<Skipped>,
    /// Tokens so far, see [`num_tokens`](crate::StepMetrics::num_tokens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// The best evaluation so far: by [`keep_best`](DpoConfig::keep_best), or by the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Evaluations since then.
    #[serde(default)]
    pub evaluations_since_best: usize,
    /// Settings of the run.
    pub config: DpoConfig,
    /// [Name](crate::loss::PreferenceLoss::name) of the loss, if it is not that of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_loss: Option<String>,
    /// Fingerprint of the pairs, see [`fingerprint_pairs`].
    pub pairs: String,
    /// The same of the pairs that are evaluated on.
    #[serde(default)]
    pub eval_pairs: String,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Best {
    /// Optimizer steps before it.
    pub step: usize,
    /// Its value of the criterion.
    pub value: f64,
}

impl TrainerState {
    /// The state before the first step.
    pub(crate) fn start(config: DpoConfig, own_loss: Option<String>, data: &Data) -> Self {
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
            own_loss,
            pairs: fingerprint_pairs(&data.pairs),
            eval_pairs: fingerprint_pairs(&data.eval_pairs),
        }
    }

    /// The progress of `then` with the settings of this state. Evaluations under another criterion
    /// or on other pairs are forgotten.
    pub(crate) fn resume(self, then: Self) -> Self {
        let comparable = then.config.keep_best == self.config.keep_best && then.eval_pairs == self.eval_pairs;
        let (best, evaluations_since_best) =
            if comparable { (then.best, then.evaluations_since_best) } else { (None, 0) };
        let Self { config, eval_pairs, .. } = self;
        Self { best, evaluations_since_best, config, eval_pairs, ..then }
    }

    /// Checks that the state is one of a run with so many pairs and steps.
    ///
    /// # Errors
    /// [`DpoError::Damaged`].
    pub(crate) fn check_range(&self, path: &Path, pairs: usize, total_steps: usize) -> Result<(), DpoError> {
        let damaged = |reason| Err(DpoError::Damaged { path: path.to_owned(), reason });
        if self.cursor >= pairs {
            return damaged(format!("it is at pair {} of {pairs}", self.cursor));
        }
        if self.step > total_steps {
            return damaged(format!("it is at step {} of {total_steps}", self.step));
        }
        Ok(())
    }

    /// Passes through the data, in fractions of an epoch.
    pub(crate) fn epochs(&self, pairs: usize) -> f64 {
        self.epoch as f64 + self.cursor as f64 / pairs as f64
    }

    /// Records an evaluation. Gives whether it is the best so far.
    pub(crate) fn judge(&mut self, metrics: &EvalMetrics) -> bool {
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

    /// Whether [`patience`](DpoConfig::patience) evaluations in a row were no better than the best.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.config.patience.is_some_and(|patience| self.evaluations_since_best >= patience)
    }

    /// Counts a step that took some of the pairs of an epoch.
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

/// Checks that a run can resume from a checkpoint: that the settings that affect its steps and the
/// pairs are the same.
///
/// # Errors
/// [`DpoError::ConfigChanged`] with each changed setting; [`DpoError::DataChanged`].
pub fn check_same_run(path: &Path, then: &TrainerState, now: &TrainerState) -> Result<(), DpoError> {
    let mut changes = changes(&then.config, &now.config)
        .map_err(|source| DpoError::Json { path: path.to_owned(), source })?;
    if then.own_loss != now.own_loss {
        let name =
            |state: &TrainerState| state.own_loss.clone().unwrap_or_else(|| state.config.loss.to_string());
        changes.push(Change { key: "loss".into(), then: name(then), now: name(now) });
    }
    if !changes.is_empty() {
        return Err(DpoError::ConfigChanged { path: path.to_owned(), changes });
    }
    if then.pairs != now.pairs {
        let (expected, found) = (then.pairs.clone(), now.pairs.clone());
        return Err(DpoError::DataChanged { path: path.to_owned(), expected, found });
    }
    Ok(())
}

/// Fingerprint of pairs and of their order: SHA-256, in hexadecimal.
pub fn fingerprint_pairs(pairs: &[PreferencePair]) -> String {
    let mut texts = TextHasher::default();
    for pair in pairs {
        texts.add(&pair.id);
        texts.add(&pair.image);
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
        // only where there is one, so that other pairs keep their fingerprint
        if let Some(system) = &pair.system {
            texts.add("system");
            texts.add(system);
        }
    }
    texts.fingerprint().to_string()
}

fn changes(then: &DpoConfig, now: &DpoConfig) -> Result<Vec<Change>, serde_json::Error> {
    let then = serde_json::to_value(then)?;
    // `then` went through text, where a float may change in its last bit: so let `now`
    let now: Value = serde_json::from_slice(&serde_json::to_vec(now)?)?;
    // a setting that is not set may not be there at all
    let keys = [&then, &now].into_iter().filter_map(Value::as_object).flat_map(|settings| settings.keys());
    let affects_steps = |key: &&String| !DpoConfig::AFFECTS_NO_STEP.contains(&key.as_str());
    let keys = keys.filter(affects_steps).collect::<BTreeSet<_>>();
    let differing = keys.into_iter().filter(|key| then[*key] != now[*key]);
    Ok(differing
        .map(|key| Change { key: key.clone(), then: then[key].to_string(), now: now[key].to_string() })
        .collect())
}
