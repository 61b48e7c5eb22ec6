//! Metrics of steps and evaluations, under the names of TRL, and their log files.

use std::path::Path;

use bpo_pairs::JsonlLog;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::DpoError;

/// Metrics of one optimizer step: a line of `metrics.jsonl`.
///
/// Values that are not finite are written as `null` and read as NaN. So are rewards and metrics of
/// rejected completions for a loss that [needs none](crate::loss::LossProperties::rejected).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StepMetrics {
    /// Number of optimizer steps, including this one.
    pub step: usize,
    /// Number of passes through the data, in fractions of an epoch.
    pub epoch: f64,
    /// Mean loss of the step's pairs.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Norm of the gradient before clipping.
    #[serde(deserialize_with = "nan_if_null")]
    pub grad_norm: f64,
    /// Learning rate of this step for parameters without a group.
    pub learning_rate: f64,
    /// Mean implicit reward of the chosen completions.
    #[serde(rename = "rewards/chosen", deserialize_with = "nan_if_null")]
    pub rewards_chosen: f64,
    /// Mean implicit reward of the rejected completions.
    #[serde(rename = "rewards/rejected", deserialize_with = "nan_if_null")]
    pub rewards_rejected: f64,
    /// Fraction of the pairs whose chosen completion has the higher reward.
    #[serde(rename = "rewards/accuracies", deserialize_with = "nan_if_null")]
    pub rewards_accuracies: f64,
    /// Mean difference of the rewards.
    #[serde(rename = "rewards/margins", deserialize_with = "nan_if_null")]
    pub rewards_margins: f64,
    /// Mean implicit reward of the chosen completions for weakened images, for a loss that
    /// [needs it](crate::loss::LossProperties::weakened).
    #[serde(
        rename = "rewards/weakened",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_weakened: f64,
    /// Mean margin of contrasts, for a loss that [needs
    /// them](crate::loss::LossProperties::contrast): how much higher the reward of the right answer for
    /// an image is than that of the answer for the other image of the contrast, for both images.
    #[serde(
        rename = "rewards/contrast_margins",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_contrast_margins: f64,
    /// Fraction of these margins that are above 0.
    #[serde(
        rename = "rewards/contrast_accuracies",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_contrast_accuracies: f64,
    /// Mean log-probability of the chosen completions, in nats.
    #[serde(rename = "logps/chosen", deserialize_with = "nan_if_null")]
    pub logps_chosen: f64,
    /// Mean log-probability of the rejected completions, in nats.
    #[serde(rename = "logps/rejected", deserialize_with = "nan_if_null")]
    pub logps_rejected: f64,
    /// Mean logit at the tokens of the chosen completions. This and the next three metrics are
    /// `null` if the [policy](crate::Policy::token_statistics) returns no statistics or
    /// [`statistics`](crate::DpoConfig::statistics) is false.
    #[serde(rename = "logits/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_chosen: f64,
    /// Mean logit at the tokens of the rejected completions.
    #[serde(rename = "logits/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_rejected: f64,
    /// Mean entropy of the policy at the tokens of both completions, in nats.
    #[serde(default = "nan", deserialize_with = "nan_if_null")]
    pub entropy: f64,
    /// Fraction of the tokens of the chosen completions that have the highest probability.
    #[serde(default = "nan", deserialize_with = "nan_if_null")]
    pub mean_token_accuracy: f64,
    /// Mean number of tokens of the chosen completions.
    #[serde(rename = "lengths/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_chosen: f64,
    /// Mean number of tokens of the rejected completions.
    #[serde(rename = "lengths/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_rejected: f64,
    /// Number of tokens so far. As in TRL, prompts and images are counted with each completion.
    /// `None` if the [collator](crate::Collate::lengths) does not count tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_tokens: Option<usize>,
    /// Number of pairs in this step, without those that could not be prepared.
    pub pairs: usize,
    /// Whether the step was skipped because its loss or gradient was not finite or none of its
    /// pairs could be prepared.
    pub skipped: bool,
}

/// Metrics of one evaluation on pairs that are not trained on: a line of `eval.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EvalMetrics {
    /// Number of optimizer steps before the evaluation.
    pub step: usize,
    /// Number of passes through the training data before the evaluation, in fractions of an epoch.
    pub epoch: f64,
    /// Mean loss.
    #[serde(rename = "eval_loss", deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Mean implicit reward of the chosen completions.
    #[serde(rename = "eval_rewards/chosen", deserialize_with = "nan_if_null")]
    pub rewards_chosen: f64,
    /// Mean implicit reward of the rejected completions.
    #[serde(rename = "eval_rewards/rejected", deserialize_with = "nan_if_null")]
    pub rewards_rejected: f64,
    /// Fraction of the pairs whose chosen completion has the higher reward.
    #[serde(rename = "eval_rewards/accuracies", deserialize_with = "nan_if_null")]
    pub rewards_accuracies: f64,
    /// Mean difference of the rewards.
    #[serde(rename = "eval_rewards/margins", deserialize_with = "nan_if_null")]
    pub rewards_margins: f64,
    /// Mean log-probability of the chosen completions, in nats.
    #[serde(rename = "eval_logps/chosen", deserialize_with = "nan_if_null")]
    pub logps_chosen: f64,
    /// Mean log-probability of the rejected completions, in nats.
    #[serde(rename = "eval_logps/rejected", deserialize_with = "nan_if_null")]
    pub logps_rejected: f64,
    /// Mean implicit reward of the chosen completions for weakened images, as in [`StepMetrics`].
    #[serde(
        rename = "eval_rewards/weakened",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_weakened: f64,
    /// Mean margin of contrasts, as in [`StepMetrics`].
    #[serde(
        rename = "eval_rewards/contrast_margins",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_contrast_margins: f64,
    /// Fraction of these margins that are above 0.
    #[serde(
        rename = "eval_rewards/contrast_accuracies",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_contrast_accuracies: f64,
    /// Mean logit at the tokens of the chosen completions. This and the next three metrics are
    /// `null` as in [`StepMetrics`].
    #[serde(rename = "eval_logits/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_chosen: f64,
    /// Mean logit at the tokens of the rejected completions.
    #[serde(rename = "eval_logits/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_rejected: f64,
    /// Mean entropy of the policy at the tokens of both completions, in nats.
    #[serde(rename = "eval_entropy", default = "nan", deserialize_with = "nan_if_null")]
    pub entropy: f64,
    /// Fraction of the tokens of the chosen completions that have the highest probability.
    #[serde(rename = "eval_mean_token_accuracy", default = "nan", deserialize_with = "nan_if_null")]
    pub mean_token_accuracy: f64,
    /// Mean number of tokens of the chosen completions.
    #[serde(rename = "eval_lengths/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_chosen: f64,
    /// Mean number of tokens of the rejected completions.
    #[serde(rename = "eval_lengths/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_rejected: f64,
    /// Number of pairs evaluated on.
    #[serde(rename = "eval_pairs")]
    pub pairs: usize,
}

impl From<StepMetrics> for EvalMetrics {
    fn from(metrics: StepMetrics) -> Self {
        Self {
            step: metrics.step,
            epoch: metrics.epoch,
            loss: metrics.loss,
            rewards_chosen: metrics.rewards_chosen,
            rewards_rejected: metrics.rewards_rejected,
            rewards_accuracies: metrics.rewards_accuracies,
            rewards_margins: metrics.rewards_margins,
            logps_chosen: metrics.logps_chosen,
            logps_rejected: metrics.logps_rejected,
            rewards_weakened: metrics.rewards_weakened,
            rewards_contrast_margins: metrics.rewards_contrast_margins,
            rewards_contrast_accuracies: metrics.rewards_contrast_accuracies,
            logits_chosen: metrics.logits_chosen,
            logits_rejected: metrics.logits_rejected,
            entropy: metrics.entropy,
            mean_token_accuracy: metrics.mean_token_accuracy,
            lengths_chosen: metrics.lengths_chosen,
            lengths_rejected: metrics.lengths_rejected,
            pairs: metrics.pairs,
        }
    }
}

/// A record of [`MetricsLog`].
pub trait LogRecord: Serialize + DeserializeOwned {
    /// Returns the number of optimizer steps before the record was made.
    fn step(&self) -> usize;
}

impl LogRecord for StepMetrics {
    fn step(&self) -> usize {
        self.step
    }
}

impl LogRecord for EvalMetrics {
    fn step(&self) -> usize {
        self.step
    }
}

fn nan() -> f64 {
    f64::NAN
}

fn is_nan(value: &f64) -> bool {
    value.is_nan()
}

fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A log of records as JSON lines, such as `metrics.jsonl` or `eval.jsonl`: a [`JsonlLog`] that can
/// be truncated to a step.
#[derive(Debug)]
pub struct MetricsLog<F>(JsonlLog<F>);

impl<F: LogRecord> MetricsLog<F> {
    /// Opens a log and removes the records after `last_step`, so that no step is logged twice. An
    /// incomplete last line, which a killed process may leave, is also removed.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be opened or truncated, or [`DpoError::Pairs`]
    /// if any other line is not a record. The file is then left unchanged.
    pub fn open(path: &Path, last_step: usize) -> Result<Self, DpoError> {
        Ok(Self(JsonlLog::open_up_to(path, |metrics: &F| metrics.step() <= last_step)?))
    }

    /// Appends a record.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be written.
    pub fn append(&mut self, metrics: &F) -> Result<(), DpoError> {
        Ok(self.0.append(&metrics.step(), metrics)?)
    }

    /// Writes all records to the disk.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be written.
    pub fn sync(&self) -> Result<(), DpoError> {
        Ok(self.0.sync()?)
    }

    /// Reads all records of a file. An incomplete last line is ignored.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be read, or [`DpoError::Pairs`] if any other
    /// line is not a record.
    pub fn read(path: &Path) -> Result<Vec<F>, DpoError> {
        Ok(JsonlLog::read(path)?)
    }
}
