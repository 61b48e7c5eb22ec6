//! The training loop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpo_pairs::record::PreferencePair;

use crate::checkpoint::{Best, Progress, fingerprint};
use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::forward::Forward;
use crate::metrics::StepMetrics;
use crate::observer::{Control, Observer, RunPlan};
use crate::optimizer::PathOptimizer;
use crate::order::{DataOrder, split};
use crate::policy::{Collate, Policy};
use crate::run_files::RunFiles;
use crate::schedule::Plan;
use crate::step::{State, Stepper};
use crate::trainable::{load_trainable, save_trainable, trainable_paths};
use crate::vet::{SetAside, vet};

/// Trains a policy on preference pairs, and goes on where it was stopped.
///
/// The reference is the policy as it is given, with its adapters off and on plain tensors; it shares the frozen
/// parameters with the policy. With a run directory the trainer keeps `metrics.jsonl` and `checkpoints/` in it, and
/// takes up the newest checkpoint there; evaluations are in `eval.jsonl`. On the flex backend a run that was stopped and taken up gives the same bits as
/// one that was not.
#[derive(Debug)]
pub struct Trainer<P, C> {
    config: DpoConfig,
    policy: P,
    collate: C,
    run_dir: Option<PathBuf>,
    eval_pairs: Vec<PreferencePair>,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Optimizer steps so far, those of earlier runs included.
    pub steps: usize,
    /// Optimizer steps of the whole run.
    pub total_steps: usize,
    /// The step of the checkpoint that was taken up.
    pub resumed_from: Option<usize>,
    /// Steps left out because a loss or gradient was not finite.
    pub skipped: usize,
    /// Pairs trained on.
    pub pairs: usize,
    /// Pairs evaluated on.
    pub eval_pairs: usize,
    /// The best evaluation, if [`keep_best`](DpoConfig::keep_best) or [`patience`](DpoConfig::patience) is set.
    pub best: Option<Best>,
    /// Training ended because the evaluations became no better.
    pub stopped_early: bool,
    /// Pairs that were neither trained nor evaluated on.
    pub set_aside: Vec<SetAside>,
    /// Figures of the last step of this run; `None` if nothing was left to do.
    pub last: Option<StepMetrics>,
}

impl Summary {
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
        Ok(Self { config, policy, collate, run_dir, eval_pairs: Vec::new() })
    }

    /// Pairs to evaluate on beside those that [`eval_part`](DpoConfig::eval_part) takes from the ones to train on.
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
    /// [`DpoError::ConfigChanged`], [`DpoError::DataChanged`] or [`DpoError::Mismatch`] if the
    /// checkpoint in the run directory is of another run; [`DpoError::StepZero`]; [`DpoError::NotFinite`] after too many steps
    /// in a row, or if no step at all could be made;
    /// [`DpoError::Collate`], [`DpoError::Rows`], [`DpoError::NoStatistics`] or [`DpoError::Untracked`] for what collator and
    /// policy give; [`DpoError::Io`] and [`DpoError::Device`].
    pub fn train(
        self,
        pairs: &[PreferencePair],
        observer: &mut impl Observer,
    ) -> Result<(P, Summary), DpoError> {
        let Self { config, policy, mut collate, run_dir, eval_pairs } = self;
        let mut vetted = |pairs: Vec<PreferencePair>| match config.vet {
            true => vet(&mut collate, &pairs),
            false => (pairs, Vec::new()),
        };
        let (pairs, mut set_aside) = vetted(pairs.to_vec());
        let (eval_pairs, unusable) = vetted(eval_pairs);
        set_aside.extend(unusable);
        if !set_aside.is_empty() {
            tracing::warn!(set_aside = set_aside.len(), kept = pairs.len(), "some pairs cannot be used");
        }
        let (pairs, split_off) = split(pairs, config.eval_part, config.seed);
        let eval_pairs: Vec<&PreferencePair> = eval_pairs.iter().chain(&split_off).collect();
        if pairs.is_empty() {
            return Err(DpoError::NoPairs { set_aside });
        }
        if eval_pairs.is_empty() && config.needs_evaluations() {
            return Err(DpoError::NothingToEvaluate);
        }

        let reference = policy.valid();
        let fresh = State {
            policy,
            optimizer: optimizer(&config),
            progress: Progress::start(config.clone(), fingerprint(&pairs)),
            untouched: !config.pretrained_adapter,
        };
        let (mut files, mut state, resumed_from) = match &run_dir {
            None => (None, fresh, None),
            Some(dir) => {
                let (files, state, resumed_from) = RunFiles::open(dir, fresh, !eval_pairs.is_empty())?;
                (Some(files), state, resumed_from)
            }
        };
        let total_steps = total_steps(&config, pairs.len());
        observer.on_start(&RunPlan {
            done_steps: state.progress.step,
            total_steps,
            pairs: pairs.len(),
            eval_pairs: eval_pairs.len(),
            set_aside: &set_aside,
        });

        let order = DataOrder::new(&pairs);
        let mut epoch = order.epoch(config.seed, state.progress.epoch);
        let plan = Plan::new(config.schedule, config.warmup_ratio, total_steps);
        let forward = Forward { config: &config, reference, collate: &mut collate };
        let mut stepper = Stepper { forward, plan, pairs: pairs.len() };
        let mut last = None;
        // the best parameters of a run without a directory
        let mut kept = None;
        // a time that no clock reaches is none
        let save_after = Duration::try_from_secs_f64(60.0 * config.save_minutes).unwrap_or(Duration::MAX);
        let mut saved = Instant::now();
        while state.progress.step < total_steps && !state.progress.is_exhausted() {
            let _span = tracing::info_span!("dpo.step", step = state.progress.step + 1).entered();
            let rest = &epoch[state.progress.cursor..];
            let indices = &rest[..rest.len().min(config.pairs_per_step())];
            let chosen: Vec<_> = indices.iter().map(|&index| &pairs[index]).collect();
            let (next, metrics) = stepper.step(state, &chosen)?;
            state = next;
            if state.progress.cursor == 0 {
                epoch = order.epoch(config.seed, state.progress.epoch);
            }
            if let Some(files) = &mut files {
                files.metrics.append(&metrics)?;
            }
            let control = observer.on_step(&metrics);
            if metrics.skipped {
                report_skipped(&config, &state.progress, &chosen)?;
            }
            last = Some(metrics);

            let step = state.progress.step;
            let ends = step == total_steps;
            let mut is_best = false;
            if !eval_pairs.is_empty() && (ends || step.is_multiple_of(config.eval_every)) {
                let metrics = stepper.evaluate(&state, &eval_pairs)?;
                is_best = state.progress.judge(&metrics);
                if let Some(log) = files.as_mut().and_then(|files| files.evaluations.as_mut()) {
                    log.append(&metrics)?;
                }
                observer.on_evaluation(&metrics);
            }
            let done = ends || control == Control::Stop || state.progress.is_exhausted();
            let due = step.is_multiple_of(config.save_every) || saved.elapsed() >= save_after;
            let is_kept = is_best && config.keep_best.is_some();
            match &files {
                Some(files) if done || due || is_kept => {
                    files.save(&state)?;
                    saved = Instant::now();
                }
                None if is_kept => kept = Some(save_trainable(&state.policy)?),
                _ => {}
            }
            if control == Control::Stop {
                break;
            }
        }
        let Progress { step: steps, skipped, best, .. } = state.progress;
        if steps == total_steps && skipped == steps && steps > 0 {
            // every step was left out: what would be given back was never trained
            let pairs = pairs.iter().take(1).map(|pair| pair.id.clone()).collect();
            return Err(DpoError::NotFinite { count: skipped, step: steps, pairs });
        }
        let summary = Summary {
            steps,
            total_steps,
            resumed_from,
            skipped,
            pairs: pairs.len(),
            eval_pairs: eval_pairs.len(),
            best: best.filter(|_| config.needs_evaluations()),
            stopped_early: steps < total_steps && state.progress.is_exhausted(),
            set_aside,
            last,
        };
        let policy = match (best.filter(|_| config.keep_best.is_some() && summary.is_finished()), &files) {
            (Some(best), Some(files)) => load_trainable(state.policy, &files.trainable(best.step)?)?,
            (Some(_), None) => match kept {
                Some(parameters) => load_trainable(state.policy, &parameters)?,
                None => state.policy,
            },
            (None, _) => state.policy,
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

/// A warning, or an error if there were too many.
fn report_skipped(
    config: &DpoConfig,
    progress: &Progress,
    pairs: &[&PreferencePair],
) -> Result<(), DpoError> {
    let pairs: Vec<String> = pairs.iter().map(|pair| pair.id.clone()).collect();
    tracing::warn!(step = progress.step, ?pairs, "loss or gradient not finite: step left out");
    if progress.skipped_in_a_row < config.max_skipped {
        return Ok(());
    }
    Err(DpoError::NotFinite { count: progress.skipped_in_a_row, step: progress.step, pairs })
}
