//! The training loop.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpo_pairs::record::PreferencePair;
use bpo_pairs::skipped::Skipped;

use crate::checkpoint::{Best, TrainerState};
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::{DpoError, Source};
use crate::forward::Forward;
use crate::loss::PreferenceLoss;
use crate::metrics::StepMetrics;
use crate::observer::{Observer, RunPlan};
use crate::optimizer::PathOptimizer;
use crate::policy::{Collate, Policy};
use crate::reference::{Reference, ReferenceLogps, check_follows};
use crate::run::{Run, Sampler};
use crate::run_files::RunFiles;
use crate::schedule::LrSchedule;
use crate::step::{State, Stepper};
use crate::trainable::trainable_paths;

/// Trains a policy on preference pairs, and goes on where it was stopped.
///
/// The reference is the policy as it is given, with its adapters off and on plain tensors, unless [another one](Reference) is
/// given; it shares the frozen parameters with the policy. With a run directory the trainer keeps `metrics.jsonl` and `checkpoints/` in it, and
/// takes up the newest checkpoint there; evaluations are in `eval.jsonl`. On the flex backend a run that was stopped and taken up gives the same bits as
/// one that was not.
///
/// Before each step the policy's devices are seeded from [`seed`](DpoConfig::seed) and the number of the step, so that a policy
/// whose dropout the device draws keeps to that. Most backends have one generator for the whole process: what else draws from it
/// meanwhile, in another thread, changes both.
pub struct Trainer<P, C> {
    config: DpoConfig,
    policy: P,
    collate: C,
    run_dir: Option<PathBuf>,
    eval_pairs: Vec<PreferencePair>,
    reference: Reference<P>,
    sampler: Option<Sampler<P>>,
    /// The loss in place of that of the settings.
    loss: Option<Arc<dyn PreferenceLoss>>,
}

impl<P, C> fmt::Debug for Trainer<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("config", &self.config)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainOutput {
    /// Optimizer steps so far, those of earlier runs included.
    pub steps: usize,
    /// Optimizer steps of the whole run.
    pub total_steps: usize,
    /// The step of the checkpoint that was taken up.
    pub resumed_from: Option<usize>,
    /// Steps that were skipped because a loss or gradient was not finite.
    pub skipped_steps: usize,
    /// Pairs trained on.
    pub pairs: usize,
    /// Pairs evaluated on.
    pub eval_pairs: usize,
    /// The best evaluation, if [`keep_best`](DpoConfig::keep_best) or [`patience`](DpoConfig::patience) is set.
    pub best: Option<Best>,
    /// Training ended because the evaluations became no better.
    pub stopped_early: bool,
    /// Pairs that were neither trained nor evaluated on.
    pub skipped: Vec<Skipped>,
    /// Metrics of the last step of this run; `None` if nothing was left to do.
    pub last: Option<StepMetrics>,
}

impl TrainOutput {
    /// Whether nothing is left to do.
    pub fn is_finished(&self) -> bool {
        self.steps == self.total_steps || self.stopped_early
    }
}

impl<P, C> Trainer<P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// A trainer for a policy, which is put in training state.
    ///
    /// # Errors
    /// [`DpoError::Setting`], [`DpoError::NothingToTrain`] or [`DpoError::EmptyGroup`].
    pub fn new(config: DpoConfig, policy: P, collate: C, run_dir: Option<&Path>) -> Result<Self, DpoError> {
        config.validate()?;
        let policy = policy.train();
        if trainable_paths(&policy).is_empty() {
            return Err(DpoError::NothingToTrain);
        }
        optimizer(&config).check_groups(&policy)?;
        let run_dir = run_dir.map(Path::to_owned);
        Ok(Self {
            config,
            policy,
            collate,
            run_dir,
            eval_pairs: Vec::new(),
            reference: Reference::default(),
            sampler: None,
            loss: None,
        })
    }

    /// Sets a loss of your own in place of [`DpoConfig::loss`]. A checkpoint records its [name](PreferenceLoss::name).
    ///
    /// # Errors
    /// [`DpoError::Setting`] or [`DpoError::Conflict`] if the loss cannot be used, or not with the settings.
    pub fn with_loss(mut self, loss: impl PreferenceLoss + 'static) -> Result<Self, DpoError> {
        let loss: Arc<dyn PreferenceLoss> = Arc::new(loss);
        self.config.validate_with(&self.config.objective_with(Arc::clone(&loss)))?;
        self.loss = Some(loss);
        Ok(self)
    }

    /// Another reference than the policy itself.
    #[must_use]
    pub fn with_reference(mut self, reference: Reference<P>) -> Self {
        self.reference = reference;
        self
    }

    /// What is called after every [`sample_every`](DpoConfig::sample_every) steps and after the last one, with the policy on plain
    /// tensors and the number of steps: to have it answer something, for instance.
    #[must_use]
    pub fn with_sampler(mut self, sampler: impl FnMut(&P, usize) -> Result<(), Source> + 'static) -> Self {
        self.sampler = Some(Box::new(sampler));
        self
    }

    /// Pairs to evaluate on beside those that [`eval_fraction`](DpoConfig::eval_fraction) takes from the ones to train on.
    #[must_use]
    pub fn with_eval_pairs(mut self, pairs: Vec<PreferencePair>) -> Self {
        self.eval_pairs = pairs;
        self
    }

    /// Runs to the end, until evaluations become no better, or until the observer asks to stop. All leave a checkpoint.
    ///
    /// The policy is given back in training state: as it was after the last step, or after the best evaluation if that is
    /// [kept](DpoConfig::keep_best) and nothing is left to do.
    ///
    /// # Errors
    /// [`DpoError::NoPairs`]; [`DpoError::NothingToEvaluate`] if a setting needs evaluations and there are none;
    /// [`DpoError::NothingWeakened`], [`DpoError::ReferenceStands`] and [`DpoError::ReferenceUnlike`] where the settings need
    /// another collator or reference;
    /// [`DpoError::NotInReference`] and [`DpoError::StaleReference`] where a cached reference does not fit the pairs;
    /// [`DpoError::ConfigChanged`], [`DpoError::DataChanged`] or [`DpoError::Mismatch`] if the
    /// checkpoint in the run directory is of another run; [`DpoError::InitialMismatch`]; [`DpoError::NotFinite`] after too many steps
    /// in a row, or if no step at all could be made; [`DpoError::NotFiniteTensors`] where a checkpoint would hold what is not finite;
    /// [`DpoError::Collate`], [`DpoError::Rows`], [`DpoError::NoStatistics`] or [`DpoError::Untracked`] for what collator and
    /// policy give; [`DpoError::Sample`] from the sampler; [`DpoError::Io`] and [`DpoError::Device`].
    pub fn train(
        self,
        pairs: &[PreferencePair],
        observer: &mut impl Observer,
    ) -> Result<(P, TrainOutput), DpoError> {
        let Self { config, policy, mut collate, run_dir, eval_pairs, reference, sampler, loss: own } = self;
        let own_loss = own.as_ref().map(|loss| loss.name());
        let objective = config.objective_with(own.unwrap_or_else(|| Arc::new(config.loss.clone())));
        let loss = objective.properties();
        if loss.weakened && !collate.weakens() {
            return Err(DpoError::NothingWeakened);
        }
        match (&config.reference_sync, &reference) {
            (None, _) => {}
            (Some(_), Reference::Frozen(model)) => check_follows(model, &policy)?,
            (Some(_), _) => return Err(DpoError::ReferenceStands),
        }
        let data = Data::new(&config, loss, &mut collate, pairs, eval_pairs)?;
        if let Reference::Cached(cache) = &reference {
            cache.check(&mut collate, loss, &data.pairs)?;
            cache.check(&mut collate, loss, &data.eval_pairs)?;
        }
        let fresh = State {
            reference: ReferenceLogps::new(reference, &policy),
            policy,
            optimizer: optimizer(&config),
            progress: TrainerState::start(config.clone(), own_loss, &data),
            at_init: !config.reference_differs,
        };
        let (files, state, resumed_from) = match &run_dir {
            None => (None, fresh, None),
            Some(dir) => {
                let (files, state, resumed_from) = RunFiles::open(dir, fresh, !data.eval_pairs.is_empty())?;
                (Some(files), state, resumed_from)
            }
        };
        let total_steps = total_steps(&config, data.pairs.len());
        observer.on_start(&RunPlan {
            done_steps: state.progress.step,
            total_steps,
            pairs: data.pairs.len(),
            eval_pairs: data.eval_pairs.len(),
            skipped: &data.skipped,
        });

        let plan = LrSchedule::new(config.schedule, config.warmup_ratio, total_steps);
        let forward = Forward { config: &config, objective: &objective, collate: &mut collate };
        let stepper = Stepper { forward, plan, pairs: data.pairs.len() };
        let mut run = Run::new(&config, &data, stepper, total_steps, files, sampler);
        let (state, last) = run.go_on(state, observer)?;
        let TrainerState { step: steps, skipped, best, .. } = state.progress;
        if steps == total_steps && skipped == steps && steps > 0 {
            // every step was left out: what would be given back was never trained
            let pairs = data.pairs.iter().take(1).map(|pair| pair.id.clone()).collect();
            return Err(DpoError::NotFinite { count: skipped, step: steps, pairs });
        }
        let stopped_early = steps < total_steps && state.progress.is_exhausted();
        let policy = run.into_policy(state)?;
        let summary = TrainOutput {
            steps,
            total_steps,
            resumed_from,
            skipped_steps: skipped,
            pairs: data.pairs.len(),
            eval_pairs: data.eval_pairs.len(),
            best: best.filter(|_| config.needs_evaluations()),
            stopped_early,
            skipped: data.skipped,
            last,
        };
        Ok((policy, summary))
    }
}

fn optimizer(config: &DpoConfig) -> PathOptimizer {
    PathOptimizer::new(&config.adamw(), config.learning_rate, config.lr_groups.clone())
}

fn total_steps(config: &DpoConfig, pairs: usize) -> usize {
    let in_epochs = config.epochs.saturating_mul(pairs.div_ceil(config.pairs_per_step()));
    config.max_steps.unwrap_or(in_epochs)
}
