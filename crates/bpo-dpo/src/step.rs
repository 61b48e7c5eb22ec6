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

/// The part of a run that steps change.
pub(crate) struct State<P> {
    pub(crate) policy: P,
    pub(crate) reference: ReferenceLogps<P>,
    pub(crate) optimizer: PathOptimizer,
    pub(crate) progress: TrainerState,
    /// Whether policy and reference must be equal in the next step, because no step has changed the
    /// policy yet.
    pub(crate) must_equal_reference: bool,
}

/// The part of a run that steps do not change.
pub(crate) struct Stepper<'a> {
    pub(crate) forward: Forward<'a>,
    pub(crate) schedule: LrSchedule,
    /// Number of pairs in an epoch.
    pub(crate) pairs: usize,
}

/// Returns the next batch of a run.
pub(crate) type NextBatch<'f, 'a, B> = dyn FnMut() -> Result<PreparedPairs<'a, B>, DpoError> + 'f;

/// The results of the forward and backward passes of a step.
struct Pass<'a> {
    gradients: GradientsParams,
    stats: BatchStats,
    /// The pairs that the gradients were computed for.
    pairs: Vec<&'a PreferencePair>,
}

/// The results of a step.
pub(crate) struct Step {
    pub(crate) metrics: StepMetrics,
    /// Ids of the pairs of the step.
    pub(crate) pairs: Vec<String>,
}

impl Stepper<'_> {
    /// Does the next step. If loss or gradient are not finite, or no pair could be prepared, only
    /// the progress is updated.
    pub(crate) fn step<'a, P: Policy>(
        &self,
        mut state: State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<(State<P>, Step), DpoError> {
        let config = self.forward.config;
        // the device is seeded by seed and step, so that a resumed run draws the same dropout masks
        let seed = item_seed(config.seed, format!("step/{}", state.progress.step));
        state.policy.devices().iter().for_each(|device| device.seed(seed));
        let count = config.pairs_per_step().min(self.pairs - state.progress.cursor);
        let Pass { gradients, stats, pairs } = self.forward_backward(&mut state, count, next)?;
        let (gradients, grad_norm) = clip_global_norm(&state.policy, gradients, config.max_grad_norm)?;
        let factor = self.schedule.factor(state.progress.step);
        let grad_norm = if pairs.is_empty() { f64::NAN } else { grad_norm };
        let finite = grad_norm.is_finite() && stats.is_finite();
        if finite {
            if state.must_equal_reference {
                stats.check_equals_reference(config, &pairs)?;
                state.must_equal_reference = false;
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

    /// Computes the gradient of the mean loss over the `count` pairs of a step, in batches of
    /// `config.batch_size`.
    ///
    /// The loss of each batch is its sum divided by `count`, so the sum of the gradients is the
    /// gradient of the mean for any batch sizes. If some of the pairs could not be prepared, the
    /// gradient is scaled to the mean over the others.
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
            let State { policy, reference, must_equal_reference, .. } = &*state;
            let losses =
                self.forward.losses(policy, reference, &inputs, &pairs, *must_equal_reference, &mut stats)?;
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

    /// Evaluates `count` pairs that are not trained on.
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

/// Records pairs that could not be prepared, each pair once, and logs a warning.
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
