//! A prepared training, and its run.

use std::collections::HashSet;
use std::fmt;
use std::panic;
use std::sync::{Mutex, mpsc};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use bpo_pairs::{PreferencePair, Skipped};

use crate::batches::{BatchPlan, BatchSize, Batches};
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::DpoError;
use crate::forward::{DynObjective, Forward};
use crate::metrics::StepMetrics;
use crate::observer::{Control, Observer, RunPlan};
use crate::order::GroupBatch;
use crate::policy::{Collate, Policy};
use crate::replica::{Helper, Replica};
use crate::run::{Run, Sampler};
use crate::run_files::RunFiles;
use crate::schedule::LrSchedule;
use crate::state::{Best, TrainerState};
use crate::step::{NextBatch, State, Stepper};

/// Number of prepared batches that wait for their step, in addition to the batch that is being
/// prepared and to one for each further device.
const PREFETCHED: usize = 1;

/// A training whose pairs have been checked and whose checkpoint has been loaded; see
/// [`Trainer::prepare`](crate::Trainer::prepare).
pub struct Training<P, C> {
    pub(crate) session: Session,
    pub(crate) parts: Parts<P, C>,
}

impl<P, C> fmt::Debug for Training<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Training")
            .field("config", &self.session.config)
            .field("total_steps", &self.session.total_steps)
            .field("resumed_from", &self.session.resumed_from)
            .finish_non_exhaustive()
    }
}

/// The result of a training.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainOutput {
    /// Number of optimizer steps so far, including those of earlier runs.
    pub steps: usize,
    /// Number of optimizer steps of the whole training.
    pub total_steps: usize,
    /// Step of the checkpoint that the run resumed from.
    pub resumed_from: Option<usize>,
    /// Number of steps that were skipped because a loss or gradient was not finite, or no pair of
    /// the step could be prepared.
    pub skipped_steps: usize,
    /// Number of pairs trained on.
    pub pairs: usize,
    /// Number of pairs evaluated on.
    pub eval_pairs: usize,
    /// The best evaluation, if [`keep_best`](DpoConfig::keep_best) or
    /// [`patience`](DpoConfig::patience) is set.
    pub best: Option<Best>,
    /// Whether the training ended because the evaluations stopped improving.
    pub stopped_early: bool,
    /// Pairs that were neither trained nor evaluated on, because they failed the check or could not
    /// be prepared.
    pub skipped: Vec<Skipped>,
    /// Metrics of the last step of this run; `None` if it did no step.
    pub last: Option<StepMetrics>,
}

impl TrainOutput {
    /// Returns whether the training is complete.
    pub fn is_finished(&self) -> bool {
        self.steps == self.total_steps || self.stopped_early
    }
}

impl<P, C> Training<P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// Returns the sizes of the training, and the pairs that failed the check.
    pub fn plan(&self) -> RunPlan<'_> {
        RunPlan {
            done_steps: self.parts.state.progress.step,
            total_steps: self.session.total_steps,
            pairs: self.session.data.pairs.len(),
            eval_pairs: self.session.data.eval_pairs.len(),
            skipped: &self.session.data.skipped,
        }
    }

    /// Returns the policy, in training state.
    pub fn policy(&self) -> &P {
        &self.parts.state.policy
    }

    /// Returns the reference model, unless it is the policy with its adapters off.
    pub fn reference(&self) -> Option<&P> {
        self.parts.state.reference.model()
    }

    /// Returns the collator.
    pub fn collate(&self) -> &C {
        &self.parts.collate
    }

    /// Returns the batches of the first epoch, as text.
    pub fn first_epoch(&self) -> impl Iterator<Item = GroupBatch> {
        let loss = self.session.objective.properties();
        let size = self.session.size(self.parts.replicas.len() + 1);
        let batches = BatchPlan::first_epoch(&self.session.config, size, &self.session.data);
        let weakenings = self.parts.collate.weakenings();
        batches.into_iter().map(move |pairs| GroupBatch::for_loss(loss, weakenings, pairs))
    }

    /// Trains until the last step, until evaluations stop improving, or until the observer stops
    /// the run. A checkpoint is written in each case.
    ///
    /// A thread prepares batches while the device computes. The results do not depend on it, and it
    /// ends before this method returns.
    ///
    /// A pair that passed the check and cannot be prepared, for instance because the pixels of its
    /// image are damaged, is skipped with a warning if
    /// [`validate_pairs`](DpoConfig::validate_pairs) is true, and an error otherwise. The loss of
    /// the step is the mean over its other pairs. The order and the number of steps do not change,
    /// so a resumed run skips the same pairs.
    ///
    /// Returns the policy in training state, with the parameters of the last step, or of the best
    /// evaluation if that is [kept](DpoConfig::keep_best) and the training is complete.
    ///
    /// # Errors
    /// - [`DpoError::InitialMismatch`]: policy and reference differ before the first step
    /// - [`DpoError::NotFinite`], [`DpoError::NothingPrepared`]: too many steps in a row were
    ///   skipped, or all
    /// - [`DpoError::NotFiniteTensors`]: a checkpoint would hold values that are not finite
    /// - [`DpoError::Collate`], [`DpoError::Rows`], [`DpoError::NoStatistics`],
    ///   [`DpoError::Untracked`]: the collator or the policy is wrong
    /// - [`DpoError::Sample`]: the sampler failed
    /// - [`DpoError::Io`], [`DpoError::File`]: a file of the run directory cannot be written
    pub fn run(self, observer: &mut impl Observer) -> Result<(P, TrainOutput), DpoError>
    where
        C: Send,
        C::Batch: Send,
    {
        let Self { session, parts: Parts { collate, state, replicas, files, sampler } } = self;
        let prefetched = PREFETCHED + replicas.len();
        let batches = session.batches(&state.progress, replicas.len() + 1, collate);
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(prefetched);
            let worker = scope.spawn(move || {
                for batch in batches {
                    let failed = batch.is_err();
                    // sending fails after the run has stopped
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            });
            let start = |replica| Helper::start(scope, session.forward(), replica);
            let (helpers, mut threads): (Vec<_>, Vec<_>) = replicas.into_iter().map(start).unzip();
            threads.push(worker);
            let next = &mut || receiver.recv().unwrap_or(Err(DpoError::NoBatch));
            // takes the helpers, whose threads end with them
            let result = session.run(state, helpers, files, sampler, next, observer);
            drop(receiver);
            // all threads, before the panic of one is passed on
            let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
            match ended.into_iter().find_map(Result::err) {
                None => result,
                Some(cause) => panic::resume_unwind(cause),
            }
        })
    }

    /// Trains as [`run`](Self::run) does, but prepares each batch on the calling thread. Collator
    /// and batches need not be [`Send`].
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run), or [`DpoError::DevicesOnOneThread`] if there are
    /// [several devices](crate::Trainer::with_devices).
    pub fn run_local(self, observer: &mut impl Observer) -> Result<(P, TrainOutput), DpoError> {
        if !self.parts.replicas.is_empty() {
            return Err(DpoError::DevicesOnOneThread { devices: self.parts.replicas.len() + 1 });
        }
        let Self { session, parts: Parts { collate, state, files, sampler, .. } } = self;
        let mut batches = session.batches(&state.progress, 1, collate);
        let next = &mut || batches.next().unwrap_or(Err(DpoError::NoBatch));
        session.run(state, Vec::new(), files, sampler, next, observer)
    }

    /// Does the first `steps` steps and returns the duration of each. Writes no file and discards
    /// the result.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
    pub fn time_steps(mut self, steps: usize) -> Result<Vec<Duration>, DpoError>
    where
        C: Send,
        C::Batch: Send,
    {
        self.parts.files = None;
        self.parts.sampler = None;
        self.session.config.eval_every = usize::MAX;
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

/// The parts of a training that a run takes.
pub(crate) struct Parts<P, C> {
    pub(crate) collate: C,
    pub(crate) state: State<P>,
    /// Copies of the policy on further devices.
    pub(crate) replicas: Vec<Replica<P>>,
    pub(crate) files: Option<RunFiles>,
    pub(crate) sampler: Option<Sampler<P>>,
}

/// The constant parts of a run.
pub(crate) struct Session {
    pub(crate) config: DpoConfig,
    pub(crate) objective: DynObjective,
    /// Locked while a policy [draws](Policy::draws). `None` if it does not.
    pub(crate) drawing: Option<Mutex<()>>,
    pub(crate) data: Data,
    pub(crate) total_steps: usize,
    pub(crate) resumed_from: Option<usize>,
}

impl Session {
    fn forward(&self) -> Forward<'_> {
        let Self { config, objective, drawing, .. } = self;
        Forward { config, objective, drawing: drawing.as_ref() }
    }

    fn size(&self, devices: usize) -> BatchSize {
        BatchSize::new(&self.config, self.objective.properties(), devices)
    }

    /// Returns the batches that follow a state.
    fn batches<C: Collate>(&self, progress: &TrainerState, devices: usize, collate: C) -> Batches<'_, C> {
        let (loss, size) = (self.objective.properties(), self.size(devices));
        Batches::new(&self.config, loss, size, &self.data, self.total_steps, progress, collate)
    }

    fn run<'a, P: Policy>(
        &'a self,
        state: State<P>,
        helpers: Vec<Helper<'a, P>>,
        files: Option<RunFiles>,
        sampler: Option<Sampler<P>>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
        observer: &mut impl Observer,
    ) -> Result<(P, TrainOutput), DpoError> {
        let &Self { ref config, ref data, total_steps, resumed_from, .. } = self;
        observer.on_start(&RunPlan {
            done_steps: state.progress.step,
            total_steps,
            pairs: data.pairs.len(),
            eval_pairs: data.eval_pairs.len(),
            skipped: &data.skipped,
        });
        let stepper = Stepper {
            forward: self.forward(),
            schedule: LrSchedule::new(config.schedule, config.warmup_ratio, total_steps),
            pairs: data.pairs.len(),
            size: self.size(helpers.len() + 1),
            helpers,
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
            pairs: count_unskipped(&data.pairs, &unprepared),
            eval_pairs: count_unskipped(&data.eval_pairs, &unprepared),
            best,
            stopped_early,
            skipped: data.skipped.iter().cloned().chain(unprepared).collect(),
            last,
        };
        Ok((policy, output))
    }
}

/// Returns the number of pairs that were not skipped.
fn count_unskipped(pairs: &[PreferencePair], skipped: &[Skipped]) -> usize {
    let skipped: HashSet<&str> = skipped.iter().map(|skipped| skipped.id.as_str()).collect();
    pairs.iter().filter(|pair| !skipped.contains(pair.id.as_str())).count()
}

/// Checks that not all steps of a complete training were skipped, because then its policy was not
/// trained.
fn check_any_step(progress: &TrainerState, total_steps: usize, data: &Data) -> Result<(), DpoError> {
    let &TrainerState { step, skipped: count, .. } = progress;
    if step < total_steps || count < step || step == 0 {
        return Ok(());
    }
    let skipped = &progress.skipped_pairs;
    if count_unskipped(&data.pairs, skipped) == 0 {
        return Err(DpoError::NothingPrepared { count, step, skipped: skipped.clone() });
    }
    let pairs = data.pairs.iter().take(1).map(|pair| pair.id.clone()).collect();
    Err(DpoError::NotFinite { count, step, pairs })
}
