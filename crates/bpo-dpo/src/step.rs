//! One optimizer step, and one evaluation.

use std::sync::Arc;

use bpo_pairs::{PreferencePair, Skipped};
use burn::optim::GradientsParams;
use burn::tensor::Device;

use crate::batches::{BatchSize, PreparedPairs};
use crate::error::DpoError;
use crate::forward::Forward;
use crate::gradients::{clip_global_norm, scale};
use crate::metrics::{EvalMetrics, StepMetrics};
use crate::optimizer::PathOptimizer;
use crate::policy::Policy;
use crate::reference::{ReferenceLogps, ReferenceSync, follow};
use crate::replica::{BatchResult, Helper, Order, PassBatch, Purpose, Share};
use crate::schedule::LrSchedule;
use crate::state::TrainerState;
use crate::stats::BatchStats;
use crate::trainable::trainable_values;

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
pub(crate) struct Stepper<'a, P: Policy> {
    pub(crate) forward: Forward<'a>,
    pub(crate) schedule: LrSchedule,
    /// Number of pairs in an epoch.
    pub(crate) pairs: usize,
    pub(crate) size: BatchSize,
    /// Further devices, which compute batches as well.
    pub(crate) helpers: Vec<Helper<'a, P>>,
}

/// Returns the next batch of a run.
pub(crate) type NextBatch<'f, 'a, B> = dyn FnMut() -> Result<PreparedPairs<'a, B>, DpoError> + 'f;

/// The results of the batches of a step or an evaluation.
struct Pass<'a> {
    /// The sum of the gradients of all devices.
    gradients: GradientsParams,
    stats: BatchStats,
    /// The pairs that could be prepared.
    pairs: Vec<&'a PreferencePair>,
}

/// The results of a step.
pub(crate) struct Step {
    pub(crate) metrics: StepMetrics,
    /// Ids of the pairs of the step.
    pub(crate) pairs: Vec<String>,
}

impl<'a, P: Policy> Stepper<'a, P> {
    /// Does the next step. If loss or gradient are not finite, or no pair could be prepared, only
    /// the progress is updated.
    pub(crate) fn step(
        &self,
        mut state: State<P>,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<(State<P>, Step), DpoError> {
        let config = self.forward.config;
        let count = config.pairs_per_step().min(self.pairs - state.progress.cursor);
        let (step, must_equal_reference) = (state.progress.step, state.must_equal_reference);
        let purpose = Purpose::Train { step, count, must_equal_reference };
        let Pass { mut gradients, stats, pairs } = self.pass(&mut state, purpose, count, next)?;
        if !pairs.is_empty() && pairs.len() < count {
            // the mean over the pairs that could be prepared
            gradients = scale(&state.policy, gradients, count as f64 / pairs.len() as f64);
        }
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
            self.update_helpers(&state.policy)?;
        }
        state.progress.advance(count, self.pairs, finite);
        state.progress.tokens = stats
            .tokens
            .map(|tokens| state.progress.tokens.unwrap_or_default() + tokens)
            .or(state.progress.tokens.filter(|_| pairs.is_empty()));
        if let Some(ReferenceSync { steps, mixup_alpha }) = config.reference_sync
            && state.progress.step.is_multiple_of(steps)
        {
            if let Some(model) = state.reference.model_mut() {
                *model = follow(model.clone(), &state.policy, mixup_alpha);
            }
            self.helpers.iter().try_for_each(|helper| helper.send(Order::Follow(mixup_alpha)))?;
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

    /// Evaluates `count` pairs that are not trained on.
    pub(crate) fn evaluate(
        &self,
        state: &mut State<P>,
        count: usize,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<EvalMetrics, DpoError> {
        let Pass { stats, .. } = self.pass(state, Purpose::Evaluate, count, next)?;
        let (step, epoch) = (state.progress.step, state.progress.epochs(self.pairs));
        Ok(EvalMetrics::from(StepMetrics { step, epoch, ..stats.metrics() }))
    }

    /// Computes the batches of `count` pairs on all devices, one after the other on each.
    fn pass(
        &self,
        state: &mut State<P>,
        purpose: Purpose,
        count: usize,
        next: &mut NextBatch<'_, 'a, P::Batch>,
    ) -> Result<Pass<'a>, DpoError> {
        let mut share = Share::default();
        for index in 0..self.size.batches(count) {
            let PreparedPairs { pairs, skipped, inputs } = next()?;
            record(&mut state.progress, skipped);
            let Some(inputs) = inputs else { continue };
            let batch = PassBatch { index, pairs, inputs };
            // the main device takes the last batch of each round, when the others have theirs
            match self.helpers.get(index % (self.helpers.len() + 1)) {
                Some(helper) => helper.send(Order::Compute(purpose, Box::new(batch)))?,
                None => share.compute(self.forward, &state.policy, &state.reference, purpose, batch)?,
            }
        }
        for helper in &self.helpers {
            share.add(&state.policy, helper.share()?);
        }
        let (gradients, results) = share.finish();
        let mut pass = Pass { gradients, stats: BatchStats::default(), pairs: Vec::with_capacity(count) };
        for BatchResult { pairs, stats, .. } in results {
            pass.stats.append(stats);
            pass.pairs.extend(pairs);
        }
        Ok(pass)
    }

    /// Sends the trained parameters to the further devices.
    ///
    /// All copies between devices are made by this thread, because those of several threads could
    /// be mixed up between the same two devices.
    fn update_helpers(&self, policy: &P) -> Result<(), DpoError> {
        let mut copies: Vec<(&Device, Arc<_>)> = Vec::new();
        for helper in &self.helpers {
            let known = copies.iter().find(|(device, _)| *device == helper.device());
            let values = match known {
                Some((_, values)) => Arc::clone(values),
                None => {
                    let mut values = trainable_values(policy);
                    for value in values.values_mut() {
                        *value = value.clone().to_device(helper.device());
                    }
                    let values = Arc::new(values);
                    copies.push((helper.device(), Arc::clone(&values)));
                    values
                }
            };
            helper.send(Order::Update(values))?;
        }
        Ok(())
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
