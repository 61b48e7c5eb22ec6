//! A training that is ready to run.

use std::collections::HashSet;
use std::fmt;
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bpo_pairs::{PreferencePair, Skipped};

use crate::batches::{BatchPlan, Batches};
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::DpoError;
use crate::forward::{DynObjective, Forward};
use crate::metrics::StepMetrics;
use crate::observer::{Control, Observer, RunPlan};
use crate::order::GroupBatch;
use crate::policy::{Collate, Policy};
use crate::run::{Run, Sampler};
use crate::run_files::RunFiles;
use crate::schedule::LrSchedule;
use crate::state::{Best, TrainerState};
use crate::step::{NextBatch, State, Stepper};

/// Batches that are prepared ahead, beside the one that is being prepared.
const PREFETCHED: usize = 1;

/// A training whose pairs are checked and whose checkpoint is loaded; see
/// [`Trainer::prepare`](crate::Trainer::prepare).
pub struct Training<P, C> {
    pub(crate) config: DpoConfig,
    pub(crate) objective: DynObjective,
    pub(crate) collate: C,
    pub(crate) data: Data,
    pub(crate) state: State<P>,
    pub(crate) files: Option<RunFiles>,
    pub(crate) sampler: Option<Sampler<P>>,
    pub(crate) total_steps: usize,
    pub(crate) resumed_from: Option<usize>,
}

impl<P, C> fmt::Debug for Training<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Training")
            .field("config", &self.config)
            .field("total_steps", &self.total_steps)
            .field("resumed_from", &self.resumed_from)
            .finish_non_exhaustive()
    }
}

/// The result of a training.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainOutput {
    /// Optimizer steps so far, those of earlier runs included.
    pub steps: usize,
    /// Optimizer steps of the whole training.
    pub total_steps: usize,
    /// The step of the checkpoint that the run resumed from.
    pub resumed_from: Option<usize>,
    /// Steps that were skipped because a loss or gradient was not finite, or no pair of the step
    /// could be prepared.
    pub skipped_steps: usize,
    /// Pairs trained on.
    pub pairs: usize,
    /// Pairs evaluated on.
    pub eval_pairs: usize,
    /// The best evaluation, if [`keep_best`](DpoConfig::keep_best) or
    /// [`patience`](DpoConfig::patience) is set.
    pub best: Option<Best>,
    /// The training ended because the evaluations stopped improving.
    pub stopped_early: bool,
    /// Pairs that were neither trained nor evaluated on: those that the check refused, and those
    /// that passed it and could not be prepared.
    pub skipped: Vec<Skipped>,
    /// Metrics of the last step of this run; `None` if no step was left.
    pub last: Option<StepMetrics>,
}

impl TrainOutput {
    /// Whether the training is complete.
    pub fn is_finished(&self) -> bool {
        self.steps == self.total_steps || self.stopped_early
    }
}

impl<P, C> Training<P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// Sizes of the training, and the pairs that the check refused.
    pub fn plan(&self) -> RunPlan<'_> {
        RunPlan {
            done_steps: self.state.progress.step,
            total_steps: self.total_steps,
            pairs: self.data.pairs.len(),
            eval_pairs: self.data.eval_pairs.len(),
            skipped: &self.data.skipped,
        }
    }

    /// The policy, in training state.
    pub fn policy(&self) -> &P {
        &self.state.policy
    }

    /// The model that is the reference, if it is [one of its own](crate::Reference::Frozen).
    pub fn frozen_reference(&self) -> Option<&P> {
        self.state.reference.frozen()
    }

    /// The collator.
    pub fn collate(&self) -> &C {
        &self.collate
    }

    /// The batches of the first epoch, as text.
    pub fn first_epoch(&self) -> impl Iterator<Item = GroupBatch> {
        let loss = self.objective.properties();
        let batches = BatchPlan::first_epoch(&self.config, &self.data);
        batches.into_iter().map(move |pairs| GroupBatch::for_loss(loss, pairs))
    }

    /// Runs to the end, until evaluations stop improving, or until the observer stops it. Each way
    /// leaves a checkpoint.
    ///
    /// A thread prepares batches while the device computes. It changes no result, and it ends
    /// before this function returns.
    ///
    /// A pair that passed the check and cannot be prepared, for instance because the pixels of its
    /// image are damaged, is skipped with a warning if
    /// [`validate_pairs`](DpoConfig::validate_pairs) is set, and an error otherwise. The step's
    /// loss is the mean over its other pairs. Order and number of steps stay the same, so a resumed
    /// run skips the same pairs.
    ///
    /// The policy is returned in training state: after the last step, or after the best evaluation
    /// if it is [kept](DpoConfig::keep_best) and the training is complete.
    ///
    /// # Errors
    /// - [`DpoError::InitialMismatch`]: policy and reference differ before the first step
    /// - [`DpoError::NotFinite`], [`DpoError::NothingPrepared`]: too many steps in a row were
    ///   skipped, or all
    /// - [`DpoError::NotFiniteTensors`]: a checkpoint would hold values that are not finite
    /// - [`DpoError::Collate`], [`DpoError::Rows`], [`DpoError::NoStatistics`],
    ///   [`DpoError::Untracked`]: a fault of the collator or the policy
    /// - [`DpoError::Sample`]: the sampler failed
    /// - [`DpoError::Io`], [`DpoError::Device`]
    pub fn run(self, observer: &mut impl Observer) -> Result<(P, TrainOutput), DpoError>
    where
        C: Send,
        C::Batch: Send,
    {
        let Self { config, objective, collate, data, state, files, sampler, total_steps, resumed_from } =
            self;
        let batches = Batches::new(&config, &objective, &data, total_steps, &state.progress, collate);
        let session =
            Session { config: &config, objective: &objective, data: &data, total_steps, resumed_from };
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(PREFETCHED);
            let worker = scope.spawn(move || {
                for batch in batches {
                    let failed = batch.is_err();
                    // nobody receives when the run has stopped
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            });
            let next = &mut || receiver.recv().unwrap_or(Err(DpoError::NoBatch));
            let result = session.run(state, files, sampler, next, observer);
            drop(receiver);
            match worker.join() {
                Ok(()) => result,
                Err(cause) => panic::resume_unwind(cause),
            }
        })
    }

    /// As [`run`](Self::run), but prepares each batch on the calling thread: for a collator or
    /// batches that are not [`Send`].
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_local(self, observer: &mut impl Observer) -> Result<(P, TrainOutput), DpoError> {
        let Self { config, objective, collate, data, state, files, sampler, total_steps, resumed_from } =
            self;
        let mut batches = Batches::new(&config, &objective, &data, total_steps, &state.progress, collate);
        let session =
            Session { config: &config, objective: &objective, data: &data, total_steps, resumed_from };
        let next = &mut || batches.next().unwrap_or(Err(DpoError::NoBatch));
        session.run(state, files, sampler, next, observer)
    }

    /// Takes the first `steps` steps and gives how long each took. Writes nothing and keeps
    /// nothing: a dry run.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn time_steps(mut self, steps: usize) -> Result<Vec<Duration>, DpoError>
    where
        C: Send,
        C::Batch: Send,
    {
        self.files = None;
        self.sampler = None;
        self.config.eval_every = usize::MAX;
        let mut times = Vec::new();
        if steps > 0 {
            let mut start = Instant::now();
            self.run(&mut |_: &StepMetrics| {
                times.push(start.elapsed());
                start = Instant::now();
                if times.len() < steps { Control::Continue } else { Control::Stop }
            })?;
        }
        Ok(times)
    }
}

/// The parts of a run that it does not change.
struct Session<'a> {
    config: &'a DpoConfig,
    objective: &'a DynObjective,
    data: &'a Data,
    total_steps: usize,
    resumed_from: Option<usize>,
}

impl<'a> Session<'a> {
    fn run<P: Policy>(
        self,
        state: State<P>,
        files: Option<RunFiles>,
        sampler: Option<Sampler<P>>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
        observer: &mut impl Observer,
    ) -> Result<(P, TrainOutput), DpoError> {
        let Self { config, objective, data, total_steps, resumed_from } = self;
        observer.on_start(&RunPlan {
            done_steps: state.progress.step,
            total_steps,
            pairs: data.pairs.len(),
            eval_pairs: data.eval_pairs.len(),
            skipped: &data.skipped,
        });
        let stepper = Stepper {
            forward: Forward { config, objective },
            schedule: LrSchedule::new(config.schedule, config.warmup_ratio, total_steps),
            pairs: data.pairs.len(),
        };
        let (best, saved) = (None, Instant::now());
        let mut run = Run { config, data, stepper, total_steps, files, sampler, best, saved };
        let (state, last) = run.steps(state, next, observer)?;
        check_any_step(&state.progress, total_steps, data)?;
        let TrainerState { step: steps, skipped: skipped_steps, .. } = state.progress;
        let stopped_early = steps < total_steps && state.progress.is_exhausted();
        let best = state.progress.best.filter(|_| config.needs_evaluations());
        let unprepared = state.progress.skipped_pairs.clone();
        let policy = run.into_policy(state)?;
        let output = TrainOutput {
            steps,
            total_steps,
            resumed_from,
            skipped_steps,
            pairs: without(&data.pairs, &unprepared),
            eval_pairs: without(&data.eval_pairs, &unprepared),
            best,
            stopped_early,
            skipped: data.skipped.iter().cloned().chain(unprepared).collect(),
            last,
        };
        Ok((policy, output))
    }
}

/// Number of pairs that are not among those skipped.
fn without(pairs: &[PreferencePair], skipped: &[Skipped]) -> usize {
    let skipped: HashSet<&str> = skipped.iter().map(|skipped| skipped.id.as_str()).collect();
    pairs.iter().filter(|pair| !skipped.contains(pair.id.as_str())).count()
}

/// Checks that a complete training took at least one step: else its policy was never trained.
fn check_any_step(progress: &TrainerState, total_steps: usize, data: &Data) -> Result<(), DpoError> {
    let &TrainerState { step, skipped: count, .. } = progress;
    if step < total_steps || count < step || step == 0 {
        return Ok(());
    }
    let skipped = &progress.skipped_pairs;
    if without(&data.pairs, skipped) == 0 {
        return Err(DpoError::NothingPrepared { count, step, skipped: skipped.clone() });
    }
    let pairs = data.pairs.iter().take(1).map(|pair| pair.id.clone()).collect();
    Err(DpoError::NotFinite { count, step, pairs })
}
