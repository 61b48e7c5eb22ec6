//! The files of a run.

use std::fs;
use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointDir};
use crate::data::Data;
use crate::error::DpoError;
use crate::metrics::{EvalMetrics, MetricsLog, StepMetrics};
use crate::policy::Policy;
use crate::state::{TrainerState, check_same_run};
use crate::step::State;
use crate::tensorboard::EventFile;
use crate::trainable::{load_as_trainable, load_trainable, save_as_trainable, save_trainable};

/// `checkpoints/`, `metrics.jsonl`, `eval.jsonl` and `tensorboard/` of a run directory.
pub(crate) struct RunFiles {
    metrics: MetricsLog<StepMetrics>,
    /// `None` if there are no pairs to evaluate on.
    evaluations: Option<MetricsLog<EvalMetrics>>,
    /// `None` unless [`tensorboard`](crate::DpoConfig::tensorboard) is set.
    events: Option<EventFile>,
    checkpoints: CheckpointDir,
}

impl RunFiles {
    /// Opens a run directory and restores its newest intact checkpoint, if there is one. Also
    /// returns the step of that checkpoint.
    pub(crate) fn open<P: Policy>(
        dir: &Path,
        state: State<P>,
        data: &Data,
        total_steps: usize,
    ) -> Result<(Self, State<P>, Option<usize>), DpoError> {
        fs::create_dir_all(dir).map_err(DpoError::io("create", dir))?;
        let checkpoints = CheckpointDir::new(dir);
        let metrics_path = dir.join("metrics.jsonl");
        let is_empty = |path: &Path| !fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let check = |path: &Path, checkpoint: &Checkpoint| {
            check_same_run(path, &checkpoint.state, &state.progress)?;
            checkpoint.state.check_range(path, data.pairs.len(), total_steps)
        };
        let (state, resumed_from) = match checkpoints.load_newest(check)? {
            None => {
                if !is_empty(&metrics_path) {
                    tracing::warn!(
                        dir = %dir.display(),
                        "an earlier run ended before its first checkpoint: training starts from step 0"
                    );
                }
                (state, None)
            }
            Some((path, mut checkpoint)) => {
                reset_damaged_best(&checkpoints, &mut checkpoint.state);
                let state = restore(state, &path, checkpoint)?;
                let step = state.progress.step;
                tracing::info!(path = %path.display(), step, "resuming from a checkpoint");
                (state, Some(step))
            }
        };
        if state.progress.step > 0 && is_empty(&metrics_path) {
            let step = state.progress.step;
            tracing::warn!(path = %metrics_path.display(), step, "the metrics of earlier steps are missing");
        }
        let metrics = MetricsLog::open(&metrics_path, state.progress.step)?;
        let evaluations = if data.eval_pairs.is_empty() {
            None
        } else {
            let (path, step) = (dir.join("eval.jsonl"), state.progress.step);
            if step >= state.progress.config.eval_every && step > 0 && is_empty(&path) {
                tracing::warn!(path = %path.display(), step, "the file has no evaluations of earlier steps");
            }
            Some(MetricsLog::open(&path, step)?)
        };
        let is_left = state.progress.step < total_steps && !state.progress.is_exhausted();
        let events = if state.progress.config.tensorboard && is_left {
            let evaluations_path = dir.join("eval.jsonl");
            let earlier =
                if evaluations.is_some() { MetricsLog::read(&evaluations_path)? } else { Vec::new() };
            Some(EventFile::create(dir, state.progress.step, &MetricsLog::read(&metrics_path)?, &earlier)?)
        } else {
            None
        };
        Ok((Self { metrics, evaluations, events, checkpoints }, state, resumed_from))
    }

    /// Logs the metrics of a step.
    pub(crate) fn log_step(&mut self, metrics: &StepMetrics) -> Result<(), DpoError> {
        self.metrics.append(metrics)?;
        self.events.as_mut().map_or(Ok(()), |events| events.log_step(metrics))
    }

    /// Logs the metrics of an evaluation.
    pub(crate) fn log_evaluation(&mut self, metrics: &EvalMetrics) -> Result<(), DpoError> {
        self.evaluations.as_mut().map_or(Ok(()), |log| log.append(metrics))?;
        self.events.as_mut().map_or(Ok(()), |events| events.log_evaluation(metrics))
    }

    /// Returns the trainable parameters of a step that has a checkpoint.
    pub(crate) fn trainable(&self, step: usize) -> Result<Vec<u8>, DpoError> {
        Ok(self.checkpoints.load(step)?.trainable)
    }

    /// Writes a checkpoint.
    pub(crate) fn save<P: Policy>(&self, state: &State<P>) -> Result<(), DpoError> {
        // the metrics must be on disk before the checkpoint, because resuming truncates them to its
        // step
        self.metrics.sync()?;
        self.evaluations.as_ref().map_or(Ok(()), MetricsLog::sync)?;
        let at_step = |error: DpoError| error.at_step(state.progress.step);
        let checkpoint = Checkpoint {
            state: state.progress.clone(),
            trainable: save_trainable(&state.policy).map_err(at_step)?,
            optimizer: state.optimizer.to_bytes().map_err(at_step)?,
            reference: match (state.progress.config.reference_sync, state.reference.model()) {
                (Some(_), Some(reference)) => {
                    Some(save_as_trainable(reference, &state.policy).map_err(at_step)?)
                }
                _ => None,
            },
        };
        let path = self.checkpoints.save(&checkpoint, state.progress.config.keep_checkpoints)?;
        tracing::debug!(path = %path.display(), "checkpoint written");
        Ok(())
    }
}

/// Resets the best evaluation if its checkpoint is damaged, so that the best of the later
/// evaluations is kept.
fn reset_damaged_best(checkpoints: &CheckpointDir, state: &mut TrainerState) {
    let Some(best) = state.best.filter(|best| state.config.keep_best.is_some() && best.step != state.step)
    else {
        return;
    };
    if let Err(error) = checkpoints.load(best.step) {
        tracing::warn!(
            step = best.step,
            error = &error as &dyn std::error::Error,
            "ignoring the best evaluation, because its checkpoint is damaged"
        );
        state.best = None;
        state.evaluations_since_best = 0;
    }
}

fn restore<P: Policy>(state: State<P>, path: &Path, checkpoint: Checkpoint) -> Result<State<P>, DpoError> {
    let State { policy, mut reference, mut optimizer, progress, .. } = state;
    let in_file = |error: DpoError| error.in_file(path);
    let policy = load_trainable(policy, &checkpoint.trainable).map_err(in_file)?;
    optimizer.load_bytes(&policy, &checkpoint.optimizer).map_err(in_file)?;
    if let (Some(bytes), Some(model)) = (&checkpoint.reference, reference.model_mut()) {
        *model = load_as_trainable(model.clone(), &policy, bytes).map_err(in_file)?;
    }
    let progress = progress.resume(checkpoint.state);
    Ok(State { policy, reference, optimizer, progress, must_equal_reference: false })
}
