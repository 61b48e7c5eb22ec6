//! Log-probabilities of the answers of pairs, for inspection and for comparison with other
//! implementations.

use bpo_dpo::{
    Adapters, Collate, DpoConfig, DpoError, GroupBatch, LogpCache, Policy, PreparedBatch, PreparedPairs,
    validate_pairs,
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
/// Token log-probabilities are summed in f64. Pairs that the collator refuses, and pairs whose
/// log-probabilities are not finite, are skipped.
///
/// # Errors
/// Returns an error if the device fails, or the error of `each`.
pub fn score<P, C>(
    policy: &P,
    collate: &mut C,
    pairs: &[PreferencePair],
    batch_size: usize,
    mut each: impl FnMut(Score) -> Result<(), BpoError>,
) -> Result<StageOutcome, BpoError>
where
    P: Policy,
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
    for part in pairs.chunks(batch_size.max(1)) {
        let prepared = PreparedPairs::collate(collate, loss, part.to_vec())?;
        skipped.extend(prepared.skipped);
        let Some(PreparedBatch { groups: batch, batch: inputs, .. }) = prepared.inputs else { continue };
        let part = prepared.pairs;
        let ids = || part.iter().map(|pair| pair.id.clone()).collect::<Vec<_>>();
        let sums = row_sums(policy.token_logps(&inputs, Adapters::On).logps)?;
        if sums.len() != batch.completions() {
            return Err(
                DpoError::Rows { expected: batch.completions(), found: sums.len(), pairs: ids() }.into()
            );
        }
        let rows = batch.rows.chosen.iter().zip(&batch.rows.rejected);
        for (pair, (&chosen, &rejected)) in part.iter().zip(rows) {
            if let Some(skip) = not_finite(&pair.id, sums[chosen], sums[rejected]) {
                skipped.push(skip);
                continue;
            }
            each(Score { id: pair.id.clone(), chosen_logp: sums[chosen], rejected_logp: sums[rejected] })?;
            done += 1;
        }
    }
    Ok(StageOutcome::new(done, skipped))
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
