//! Statistics of the pairs of a step.

use bpo_pairs::PreferencePair;

use crate::config::{DpoConfig, INITIAL_TOLERANCE};
use crate::error::DpoError;
use crate::metrics::StepMetrics;

/// One value for each pair of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchStats {
    pub(crate) losses: Vec<f64>,
    pub(crate) chosen_rewards: Vec<f64>,
    pub(crate) rejected_rewards: Vec<f64>,
    /// Rewards of the chosen completions for weakened images; empty for a loss that does not need
    /// them.
    pub(crate) weakened_rewards: Vec<f64>,
    /// Margins of the contrast for the images of the pair, and for those of the contrast; empty for a
    /// loss that does not need them.
    pub(crate) contrast_margins: [Vec<f64>; 2],
    pub(crate) chosen_logps: Vec<f64>,
    pub(crate) rejected_logps: Vec<f64>,
    pub(crate) chosen_tokens: Vec<f64>,
    pub(crate) rejected_tokens: Vec<f64>,
    /// Sums over the tokens of each pair. Empty if the policy returns no statistics.
    pub(crate) statistics: StatisticsColumns,
    /// Number of tokens of all sequences. `None` if the collator does not count tokens.
    pub(crate) tokens: Option<usize>,
    /// Losses of a policy that equals its reference. Empty after the first step and without a
    /// reference.
    pub(crate) equal_policy_losses: Vec<f64>,
}

/// Sums over tokens, one for each pair.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatisticsColumns {
    /// Entropies of the tokens of both completions.
    pub(crate) entropy: Vec<f64>,
    pub(crate) chosen_logits: Vec<f64>,
    pub(crate) rejected_logits: Vec<f64>,
    pub(crate) chosen_top1: Vec<f64>,
}

impl BatchStats {
    pub(crate) fn is_finite(&self) -> bool {
        self.losses.iter().all(|loss| loss.is_finite())
    }

    /// Appends the pairs of another batch.
    pub(crate) fn append(&mut self, mut other: Self) {
        for (column, more) in self.columns().into_iter().zip(other.columns()) {
            column.append(more);
        }
        self.tokens = self.tokens.into_iter().chain(other.tokens).reduce(|sum, tokens| sum + tokens);
    }

    /// Returns the columns, one value for each pair.
    fn columns(&mut self) -> [&mut Vec<f64>; 15] {
        let Self {
            losses,
            chosen_rewards,
            rejected_rewards,
            weakened_rewards,
            contrast_margins: [margins_here, margins_there],
            chosen_logps,
            rejected_logps,
            chosen_tokens,
            rejected_tokens,
            statistics: StatisticsColumns { entropy, chosen_logits, rejected_logits, chosen_top1 },
            tokens: _,
            equal_policy_losses,
        } = self;
        [
            losses,
            chosen_rewards,
            rejected_rewards,
            weakened_rewards,
            margins_here,
            margins_there,
            chosen_logps,
            rejected_logps,
            chosen_tokens,
            rejected_tokens,
            entropy,
            chosen_logits,
            rejected_logits,
            chosen_top1,
            equal_policy_losses,
        ]
    }

    /// Sets all values of the rejected completions to NaN, because they were not computed.
    pub(crate) fn clear_rejected(&mut self) {
        for column in [
            &mut self.rejected_rewards,
            &mut self.rejected_logps,
            &mut self.rejected_tokens,
            &mut self.statistics.rejected_logits,
        ] {
            column.fill(f64::NAN);
        }
    }

    /// Returns the metrics of the pairs. The caller sets the metrics of the step.
    pub(crate) fn metrics(&self) -> StepMetrics {
        let margins: Vec<f64> = self.margins().collect();
        let higher: Vec<f64> = margins.iter().map(|&margin| one_if_positive(margin)).collect();
        let statistics = &self.statistics;
        let contrasts = self.contrast_margins.concat();
        let right: Vec<f64> = contrasts.iter().map(|&margin| one_if_positive(margin)).collect();
        let tokens = self.chosen_tokens.iter().zip(&self.rejected_tokens);
        // without rejected completions `entropy` has the chosen completion twice
        let both: Vec<f64> = tokens
            .map(|(chosen, rejected)| chosen + if rejected.is_nan() { chosen } else { rejected })
            .collect();
        StepMetrics {
            step: 0,
            epoch: 0.0,
            loss: mean(&self.losses),
            grad_norm: 0.0,
            learning_rate: 0.0,
            rewards_chosen: mean(&self.chosen_rewards),
            rewards_rejected: mean(&self.rejected_rewards),
            rewards_accuracies: mean(&higher),
            rewards_margins: mean(&margins),
            rewards_weakened: mean(&self.weakened_rewards),
            rewards_contrast_margins: mean(&contrasts),
            rewards_contrast_accuracies: mean(&right),
            logps_chosen: mean(&self.chosen_logps),
            logps_rejected: mean(&self.rejected_logps),
            logits_chosen: ratio(&statistics.chosen_logits, &self.chosen_tokens),
            logits_rejected: ratio(&statistics.rejected_logits, &self.rejected_tokens),
            entropy: ratio(&statistics.entropy, &both),
            mean_token_accuracy: ratio(&statistics.chosen_top1, &self.chosen_tokens),
            lengths_chosen: mean(&self.chosen_tokens),
            lengths_rejected: mean(&self.rejected_tokens),
            num_tokens: None,
            pairs: margins.len(),
            skipped: false,
        }
    }

    /// Checks that policy and reference are equal before the first step, if there is a reference.
    pub(crate) fn check_equals_reference(
        &self,
        config: &DpoConfig,
        pairs: &[&PreferencePair],
    ) -> Result<(), DpoError> {
        if self.equal_policy_losses.is_empty() {
            return Ok(());
        }
        let (loss, expected_loss) = (mean(&self.losses), mean(&self.equal_policy_losses));
        let (margin, pair) = self
            .largest_margins()
            .zip(pairs)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map_or((0.0, ""), |(margin, pair)| (margin, &pair.id));
        let tolerance = config.initial_tolerance.unwrap_or(INITIAL_TOLERANCE);
        if (loss - expected_loss).abs() <= tolerance && margin <= tolerance {
            return Ok(());
        }
        Err(DpoError::InitialMismatch { loss, expected_loss, margin, pair: pair.to_owned(), tolerance })
    }

    /// Returns the largest absolute difference between the rewards of each pair, also for the images of
    /// its contrast. If a pair has a single reward, returns its absolute value.
    fn largest_margins(&self) -> impl Iterator<Item = f64> {
        self.chosen_rewards.iter().enumerate().map(|(pair, chosen)| {
            let others = [self.rejected_rewards.get(pair), self.weakened_rewards.get(pair)];
            let margins = others.into_iter().flatten().map(|other| chosen - other);
            let contrasts = self.contrast_margins.iter().filter_map(|margins| margins.get(pair).copied());
            let margins = margins.chain(contrasts).filter(|margin| !margin.is_nan());
            margins.map(f64::abs).reduce(f64::max).unwrap_or(chosen.abs())
        })
    }

    fn margins(&self) -> impl Iterator<Item = f64> {
        self.chosen_rewards.iter().zip(&self.rejected_rewards).map(|(chosen, rejected)| chosen - rejected)
    }
}

/// Returns 1 for a positive value, NaN for NaN, and 0 otherwise.
fn one_if_positive(value: f64) -> f64 {
    if value.is_nan() { value } else { f64::from(u8::from(value > 0.0)) }
}

/// Returns the quotient of two sums, which is a mean over all tokens of a step. Returns NaN without
/// values.
fn ratio(values: &[f64], tokens: &[f64]) -> f64 {
    if values.is_empty() { f64::NAN } else { values.iter().sum::<f64>() / tokens.iter().sum::<f64>() }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
