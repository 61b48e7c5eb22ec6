//! Batches in the order in which a run needs them, and their preparation.

use std::collections::VecDeque;

use bpo_pairs::{PreferencePair, Skipped, chain};

use crate::changed::changed_in_pairs;
use crate::config::DpoConfig;
use crate::data::Data;
use crate::error::DpoError;
use crate::loss::{ChangedTokens, LossProperties, PairRows};
use crate::order::{DataOrder, GroupBatch};
use crate::policy::Collate;
use crate::state::TrainerState;
use crate::validate::{refusal, without_contrast};

/// The number of pairs of the batches of a run.
#[derive(Clone, Copy)]
pub(crate) struct BatchSize {
    largest: usize,
    /// Number of devices that share the pairs of a step.
    devices: usize,
}

impl BatchSize {
    /// Returns the size for a number of devices. A loss that compares the pairs of a batch would
    /// change with smaller batches, so its batches always have the size of the settings.
    pub(crate) fn new(config: &DpoConfig, loss: LossProperties, devices: usize) -> Self {
        Self { largest: config.batch_size, devices: if loss.batch_wide { 1 } else { devices } }
    }

    /// Returns the number of batches of `count` pairs: those of the size of the settings, or one for
    /// each device if that is more.
    pub(crate) fn batches(self, count: usize) -> usize {
        count.div_ceil(self.largest).max(self.devices.min(count))
    }

    /// Splits pairs into batches.
    pub(crate) fn split<T>(self, pairs: &[T]) -> impl Iterator<Item = &[T]> {
        let batches = self.batches(pairs.len());
        let is_even = batches > pairs.len().div_ceil(self.largest);
        let mut rest = pairs;
        (0..batches).map(move |index| {
            let size = if is_even { rest.len().div_ceil(batches - index) } else { self.largest };
            let (batch, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            batch
        })
    }
}

/// Iterates over the batches of a run, from its present state to its last step. Each batch is a
/// list of pairs. The batches to train on in a step are followed by those to evaluate on if an
/// evaluation is due.
///
/// The batches depend only on the data, the settings and the state, so they can be prepared before
/// they are needed.
pub(crate) struct BatchPlan<'a> {
    config: &'a DpoConfig,
    size: BatchSize,
    data: &'a Data,
    total_steps: usize,
    order: DataOrder,
    /// Indices of the pairs in the order of the present epoch.
    epoch_order: Vec<usize>,
    step: usize,
    epoch: usize,
    cursor: usize,
    pending: VecDeque<Vec<&'a PreferencePair>>,
}

impl<'a> BatchPlan<'a> {
    pub(crate) fn new(
        config: &'a DpoConfig,
        size: BatchSize,
        data: &'a Data,
        total_steps: usize,
        state: &TrainerState,
    ) -> Self {
        let order = DataOrder::for_config(config, &data.pairs);
        let epoch_order = order.epoch(config.seed, state.epoch);
        let &TrainerState { step, epoch, cursor, .. } = state;
        let pending = VecDeque::new();
        Self { config, size, data, total_steps, order, epoch_order, step, epoch, cursor, pending }
    }

    /// Returns the batches of the first epoch, without evaluations.
    pub(crate) fn first_epoch(
        config: &DpoConfig,
        size: BatchSize,
        data: &'a Data,
    ) -> Vec<Vec<&'a PreferencePair>> {
        let order = DataOrder::for_config(config, &data.pairs).epoch(config.seed, 0);
        let batches = order.chunks(config.pairs_per_step()).flat_map(|step| size.split(step));
        batches.map(|batch| batch.iter().map(|&index| &data.pairs[index]).collect()).collect()
    }

    fn plan_step(&mut self) {
        let rest = &self.epoch_order[self.cursor..];
        let indices = &rest[..rest.len().min(self.config.pairs_per_step())];
        let pairs: Vec<_> = indices.iter().map(|&index| &self.data.pairs[index]).collect();
        self.step += 1;
        self.cursor += pairs.len();
        if self.cursor == self.data.pairs.len() {
            self.epoch += 1;
            self.cursor = 0;
            if self.step < self.total_steps {
                self.epoch_order = self.order.epoch(self.config.seed, self.epoch);
            }
        }
        self.pending.extend(self.size.split(&pairs).map(<[_]>::to_vec));
        if evaluates_after(self.config, self.data, self.total_steps, self.step) {
            let batches = self.size.split(&self.data.eval_pairs);
            self.pending.extend(batches.map(|batch| batch.iter().collect()));
        }
    }
}

impl<'a> Iterator for BatchPlan<'a> {
    type Item = Vec<&'a PreferencePair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending.is_empty() && self.step < self.total_steps {
            self.plan_step();
        }
        self.pending.pop_front()
    }
}

/// Iterates over the prepared batches of a run.
pub(crate) struct Batches<'a, C> {
    plan: BatchPlan<'a>,
    /// Whether pairs that cannot be prepared are skipped.
    skips: bool,
    loss: LossProperties,
    collate: C,
}

impl<'a, C> Batches<'a, C> {
    pub(crate) fn new(
        config: &'a DpoConfig,
        loss: LossProperties,
        size: BatchSize,
        data: &'a Data,
        total_steps: usize,
        state: &TrainerState,
        collate: C,
    ) -> Self {
        let plan = BatchPlan::new(config, size, data, total_steps, state);
        Self { plan, skips: config.validate_pairs, loss, collate }
    }
}

impl<'a, C: Collate> Iterator for Batches<'a, C> {
    type Item = Result<PreparedPairs<'a, C::Batch>, DpoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pairs = self.plan.next()?;
        Some(PreparedPairs::new(self.skips, self.loss, &mut self.collate, pairs))
    }
}

/// Returns whether a run evaluates after a step.
pub(crate) fn evaluates_after(config: &DpoConfig, data: &Data, total_steps: usize, step: usize) -> bool {
    !data.eval_pairs.is_empty() && (step == total_steps || step.is_multiple_of(config.eval_every))
}

/// The prepared pairs of one batch, and the pairs that could not be prepared.
#[derive(Debug)]
#[non_exhaustive]
pub struct PreparedPairs<'a, B> {
    /// The pairs that could be prepared.
    pub pairs: Vec<&'a PreferencePair>,
    /// The pairs that could not be prepared, each with its reason.
    pub skipped: Vec<Skipped>,
    /// The batch; `None` if no pair could be prepared.
    pub inputs: Option<PreparedBatch<B>>,
}

/// A batch of pairs.
#[derive(Debug)]
#[non_exhaustive]
pub struct PreparedBatch<B> {
    /// The texts of the pairs, and the rows of their completions.
    pub groups: GroupBatch,
    /// The input of the policy.
    pub batch: B,
    /// Number of tokens of all sequences of the pairs, if the collator [counts
    /// them](Collate::lengths).
    pub tokens: Option<usize>,
    /// The tokens in which the completions of each pair differ, if the loss [needs
    /// them](LossProperties::changed_tokens).
    pub changed: Option<ChangedTokens>,
}

impl<B> PreparedBatch<B> {
    fn new<C: Collate<Batch = B>>(
        loss: LossProperties,
        collate: &mut C,
        pairs: &[&PreferencePair],
    ) -> Result<Self, DpoError> {
        let groups = GroupBatch::for_loss(loss, collate.weakenings(), pairs.iter().copied());
        let batch = groups.collate(collate, pairs)?;
        let lengths = collate.lengths(&batch);
        if let Some(found) = lengths.as_ref().map(Vec::len) {
            groups.check_rows(found, pairs)?;
        }
        let tokens = lengths.map(|lengths| {
            let PairRows { chosen, rejected, .. } = &groups.rows;
            // as in TRL, a prompt is counted with each completion of each pair
            let rejected = if loss.rejected { rejected.as_slice() } else { &[] };
            let rows = chosen.iter().chain(rejected).chain(groups.rows.further().flatten());
            rows.map(|&row| lengths[row]).sum()
        });
        let changed = if loss.changed_tokens {
            let completions = collate.completions(&batch).ok_or(DpoError::NoCompletionTokens)?;
            groups.check_rows(completions.len(), pairs)?;
            Some(changed_in_pairs(&completions, &groups.rows))
        } else {
            None
        };
        Ok(Self { groups, batch, tokens, changed })
    }
}

impl<'a, B> PreparedPairs<'a, B> {
    /// Prepares pairs for a loss in one batch. Skips each pair that the collator cannot prepare on
    /// its own, and pairs without the [contrast](LossProperties::contrast) that the loss needs.
    ///
    /// # Errors
    /// Returns [`DpoError::Collate`] if the collator fails for the whole batch although it accepts
    /// each pair on its own, [`DpoError::Rows`] if it counts another number of completions, or
    /// [`DpoError::NoCompletionTokens`] if it does not give their tokens and the loss needs them.
    pub fn collate<C: Collate<Batch = B>>(
        collate: &mut C,
        loss: LossProperties,
        pairs: Vec<&'a PreferencePair>,
    ) -> Result<Self, DpoError> {
        Self::new(true, loss, collate, pairs)
    }

    /// Prepares pairs. If `skips` is true, skips each pair that the collator cannot prepare on its
    /// own.
    ///
    /// # Errors
    /// Returns [`DpoError::Collate`] if pairs cannot be prepared and `skips` is false, or if the
    /// collator fails for the remaining pairs together. Returns [`DpoError::Rows`] if the collator
    /// counts another number of completions.
    pub(crate) fn new<C: Collate<Batch = B>>(
        skips: bool,
        loss: LossProperties,
        collate: &mut C,
        mut pairs: Vec<&'a PreferencePair>,
    ) -> Result<Self, DpoError> {
        let mut skipped = without_contrast(loss, &mut pairs);
        if pairs.is_empty() && !skipped.is_empty() {
            return Ok(Self { pairs, skipped, inputs: None });
        }
        let refused = match PreparedBatch::new(loss, collate, &pairs) {
            Ok(inputs) => return Ok(Self { pairs, skipped, inputs: Some(inputs) }),
            Err(error @ DpoError::Collate { .. }) => error,
            Err(error) => return Err(error),
        };
        let mut first = None;
        pairs.retain(|pair| {
            let groups = GroupBatch::for_loss(loss, collate.weakenings(), [*pair]);
            let Err(error) = collate.collate(&groups.groups) else { return true };
            skipped.push(Skipped::new(&pair.id, refusal(&error)).with_detail(chain(&error)));
            first = first.take().or(Some(error));
            false
        });
        match first {
            Some(error) if !skips => {
                let pairs = skipped.into_iter().map(|skipped| skipped.id).collect();
                Err(DpoError::Collate { pairs, source: Box::new(error) })
            }
            Some(_) => {
                let inputs =
                    if pairs.is_empty() { None } else { Some(PreparedBatch::new(loss, collate, &pairs)?) };
                Ok(Self { pairs, skipped, inputs })
            }
            None => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_batch_if_there_are_enough_pairs() {
        let sizes = |largest, devices, count: usize| -> Vec<usize> {
            let size = BatchSize { largest, devices };
            let sizes: Vec<_> = size.split(&vec![(); count]).map(<[_]>::len).collect();
            assert_eq!(sizes.len(), size.batches(count));
            sizes
        };
        assert_eq!(sizes(4, 1, 10), [4, 4, 2]);
        assert_eq!(sizes(4, 3, 10), [4, 4, 2]);
        assert_eq!(sizes(4, 4, 10), [3, 3, 2, 2]);
        assert_eq!(sizes(8, 5, 8), [2, 2, 2, 1, 1]);
        assert_eq!(sizes(8, 2, 8), [4, 4]);
        assert_eq!(sizes(2, 5, 3), [1, 1, 1]);
        assert!(sizes(2, 5, 0).is_empty());
    }
}
