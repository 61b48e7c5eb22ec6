//! The loop of a run: steps, evaluations, samples, checkpoints.

use std::time::{Duration, Instant};

use bpo_pairs::PreferencePair;

use crate::checkpoint::TrainerState;
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::{DpoError, Source};
use crate::metrics::StepMetrics;
use crate::observer::{Control, Observer};
use crate::order::{DataOrder, ids};
use crate::policy::{Collate, Policy};
use crate::run_files::RunFiles;
use crate::step::{State, Stepper};
use crate::trainable::{load_trainable, save_trainable};

/// Called with the policy on plain tensors and the number of steps before.
pub type Sampler<P> = Box<dyn FnMut(&P, usize) -> Result<(), Source>>;

/// What stays the same in a run, and what it writes.
pub(crate) struct Run<'a, P, C> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) data: &'a Data,
    pub(crate) stepper: Stepper<'a, C>,
    pub(crate) total_steps: usize,
    pub(crate) files: Option<RunFiles>,
    pub(crate) sampler: Option<Sampler<P>>,
    order: DataOrder,
    /// Indices of the pairs in the order of the present epoch.
    epoch: Vec<usize>,
    /// The best parameters of a run without a directory.
    best: Option<Vec<u8>>,
    saved: Instant,
}

impl<'a, P, C> Run<'a, P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    pub(crate) fn new(
        config: &'a DpoConfig,
        data: &'a Data,
        stepper: Stepper<'a, C>,
        total_steps: usize,
        files: Option<RunFiles>,
        sampler: Option<Sampler<P>>,
    ) -> Self {
        let order = DataOrder::for_config(config, &data.pairs);
        let (epoch, best, saved) = (Vec::new(), None, Instant::now());
        Self { config, data, stepper, total_steps, files, sampler, order, epoch, best, saved }
    }

    /// Goes on to the end, until evaluations become no better, or until the observer asks to stop. Gives the figures of the
    /// last step, too, if there was one.
    pub(crate) fn go_on(
        &mut self,
        mut state: State<P>,
        observer: &mut impl Observer,
    ) -> Result<(State<P>, Option<StepMetrics>), DpoError> {
        let mut last = None;
        self.epoch = self.order.epoch(self.config.seed, state.progress.epoch);
        while !self.is_finished(&state.progress) {
            let _span = tracing::info_span!("dpo.step", step = state.progress.step + 1).entered();
            let (next, metrics, control) = self.step(state, observer)?;
            state = next;
            last = Some(metrics);
            let is_best = self.evaluate(&mut state, observer)?;
            self.sample(&state)?;
            self.save(&state, is_best, control)?;
            if control == Control::Stop {
                break;
            }
        }
        Ok((state, last))
    }

    /// The policy after the best evaluation if that is kept and nothing is left to do, or else the one after the last step.
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
        observer: &mut impl Observer,
    ) -> Result<(State<P>, StepMetrics, Control), DpoError> {
        let rest = &self.epoch[state.progress.cursor..];
        let indices = &rest[..rest.len().min(self.config.pairs_per_step())];
        let pairs: Vec<_> = indices.iter().map(|&index| &self.data.pairs[index]).collect();
        let (state, metrics) = self.stepper.step(state, &pairs)?;
        if state.progress.cursor == 0 {
            self.epoch = self.order.epoch(self.config.seed, state.progress.epoch);
        }
        if let Some(files) = &mut self.files {
            files.metrics.append(&metrics)?;
        }
        let control = observer.on_step(&metrics);
        if metrics.skipped {
            report_skipped(self.config, &state.progress, &pairs)?;
        }
        Ok((state, metrics, control))
    }

    /// Whether it is the best so far; false where nothing is due.
    fn evaluate(&mut self, state: &mut State<P>, observer: &mut impl Observer) -> Result<bool, DpoError> {
        if self.data.eval_pairs.is_empty() || !self.is_due(state.progress.step, self.config.eval_every) {
            return Ok(false);
        }
        let pairs: Vec<&PreferencePair> = self.data.eval_pairs.iter().collect();
        let metrics = self.stepper.evaluate(state, &pairs)?;
        let is_best = state.progress.judge(&metrics);
        if let Some(log) = self.files.as_mut().and_then(|files| files.evaluations.as_mut()) {
            log.append(&metrics)?;
        }
        observer.on_evaluation(&metrics);
        Ok(is_best)
    }

    fn sample(&mut self, state: &State<P>) -> Result<(), DpoError> {
        let step = state.progress.step;
        let due = self.config.sample_every.is_some_and(|every| self.is_due(step, every));
        match &mut self.sampler {
            Some(sampler) if due => {
                sampler(&state.policy.valid(), step).map_err(|source| DpoError::Sample { step, source })
            }
            _ => Ok(()),
        }
    }

    fn save(&mut self, state: &State<P>, is_best: bool, control: Control) -> Result<(), DpoError> {
        // a time that no clock reaches is none
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

    /// Every so many steps, and after the last one.
    fn is_due(&self, step: usize, every: usize) -> bool {
        step == self.total_steps || step.is_multiple_of(every)
    }
}

/// A warning, or an error if there were too many.
fn report_skipped(
    config: &DpoConfig,
    progress: &TrainerState,
    pairs: &[&PreferencePair],
) -> Result<(), DpoError> {
    let pairs = ids(pairs);
    tracing::warn!(
        step = progress.step,
        pairs = pairs.join(", "),
        "loss or gradient not finite: step left out"
    );
    if progress.skipped_in_a_row < config.max_skipped {
        return Ok(());
    }
    Err(DpoError::NotFinite { count: progress.skipped_in_a_row, step: progress.step, pairs })
}
