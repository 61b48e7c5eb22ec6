//! What the pairs of a step gave.

use bpo_pairs::record::PreferencePair;

use crate::config::{DpoConfig, STEP_ZERO_TOLERANCE};
use crate::error::DpoError;
use crate::metrics::StepMetrics;

/// One value for each pair of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) losses: Vec<f64>,
    pub(crate) chosen_rewards: Vec<f64>,
    pub(crate) rejected_rewards: Vec<f64>,
    pub(crate) chosen_logps: Vec<f64>,
    pub(crate) rejected_logps: Vec<f64>,
}

impl Figures {
    pub(crate) fn is_finite(&self) -> bool {
        self.losses.iter().all(|loss| loss.is_finite())
    }

    /// Nothing was compared: there are no rewards, and nothing of rejected completions.
    pub(crate) fn forget_comparison(&mut self) {
        for column in [&mut self.chosen_rewards, &mut self.rejected_rewards, &mut self.rejected_logps] {
            column.fill(f64::NAN);
        }
    }

    /// The metrics that follow from the pairs; those of the step are for the caller to fill in.
    pub(crate) fn metrics(&self) -> StepMetrics {
        let margins: Vec<f64> = self.margins().collect();
        let higher: Vec<f64> = margins.iter().map(|&margin| one_if_positive(margin)).collect();
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
            logps_chosen: mean(&self.chosen_logps),
            logps_rejected: mean(&self.rejected_logps),
            pairs: margins.len(),
            skipped: false,
        }
    }

    /// Checks that policy and reference are still the same.
    pub(crate) fn check_untouched(
        &self,
        config: &DpoConfig,
        pairs: &[&PreferencePair],
    ) -> Result<(), DpoError> {
        // a loss that depends on the pair is not known beforehand; the margins are
        let loss = mean(&self.losses);
        let expected_loss = config.loss.at_reference().unwrap_or(loss);
        let margins = self.margins().map(f64::abs).zip(pairs);
        let (margin, pair) = margins
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map_or((0.0, ""), |(margin, pair)| (margin, &pair.id));
        let tolerance = config.step_zero_tolerance.unwrap_or(STEP_ZERO_TOLERANCE);
        if (loss - expected_loss).abs() <= tolerance && margin <= tolerance {
            return Ok(());
        }
        Err(DpoError::StepZero { loss, expected_loss, margin, pair: pair.to_owned(), tolerance })
    }

    fn margins(&self) -> impl Iterator<Item = f64> {
        self.chosen_rewards.iter().zip(&self.rejected_rewards).map(|(chosen, rejected)| chosen - rejected)
    }
}

/// 1 for what is above 0, else 0; not-a-number stays one.
fn one_if_positive(value: f64) -> f64 {
    if value.is_nan() { value } else { f64::from(u8::from(value > 0.0)) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
