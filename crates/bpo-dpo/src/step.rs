//! One optimizer step, and one evaluation.

use bpo_pairs::record::PreferencePair;
use burn::optim::{GradientsAccumulator, GradientsParams};

use crate::checkpoint::Progress;
use crate::error::DpoError;
use crate::figures::Figures;
use crate::forward::Forward;
use crate::gradients::clip_global_norm;
use crate::metrics::{EvalMetrics, StepMetrics};
use crate::optimizer::PathOptimizer;
use crate::policy::{Collate, Policy};
use crate::schedule::Plan;

/// What changes from step to step.
pub(crate) struct State<P> {
    pub(crate) policy: P,
    pub(crate) optimizer: PathOptimizer,
    pub(crate) progress: Progress,
    /// No step has changed the adapter yet.
    pub(crate) untouched: bool,
}

/// What does not.
pub(crate) struct Stepper<'a, P, C> {
    pub(crate) forward: Forward<'a, P, C>,
    pub(crate) plan: Plan,
    /// Pairs in an epoch.
    pub(crate) pairs: usize,
}

impl<P, C> Stepper<'_, P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// Takes one step with some pairs. If anything is not finite only the progress changes.
    pub(crate) fn step(
        &mut self,
        mut state: State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<(State<P>, StepMetrics), DpoError> {
        let config = self.forward.config;
        let (gradients, figures) = self.forward_backward(&state, pairs)?;
        let (gradients, grad_norm) = clip_global_norm(&state.policy, gradients, config.max_grad_norm)?;
        let factor = self.plan.factor(state.progress.step);
        let finite = grad_norm.is_finite() && figures.is_finite();
        if finite {
            if state.untouched {
                figures.check_untouched(config, pairs)?;
                state.untouched = false;
            }
            state.policy = state.optimizer.step(state.policy, gradients, factor);
        }
        state.progress.advance(pairs.len(), self.pairs, finite);
        let metrics = StepMetrics {
            step: state.progress.step,
            epoch: state.progress.epochs(self.pairs),
            grad_norm,
            learning_rate: config.learning_rate * factor,
            skipped: !finite,
            ..figures.metrics()
        };
        Ok((state, metrics))
    }
    /// Gradient of the mean loss over the pairs, taken in batches of `config.batch_size`.
    ///
    /// Each batch's loss is its sum divided by the number of all pairs, so the batches' gradients just add up, whatever
    /// their sizes.
    fn forward_backward(
        &mut self,
        state: &State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<(GradientsParams, Figures), DpoError> {
        let policy = &state.policy;
        let mut gradients = GradientsAccumulator::new();
        let mut figures = Figures::default();
        for part in pairs.chunks(self.forward.config.batch_size) {
            let losses = self.forward.pass(policy, part, state.untouched, &mut figures)?;
            if !losses.is_autodiff() || !losses.is_tracked() {
                let pairs = part.iter().map(|pair| pair.id.clone()).collect();
                return Err(DpoError::Untracked { pairs });
            }
            let loss = losses.sum().div_scalar(pairs.len() as f64);
            gradients.accumulate(policy, GradientsParams::from_grads(loss.backward(), policy));
        }
        Ok((gradients.grads(), figures))
    }

    /// The figures of pairs that are not trained on.
    pub(crate) fn evaluate(
        &mut self,
        state: &State<P>,
        pairs: &[&PreferencePair],
    ) -> Result<EvalMetrics, DpoError> {
        let policy = state.policy.valid();
        let mut figures = Figures::default();
        for part in pairs.chunks(self.forward.config.batch_size) {
            self.forward.pass(&policy, part, false, &mut figures)?;
        }
        let (step, epoch) = (state.progress.step, state.progress.epochs(self.pairs));
        Ok(EvalMetrics::from(StepMetrics { step, epoch, ..figures.metrics() }))
    }
}
