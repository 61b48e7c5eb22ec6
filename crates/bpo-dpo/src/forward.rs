//! One forward pass: the losses and statistics of a batch of pairs.

use std::sync::{Arc, Mutex, PoisonError};

use bpo_pairs::PreferencePair;
use burn::tensor::{Device, Tensor};

use crate::batches::PreparedBatch;
use crate::config::{DpoConfig, Weighting};
use crate::error::DpoError;
use crate::gradients::read;
use crate::loss::{
    Objective, PairDivergences, PairLogps, PairStatistics, PreferenceLoss, TokenDivergences, TokenLogps,
    without_tape, wpo_weights,
};
use crate::order::ids;
use crate::policy::{Adapters, Policy};
use crate::reference::ReferenceLogps;
use crate::stats::BatchStats;

/// The objective of a run, with any loss.
pub(crate) type DynObjective = Objective<Arc<dyn PreferenceLoss>>;

/// The settings of a forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Forward<'a> {
    pub(crate) config: &'a DpoConfig,
    pub(crate) objective: &'a DynObjective,
    /// Locked while a policy [draws](Policy::draws). `None` if it does not.
    pub(crate) drawing: Option<&'a Mutex<()>>,
}

impl Forward<'_> {
    /// Returns the losses of a batch, on the autodiff tape of the policy, `[pairs]`, and its
    /// statistics. If `must_equal_reference` is true, these have the losses of a policy that equals
    /// its reference. `seed` is that of the policy's random numbers, in training.
    pub(crate) fn losses<P: Policy>(
        &self,
        policy: &P,
        reference: &ReferenceLogps<P>,
        inputs: &PreparedBatch<P::Batch>,
        pairs: &[&PreferencePair],
        must_equal_reference: bool,
        seed: Option<u64>,
    ) -> Result<(Tensor<1>, BatchStats), DpoError> {
        let mut stats = BatchStats::default();
        let Self { config, objective, .. } = *self;
        let loss = objective.properties();
        let PreparedBatch { groups: batch, batch: inputs, tokens: taken, changed } = inputs;
        let logps = |tokens: &TokenLogps| match (changed, objective.ld_alpha) {
            (Some(changed), _) => PairLogps::with_changed(tokens, &batch.rows, changed),
            (None, Some(_)) => PairLogps::with_tails(tokens, &batch.rows),
            (None, None) => PairLogps::of_tokens(tokens, &batch.rows),
        };
        let in_training = || policy.devices().iter().any(Device::is_autodiff);
        let shared = if loss.reference && reference.is_policy() && in_training() {
            policy.shared(inputs)
        } else {
            None
        };
        let inputs = shared.as_ref().unwrap_or(inputs);
        // a reference whose distributions are compared is computed with the policy
        let mut constant = if loss.reference && !loss.token_divergences {
            Some(reference.token_logps(batch, inputs, pairs, policy)?)
        } else {
            None
        };
        let drawing = seed.zip(self.drawing).map(|(seed, drawing)| {
            // the lock guards no value
            let guard = drawing.lock().unwrap_or_else(PoisonError::into_inner);
            policy.devices().iter().for_each(|device| device.seed(seed));
            guard
        });
        let needs_statistics = loss.statistics || config.weighting == Some(Weighting::Wpo);
        let statistics = needs_statistics || config.statistics;
        let mut divergences = None;
        let (tokens, statistics) = if loss.token_divergences {
            let both = reference.token_divergences(inputs, policy, statistics);
            let TokenDivergences { policy, statistics, reference, divergences: between } =
                both.ok_or(DpoError::NoDivergences)?;
            batch.check_rows(between.dims()[0], pairs)?;
            constant = Some(reference);
            divergences = Some(PairDivergences::new(between, &batch.rows));
            (policy, statistics)
        } else if statistics {
            policy.token_statistics(inputs, Adapters::On)
        } else {
            (policy.token_logps(inputs, Adapters::On), None)
        };
        drop(drawing);
        for tokens in constant.iter().chain([&tokens]) {
            batch.check_rows(tokens.completions(), pairs)?;
        }
        let constant = constant.map(|tokens| logps(&tokens).inner());
        if needs_statistics && statistics.is_none() {
            return Err(DpoError::NoStatistics);
        }
        let sums = statistics.as_ref().map(|statistics| PairStatistics::new(statistics, &batch.rows));
        let trained = PairLogps { statistics: sums.clone(), divergences, ..logps(&tokens) };
        let mut factors = config.factors(pairs, &trained.chosen);
        if let (Some(Weighting::Wpo), Some(statistics)) = (config.weighting, &statistics) {
            factors = factors.weighted(wpo_weights(&tokens, statistics, &batch.rows));
        }
        let output = objective.forward(&trained, constant.as_ref(), &factors);

        let trained = trained.inner();
        let lengths = PairLogps::select(tokens.counts(), &batch.rows);
        let weakened = output.rewards.mean_weakened();
        let contrasts = output.rewards.contrast_margins();
        let mut columns = vec![
            (&mut stats.losses, without_tape(output.losses.clone())),
            (&mut stats.chosen_rewards, output.rewards.chosen),
            (&mut stats.rejected_rewards, output.rewards.rejected),
            (&mut stats.chosen_logps, trained.chosen),
            (&mut stats.rejected_logps, trained.rejected),
            (&mut stats.chosen_tokens, lengths.chosen),
            (&mut stats.rejected_tokens, lengths.rejected),
        ];
        columns.extend(weakened.map(|rewards| (&mut stats.weakened_rewards, rewards)));
        columns.extend(stats.contrast_margins.iter_mut().zip(contrasts.into_iter().flatten()));
        if let Some(PairStatistics { chosen, rejected }) = sums {
            columns.extend([
                (&mut stats.statistics.entropy, chosen.entropy + rejected.entropy),
                (&mut stats.statistics.chosen_logits, chosen.mean_logit),
                (&mut stats.statistics.rejected_logits, rejected.mean_logit),
                (&mut stats.statistics.chosen_top1, chosen.top1),
            ]);
        }
        if let Some(constant) = constant.filter(|_| must_equal_reference) {
            let divergences = loss.token_divergences.then(|| PairDivergences::of_equal(&constant));
            let equal = PairLogps { divergences, ..constant.clone() };
            let same = objective.forward(&equal, Some(&constant), &factors);
            columns.push((&mut stats.equal_policy_losses, same.losses));
        }
        // all columns are read from the device at once
        let (columns, tensors): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values = read(Tensor::cat(tensors, 0), "the metrics of a step")?;
        for (column, values) in columns.into_iter().zip(values.chunks(pairs.len())) {
            column.extend_from_slice(values);
        }
        stats.tokens = *taken;
        if !loss.rejected {
            stats.clear_rejected();
        }
        if !loss.reference && !loss.rejected {
            // the loss compares nothing, so there are no rewards
            stats.chosen_rewards.fill(f64::NAN);
        }
        Ok((output.losses, stats))
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
