//! One forward pass: the losses of a batch of pairs, and its figures.

use bpo_pairs::record::PreferencePair;
use burn::tensor::Tensor;

use crate::config::{DpoConfig, Weighting};
use crate::error::DpoError;
use crate::figures::Figures;
use crate::gradients::read;
use crate::logps::PairLogps;
use crate::loss::{off_tape, wpo_weights};
use crate::order::GroupBatch;
use crate::policy::{Adapters, Collate, Policy, TokenLogps};

/// What a pass needs beside the policy and the pairs.
pub(crate) struct Forward<'a, P, C> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) reference: P,
    pub(crate) collate: &'a mut C,
}

impl<P, C> Forward<'_, P, C>
where
    P: Policy,
    C: Collate<Batch = P::Batch>,
{
    /// Gives the losses, on the tape of the policy, and adds to the figures; for a policy that is `untouched` also what the
    /// losses should be. `[pairs]`
    pub(crate) fn pass(
        &mut self,
        policy: &P,
        pairs: &[&PreferencePair],
        untouched: bool,
        figures: &mut Figures,
    ) -> Result<Tensor<1>, DpoError> {
        let config = self.config;
        let objective = config.objective();
        let ids = || pairs.iter().map(|pair| pair.id.clone()).collect::<Vec<_>>();
        let batch = match objective.needs_rejected() {
            true => GroupBatch::new(pairs.iter().copied()),
            false => GroupBatch::chosen(pairs.iter().copied()),
        };
        let inputs = self
            .collate
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
                let tokens = self.reference.token_logps(&inputs, Adapters::Off);
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
        let mut factors = config.factors(pairs, &trained.chosen);
        match (config.weighting, &statistics) {
            (None, _) => {}
            (Some(Weighting::Wpo), Some(statistics)) => {
                factors = factors.weighted(wpo_weights(&tokens, statistics, &batch.rows));
            }
            (Some(_), None) => return Err(DpoError::NoStatistics),
        }
        let output = objective.forward(&trained, constant.as_ref(), &factors);

        let trained = trained.inner();
        let lengths = PairLogps::select(tokens.counts(), &batch.rows);
        let mut columns = vec![
            (&mut figures.losses, off_tape(output.losses.clone())),
            (&mut figures.chosen_rewards, output.chosen_rewards),
            (&mut figures.rejected_rewards, output.rejected_rewards),
            (&mut figures.chosen_logps, trained.chosen),
            (&mut figures.rejected_logps, trained.rejected),
            (&mut figures.chosen_tokens, lengths.chosen),
            (&mut figures.rejected_tokens, lengths.rejected),
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
        if let Some(constant) = constant.filter(|_| untouched) {
            let same = objective.forward(&constant, Some(&constant), &factors);
            columns.push((&mut figures.untouched_losses, same.losses));
        }
        // one read from the device for all of them
        let (columns, tensors): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values = read(Tensor::cat(tensors, 0), "the figures of a step")?;
        for (column, values) in columns.into_iter().zip(values.chunks(pairs.len())) {
            column.extend_from_slice(values);
        }
        if !objective.needs_rejected() {
            figures.forget_comparison();
        }
        Ok(output.losses)
    }
}
