//! Log-probabilities of the answers of pairs, for inspection and for comparison with other
//! implementations.

use std::cell::RefCell;

use bpo_dpo::{
    Adapters, Collate, DpoConfig, DpoError, GroupBatch, LogpCache, Policy, PreparedBatch, PreparedPairs,
    map_on_devices, validate_pairs,
};
use bpo_pairs::{PreferencePair, SkipReason, Skipped, warn_left_out};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::BpoError;
use crate::stages::StageOutcome;

/// Log-probabilities of both answers of a pair, in nats, each summed over the tokens of the answer
/// and its end token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a score: an object with `id`, `chosen_logp` and `rejected_logp`")]
pub struct Score {
    /// Id of the pair.
    pub id: String,
    /// Log-probability of the chosen answer.
    pub chosen_logp: f64,
    /// Log-probability of the rejected answer.
    pub rejected_logp: f64,
}

/// Scores pairs with the adapters of the policy on, `batch_size` pairs at a time, and passes each
/// score to `each`, in the order of the pairs.
///
/// `policies` has the policy on one or [several devices](map_on_devices), which share the batches.
/// Token log-probabilities are summed in f64. Pairs that the collator refuses, and pairs whose
/// log-probabilities are not finite, are skipped.
///
/// # Errors
/// Returns an error if the device fails, or the error of `each`.
pub fn score<'p, P, C>(
    policies: &[P],
    collate: &mut C,
    pairs: &'p [PreferencePair],
    batch_size: usize,
    mut each: impl FnMut(Score) -> Result<(), BpoError>,
) -> Result<StageOutcome, BpoError>
where
    P: Policy,
    P::Batch: Send,
    C: Collate<Batch = P::Batch>,
{
    if !collate.takes_system() {
        warn_left_out("pairs", pairs.iter().map(|pair| &pair.system));
    }
    // the properties of any loss that compares two answers
    let loss = DpoConfig::default().objective().properties();
    // all pairs before the first batch, so that the result does not depend on the batch size
    let (pairs, mut skipped) = validate_pairs(collate, loss, pairs.iter().collect::<Vec<_>>());
    let mut done = 0;
    let unprepared = RefCell::new(Vec::new());
    let prepare = |part: &[&'p PreferencePair]| -> Result<_, BpoError> {
        let prepared = PreparedPairs::collate(collate, loss, part.to_vec())?;
        unprepared.borrow_mut().extend(prepared.skipped);
        Ok((prepared.pairs, prepared.inputs))
    };
    map_on_devices(policies, pairs.chunks(batch_size.max(1)).map(prepare), sums_of, |scored| {
        let Some((part, groups, sums)) = scored? else { return Ok(()) };
        let rows = groups.rows.chosen.iter().zip(&groups.rows.rejected);
        for (pair, (&chosen, &rejected)) in part.iter().zip(rows) {
            if let Some(skip) = not_finite(&pair.id, sums[chosen], sums[rejected]) {
                skipped.push(skip);
                continue;
            }
            each(Score { id: pair.id.clone(), chosen_logp: sums[chosen], rejected_logp: sums[rejected] })?;
            done += 1;
        }
        Ok(())
    })?;
    skipped.extend(unprepared.into_inner());
    Ok(StageOutcome::new(done, skipped))
}

/// A prepared batch, or `None` if no pair could be prepared.
type Prepared<'a, B> = (Vec<&'a PreferencePair>, Option<PreparedBatch<B>>);

/// The pairs of a batch with the log-probability of each row, summed over its tokens.
type Sums<'a> = Option<(Vec<&'a PreferencePair>, GroupBatch, Vec<f64>)>;

/// Computes the sums of a batch.
fn sums_of<'a, P: Policy>(policy: &P, batch: Prepared<'a, P::Batch>) -> Result<Sums<'a>, BpoError> {
    let (pairs, Some(PreparedBatch { groups, batch, .. })) = batch else { return Ok(None) };
    let sums = row_sums(policy.token_logps(&batch, Adapters::On).logps)?;
    if sums.len() != groups.completions() {
        let pairs = pairs.iter().map(|pair| pair.id.clone()).collect();
        return Err(DpoError::Rows { expected: groups.completions(), found: sums.len(), pairs }.into());
    }
    Ok(Some((pairs, groups, sums)))
}

/// Scores pairs from cached log-probabilities, which are combined on `device`, and passes each
/// score to `each`. Returns the pairs whose log-probabilities are not finite; they have no score.
///
/// # Errors
/// Returns an error if a pair is not in the cache or the device fails, or the error of `each`.
pub fn score_cached(
    cache: &LogpCache,
    pairs: &[PreferencePair],
    device: &Device,
    mut each: impl FnMut(Score) -> Result<(), BpoError>,
) -> Result<Vec<Skipped>, BpoError> {
    let mut skipped = Vec::new();
    for pair in pairs {
        let batch = GroupBatch::new([pair]);
        let sums = row_sums(cache.token_logps(&batch, &[pair], device)?.logps)?;
        let (chosen, rejected) = (sums[batch.rows.chosen[0]], sums[batch.rows.rejected[0]]);
        match not_finite(&pair.id, chosen, rejected) {
            Some(skip) => skipped.push(skip),
            None => each(Score { id: pair.id.clone(), chosen_logp: chosen, rejected_logp: rejected })?,
        }
    }
    Ok(skipped)
}

/// Returns the skipped pair if a log-probability is not finite. JSON has no such numbers.
fn not_finite(id: &str, chosen: f64, rejected: f64) -> Option<Skipped> {
    let skipped =
        || Skipped::new(id, SkipReason::PairRefused).with_detail("a log-probability is not a finite number");
    (!(chosen.is_finite() && rejected.is_finite())).then(skipped)
}

/// Sums each row of `[rows, tokens]` in f64.
fn row_sums(logps: Tensor<2>) -> Result<Vec<f64>, BpoError> {
    let [_, tokens] = logps.dims();
    let data = logps
        .try_into_data()
        .map_err(|error| DpoError::Device { what: "log-probabilities", source: Box::new(error) })?;
    let values: Vec<f64> = data.iter::<f64>().collect();
    Ok(values.chunks(tokens.max(1)).map(|row| row.iter().sum()).collect())
}
