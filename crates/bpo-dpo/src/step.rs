//! One optimizer step.

use bpo_pairs::record::PreferencePair;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use crate::checkpoint::Progress;
use crate::config::{DpoConfig, Weighting};
use crate::error::DpoError;
use crate::figures::Figures;
use crate::gradients::{clip_global_norm, read};
use crate::logps::PairLogps;
use crate::loss::wpo_weights;
use crate::metrics::StepMetrics;
use crate::optimizer::PathOptimizer;
use crate::order::GroupBatch;
use crate::policy::{Adapters, Collate, Policy, TokenLogps};
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
    pub(crate) config: &'a DpoConfig,
    pub(crate) plan: Plan,
    pub(crate) reference: P,
    pub(crate) collate: &'a mut C,
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
        let (gradients, figures) =
            forward_backward(&state, &self.reference, self.collate, self.config, pairs)?;
        let (gradients, grad_norm) = clip_global_norm(&state.policy, gradients, self.config.max_grad_norm)?;
        let factor = self.plan.factor(state.progress.step);
        let finite = grad_norm.is_finite() && figures.is_finite();
        if finite {
            if state.untouched {
                figures.check_untouched(self.config, pairs)?;
                state.untouched = false;
            }
            state.policy = state.optimizer.step(state.policy, gradients, factor);
        }
        state.progress.advance(pairs.len(), self.pairs, finite);
        let Progress { step, epoch, cursor, .. } = state.progress;
        let metrics = StepMetrics {
            step,
            epoch: epoch as f64 + cursor as f64 / self.pairs as f64,
            grad_norm,
            learning_rate: self.config.learning_rate * factor,
            skipped: !finite,
            ..figures.metrics()
        };
        Ok((state, metrics))
    }
}

/// Gradient of the mean loss over the pairs, taken in batches of `config.batch_size`.
///
/// Each batch's loss is its sum divided by the number of all pairs, so the batches' gradients just add up, whatever
/// their sizes.
fn forward_backward<P, C>(
    state: &State<P>,
    reference: &P,
    collate: &mut C,
    config: &DpoConfig,
    pairs: &[&PreferencePair],
) -> Result<(GradientsParams, Figures), DpoError>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    let objective = config.objective();
    let policy = &state.policy;
    let mut gradients = GradientsAccumulator::new();
    let mut figures = Figures::default();
    for part in pairs.chunks(config.batch_size) {
        let ids = || part.iter().map(|pair| pair.id.clone()).collect::<Vec<_>>();
        let batch = match objective.needs_rejected() {
            true => GroupBatch::new(part.iter().copied()),
            false => GroupBatch::chosen(part.iter().copied()),
        };
        let inputs = collate
            .collate(&batch.groups)
            .map_err(|error| DpoError::Collate { pairs: ids(), source: Box::new(error) })?;
        let check = |tokens: &TokenLogps| match (batch.completions(), tokens.logps.dims()[0]) {
            (expected, found) if expected != found => Err(DpoError::Rows { expected, found, pairs: ids() }),
            _ => Ok(()),
        };
        let logps = |tokens: &TokenLogps| match objective.ld_alpha {
            Some(_) => PairLogps::with_tails(tokens, &batch.rows),
            None => PairLogps::of_tokens(tokens, &batch.rows),
        };
        let constant = match objective.needs_reference() {
            true => {
                let tokens = reference.token_logps(&inputs, Adapters::Off);
                check(&tokens)?;
                Some(logps(&tokens).inner())
            }
            false => None,
        };
        let (tokens, statistics) = match config.needs_statistics() {
            true => policy.token_statistics(&inputs, Adapters::On),
            false => (policy.token_logps(&inputs, Adapters::On), None),
        };
        check(&tokens)?;
        let trained = logps(&tokens);
        let mut factors = config.factors(part, &trained.chosen);
        match (config.weighting, &statistics) {
            (None, _) => {}
            (Some(Weighting::Wpo), Some(statistics)) => {
                factors = factors.weighted(wpo_weights(&tokens, statistics, &batch.rows));
            }
            (Some(_), None) => return Err(DpoError::NoStatistics),
        }
        let output = objective.forward(&trained, constant.as_ref(), &factors);
        if !output.losses.is_autodiff() || !output.losses.is_tracked() {
            return Err(DpoError::Untracked { pairs: ids() });
        }
        let loss = output.losses.clone().sum().div_scalar(pairs.len() as f64);
        gradients.accumulate(policy, GradientsParams::from_grads(loss.backward(), policy));

        let trained = trained.inner();
        let lengths = PairLogps::select(tokens.counts(), &batch.rows);
        let mut columns = vec![
            (&mut figures.chosen_tokens, lengths.chosen),
            (&mut figures.rejected_tokens, lengths.rejected),
            (&mut figures.losses, output.losses.inner()),
            (&mut figures.chosen_rewards, output.chosen_rewards),
            (&mut figures.rejected_rewards, output.rejected_rewards),
            (&mut figures.chosen_logps, trained.chosen),
            (&mut figures.rejected_logps, trained.rejected),
        ];
        if let Some(statistics) = statistics {
            let sums =
                |values: Tensor<2>| PairLogps::select(values.sum_dim(1).squeeze_dim::<1>(1), &batch.rows);
            let (entropy, logits) = (sums(statistics.entropy), sums(statistics.mean_logit));
            columns.extend([
                (&mut figures.statistics.entropy, entropy.chosen + entropy.rejected),
                (&mut figures.statistics.chosen_logits, logits.chosen),
                (&mut figures.statistics.rejected_logits, logits.rejected),
                (&mut figures.statistics.chosen_top1, sums(statistics.top1).chosen),
            ]);
        }
        if let Some(constant) = constant.filter(|_| state.untouched) {
            let same = objective.forward(&constant, Some(&constant), &factors);
            columns.push((&mut figures.untouched_losses, same.losses));
        }
        // one read from the device for all of them
        let (columns, tensors): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values = read(Tensor::cat(tensors, 0), "the figures of a step")?;
        for (column, values) in columns.into_iter().zip(values.chunks(part.len())) {
            column.extend_from_slice(values);
        }
        if !objective.needs_rejected() {
            figures.forget_comparison();
        }
    }
    Ok((gradients.grads(), figures))
}
