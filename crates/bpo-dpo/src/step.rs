//! One optimizer step, and one evaluation.

use bpo_pairs::{PreferencePair, Skipped, item_seed};
use burn::optim::{GradientsAccumulator, GradientsParams};

use crate::batches::PreparedPairs;
use crate::error::DpoError;
use crate::forward::{Forward, check_tracked};
use crate::gradients::{clip_global_norm, scale};
use crate::metrics::{EvalMetrics, StepMetrics};
use crate::optimizer::PathOptimizer;
use crate::policy::Policy;
use crate::reference::{ReferenceLogps, ReferenceSync, follow};
use crate::schedule::LrSchedule;
use crate::state::TrainerState;
use crate::stats::BatchStats;

/// The part of a run that changes from step to step.
pub(crate) struct State<P> {
    pub(crate) policy: P,
    pub(crate) reference: ReferenceLogps<P>,
    pub(crate) optimizer: PathOptimizer,
    pub(crate) progress: TrainerState,
    /// No step has changed the adapter yet.
    pub(crate) at_init: bool,
}

/// The part of a run that stays the same.
pub(crate) struct Stepper<'a> {
    pub(crate) forward: Forward<'a>,
    pub(crate) schedule: LrSchedule,
    /// Pairs in an epoch.
    pub(crate) pairs: usize,
}

/// Gives the batches of a run, one after the other.
pub(crate) type NextBatch<'f, 'a, B> = dyn FnMut() -> Result<PreparedPairs<'a, B>, DpoError> + 'f;

/// The pairs of a step, and its results.
struct Pass<'a> {
    gradients: GradientsParams,
    stats: BatchStats,
    /// The pairs that the gradients are of.
    pairs: Vec<&'a PreferencePair>,
}

/// A step that was taken.
pub(crate) struct Step {
    pub(crate) metrics: StepMetrics,
    /// Ids of its pairs.
    pub(crate) pairs: Vec<String>,
}

impl Stepper<'_> {
    /// Takes the next step. If anything is not finite, or no pair could be prepared, only the
    /// progress changes.
    pub(crate) fn step<'a, P: Policy>(
        &self,
        mut state: State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<(State<P>, Step), DpoError> {
        let config = self.forward.config;
        // what a policy draws, for dropout for instance, follows from seed and step: a resumed run
        // draws the same
        let seed = item_seed(config.seed, format!("step/{}", state.progress.step));
        state.policy.devices().iter().for_each(|device| device.seed(seed));
        let count = config.pairs_per_step().min(self.pairs - state.progress.cursor);
        let Pass { gradients, stats, pairs } = self.forward_backward(&mut state, count, next)?;
        let (gradients, grad_norm) = clip_global_norm(&state.policy, gradients, config.max_grad_norm)?;
        let factor = self.schedule.factor(state.progress.step);
        let grad_norm = if pairs.is_empty() { f64::NAN } else { grad_norm };
        let finite = grad_norm.is_finite() && stats.is_finite();
        if finite {
            if state.at_init {
                stats.check_untouched(config, &pairs)?;
                state.at_init = false;
            }
            state.policy = state.optimizer.step(state.policy, gradients, factor);
        }
        state.progress.advance(count, self.pairs, finite);
        state.progress.tokens = stats
            .tokens
            .map(|tokens| state.progress.tokens.unwrap_or_default() + tokens)
            .or(state.progress.tokens.filter(|_| pairs.is_empty()));
        if let Some(ReferenceSync { steps, mixup_alpha }) = config.reference_sync
            && state.progress.step.is_multiple_of(steps)
        {
            state.reference =
                state.reference.map(|reference| Ok(follow(reference, &state.policy, mixup_alpha)))?;
        }
        let metrics = StepMetrics {
            step: state.progress.step,
            epoch: state.progress.epochs(self.pairs),
            grad_norm,
            learning_rate: config.learning_rate * factor,
            num_tokens: state.progress.tokens,
            skipped: !finite,
            ..stats.metrics()
        };
        let pairs = pairs.into_iter().map(|pair| pair.id.clone()).collect();
        Ok((state, Step { metrics, pairs }))
    }

    /// Gradient of the mean loss over the `count` pairs of a step, in batches of
    /// `config.batch_size`.
    ///
    /// Each batch's loss is its sum divided by `count`, so the batches' gradients add up to that of
    /// the mean, whatever their sizes. If some of the pairs could not be prepared, the gradient is
    /// scaled to the mean of the others.
    fn forward_backward<'a, P: Policy>(
        &self,
        state: &mut State<P>,
        count: usize,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<Pass<'a>, DpoError> {
        let mut gradients = GradientsAccumulator::new();
        let mut stats = BatchStats::default();
        let mut used = Vec::with_capacity(count);
        for _ in 0..count.div_ceil(self.forward.config.batch_size) {
            let PreparedPairs { pairs, skipped, inputs } = next()?;
            record(&mut state.progress, skipped);
            let Some(inputs) = inputs else { continue };
            let State { policy, reference, at_init, .. } = &*state;
            let losses = self.forward.losses(policy, reference, &inputs, &pairs, *at_init, &mut stats)?;
            check_tracked(&losses, &pairs)?;
            let loss = losses.sum().div_scalar(count as f64);
            gradients.accumulate(policy, GradientsParams::from_grads(loss.backward(), policy));
            used.extend(pairs);
        }
        let mut gradients = gradients.grads();
        if !used.is_empty() && used.len() < count {
            gradients = scale(&state.policy, gradients, count as f64 / used.len() as f64);
        }
        Ok(Pass { gradients, stats, pairs: used })
    }

    /// The metrics of `count` pairs that are not trained on.
    pub(crate) fn evaluate<'a, P: Policy>(
        &self,
        state: &mut State<P>,
        count: usize,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<EvalMetrics, DpoError> {
        let policy = state.policy.valid();
        let mut stats = BatchStats::default();
        for _ in 0..count.div_ceil(self.forward.config.batch_size) {
            let PreparedPairs { pairs, skipped, inputs } = next()?;
            record(&mut state.progress, skipped);
            let Some(inputs) = inputs else { continue };
            self.forward.losses(&policy, &state.reference, &inputs, &pairs, false, &mut stats)?;
        }
        let (step, epoch) = (state.progress.step, state.progress.epochs(self.pairs));
        Ok(EvalMetrics::from(StepMetrics { step, epoch, ..stats.metrics() }))
    }
}

/// Records pairs that could not be prepared, each once, with a warning.
fn record(progress: &mut TrainerState, skipped: Vec<Skipped>) {
    for skipped in skipped {
        if progress.skipped_pairs.iter().any(|known| known.id == skipped.id) {
            continue;
        }
        tracing::warn!(
            pair = skipped.id,
            reason = skipped.detail,
            "skipping a pair that passed the check and cannot be prepared"
        );
        progress.skipped_pairs.push(skipped);
    }
}
