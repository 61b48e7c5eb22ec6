//! One forward pass: the losses of a batch of pairs, and its stats.

use bpo_pairs::PreferencePair;
use burn::tensor::{Device, Tensor};

use crate::config::{DpoConfig, Weighting};
use crate::error::DpoError;
use crate::gradients::read;
use crate::logps::{PairLogps, PairRows};
use crate::loss::wpo_weights;
use crate::order::{GroupBatch, ids};
use crate::policy::{Adapters, Collate, Policy, TokenLogps};
use crate::reference::ReferenceLogps;
use crate::stats::BatchStats;
use crate::tensors::off_tape;

/// What a pass needs beside the models and the pairs.
pub(crate) struct Forward<'a, C> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) collate: &'a mut C,
}

impl<C: Collate> Forward<'_, C> {
    /// Prepares the pairs and gives their [losses](Prepared::losses).
    pub(crate) fn pass<P: Policy<Batch = C::Batch>>(
        &mut self,
        policy: &P,
        reference: &ReferenceLogps<P>,
        pairs: &[&PreferencePair],
        at_init: bool,
        stats: &mut BatchStats,
    ) -> Result<Tensor<1>, DpoError> {
        let prepared = Prepared::new(self.config, self.collate, pairs)?;
        prepared.losses(self.config, policy, reference, pairs, at_init, stats)
    }
}

/// Pairs as policy and reference take them.
pub(crate) struct Prepared<B> {
    batch: GroupBatch,
    inputs: B,
    /// Of all sequences that the losses are of, where the collator tells.
    tokens: Option<usize>,
}

impl<B> Prepared<B> {
    /// Has the collator prepare what the objective needs of the pairs.
    pub(crate) fn new<C: Collate<Batch = B>>(
        config: &DpoConfig,
        collate: &mut C,
        pairs: &[&PreferencePair],
    ) -> Result<Self, DpoError> {
        let batch = GroupBatch::for_objective(&config.objective(), pairs.iter().copied());
        let inputs = batch.collate(collate, pairs)?;
        let lengths = collate.lengths(&inputs);
        if let Some(found) = lengths.as_ref().map(Vec::len) {
            batch.check_rows(found, pairs)?;
        }
        let tokens = lengths.map(|lengths| {
            let PairRows { chosen, rejected, weakened } = &batch.rows;
            // as TRL counts: a prompt with each of its completions, in each pair
            let rejected = if config.objective().needs_rejected() { rejected.as_slice() } else { &[] };
            chosen.iter().chain(rejected).chain(weakened).map(|&row| lengths[row]).sum()
        });
        Ok(Self { batch, inputs, tokens })
    }

    /// Gives the losses, on the tape of the policy, and adds to the stats; for a policy `at_init` also what the
    /// losses should be. `[pairs]`
    pub(crate) fn losses<P: Policy<Batch = B>>(
        &self,
        config: &DpoConfig,
        policy: &P,
        reference: &ReferenceLogps<P>,
        pairs: &[&PreferencePair],
        at_init: bool,
        stats: &mut BatchStats,
    ) -> Result<Tensor<1>, DpoError> {
        let objective = config.objective();
        let Self { batch, inputs, tokens: taken } = self;
        let logps = |tokens: &TokenLogps| match objective.ld_alpha {
            Some(_) => PairLogps::with_tails(tokens, &batch.rows),
            None => PairLogps::of_tokens(tokens, &batch.rows),
        };
        let in_training = || policy.devices().iter().any(Device::is_autodiff);
        let shared = match objective.needs_reference() && reference.is_policy() && in_training() {
            true => policy.shared(inputs),
            false => None,
        };
        let inputs = shared.as_ref().unwrap_or(inputs);
        let constant = match objective.needs_reference() {
            true => {
                let tokens = reference.token_logps(batch, inputs, pairs, policy)?;
                batch.check_rows(tokens.completions(), pairs)?;
                Some(logps(&tokens).inner())
            }
            false => None,
        };
        let (tokens, statistics) = match config.needs_statistics() {
            true => policy.token_statistics(inputs, Adapters::On),
            false => (policy.token_logps(inputs, Adapters::On), None),
        };
        batch.check_rows(tokens.completions(), pairs)?;
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
            (&mut stats.losses, off_tape(output.losses.clone())),
            (&mut stats.chosen_rewards, output.rewards.chosen),
            (&mut stats.rejected_rewards, output.rewards.rejected),
            (&mut stats.chosen_logps, trained.chosen),
            (&mut stats.rejected_logps, trained.rejected),
            (&mut stats.chosen_tokens, lengths.chosen),
            (&mut stats.rejected_tokens, lengths.rejected),
        ];
        columns.extend(output.rewards.weakened.map(|rewards| (&mut stats.weakened_rewards, rewards)));
        if let Some(statistics) = statistics {
            let sums =
                |values: Tensor<2>| PairLogps::select(values.sum_dim(1).squeeze_dim::<1>(1), &batch.rows);
            let (entropy, logits) = (sums(statistics.entropy), sums(statistics.mean_logit));
            columns.extend([
                (&mut stats.statistics.entropy, entropy.chosen + entropy.rejected),
                (&mut stats.statistics.chosen_logits, logits.chosen),
                (&mut stats.statistics.rejected_logits, logits.rejected),
                (&mut stats.statistics.chosen_top1, sums(statistics.top1).chosen),
            ]);
        }
        if let Some(constant) = constant.filter(|_| at_init) {
            let same = objective.forward(&constant, Some(&constant), &factors);
            columns.push((&mut stats.untouched_losses, same.losses));
        }
        // one read from the device for all of them
        let (columns, tensors): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values = read(Tensor::cat(tensors, 0), "the figures of a step")?;
        for (column, values) in columns.into_iter().zip(values.chunks(pairs.len())) {
            column.extend_from_slice(values);
        }
        stats.tokens = stats.tokens.into_iter().chain(*taken).reduce(|sum, tokens| sum + tokens);
        if !objective.needs_rejected() {
            stats.forget_rejected();
        }
        if !objective.needs_reference() && !objective.needs_rejected() {
            // nothing is compared: what would be called a reward is none
            stats.chosen_rewards.fill(f64::NAN);
        }
        Ok(output.losses)
    }
}

/// Checks that losses depend on a trainable parameter.
pub(crate) fn check_tracked(losses: &Tensor<1>, pairs: &[&PreferencePair]) -> Result<(), DpoError> {
    match losses.is_autodiff() && losses.is_tracked() {
        true => Ok(()),
        false => Err(DpoError::Untracked { pairs: ids(pairs) }),
    }
}
