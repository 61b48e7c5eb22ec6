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
    /// Optimizer steps so far, this one included.
    pub step: usize,
    /// Passes through the data so far, in fractions of an epoch.
    pub epoch: f64,
    /// Mean loss of the step's pairs.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Norm of the gradient before clipping.
    #[serde(deserialize_with = "nan_if_null")]
    pub grad_norm: f64,
    /// Learning rate of this step, for parameters in no group.
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
    /// Mean log-probability of the chosen completions, in nats.
    #[serde(rename = "logps/chosen", deserialize_with = "nan_if_null")]
    pub logps_chosen: f64,
    /// Mean log-probability of the rejected completions, in nats.
    #[serde(rename = "logps/rejected", deserialize_with = "nan_if_null")]
    pub logps_rejected: f64,
    /// Mean logit at the chosen completions' tokens. This and the next three are `null` for a
    /// [policy](crate::Policy::token_statistics) without statistics, and without
    /// [`statistics`](crate::DpoConfig::statistics).
    #[serde(rename = "logits/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_chosen: f64,
    /// Mean logit at the rejected completions' tokens.
    #[serde(rename = "logits/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_rejected: f64,
    /// Mean entropy of the policy at the tokens of both, in nats.
    #[serde(default = "nan", deserialize_with = "nan_if_null")]
    pub entropy: f64,
    /// Fraction of the chosen completions' tokens that are the likeliest ones.
    #[serde(default = "nan", deserialize_with = "nan_if_null")]
    pub mean_token_accuracy: f64,
    /// Mean number of tokens of the chosen completions.
    #[serde(rename = "lengths/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_chosen: f64,
    /// Mean number of tokens of the rejected completions.
    #[serde(rename = "lengths/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_rejected: f64,
    /// Tokens so far, prompts and images counted with each completion, as TRL does; `None` if the
    /// [collator](crate::Collate::lengths) does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_tokens: Option<usize>,
    /// Pairs in this step, without those that could not be prepared.
    pub pairs: usize,
    /// The step was skipped: its loss or gradient was not finite, or none of its pairs could be
    /// prepared.
    pub skipped: bool,
}

/// Metrics of one evaluation on pairs that are not trained on: a line of `eval.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EvalMetrics {
    /// Optimizer steps before it.
    pub step: usize,
    /// Passes through the training data before it.
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
    /// Mean implicit reward of the chosen completions for weakened images, for a loss that needs
    /// it.
    #[serde(
        rename = "eval_rewards/weakened",
        default = "nan",
        deserialize_with = "nan_if_null",
        skip_serializing_if = "is_nan"
    )]
    pub rewards_weakened: f64,
    /// Mean logit at the chosen completions' tokens. This and the next three are `null` as in
    /// [`StepMetrics`].
    #[serde(rename = "eval_logits/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_chosen: f64,
    /// Mean logit at the rejected completions' tokens.
    #[serde(rename = "eval_logits/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub logits_rejected: f64,
    /// Mean entropy of the policy at the tokens of both, in nats.
    #[serde(rename = "eval_entropy", default = "nan", deserialize_with = "nan_if_null")]
    pub entropy: f64,
    /// Fraction of the chosen completions' tokens that are the likeliest ones.
    #[serde(rename = "eval_mean_token_accuracy", default = "nan", deserialize_with = "nan_if_null")]
    pub mean_token_accuracy: f64,
    /// Mean number of tokens of the chosen completions.
    #[serde(rename = "eval_lengths/chosen", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_chosen: f64,
    /// Mean number of tokens of the rejected completions.
    #[serde(rename = "eval_lengths/rejected", default = "nan", deserialize_with = "nan_if_null")]
    pub lengths_rejected: f64,
    /// Pairs evaluated on.
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
pub trait Logged: Serialize + DeserializeOwned {
    /// Optimizer steps before the record was made.
    fn step(&self) -> usize;
}

impl Logged for StepMetrics {
    fn step(&self) -> usize {
        self.step
    }
}

impl Logged for EvalMetrics {
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

/// `metrics.jsonl` or `eval.jsonl`, to append to: a [`JsonlLog`] that can be cut back to a step.
#[derive(Debug)]
pub struct MetricsLog<F>(JsonlLog<F>);

impl<F: Logged> MetricsLog<F> {
    /// Opens the file and removes the records after `last_step`, so that no step is in it twice. A
    /// torn last line, which a killed process may leave, is also removed.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be opened or written, and [`DpoError::Pairs`]
    /// for any other line that is no record. The file is then left unchanged.
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

    /// Waits until all records are on disk.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the system call fails.
    pub fn sync(&self) -> Result<(), DpoError> {
        Ok(self.0.sync()?)
    }

    /// Reads a whole file, without a torn last line.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be read, and [`DpoError::Pairs`] for any other
    /// line that is no record.
    pub fn read(path: &Path) -> Result<Vec<F>, DpoError> {
        Ok(JsonlLog::read(path)?)
    }
}
