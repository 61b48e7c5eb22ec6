//! One optimizer step, and one evaluation.

use bpo_pairs::{PreferencePair, item_seed};
use burn::optim::{GradientsAccumulator, GradientsParams};

use crate::checkpoint::TrainerState;
use crate::error::DpoError;
use crate::forward::{Forward, check_tracked};
use crate::gradients::clip_global_norm;
use crate::metrics::{EvalMetrics, StepMetrics};
use crate::optimizer::PathOptimizer;
use crate::policy::{Collate, Policy};
use crate::reference::{ReferenceLogps, ReferenceSync, follow};
use crate::schedule::LrSchedule;
use crate::stats::BatchStats;

/// What changes from step to step.
pub(crate) struct State<P> {
    pub(crate) policy: P,
    pub(crate) reference: ReferenceLogps<P>,
    pub(crate) optimizer: PathOptimizer,
    pub(crate) progress: TrainerState,
    /// No step has changed the adapter yet.
    pub(crate) at_init: bool,
}

/// What does not.
pub(crate) struct Stepper<'a, C> {
    pub(crate) forward: Forward<'a, C>,
    pub(crate) plan: LrSchedule,
    /// Pairs in an epoch.
    pub(crate) pairs: usize,
}

impl<C: Collate> Stepper<'_, C> {
    /// Takes one step with some pairs. If anything is not finite only the progress changes.
    pub(crate) fn step<P: Policy<Batch = C::Batch>>(
        &mut self,
        mut state: State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<(State<P>, StepMetrics), DpoError> {
        let config = self.forward.config;
        // what a policy draws, for dropout say, follows from seed and step: a run that was taken up draws the same
        let seed = item_seed(config.seed, &format!("step/{}", state.progress.step));
        state.policy.devices().iter().for_each(|device| device.seed(seed));
        let (gradients, stats) = self.forward_backward(&state, pairs)?;
        let (gradients, grad_norm) = clip_global_norm(&state.policy, gradients, config.max_grad_norm)?;
        let factor = self.plan.factor(state.progress.step);
        let finite = grad_norm.is_finite() && stats.is_finite();
        if finite {
            if state.at_init {
                stats.check_untouched(config, pairs)?;
                state.at_init = false;
            }
            state.policy = state.optimizer.step(state.policy, gradients, factor);
        }
        state.progress.advance(pairs.len(), self.pairs, finite);
        state.progress.tokens = stats.tokens.map(|tokens| state.progress.tokens.unwrap_or_default() + tokens);
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
        Ok((state, metrics))
    }

    /// Gradient of the mean loss over the pairs, taken in batches of `config.batch_size`.
    ///
    /// Each batch's loss is its sum divided by the number of all pairs, so the batches' gradients just add up, whatever
    /// their sizes.
    fn forward_backward<P: Policy<Batch = C::Batch>>(
        &mut self,
        state: &State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<(GradientsParams, BatchStats), DpoError> {
        let policy = &state.policy;
        let mut gradients = GradientsAccumulator::new();
        let mut stats = BatchStats::default();
        for part in pairs.chunks(self.forward.config.batch_size) {
            let losses = self.forward.pass(policy, &state.reference, part, state.at_init, &mut stats)?;
            check_tracked(&losses, part)?;
            let loss = losses.sum().div_scalar(pairs.len() as f64);
            gradients.accumulate(policy, GradientsParams::from_grads(loss.backward(), policy));
        }
        Ok((gradients.grads(), stats))
    }

    /// The figures of pairs that are not trained on.
    pub(crate) fn evaluate<P: Policy<Batch = C::Batch>>(
        &mut self,
        state: &State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<EvalMetrics, DpoError> {
        let policy = state.policy.valid();
        let mut stats = BatchStats::default();
        for part in pairs.chunks(self.forward.config.batch_size) {
            self.forward.pass(&policy, &state.reference, part, false, &mut stats)?;
        }
        let (step, epoch) = (state.progress.step, state.progress.epochs(self.pairs));
        Ok(EvalMetrics::from(StepMetrics { step, epoch, ..stats.metrics() }))
    }
}
