//! One forward pass: the losses of a batch of pairs, and its stats.

use std::sync::Arc;

use bpo_pairs::record::PreferencePair;
use burn::tensor::{Device, Tensor};

use crate::config::{DpoConfig, Weighting};
use crate::error::DpoError;
use crate::gradients::read;
use crate::loss::{
    LossProperties, Objective, PairLogps, PairRows, PairStatistics, PreferenceLoss, TokenLogps, off_tape,
    wpo_weights,
};
use crate::order::{GroupBatch, ids};
use crate::policy::{Adapters, Collate, Policy};
use crate::reference::ReferenceLogps;
use crate::stats::BatchStats;

/// The objective of a run, with any loss.
pub(crate) type DynObjective = Objective<Arc<dyn PreferenceLoss>>;

/// What a pass needs beside the models and the pairs.
pub(crate) struct Forward<'a, C> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) objective: &'a DynObjective,
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
        let prepared = Prepared::new(self.objective.properties(), self.collate, pairs)?;
        prepared.losses(self.config, self.objective, policy, reference, pairs, at_init, stats)
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
        loss: LossProperties,
        collate: &mut C,
        pairs: &[&PreferencePair],
    ) -> Result<Self, DpoError> {
        let batch = GroupBatch::for_loss(loss, pairs.iter().copied());
        let inputs = batch.collate(collate, pairs)?;
        let lengths = collate.lengths(&inputs);
        if let Some(found) = lengths.as_ref().map(Vec::len) {
            batch.check_rows(found, pairs)?;
        }
        let tokens = lengths.map(|lengths| {
            let PairRows { chosen, rejected, weakened } = &batch.rows;
            // as TRL counts: a prompt with each of its completions, in each pair
            let rejected = if loss.rejected { rejected.as_slice() } else { &[] };
            chosen.iter().chain(rejected).chain(weakened).map(|&row| lengths[row]).sum()
        });
        Ok(Self { batch, inputs, tokens })
    }

    /// Gives the losses, on the tape of the policy, and adds to the stats; for a policy `at_init` also what the
    /// losses should be. `[pairs]`
    pub(crate) fn losses<P: Policy<Batch = B>>(
        &self,
        config: &DpoConfig,
        objective: &DynObjective,
        policy: &P,
        reference: &ReferenceLogps<P>,
        pairs: &[&PreferencePair],
        at_init: bool,
        stats: &mut BatchStats,
    ) -> Result<Tensor<1>, DpoError> {
        let loss = objective.properties();
        let Self { batch, inputs, tokens: taken } = self;
        let logps = |tokens: &TokenLogps| match objective.ld_alpha {
            Some(_) => PairLogps::with_tails(tokens, &batch.rows),
            None => PairLogps::of_tokens(tokens, &batch.rows),
        };
        let in_training = || policy.devices().iter().any(Device::is_autodiff);
        let shared = if loss.reference && reference.is_policy() && in_training() {
            policy.shared(inputs)
        } else {
            None
        };
        let inputs = shared.as_ref().unwrap_or(inputs);
        let constant = if loss.reference {
            let tokens = reference.token_logps(batch, inputs, pairs, policy)?;
            batch.check_rows(tokens.completions(), pairs)?;
            Some(logps(&tokens).inner())
        } else {
            None
        };
        let needs_statistics = loss.statistics || config.weighting == Some(Weighting::Wpo);
        let (tokens, statistics) = if needs_statistics || config.statistics {
            policy.token_statistics(inputs, Adapters::On)
        } else {
            (policy.token_logps(inputs, Adapters::On), None)
        };
        batch.check_rows(tokens.completions(), pairs)?;
        if needs_statistics && statistics.is_none() {
            return Err(DpoError::NoStatistics);
        }
        let sums = statistics.as_ref().map(|statistics| PairStatistics::new(statistics, &batch.rows));
        let trained = PairLogps { statistics: sums.clone(), ..logps(&tokens) };
        let mut factors = config.factors(pairs, &trained.chosen);
        if let (Some(Weighting::Wpo), Some(statistics)) = (config.weighting, &statistics) {
            factors = factors.weighted(wpo_weights(&tokens, statistics, &batch.rows));
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
        if let Some(PairStatistics { chosen, rejected }) = sums {
            columns.extend([
                (&mut stats.statistics.entropy, chosen.entropy + rejected.entropy),
                (&mut stats.statistics.chosen_logits, chosen.mean_logit),
                (&mut stats.statistics.rejected_logits, rejected.mean_logit),
                (&mut stats.statistics.chosen_top1, chosen.top1),
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
        if !loss.rejected {
            stats.forget_rejected();
        }
        if !loss.reference && !loss.rejected {
            // nothing is compared: what would be called a reward is none
            stats.chosen_rewards.fill(f64::NAN);
        }
        Ok(output.losses)
    }
}

/// Checks that losses depend on a trainable parameter.
pub(crate) fn check_tracked(losses: &Tensor<1>, pairs: &[&PreferencePair]) -> Result<(), DpoError> {
    if losses.is_autodiff() && losses.is_tracked() {
        Ok(())
    } else {
        Err(DpoError::Untracked { pairs: ids(pairs) })
    }
}
