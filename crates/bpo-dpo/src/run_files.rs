//! What a run keeps on disk.

use std::fs;
use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointDir, check_same_run};
use crate::error::DpoError;
use crate::metrics::{EvalMetrics, MetricsLog, StepMetrics};
use crate::policy::Policy;
use crate::step::State;
use crate::trainable::{load_as_trainable, load_trainable, save_as_trainable, save_trainable};

/// `checkpoints/`, `metrics.jsonl` and `eval.jsonl` of a run directory.
pub(crate) struct RunFiles {
    pub(crate) metrics: MetricsLog<StepMetrics>,
    /// None where nothing is evaluated.
    pub(crate) evaluations: Option<MetricsLog<EvalMetrics>>,
    checkpoints: CheckpointDir,
}

impl RunFiles {
    /// Opens a run directory and takes up its newest checkpoint, if it has one. Gives the step of that, too.
    pub(crate) fn open<P: Policy>(
        dir: &Path,
        state: State<P>,
        evaluates: bool,
    ) -> Result<(Self, State<P>, Option<usize>), DpoError> {
        fs::create_dir_all(dir).map_err(DpoError::io("create", dir))?;
        let checkpoints = CheckpointDir::new(dir);
        let metrics = dir.join("metrics.jsonl");
        let (state, resumed_from) = match checkpoints.load_newest()? {
            None => {
                if fs::metadata(&metrics).is_ok_and(|file| file.len() > 0) {
                    tracing::warn!(dir = %dir.display(), "training ended before its first checkpoint: it begins anew");
                }
                (state, None)
            }
            Some((path, checkpoint)) => {
                let state = restore(state, &path, checkpoint)?;
                let step = state.progress.step;
                tracing::info!(path = %path.display(), step, "taking up a checkpoint");
                (state, Some(step))
            }
        };
        if state.progress.step > 0 && !fs::metadata(&metrics).is_ok_and(|file| file.len() > 0) {
            tracing::warn!(path = %metrics.display(), step = state.progress.step, "the figures of the steps so far are gone");
        }
        let metrics = MetricsLog::open(&metrics, state.progress.step)?;
        let evaluations = match evaluates {
            true => Some(MetricsLog::open(&dir.join("eval.jsonl"), state.progress.step)?),
            false => None,
        };
        Ok((Self { metrics, evaluations, checkpoints }, state, resumed_from))
    }

    /// The trainable parameters of a step that has a checkpoint.
    pub(crate) fn trainable(&self, step: usize) -> Result<Vec<u8>, DpoError> {
        Ok(self.checkpoints.load(step)?.trainable)
    }

    /// Writes a checkpoint.
    pub(crate) fn save<P: Policy>(&self, state: &State<P>) -> Result<(), DpoError> {
        // a checkpoint must not be newer than the metrics: they are only ever cut back to it
        self.metrics.sync()?;
        self.evaluations.as_ref().map_or(Ok(()), MetricsLog::sync)?;
        let at_step = |error: DpoError| error.at_step(state.progress.step);
        let checkpoint = Checkpoint {
            progress: state.progress.clone(),
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

fn restore<P: Policy>(state: State<P>, path: &Path, checkpoint: Checkpoint) -> Result<State<P>, DpoError> {
    let State { policy, reference, mut optimizer, progress, .. } = state;
    check_same_run(path, &checkpoint.progress, &progress)?;
    let in_file = |error: DpoError| error.in_file(path);
    let policy = load_trainable(policy, &checkpoint.trainable).map_err(in_file)?;
    optimizer.load_bytes(&policy, &checkpoint.optimizer).map_err(in_file)?;
    let reference = match &checkpoint.reference {
        Some(bytes) => {
            reference.map(|reference| load_as_trainable(reference, &policy, bytes).map_err(in_file))?
        }
        None => reference,
    };
    let progress = progress.resume(checkpoint.progress);
    Ok(State { policy, reference, optimizer, progress, at_init: false })
}
