//! Where a run stands, on disk.
//!
//! ```text
//! checkpoints/step-000010/trainable.safetensors   parameters that require a gradient
//!                         optimizer.safetensors   state of AdamW
//!                         reference.safetensors   the reference's parameters, where it follows the policy
//!                         trainer_state.json           [`TrainerState`]
//! ```
//!
//! A checkpoint is written into a directory of another name, which is renamed when all of it is on disk. So a process
//! killed at any moment leaves either the whole checkpoint or none.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bpo_pairs::record::PreferencePair;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Criterion, DpoConfig};
use crate::data::Data;
use crate::digest::Texts;
use crate::error::{Change, DpoError};
use crate::files::{remove_dir, sync_dir, write};
use crate::metrics::EvalMetrics;

const TRAINABLE: &str = "trainable.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference.safetensors";
const PROGRESS: &str = "trainer_state.json";
const UNFINISHED: &str = "unfinished";
const PREFIX: &str = "step-";

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the progress of a run: an object with `step`")]
#[non_exhaustive]
pub struct TrainerState {
    /// Optimizer steps done.
    pub step: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Pairs done in the epoch after them.
    pub cursor: usize,
    /// Steps left out because something was not finite.
    pub skipped: usize,
    /// Of these, the last ones in a row.
    pub skipped_in_a_row: usize,
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

/// An evaluation that none was better than.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Best {
    /// Optimizer steps before it.
    pub step: usize,
    /// What it was good in.
    pub value: f64,
}

impl TrainerState {
    /// The beginning of a run.
    pub(crate) fn start(config: DpoConfig, own_loss: Option<String>, data: &Data) -> Self {
        Self {
            step: 0,
            epoch: 0,
            cursor: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            tokens: None,
            best: None,
            evaluations_since_best: 0,
            config,
            own_loss,
            pairs: fingerprint_pairs(&data.pairs),
            eval_pairs: fingerprint_pairs(&data.eval_pairs),
        }
    }

    /// Goes on where `then` was, with the settings of now. Evaluations are counted anew where they are not comparable.
    pub(crate) fn resume(self, then: Self) -> Self {
        let comparable = then.config.keep_best == self.config.keep_best && then.eval_pairs == self.eval_pairs;
        let (best, evaluations_since_best) = match comparable {
            true => (then.best, then.evaluations_since_best),
            false => (None, 0),
        };
        let Self { config, eval_pairs, .. } = self;
        Self { best, evaluations_since_best, config, eval_pairs, ..then }
    }

    /// Passes through the data, in parts of an epoch.
    pub(crate) fn epochs(&self, pairs: usize) -> f64 {
        self.epoch as f64 + self.cursor as f64 / pairs as f64
    }

    /// Takes an evaluation into account; whether it is the best one.
    pub(crate) fn judge(&mut self, metrics: &EvalMetrics) -> bool {
        let criterion = self.config.keep_best.unwrap_or(Criterion::Loss);
        let value = criterion.value(metrics);
        // what is no number is never better
        let better = !value.is_nan() && self.best.is_none_or(|best| criterion.is_better(value, best.value));
        if better {
            self.best = Some(Best { step: metrics.step, value });
        }
        self.evaluations_since_best = if better { 0 } else { self.evaluations_since_best + 1 };
        better
    }

    /// Whether enough evaluations in a row were no better.
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

/// All that a run needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// How far it has come.
    pub progress: TrainerState,
    /// What [`save_trainable`](crate::save_trainable) gave.
    pub trainable: Vec<u8>,
    /// What [`PathOptimizer::to_bytes`](crate::PathOptimizer::to_bytes) gave.
    pub optimizer: Vec<u8>,
    /// Parameters of a [moving](crate::ReferenceSync) reference, in the same form as `trainable`.
    pub reference: Option<Vec<u8>>,
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    root: PathBuf,
}

impl CheckpointDir {
    /// `checkpoints/` in a run directory. Nothing is touched.
    pub fn new(run_dir: &Path) -> Self {
        Self { root: run_dir.join("checkpoints") }
    }

    /// The directory of a step.
    pub fn path(&self, step: usize) -> PathBuf {
        self.root.join(format!("{PREFIX}{step:06}"))
    }

    /// Writes a checkpoint, then removes all but the last `keep` and the best one.
    ///
    /// # Errors
    /// [`DpoError::Io`].
    pub fn save(&self, checkpoint: &Checkpoint, keep: usize) -> Result<PathBuf, DpoError> {
        let unfinished = self.root.join(UNFINISHED);
        remove_dir(&unfinished)?;
        fs::create_dir_all(&unfinished).map_err(DpoError::io("create", &unfinished))?;
        let progress = serde_json::to_vec_pretty(&checkpoint.progress)
            .map_err(|source| DpoError::Json { path: unfinished.join(PROGRESS), source })?;
        write(&unfinished.join(TRAINABLE), &checkpoint.trainable)?;
        write(&unfinished.join(OPTIMIZER), &checkpoint.optimizer)?;
        if let Some(reference) = &checkpoint.reference {
            write(&unfinished.join(REFERENCE), reference)?;
        }
        write(&unfinished.join(PROGRESS), &progress)?;
        let path = self.path(checkpoint.progress.step);
        // only a broken one can be there: a whole one would have been loaded
        remove_dir(&path)?;
        fs::rename(&unfinished, &path).map_err(DpoError::io("rename", &unfinished))?;
        sync_dir(&self.root)?;
        let best = checkpoint.progress.best.map(|best| best.step);
        for (step, old) in self.steps()?.into_iter().rev().skip(keep) {
            if Some(step) != best {
                remove_dir(&old)?;
            }
        }
        Ok(path)
    }

    /// The newest whole checkpoint, if there is one. Broken ones are passed over with a warning.
    ///
    /// # Errors
    /// [`DpoError::Io`] if the directory cannot be read.
    pub fn load_newest(&self) -> Result<Option<(PathBuf, Checkpoint)>, DpoError> {
        for (_, path) in self.steps()?.into_iter().rev() {
            match load(&path) {
                Ok(checkpoint) => return Ok(Some((path, checkpoint))),
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    error = &error as &dyn std::error::Error,
                    "passing over a broken checkpoint"
                ),
            }
        }
        Ok(None)
    }

    /// The checkpoint of a step.
    ///
    /// # Errors
    /// [`DpoError::Io`], [`DpoError::Json`] or [`DpoError::Safetensors`] if it is not there or broken.
    pub fn load(&self, step: usize) -> Result<Checkpoint, DpoError> {
        load(&self.path(step))
    }

    /// Steps that have a directory, in order.
    fn steps(&self) -> Result<Vec<(usize, PathBuf)>, DpoError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(DpoError::io("list", &self.root))?,
        };
        let mut steps = Vec::new();
        for entry in entries {
            let entry = entry.map_err(DpoError::io("list", &self.root))?;
            let name = entry.file_name();
            let step =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok());
            steps.extend(step.map(|step| (step, entry.path())));
        }
        steps.sort();
        Ok(steps)
    }
}

/// Checks that a run may go on from a checkpoint with the settings and pairs given now.
///
/// # Errors
/// [`DpoError::ConfigChanged`] with each setting; [`DpoError::DataChanged`].
pub fn check_same_run(path: &Path, then: &TrainerState, now: &TrainerState) -> Result<(), DpoError> {
    let mut changes = changes(&then.config.course(), &now.config.course())
        .map_err(|source| DpoError::Json { path: path.join(PROGRESS), source })?;
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
    let mut texts = Texts::default();
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
    texts.hex()
}

fn changes(then: &DpoConfig, now: &DpoConfig) -> Result<Vec<Change>, serde_json::Error> {
    let then = serde_json::to_value(then)?;
    // `then` went through text, where a float may change in its last bit: so let `now`
    let now: Value = serde_json::from_slice(&serde_json::to_vec(now)?)?;
    // a setting that is not set may not be there at all
    let keys = [&then, &now].into_iter().filter_map(Value::as_object).flat_map(|settings| settings.keys());
    let differing = keys.collect::<BTreeSet<_>>().into_iter().filter(|key| then[*key] != now[*key]);
    Ok(differing
        .map(|key| Change { key: key.clone(), then: then[key].to_string(), now: now[key].to_string() })
        .collect())
}

fn load(path: &Path) -> Result<Checkpoint, DpoError> {
    let read = |name: &str| {
        let path = path.join(name);
        fs::read(&path).map_err(DpoError::io("read", &path))
    };
    let tensors = |name: &str| {
        let bytes = read(name)?;
        match safetensors::SafeTensors::deserialize(&bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(DpoError::Safetensors { path: Some(path.join(name)), source }),
        }
    };
    let progress: TrainerState = serde_json::from_slice(&read(PROGRESS)?)
        .map_err(|source| DpoError::Json { path: path.join(PROGRESS), source })?;
    let reference = progress.config.reference_sync.map(|_| tensors(REFERENCE)).transpose()?;
    Ok(Checkpoint { progress, trainable: tensors(TRAINABLE)?, optimizer: tensors(OPTIMIZER)?, reference })
}
