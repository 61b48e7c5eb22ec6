//! The loop of a run: steps, evaluations, samples, checkpoints.

use std::time::{Duration, Instant};

use crate::batches::evaluates_after;
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::{DpoError, Source};
use crate::metrics::StepMetrics;
use crate::observer::{Control, Observer};
use crate::policy::Policy;
use crate::run_files::RunFiles;
use crate::state::TrainerState;
use crate::step::{NextBatch, State, Step, Stepper};
use crate::trainable::{load_trainable, save_trainable};

/// A function that is called with the policy, without an autodiff tape, and the number of past
/// steps.
pub(crate) type Sampler<P> = Box<dyn FnMut(&P, usize) -> Result<(), Source>>;

/// A run with the files that it writes.
pub(crate) struct Run<'a, P: Policy> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) data: &'a Data,
    pub(crate) stepper: Stepper<'a, P>,
    pub(crate) total_steps: usize,
    pub(crate) files: Option<RunFiles>,
    pub(crate) sampler: Option<Sampler<P>>,
    /// The best parameters of a run without a directory.
    pub(crate) best: Option<Vec<u8>>,
    /// When the last checkpoint was written.
    pub(crate) saved: Instant,
}

impl<'a, P: Policy> Run<'a, P> {
    /// Trains until the last step, until evaluations stop improving, or until the observer stops
    /// the run. Also returns the metrics of the last step, if there was one.
    pub(crate) fn steps(
        &mut self,
        mut state: State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
        observer: &mut impl Observer,
    ) -> Result<(State<P>, Option<StepMetrics>), DpoError> {
        let mut last = None;
        while !self.is_finished(&state.progress) {
            let _span = tracing::info_span!("dpo.step", step = state.progress.step + 1).entered();
            let (next_state, metrics, control) = self.step(state, next, observer)?;
            state = next_state;
            last = Some(metrics);
            let is_best = self.evaluate(&mut state, next, observer)?;
            self.sample(&state)?;
            self.save(&state, is_best, control)?;
            if control == Control::Stop {
                break;
            }
        }
        Ok((state, last))
    }

    /// Returns the policy after the best evaluation if that is kept and training is complete,
    /// otherwise the policy after the last step.
    pub(crate) fn into_policy(self, state: State<P>) -> Result<P, DpoError> {
        let wanted = self.config.keep_best.is_some() && self.is_finished(&state.progress);
        match (state.progress.best.filter(|_| wanted), &self.files, self.best) {
            (Some(best), Some(files), _) => load_trainable(state.policy, &files.trainable(best.step)?),
            (Some(_), None, Some(parameters)) => load_trainable(state.policy, &parameters),
            _ => Ok(state.policy),
        }
    }

    fn is_finished(&self, progress: &TrainerState) -> bool {
        progress.step >= self.total_steps || progress.is_exhausted()
    }

    fn step(
        &mut self,
        state: State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
        observer: &mut impl Observer,
    ) -> Result<(State<P>, StepMetrics, Control), DpoError> {
        let (state, Step { metrics, pairs }) = self.stepper.step(state, next)?;
        if let Some(files) = &mut self.files {
            files.log_step(&metrics)?;
        }
        let control = observer.on_step(&metrics);
        if metrics.skipped {
            report_skipped(self.config, &state.progress, pairs)?;
        }
        Ok((state, metrics, control))
    }

    /// Evaluates if an evaluation is due. Returns whether the evaluation is the best so far.
    fn evaluate(
        &mut self,
        state: &mut State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
        observer: &mut impl Observer,
    ) -> Result<bool, DpoError> {
        if !evaluates_after(self.config, self.data, self.total_steps, state.progress.step) {
            return Ok(false);
        }
        let metrics = self.stepper.evaluate(state, self.data.eval_pairs.len(), next)?;
        let is_best = state.progress.record_evaluation(&metrics);
        if let Some(files) = &mut self.files {
            files.log_evaluation(&metrics)?;
        }
        observer.on_evaluation(&metrics);
        Ok(is_best)
    }

    fn sample(&mut self, state: &State<P>) -> Result<(), DpoError> {
        let step = state.progress.step;
        let is_due = |every| step == self.total_steps || step.is_multiple_of(every);
        let due = self.config.sample_every.is_some_and(is_due);
        match &mut self.sampler {
            Some(sampler) if due => {
                sampler(&state.policy.valid(), step).map_err(|source| DpoError::Sample { step, source })
            }
            _ => Ok(()),
        }
    }

    fn save(&mut self, state: &State<P>, is_best: bool, control: Control) -> Result<(), DpoError> {
        // a time that is too long for `Duration` never elapses
        let save_after =
            Duration::try_from_secs_f64(60.0 * self.config.save_minutes).unwrap_or(Duration::MAX);
        let done = control == Control::Stop || self.is_finished(&state.progress);
        let due = done
            || state.progress.step.is_multiple_of(self.config.save_every)
            || self.saved.elapsed() >= save_after;
        let is_kept = is_best && self.config.keep_best.is_some();
        match &self.files {
            Some(files) if due || is_kept => {
                files.save(state)?;
                self.saved = Instant::now();
            }
            None if is_kept => {
                let step = state.progress.step;
                self.best = Some(save_trainable(&state.policy).map_err(|error| error.at_step(step))?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Logs a warning about a skipped step. Returns an error if too many consecutive steps were
/// skipped.
fn report_skipped(config: &DpoConfig, progress: &TrainerState, pairs: Vec<String>) -> Result<(), DpoError> {
    let (count, step) = (progress.skipped_in_a_row, progress.step);
    let too_many = count >= config.max_skipped;
    if pairs.is_empty() {
        tracing::warn!(step, "no pair of the step could be prepared: step skipped");
        if too_many {
            return Err(DpoError::NothingPrepared { count, step, skipped: progress.skipped_pairs.clone() });
        }
    } else {
        tracing::warn!(step, pairs = pairs.join(", "), "loss or gradient not finite: step skipped");
        if too_many {
            return Err(DpoError::NotFinite { count, step, pairs });
        }
    }
    Ok(())
}
